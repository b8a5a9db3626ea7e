"""
A shorter path for the read events of sessions on Twisted's own epoll reactor, where no getty reactor is installed.

Twisted calls ``doIteration`` of the reactor in each turn of its main loop. :py:func:`shortReadsOf` sets it, on the
reactor that runs, to an equivalent one. There the plain read event of a session calls its ``doRead`` at once, in a
logging context that is made once for each session. All other events and descriptors are served by Twisted's code, and
so are timers, threads and signals.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python import context, log
from zope.interface import alsoProvides

from getty_tx.interfaces import IErrorQueueReactor, IReactorTurns
from getty_tx.reactors.errorqueues import EPOLLERR, ErrorQueues

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LogContext", "ShortReads", "shortReadsOf"]

_inEndCall = Logger().failureHandler("while calling at the end of a turn")

#: EPOLLIN of epoll(7). The module select has it only where there is epoll.
_EPOLLIN = 1


class LogContext(dict[Any, Any]):
    """
    The logging context of one descriptor, equal to those that ``log.callWithLogger`` makes for each event.

    Its contents are made when something is logged. It is immutable, because a thread that is started from the
    descriptor's callback keeps it.

    :param descriptor: what has the read events, and ``logPrefix``.
    :param base: the logging context outside of events.
    """

    __slots__ = ("_base", "_prefix", "descriptor")

    def __init__(self, descriptor: Any, base: dict[str, Any]) -> None:
        self.descriptor = descriptor
        self._base = base
        try:
            self._prefix = descriptor.logPrefix()
        except Exception:
            # As callWithLogger, which has logged the error.
            self._prefix = "(buggy logPrefix method)"

    def __missing__(self, key: Any) -> dict[str, Any]:
        if key is log.ILogContext:
            return {**self._base, "system": self._prefix}
        raise KeyError(key)


def shortReadsOf(reactor: Any) -> ShortReads | None:
    """
    The short path of a reactor, which is made at the first call.

    :return: None if the reactor is not Twisted's own epoll reactor, or a program has set its ``doIteration``.
    """
    # By name, as the module can be imported only where there is epoll.
    kind = type(reactor)
    if (kind.__module__, kind.__name__) != ("twisted.internet.epollreactor", "EPollReactor"):
        return None
    present = vars(reactor).get("doIteration")
    if present is None:
        made = ShortReads(reactor)
        reactor.doIteration = made.doIteration
        reactor.callAtTurnsEnd = made.callAtTurnsEnd
        reactor.addErrorQueue = made.errorQueues.add
        reactor.removeErrorQueue = made.errorQueues.remove
        alsoProvides(reactor, IReactorTurns, IErrorQueueReactor)
        return made
    owner = getattr(present, "__self__", None)
    return owner if isinstance(owner, ShortReads) else None


class ShortReads:
    """
    The iterations of one reactor, and the descriptors that take the short path.

    It uses private attributes of Twisted's reactor, the parts of its ``doPoll``: ``_poller``, ``_selectables``,
    ``_doReadOrWrite`` and ``_disconnectSelectable``. A test in tests.reactors.test_shortreads fails if Twisted removes
    one of them.
    """

    __slots__ = ("_endCalls", "_reactor", "contexts", "errorQueues")

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        # By descriptor; made at its first read. Without underscore for the tests.
        self.contexts: dict[Any, LogContext | None] = {}
        self._endCalls: list[Callable[[], object]] = []
        self.errorQueues = ErrorQueues()

    def add(self, descriptor: Any) -> None:
        """From now on plain read events of ``descriptor`` take the short path, until :py:meth:`remove`."""
        self.contexts[descriptor] = None

    def remove(self, descriptor: Any) -> None:
        """The descriptor is closed."""
        self.contexts.pop(descriptor, None)

    def callAtTurnsEnd(self, call: Callable[[], object]) -> None:
        """As :py:meth:`getty_tx.interfaces.IReactorTurns.callAtTurnsEnd`."""
        self._endCalls.append(call)

    def doIteration(self, delay: float | None) -> None:
        """
        Wait for events and serve them, as the reactor's own method does.

        :param delay: seconds to wait at most, None for no limit.
        """
        if self._endCalls:
            # Asked for by a timer. What is due after them was not known when the delay was computed.
            self._runEndCalls()
            delay = 0
        reactor = self._reactor
        selectables = reactor._selectables
        try:
            events = reactor._poller.poll(-1 if delay is None else delay, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        if not events:
            return
        contexts = self.contexts
        # Twisted's thread pool takes the context for its threads from this stack; there is no public access to it.
        stack = context.theContextTracker.currentContext().contexts
        outside = stack[-1]
        stack.append(outside)
        try:
            for number, event in events:
                if number not in selectables:
                    continue
                descriptor = selectables[number]
                if event == _EPOLLIN and descriptor in contexts:
                    known = contexts[descriptor]
                    if known is None:
                        stack[-1] = outside
                        known = contexts[descriptor] = LogContext(descriptor, context.get(log.ILogContext))
                    stack[-1] = known
                    # In two steps: a session's transport has doRead as an attribute, and a method call of that is slow.
                    doRead = descriptor.doRead
                    try:
                        why = doRead()
                    except BaseException:
                        # An exception in doRead is no end of the stream, so isRead is False, as in Twisted.
                        why = sys.exc_info()[1]
                        log.err()
                        log.callWithLogger(descriptor, reactor._disconnectSelectable, descriptor, why, False)
                    else:
                        if why:
                            log.callWithLogger(descriptor, reactor._disconnectSelectable, descriptor, why, True)
                else:
                    stack[-1] = outside
                    if event & EPOLLERR:
                        event = self.errorQueues.handle(number, event)
                    log.callWithLogger(descriptor, reactor._doReadOrWrite, descriptor, number, event)
        finally:
            stack.pop()
        if self._endCalls:
            self._runEndCalls()

    def _runEndCalls(self) -> None:
        calls, self._endCalls = self._endCalls, []
        for call in calls:
            with _inEndCall:
                call()
