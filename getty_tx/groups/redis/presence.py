"""
Members, and the leases of processes.

Each process renews a lease, and says of each group which members it has. Members whose process has no lease are not
there; whoever finds that a lease has ended deletes them, and says that they have left. What this process has said is
said again after an outage; only what has changed meanwhile is told to others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from getty_tx.groups.errors import EngineTimeoutError
from getty_tx.groups.publication import Member
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.envelope import EnvelopeError, memberFrom, membersMessage, packedMember
from getty_tx.groups.redis.publishing import call, errorOf
from getty_tx.groups.redis.scripts import LEASE, LEAVE, MEMBERS, REAP
from getty_tx.groups.redis.subscribing import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.layout import Layout

__all__ = ["LEASE_INTERVAL", "LEASE_TIME", "Presence"]

log = Logger()

#: Seconds between two renewals, and seconds after which a process that does not renew is dead.
LEASE_INTERVAL = 2.0
LEASE_TIME = 7.0

#: Milliseconds for which a process whose lease has ended is remembered, and for which members are kept that nobody
#: deletes. All is said anew after a third of that.
KEPT = 86_400_000

#: Members of one command and of one message.
MANY = 500

#: What the script for leases answers: the lease was there; it had ended. 1: Redis has lost it with its data.
_NOT, _TO_ALL = 0, 2


class _Unsure:
    """Others may know a member or not: nobody knows whether they were told."""

    __slots__ = ("member",)

    def __init__(self, member: Member) -> None:
        self.member = member


class Presence:
    """
    The members of this process, and questions about those of all.

    :param node: names this process.
    :ivar live: the processes that have a lease, as of the last renewal.
    """

    def __init__(self, connection: Connection, layout: Layout, node: str, interval: float, time: float) -> None:
        self._connection = connection
        self._layout = layout
        self._node = node
        self._interval = interval
        self._time = time
        self._reactor: Any = None
        self._members: dict[str, dict[str, Member]] = {}
        # What is to be told, by group and key: as which member others know it; None: they do not know it.
        self._changed: dict[str, dict[str, Member | _Unsure | None]] = {}
        self._sendCall: Any = None
        self._leaseCall: Any = None
        self._saidAt = 0.0
        self._version = b""
        # Whether all is to be said again: not, or to Redis, or to others as well.
        self._mustSay = _NOT
        self.live: frozenset[str] = frozenset()

    def start(self, reactor: Any) -> None:
        """Use this reactor."""
        self._reactor = reactor

    # What this process has

    def present(self, name: str, member: Member) -> None:
        """A session has joined. :raise GroupError: JSON cannot say its info."""
        packedMember(member)
        members = self._members.setdefault(name, {})
        self._changed.setdefault(name, {}).setdefault(member.key, members.get(member.key))
        members[member.key] = member
        self._sendLater()

    def absent(self, name: str, key: str) -> None:
        """A session has left."""
        members = self._members.get(name, {})
        member = members.pop(key, None)
        if member is None:
            return
        changed = self._changed.setdefault(name, {})
        if changed.setdefault(key, member) is None:
            # Nobody has heard of it.
            del changed[key]
        if not members:
            del self._members[name]
        self._sendLater()

    def _sendLater(self) -> None:
        if self._sendCall is None and self._leaseCall is not None:
            self._sendCall = self._reactor.callLater(0, self._send)

    def _send(self) -> None:
        self._sendCall = None
        changed, self._changed = self._changed, {}
        for name, keys in changed.items():
            self._sendGroup(name, keys)

    def _sendGroup(self, name: str, keys: Mapping[str, Member | _Unsure | None]) -> None:
        members = self._members.get(name, {})
        if members:
            self._connection.send(_ignore, b"SADD", self._layout.groups(self._node), name)
        items = list(keys.items())
        for at in range(0, len(items), MANY):
            part = dict(items[at : at + MANY])
            written = [members[key] for key in part if key in members]
            joined = [member for member in written if not isinstance(part[member.key], Member)]
            gone = [known for key, known in part.items() if known is not None and key not in members]
            left = [each.member if isinstance(each, _Unsure) else each for each in gone]
            message = membersMessage(joined, left) if joined or left else b""
            self._write(name, written, [each.key for each in left], message, False, part)
        if not members:
            self._connection.send(_ignore, b"SREM", self._layout.groups(self._node), name)

    def _write(
        self,
        name: str,
        written: Sequence[Member],
        deleted: Sequence[str],
        message: bytes,
        isAll: bool,
        known: Mapping[str, Member | _Unsure | None],
    ) -> None:
        """:param known: what others know, if this fails."""

        def done(reply: Any) -> None:
            if isinstance(reply, Exception):
                if isinstance(reply, ReplyError):
                    log.error(
                        "{name}: presence is not told: {error}", name=name, error=errorOf(reply, self._connection)
                    )
                changed = self._changed.setdefault(name, {})
                told = {each.key: each for each in written} if isinstance(reply, EngineTimeoutError) else {}
                for key, member in known.items():
                    unsure = member is None and key in told
                    changed.setdefault(key, _Unsure(told[key]) if unsure else member)

        layout = self._layout
        values = [part for each in written for part in (each.key, packedMember(each))]
        keys = layout.nodes(name), layout.members(name, self._node)
        head = self._node, KEPT, int(isAll), layout.channel(name), message, len(written)
        call(self._connection, done, MEMBERS, 2, *keys, *head, *values, *deleted)

    def sayAll(self, announce: bool) -> None:
        """
        Say again what this process has.

        :param announce: others were told that these members have left.
        """
        self._saidAt = self._reactor.seconds()
        if announce:
            # This tells it all.
            self._changed.clear()
        groups = list(self._members)
        for at in range(0, len(groups), MANY):
            part = groups[at : at + MANY]
            self._connection.send(_ignore, b"SADD", self._layout.groups(self._node), *part)
        for name in groups:
            members = list(self._members[name].values())
            for at in range(0, len(members), MANY):
                some = members[at : at + MANY]
                message = membersMessage(some, []) if announce else b""
                self._write(name, some, [], message, at == 0, {each.key: None for each in some} if announce else {})
        if self._changed:
            self._sendLater()

    # Leases

    def begin(self, done: Callable[[Exception | None], object]) -> None:
        """There is a connection: renew the lease, and go on with that."""
        self._version = b""
        self._renew(done)

    def up(self) -> None:
        """All is in force: say what this process has."""
        must, self._mustSay = self._mustSay, _NOT
        self._leaseCall = self._reactor.callLater(self._interval, self._renewed)
        self.sayAll(must == _TO_ALL)

    def down(self) -> None:
        """The connection is gone."""
        for each in (self._leaseCall, self._sendCall):
            if each is not None:
                each.cancel()
        self._leaseCall = self._sendCall = None

    def _renewed(self) -> None:
        self._leaseCall = self._reactor.callLater(self._interval, self._renewed)
        self._renew(self._noted)

    def _noted(self, error: Exception | None) -> None:
        if isinstance(error, ReplyError):
            log.error("the lease is not renewed: {error}", error=errorOf(error, self._connection))
            return
        if error is not None or self._leaseCall is None:
            return
        must, self._mustSay = self._mustSay, _NOT
        if must or self._reactor.seconds() - self._saidAt >= KEPT / 3000:
            self.sayAll(must == _TO_ALL)
        elif self._changed:
            self._sendLater()

    def _renew(self, done: Callable[[Exception | None], object]) -> None:
        def answered(reply: Any) -> None:
            if isinstance(reply, Exception):
                done(reply)
                return
            self._version, must, ended, live = reply
            self._mustSay = max(self._mustSay, must)
            if live:
                self.live = frozenset(each.decode(errors="replace") for each in live)
            for each in ended:
                self._reap(each.decode(errors="replace"))
            done(None)

        layout = self._layout
        head = self._node, int(self._time * 1000), self._version, KEPT
        call(self._connection, answered, LEASE, 3, layout.live, layout.gone, layout.state, *head)

    def _reap(self, node: str) -> None:
        """A process is dead: delete its members, and tell others that they have left."""
        log.info("{node} is gone: its lease has ended", node=node)

        def answered(reply: Any) -> None:
            if isinstance(reply, Exception):
                return
            for each in reply:
                self._reapGroup(each.decode(errors="replace"), node)
            self._connection.send(_ignore, b"DEL", self._layout.groups(node))

        self._connection.send(answered, b"SMEMBERS", self._layout.groups(node))

    def _reapGroup(self, name: str, node: str) -> None:
        def answered(reply: Any) -> None:
            if isinstance(reply, Exception):
                return
            left = _membersOf(_pairs(reply))
            for at in range(0, len(left), MANY):
                message = membersMessage([], left[at : at + MANY])
                self._connection.send(_ignore, b"PUBLISH", self._layout.channel(name), message)

        call(self._connection, answered, REAP, 2, self._layout.nodes(name), self._layout.members(name, node), node)

    def withdraw(self, done: Callable[[], object]) -> None:
        """This process leaves: take back all that it has said."""
        self.down()
        layout = self._layout
        for name, members in self._members.items():
            known = [each for each in members.values() if self._changed.get(name, {}).get(each.key, each) is not None]
            for at in range(0, len(known), MANY):
                some = known[at : at + MANY]
                self._write(name, [], [each.key for each in some], membersMessage([], some), False, {})
        self._members.clear()
        self._connection.send(_ignore, b"DEL", layout.groups(self._node))
        call(self._connection, lambda _: done(), LEAVE, 2, layout.live, layout.state, self._node)

    # Questions. The lease is renewed before them, which tells who is alive now.

    def list(self, name: str, limit: int) -> Deferred[Sequence[Member]]:
        """Who is there, ``limit`` at most."""
        answer: Deferred[Sequence[Member]] = Deferred()
        found: list[Member] = []

        def gathered(error: Exception | None) -> None:
            if error is None:
                answer.callback(found[:limit])
            else:
                answer.errback(self._meant(error))

        def counted(reply: Any) -> None:
            if isinstance(reply, Exception):
                answer.errback(self._meant(reply))
                return
            left = limit
            calls = Together(gathered)
            for node, number in self._living(reply):
                if left > 0:
                    ask(node, min(left, number), calls.one())
                    left -= number
            calls.allBegun()

        def ask(node: str, number: int, done: Callable[[Any], object]) -> None:
            def told(reply: Any) -> None:
                if not isinstance(reply, Exception):
                    found.extend(_membersOf(reply or ()))
                done(reply)

            self._connection.send(told, b"HRANDFIELD", self._layout.members(name, node), max(1, number), b"WITHVALUES")

        self._renew(_ignore)
        self._connection.send(counted, b"HGETALL", self._layout.nodes(name))
        return answer

    def counts(self, names: Collection[str]) -> Deferred[Mapping[str, int]]:
        """How many members groups have."""
        answer: Deferred[Mapping[str, int]] = Deferred()
        found: dict[str, int] = {}

        def gathered(error: Exception | None) -> None:
            if error is None:
                answer.callback(found)
            else:
                answer.errback(self._meant(error))

        def ask(name: str, done: Callable[[Any], object]) -> None:
            def told(reply: Any) -> None:
                if not isinstance(reply, Exception):
                    found[name] = sum(number for _, number in self._living(reply))
                done(reply)

            self._connection.send(told, b"HGETALL", self._layout.nodes(name))

        self._renew(_ignore)
        calls = Together(gathered)
        for name in names:
            ask(name, calls.one())
        calls.allBegun()
        return answer

    def _meant(self, error: Exception) -> Exception:
        return errorOf(error, self._connection) if isinstance(error, ReplyError) else error

    def _living(self, reply: Any) -> Iterable[tuple[str, int]]:
        for key, value in _pairs(reply):
            node = key.decode(errors="replace")
            if (node in self.live or node == self._node) and value.isdigit() and len(value) < 10:
                yield node, int(value)


def _pairs(reply: Any) -> Iterable[tuple[bytes, bytes]]:
    """The fields of a hash: RESP3 gives a map, a script gives a list."""
    if isinstance(reply, dict):
        return reply.items()
    return zip(reply[::2], reply[1::2], strict=False)


def _membersOf(pairs: Iterable[Any]) -> list[Member]:
    found = []
    for key, value in pairs:
        try:
            found.append(memberFrom(key, value))
        except EnvelopeError as error:
            log.warn("presence has an entry that is no member: {error}", error=error)
    return found


def _ignore(reply: Any) -> None:
    """Nobody waits for this."""
