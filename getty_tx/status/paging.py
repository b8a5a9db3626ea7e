"""
A page of a table whose parts are with several processes, each in order.

Where in each part a page begins is found without all that stands before it: what stands at some places of each part
tells between which of them the place is, and the next look is only there.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Part", "pageFrom"]

#: Places of each part that are looked at in one go.
LOOKS = 32

#: Places among which it is not sure yet where a page begins, that are looked at all.
FEW = 1024

#: What a session is ordered by: a value, its number, and that of its process.
Key = tuple[Any, int, int]

_key = itemgetter(0)


class Part:
    """
    The part of one process.

    :param ask: asks it one question of :py:class:`getty_tx.status.sorting.Orders`.
    :param number: of the sub-reactor.
    :param pid: of the process.

    :ivar failed: it did not answer, or not what it should.
    """

    def __init__(self, ask: Callable[..., Deferred[list[Any]]], number: int, pid: int) -> None:
        self._ask = ask
        self.number = number
        self.pid = pid
        self.failed = False
        self.total = 0
        self._order: int | None = None
        self._value: int | None = None

    def _question(self, read: Callable[[list[Any]], Any], *question: Any) -> Deferred[Any]:
        # The parts of an answer are lists, which together are one.
        asked = self._ask(*question).addCallback(lambda parts: read([thing for part in parts for thing in part]))
        return asked.addErrback(self._hasFailed)

    def _hasFailed(self, failure: Any) -> Any:
        self.failed = True
        return failure

    def order(self, sort: str) -> Deferred[None]:
        """Put it in order."""
        # These, all of its sessions have in common.
        self._value = {"subreactor": self.number, "pid": self.pid}.get(sort)

        def read(answer: list[Any]) -> None:
            [[self._order, self.total]] = answer
            if type(self.total) is not int:
                raise ValueError(f"{self.total!r:.40} is no number of sessions")

        return self._question(read, "order", sort if self._value is None else None)

    def _keyOf(self, value: Any, number: int) -> Key:
        return value if self._value is None else self._value, number, self.pid

    def keys(self, places: Sequence[int]) -> Deferred[list[Key]]:
        """What stands at these places."""

        def read(answer: list[Any]) -> list[Key]:
            return [self._keyOf(*each) for (each, _) in zip(answer, places, strict=True)]

        if not places:
            return succeed([])
        return self._question(read, "keys", self._order, list(places))

    def rows(self, begin: int, end: int) -> Deferred[list[tuple[Key, dict[str, Any]]]]:
        """The rows from one place up to another."""

        def read(answer: list[Any]) -> list[tuple[Key, dict[str, Any]]]:
            where = {"subreactor": self.number, "pid": self.pid}
            return [(self._keyOf(value, number), {**where, **row}) for value, number, row in answer]

        if begin == end:
            return succeed([])
        return self._question(read, "rows", self._order, begin, end)

    def drop(self) -> None:
        """The order is not needed any more."""
        if not self.failed and self._order is not None:
            self._ask("drop", self._order).addErrback(lambda _: None)


async def pageFrom(parts: Sequence[Part], begin: int, end: int) -> list[dict[str, Any]]:
    """The rows from one place of the whole, in order, up to another; at most as many as a part gives at once."""
    low = await _divide(parts, begin)
    high = await _divide(parts, end)
    found = await gatherResults(
        [each.rows(*place) for each, *place in zip(parts, low, high, strict=True)], consumeErrors=True
    )
    return [row for _, row in sorted((row for rows in found for row in rows), key=_key)]


async def _divide(parts: Sequence[Part], place: int) -> list[int]:
    """How many of the first ``place`` rows of the whole are in each part."""
    low, high = [0] * len(parts), [part.total for part in parts]
    while sum(low) < place < sum(high):
        isEnough = sum(high) - sum(low) <= FEW
        looks = [
            range(first, last) if isEnough else _spread(first, last) for first, last in zip(low, high, strict=True)
        ]
        found = await gatherResults(
            [part.keys(look) for part, look in zip(parts, looks, strict=True)], consumeErrors=True
        )
        if isEnough:
            keys = sorted((key, part) for part, those in enumerate(found) for key in those)
            for _, part in keys[: place - sum(low)]:
                low[part] += 1
            return low
        span = sum(high) - sum(low)
        low, high = _narrow(found, looks, low, high, place)
        if sum(high) - sum(low) >= span:
            raise ValueError("the parts of the table are not in order")
    return low if sum(low) >= place else high


def _spread(first: int, last: int) -> Sequence[int]:
    """Some places from the first up to the last, which is behind them."""
    size = last - first
    return range(first, last) if size <= LOOKS else [first + at * size // LOOKS for at in range(LOOKS)]


def _narrow(
    found: list[list[Key]], looks: list[Sequence[int]], low: list[int], high: list[int], place: int
) -> tuple[list[int], list[int]]:
    """
    The places of each part between which the row is, by what was found at some of them.

    :param found: what stands at the ``looks``.
    """
    before, behind = low, high
    for key in sorted(key for keys in found for key in keys):
        # How many rows come before this one: at least, and at most.
        least, most = [], []
        for keys, look, first, last in zip(found, looks, low, high, strict=True):
            at = bisect_left(keys, key)
            isHere = at < len(keys) and keys[at] == key
            least.append(look[at] if isHere else look[at - 1] + 1 if at else first)
            most.append(look[at] if at < len(keys) else last)
        if sum(most) <= place:
            before = least
        elif sum(least) >= place:
            behind = most
            break
    return before, behind
