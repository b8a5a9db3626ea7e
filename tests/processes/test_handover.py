"""Tests of processes/handover: connections on their way to sub-reactors."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes.balance import makeBalancer
from getty_tx.processes.channel import MAX_DESCRIPTORS, REFUSE, TAKE, unpackConnections
from getty_tx.processes.handover import ANSWERS_PER_SECOND, MAX_ATTEMPTS, MAX_IN_FLIGHT, Handover
from getty_tx.processes.member import Member, PendingConnection
from getty_tx.session.refusals import MOST_ANSWERED

if TYPE_CHECKING:
    from collections.abc import Sequence


class FakeSocket:
    """The socket of an accepted connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.isClosed = False

    def fileno(self) -> int:
        """Return its descriptor."""
        assert not self.isClosed
        return self.number

    def close(self) -> None:
        """Close it, once."""
        assert not self.isClosed
        self.isClosed = True


class FakeProcess:
    """The process of a member, with the ``send`` of a test."""

    pid = 1000

    def __init__(self, send: Any) -> None:
        self.send = send


class HandoverTests(SynchronousTestCase):
    """A Handover with two members; ``self.ready`` lists the ready ones."""

    def setUp(self) -> None:
        self.members = [self.memberOf(0), self.memberOf(1)]
        self.ready = list(self.members)
        self.sent: list[tuple[Member, list[tuple[int, int]], list[int]]] = []
        self.toRefuse: list[tuple[Member, list[tuple[int, int]], list[int]]] = []
        self.refused: list[str] = []
        self.clock = Clock()
        self.sockets: list[FakeSocket] = []

    def memberOf(self, slot: int) -> Member:
        """Make a member whose messages are recorded."""
        member = Member(slot)

        def send(kind: int, data: bytes, descriptors: Sequence[int]) -> None:
            sent = {TAKE: self.sent, REFUSE: self.toRefuse}[kind]
            sent.append((member, unpackConnections(data), list(descriptors)))

        process: Any = FakeProcess(send)
        member.process = process
        return member

    def make(self, balance: str = "round-robin", **limits: Any) -> Handover:
        """Make the Handover under test."""

        def refused(reason: str, why: str) -> None:
            self.assertIn(reason, why + " descriptors")
            self.refused.append(reason)

        return Handover(makeBalancer(balance, 2), lambda: self.ready, refused, self.clock.seconds, **limits)

    def connections(self, count: int, host: str | None = "192.0.2.1", endpoint: int = 0) -> list[PendingConnection]:
        """Make accepted connections."""
        made = [FakeSocket(100 + len(self.sockets) + index) for index in range(count)]
        self.sockets += made
        fake: list[Any] = list(made)
        return [PendingConnection(each, endpoint, host) for each in fake]

    def taken(self, handover: Handover, member: Member) -> None:
        """A member acknowledges all its connections."""
        handover.taken(member, list(member.inFlight))

    def test_batch(self) -> None:
        """A batch is one message to each sub-reactor; sockets are kept until they are acknowledged."""
        handover = self.make()
        handover.dispatch(self.connections(5, endpoint=3))
        first, second = self.members
        self.assertEqual(
            [
                (first, [(0, 3), (2, 3), (4, 3)], [100, 102, 104]),
                (second, [(1, 3), (3, 3)], [101, 103]),
            ],
            self.sent,
        )
        self.assertEqual([3, 2], [member.load for member in self.members])
        handover.taken(first, [0, 2])
        self.assertEqual([True, False, True, False, False], [each.isClosed for each in self.sockets])
        self.assertEqual([3, 2], [member.load for member in self.members])

    def test_large(self) -> None:
        """More connections than a message can carry are sent in several messages."""
        self.ready = self.members[:1]
        self.make().dispatch(self.connections(MAX_DESCRIPTORS + 1))
        self.assertEqual([MAX_DESCRIPTORS, 1], [len(descriptors) for _, _, descriptors in self.sent])

    def test_leastConnections(self) -> None:
        """The load is the connections handed over less those reported closed, even within a batch."""
        handover = self.make("least-connections")
        handover.dispatch(self.connections(6))
        first, second = self.members
        self.taken(handover, first)
        handover.ended(first, [0, 2, 4])
        self.assertEqual([0, 3], [first.load, second.load])
        handover.dispatch(self.connections(4))
        self.assertEqual([4, 3], [first.load, second.load])

    def test_thousand(self) -> None:
        """A thousand are spread exactly evenly, in batches of any size."""
        for balance in ("round-robin", "least-connections"):
            for member in self.members:
                member.open.clear()
            handover = self.make(balance)
            for size in (1, 99, 7, 400, 493):
                handover.dispatch(self.connections(size))
            self.assertEqual([500, 500], [member.load for member in self.members], balance)

    def test_numbers(self) -> None:
        """Numbers of ended connections are used again, the lowest first; reports of unknown numbers are ignored."""
        handover = self.make()
        handover.dispatch(self.connections(4))
        for member in self.members:
            self.taken(handover, member)
        handover.ended(self.members[0], [0, 2, 77])
        handover.ended(self.members[1], [0, 2])
        self.assertEqual(2, handover.connections)
        self.sent.clear()
        handover.dispatch(self.connections(3))
        self.assertEqual({0, 2, 4}, {number for _, those, _ in self.sent for number, _ in those})

    def test_lost(self) -> None:
        """Unacknowledged connections of a dead sub-reactor go to another one; acknowledged ones end with it."""
        handover = self.make()
        handover.dispatch(self.connections(6))
        first, second = self.members
        handover.taken(first, [0])
        self.ready = [second]
        self.sent.clear()
        handover.lost(first)
        self.assertEqual([(second, [(2, 0), (4, 0)], [102, 104])], self.sent)
        self.assertEqual((5, 2), (handover.connections, handover.rescued))
        self.assertEqual((0, 5), (first.load, second.load))
        self.taken(handover, second)
        self.assertTrue(all(each.isClosed for each in self.sockets))
        # Of those that it had none is anybody's, and a late report changes nothing.
        handover.ended(first, [0, 2, 4])
        handover.taken(first, [2, 4])
        self.assertEqual(5, handover.connections)

    def test_lostAll(self) -> None:
        """Without a ready sub-reactor connections wait, and no more are accepted; they are handed over first."""
        handover = self.make()
        handover.dispatch(self.connections(2))
        self.ready = []
        for member in self.members:
            handover.lost(member)
        self.assertFalse(handover.canAccept)
        handover.readyChanged()
        self.ready = [self.memberOf(1)]
        self.assertFalse(handover.canAccept)
        self.sent.clear()
        handover.readyChanged()
        self.assertEqual([[100, 101]], [descriptors for _, _, descriptors in self.sent])
        self.assertTrue(handover.canAccept)
        self.assertEqual(2, handover.connections)

    def test_returned(self) -> None:
        """A returned connection goes to the next sub-reactor; after MAX_ATTEMPTS it is dropped and counted."""
        handover = self.make()
        handover.dispatch(self.connections(1))
        for _ in range(MAX_ATTEMPTS):
            member, those, _ = self.sent[-1]
            handover.returned(member, [number for number, _ in those])
        self.assertEqual(MAX_ATTEMPTS, len(self.sent))
        self.assertEqual(["descriptors"], self.refused)
        self.assertTrue(self.sockets[0].isClosed)
        self.assertEqual((0, [0, 0]), (handover.connections, [member.load for member in self.members]))
        handover.returned(self.members[0], [0])

    def test_inFlight(self) -> None:
        """With MAX_IN_FLIGHT connections no more are accepted; those of a stuck sub-reactor do not count."""
        handover = self.make()
        handover.dispatch(self.connections(MAX_IN_FLIGHT - 1))
        self.assertTrue(handover.canAccept)
        handover.dispatch(self.connections(1))
        self.assertFalse(handover.canAccept)
        self.taken(handover, self.members[1])
        self.assertTrue(handover.canAccept)
        self.ready = self.members[:1]
        handover.dispatch(self.connections(MAX_IN_FLIGHT // 2))
        self.assertFalse(handover.canAccept)
        self.ready = self.members[1:]
        self.assertTrue(handover.canAccept)

    def test_maxSessions(self) -> None:
        """``maxSessions`` is an exact limit for all sub-reactors together."""
        handover = self.make(maxSessions=3)
        handover.dispatch(self.connections(5))
        self.assertEqual(["maxSessions"] * 2, self.refused)
        self.assertEqual([False] * 3 + [True] * 2, [each.isClosed for each in self.sockets])
        self.taken(handover, self.members[0])
        handover.ended(self.members[0], [2])
        handover.dispatch(self.connections(2))
        self.assertEqual((3, 3), (handover.connections, len(self.refused)))

    def test_maxSessionsPerHost(self) -> None:
        """``maxSessionsPerHost`` is exact, too; it does not apply where the peer's address is unknown."""
        handover = self.make(maxSessionsPerHost=2)
        handover.dispatch(
            self.connections(3, "192.0.2.1") + self.connections(2, "192.0.2.2") + self.connections(9, None)
        )
        unknown = self.connections(5, "192.0.2.9")
        for each in unknown:
            each.counted = False
        handover.dispatch(unknown)
        self.assertEqual(["maxSessionsPerHost"], self.refused)
        self.assertTrue(self.sockets[2].isClosed)
        self.taken(handover, self.members[0])
        handover.ended(self.members[0], [0])
        handover.dispatch(self.connections(2, "192.0.2.1"))
        self.assertEqual(2, len(self.refused))
        for member in self.members:
            self.taken(handover, member)
            handover.lost(member)
        self.assertEqual((0, {}), (handover.connections, handover.hosts))

    def answering(self, count: int, host: str | None = "192.0.2.1") -> list[PendingConnection]:
        """Make accepted connections whose endpoint has an answer."""
        made = self.connections(count, host)
        for each in made:
            each.answers = True
        return made

    def test_answered(self) -> None:
        """
        Refused connections that get an answer are handed over for that. They do not count as connections, nor as load,
        take no session's turn, and when they end others can be answered.
        """
        handover = self.make(maxSessions=3)
        handover.dispatch(self.answering(4))
        second = self.members[1]
        self.assertEqual([[(0, 0), (2, 0)], [(1, 0)]], [those for _, those, _ in self.sent])
        first = self.members[0]
        self.assertEqual([(first, [(3, 0)], [103])], self.toRefuse)
        self.assertEqual((3, 3, 2), (handover.connections, handover.accepted, first.load))
        for member in self.members:
            self.taken(handover, member)
        self.assertTrue(self.sockets[3].isClosed)
        handover.ended(second, [1])
        handover.dispatch(self.answering(2))
        # The turn of the second, as without the refusal.
        self.assertEqual((second, [(1, 0)], [104]), self.sent[-1])
        self.assertEqual((second, [(4, 0)], [105]), self.toRefuse[-1])
        handover.ended(first, [3])
        self.assertEqual((3, {4}, ["maxSessions"] * 2), (handover.connections, handover.refusing, self.refused))

    def test_answeredMost(self) -> None:
        """Above MOST_ANSWERED at a time connections are closed; all are counted."""
        handover = self.make(maxSessions=1)
        handover.dispatch(self.answering(1))
        handover.dispatch(self.answering(MOST_ANSWERED + 5))
        self.assertEqual(["maxSessions"] * (MOST_ANSWERED + 5), self.refused)
        self.assertEqual((5, MOST_ANSWERED), (sum(each.isClosed for each in self.sockets), len(handover.refusing)))
        for member in self.members:
            self.taken(handover, member)
        handover.ended(self.members[1], [2, 2])
        before = sum(each.isClosed for each in self.sockets)
        handover.dispatch(self.answering(2))
        self.assertEqual(before + 1, sum(each.isClosed for each in self.sockets))
        for member in self.members:
            self.taken(handover, member)
            handover.lost(member)
        self.assertEqual((0, set(), [set(), set()]), self.left(handover))

    def left(self, handover: Handover) -> Any:
        """What there is of connections and refusals."""
        return handover.connections, handover.refusing, [member.refusing for member in self.members]

    def test_answeredPerHost(self) -> None:
        """
        Hosts above their limit are answered, too, at half of the places at a time, and only some in a second; their
        connections count for no host.
        """
        handover = self.make(maxSessionsPerHost=1)
        half = MOST_ANSWERED // 2
        handover.dispatch(self.answering(1 + half + 3))
        self.assertEqual((1, half, {"192.0.2.1": 1}), (handover.connections, len(handover.refusing), handover.hosts))
        self.assertEqual(["maxSessionsPerHost"] * (half + 3), self.refused)
        self.assertEqual(3, sum(each.isClosed for each in self.sockets))

        def answeredAgain(count: int) -> int:
            # All that are answered have ended.
            for member in self.members:
                self.taken(handover, member)
                handover.ended(member, list(member.refusing))
            self.assertEqual(set(), handover.refusing)
            handover.dispatch(self.answering(count))
            return len(handover.refusing)

        self.assertEqual(ANSWERS_PER_SECOND - half, answeredAgain(MOST_ANSWERED))
        self.assertEqual(0, answeredAgain(5))
        self.clock.advance(1)
        self.assertEqual(5, answeredAgain(5))
        self.assertEqual(0, answeredAgain(0))
        self.assertEqual((1, {"192.0.2.1": 1}), (handover.connections, handover.hosts))

    def test_answeredBothLimits(self) -> None:
        """A host above its limit leaves half of the places to others above maxSessions."""
        handover = self.make(maxSessions=1, maxSessionsPerHost=1)
        handover.dispatch(self.answering(1 + MOST_ANSWERED))
        self.assertEqual(MOST_ANSWERED // 2, len(handover.refusing))
        handover.dispatch(self.answering(MOST_ANSWERED, "192.0.2.2"))
        self.assertEqual(MOST_ANSWERED, len(handover.refusing))
        self.assertEqual({"maxSessions"}, set(self.refused))

    def test_answeredRescued(self) -> None:
        """A connection to refuse that a sub-reactor has not taken is refused by another one, and counted once."""
        handover = self.make(maxSessions=1)
        handover.dispatch(self.answering(2))
        first, second = self.members
        self.ready = [second]
        handover.lost(first)
        self.assertEqual([first, second], [member for member, _, _ in self.toRefuse])
        for _ in range(MAX_ATTEMPTS):
            handover.returned(second, list(second.refusing))
        self.assertEqual((1, ["maxSessions"]), (handover.connections, self.refused))
        self.assertEqual((1, set(), [set(), set()]), self.left(handover))
        self.assertTrue(self.sockets[1].isClosed)

    def test_perHostRescued(self) -> None:
        """A connection that is handed over again counts once."""
        handover = self.make(maxSessionsPerHost=3)
        handover.dispatch(self.connections(2))
        self.ready = self.members[1:]
        handover.lost(self.members[0])
        self.assertEqual({"192.0.2.1": 2}, handover.hosts)
        handover.dispatch(self.connections(2))
        self.assertEqual(["maxSessionsPerHost"], self.refused)

    def test_sourceHash(self) -> None:
        """The balancer gets the address even where no limit counts it."""
        handover = self.make("source-hash")
        for number in range(40):
            handover.dispatch(self.connections(2, f"192.0.2.{number}"))
        slots: Counter[int] = Counter()
        for member, those, _ in self.sent:
            self.assertEqual(2, len(those))
            slots[member.slot] += 1
        self.assertEqual({0, 1}, set(slots))

    def test_close(self) -> None:
        """Waiting connections are dropped at the end."""
        self.ready = []
        handover = self.make()
        handover.dispatch(self.connections(2))
        handover.close()
        self.assertTrue(all(each.isClosed for each in self.sockets))
        self.assertEqual(0, handover.connections)

    def test_closeInFlight(self) -> None:
        """Unacknowledged connections of ended sub-reactors are dropped at the end."""
        handover = self.make()
        handover.dispatch(self.connections(4))
        handover.taken(self.members[0], [0])
        handover.close()
        for member in self.members:
            handover.lost(member)
        self.assertTrue(all(each.isClosed for each in self.sockets))
        self.assertEqual(0, handover.connections)
