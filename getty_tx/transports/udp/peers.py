"""A session for each peer of one datagram socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

from getty_tx.errors import SessionRefusedError
from getty_tx.interfaces import IConnection
from getty_tx.session.wrappers import plainHost
from getty_tx.transports.base import reasonOf
from getty_tx.transports.udp import PROBE, PeerSession, Room

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.transports.udp.protocol import SessionDatagramProtocol

__all__ = ["MOST_PEERS", "PeerConnection", "Peers", "addressOf"]

#: Peers of one socket where ``maxSessions`` sets no other limit. Addresses can be forged, and each costs about 3 KB for
#: as long as ``readTimeout``.
MOST_PEERS = 16384


def addressOf(addr: tuple[str, int]) -> IPv4Address | IPv6Address:
    """A tuple, as datagrams come with, as one of Twisted's addresses."""
    return (IPv6Address if ":" in addr[0] else IPv4Address)("UDP", *addr)


class Peers:
    """
    The peers of a socket, and their sessions.

    :param protocol: the socket's.
    :param raw: its transport.
    """

    def __init__(self, protocol: SessionDatagramProtocol, raw: Any) -> None:
        self.protocol = protocol
        self.raw = raw
        self._limit = protocol.limit
        self._room = Room()
        self._closing = False
        self._connections: dict[tuple[str, int], PeerConnection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def receive(self, data: bytes, addr: tuple[str, int]) -> None:
        """A datagram came. One of a new peer opens its session, if there is room for one."""
        connection = self._connections.get(addr)
        if connection is None:
            connection = self._open(data, addr)
            if connection is None:
                return
        connection.session.inbound.receiveFrom(data, addr)

    def _open(self, data: bytes, addr: tuple[str, int]) -> PeerConnection | None:
        if self._closing or not data or data == PROBE or len(data) > self._limit:
            return None
        protocol = self.protocol
        context = protocol.context
        if not context.hasRoom():
            return None
        if context.maxSessions is None and len(self._connections) >= MOST_PEERS:
            context.countRefusal("peers", f"there are sessions of {MOST_PEERS} peers, and no maxSessions is set")
            return None
        connection = PeerConnection(self, addr)
        if not context.enter(connection):
            return None
        session = connection.session = PeerSession(connection, context, self.raw)
        session.inbound.room = self._room
        self._connections[addr] = connection
        protocol.factory.connectionMade(connection)
        try:
            session.start()
        except SessionRefusedError as error:
            self.forget(connection)
            context.leave(connection)
            context.countRefusal(reasonOf(error, context), str(error))
            protocol.factory.connectionFailed(connection, error)
            context.checkIdle()
            return None
        return connection

    def forget(self, connection: PeerConnection) -> None:
        """What its address sends next is another peer's."""
        if self._connections.get(connection.peerAddr) is connection:
            del self._connections[connection.peerAddr]

    def close(self) -> None:
        """Close all sessions, and open no other."""
        self._closing = True
        for connection in list(self._connections.values()):
            connection.session.stop()

    def lost(self, reason: Failure) -> None:
        """The socket is gone."""
        self._closing = True
        for connection in list(self._connections.values()):
            connection.lost(reason)


@implementer(IConnection)
class PeerConnection:
    """What the session of one peer has below it: a part of a socket."""

    __slots__ = ("_isLost", "_peers", "countedHost", "limit", "peerAddr", "session")

    kind = "UDP_SERVER"
    session: PeerSession

    def __init__(self, peers: Peers, addr: tuple[str, int]) -> None:
        self._peers = peers
        self._isLost = False
        self.peerAddr = addr
        self.countedHost: str | None = None
        self.limit = peers.protocol.limit

    @property
    def transport(self) -> Any:
        """The socket's transport."""
        return self._peers.raw

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
        """The others go on: what comes is kept as far as there is room, then dropped."""

    def resumeReading(self) -> None:
        """Nothing had stopped."""

    def shutdownWriting(self) -> None:
        """Everything is sent, and there is no end to tell a peer of."""
        self._end()

    def disconnect(self) -> None:
        """The session is closed."""
        self._end()

    def leave(self) -> None:
        """The session is closed."""
        self._end()

    def abort(self) -> None:
        """The session is to end."""
        self._end()

    def _end(self) -> None:
        # As with a socket of one's own, the end comes in another turn than its cause.
        self._peers.forget(self)
        self._peers.protocol.context.reactor.callLater(0, self.lost)

    def lost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        if not self._isLost:
            self._isLost = True
            self._peers.forget(self)
            self.session.connectionLost(reason)

    def sessionOpened(self) -> None:
        """onOpen has returned."""
        self._peers.protocol.factory.sessionOpened(self)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        protocol = self._peers.protocol
        context = protocol.context
        context.leave(self)
        protocol.factory.sessionEnded(self, error)
        context.checkIdle()
