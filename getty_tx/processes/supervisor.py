"""
Supervision of the sub-reactors: start, watch, replace, reload and drain them, so that every slot has one.

This module does not know how a process is started or what a message looks like; so its tests need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from getty_tx.errors import GettyError
from getty_tx.processes.member import DRAINING, GONE, READY, STARTING, Member

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KILL_SHARE", "Supervisor", "WorkerSlot", "beatPeriod"]

log = Logger()

#: Seconds that a sub-reactor may take until it is ready; its imports may take long.
START_TIMEOUT = 60.0

#: Seconds of service after which a death no longer counts for a series of deaths.
STEADY_AFTER = 2.0

#: Seconds before another attempt, after the second death of a series or the first failed start; doubled each time, up
#: to MAX_RETRY.
RETRY, MAX_RETRY = 0.5, 30.0

#: The part of the time for draining after which a sub-reactor is killed, so that everything ends within that time.
KILL_SHARE = 0.95


class WorkerSlot:
    """
    The slot of one sub-reactor, and of its successors.

    :param number: from 0.

    :ivar current: the sub-reactor that takes connections, or None.
    :ivar coming: the sub-reactor that is to replace it, from its start until it takes over.
    :ivar failures: deaths and failed starts in a series.
    :ivar restarts: how often the current sub-reactor had to be replaced.
    :ivar restart: the timer of the next start, or None.
    """

    __slots__ = ("coming", "current", "failures", "number", "restart", "restarts")

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: Member | None = None
        self.coming: Member | None = None
        self.failures = 0
        self.restarts = 0
        self.restart: Any = None


def beatPeriod(heartbeatTimeout: float) -> float:
    """Seconds between two heartbeats of a sub-reactor, and between two checks of the supervisor."""
    return min(1.0, heartbeatTimeout / 5)


class Supervisor:
    """
    Keeps one sub-reactor running in each slot.

    :param slots: the number of sub-reactors.
    :param start: starts the process of a new member, and sets ``member.process``.
    :param changed: called when the members that take connections have changed.
    :param reactor: the reactor or a test's clock.
    :param heartbeatTimeout: seconds of silence after which a sub-reactor is killed.
    :param drainTimeout: seconds that a sub-reactor may take to end.

    :ivar members: all that have not ended.
    """

    def __init__(
        self,
        slots: int,
        start: Callable[[Member], object],
        changed: Callable[[], object],
        *,
        reactor: Any,
        heartbeatTimeout: float,
        drainTimeout: float,
    ) -> None:
        self.members: list[Member] = []
        self._slots = [WorkerSlot(number) for number in range(slots)]
        self._start = start
        self._changed = changed
        self._reactor = reactor
        self._period = beatPeriod(heartbeatTimeout)
        self._timeout = heartbeatTimeout
        self._drainTimeout = drainTimeout
        self._checking = LoopingCall(self._checkSilence)
        self._checking.clock = reactor
        self._stopping: Deferred[None] | None = None
        # Set until all have been ready once, or the first has failed.
        self._starting: Deferred[None] | None = None
        # Callers that wait for the running reload, and for the next one.
        self._reloading: list[Deferred[bool]] | None = None
        self._reloadAgain: list[Deferred[bool]] = []

    @property
    def ready(self) -> list[Member]:
        """The members that take connections, in the order of their slots."""
        current = [slot.current for slot in self._slots if slot.current is not None]
        return [member for member in current if not member.isLate]

    @property
    def restarts(self) -> list[int]:
        """How often a member that took connections had to be replaced, by slot; reloads do not count."""
        return [slot.restarts for slot in self._slots]

    def start(self) -> Deferred[None]:
        """
        Start all sub-reactors.

        :return: fires when all are ready; fails when one cannot start, and no more are started then.
        """
        self._starting = Deferred()
        started = self._starting
        self._checking.start(self._period, now=False)
        for slot in self._slots:
            self._begin(slot)
        return started

    def _begin(self, slot: WorkerSlot) -> None:
        slot.restart = None
        member = slot.coming = Member(slot.number)
        self.members.append(member)
        member.deadline = self._reactor.callLater(START_TIMEOUT, self._startTimedOut, member)
        try:
            self._start(member)
        except Exception as error:
            if not isinstance(error, (GettyError, OSError)):
                log.failure("a process cannot be started")
            self.memberGone(member, f"could not be started: {error}")

    def _startTimedOut(self, member: Member) -> None:
        member.deadline = None
        log.error("{member} is not ready after {seconds:g} s: killed", member=member, seconds=START_TIMEOUT)
        member.kill()

    # Events of members

    def memberReady(self, member: Member) -> None:
        """A member is ready to take connections."""
        slot = self._slots[member.slot]
        member.silence = 0
        if member is not slot.coming or member.state != STARTING:
            return
        self._cancelDeadline(member)
        member.state = READY
        log.info("{member} is ready", member=member)
        if slot.current is None:
            self._takeOver(slot)
            self._changed()
        if self._reloading is not None:
            self._checkReload()
        if self._starting is not None and all(slot.current is not None for slot in self._slots):
            starting, self._starting = self._starting, None
            self._endReload(True)
            starting.callback(None)

    def _takeOver(self, slot: WorkerSlot) -> None:
        before, slot.current, slot.coming = slot.current, slot.coming, None
        assert slot.current is not None
        slot.current.since = self._reactor.seconds()
        if before is not None:
            self._drain(before)

    def memberFailed(self, member: Member, why: str) -> None:
        """A member cannot start; its process ends by itself."""
        log.error("{member} cannot start: {why}", member=member, why=why)
        member.isEnding = True
        self._cannotStart(why)

    def _cannotStart(self, why: str) -> None:
        if self._starting is not None:
            starting, self._starting = self._starting, None
            starting.errback(GettyError(why))

    def memberAlive(self, member: Member) -> None:
        """Any message of a member has come."""
        member.silence = 0
        if member.isLate:
            member.isLate = False
            log.info("{member} is heard of again", member=member)
            self._changed()

    def memberUnreachable(self, member: Member) -> None:
        """The channel of a member is closed, because it ends; called before its connections are taken from it."""
        member.isLate = member.isUnreachable = True
        member.had = member.connections - len(member.open.keys() & member.inFlight.keys())

    def memberLeaving(self, member: Member) -> None:
        """A signal has told a member to end, and it drains."""
        if member.state >= DRAINING:
            return
        log.info("{member} was told by a signal to end", member=member)
        self._cancelDeadline(member)
        self._memberLeft(member)
        self._setDrainDeadline(member, self._drainTimeout)
        self._changed()

    def memberGone(self, member: Member, how: str) -> None:
        """
        The process of a member has ended.

        :param how: how it has ended, for the log: the rest of a sentence.
        """
        wasDraining = member.state == DRAINING
        self._cancelDeadline(member)
        self.members.remove(member)
        if wasDraining:
            log.info("{member} {how}", member=member, how=how)
        elif self._stopping is None:
            log.error("{member} {how}, with {had} connections", member=member, how=how, had=member.had)
            self._cannotStart(f"{member} {how} before it was ready")
        self._memberLeft(member, how)
        member.state = GONE
        self._changed()
        if self._stopping is not None and not self.members:
            self._endStopping(self._stopping)

    def _memberLeft(self, member: Member, how: str = "") -> None:
        """A member takes no more connections because it ends or has ended: replace it."""
        slot = self._slots[member.slot]
        member.state = DRAINING
        member.isEnding = True
        if member is slot.current:
            slot.current = None
            lived = self._reactor.seconds() - member.since
            slot.failures = 0 if lived >= STEADY_AFTER else slot.failures + 1
            slot.restarts += 1
            if slot.coming is None:
                self._beginAfter(slot, slot.failures - 1)
            elif slot.coming.state == READY:
                self._takeOver(slot)
        elif member is slot.coming:
            slot.coming = None
            if self._reloading is not None and slot.current is not None:
                self._giveUpReload(member, how)
            elif slot.current is None:
                slot.failures += 1
                self._beginAfter(slot, slot.failures)

    def _beginAfter(self, slot: WorkerSlot, failures: int) -> None:
        if self._stopping is not None or self._starting is not None:
            return
        if failures <= 0:
            self._begin(slot)
            return
        delay = min(RETRY * 2.0 ** (failures - 1), MAX_RETRY)
        log.warn("sub-reactor {number} is started again in {delay:g} s", number=slot.number + 1, delay=delay)
        slot.restart = self._reactor.callLater(delay, self._begin, slot)

    # Heartbeats

    def _checkSilence(self) -> None:
        """Find silent members. Checks are counted instead of seconds because this process may have slept."""
        for member in self.members:
            if member.state != READY:
                continue
            member.silence += 1
            silent = member.silence * self._period
            if silent > self._timeout:
                if not member.isKilled:
                    text = "{member} has not been heard of for {silent:g} s, with {load} connections: killed"
                    log.error(text, member=member, silent=silent, load=member.connections)
                    member.kill()
            elif silent > self._timeout / 2 and not member.isLate:
                member.isLate = True
                text = "{member} has not been heard of for {silent:g} s: it gets no more connections"
                log.warn(text, member=member, silent=silent)
                self._changed()

    # Reloading

    def reload(self) -> Deferred[bool]:
        """
        Start new sub-reactors, which take over when all of them are ready.

        :return: fires with True when they have taken over; with False when one of them cannot start, and the running
            ones stay.
        """
        done: Deferred[bool] = Deferred()
        if self._stopping is not None:
            done.callback(False)
        elif self._reloading is not None or self._starting is not None:
            # The code may have changed after the starting members were started.
            self._reloadAgain.append(done)
        else:
            self._reloadNow([done])
        return done

    def _reloadNow(self, waiting: list[Deferred[bool]]) -> None:
        self._reloading = waiting
        for slot in self._slots:
            if slot.restart is not None:
                slot.restart.cancel()
                slot.restart = None
            before, slot.coming = slot.coming, None
            if before is not None:
                # It may have loaded the code from before.
                before.state = DRAINING
                before.kill()
            self._begin(slot)

    def _checkReload(self) -> None:
        coming = [slot.coming for slot in self._slots]
        if any(member is not None and member.state != READY for member in coming):
            return
        for slot in self._slots:
            if slot.coming is not None:
                self._takeOver(slot)
        self._changed()
        self._endReload(True)

    def _giveUpReload(self, member: Member, how: str) -> None:
        log.error("reload given up because {member} {how}: the running sub-reactors stay", member=member, how=how)
        for slot in self._slots:
            before = slot.coming
            if before is not None and slot.current is not None:
                slot.coming = None
                before.state = DRAINING
                before.kill()
        self._endReload(False)

    def _endReload(self, success: bool) -> None:
        waiting, self._reloading = self._reloading or [], None
        again, self._reloadAgain = self._reloadAgain, []
        if self._stopping is not None:
            waiting, again = [*waiting, *again], []
        if again:
            self._reloadNow(again)
        for deferred in waiting:
            deferred.callback(success)

    # The end

    def _drain(self, member: Member) -> None:
        member.state = DRAINING
        member.isEnding = True
        assert member.process is not None
        member.process.drain(self._drainTimeout)
        self._setDrainDeadline(member, self._drainTimeout)

    def _setDrainDeadline(self, member: Member, timeout: float) -> None:
        member.deadline = self._reactor.callLater(timeout * KILL_SHARE, self._drainTimedOut, member)

    def _drainTimedOut(self, member: Member) -> None:
        member.deadline = None
        text = "{member} has not ended in {timeout:g} s: killed, with {load} connections"
        log.warn(text, member=member, timeout=self._drainTimeout * KILL_SHARE, load=member.connections)
        member.kill()

    def _cancelDeadline(self, member: Member) -> None:
        if member.deadline is not None:
            member.deadline.cancel()
            member.deadline = None

    def stop(self) -> Deferred[None]:
        """Drain all members; fires when the last one has ended, after ``drainTimeout`` at most."""
        if self._stopping is not None:
            return self._stopping
        stopping: Deferred[None] = Deferred()
        self._stopping = stopping
        self._starting = None
        for slot in self._slots:
            slot.current = None
            if slot.restart is not None:
                slot.restart.cancel()
                slot.restart = None
        for member in list(self.members):
            self._cancelDeadline(member)
            if member.state == READY:
                self._drain(member)
            elif member.state == STARTING:
                member.kill()
            else:
                self._setDrainDeadline(member, self._drainTimeout)
        self._endReload(False)
        self._changed()
        if not self.members:
            self._endStopping(stopping)
        return stopping

    def _endStopping(self, stopping: Deferred[None]) -> None:
        if self._checking.running:
            self._checking.stop()
        stopping.callback(None)
