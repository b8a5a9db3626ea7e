"""
asyncio as a guest: a real asyncio event loop inside the reactor, so that asyncio's libraries run beside sessions.

:py:func:`guestLoop` gives the loop of a reactor. The reactor alone waits for events. The loop's selector is an epoll
descriptor, which the reactor watches as one of its readers; the loop's nearest timer is one timer of the reactor; and
when callbacks are ready, the loop runs one pass at the end of the reactor's turn. Any reactor with ``addReader`` will
do: the getty reactor, Twisted's epoll, poll and select, and those of graphical toolkits.

All of this uses public interfaces of asyncio: the selector argument, ``stop()``, methods that a loop may override, and
what ``asyncio`` has for those who write loops and tasks.

``docs/howto/asyncio.md`` shows how to use it, ``docs/inside/reactor.md`` how it works.
"""

from __future__ import annotations

import asyncio
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import twisted.internet

from getty_tx.interfaces import IReactorTurns
from getty_tx.reactors.guestend import endTasks
from getty_tx.reactors.guesthosted import HostedLoop
from getty_tx.reactors.guestreader import EpollReader
from getty_tx.reactors.guestselector import GuestSelector
from getty_tx.reactors.shortreads import shortReadsOf

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from contextvars import Context

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")

__all__ = ["GuestLoop", "guestLoop"]

#: The attribute of a reactor that has its loop. Not a table beside: the loop refers to its reactor, so that an entry
#: would keep both for ever.
_ATTRIBUTE = "gettyGuestLoop"

_Base = asyncio.SelectorEventLoop
_callSoon = _Base.call_soon
_runForever = _Base.run_forever
_stop = _Base.stop
_selectEpoll = GuestSelector.select
_runUntilComplete = _Base.run_until_complete
_close = _Base.close
_Task: Any = asyncio.Task
# Both are in asyncio.events.__all__, for writers of loops.
_getRunningLoop = asyncio._get_running_loop
_setRunningLoop = asyncio._set_running_loop


def guestLoop(reactor: Any = None) -> GuestLoop:
    """
    The asyncio event loop of a reactor, made at the first call. It lives until the reactor has stopped.

    A reactor that has stopped gets another one: trial tells it to stop after some tests, and goes on with it.

    Only for the reactor's thread. The loop of the process's reactor also becomes the thread's event loop
    (``asyncio.set_event_loop``), so that ``asyncio.ensure_future`` finds it outside of tasks, too.

    :param reactor: None for the process's reactor.
    :raise RuntimeError: it is Twisted's asyncio reactor, which has a loop of its own.
    """
    if reactor is None:
        from twisted.internet import reactor
    loop: GuestLoop | None = getattr(reactor, _ATTRIBUTE, None)
    if loop is None or loop.is_closed():
        asyncioreactor = sys.modules.get("twisted.internet.asyncioreactor")
        if asyncioreactor is not None and isinstance(reactor, asyncioreactor.AsyncioSelectorReactor):
            raise RuntimeError(
                "this reactor runs on an asyncio loop, which needs no guest: use asyncio.get_running_loop(), or choose"
                " another reactor (twistd --reactor getty)"
            )
        loop = GuestLoop(reactor)
        setattr(reactor, _ATTRIBUTE, loop)
    return loop


class GuestLoop(HostedLoop):
    """
    An asyncio event loop that a reactor runs. :py:func:`guestLoop` makes it.

    Everything of ``asyncio.SelectorEventLoop`` works but what the reactor does itself: ``run_forever``,
    ``run_until_complete``, ``stop`` and ``close`` raise RuntimeError, and ``add_signal_handler`` raises
    NotImplementedError; the texts say what to do instead.

    When the reactor stops, the loop runs on while services stop. It ends after all ``shutdown`` triggers: tasks are
    cancelled, asynchronous generators closed, and the default executor is shut down, within ``endTime`` each.

    :param reactor: what runs it.

    :ivar staysEntered: for a process that serves nothing but asyncio applications: the loop is the running one from the
        first ``start`` of a turn to the turn's end, which makes the others cheaper. Callbacks of the reactor find it
        running, too. Without effect on a reactor that has no end of a turn.
    """

    #: Seconds that cancelled tasks, asynchronous generators and the default executor have to end, each.
    endTime = 5.0

    def __init__(self, reactor: Any) -> None:
        #: What runs it.
        self.reactor = reactor
        # The loop waits by itself, as the reactor has stopped.
        self._alone = False
        # The reactor has the reader.
        self._watched = False
        # A pass is asked for.
        self._planned = False
        # A descriptor of the selector may have an event.
        self._readable = False
        # It is the running loop outside of a pass; stays that to the end of the turn; a task takes its first step; and
        # what the hooks were before.
        self._entered = self._stays = self._steps = self.staysEntered = False
        self._before: Any = None
        # The reactor has stopped within a pass.
        self._stopped = False
        # The reactor's timer, and the loop's time of it. No timer of the loop is earlier, unless _overdue.
        self._timer: Any = None
        self._deadline = math.inf
        # The reactor's timer came, and the next time is not known yet.
        self._overdue = False
        self._executor: Any = None
        self._base = copy_context()
        # The reactor's thread, once it runs.
        self._thread: int | None = None
        # What a new task asks the loop to call, on Python 3.11, and that it is to be kept.
        self._step: Any = None
        self._keeps = False
        # Of Twisted's own epoll reactor; it gives the reactor callAtTurnsEnd, too.
        self._shortReads = shortReadsOf(reactor)
        self._atEnd: Callable[[Callable[[], object]], object]
        self._hasTurns = IReactorTurns.providedBy(reactor)
        if self._hasTurns:
            self._atEnd = reactor.callAtTurnsEnd
        else:
            self._atEnd = lambda call: reactor.callLater(0, call)
        selector = GuestSelector(self._watch, self._wake)
        super().__init__(selector)
        self._reader = EpollReader(selector.fileno(), self._look, self._lost)
        self._map = selector.get_map()
        self._guestSelector = selector
        # On the object, so that a pass takes one call less.
        selector.select = self._select  # type: ignore[method-assign]
        # An empty pass, to learn the hooks for asynchronous generators that run_forever() sets.
        self._planned = True
        self.call_soon(self._learnHooks)
        selector.announces = True
        running = _getRunningLoop()
        _setRunningLoop(None)
        try:
            _runForever(self)
        finally:
            _setRunningLoop(running)
        reactor.addSystemEventTrigger("after", "shutdown", self._reactorStopped)
        reactor.callWhenRunning(self._reactorRuns)
        self._isThreads = getattr(twisted.internet, "reactor", None) is reactor
        if self._isThreads:
            asyncio.set_event_loop(self)

    def __del__(self) -> None:
        # No warning: the reactor has gone without having run.
        if hasattr(self, "_reader") and not self.is_closed():
            self._planned = True
            _close(self)

    def _learnHooks(self) -> None:
        # As a tuple, as the garbage collector does not see what is in the object of sys.
        self._hooks = tuple(sys.get_asyncgen_hooks())

    # Starting

    def start(
        self, coroutine: Coroutine[Any, Any, T], context: Context | None = None, name: str | None = None
    ) -> asyncio.Task[T]:
        """
        Start a task from the reactor's side, at a lower cost than ``create_task``; for each request of a server, say.

        The coroutine runs until it first waits before ``start`` returns, so that the task may be ``done()``. (Where
        another asyncio loop runs in this thread, it begins at the end of the reactor's turn.) The loop's task factory
        is not asked.

        :param context: where the coroutine runs. None for a new copy of the context that the loop was made in: what one
            request sets is not seen by the next one, even if that is started from within the first. Not the context
            that is the present one.
        :param name: the task's name; None for a number.
        :raise RuntimeError: the loop has ended.
        """
        if context is None:
            context = self._base.copy()
        running = self if self._stays else _getRunningLoop()
        if running is not None:
            if running is self:
                return self._begin(coroutine, context, name)  # type: ignore[no-any-return]
            return _Task(coroutine, loop=self, name=name, context=context)  # type: ignore[no-any-return]
        if self._alone:
            coroutine.close()
            raise RuntimeError("Event loop is closed")
        self._enter()
        try:
            return self._begin(coroutine, context, name)  # type: ignore[no-any-return]
        finally:
            if self.staysEntered and self._hasTurns:
                self._stays = True
                self._atEnd(self._turnEnds)
            else:
                self._leave()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within this the loop is the running one, unless another is, and each call of :py:meth:`start` costs less."""
        if self._alone or _getRunningLoop() is not None:
            yield
            return
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        """Do what run_forever() does for a pass. Most requests need no pass then."""
        self._before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*self._hooks)
        _setRunningLoop(self)
        self._entered = True

    def _leave(self) -> None:
        self._entered = self._stays = False
        _setRunningLoop(None)
        sys.set_asyncgen_hooks(*self._before)
        if self._stopped:
            self.end()

    def _turnEnds(self) -> None:
        if self._stays:
            self._leave()

    def _leaveEarly(self) -> None:
        if self._stays and asyncio.current_task(self) is None:
            self._leave()

    if sys.version_info >= (3, 12):

        def _begin(self, coroutine: Any, context: Context, name: str | None) -> Any:
            """A task that has taken its first step. The loop is the running one."""
            return asyncio.Task(coroutine, loop=self, name=name, context=context, eager_start=True)

    else:

        def _begin(self, coroutine: Any, context: Context, name: str | None) -> Any:
            """As from Python 3.12 on, where asyncio does it: run what a new task asks the loop to call."""
            self._keeps = True
            try:
                task = _Task(coroutine, loop=self, name=name, context=context)
            finally:
                self._keeps = False
            step = self._step
            self._step = None
            # In a pass it may be a task that starts another one; outside of it that is known at less cost.
            outer = asyncio.current_task(self) if self._steps or not self._entered else None
            if outer is None:
                self._steps = True
                try:
                    context.run(step)
                finally:
                    self._steps = False
                return task
            # Both are for those who write tasks: https://docs.python.org/3/library/asyncio-extending.html
            asyncio.tasks._leave_task(self, outer)
            try:
                context.run(step)
            finally:
                asyncio.tasks._enter_task(self, outer)
            return task

    def is_running(self) -> bool:
        """Whether a callback or a task of the loop runs at this moment."""
        return self._entered or super().is_running()

    # Callbacks and timers

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As the base class: the callback runs at the end of the reactor's turn."""
        if self._keeps:
            # A new task, which does not look at what it is given.
            self._step = callback
            return None  # type: ignore[return-value]
        if self._debugs:
            self._checkThread()
        if not self._planned:
            self._planned = True
            self._atEnd(self._pass)
        return _callSoon(self, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """As the base class."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        # The base class has written to its pipe, which the reader sees.
        if not self._watched:
            self.reactor.callFromThread(self._look)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As the base class."""
        handle = super().call_at(when, callback, *args, context=context)
        if when < self._deadline:
            self._arm(when)
        return handle

    def set_debug(self, enabled: bool) -> None:
        """As the base class."""
        super().set_debug(enabled)
        self._debugs = enabled

    def _reactorRuns(self) -> None:
        self._thread = get_ident()

    def _checkThread(self) -> None:
        # The base class looks only while a pass runs.
        if self._thread is not None and self._thread != get_ident():
            raise RuntimeError("Non-thread-safe operation: outside of the reactor's thread use call_soon_threadsafe()")

    def _arm(self, when: float) -> None:
        """Let the reactor's timer come at a time of the loop that is earlier than now set."""
        self._deadline = when
        delay = max(0.0, when - self.time())
        # trial cancels what a test has left.
        if self._timer is None or not self._timer.active():
            self._timer = self.reactor.callLater(delay, self._due)
        else:
            self._timer.reset(delay)

    def _disarm(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            if timer.active():
                timer.cancel()
        self._deadline = math.inf

    def _due(self) -> None:
        self._timer = None
        self._deadline = math.inf
        self._overdue = True
        self._wake()

    # Passes

    def _wake(self) -> None:
        """Run a pass at the end of this turn of the reactor, if none is planned."""
        if not self._planned:
            self._planned = True
            self._atEnd(self._pass)

    def _look(self) -> None:
        """Look at the loop's descriptors in a pass at the end of this turn."""
        self._readable = True
        self._wake()

    def _watch(self) -> None:
        """Let the reactor watch the loop's descriptors, if there are any but the loop's own pipe."""
        if not self._watched and not self._alone and len(self._map) > 1:
            self._watched = True
            self.reactor.addReader(self._reader)
            if self._shortReads is not None:
                self._shortReads.add(self._reader)

    def _unwatch(self) -> None:
        self._watched = False
        if self._shortReads is not None:
            self._shortReads.remove(self._reader)
        self.reactor.removeReader(self._reader)

    def _select(self, timeout: float | None = None) -> Any:
        """
        What the selector does when a pass begins: it does not wait, and there is no second pass.

        :param timeout: seconds until the loop's next timer, None without timers, 0 if callbacks are ready or timers
            due.
        :return: the events, looked for only when the reactor has seen one.
        """
        if self._alone:
            return _selectEpoll(self._guestSelector, timeout)
        _stop(self)
        self._planned = False
        if timeout is None:
            self._overdue = False
            if self._timer is not None:
                self._disarm()
        elif timeout > 0:
            self._overdue = False
            when = self.time() + timeout
            # A timer that is set too early comes in vain, which is cheaper than to move it each time.
            if when < self._deadline:
                self._arm(when)
        elif self._overdue:
            # The next pass may be told.
            self._wake()
        if self._readable:
            self._readable = False
            return _selectEpoll(self._guestSelector, 0)
        return ()

    def _pass(self) -> None:
        """Run what is ready now; what becomes ready meanwhile waits for the end of the next turn."""
        if self._stays:
            self._leave()
        if self._alone:
            return
        try:
            _runForever(self)
        except BaseException:
            # SystemExit or KeyboardInterrupt of a callback: the others are still to run.
            self._planned = False
            self._wake()
            raise
        finally:
            if self._stopped:
                self.end()
        if self._watched and not self._planned and len(self._map) == 1:
            self._unwatch()
            # A thread that has written to the pipe just before may have seen that the reader was there.
            self._look()

    # The end

    def _lost(self) -> None:
        """The reactor watches nothing any more, as it stops."""
        self._watched = False

    def _reactorStopped(self) -> None:
        self._leaveEarly()
        if self.is_running():
            # The last service has stopped in a task.
            self._stopped = True
        else:
            self.end()

    def end(self) -> None:
        """
        End the loop, as the stop of the reactor does: for tests, and for reactors that are never run.

        It blocks until the loop's tasks, which it cancels, have ended, up to ``endTime``.

        :raise RuntimeError: called in a task or a callback of the loop.
        """
        if self.is_closed():
            return
        self._leaveEarly()
        if self.is_running():
            raise RuntimeError("the loop cannot end within one of its tasks: stop the reactor")
        self._stopped = False
        self._disarm()
        # No passes and no timers of the reactor any more.
        self._planned = True
        self._deadline = -math.inf
        if self._watched:
            self._unwatch()
        self._alone = True
        try:
            _runUntilComplete(self, endTasks(self, self.endTime, self._executor))
        finally:
            _close(self)
            if self._isThreads:
                asyncio.set_event_loop(None)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As the base class."""
        if executor is None and self._executor is None:
            self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        return super().run_in_executor(executor, func, *args)

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """As the base class."""
        super().set_default_executor(executor)
        self._executor = executor
