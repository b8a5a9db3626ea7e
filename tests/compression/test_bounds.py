"""Compression bombs, and the close of compressed sessions."""

from __future__ import annotations

import errno
import tracemalloc
import zlib
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from getty_tx.codecs import LengthCodec, LineCodec, RawCodec
from getty_tx.compression.base import PIECE
from getty_tx.errors import MessageTooLongError
from getty_tx.session.inbound import LIMIT
from getty_tx.session.slices import TURN
from tests.support.compressed import BOTH, FORMATS, CompressionCase, echo, split, stream
from tests.support.memory import frame

if TYPE_CHECKING:
    from getty_tx.testing import Pair


def zeros(size: int) -> bytes:
    """A deflate stream of ``size`` zeros, in independent blocks of a megabyte."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20)


class Reactor:
    """A minimal reactor for the quota of an iteration; ``turn`` runs one."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def callLater(self, delay: float, call: Any) -> Any:
        self.calls.append(call)
        return self

    def cancel(self) -> None:
        self.calls.clear()

    def turn(self) -> None:
        (call,) = self.calls
        self.calls.clear()
        call()


class BoundTests(CompressionCase):
    """Streams that decompress to far more bytes than they have."""

    def feed(self, session: Any, data: bytes) -> int:
        """Feed the session; returns the peak of memory used, in bytes."""
        pieces = split(data, [PIECE] * (len(data) // PIECE))
        tracemalloc.start()
        try:
            for piece in pieces:
                session.inbound.receive(piece)
                session.context.reactor.advance(0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        return peak

    def begin(self, data: bytes, on: Any = None, **settings: Any) -> Pair:
        """A session that has delivered its first quota of a long stream."""
        pair = self.open(on, codec=RawCodec(), compression="deflate", **settings)
        pair.peer.write(data)
        while not self.heard.packages:
            pair.pump()
        self.assertEqual(sum(map(len, self.heard.packages)), TURN)
        return pair

    def test_maxMsgLen(self) -> None:
        """A gigabyte of zeros is refused at maxMsgLen, with or without a header that announces it."""
        bomb = zeros(1 << 30)
        for codec, said in ((LineCodec(), b""), (LengthCodec(), stream(b"\x7f\xff\xff\xff"))):
            session = self.open(codec=codec, compression="deflate").server
            # Buffered data is in memory twice for a moment.
            self.assertLess(self.feed(session, said + bomb), 4 * session.maxMsgLen + 8 * PIECE)
            self.assertEqual([type(error) for error in self.heard.errors], [MessageTooLongError])
            self.assertEqual(self.heard.packages, [])

    def test_taken(self) -> None:
        """If the codec takes all data, one piece at a time is in memory."""
        sizes: list[int] = []

        def message(session: Any, pkg: bytes) -> None:
            sizes.append(len(pkg))
            self.heard.events.clear()

        session = self.open({"message": message}, codec=RawCodec(), compression="deflate").server
        self.assertLess(self.feed(session, zeros(64 << 20)), 8 * PIECE)
        self.assertEqual((sum(sizes), max(sizes)), (64 << 20, PIECE))

    def test_share(self) -> None:
        """Each iteration delivers a quota, and serves other sessions."""
        session: Any = self.open(codec=RawCodec(), compression="deflate").server
        reactor = session.context.reactor = Reactor()
        session.inbound.receive(zeros(8 << 20))
        for turns in range(1, 64):
            self.assertEqual(sum(map(len, self.heard.packages)), turns * TURN)
            if turns == 10:
                # The peer's end of stream does not change that.
                session.peerEnded()
            reactor.turn()
        # The next iteration finds the end.
        while reactor.calls:
            reactor.turn()
        self.assertEqual(sum(map(len, self.heard.packages)), 8 << 20)
        self.assertTrue(session.isClosed)

    def test_shareOfNothing(self) -> None:
        """Input that decompresses to nothing has a quota, too."""
        session: Any = self.open(compression="snappy").server
        reactor = session.context.reactor = Reactor()
        padding = b"\xfe\0\0\0" * 100_000
        session.inbound.receive(stream(frame(b"1"), description="snappy") + padding)
        self.assertEqual(self.heard.packages, [b"1"])
        held = session.inbound._stream.held
        self.assertTrue(200_000 < held < 400_000)
        reactor.turn()
        self.assertTrue(0 < session.inbound._stream.held < held)
        while reactor.calls:
            reactor.turn()
        self.assertEqual(session.inbound._stream.held, 0)

    def test_paused(self) -> None:
        """A paused session neither decompresses nor reads."""
        pair = self.open(codec=LineCodec(), compression="deflate")
        pair.server.pauseReading()
        pair.peer.write(zeros(1 << 30))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        self.assertLessEqual(pair.serverTransport.socket.received, 3 * LIMIT)

    def test_pausedWithin(self) -> None:
        """Pauses within a delivery delay the rest."""
        taken = 0

        def message(session: Any, pkg: bytes) -> None:
            nonlocal taken
            taken += len(pkg)
            session.pauseReading()

        pair = self.open({"message": message}, codec=RawCodec(), compression="deflate")
        pair.peer.write(zeros(1 << 20))
        pair.peer.end()
        while taken < 1 << 20:
            before = taken
            pair.flush()
            pair.server.resumeReading()
            self.assertLessEqual(taken - before, 2 * PIECE)
        self.assertEqual(self.heard.names[-1], "message")
        pair.server.resumeReading()
        pair.flush()
        self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))

    def test_closedWithin(self) -> None:
        """A close drops the rest at once, and leaves no delayed call."""
        pair = self.begin(zeros(32 << 20))
        pair.server.close()
        self.assertEqual(pair.server.inbound._stream.held, 0)  # type: ignore[attr-defined]
        self.assertEqual([call.func for call in pair.clock.getDelayedCalls() if not call.getTime()], [])
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEnded()

    def test_connectionLostWithin(self) -> None:
        """All data is delivered, a quota in each iteration; the error of a reset is reported after it."""
        for orderly in (True, False):
            pair = self.begin(zeros(2 << 20))
            reason = ConnectionDone() if orderly else ConnectionLost()
            pair.server.connection.connectionLost(Failure(reason))  # type: ignore[attr-defined]
            self.assertEqual(self.heard.names[-1], "message")
            pair.flush()
            self.assertEqual(sum(map(len, self.heard.packages)), 2 << 20)
            self.assertEqual(self.heard.errors, [] if orderly else [reason])
            self.assertEqual(self.heard.names[-2:], ["message", "close"] if orderly else ["error", "close"])
            self.assertEnded()

    def test_callbackFails(self) -> None:
        """An exception in a callback ends the delivery."""

        def message(session: Any, pkg: bytes) -> None:
            if len(self.heard.packages) == 5:
                raise ZeroDivisionError

        pair = self.open({"message": message}, codec=RawCodec(), compression="deflate")
        pair.peer.write(zeros(8 << 20))
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", *["message"] * 5, "error", "close"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEnded()


class ClosingTests(CompressionCase):
    """Closing."""

    def test_end(self) -> None:
        """close() sends all data and the end of the compressed stream, in every mode of output."""
        for way in BOTH:
            for capacity in (None, 1000):
                pair = self.open(compression="deflate", transport=way, network={"capacity": capacity})
                noise = Random(1).randbytes(200_000)
                pair.server.writeBytes(noise)
                pair.server.close()
                pair.flush()
                inflate = zlib.decompressobj(-15)
                self.assertEqual(inflate.decompress(bytes(pair.peer.data)), noise)
                self.assertTrue(inflate.eof)
                self.assertTrue(pair.peer.ended)
                pair.peer.end()
                pair.flush()
                self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))
                self.assertEnded()

    def test_inADelivery(self) -> None:
        """So does close() in onMessage, while replies are still collected."""

        def answer(session: Any, pkg: bytes) -> None:
            session.writePkg(pkg)
            session.writePkg(b"bye")
            session.close()

        for description in FORMATS:
            pair = self.open({"message": answer}, compression=description, autoClose=True)
            pair.peer.write(stream(frame(b"hello"), description=description))
            self.assertEqual(self.heardBy(pair, description), frame(b"hello") + frame(b"bye"))
            self.assertEqual(self.heard.names, ["open", "message", "close"])
            self.assertEnded()

    def test_withProducer(self) -> None:
        """Data that a producer writes after close() comes before the end of the stream."""

        class Producer:
            def pauseProducing(self) -> None:
                pass

            resumeProducing = stopProducing = pauseProducing

        pair = self.open(compression="deflate")
        transport = pair.server.transport
        transport.registerProducer(Producer(), True)
        pair.server.close()
        transport.write(b"more, ")
        pair.flush()
        transport.write(b"and more")
        self.assertEqual(self.heardBy(pair), b"more, and more")
        self.assertFalse(pair.peer.ended)
        transport.unregisterProducer()
        pair.flush()
        self.assertTrue(pair.peer.ended)
        self.assertEqual(bytes(pair.peer.data), stream(b"more, ", b"and more", end=True))
        pair.peer.end()
        pair.flush()

    def test_peerHasEnded(self) -> None:
        """A peer that has ended its stream gets the end, too; if it is disconnected, that is no failure."""
        for gone in (False, True):
            pair = self.open({"message": echo}, compression="deflate")
            pair.peer.write(stream(frame(b"hello")))
            pair.flush()
            if gone:

                def send(data: bytes) -> int:
                    raise BrokenPipeError(errno.EPIPE, "Broken pipe")

                # As on a unix socket.
                pair.serverTransport.socket.send = send  # type: ignore[method-assign]
            pair.peer.end()
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), stream(frame(b"hello"), end=not gone))
            self.assertEqual(pair.server.stats.writeBytes, len(pair.peer.data))
            self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))
            self.assertEnded()

    def test_lost(self) -> None:
        """The error of a lost connection counts pending bytes, with those not compressed yet."""
        pair = self.open(compression="deflate", network={"capacity": 100})
        pair.peer.transport.pauseProducing()
        pair.server.writeBytes(Random(1).randbytes(1000))
        pair.server.writeBytes(b"more")
        pending = pair.server.pendingBytes
        drained = pair.server.drained()
        pair.reset()
        pair.flush()
        self.assertIn(f"{pending} bytes pending", str(self.failureResultOf(drained).value))
        self.assertEqual((pair.server.pendingBytes, pair.server.outbound._raw), (0, []))  # type: ignore[attr-defined]
        self.assertEnded()
