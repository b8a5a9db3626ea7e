"""Compressed streams that say far more than they are long, and ends of compressed sessions."""

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
from getty_tx.session.outbound import TURN
from tests.support.compressed import BOTH, FORMATS, CompressionCase, echo, split, stream
from tests.support.memory import frame

if TYPE_CHECKING:
    from getty_tx.testing import Pair


def zeros(size: int) -> bytes:
    """A stream of deflate that says ``size`` zeros; made of blocks of a megabyte, which know nothing of each other."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20)


class Reactor:
    """As much of a reactor as a session needs for its share of a turn; each call of ``turn`` is one."""

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
    """Streams that say far more than they are long."""

    def feed(self, session: Any, data: bytes) -> int:
        """Let it come to the session; returns the memory that this takes for a moment, in bytes."""
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
        """A session that has delivered the first share of these data, which are far more."""
        pair = self.open(on, codec=RawCodec(), compression="deflate", **settings)
        pair.peer.write(data)
        while not self.heard.packages:
            pair.pump()
        self.assertEqual(sum(map(len, self.heard.packages)), TURN)
        return pair

    def test_maxMsgLen(self) -> None:
        """A gigabyte of zeros is refused at maxMsgLen, whether a header tells of it or nothing does."""
        bomb = zeros(1 << 30)
        for codec, said in ((LineCodec(), b""), (LengthCodec(), stream(b"\x7f\xff\xff\xff"))):
            session = self.open(codec=codec, compression="deflate").server
            # What is gathered is there twice for a moment.
            self.assertLess(self.feed(session, said + bomb), 4 * session.maxMsgLen + 8 * PIECE)
            self.assertEqual([type(error) for error in self.heard.errors], [MessageTooLongError])
            self.assertEqual(self.heard.packages, [])

    def test_taken(self) -> None:
        """Where the codec takes it all, a piece of it is there at a time."""
        sizes: list[int] = []

        def message(session: Any, pkg: bytes) -> None:
            sizes.append(len(pkg))
            self.heard.events.clear()

        session = self.open({"message": message}, codec=RawCodec(), compression="deflate").server
        self.assertLess(self.feed(session, zeros(64 << 20)), 8 * PIECE)
        self.assertEqual((sum(sizes), max(sizes)), (64 << 20, PIECE))

    def test_share(self) -> None:
        """A turn of the reactor has its share of it, and other sessions have theirs."""
        session: Any = self.open(codec=RawCodec(), compression="deflate").server
        reactor = session.context.reactor = Reactor()
        session.inbound.receive(zeros(8 << 20))
        for turns in range(1, 64):
            self.assertEqual(sum(map(len, self.heard.packages)), turns * TURN)
            if turns == 10:
                # The peer's end does not make it come at once.
                session.peerEnded()
            reactor.turn()
        # Whether that was all, the next turn finds out.
        while reactor.calls:
            reactor.turn()
        self.assertEqual(sum(map(len, self.heard.packages)), 8 << 20)
        self.assertTrue(session.isClosed)

    def test_shareOfNothing(self) -> None:
        """What says nothing has its share, too."""
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
        """A session that is paused all the time makes nothing of it, nor does it read on."""
        pair = self.open(codec=LineCodec(), compression="deflate")
        pair.server.pauseReading()
        pair.peer.write(zeros(1 << 30))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        self.assertLessEqual(pair.serverTransport.socket.received, 3 * LIMIT)

    def test_pausedWithin(self) -> None:
        """Pauses within it put off the rest."""
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
        """A close drops the rest at once, and leaves no call behind."""
        pair = self.begin(zeros(32 << 20))
        pair.server.close()
        self.assertEqual(pair.server.inbound._stream.held, 0)  # type: ignore[attr-defined]
        self.assertEqual([call.func for call in pair.clock.getDelayedCalls() if not call.getTime()], [])
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEnded()

    def test_connectionLostWithin(self) -> None:
        """All of it is delivered, a share in each turn; after a reset the error is told then."""
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
        """An exception in the middle ends it there."""

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
    """Ends."""

    def test_end(self) -> None:
        """close() delivers all, then the end of the compressed stream, on every way out."""
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
        """So it does within onMessage, where the answers are still gathered."""

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
        """What a producer writes after close() comes before the end."""

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
        """A peer that has ended its side gets the end, too, but it is no failure if it is gone altogether."""
        for gone in (False, True):
            pair = self.open({"message": echo}, compression="deflate")
            pair.peer.write(stream(frame(b"hello")))
            pair.flush()
            if gone:

                def send(data: bytes) -> int:
                    raise BrokenPipeError(errno.EPIPE, "Broken pipe")

                # As a unix socket does.
                pair.serverTransport.socket.send = send  # type: ignore[method-assign]
            pair.peer.end()
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), stream(frame(b"hello"), end=not gone))
            self.assertEqual(pair.server.stats.writeBytes, len(pair.peer.data))
            self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))
            self.assertEnded()

    def test_lost(self) -> None:
        """A connection that is lost while bytes wait says how many, those not compressed yet included."""
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
