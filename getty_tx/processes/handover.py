"""What the main process does with the connections that it accepts: limits, balance, handing over, counting."""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from getty_tx.processes.channel import MOST_DESCRIPTORS, REFUSE, TAKE, packConnections
from getty_tx.session.refusals import MOST_ANSWERED

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from getty_tx.processes.balance import Balancer
    from getty_tx.processes.supervisor import Member
    from getty_tx.session.refusals import Reason

__all__ = ["MOST_IN_FLIGHT", "Accepted", "Handover", "Send"]

#: Connections under way to sub-reactors above which none is accepted until some are acknowledged: each is a descriptor
#: of the main process, and those that are not accepted yet wait as well in the backlog.
MOST_IN_FLIGHT = 1024

#: How often a connection is given to another sub-reactor before it is given up.
MOST_ATTEMPTS = 8


class Accepted:
    """
    An accepted connection, until a sub-reactor has acknowledged it.

    :param connection: its socket.
    :param endpoint: the number of the endpoint that it came to.
    :param host: the peer's IP address, where it has one.
    :param counted: whether the limit for each host holds for it.
    :param answers: whether its endpoint has an answer for those above ``maxSessions``.
    """

    __slots__ = ("answers", "attempts", "connection", "counted", "endpoint", "host", "number")

    def __init__(
        self,
        connection: socket.socket,
        endpoint: int,
        host: str | None,
        counted: bool = True,
        answers: bool = False,
    ) -> None:
        self.connection = connection
        self.endpoint = endpoint
        self.host = host
        self.counted = counted
        self.answers = answers
        self.number = -1
        self.attempts = 0


class Send(Protocol):
    """Sends a message to a sub-reactor."""

    def __call__(self, member: Member, kind: int, data: bytes, descriptors: Sequence[int]) -> object: ...


class Handover:
    """
    Hands connections over, and keeps count of them.

    :param balancer: chooses.
    :param ready: gives the sub-reactors that take connections.
    :param send: sends to one.
    :param refused: called with the reason and the words for each connection that is dropped.
    :param maxSessions: connections above this number are dropped, or handed over to be refused with an answer where
        there is one; None: no limit.
    :param maxSessionsPerHost: the same for those of each IP address.

    :ivar connections: how many there are, with all sub-reactors and on the way to them.
    :ivar accepted: how many there were.
    :ivar rescued: how many were on the way to a sub-reactor that ended or did not take them.
    """

    def __init__(
        self,
        balancer: Balancer,
        ready: Callable[[], list[Member]],
        send: Send,
        refused: Callable[[Reason, str], object],
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
    ) -> None:
        self._balancer = balancer
        self._ready = ready
        self._send = send
        self._refused = refused
        self._maxSessions = maxSessions
        self._maxSessionsPerHost = maxSessionsPerHost
        self._hosts: dict[str, int] = {}
        # Numbers of connections that have ended, a heap, and the first that was never given.
        self._free: list[int] = []
        self._next = 0
        # Those of connections that are handed over to be refused. They count for no limit, and the sub-reactor counts
        # the refusal.
        self._refusing: set[int] = set()
        # Those that no sub-reactor can take at the moment.
        self._waiting: deque[Accepted] = deque()
        self._isClosed = False
        self.connections = 0
        self.accepted = 0
        self.rescued = 0

    @property
    def takes(self) -> bool:
        """Whether more connections should be accepted now."""
        # What is on the way to one that is stuck does not count: it is not among them.
        ready = self._ready()
        return bool(ready) and not self._waiting and sum(len(each.inFlight) for each in ready) < MOST_IN_FLIGHT

    def take(self, batch: Iterable[Accepted]) -> None:
        """Connections were accepted: hand them over, or drop those that are too many."""
        admitted = [each for each in batch if self._admit(each)]
        if admitted:
            self._distribute(admitted)

    def _admit(self, accepted: Accepted) -> bool:
        host = accepted.host if accepted.counted else None
        perHost = self._maxSessionsPerHost
        hostIsFull = perHost is not None and host is not None and self._hosts.get(host, 0) >= perHost
        if self._maxSessions is not None and self.connections >= self._maxSessions:
            if accepted.answers and not hostIsFull and len(self._refusing) < MOST_ANSWERED:
                accepted.counted = False
                self._number(accepted)
                self._refusing.add(accepted.number)
                return True
            self._refused("maxSessions", f"maxSessions={self._maxSessions} reached")
        elif hostIsFull:
            self._refused("maxSessionsPerHost", f"{host} has maxSessionsPerHost={perHost} connections already")
        else:
            self.connections += 1
            self.accepted += 1
            self._number(accepted)
            if perHost is not None and host is not None:
                self._hosts[host] = self._hosts.get(host, 0) + 1
            return True
        accepted.connection.close()
        return False

    def _number(self, accepted: Accepted) -> None:
        if self._free:
            accepted.number = heappop(self._free)
        else:
            accepted.number = self._next
            self._next += 1

    def _distribute(self, batch: Iterable[Accepted]) -> None:
        if self._isClosed:
            for accepted in batch:
                self._drop(accepted)
            return
        ready = self._ready()
        if not ready:
            self._waiting.extend(batch)
            return
        chosen: defaultdict[tuple[Member, int], list[Accepted]] = defaultdict(list)
        for accepted in batch:
            if accepted.number in self._refusing:
                # Not the balancer's: it would be a session's turn.
                member, kind = min(ready, key=lambda each: each.load), REFUSE
            else:
                member, kind = self._balancer.choose(ready, accepted.number, accepted.host), TAKE
            # Counted at once, as the next choice may go by it.
            member.open[accepted.number] = accepted.host if accepted.counted else None
            member.inFlight[accepted.number] = accepted
            chosen[member, kind].append(accepted)
        for (member, kind), those in chosen.items():
            for first in range(0, len(those), MOST_DESCRIPTORS):
                some = those[first : first + MOST_DESCRIPTORS]
                data = packConnections((each.number, each.endpoint) for each in some)
                self._send(member, kind, data, [each.connection.fileno() for each in some])

    def proceed(self) -> None:
        """Other sub-reactors take connections than before."""
        if self._waiting and self._ready():
            waiting, self._waiting = self._waiting, deque()
            self._distribute(waiting)

    # What sub-reactors tell

    def taken(self, member: Member, numbers: Iterable[int]) -> None:
        """They have these: let go of them here."""
        for number in numbers:
            accepted = member.inFlight.pop(number, None)
            if accepted is not None:
                accepted.connection.close()

    def returned(self, member: Member, numbers: Iterable[int]) -> None:
        """They do not take these: give them to another, or in the end to none."""
        again = []
        for number in numbers:
            accepted = member.inFlight.pop(number, None)
            if accepted is not None:
                del member.open[number]
                again.append(accepted)
        self._rescue(again)

    def ended(self, member: Member, numbers: Iterable[int]) -> None:
        """These are closed."""
        for number in numbers:
            if number in member.open:
                self._forget(number, member.open.pop(number))

    def lost(self, member: Member) -> None:
        """The sub-reactor is gone, and its connections with it, but for those that it had not acknowledged."""
        again = list(member.inFlight.values())
        member.inFlight.clear()
        for accepted in again:
            del member.open[accepted.number]
        for number, host in member.open.items():
            self._forget(number, host)
        member.open.clear()
        self._rescue(again)

    def _forget(self, number: int, host: str | None) -> None:
        heappush(self._free, number)
        if number in self._refusing:
            self._refusing.discard(number)
            return
        self.connections -= 1
        if host is not None and host in self._hosts:
            if self._hosts[host] > 1:
                self._hosts[host] -= 1
            else:
                del self._hosts[host]

    def _rescue(self, those: list[Accepted]) -> None:
        again = []
        for accepted in those:
            accepted.attempts += 1
            if accepted.attempts < MOST_ATTEMPTS:
                again.append(accepted)
                self.rescued += 1
            else:
                self._refused("descriptors", "no sub-reactor takes it: raise the limit (ulimit -n) or set maxSessions")
                self._drop(accepted)
        if again:
            self._distribute(again)

    def _drop(self, accepted: Accepted) -> None:
        self._forget(accepted.number, accepted.host if accepted.counted else None)
        accepted.connection.close()

    def close(self) -> None:
        """Drop those that no sub-reactor has taken, and those that are returned later."""
        self._isClosed = True
        waiting, self._waiting = self._waiting, deque()
        for accepted in waiting:
            self._drop(accepted)
