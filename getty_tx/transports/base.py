"""What the connections over every kind of transport have in common: addresses, socket options, handshakes, counting."""

from __future__ import annotations

import socket
from sys import intern
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import HandshakeTimeoutError, SelfConnectError, SessionRefusedError
from getty_tx.session import outbound
from getty_tx.session.addresses import formatAddress
from getty_tx.session.session import Session
from getty_tx.session.wrappers import hostOf, socketOf, tlsOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.refusals import Reason
    from getty_tx.wheel import WheelTimer

__all__ = ["Connection", "dropAtOnce", "reasonOf"]

log = Logger()


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
        if not self.session.losesOutput() and type(error) is ConnectionLost and _hasEndedTLS(self._raw):
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


def _hasEndedTLS(transport: Any) -> bool:
    """True if the peer of a TLS connection has ended TLS in order."""
    wrapper = tlsOf(transport)
    if wrapper is None:
        return False
    from getty_tx import tls

    return tls.hasEnded(wrapper.getHandle())


def reasonOf(error: BaseException, context: ServiceContext) -> Reason:
    """The reason to count for what a connection ended with, that never had an open session."""
    if isinstance(error, SelfConnectError):
        return "selfConnect"
    if context.closing:
        return "stopping"
    if isinstance(error, SessionRefusedError):
        return "newSession"
    return "handshakeTimeout" if isinstance(error, HandshakeTimeoutError) else "handshake"


def _handshakeLate(connection: Connection) -> None:
    connection._onHandshakeLate()
