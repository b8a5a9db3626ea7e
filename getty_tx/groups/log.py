"""The last publications of a group, kept while a member is behind: one log for all of them."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getty_tx.groups.kinds import Entry

__all__ = ["Log", "firstOf"]


#: Publications that leave in one piece.
MOST = 256


def firstOf(entries: list[Entry], limit: int) -> list[Entry]:
    """
    The first entries, as many as leave in one piece.

    :param limit: bytes; one entry may have more.
    """
    size = 0
    for index, entry in enumerate(entries):
        size += entry.size
        if index == MOST or (index and size > limit):
            return entries[:index]
    return entries


class Log:
    """
    Entries with consecutive numbers.

    :param limit: bytes; the oldest are forgotten above that.
    :ivar next: the number of the entry that comes next.
    :ivar size: bytes of the entries.
    """

    __slots__ = ("_entries", "_limit", "next", "size")

    def __init__(self, limit: int) -> None:
        self._entries: deque[Entry] = deque()
        self._limit = limit
        self.next = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> int:
        """The number of the oldest entry; ``next`` if there is none."""
        return self.next - len(self._entries)

    def add(self, entry: Entry) -> None:
        """One more entry, which has the number ``next``."""
        self._entries.append(entry)
        self.next += 1
        self.size += entry.size

    def grown(self, size: int) -> None:
        """Entries are longer than they said, as they were encoded meanwhile."""
        self.size += size

    def trim(self, needed: int, begun: int) -> None:
        """
        Forget the entries before the number ``needed``, and more where the limit is passed.

        :param begun: the number of the first entry that nobody has got. From there on one entry may pass the limit:
            whoever publishes the next one is told that too much waits.
        """
        entries, limit = self._entries, self._limit
        while entries:
            first = self.first
            if first >= needed:
                spared = entries[-1].size if first >= begun else 0
                if self.size - spared <= limit:
                    return
            self.size -= entries.popleft().size
        self.size = 0

    def since(self, number: int, until: int | None = None) -> list[Entry]:
        """The entries from this number on, and before ``until``; it is not less than ``first``."""
        first = self.first
        return list(islice(self._entries, number - first, None if until is None else until - first))
