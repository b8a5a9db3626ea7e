"""Listeners that take packages in lists, and ``writePkgs``."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LengthCodec, LineCodec
from getty_tx.codecs.common import BATCH
from getty_tx.errors import CodecError, NoPeerAddressError, SessionBlockedError, SessionClosedError, SettingError
from getty_tx.listener import EventListener
from getty_tx.session.batches import EachReader
from getty_tx.session.pausing import TLS
from getty_tx.status.handlertimes import TimedListener
from getty_tx.testing import (
    MemoryTransport,
    RecordingBatchListener,
    RecordingListener,
    connectedPeer,
    connectedSessions,
)
from getty_tx.transports.udp.context import UDPContext
from getty_tx.workers import WorkerPool
from tests.session.test_inbound import Recorder, Script
from tests.support.datagrams import PEER, DatagramCase
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase
from tests.support.websocket import frame as frameOfMessage
from tests.support.workers import SteppedCase


class OnlyLists:
    """A listener without ``onMessage``."""

    def __init__(self, call: Any = None) -> None:
        self.lists: list[list[Any]] = []
        self.call = call

    def onMessages(self, session: Any, packages: list[Any]) -> Any:
        self.lists.append(packages)
        return None if self.call is None else self.call(session, packages)

    def nothing(self, session: Any, error: Any = None) -> None:
        pass

    onOpen = onError = onClose = onCron = nothing


class Lists(EventListener):
    """Has ``onMessages``, and the ``onMessage`` that does nothing."""

    def __init__(self) -> None:
        self.lists: list[list[Any]] = []

    def onMessages(self, session: Any, packages: list[Any]) -> None:
        self.lists.append(packages)


class Both(Lists):
    """Has both."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        self.lists.append(pkg)


class BatchCase(SessionCase):
    """A session whose listener takes lists."""

    def openLists(self, on: Any = None, **options: Any) -> Any:
        self.heard = RecordingBatchListener(on)
        codec = options.pop("codec", None)
        pair = self.open(newSession=configure(self._listener(on), codec, **options.pop("settings", {})), **options)
        self.heard = self.listener
        return pair

    def _listener(self, on: Any) -> Any:
        self.listener = RecordingBatchListener(on)
        return self.listener

    def say(self, *packages: bytes, rest: bytes = b"") -> None:
        self.pair.peer.write(b"".join(map(frame, packages)) + rest)
        self.pair.flush()

    @property
    def lists(self) -> list[list[Any]]:
        return [event[1] for event in self.listener.events if event[0] == "messages"]


class ReadingTests(BatchCase):
    """What ``onMessages`` gets."""

    def test_oneRead(self) -> None:
        """All packages of one read in one call, however many, and the rest later."""
        for codec in (LengthCodec(), Recorder()):
            self.openLists(codec=codec)
            many = [b"%d" % i for i in range(3 * len(BATCH) + 1)]
            self.say(*many, rest=frame(b"later")[:6])
            self.assertEqual(self.lists, [many])
            self.pair.peer.write(frame(b"later")[6:] + frame(b"two"))
            self.pair.flush()
            self.assertEqual(self.lists, [many, [b"later", b"two"]])
            self.say(b"alone")
            self.assertEqual(self.lists[2:], [[b"alone"]])
            self.assertEqual(self.pair.server.stats.readPkgs, len(many) + 3)
            self.assertIs(self.pair.server.codec, codec)
            self.assertIs(self.pair.server.listener, self.listener)

    def test_askedOnce(self) -> None:
        """A codec without readMany is asked once about each package and about the rest."""
        codec = Recorder()
        self.openLists(codec=codec)
        self.say(b"a", b"b", rest=b"\0\0\0\x09")
        self.assertEqual(codec.asked, [14, 9, 4])
        self.pair.peer.write(bytes(8))
        self.pair.flush()
        self.assertEqual(codec.asked, [14, 9, 4])
        self.pair.peer.write(bytes(1))
        self.pair.flush()
        self.assertEqual(codec.asked, [14, 9, 4, 13])
        self.assertEqual(self.lists, [[b"a", b"b"], [bytes(9)]])

    def test_views(self) -> None:
        """A view ends a batch of readMany, and not the list."""
        self.openLists(codec=LengthCodec(views=100))
        self.say(bytes(200), b"b", bytes(300))
        self.assertEqual([list(map(len, each)) for each in self.lists], [[200, 1, 300]])

    def test_alone(self) -> None:
        """An ``onMessage`` of its own gets what comes alone; else it is a list of one."""
        for listener, one in ((OnlyLists(), [b"1"]), (Lists(), [b"1"]), (Both(), b"1")):
            self.open(newSession=configure(listener))
            self.say(b"1")
            self.say(b"2", b"3")
            self.assertEqual(listener.lists, [one, [b"2", b"3"]])
            self.assertIs(self.pair.server.listener, listener)

    def test_badBehind(self) -> None:
        """The packages before invalid bytes come first, in a list."""
        for bad in (Exception("refused"), (b"x", 0), (b"x", 99), "nonsense", (None, 1)):
            self.openLists(codec=Script((b"a", 1), (b"b", 1), bad))
            self.pair.peer.write(b"12345")
            self.pair.flush()
            self.assertEqual(self.lists, [[b"a", b"b"]])
            self.assertEqual(self.listener.names[:3], ["open", "messages", "error"])

    def test_tooLong(self) -> None:
        """The same for a package above maxMsgLen."""
        for codec in (LengthCodec(), Recorder()):
            self.openLists(codec=codec, settings={"maxMsgLen": 20})
            self.say(b"a", b"b", bytes(30))
            self.assertEqual(self.lists, [[b"a", b"b"]])
            self.assertIn("maxMsgLen=20", str(self.listener.errors[0]))

    def test_wrongEnds(self) -> None:
        """Ends of readMany that cannot be are refused."""

        class Wrong(LengthCodec):
            def read(self, session: Any, data: memoryview) -> Any:
                raise AssertionError("not asked")

            def readMany(self, session: Any, data: bytes, at: int, limit: int) -> Any:
                return [(b"a", 5), (b"b", self.end)]

        for end in (0, 3, 1000):
            codec = Wrong()
            codec.end = end  # type: ignore[attr-defined]
            self.openLists(codec=codec)
            self.say(b"a", b"b")
            self.assertIsInstance(self.listener.errors[0], CodecError)
            self.assertEqual(self.lists, [])

    @settings(deadline=None, max_examples=examples(60))
    @given(st.lists(st.binary(max_size=30), max_size=90), st.lists(st.integers(1, 300), min_size=1), st.booleans())
    def test_anySplit(self, packages: list[bytes], split: list[int], single: bool) -> None:
        """However the stream is cut, the packages are the same, and no list is empty."""
        listener = RecordingBatchListener()
        pair = connectedPeer(configure(listener, Recorder() if single else LengthCodec()), split=split)
        pair.peer.write(b"".join(map(frame, packages)))
        pair.flush()
        self.assertEqual(listener.packages, packages)
        self.assertTrue(all(event[1] for event in listener.events if event[0] == "messages"))


class RuleTests(BatchCase):
    """The rules of ``onMessage`` hold for a list as a whole."""

    def test_raises(self) -> None:
        """An exception fails the session."""
        error = ValueError("no")

        def fail(session: Any, packages: list[Any]) -> None:
            raise error

        self.openLists({"messages": fail}, autoClose=True)
        self.say(b"a", b"b")
        self.assertEqual(self.listener.names, ["open", "messages", "error", "close"])
        self.assertEqual(self.flushLoggedErrors(ValueError)[0].value, error)
        self.assertEnded()

    def test_pause(self) -> None:
        """After pauseReading the next list waits, with all that came meanwhile."""
        self.openLists({"messages": lambda session, packages: session.pauseReading()})
        self.say(b"a", b"b", rest=frame(b"c")[:4])
        self.say(rest=b"c" + frame(b"d"))
        self.say(b"e")
        self.assertEqual(self.lists, [[b"a", b"b"]])
        self.pair.server.resumeReading()
        self.pair.flush()
        self.assertEqual(self.lists, [[b"a", b"b"], [b"c", b"d", b"e"]])

    def test_async(self) -> None:
        """While an ``async def`` runs, what comes waits, and is one list then."""
        waiting: Deferred[None] = Deferred()
        self.openLists({"messages": lambda session, packages: waiting})
        self.say(b"a", b"b")
        self.say(b"c")
        self.say(b"d")
        self.assertEqual(self.lists, [[b"a", b"b"]])
        waiting.callback(None)
        self.assertEqual(self.lists, [[b"a", b"b"], [b"c", b"d"]])

    def test_close(self) -> None:
        """After close no list comes."""
        self.openLists({"messages": lambda session, packages: session.close()}, autoClose=True)
        self.say(b"a", b"b", rest=b"\0")
        self.say(b"c", b"d")
        self.assertEqual(self.listener.names, ["open", "messages", "close"])
        self.assertEnded()

    def test_newCodec(self) -> None:
        """The next list is read with the new codec."""

        def change(session: Any, packages: list[Any]) -> None:
            session.codec = LineCodec()

        self.openLists({"messages": change})
        self.say(b"a", b"b", rest=b"\xff\xff")
        self.pair.peer.write(b"\nc\nd\n")
        self.pair.flush()
        self.assertEqual(self.lists, [[b"a", b"b"], [b"\xff\xff", b"c", b"d"]])

    def test_newListener(self) -> None:
        """From one sort of listener to the other and back, between packages of one read."""
        plain = RecordingListener({"message": lambda session, pkg: setattr(session, "listener", self.listener)})
        codec = Recorder()
        self.openLists(codec=codec)
        self.pair.server.listener = plain
        self.assertIs(self.pair.server.decoder, codec)
        self.say(b"a", b"b", b"c")
        self.assertIsInstance(self.pair.server.decoder, EachReader)
        self.assertEqual(plain.packages, [b"a"])
        self.assertEqual(self.lists, [[b"b", b"c"]])
        self.assertIs(self.pair.server.reader, codec)

    def test_startTLS(self) -> None:
        """TLS is refused while a list of several is with the listener; alone it is not, nor afterwards."""
        refused: list[bool] = []
        waiting: list[Deferred[None]] = []

        def start(session: Any) -> None:
            try:
                session.inbound.startTLS()
            except CodecError:
                refused.append(True)
            else:
                refused.append(False)
                # There is no delivery that ends it.
                session.inbound.paused &= ~TLS

        def onMessages(session: Any, packages: list[Any]) -> Any:
            start(session)
            if packages[0] == b"wait":
                waiting.append(Deferred())
                return waiting[0].addCallback(lambda _: start(session))
            return None

        self.openLists({"messages": onMessages, "cron": start}, settings={"cronPeriod": 1.0})
        self.say(b"one")
        self.say(b"one", b"two")
        self.pair.advance(1.2)
        self.assertEqual(refused, [False, True, False])
        self.say(b"wait", b"two")
        start(self.pair.server)
        waiting[0].callback(None)
        start(self.pair.server)
        self.assertEqual(refused[3:], [True, True, True, False])

    def test_compressed(self) -> None:
        """Over a compressed stream, too."""
        listener = RecordingBatchListener()
        pair = connectedSessions(configure(listener, compression="deflate"), configure(compression="deflate"))
        pair.client.writePkgs([b"a", b"b", b"c"])
        pair.flush()
        self.assertEqual(listener.events[1:], [("messages", [b"a", b"b", b"c"])])

    def test_wrapped(self) -> None:
        """A measured listener gets lists, which count once."""
        self.openLists()
        times: list[float] = []
        timed = TimedListener.put(self.pair.server, times.append)
        self.say(b"a", b"b")
        self.say(b"c")
        timed.take(self.pair.server)
        self.say(b"d", b"e")
        self.assertEqual(self.lists, [[b"a", b"b"], [b"c"], [b"d", b"e"]])
        self.assertEqual(len(times), 2)


class WritingTests(BatchCase):
    """``writePkgs``."""

    def test_same(self) -> None:
        """The bytes, counters and order are those of ``writePkg``."""
        packages = [b"a", b"b" * 915, bytearray(b"c"), memoryview(b"d"), b"e" * 50_000, b""]
        for codec in (LengthCodec(), LengthCodec(includes="frame"), LineCodec(), Recorder()):
            self.open(codec=codec)
            session = self.pair.server
            one = [codec.write(session, pkg) for pkg in packages]
            whole = b"".join(data if isinstance(data, bytes) else b"".join(data) for data in one)
            for some in (packages, packages[:1], []):
                packagesBefore, bytesBefore = session.pkgsWritten, session.bytesWritten
                count = session.writePkgs(some)
                self.pair.flush()
                self.assertEqual(session.pkgsWritten - packagesBefore, len(some))
                self.assertEqual(session.bytesWritten - bytesBefore, count)
            self.assertTrue(bytes(self.pair.peer.data).startswith(whole))

    def test_together(self) -> None:
        """They leave in one piece."""
        sent: list[int] = []

        class Counting(MemoryTransport):
            def write(self, data: bytes) -> None:
                sent.append(len(data))
                super().write(data)

        self.open(transport=Counting)
        self.pair.server.writePkgs([b"a", b"bc"])
        self.assertEqual(sent, [11])

    def test_noneIsSent(self) -> None:
        """If one cannot be encoded, none is sent, and the session lives."""
        for codec in (LengthCodec(size=1), LineCodec(), Recorder()):
            self.open(codec=codec)
            for bad in ("text", 5) if isinstance(codec, Recorder) else ("text", b"\n" * 300):
                self.assertRaises(CodecError, self.pair.server.writePkgs, [b"a", bad, b"b"])
            self.pair.flush()
            self.assertEqual((bytes(self.pair.peer.data), self.pair.server.stats.writePkgs), (b"", 0))

    def test_refused(self) -> None:
        """Closed, blocked, and a time-out that is none."""
        self.open(network={"capacity": 10}, maxPending=100)
        session = self.pair.server
        self.assertRaises(SettingError, session.writePkgs, [b"a", b"b"], -1)
        session.writePkgs([bytes(100), bytes(100)])
        self.assertRaises(SessionBlockedError, session.writePkgs, [b"a", b"b"])
        session.abort()
        self.assertRaises(SessionClosedError, session.writePkgs, [b"a", b"b"])

    def test_timeout(self) -> None:
        """With a timeout they have to be out by then."""
        self.open(network={"capacity": 10}, writeTimeout=None)
        self.pair.peer.transport.pauseProducing()
        self.pair.server.writePkgs([bytes(100_000), b"b"], timeout=1.0)
        self.pair.advance(1.5)
        self.assertEqual(self.heard.names[:2], ["open", "error"])


class WorkerTests(SteppedCase):
    """Lists and workers."""

    def start(self, workers: WorkerPool) -> Any:
        self.join(workers, {})
        self.listener = listener = RecordingBatchListener({"messages": lambda session, some: session.writePkgs(some)})
        self.factory.context.newSession = configure(listener)
        self.pair = self.another()
        self.session = self.pair.server
        return listener

    def lists(self) -> list[Any]:
        return [event[1] for event in self.listener.events if event[0] == "messages"]

    def test_models(self) -> None:
        """A list is one message for a worker."""
        for workers in (WorkerPool.keyed(2), WorkerPool.shared(1), WorkerPool.sharded(1, 1), WorkerPool.unbounded()):
            self.start(workers)
            self.send(b"a", b"b", b"c")
            self.assertEqual(self.lists(), [])
            self.finish()
            self.send(b"d")
            self.finish()
            self.assertEqual(self.lists(), [[b"a", b"b", b"c"], [b"d"]])
            self.assertEqual({type(each) for each in self.lists()}, {list})
            self.assertEqual(self.answers(), b"".join(map(frame, [b"a", b"b", b"c", b"d"])))
            self.assertIs(self.session.listener, self.listener)

    def test_ownKey(self) -> None:
        """With a key the packages of each key are a list, in order."""
        self.start(WorkerPool.keyed(1, key=lambda session, pkg: pkg[:1]))
        self.send(b"a1", b"b1", b"a2", b"c1", b"b2")
        self.finish()
        self.assertEqual(sorted(self.lists()), [[b"a1", b"a2"], [b"b1", b"b2"], [b"c1"]])

    def test_otherSort(self) -> None:
        """A listener of the other sort is refused, as packages may wait in the form of the first."""
        self.start(WorkerPool.keyed(1))
        error = self.assertRaises(SettingError, setattr, self.session, "listener", RecordingListener())
        self.assertIn("has no onMessages", str(error))
        other = self.listener = RecordingBatchListener()
        self.session.listener = other
        self.send(b"a", b"b")
        self.finish()
        self.assertEqual(self.lists(), [[b"a", b"b"]])

    def test_async(self) -> None:
        """An ``async def onMessages`` stays on the reactor's thread."""

        class Async(OnlyLists):
            async def onMessages(self, session: Any, packages: list[Any]) -> None:
                self.lists.append(packages)

        self.join(WorkerPool.keyed(1), {})
        listener = Async()
        self.factory.context.newSession = configure(listener)
        self.pair = self.another()
        self.send(b"a", b"b")
        self.assertEqual((listener.lists, self.threads.threads), ([[b"a", b"b"]], []))


class DatagramTests(DatagramCase):
    """UDP: each package is alone."""

    def test_both(self) -> None:
        """A list of one, and several datagrams by ``writePkgs``."""
        listener = OnlyLists(lambda session, packages: session.writePkgs([*packages, UDPContext(b"more", PEER)]))
        self.open(newSession=configure(listener, LineCodec()))
        self.receive(b"a\n")
        self.receive(b"b\nc\n")
        self.assertEqual(listener.lists, [[UDPContext(b"a", PEER)]])
        self.assertEqual(self.sent, [(b"a\n", PEER), (b"more\n", PEER)])
        session = self.protocol.session
        self.assertRaises(NoPeerAddressError, session.writePkgs, [UDPContext(b"x", PEER), b"y"])
        self.assertRaises(SettingError, session.writePkgs, [], -1)
        self.assertEqual((len(self.sent), session.stats.writePkgs), (2, 2))
        self.finish()


class MessageTests(WebSocketCase):
    """WebSocket; see also tests.transports.websocket.test_lists."""

    def test_both(self) -> None:
        """A list of the messages of one read, and several messages by ``writePkgs``, which leave together."""
        self.open()
        session = self.pair.server
        session.listener = listener = OnlyLists(lambda session, packages: session.writePkgs([*packages, "more"]))
        self.say(frameOfMessage(1, b"a") + frameOfMessage(2, b"b"))
        self.assertEqual(listener.lists, [["a", b"b"]])
        self.assertEqual(self.said(), [(0x81, b"a"), (0x82, b"b"), (0x81, b"more")])
        count = session.writePkgs(["c", b"d"])
        self.assertFalse(session.outbound.corked)
        self.pair.flush()
        self.assertEqual((count, self.said()), (2, [(0x81, b"c"), (0x82, b"d")]))
        self.assertRaises(CodecError, session.writePkgs, ["e", 5])
        self.pair.flush()
        self.assertEqual(self.said(), [])


class ListenerTests(SynchronousTestCase):
    """What is a listener that takes lists."""

    def test_interface(self) -> None:
        """One without ``onMessage`` is complete; one without both is not."""
        listener = OnlyLists()
        connectedPeer(configure(listener))
        self.assertRaises(SettingError, setattr, connectedPeer(configure()).server, "listener", LengthCodec())
