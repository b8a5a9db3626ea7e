"""WorkerPool: the threads, and what applications ask of them."""

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
from getty_tx.workers.queues import Line, SharedLine, Task, Work
from getty_tx.workers.schedule import KeyedPlan, OpenPlan, Plan
from getty_tx.workers.thread import SLICE, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.session.session import Session

__all__ = ["WorkerPool"]

log = Logger()

#: Messages that wait in a line; Getty's task pool has as many.
QUEUE_LENGTH = 128

#: Threads of an unbounded pool for each core, as in Getty's.
UNBOUNDED = 100

#: Threads of their own that tasks have at most, when the pool is full.
EXTRA = 1000

#: Seconds that stop() waits for what runs.
STOP_TIMEOUT = 3.0


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


class _Threads(ThreadPool):
    """Its threads do not keep the process: what is stuck at the end has been named, and is left."""

    threadFactory = _DaemonThread


class WorkerPool:
    """
    Threads in which ``onMessage`` runs, so that it may block: ask a database, read a file, wait.

    Made by one of ``keyed``, ``shared``, ``sharded``, ``unbounded`` or ``parse``, and given to a Server or Client,
    which starts and stops it; several may share one. ``workers=8`` stands for ``WorkerPool.keyed(8)``. All else than
    onMessage stays on the reactor's thread, and so does an onMessage that is ``async def``.

    Threads are for handlers that wait. One that computes takes the reactor's share of the interpreter: use processes
    for that.
    """

    def __init__(self, name: str, size: int, plan: Callable[[Callable[[], object]], Plan]) -> None:
        self._name = name
        self.size = size
        self._plan = plan(self._wake)
        self._reactor: Any = None
        self._threads: Any = None
        self._reactorThread = 0
        self._starts = 0
        self._isWoken = False
        self._poll: IDelayedCall | None = None
        self._stopping: list[Deferred[list[str]]] = []
        self._giveUp: IDelayedCall | None = None
        # Own tasks that wait, one count for each line that they may go to.
        lines = self._plan.lines if isinstance(self._plan, OpenPlan) else [None]
        self._room = [threading.BoundedSemaphore(self._plan.queueLength) for _ in lines]
        self._taskTurn = 0
        self._extra = threading.BoundedSemaphore(EXTRA)

    def __repr__(self) -> str:
        return f"<WorkerPool {self._name}>"

    # Making one

    @classmethod
    def keyed(
        cls,
        size: int,
        key: Callable[[Session, Any], Hashable] | None = None,
        *,
        queueLength: int = QUEUE_LENGTH,
    ) -> WorkerPool:
        """
        A line for each key, served by one worker at a time: order holds, and a key that blocks holds up no other.

        :param size: workers.
        :param key: ``key(session, pkg)``, on the reactor's thread; by default each session is its own.
        :param queueLength: packages that wait in a line; at so many, the sessions that fill it are not read from.
        :raise SettingError: a setting cannot be.
        """
        _check(size, queueLength)
        if key is not None and not callable(key):
            raise SettingError(f"key={key!r} cannot be called: give a function of a session and a package")
        return cls(f"keyed:{size}", size, lambda wake: KeyedPlan(size, queueLength, wake, key))

    @classmethod
    def shared(cls, size: int, *, queueLength: int = QUEUE_LENGTH) -> WorkerPool:
        """One line for all, served by all workers. **Keeps no order**, not even that of one session's packages."""
        _check(size, queueLength)
        return cls(f"shared:{size}", size, lambda wake: OpenPlan(size, queueLength, wake, 1, False))

    @classmethod
    def sharded(cls, size: int, queues: int, *, queueLength: int = QUEUE_LENGTH) -> WorkerPool:
        """
        ``queues`` lines that are filled in turn, worker i serving line i modulo ``queues``. **Keeps no order**.

        :raise SettingError: a setting cannot be, or there are more queues than workers.
        """
        _check(size, queueLength)
        settings.count("queues", queues)
        if queues > size:
            raise SettingError(f"queues={queues} is more than size={size}: some would have no worker")
        return cls(f"sharded:{size}:{queues}", size, lambda wake: OpenPlan(size, queueLength, wake, queues, False))

    @classmethod
    def unbounded(cls, *, queueLength: int = QUEUE_LENGTH) -> WorkerPool:
        """
        A worker for each package, up to 100 for each core. **Keeps no order**. For handlers that wait long.

        Above that number packages wait, and then sessions do, as in the other models.
        """
        size = UNBOUNDED * (os.cpu_count() or 1)
        _check(size, queueLength)
        return cls("unbounded", size, lambda wake: OpenPlan(size, queueLength, wake, 1, True))

    @classmethod
    def parse(cls, text: str) -> WorkerPool:
        """
        From text: ``8``, ``keyed:8``, ``shared:8``, ``sharded:16:4`` or ``unbounded``.

        :raise SettingError: it is none of these.
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
        What a service is given as ``workers``: a pool, a number for a keyed one, a text for :py:meth:`parse`, or None.

        :raise SettingError: it is none of these.
        """
        if workers is None or isinstance(workers, WorkerPool):
            return workers
        if isinstance(workers, str):
            return cls.parse(workers)
        return cls.keyed(settings.count("workers", workers))

    # Starting and stopping

    def start(self, reactor: Any) -> None:
        """Be ready to work on this reactor; for each start there is to be a stop."""
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
        Where this is the last of the stops: take no more tasks, and wait for what runs.

        :param timeout: seconds.
        :return: fires with what was still running after that, which is logged and left to itself.
        """
        done: Deferred[list[str]] = Deferred()
        self._starts = max(0, self._starts - 1)
        if self._starts or self._threads is None:
            done.callback([])
            return done
        self._stopping.append(done)
        if self._isBusy() and self._giveUp is None:
            self._giveUp = self._reactor.callLater(timeout, self._isLate)
        self._checkStopped()
        return done

    def _isLate(self) -> None:
        self._giveUp = None
        now = monotonic()
        stuck = [f"{run.what!r} for {now - run.since:.1f} s" for run in self._plan.runs if run.what is not None]
        for what in stuck:
            log.warn("{pool}: a worker is stuck in {what}; left behind", pool=self, what=what)
        self._stopped(stuck)

    def _isBusy(self) -> bool:
        return self._isWoken or bool(self._plan.runs)

    def _checkStopped(self) -> None:
        if self._stopping and not self._isBusy() and not self._starts:
            self._stopped([])

    def _stopped(self, stuck: list[str]) -> None:
        threads, self._threads = self._threads, None
        for call in (self._giveUp, self._poll):
            if call is not None:
                call.cancel()
        self._giveUp = self._poll = None
        if stuck:
            # It joins the threads, which takes for ever with some stuck.
            threading.Thread(target=threads.stop, daemon=True).start()
            # Late runs are not ours any more.
            self._plan.runs = set()
        else:
            threads.stop()
        stopping, self._stopping = self._stopping, []
        for deferred in stopping:
            deferred.callback(stuck)

    @property
    def isRunning(self) -> bool:
        """True from the start to the last stop."""
        return self._starts > 0

    def load(self) -> tuple[int, int]:
        """How many messages wait in lines that sessions share, and how many threads are at work."""
        return self._plan.waiting(), len(self._plan.runs)

    # Messages

    def attach(self, session: Session) -> Work:
        """
        What stands between the session and this pool: its listener from now on.

        :raise SettingError: the pool is not running.
        """
        if not self.isRunning:
            raise SettingError(f"{self!r} is not running: call pool.start(reactor) before its factory is used")
        return self._plan.attach(session)

    def _wake(self) -> None:
        """Lines wait: start what is needed, after the reactor has read all that is there in this turn."""
        if not self._isWoken and self._threads is not None:
            self._isWoken = True
            self._reactor.callLater(0, self._start)

    def _start(self) -> None:
        self._isWoken = False
        if self._threads is None:
            return
        plan = self._plan
        for slow, line in plan.starts():
            run = Run(plan, self._tell, slow, line)
            plan.runs.add(run)
            deferToThreadPool(self._reactor, self._threads, run).addBoth(self._ended, run)
        if self._poll is None and plan.runs:
            now = monotonic()
            if any(run.isFresh(now) for run in plan.runs):
                self._poll = self._reactor.callLater(SLICE * 1.5, self._look)
        self._checkStopped()

    def _look(self) -> None:
        """Runs may have met a handler that blocks: take what they have so far, and see whether others are to start."""
        self._poll = None
        now = monotonic()
        for run in tuple(self._plan.runs):
            run.isLate = not run.isFresh(now)
            run.drain()
        self._plan.relieve()
        self._start()

    def _tell(self, run: Run) -> None:
        self._reactor.callFromThread(self._told, run)

    def _told(self, run: Run) -> None:
        run.drain()
        self._plan.relieve()

    def _ended(self, failure: Any, run: Run) -> None:
        if failure is not None:
            log.failure("a worker failed", failure)
        run.drain()
        self._plan.runs.discard(run)
        self._plan.relieve()
        if not self._plan.runs and self._poll is not None:
            self._poll.cancel()
            self._poll = None
        self._start()

    # Own tasks

    def submit(self, call: Callable[..., object], *args: Any) -> bool:
        """
        Have a worker do ``call(*args)``, among the messages. Any thread may ask. What it raises is logged.

        When ``queueLength`` tasks wait already, a thread of the application's own waits; the reactor's and the pool's
        do not, as nothing would ever go on.

        :return: False if the task was not taken: the pool is not running, or full and the caller must not wait.
        """
        if not self.isRunning:
            return False
        self._taskTurn = turn = (self._taskTurn + 1) % len(self._room)
        mayWait = current.run is None and not self._isReactorThread()
        return self._take(turn, call, args, mayWait)

    def submitAlways(self, call: Callable[..., object], *args: Any) -> bool:
        """
        As :py:meth:`submit`, but when the pool is full, a thread of its own does it at once, 1,000 of them at most.

        :return: False if the pool is not running, or there are so many threads.
        """
        return self.isRunning and (
            self._take((self._taskTurn + 1) % len(self._room), call, args, False) or self._takeExtra(call, args)
        )

    def submitBalanced(self, call: Callable[..., object], *args: Any) -> bool:
        """As :py:meth:`submitAlways`; it tries half of the queues at random, where there are several."""
        count = len(self._room)
        tried = sample(range(count), max(1, count // 2))
        return self.isRunning and (
            any(self._take(turn, call, args, False) for turn in tried) or self._takeExtra(call, args)
        )

    def _isReactorThread(self) -> bool:
        return threading.get_ident() == self._reactorThread

    def _take(self, turn: int, call: Callable[..., object], args: tuple[Any, ...], mayWait: bool) -> bool:
        room = self._room[turn]
        if not room.acquire(blocking=mayWait):
            return False
        self._reactor.callFromThread(self._enqueue, turn, Task(call, room.release), args)
        return True

    def _enqueue(self, turn: int, task: Task, args: tuple[Any, ...]) -> None:
        plan = self._plan
        if self._threads is None:
            task.started()
            log.warn("{pool}: {task} came after the pool was stopped; dropped", pool=self, task=task)
            return
        line: Line = plan.lines[turn] if isinstance(plan, OpenPlan) else SharedLine(isExclusive=True)
        line.items.append((task, args))
        if not line.scheduled:
            plan.ready(line)

    def _takeExtra(self, call: Callable[..., object], args: tuple[Any, ...]) -> bool:
        if not self._extra.acquire(blocking=False):
            return False
        threading.Thread(target=self._runExtra, args=(call, args), daemon=True).start()
        return True

    def _runExtra(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            call(*args)
        except BaseException:
            log.failure("the task {call!r} failed", call=call)
        finally:
            self._extra.release()


def _check(size: int, queueLength: int) -> None:
    settings.count("size", size)
    settings.count("queueLength", queueLength)
