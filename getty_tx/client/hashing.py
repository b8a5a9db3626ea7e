"""Which provider a key belongs to: rendezvous hashing, and circles where there are many."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from getty_tx.client.group import Group

__all__ = ["Hashing", "numberOf", "seedOf"]

#: With more providers there are circles, as looking at all of them takes too long: 10,000 take some milliseconds. With
#: fewer than FEW there are none again; not between, so that keys do not move with each provider that comes and goes.
MANY, FEW = 100, 50

#: Circles, of which each has one point of each provider. Their shares differ by 1/sqrt(CIRCLES), which is a sixth.
CIRCLES = 40

#: With few providers, keys are put into so many parts, each of which belongs to one of them: shares of 100 differ by a
#: thirteenth. What was found for a part is kept until a provider comes or goes, so that a pick does not look at all.
PARTS = 1 << 14

_MASK = (1 << 64) - 1

_first8 = Struct(">Q").unpack_from


class Hashing:
    """
    The order of providers for a key. It depends on their ids and on nothing else, so all clients have the same.

    A provider that goes moves its own keys and no other, each to its second.

    :param groups: that there are.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        # By number; those of groups that are gone are used again. Of 10,000 in a millisecond: no call for each.
        self._table: list[Group | None] = []
        self._table += groups
        self._numbers: dict[Any, int] = dict(zip(self._table, range(len(self._table)), strict=True))
        self._free: list[int] = []
        # The first of parts of the keys, while there are no circles.
        self._firsts: dict[int, Group] = {}
        self._circles: _Circles | None = _Circles(self._table) if len(self._table) > MANY else None

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, group: Group) -> None:
        """There is one more."""
        if group in self._numbers:
            return
        if self._free:
            number = self._free.pop()
            self._table[number] = group
        else:
            number = len(self._table)
            self._table.append(group)
        self._numbers[group] = number
        self._firsts.clear()
        if self._circles is not None:
            self._circles.add(group.seed, number)
        elif len(self._numbers) > MANY:
            self._circles = _Circles(self._table)

    def discard(self, group: Group) -> None:
        """One is gone."""
        number = self._numbers.pop(group, None)
        if number is None:
            return
        self._table[number] = None
        self._free.append(number)
        self._firsts.clear()
        if self._circles is not None:
            self._circles.discard(group.seed, number)
            if len(self._numbers) < FEW:
                self._circles = None

    def first(self, key: Any) -> tuple[int, Group | None]:
        """
        The key as a number, and the first group of the order, or None if there are none.

        :raise SettingError: as :py:meth:`order`.
        """
        # The common case without a call.
        number: int = _first8(blake2b(key).digest())[0] if type(key) is bytes else numberOf(key)
        circles = self._circles
        if circles is not None:
            points, owners = circles.made[number % CIRCLES] or circles.make(number % CIRCLES)
            place = bisect_left(points, float(number))
            return number, self._table[owners[place if place < len(owners) else 0]]
        group = self._firsts.get(number % PARTS)
        if group is None and self._numbers:
            group = self._firsts[number % PARTS] = next(self._rendezvous(number))
        return number, group

    def order(self, key: Any) -> tuple[int, Iterator[Group]]:
        """
        The key as a number, and the groups, the best first.

        :raise SettingError: the key is neither bytes nor a string nor a whole number.
        """
        number = numberOf(key)
        if self._circles is None:
            return number, self._rendezvous(number)
        return number, self._around(number)

    def _around(self, number: int) -> Iterator[Group]:
        """The groups in the order of the points of a circle."""
        assert self._circles is not None
        points, owners = self._circles.made[number % CIRCLES] or self._circles.make(number % CIRCLES)
        place = bisect_left(points, float(number))
        # Copies: groups may come and go while they are read.
        for part in (owners[place:], owners[:place]):
            for owner in part:
                group = self._table[owner]
                if group is not None:
                    yield group

    def _rendezvous(self, number: int) -> Iterator[Group]:
        part = _mixed(number % PARTS)
        scores = {group: _mixed(group.seed ^ part) for group in self._numbers}
        if scores:
            best = max(scores, key=scores.__getitem__)
            yield best
            # It is not open, which is rare.
            yield from sorted((group for group in scores if group is not best), key=scores.__getitem__, reverse=True)


def seedOf(id: str) -> int:
    """The number of 64 bits that stands for the id of a group."""
    return numberOf(id)


def numberOf(key: Any) -> int:
    """
    The key as a number of 64 bits.

    :raise SettingError: it is neither bytes nor a string nor a whole number.
    """
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, int):
        key = str(key).encode()
    elif not isinstance(key, bytes):
        raise SettingError(f"key={key!r}: by='hash' needs a key, which is bytes, a string or a whole number")
    # All of the 64 bytes: to ask for eight takes longer.
    number: int = _first8(blake2b(key).digest())[0]
    return number


def _mixed(number: int) -> int:
    """The finisher of splitmix64: each bit of the number changes half of the others."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


#: The points of a provider are its seed times these, modulo 2^64: odd numbers of any bits.
_FACTORS = [_mixed((index + 1) * 0x9E3779B97F4A7C15 & _MASK) | 1 for index in range(CIRCLES)]


class _Circles:
    """
    Consistent hashing: a key belongs to one of the circles, and there to the provider with the next point.

    Each is made when the first key falls on it, which takes some 4 ms for 10,000 providers; all at once would take 40
    times as long. Points are floats, which are compared and sorted in half of the time of integers of 64 bits.

    :param table: the groups by number, None where there is none.
    """

    __slots__ = ("_free", "_seeds", "made")

    def __init__(self, table: list[Group | None]) -> None:
        # By number; those of _free have none.
        self._seeds = [0 if group is None else group.seed for group in table]
        self._free = {number for number, group in enumerate(table) if group is None}
        #: Each has its points in order, and whose they are.
        self.made: list[tuple[array[float], array[int]] | None] = [None] * CIRCLES

    def make(self, index: int) -> tuple[array[float], array[int]]:
        """Make one."""
        # The array makes floats of integers without a call for each.
        factor, mask = _FACTORS[index], _MASK
        points = array("d", [seed * factor & mask for seed in self._seeds]).tolist()
        owners: Iterable[int] = sorted(range(len(points)), key=points.__getitem__)
        if self._free:
            owners = [owner for owner in owners if owner not in self._free]
        owners = array("I", owners)
        circle = self.made[index] = array("d", map(points.__getitem__, owners)), owners
        return circle

    def add(self, seed: int, number: int) -> None:
        """One more provider."""
        if number == len(self._seeds):
            self._seeds.append(seed)
        else:
            self._seeds[number] = seed
            self._free.remove(number)
        for circle, factor in zip(self.made, _FACTORS, strict=True):
            if circle is not None:
                points, owners = circle
                point = float(seed * factor & _MASK)
                place = bisect_left(points, point)
                points.insert(place, point)
                owners.insert(place, number)

    def discard(self, seed: int, number: int) -> None:
        """One is gone."""
        self._free.add(number)
        for circle, factor in zip(self.made, _FACTORS, strict=True):
            if circle is not None:
                points, owners = circle
                # More than one may have this point.
                place = owners.index(number, bisect_left(points, float(seed * factor & _MASK)))
                del points[place], owners[place]
