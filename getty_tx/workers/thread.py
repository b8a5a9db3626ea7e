"""
The loop of a worker thread: serve one queue after the other, and collect calls for the reactor's thread.

A thread that wakes the reactor for each reply gives up the interpreter each time, which takes longer than the work. So
the handlers' writes are collected in the run. The reactor is notified when the run ends and after each millisecond;
while a handler blocks, the reactor polls the run.
"""

from __future__ import annotations

from collections import deque
from inspect import iscoroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.session.pausing import HOLDS_QUEUED
from getty_tx.session.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.session import Session
    from getty_tx.workers.queues import Scheduler, WorkQueue

__all__ = ["QUANTUM", "REPLY_BYTES_MAX", "WorkerRun"]

log = Logger()

#: Seconds that a thread stays with one queue while others wait, and that replies stay in the run. A handler that takes
#: longer counts as blocking.
QUANTUM = 0.001

#: Bytes of collected replies at which a run ends, so that the reactor can send them.
REPLY_BYTES_MAX = 1024 * 1024


class WorkerRun:
    """
    One call in a thread of the pool: serves queues until none is left for it.

    :ivar since: when the thread began to serve its present queue, on the monotonic clock.
    :ivar serving: the queue, session or task that it serves, to name it in the log when it is stuck.
    :ivar slow: it serves slow queues, whose handlers block.
    :ivar queue: the only queue that it serves; None if it takes any.
    :ivar isBlocked: the reactor found that its handler blocks.
    """

    __slots__ = (
        "_hasCalled",
        "_isNotified",
        "_notifiedAt",
        "_notify",
        "_pending",
        "_taken",
        "_written",
        "_writtenBefore",
        "isBlocked",
        "queue",
        "schedule",
        "serving",
        "since",
        "slow",
    )

    def __init__(
        self, schedule: Scheduler, notify: Callable[[WorkerRun], object], slow: bool, queue: WorkQueue | None
    ) -> None:
        self.schedule = schedule
        self.slow = slow
        self.queue = queue
        self.serving: object = None
        self.since = self._notifiedAt = monotonic()
        # For the reactor's thread: (session, chunks, packages) to write, or (None, call, args). No lock is needed to
        # append at one end and take from the other.
        self._pending: deque[tuple[Any, Any, Any]] = deque()
        # Bytes written in all, bytes written before the running message, and bytes that the reactor has taken. Only
        # this thread changes the first two, only the reactor's thread the last.
        self._written = 0
        self._writtenBefore = 0
        self._taken = 0
        self._notify = notify
        self.isBlocked = False
        self._isNotified = False
        # The handler made a call such as close(), which the reactor has to do before the next message.
        self._hasCalled = False

    # In the worker's thread

    def __call__(self) -> None:
        """Serve queues until none is left for this run, or ``REPLY_BYTES_MAX`` bytes are collected."""
        current.run = self
        try:
            while self._written - self._taken < REPLY_BYTES_MAX:
                queue = self.schedule.next(self)
                if queue is None:
                    break
                self._serve(queue)
                if monotonic() - self._notifiedAt > QUANTUM:
                    self.notify()
        finally:
            current.run = None
            self.serving = None

    def _serve(self, queue: WorkQueue) -> None:
        self.isBlocked = self._hasCalled = False
        self.since = monotonic()
        if queue.isSessionQueue:
            self._serveSession(queue)
        else:
            self._serveShared(queue)
        self._pending.append((None, self.schedule.served, (queue,)))

    def _serveSession(self, queue: Any) -> None:
        """Serve the queue of one session, for a quantum at most."""
        self.serving = queue
        take = queue.items.popleft
        session = queue.session
        inbound = session.inbound
        before = began = self.since
        while True:
            try:
                pkg = take()
            except IndexError:
                return
            self._writtenBefore = self._written
            try:
                # Read anew for each message: the application may change the listener.
                result = queue.listener.onMessage(session, pkg)
                if result is not None:
                    _refuse(result)
            except BaseException:
                # The session closes, and drops its queued messages before the queue is served again.
                self._pending.append((None, queue.failed, (Failure(),)))
                return
            now = monotonic()
            if now - began > QUANTUM:
                queue.slow = now - before > QUANTUM
                return
            before = now
            queue.slow = False
            if self._hasCalled or self._written - self._taken > REPLY_BYTES_MAX or inbound.paused & HOLDS_QUEUED:
                return

    def _serveShared(self, queue: WorkQueue) -> None:
        """Serve a queue of several sessions: for a quantum if it is exclusive, else until it is empty."""
        items = queue.items
        pending = self._pending
        began = now = self.since
        # Messages of the same session in a row are reported together.
        served = 0
        last: Any = None
        while True:
            try:
                work, pkg = items.popleft()
            except IndexError:
                break
            if work is not last or now - self._notifiedAt > QUANTUM:
                if served:
                    pending.append((None, last.served, (served,)))
                last = work
                served = 0
                if now - self._notifiedAt > QUANTUM:
                    self.notify()
            served += 1
            if work.isDropped:
                continue
            self.serving = work
            self._writtenBefore = self._written
            before = now
            try:
                result = work.listener.onMessage(work.session, pkg)
                if result is not None:
                    _refuse(result)
            except BaseException:
                pending.append((None, work.failed, (Failure(),)))
                if queue.isExclusive:
                    break
            now = monotonic()
            queue.slow = now - before > QUANTUM
            if not queue.isExclusive:
                self.since = now
                self.isBlocked = False
            elif now - began > QUANTUM:
                break
            if self._written - self._taken > REPLY_BYTES_MAX:
                break
        if served:
            pending.append((None, last.served, (served,)))

    def write(self, session: Session, data: bytes | list[bytes], packages: int, length: int) -> None:
        """
        Have the reactor write to the session, in order with the run's other calls.

        :param data: bytes, or a list of pieces, of ``length`` bytes in all.
        """
        self._pending.append((session, data, packages))
        self._written += length
        if self.isBlocked:
            # Do not delay the write until the blocking handler returns.
            self.notify()

    def call(self, call: Callable[..., object], args: tuple[Any, ...], isWrite: bool) -> None:
        """
        Have the reactor call ``call(*args)``, in order with the run's writes.

        :param isWrite: further messages may be handled before the call; for ``close()`` they may not.
        """
        self._pending.append((None, call, args))
        if not isWrite:
            self._hasCalled = True
        if self.isBlocked:
            self.notify()

    @property
    def pendingBytes(self) -> int:
        """Bytes that the running handler wrote and the reactor has not taken."""
        return self._written - max(self._taken, self._writtenBefore)

    def notify(self) -> None:
        """Wake the reactor to drain this run."""
        self._notifiedAt = monotonic()
        if not self._isNotified:
            self._isNotified = True
            self._notify(self)

    # In the reactor's thread

    def isFresh(self, now: float) -> bool:
        """True if it began to serve its queue within the last millisecond, so it may take the next queue soon."""
        return now - self.since < QUANTUM

    def drain(self) -> None:
        """Do the collected writes and calls."""
        # Reset first, so that an entry added from now on notifies again.
        self._isNotified = False
        pending = self._pending
        last: Session | None = None
        gathered: list[bytes] = []
        count = 0
        while True:
            try:
                session, data, more = pending.popleft()
            except IndexError:
                break
            if last is not None and session is not last:
                self._write(last, gathered, count)
                last = None
            if session is None:
                try:
                    data(*more)
                except Exception:
                    log.failure("a call for a worker failed")
            else:
                if last is None:
                    last, gathered, count = session, [], 0
                if type(data) is bytes:
                    gathered.append(data)
                else:
                    gathered += data
                count += more
        if last is not None:
            self._write(last, gathered, count)

    def _write(self, session: Session, chunks: list[bytes], packages: int) -> None:
        self._taken += sum(map(len, chunks))
        try:
            session.writeForThread(chunks, None, packages)
        except Exception:
            log.failure("{session}: a worker's reply could not be sent", session=session)


def _refuse(result: Any) -> None:
    """
    Refuse a coroutine or Deferred returned by a handler: a worker thread cannot wait for it.

    :raise TypeError: the result is a coroutine or a Deferred.
    """
    if iscoroutine(result):
        result.close()
    elif not isinstance(result, Deferred):
        return
    raise TypeError(f"onMessage returned a {type(result).__name__} in a worker: make it async def, or let it block")
