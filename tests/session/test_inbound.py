"""The reading contract: what a codec is asked, what it may answer, and what pauses the way in."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from getty_tx.codecs import LengthCodec
from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.session.inbound import LIMIT
from getty_tx.testing import MemoryTransport
from tests.support.long import examples
from tests.support.memory import SessionCase, frame


class Recorder:
    """LengthCodec, one package at a time, that keeps what it was asked."""

    def __init__(self) -> None:
        self.inner = LengthCodec()
        self.asked: list[int] = []
        self.views: list[memoryview] = []

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        self.asked.append(len(data))
        self.views.append(data)
        return self.inner.read(session, data)

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes]:
        return self.inner.write(session, pkg)


class Script:
    """Answers what the test says, then that the header is not there."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    def read(self, session: Any, data: memoryview) -> Any:
        self.asked.append(bytes(data))
        if len(self.asked) > 1000:
            raise AssertionError("asked for ever")
        answer = self.answers.pop(0) if self.answers else (None, 0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def write(self, session: Any, pkg: Any) -> bytes:
        return bytes(pkg)


class Slices(Recorder):
    """Packages are slices of what ``read`` was given."""

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        pkg, length = super().read(session, data)
        return (None if pkg is None else data[4:length]), length


class AnswerTests(SessionCase):
    """One answer after the other."""

    def test_need(self) -> None:
        """``(None, n)``: not asked again before n bytes are there, and then with all of them."""
        codec = Recorder()
        pair = self.open(codec=codec)
        pair.peer.write(frame(bytes(1000))[:10])
        pair.flush()
        for _ in range(9):
            pair.peer.write(bytes(100))
            pair.flush()
        self.assertEqual(codec.asked, [10])
        pair.peer.write(bytes(94 + 3))
        pair.flush()
        self.assertEqual(codec.asked, [10, 1007, 3])
        self.assertEqual(self.heard.packages, [bytes(1000)])

    def test_header(self) -> None:
        """``(None, 0)``: asked again with whatever comes next."""
        codec = Recorder()
        pair = self.open(codec=codec, network={"split": [1]})
        pair.peer.write(frame(b"abc"))
        pair.flush()
        self.assertEqual(codec.asked, [1, 2, 3, 4, 7])
        self.assertEqual(self.heard.packages, [b"abc"])

    def test_rest(self) -> None:
        """``(pkg, n)``: asked again on the rest, and not about nothing."""
        codec = Recorder()
        pair = self.open(codec=codec)
        pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
        pair.flush()
        self.assertEqual(codec.asked, [15, 10, 5])

    def test_immutable(self) -> None:
        """What is read is over immutable bytes, so that packages may keep slices of it."""
        bodies = [bytes([i]) * (i * 37) for i in range(30)]
        data = b"".join(map(frame, bodies))
        for split in ([1, 500], [7, 5000], [70_000]):
            codec = Slices()
            pair = self.open(codec=codec, network={"split": split})
            pair.peer.write(data * 2)
            pair.flush()
            self.assertTrue(all(type(view.obj) is bytes and view.readonly for view in codec.views))
            self.assertEqual([bytes(pkg) for pkg in self.heard.packages], bodies * 2)

    def test_falsyPackages(self) -> None:
        """Only None is no package."""
        for pkg in (b"", 0, False, "", []):
            pair = self.open(codec=Script((pkg, 1)))
            pair.peer.write(b"x")
            pair.flush()
            self.assertEqual(self.heard.packages, [pkg])

    def refused(self, codec: Any, data: bytes = b"abcd", kind: type[Exception] = CodecError, **options: Any) -> str:
        pair = self.open(codec=codec, autoClose=True, **options)
        pair.peer.write(data)
        pair.flush()
        self.assertEqual(self.heard.names[-2:], ["error", "close"], f"{getattr(codec, 'asked', None)}")
        (error,) = self.heard.errors
        self.assertIsInstance(error, kind)
        if isinstance(error, CodecError):
            self.assertIs(error.session, pair.server)
        self.assertIsInstance(pair.peer.lost, ConnectionDone)
        self.assertEnded()
        return str(error)

    def test_impossibleAnswers(self) -> None:
        """They are CodecErrors that say what was answered, and never a loop."""
        for answer in ((b"p", 0), (b"p", -1), (b"p", 5), (None, -1), (None, 1), (None, 4)):
            text = self.refused(Script(answer))
            self.assertIn(str(answer[1]), text)
            self.assertIn("4", text)

    def test_noAnswers(self) -> None:
        """So is what is no answer at all."""
        for answer in (None, b"p", (b"p",), (b"p", None), (b"p", "4"), (None, None), (None, 4.5), (b"p", 1, 2)):
            self.refused(Script(answer))

    def test_refuses(self) -> None:
        """What ``read`` raises refuses the stream; packages before it are delivered."""
        self.refused(Script((b"1", 1), ZeroDivisionError("no")), kind=ZeroDivisionError)
        self.assertEqual(self.heard.packages, [b"1"])

    def test_maxMsgLen(self) -> None:
        """A longer package fails the session, complete or announced; one of just that length does not."""
        pair = self.open(maxMsgLen=100)
        pair.peer.write(frame(bytes(96)))
        pair.flush()
        self.assertEqual(len(self.heard.packages), 1)
        for codec in (LengthCodec(), Recorder()):
            for data in (frame(bytes(97)), frame(bytes(97))[:4], frame(bytes(5000))):
                text = self.refused(codec, data, MessageTooLongError, maxMsgLen=100)
                self.assertIn("maxMsgLen=100", text)
                self.assertEqual(self.heard.packages, [])

    def test_maxMsgLenWithoutHeader(self) -> None:
        """More than maxMsgLen unread bytes after ``(None, 0)`` fail the session; just as many do not."""
        pair = self.open(codec=Script(), maxMsgLen=100)
        pair.peer.write(bytes(100))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])
        pair.peer.write(b"x")
        pair.flush()
        self.assertIsInstance(self.heard.errors[0], MessageTooLongError)

    def test_maxMsgLenBehindPackages(self) -> None:
        """It counts the unread bytes alone, not what was delivered from the same read."""
        pair = self.open(codec=Script((b"p", 500)), maxMsgLen=600)
        pair.peer.write(bytes(1000))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_gathering(self) -> None:
        """A package of many reads costs two calls, and its bytes are joined once."""
        codec = Slices()
        pair = self.open(codec=codec, maxMsgLen=20_000_000, network={"split": [60_000, 100]})
        body = Random(1).randbytes(3_000_000)
        pair.peer.write(frame(body))
        pair.flush()
        self.assertEqual(codec.asked, [60_000, 3_000_004])
        self.assertEqual(bytes(self.heard.packages[0]), body)
        # The package is a slice of the joined bytes, not of a second copy.
        self.assertEqual(len(codec.views[-1].obj), 3_000_004)

    def test_announcedSize(self) -> None:
        """A header that announces much and nothing more costs nothing."""
        pair = self.open(maxMsgLen=1 << 30)
        pair.peer.write((1 << 29).to_bytes(4, "big") + b"x")
        pair.flush()
        inbound = pair.server.inbound
        self.assertEqual(inbound.unread, 5)
        self.assertEqual(sum(len(chunk) for chunk in inbound._chunks or ()), 5)
        self.assertEqual(self.heard.names, ["open"])

    def test_smallPieces(self) -> None:
        """Many small pieces of a package are not kept as an object each."""
        pair = self.open(codec=Recorder(), network={"split": [10]})
        pair.peer.write(frame(bytes(50_000))[:-1])
        pair.flush()
        self.assertLess(len(pair.server.inbound._chunks or ()), 10)

    def test_counts(self) -> None:
        """readBytes counts what came, readPkgs what was delivered; lastActive is when bytes came last."""
        pair = self.open()
        pair.advance(5)
        pair.peer.write(frame(b"abc") + b"\0")
        pair.flush()
        session = pair.server
        self.assertEqual((session.stats.readBytes, session.stats.readPkgs, session.lastActive), (8, 1, 5.0))

    def test_codecChanges(self) -> None:
        """A codec that is set in onMessage reads the very next bytes, batches or not."""

        class Upper(Script):
            def read(self, session: Any, data: memoryview) -> Any:
                return bytes(data).upper(), len(data)

        def onMessage(session: Any, pkg: bytes) -> None:
            if pkg == b"upgrade":
                session.codec = Upper()

        for codec in (LengthCodec(), Recorder()):
            pair = self.open({"message": onMessage}, codec=codec)
            pair.peer.write(frame(b"a") + frame(b"upgrade") + b"rest")
            pair.flush()
            self.assertEqual(self.heard.packages, [b"a", b"upgrade", b"REST"])

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(st.integers(0, 3000), max_size=30),
        st.lists(st.integers(1, 4000), min_size=1, max_size=10),
        st.sampled_from([LengthCodec, Recorder, Slices]),
        st.integers(0, 5),
    )
    def test_anySplit(self, sizes: list[int], split: list[int], codec: Any, pauses: int) -> None:
        """However the stream is cut and whenever the session is paused, the same packages come in the same order."""
        expected = [bytes([i % 256]) * size for i, size in enumerate(sizes)]

        def onMessage(session: Any, pkg: Any) -> None:
            if pauses and session.stats.readPkgs % pauses == 0:
                session.pauseReading()
                session.context.reactor.callLater(1, session.resumeReading)

        SessionCase.setUp(self)
        pair = self.open({"message": onMessage}, codec=codec(), network={"split": split})
        pair.peer.write(b"".join(map(frame, expected)))
        pair.advance(40)
        self.assertEqual([bytes(pkg) for pkg in self.heard.packages], expected)
        self.assertEqual(self.heard.errors, [])


class BatchTests(SessionCase):
    """readMany: the same packages, cheaper."""

    def test_subclassThatOverridesRead(self) -> None:
        """is read one package at a time."""

        class Shout(LengthCodec):
            def read(self, session: Any, data: memoryview) -> tuple[bytes | None, int]:
                pkg, length = super().read(session, data)
                return (pkg.upper() if pkg else pkg), length

        pair = self.open(codec=Shout())
        pair.peer.write(frame(b"a") + frame(b"b"))
        pair.flush()
        self.assertEqual(self.heard.packages, [b"A", b"B"])

    def test_stopsWithinABatch(self) -> None:
        """Pausing, closing and failing take effect from the very next package on."""

        def fail(session: Any, pkg: bytes) -> None:
            raise ZeroDivisionError

        def pause(session: Any, pkg: bytes) -> None:
            session.pauseReading()

        async def wait(session: Any, pkg: bytes) -> None:
            await Deferred()

        for stop in (fail, pause, wait, lambda session, pkg: session.close(), lambda session, pkg: session.abort()):
            pair = self.open({"message": stop})
            pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3"))
            pair.flush()
            self.assertEqual((self.heard.packages, pair.server.stats.readPkgs), ([b"1"], 1))
        self.flushLoggedErrors(ZeroDivisionError)

    def test_impossibleEnds(self) -> None:
        """Ends that cannot be are CodecErrors: past the bytes, not beyond the last one, or backwards."""

        class Many(Script):
            def __init__(self, *ends: int) -> None:
                super().__init__()
                self.ends = ends

            def read(self, session: Any, data: memoryview) -> Any:
                return super().read(session, data)

            def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
                self.asked.append(data)
                if len(self.asked) > 1000:
                    raise AssertionError("asked for ever")
                return [(b"p", end) for end in self.ends]

        for ends in ((5,), (2, 5), (0,), (2, 2), (2, 1), (-1,)):
            pair = self.open(codec=Many(*ends), autoClose=True)
            pair.peer.write(b"abcd")
            pair.flush()
            self.assertEqual([type(error) for error in self.heard.errors], [CodecError], f"{ends}")


class PauseTests(SessionCase):
    """pauseReading, resumeReading, and async callbacks."""

    def test_pause(self) -> None:
        """Nothing is delivered or read while paused; resuming delivers what is buffered first, then reads on."""
        pair = self.open({"message": lambda session, pkg: session.pauseReading()})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        received = pair.serverTransport.memory.received
        pair.peer.write(frame(b"3"))
        pair.flush()
        self.assertEqual((self.heard.packages, pair.serverTransport.memory.received), ([b"1"], received))
        pair.server.resumeReading()
        self.assertEqual(self.heard.packages, [b"1", b"2"])
        pair.server.resumeReading()
        pair.flush()
        self.assertEqual(self.heard.packages, [b"1", b"2", b"3"])

    def test_pauseTwice(self) -> None:
        """It is a state and not a count."""
        pair = self.open()
        pair.server.pauseReading()
        pair.server.pauseReading()
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.packages, [])
        pair.server.resumeReading()
        pair.server.resumeReading()
        pair.flush()
        self.assertEqual(self.heard.packages, [b"1"])

    def test_pauseAndResumeInOneCallback(self) -> None:
        """Nothing happened, then; and nothing nests."""
        pair = self.open({"message": lambda session, pkg: (session.pauseReading(), session.resumeReading())})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        pair.peer.write(frame(b"3"))
        pair.flush()
        self.assertEqual(self.heard.packages, [b"1", b"2", b"3"])

    def test_resumeDoesNotNest(self) -> None:
        """resumeReading() in a callback delivers after the callback has returned."""
        depth: list[int] = []
        running = [0]

        def onMessage(session: Any, pkg: bytes) -> None:
            running[0] += 1
            depth.append(running[0])
            session.pauseReading()
            session.resumeReading()
            running[0] -= 1

        pair = self.open({"message": onMessage}, transport=MemoryTransport)
        pair.peer.write(frame(b"x") * 3000)
        pair.flush()
        self.assertEqual(depth, [1] * 3000)

    def test_dataFromWithinACallback(self) -> None:
        """Bytes that a wrapper delivers from within a callback wait until it has returned, and come in their order."""
        depth = [0]

        def onMessage(session: Any, pkg: bytes) -> None:
            depth[0] += 1
            self.assertEqual(depth[0], 1)
            if pkg == b"1":
                self.pair.serverProtocol.dataReceived(frame(b"3"))
            depth[0] -= 1

        for head in (frame(b"1") + frame(b"2"), frame(b"0") + frame(b"1") + frame(b"2")[:-1]):
            pair = self.open({"message": onMessage})
            if head.endswith(frame(b"2")):
                pair.peer.write(head)
                pair.flush()
                self.assertEqual(self.heard.packages, [b"1", b"2", b"3"])

    def test_asyncKeepsALittle(self) -> None:
        """While an async callback runs the connection reads on, up to a limit."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate})
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.peer.write(frame(bytes(1000)) * 1000)
        pair.flush()
        self.assertGreater(pair.server.inbound.unread, LIMIT)
        self.assertLess(pair.server.inbound.unread, LIMIT + 65_537)
        gate.callback(None)
        pair.flush()
        self.assertEqual(len(self.heard.packages), 1001)

    def test_discardAfterClose(self) -> None:
        """A closing session keeps nothing of what still comes."""
        pair = self.open(codec=Recorder())
        pair.peer.write(frame(bytes(1000))[:-1])
        pair.flush()
        pair.server.close()
        pair.peer.write(bytes(200_000))
        pair.flush()
        self.assertEqual(pair.server.inbound.unread, 0)
        self.assertEqual(pair.serverTransport.memory.received, 201_003)
