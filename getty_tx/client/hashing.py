"""Which provider a key belongs to: rendezvous hashing, and a ring where there are many."""

from __future__ import annotations

from bisect import bisect_left, insort
from hashlib import blake2b
from struct import unpack
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from getty_tx.client.group import Group

__all__ = ["Hashing", "numberOf"]

#: With more providers there is a ring, as looking at all of them takes too long: 10,000 take some milliseconds. With
#: fewer than FEW there is none again; not between, so that keys do not move with each provider that comes and goes.
MANY, FEW = 100, 50

#: Points of a provider on the ring, in digests of eight.
DIGESTS = 5

#: The ring is in pieces, so that a point that comes or goes moves few others.
PIECE_BITS = 10

_MASK = (1 << 64) - 1


class Hashing:
    """
    The order of providers for a key. It depends on their ids and on nothing else, so all clients have the same.

    A provider that goes moves its own keys and no other, each to its second.

    :param groups: that there are.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        self._groups: dict[Group, None] = {}
        self._ring: _Ring | None = None
        for group in groups:
            self.add(group)

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, group: Group) -> None:
        """There is one more."""
        if group in self._groups:
            return
        if group.seed is None:
            group.seed = int.from_bytes(blake2b(group.id.encode(), digest_size=8).digest())
        self._groups[group] = None
        if self._ring is not None:
            self._ring.add(group)
        elif len(self._groups) > MANY:
            self._ring = _Ring()
            for each in self._groups:
                self._ring.add(each)

    def discard(self, group: Group) -> None:
        """One is gone."""
        if group not in self._groups:
            return
        del self._groups[group]
        if self._ring is not None:
            self._ring.discard(group)
            if len(self._groups) < FEW:
                self._ring = None

    def order(self, key: Any) -> tuple[int, Iterator[Group]]:
        """
        The key as a number, and the groups, the best first.

        :raise SettingError: the key is neither bytes nor a string nor a whole number.
        """
        number = numberOf(key)
        return number, self._rendezvous(number) if self._ring is None else self._ring.order(number)

    def _rendezvous(self, number: int) -> Iterator[Group]:
        if not self._groups:
            return
        scores = {group: _mixed(group.seed ^ number) for group in self._groups}  # type: ignore[operator]
        best = max(scores, key=scores.__getitem__)
        yield best
        # It is not open, which is rare.
        yield from sorted((group for group in scores if group is not best), key=scores.__getitem__, reverse=True)


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
    return int.from_bytes(blake2b(key, digest_size=8).digest())


def _mixed(number: int) -> int:
    """The finisher of splitmix64: each bit of the number changes half of the others."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


class _Ring:
    """Points of groups on a circle; a key belongs to the one with the next point."""

    __slots__ = ("_groups", "_pieces")

    def __init__(self) -> None:
        self._groups: dict[int, Group] = {}
        # A point with the serial number of its group in the lower half.
        self._pieces: list[list[int]] = [[] for _ in range(1 << PIECE_BITS)]

    def add(self, group: Group) -> None:
        self._groups[group.serial] = group
        for point in _pointsOf(group):
            insort(self._pieces[point >> 128 - PIECE_BITS], point)

    def discard(self, group: Group) -> None:
        del self._groups[group.serial]
        for point in _pointsOf(group):
            piece = self._pieces[point >> 128 - PIECE_BITS]
            del piece[bisect_left(piece, point)]

    def order(self, number: int) -> Iterator[Group]:
        seen = set()
        pieces = self._pieces
        start = number >> 64 - PIECE_BITS
        place = bisect_left(pieces[start], number << 64)
        for index in range(start, start + len(pieces) + 1):
            piece = pieces[index % len(pieces)]
            for point in piece[place:]:
                serial = point & _MASK
                if serial not in seen:
                    seen.add(serial)
                    yield self._groups[serial]
            place = 0


def _pointsOf(group: Group) -> Iterator[int]:
    """Its points: 64 bits of hash above 64 bits of serial number."""
    name = group.id.encode()
    for index in range(DIGESTS):
        digest = blake2b(name, digest_size=64, salt=bytes([index + 1])).digest()
        for point in unpack("<8Q", digest):
            yield point << 64 | group.serial
