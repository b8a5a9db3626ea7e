"""The table of sessions: its columns, and pages of it, sorted by any column."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.session.addresses import formatAddress
from getty_tx.session.pausing import CLOSED
from getty_tx.status.snapshot import PAUSES, stateOf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping

    from getty_tx.session.session import Session
    from getty_tx.status.snapshot import Service

__all__ = ["COLUMNS", "MAX_ROWS", "ROWS_PER_STEP", "SESSIONS_PER_STEP", "Key", "Query", "Sessions", "pageOf", "tableOf"]

#: Rows of a page: the maximum, and the default.
MAX_ROWS = 1000
DEFAULT_ROWS = 100

#: Sessions that are sorted, and rows that are written, in one step; the time of a slice is checked between two steps.
SESSIONS_PER_STEP = 250
ROWS_PER_STEP = 50


def _pauses(session: Session, service: str, now: float) -> str:
    paused = session.inbound.paused & ~CLOSED
    return ",".join(reason for bit, reason in PAUSES.items() if paused & bit)


#: The value of each column: times in seconds, sizes in bytes. Sorting calls one of these for every session, so they
#: read the session's documented counters and not ``stats``, which would make an object for each.
COLUMNS: dict[str, Callable[[Session, str, float], Any]] = {
    "id": lambda session, service, now: session.id,
    "service": lambda session, service, now: service,
    "endpoint": lambda session, service, now: session.context.endpoints.of(session),
    "kind": lambda session, service, now: session.connection.kind,
    "name": lambda session, service, now: session.name,
    "state": lambda session, service, now: stateOf(session),
    "local": lambda session, service, now: formatAddress(session.localAddr),
    "peer": lambda session, service, now: formatAddress(session.remoteAddr),
    "age": lambda session, service, now: round(max(0.0, now - session.openedAt), 3),
    "silence": lambda session, service, now: round(max(0.0, now - session.lastActive), 3),
    "readPkgs": lambda session, service, now: session.pkgsRead,
    "writePkgs": lambda session, service, now: session.pkgsWritten,
    "readBytes": lambda session, service, now: session.bytesRead,
    "writeBytes": lambda session, service, now: session.bytesWritten,
    "pendingBytes": lambda session, service, now: session.pendingBytes,
    "dropped": lambda session, service, now: session.datagramsDropped,
    "groups": lambda session, service, now: len(session.memberships),
    "paused": _pauses,
}

#: A sort key: the value in the column, and the session's id.
Key = tuple[Any, int]


@dataclass(frozen=True)
class Query:
    """
    A query for one page.

    :ivar sort: a column.
    :ivar limit: rows, up to :py:data:`MAX_ROWS`.
    :raise SettingError: a value is invalid.
    """

    sort: str = "id"
    descending: bool = False
    offset: int = 0
    limit: int = DEFAULT_ROWS

    def __post_init__(self) -> None:
        if type(self.descending) is not bool:
            raise SettingError(f"descending={self.descending!r:.40} is neither true nor false")
        if type(self.offset) is not int or not 0 <= self.offset <= 10**9:
            raise SettingError(f"offset={self.offset!r:.40} is not a whole number from 0 to {10**9}")
        if type(self.limit) is not int or not 0 <= self.limit <= MAX_ROWS:
            raise SettingError(f"limit={self.limit!r:.40} is not a whole number from 0 to {MAX_ROWS}")

    def of(self, columns: Collection[str]) -> Query:
        """
        Check the query for a table with these columns, and return it.

        :raise SettingError: the table has no column ``sort``.
        """
        if not isinstance(self.sort, str) or self.sort not in columns:
            raise SettingError(f"sort={self.sort!r:.40} is none of {', '.join(columns)}")
        return self


class Sessions:
    """The sessions of services at one moment, each with an index; they are sorted once."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._all: list[Session] = []
        # For each context: the index of its first session, and the name of its service with the time.
        self._first: list[int] = []
        self._of: list[tuple[str, float]] = []
        # The sort keys, by index, once they are known.
        self._values: list[Any] = []
        self._ids: list[int] = []
        for name, service in services.items():
            for context in service.contexts:
                self._first.append(len(self._all))
                self._of.append((name, context.seconds()))
                self._all += context.sessions

    def __len__(self) -> int:
        return len(self._all)

    def inOrder(
        self, value: Callable[[Session, str, float], Any], descending: bool = False
    ) -> Generator[None, None, Iterator[int]]:
        """
        Sort the sessions in steps, with a yield after each, and return their indexes in order.

        The keys are in two lists and not in tuples: thousands of new objects that the garbage collector tracks would
        start a collection, and that walks through all sessions.

        :param value: returns the value to sort by. Equal values are sorted by the session's id, so that the order is
            the same each time.
        """
        parts: list[list[int]] = []
        ends = [*self._first, len(self._all)][1:]
        values, ids = self._values, self._ids
        for first, end, (name, now) in zip(self._first, ends, self._of, strict=True):
            for start in range(first, end, SESSIONS_PER_STEP):
                step = self._all[start : min(start + SESSIONS_PER_STEP, end)]
                values += [value(session, name, now) for session in step]
                ids += [session.id for session in step]
                part = list(range(start, start + len(step)))
                part.sort(key=ids.__getitem__, reverse=descending)
                # Sorting is stable: equal values stay sorted by id.
                part.sort(key=values.__getitem__, reverse=descending)
                parts.append(part)
                yield None
        return merge(*parts, key=self.key, reverse=descending)

    def key(self, index: int) -> Key:
        """The sort key of the session at an index."""
        return self._values[index], self._ids[index]

    def row(self, index: int) -> dict[str, Any]:
        """The row of the session at an index."""
        name, now = self._of[bisect_right(self._first, index) - 1]
        session = self._all[index]
        return {column: value(session, name, now) for column, value in COLUMNS.items()}


def tableOf(services: Mapping[str, Service], query: Query) -> Iterator[dict[str, Any] | None]:
    """Build one page in steps: yields None after each step, and the page at the end."""
    sessions = Sessions(services)
    ordered = yield from sessions.inOrder(COLUMNS[query.sort], query.descending)
    left = query.offset
    while left > 0:
        skipped = sum(1 for _ in islice(ordered, min(left, SESSIONS_PER_STEP)))
        left = left - skipped if skipped else 0
        yield None
    rows: list[dict[str, Any]] = []
    for number, index in enumerate(islice(ordered, query.limit)):
        rows.append(sessions.row(index))
        if number % ROWS_PER_STEP == 0:
            yield None
    yield pageOf(query, len(sessions), rows)


def pageOf(query: Query, total: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """
    The JSON object of a page.

    :param total: the number of sessions on all pages.
    """
    return {
        "total": total,
        "sort": query.sort,
        "descending": query.descending,
        "offset": query.offset,
        "limit": query.limit,
        "sessions": rows,
    }
