"""Balancers: the choice of the sub-reactor for an accepted connection."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol, TypeVar
from zlib import crc32

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BALANCES", "REUSE_PORT", "Balancer", "IMember", "checkBalance", "makeBalancer"]

#: The kernel balances: each sub-reactor accepts on its own socket, and the main process sees no connection.
REUSE_PORT = "reuse-port"


class IMember(Protocol):
    """What a balancer reads of a sub-reactor."""

    @property
    def slot(self) -> int:
        """The number of its slot, from 0; its successor has the same."""

    @property
    def load(self) -> int:
        """How many connections were handed to it and not reported closed."""


M = TypeVar("M", bound=IMember)


class Balancer:
    """
    Chooses a sub-reactor for each connection.

    :param slots: the number of sub-reactors when all run.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """
        Return the sub-reactor for a connection.

        :param members: the sub-reactors that take connections, at least one, in the order of their slots.
        :param number: the number of the connection: the lowest from 0 that no other connection has, as a descriptor's
            would be if the main process kept its connections.
        :param host: the peer's IP address; None where it has none.
        """
        raise NotImplementedError


class RoundRobin(Balancer):
    """Each sub-reactor in turn."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._next = 0

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Take the first from the next slot on, so that a missing sub-reactor shifts no other's turn."""
        chosen = next((member for member in members if member.slot >= self._next), members[0])
        self._next = (chosen.slot + 1) % self.slots
        return chosen


class LeastConnections(Balancer):
    """The sub-reactor with the fewest connections."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Take the first of the members with the fewest."""
        return min(members, key=_loadOf)


def _loadOf(member: IMember) -> int:
    return member.load


class _Hash(Balancer):
    """By a hash of the connection: the same hash leads to the same slot, while its sub-reactor runs."""

    def _atHash(self, members: Sequence[M], hashed: int) -> M:
        rest, slot = divmod(hashed, self.slots)
        chosen = next((member for member in members if member.slot == slot), None)
        # Only the connections of a missing sub-reactor are spread over the others.
        return members[rest % len(members)] if chosen is None else chosen


class SourceHash(_Hash):
    """Connections from the same IP address get the same sub-reactor."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._withoutHost = RoundRobin(slots)

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Hash the address with CRC-32, as gnet does; in turn where there is no address (unix sockets)."""
        if host is None:
            return self._withoutHost.choose(members, number, host)
        return self._atHash(members, crc32(host.encode()))


class FdHash(_Hash):
    """By the number of the connection."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Take the remainder of the number divided by the number of slots, as nbio and wnet do with descriptors."""
        return self._atHash(members, number)


class Random(Balancer):
    """Any sub-reactor."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Choose with equal probability."""
        return random.choice(members)


_BALANCERS: dict[str, Callable[[int], Balancer]] = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "source-hash": SourceHash,
    "fd-hash": FdHash,
    "random": Random,
}

#: The names of all balancers.
BALANCES = (*_BALANCERS, REUSE_PORT)


def checkBalance(name: str) -> str:
    """
    Return the name of a balancer if there is one.

    :raise SettingError: there is no balancer of this name.
    """
    if name not in BALANCES:
        raise SettingError(f"balance={name!r} is none of {', '.join(BALANCES)}")
    return name


def makeBalancer(name: str, slots: int) -> Balancer:
    """Make the balancer of a name other than :py:data:`REUSE_PORT`."""
    return _BALANCERS[name](slots)
