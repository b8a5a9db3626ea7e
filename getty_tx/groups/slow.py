"""
Members that are behind: they wait for their peers to read, or for the history that they have asked for.

Nothing is queued for them. What they miss is in the group's log, and each of them is a number in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.groups.log import firstOf
from getty_tx.session.leaving import closeWith

if TYPE_CHECKING:
    from getty_tx.groups.group import Group
    from getty_tx.groups.kinds import Kind

__all__ = ["TRY_AGAIN", "Behind"]

log = Logger()

#: The code of a WebSocket's Close frame that says "try again later" (IANA's registry of close codes).
TRY_AGAIN = 1013


class Behind:
    """
    One member that is behind.

    :ivar next: the number of the first entry that it has not got.
    :ivar at: since when.
    :ivar why: "history": it waits for that. "slow": it waits for its peer. "log": the group has forgotten publications
        before they could be brought to it.
    :ivar offset: of the newest publication when its history was asked for.
    """

    __slots__ = ("_follows", "at", "group", "kind", "next", "offset", "session", "why")

    def __init__(self, group: Group, session: Any, kind: Kind, number: int, at: float, why: str) -> None:
        self.group = group
        self.session = session
        self.kind = kind
        self.next = number
        self.at = at
        self.why = why
        # What comes while it waits for its history it gets, whatever becomes of slow members.
        self._follows = self.isHeld or group.namespace.slow in ("close", "follow")
        self.offset = 0

    @property
    def isHeld(self) -> bool:
        """Whether it waits for its history."""
        return self.why == "history"

    @property
    def needsLog(self) -> bool:
        """Whether the log is kept for it."""
        return self._follows

    def wait(self) -> None:
        """Go on when its peer has read."""
        self.session.drained().addCallbacks(self._drained, lambda _: None)

    def go(self) -> None:
        """Its history has come."""
        self.why = "slow"
        shared = self.group.log
        for entry in shared.since(max(self.next, shared.first)):
            if entry.offset > self.offset:
                # Of what the log has forgotten meanwhile, the history had a part.
                self.next = max(self.next, entry.number - (entry.offset - self.offset - 1))
                break
            # It was in the history, or published before that.
            self.next = entry.number + 1
        self._drained(None)

    def again(self) -> None:
        """A fan-out has begun and ended meanwhile."""
        self._drained(None)

    def _drained(self, _: object) -> None:
        group = self.group
        if group.behind.get(self.session) is not self or self.session.isClosed:
            return
        try:
            if self._catchUp():
                group.caughtUp(self)
        except Exception as error:
            # Its codec cannot encode what the others got.
            self.session.callbackFailed(error)

    def _catchUp(self) -> bool:
        slow = self.group.namespace.slow
        if self._follows:
            return self._follow(slow == "close")
        return self._skip() if slow == "drop" else self._latest()

    def _skip(self) -> bool:
        """``drop``: nothing of what it missed."""
        self._gap(self.group.begun - self.next)
        return True

    def _latest(self) -> bool:
        """``latest``: the newest of each key."""
        group, session = self.group, self.session
        newest = [entry for entry in group.latest.values() if self.next <= entry.number < group.begun]
        newest.sort(key=lambda entry: entry.number)
        group.writeTo(session, self.kind, newest)
        missed = group.begun - self.next - len(newest)
        if missed:
            group.stats.drop(self.why, missed)
        return True

    def _follow(self, closes: bool) -> bool:
        """``close`` and ``follow``: the rest, some at a time."""
        group, session = self.group, self.session
        shared, limit = group.log, group.namespace.slowLimit
        while self.next < group.begun:
            if self.next < shared.first:
                if closes:
                    self.close(f"more than maxWaiting={group.namespace.maxWaiting} bytes came before it could get them")
                    return False
                self._gap(shared.first - self.next)
                self.next = shared.first
                continue
            entries = firstOf(shared.since(self.next, group.begun), limit)
            self.next += len(entries)
            group.writeTo(session, self.kind, entries)
            if session.pendingBytes:
                self.wait()
                return False
        if self.next > group.begun:
            # It has got with its history what the others get next.
            group.ahead.append(self)
            return False
        return True

    def _gap(self, missed: int) -> None:
        if missed > 0:
            self.group.stats.drop(self.why, missed)
            self.group.stats.gaps += 1
            self.group.tell("onGap", self.group, self.session, missed)

    def close(self, why: str) -> None:
        """Close it: it comes back, and asks for what it has missed."""
        group = self.group
        if self.session.isClosed:
            return
        group.stats.drop(self.why, group.begun - self.next)
        log.info("{session}: closed by {group}: {why}", session=self.session, group=group.name, why=why)
        closeWith(self.session, TRY_AGAIN, f"too slow for {group.name}"[:120])
