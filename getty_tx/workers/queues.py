"""Queues of messages that wait for a worker thread, and each session's proxy that fills them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from getty_tx.errors import SessionClosedError
from getty_tx.listener import ListenerProxy
from getty_tx.session.batches import Packages, forWorkers
from getty_tx.session.pausing import CRON_BARRIER, HOLDS_QUEUED, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.python.failure import Failure

    from getty_tx.session.session import Session

__all__ = ["KeyedWork", "SessionQueue", "SharedQueue", "SharedWork", "Task", "Work", "WorkQueue"]

log = Logger()


class WorkQueue(Protocol):
    """
    A queue of messages and application tasks for the workers.

    :ivar items: packages in the queue of one session, ``(work, package)`` pairs in any other. Worker threads take from
        the front; only the reactor's thread appends.
    :ivar isExclusive: one thread at a time serves the queue, which keeps the order.
    :ivar isSessionQueue: the queue belongs to one session.
    :ivar scheduled: the queue waits for a thread, or a thread serves it.
    :ivar slow: the last handler blocked.
    """

    items: deque[Any]
    scheduled: bool
    slow: bool

    @property
    def isExclusive(self) -> bool: ...

    @property
    def isSessionQueue(self) -> bool: ...


class Scheduler(Protocol):
    """What queues and runs need of a :py:class:`getty_tx.workers.schedule.Schedule`."""

    queueLength: int
    fullQueues: set[SharedQueue]

    def queueFor(self, key: Any) -> SharedQueue: ...

    def ready(self, queue: WorkQueue) -> None: ...

    def served(self, queue: WorkQueue) -> None: ...

    def next(self, run: Any) -> WorkQueue | None: ...


class SharedQueue:
    """
    A queue of several sessions.

    :ivar threads: maximum number of threads that serve it.
    :ivar pausedSessions: sessions paused because the queue is full; resumed when it has room.
    """

    __slots__ = ("isExclusive", "items", "pausedSessions", "scheduled", "slow", "threads")

    isSessionQueue = False

    def __init__(self, isExclusive: bool, threads: int = 1) -> None:
        self.items: deque[tuple[Any, Any]] = deque()
        self.isExclusive = isExclusive
        self.scheduled = False
        self.slow = False
        self.threads = threads
        self.pausedSessions: set[Session] = set()


class Work(ListenerProxy):
    """
    Stands in front of a session's listener: queues messages for the workers, forwards all other events.

    :ivar holdsEvents: onError and onCron wait until no message of the session is queued or running.
    :ivar cronDue: an onCron waits for the messages before it.
    :ivar isDropped: queued messages are not delivered any more.
    :ivar keepsQueued: the peer closed in order, so closing the session does not drop queued messages.
    """

    __slots__ = ("_abandoned", "_schedule", "cronDue", "holdsEvents", "isDropped", "keepsQueued", "session")

    def __init__(self, schedule: Scheduler, session: Session, holdsEvents: bool) -> None:
        self._schedule = schedule
        self.session = session
        self.listener = forWorkers(session)
        self.holdsEvents = holdsEvents
        self.cronDue = False
        self.isDropped = False
        self.keepsQueued = False
        self._abandoned = False

    def __getattr__(self, name: str) -> Any:
        # onOpen, onError and onClose.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.listener, name)

    def __repr__(self) -> str:
        return f"onMessage of {self.session}"

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Put the package into its queue."""
        raise NotImplementedError

    def onMessages(self, session: Session, packages: list[Any]) -> None:
        """Put a list into the queue, as one package. Only a listener that takes lists gets one."""
        self.onMessage(session, Packages(packages))

    def onCron(self, session: Session) -> Any:
        """Call onCron now, or after the messages that came before it; until then the session is not read from."""
        if self.holdsEvents and self.busy:
            self.cronDue = True
            session.inbound.pause(CRON_BARRIER)
            return None
        return self.listener.onCron(session)

    @property
    def busy(self) -> bool:
        """True while a message of the session is queued or running."""
        raise NotImplementedError

    @property
    def queued(self) -> int:
        """Messages in the session's private queue; 0 if it shares queues."""
        return 0

    def _clear(self) -> int:
        """Drop the queued messages; returns their number, as far as known."""
        raise NotImplementedError

    def drop(self) -> int:
        """The session closes: drop its queued messages, unless ``keepsQueued``. Returns their number if known."""
        if self.keepsQueued:
            return 0
        self.isDropped = True
        return self._clear()

    def abandon(self) -> int:
        """Drop the queued messages and stop waiting for the running one. Returns how many messages were dropped."""
        self.keepsQueued = False
        self._abandoned = True
        return self.drop()

    def release(self) -> None:
        """The session is no longer paused: schedule its queued messages."""

    def failed(self, failure: Failure) -> None:
        """A handler raised. Called on the reactor's thread."""
        error = failure.value
        session = self.session
        assert error is not None
        if isinstance(error, SessionClosedError) and session.isClosed and error.session is session:
            log.info("{session}: an answer came after the session was closed", session=session)
            return
        session.callbackFailed(error, failure)


#: Stands for the empty queue of an idle session, because an empty deque takes more than half a kilobyte.
_EMPTY: deque[Any] = deque(maxlen=0)


class SessionQueue(Work):
    """The private queue of one session: its messages in order, one worker at a time."""

    __slots__ = ("_capacity", "_isHeld", "items", "scheduled", "slow")

    isExclusive = True
    isSessionQueue = True

    def __init__(self, schedule: Scheduler, session: Session) -> None:
        super().__init__(schedule, session, holdsEvents=True)
        self.items = _EMPTY
        self.scheduled = False
        self.slow = False
        self._capacity = schedule.queueLength
        # Messages wait until the session is no longer paused.
        self._isHeld = False

    def onMessage(self, session: Session, pkg: Any) -> None:
        items = self.items
        if items is _EMPTY:
            items = self.items = deque()
        items.append(pkg)
        if not self.scheduled:
            self._schedule.ready(self)
        if len(items) >= self._capacity:
            session.inbound.pause(WORKERS)

    @property
    def busy(self) -> bool:
        return (self.scheduled or self._isHeld) and not self._abandoned

    @property
    def queued(self) -> int:
        return len(self.items)

    def _clear(self) -> int:
        dropped = len(self.items)
        self.items.clear()
        self._isHeld = False
        return dropped

    def resume(self) -> None:
        """A worker has left the queue. Called on the reactor's thread."""
        session = self.session
        inbound = session.inbound
        self._isHeld = False
        if self.items:
            if inbound.paused & HOLDS_QUEUED:
                self._isHeld = True
            else:
                self._schedule.ready(self)
        else:
            self.items = _EMPTY
        if inbound.paused & WORKERS and len(self.items) <= self._capacity // 2:
            inbound.resume(WORKERS)
        elif not self.scheduled:
            session.workersIdle()

    def release(self) -> None:
        if self._isHeld:
            self._isHeld = False
            if self.items and not self.scheduled:
                self._schedule.ready(self)


class SharedWork(Work):
    """The proxy of a session whose messages go to queues shared with other sessions."""

    __slots__ = ("_inFlight",)

    def __init__(self, schedule: Scheduler, session: Session, holdsEvents: bool = False) -> None:
        super().__init__(schedule, session, holdsEvents)
        self._inFlight = 0

    def _queue(self, pkg: Any) -> SharedQueue:
        return self._schedule.queueFor(pkg)

    def onMessage(self, session: Session, pkg: Any) -> None:
        schedule = self._schedule
        queue = self._queue(pkg)
        self._inFlight += 1
        queue.items.append((self, pkg))
        if not queue.scheduled:
            schedule.ready(queue)
        if len(queue.items) >= schedule.queueLength:
            schedule.fullQueues.add(queue)
            queue.pausedSessions.add(session)
            session.inbound.pause(WORKERS)

    @property
    def busy(self) -> bool:
        return self._inFlight > 0 and not self._abandoned

    def _clear(self) -> int:
        # The messages stay in the shared queues; workers skip them.
        return self._inFlight

    def served(self, count: int) -> None:
        """A worker has served ``count`` messages of the session. Called on the reactor's thread."""
        self._inFlight -= count
        if not self._inFlight:
            self.session.workersIdle()


class KeyedWork(SharedWork):
    """The proxy of a session whose messages go to the queues of their keys."""

    __slots__ = ("_key",)

    def __init__(self, schedule: Scheduler, session: Session, key: Callable[[Session, Any], Hashable]) -> None:
        super().__init__(schedule, session, holdsEvents=True)
        self._key = key

    def _queue(self, pkg: Any) -> SharedQueue:
        return self._schedule.queueFor(self._key(self.session, pkg[0] if type(pkg) is Packages else pkg))

    def onMessages(self, session: Session, packages: list[Any]) -> None:
        """Put the packages of each key into its queue, as a list."""
        groups: dict[Hashable, Packages] = {}
        for pkg in packages:
            key = self._key(session, pkg)
            if key in groups:
                groups[key].append(pkg)
            else:
                groups[key] = Packages((pkg,))
        for group in groups.values():
            self.onMessage(session, group if len(group) > 1 else group[0])


class Task:
    """An application's task in the shape of a :py:class:`Work`: its own listener, with the arguments as the package."""

    __slots__ = ("call", "started")

    isDropped = False

    def __init__(self, call: Callable[..., object], started: Callable[[], object]) -> None:
        self.call = call
        self.started = started

    def __repr__(self) -> str:
        return f"the task {self.call!r}"

    @property
    def listener(self) -> Task:
        return self

    @property
    def session(self) -> None:
        return None

    def onMessage(self, session: None, args: tuple[Any, ...]) -> None:
        self.started()
        self.call(*args)

    def served(self, count: int) -> None:
        """The task is done: nothing to do."""

    def failed(self, failure: Failure) -> None:
        """Log that the task raised."""
        log.failure("{task} failed", failure, task=self)
