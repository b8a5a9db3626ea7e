"""Handover of accepted connections to sub-reactors: limits, balance, acknowledgements, counts."""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from getty_tx.processes.channel import MAX_DESCRIPTORS, REFUSE, TAKE, packConnections
from getty_tx.session.refusals import MOST_ANSWERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from getty_tx.processes.balance import Balancer
    from getty_tx.processes.member import Member, PendingConnection
    from getty_tx.session.refusals import Reason

__all__ = ["ANSWERS_PER_SECOND", "MAX_ATTEMPTS", "MAX_IN_FLIGHT", "Handover"]

#: Unacknowledged connections above which no more are accepted: each holds a descriptor of the main process, and the
#: others can wait in the backlog instead.
MAX_IN_FLIGHT = 1024

#: Connections of hosts above their limit that get an answer in a second. An answer costs ten times what closing does,
#: and such hosts may come again and again.
ANSWERS_PER_SECOND = 64

#: How often a connection is handed over before it is dropped.
MAX_ATTEMPTS = 8


class Handover:
    """
    Hands connections over, and counts them.

    :param balancer: chooses the sub-reactor.
    :param ready: returns the sub-reactors that take connections.
    :param refused: called with the reason and a text for each connection that is refused.
    :param seconds: the clock.
    :param maxSessions: connections above this number are refused; None: no limit.
    :param maxSessionsPerHost: the same for the connections of each IP address.

    :ivar connections: how many connections are open or on their way to a sub-reactor.
    :ivar accepted: how many were accepted since the start.
    :ivar rescued: how often a connection was handed over again because a sub-reactor ended or did not take it.
    :ivar hosts: the number of connections by IP address, where ``maxSessionsPerHost`` is set.
    :ivar refusing: the numbers of refused connections that are handed over to get an answer. They count for no limit.
        Others are closed here.
    """

    def __init__(
        self,
        balancer: Balancer,
        ready: Callable[[], list[Member]],
        refused: Callable[[Reason, str], object],
        seconds: Callable[[], float],
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
    ) -> None:
        self._balancer = balancer
        self._ready = ready
        self._refused = refused
        self._seconds = seconds
        self._maxSessions = maxSessions
        self._maxSessionsPerHost = maxSessionsPerHost
        self.hosts: dict[str, int] = {}
        # A heap of the numbers of ended connections, and the lowest number that was never used.
        self._free: list[int] = []
        self._next = 0
        self.refusing: set[int] = set()
        # A second of the clock, and how many answers there were in it for hosts above their limit.
        self._second, self._answers = 0, 0
        # Connections that no sub-reactor can take at the moment.
        self._unassigned: deque[PendingConnection] = deque()
        self._isClosed = False
        self.connections = 0
        self.accepted = 0
        self.rescued = 0

    @property
    def canAccept(self) -> bool:
        """Whether more connections should be accepted now."""
        # Connections on their way to a stuck sub-reactor do not count: it is not in ``ready``.
        ready = self._ready()
        return bool(ready) and not self._unassigned and sum(len(each.inFlight) for each in ready) < MAX_IN_FLIGHT

    def dispatch(self, batch: Iterable[PendingConnection]) -> None:
        """Hand accepted connections over, and refuse the ones above a limit."""
        admitted = [each for each in batch if self._admit(each)]
        if admitted:
            self._distribute(admitted)

    def _admit(self, pending: PendingConnection) -> bool:
        host = pending.host if pending.counted else None
        perHost = self._maxSessionsPerHost
        hostIsFull = perHost is not None and host is not None and self.hosts.get(host, 0) >= perHost
        if self._maxSessions is not None and self.connections >= self._maxSessions:
            self._refused("maxSessions", f"maxSessions={self._maxSessions} reached")
        elif hostIsFull:
            self._refused("maxSessionsPerHost", f"{host} has maxSessionsPerHost={perHost} connections already")
        else:
            self.connections += 1
            self.accepted += 1
            self._assignNumber(pending)
            if perHost is not None and host is not None:
                self.hosts[host] = self.hosts.get(host, 0) + 1
            return True
        if pending.answers and self._mayAnswer(hostIsFull):
            self._assignNumber(pending)
            self.refusing.add(pending.number)
            return True
        pending.connection.close()
        return False

    def _mayAnswer(self, hostIsFull: bool) -> bool:
        if not hostIsFull:
            return len(self.refusing) < MOST_ANSWERED
        second = int(self._seconds())
        if second != self._second:
            self._second, self._answers = second, 0
        # Half of the places are left to others.
        if len(self.refusing) >= MOST_ANSWERED // 2 or self._answers >= ANSWERS_PER_SECOND:
            return False
        self._answers += 1
        return True

    def _assignNumber(self, pending: PendingConnection) -> None:
        if self._free:
            pending.number = heappop(self._free)
        else:
            pending.number = self._next
            self._next += 1

    def _distribute(self, batch: Iterable[PendingConnection]) -> None:
        if self._isClosed:
            for pending in batch:
                self._drop(pending)
            return
        ready = self._ready()
        if not ready:
            self._unassigned.extend(batch)
            return
        chosen: defaultdict[tuple[Member, int], list[PendingConnection]] = defaultdict(list)
        for pending in batch:
            if pending.number in self.refusing:
                # Without the balancer: a refusal takes no session's turn.
                member, kind = min(ready, key=_refusalsOf), REFUSE
                member.refusing.add(pending.number)
            else:
                member, kind = self._balancer.choose(ready, pending.number, pending.host), TAKE
                # Counted now because the next choice may depend on the load.
                member.open[pending.number] = pending.host if pending.counted else None
            member.inFlight[pending.number] = pending
            chosen[member, kind].append(pending)
        for (member, kind), connections in chosen.items():
            for first in range(0, len(connections), MAX_DESCRIPTORS):
                part = connections[first : first + MAX_DESCRIPTORS]
                data = packConnections((each.number, each.endpoint) for each in part)
                member.send(kind, data, [each.connection.fileno() for each in part])

    def readyChanged(self) -> None:
        """The sub-reactors that take connections have changed: hand over the connections that wait."""
        if self._unassigned and self._ready():
            unassigned, self._unassigned = self._unassigned, deque()
            self._distribute(unassigned)

    # Reports of sub-reactors

    def taken(self, member: Member, numbers: Iterable[int]) -> None:
        """The sub-reactor has these connections: close them in this process."""
        for number in numbers:
            pending = member.inFlight.pop(number, None)
            if pending is not None:
                pending.connection.close()

    def returned(self, member: Member, numbers: Iterable[int]) -> None:
        """The sub-reactor does not take these connections: hand them to another one, or drop them."""
        again = []
        for number in numbers:
            pending = member.inFlight.pop(number, None)
            if pending is not None:
                member.open.pop(number, None)
                member.refusing.discard(number)
                again.append(pending)
        self._rescue(again)

    def ended(self, member: Member, numbers: Iterable[int]) -> None:
        """These connections of the sub-reactor are closed."""
        for number in numbers:
            if number in member.open:
                self._forget(number, member.open.pop(number))
            elif number in member.refusing:
                member.refusing.remove(number)
                self._forget(number, None)

    def lost(self, member: Member) -> None:
        """The sub-reactor has ended, with all connections but the ones that it had not acknowledged."""
        again = list(member.inFlight.values())
        member.inFlight.clear()
        for pending in again:
            member.open.pop(pending.number, None)
            member.refusing.discard(pending.number)
        for number, host in [*member.open.items(), *((each, None) for each in member.refusing)]:
            self._forget(number, host)
        member.open.clear()
        member.refusing.clear()
        self._rescue(again)

    def _forget(self, number: int, host: str | None) -> None:
        heappush(self._free, number)
        if number in self.refusing:
            self.refusing.discard(number)
            return
        self.connections -= 1
        if host is not None and host in self.hosts:
            if self.hosts[host] > 1:
                self.hosts[host] -= 1
            else:
                del self.hosts[host]

    def _rescue(self, connections: list[PendingConnection]) -> None:
        again = []
        for pending in connections:
            pending.attempts += 1
            if pending.attempts < MAX_ATTEMPTS:
                again.append(pending)
                self.rescued += 1
            else:
                if pending.number not in self.refusing:
                    # Those were counted.
                    why = "no sub-reactor takes it: raise the limit (ulimit -n) or set maxSessions"
                    self._refused("descriptors", why)
                self._drop(pending)
        if again:
            self._distribute(again)

    def _drop(self, pending: PendingConnection) -> None:
        self._forget(pending.number, pending.host if pending.counted else None)
        pending.connection.close()

    def close(self) -> None:
        """Drop the connections that no sub-reactor has, and those that are returned later."""
        self._isClosed = True
        unassigned, self._unassigned = self._unassigned, deque()
        for pending in unassigned:
            self._drop(pending)


def _refusalsOf(member: Member) -> int:
    return len(member.refusing)
