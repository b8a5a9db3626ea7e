"""What the connections over every kind of transport have in common: addresses, socket options, handshakes, counting."""

from __future__ import annotations

import socket
from sys import intern
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import INegotiated
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from getty_tx.errors import HandshakeTimeoutError, SelfConnectError, SessionRefusedError
from getty_tx.session import outbound
from getty_tx.session.addresses import formatAddress
from getty_tx.session.inbound import WHOLE_READ
from getty_tx.session.session import Session
from getty_tx.session.wrappers import socketOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.refusals import Reason
    from getty_tx.wheel import WheelTimer

__all__ = ["Connection", "StreamConnection", "dropAtOnce", "hostOf", "isEncrypted", "plainHost", "reasonOf"]

log = Logger()


def isEncrypted(transport: Any) -> bool:
    """True for a transport that does a TLS handshake first, at whatever depth of wrappers."""
    while isinstance(transport, ProtocolWrapper):
        if INegotiated.providedBy(transport):
            return True
        transport = transport.transport
    return False


def hasEndedTLS(transport: Any) -> bool:
    """True for a transport with TLS whose peer has ended it in order, at whatever depth of wrappers."""
    while isinstance(transport, ProtocolWrapper):
        if INegotiated.providedBy(transport):
            from getty_tx import tls

            return tls.hasEnded(transport.getHandle())
        transport = transport.transport
    return False


def hostOf(transport: Any) -> str | None:
    """
    The IP address of the peer, or None where that has none, or none that is known from the beginning.

    The latter is the case below any wrapper but TLS: ``haproxy:`` tells the proxy's address until its header has come.
    """
    while isinstance(transport, ProtocolWrapper):
        # Asked of the class, as wrappers take over what the transport below them provides.
        if not INegotiated.implementedBy(type(transport)):
            return None
        transport = transport.transport
    host = getattr(transport.getPeer(), "host", None)
    return None if host is None else plainHost(host)


def plainHost(host: str) -> str:
    """An IP address; one of IPv4 that came over IPv6 (``::ffff:192.0.2.1``) is the same as without."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def dropAtOnce(transport: Any) -> None:
    """Drop a connection that was just accepted."""
    if type(transport) in outbound.DIRECT:
        # loseConnection waits for the next turn, and many more may be accepted in this one.
        transport.connectionLost(Failure(ConnectionDone()))
    else:
        transport.abortConnection()


class Connection:
    """
    The half of IConnection that does not depend on the framing below; mixed into Twisted protocols.

    A connection counts from ``_connected`` on, has a session once its handshakes are done, and ends with
    ``sessionEnded`` or, where there was no session, with ``_disconnected``.

    :ivar countedHost: the host for which the context has counted it.
    """

    factory: Any
    transport: Any
    #: What the connection makes when its handshakes are done.
    sessionType: type[Session] = Session
    session: Session | None = None
    kind = "TCP_SERVER"
    _raw: Any = None
    _handshakeTimer: WheelTimer | None = None
    _failure: BaseException | None = None
    countedHost: str | None = None
    # The context has refused it, and so never counted it.
    _isOutside = False
    # This side has refused it later, and counted that.
    _isRefused = False

    @property
    def context(self) -> ServiceContext:
        """What the sessions of the factory share."""
        context: ServiceContext = self.factory.context
        return context

    def _connected(self, transport: Any, encrypted: bool) -> None:
        """The transport is up: count it, and open the session or wait for the handshake; or drop it."""
        context = self.context
        self._raw = transport
        if not context.enter(self):
            self._isOutside = True
            self._failure = SessionRefusedError(f"maxSessionsPerHost={context.maxSessionsPerHost} reached")
            dropAtOnce(transport)
            return
        self.factory.connectionMade(self)
        side = "CLIENT" if self.factory.isClient else "SERVER"
        remote = transport.getPeer()
        family = "TLS" if encrypted else "UNIX" if hasattr(remote, "name") else "TCP"
        self.kind = intern(f"{family}_{side}")
        if self.factory.isClient and getattr(remote, "port", None) and remote == transport.getHost():
            self._refuse(SelfConnectError(f"connected to itself at {formatAddress(remote)}"))
        elif encrypted:
            context.handshaking.add(self)
            self._handshakeTimer = context.wheel.schedule(context.handshakeTimeout, _handshakeLate, self)
        else:
            self._begin()

    def _begin(self) -> None:
        """All handshakes are done: make the session."""
        self._endHandshake()
        session = self.sessionType(self, self.context, self._raw)  # type: ignore[arg-type]  # zope: each subclass implements IConnection
        self.session = session
        try:
            session.start()
        except SessionRefusedError as error:
            self.session = None
            self._refuse(error)

    def _refuse(self, error: BaseException) -> None:
        self._failure = error
        self._countRefusal(error)
        self._raw.abortConnection()

    def _countRefusal(self, error: BaseException) -> None:
        self._isRefused = True
        self.context.countRefusal(reasonOf(error, self.context), str(error))

    def _endHandshake(self) -> None:
        context = self.context
        context.handshaking.discard(self)
        timer, self._handshakeTimer = self._handshakeTimer, None
        if timer is not None:
            timer.stop()

    def _onHandshakeLate(self) -> None:
        context = self.context
        self._failure = HandshakeTimeoutError(
            f"{formatAddress(self._raw.getPeer())} did not complete the handshake in "
            f"handshakeTimeout={context.handshakeTimeout:g} s"
        )
        self._raw.abortConnection()

    def _lost(self, reason: Failure) -> None:
        """The transport is gone: tell the session, in words where it was TLS, or end without one."""
        if self._isOutside:
            return
        error = reason.value
        assert error is not None
        if type(error).__module__.startswith("OpenSSL"):
            # Imported here, as a program without TLS need not load OpenSSL.
            from getty_tx import tls

            error = tls.explain(error)
            reason = Failure(error)
        if self.session is None:
            self._disconnected(error)
            return
        if not self.session.losesOutput() and type(error) is ConnectionLost and hasEndedTLS(self._raw):
            # The peer has not waited for our own close_notify, and need not.
            reason = connectionDone
        self.session.connectionLost(reason)

    def _disconnected(self, reason: BaseException) -> None:
        """The connection went before it had a session."""
        context = self.context
        self._endHandshake()
        error = self._failure if self._failure is not None else reason
        if not (self.factory.isClient or self._isRefused):
            why = f"{self.kind} {formatAddress(self._raw.getPeer())}: {error}"
            context.countRefusal(reasonOf(error, context), why)
        context.leave(self)
        self.factory.connectionFailed(self, error)
        context.checkIdle()

    def peerHost(self) -> str | None:
        """For whom the connection counts, where there is a limit for each host."""
        return hostOf(self._raw)

    # IConnection

    def getLocalAddr(self) -> IAddress:
        """This end's address."""
        address: IAddress = self._raw.getHost()
        return address

    def getRemoteAddr(self) -> IAddress:
        """The peer's address."""
        address: IAddress = self._raw.getPeer()
        return address

    def applySocketOptions(self, session: Session) -> None:
        """Set what the session asks of the socket, where there is a socket."""
        handle = socketOf(self._raw)
        if handle is None:
            return
        options = []
        if session.sendBufferSize is not None:
            options.append((socket.SOL_SOCKET, socket.SO_SNDBUF, session.sendBufferSize))
        if session.receiveBufferSize is not None:
            options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, session.receiveBufferSize))
        if handle.family != socket.AF_UNIX:
            options.append((socket.IPPROTO_TCP, socket.TCP_NODELAY, session.tcpNoDelay))
            options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, session.tcpKeepAlive))
        try:
            for level, option, value in options:
                handle.setsockopt(level, option, value)
        except OSError as error:
            # A socket that is gone already; reading from it will tell.
            log.info("{session}: socket options not set: {error}", session=session, error=error)

    def pauseReading(self) -> None:
        """Take no more from the network."""
        self._raw.pauseProducing()

    def resumeReading(self) -> None:
        """Go on taking from the network."""
        self._raw.resumeProducing()

    def disconnect(self) -> None:
        """Everything is flushed and the peer has ended."""
        self._raw.loseConnection()

    def abort(self) -> None:
        """Drop the connection."""
        self._raw.abortConnection()

    def sessionOpened(self) -> None:
        """onOpen has returned."""
        self.factory.sessionOpened(self)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        self.context.leave(self)
        self.factory.sessionEnded(self, error)
        self.context.checkIdle()


def reasonOf(error: BaseException, context: ServiceContext) -> Reason:
    """The reason to count for what a connection ended with, that never had an open session."""
    if isinstance(error, SelfConnectError):
        return "selfConnect"
    if context.closing:
        return "stopping"
    if isinstance(error, SessionRefusedError):
        return "newSession"
    return "handshakeTimeout" if isinstance(error, HandshakeTimeoutError) else "handshake"


class StreamConnection(Connection):
    """A connection over a byte stream, whose protocol has a ``dataReceived`` that does no more than ``_doRead``."""

    def _readDirectly(self, short: bool) -> None:
        """
        The session begins: where the transport is that of a plain socket, read as much at a time as the inbound likes.

        :param short: read straight into the inbound, as nobody has extended ``dataReceived``.
        """
        raw = self._raw
        if type(raw) in outbound.DIRECT and not raw.TLS:
            raw.bufferSize = WHOLE_READ
            if short:
                # Three calls less for each read; abortConnection replaces it in the same way, startTLS takes it back.
                raw.doRead = self._doRead

    def _doRead(self) -> BaseException | None:
        """In place of the transport's own, which comes to the same; see IReadDescriptor for what it returns."""
        raw = self._raw
        try:
            data = raw.socket.recv(raw.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.session.inbound.receive(data)  # type: ignore[union-attr]  # there is one as long as the transport reads
        return None


def _handshakeLate(connection: Connection) -> None:
    connection._onHandshakeLate()
