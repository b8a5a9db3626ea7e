"""The table of sessions: its columns, and a page of it in the order of any of them."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.pauses import CLOSED
from getty_tx.session import formatAddress
from getty_tx.status.snapshot import PAUSES, stateOf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from getty_tx.session import Session
    from getty_tx.status.snapshot import Service

__all__ = ["COLUMNS", "MOST_ROWS", "Query", "tableOf"]

#: Rows of a page at most, and where none are asked for.
MOST_ROWS = 1000
ROWS = 100

#: Sessions sorted without asking whether it is time for a pause, and rows written.
_STEP = 250
_WRITTEN = 50


def _pauses(session: Session, service: str, now: float) -> str:
    paused = session._inbound.paused & ~CLOSED
    return ",".join(reason for bit, reason in PAUSES.items() if paused & bit)


#: What stands in each column: times in seconds, sizes in bytes.
COLUMNS: dict[str, Callable[[Session, str, float], Any]] = {
    "id": lambda session, service, now: session.id,
    "service": lambda session, service, now: service,
    "endpoint": lambda session, service, now: session.keeper.endpoints.of(session),
    "kind": lambda session, service, now: session.connection.kind,
    "name": lambda session, service, now: session._name,
    "state": lambda session, service, now: stateOf(session),
    "local": lambda session, service, now: formatAddress(session._localAddr),
    "peer": lambda session, service, now: formatAddress(session.remoteAddr),
    "age": lambda session, service, now: round(max(0.0, now - session._openedAt), 3),
    "silence": lambda session, service, now: round(max(0.0, now - session._lastActive), 3),
    "readPkgs": lambda session, service, now: session._readPkgs,
    "writePkgs": lambda session, service, now: session._writePkgs,
    "readBytes": lambda session, service, now: session._readBytes,
    "writeBytes": lambda session, service, now: session._writeBytes,
    "pendingBytes": lambda session, service, now: session._outbound.pending,
    "dropped": lambda session, service, now: session._dropped,
    "paused": _pauses,
}


@dataclass(frozen=True)
class Query:
    """
    Which page is asked for.

    :ivar sort: one of :py:data:`COLUMNS`.
    :ivar limit: rows, up to :py:data:`MOST_ROWS`.
    :raise SettingError: one of them cannot be.
    """

    sort: str = "id"
    descending: bool = False
    offset: int = 0
    limit: int = ROWS

    def __post_init__(self) -> None:
        if self.sort not in COLUMNS:
            raise SettingError(f"sort={self.sort!r:.40} is none of {', '.join(COLUMNS)}")
        if type(self.descending) is not bool:
            raise SettingError(f"descending={self.descending!r:.40} is neither true nor false")
        if type(self.offset) is not int or not 0 <= self.offset <= 10**9:
            raise SettingError(f"offset={self.offset!r:.40} is not a whole number from 0 to {10**9}")
        if type(self.limit) is not int or not 0 <= self.limit <= MOST_ROWS:
            raise SettingError(f"limit={self.limit!r:.40} is not a whole number from 0 to {MOST_ROWS}")


def tableOf(services: Mapping[str, Service], query: Query) -> Iterator[dict[str, Any] | None]:
    """Gather one page; yields None for a pause now and then, and the page at last."""
    there: list[tuple[Session, str, float]] = []
    for name, service in services.items():
        for keeper in service.keepers:
            now = keeper.seconds()
            there += [(session, name, now) for session in keeper.sessions]
    value = COLUMNS[query.sort]
    parts = []
    for start in range(0, len(there), _STEP):
        # The number makes the order the same each time; sessions themselves cannot be compared.
        part = [(value(*entry), entry[0].id, entry) for entry in there[start : start + _STEP]]
        part.sort(key=_place, reverse=query.descending)
        parts.append(part)
        yield None
    ordered = merge(*parts, key=_place, reverse=query.descending)
    left = query.offset
    while left > 0:
        skipped = sum(1 for _ in islice(ordered, min(left, _STEP)))
        left = left - skipped if skipped else 0
        yield None
    rows: list[dict[str, Any]] = []
    for number, (_, _, entry) in enumerate(islice(ordered, query.limit)):
        rows.append({name: column(*entry) for name, column in COLUMNS.items()})
        if number % _WRITTEN == 0:
            yield None
    yield {
        "total": len(there),
        "sort": query.sort,
        "descending": query.descending,
        "offset": query.offset,
        "limit": query.limit,
        "sessions": rows,
    }


def _place(entry: tuple[Any, int, Any]) -> tuple[Any, int]:
    return entry[:2]
