"""
What a worker thread does: it serves one line after the other until none waits, and collects what is to happen on the
reactor's thread.

A thread that wakes the reactor for each reply gives up the interpreter each time, which takes longer than the work. So
what the handlers write goes into the run's box, and the reactor is told when the run is over, when a millisecond has
gone by, or, while a handler blocks, by its own looking.
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
    from getty_tx.workers.queues import Line
    from getty_tx.workers.schedule import Plan

__all__ = ["BOX", "SLICE", "Run"]

log = Logger()

#: Seconds that a thread stays with one line while others wait, and that replies stay in the box. A handler that takes
#: longer than this is one that blocks.
SLICE = 0.001

#: Bytes of replies in the box with which a run ends, so that the reactor can send them.
BOX = 1024 * 1024


class Run:
    """
    One stay in a thread of the pool.

    :ivar since: when the thread began with the line that it serves, on the monotonic clock.
    :ivar what: what it is doing, to name it when it is stuck.
    :ivar slow: it serves lines that block.
    :ivar line: the one line that it serves; None where it takes any.
    :ivar isLate: the reactor has found it with a handler that takes its time.
    """

    __slots__ = (
        "_box",
        "_hasCalled",
        "_mark",
        "_taken",
        "_tell",
        "_told",
        "_toldAt",
        "_written",
        "isLate",
        "line",
        "plan",
        "since",
        "slow",
        "what",
    )

    def __init__(self, plan: Plan, tell: Callable[[Run], object], slow: bool, line: Line | None) -> None:
        self.plan = plan
        self.slow = slow
        self.line = line
        self.what: object = None
        self.since = self._toldAt = monotonic()
        # What is for the reactor's thread: (session, chunks, packages) to write, or (None, call, args). Appending and
        # taking from the other end need no lock.
        self._box: deque[tuple[Any, Any, Any]] = deque()
        # Bytes ever written into the box, those of them before the message that runs, and those taken out. Only this
        # thread changes the first two, only the reactor's the last.
        self._written = 0
        self._mark = 0
        self._taken = 0
        self._tell = tell
        self.isLate = False
        self._told = False
        # The handler has asked for something like close(), which is to be done before the next message.
        self._hasCalled = False

    # In the worker's thread

    def __call__(self) -> None:
        """Serve lines until none is left for this run."""
        current.run = self
        try:
            while self._written - self._taken < BOX:
                line = self.plan.next(self)
                if line is None:
                    break
                self._serve(line)
                if monotonic() - self._toldAt > SLICE:
                    self.tell()
        finally:
            current.run = None
            self.what = None

    def _serve(self, line: Line) -> None:
        self.isLate = self._hasCalled = False
        self.since = monotonic()
        if line.isOwn:
            self._serveOwn(line)
        else:
            self._serveShared(line)
        self._box.append((None, self.plan.served, (line,)))

    def _serveOwn(self, line: Any) -> None:
        """The line of one session, until it has had its time."""
        self.what = line
        take = line.items.popleft
        session = line.session
        inbound = session.inbound
        before = began = self.since
        while True:
            try:
                pkg = take()
            except IndexError:
                return
            self._mark = self._written
            try:
                # The listener may be changed meanwhile.
                result = line.listener.onMessage(session, pkg)
                if result is not None:
                    _refuse(result)
            except BaseException:
                # The session closes: what waits behind is dropped before the line is served again.
                self._box.append((None, line.failed, (Failure(),)))
                return
            now = monotonic()
            if now - began > SLICE:
                line.slow = now - before > SLICE
                return
            before = now
            line.slow = False
            if self._hasCalled or self._written - self._taken > BOX or inbound.paused & HOLDS_QUEUED:
                return

    def _serveShared(self, line: Line) -> None:
        """A line of several sessions. One that is not exclusive is served until it is empty."""
        items = line.items
        box = self._box
        began = now = self.since
        # Messages served of one session, to be told together.
        served = 0
        last: Any = None
        while True:
            try:
                work, pkg = items.popleft()
            except IndexError:
                break
            if work is not last or now - self._toldAt > SLICE:
                if served:
                    box.append((None, last.served, (served,)))
                last = work
                served = 0
                if now - self._toldAt > SLICE:
                    self.tell()
            served += 1
            if work.isDropped:
                continue
            self.what = work
            self._mark = self._written
            before = now
            try:
                result = work.listener.onMessage(work.session, pkg)
                if result is not None:
                    _refuse(result)
            except BaseException:
                box.append((None, work.failed, (Failure(),)))
                if line.isExclusive:
                    break
            now = monotonic()
            line.slow = now - before > SLICE
            if not line.isExclusive:
                self.since = now
                self.isLate = False
            elif now - began > SLICE:
                break
            if self._written - self._taken > BOX:
                break
        if served:
            box.append((None, last.served, (served,)))

    def write(self, session: Session, data: bytes | list[bytes], packages: int, length: int) -> None:
        """
        Have the reactor write to the session, after all that this run has asked for before.

        :param data: ``length`` bytes, or a list of pieces that have so many.
        """
        self._box.append((session, data, packages))
        self._written += length
        if self.isLate:
            # The handler takes its time: what it says is not to wait for its end.
            self.tell()

    def call(self, call: Callable[..., object], args: tuple[Any, ...], isWrite: bool) -> None:
        """
        Have the reactor call ``call(*args)``, after all that this run has asked for before.

        :param isWrite: it may come after further messages; ``close()`` may not.
        """
        self._box.append((None, call, args))
        if not isWrite:
            self._hasCalled = True
        if self.isLate:
            self.tell()

    @property
    def boxed(self) -> int:
        """Bytes written by the handler that runs, and not seen by the reactor."""
        return self._written - max(self._taken, self._mark)

    def tell(self) -> None:
        """Wake the reactor to take what is in the box."""
        self._toldAt = monotonic()
        if not self._told:
            self._told = True
            self._tell(self)

    # In the reactor's thread

    def isFresh(self, now: float) -> bool:
        """It has begun with its line within the last millisecond, so it may soon take the next."""
        return now - self.since < SLICE

    def drain(self) -> None:
        """Do what is in the box."""
        # First, so that what is put there from now on is told again.
        self._told = False
        box = self._box
        last: Session | None = None
        gathered: list[bytes] = []
        count = 0
        while True:
            try:
                session, what, more = box.popleft()
            except IndexError:
                break
            if last is not None and session is not last:
                self._write(last, gathered, count)
                last = None
            if session is None:
                try:
                    what(*more)
                except Exception:
                    log.failure("a call for a worker failed")
            else:
                if last is None:
                    last, gathered, count = session, [], 0
                if type(what) is bytes:
                    gathered.append(what)
                else:
                    gathered += what
                count += more
        if last is not None:
            self._write(last, gathered, count)

    def _write(self, session: Session, chunks: list[bytes], packages: int) -> None:
        self._taken += sum(map(len, chunks))
        try:
            session._writeForThread(chunks, None, packages)
        except Exception:
            log.failure("{session}: what a worker wrote could not be sent", session=session)


def _refuse(result: Any) -> None:
    """
    A handler returned something: nobody could wait for it here.

    :raise TypeError: it is something to wait for.
    """
    if iscoroutine(result):
        result.close()
    elif not isinstance(result, Deferred):
        return
    raise TypeError(f"onMessage returned a {type(result).__name__} in a worker: make it async def, or let it block")
