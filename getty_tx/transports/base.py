"""The base of all connections: counts them, limits their handshakes, opens their sessions, and sets socket options."""

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
from getty_tx.session.wrappers import hostOf, listeningAddress, socketOf, tlsOf
from getty_tx.session.zerocopy import retire

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.refusals import Reason
    from getty_tx.transports.opening import Opening
    from getty_tx.wheel import WheelTimer

__all__ = ["Connection", "dropAtOnce", "openSession", "reasonOf"]

log = Logger()

#: The option for ``unsentLimit``: Linux and macOS have it.
UNSENT_LIMIT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


def dropAtOnce(transport: Any) -> None:
    """Drop a connection that was just accepted, in this reactor iteration."""
    if type(transport) in outbound.DIRECT:
        # loseConnection takes effect in the next iteration, and many more connections may be accepted in this one.
        transport.connectionLost(Failure(ConnectionDone()))
    else:
        transport.abortConnection()


def openSession(connection: Any) -> bool:
    """
    Make the session of a connection, let ``newSession`` configure it, and open it.

    The connection has ``sessionType``, ``context``, ``rawTransport`` and two hooks: ``sessionMade()`` is called when
    ``session`` is set, before the session starts; ``sessionRefused(error)`` if ``newSession`` refuses it.

    If ``newSession`` is an ``async def``, the connection has an ``opening`` and no session until it has returned; then
    ``opened()`` is called, and ``deliver`` for each piece that was kept.

    :param connection: provides IConnection.
    :return: False if the session was refused, or waits for ``newSession``.
    """
    session = connection.session = connection.sessionType(connection, connection.context, connection.rawTransport)
    connection.sessionMade()
    try:
        waiting = session.start()
    except SessionRefusedError as error:
        connection.sessionRefused(error)
        return False
    if waiting is None:
        return True
    # Imported here, as few services wait.
    from getty_tx.transports.opening import Opening

    connection.session = None
    opening = connection.opening = Opening(connection, session)
    opening.wait(waiting)
    return False


class Connection:
    """
    The part of IConnection that does not depend on the kind of transport; mixed into Twisted protocols.

    A connection is counted from ``_connected`` on. It has a session when its handshakes are done, and ends with
    ``sessionEnded`` or, if there was no session, with ``_disconnected``.

    :ivar rawTransport: the Twisted transport, or wrapper, below the connection.
    :ivar countedHost: the host for which the context has counted the connection.
    """

    factory: Any
    transport: Any
    #: The class of the session, made when the handshakes are done.
    sessionType: type[Session] = Session
    session: Session | None = None
    #: While an ``async def newSession`` runs.
    opening: Opening | None = None
    kind = "TCP_SERVER"
    rawTransport: Any = None
    _handshakeTimer: WheelTimer | None = None
    _failure: BaseException | None = None
    countedHost: str | None = None
    #: The main process has refused the connection and counted the refusal; set before the transport is connected.
    isTurnedAway = False
    #: Another connection has its transport now, and its place in the context.
    isSucceeded = False
    # A limit has refused the connection, and the context has never counted it.
    _isOutside = False
    # This side has refused the connection later, and has counted the refusal.
    _isRefused = False

    @property
    def context(self) -> ServiceContext:
        """The context that the sessions of the factory share."""
        context: ServiceContext = self.factory.context
        return context

    def _connected(self, transport: Any, encrypted: bool, waits: bool = False) -> None:
        """The transport is connected: count it, then open the session or wait for a handshake; or drop it."""
        context = self.context
        self.rawTransport = transport
        if self.isTurnedAway or not context.enter(self):
            self._isOutside = True
            self._failure = SessionRefusedError("a limit is reached")
            self._dropOutside(transport)
            return
        self.factory.connectionMade(self)
        side = "CLIENT" if self.factory.isClient else "SERVER"
        remote = transport.getPeer()
        family = "TLS" if encrypted else "UNIX" if hasattr(remote, "name") else "TCP"
        self.kind = intern(f"{family}_{side}")
        if self.factory.isClient and getattr(remote, "port", None) and remote == transport.getHost():
            self._refuse(SelfConnectError(f"connected to itself at {formatAddress(remote)}"))
        elif encrypted or waits:
            self._awaitHandshake()
        else:
            self._handshakesDone()

    def _awaitHandshake(self) -> None:
        context = self.context
        context.handshaking.add(self)
        self._handshakeTimer = context.wheel.schedule(context.handshakeTimeout, _handshakeTimedOut, self)

    def _dropOutside(self, transport: Any) -> None:
        """A limit has refused the connection."""
        dropAtOnce(transport)

    def _handshakesDone(self) -> None:
        """Open the session."""
        self._endHandshake()
        if openSession(self):
            self._useSession()

    def sessionMade(self) -> None:
        """The session is made and not started yet; a hook of openSession."""

    def sessionRefused(self, error: SessionRefusedError) -> None:
        """``newSession`` refused the session; a hook of openSession."""
        self.session = None
        self._refuse(error)

    def opened(self) -> None:
        """The session is open, after an ``async def newSession``."""
        self._useSession()

    def deliver(self, data: bytes, *more: Any) -> None:
        """Bytes that came meanwhile."""
        self.session.inbound.receive(data)  # type: ignore[union-attr]  # it is open

    def openingTimedOut(self, error: BaseException) -> None:
        """``newSession`` took longer than ``handshakeTimeout``."""
        self._failure = error
        self.abort()

    def _useSession(self) -> None:
        """The session has started; subclasses pass on to it what arrives."""

    def _refuse(self, error: BaseException) -> None:
        self._failure = error
        self._countRefusal(error)
        self.rawTransport.abortConnection()

    def _countRefusal(self, error: BaseException) -> None:
        self._isRefused = True
        self.context.countRefusal(reasonOf(error, self.context), str(error))

    def _endHandshake(self) -> None:
        context = self.context
        context.handshaking.discard(self)
        timer, self._handshakeTimer = self._handshakeTimer, None
        if timer is not None:
            timer.stop()

    def handshakeTimedOut(self) -> None:
        """The handshake has taken longer than ``handshakeTimeout``: drop the connection."""
        context = self.context
        error = HandshakeTimeoutError(
            f"{formatAddress(self.rawTransport.getPeer())} did not complete the handshake in "
            f"handshakeTimeout={context.handshakeTimeout:g} s"
        )
        if self.session is not None:
            # Of startTLS.
            self.session.fail(error, abort=True)
            return
        self._failure = error
        self.rawTransport.abortConnection()

    def _lost(self, reason: Failure) -> None:
        """The connection was lost: tell the session, with a readable error of TLS, or end without a session."""
        if self._isOutside:
            return
        error = reason.value
        assert error is not None
        if type(error).__module__.startswith("OpenSSL"):
            # Imported here, so that a program without TLS does not load OpenSSL.
            from getty_tx import tls

            error = tls.explain(error)
            reason = Failure(error)
        if self.session is None:
            if self.opening is not None:
                self.opening.cancel(error)
            self._disconnected(error)
            return
        if not self.session.losesOutput() and type(error) is ConnectionLost and _hasEndedTLS(self.rawTransport):
            # The peer need not wait for our own close_notify, and has not.
            reason = connectionDone
        self._endHandshake()
        self.session.connectionLost(reason)

    def _disconnected(self, reason: BaseException) -> None:
        """The connection ended before it had a session."""
        context = self.context
        self._endHandshake()
        error = self._failure if self._failure is not None else reason
        if not (self.factory.isClient or self._isRefused):
            why = f"{self.kind} {formatAddress(self.rawTransport.getPeer())}: {error}"
            context.countRefusal(reasonOf(error, context), why)
        context.leave(self)
        self.factory.connectionFailed(self, error)
        context.checkIdle()

    def peerHost(self) -> str | None:
        """The host that the connection counts for, if there is a limit for each host."""
        return hostOf(self.rawTransport)

    # IConnection

    def getLocalAddr(self) -> IAddress:
        """This end's address."""
        return listeningAddress(self.rawTransport)

    def getRemoteAddr(self) -> IAddress:
        """The peer's address."""
        address: IAddress = self.rawTransport.getPeer()
        return address

    def applySocketOptions(self, session: Session) -> None:
        """Set the session's options of the socket, if there is a socket."""
        handle = socketOf(self.rawTransport)
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
            if session.unsentLimit is not None and UNSENT_LIMIT is not None:
                options.append((socket.IPPROTO_TCP, UNSENT_LIMIT, session.unsentLimit))
        try:
            for level, option, value in options:
                handle.setsockopt(level, option, value)
        except OSError as error:
            # The socket is closed already; the next read reports that.
            log.info("{session}: socket options not set: {error}", session=session, error=error)

    def pauseReading(self) -> None:
        """Stop reading from the network."""
        self.rawTransport.pauseProducing()

    def resumeReading(self) -> None:
        """Read from the network again."""
        self.rawTransport.resumeProducing()

    def disconnect(self) -> None:
        """Everything is flushed and the peer has ended."""
        self.rawTransport.loseConnection()

    def abort(self) -> None:
        """Drop the connection."""
        self.rawTransport.abortConnection()

    def startTLS(self, policy: Any, normal: bool) -> None:
        """TLS from now on: on the socket, if nothing waits to leave in clear; otherwise by Twisted's own."""
        from getty_tx import tls

        session = self.session
        assert session is not None
        isClient = self.factory.isClient == normal
        session.outbound.flush()
        retire(session.outbound)
        onSocket = tls.startOnSocket(policy, self.rawTransport, isClient) if session.outbound.isFree else None
        if onSocket is None:
            session.outbound.startTLS(policy, normal)
        else:
            self.rawTransport = onSocket
            session.outbound.use(onSocket)
            self._useSession()
        self.kind = intern("TLS_CLIENT" if self.factory.isClient else "TLS_SERVER")
        context = self.context
        self._handshakeTimer = context.wheel.schedule(context.handshakeTimeout, _handshakeTimedOut, self)

    def sessionOpened(self) -> None:
        """onOpen has returned."""
        self.factory.sessionOpened(self)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        if not self.isSucceeded:
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
    """The reason under which a refusal is counted, for the error of a connection that never had an open session."""
    if isinstance(error, SelfConnectError):
        return "selfConnect"
    if context.closing:
        return "stopping"
    if isinstance(error, SessionRefusedError):
        return "newSession"
    return "handshakeTimeout" if isinstance(error, HandshakeTimeoutError) else "handshake"


def _handshakeTimedOut(connection: Connection) -> None:
    connection.handshakeTimedOut()
