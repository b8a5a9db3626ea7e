"""One group: its members in this process, and the way of a publication to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import fail, succeed

from getty_tx.groups.errors import GroupError
from getty_tx.groups.fanout import Fanout, Overrun
from getty_tx.groups.joining import MAX_GROUPS, NOTHING, Joined, Joining
from getty_tx.groups.kinds import Entry, Kind, OwnKind, SharedKind, keyOf
from getty_tx.groups.log import Log, firstOf
from getty_tx.groups.publication import Position
from getty_tx.groups.slow import Behind
from getty_tx.session.sharing import leave as leaveMembership

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from twisted.internet.defer import Deferred

    from getty_tx.groups.groups import Groups
    from getty_tx.groups.joining import Take
    from getty_tx.groups.namespaces import Namespace
    from getty_tx.groups.publication import History, Member, Publication
    from getty_tx.groups.recent import Recent
    from getty_tx.groups.stats import GroupStats

__all__ = ["Group"]

#: Members that ``presence`` tells, at most, unless told otherwise.
MAX_PRESENCE = 1000

#: Publications of one question for history, at most.
MAX_HISTORY = 300


class Group:
    """
    A name, and the sessions of this process that are members. Ask :py:meth:`Groups.group` for one.

    :ivar name: its name.
    :ivar namespace: its settings.
    :ivar size: members in this process.
    :ivar stats: the counters of its namespace.
    :ivar position: of the newest publication that has come; None: nobody numbers, or none has come.
    """

    __slots__ = (
        "__weakref__",
        "_encoded",
        "_fanout",
        "_hasMore",
        "_held",
        "_isQueued",
        "_slowCall",
        "_windowCall",
        "ahead",
        "begun",
        "behind",
        "groups",
        "joinsAtOnce",
        "kinds",
        "latest",
        "log",
        "name",
        "namespace",
        "position",
        "recent",
        "size",
        "stats",
    )

    def __init__(self, groups: Groups, name: str, namespace: Namespace, stats: GroupStats) -> None:
        self.groups = groups
        self.name = name
        self.namespace = namespace
        self.stats = stats
        self.size = 0
        # Nobody has to be asked when a session joins.
        asks = namespace.mayJoin is not None or namespace.maxMembers is not None
        self.joinsAtOnce = not (asks or namespace.presence or namespace.historySize)
        self.position: Position | None = None
        # For the room. Members by kind, those that are behind, and of these the ones that are ahead after a history;
        # entries, and the number of the first that no fan-out has; and the newest of the history, if somebody has asked
        # for it.
        self.kinds: dict[Hashable, Kind] = {}
        self.behind: dict[Any, Behind] = {}
        self.ahead: list[Behind] = []
        self.latest: dict[str | None, Entry] = {}
        self.log = Log(namespace.maxWaiting)
        self.begun = 0
        self.recent: Recent | None = None
        self._fanout: Fanout | Overrun | None = None
        # The package that was encoded to be measured, its kind, and its bytes.
        self._encoded: tuple[Any, Kind, bytes] | None = None
        # Publications that came while what was missed before them is asked for.
        self._held: list[Publication] | None = None
        self._isQueued = self._hasMore = False
        self._windowCall: Any = None
        self._slowCall: Any = None

    def __repr__(self) -> str:
        return f"<Group {self.name}: {self.size} members>"

    # Members

    @property
    def members(self) -> list[Any]:
        """The sessions of this process that are members."""
        return [*(session for kind in self.kinds.values() for session in kind.sessions), *self.behind]

    def __contains__(self, session: Any) -> bool:
        return self in session.memberships

    def join(
        self,
        session: Any,
        info: Mapping[str, Any] | None = None,
        user: str | None = None,
        since: Position | None = None,
        exclusive: bool = False,
        take: Take | None = None,
    ) -> Deferred[Joined]:
        """
        Make a session a member. It leaves by itself when it is closed. A second time has no effect.

        :param info: what others are told of it, where the group has presence: what JSON can say, up to 1 KiB.
        :param user: who it is.
        :param since: where it was when it left: what was published since then comes first.
        :param exclusive: all other members, in all processes, are closed with 4001. Of two that join so at once, the
            one that the engine has heard last stays.
        :param take: ``take(joined, publications)`` is called in place of writing what was missed, where the group has a
            history: for protocols that have it in an answer of their own. What was published meanwhile comes when it
            has returned, and the Deferred that it may return has fired.
        :return: a Deferred with a :py:class:`~getty_tx.groups.Joined`: from then on it gets what is published. Fails
            with :py:exc:`~getty_tx.groups.NotAllowedError`, with :py:exc:`~getty_tx.groups.GroupError` at a limit, with
            EngineDownError, or with :py:exc:`~getty_tx.SessionClosedError`.
        """
        memberships = session.memberships
        if self in memberships:
            return succeed(Joined(self.position))
        if self.joinsAtOnce and self.size and info is None and not exclusive and self._canJoinNow(session):
            # The most frequent case, at two thirds of the time.
            session.memberships = (*memberships, self)
            self.size += 1
            kind = self.kinds.get(keyOf(session))
            (self.kindOf(session) if kind is None else kind).add(session)
            return succeed(NOTHING)
        return Joining(self, session, info, user, since, exclusive, take).start()

    def _canJoinNow(self, session: Any) -> bool:
        if session.isClosed or session.unsentLimit is None or len(session.memberships) >= MAX_GROUPS:
            return False
        return self.groups.isSettled(self)

    def leave(self, session: Any) -> None:
        """End a membership: not one more publication is written to the session. No effect if it is no member."""
        if self in session.memberships:
            leaveMembership(session, self)
            self.sessionEnds(session)

    def sessionEnds(self, session: Any) -> None:
        """A member has left, or its session ends."""
        if self.behind.pop(session, None) is None:
            for kind in self.kinds.values():
                if kind.remove(session):
                    break
        self.size -= 1
        if self._fanout is not None:
            self._fanout.left(session)
        self.groups.hasLeft(self, session)

    def count(self) -> Deferred[int]:
        """How many members it has, in all processes where it has presence, and in this one otherwise."""
        if not self.namespace.presence:
            return succeed(self.size)
        return self.groups.ask("counts", [self.name]).addCallback(lambda counts: counts[self.name])

    def presence(self, limit: int = MAX_PRESENCE) -> Deferred[Sequence[Member]]:
        """
        The members, in all processes.

        :return: a Deferred; fails with GroupError where the namespace has no presence.
        """
        if not self.namespace.presence:
            return fail(GroupError(f"{self.name} has no presence: set presence=True for its namespace"))
        return self.groups.ask("presence", self.name, limit)

    # Publications

    def publish(
        self, pkg: Any, but: Any = None, key: str | None = None, id: str | None = None
    ) -> Deferred[Position | None]:
        """
        Send a package to all members, in all processes. Any thread may call.

        :param but: a session of this process that does not get it. If it comes back later and asks for what it has
            missed, it gets that, too.
        :param key: what it is about, for members that are behind and want the latest of each key.
        :param id: names the publication, so that it may be published again where the outcome is not known.
        :return: a Deferred with its Position, None where the group has no history. Fails with EngineDownError,
            EngineTimeoutError, or with GroupError where it is too long or too much waits.
        """
        return self.groups.publish(self, pkg, but, key, id)

    def history(self, since: Position | None = None, limit: int = 100) -> Deferred[History]:
        """
        What was published.

        :param since: a position; None: the newest ones.
        :param limit: publications, at most 300.
        """
        if not self.namespace.historySize:
            text = f"{self.name} has no history: set historySize= and historySeconds= for its namespace"
            return fail(GroupError(text))
        return self.groups.ask("history", self.name, since, min(limit, MAX_HISTORY), self.namespace.retention)

    # For the room: what comes

    def arrived(self, publication: Publication) -> None:
        """The engine has brought a publication."""
        position = publication.position
        if position is not None:
            if self._held is not None:
                self._held.append(publication)
                return
            last = self.position
            if last is not None and last.epoch == position.epoch:
                if position.offset <= last.offset:
                    return
                if position.offset > last.offset + 1:
                    self.missed()
                    if self._held is not None:
                        self._held.append(publication)
                        return
                    if self.position is not None and self.position.offset >= position.offset:
                        # It was among those that were found.
                        return
            self.position = position
            if self.recent is not None:
                self.recent.arrived(publication)
        self.enter(publication)

    def missed(self) -> None:
        """Publications are missing: ask for them, and bring nothing meanwhile."""
        if self.recent is not None:
            self.recent.forget()
        if not self.namespace.historySize or self.position is None:
            self.gap()
        elif self._held is None:
            self._held = []
            asked = self.groups.engine.history(
                self.name, self.position, self.namespace.historySize, self.namespace.retention
            )
            asked.addCallbacks(self._found, self._notFound)

    def _found(self, history: History) -> None:
        if history.isWhole:
            self._goOn(history.publications)
        else:
            # What was held is not missed, though the history may know of it.
            self.position = history.position
            first = next((each.position for each in self._held or () if each.position is not None), None)
            if first is not None and first.epoch == history.position.epoch:
                self.position = Position(first.epoch, first.offset - 1)
            self.gap()
            self._goOn(())

    def _notFound(self, _: object) -> None:
        # The engine has gone away again; when it is back it says once more that something is missing.
        self.gap()
        self.position = None
        self._goOn(())

    def _goOn(self, publications: Sequence[Publication]) -> None:
        held, self._held = self._held, None
        for publication in [*publications, *(held or ())]:
            self.arrived(publication)

    def gap(self) -> None:
        """The members of this process have missed publications, nobody knows how many, and will not get them."""
        self.stats.gaps += 1
        self.tell("onGap", self, None, None)

    def tell(self, event: str, *arguments: Any) -> None:
        """Call the listener."""
        self.groups.tell(self.namespace, event, *arguments)

    # For the room: the way to the members

    def encodedAhead(self, pkg: Any) -> int:
        """
        The bytes of a package that is about to be published to this process: what a codec makes of it for the first
        kind of members. That is kept for the way to them. 0: no kind shares bytes, or ``wrap`` makes another package.
        """
        self._encoded = None
        if self.namespace.wrap is not None:
            return 0
        for kind in self.kinds.values():
            if isinstance(kind, SharedKind) and kind.sessions:
                try:
                    frame, size = kind.encoded(pkg, next(iter(kind.sessions)))
                except Exception:
                    # The way to the members says so, and counts it.
                    return 0
                if size <= self.namespace.maxPublication:
                    self._encoded = pkg, kind, frame
                return size
        return 0

    def enter(self, publication: Publication) -> None:
        """Bring a publication to the members of this process."""
        encoded, self._encoded = self._encoded, None
        self.stats.arrived += 1
        if self.namespace.listener is not None:
            self.tell("onPublication", self, publication)
        if not self.size:
            return
        pkg, wrap = publication.pkg, self.namespace.wrap
        if wrap is not None:
            pkg = self.groups.wrapped(wrap, self, publication)
        size = publication.size or (len(pkg) if isinstance(pkg, bytes | str) else 0)
        offset = 0 if publication.position is None else publication.position.offset
        now = self.groups.seconds()
        entry = Entry(self.log.next, pkg, publication.key, publication.publisher, size, now, offset)
        if encoded is not None and encoded[0] is pkg:
            entry.frames[encoded[1]] = encoded[2]
        self.log.add(entry)
        if self.namespace.slow == "latest":
            self.latest[publication.key] = entry
        if self.log.size > self.namespace.maxWaiting:
            self._trim()
        self._wantTurn()

    @property
    def isFull(self) -> bool:
        """Whether as much waits for the fan-out as may wait."""
        return self.log.first >= self.begun and self.log.size > self.namespace.maxWaiting

    def _wantTurn(self) -> None:
        if self._isQueued or self._fanout is not None or self._windowCall is not None:
            return
        if self.namespace.window:
            self._windowCall = self.groups.reactor.callLater(self.namespace.window, self._windowEnds)
        else:
            self._wantTurnNow()

    def _windowEnds(self) -> None:
        self._windowCall = None
        self._wantTurnNow()

    def _wantTurnNow(self) -> None:
        if not self._isQueued:
            self._isQueued = True
            self.groups.turns.add(self)

    def go(self, seconds: Callable[[], float], until: float) -> bool:
        """Its turn: bring what has come to the members. :return: whether nothing is left to do now."""
        fanout = self._fanout
        if fanout is None:
            fanout = self._fanout = self._begin()
            if fanout is None:
                self._isQueued = False
                return True
        if not fanout.run(seconds, until):
            return False
        if fanout.entries:
            self.stats.fannedOut(len(fanout.entries), seconds() - fanout.entries[0].at)
        self._fanout = None
        self._isQueued = False
        if self.ahead:
            ahead, self.ahead = self.ahead, []
            for each in ahead:
                each.again()
        self._trim()
        if self.log.next > self.begun:
            if self._hasMore:
                self._wantTurnNow()
            else:
                self._wantTurn()
        return True

    def _begin(self) -> Fanout | Overrun | None:
        """What comes next on the way to the members."""
        begun, log = self.begun, self.log
        if begun < log.first:
            self.begun, self._hasMore = log.first, True
            return Overrun(self, begun)
        entries = firstOf(log.since(begun), self.namespace.slowLimit)
        if not entries:
            return None
        self._hasMore = begun + len(entries) < log.next
        self.begun += len(entries)
        before = sum(entry.size for entry in entries)
        fanout = Fanout(self, entries)
        log.grown(sum(entry.size for entry in entries) - before)
        return fanout

    def _trim(self) -> None:
        needed = self.begun if self._fanout is None else self._fanout.first
        for each in self.behind.values():
            if each.needsLog and each.next < needed:
                needed = each.next
        self.log.trim(needed, self.begun)
        if self.latest and not self.behind and self._fanout is None:
            self.latest = {key: entry for key, entry in self.latest.items() if entry.number >= self.begun}

    # For the room: members

    def kindOf(self, session: Any) -> Kind:
        """The kind that a session belongs to."""
        key = keyOf(session)
        kind = self.kinds.get(key)
        if kind is None:
            kind = self.kinds[key] = OwnKind() if key is None else SharedKind(session.framing)
        return kind

    def writeTo(self, session: Any, kind: Kind, entries: Sequence[Entry]) -> None:
        """Write the entries to one member, but for those that it has published itself and is not to get."""
        wanted = [entry for entry in entries if entry.publisher != session.id]
        if wanted:
            self.stats.deliveryBytes += kind.writeTo(session, wanted)
            failed = kind.failed(wanted)
            self.stats.deliveries += len(wanted) - failed
            if failed:
                self.stats.drop("codec", failed)

    def fallBehind(self, session: Any, kind: Kind, number: int, why: str = "slow") -> None:
        """A member did not get the entries from this number on: its output is blocked, or ``why`` says what else."""
        if not kind.remove(session):
            return
        behind = self.behind[session] = Behind(self, session, kind, number, self.groups.seconds(), why)
        behind.wait()
        if self.namespace.slow == "close" and self._slowCall is None:
            self._slowCall = self.groups.reactor.callLater(self.namespace.slowSeconds, self._closeSlow)

    def caughtUp(self, behind: Behind) -> None:
        """A member has got all that the others got."""
        del self.behind[behind.session]
        behind.kind.add(behind.session)
        if not self.behind and self._fanout is None:
            self._trim()

    def isBehind(self, session: Any) -> bool:
        """Whether a member waits for its peer or its history, and has not got what the others have."""
        return session in self.behind

    # For the status

    @property
    def arrivals(self) -> int:
        """Publications that have come to the members of this process, since it has some."""
        return self.log.next

    @property
    def waitingBytes(self) -> int:
        """Bytes of publications that are kept for members that are behind, or under way."""
        return self.log.size

    def membersBehind(self) -> list[tuple[Any, float, int]]:
        """
        The members that wait for their peers.

        :return: for each the session, since when on the clock of the reactor, and the publications that it has not got.
        """
        return [(each.session, each.at, self.begun - each.next) for each in self.behind.values() if not each.isHeld]

    def _closeSlow(self) -> None:
        self._slowCall = None
        now, seconds = self.groups.seconds(), self.namespace.slowSeconds
        oldest = None
        for each in list(self.behind.values()):
            if each.isHeld:
                continue
            if now - each.at >= seconds:
                each.close(f"it is behind for slowSeconds={seconds:g} s")
            elif oldest is None or each.at < oldest:
                oldest = each.at
        if oldest is not None:
            self._slowCall = self.groups.reactor.callLater(max(0.0, oldest + seconds - now), self._closeSlow)

    def stop(self) -> None:
        """Bring nothing more: there are no members, or the service stops."""
        self.position = None
        self.latest = {}
        if self.recent is not None:
            self.recent.forget()
            self.recent = None
        if not self.size:
            # A dict keeps its size when all is gone from it. Who joins next gets nothing of what was under way.
            self.kinds = {}
            self.begun = self.log.next
            self.log.trim(self.begun, self.begun)
        for call in (self._windowCall, self._slowCall):
            if call is not None:
                call.cancel()
        self._windowCall = self._slowCall = self._fanout = None
        self._isQueued = False
