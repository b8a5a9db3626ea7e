"""Some of many providers, others for each client, so that no client needs a session with all."""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getty_tx.client.group import Group

__all__ = ["Subset"]

#: Providers that are taken in place of those that are not open, at most, where the subset is smaller.
MORE = 20


class Subset:
    """
    The groups with the smallest hashes of their ids, keyed by the client: rendezvous hashing, as gRPC's A68 has it.

    A provider that comes or goes moves at most one place of each client. For each that is not open one more is taken,
    and given back when it is; at most as many more as there are, or 20.

    :param size: how many.
    :param clientId: what makes it another subset than that of others; by default drawn at random.
    """

    __slots__ = ("_key", "_ranked", "chosen", "hasChanged", "size")

    def __init__(self, size: int, clientId: bytes = b"") -> None:
        self.size = size
        self._key = clientId or os.urandom(16)
        # With the serial number, since two groups are not compared.
        self._ranked: list[tuple[bytes, int, Group]] = []
        #: Whether some have come or gone since it was chosen.
        self.hasChanged = False
        #: Those that are in it.
        self.chosen: dict[Group, None] = {}

    def __len__(self) -> int:
        return len(self._ranked)

    def _rank(self, group: Group) -> tuple[bytes, int, Group]:
        return blake2b(group.id.encode(), digest_size=8, key=self._key).digest(), group.serial, group

    def add(self, group: Group) -> None:
        """There is one more."""
        self.hasChanged = True
        insort(self._ranked, self._rank(group))

    def discard(self, group: Group) -> None:
        """One is gone."""
        self.hasChanged = True
        entry = self._rank(group)
        place = bisect_left(self._ranked, entry)
        if place < len(self._ranked) and self._ranked[place][2] is group:
            del self._ranked[place]
        self.chosen.pop(group, None)

    def choose(self) -> tuple[list[Group], list[Group]]:
        """Choose anew. :return: those that are in it now and were not, and those that were and are not."""
        self.hasChanged = False
        chosen: dict[Group, None] = {}
        left = self.size
        most = self.size + max(self.size, MORE)
        for _, _, group in self._ranked:
            if not left or len(chosen) >= most:
                break
            chosen[group] = None
            if not group.isFailing:
                left -= 1
        before, self.chosen = self.chosen, chosen
        return [each for each in chosen if each not in before], [each for each in before if each not in chosen]
