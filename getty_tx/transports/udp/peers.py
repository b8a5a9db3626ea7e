"""A session for each peer of one datagram socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from getty_tx.errors import SessionRefusedError
from getty_tx.interfaces import IConnection
from getty_tx.session.addresses import formatAddress
from getty_tx.session.wrappers import plainHost
from getty_tx.transports.base import openSession, reasonOf
from getty_tx.transports.udp.inbound import PROBE, ByteBudget
from getty_tx.transports.udp.session import PeerSession

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.errors import SessionError
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection
    from getty_tx.transports.opening import Opening

__all__ = ["MAX_PEERS", "PeerConnection", "Peers", "addressOf"]

#: Peers of one socket if ``maxSessions`` sets no other limit. Addresses can be forged, and each peer takes about 3 KB
#: for ``readTimeout``.
MAX_PEERS = 16384


def addressOf(addr: tuple[str, int]) -> IPv4Address | IPv6Address:
    """Twisted's address for ``(host, port)``."""
    return (IPv6Address if ":" in addr[0] else IPv4Address)("UDP", *addr)


class Peers:
    """
    The peers of a socket, and their sessions.

    :param protocol: the protocol of the socket.
    :param raw: its transport.
    :param limit: bytes above which a datagram is dropped.
    """

    def __init__(self, protocol: Connection, raw: Any, limit: int) -> None:
        self.protocol = protocol
        self.raw = raw
        self.limit = limit
        self.budget = ByteBudget()
        self._closing = False
        self._connections: dict[tuple[str, int], PeerConnection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def receive(self, data: bytes, addr: tuple[str, int]) -> None:
        """A datagram arrived. The first datagram of a peer opens a session, if the limits allow it."""
        connection = self._connections.get(addr)
        if connection is None:
            connection = self._open(data, addr)
            if connection is None:
                return
        if connection.opening is None:
            connection.session.inbound.receiveFrom(data, addr)
        else:
            connection.opening.keep(data, addr)

    def _open(self, data: bytes, addr: tuple[str, int]) -> PeerConnection | None:
        if self._closing or not data or data == PROBE or len(data) > self.limit:
            return None
        context = self.protocol.context
        if not context.hasRoom():
            return None
        if context.maxSessions is None and len(self._connections) >= MAX_PEERS:
            context.countRefusal("peers", f"there are sessions of {MAX_PEERS} peers, and no maxSessions is set")
            return None
        connection = PeerConnection(self, addr)
        if not context.enter(connection):
            return None
        return connection if openSession(connection) or connection.opening is not None else None

    def add(self, connection: PeerConnection) -> None:
        """Give the next datagrams of its address to the connection."""
        self._connections[connection.peerAddr] = connection

    def forget(self, connection: PeerConnection) -> None:
        """Treat the next datagram of its address as that of a new peer."""
        if self._connections.get(connection.peerAddr) is connection:
            del self._connections[connection.peerAddr]

    def refused(self, addr: tuple[str, int]) -> None:
        """A datagram to this address was refused. There may be no session any more."""
        connection = self._connections.get(addr)
        if connection is not None:
            connection.session.fail(ConnectionRefusedError())

    def close(self) -> None:
        """Close all sessions, and open no new one."""
        self._closing = True
        for connection in list(self._connections.values()):
            if connection.opening is None:
                connection.session.stop()
            else:
                connection.abort()

    def lost(self, reason: Failure) -> None:
        """The socket was closed."""
        self._closing = True
        for connection in list(self._connections.values()):
            connection.lost(reason)


@implementer(IConnection)
class PeerConnection:
    """The connection of one peer's session. It shares the socket with the other peers."""

    __slots__ = ("_isLost", "_peers", "countedHost", "limit", "opening", "peerAddr", "session")

    kind = "UDP_SERVER"
    sessionType = PeerSession
    session: Any

    def __init__(self, peers: Peers, addr: tuple[str, int]) -> None:
        self._peers = peers
        self._isLost = False
        self.opening: Opening | None = None
        self.peerAddr = addr
        self.countedHost: str | None = None
        self.limit = peers.limit

    @property
    def transport(self) -> Any:
        """The socket's transport."""
        return self._peers.raw

    rawTransport = transport

    @property
    def context(self) -> ServiceContext:
        """The context of the socket's sessions."""
        return self._peers.protocol.context

    def sessionMade(self) -> None:
        """The session is made and not started yet; a hook of openSession."""
        peers = self._peers
        self.session.inbound.budget = peers.budget
        peers.add(self)
        peers.protocol.factory.connectionMade(self)

    def sessionRefused(self, error: SessionError) -> None:
        """``newSession`` refused the session; a hook of openSession."""
        self._isLost = True
        context = self.context
        self._peers.forget(self)
        context.leave(self)
        context.countRefusal(reasonOf(error, context), str(error))
        self._peers.protocol.factory.connectionFailed(self, error)
        context.checkIdle()

    def peerHost(self) -> str:
        """The peer's IP address."""
        return plainHost(self.peerAddr[0])

    def getLocalAddr(self) -> IAddress:
        """The socket's address."""
        return self._peers.protocol.getLocalAddr()

    def getRemoteAddr(self) -> IAddress:
        """The peer's address."""
        return addressOf(self.peerAddr)

    def applySocketOptions(self, session: Session) -> None:
        """The sizes of the socket's buffers, which all peers share."""
        self._peers.protocol.applySocketOptions(session)

    def pauseReading(self) -> None:
        """The socket is still read for the other peers: the inbound buffers up to its limit, then drops."""

    def resumeReading(self) -> None:
        """Reading was not paused."""

    def shutdownWriting(self) -> None:
        """End the session: there is nothing that would tell the peer."""
        self._end()

    def disconnect(self) -> None:
        """The session is closed."""
        self._end()

    def leave(self) -> None:
        """The session is closed."""
        self._end()

    def abort(self) -> None:
        """End the session."""
        self._end()

    def _end(self) -> None:
        # The end comes in a later reactor iteration than its cause, like that of a session with its own socket.
        self._peers.forget(self)
        self.context.reactor.callLater(0, self.lost)

    def lost(self, reason: Failure = connectionDone) -> None:
        """The session's part of the socket has ended."""
        if not self._isLost:
            self._isLost = True
            self._peers.forget(self)
            if self.session is not None:
                self.session.connectionLost(reason)
            elif self.opening is not None:
                self.opening.cancel(ConnectionDone())
                self.sessionRefused(SessionRefusedError(f"{formatAddress(self.getRemoteAddr())}: closed in newSession"))

    def opened(self) -> None:
        """The session is open, after an ``async def newSession``."""

    def deliver(self, data: bytes, addr: Any) -> None:
        """A datagram that came meanwhile."""
        self.session.inbound.receiveFrom(data, addr)

    def openingTimedOut(self, error: SessionError) -> None:
        """``newSession`` took longer than ``handshakeTimeout``."""
        self.sessionRefused(error)

    def sessionOpened(self) -> None:
        """onOpen has returned."""
        self._peers.protocol.factory.sessionOpened(self)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        context = self.context
        context.leave(self)
        self._peers.protocol.factory.sessionEnded(self, error)
        context.checkIdle()
