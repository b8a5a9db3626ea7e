"""How a session becomes a member, with what it has missed where it asks for that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred, fail, maybeDeferred, succeed

from getty_tx.errors import SessionClosedError
from getty_tx.groups.errors import GroupError, NotAllowedError
from getty_tx.groups.publication import EXCLUSIVE, Member, Publication, Retention
from getty_tx.groups.recent import Recent
from getty_tx.groups.slow import Behind
from getty_tx.session.sharing import join as joinMembership

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from getty_tx.groups.group import Group
    from getty_tx.groups.publication import History, Position

    #: What ``join`` may call with what a member has missed.
    Take: TypeAlias = "Callable[[Joined, Sequence[Publication]], Deferred[Any] | None]"

__all__ = ["MAX_GROUPS", "MAX_INFO", "NOTHING", "Joined", "Joining", "Take"]

#: Groups of one session.
MAX_GROUPS = 128

#: Bytes of what others are told of a member, as JSON.
MAX_INFO = 1024

#: Bytes. The system keeps some megabytes for a peer that does not read, unless told otherwise.
UNSENT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Joined:
    """
    A session has become a member.

    :ivar position: the newest publication that it has got, or that was there before it; None without a history.
    :ivar recovered: whether it has got all that it had missed; None if it did not ask for that. Never a part of it.
    :ivar missed: how many publications it got for that.
    """

    position: Position | None = None
    recovered: bool | None = None
    missed: int = 0


#: Joined, and there is nothing to say of it.
NOTHING = Joined()


class Joining:
    """One call of :py:meth:`Group.join`."""

    __slots__ = ("_exclusive", "_group", "_held", "_info", "_session", "_since", "_take", "_user")

    def __init__(
        self,
        group: Group,
        session: Any,
        info: Mapping[str, Any] | None,
        user: str | None,
        since: Position | None,
        exclusive: bool,
        take: Take | None = None,
    ) -> None:
        self._group = group
        self._session = session
        self._info = info
        self._user = user
        self._since = since
        self._exclusive = exclusive
        self._take = take
        self._held: Behind | None = None

    def start(self) -> Deferred[Joined]:
        """Begin. See :py:meth:`Group.join`."""
        error = self._refusal()
        if error is not None:
            return fail(error)
        mayJoin = self._group.namespace.mayJoin
        if mayJoin is None:
            return self._enter()
        asked = maybeDeferred(mayJoin, self._session, self._group.name)
        return asked.addCallback(self._asked)

    def _asked(self, answer: Any) -> Any:
        if iscoroutine(answer):
            return ensureDeferred(answer).addCallback(self._asked)
        if not answer:
            raise NotAllowedError(f"{self._session} may not join {self._group.name}")
        error = self._refusal()
        if error is not None:
            raise error
        return self._enter()

    def _refusal(self) -> Exception | None:
        group, session = self._group, self._session
        if session.isClosed:
            return SessionClosedError(f"{session} is closed, and cannot join {group.name}", session)
        if len(session.memberships) >= MAX_GROUPS:
            return GroupError(f"{session} is in {MAX_GROUPS} groups, and cannot join {group.name} as well")
        most = group.namespace.maxMembers
        if most is not None and group.size >= most:
            return GroupError(f"{group.name} has maxMembers={most} members already")
        if self._info is not None:
            try:
                size = len(json.dumps(self._info))
            except (TypeError, ValueError, RecursionError) as error:
                return GroupError(f"info={self._info!r} is nothing that JSON can say: {error}")
            if size > MAX_INFO:
                return GroupError(f"info has {size} bytes as JSON, more than {MAX_INFO}")
        return None

    def _enter(self) -> Deferred[Joined]:
        group, session = self._group, self._session
        if group in session.memberships:
            # Another call was faster.
            return succeed(Joined(group.position))
        if session.unsentLimit is None and session.framing is not None:
            session.unsentLimit = UNSENT
        subscribed = group.groups.isJoined(group)
        joinMembership(session, group)
        group.size += 1
        namespace = group.namespace
        kind = group.kindOf(session)
        if not namespace.historySize:
            kind.add(session)
            if subscribed is None and not namespace.presence and not self._exclusive:
                return succeed(NOTHING)
        else:
            self._held = Behind(group, session, kind, group.begun, group.groups.seconds(), "history")
            group.behind[session] = self._held
        if subscribed is None:
            subscribed = succeed(None)
        return subscribed.addCallback(self._subscribed).addErrback(self._failed)

    def _subscribed(self, _: object) -> Any:
        group, session = self._group, self._session
        if group not in session.memberships:
            raise SessionClosedError(f"{session} has left {group.name} before it was in", session)
        if group.namespace.presence:
            member = Member(group.groups.keyOf(session), self._user, dict(self._info or {}))
            group.groups.engine.present(group.name, member)
        if self._exclusive:
            claim = Publication(group.groups.keyOf(session), kind=EXCLUSIVE)
            told = group.groups.ask("publish", group.name, claim, Retention())
            return told.addCallback(self._askHistory)
        return self._askHistory(None)

    def _askHistory(self, _: object) -> Any:
        if self._held is None:
            return NOTHING
        group = self._group
        if group.recent is None:
            group.recent = Recent(group)
        return group.recent.ask(self._since).addCallback(self._found)

    def _found(self, history: History) -> Any:
        group, session, held = self._group, self._session, self._held
        assert held is not None
        self._checkHeld()
        if group.position is None:
            group.position = history.position
        held.offset = history.position.offset
        missed, recovered = 0, None
        if self._since is not None:
            recovered = history.isWhole
            missed = len(history.publications) if recovered else 0
            if missed and self._take is None:
                assert group.recent is not None
                entries = [group.recent.entryOf(each) for each in history.publications]
                held.kind.writeTo(session, entries)
            if recovered:
                group.stats.recovered += 1
            else:
                group.stats.unrecovered += 1
        joined = Joined(history.position, recovered, missed)
        waits = None if self._take is None else self._take(joined, history.publications if recovered else ())
        return self._goOn(None, joined) if waits is None else waits.addCallback(self._goOn, joined)

    def _goOn(self, _: object, joined: Joined) -> Joined:
        """It gets what was published meanwhile, and all that comes."""
        self._checkHeld()
        assert self._held is not None
        self._held.go()
        return joined

    def _checkHeld(self) -> None:
        """:raise SessionClosedError: it has left meanwhile."""
        if self._group.behind.get(self._session) is not self._held or self._session.isClosed:
            raise SessionClosedError(f"{self._session} has left {self._group.name} before it was in", self._session)

    def _failed(self, failure: Any) -> Any:
        """It was no member long; nobody is told."""
        # It may have left, and may be joining once more.
        if self._held is None or self._group.behind.get(self._session) is self._held:
            self._group.leave(self._session)
        return failure
