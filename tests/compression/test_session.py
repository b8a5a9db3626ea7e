"""Compressed sessions: output, input, and the setting."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from getty_tx.codecs import LengthCodec, RawCodec
from getty_tx.compression import findFormat
from getty_tx.compression.base import PIECE
from getty_tx.errors import CodecError, SessionBlockedError, SettingError, WriteTimeoutError
from getty_tx.session import cork as turn
from getty_tx.session.buffers import CHUNK
from getty_tx.session.inbound import LIMIT
from getty_tx.session.pausing import PRESSURE
from getty_tx.testing import MemoryTransport, RecordingListener, connectedSessions
from tests.support.compressed import BOTH, DEFLATE, DEFLATE_END, FORMATS, CompressionCase, echo, split, stream
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame

#: What ends a flush of deflate.
SYNC = b"\0\0\xff\xff"


class WritingTests(CompressionCase):
    """Output."""

    def test_everything(self) -> None:
        """All output is compressed in order, from any writer and in any mode of output."""

        class Producer:
            def resumeProducing(self) -> None:
                transport.write(b"7")
                transport.unregisterProducer()

            def stopProducing(self) -> None:
                pass

        for description in FORMATS:
            for way in BOTH:
                pair = self.open(compression=description, transport=way)
                session, transport = pair.server, pair.server.transport
                self.assertEqual(session.writePkg(b"pkg"), 7)
                self.assertEqual(session.writeBytes(b"12"), 2)
                self.assertEqual(session.writeBytesArray(b"3", b"", bytearray(b"4")), 2)
                transport.write(b"5")
                transport.writeSequence([b"6", b""])
                session.writeBytes(b"")
                transport.registerProducer(Producer(), False)
                pair.flush()
                session.writeForThread([b"8", b"9"], None, 1)
                self.assertEqual(self.heardBy(pair, description), frame(b"pkg") + b"123456789", description)
                stats = session.stats
                self.assertEqual((stats.writeBytes, stats.writePkgs), (len(pair.peer.data), 7))
                self.assertEqual((session.pendingBytes, session.isClosed), (0, False))

    def test_flushed(self) -> None:
        """Written data is sent at once, in one call."""
        pair = self.open(compression="deflate")
        for text in (b"one", b"two", b"three"):
            pair.server.writePkg(text)
            self.assertTrue(self.heardBy(pair).endswith(frame(text)))
        self.assertEqual(len(pair.serverTransport.socket.sent), 3)
        self.assertEqual(bytes(pair.peer.data).count(SYNC), 3)

    def test_oneDelivery(self) -> None:
        """Output written during a delivery is compressed together, and flushed once."""
        for way in BOTH:
            pair = self.open({"message": echo}, compression="deflate", transport=way)
            pair.peer.write(stream(b"".join(frame(b"%d" % i) for i in range(100))))
            self.assertEqual(self.heardBy(pair), b"".join(frame(b"%d" % i) for i in range(100)))
            self.assertEqual(bytes(pair.peer.data).count(SYNC), 1)
            self.assertEqual(pair.server.stats.writeBytes, len(pair.peer.data))

    def test_atTheEndOfTheTurn(self) -> None:
        """If sessions send at the end of an iteration, all output of the iteration is compressed together."""
        self.patch(turn, "PROBE", 0)
        self.patch(turn, "MANY", 0)
        pair = self.open({"message": echo}, compression="deflate")
        inbound = pair.server.inbound
        for data in split(stream(frame(b"1"), frame(b"2")), [9]):
            inbound.receive(data)
        pair.server.writePkg(b"3")
        pair.server.transport.write(b"4")
        self.assertEqual(pair.server.outbound.bytesOut, 0)
        drained = pair.server.drained()
        self.assertNoResult(drained)
        pair.clock.advance(0)
        self.successResultOf(drained)
        self.assertEqual(self.heardBy(pair), frame(b"1") + frame(b"2") + frame(b"3") + b"4")
        self.assertEqual(bytes(pair.peer.data).count(SYNC), 1)

    def test_largeInADelivery(self) -> None:
        """At most a chunk is collected."""

        def answer(session: Any, pkg: bytes) -> None:
            for _ in range(100):
                session.writeBytes(noise)
                gathered.append(session.outbound._rawSize)
                pending.append(session.pendingBytes)

        noise = Random(1).randbytes(5000)
        gathered: list[int] = []
        pending: list[int] = []
        for description in FORMATS:
            pair = self.open({"message": answer}, compression=description)
            pair.peer.write(stream(frame(b"go"), description=description))
            self.assertEqual(self.heardBy(pair, description), noise * 100)
        self.assertLess(max(gathered), CHUNK)
        self.assertGreater(max(gathered), CHUNK // 2)
        # In addition, less than a chunk is compressed and not sent yet.
        self.assertLess(max(pending), 2 * CHUNK)

    def test_counts(self) -> None:
        """While output waits, writeBytes counts compressed bytes, pendingBytes also those not compressed yet."""
        pair = self.open(compression="deflate", network={"capacity": 100})
        session = pair.server
        noise = Random(1).randbytes(300_000)
        session.writeBytes(noise)
        counted = session.stats.writeBytes
        self.assertGreater(counted, 300_000)
        self.assertEqual(session.pendingBytes, counted - 100)
        session.writeBytes(b"x" * 1000)
        self.assertEqual((session.stats.writeBytes, session.pendingBytes), (counted, counted + 900))
        self.assertEqual(session.outbound.bytesOut, 100)
        self.assertEqual(self.heardBy(pair), noise + b"x" * 1000)
        self.assertEqual((session.stats.writeBytes, session.pendingBytes), (len(pair.peer.data), 0))
        self.assertLess(session.stats.writeBytes, counted + 100)

    def test_pressure(self) -> None:
        """A session whose peer does not read is paused, and a write above maxPending is refused."""
        pair = self.open(compression="deflate", network={"capacity": 10}, highWater=600, lowWater=100)
        pair.server.writeBytes(Random(1).randbytes(500))
        self.assertFalse(pair.server.inbound.paused & PRESSURE)
        pair.server.writeBytes(bytes(200))
        self.assertTrue(pair.server.inbound.paused & PRESSURE)
        pair.flush()
        self.assertFalse(pair.server.inbound.paused & PRESSURE)
        pair = self.open(
            {"message": lambda session, pkg: session.writeBytes(pkg * 10)},
            compression="deflate",
            network={"capacity": 1000},
            maxPending=900_000,
        )
        session = pair.server
        noise = Random(1).randbytes(50_000)
        pair.peer.transport.pauseProducing()
        pair.peer.write(stream(*[frame(noise)] * 3))
        pair.flush()
        self.assertEqual(len(self.heard.packages), 1)
        self.assertRaises(SessionBlockedError, lambda: [session.writeBytes(noise) for _ in range(100)])
        kept = session.pendingBytes
        self.assertGreater(kept, 900_000)
        self.assertFalse(session.isClosed)
        drained = session.drained()
        pair.peer.transport.resumeProducing()
        said = self.heardBy(pair)
        self.assertEqual(said, noise * (len(said) // len(noise)))
        self.assertEqual(len(self.heard.packages), 3)
        self.successResultOf(drained)

    def test_writePkgTimeout(self) -> None:
        """A write with a timeout has to be sent in time; bytes written before or after do not count."""
        for out, inTime in ((0, False), (5000, False), (8000, True)):
            pair = self.open(compression="deflate", writeTimeout=None, network={"capacity": 1000})
            noise = Random(1).randbytes(200_000)
            pair.peer.transport.pauseProducing()
            pair.server.writeBytes(noise[:5000])
            pair.server.writePkg(noise[5000:8000], timeout=2.0)
            pair.server.writeBytes(noise)
            pair.peer.transport.resumeProducing()
            while pair.server.outbound.bytesOut < out:
                pair.pump()
            pair.peer.transport.pauseProducing()
            self.assertGreater(pair.server.pendingBytes, 100_000)
            pair.server.writeBytes(noise[:9000])
            pair.advance(2.5)
            self.assertEqual(pair.server.isClosed, not inTime)
            self.assertEqual([type(error) for error in self.heard.errors], [] if inTime else [WriteTimeoutError])
            pair.server.abort()
            pair.flush()

    @settings(max_examples=examples(40), deadline=None)
    @given(st.data())
    def test_anyWrites(self, data: st.DataObject) -> None:
        """The peer reads all writes, in any state."""
        description = data.draw(st.sampled_from(FORMATS))
        pair = self.open(
            {"message": lambda session, pkg: [session.writeBytes(b"<" * size) for size in pkg]},
            transport=data.draw(st.sampled_from(BOTH)),
            compression=description,
            codec=RawCodec(),
            network={"capacity": data.draw(st.sampled_from([None, 50, 5000]))},
        )
        session, expected = pair.server, bytearray()
        compressor = findFormat(description).compressor()
        for step in data.draw(st.lists(st.sampled_from("bwamptr"), max_size=25)):
            size = data.draw(st.sampled_from([1, 10, 3000, 70_000]))
            if step == "b":
                session.writeBytes(b"b" * size)
                expected += b"b" * size
            elif step == "a":
                session.writeBytesArray(b"a", b"A" * size)
                expected += b"a" + b"A" * size
            elif step == "w":
                session.transport.write(b"w" * size)
                expected += b"w" * size
            elif step == "m":
                # As many replies in one delivery as there are numbers in it.
                session.inbound.receive(compressor.compress(bytes([size % 256] * 3)))
                if not session.inbound.paused:
                    expected += b"<" * (size % 256 * 3)
                else:
                    expected += b"?" * (size % 256 * 3)
            elif step == "p":
                pair.peer.transport.pauseProducing()
            elif step == "r":
                pair.peer.transport.resumeProducing()
            else:
                pair.pump()
        pair.peer.transport.resumeProducing()
        said = self.heardBy(pair, description)
        # Data delayed by a pause comes later than expected.
        if b"?" in expected:
            self.assertEqual(sorted(said), sorted(expected.replace(b"?", b"<")))
        else:
            self.assertEqual(said, bytes(expected))
        self.assertEqual(session.stats.writeBytes, len(pair.peer.data))
        session.abort()
        pair.flush()
        self.assertEqual(self.heard.errors, [])


class ReadingTests(CompressionCase):
    """Input."""

    def test_go(self) -> None:
        """Go's streams, in any pieces."""
        for written, data in DEFLATE.values():
            for size in (1, 7, 10_000):
                pair = self.open(codec=RawCodec(), compression="deflate", network={"split": [size]})
                pair.peer.write(bytes.fromhex(data + DEFLATE_END))
                pair.peer.end()
                pair.flush()
                self.assertEqual(b"".join(self.heard.packages), b"".join(written))
                self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))

    @settings(max_examples=examples(40), deadline=None)
    @given(st.sampled_from(FORMATS), st.lists(st.binary(max_size=200), max_size=20), st.integers(0, 1000))
    def test_anySplit(self, description: str, packages: list[bytes], seed: int) -> None:
        """The packages are the same for any pieces and flushes of the compressed stream."""
        random = Random(seed)
        plain = b"".join(map(frame, packages))
        said = split(plain, [random.randint(1, 100) for _ in range(20)])
        pair = self.open(compression=description, network={"split": random})
        pair.peer.write(stream(*said, description=description, end=True))
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.packages, packages)
        self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))
        self.assertEnded()

    def test_counts(self) -> None:
        """readBytes counts compressed bytes, and any input resets the time-outs."""
        pair = self.open(compression="deflate")
        pair.clock.advance(1.0)
        data = stream(frame(bytes(100_000)))
        pair.peer.write(data)
        pair.flush()
        self.assertEqual((pair.server.stats.readBytes, pair.server.stats.readPkgs), (len(data), 1))
        self.assertEqual(pair.server.lastActive, pair.clock.seconds())

    def test_paused(self) -> None:
        """A pause takes effect with the next package; further data stays compressed, and the peer waits."""
        pair = self.open({"message": lambda session, pkg: session.pauseReading()}, compression="deflate")
        session: Any = pair.server
        noise = Random(1).randbytes(300_000)
        pair.peer.write(stream(*[frame(b"%d" % i) for i in range(10)], frame(bytes(100_000)), noise))
        pair.flush()
        for i in range(10):
            self.assertEqual(self.heard.packages[i:], [b"%d" % i])
            self.assertLessEqual(session.inbound.unread, PIECE)
            session.resumeReading()
            pair.flush()
        self.assertEqual(len(self.heard.packages), 11)
        self.assertLessEqual(session.inbound._stream.held, 2 * LIMIT)
        self.assertLess(pair.serverTransport.socket.received, 200_000)

    def test_async(self) -> None:
        """An async callback delays all data behind it, by a byte or by many iterations."""
        waiting: list[Deferred[None]] = []

        def message(session: Any, pkg: bytes) -> Any:
            waiting.append(Deferred())
            return waiting[-1]

        pair = self.open({"message": message}, compression="deflate")
        packages = [b"%d" % i * 50_000 for i in range(8)]
        pair.peer.write(stream(*map(frame, packages)))
        pair.peer.end()
        for i in range(8):
            pair.flush()
            self.assertEqual(len(self.heard.packages), i + 1)
            waiting[i].callback(None)
        pair.flush()
        self.assertEqual(self.heard.packages, packages)
        self.assertEqual(self.heard.names[-1], "close")

    def test_beforeOpen(self) -> None:
        """Input during onOpen waits, and is limited."""
        opening: Deferred[None] = Deferred()
        pair = self.open({"open": lambda session: opening}, compression="deflate")
        noise = Random(1).randbytes(300_000)
        pair.peer.write(stream(frame(b"1"), noise))
        pair.flush()
        self.assertEqual(self.heard.packages, [])
        self.assertLess(pair.serverTransport.socket.received, 200_000)
        opening.callback(None)
        self.assertEqual(self.heard.packages, [b"1"])

    def test_wrong(self) -> None:
        """Invalid data is a CodecError after the delivery of all data before it; the session closes."""
        for description in FORMATS:
            pair = self.open(compression=description)
            data = stream(frame(b"1"), frame(b"2"), description=description)
            pair.peer.write(data)
            pair.flush()
            pair.peer.write(b"\xff" * 100)
            pair.flush()
            pair.peer.end()
            pair.flush()
            self.assertEqual(self.heard.names, ["open", "message", "message", "error", "close"], description)
            (error,) = self.heard.errors
            self.assertIsInstance(error, CodecError)
            self.assertIs(error.session, pair.server)  # type: ignore[attr-defined]
            self.assertIn("session.compression", str(error))
            self.assertEnded()

    def test_afterTheEnd(self) -> None:
        """Bytes after a final block are an error, too; a final block alone is none."""
        pair = self.open(compression="deflate")
        pair.peer.write(stream(frame(b"1"), end=True))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.peer.write(b"x")
        pair.flush()
        self.assertIn("1 bytes came after its end", str(self.heard.errors[0]))

    def test_truncated(self) -> None:
        """A stream may end anywhere without an error; its complete packages are delivered."""
        for description in FORMATS:
            whole = stream(frame(b"1"), frame(b"2"), description=description)
            first = len(stream(frame(b"1"), description=description))
            for at in range(first, len(whole)):
                pair = self.open(compression=description)
                pair.peer.write(whole[:at])
                pair.peer.end()
                pair.flush()
                self.assertEqual(self.heard.packages[:1], [b"1"])
                self.assertEqual((self.heard.errors, self.heard.names[-1]), ([], "close"))
                self.assertEnded()


class SettingTests(CompressionCase):
    """When and where the setting can be set."""

    def late(self, session: Any) -> None:
        text = str(self.assertRaises(SettingError, setattr, session, "compression", "snappy"))
        self.assertIn("compression='snappy' comes too late", text)
        self.assertIn("newSession", text)

    def test_late(self) -> None:
        """Refused from onOpen on, and in newSession after a write."""
        for before in (None, "deflate"):
            hooks = {"open": self.late, "message": lambda session, pkg: self.late(session)}
            pair = self.open(hooks, compression=before)
            self.late(pair.server)
            pair.peer.write(frame(b"1") if before is None else stream(frame(b"1")))
            pair.flush()
            self.assertEqual((self.heard.names, pair.server.compression), (["open", "message"], before))
            pair.server.close()
            self.late(pair.server)
            pair.peer.end()
            pair.flush()
            self.late(pair.server)

    def test_afterWriting(self) -> None:
        """In newSession it has to be set before any write, and before a producer."""

        class Producer:
            def pauseProducing(self) -> None:
                pass

            resumeProducing = stopProducing = pauseProducing

        def write(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = self.heard
            session.compression = "deflate"
            session.writePkg(b"hello")
            self.late(session)

        def register(session: Any) -> None:
            session.codec = LengthCodec()
            session.transport.registerProducer(Producer(), True)
            self.late(session)

        pair = self.open(newSession=write)
        self.assertEqual(self.heardBy(pair), frame(b"hello"))
        self.assertFalse(self.open(newSession=register).server.isClosed)

    def test_again(self) -> None:
        """In newSession it can be changed and reset; other settings stay."""

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = self.heard
            transport = session.transport
            session.pauseReading()
            for value in (*FORMATS, None, None, last):
                session.compression = value
                self.assertEqual(session.compression, value)
            transport.write(b"hello")

        for last in (None, "deflate"):
            pair = self.open(newSession=newSession)
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), stream(b"hello") if last else b"hello")
            self.heard = RecordingListener()
            pair.peer.write(stream(frame(b"1")) if last else frame(b"1"))
            pair.flush()
            self.assertEqual(pair.server.stats.readPkgs, 0)
            pair.server.resumeReading()
            pair.flush()
            self.assertEqual(pair.server.stats.readPkgs, 1)

    def test_wrong(self) -> None:
        """An invalid value refuses the connection, and the error says why."""
        pair = self.open(compression="gzip")
        self.assertRaises(AssertionError, lambda: pair.server)
        self.assertEqual(self.factory.context.refused, 1)

    def test_off(self) -> None:
        """A session without compression has no compressor."""
        session = self.open().server
        self.assertEqual((type(session.outbound), type(session.inbound)), (session.outboundType, session.inboundType))

    def test_startTLS(self) -> None:
        """startTLS in a compressed stream is refused; the session stays open."""
        pair = self.open(compression="deflate")
        text = str(self.assertRaises(SettingError, pair.server.transport.startTLS, object()))
        self.assertIn("compression='deflate'", text)
        pair.server.writePkg(b"still there")
        self.assertEqual(self.heardBy(pair), frame(b"still there"))


class BothSidesTests(SessionCase):
    """Two sessions connected to each other."""

    @settings(max_examples=examples(30), deadline=None)
    @given(st.sampled_from(FORMATS), st.sampled_from(BOTH), st.integers(0, 10_000))
    def test_random(self, description: str, way: type[MemoryTransport], seed: int) -> None:
        """Packages of any size, pauses at any time and small buffers: all packages arrive, once and in order."""
        random = Random(seed)
        heard = [RecordingListener(), RecordingListener()]
        pair = connectedSessions(
            *[configure(listener, compression=description) for listener in heard],
            split=random,
            capacity=random.choice([None, 100, 20_000]),
            transport=way,
        )
        sent: list[list[bytes]] = [[], []]
        sessions = [pair.client, pair.server]
        for _ in range(30):
            side = random.randrange(2)
            choice = random.random()
            if choice < 0.6:
                pkg = random.choice([b"x", b"getty" * 20, bytes(50_000), random.randbytes(random.choice([30, 3000]))])
                sessions[side].writePkg(pkg)
                sent[side].append(pkg)
            elif choice < 0.7:
                sessions[side].pauseReading()
            elif choice < 0.8:
                sessions[side].resumeReading()
            else:
                pair.pump(3)
        for session in sessions:
            session.resumeReading()
        pair.flush()
        pair.client.close()
        pair.flush()
        self.assertEqual([one.packages for one in heard], sent)
        self.assertEqual([(one.errors, one.names[-1]) for one in heard], [([], "close")] * 2)
        self.assertEqual(pair.clock.getDelayedCalls(), [])
