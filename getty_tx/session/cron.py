"""
onCron: the sessions whose ``cronPeriod`` ends in the same tick share one timer on the wheel.

A timer for each would cost more, in memory and in time, than most listeners do in onCron.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.wheel import TimingWheel, WheelTimer

__all__ = ["CronMember", "Crons"]


class CronMember:
    """
    What of a session its group reads and writes; :py:class:`getty_tx.session.lifecycle.Lifecycle` says what it means.

    The slots of a base class come first in memory. With many sessions a turn of the cron costs what it takes to fetch
    them there, and here they lie together: in one line of the cache, as long as the size of a session, with the 16
    bytes that the collector adds, is a multiple of 64 (benchmarks.acceptance cron shows it where it is not).
    """

    __slots__ = ("awaiting", "cronGroup", "inCallback", "needsDispatch", "receiver")

    awaiting: Any
    inCallback: bool
    cronGroup: CronGroup | None
    needsDispatch: bool
    receiver: Any

    def awaitCallback(self, result: Any) -> None:
        raise NotImplementedError

    def callbackFailed(self, error: BaseException) -> None:
        raise NotImplementedError

    def dispatchEvents(self) -> None:
        raise NotImplementedError


class CronGroup:
    """
    Sessions with the same period whose turn comes in the same tick.

    :ivar key: the period, and the wheel's phase of it.
    :ivar members: the sessions, in the order in which they came.
    """

    __slots__ = ("_called", "_crons", "_timer", "key", "members")

    def __init__(self, crons: Crons, period: float) -> None:
        self._crons = crons
        self.members: dict[CronMember, None] = {}
        # The members that are being called. Whoever comes or goes meanwhile does so in a copy.
        self._called: dict[CronMember, None] | None = None
        self._timer: WheelTimer = crons.wheel.schedule(period, _callAll, self, loop=True)
        self.key = period, crons.wheel.phase(period)

    def __repr__(self) -> str:
        # What the wheel's warning says of a turn that took long.
        listeners = sorted({type(member.receiver).__qualname__ for member in self.members})
        return f"onCron of {len(self.members)} sessions: {', '.join(listeners)}"

    def add(self, member: CronMember) -> None:
        """Call the member, too."""
        self._copy()
        self.members[member] = None
        member.cronGroup = self

    def remove(self, member: CronMember) -> None:
        """Call the member no more."""
        self._copy()
        del self.members[member]
        member.cronGroup = None
        if not self.members:
            self._timer.stop()
            self._crons.groups.pop(self.key, None)

    def _copy(self) -> None:
        if self._called is self.members:
            self.members = self.members.copy()

    def callAll(self) -> None:
        """Call onCron of each, as ``Lifecycle._callListener`` does and with fewer calls: there may be 100,000."""
        self._called = self.members
        for member in self._called:
            # Some may have ended, or have got another period, in what the others did. One that waits for an async
            # callback is left out in this turn.
            if member.cronGroup is not self or member.inCallback or member.awaiting is not None:
                continue
            member.inCallback = True
            try:
                result = member.receiver.onCron(member)
                if result is not None:
                    member.awaitCallback(result)
                    member.needsDispatch = True
            except BaseException as error:
                member.callbackFailed(error)
            member.inCallback = False
            if member.needsDispatch:
                member.dispatchEvents()
        self._called = None


def _callAll(group: CronGroup) -> None:
    group.callAll()


class Crons:
    """
    All groups of a wheel.

    :ivar groups: those that others may come to. With a period that is no whole number of ticks they would be early or
        late, so that each session has a group of its own.
    """

    __slots__ = ("groups", "wheel")

    def __init__(self, wheel: TimingWheel) -> None:
        self.wheel = wheel
        self.groups: dict[tuple[float, int], CronGroup] = {}

    def add(self, member: CronMember, period: float) -> None:
        """Have onCron called each ``period`` seconds from now on."""
        group = self.groups.get((period, self.wheel.phase(period)))
        if group is None:
            group = CronGroup(self, period)
            if group.key[1] >= 0:
                self.groups[group.key] = group
        group.add(member)
