"""Worker pools given tasks, stopped, and on real sockets."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import defer, reactor
from twisted.trial.unittest import TestCase

from getty_tx import EventListener, Server, WorkerPool
from getty_tx.codecs import LengthCodec
from tests.support.memory import frame
from tests.support.workers import SteppedCase, gate


class TaskTests(SteppedCase):
    """submit(), submitAlways() and submitBalanced()."""

    def test_submit(self) -> None:
        """Tasks run in workers; their exceptions are logged."""
        for workers in (WorkerPool.keyed(2), WorkerPool.shared(2), WorkerPool.sharded(2, 2), WorkerPool.unbounded()):
            self.join(workers, {})
            done: list[int] = []
            self.assertTrue(workers.submit(done.append, 1))
            self.assertTrue(workers.submit(lambda: 1 / 0))
            self.assertTrue(workers.submitBalanced(done.append, 2))
            self.pair.flush()
            self.assertEqual(done, [])
            self.finish()
            self.assertEqual(sorted(done), [1, 2])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_full(self) -> None:
        """If the pool is full, the reactor's thread does not wait, others do; submitAlways uses an extra thread."""
        workers = WorkerPool.keyed(1, queueLength=2)
        self.join(workers, {})
        done: list[int] = []
        self.assertTrue(workers.submit(done.append, 1))
        self.assertTrue(workers.submit(done.append, 2))
        self.assertFalse(workers.submit(done.append, 3))
        waits = threading.Thread(target=workers.submit, args=(done.append, 4), daemon=True)
        waits.start()
        extra = threading.Event()
        self.assertTrue(workers.submitAlways(extra.set))
        self.assertTrue(extra.wait(20))
        self.pair.flush()
        self.threads.step()
        waits.join(20)
        self.assertFalse(waits.is_alive())
        self.pair.flush()
        self.finish()
        self.assertEqual(sorted(done), [1, 2, 4])

    def test_fromItsOwnWorker(self) -> None:
        """A task that submits to its own full pool gets False, instead of a deadlock."""
        workers = WorkerPool.keyed(1, queueLength=1)
        self.join(workers, {})
        answers: list[bool] = []

        def task() -> None:
            answers.append(workers.submit(int))
            answers.append(workers.submit(int))

        workers.submit(task)
        self.pair.flush()
        self.finish()
        self.assertEqual(answers, [True, False])

    def test_stopped(self) -> None:
        """A pool that is not running takes no task."""
        workers = WorkerPool.keyed(1)
        for submit in (workers.submit, workers.submitAlways, workers.submitBalanced):
            self.assertFalse(submit(int))


class StopTests(SteppedCase):
    """Stopping a pool."""

    def test_stuck(self) -> None:
        """A task that still runs after the time-out is named and abandoned."""
        self.join(WorkerPool.keyed(2), {})
        self.workers.submit(gate)
        self.pair.flush()
        self.threads.step()
        stopped = self.workers.stop(2.0)
        self.assertNoResult(stopped)
        self.pair.advance(2.5)
        (stuck,) = self.successResultOf(stopped)
        self.assertIn("the task <function gate", stuck)
        self.finish()

    def test_waits(self) -> None:
        """A stop waits for running and queued tasks."""
        self.join(WorkerPool.keyed(1), {})
        done: list[int] = []
        self.workers.submit(gate)
        self.workers.submit(done.append, 1)
        self.pair.flush()
        self.threads.step()
        stopped = self.workers.stop()
        self.finish()
        self.pair.flush()
        self.finish()
        self.pair.flush()
        self.assertEqual(self.successResultOf(stopped), [])
        self.assertEqual(done, [1])
        self.assertTrue(self.threads.isStopped)
        self.assertEqual([call for call in self.net.clock.getDelayedCalls() if "_pollRuns" in str(call)], [])

    def test_severalUsers(self) -> None:
        """The pool stops at the last of as many stops as there were starts."""
        self.join(WorkerPool.keyed(1), {})
        self.workers.start(self.net.clock)
        self.assertEqual(self.successResultOf(self.workers.stop()), [])
        self.assertTrue(self.workers.isRunning)
        self.assertEqual(self.successResultOf(self.workers.stop()), [])
        self.assertFalse(self.workers.isRunning)


class SocketTests(TestCase):
    """Real threads and sockets."""

    timeout = 60

    async def _echo(self, workers: Any, description: str = "tcp:0:interface=127.0.0.1") -> None:
        from getty_tx import Client

        names: set[str] = set()

        class Echo(EventListener):
            def onMessage(self, session: Any, pkg: bytes) -> None:
                names.add(threading.current_thread().name)
                session.writePkg(pkg)

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = Echo()

        got: list[bytes] = []
        done: defer.Deferred[None] = defer.Deferred()

        class Count(EventListener):
            def onMessage(self, session: Any, pkg: bytes) -> None:
                got.append(pkg)
                if len(got) == 500:
                    done.callback(None)

        def dialing(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = Count()

        server = Server(newSession, description, workers=workers)
        server.startService()
        (address,) = await server.whenListening()
        client = Client(dialing, f"tcp:127.0.0.1:{address.port}")  # type: ignore[attr-defined]
        client.startService()
        try:
            (session,) = await client.whenReady(timeout=20)
            for i in range(500):
                session.writePkg(b"%d" % i)
            await done
        finally:
            await client.close()
            await server.stopService()
        self.assertEqual(sorted(got, key=int), [b"%d" % i for i in range(500)])
        if "shared" not in str(workers):
            self.assertEqual(got, sorted(got, key=int))
        self.assertNotIn(threading.current_thread().name, names)
        self.assertEqual([thread.name for thread in threading.enumerate() if thread.name in names], [])

    def test_echo(self) -> None:
        """Echo with each kind of ``workers``; the threads end with the server."""

        async def run() -> None:
            for workers in (4, "shared:3", WorkerPool.keyed(2, lambda session, pkg: session.id)):
                await self._echo(workers)

        return defer.Deferred.fromCoroutine(run())  # type: ignore[return-value]

    def test_serverNamesTheStuck(self) -> None:
        """stopService() does not wait forever for a handler, and names it."""
        release = threading.Event()
        self.addCleanup(release.set)
        self.patch(WorkerPool.stop, "__defaults__", (0.2,))
        running: defer.Deferred[None] = defer.Deferred()

        class Stuck(EventListener):
            def onMessage(self, session: Any, pkg: bytes) -> None:
                reactor.callFromThread(running.callback, None)  # type: ignore[attr-defined]
                release.wait(30)

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = Stuck()
            session.waitTime = 0.2

        async def run() -> None:
            from twisted.internet.endpoints import clientFromString, connectProtocol
            from twisted.internet.protocol import Protocol

            server = Server(newSession, "tcp:0:interface=127.0.0.1", workers=1)
            server.startService()
            (address,) = await server.whenListening()
            dialed = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")  # type: ignore[attr-defined]
            peer = Protocol()
            await connectProtocol(dialed, peer)
            peer.transport.write(frame(b"1"))  # type: ignore[union-attr]
            await running
            await server.stopService()
            peer.transport.abortConnection()  # type: ignore[union-attr]
            release.set()
            # Let the stuck handler end, so that the reactor is clean.
            pause: defer.Deferred[None] = defer.Deferred()
            reactor.callLater(0.1, pause.callback, None)  # type: ignore[attr-defined]
            await pause

        return defer.Deferred.fromCoroutine(run())  # type: ignore[return-value]
