"""What was served: counts and times by method, route and status."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from getty_tx.status.histogram import BOUNDS
from getty_tx.status.requests import RequestTotals

__all__ = ["LOST", "OTHER", "REFUSED", "Counters"]

#: Methods and routes that are counted apart, at most: there are few unless something is wrong.
MAX_KEYS = 1000

#: The route of what is beyond them.
OTHER = "(other)"

#: The method and the route of requests that were malformed or beyond a limit.
REFUSED = "-", "(refused)"

#: The status of requests whose client went before the answer was complete, whether it had begun or not. nginx has the
#: same number, but only where nothing of the answer was sent.
LOST = 499


class Counters:
    """
    Counters of one server.

    :ivar served: by method and route.
    :ivar byName: the same by ``METHOD ROUTE``, for the status.
    """

    __slots__ = ("byName", "served")

    def __init__(self) -> None:
        self.served: dict[tuple[str, str], RequestTotals] = {}
        self.byName: dict[str, Any] = {}

    def add(self, method: str, route: str, status: int, seconds: float, sent: int, received: int = 0) -> None:
        """One answer, which took ``seconds`` and had ``sent`` bytes of body, to a request with ``received``."""
        totals = self.served.get((method, route)) or self._totalsOf(method, route)
        statuses = totals.statuses
        statuses[status] = statuses.get(status, 0) + 1
        totals.sent += sent
        if received:
            totals.received += received
        times = totals.seconds
        times.counts[bisect_left(BOUNDS, seconds)] += 1
        times.sum += seconds

    def _totalsOf(self, method: str, route: str) -> RequestTotals:
        if len(self.served) >= MAX_KEYS:
            route = OTHER
        totals = self.served.get((method, route))
        if totals is None:
            totals = self.served[method, route] = self.byName[f"{method} {route}".rstrip()] = RequestTotals()
        return totals

    def refuse(self, status: int) -> None:
        """One that was malformed or beyond a limit, before it had a method and a route."""
        statuses = self._totalsOf(*REFUSED).statuses
        statuses[status] = statuses.get(status, 0) + 1

    def lose(self, method: str, route: str, sent: int = 0, received: int = 0) -> None:
        """One whose client went before the answer was complete."""
        totals = self._totalsOf(method, route)
        totals.statuses[LOST] = totals.statuses.get(LOST, 0) + 1
        totals.sent += sent
        totals.received += received

    @property
    def refused(self) -> dict[int, int]:
        """Those that were malformed or beyond a limit before they had a route, by status."""
        totals = self.served.get(REFUSED)
        return {} if totals is None else totals.statuses

    @property
    def lost(self) -> int:
        """Those whose client went before the answer was complete."""
        return sum(totals.statuses.get(LOST, 0) for totals in self.served.values())
