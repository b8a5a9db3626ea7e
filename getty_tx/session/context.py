"""
What the sessions of one service share: the reactor, the timing wheel, the limits, the counters, and the one wake-up
for all that other threads want to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.reactors.shortreads import shortReadsOf
from getty_tx.session.cork import TurnCork
from getty_tx.session.cron import Crons
from getty_tx.session.faults import Faults
from getty_tx.session.leaving import Pace, closeAtPace
from getty_tx.session.observers import Observers
from getty_tx.session.refusals import Refusals
from getty_tx.session.threads import ThreadCalls
from getty_tx.session.totals import Endpoints, Totals, closeReason
from getty_tx.wheel import TimingWheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from getty_tx.session.refusals import Reason
    from getty_tx.session.state import SessionState, SessionWorkers

__all__ = ["ServiceContext", "theReactor"]

#: Seconds that a peer may take for the TLS or WebSocket handshake.
HANDSHAKE_TIMEOUT = 3.0


def theReactor(reactor: Any = None) -> Any:
    """The reactor given, or the installed one. Called when a service starts, so that importing installs none."""
    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = installed
    return reactor


class ServiceContext:
    """
    What the sessions of one service share.

    :param service: what ``session.service`` is.
    :param newSession: configures each new session; raises to refuse the connection.
    :param reactor: the reactor or a test's clock.
    :param maxSessions: connections over this number are refused; ``None`` for no limit.
    :param maxSessionsPerHost: the same for connections with one host, as far as it is known; ``None`` for no limit.
    :param handshakeTimeout: seconds.
    :param workers: a running pool for onMessage; ``None``: it is called on the reactor's thread.
    :param observers: hear of every session, whatever its listener.
    :param endpoints: tells the endpoint of a session.

    :ivar sessions: the open sessions.
    :ivar drainRate: sessions that are closed a second when the service stops; None: all at once.
    :ivar retryWithin: then, seconds in which its clients should come back.
    :ivar threads: calls from other threads.
    :ivar handshaking: the connections that have no session yet.
    :ivar connections: number of connections, including those in a handshake.
    :ivar sockets: how many of them are the socket of a UDP server, which is no peer and has no limit.
    :ivar answering: what answers connections that are refused; they are not counted.
    :ivar hosts: number of connections by host; None if ``maxSessionsPerHost`` was never set.
    :ivar refusals: refused connections by reason.
    :ivar faults: decides which faults are logged.
    :ivar totals: totals of ended sessions, by endpoint.
    :ivar reconnects: attempts to dial again.
    :ivar serving: where sessions carry requests, what has their number at this moment as ``running``.
    :ivar health: where services tell clients how they are, gives the state of each, such as ``SERVING``, by name.
    :ivar onDrain: called without arguments when the process begins to drain, while all sessions are open.
    :ivar calls: where sessions carry calls, the counters by side (``server`` or ``client``) and method.
    :ivar lateReplies: replies to calls that had ended.
    :ivar shortReads: where connections announce their descriptors, on Twisted's own epoll reactor.
    """

    def __init__(
        self,
        service: Any,
        newSession: Callable[[Any], object],
        *,
        reactor: Any,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        workers: SessionWorkers | None = None,
        observers: Observers | None = None,
        endpoints: Endpoints | None = None,
    ) -> None:
        self.service = service
        self.newSession = newSession
        self.reactor = reactor
        self.seconds: Callable[[], float] = reactor.seconds
        self.wheel = TimingWheel(reactor)
        self.crons = Crons(self.wheel)
        self.maxSessions = maxSessions
        self.handshakeTimeout = handshakeTimeout
        self.workers = workers
        self.sessions: set[Any] = set()
        self.handshaking: set[Any] = set()
        self.connections = 0
        self.sockets = 0
        self.answering: set[Any] = set()
        self.hosts: dict[str, int] | None = None
        self.refusals = Refusals(self.seconds)
        self.faults = Faults(self.seconds)
        self.observers = Observers() if observers is None else observers
        self.endpoints = Endpoints("") if endpoints is None else endpoints
        self.totals: dict[str, Totals] = {}
        self.reconnects = 0
        self._idle: list[Deferred[None]] = []
        # Reads that did not fill their buffer since the last one that did; see Inbound._adaptReadSize.
        self.briefReads = 0
        self.shortReads = shortReadsOf(reactor)
        self.cork = TurnCork(reactor)
        self.calls: dict[str, dict[str, Any]] = {}
        self.serving: Any = None
        self.health: Callable[[], dict[str, str]] | None = None
        self.onDrain: list[Callable[[], object]] = []
        self.lateReplies = 0
        self.closing = False
        self.drainRate: float | None = None
        self.retryWithin: float | None = None
        self.threads = ThreadCalls(reactor)
        self._addresses: dict[IAddress, IAddress] = {}
        self._maxSessionsPerHost: int | None = None
        self.maxSessionsPerHost = maxSessionsPerHost

    @property
    def peers(self) -> int:
        """How many connections are with a peer: all but the sockets of UDP servers."""
        return self.connections - self.sockets

    def hasRoom(self) -> bool:
        """False when ``maxSessions`` connections are there already; the refusal is counted."""
        if self.maxSessions is not None and self.peers >= self.maxSessions:
            self.countRefusal("maxSessions", f"maxSessions={self.maxSessions} reached")
            return False
        return True

    @property
    def maxSessionsPerHost(self) -> int | None:
        """Connections with one host over this number are refused."""
        return self._maxSessionsPerHost

    @maxSessionsPerHost.setter
    def maxSessionsPerHost(self, limit: int | None) -> None:
        self._maxSessionsPerHost = limit
        if limit is not None and self.hosts is None:
            # Without a limit connections were not counted.
            self.hosts = {}
            for connection in [*self.handshaking, *(session.connection for session in self.sessions)]:
                self._addHost(connection, connection.peerHost())

    def enter(self, connection: Any) -> bool:
        """Count a new connection; False, and a counted refusal, if its host has ``maxSessionsPerHost`` already."""
        if self.hosts is not None:
            host = connection.peerHost()
            limit = self._maxSessionsPerHost
            if host is not None and limit is not None and self.hosts.get(host, 0) >= limit:
                self.countRefusal("maxSessionsPerHost", f"{host} has maxSessionsPerHost={limit} connections already")
                return False
            self._addHost(connection, host)
        self.connections += 1
        return True

    def _addHost(self, connection: Any, host: str | None) -> None:
        if host is not None and self.hosts is not None:
            self.hosts[host] = self.hosts.get(host, 0) + 1
            connection.countedHost = host

    def leave(self, connection: Any) -> None:
        """A connection that was counted has ended."""
        self.connections -= 1
        host = connection.countedHost
        if host is not None and self.hosts is not None:
            if self.hosts[host] > 1:
                self.hosts[host] -= 1
            else:
                del self.hosts[host]

    @property
    def refused(self) -> int:
        """How many connections were refused, all reasons together."""
        return self.refusals.total

    def countRefusal(self, reason: Reason, why: str) -> None:
        """
        Count a refused connection, and log it unless another was just logged.

        :param why: for the log.
        """
        self.refusals.count(reason, why)
        if self.observers.all:
            self.observers.tell("refused", self.service, reason, why)

    def sessionEnded(self, session: SessionState) -> None:
        """onClose of a session has returned: add its counters to the totals."""
        self.sessions.discard(session)
        reason = closeReason(session)
        endpoint = self.endpoints.of(session)
        totals = self.totals.get(endpoint)
        if totals is None:
            totals = self.totals[endpoint] = Totals()
        totals.add(session, reason)
        if self.observers.all:
            self.observers.tell("closed", session, reason)

    def whenIdle(self) -> Deferred[None]:
        """Fires when there are no connections and every onClose has returned."""
        waiting: Deferred[None] = Deferred()
        self._idle.append(waiting)
        self.checkIdle()
        return waiting

    def checkIdle(self) -> None:
        """Fire the Deferreds of ``whenIdle`` if there are no connections."""
        if not self.connections:
            waiting, self._idle = self._idle, []
            for deferred in waiting:
                deferred.callback(None)

    def closeAll(self) -> Deferred[None]:
        """
        Close every session, and drop the connections that are in a handshake. None opens afterwards.

        :return: fires as :py:meth:`whenIdle`.
        """
        self.closing = True
        for connection in [*self.handshaking, *self.answering]:
            connection.abort()
        if self.drainRate is None:
            for session in list(self.sessions):
                session.stop()
        else:
            closeAtPace(self.sessions, self.pace(), self.reactor)
        return self.whenIdle()

    def pace(self) -> Pace:
        """The service stops: how many sessions may be closed, by ``drainRate``. Clients are told when to come back."""
        assert self.drainRate is not None
        self.retryWithin = len(self.sessions) / self.drainRate
        return Pace(self.drainRate, self.seconds)

    def sharedAddress(self, address: IAddress) -> IAddress:
        """One object for equal addresses: all sessions of a port have the same local address."""
        known = self._addresses.get(address)
        if known is None:
            if len(self._addresses) >= 64:
                self._addresses.clear()
            known = self._addresses[address] = address
        return known
