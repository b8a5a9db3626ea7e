"""
Fan-out: some publications to all members of a group, in slices of time with other events of the reactor between.

A loop over 100,000 members would stop the reactor for a quarter of a second. So each turn of the reactor has 2 ms for
all groups together. They take turns, and small ones come first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.groups.group import Group
    from getty_tx.groups.kinds import Entry, Kind

__all__ = ["SLICE", "Fanout", "ITurn", "Overrun", "Turns"]

#: Seconds of a turn of the reactor that all groups have together.
SLICE = 0.002

#: Members of a group that need not wait behind large ones.
SMALL = 256

#: Members between two looks at the clock, where each costs some microseconds.
_STRIDE = 32

#: Members that are looked at together, where some have left since the list was made.
_STRETCH = 1024


class Fanout:
    """
    Brings entries to those who are members now.

    :ivar entries: what they get, in one piece.
    :ivar first: the number of the first of them.
    """

    __slots__ = ("_excluded", "_gone", "_group", "_parts", "entries", "first")

    def __init__(self, group: Group, entries: Sequence[Entry]) -> None:
        self._group = group
        self.entries = entries
        self.first = entries[0].number
        # Sessions that have left meanwhile, and those that do not get all of the entries.
        self._gone: set[Any] = set()
        self._excluded: list[tuple[Any, Kind]] = []
        publishers = {group.groups.publisher(entry.publisher) for entry in entries if entry.publisher}
        # The kind, what it writes, how many publications that is, its members, and the index of the next one.
        self._parts: deque[tuple[Kind, Any, int, list[Any], int]] = deque()
        for kind in list(group.kinds.values()):
            sessions = kind.snapshot()
            if not sessions:
                continue
            for session in publishers & kind.sessions.keys():
                self._excluded.append((session, kind))
                self._gone.add(session)
            prepared = kind.prepare(entries, sessions[0])
            failed = kind.failed(entries)
            if failed:
                group.stats.drop("codec", len(sessions) * failed)
            if failed < len(entries):
                self._parts.append((kind, prepared, len(entries) - failed, sessions, 0))

    def left(self, session: Any) -> None:
        """It is no member any more, or another time."""
        self._gone.add(session)
        if self._excluded:
            self._excluded = [each for each in self._excluded if each[0] is not session]

    def run(self, seconds: Callable[[], float], until: float) -> bool:
        """
        Go on, until it is late.

        :return: whether it has reached all.
        """
        group, parts, gone = self._group, self._parts, self._gone
        limit = group.namespace.slowLimit
        first = self.first
        while parts:
            kind, prepared, count, sessions, at = parts[0]
            behind: list[Any] = []
            if gone:
                stretch = sessions[at : at + _STRETCH]
                wanted = [session for session in stretch if session not in gone]
                done, written, size = kind.write(prepared, wanted, 0, limit, seconds, until, behind)
                # Where it became late in the stretch, the next one is looked up by its place in the whole list.
                at = at + len(stretch) if done == len(wanted) else sessions.index(wanted[done], at)
            else:
                at, written, size = kind.write(prepared, sessions, at, limit, seconds, until, behind)
            group.stats.deliveries += written * count
            group.stats.deliveryBytes += size
            for session in behind:
                group.fallBehind(session, kind, first)
            if at < len(sessions):
                parts[0] = (kind, prepared, count, sessions, at)
                if seconds() >= until:
                    return False
            else:
                parts.popleft()
        for session, kind in self._excluded:
            if session in kind.sessions and not session.isClosed:
                group.writeTo(session, kind, self.entries)
        return True


class Overrun:
    """
    Takes a fan-out's place where more came than the group may keep, so that the first of it is gone: all who are
    members now are behind, and what becomes of them is as their namespace has it.

    :ivar entries: none.
    :ivar first: the number of the first entry that they have not got.
    """

    __slots__ = ("_group", "_parts", "entries", "first")

    def __init__(self, group: Group, first: int) -> None:
        self._group = group
        self.entries: Sequence[Entry] = ()
        self.first = first
        self._parts = deque((kind, kind.snapshot(), 0) for kind in group.kinds.values())

    def left(self, session: Any) -> None:
        """It is no member any more, and in no kind."""

    def run(self, seconds: Callable[[], float], until: float) -> bool:
        """See :py:meth:`Fanout.run`."""
        parts = self._parts
        while parts:
            kind, sessions, at = parts.popleft()
            for session in sessions[at : at + _STRIDE]:
                self._group.fallBehind(session, kind, self.first, "log")
            if at + _STRIDE < len(sessions):
                parts.appendleft((kind, sessions, at + _STRIDE))
            if parts and seconds() >= until:
                return False
        return True


class ITurn(Protocol):
    """What has turns: a group, or what else goes to the members of one."""

    @property
    def size(self) -> int:
        """Members."""

    def go(self, seconds: Callable[[], float], until: float) -> bool:
        """Its turn, until it is late. :return: whether nothing is left to do now."""


class Turns:
    """The groups that have something to bring to their members, and the time that they get."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._waiting: deque[ITurn] = deque()
        self._call: Any = None

    def add(self, group: ITurn) -> None:
        """It has something. It is called in the reactor's next turn."""
        if group.size <= SMALL:
            self._waiting.appendleft(group)
        else:
            self._waiting.append(group)
        if self._call is None:
            self._call = self._reactor.callLater(0, self._run)

    def stop(self) -> None:
        """Bring nothing any more."""
        self._waiting.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _run(self) -> None:
        self._call = None
        seconds = self._seconds
        until = seconds() + SLICE
        waiting = self._waiting
        for _ in range(len(waiting)):
            group = waiting.popleft()
            if not group.go(seconds, until):
                waiting.append(group)
            if seconds() >= until:
                break
        if waiting and self._call is None:
            self._call = self._reactor.callLater(0, self._run)
