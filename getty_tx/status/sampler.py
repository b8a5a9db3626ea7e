"""
Measures, once a second while the status is shown, what has no counter: the lag of the reactor, the length of its
iterations, the time of handlers and the waiting time of workers.
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

#: Sessions whose handlers are measured in a period, chosen at random.
MAX_SAMPLED = 64


class Sampler:
    """
    Measures while it runs.

    :param services: by name.
    :param reactor: the reactor to measure.
    :param clock: returns seconds from any origin; called in any thread.

    :ivar lag: how late the reactor runs a delayed call. ``turn``: how long a reactor iteration takes.
    :ivar handler: how long onMessage takes; with ``async def``, the time that it awaits is included.
    :ivar workerWait: how long a task waits for a worker, by service.
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
        # Worker threads only append their times; appending needs no lock.
        self._handlerTimes: list[float] = []
        self._waitTimes: list[tuple[str, float]] = []
        self._probing: set[str] = set()

    def start(self) -> None:
        """Start to measure."""
        self._later(PERIOD, self._begin)

    def stop(self) -> None:
        """Stop to measure."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        self._restoreListeners()

    def _later(self, delay: float, call: Any) -> None:
        self._call = self._reactor.callLater(delay, call, self._clock() + delay)

    def _begin(self, due: float) -> None:
        now = self._clock()
        self.lag.add(max(0.0, now - due))
        # The reactor does not sleep before a call that is due, so this runs one whole iteration later.
        self._call = self._reactor.callLater(0, self._iterated, now)

    def _iterated(self, before: float) -> None:
        self.turn.add(max(0.0, self._clock() - before))
        for name, service in self._services.items():
            for context in service.contexts:
                sessions = list(context.sessions)
                for session in sample(sessions, min(MAX_SAMPLED, len(sessions))):
                    if session.state == OPEN:
                        self._timed.append((session, TimedListener.put(session, self._handlerTimes.append)))
            self._probe(name, service)
        self._later(WINDOW, self._end)

    def _probe(self, name: str, service: Service) -> None:
        """Measure how long a task waits for a worker, with at most one task at a time."""
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
        self._restoreListeners()
        self._later(PERIOD - WINDOW, self._begin)

    def _restoreListeners(self) -> None:
        timed, self._timed = self._timed, []
        for session, listener in timed:
            listener.take(session)
        for _ in range(len(self._handlerTimes)):
            self.handler.add(self._handlerTimes.pop())
        for _ in range(len(self._waitTimes)):
            name, seconds = self._waitTimes.pop()
            self.workerWait[name].add(max(0.0, seconds))
            self._probing.discard(name)
