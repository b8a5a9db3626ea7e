"""
An epoll reactor without the detours: Twisted's own in all but the turn of its loop and the dispatch of a plain read.

What Twisted does for each read event, most of it is for the rare cases: it makes a logging context, asks the
descriptor for its number, and tells reading from writing from hanging up. Here an event that says no more than "there
is something to read" calls ``doRead`` at once, in a logging context that is made once for each descriptor; and a turn
in which nothing is due goes straight back to ``epoll_wait``. All else is Twisted's code: other events, errors,
disconnects, half-closes, files that epoll does not take, timers, threads, signals and processes.

``docs/speed.md`` tells what that gains.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python import context, log
from zope.interface import implementer

from getty_tx.interfaces import IReactorTurns

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

#: Events taken from the kernel at once. More would keep those that come meanwhile, and the timers, waiting for longer;
#: of what is left over the kernel begins with next time.
MOST = 256

#: Seconds that epoll_wait is asked to wait at most: as many milliseconds as an int has room for, as in Twisted.
LONGEST = 2147483.0

_EPOLLIN = epollreactor.EPOLLIN

# The words and the namespace are those of Twisted's own loop.
_inMainLoop = Logger(namespace="twisted.internet.base").failureHandler("Unexpected error in main loop")
_atTurnsEnd = Logger().failureHandler("while calling at the end of a turn")


class _Context(dict[Any, Any]):
    """
    The logging context of one descriptor, as ``log.callWithLogger`` would make it for each event.

    It makes its contents when somebody logs. It never changes, as a thread that is started from the descriptor's
    callback keeps it for as long as it runs.
    """

    __slots__ = ("_base", "_prefix", "descriptor")

    def __init__(self, descriptor: Any, base: dict[str, Any]) -> None:
        self.descriptor = descriptor
        self._base = base
        try:
            self._prefix = descriptor.logPrefix()
        except Exception:
            # callWithLogger says the same, and has logged the error.
            self._prefix = "(buggy logPrefix method)"

    def __missing__(self, key: Any) -> dict[str, Any]:
        if key is log.ILogContext:
            return {**self._base, "system": self._prefix}
        raise KeyError(key)


@implementer(IReactorTurns)
class EPollReactor(epollreactor.EPollReactor):
    """
    What ``twistd --reactor getty`` installs.

    Of Twisted's reactor it uses private attributes: those that say whether anything is due (``_newTimedCalls``,
    ``_pendingTimedCalls``, ``_cancellations``, ``_justStopped``, ``_started``), which a turn would have to call three
    methods for otherwise; and ``_poller``, ``_selectables``, ``_doReadOrWrite`` and ``_disconnectSelectable``, between
    which ``doPoll`` stands in one piece. tests.reactors.test_epoll has a test that fails when one of them goes.
    """

    def __init__(self) -> None:
        # Descriptors that read, each with its logging context, by number: filled by the first read, and emptied by
        # whatever may change either.
        self._plain: dict[int, _Context] = {}
        # The numbers that were registered since the last epoll_wait: an event of this turn is not about them, but
        # about whoever had the number before.
        self._fresh: set[int] = set()
        self._ends: list[Callable[[], object]] = []
        super().__init__()  # type: ignore[no-untyped-call]

    # Registering

    def addReader(self, reader: Any) -> None:
        """As Twisted's."""
        number = reader.fileno()
        if number not in self._selectables:
            self._fresh.add(number)
        self._plain.pop(number, None)
        super().addReader(reader)  # type: ignore[no-untyped-call]

    def addWriter(self, writer: Any) -> None:
        """As Twisted's."""
        number = writer.fileno()
        if number not in self._selectables:
            self._fresh.add(number)
        super().addWriter(writer)  # type: ignore[no-untyped-call]

    def removeReader(self, reader: Any) -> None:
        """As Twisted's."""
        # One that was closed before has no number; what is known by the old one is of no use to anybody.
        self._plain.pop(reader.fileno(), None)
        super().removeReader(reader)  # type: ignore[no-untyped-call]

    # Turns

    def callAtTurnsEnd(self, call: Callable[[], object]) -> None:
        """Call ``call()`` once, when the events of this turn are served and before the reactor waits for others."""
        self._ends.append(call)

    def doIteration(self, delay: float | None) -> None:
        """What ``iterate`` calls: one turn in Twisted's own way, whatever the logging context is."""
        if self._ends:
            self._endTurn()
        self.doPoll(delay)  # type: ignore[no-untyped-call]

    def mainLoop(self) -> None:
        """Turns until the reactor is stopped."""
        base = context.get(log.ILogContext)
        self._plain.clear()
        while self._started:
            with _inMainLoop:
                context.call({log.ILogContext: base}, self._turns, base)
        # It finds nothing to do but to log that the loop has ended.
        super().mainLoop()

    def _turns(self, base: dict[str, Any]) -> None:
        """Turns until one raises, with a logging context to replace; ``base`` is what was logged with outside."""
        # Where Twisted's thread pool looks for the context that it takes along; there is no other way to it.
        stack = context.theContextTracker.currentContext().contexts
        top = len(stack) - 1
        outside = stack[top]
        poll = self._poller.poll
        selectables = self._selectables
        plain = self._plain
        fresh = self._fresh
        timeout: float | None
        known: Any
        while self._started:
            if self._ends:
                self._endTurn()
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
                elif timeout > LONGEST:
                    timeout = LONGEST
            else:
                timeout = None
            try:
                events = poll(timeout, MOST)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                raise
            if fresh:
                fresh.clear()
            for number, event in events:
                if event == _EPOLLIN and number in plain:
                    stack[top] = known = plain[number]
                    descriptor = known.descriptor
                    # In two steps: of a session's transport it is an attribute, which Python is slow in calling.
                    doRead = descriptor.doRead
                    try:
                        why = doRead()
                    except BaseException:
                        # A doRead that fails is no end of the stream, so it was not "in a read", as Twisted has it.
                        why = sys.exc_info()[1]
                        log.err()
                        log.callWithLogger(descriptor, self._disconnectSelectable, descriptor, why, False)
                    else:
                        if why:
                            log.callWithLogger(descriptor, self._disconnectSelectable, descriptor, why, True)
                elif number not in fresh and number in selectables:
                    stack[top] = outside
                    descriptor = selectables[number]
                    log.callWithLogger(descriptor, self._doReadOrWrite, descriptor, number, event)
                    if event == _EPOLLIN and number in self._reads and isinstance(descriptor, Connection):
                        plain[number] = _Context(descriptor, base)
            stack[top] = outside
            # Nobody is kept alive by this loop while it waits.
            known = descriptor = doRead = why = None

    def _runDue(self) -> float | None:
        """Run what is due, as Twisted does in each turn, and tell how long the reactor may wait then."""
        self.runUntilCurrent()
        timeout = self.timeout()
        return timeout if self.running and not self._ends else 0

    def _endTurn(self) -> None:
        ends, self._ends = self._ends, []
        for call in ends:
            with _atTurnsEnd:
                call()


def install() -> None:
    """
    Make it the process's reactor.

    :raise twisted.internet.error.ReactorAlreadyInstalledError: there is one already.
    """
    from twisted.internet.main import installReactor

    installReactor(EPollReactor())
