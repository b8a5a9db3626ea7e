"""What waits for a worker: lines of messages, and what a session knows of its own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from getty_tx.errors import SessionClosedError
from getty_tx.listener import ListenerProxy
from getty_tx.session.pausing import CRON_BARRIER, HOLDS_QUEUED, WORKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.workers.schedule import Plan

__all__ = ["KeyedWork", "Line", "OwnLine", "SharedLine", "SharedWork", "Task", "Work"]

log = Logger()


class Line(Protocol):
    """
    Messages, and tasks of the application, that wait for a worker.

    :ivar items: packages, or ``(work, package)`` pairs where it is not one session's. Threads take from the front, the
        reactor's alone adds.
    :ivar isExclusive: one thread at a time serves it, so that order holds.
    :ivar isOwn: it is the line of one session.
    :ivar scheduled: it waits for a thread, or one serves it.
    :ivar slow: the last handler blocked.
    """

    items: deque[Any]
    scheduled: bool
    slow: bool

    @property
    def isExclusive(self) -> bool: ...

    @property
    def isOwn(self) -> bool: ...


class SharedLine:
    """
    A line of several sessions.

    :ivar threads: how many serve it at most.
    :ivar full: the sessions that are paused as it is full, told when there is room.
    """

    __slots__ = ("full", "isExclusive", "items", "scheduled", "slow", "threads")

    isOwn = False

    def __init__(self, isExclusive: bool, threads: int = 1) -> None:
        self.items: deque[tuple[Any, Any]] = deque()
        self.isExclusive = isExclusive
        self.scheduled = False
        self.slow = False
        self.threads = threads
        self.full: set[Session] = set()


class Work(ListenerProxy):
    """
    Between a session and the pool: takes the place of the listener, and forwards all but the messages.

    :ivar holdsEvents: onError and onCron wait until no message of the session is under way.
    :ivar cronDue: an onCron waits for that.
    :ivar isDropped: what waits is not delivered any more.
    :ivar keeps: the peer has closed in order, so closing the session does not drop what waits.
    """

    __slots__ = ("_abandoned", "_plan", "cronDue", "holdsEvents", "isDropped", "keeps", "session")

    def __init__(self, plan: Plan, session: Session, holdsEvents: bool) -> None:
        self._plan = plan
        self.session = session
        self.listener = session.receiver
        self.holdsEvents = holdsEvents
        self.cronDue = False
        self.isDropped = False
        self.keeps = False
        self._abandoned = False

    def __getattr__(self, name: str) -> Any:
        # onOpen, onError and onClose.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.listener, name)

    def __repr__(self) -> str:
        return f"onMessage of {self.session}"

    def onMessage(self, session: Session, pkg: Any) -> None:
        """A package came: put it into its line."""
        raise NotImplementedError

    def onCron(self, session: Session) -> Any:
        """It is time for onCron: call it, or after the messages that came before it, and let none in until then."""
        if self.holdsEvents and self.busy:
            self.cronDue = True
            session.inbound.pause(CRON_BARRIER)
            return None
        return self.listener.onCron(session)

    @property
    def busy(self) -> bool:
        """True while a message of the session waits or runs."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Messages that wait in a line of the session's own."""
        return 0

    def _clear(self) -> int:
        """Take back what waits; returns how many are known to have been dropped."""
        raise NotImplementedError

    def drop(self) -> int:
        """The session closes: deliver nothing more of what waits. Returns how many were dropped, where it is known."""
        if self.keeps:
            return 0
        self.isDropped = True
        return self._clear()

    def abandon(self) -> int:
        """Wait for nothing any more, not for what runs either. Returns how many messages were dropped."""
        self.keeps = False
        self._abandoned = True
        return self.drop()

    def release(self) -> None:
        """Nothing holds the session's messages any more."""

    def failed(self, failure: Failure) -> None:
        """On the reactor's thread: a handler raised."""
        error = failure.value
        session = self.session
        assert error is not None
        if isinstance(error, SessionClosedError) and session.isClosed and error.session is session:
            log.info("{session}: an answer came after the session was closed", session=session)
            return
        session.callbackFailed(error, failure)


#: In place of a line that was never used, as an empty deque has more than half a kilobyte.
_NOTHING: deque[Any] = deque(maxlen=0)


class OwnLine(Work):
    """A line for each session: its messages in order, one worker at a time."""

    __slots__ = ("_full", "_isHeld", "items", "scheduled", "slow")

    isExclusive = True
    isOwn = True

    def __init__(self, plan: Plan, session: Session) -> None:
        super().__init__(plan, session, holdsEvents=True)
        self.items = _NOTHING
        self.scheduled = False
        self.slow = False
        self._full = plan.queueLength
        # It has messages that wait until the session is not paused any more.
        self._isHeld = False

    def onMessage(self, session: Session, pkg: Any) -> None:
        items = self.items
        if items is _NOTHING:
            items = self.items = deque()
        items.append(pkg)
        if not self.scheduled:
            self._plan.ready(self)
        if len(items) >= self._full:
            session.inbound.pause(WORKERS)

    @property
    def busy(self) -> bool:
        return (self.scheduled or self._isHeld) and not self._abandoned

    @property
    def waiting(self) -> int:
        return len(self.items)

    def _clear(self) -> int:
        dropped = len(self.items)
        self.items.clear()
        self._isHeld = False
        return dropped

    def resume(self) -> None:
        """On the reactor's thread: a run is through with the line for now."""
        session = self.session
        inbound = session.inbound
        self._isHeld = False
        if self.items:
            if inbound.paused & HOLDS_QUEUED:
                self._isHeld = True
            else:
                self._plan.ready(self)
        else:
            self.items = _NOTHING
        if inbound.paused & WORKERS and len(self.items) <= self._full // 2:
            inbound.resume(WORKERS)
        elif not self.scheduled:
            session.workersIdle()

    def release(self) -> None:
        if self._isHeld:
            self._isHeld = False
            if self.items and not self.scheduled:
                self._plan.ready(self)


class SharedWork(Work):
    """A session whose messages go to lines that it shares with others."""

    __slots__ = ("_underWay",)

    def __init__(self, plan: Plan, session: Session, holdsEvents: bool = False) -> None:
        super().__init__(plan, session, holdsEvents)
        self._underWay = 0

    def _line(self, pkg: Any) -> SharedLine:
        return self._plan.lineFor(pkg)

    def onMessage(self, session: Session, pkg: Any) -> None:
        plan = self._plan
        line = self._line(pkg)
        self._underWay += 1
        line.items.append((self, pkg))
        if not line.scheduled:
            plan.ready(line)
        if len(line.items) >= plan.queueLength:
            plan.full.add(line)
            line.full.add(session)
            session.inbound.pause(WORKERS)

    @property
    def busy(self) -> bool:
        return self._underWay > 0 and not self._abandoned

    def _clear(self) -> int:
        # They stay in their lines, among those of others, and are passed over there.
        return self._underWay

    def served(self, count: int) -> None:
        """On the reactor's thread: a run is through with ``count`` messages of the session."""
        self._underWay -= count
        if not self._underWay:
            self.session.workersIdle()


class KeyedWork(SharedWork):
    """A session whose messages go to the lines of their keys."""

    __slots__ = ("_key",)

    def __init__(self, plan: Plan, session: Session, key: Callable[[Session, Any], Hashable]) -> None:
        super().__init__(plan, session, holdsEvents=True)
        self._key = key

    def _line(self, pkg: Any) -> SharedLine:
        return self._plan.lineFor(self._key(self.session, pkg))


class Task:
    """A call of the application's own, as a worker sees it: a listener with one message."""

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
        """It is done."""

    def failed(self, failure: Failure) -> None:
        """It raised."""
        log.failure("{task} failed", failure, task=self)
