"""Messages in lists: ``onMessages`` and ``writePkgs`` over WebSocket."""

from __future__ import annotations

import zlib
from typing import Any

from twisted.internet.defer import Deferred

from getty_tx.codecs import LineCodec, RawCodec
from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.testing import RecordingBatchListener, RecordingListener
from getty_tx.transports.websocket import inbound
from getty_tx.workers import WorkerPool
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase, closeFrame, frame, request
from tests.support.workers import steppedPool

EXTENSION = {"Sec_WebSocket_Extensions": "permessage-deflate"}


def echo(session: Any, packages: list[Any]) -> None:
    session.writePkgs(packages)


class OneLetterCodec(RawCodec):
    """Refuses longer messages, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def read(self, session: Any, data: memoryview) -> Any:
        self.asked.append(data.tobytes())
        if len(data) > 1:
            raise CodecError(f"{len(data)} letters", session)
        return super().read(session, data)


class ListCase(WebSocketCase):
    """A session whose listener takes lists."""

    def openLists(self, onMessages: Any = echo, codec: Any = None, **options: Any) -> Any:
        settings = {name: options.pop(name) for name in ("maxMsgLen",) if name in options}
        self.listener = RecordingBatchListener({"messages": onMessages})
        return self.open(newSession=configure(self.listener, codec or RawCodec(), **settings), **options)

    def sayAtOnce(self, *frames: bytes) -> None:
        self.say(b"".join(frames))

    @property
    def lists(self) -> list[list[Any]]:
        return [event[1] for event in self.listener.events if event[0] == "messages"]


class ReadingTests(ListCase):
    """What ``onMessages`` gets."""

    def test_oneRead(self) -> None:
        """All messages of a read are a list, whatever their form; what is incomplete is not in it."""
        pair = self.openLists()
        fragments = frame(2, b"c", fin=False), frame(0, b"d")
        self.sayAtOnce(frame(1, b"a"), frame(2, b"b"), *fragments, frame(2, bytes(200)), frame(2, b"e")[:3])
        self.assertEqual(self.lists, [["a", b"b", b"cd", bytes(200)]])
        self.assertEqual(pair.server.stats.readPkgs, 4)
        self.assertEqual(self.said(), [(0x81, b"a"), (0x82, b"b"), (0x82, b"cd"), (0x82, bytes(200))])
        self.sayAtOnce(frame(2, b"e")[3:], frame(2, b"f"))
        self.assertEqual(self.lists[1:], [[b"e", b"f"]])

    def test_alone(self) -> None:
        """A message that comes alone is given to ``onMessage``, in each form, where the listener has its own."""

        class Both(RecordingListener):
            def onMessages(self, session: Any, packages: list[Any]) -> None:
                self.events.append(("messages", packages))

        self.open()
        self.pair.server.listener = both = Both()
        self.say(frame(2, b"a"))
        self.sayAtOnce(frame(2, b"b", fin=False), frame(0, b"c"))
        self.sayAtOnce(frame(2, b"d"), frame(2, b"e", fin=False))
        self.assertEqual(both.events, [("message", b"a"), ("message", b"bc"), ("message", b"d")])

    def test_compressed(self) -> None:
        """Compressed messages are in lists as well, and so are plain ones among them."""
        deflate = zlib.compressobj(wbits=-12)
        squeezed = [(deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4] for data in (b"a" * 9, b"b" * 9)]
        self.openLists(headers=EXTENSION)
        self.sayAtOnce(frame(2, squeezed[0], rsv=4), frame(2, b"plain"), frame(1, squeezed[1], rsv=4))
        self.assertEqual(self.lists, [[b"a" * 9, b"plain", "b" * 9]])
        self.assertEqual([first for first, _ in self.said()], [0xC2, 0xC2, 0xC1])

    def test_inflated(self) -> None:
        """A list has no more than a limit of inflated bytes and one message, however short they came."""
        deflate = zlib.compressobj(wbits=-12)
        size = 30_000
        squeezed = [(deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(20)]
        self.openLists(headers=EXTENSION)
        self.sayAtOnce(*(frame(2, data, rsv=4) for data in squeezed))
        most = inbound.MOST_INFLATED // size + 1
        self.assertEqual([len(some) for some in self.lists], [most] * (20 // most) + [20 % most])

    def test_client(self) -> None:
        """A client's list; what it answers is masked, and leaves together."""
        self.openLists(isClient=True)
        self.pair.flush()
        self.sayAtOnce(frame(2, b"a", masked=False), frame(2, b"", masked=False), frame(1, b"b", masked=False))
        self.assertEqual(self.lists, [[b"a", b"", "b"]])
        self.assertEqual(self.said(), [(0x82, b"a"), (0x82, b""), (0x81, b"b")])


class OrderTests(ListCase):
    """Control frames and errors keep their places."""

    def test_ping(self) -> None:
        """A ping between messages ends a list, so that answers and pongs have their order."""
        self.openLists()
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(9, b"?"), frame(2, b"c"), frame(2, b"d"))
        self.assertEqual(self.lists, [[b"a", b"b"], [b"c", b"d"]])
        self.assertEqual(self.said(), [(0x82, b"a"), (0x82, b"b"), (0x8A, b"?"), (0x82, b"c"), (0x82, b"d")])

    def test_pausedBeforePing(self) -> None:
        """If the list pauses the session, the ping waits like a message."""
        self.openLists(lambda session, packages: session.pauseReading())
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(9, b"?"), frame(2, b"c"))
        self.assertEqual((self.lists, self.said()), ([[b"a", b"b"]], []))
        self.pair.server.resumeReading()
        self.pair.flush()
        self.assertEqual((self.lists[1:], self.said()), ([[b"c"]], [(0x8A, b"?")]))

    def test_closeFrame(self) -> None:
        """The list comes before the end, and what is behind the Close frame is in none."""
        self.openLists()
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), closeFrame(), frame(2, b"c"), frame(2, b"d"))
        self.assertEqual(self.lists, [[b"a", b"b"]])
        self.assertEqual(self.said(), [(0x82, b"a"), (0x82, b"b"), (0x88, b"\x03\xe8")])
        self.assertEqual(self.listener.names, ["open", "messages", "close"])
        self.assertEnded()

    def test_refused(self) -> None:
        """Messages before one that the codec refuses are delivered and answered."""
        self.openLists(codec=OneLetterCodec())
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(2, b"no"), frame(2, b"c"))
        self.assertEqual(self.listener.names, ["open", "messages", "error"])
        self.assertEqual(self.lists, [[b"a", b"b"]])
        self.assertEqual([first for first, _ in self.said()], [0x82, 0x82, 0x88])

    def test_refusedWhilePaused(self) -> None:
        """If they pause the session, it fails after it was resumed."""
        codec = OneLetterCodec()
        self.openLists(lambda session, packages: session.pauseReading(), codec)
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(2, b"no"))
        self.assertEqual((self.listener.names, self.said()), (["open", "messages"], []))
        self.pair.server.resumeReading()
        self.pair.flush()
        self.assertEqual(self.listener.names, ["open", "messages", "error"])
        self.assertEqual(codec.asked, [b"a", b"b", b"no", b"no"])

    def test_refusedFragments(self) -> None:
        """The same for a message that the engine has read; a pause does not hold its error."""
        for onMessages in (echo, lambda session, packages: session.pauseReading()):
            self.openLists(onMessages, OneLetterCodec())
            self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(2, b"n", fin=False), frame(0, b"o"))
            self.assertEqual(self.listener.names, ["open", "messages", "error"])
            self.assertEqual(self.lists, [[b"a", b"b"]])

    def test_violation(self) -> None:
        """Messages before a bad frame are delivered and answered before the Close frame."""
        for bad, code in ((frame(3), 1002), (frame(1, b"\xff"), 1007), (frame(2, bytes(99)), 1009)):
            self.openLists(maxMsgLen=50)
            self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), bad, frame(2, b"c"))
            self.assertEqual(self.lists, [[b"a", b"b"]])
            said = self.said()
            self.assertEqual(said[:2], [(0x82, b"a"), (0x82, b"b")])
            self.assertEqual((said[2][0], said[2][1][:2]), (0x88, code.to_bytes(2, "big")))
            self.assertIsInstance(self.listener.errors[0], MessageTooLongError if code == 1009 else CodecError)

    def test_closedBeforeViolation(self) -> None:
        """If their listener closes the session, the bad frame is not looked at."""
        for bad in (frame(3), frame(1, b"\xff"), frame(9, b"?"), frame(2, b"no"), frame(2, b"no", fin=False)):
            self.openLists(lambda session, packages: session.close("enough"), OneLetterCodec())
            self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), bad, frame(0, b"c"))
            self.assertEqual(self.said(), [(0x88, b"\x03\xe8enough")])
            self.say(closeFrame())
            self.assertEqual(self.listener.names, ["open", "messages", "close"])
            self.assertEnded()


class RuleTests(ListCase):
    """The rules of ``onMessage`` hold for a list as a whole."""

    def test_raises(self) -> None:
        """An exception fails the session with 1011."""

        def fail(session: Any, packages: list[Any]) -> None:
            raise ValueError("no")

        self.openLists(fail)
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(2, b"c"))
        self.assertEqual(self.said(), [(0x88, (1011).to_bytes(2, "big"))])
        self.assertEqual(self.listener.names, ["open", "messages", "error"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_async(self) -> None:
        """While an ``async def`` runs, what comes waits, and is one list then."""
        waiting: Deferred[None] = Deferred()
        self.openLists(lambda session, packages: waiting)
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"))
        self.say(frame(2, b"c"), frame(2, b"d"))
        self.assertEqual(self.lists, [[b"a", b"b"]])
        waiting.callback(None)
        self.assertEqual(self.lists, [[b"a", b"b"], [b"c", b"d"]])

    def test_otherListener(self) -> None:
        """From one sort of listener to the other and back; the codec stays as it is."""
        codec = OneLetterCodec()
        self.openLists(lambda session, packages: setattr(session, "listener", plain), codec)
        plain = RecordingListener({"message": lambda session, pkg: setattr(session, "listener", self.listener)})
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), frame(9), frame(2, b"c"), frame(2, b"d"))
        self.assertEqual((self.lists, plain.packages), ([[b"a", b"b"], [b"d"]], [b"c"]))
        self.pair.server.listener = self.listener
        self.sayAtOnce(frame(2, b"e"), frame(2, b"f"))
        self.assertEqual(self.lists[2:], [[b"e", b"f"]])
        self.assertIs(self.pair.server.decoder, codec)

    def test_workers(self) -> None:
        """A list is one message for a worker, and the peer's Close frame behind it does not drop it."""
        workers = WorkerPool.keyed(1)
        self.listener = RecordingBatchListener()
        self.connect(newSession=configure(self.listener, RawCodec()), factory={"workers": workers})
        threads = steppedPool(self, workers, self.network.clock)
        self.say(request())
        self.sayAtOnce(frame(2, b"a"), frame(2, b"b"), closeFrame())
        self.assertEqual(self.lists, [])
        while threads.step():
            self.network.clock.pump([0])
        self.assertEqual(self.lists, [[b"a", b"b"]])


class WritingTests(ListCase):
    """``writePkgs``."""

    def test_together(self) -> None:
        """Frames of all sizes leave with one send; one that is not encoded keeps all back."""
        for options in ({}, {"headers": EXTENSION}, {"isClient": True}):
            pair = self.openLists(**options)
            session: Any = pair.client if "isClient" in options else pair.server
            sent = session.outbound.sink.sent
            before = len(sent)
            packages = [b"", b"a" * 125, "b" * 126, bytearray(b"c")]
            self.assertEqual(session.writePkgs(packages), 252)
            self.assertEqual(len(sent), before + 1)
            self.assertEqual(session.stats.writePkgs, 4)
            self.pair.flush()
            self.assertEqual(len(self.said()), 4)
            self.assertEqual(session.writePkgs([]), 0)
            self.assertRaises(CodecError, session.writePkgs, [b"a", 5])
            self.assertEqual(len(sent), before + 1)

    def test_large(self) -> None:
        """Messages with a length of eight bytes, and bytes counted with their headers."""
        session = self.openLists().server
        before = session.stats.writeBytes
        self.assertEqual(session.writePkgs([bytes(65535), bytes(65536), b"x"]), 131072)
        self.assertEqual(session.stats.writeBytes - before, 131072 + 4 + 10 + 2)
        self.pair.flush()
        self.assertEqual([len(payload) for _, payload in self.said()], [65535, 65536, 1])

    def test_lists(self) -> None:
        """A codec may answer a list of pieces."""

        class Pieces(LineCodec):
            def write(self, session: Any, pkg: Any) -> Any:
                return [pkg, b"!"]

        session = self.openLists(codec=Pieces()).server
        self.assertEqual(session.writePkgs([b"a", b"b"]), 4)
        self.pair.flush()
        self.assertEqual(self.said(), [(0x82, b"a!"), (0x82, b"b!")])
