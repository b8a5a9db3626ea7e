"""What a status shows of calls: the counters of each method, which :py:mod:`getty_tx.rpc` keeps."""

from __future__ import annotations

from typing import Any

from getty_tx.status.histogram import Histogram

__all__ = ["SAMPLED", "CallTotals", "decodeCalls", "encodeCalls"]

#: A call is measured if the number of those done has none of these bits: one of 16.
SAMPLED = 15


class CallTotals:
    """
    The calls of one method, on one side.

    :ivar done: calls that had a result.
    :ivar failed: the others, by code.
    :ivar running: calls whose method has not returned yet, or that wait for their reply.
    :ivar seconds: how long calls took, sampled.
    """

    __slots__ = ("done", "failed", "running", "seconds")

    #: Bytes are counted for sessions, not for methods.
    received = sent = None

    def __init__(self) -> None:
        self.done = self.running = 0
        self.failed: dict[str, int] = {}
        self.seconds = Histogram()

    def fail(self, code: str) -> None:
        """Count a call that had no result."""
        self.failed[code] = self.failed.get(code, 0) + 1

    def addAll(self, other: CallTotals, isEnded: bool = False) -> None:
        """Add the counters of another process; with ``isEnded`` without what runs there."""
        self.done += other.done
        for code, count in other.failed.items():
            self.failed[code] = self.failed.get(code, 0) + count
        self.seconds.addAll(other.seconds)
        if not isEnded:
            self.running += other.running


def encodeCalls(totals: CallTotals) -> list[Any]:
    """The counters as JSON."""
    return [totals.done, totals.running, totals.failed, totals.seconds.counts, totals.seconds.sum]


def decodeCalls(fields: Any) -> CallTotals:
    """
    The reverse of :py:func:`encodeCalls`.

    :raise ValueError: the fields are invalid. ``TypeError``, ``AttributeError``: the same.
    """
    done, running, failed, counts, total = fields
    found = CallTotals()
    numbers = [done, running, *failed.values(), *counts]
    if not all(type(each) is int and each >= 0 for each in numbers) or len(counts) != len(found.seconds.counts):
        raise ValueError(f"{fields!r:.80} are no counters of calls")
    found.done, found.running, found.failed = done, running, dict(failed)
    found.seconds.counts, found.seconds.sum = counts, float(total)
    return found
