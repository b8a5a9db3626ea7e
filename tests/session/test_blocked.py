"""Time and producers on the way out: writeTimeout, the timeout of writePkg, push and pull producers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.protocols.basic import FileSender
from zope.interface import implementer

from getty_tx.errors import SettingError, WriteTimeoutError
from getty_tx.session import blocked as waiting
from getty_tx.testing import DirectTransport, MemoryTransport
from tests.support.memory import SessionCase, frame

BOTH: tuple[type[MemoryTransport], ...] = (DirectTransport, MemoryTransport)
FULL = {"capacity": 1000}


class TimeoutTests(SessionCase):
    """writeTimeout and the timeout of writePkg."""

    def stuck(self, size: int, transport: Any = DirectTransport, **options: Any) -> Any:
        pair = self.open(transport=transport, network=FULL, **options)
        pair.peer.transport.pauseProducing()
        pair.flush()
        if size:
            pair.server.writeBytes(bytes(size))
        return pair

    def test_noProgress(self) -> None:
        """Pending bytes that make no progress for writeTimeout fail the session, few or many, on every transport."""
        for transport in BOTH:
            for size in (5000, 100_000, 1_000_000):
                pair = self.stuck(size, transport, writeTimeout=2.0)
                pair.advance(1.9)
                self.assertEqual(self.heard.names, ["open"])
                pair.advance(0.4)
                self.assertEqual(self.heard.names, ["open", "error", "close"], f"{transport} {size}")
                self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)
                self.assertEnded()

    def test_progress(self) -> None:
        """A peer that reads slowly is no error, however long it takes."""
        for transport in BOTH:
            pair = self.stuck(3_000_000, transport, writeTimeout=2.0)
            for _ in range(20):
                pair.peer.transport.resumeProducing()
                pair.pump(200)
                pair.peer.transport.pauseProducing()
                pair.advance(1.0)
                self.assertEqual(self.heard.names, ["open"])
            self.assertGreater(pair.server.pendingBytes, 0)

    def test_slowKernel(self) -> None:
        """So is one that empties the kernel's buffer and nothing more within the timeout."""
        self.patch(waiting, "bytesInKernel", lambda _: max(9000 - int(self.pair.server.context.seconds()), 8995))
        pair = self.stuck(100_000, writeTimeout=2.0)
        pair.advance(5.9)
        self.assertEqual(self.heard.names, ["open"])
        pair.advance(2.5)
        self.assertEqual(self.heard.names, ["open", "error", "close"])

    def test_none(self) -> None:
        """None waits for ever."""
        pair = self.stuck(100_000, writeTimeout=None)
        pair.advance(100)
        self.assertEqual(set(self.heard.names), {"open", "cron"})

    def test_nothingPending(self) -> None:
        """A session that has nothing to send has soon no timer but its cron's."""
        pair = self.open(network=FULL)
        pair.server.writeBytes(bytes(100_000))
        pair.flush()
        pair.advance(5.2)
        self.assertEqual((len(self.factory.context.wheel), self.heard.errors), (1, []))

    def test_timeoutOfAPackage(self) -> None:
        """With a timeout the bytes must be out by then, on every transport, whatever progress others make."""
        for transport in BOTH:
            for size in (5000, 100_000):
                pair = self.stuck(0, transport, writeTimeout=None)
                pair.server.writePkg(bytes(size), timeout=1.0)
                pair.advance(0.9)
                self.assertEqual(self.heard.names, ["open"])
                pair.advance(0.3)
                self.assertEqual(self.heard.names, ["open", "error", "close"], f"{transport} {size}")
                self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)
                self.assertEnded()

    def test_timeoutBehindOthers(self) -> None:
        """It counts the bytes before it too, and not those after."""
        pair = self.stuck(100_000, writeTimeout=None)
        pair.server.writePkg(b"mine", timeout=3.0)
        pair.server.writeBytes(bytes(200_000))
        pair.peer.transport.resumeProducing()
        while len(pair.peer.data) < 180_000:
            pair.pump()
        pair.peer.transport.pauseProducing()
        pair.advance(10)
        self.assertEqual(self.heard.names, ["open"])

    def test_earlierAfterLater(self) -> None:
        """Each package has its own limit."""
        pair = self.stuck(0, writeTimeout=60.0)
        pair.server.writePkg(bytes(100_000), timeout=20.0)
        pair.server.writePkg(b"x", timeout=1.0)
        pair.advance(1.2)
        self.assertEqual(self.heard.names, ["open", "error", "close"])

    def test_corked(self) -> None:
        """A timeout given during a delivery whose bytes leave at its end leaves no timer."""
        pair = self.open({"message": lambda session, pkg: session.writePkg(pkg, timeout=1.0)})
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.advance(3)
        self.assertEqual((len(self.factory.context.wheel), self.heard.errors), (1, []))

    def test_badTimeout(self) -> None:
        """A timeout that cannot be is refused before anything is sent."""
        pair = self.open()
        for timeout in (0, -1.0, float("nan"), "1"):
            self.assertRaises(SettingError, pair.server.writePkg, b"x", timeout)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), b"")


@implementer(IPushProducer)
class Push:
    """A push producer that writes when told to, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


@implementer(IPullProducer)
class Pull:
    """A pull producer of ``count`` pieces."""

    def __init__(self, transport: Any, count: int, size: int) -> None:
        self.transport = transport
        self.left = count
        self.size = size
        self.stopped = False

    def resumeProducing(self) -> None:
        if self.left:
            self.left -= 1
            self.transport.write(b"p" * self.size)
        else:
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.stopped = True


class ProducerTests(SessionCase):
    """Producers on the facade."""

    def test_fileSender(self) -> None:
        """Twisted's FileSender sends a whole file, whatever the transport takes at once."""
        for transport in BOTH:
            for capacity in (None, 1000, 100_000):
                pair = self.open(transport=transport, network={"capacity": capacity})
                done = FileSender().beginFileTransfer(BytesIO(b"f" * 500_000), pair.server.transport)
                pair.flush()
                self.successResultOf(done)
                pair.server.writeBytes(b"end")
                pair.flush()
                self.assertEqual(bytes(pair.peer.data), b"f" * 500_000 + b"end")

    def test_fileSenderAndClose(self) -> None:
        """loseConnection() waits for the producer and sends what it still writes, as Twisted's transports do."""
        for transport in BOTH:
            pair = self.open(transport=transport, autoClose=True, network={"capacity": 10_000})
            done = FileSender().beginFileTransfer(BytesIO(b"f" * 200_000), pair.server.transport)
            pair.server.transport.loseConnection()
            pair.flush()
            self.successResultOf(done)
            self.assertEqual(len(pair.peer.data), 200_000)
            self.assertEqual(self.heard.names, ["open", "close"])
            self.assertEnded()

    def test_manySmallPulls(self) -> None:
        """Pieces of a few bytes do not pile up on the stack."""
        for transport in BOTH:
            pair = self.open(transport=transport)
            pair.server.transport.registerProducer(Pull(pair.server.transport, 5000, 3), False)
            pair.flush()
            self.assertEqual(len(pair.peer.data), 15_000)

    def test_pullThatPauses(self) -> None:
        """A pull producer that has nothing to write when it is asked may write later, and is asked again."""
        pair = self.open()
        asked: list[str] = []

        @implementer(IPullProducer)
        class Later:
            def resumeProducing(self) -> None:
                asked.append("resume")

            def stopProducing(self) -> None:
                asked.append("stop")

        pair.server.transport.registerProducer(Later(), False)
        self.assertEqual(asked, ["resume"])
        pair.server.transport.write(b"later")
        pair.flush()
        self.assertEqual(asked, ["resume", "resume"])
        pair.server.abort()
        pair.flush()
        self.assertEqual(asked, ["resume", "resume", "stop"])

    def test_push(self) -> None:
        """A push producer is paused above highWater and resumed at lowWater."""
        for transport in BOTH:
            pair = self.open(transport=transport, network=FULL, highWater=200_000, lowWater=50_000)
            producer = Push()
            pair.server.transport.registerProducer(producer, True)
            pair.peer.transport.pauseProducing()
            pair.server.transport.write(bytes(100_000))
            self.assertEqual(producer.told, [])
            pair.server.transport.write(bytes(300_000))
            pair.server.transport.write(bytes(10_000))
            self.assertEqual(producer.told, ["pause"])
            pair.peer.transport.resumeProducing()
            pair.flush()
            self.assertEqual(producer.told, ["pause", "resume"])
            pair.server.abort()
            pair.flush()
            self.assertEqual(producer.told, ["pause", "resume", "stop"])

    def test_one(self) -> None:
        """There is one producer at a time."""
        pair = self.open()
        pair.server.transport.registerProducer(Push(), True)
        self.assertRaises(RuntimeError, pair.server.transport.registerProducer, Push(), True)
        pair.server.transport.unregisterProducer()
        pair.server.transport.registerProducer(Push(), True)

    def test_afterTheEnd(self) -> None:
        """A producer for a closed session is stopped."""
        pair = self.open(autoClose=True)
        pair.server.close()
        producer = Push()
        pair.server.transport.registerProducer(producer, True)
        self.assertEqual(producer.told, ["stop"])
        pair.server.transport.unregisterProducer()

    def test_closeWaits(self) -> None:
        """close() waits for unregisterProducer(), up to waitTime."""
        pair = self.open(autoClose=True)
        pair.server.transport.registerProducer(Push(), True)
        pair.server.close()
        pair.flush()
        self.assertFalse(pair.peer.ended)
        pair.server.transport.unregisterProducer()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "close"])
        pair = self.open(waitTime=1.0)
        producer = Push()
        pair.server.transport.registerProducer(producer, True)
        pair.server.close()
        pair.advance(1.2)
        self.assertEqual((self.heard.names, producer.told), (["open", "close"], ["stop"]))
        self.assertEnded()

    def test_producerThatFails(self) -> None:
        """A producer that raises when it is stopped does not keep onClose from coming."""

        class Failing(Push):
            def stopProducing(self) -> None:
                raise ZeroDivisionError

        pair = self.open()
        pair.server.transport.registerProducer(Failing(), True)
        pair.reset()
        pair.flush()
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEnded()
