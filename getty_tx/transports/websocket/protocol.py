"""The Twisted protocol of a WebSocket session, which is also the transport of its engine, and its factories."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any

from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.protocol import Protocol, connectionDone
from zope.interface import implementer

from getty_tx.errors import (
    CodecError,
    MessageTooLongError,
    PeerClosedError,
    ReadTimeoutError,
    RefuseRequest,
    SessionRefusedError,
    UpgradeError,
)
from getty_tx.interfaces import IConnection
from getty_tx.session.lifecycle import CLOSING, CONNECTING, LOST, OPEN
from getty_tx.session.refusals import MOST_ANSWERED
from getty_tx.session.wrappers import isEncrypted
from getty_tx.transports.factories import Refusal, SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.stream import StreamConnection
from getty_tx.transports.websocket.engine import ClientEngine, ServerEngine, cut, makeSettings
from getty_tx.transports.websocket.frames import CLOSE, CloseCode, wholeFrame
from getty_tx.transports.websocket.handshake import checkHead
from getty_tx.transports.websocket.refusing import MAX_HANDSHAKE, Refuser, answerTo
from getty_tx.transports.websocket.request import UpgradeOptions
from getty_tx.transports.websocket.requested import UpgradeRequest
from getty_tx.transports.websocket.session import MessageSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection

__all__ = [
    "WebSocketSessionClientFactory",
    "WebSocketSessionProtocol",
    "WebSocketSessionServerFactory",
]


@implementer(IConnection)
class WebSocketSessionProtocol(StreamConnection, Protocol):
    """
    The Twisted protocol of a WebSocket session, for a client or a server, as its factory says.

    To subclass: ``connectionMade`` and ``connectionLost`` may be extended; they call the base.

    :param options: the options of the handshake; by default the factory's.

    :ivar engine: Autobahn's protocol.
    :ivar path: the path that the client has requested.
    :ivar subprotocol: the negotiated subprotocol.
    :ivar request: of a server: the client's request, until onOpen has returned.
    :ivar keepsRequest: keep it longer.
    """

    sessionType = MessageSession
    engine: Any = None
    path = "/"
    subprotocol: str | None = None
    request: UpgradeRequest | None = None
    keepsRequest = False
    # The head of the request, until it is made.
    _head = b""
    # The pieces of the server's answer to the request, until newSession has returned.
    _answer: list[bytes] | None = None
    # The answer was not sent, because newSession has refused the session.
    _isWithdrawn = False
    _refuser: Refuser | None = None

    def __init__(self, options: UpgradeOptions | None = None) -> None:
        self._options = options

    @property
    def options(self) -> UpgradeOptions:
        """The options of the handshake."""
        options: UpgradeOptions = self.factory.options if self._options is None else self._options
        return options

    @property
    def inbound(self) -> Any:
        """The inbound of the session."""
        assert self.session is not None
        return self.session.inbound

    def connectionMade(self) -> None:
        """The transport is connected; the session starts after the handshake."""
        raw = self.transport
        # True, to wait for a handshake: handshakeTimeout limits the TLS and the WebSocket handshake together.
        self._connected(raw, True)
        if self._isOutside:
            return
        family = "WSS" if isEncrypted(raw) else "WS"
        self.kind = intern(f"{family}_{'CLIENT' if self.factory.isClient else 'SERVER'}")
        if self._failure is not None:
            return
        self._answer = []
        settings = makeSettings(self.context, self.options, self.factory.isClient)
        if self.factory.isClient:
            self.engine = ClientEngine(self, settings)
            self.path = self.options.paths[0].partition("?")[0]
        else:
            self.engine = ServerEngine(self, settings)
        self.engine.begin()

    def dataReceived(self, data: bytes) -> None:
        """Bytes arrived."""
        session = self.session
        if session is not None:
            session.inbound.receive(data)
        elif self.opening is not None:
            self.opening.keep(data)
        elif self._failure is None:
            self._readHandshake(data)
        elif self._refuser is not None:
            self._refuser.receive(data)

    def _readHandshake(self, data: bytes) -> None:
        engine = self.engine
        isClient = self.factory.isClient
        searched = max(len(engine.data) - 3, 0)
        engine.data += data
        end = engine.data.find(b"\r\n\r\n", searched)
        if (len(engine.data) if end < 0 else end) > MAX_HANDSHAKE:
            if isClient:
                engine.failHandshake(f"the answer is longer than {MAX_HANDSHAKE} bytes")
            else:
                engine.failHandshake(f"the request is longer than {MAX_HANDSHAKE} bytes", 431)
            return
        if end < 0:
            return
        data, engine.data = engine.data, b""
        reason = checkHead(data[:end], not isClient)
        if reason is not None:
            # A server's answer is 400.
            engine.failHandshake(reason)
            return
        if not isClient:
            self._head = data[:end]
        try:
            engine.feed(data)
        except Exception as error:
            # The engine decodes the handshake. Invalid bytes are not worth a traceback.
            self._failure = UpgradeError(f"what came is no WebSocket handshake: {error}")
            self.rawTransport.abortConnection()

    # The engine's transport

    def write(self, data: bytes) -> None:
        """Send bytes of the engine: in their order among the messages, or as a part of the handshake."""
        session: Any = self.session
        if session is not None:
            # After the connection was lost, data that arrived before is still read, but not answered.
            if session.state < LOST:
                session.sendControlFrame(data)
        elif self.factory.isClient:
            self.rawTransport.write(data)
        elif self._answer is not None:
            self._answer.append(data)

    def handshakeRefused(self, reason: str, answer: bytes) -> None:
        """The handshake has failed; ``answer`` is sent to the peer."""
        self._failure = UpgradeError(f"WebSocket handshake: {reason}")
        self.engine.state = WebSocketProtocol.STATE_CLOSED
        if answer:
            self.rawTransport.write(answer)
            self.rawTransport.loseConnection()
        else:
            self.rawTransport.abortConnection()

    def checkCapacity(self) -> None:
        """:raise ConnectionDeny: ``maxSessions`` is reached, or the service stops."""
        context = self.context
        limit = context.maxSessions
        # The context has counted this connection already.
        isFull = limit is not None and context.peers > limit
        if context.closing or isFull:
            self._isRefused = True
            if context.closing:
                context.countRefusal("stopping", "the service stops")
            else:
                context.countRefusal("maxSessions", f"maxSessions={limit} reached")
            raise ConnectionDeny(503, "no more sessions")

    def engineDone(self, abort: bool) -> None:
        """The engine asks to close the connection. If there is a session, the session closes it."""
        if self.session is None:
            if abort:
                self.rawTransport.abortConnection()
            else:
                self.rawTransport.loseConnection()
        elif self.session.state == CLOSING:
            self._finishClose()

    def handshakeSucceeded(self) -> None:
        """The handshake is done: start the session, and give it the bytes that followed the handshake."""
        engine = self.engine
        rest, engine.data = engine.data, b""
        self._handshakesDone()
        if rest and self.session is not None:
            self.session.inbound.receive(rest)
        elif rest and self.opening is not None:
            self.opening.keep(rest)

    def sessionMade(self) -> None:
        """Hold the answer to the request before all that newSession writes; a hook of openSession."""
        session: Any = self.session
        pieces = self._answer
        if pieces:
            head, self._head = self._head, b""
            self.request = UpgradeRequest(head, self.path, self.getRemoteAddr())
            answer = b"".join(pieces)
            self._answer = [answer]
            session.outbound.corked = True
            session.outbound.write(answer, len(answer))

    def sendAnswer(self, session: MessageSession) -> None:
        """newSession has accepted the session: send the answer, and what newSession has written."""
        if self._answer:
            self._answer = None
            outbound = session.outbound
            outbound.corked = False
            if outbound.queue is not None:
                outbound.sendQueued()

    def withdrawAnswer(self, session: MessageSession) -> None:
        """newSession has refused the session: take the answer back, if it was not sent with much behind it."""
        outbound = session.outbound
        self._isWithdrawn = bool(self._answer and outbound.queue and outbound.queue[0] is self._answer[0])
        self.request = None

    def sessionRefused(self, error: SessionRefusedError) -> None:
        """A server answers with the status of a RefuseRequest, otherwise with a Close frame; a hook of openSession."""
        if not self._isWithdrawn:
            super().sessionRefused(error)
            return
        session: Any = self.session
        self.session = None
        self._failure = error
        self._countRefusal(error)
        self.engine.state = WebSocketProtocol.STATE_CLOSED
        if isinstance(error, RefuseRequest):
            self.rawTransport.write(answerTo(error.status, error.reason, error.headers))
        else:
            assert self._answer is not None
            # It has a code if newSession has closed the session.
            code = session.closeFrameCode or CloseCode.POLICY_VIOLATION
            payload = code.to_bytes(2, "big") + cut(session.closeFrameReason)
            self.rawTransport.write(self._answer[0] + wholeFrame(0x80 | CLOSE, payload, False))
        self._answer = None
        self.rawTransport.loseConnection()

    def sessionOpened(self) -> None:
        """onOpen has returned."""
        if self.request is not None and not self.keepsRequest:
            self.request = None
        super().sessionOpened()

    def _dropOutside(self, transport: Any) -> None:
        """Refused by a limit before its handshake: a server answers with 503, but only some at a time."""
        context = self.context
        if self.factory.isClient or not Refuser.hasRoom(context):
            super()._dropOutside(transport)
            return
        self._refuser = Refuser(context, transport)

    def _useSession(self) -> None:
        assert self.session is not None
        self.transport = self.session.transport
        self._readDirectly(short=type(self).dataReceived is WebSocketSessionProtocol.dataReceived)

    # Events of the engine

    def protocolViolated(self, code: int, reason: str) -> None:
        """The peer has violated the protocol, and was told so."""
        assert self.session is not None
        failed = MessageTooLongError if code == CloseCode.MESSAGE_TOO_BIG else CodecError
        self.session.readFailed(failed(f"WebSocket, close code {code}: {reason}", self.session))

    def closeFrameReceived(self, code: int | None, reason: str) -> None:
        """The peer's Close frame was received and answered."""
        session: Any = self.session
        self.inbound.closeReceived = True
        state = session.state
        if state == LOST and not self.engine.failedByMe:
            session.forgetLoss()
        if state in (CONNECTING, OPEN, LOST) and code not in (None, CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY):
            text = f"the peer closed the WebSocket with code {code}" + (f": {reason}" if reason else "")
            session.fail(PeerClosedError(text, session, code or 0, reason))
        elif state == CLOSING:
            self._finishClose()

    def controlFrameReceived(self, length: int) -> None:
        """A ping or a pong with ``length`` bytes was received."""
        session: Any = self.session
        if session is not None:
            # The header has 2 bytes, and a client's frame has a mask of 4.
            session.controlBytesRead(length + (2 if self.factory.isClient else 6))

    def pingTimedOut(self, sure: bool) -> None:
        """
        A ping was not answered in time.

        :param sure: for the second time; everything that had arrived the first time was read since.
        """
        session: Any = self.session
        engine = self.engine
        if session is None or session.state > OPEN:
            return
        if session.inbound.paused:
            # The answer may have arrived but not been read.
            engine.autoPingPending = None
            engine.startPings(session.cronPeriod)
            return
        respite = self.context.wheel.respite
        if respite and not sure:
            engine.awaitPong(respite)
            return
        text = f"a ping was not answered in cronPeriod={session.cronPeriod:g} s"
        session.fail(ReadTimeoutError(text, session), abort=True)

    # IConnection

    def applySocketOptions(self, session: Session) -> None:
        """As Connection's; also sets the session's limits in the engine."""
        super().applySocketOptions(session)
        self.applyLimits(session)

    def applyLimits(self, session: Any) -> None:
        """Set the session's limits in the engine."""
        engine = self.engine
        engine.maxFramePayloadSize = engine.maxMessagePayloadSize = session.maxMsgLen
        if engine.autoPingInterval != session.cronPeriod:
            engine.startPings(session.cronPeriod)

    def shutdownWriting(self) -> None:
        """Everything is flushed: send a Close frame, and read until the peer's."""
        session: Any = self.session
        engine = self.engine
        if session is None:
            # An async newSession has closed it, which takes effect when that has returned.
            return
        if engine.state == WebSocketProtocol.STATE_OPEN:
            engine.sendCloseFrame(session.closeFrameCode, cut(session.closeFrameReason))
            session.closeFrameSent()
        if self.inbound.closeReceived:
            self._finishClose()

    def _finishClose(self) -> None:
        """The Close frames are exchanged: a server ends the TCP connection when its own is sent; a client waits."""
        session: Any = self.session
        outbound = session.outbound
        if not outbound.isFree:
            outbound.closeWhenDrained()
        elif not self.factory.isClient:
            self.rawTransport.loseConnection()

    def disconnect(self) -> None:
        """Everything is flushed, and the peer has ended its side of the stream."""
        self.rawTransport.loseConnection()

    def leave(self) -> None:
        """Leave a peer that does not answer the Close frame, or a server that does not end the connection."""
        if isEncrypted(self.rawTransport):
            self.rawTransport.abortConnection()
        else:
            self.rawTransport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection was lost. If there is a session, the engine still reads the data that arrived before."""
        if self._refuser is not None:
            self._refuser.lost()
        if self.session is None:
            self._endEngine(reason)
        self._lost(reason)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        self._endEngine(connectionDone)
        super().sessionEnded(error)

    def _endEngine(self, reason: Failure) -> None:
        if self.engine is not None:
            self.engine.end(reason)


class WebSocketSessionServerFactory(SessionServerFactory):
    """
    WebSocket sessions for ``listenTCP``, ``listenUNIX``, ``endpoint.listen`` and ``adoptStreamConnection``.

    :param options: the paths, origins, subprotocols and compression.
    :param over: the factory of a service: it gets the events of this one's connections, and its context is shared.

    :ivar turnsAway: while a protocol is built for a connection that the main process has refused and counted.

    The other parameters are those of SessionServerFactory.
    """

    protocol: Any = WebSocketSessionProtocol
    answersRefused = True
    turnsAway = False

    def __init__(
        self,
        newSession: Callable[[Session], object],
        options: UpgradeOptions | None = None,
        *,
        over: SessionServerFactory | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(newSession, **settings)
        self.options = UpgradeOptions() if options is None else options
        self._over = over

    @classmethod
    def sharing(cls, factory: SessionServerFactory, options: UpgradeOptions) -> WebSocketSessionServerFactory:
        """A factory whose sessions belong to the service of another factory."""
        context = factory.context
        return cls(factory.newSession, options, over=factory, context=context, service=context.service)

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """As SessionServerFactory; with ``turnsAway`` the protocol only answers."""
        if not self.turnsAway:
            return super().buildProtocol(addr)
        if self._full and not self._hasDescriptors():
            return Refusal()
        protocol: WebSocketSessionProtocol = self.protocol()
        protocol.factory = self
        protocol.isTurnedAway = True
        return protocol

    def startFactory(self) -> None:
        """A port starts to use the factory."""
        if self._over is not None:
            self._over.doStart()  # type: ignore[no-untyped-call]  # Twisted's

    def stopFactory(self) -> None:
        """No port uses the factory any more."""
        if self._over is not None:
            self._over.doStop()  # type: ignore[no-untyped-call]  # Twisted's

    def _hasRoom(self) -> bool:
        context = self.context
        return context.maxSessions is None or context.peers < context.maxSessions + MOST_ANSWERED or context.hasRoom()

    def sessionOpened(self, connection: Connection) -> None:
        """The connection's session is open."""
        if self._over is not None:
            self._over.sessionOpened(connection)

    def sessionEnded(self, connection: Connection, error: BaseException | None) -> None:
        """The onClose of the connection's session has returned."""
        if self._over is not None:
            self._over.sessionEnded(connection, error)

    def connectionFailed(self, connection: Connection, error: BaseException) -> None:
        """The connection ended before it had a session."""
        if self._over is not None:
            self._over.connectionFailed(connection, error)


class WebSocketSessionClientFactory(SessionClientFactory):
    """
    One WebSocket session, replaced when it is lost: for ``connectTCP`` and its like, and for EndpointConnector.

    :param options: the path, host, origin, subprotocols and compression.

    The other parameters are those of SessionClientFactory.
    """

    protocol: Any = WebSocketSessionProtocol

    def __init__(
        self, newSession: Callable[[Session], object], options: UpgradeOptions | None = None, **settings: Any
    ) -> None:
        super().__init__(newSession, **settings)
        self.options = UpgradeOptions(deflate=False) if options is None else options
