"""RateLimit: peers that send too much wait, or are closed."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import EventListener, RateLimit, Server, WorkerPool
from getty_tx.codecs import LineCodec, RawCodec
from getty_tx.errors import SettingError
from getty_tx.session.ratelimit import TokenBucket
from getty_tx.testing import RecordingBatchListener, RecordingListener, connectedPeer
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase, frame


class BucketTests(SynchronousTestCase):
    def test_take(self) -> None:
        """So much at once, then as it comes; a clock that is set back gives nothing."""
        now = [0.0]
        bucket = TokenBucket(2, 3, lambda: now[0])
        self.assertEqual([bucket.take() for _ in range(4)], [True, True, True, False])
        now[0] = 0.5
        self.assertEqual((bucket.take(), bucket.take()), (True, False))
        self.assertEqual((bucket.until(1), bucket.spend(3), bucket.until(1)), (0.5, -3, 2))
        now[0] = -100
        self.assertFalse(bucket.take())
        now[0] = 100
        self.assertEqual((bucket.take(3), bucket.take()), (True, False))


class LimitTests(SynchronousTestCase):
    def connect(self, listener: Any, **limits: Any) -> Any:
        """A session with limits, and its peer."""
        self.heard = listener
        return connectedPeer(configure(RateLimit(listener, **limits), LineCodec()))

    def count(self) -> int:
        """Packages that were delivered."""
        return len(self.heard.packages)

    def test_messages(self) -> None:
        """The burst at once, then so many in a second; nothing is lost, and the order is kept."""
        pair = self.connect(RecordingListener(), messages=10, burst=2)
        pair.peer.write(b"".join(b"%d\n" % n for n in range(50)))
        pair.flush()
        self.assertEqual(self.count(), 20)
        pair.advance(1.05)
        self.assertIn(self.count(), (29, 30, 31))
        pair.advance(3)
        self.assertEqual(self.heard.packages, [b"%d" % n for n in range(50)])
        self.assertIs(pair.server.listener, self.heard)

    def test_bytes(self) -> None:
        pair = self.connect(RecordingListener(), bytes=1000, burst=1)
        for _ in range(5):
            pair.peer.write(bytes(999) + b"\n")
            pair.flush()
        self.assertIn(self.count(), (1, 2))
        pair.advance(2)
        self.assertIn(self.count(), (3, 4))
        pair.advance(3)
        self.assertEqual(self.count(), 5)

    def test_each(self) -> None:
        """Each session has the limits for itself."""
        limit = RateLimit(RecordingListener(), messages=1, burst=1)
        pairs = [connectedPeer(configure(limit, LineCodec())) for _ in range(2)]
        for pair in pairs:
            pair.peer.write(b"a\nb\n")
            pair.flush()
        self.assertEqual(limit.listener.packages, [b"a", b"a"])

    def test_lists(self) -> None:
        """A listener that takes lists gets them; what came at once is paid for afterwards."""
        pair = self.connect(RecordingBatchListener(), messages=10, burst=1)
        pair.peer.write(b"a\n" * 30)
        pair.flush()
        self.assertEqual(self.count(), 30)
        pair.peer.write(b"b\n")
        pair.advance(1.9)
        self.assertEqual(self.count(), 30)
        pair.advance(0.5)
        self.assertEqual(self.count(), 31)

    def test_ownPause(self) -> None:
        """What the application has paused stays paused."""
        pair = self.connect(RecordingListener(), messages=1, burst=1)
        pair.peer.write(b"a\nb\n")
        pair.flush()
        pair.server.pauseReading()
        pair.advance(5)
        self.assertEqual(self.count(), 1)
        pair.server.resumeReading()
        pair.flush()
        self.assertEqual(self.count(), 2)

    def test_closes(self) -> None:
        """The message that is too many is not delivered."""
        pair = self.connect(RecordingListener(), messages=2, burst=1, closes=True)
        pair.peer.write(b"a\n" * 5)
        pair.flush()
        self.assertEqual((self.count(), pair.server.isClosed), (2, True))

    def test_closedWhilePaused(self) -> None:
        """No timer is left."""
        pair = self.connect(RecordingListener(), messages=1, burst=1)
        pair.peer.write(b"a\nb\n")
        pair.flush()
        context = pair.server.context
        pair.server.abort()
        pair.flush()
        self.assertEqual((self.heard.names[-1], len(context.wheel)), ("close", 0))

    def test_wrong(self) -> None:
        for listener, limits in (
            (EventListener, {"messages": 1}),
            (object(), {"messages": 1}),
            (EventListener(), {}),
            (EventListener(), {"messages": 0}),
            (EventListener(), {"bytes": True}),
            (EventListener(), {"bytes": 1, "burst": 0}),
            (EventListener(), {"bytes": 1, "closes": 1}),
        ):
            self.assertRaises(SettingError, RateLimit, listener, **limits)


class WebSocketTests(WebSocketCase):
    def test_closes(self) -> None:
        """The Close frame says why."""
        self.open(newSession=configure(RateLimit(RecordingListener(), messages=1, burst=1, closes=True), RawCodec()))
        self.say(frame(1, b"a"), frame(1, b"b"))
        self.assertEqual(self.said(), [(0x88, b"\x03\xf0too many messages")])


class WorkerTests(TestCase):
    async def test_workers(self) -> None:
        """The listener's calls are in threads; nothing is lost, and the order is kept."""
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
        from twisted.internet.protocol import Protocol

        done: Deferred[None] = Deferred()
        there: Any = reactor
        heard = []

        def onMessage(session: Any, pkg: Any) -> None:
            heard.append(pkg)
            if len(heard) == 30:
                there.callFromThread(done.callback, None)

        limit = RateLimit(RecordingListener({"message": onMessage}), messages=200, burst=0.05)
        server = Server(configure(limit, LineCodec()), "tcp:0:interface=127.0.0.1", workers=WorkerPool.parse("2"))
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        client = Protocol()
        await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", address.port), client)  # type: ignore[attr-defined]
        transport: Any = client.transport
        transport.write(b"".join(b"%d\n" % n for n in range(30)))
        await done
        self.assertEqual(heard, [b"%d" % n for n in range(30)])
        transport.abortConnection()
