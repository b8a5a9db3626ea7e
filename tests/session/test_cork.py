"""Answers that leave together at the end of the reactor's turn."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from getty_tx.session import cork as turn
from getty_tx.session.cork import MANY, MOST, PROBE, TurnCork
from getty_tx.testing import MemoryTransport
from tests.support.memory import SessionCase, frame


def echo(session: Any, pkg: bytes) -> None:
    session.writePkg(pkg)


class Out:
    """As much of an outbound as a TurnCork sees."""

    def __init__(self, waits: bool = True) -> None:
        self.queue = [b"x"] if waits else None
        self.corked = self.heldToTurnEnd = True
        self.released = 0

    def add(self, turn: TurnCork) -> None:
        """As Outbound.uncork does it."""
        turn.left -= 1
        if not turn.waiting:
            turn.begin()
        turn.waiting.append(self)  # type: ignore[arg-type]
        if turn.left <= -MOST:
            turn.release()

    def sendQueued(self) -> None:
        self.released += 1


class TurnTests(SessionCase):
    """When a turn's answers wait for each other."""

    def add(self, turn: TurnCork, count: int) -> list[Out]:
        outs = [Out() for _ in range(count)]
        for out in outs:
            out.add(turn)
        return outs

    def test_fewAreSentAtOnceAgain(self) -> None:
        """A probed turn with few answers: the next ones do not wait; with many they do."""
        clock = Clock()
        turn = TurnCork(clock)
        self.assertEqual(turn.left, PROBE)
        turn.left = 0
        outs = self.add(turn, MANY - 1)
        self.assertEqual([out.released for out in outs], [0] * (MANY - 1))
        clock.advance(0)
        self.assertEqual([out.released for out in outs], [1] * (MANY - 1))
        self.assertEqual([out.heldToTurnEnd for out in outs], [False] * (MANY - 1))
        self.assertEqual(turn.left, PROBE)
        turn.left = 0
        self.add(turn, MANY)
        clock.advance(0)
        self.assertEqual(turn.left, 0)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_mostInATurn(self) -> None:
        """With very many, each lot is sent when it is full, and all count."""
        clock = Clock()
        turn = TurnCork(clock)
        turn.left = 0
        outs = self.add(turn, 2 * MOST + 1)
        self.assertEqual(sum(out.released for out in outs), 2 * MOST)
        clock.advance(0)
        self.assertEqual([out.released for out in outs], [1] * (2 * MOST + 1))
        self.assertEqual(turn.left, 0)

    def test_nothingLeft(self) -> None:
        """One that has nothing to send any more is free again."""
        clock = Clock()
        turn = TurnCork(clock)
        out = Out(waits=False)
        out.add(turn)
        clock.advance(0)
        self.assertEqual((out.corked, out.heldToTurnEnd, out.released), (False, False, 0))


class TogetherTests(SessionCase):
    """Sessions whose answers always wait for the end of the turn."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(turn, "PROBE", 0)
        self.patch(turn, "MANY", 0)
        self.pair = self.open({"message": echo})
        self.session = self.pair.server

    def receive(self, data: bytes) -> None:
        self.session.inbound.receive(data)

    def sent(self) -> int:
        return self.session.stats.writeBytes - self.session.pendingBytes

    def test_waitsForTheTurn(self) -> None:
        """Answers, and what is written after them, leave together and in order."""
        self.receive(frame(b"1"))
        self.receive(frame(b"2"))
        self.session.writePkg(b"3")
        self.assertEqual(self.sent(), 0)
        self.pair.clock.advance(0)
        self.assertEqual(self.sent(), 15)
        self.session.writePkg(b"4")
        self.assertEqual(self.sent(), 20)
        self.pair.flush()
        self.assertEqual(bytes(self.pair.peer.data), b"".join(frame(b"%d" % i) for i in range(1, 5)))

    def test_large(self) -> None:
        """More than a chunk does not wait; what comes after it in the turn keeps the order."""
        self.receive(frame(bytes(70_000)))
        self.receive(frame(b"2"))
        self.pair.flush()
        self.assertEqual(bytes(self.pair.peer.data), frame(bytes(70_000)) + frame(b"2"))
        self.receive(frame(b"3"))
        self.pair.flush()
        self.assertTrue(bytes(self.pair.peer.data).endswith(frame(b"2") + frame(b"3")))

    def test_close(self) -> None:
        """close() delivers what waits for the turn."""
        self.receive(frame(b"1"))
        self.session.close()
        self.pair.flush()
        self.assertEqual(bytes(self.pair.peer.data), frame(b"1"))
        self.pair.peer.end()
        self.pair.flush()
        self.assertEnded()

    def test_lost(self) -> None:
        """A session that is lost meanwhile leaves nothing behind."""
        self.receive(frame(b"1"))
        self.pair.reset()
        self.pair.flush()
        self.assertEnded()

    def test_drained(self) -> None:
        """drained() fires when the turn's answers are out."""
        self.receive(frame(b"1"))
        drained = self.session.drained()
        self.assertNoResult(drained)
        self.pair.clock.advance(0)
        self.successResultOf(drained)

    def test_failingProducer(self) -> None:
        """A producer that raises when its session's answers are out closes that session, and no other."""

        class Producer:
            def resumeProducing(self) -> None:
                raise RuntimeError("no more")

            def stopProducing(self) -> None:
                pass

        pair = self.pair
        other = self.network.join(self.factory.buildProtocol(None), type(pair.peer)(False))
        self.receive(frame(b"1"))
        self.session.transport.registerProducer(Producer(), False)
        other.server.inbound.receive(frame(b"2"))
        pair.clock.advance(0)
        pair.flush()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(self.session.isClosed)
        self.assertFalse(other.server.isClosed)
        self.assertEqual(bytes(other.peer.data), frame(b"2"))

    def test_notDirect(self) -> None:
        """Below a layer, which sends in the reactor's next turn anyway, nothing waits."""
        pair = self.open({"message": echo}, transport=MemoryTransport)
        pair.server.inbound.receive(frame(b"1"))
        self.assertEqual(pair.server.context.cork._scheduled, False)


class EarlyTests(SessionCase):
    """What leaves while the delivery goes on."""

    def sentAt(self, count: int, size: int, others: bool = False, **options: Any) -> list[int]:
        """The bytes that are out when each of so many packages of one read is delivered, each of which is answered."""
        seen: list[int] = []

        def answer(session: Any, pkg: Any) -> None:
            seen.append(session.stats.writeBytes - session.pendingBytes)
            session.writePkg(pkg)

        pair = self.open({"message": answer}, **options)
        if others:
            pair.server.context.cork.left = 0
        expected = frame(bytes(size)) * count
        pair.server.inbound.receive(expected)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), expected)
        return seen

    def test_many(self) -> None:
        """Many small packages: the first of them leave once, when they are worth it."""
        seen = self.sentAt(200, 96)
        self.assertEqual({0, 8200}, set(seen))
        self.assertEqual(82, seen.index(8200))
        # And in each delivery.
        pair = self.open({"message": echo})
        sizes: list[int] = []

        def send(data: bytes) -> int:
            sizes.append(len(data))
            return len(data)

        self.patch(pair.server.outbound.sink, "send", send)
        for _ in range(2):
            pair.server.inbound.receive(frame(bytes(96)) * 100)
        self.assertEqual([8200, 1800] * 2, sizes)

    def test_large(self) -> None:
        """Of larger ones so many that a send is worth it."""
        self.assertEqual({0}, set(self.sentAt(40, 1000)))
        seen = self.sentAt(64, 1000)
        self.assertEqual({0, 49 * 1004}, set(seen))

    def test_others(self) -> None:
        """Where others have something to send, all waits for the end, or until a chunk is full."""
        self.assertEqual({0}, set(self.sentAt(200, 96, others=True)))
        self.assertEqual({0, 683 * 96}, set(self.sentAt(700, 92, others=True)))

    def test_notDirect(self) -> None:
        """Nor is it done below a layer, which sends in the reactor's next turn anyway."""
        self.assertEqual({0}, set(self.sentAt(200, 96, transport=MemoryTransport)))
