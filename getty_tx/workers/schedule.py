"""
Schedules: which queue a thread serves next, and how many threads run.

While handlers do not block, one thread is as fast as many, because only one holds the interpreter at a time; a second
thread starts when the first has spent a millisecond in one handler. A queue counts as slow if its last handler blocked.
Slow queues get threads reserved for them, but not all threads while fast queues are served: eight sessions that sleep
do not delay the others.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from getty_tx.session.pausing import WORKERS
from getty_tx.workers.queues import KeyedWork, SessionQueue, SharedQueue, SharedWork, Work, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from getty_tx.session.session import Session
    from getty_tx.workers.thread import WorkerRun

__all__ = ["KeyedSchedule", "Schedule", "UnorderedSchedule"]

#: Seconds after serving a fast queue during which slow queues do not get all threads.
RESERVE_TIME = 0.1


class Schedule:
    """
    Base class of the models. All methods but ``next`` are called on the reactor's thread.

    :param size: maximum number of threads.
    :param queueLength: messages in a queue at which sessions are paused.
    :param wake: asks the pool to call :py:meth:`starts` soon.

    :ivar runs: the runs in the pool's threads.
    :ivar fullQueues: queues with paused sessions.
    """

    def __init__(self, size: int, queueLength: int, wake: Callable[[], object]) -> None:
        self.size = size
        self.queueLength = queueLength
        self.runs: set[WorkerRun] = set()
        self.fullQueues: set[SharedQueue] = set()
        self._wake = wake

    def attach(self, session: Session) -> Work:
        """Make the proxy that stands in front of the session's listener."""
        return SharedWork(self, session)

    def queueFor(self, key: Any) -> SharedQueue:
        """The queue of a key; without keys, the next queue in rotation."""
        raise NotImplementedError

    def ready(self, queue: WorkQueue) -> None:
        """Schedule a queue that has items and is not scheduled."""
        raise NotImplementedError

    def served(self, queue: WorkQueue) -> None:
        """A run has left the queue."""
        raise NotImplementedError

    def starts(self) -> list[tuple[bool, WorkQueue | None]]:
        """The runs to start: for each, whether it is for slow queues, and the queue it is bound to (None: any)."""
        raise NotImplementedError

    def next(self, run: WorkerRun) -> WorkQueue | None:
        """The queue to serve next; None ends the run. Called in the worker's thread."""
        raise NotImplementedError

    def queued(self) -> int:
        """Number of messages in shared queues."""
        return 0

    def resumeSessions(self) -> None:
        """Resume the sessions whose queues have room again."""
        for queue in [queue for queue in self.fullQueues if len(queue.items) <= self.queueLength // 2]:
            self.fullQueues.discard(queue)
            sessions, queue.pausedSessions = queue.pausedSessions, set()
            for session in sessions:
                session.inbound.resume(WORKERS)


class KeyedSchedule(Schedule):
    """One thread at a time serves each queue; any thread may take the next queue."""

    def __init__(
        self,
        size: int,
        queueLength: int,
        wake: Callable[[], object],
        key: Callable[[Session, Any], Hashable] | None,
    ) -> None:
        super().__init__(size, queueLength, wake)
        self._key = key
        self.queues: dict[Hashable, SharedQueue] = {}
        self._keys: dict[WorkQueue, Hashable] = {}
        self._fast: deque[WorkQueue] = deque()
        self._slow: deque[WorkQueue] = deque()
        self._lastFast = monotonic() - RESERVE_TIME

    def attach(self, session: Session) -> Work:
        return SessionQueue(self, session) if self._key is None else KeyedWork(self, session, self._key)

    def queueFor(self, key: Any) -> SharedQueue:
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = SharedQueue(isExclusive=True)
            self._keys[queue] = key
        return queue

    def queued(self) -> int:
        return sum(len(queue.items) for queue in self.queues.values())

    def ready(self, queue: WorkQueue) -> None:
        queue.scheduled = True
        (self._slow if queue.slow else self._fast).append(queue)
        self._wake()

    def served(self, queue: WorkQueue) -> None:
        queue.scheduled = False
        if isinstance(queue, SessionQueue):
            queue.resume()
        elif queue.items:
            self.ready(queue)
        elif queue in self._keys:
            del self.queues[self._keys.pop(queue)]

    def _slowRuns(self) -> int:
        """How many threads may serve slow queues."""
        isMixed = monotonic() - self._lastFast < RESERVE_TIME
        return self.size - max(1, self.size // 4) if isMixed and self.size > 1 else self.size

    def starts(self) -> list[tuple[bool, WorkQueue | None]]:
        now = monotonic()
        runs = self.runs
        found: list[tuple[bool, WorkQueue | None]] = []
        if self._fast:
            self._lastFast = now
            if not any(not run.slow and run.isFresh(now) for run in runs) and len(runs) < self.size:
                found.append((False, None))
        if self._slow:
            slow = sum(run.slow for run in runs)
            room = min(self._slowRuns() - slow, self.size - len(runs) - len(found), len(self._slow))
            found += [(True, None)] * room
        return found

    def next(self, run: WorkerRun) -> WorkQueue | None:
        queues = self._slow if run.slow else self._fast
        if run.slow:
            runs = tuple(self.runs)
            if sum(other.slow for other in runs) > self._slowRuns():
                return None
            if self._fast and len(runs) == self.size and all(other.slow for other in runs):
                # No thread is left for fast queues, and serving one of them is quick.
                queues = self._fast
        try:
            return queues.popleft()
        except IndexError:
            return None


class UnorderedSchedule(Schedule):
    """
    A fixed number of queues, each served by its share of the threads; keeps no order.

    :param queues: number of queues; messages go to them in rotation.
    :param eager: start a thread for each message at once, up to ``size``.
    """

    def __init__(self, size: int, queueLength: int, wake: Callable[[], object], queues: int, eager: bool) -> None:
        super().__init__(size, queueLength, wake)
        # Thread i serves queue i % queues.
        self.queues = [SharedQueue(isExclusive=False, threads=(size + queues - 1 - i) // queues) for i in range(queues)]
        self._turn = 0
        self._eager = eager

    def queueFor(self, key: Any) -> SharedQueue:
        self._turn = (self._turn + 1) % len(self.queues)
        return self.queues[self._turn]

    def queued(self) -> int:
        return sum(len(queue.items) for queue in self.queues)

    def ready(self, queue: WorkQueue) -> None:
        queue.scheduled = True
        self._wake()

    def served(self, queue: WorkQueue) -> None:
        if queue.items:
            self._wake()
        else:
            queue.scheduled = False

    def starts(self) -> list[tuple[bool, WorkQueue | None]]:
        now = monotonic()
        found: list[tuple[bool, WorkQueue | None]] = []
        for queue in self.queues:
            if not queue.items:
                continue
            runs = [run for run in self.runs if run.queue is queue]
            if queue.slow or self._eager:
                wanted = min(queue.threads, len(runs) + len(queue.items) - sum(run.isFresh(now) for run in runs))
            else:
                wanted = len(runs) + (not any(run.isFresh(now) for run in runs))
            found += [(queue.slow, queue)] * (min(wanted, queue.threads) - len(runs))
        return found

    def next(self, run: WorkerRun) -> WorkQueue | None:
        queue = run.queue
        assert queue is not None
        return queue if queue.items else None
