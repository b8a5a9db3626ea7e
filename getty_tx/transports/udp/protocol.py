"""The Twisted protocol of a UDP socket: it has one session, or one for each peer."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, getConnectError
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.errors import SelfConnectError, SessionClosedError, SettingError
from getty_tx.interfaces import IConnection
from getty_tx.session.addresses import formatAddress
from getty_tx.session.wrappers import socketOf
from getty_tx.transports.base import Connection
from getty_tx.transports.factories import SessionFactory
from getty_tx.transports.udp.peers import Peers, addressOf
from getty_tx.transports.udp.session import ConnectedSession, DatagramSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from getty_tx.session.session import Session

__all__ = ["SESSIONS", "SessionDatagramProtocol", "lossOf"]

#: The values of ``sessions``.
SESSIONS = ("one", "peer")


@implementer(IConnection)
class SessionDatagramProtocol(Connection, DatagramProtocol):
    """
    Sessions for ``listenUDP``, ``listenMulticast`` and ``adoptDatagramPort``.

    ::

        reactor.listenUDP(8090, SessionDatagramProtocol(newSession), maxPacketSize=65536)

    If the socket is connected when the protocol starts, it is a client's, and its packages are not wrapped in a
    UDPContext. A subclass may connect it in ``startProtocol``, before it calls the base.

    A datagram that fills the transport's ``maxPacketSize`` may have been cut and is dropped. Twisted's default is 8192.

    :param newSession: configures each new session; raises to refuse it. None if a factory is given instead.
    :param sessions: ``"one"`` for the socket, or ``"peer"`` for one of each peer's address.
    :param maxSessions: peers above this number are refused; by default
        :py:data:`getty_tx.transports.udp.peers.MAX_PEERS`.
    :param maxSessionsPerHost: peers with the same IP address above this number are refused; by default only
        ``maxSessions`` holds.
    :param service: the value of ``session.service``; by default the factory.
    :param reactor: by default the installed one.
    :param factory: a server's or client's factory with a context, for protocols that share one.
    :raise SettingError: ``sessions`` or one of the limits is invalid.

    :ivar sessions: as given.
    :ivar peerAddr: the address that the socket is connected to, or None.
    :ivar limit: bytes above which a datagram is dropped.
    """

    noisy = False

    def __init__(
        self,
        newSession: Callable[[Session], object] | None = None,
        *,
        sessions: str = "one",
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        service: Any = None,
        reactor: Any = None,
        factory: Any = None,
    ) -> None:
        if sessions not in SESSIONS:
            raise SettingError(f"sessions={sessions!r} is none of {', '.join(SESSIONS)}")
        if newSession is not None and factory is not None:
            raise SettingError("SessionDatagramProtocol takes newSession or a factory with a context, not both")
        if newSession is not None:
            factory = SessionFactory(
                newSession,
                maxSessions=maxSessions,
                maxSessionsPerHost=maxSessionsPerHost,
                service=service,
                reactor=reactor,
            )
        self.factory = factory
        self.sessions = sessions
        self._peers: Peers | None = None
        self.peerAddr: tuple[str, int] | None = None
        self.limit = 0
        # The context has counted the socket as one without a peer.
        self._counted = False
        self._stopping = False
        self._isGone = False
        self._isFree = False
        self._waiting: list[Deferred[None]] = []

    # The start

    def startProtocol(self) -> None:
        """The socket is open: start its session, or wait for peers."""
        raw: Any = self.transport
        self.rawTransport = raw
        host = raw.getHost()
        self.peerAddr = _peerOf(raw.getHandle())
        self._remote = addressOf(self.peerAddr or ("::" if isinstance(host, IPv6Address) else "0.0.0.0", 0))
        self.limit = raw.maxPacketSize - 1
        if self.peerAddr is None and self.sessions == "peer":
            self.kind = "UDP_SERVER"
            self._peers = Peers(self, raw, self.limit)
            # As an attribute it saves a call for each datagram.
            if type(self).datagramReceived is SessionDatagramProtocol.datagramReceived:
                self.datagramReceived = self._peers.receive  # type: ignore[method-assign,assignment]
            return
        context = self.context
        context.enter(self)
        self.factory.connectionMade(self)
        if self.peerAddr is None:
            self.kind = "UDP_SERVER"
            self.sessionType = DatagramSession
            self._counted = True
            context.sockets += 1
        else:
            self.kind = "UDP_CLIENT"
            self.sessionType = ConnectedSession
            if (host.host, host.port) == self.peerAddr:
                self._refuse(SelfConnectError(f"connected to itself at {formatAddress(host)}"))
                return
        self._handshakesDone()

    def _useSession(self) -> None:
        session: Any = self.session
        if self.peerAddr is not None:
            self.transport = session.transport
        if type(self).datagramReceived is SessionDatagramProtocol.datagramReceived:
            self.datagramReceived = session.inbound.receiveFrom  # type: ignore[method-assign]

    def deliver(self, data: bytes, *more: Any) -> None:
        """A datagram that came during an ``async def newSession``."""
        session: Any = self.session
        session.inbound.receiveFrom(data, *more)

    def pauseReading(self) -> None:
        """While newSession runs, what exceeds the bound is dropped: the socket does not wait for anybody."""
        if self.session is not None:
            super().pauseReading()

    def _refuse(self, error: BaseException) -> None:
        self._failure = error
        self._countRefusal(error)
        self.stop()

    def checkOpen(self) -> None:
        """
        Check that the socket has its session, or takes peers.

        :raise BaseException: the reason why not.
        """
        if self._failure is not None:
            raise self._failure
        session = self.session
        if session is not None and session.isClosed:
            raise session.error or SessionClosedError(f"{session} closed itself", session)

    # Reading

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """A datagram arrived. May be extended, calling the base."""
        session: Any = self.session
        if self._peers is not None:
            self._peers.receive(datagram, addr)
        elif session is not None:
            session.inbound.receiveFrom(datagram, addr)
        elif self.opening is not None:
            self.opening.keep(datagram, addr)

    def dataReceived(self, data: bytes) -> None:
        """A datagram of a connected socket's peer."""
        self.datagramReceived(data, self.peerAddr)

    def connectionRefused(self) -> None:
        """The peer of a connected socket has refused a datagram: its port is closed."""
        session: Any = self.session
        if session is not None and not self._isGone:
            session.fail(ConnectionRefusedError())

    def refused(self) -> None:
        """A write has reported a refusal. The session fails in a later reactor iteration, not inside the write."""
        self.context.reactor.callLater(0, self.connectionRefused)

    def refusedBy(self, addr: tuple[str, int]) -> None:
        """A peer has refused a datagram: its port is closed."""
        if self._peers is not None:
            self._peers.refused(addr)

    # The end

    @property
    def isStopping(self) -> bool:
        """True if this side closes the socket."""
        return self._stopping

    def stop(self) -> None:
        """Close the socket now."""
        if not (self._stopping or self._isGone):
            self._stopping = True
            # stopProtocol is called shortly before the socket is closed.
            maybeDeferred(self.rawTransport.stopListening).addBoth(self._free)

    def close(self) -> Deferred[None]:
        """
        Close the sessions and the socket.

        :return: fires when the socket is closed; an onClose may still run then.
        """
        if self.session is not None:
            self.session.stop()
        else:
            if self._peers is not None:
                self._peers.close()
            self.stop()
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        self._checkFree()
        return waiting

    def _free(self, _: object = None) -> None:
        self._isFree = True
        self._checkFree()

    def _checkFree(self) -> None:
        if self._isFree:
            waiting, self._waiting = self._waiting, []
            for deferred in waiting:
                deferred.callback(None)

    def stopProtocol(self) -> None:
        """The socket was closed."""
        self.connectionLost(lossOf(self.rawTransport, self._stopping or self.peerAddr is None))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket was closed."""
        self._isGone = True
        context = self.context
        session = self.session
        if self._peers is not None:
            self._peers.lost(reason)
        elif session is not None:
            session.connectionLost(reason)
        else:
            if self.opening is not None:
                self.opening.cancel(reason.value)  # type: ignore[arg-type]  # of a failure
            context.leave(self)
            self._uncount()
            error = reason.value if self._failure is None else self._failure
            self.factory.connectionFailed(self, error)
            context.checkIdle()
        if not self._stopping:
            self._free()

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self.context.sockets -= 1

    def peerHost(self) -> None:
        """None: a server's socket has no peer, and a client's has no limit for its host."""

    # IConnection

    def getRemoteAddr(self) -> IAddress:
        """The peer's address; for a server's socket, which has no peer, the wildcard address and port 0."""
        return self._remote

    def applySocketOptions(self, session: Session) -> None:
        """Set the sizes of the socket's buffers. A UDP socket has none of the other options."""
        handle = socketOf(self.rawTransport)
        if handle is None:
            return
        if session.sendBufferSize is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, session.sendBufferSize)
        if session.receiveBufferSize is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, session.receiveBufferSize)

    def shutdownWriting(self) -> None:
        """Close the socket: there is nothing that would tell the peer."""
        self.stop()

    def disconnect(self) -> None:
        """The session is closed."""
        self.stop()

    def leave(self) -> None:
        """The session is closed."""
        self.stop()

    def abort(self) -> None:
        """End the session."""
        self.stop()

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        self._uncount()
        super().sessionEnded(error)


def lossOf(raw: Any, clean: bool) -> Failure:
    """
    The reason why a socket was closed.

    epoll reports an ICMP error in the same way as the end of a stream, so the reactor closes the socket.

    :param raw: the transport.
    :param clean: it was asked to stop, or had no peer that could refuse.
    """
    if clean:
        return Failure(ConnectionDone())
    handle = socketOf(raw)
    try:
        number = 0 if handle is None else handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError:
        number = 0
    return Failure(getConnectError((number, os.strerror(number))) if number else ConnectionLost())


def _peerOf(handle: Any) -> tuple[str, int] | None:
    """The address that a socket is connected to, or None."""
    try:
        host, port = handle.getpeername()[:2]
    except OSError:
        return None
    return host, port
