"""
A process's part of the table of sessions that several have together.

Each process puts its own sessions in order, and keeps that for a moment. Who puts the parts together (``spread``) asks
what stands at some places of it, until it knows which rows of each are on the page that it wants, and then for these.
"""

from __future__ import annotations

import json
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from getty_tx.errors import GettyError
from getty_tx.processes.queries import inParts
from getty_tx.status.table import COLUMNS, MOST_ROWS, STEP, WRITTEN, Key, Sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twisted.internet.defer import Deferred

    from getty_tx.status.slices import Slices
    from getty_tx.status.snapshot import Service

__all__ = ["MOST_KEYS", "Orders"]

#: Orders that are kept at once, and seconds for which one is that is not asked for.
MOST_ORDERS = 8
KEPT = 5.0

#: Places that may be asked for at once.
MOST_KEYS = 2048

#: Characters of a text in the table; what an application calls a session may have any length.
MOST_TEXT = 500


class _Order:
    """Sessions in order."""

    def __init__(self, sessions: Sessions, places: list[int]) -> None:
        self._sessions = sessions
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def key(self, at: int) -> Key:
        """By what the session is ordered that stands there."""
        return self._sessions.key(self._places[at])

    def rows(self, begin: int, end: int) -> Iterator[list[bytes] | None]:
        """Write rows; yields None for a pause now and then, and the parts at last."""
        parts: list[bytes] = []
        for start in range(begin, end, WRITTEN):
            rows = []
            for place in self._places[start : min(start + WRITTEN, end)]:
                row = {name: _short(value) for name, value in self._sessions.row(place).items()}
                rows.append(json.dumps([*self._sessions.key(place), row]))
            parts += inParts(rows)
            yield None
        yield parts


class Orders:
    """
    Answers what is asked of orders; every answer in parts, as :py:func:`getty_tx.processes.queries.inParts` makes them.

    :param services: whose sessions, by the name that they are shown with.
    :param slices: does the work.
    :param reactor: the reactor.
    """

    def __init__(self, services: Mapping[str, Service], slices: Slices, reactor: Any) -> None:
        self._services = services
        self._slices = slices
        self._reactor = reactor
        self._numbers = count(1)
        self._orders: dict[int, tuple[_Order, Any]] = {}

    def stop(self) -> None:
        """Let go of all."""
        for number in list(self._orders):
            self.drop(number)

    def answer(self, word: str, *question: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """
        Answer what is asked with a word and what belongs to it.

        :raise ValueError: the word is none of those that are here.
        """
        if word not in ("order", "keys", "rows", "drop"):
            raise ValueError(f"{word!r:.40} is nothing that can be asked for")
        answer: Iterable[bytes] | Deferred[Iterable[bytes]] = getattr(self, word)(*question)
        return answer

    def order(self, sort: str | None) -> Deferred[Iterable[bytes]]:
        """
        Put the sessions in order.

        :param sort: the column; None: one in which they all have the same.
        :return: fires with the number of the order, and that of the sessions.
        """
        number = next(self._numbers)
        column = COLUMNS[sort] if sort is not None else _same
        # As it is told, so that who compares what is told finds the same order.
        work = self._slices.run((number, "order"), lambda: self._sort(lambda *entry: _short(column(*entry))))
        return work.addCallback(self._keep, number)

    def _sort(self, value: Any) -> Iterator[_Order | None]:
        sessions = Sessions(self._services)
        ordered = yield from sessions.inOrder(value)
        places: list[int] = []
        while some := list(islice(ordered, STEP)):
            places += some
            yield None
        yield _Order(sessions, places)

    def _keep(self, order: _Order, number: int) -> Iterable[bytes]:
        if len(self._orders) >= MOST_ORDERS:
            self.drop(next(iter(self._orders)))
        self._orders[number] = order, self._reactor.callLater(KEPT, self.drop, number)
        return inParts([json.dumps([number, len(order)])])

    def drop(self, number: int) -> Iterable[bytes]:
        """An order is not needed any more."""
        _, timer = self._orders.pop(number, (None, None))
        if timer is not None and timer.active():
            timer.cancel()
        return inParts([])

    def _at(self, number: int) -> _Order:
        if number not in self._orders:
            raise GettyError("this order is not kept any more")
        order, timer = self._orders[number]
        timer.reset(KEPT)
        return order

    def keys(self, number: int, places: list[int]) -> Iterable[bytes]:
        """What stands at these places: by what it was ordered, and the session's number."""
        order = self._at(number)
        return inParts(json.dumps(order.key(at)) for at in places)

    def rows(self, number: int, begin: int, end: int) -> Deferred[Iterable[bytes]]:
        """The rows from one place up to another, with what stands there."""
        order = self._at(number)
        return self._slices.run((number, begin, end), lambda: order.rows(begin, min(end, begin + MOST_ROWS)))


def _same(*entry: object) -> int:
    return 0


def _short(value: Any) -> Any:
    return value[:MOST_TEXT] if isinstance(value, str) else value
