"""The table of sessions: its columns, and a page of it in the order of any of them."""

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

__all__ = ["COLUMNS", "MOST_ROWS", "STEP", "WRITTEN", "Key", "Query", "Sessions", "pageOf", "tableOf"]

#: Rows of a page at most, and where none are asked for.
MOST_ROWS = 1000
ROWS = 100

#: Sessions sorted without asking whether it is time for a pause, and rows written.
STEP = 250
WRITTEN = 50


def _pauses(session: Session, service: str, now: float) -> str:
    paused = session.inbound.paused & ~CLOSED
    return ",".join(reason for bit, reason in PAUSES.items() if paused & bit)


#: What stands in each column: times in seconds, sizes in bytes.
COLUMNS: dict[str, Callable[[Session, str, float], Any]] = {
    "id": lambda session, service, now: session.id,
    "service": lambda session, service, now: service,
    "endpoint": lambda session, service, now: session.context.endpoints.of(session),
    "kind": lambda session, service, now: session.connection.kind,
    "name": lambda session, service, now: session._name,
    "state": lambda session, service, now: stateOf(session),
    "local": lambda session, service, now: formatAddress(session._localAddr),
    "peer": lambda session, service, now: formatAddress(session.remoteAddr),
    "age": lambda session, service, now: round(max(0.0, now - session.openedAt), 3),
    "silence": lambda session, service, now: round(max(0.0, now - session.activeAt), 3),
    "readPkgs": lambda session, service, now: session.pkgsRead,
    "writePkgs": lambda session, service, now: session.pkgsWritten,
    "readBytes": lambda session, service, now: session.bytesRead,
    "writeBytes": lambda session, service, now: session.bytesWritten,
    "pendingBytes": lambda session, service, now: session.outbound.pending,
    "dropped": lambda session, service, now: session.datagramsDropped,
    "paused": _pauses,
}

#: What a session is ordered by: a value and its number.
Key = tuple[Any, int]


@dataclass(frozen=True)
class Query:
    """
    Which page is asked for.

    :ivar sort: a column.
    :ivar limit: rows, up to :py:data:`MOST_ROWS`.
    :raise SettingError: one of them cannot be.
    """

    sort: str = "id"
    descending: bool = False
    offset: int = 0
    limit: int = ROWS

    def __post_init__(self) -> None:
        if type(self.descending) is not bool:
            raise SettingError(f"descending={self.descending!r:.40} is neither true nor false")
        if type(self.offset) is not int or not 0 <= self.offset <= 10**9:
            raise SettingError(f"offset={self.offset!r:.40} is not a whole number from 0 to {10**9}")
        if type(self.limit) is not int or not 0 <= self.limit <= MOST_ROWS:
            raise SettingError(f"limit={self.limit!r:.40} is not a whole number from 0 to {MOST_ROWS}")

    def of(self, columns: Collection[str]) -> Query:
        """
        The same, for a table that has these columns.

        :raise SettingError: what it is to be sorted by is none of them.
        """
        if not isinstance(self.sort, str) or self.sort not in columns:
            raise SettingError(f"sort={self.sort!r:.40} is none of {', '.join(columns)}")
        return self


class Sessions:
    """The sessions of services, at one moment, by places; they are put in order once."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._all: list[Session] = []
        # From which place on they are of which service, and its time.
        self._first: list[int] = []
        self._of: list[tuple[str, float]] = []
        # By place: what they are ordered by, once that is known.
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
        Put them in order, and give the places; yields for a pause now and then.

        There are no tuples to sort by, as a garbage collection looks through all sessions, and thousands of objects
        that it has to look through would bring one.

        :param value: gives what to order by; after that comes the session's number, so that the order is the same each
            time.
        """
        parts: list[list[int]] = []
        ends = [*self._first, len(self._all)][1:]
        values, ids = self._values, self._ids
        for first, end, (name, now) in zip(self._first, ends, self._of, strict=True):
            for start in range(first, end, STEP):
                some = self._all[start : min(start + STEP, end)]
                values += [value(session, name, now) for session in some]
                ids += [session.id for session in some]
                part = list(range(start, start + len(some)))
                part.sort(key=ids.__getitem__, reverse=descending)
                # The order of those with the same value stays.
                part.sort(key=values.__getitem__, reverse=descending)
                parts.append(part)
                yield None
        return merge(*parts, key=self.key, reverse=descending)

    def key(self, place: int) -> Key:
        """By what the session at a place was put in order."""
        return self._values[place], self._ids[place]

    def row(self, place: int) -> dict[str, Any]:
        """What stands in the table about the session at a place."""
        name, now = self._of[bisect_right(self._first, place) - 1]
        session = self._all[place]
        return {column: value(session, name, now) for column, value in COLUMNS.items()}


def tableOf(services: Mapping[str, Service], query: Query) -> Iterator[dict[str, Any] | None]:
    """Gather one page; yields None for a pause now and then, and the page at last."""
    sessions = Sessions(services)
    ordered = yield from sessions.inOrder(COLUMNS[query.sort], query.descending)
    left = query.offset
    while left > 0:
        skipped = sum(1 for _ in islice(ordered, min(left, STEP)))
        left = left - skipped if skipped else 0
        yield None
    rows: list[dict[str, Any]] = []
    for number, place in enumerate(islice(ordered, query.limit)):
        rows.append(sessions.row(place))
        if number % WRITTEN == 0:
            yield None
    yield pageOf(query, len(sessions), rows)


def pageOf(query: Query, total: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """
    A page.

    :param total: how many sessions there are on all pages.
    """
    return {
        "total": total,
        "sort": query.sort,
        "descending": query.descending,
        "offset": query.offset,
        "limit": query.limit,
        "sessions": rows,
    }
