"""Worker pools: their models, own tasks, back-pressure, what a handler may do, starting and stopping."""

from __future__ import annotations

import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import EventListener, Server, WorkerPool
from getty_tx.errors import SessionRefusedError, SettingError
from getty_tx.testing import DirectTransport, MemoryReactor, Network, Peer, RecordingListener
from tests.support.memory import configure, frame
from tests.support.workers import SteppedCase, echo, gate, steppedPool


class MakingTests(SynchronousTestCase):
    """Making a pool."""

    def test_parse(self) -> None:
        """Each model has its text; a bare number is a keyed pool."""
        for text, shown, size in [
            ("8", "keyed:8", 8),
            ("keyed:3", "keyed:3", 3),
            ("shared:2", "shared:2", 2),
            ("sharded:16:4", "sharded:16:4", 16),
        ]:
            pool = WorkerPool.parse(text)
            self.assertEqual((repr(pool), pool.size), (f"<WorkerPool {shown}>", size))
        self.assertGreaterEqual(WorkerPool.parse("unbounded").size, 100)

    def test_wrongTexts(self) -> None:
        """Errors name the value and the valid forms."""
        for text in ("", "0", "keyed", "keyed:", "keyed:x", "keyed:1:2", "sharded:4", "shared:-1", "m", "unbounded:3"):
            error = self.assertRaises(SettingError, WorkerPool.parse, text)
            self.assertTrue("workers" in str(error) or "size=0" in str(error), str(error))
        self.assertIn("sharded:16:4", str(self.assertRaises(SettingError, WorkerPool.parse, "many")))

    def test_wrongSettings(self) -> None:
        """Numbers below 1, more queues than workers, a key that is not callable."""
        for make in (
            lambda: WorkerPool.keyed(0),
            lambda: WorkerPool.shared(True),
            lambda: WorkerPool.keyed(1, queueLength=0),
            lambda: WorkerPool.sharded(2, 3),
            lambda: WorkerPool.sharded(2, 0),
            lambda: WorkerPool.keyed(2, "peer"),  # type: ignore[arg-type]
            lambda: Server(lambda session: None, "tcp:0", workers=0),
            lambda: Server(lambda session: None, "tcp:0", workers=2.5),  # type: ignore[arg-type]
        ):
            self.assertRaises(SettingError, make)

    def test_notRunning(self) -> None:
        """A factory whose pool is not started refuses the connection, instead of waiting forever."""
        net = Network(transport=DirectTransport)
        refused: list[BaseException] = []
        factory = net.serverFactory(configure(RecordingListener()), workers=WorkerPool.keyed(1))
        factory.connectionFailed = lambda connection, error: refused.append(error)  # type: ignore[method-assign]
        net.join(factory.buildProtocol(None), Peer(False)).flush()
        self.assertEqual([type(error) for error in refused], [SessionRefusedError])
        self.assertIn("pool.start(reactor)", str(refused[0]))

    def test_otherReactor(self) -> None:
        """A pool works for one reactor only."""
        pool = WorkerPool.keyed(1)
        one, other = MemoryReactor(), MemoryReactor()
        steppedPool(self, pool, one)
        self.assertRaises(SettingError, pool.start, other)
        pool.stop()


class MessageTests(SteppedCase):
    """Messages through a keyed pool."""

    def test_oneThreadForABatch(self) -> None:
        """All messages of an iteration take one deferToThreadPool, and all replies one wake-up and one send."""
        self.join(WorkerPool.keyed(4), {"message": echo})
        self.send(b"1", b"2", b"3")
        self.assertEqual(self.threads.started, 1)
        before = self.net.clock.wakeUps
        self.finish()
        self.assertEqual(self.net.clock.wakeUps - before, 1)
        self.assertEqual(self.answers(), frame(b"1") + frame(b"2") + frame(b"3"))
        self.assertEqual(self.session.stats.writePkgs, 3)

    def test_another(self) -> None:
        """A handler that blocks occupies its thread; the reactor's poll starts another thread."""

        def handle(session: Any, pkg: bytes) -> None:
            if pkg == b"block":
                gate()
            session.writePkg(pkg)

        self.join(WorkerPool.keyed(2), {"message": handle})
        other = self.another()
        self.send(b"block", b"after")
        self.threads.step()
        other.peer.write(frame(b"quick"))
        self.net.clock.advance(0.01)
        other.flush()
        self.assertEqual(len(self.threads.threads), 2)
        self.threads.step(1)
        other.flush()
        self.assertEqual(bytes(other.peer.data), frame(b"quick"))
        self.assertEqual(self.answers(), b"")
        self.finish()
        self.assertEqual(self.answers(), frame(b"block") + frame(b"after"))

    def test_writesBeforeBlocking(self) -> None:
        """Bytes that a handler writes before it blocks are sent at the reactor's next poll."""

        def handle(session: Any, pkg: bytes) -> None:
            session.writePkg(b"first")
            gate()
            session.writePkg(b"second")
            gate()

        self.join(WorkerPool.keyed(1), {"message": handle})
        self.send(b"")
        self.threads.step()
        self.net.clock.advance(0.01)
        self.assertEqual(self.answers(), frame(b"first"))
        self.threads.step()
        self.assertEqual(self.answers(), frame(b"first") + frame(b"second"))
        self.finish()

    def test_backPressure(self) -> None:
        """A full queue pauses reading; no message is lost or duplicated."""
        self.join(WorkerPool.keyed(1, queueLength=4), {"message": echo})
        packages = [b"%d" % i for i in range(50)]
        self.send(*packages)
        self.assertLessEqual(len(self.session.work.items), 4)
        self.assertTrue(self.session.inbound.paused)
        self.finish()
        self.assertEqual(self.answers(), b"".join(map(frame, packages)))
        self.assertFalse(self.session.inbound.paused)

    def test_pressureHolds(self) -> None:
        """Above highWater, or while the session is paused, queued messages wait."""
        reply = {"message": lambda session, pkg: session.writePkg(bytes(1000))}
        self.join(WorkerPool.keyed(1), reply, highWater=3000, lowWater=1000)
        self.session.pauseReading()
        self.send(b"1")
        self.assertEqual(self.threads.started, 0)
        self.session.resumeReading()
        self.send(b"2")
        self.session.pauseReading()
        self.threads.step()
        self.pair.flush()
        got = len(self.heard.packages)
        self.assertLess(got, 2)
        self.session.resumeReading()
        self.pair.flush()
        self.finish()
        self.assertEqual(self.heard.packages, [b"1", b"2"])

    def test_errorWaits(self) -> None:
        """onError and onClose wait for the running message, whatever their cause."""
        self.join(WorkerPool.keyed(1), {"message": lambda session, pkg: gate()})
        self.send(b"1", b"2")
        self.threads.step()
        self.session.close(RuntimeError("enough"))
        self.pair.reset()
        self.pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.finish()
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEnded()

    def test_exception(self) -> None:
        """If a handler raises, onError and onClose run on the reactor's thread, and queued messages are dropped."""

        def fail(session: Any, pkg: bytes) -> None:
            raise RuntimeError(pkg)

        self.join(WorkerPool.keyed(2), {"message": fail})
        self.send(b"1", b"2")
        self.finish()
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(self.heard.packages, [b"1"])
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEnded()

    def test_closeInHandler(self) -> None:
        """close() in a worker: written bytes are sent, queued messages are dropped."""

        def handle(session: Any, pkg: bytes) -> None:
            session.writePkg(pkg)
            session.close()
            gate()

        self.join(WorkerPool.keyed(1), {"message": handle})
        self.send(b"1", b"2")
        self.threads.step()
        self.net.clock.advance(0.01)
        self.assertTrue(self.session.isClosed)
        self.finish()
        self.assertEqual(self.heard.packages, [b"1"])
        self.assertEqual(self.answers(), frame(b"1"))

    def test_nothingAfterClose(self) -> None:
        """No message comes after close(), close(error) or abort() in a worker."""
        for end in ("close", "abort", "pauseReading"):

            def handle(session: Any, pkg: bytes, end: str = end) -> None:
                getattr(session, end)()

            self.join(WorkerPool.keyed(1), {"message": handle})
            self.send(b"1", b"2", b"3")
            self.finish()
            self.assertEqual(self.heard.packages, [b"1"])

    def test_closeWaits(self) -> None:
        """onClose waits for a running message for waitTime at most; queued messages are dropped then."""
        for limit in (False, True):
            self.join(WorkerPool.keyed(1), {"message": lambda session, pkg: gate()}, waitTime=2.0)
            self.send(b"1", b"2")
            self.threads.step()
            self.pair.peer.end()
            self.pair.reset()
            self.pair.flush()
            self.assertNotIn("close", self.heard.names)
            if limit:
                self.pair.advance(2.5)
                self.assertIn("close", self.heard.names)
                self.finish()
                self.assertEqual(self.heard.packages, [b"1"])
            else:
                self.finish()
                self.assertIn("close", self.heard.names)
            self.pair.flush()

    def test_peersEnd(self) -> None:
        """After the peer's end of stream, its messages are still delivered and the replies sent."""
        self.join(WorkerPool.keyed(1), {"message": echo})
        self.send(b"1", b"2")
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(self.heard.packages, [])
        self.finish()
        self.assertEqual(self.answers(), frame(b"1") + frame(b"2"))
        self.pair.flush()
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_cronInItsPlace(self) -> None:
        """onCron comes after the messages before it, and no message runs at the same time."""
        self.join(WorkerPool.keyed(1), {"message": lambda session, pkg: gate()}, cronPeriod=1.0)
        self.send(b"1")
        self.threads.step()
        self.pair.advance(1.5)
        self.send(b"2")
        self.assertNotIn("cron", self.heard.names)
        self.threads.step()
        self.pair.flush()
        self.finish()
        self.assertEqual(self.heard.names[:4], ["open", "message", "cron", "message"])

    def test_async(self) -> None:
        """An async onMessage runs on the reactor's thread, workers or not."""
        threads: list[int] = []

        class Listener(EventListener):
            async def onMessage(self, session: Any, pkg: bytes) -> None:
                threads.append(threading.get_ident())

        net = Network(transport=DirectTransport)
        workers = WorkerPool.keyed(1)
        stepped = steppedPool(self, workers, net.clock)
        factory = net.serverFactory(configure(Listener()), workers=workers)
        pair = net.join(factory.buildProtocol(None), Peer(False))
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual((threads, stepped.started), ([threading.get_ident()], 0))

    def test_coroutineInWorker(self) -> None:
        """If a plain def returns a coroutine, the error says what to do."""

        async def later() -> None: ...

        self.join(WorkerPool.keyed(1), {"message": lambda session, pkg: later()})
        self.send(b"1")
        self.finish()
        self.pair.flush()
        (error,) = self.heard.errors
        self.assertIn("make it async def", str(error))
        self.flushLoggedErrors(TypeError)

    def test_listenerIsTheOwn(self) -> None:
        """session.listener is the application's listener, and may be changed."""
        self.join(WorkerPool.keyed(1), {})
        self.assertIs(self.session.listener, self.heard)
        other = RecordingListener()
        self.session.listener = other
        self.assertIs(self.session.listener, other)
        self.send(b"1")
        self.finish()
        self.assertEqual(other.packages, [b"1"])


class ModelTests(SteppedCase):
    """The differences of the models."""

    def busyThreads(self, workers: WorkerPool, packages: int) -> int:
        """The number of threads that serve blocking messages of one session."""
        self.join(workers, {"message": lambda session, pkg: gate()})
        self.send(*[b"%d" % i for i in range(packages)])
        started: list[Any] = []
        for _ in range(30):
            for thread in list(self.threads.threads):
                if thread not in started:
                    started.append(thread)
                    self.threads.step(self.threads.threads.index(thread))
            self.net.clock.advance(0.01)
            self.pair.flush()
        busy = len(self.threads.threads)
        self.finish()
        self.assertEqual(sorted(self.heard.packages), sorted(b"%d" % i for i in range(packages)))
        return busy

    def test_keyed(self) -> None:
        """One message at a time of each key."""
        self.assertEqual(self.busyThreads(WorkerPool.keyed(4), 6), 1)

    def test_ownKey(self) -> None:
        """An application may give the key function; empty queues of keys are dropped."""
        workers = WorkerPool.keyed(4, lambda session, pkg: int(pkg) % 2)
        self.assertEqual(self.busyThreads(workers, 6), 2)
        self.pair.flush()
        self.assertEqual(workers.schedule.queues, {})  # type: ignore[attr-defined]

    def test_shared(self) -> None:
        """All workers serve one queue."""
        self.assertEqual(self.busyThreads(WorkerPool.shared(4), 6), 4)

    def test_sharded(self) -> None:
        """Each queue has its share of the workers."""
        self.assertEqual(self.busyThreads(WorkerPool.sharded(5, 2), 12), 5)

    def test_unbounded(self) -> None:
        """A thread for each message."""
        self.assertEqual(self.busyThreads(WorkerPool.unbounded(), 20), 20)

    def test_sharedBackPressure(self) -> None:
        """A full shared queue pauses the sessions that fill it, until it has room."""
        self.join(WorkerPool.shared(2, queueLength=3), {"message": echo})
        other = self.another()
        self.send(*[b"%d" % i for i in range(20)])
        other.peer.write(frame(b"x") * 20)
        other.flush()
        self.assertTrue(self.session.inbound.paused and other.server.inbound.paused)
        self.finish()
        other.flush()
        self.finish()
        self.assertEqual(len(self.answers()), 20 * 4 + 30)
        other.flush()
        self.assertEqual(len(other.peer.data), 100)
