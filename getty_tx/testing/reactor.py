"""A reactor in memory: a clock that also serves memory sockets, without real time."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryReactor"]

log = Logger()

#: Iterations after which :py:meth:`MemoryReactor.settle` assumes that two ends answer each other forever.
MAX_TURNS = 100_000


class MemoryReactor(Clock):
    """
    A clock that also serves :py:class:`getty_tx.testing.MemoryTransport`, and takes calls from other threads.

    Nothing happens by itself. :py:meth:`turn` does one iteration of a reactor; :py:meth:`settle` repeats that until
    nothing is left to do at this moment; :py:meth:`advance` lets time pass, from one timer or arriving byte to the
    next.

    ::

        reactor = MemoryReactor()
        reactor.callLater(1.0, print, "a second later")
        reactor.advance(1.0)
    """

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[Any, None] = {}
        self._writers: dict[Any, None] = {}
        self._fromThreads: deque[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = deque()
        self._arrivals: list[float] = []
        #: The number of calls of callFromThread.
        self.wakeUps = 0

    # IReactorCore, as far as asyncio's loop needs it

    def callWhenRunning(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Have the next iteration call ``call(*args, **kwargs)``."""
        self.callLater(0, call, *args, **kwargs)

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[..., object], *args: Any) -> None:
        """Do nothing: it neither starts nor stops."""

    # IReactorFromThreads and IReactorFDSet

    def callFromThread(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Have the next iteration call ``call(*args, **kwargs)``; safe from any thread."""
        self.wakeUps += 1
        self._fromThreads.append((call, args, kwargs))

    def addReader(self, descriptor: Any) -> None:
        """Call ``descriptor`` when it can read."""
        self._readers[descriptor] = None

    def removeReader(self, descriptor: Any) -> None:
        """Stop to watch ``descriptor`` for reading."""
        self._readers.pop(descriptor, None)

    def addWriter(self, descriptor: Any) -> None:
        """Call ``descriptor`` when it can write."""
        self._writers[descriptor] = None

    def removeWriter(self, descriptor: Any) -> None:
        """Stop to watch ``descriptor`` for writing."""
        self._writers.pop(descriptor, None)

    def removeAll(self) -> list[Any]:
        """Remove all descriptors, and return them."""
        found = list({**self._readers, **self._writers})
        self._readers.clear()
        self._writers.clear()
        return found

    def getReaders(self) -> list[Any]:
        """The descriptors that are watched for reading."""
        return list(self._readers)

    def getWriters(self) -> list[Any]:
        """The descriptors that are watched for writing."""
        return list(self._writers)

    def arrival(self, at: float) -> None:
        """Something arrives at the time ``at``; :py:meth:`advance` stops there."""
        heapq.heappush(self._arrivals, at)

    # Iterations

    def turn(self) -> bool:
        """
        Do one iteration: the calls from threads, the timers that are due, then each descriptor once.

        :return: False if there was nothing to do.
        """
        happened = False
        for _ in range(len(self._fromThreads)):
            call, args, kwargs = self._fromThreads.popleft()
            happened = True
            try:
                call(*args, **kwargs)
            except BaseException:
                log.failure("a call from a thread failed")
        if any(call.getTime() <= self.rightNow for call in self.calls):
            happened = True
            Clock.advance(self, 0)
        # The readiness of all is read before any is served, as with epoll.
        events = [
            (descriptor, descriptor in self._readers, descriptor.socket.readable(), descriptor.socket.writable())
            for descriptor in {**self._readers, **self._writers}
            # A transport that has closed its socket may still be registered for writing.
            if hasattr(descriptor, "socket")
        ]
        for descriptor, reading, readable, writable in events:
            if self._serve(descriptor, reading, readable, writable):
                happened = True
        return happened

    def settle(self, turns: int = MAX_TURNS) -> None:
        """
        Do iterations until there is nothing to do at this moment.

        :raise AssertionError: there is still something to do after ``turns`` iterations.
        """
        for _ in range(turns):
            if not self.turn():
                return
        raise AssertionError(f"still busy after {turns} turns: do the two ends answer each other forever?")

    def advance(self, amount: float) -> None:
        """Let ``amount`` seconds pass; every timer and every arriving byte is served at its own time."""
        end = self.rightNow + amount
        self.settle()
        while (at := self._next()) is not None and at <= end:
            self.rightNow = at
            self.settle()
        self.rightNow = end
        self.settle()

    def _next(self) -> float | None:
        arrivals = self._arrivals
        while arrivals and arrivals[0] <= self.rightNow:
            heapq.heappop(arrivals)
        times = [call.getTime() for call in self.calls]
        return min(times + arrivals[:1], default=None)

    def _serve(self, descriptor: Any, reading: bool, readable: bool, writable: bool) -> bool:
        """Handle the events of one descriptor as Twisted's epoll reactor does."""
        why: Any = None
        isRead = False
        happened = False
        handle = getattr(descriptor, "socket", None)
        if handle is None:
            return False
        try:
            if handle.hungUp() and not reading:
                # If the descriptor does not read, the kernel still reports a reset, but not a clean end.
                happened = True
                why = main.CONNECTION_LOST
            else:
                if readable and descriptor in self._readers:
                    happened = isRead = True
                    why = descriptor.doRead()
                if why is None and writable and descriptor in self._writers:
                    happened = True
                    isRead = False
                    why = descriptor.doWrite()
        except BaseException as error:
            log.failure("a descriptor failed")
            why = error
        if why is not None:
            self._disconnect(descriptor, why, isRead)
        return happened

    def _disconnect(self, descriptor: Any, why: BaseException, isRead: bool) -> None:
        self.removeReader(descriptor)
        if isRead and isinstance(why, ConnectionDone) and IHalfCloseableDescriptor.providedBy(descriptor):
            descriptor.readConnectionLost(Failure(why))
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))
