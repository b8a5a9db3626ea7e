"""
Reads one page of a table that is distributed over several processes, each of which has sorted its own part.

The start of the page in each part is found by a search that does not read all earlier rows: the keys at some positions
of each part tell between which of them the page starts, and the next step searches only there.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["TablePart", "mergedPage"]

#: Positions of each part whose keys are read in one step of the search.
PROBES = 32

#: When this many candidates for the start of a page are left, the keys of all of them are read.
READ_ALL_BELOW = 1024

#: A sort key: the value in the column, the session's id, and the pid of its process.
Key = tuple[Any, int, int]

_key = itemgetter(0)


class TablePart:
    """
    The part of a table that one process has sorted.

    :param ask: sends the process a query of :py:class:`getty_tx.status.sorting.SortedTables`.
    :param number: the number of the sub-reactor.
    :param pid: of the process.

    :ivar failed: an answer was missing or invalid.
    :ivar total: sessions in this part.
    """

    def __init__(self, ask: Callable[..., Deferred[list[Any]]], number: int, pid: int) -> None:
        self._ask = ask
        self.number = number
        self.pid = pid
        self.failed = False
        self.total = 0
        self._table: int | None = None
        self._value: int | None = None

    def _query(self, read: Callable[[list[Any]], Any], *query: Any) -> Deferred[Any]:
        # The parts of an answer are lists: concatenate them.
        answered = self._ask(*query).addCallback(lambda parts: read([item for part in parts for item in part]))
        return answered.addErrback(self._queryFailed)

    def _queryFailed(self, failure: Any) -> Any:
        self.failed = True
        return failure

    def sort(self, column: str) -> Deferred[None]:
        """Have the process sort its sessions."""
        # All sessions of a part have the same value in these columns.
        self._value = {"subreactor": self.number, "pid": self.pid}.get(column)

        def read(answer: list[Any]) -> None:
            [[self._table, self.total]] = answer
            if type(self.total) is not int:
                raise ValueError(f"{self.total!r:.40} is not a number of sessions")

        return self._query(read, "order", column if self._value is None else None)

    def _keyOf(self, value: Any, number: int) -> Key:
        return value if self._value is None else self._value, number, self.pid

    def keys(self, positions: Sequence[int]) -> Deferred[list[Key]]:
        """The sort keys at these positions."""

        def read(answer: list[Any]) -> list[Key]:
            return [self._keyOf(*each) for (each, _) in zip(answer, positions, strict=True)]

        if not positions:
            return succeed([])
        return self._query(read, "keys", self._table, list(positions))

    def rows(self, begin: int, end: int) -> Deferred[list[tuple[Key, dict[str, Any]]]]:
        """The rows from position ``begin`` up to ``end``, with their sort keys."""

        def read(answer: list[Any]) -> list[tuple[Key, dict[str, Any]]]:
            process = {"subreactor": self.number, "pid": self.pid}
            return [(self._keyOf(value, number), {**process, **row}) for value, number, row in answer]

        if begin == end:
            return succeed([])
        return self._query(read, "rows", self._table, begin, end)

    def drop(self) -> None:
        """Have the process drop the sorted table."""
        if not self.failed and self._table is not None:
            self._ask("drop", self._table).addErrback(lambda _: None)


async def mergedPage(parts: Sequence[TablePart], begin: int, end: int) -> list[dict[str, Any]]:
    """The rows of the merged table from position ``begin`` up to ``end``, at most as many as one part returns."""
    low = await _split(parts, begin)
    high = await _split(parts, end)
    found = await gatherResults(
        [part.rows(*bounds) for part, *bounds in zip(parts, low, high, strict=True)], consumeErrors=True
    )
    return [row for _, row in sorted((row for rows in found for row in rows), key=_key)]


async def _split(parts: Sequence[TablePart], position: int) -> list[int]:
    """How many of the first ``position`` rows of the merged table are in each part."""
    low, high = [0] * len(parts), [part.total for part in parts]
    while sum(low) < position < sum(high):
        readsAll = sum(high) - sum(low) <= READ_ALL_BELOW
        probes = [range(*bounds) if readsAll else _probes(*bounds) for bounds in zip(low, high, strict=True)]
        found = await gatherResults(
            [part.keys(positions) for part, positions in zip(parts, probes, strict=True)], consumeErrors=True
        )
        if readsAll:
            keys = sorted((key, index) for index, keys in enumerate(found) for key in keys)
            for _, index in keys[: position - sum(low)]:
                low[index] += 1
            return low
        span = sum(high) - sum(low)
        low, high = _narrow(found, probes, low, high, position)
        if sum(high) - sum(low) >= span:
            raise ValueError("the parts of the table are not sorted")
    return low if sum(low) >= position else high


def _probes(begin: int, end: int) -> Sequence[int]:
    """Some positions from ``begin`` up to ``end``, which is excluded."""
    size = end - begin
    return range(begin, end) if size <= PROBES else [begin + probe * size // PROBES for probe in range(PROBES)]


def _narrow(
    found: list[list[Key]], probes: list[Sequence[int]], low: list[int], high: list[int], position: int
) -> tuple[list[int], list[int]]:
    """
    Narrow the bounds of a position in each part.

    :param found: the keys at the ``probes``.
    """
    newLow, newHigh = low, high
    for key in sorted(key for keys in found for key in keys):
        # How many rows of each part come before this one: at least, and at most.
        least, most = [], []
        for keys, positions, begin, end in zip(found, probes, low, high, strict=True):
            index = bisect_left(keys, key)
            isHere = index < len(keys) and keys[index] == key
            least.append(positions[index] if isHere else positions[index - 1] + 1 if index else begin)
            most.append(positions[index] if index < len(keys) else end)
        if sum(most) <= position:
            newLow = least
        elif sum(least) >= position:
            newHigh = most
            break
    return newLow, newHigh
