"""WorkerPool: the public class for worker threads: models, start and stop, messages, tasks."""

from __future__ import annotations

import os
import threading
from random import sample
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.session.threads import current
from getty_tx.workers.queues import SharedQueue, Task, Work, WorkQueue
from getty_tx.workers.schedule import KeyedSchedule, Schedule, UnorderedSchedule
from getty_tx.workers.thread import QUANTUM, WorkerRun

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.session.session import Session

__all__ = ["WorkerPool"]

log = Logger()

#: Messages in a queue at which sessions are paused; the queue length of Getty's task pool.
DEFAULT_QUEUE_LENGTH = 128

#: Threads of an unbounded pool per core, as in Getty.
UNBOUNDED_THREADS_PER_CORE = 100

#: Maximum number of extra threads for tasks that find the pool full.
MAX_EXTRA_THREADS = 1000

#: Seconds that stop() waits for running handlers and tasks.
STOP_TIMEOUT = 3.0


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class _Threads(ThreadPool):
    """A thread pool of daemon threads: a stuck handler does not keep the process from ending."""

    threadFactory = _DaemonThread


class WorkerPool:
    """
    Threads in which ``onMessage`` runs, so that it may block: ask a database, read a file, wait.

    Make one with ``keyed``, ``shared``, ``sharded``, ``unbounded`` or ``parse`` and give it to a Server or Client,
    which starts and stops it; several may share one pool. ``workers=8`` stands for ``WorkerPool.keyed(8)``. All other
    events stay on the reactor's thread, and so does an onMessage that is ``async def``.

    Threads are for handlers that wait. A handler that computes takes interpreter time from the reactor: use processes
    for that.
    """

    def __init__(self, name: str, size: int, makeSchedule: Callable[[Callable[[], object]], Schedule]) -> None:
        self._name = name
        self.size = size
        # For this package and its tests.
        self.schedule = makeSchedule(self._requestStart)
        self._reactor: Any = None
        self._threads: Any = None
        self._reactorThread = 0
        self._starts = 0
        self._isWoken = False
        self._pollTimer: IDelayedCall | None = None
        self._stopping: list[Deferred[list[str]]] = []
        self._stopTimer: IDelayedCall | None = None
        # Limits the queued tasks, one semaphore for each queue that tasks may go to.
        queues = self.schedule.queues if isinstance(self.schedule, UnorderedSchedule) else [None]
        self._taskSlots = [threading.BoundedSemaphore(self.schedule.queueLength) for _ in queues]
        self._nextTaskQueue = 0
        self._extraSlots = threading.BoundedSemaphore(MAX_EXTRA_THREADS)

    def __repr__(self) -> str:
        return f"<WorkerPool {self._name}>"

    # Constructors

    @classmethod
    def keyed(
        cls,
        size: int,
        key: Callable[[Session, Any], Hashable] | None = None,
        *,
        queueLength: int = DEFAULT_QUEUE_LENGTH,
    ) -> WorkerPool:
        """
        A queue for each key, served by one worker at a time: keeps the order, and a key that blocks delays no other.

        :param size: number of workers.
        :param key: ``key(session, pkg)``, called on the reactor's thread; by default each session is a key.
        :param queueLength: packages in a queue at which the sessions that fill it are paused.
        :raise SettingError: a setting is invalid.
        """
        _check(size, queueLength)
        if key is not None and not callable(key):
            raise SettingError(f"key={key!r} cannot be called: give a function of a session and a package")
        return cls(f"keyed:{size}", size, lambda wake: KeyedSchedule(size, queueLength, wake, key))

    @classmethod
    def shared(cls, size: int, *, queueLength: int = DEFAULT_QUEUE_LENGTH) -> WorkerPool:
        """One queue for all sessions, served by all workers. **Keeps no order**, not even within one session."""
        _check(size, queueLength)
        return cls(f"shared:{size}", size, lambda wake: UnorderedSchedule(size, queueLength, wake, 1, False))

    @classmethod
    def sharded(cls, size: int, queues: int, *, queueLength: int = DEFAULT_QUEUE_LENGTH) -> WorkerPool:
        """
        ``queues`` queues, filled in rotation; worker i serves queue i modulo ``queues``. **Keeps no order**.

        :raise SettingError: a setting is invalid, or there are more queues than workers.
        """
        _check(size, queueLength)
        settings.count("queues", queues)
        if queues > size:
            raise SettingError(f"queues={queues} is more than size={size}: some would have no worker")
        return cls(
            f"sharded:{size}:{queues}", size, lambda wake: UnorderedSchedule(size, queueLength, wake, queues, False)
        )

    @classmethod
    def unbounded(cls, *, queueLength: int = DEFAULT_QUEUE_LENGTH) -> WorkerPool:
        """
        A worker for each package, up to 100 per core. **Keeps no order**. For handlers that wait long.

        Above that number packages are queued, and sessions are paused when the queue is full, as in the other models.
        """
        size = UNBOUNDED_THREADS_PER_CORE * (os.cpu_count() or 1)
        _check(size, queueLength)
        return cls("unbounded", size, lambda wake: UnorderedSchedule(size, queueLength, wake, 1, True))

    @classmethod
    def parse(cls, text: str) -> WorkerPool:
        """
        Make a pool from text: ``8``, ``keyed:8``, ``shared:8``, ``sharded:16:4`` or ``unbounded``.

        :raise SettingError: the text is none of these.
        """
        model, *numbers = f"keyed:{text}".split(":") if text.isdecimal() else text.split(":")
        makers: dict[str, tuple[int, Callable[..., WorkerPool]]] = {
            "keyed": (1, cls.keyed),
            "shared": (1, cls.shared),
            "sharded": (2, cls.sharded),
            "unbounded": (0, cls.unbounded),
        }
        wanted, make = makers.get(model, (-1, cls.unbounded))
        if len(numbers) != wanted or not all(number.isdecimal() for number in numbers):
            raise SettingError(
                f"workers={text!r} is none of 8, keyed:8, shared:8, sharded:16:4 (workers:queues) and unbounded"
            )
        return make(*map(int, numbers))

    @classmethod
    def of(cls, workers: WorkerPool | int | str | None) -> WorkerPool | None:
        """
        The pool for a service's ``workers``: a pool, the size of a keyed pool, a text for :py:meth:`parse`, or None.

        :raise SettingError: the value is none of these.
        """
        if workers is None or isinstance(workers, WorkerPool):
            return workers
        if isinstance(workers, str):
            return cls.parse(workers)
        return cls.keyed(settings.count("workers", workers))

    # Starting and stopping

    def start(self, reactor: Any) -> None:
        """Start the pool for this reactor. Each start needs a stop."""
        if self._starts and reactor is not self._reactor:
            raise SettingError(f"{self!r} works for another reactor: each needs a pool of its own")
        self._starts += 1
        self._reactorThread = threading.get_ident()
        if self._threads is None:
            self._reactor = reactor
            self._threads = _Threads(minthreads=0, maxthreads=self.size, name="getty_tx")
            self._threads.start()

    def stop(self, timeout: float = STOP_TIMEOUT) -> Deferred[list[str]]:
        """
        At the last of as many stops as there were starts: take no more tasks, and wait for handlers and tasks to end.

        :param timeout: seconds to wait.
        :return: fires with descriptions of the handlers and tasks that still run then; they are logged and abandoned.
        """
        done: Deferred[list[str]] = Deferred()
        self._starts = max(0, self._starts - 1)
        if self._starts or self._threads is None:
            done.callback([])
            return done
        self._stopping.append(done)
        if self._isBusy() and self._stopTimer is None:
            self._stopTimer = self._reactor.callLater(timeout, self._stopTimedOut)
        self._checkStopped()
        return done

    def _stopTimedOut(self) -> None:
        self._stopTimer = None
        now = monotonic()
        stuck = [
            f"{run.serving!r} for {now - run.since:.1f} s" for run in self.schedule.runs if run.serving is not None
        ]
        for what in stuck:
            log.warn("{pool}: a worker is stuck in {what}; left behind", pool=self, what=what)
        self._finishStop(stuck)

    def _isBusy(self) -> bool:
        return self._isWoken or bool(self.schedule.runs)

    def _checkStopped(self) -> None:
        if self._stopping and not self._isBusy() and not self._starts:
            self._finishStop([])

    def _finishStop(self, stuck: list[str]) -> None:
        threads, self._threads = self._threads, None
        for call in (self._stopTimer, self._pollTimer):
            if call is not None:
                call.cancel()
        self._stopTimer = self._pollTimer = None
        if stuck:
            # ThreadPool.stop joins the threads, which never returns while one is stuck.
            threading.Thread(target=threads.stop, daemon=True).start()
            # Forget the stuck runs.
            self.schedule.runs = set()
        else:
            threads.stop()
        stopping, self._stopping = self._stopping, []
        for deferred in stopping:
            deferred.callback(stuck)

    @property
    def isRunning(self) -> bool:
        """True from the first start to the last stop."""
        return self._starts > 0

    def load(self) -> tuple[int, int]:
        """Number of messages in shared queues, and of threads at work."""
        return self.schedule.queued(), len(self.schedule.runs)

    # Messages

    def attach(self, session: Session) -> Work:
        """
        Make the proxy that becomes the session's listener and queues its messages for this pool.

        :raise SettingError: the pool is not running.
        """
        if not self.isRunning:
            raise SettingError(f"{self!r} is not running: call pool.start(reactor) before its factory is used")
        return self.schedule.attach(session)

    def _requestStart(self) -> None:
        """Start runs as needed, after the reactor has read from all sockets in this iteration."""
        if not self._isWoken and self._threads is not None:
            self._isWoken = True
            self._reactor.callLater(0, self._startRuns)

    def _startRuns(self) -> None:
        self._isWoken = False
        if self._threads is None:
            return
        schedule = self.schedule
        for slow, queue in schedule.starts():
            run = WorkerRun(schedule, self._notifyReactor, slow, queue)
            schedule.runs.add(run)
            deferToThreadPool(self._reactor, self._threads, run).addBoth(self._runEnded, run)
        if self._pollTimer is None and schedule.runs:
            now = monotonic()
            if any(run.isFresh(now) for run in schedule.runs):
                self._pollTimer = self._reactor.callLater(QUANTUM * 1.5, self._pollRuns)
        self._checkStopped()

    def _pollRuns(self) -> None:
        """A handler may block: drain all runs, and start others if needed."""
        self._pollTimer = None
        now = monotonic()
        for run in tuple(self.schedule.runs):
            run.isBlocked = not run.isFresh(now)
            run.drain()
        self.schedule.resumeSessions()
        self._startRuns()

    def _notifyReactor(self, run: WorkerRun) -> None:
        self._reactor.callFromThread(self._drain, run)

    def _drain(self, run: WorkerRun) -> None:
        run.drain()
        self.schedule.resumeSessions()

    def _runEnded(self, failure: Any, run: WorkerRun) -> None:
        if failure is not None:
            log.failure("a worker failed", failure)
        run.drain()
        self.schedule.runs.discard(run)
        self.schedule.resumeSessions()
        if not self.schedule.runs and self._pollTimer is not None:
            self._pollTimer.cancel()
            self._pollTimer = None
        self._startRuns()

    # Tasks of the application

    def submit(self, call: Callable[..., object], *args: Any) -> bool:
        """
        Have a worker call ``call(*args)``, queued with the messages. Thread-safe. An exception is logged.

        When ``queueLength`` tasks are queued already, the calling thread waits, unless it is the reactor's or one of
        the pool's threads: that would be a deadlock.

        :return: False if the task was refused: the pool is not running, or it is full and the caller must not wait.
        """
        if not self.isRunning:
            return False
        self._nextTaskQueue = index = (self._nextTaskQueue + 1) % len(self._taskSlots)
        mayWait = current.run is None and not self._isReactorThread()
        return self._take(index, call, args, mayWait)

    def submitAlways(self, call: Callable[..., object], *args: Any) -> bool:
        """
        As :py:meth:`submit`, but when the pool is full, an extra thread runs the task at once; up to 1,000 of them.

        :return: False if the pool is not running, or 1,000 extra threads run.
        """
        return self.isRunning and (
            self._take((self._nextTaskQueue + 1) % len(self._taskSlots), call, args, False)
            or self._takeInExtraThread(call, args)
        )

    def submitBalanced(self, call: Callable[..., object], *args: Any) -> bool:
        """As :py:meth:`submitAlways`, but if there are several queues, it tries a random half of them."""
        count = len(self._taskSlots)
        tried = sample(range(count), max(1, count // 2))
        return self.isRunning and (
            any(self._take(index, call, args, False) for index in tried) or self._takeInExtraThread(call, args)
        )

    def _isReactorThread(self) -> bool:
        return threading.get_ident() == self._reactorThread

    def _take(self, index: int, call: Callable[..., object], args: tuple[Any, ...], mayWait: bool) -> bool:
        slots = self._taskSlots[index]
        if not slots.acquire(blocking=mayWait):
            return False
        self._reactor.callFromThread(self._enqueue, index, Task(call, slots.release), args)
        return True

    def _enqueue(self, index: int, task: Task, args: tuple[Any, ...]) -> None:
        schedule = self.schedule
        if self._threads is None:
            task.started()
            log.warn("{pool}: {task} came after the pool was stopped; dropped", pool=self, task=task)
            return
        queue: WorkQueue = (
            schedule.queues[index] if isinstance(schedule, UnorderedSchedule) else SharedQueue(isExclusive=True)
        )
        queue.items.append((task, args))
        if not queue.scheduled:
            schedule.ready(queue)

    def _takeInExtraThread(self, call: Callable[..., object], args: tuple[Any, ...]) -> bool:
        if not self._extraSlots.acquire(blocking=False):
            return False
        threading.Thread(target=self._runExtra, args=(call, args), daemon=True).start()
        return True

    def _runExtra(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            call(*args)
        except BaseException:
            log.failure("the task {call!r} failed", call=call)
        finally:
            self._extraSlots.release()


def _check(size: int, queueLength: int) -> None:
    settings.count("size", size)
    settings.count("queueLength", queueLength)
