"""What was served: counts and times by method, route and status."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS", "OTHER", "Counters", "Served"]

#: Upper bounds of the histogram's buckets, in seconds.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_LEAST = BOUNDS[0]

#: Keys that are counted apart, at most: routes and statuses are few unless something is wrong.
MAX_KEYS = 1000

#: The route of what is beyond them.
OTHER = "(other)"


class Served:
    """Answers of one method, route and status."""

    __slots__ = ("buckets", "seconds", "sent")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sent = 0
        self.buckets = [0] * (len(BOUNDS) + 1)

    @property
    def count(self) -> int:
        """How many answers."""
        return sum(self.buckets)


class Counters:
    """
    Counters of one server.

    :ivar served: by (method, route, status).
    :ivar refused: requests that were malformed or beyond a limit, by status.
    :ivar lost: requests whose client went before the answer was complete.
    """

    __slots__ = ("lost", "refused", "served")

    def __init__(self) -> None:
        self.served: dict[tuple[str, str, int], Served] = {}
        self.refused: dict[int, int] = {}
        self.lost = 0

    def add(self, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """One answer, which took ``seconds`` and had ``sent`` bytes of body."""
        served = self.served.get((method, route, status))
        if served is None:
            key = (method, route, status) if len(self.served) < MAX_KEYS else (method, OTHER, status)
            served = self.served.setdefault(key, Served())
        served.seconds += seconds
        served.sent += sent
        served.buckets[bisect_left(BOUNDS, seconds) if seconds > _LEAST else 0] += 1

    def refuse(self, status: int) -> None:
        """One refusal."""
        self.refused[status] = self.refused.get(status, 0) + 1
