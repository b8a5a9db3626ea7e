"""Worker threads that a test runs step by step: each until its end, or until a handler waits at a gate."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from getty_tx.testing import DirectTransport, Network, Peer, RecordingListener
from getty_tx.workers import WorkerPool, pool, schedule, thread
from tests.support.memory import SessionCase, configure, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.trial.unittest import SynchronousTestCase


class StepThread:
    """A call in a separate thread that the test runs step by step."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self.isOver = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.step = self  # type: ignore[attr-defined]
        self.thread.start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._call()
        finally:
            self.isOver = True
            self._back.release()

    def step(self) -> None:
        """Called by the test: let the thread run to its end or its next gate."""
        self._go.release()
        if not self._back.acquire(timeout=20):
            raise AssertionError("a worker is stuck")

    def gate(self) -> None:
        """Called in the thread: stop and let the test continue."""
        self._back.release()
        self._go.acquire()


def gate() -> None:
    """Called in a handler: stop until the test runs the next step."""
    threading.current_thread().step.gate()  # type: ignore[attr-defined]


class StepThreads:
    """Replaces Twisted's ThreadPool."""

    def __init__(self, minthreads: int, maxthreads: int, name: str) -> None:
        self.size = maxthreads
        self.threads: list[StepThread] = []
        self.started = 0
        self.isStopped = False

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self.isStopped = True

    def callInThreadWithCallback(self, onResult: Any, call: Any, *args: Any) -> None:
        self.started += 1

        def run() -> None:
            result = call(*args)
            onResult(True, result)

        self.threads.append(StepThread(run))
        assert len(self.threads) <= self.size

    def step(self, which: int = 0) -> bool:
        """Run a step of one of the threads; False if there is none."""
        if not self.threads:
            return False
        thread = self.threads[which % len(self.threads)]
        thread.step()
        if thread.isOver:
            thread.thread.join()
            self.threads.remove(thread)
        return True


def steppedPool(case: SynchronousTestCase, workers: WorkerPool, reactor: Any) -> StepThreads:
    """Start the pool with step threads, and with the reactor's simulated time for the durations of handlers."""
    made: list[StepThreads] = []

    def make(**arguments: Any) -> StepThreads:
        made.append(StepThreads(**arguments))
        return made[-1]

    case.patch(pool, "_Threads", make)
    for module in (pool, schedule, thread):
        case.patch(module, "monotonic", reactor.seconds)
    workers.start(reactor)
    [threads] = made
    return threads


class SteppedCase(SessionCase):
    """A session with step threads as workers."""

    def join(self, workers: WorkerPool, on: dict[str, Any], **settings: Any) -> None:
        self.workers = workers
        self.net = Network(transport=DirectTransport)
        self.threads: StepThreads = steppedPool(self, workers, self.net.clock)
        self.heard = RecordingListener(on)
        self.factory = self.net.serverFactory(configure(self.heard, **settings), workers=workers)
        self.pair = self.net.join(self.factory.buildProtocol(None), Peer(False))
        self.session = self.pair.server

    def another(self) -> Any:
        return self.net.join(self.factory.buildProtocol(None), Peer(False))

    def send(self, *packages: bytes) -> None:
        self.pair.peer.write(b"".join(map(frame, packages)))
        self.pair.flush()

    def finish(self) -> None:
        while self.threads.step():
            self.pair.flush()

    def answers(self) -> bytes:
        self.pair.flush()
        return bytes(self.pair.peer.data)


def echo(session: Any, pkg: bytes) -> None:
    session.writePkg(pkg)
