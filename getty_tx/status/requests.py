"""What a status shows of requests: the counters of each method and route, which :py:mod:`getty_tx.http` keeps."""

from __future__ import annotations

from typing import Any

from getty_tx.status.histogram import Histogram

__all__ = ["SIDE", "RequestTotals", "decodeRequests", "encodeRequests"]

#: What stands in the place of ``server`` or ``client``, which calls have.
SIDE = "http"

#: The least status of an answer that is no success.
_FAILED = 400


class RequestTotals:
    """
    The requests of one method and route. It has what a :py:class:`~getty_tx.status.calls.CallTotals` has.

    :ivar statuses: answers by status.
    :ivar received: bytes of the bodies of requests, as far as they came before the end of the answer.
    :ivar sent: bytes of the bodies of answers.
    :ivar seconds: how long requests took, from their head to the end of the answer.
    """

    __slots__ = ("received", "seconds", "sent", "statuses")

    #: Requests that run are counted for the service as a whole, as their route is not known from the beginning.
    running = 0

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.received = self.sent = 0
        self.seconds = Histogram()

    @property
    def done(self) -> int:
        """Answers with a status below 400."""
        return sum(count for status, count in self.statuses.items() if status < _FAILED)

    @property
    def failed(self) -> dict[str, int]:
        """The others, by status."""
        return {str(status): count for status, count in self.statuses.items() if status >= _FAILED}

    def addAll(self, other: RequestTotals, isEnded: bool = False) -> None:
        """Add the counters of another process."""
        for status, count in other.statuses.items():
            self.statuses[status] = self.statuses.get(status, 0) + count
        self.received += other.received
        self.sent += other.sent
        self.seconds.addAll(other.seconds)


def encodeRequests(totals: RequestTotals) -> list[Any]:
    """The counters as JSON."""
    counts = totals.seconds.counts
    return [list(totals.statuses.items()), totals.received, totals.sent, counts, totals.seconds.sum]


def decodeRequests(fields: Any) -> RequestTotals:
    """
    The reverse of :py:func:`encodeRequests`.

    :raise ValueError: the fields are invalid. ``TypeError``: the same.
    """
    statuses, received, sent, counts, total = fields
    found = RequestTotals()
    numbers = [received, sent, *counts, *(number for pair in statuses for number in pair)]
    if not all(type(each) is int and each >= 0 for each in numbers) or len(counts) != len(found.seconds.counts):
        raise ValueError(f"{fields!r:.80} are no counters of requests")
    found.statuses, found.received, found.sent = dict(statuses), received, sent
    found.seconds.counts, found.seconds.sum = counts, float(total)
    return found
