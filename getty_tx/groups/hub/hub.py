"""The main process's part: one order for all sub-reactors, histories, presence, and who has members of which group."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.logger import Logger

from getty_tx.groups.hub import carried, wire
from getty_tx.groups.hub.carried import Publishing
from getty_tx.groups.hub.link import Link, Turn
from getty_tx.groups.hub.returning import Returning
from getty_tx.groups.hub.wire import WireError
from getty_tx.groups.publication import PUBLICATION, Member, Publication, Retention
from getty_tx.groups.sequencer import Sequencer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

__all__ = ["MAX_WAITING", "Hub", "Spoke", "hubs"]

log = Logger()

#: Bytes that wait for a sub-reactor above which publications are dropped for it, until this part of them is left.
MAX_WAITING = 4 * 1024 * 1024
LOW_SHARE = 0.25

#: Names in one frame.
NAMES = 1000

_hubs: WeakSet[Hub] = WeakSet()


def hubs() -> list[Hub]:
    """Those of this process: one, where it has sub-reactors with groups. The status finds it here."""
    return list(_hubs)


class Hub:
    """
    Has the groups of all sub-reactors.

    :param reactor: the reactor.

    :ivar spokes: the sub-reactors that have groups.
    :ivar dropped: publications that were dropped for a sub-reactor that did not read, each for each of them.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.sequencer = Sequencer(reactor.seconds)
        self.spokes: set[Spoke] = set()
        self.interested: dict[str, dict[Spoke, None]] = {}
        self.dropped = 0
        self.returning = Returning(reactor.seconds)
        self._number = 0
        self._turn = Turn(reactor)
        # Equal ones are one object: most groups have the settings of a few namespaces.
        self._retentions: dict[tuple[int, float], Retention] = {}
        _hubs.add(self)

    def add(self, end: socket.socket, name: str) -> Spoke:
        """
        A sub-reactor begins to have groups.

        :param end: the main process's end of the pair.
        :param name: the sub-reactor, for the log.
        """
        self._number += 1
        spoke = Spoke(self, str(self._number), name)
        self.spokes.add(spoke)
        spoke.link = Link(end, self.reactor, self._turn, spoke.received, spoke.lost, spoke.sent, name)
        return spoke

    def publish(self, origin: Spoke, publishing: Publishing) -> None:
        """Number a publication, bring it to all that have members, and answer."""
        key = publishing.size, publishing.seconds
        retention = self._retentions.get(key)
        if retention is None:
            if len(self._retentions) >= NAMES:
                self._retentions.clear()
            retention = self._retentions[key] = Retention(*key)
        name, kind, payload = publishing.name, publishing.kind, publishing.payload
        position, isNew = self.sequencer.publish(name, Publication(payload, kind=kind), retention, publishing.id)
        spokes = self.interested.get(name)
        if isNew and spokes:
            data = carried.packDelivery(kind, 0, position, publishing.nameData, payload)
            for spoke in spokes:
                if spoke is origin and publishing.publisher:
                    own = carried.packDelivery(kind, publishing.publisher, position, publishing.nameData, payload)
                    spoke.deliver(name, own, kind)
                else:
                    spoke.deliver(name, data, kind)
        origin.link.send(carried.packPublished(publishing.number, position))

    def came(self, name: str, member: Member) -> None:
        """A member has come."""
        self._tellMembers(name, [replace(member, away=self.returning.came(name, member))], [])

    def went(self, name: str, members: Sequence[Member]) -> None:
        """Members have gone."""
        self._tellMembers(name, [], [replace(each, away=self.returning.went(name, each)) for each in members])

    def _tellMembers(self, name: str, joined: Sequence[Member], left: Sequence[Member]) -> None:
        """Tell it to all that have members of the group."""
        spokes = self.interested.get(name)
        if spokes:
            data = _members(name, joined, left)
            for spoke in spokes:
                spoke.tellMembers(name, joined, left, data)

    def subscribe(self, spoke: Spoke, name: str) -> None:
        """A sub-reactor has its first member of a group."""
        self.interested.setdefault(name, {})[spoke] = None

    def unsubscribe(self, spoke: Spoke, name: str) -> None:
        """A sub-reactor has lost its last member of a group."""
        spokes = self.interested.get(name, {})
        spokes.pop(spoke, None)
        if not spokes:
            self.interested.pop(name, None)

    def withdraw(self, spoke: Spoke) -> None:
        """All that a sub-reactor had is gone."""
        for name in spoke.names:
            self.unsubscribe(spoke, name)
        spoke.names.clear()
        for name, members in self.sequencer.nodeGone(spoke.node).items():
            self.went(name, members)


class Spoke:
    """
    One sub-reactor, as the hub sees it.

    :ivar node: names it for the sequencer. Never used again.
    :ivar names: the groups that it has members of.
    :ivar isCongested: so much waits for it that publications are dropped.
    """

    __slots__ = ("_changes", "_hasGreeted", "_hub", "_missed", "_name", "_take", "isCongested", "link", "names", "node")

    link: Link

    def __init__(self, hub: Hub, node: str, name: str) -> None:
        self._hub = hub
        self._name = name
        self.node = node
        self.names: set[str] = set()
        self.isCongested = False
        self._hasGreeted = False
        # What it is told when it reads again: groups of which it has missed publications; and by group members with
        # whether they have come, or gone.
        self._missed: dict[str, None] = {}
        self._changes: dict[str, dict[str, tuple[Member, bool]]] = {}
        self._take: dict[int, Callable[[bytes], object]] = {
            wire.PUBLISH: self._publish,
            wire.SUBSCRIBE: self._subscribe,
            wire.UNSUBSCRIBE: self._unsubscribe,
            wire.HISTORY: self._history,
            wire.PRESENT: self._present,
            wire.ABSENT: self._absent,
            wire.PRESENCE: self._presence,
            wire.COUNTS: self._counts,
            wire.RESET: self._reset,
        }

    def __repr__(self) -> str:
        return f"<groups of {self._name}: {len(self.names)}>"

    # What comes

    def received(self, kind: int, body: bytes) -> None:
        """A frame has come. :raise WireError: it is garbage."""
        if not self._hasGreeted:
            if kind != wire.HELLO:
                raise WireError("it does not begin with a greeting")
            wire.checkGreeting(body)
            self._hasGreeted = True
            self.link.send(wire.frame(wire.HELLO, wire.GREETING))
            return
        take = self._take.get(kind)
        if take is None:
            raise WireError(f"a frame of the unknown kind {kind}")
        take(body)

    def _publish(self, body: bytes) -> None:
        self._hub.publish(self, Publishing(body))

    def _subscribe(self, body: bytes) -> None:
        number, data = wire.unpackNumbered(body)
        name = wire.textOf(data)
        self.names.add(name)
        self._hub.subscribe(self, name)
        self.link.send(wire.numbered(wire.DONE, number, data))

    def _unsubscribe(self, body: bytes) -> None:
        name = wire.textOf(body)
        self.names.discard(name)
        self._missed.pop(name, None)
        self._changes.pop(name, None)
        self._hub.unsubscribe(self, name)

    def _history(self, body: bytes) -> None:
        number, name, since, limit = carried.unpackHistory(body)
        for part in carried.historyParts(number, self._hub.sequencer.history(name, since, limit)):
            self.link.send(part)

    def _present(self, body: bytes) -> None:
        name, key, user, info = wire.plain(body, str, str, str | None, dict)
        member = Member(key, user, info)
        if self._hub.sequencer.present(self.node, name, member):
            self._hub.came(name, member)

    def _absent(self, body: bytes) -> None:
        name, key = wire.plain(body, str, str)
        member = self._hub.sequencer.absent(self.node, name, key)
        if member is not None:
            self._hub.went(name, [member])

    def _presence(self, body: bytes) -> None:
        number, name, limit = wire.plain(body, int, str, int)
        if limit < 0:
            raise WireError(f"a limit of {limit} members")
        self._answer(number, [_plainMember(each) for each in self._hub.sequencer.presence(name, limit)])

    def _counts(self, body: bytes) -> None:
        number, names = wire.plain(body, int, list)
        if not all(isinstance(name, str) for name in names):
            raise WireError("names that are no texts")
        self._answer(number, list(self._hub.sequencer.counts(names).items()))

    def _answer(self, number: int, values: Sequence[Any]) -> None:
        if not 0 <= number < 1 << 32:
            raise WireError(f"{number} is no number of a request")
        for part in wire.answerParts(number, map(wire.encoded, values), joint=b","):
            self.link.send(part)

    def _reset(self, body: bytes) -> None:
        self._forget()
        self._hub.withdraw(self)

    # What goes

    def deliver(self, name: str, data: bytes, kind: int) -> None:
        """Bring a frame with a publication, or drop it if too much waits. What closes members is not dropped."""
        link = self.link
        isTooMuch = self.isCongested or link.waiting + len(data) > MAX_WAITING
        # One that is longer than that goes alone.
        if isTooMuch and kind == PUBLICATION and link.waiting:
            self._drop(name)
        else:
            link.send(data)

    def _drop(self, name: str) -> None:
        self._hub.dropped += 1
        self._missed[name] = None
        if not self.isCongested:
            self.isCongested = True
            text = "{name} does not read what is published: {size} bytes wait, publications are dropped for it"
            log.warn(text, name=self._name, size=self.link.waiting)

    def tellMembers(self, name: str, joined: Sequence[Member], left: Sequence[Member], data: bytes) -> None:
        """
        Tell who has come and gone, or note it if too much waits. Who has come and gone meanwhile is not told then.

        :param data: the frame that says it.
        """
        if not self.isCongested:
            self.link.send(data)
            return
        changes = self._changes.setdefault(name, {})
        for members, isThere in ((joined, True), (left, False)):
            for member in members:
                before = changes.pop(member.key, None)
                if before is None or before[1] == isThere:
                    changes[member.key] = member, isThere

    def sent(self) -> None:
        """It reads again: tell what it has missed."""
        if not self.isCongested or self.link.waiting > MAX_WAITING * LOW_SHARE:
            return
        self.isCongested = False
        log.info("{name} reads again what is published", name=self._name)
        missed, self._missed = iter(self._missed), {}
        while names := list(islice(missed, NAMES)):
            self.link.send(wire.jsonOf(wire.MISSED, [names]))
        changes, self._changes = self._changes, {}
        for name, members in changes.items():
            every = list(members.values())
            joined = [member for member, isThere in every if isThere]
            left = [member for member, isThere in every if not isThere]
            if every:
                self.link.send(_members(name, joined, left))

    def _forget(self) -> None:
        self._missed.clear()
        self._changes.clear()

    def finish(self) -> None:
        """Its process has ended: take the last of it."""
        self.link.finish()

    def lost(self, error: BaseException | None) -> None:
        """The pair is closed."""
        self._hub.spokes.discard(self)
        self._forget()
        self._hub.withdraw(self)


def _plainMember(member: Member) -> list[Any]:
    return [member.key, member.user, member.info]


def _members(name: str, joined: Sequence[Member], left: Sequence[Member]) -> bytes:
    lists = [[[*_plainMember(each), each.away] for each in members] for members in (joined, left)]
    return wire.jsonOf(wire.MEMBERS, [name, *lists])
