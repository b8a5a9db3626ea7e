"""The table of the methods that are called: its columns, and pages of it. It is made of a snapshot."""

from __future__ import annotations

from heapq import nlargest
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from getty_tx.status.table import Query

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.status.calls import CallTotals
    from getty_tx.status.snapshot import Snapshot

__all__ = ["BY_CALLS", "COLUMNS", "hasCalls", "methodsOf"]

#: Characters of a method's name.
MAX_NAME = 200

#: Codes of failed calls in a row, the most frequent ones.
MAX_CODES = 5


class _Method(NamedTuple):
    service: str
    side: str
    name: str
    totals: CallTotals

    @property
    def failed(self) -> int:
        """Calls that had no result."""
        return sum(self.totals.failed.values())


#: The value of each column. ``calls`` are those that have ended, ``failed`` those of them without a result. The times
#: are seconds, from the samples since the start; None without any. ``received`` and ``sent`` are bytes of the bodies of
#: requests and of their answers; None for calls.
COLUMNS: dict[str, Callable[[_Method], Any]] = {
    "service": lambda method: method.service,
    "side": lambda method: method.side,
    "method": lambda method: method.name[:MAX_NAME],
    "calls": lambda method: method.totals.done + method.failed,
    "failed": lambda method: method.failed,
    "running": lambda method: method.totals.running,
    "p50": lambda method: method.totals.seconds.quantile(0.5),
    "p99": lambda method: method.totals.seconds.quantile(0.99),
    "received": lambda method: method.totals.received,
    "sent": lambda method: method.totals.sent,
}

#: Those with the most calls.
BY_CALLS = Query("calls", descending=True)


def hasCalls(snapshot: Snapshot) -> bool:
    """Whether anything was called."""
    return any(service.calls for service in snapshot.services)


def methodsOf(snapshot: Snapshot, query: Query) -> dict[str, Any]:
    """
    The JSON object of a page of the table, with sums over all methods.

    :param query: for the columns of :py:data:`COLUMNS`.
    """
    methods = [
        _Method(service.name, side, name, totals)
        for service in snapshot.services
        for (side, name), totals in service.calls.items()
    ]
    value = COLUMNS[query.sort]

    def key(method: _Method) -> tuple[Any, ...]:
        found = value(method)
        return found is not None, found, *method[:3]

    ordered = sorted(methods, key=key, reverse=query.descending)
    return {
        "total": len(methods),
        "sort": query.sort,
        "descending": query.descending,
        "offset": query.offset,
        "limit": query.limit,
        "lateReplies": sum(service.lateReplies for service in snapshot.services),
        "refused": _failed(methods, "refused"),
        "timeouts": _failed(methods, "deadline"),
        "serving": sum(service.serving for service in snapshot.services),
        "methods": [_row(method) for method in islice(ordered, query.offset, query.offset + query.limit)],
    }


def _failed(methods: list[_Method], code: str) -> int:
    return sum(method.totals.failed.get(code, 0) for method in methods)


def _row(method: _Method) -> dict[str, Any]:
    codes = nlargest(MAX_CODES, method.totals.failed.items(), key=itemgetter(1))
    return {**{column: value(method) for column, value in COLUMNS.items()}, "codes": dict(codes)}
