"""Counters of groups, kept anyway and read on demand."""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["DROP_REASONS", "FLUSH_BOUNDS", "TIME_BOUNDS", "GroupStats"]

#: Why members did not get publications: they were behind, their codec could not encode them, or the group had to forget
#: them before their turn came.
DROP_REASONS = ("slow", "codec", "log")

#: Upper bounds of buckets: publications that leave in one piece, of which there are 256 at most.
FLUSH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200)

#: Upper bounds of buckets, in seconds: from a small group within one turn up to what no member waits for.
TIME_BOUNDS = (0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)


class GroupStats:
    """
    The counters of one namespace, in this process.

    :ivar published: publications of this process.
    :ivar arrived: publications that came from the engine, those of this process among them.
    :ivar deliveries: publications times the members that they were written to. What a member got of a history when it
        joined is not counted.
    :ivar deliveryBytes: the bytes of these, with their frames.
    :ivar dropped: publications that members did not get, by reason, one of :py:data:`DROP_REASONS`.
    :ivar gaps: how often a member missed something.
    :ivar recovered: sessions that came back and got what they had missed.
    :ivar unrecovered: those that did not.
    :ivar flushed: publications of all fan-outs; ``flushes``: fan-outs by the number of their publications, in the
        buckets of :py:data:`FLUSH_BOUNDS`, and at the end those above the last.
    :ivar seconds: from the arrival of publications to their last member, summed up; ``times``: the same in the buckets
        of :py:data:`TIME_BOUNDS`.
    """

    __slots__ = (
        "arrived",
        "deliveries",
        "deliveryBytes",
        "dropped",
        "flushed",
        "flushes",
        "gaps",
        "published",
        "recovered",
        "seconds",
        "times",
        "unrecovered",
    )

    def __init__(self) -> None:
        self.published = self.arrived = self.deliveries = self.deliveryBytes = 0
        self.dropped: dict[str, int] = {}
        self.gaps = self.recovered = self.unrecovered = 0
        self.flushed = 0
        self.flushes = [0] * (len(FLUSH_BOUNDS) + 1)
        self.seconds = 0.0
        self.times = [0] * (len(TIME_BOUNDS) + 1)

    @property
    def fanouts(self) -> int:
        """How often publications have reached their last member."""
        return sum(self.times)

    def drop(self, reason: str, number: int) -> None:
        """So many were dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + number

    def fannedOut(self, publications: int, seconds: float) -> None:
        """So many have reached their last member, so long after the first of them had come."""
        self.flushed += publications
        self.flushes[bisect_left(FLUSH_BOUNDS, publications)] += 1
        self.seconds += seconds
        self.times[bisect_left(TIME_BOUNDS, seconds)] += 1

    def addAll(self, other: GroupStats) -> None:
        """Add the counters of another process."""
        for name in self.__slots__:
            mine, its = getattr(self, name), getattr(other, name)
            if isinstance(mine, list):
                setattr(self, name, [one + another for one, another in zip(mine, its, strict=True)])
            elif not isinstance(mine, dict):
                setattr(self, name, mine + its)
        for reason, number in other.dropped.items():
            self.drop(reason, number)
