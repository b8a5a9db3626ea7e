"""
A faster epoll reactor: Twisted's, with another main loop and a shorter path for plain read events.

For each read event Twisted makes a logging context, asks the descriptor for its number, and distinguishes reads, writes
and hang-ups; most of this is for rare cases. Here a plain read event calls ``doRead`` at once, in a logging context
that is made once for each descriptor, and an iteration with nothing due goes straight back to ``epoll_wait``. All else
is Twisted's code: other events, errors, disconnects, half-closes, files that epoll does not support, timers, threads,
signals and processes.

``docs/inside/speed.md`` has measurements.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python import context, log
from zope.interface import implementer

from getty_tx.interfaces import IErrorQueueReactor, IReactorTurns
from getty_tx.reactors.errorqueues import ErrorQueues
from getty_tx.reactors.guestreader import EpollReader
from getty_tx.reactors.shortreads import LogContext

try:
    from twisted.internet import epollreactor
except ImportError as error:
    raise ImportError(
        "the getty reactor needs epoll(7), which this system does not have: leave it out, and all works on Twisted's"
        " default reactor, at a lower rate"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EPollReactor", "install"]

#: Maximum number of events of one epoll_wait. More would delay newer events and timers; the kernel reports the
#: remaining events first at the next call.
EVENTS_PER_ITERATION = 256

#: Maximum number of seconds for epoll_wait: the milliseconds that fit into an int, as in Twisted.
MAX_WAIT = 2147483.0

_EPOLLIN = epollreactor.EPOLLIN
_EPOLLERR = epollreactor.EPOLLERR

# What keeps the name that it logs with.
_SHORT = (Connection, EpollReader)

# The same text and namespace as in Twisted's main loop.
_inMainLoop = Logger(namespace="twisted.internet.base").failureHandler("Unexpected error in main loop")
_inEndCall = Logger().failureHandler("while calling at the end of a turn")


@implementer(IReactorTurns, IErrorQueueReactor)
class EPollReactor(epollreactor.EPollReactor):
    """
    The reactor that ``twistd --reactor getty`` installs.

    It uses private attributes of Twisted's reactor. ``_newTimedCalls``, ``_pendingTimedCalls``, ``_cancellations``,
    ``_justStopped`` and ``_started`` say whether anything is due; otherwise each iteration would need three method
    calls for that. ``_poller``, ``_selectables``, ``_doReadOrWrite`` and ``_disconnectSelectable`` are the parts of
    ``doPoll``. A test in tests.reactors.test_epoll fails if Twisted removes one of them.
    """

    def __init__(self) -> None:
        # Logging contexts of reading descriptors, by number: added at the first read, and removed by all calls that may
        # change the descriptor or its context. Without underscore for the tests.
        self.readContexts: dict[int, LogContext] = {}
        # Numbers registered since the last epoll_wait: an event of this iteration with such a number is for the
        # previous descriptor with that number.
        self._justRegistered: set[int] = set()
        self._endCalls: list[Callable[[], object]] = []
        # Without underscore for the tests.
        self.errorQueues = ErrorQueues()
        self.addErrorQueue = self.errorQueues.add
        self.removeErrorQueue = self.errorQueues.remove
        super().__init__()  # type: ignore[no-untyped-call]

    # Registering

    def addReader(self, reader: Any) -> None:
        """As Twisted's."""
        number = reader.fileno()
        if number not in self._selectables:
            self._justRegistered.add(number)
        self.readContexts.pop(number, None)
        super().addReader(reader)  # type: ignore[no-untyped-call]

    def addWriter(self, writer: Any) -> None:
        """As Twisted's."""
        number = writer.fileno()
        if number not in self._selectables:
            self._justRegistered.add(number)
        super().addWriter(writer)  # type: ignore[no-untyped-call]

    def removeReader(self, reader: Any) -> None:
        """As Twisted's."""
        # A closed descriptor has no number any more (-1); its context is removed when a reader gets the number.
        self.readContexts.pop(reader.fileno(), None)
        super().removeReader(reader)  # type: ignore[no-untyped-call]

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        """As Twisted's, whose ``doPoll`` calls it, too; what an error queue explains is no error."""
        if event & _EPOLLERR:
            event = self.errorQueues.handle(fd, event)
        super()._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]

    # Iterations

    def callAtTurnsEnd(self, call: Callable[[], object]) -> None:
        """Call ``call()`` once at the end of this iteration, before the reactor waits for events."""
        self._endCalls.append(call)

    def doIteration(self, delay: float | None) -> None:
        """For ``iterate``: one iteration with Twisted's code, in any logging context."""
        if self._endCalls:
            self._runEndCalls()
        self.doPoll(delay)  # type: ignore[no-untyped-call]

    def mainLoop(self) -> None:
        """Run iterations until the reactor is stopped."""
        base = context.get(log.ILogContext)
        self.readContexts.clear()
        while self._started:
            with _inMainLoop:
                context.call({log.ILogContext: base}, self._iterations, base)
        # The reactor is stopped, so this only logs that the loop has ended.
        super().mainLoop()

    def _iterations(self, base: dict[str, Any]) -> None:
        """Run iterations until one raises or the reactor stops; ``base`` is the logging context outside of events."""
        # Twisted's thread pool takes the context for its threads from this stack; there is no public access to it.
        stack = context.theContextTracker.currentContext().contexts
        top = len(stack) - 1
        outside = stack[top]
        poll = self._poller.poll
        selectables = self._selectables
        readContexts = self.readContexts
        justRegistered = self._justRegistered
        timeout: float | None
        known: Any
        while self._started:
            if self._endCalls:
                self._runEndCalls()
            if (
                self.threadCallQueue
                or self._newTimedCalls
                or self._justStopped
                or self._cancellations > 50
                or not self.running
            ):
                timeout = self._runDue()
            elif self._pendingTimedCalls:
                timeout = self._pendingTimedCalls[0].time - self.seconds()
                if timeout <= 0:
                    timeout = self._runDue()
                elif timeout > MAX_WAIT:
                    timeout = MAX_WAIT
            else:
                timeout = None
            if self._endCalls:
                # An end call has asked for another one.
                timeout = 0
            try:
                events = poll(timeout, EVENTS_PER_ITERATION)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                raise
            if justRegistered:
                justRegistered.clear()
            for number, event in events:
                if event == _EPOLLIN and number in readContexts:
                    stack[top] = known = readContexts[number]
                    descriptor = known.descriptor
                    # In two steps: a session's transport has doRead as an attribute, and a method call of that is slow.
                    doRead = descriptor.doRead
                    try:
                        why = doRead()
                    except BaseException:
                        # An exception in doRead is no end of the stream, so isRead is False, as in Twisted.
                        why = sys.exc_info()[1]
                        log.err()
                        log.callWithLogger(descriptor, self._disconnectSelectable, descriptor, why, False)
                    else:
                        if why:
                            log.callWithLogger(descriptor, self._disconnectSelectable, descriptor, why, True)
                elif number not in justRegistered and number in selectables:
                    stack[top] = outside
                    descriptor = selectables[number]
                    log.callWithLogger(descriptor, self._doReadOrWrite, descriptor, number, event)
                    if event == _EPOLLIN and number in self._reads and isinstance(descriptor, _SHORT):
                        readContexts[number] = LogContext(descriptor, base)
            stack[top] = outside
            # Keep no references while waiting.
            known = descriptor = doRead = why = None

    def _runDue(self) -> float | None:
        """Run due calls, as Twisted does in each iteration; returns the time-out for the next epoll_wait."""
        self.runUntilCurrent()
        timeout = self.timeout()
        return timeout if self.running and not self._endCalls else 0

    def _runEndCalls(self) -> None:
        calls, self._endCalls = self._endCalls, []
        for call in calls:
            with _inEndCall:
                call()


def install() -> None:
    """
    Make an :py:class:`EPollReactor` the process's reactor.

    :raise twisted.internet.error.ReactorAlreadyInstalledError: there is one already.
    """
    from twisted.internet.main import installReactor

    installReactor(EPollReactor())
