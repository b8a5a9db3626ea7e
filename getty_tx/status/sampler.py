"""
What nobody counts, measured once a second while the status is shown: the reactor's lag and turns, how long handlers
take, and how long a worker lets wait.
"""

from __future__ import annotations

from random import sample
from time import perf_counter
from typing import TYPE_CHECKING, Any

from getty_tx.session.lifecycle import OPEN
from getty_tx.status.handlertimes import TimedListener
from getty_tx.status.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.session.session import Session
    from getty_tx.status.snapshot import Service

__all__ = ["Sampler"]

#: Seconds between two samples.
PERIOD = 1.0

#: Seconds for which handlers are measured in each period.
WINDOW = 0.05

#: Sessions whose handlers are measured then, chosen at random.
MOST = 64


class Sampler:
    """
    Measures while it runs.

    :param services: by name.
    :param reactor: what is measured.
    :param clock: seconds, of whatever beginning; any thread asks it.

    :ivar lag: how late a call comes. ``turn``: how long a turn of the reactor takes. ``handler``: how long onMessage
        takes; where it is ``async def``, what it awaits is included. ``workerWait``: how long a task waits, by service.
    """

    def __init__(self, services: Mapping[str, Service], reactor: Any, clock: Any = perf_counter) -> None:
        self._services = services
        self._reactor = reactor
        self._clock = clock
        self.lag = Histogram()
        self.turn = Histogram()
        self.handler = Histogram()
        self.workerWait = {name: Histogram() for name, service in services.items() if service.workers is not None}
        self._call: Any = None
        self._timed: list[tuple[Session, TimedListener]] = []
        # In the threads of workers, times are only gathered; appending needs no lock.
        self._handlerTimes: list[float] = []
        self._waitTimes: list[tuple[str, float]] = []
        self._probing: set[str] = set()

    def start(self) -> None:
        """Begin."""
        self._later(PERIOD, self._begin)

    def stop(self) -> None:
        """Measure no more."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        self._untime()

    def _later(self, delay: float, call: Any) -> None:
        self._call = self._reactor.callLater(delay, call, self._clock() + delay)

    def _begin(self, due: float) -> None:
        now = self._clock()
        self.lag.add(max(0.0, now - due))
        # With a call that is due, the reactor does not sleep: the next one comes a whole turn later.
        self._call = self._reactor.callLater(0, self._turned, now)

    def _turned(self, before: float) -> None:
        self.turn.add(max(0.0, self._clock() - before))
        for name, service in self._services.items():
            for context in service.contexts:
                sessions = list(context.sessions)
                for session in sample(sessions, min(MOST, len(sessions))):
                    if session.state == OPEN:
                        self._timed.append((session, TimedListener.put(session, self._handlerTimes.append)))
            self._probe(name, service)
        self._later(WINDOW, self._end)

    def _probe(self, name: str, service: Service) -> None:
        """Have a worker tell how long it let wait; not another one while the last still waits."""
        workers = service.workers
        if workers is None or not workers.isRunning:
            self._probing.discard(name)
            return
        if name in self._probing:
            return
        self._probing.add(name)
        if not workers.submit(self._probed, name, self._clock()):
            self._probing.discard(name)

    def _probed(self, name: str, before: float) -> None:
        self._waitTimes.append((name, self._clock() - before))

    def _end(self, due: float) -> None:
        self._untime()
        self._later(PERIOD - WINDOW, self._begin)

    def _untime(self) -> None:
        timed, self._timed = self._timed, []
        for session, listener in timed:
            listener.take(session)
        for _ in range(len(self._handlerTimes)):
            self.handler.add(self._handlerTimes.pop())
        for _ in range(len(self._waitTimes)):
            name, seconds = self._waitTimes.pop()
            self.workerWait[name].add(max(0.0, seconds))
            self._probing.discard(name)
