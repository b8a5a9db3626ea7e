"""Counters of groups, kept anyway and read on demand."""

from __future__ import annotations

__all__ = ["GroupStats"]


class GroupStats:
    """
    The counters of one namespace.

    :ivar published: publications of this process.
    :ivar arrived: publications that came from the engine, those of this process among them.
    :ivar deliveries: publications times the members that they were written to.
    :ivar dropped: publications that members did not get, by reason: ``slow``, ``codec``, ``log``.
    :ivar gaps: how often a member missed something.
    :ivar recovered: sessions that came back and got what they had missed.
    :ivar unrecovered: those that did not.
    :ivar seconds: from the arrival of publications to their last member, summed up; ``fanouts`` is their number.
    """

    __slots__ = (
        "arrived",
        "deliveries",
        "dropped",
        "fanouts",
        "gaps",
        "published",
        "recovered",
        "seconds",
        "unrecovered",
    )

    def __init__(self) -> None:
        self.published = self.arrived = self.deliveries = 0
        self.dropped: dict[str, int] = {}
        self.gaps = self.recovered = self.unrecovered = 0
        self.fanouts = 0
        self.seconds = 0.0

    def drop(self, reason: str, number: int) -> None:
        """So many were dropped."""
        self.dropped[reason] = self.dropped.get(reason, 0) + number
