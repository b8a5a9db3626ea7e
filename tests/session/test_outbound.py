"""The writing contract: order, corking, water marks, limits, timeouts, producers, startTLS."""

from __future__ import annotations

import errno
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from getty_tx.errors import (
    CodecError,
    SessionBlockedError,
    SessionClosedError,
)
from getty_tx.session.buffers import CHUNK
from getty_tx.testing import DirectTransport, MemoryTransport
from tests.support.long import examples
from tests.support.memory import SessionCase, frame

BOTH: tuple[type[MemoryTransport], ...] = (DirectTransport, MemoryTransport)
FULL = {"capacity": 1000}


class ListCodec:
    """Writes what it is given; reads everything as one package."""

    def read(self, session: Any, data: memoryview) -> tuple[bytes, int]:
        return bytes(data), len(data)

    def write(self, session: Any, pkg: Any) -> Any:
        if isinstance(pkg, Exception):
            raise pkg
        return pkg


class SendingTests(SessionCase):
    """Bytes, counters, order."""

    def test_counts(self) -> None:
        """writePkg returns the bytes encoded; each piece counts as a package, and what the facade writes as none."""
        for transport in BOTH:
            pair = self.open(transport=transport)
            session = pair.server
            self.assertEqual(session.writePkg(b"abc"), 7)
            self.assertEqual(session.writeBytes(b"de"), 2)
            self.assertEqual(session.writeBytesArray(b"f", b"", b"gh"), 3)
            session.transport.write(b"ij")
            session.transport.writeSequence([b"k", b"l"])
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), frame(b"abc") + b"defghijkl")
            self.assertEqual((session.stats.writePkgs, session.stats.writeBytes), (5, 16))
            self.assertEqual(session.pendingBytes, 0)

    def test_kindsOfBytes(self) -> None:
        """Bytes-like pieces are copied where they might change; a text is refused, and the session lives."""
        for transport in BOTH:
            pair = self.open(codec=ListCodec(), transport=transport)
            session = pair.server
            changing = bytearray(b"ab")
            self.assertEqual(session.writePkg([changing, memoryview(b"cd"), b"ef"]), 6)
            changing[:] = b"XX"
            self.assertEqual(session.writePkg(b""), 0)
            self.assertEqual(session.writePkg([]), 0)
            self.assertRaises(CodecError, session.writePkg, "text")
            self.assertRaises(CodecError, session.writePkg, [b"a", None])
            self.assertRaises(ZeroDivisionError, session.writePkg, ZeroDivisionError())
            session.writePkg(b"gh")
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), b"abcdefgh")
            self.assertFalse(session.isClosed)

    def test_codecsListIsItsOwn(self) -> None:
        """A list that the codec keeps is not changed."""
        pieces = [bytearray(b"a"), b"b" * 100_000]
        pair = self.open(codec=ListCodec(), network=FULL)
        pair.server.writePkg(pieces)
        pair.flush()
        self.assertIs(type(pieces[0]), bytearray)
        self.assertEqual([len(piece) for piece in pieces], [1, 100_000])

    def test_emptyWrites(self) -> None:
        """Nothing at all, in every state, hurts nothing that comes after."""
        for transport in BOTH:
            pair = self.open(
                {"message": lambda session, pkg: (session.writePkg(b""), session.writePkg([b"", b""]))},
                codec=ListCodec(),
                transport=transport,
                network=FULL,
            )
            session = pair.server
            for size in (1, CHUNK, 5 * CHUNK):
                session.writeBytes(b"")
                session.writeBytesArray(b"", b"")
                session.writePkg([])
                session.writeBytesArray(b"", b"x" * size, b"")
                session.writeBytes(b"")
                session.writePkg([b"", b"y" * size])
                pair.peer.write(b"?")
                pair.flush()
                self.assertEqual(len(pair.peer.data), 2 * size)
                pair.peer.data.clear()
            self.assertEqual(session.pendingBytes, 0)

    def test_emptyWhileBlocked(self) -> None:
        """An empty piece at the head of what waits is not given to the transport, which would never ask for more."""
        for transport in BOTH:
            pair = self.open(transport=transport, network=FULL)
            for data in (bytes(CHUNK), b"", bytes(CHUNK), b"x"):
                pair.server.writeBytes(data)
            pair.flush()
            self.assertEqual(len(pair.peer.data), 2 * CHUNK + 1)

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["pkg", "list", "bytes", "array", "facade", "pump"]),
                st.sampled_from([0, 1, CHUNK]) | st.integers(0, 200_000),
            ),
            max_size=12,
        ),
        st.sampled_from([None, 1000, 70_000, 300_000]),
        st.sampled_from(BOTH),
        st.booleans(),
    )
    def test_order(self, steps: list[tuple[str, int]], capacity: int | None, transport: Any, corked: bool) -> None:
        """Whatever the way and whatever is pending, bytes leave in the order in which they were written."""
        expected = bytearray()

        def write(session: Any, *args: Any) -> None:
            for i, (how, size) in enumerate(steps):
                data = bytes([i + 65]) * size
                if how == "pump":
                    if not corked:
                        self.pair.pump(3)
                    continue
                expected.extend(data)
                if how == "pkg":
                    session.writePkg(data)
                elif how == "list":
                    session.writePkg([data[:100], data[100:]])
                elif how == "bytes":
                    session.writeBytes(data)
                elif how == "array":
                    session.writeBytesArray(data[:5000], data[5000:5001], data[5001:])
                else:
                    session.transport.write(data)

        SessionCase.setUp(self)
        pair = self.open({"message": write}, codec=ListCodec(), transport=transport, network={"capacity": capacity})
        if corked:
            pair.peer.write(b"go")
        else:
            write(pair.server)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), bytes(expected))
        self.assertEqual(pair.server.pendingBytes, 0)
        pair.server.close()
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.errors, [])
        self.assertEnded()


class CorkTests(SessionCase):
    """What is written during a delivery leaves together."""

    def test_oneSend(self) -> None:
        """One delivery, one send, whatever the ways the listener writes in."""

        def answer(session: Any, pkg: bytes) -> None:
            session.writePkg(pkg)
            session.writeBytes(b"!")
            session.transport.write(b"?")

        pair = self.open({"message": answer})
        pair.peer.write(frame(b"x") * 50)
        pair.flush()
        self.assertEqual(pair.serverTransport.memory.sent, [50 * 7])
        self.assertEqual(bytes(pair.peer.data), (frame(b"x") + b"!?") * 50)

    def test_outsideADelivery(self) -> None:
        """Elsewhere a write is sent at once, before it returns."""
        pair = self.open({"open": lambda session: session.writePkg(b"hello")})
        self.assertEqual(pair.serverTransport.memory.sent, [9])
        pair.server.writePkg(b"again")
        self.assertEqual(pair.serverTransport.memory.sent, [9, 9])

    def test_early(self) -> None:
        """When 64 KiB are together they leave before the delivery is over."""
        sent: list[int] = []

        def answer(session: Any, pkg: bytes) -> None:
            session.writeBytes(bytes(10_000))
            sent.append(sum(self.pair.serverTransport.memory.sent))

        pair = self.open({"message": answer})
        pair.peer.write(frame(b"x") * 10)
        pair.flush()
        self.assertEqual(sent, [0] * 6 + [70_000] * 4)
        self.assertEqual(len(pair.peer.data), 100_000)

    def test_anotherSessionsDelivery(self) -> None:
        """What is written to another session leaves at once."""
        other = self.open()
        pair = self.open({"message": lambda session, pkg: other.server.writePkg(pkg)})
        pair.peer.write(frame(b"x") * 3)
        pair.flush()
        self.assertEqual(other.serverTransport.memory.sent, [5, 5, 5])

    def test_uncorkedAfterAFailure(self) -> None:
        """Answers written before a callback failed leave all the same."""

        def answer(session: Any, pkg: bytes) -> None:
            session.writePkg(b"answer")
            raise ZeroDivisionError

        pair = self.open({"message": answer}, autoClose=True)
        pair.peer.write(frame(b"x"))
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), frame(b"answer"))
        self.flushLoggedErrors(ZeroDivisionError)


class PressureTests(SessionCase):
    """What the peer does not take stays here, within bounds."""

    def test_theTransportHoldsOneSlice(self) -> None:
        """The transport is given at most 64 KiB at a time; the rest is the session's."""
        pair = self.open(network=FULL)
        pair.server.writeBytes(bytes(1_000_000))
        transport: Any = pair.serverTransport
        self.assertEqual(pair.server.pendingBytes, 999_000)
        held = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        self.assertLessEqual(held, CHUNK)
        pair.flush()
        self.assertEqual(len(pair.peer.data), 1_000_000)
        self.assertEqual(pair.server.pendingBytes, 0)

    def test_sentAtOnceAgain(self) -> None:
        """When nothing is pending any more, sending at once is right again."""
        pair = self.open(network=FULL)
        pair.server.writeBytes(bytes(10_000))
        pair.flush()
        self.assertIs(pair.serverTransport.producer, None)
        before = len(pair.serverTransport.memory.sent)
        pair.server.writeBytes(b"now")
        self.assertEqual(pair.serverTransport.memory.sent[before:], [3])

    def test_reading(self) -> None:
        """Above highWater neither is anything read nor parsed; below lowWater both go on."""
        for transport in BOTH:
            pair = self.open(
                {"message": lambda session, pkg: session.writeBytes(bytes(65_536))},
                transport=transport,
                network={"capacity": 10_000},
            )
            pair.peer.transport.pauseProducing()
            pair.peer.write(b"".join(frame(b"%d" % i) for i in range(100)))
            pair.flush()
            # 256 KiB pending, and what the transport and the network hold.
            self.assertIn(len(self.heard.packages), (5, 6, 7))
            received = pair.serverTransport.memory.received
            pair.peer.write(frame(bytes(50_000)) * 20)
            pair.flush()
            self.assertLess(pair.serverTransport.memory.received - received, 2 * 65_536)
            self.assertIn(len(self.heard.packages), (5, 6, 7))
            pair.peer.transport.resumeProducing()
            pair.advance(0)
            self.assertEqual(self.heard.packages[:100], [b"%d" % i for i in range(100)])
            self.assertEqual(self.heard.errors, [])

    def test_readsAgainAtLowWater(self) -> None:
        """Not before."""
        pair = self.open(
            {"message": lambda session, pkg: session.writeBytes(bytes(400_000))},
            network={"capacity": 10_000},
            highWater=300_000,
            lowWater=100_000,
        )
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.peer.write(frame(b"2"))
        pair.peer.transport.resumeProducing()
        while len(self.heard.packages) < 2:
            pending = pair.server.pendingBytes
            self.assertTrue(pair.pump())
        self.assertLess(pending, 100_000 + 2 * CHUNK)

    def test_maxPending(self) -> None:
        """A write is refused when pending bytes already exceed maxPending; the session lives."""
        for transport in BOTH:
            pair = self.open(transport=transport, network=FULL, maxPending=500_000)
            session = pair.server
            session.writeBytes(bytes(400_000))
            session.writeBytes(bytes(400_000))
            count = session.stats.writeBytes
            for write in (session.writePkg, session.writeBytes, session.writeBytesArray):
                error = self.assertRaises(SessionBlockedError, write, b"more")
                self.assertIs(error.session, session)
                self.assertIn("maxPending=500000", str(error))
            self.assertEqual(session.stats.writeBytes, count)
            pair.flush()
            session.writePkg(b"more")
            pair.flush()
            self.assertEqual(len(pair.peer.data), 800_008)

    def test_maxPendingWhileCorked(self) -> None:
        """The bound holds within one delivery too."""

        def answer(session: Any, pkg: bytes) -> None:
            for _ in range(10):
                session.writeBytes(bytes(100_000))

        pair = self.open({"message": answer}, network=FULL, maxPending=500_000, waitTime=1.0)
        pair.peer.transport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertIsInstance(self.heard.errors[0], SessionBlockedError)
        self.assertLess(pair.server.pendingBytes, 700_000)
        self.flushLoggedErrors(SessionBlockedError)

    def test_closed(self) -> None:
        """A closed session takes no package; the facade drops bytes as Twisted's transports do."""
        pair = self.open(autoClose=True)
        session = pair.server
        session.close()
        for _ in range(2):
            for write in (session.writePkg, session.writeBytes, session.writeBytesArray):
                error = self.assertRaises(SessionClosedError, write, b"more")
                self.assertIs(error.session, session)
            session.transport.write(b"more")
            session.transport.writeSequence([b"more"])
            pair.flush()
        self.assertEqual(bytes(pair.peer.data), b"")

    def test_aBrokenSocket(self) -> None:
        """A send that fails fails the session as Twisted reports it, and not its caller."""
        for error in (errno.ECONNRESET, errno.EPIPE):
            pair = self.open()
            memory = pair.serverTransport.memory

            def send(data: Any, error: int = error) -> int:
                raise OSError(error, "broken")

            self.patch(memory, "send", send)
            pair.server.writePkg(b"x")
            pair.server.writePkg(b"y")
            self.assertEqual(self.heard.names, ["open"])
            pair.flush()
            self.assertEqual(self.heard.names, ["open", "error", "close"])
            self.assertEnded()

    def test_drained(self) -> None:
        """Fires at once when nothing is pending, else when all is out, or fails with the session."""
        for transport in BOTH:
            pair = self.open(transport=transport, network=FULL)
            session = pair.server
            self.successResultOf(session.drained())
            session.writeBytes(bytes(500_000))
            one, two = session.drained(), session.drained()
            pair.peer.transport.pauseProducing()
            pair.flush()
            self.assertNoResult(one)
            pair.peer.transport.resumeProducing()
            pair.flush()
            self.successResultOf(one)
            self.successResultOf(two)
            session.writeBytes(bytes(500_000))
            lost = session.drained()
            session.abort()
            pair.flush()
            self.failureResultOf(lost, SessionClosedError)
            self.failureResultOf(session.drained(), SessionClosedError)
            self.assertEnded()

    def test_drainedWritesMore(self) -> None:
        """One who waits may write on from its callback, and wait again."""
        rounds: list[int] = []
        pair = self.open(network=FULL)

        def more(_: object) -> None:
            rounds.append(len(rounds))
            if len(rounds) < 4:
                pair.server.writeBytes(bytes(200_000))
                pair.server.drained().addCallback(more)

        more(None)
        pair.flush()
        self.assertEqual((len(rounds), len(pair.peer.data)), (4, 600_000))
