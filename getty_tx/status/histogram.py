"""Histogram: counts times in the buckets of a Prometheus histogram."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BOUNDS", "Histogram", "bucketsOf"]

#: Upper bounds of the buckets in seconds: from the time of a small handler up to a time that is always too long.
BOUNDS = (0.00001, 0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)


class Histogram:
    """
    Counts times.

    :ivar counts: the number of times in each bucket of :py:data:`BOUNDS`, and at the end of those above the last bound.
    :ivar sum: the sum of all times, in seconds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """The number of times."""
        return sum(self.counts)

    def copy(self) -> Histogram:
        """A copy of the present state."""
        copy = Histogram()
        copy.counts = self.counts.copy()
        copy.sum = self.sum
        return copy

    def addAll(self, other: Histogram) -> None:
        """Add the times of another histogram."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def quantile(self, share: float) -> float | None:
        """
        The time in seconds that a share of all times does not exceed, by interpolation within a bucket.

        :return: the last bound if the time is above it; None without times.
        """
        count = self.count
        if not count:
            return None
        rank, total, low = share * count, 0, 0.0
        for bound, number in zip(BOUNDS, self.counts, strict=False):
            if total + number >= rank and number:
                return low + (bound - low) * (rank - total) / number
            total += number
            low = bound
        return low

    def buckets(self) -> list[tuple[str, float]]:
        """See :py:func:`bucketsOf`."""
        return bucketsOf(BOUNDS, self.counts)


def bucketsOf(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """The bounds as texts, each with the number of values up to it, from the number of values in each bucket."""
    found: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        total += count
        found.append((str(bound), total))
    return found
