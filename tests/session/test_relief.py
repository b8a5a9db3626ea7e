"""Two ends that both have more to send than they may keep, and peers that only seem to be such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.errors import SessionBlockedError, WriteTimeoutError
from getty_tx.testing import DirectTransport, MemoryTransport, RecordingListener, connectedSessions
from tests.support.memory import SessionCase, configure, frame

if TYPE_CHECKING:
    from getty_tx.session.session import Session
    from getty_tx.testing import Pair

#: Smaller than the defaults, so that a few packages are too many.
MARKS = {"highWater": 80_000, "lowWater": 20_000, "maxMsgLen": 1_000_000}


class MutualTests(SessionCase):
    """Both ends are sessions."""

    def connect(self, **settings: Any) -> Pair:
        self.listeners = RecordingListener(), RecordingListener()
        configured = [configure(listener, **(MARKS | settings)) for listener in self.listeners]
        return connectedSessions(*configured, capacity=5000)

    def assertAllCame(self, count: int) -> None:
        for listener in self.listeners:
            self.assertEqual(listener.errors, [])
            self.assertEqual(len(listener.packages), count)

    def test_atOnce(self) -> None:
        """All of it is written at once: both get everything, although at first neither reads."""
        pair = self.connect()
        for session in (pair.server, pair.client):
            for _ in range(100):
                session.writePkg(bytes(5000))
        pair.flush()
        self.assertAllCame(0)
        pair.advance(0.5)
        self.assertAllCame(100)
        self.assertEqual((pair.server.pendingBytes, pair.client.pendingBytes), (0, 0))

    def test_drained(self) -> None:
        """In pieces that are awaited, each above the mark: the second does not wait for another relief."""
        pair = self.connect()

        async def send(session: Session) -> None:
            for _ in range(20):
                session.writePkg(bytes(200_000))
                await session.drained()

        sending = [Deferred.fromCoroutine(send(session)) for session in (pair.server, pair.client)]
        pair.advance(0.6)
        self.assertAllCame(20)
        for each in sending:
            self.successResultOf(each)

    def test_refused(self) -> None:
        """As much as is taken, again and again: what the application adds does not use the relief up."""
        pair = self.connect(maxPending=200_000)
        left = {pair.server: 100, pair.client: 100}

        def write() -> None:
            for session in left:
                while left[session]:
                    try:
                        session.writePkg(bytes(5000))
                    except SessionBlockedError:
                        break
                    left[session] -= 1

        for _ in range(200):
            write()
            pair.advance(0.01)
        self.assertAllCame(100)

    def test_answered(self) -> None:
        """Each answers what the other sends, at the same length: still all comes, and memory stays bounded."""
        pair = self.connect()
        most = 0

        def answer(session: Session, pkg: bytes) -> None:
            nonlocal most
            most = max(most, session.pendingBytes)
            if pkg.startswith(b"ask"):
                session.writePkg(b"got" + pkg[3:])

        for listener in self.listeners:
            listener.on["message"] = answer
        for session in (pair.server, pair.client):
            for _ in range(400):
                session.writePkg(b"ask" + bytes(997))
        for _ in range(300):
            pair.advance(0.1)
        self.assertAllCame(800)
        self.assertLess(most, 400 * 1004 + 2 * 80_000)


class DeafPeerTests(SessionCase):
    """The peer is a bare transport."""

    transports: tuple[type[MemoryTransport], ...] = (DirectTransport, MemoryTransport)

    def stuck(self, transport: type[MemoryTransport], **settings: Any) -> Pair:
        """A server that answers each package with 1,000 bytes, and a peer that asks for much and reads nothing."""
        answer = {"message": lambda session, pkg: session.writePkg(bytes(996))}
        pair = self.open(answer, transport=transport, network={"capacity": 1000}, **(MARKS | settings))
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"ask") * 5000)
        pair.flush()
        return pair

    def test_once(self) -> None:
        """It is relieved once, which costs no more than the mark again, and ends by writeTimeout."""
        for transport in self.transports:
            pair = self.stuck(transport)
            before = pair.server.pendingBytes
            self.assertLess(before, 80_000 + 70_000)
            pair.advance(4.5)
            self.assertLess(pair.server.pendingBytes, before + 80_000 + 70_000)
            self.assertGreater(pair.server.pendingBytes, before)
            pair.advance(1)
            self.assertEqual(self.heard.names[-2:], ["error", "close"])
            self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)
            self.assertEnded()

    def test_slow(self) -> None:
        """One that reads a little now and then makes nothing grow, however long it does."""
        pair = self.stuck(DirectTransport)
        most = 0
        for _ in range(200):
            pair.peer.transport.resumeProducing()
            pair.pump(20)
            pair.peer.transport.pauseProducing()
            pair.advance(0.5)
            most = max(most, pair.server.pendingBytes)
        self.assertEqual(self.heard.errors, [])
        self.assertLess(most, 300_000)

    def test_forever(self) -> None:
        """Without a writeTimeout, too."""
        pair = self.stuck(DirectTransport, writeTimeout=None)
        pair.advance(30)
        self.assertLess(pair.server.pendingBytes, 300_000)

    def test_ownPause(self) -> None:
        """A pauseReading() of the application's own is not undone."""
        pair = self.open(network={"capacity": 1000}, **MARKS)
        pair.peer.transport.pauseProducing()
        pair.server.pauseReading()
        pair.server.writeBytes(bytes(200_000))
        pair.peer.write(frame(b"x"))
        pair.advance(2)
        self.assertEqual(self.heard.packages, [])

    def test_aboveMaxPending(self) -> None:
        """An answer to what a relief reads is taken beside one great write; what is written unasked is refused."""
        answer = {"message": lambda session, pkg: session.writePkg(pkg)}
        pair = self.open(answer, network={"capacity": 1000}, maxPending=100_000, **MARKS)
        pair.peer.transport.pauseProducing()
        pair.server.writeBytes(bytes(200_000))
        pair.peer.write(frame(b"x") * 3)
        pair.advance(1)
        self.assertEqual((self.heard.packages, self.heard.errors), ([b"x"] * 3, []))
        self.assertRaises(SessionBlockedError, pair.server.writePkg, b"unasked")

    def test_producer(self) -> None:
        """A producer stays paused."""
        pair = self.open(network={"capacity": 1000}, **MARKS)
        pair.peer.transport.pauseProducing()
        events: list[str] = []

        class Producer:
            pauseProducing = staticmethod(lambda: events.append("pause"))
            resumeProducing = staticmethod(lambda: events.append("resume"))
            stopProducing = staticmethod(lambda: events.append("stop"))

        producer: Any = Producer()
        pair.server.transport.registerProducer(producer, True)
        pair.server.transport.write(bytes(200_000))
        pair.peer.write(frame(b"x"))
        pair.advance(1)
        self.assertEqual((events, self.heard.packages), (["pause"], [b"x"]))
        pair.server.transport.unregisterProducer()

    def test_logged(self) -> None:
        """The log says how long the pressure lasts, relieved or not."""
        from twisted.logger import globalLogPublisher

        lines: list[str] = []

        def observe(event: Any) -> None:
            if "back-pressure" in event.get("log_format", ""):
                lines.append(event["log_format"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        pair = self.open(network={"capacity": 1000}, writeTimeout=None, **MARKS)
        pair.peer.transport.pauseProducing()
        pair.server.writeBytes(bytes(200_000))
        pair.advance(5)
        self.assertEqual(len(lines), 1)
        pair.peer.transport.resumeProducing()
        pair.advance(3)
        self.assertEqual(len(lines), 2)
        self.assertIn("is over", lines[1])
