"""How the main process chooses the sub-reactor for a connection that it has accepted."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol, TypeVar
from zlib import crc32

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["BALANCES", "REUSE_PORT", "Balancer", "IMember", "checkBalance", "makeBalancer"]

#: The kernel chooses: each sub-reactor accepts on a socket of its own, and the main process sees no connection.
REUSE_PORT = "reuse-port"


class IMember(Protocol):
    """What a balancer knows of a sub-reactor."""

    @property
    def place(self) -> int:
        """From 0 to the number of processes, and its successor's after it has been replaced."""

    @property
    def load(self) -> int:
        """Connections that were handed to it and that it has not reported closed."""


M = TypeVar("M", bound=IMember)


class Balancer:
    """
    Chooses.

    :param places: how many sub-reactors there are when all run.
    """

    def __init__(self, places: int) -> None:
        self.places = places

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """
        The sub-reactor for a connection.

        :param members: those that take connections, at least one, in the order of their places.
        :param number: what the connection's descriptor would be if the main process kept its connections: the lowest
            number that no other has, counted from 0.
        :param host: the peer's IP address; None where it has none.
        """
        raise NotImplementedError


class RoundRobin(Balancer):
    """Each in turn."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._next = 0

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """The first whose place is not before the next; so one that is away for a while shifts nobody's turn."""
        chosen = next((member for member in members if member.place >= self._next), members[0])
        self._next = (chosen.place + 1) % self.places
        return chosen


class LeastConnections(Balancer):
    """The one with the fewest connections."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """The first of those with the fewest."""
        return min(members, key=_loadOf)


def _loadOf(member: IMember) -> int:
    return member.load


class _Hash(Balancer):
    """By a number of the connection: the same one leads to the same place, as long as that runs."""

    def _of(self, members: Sequence[M], hashed: int) -> M:
        rest, place = divmod(hashed, self.places)
        chosen = next((member for member in members if member.place == place), None)
        # Only the connections of a place that is away are spread over the others.
        return members[rest % len(members)] if chosen is None else chosen


class SourceHash(_Hash):
    """Connections of the same IP address have the same sub-reactor."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self._without = RoundRobin(places)

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """By the CRC-32 of the address, as gnet does it; in turn where there is none (unix sockets)."""
        if host is None:
            return self._without.choose(members, number, host)
        return self._of(members, crc32(host.encode()))


class FdHash(_Hash):
    """By the connection's number."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """The remainder of the division by the number of sub-reactors, as nbio and wnet do it with descriptors."""
        return self._of(members, number)


class Random(Balancer):
    """Any."""

    def choose(self, members: Sequence[M], number: int, host: str | None) -> M:
        """Each as likely as the others."""
        return random.choice(members)


_BALANCERS: dict[str, Callable[[int], Balancer]] = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "source-hash": SourceHash,
    "fd-hash": FdHash,
    "random": Random,
}

#: The names of all ways to balance.
BALANCES = (*_BALANCERS, REUSE_PORT)


def checkBalance(name: str) -> str:
    """
    The name, if there is such a balance.

    :raise SettingError: there is none.
    """
    if name not in BALANCES:
        raise SettingError(f"balance={name!r} is none of {', '.join(BALANCES)}")
    return name


def makeBalancer(name: str, places: int) -> Balancer:
    """The balancer of a name other than :py:data:`REUSE_PORT`."""
    return _BALANCERS[name](places)
