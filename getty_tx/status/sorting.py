"""
Sorts the sessions of one process, for a table that is merged from several processes.

Each process sorts its own sessions and caches the result for some seconds. The main process (``paging``) reads the
sort keys at some positions until it knows which rows of each process are on the page, and then reads these rows.
"""

from __future__ import annotations

import json
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from getty_tx.errors import GettyError
from getty_tx.processes.queries import inParts
from getty_tx.status.table import COLUMNS, MAX_ROWS, ROWS_PER_STEP, SESSIONS_PER_STEP, Key, Sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twisted.internet.defer import Deferred

    from getty_tx.status.slices import Slices
    from getty_tx.status.snapshot import Service

__all__ = ["SortedTables"]

#: Tables that are cached at the same time, and seconds after its last use for which one stays.
MAX_CACHED = 8
CACHE_TIME = 5.0

#: Characters of a text in the table; an application may give a session a name of any length.
MAX_TEXT = 500


class _CachedTable:
    """Sorted sessions."""

    def __init__(self, sessions: Sessions, order: list[int]) -> None:
        self._sessions = sessions
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def key(self, position: int) -> Key:
        """The sort key of the session at a position."""
        return self._sessions.key(self._order[position])

    def rows(self, begin: int, end: int) -> Iterator[list[bytes] | None]:
        """Encode rows in steps: yields None after each step, and the parts at the end."""
        parts: list[bytes] = []
        for start in range(begin, end, ROWS_PER_STEP):
            rows = []
            for index in self._order[start : min(start + ROWS_PER_STEP, end)]:
                row = {name: _short(value) for name, value in self._sessions.row(index).items()}
                rows.append(json.dumps([*self._sessions.key(index), row]))
            parts += inParts(rows)
            yield None
        yield parts


class SortedTables:
    """
    Sorts, caches and reads tables. Answers are in parts, see :py:func:`getty_tx.processes.queries.inParts`.

    :param services: by display name.
    :param slices: runs the work.
    :param reactor: the reactor.
    """

    def __init__(self, services: Mapping[str, Service], slices: Slices, reactor: Any) -> None:
        self._services = services
        self._slices = slices
        self._reactor = reactor
        self._numbers = count(1)
        self._cache: dict[int, tuple[_CachedTable, Any]] = {}

    def stop(self) -> None:
        """Drop all tables."""
        for number in list(self._cache):
            self.drop(number)

    def answer(self, name: str, *arguments: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """
        Answer a query: ``order``, ``keys``, ``rows`` or ``drop``, with the arguments of the method.

        :raise ValueError: there is no such query.
        """
        if name not in ("order", "keys", "rows", "drop"):
            raise ValueError(f"unknown query {name!r:.40}")
        answer: Iterable[bytes] | Deferred[Iterable[bytes]] = getattr(self, name)(*arguments)
        return answer

    def order(self, sort: str | None) -> Deferred[Iterable[bytes]]:
        """
        Sort the sessions, and cache the table.

        :param sort: the column; None: a column in which all sessions have the same value.
        :return: fires with the number of the table, and the number of sessions.
        """
        number = next(self._numbers)
        column = COLUMNS[sort] if sort is not None else _same
        # Sort by the shortened values, because the main process merges by the values that it receives.
        work = self._slices.run((number, "order"), lambda: self._sort(lambda *entry: _short(column(*entry))))
        return work.addCallback(self._keep, number)

    def _sort(self, value: Any) -> Iterator[_CachedTable | None]:
        sessions = Sessions(self._services)
        ordered = yield from sessions.inOrder(value)
        order: list[int] = []
        while step := list(islice(ordered, SESSIONS_PER_STEP)):
            order += step
            yield None
        yield _CachedTable(sessions, order)

    def _keep(self, table: _CachedTable, number: int) -> Iterable[bytes]:
        if len(self._cache) >= MAX_CACHED:
            self.drop(next(iter(self._cache)))
        self._cache[number] = table, self._reactor.callLater(CACHE_TIME, self.drop, number)
        return inParts([json.dumps([number, len(table)])])

    def drop(self, number: int) -> Iterable[bytes]:
        """Remove a table from the cache."""
        _, timer = self._cache.pop(number, (None, None))
        if timer is not None and timer.active():
            timer.cancel()
        return inParts([])

    def _cached(self, number: int) -> _CachedTable:
        if number not in self._cache:
            raise GettyError("the sorted table is not cached any more")
        table, timer = self._cache[number]
        timer.reset(CACHE_TIME)
        return table

    def keys(self, number: int, positions: list[int]) -> Iterable[bytes]:
        """The sort keys at these positions: the value and the session's id."""
        table = self._cached(number)
        return inParts(json.dumps(table.key(position)) for position in positions)

    def rows(self, number: int, begin: int, end: int) -> Deferred[Iterable[bytes]]:
        """The rows from position ``begin`` up to ``end``, each with its sort key."""
        table = self._cached(number)
        return self._slices.run((number, begin, end), lambda: table.rows(begin, min(end, begin + MAX_ROWS)))


def _same(*entry: object) -> int:
    return 0


def _short(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value
