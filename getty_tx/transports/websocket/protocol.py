"""The connection of a WebSocket session, which is the transport of its engine, and its factories."""

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
    SessionRefusedError,
    UpgradeError,
)
from getty_tx.interfaces import IConnection
from getty_tx.session.lifecycle import CLOSING, CONNECTING, LOST, OPEN
from getty_tx.session.refusals import MOST_ANSWERED
from getty_tx.session.wrappers import isEncrypted
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.stream import StreamConnection
from getty_tx.transports.websocket.engine import ClientEngine, ServerEngine, cut, makeSettings
from getty_tx.transports.websocket.frames import CLOSE, CloseCode, wholeFrame
from getty_tx.transports.websocket.handshake import checkHead
from getty_tx.transports.websocket.request import UpgradeOptions
from getty_tx.transports.websocket.session import MessageSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.transports.base import Connection

__all__ = [
    "WebSocketSessionClientFactory",
    "WebSocketSessionProtocol",
    "WebSocketSessionServerFactory",
]

#: Bytes of a handshake above which it is refused; what browsers send with many cookies is a quarter of it.
LONGEST_HANDSHAKE = 64 * 1024


@implementer(IConnection)
class WebSocketSessionProtocol(StreamConnection, Protocol):
    """
    The Twisted protocol of a WebSocket session, of either side; its factory says which.

    To subclass: ``connectionMade`` and ``connectionLost`` may be extended, calling the base.

    :param options: the options of the handshake; by default the factory's.

    :ivar engine: Autobahn's protocol.
    :ivar path: what the client asked for.
    :ivar subprotocol: what was agreed upon.
    :ivar above: the ``maxSessions`` that the main process counts, for a connection that it hands over to be refused.
    """

    sessionType = MessageSession
    engine: Any = None
    path = "/"
    subprotocol: str | None = None
    above: int | None = None
    _early: list[bytes] | None = None
    # The socket has taken all of the answer to the request.
    _isAnswerSent = True

    def __init__(self, options: UpgradeOptions | None = None) -> None:
        self._options = options

    @property
    def options(self) -> UpgradeOptions:
        """The options of the handshake."""
        options: UpgradeOptions = self.factory.options if self._options is None else self._options
        return options

    @property
    def inbound(self) -> Any:
        """The session's."""
        assert self.session is not None
        return self.session.inbound

    def connectionMade(self) -> None:
        """The transport is up; the session begins after the handshake."""
        raw = self.transport
        # The wait for the handshake is that of a TLS connection, and there is one for both.
        self._connected(raw, True)
        family = "WSS" if isEncrypted(raw) else "WS"
        self.kind = intern(f"{family}_{'CLIENT' if self.factory.isClient else 'SERVER'}")
        if self._failure is not None:
            return
        self._early = []
        settings = makeSettings(self.context, self.options, self.factory.isClient)
        if self.factory.isClient:
            self.engine = ClientEngine(self, settings)
            self.path = self.options.paths[0].partition("?")[0]
        else:
            self.engine = ServerEngine(self, settings)
        self.engine._connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        session = self.session
        if session is not None:
            session.inbound.receive(data)
        elif self._failure is None:
            self._shakeHands(data)

    def _shakeHands(self, data: bytes) -> None:
        engine = self.engine
        isClient = self.factory.isClient
        searched = max(len(engine.data) - 3, 0)
        engine.data += data
        end = engine.data.find(b"\r\n\r\n", searched)
        if (len(engine.data) if end < 0 else end) > LONGEST_HANDSHAKE:
            if isClient:
                engine.failHandshake(f"the answer is longer than {LONGEST_HANDSHAKE} bytes")
            else:
                engine.failHandshake(f"the request is longer than {LONGEST_HANDSHAKE} bytes", 431)
            return
        if end < 0:
            return
        data, engine.data = engine.data, b""
        reason = checkHead(data[:end], not isClient)
        if reason is not None:
            # A server's answer is 400.
            engine.failHandshake(reason)
            return
        try:
            engine._dataReceived(data)
        except Exception as error:
            # The engine decodes what it is sent. What cannot be decoded is no reason for a traceback.
            self._failure = UpgradeError(f"what came is no WebSocket handshake: {error}")
            self.raw.abortConnection()

    # The engine's transport

    def write(self, data: bytes) -> None:
        """Send what the engine says: in its order among the messages, or as a part of the handshake."""
        session: Any = self.session
        if session is not None:
            if session.state >= LOST:
                # What the connection left is still read, and needs no answer.
                return
            if data[0] & 0x0F == CLOSE:
                session.closeFrameAt = session.bytesWritten
            session.bytesWritten += len(data)
            session.controlBytes += len(data)
            session.outbound.write(data, len(data))
        elif self.factory.isClient:
            self.raw.write(data)
        elif self._early is not None:
            self._early.append(data)

    def refuseUpgrade(self, reason: str, answer: bytes) -> None:
        """The handshake has failed."""
        self._failure = UpgradeError(f"WebSocket handshake: {reason}")
        self.engine.state = WebSocketProtocol.STATE_CLOSED
        if answer:
            self.raw.write(answer)
            self.raw.loseConnection()
        else:
            self.raw.abortConnection()

    def checkRoom(self) -> None:
        """:raise ConnectionDeny: there are ``maxSessions`` already, or the service stops."""
        context = self.context
        limit = self.above
        # This connection is counted already.
        if limit is None and context.maxSessions is not None and context.peers > context.maxSessions:
            limit = context.maxSessions
        if context.closing or limit is not None:
            self._isRefused = True
            if context.closing:
                context.countRefusal("stopping", "the service stops")
            else:
                context.countRefusal("maxSessions", f"maxSessions={limit} reached")
            raise ConnectionDeny(503, "no more sessions")

    def drop(self, abort: bool) -> None:
        """The engine is done. With a session it is the session that ends the connection."""
        if self.session is None:
            if abort:
                self.raw.abortConnection()
            else:
                self.raw.loseConnection()
        elif self.session.state == CLOSING:
            self._part()

    def opened(self) -> None:
        """The handshake is done: begin the session, and give it what came behind the handshake."""
        engine = self.engine
        rest, engine.data = engine.data, b""
        self._handshakesDone()
        if rest and self.session is not None:
            self.session.inbound.receive(rest)

    def sessionMade(self) -> None:
        """Send the answer to the request; a hook of openSession."""
        session: Any = self.session
        early, self._early = self._early, None
        if early:
            # Through the outbound, so that the first message cannot overtake the answer to the request.
            answer = b"".join(early)
            session.outbound.write(answer, len(answer))
        if not session.outbound.isFree:
            self._isAnswerSent = False

    def sessionRefused(self, error: SessionRefusedError) -> None:
        """A server sends a Close frame, if the answer to the request was sent; a hook of openSession."""
        if not self._isAnswerSent or self.factory.isClient:
            super().sessionRefused(error)
            return
        self.session = None
        self._failure = error
        self._countRefusal(error)
        # If newSession has closed the session, a Close frame was sent already.
        if self.engine.state == WebSocketProtocol.STATE_OPEN:
            self.raw.write(wholeFrame(0x80 | CLOSE, CloseCode.POLICY_VIOLATION.to_bytes(2, "big"), False))
        self.raw.loseConnection()

    def _useSession(self) -> None:
        assert self.session is not None
        self.transport = self.session.transport
        self._readDirectly(short=type(self).dataReceived is WebSocketSessionProtocol.dataReceived)

    # What the engine tells of the open connection

    def refuse(self, code: int, reason: str) -> None:
        """The peer has broken the protocol, and was told so."""
        assert self.session is not None
        failed = MessageTooLongError if code == CloseCode.MESSAGE_TOO_BIG else CodecError
        self.session.readFailed(failed(f"WebSocket, close code {code}: {reason}", self.session))

    def closeFrame(self, code: int | None, reason: str) -> None:
        """The peer's Close frame came, and was answered."""
        session: Any = self.session
        self.inbound.over = True
        state = session.state
        if state == LOST and not self.engine.failedByMe:
            session.forgetLoss()
        if state in (CONNECTING, OPEN, LOST) and code not in (None, CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY):
            text = f"the peer closed the WebSocket with code {code}" + (f": {reason}" if reason else "")
            session.fail(PeerClosedError(text, session, code or 0, reason))
        elif state == CLOSING:
            self._part()

    def controlFrameCame(self, length: int) -> None:
        """A ping or a pong with ``length`` bytes came."""
        session: Any = self.session
        if session is not None:
            # The header, and the mask of what comes from a client.
            session.controlBytes += length + (2 if self.factory.isClient else 6)

    def noPong(self, sure: bool) -> None:
        """
        A ping was not answered in time.

        :param sure: it was so before, and all that had arrived then was read since.
        """
        session: Any = self.session
        engine = self.engine
        if session is None or session.state > OPEN:
            return
        if session.inbound.paused:
            # The answer may wait to be read.
            engine.autoPingPending = None
            self._startPings(session)
            return
        respite = self.context.wheel.respite
        if respite and not sure:
            # Whatever comes takes this back, as it would have taken the first.
            engine.autoPingTimeoutCall = engine.factory._batched_timer.call_later(respite, self._stillNoPong)
            return
        text = f"a ping was not answered in cronPeriod={session.cronPeriod:g} s"
        session.fail(ReadTimeoutError(text, session), abort=True)

    def _stillNoPong(self) -> None:
        self.engine.autoPingTimeoutCall = None
        self.noPong(True)

    # IConnection

    def applySocketOptions(self, session: Session) -> None:
        """As Connection's; and what the session asks of the engine."""
        super().applySocketOptions(session)
        self.applyLimits(session)

    def applyLimits(self, session: Any) -> None:
        """Let the engine have the session's settings."""
        engine = self.engine
        engine.maxFramePayloadSize = engine.maxMessagePayloadSize = session._maxMsgLen
        if engine.autoPingInterval != session._cronPeriod:
            engine.autoPingInterval = engine.autoPingTimeout = session._cronPeriod
            self._startPings(session)

    def _startPings(self, session: Any) -> None:
        engine = self.engine
        if engine.autoPingPendingCall is not None:
            engine.autoPingPendingCall.cancel()
        if engine.autoPingTimeoutCall is not None:
            engine.autoPingTimeoutCall.cancel()
            engine.autoPingTimeoutCall = None
        # As Autobahn itself begins to ping where the interval is known before the handshake.
        engine.autoPingPendingCall = engine.factory._batched_timer.call_later(session._cronPeriod, engine._sendAutoPing)

    def shutdownWriting(self) -> None:
        """Everything is flushed: tell the peer that nothing more comes, and read on until it says the same."""
        session: Any = self.session
        engine = self.engine
        if engine.state == WebSocketProtocol.STATE_OPEN:
            engine.sendCloseFrame(session._closeCode, cut(session._closeReason))
            # The peer's taking of it is no reason to wait longer for the answer.
            session.lastProgress = session.closeProgress()
        if self.inbound.over:
            self._part()

    def _part(self) -> None:
        """Both Close frames are there: end the TCP connection when ours is out; a client leaves that to the server."""
        outbound = self.inbound.outbound
        if not outbound.isFree:
            outbound.closeWhenDrained()
        elif not self.factory.isClient:
            self.raw.loseConnection()

    def disconnect(self) -> None:
        """Everything is flushed, and the peer's end of the stream has come."""
        self.raw.loseConnection()

    def leave(self) -> None:
        """Let go of a peer that does not answer the Close frame, or a server that does not end the connection."""
        if isEncrypted(self.raw):
            self.raw.abortConnection()
        else:
            self.raw.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone. The engine still reads what it left, where there is a session."""
        if self.session is None:
            self._endEngine(reason)
        self._lost(reason)

    def sessionEnded(self, error: BaseException | None) -> None:
        """onClose has returned."""
        self._endEngine(connectionDone)
        super().sessionEnded(error)

    def _endEngine(self, reason: Failure) -> None:
        if self.engine is not None:
            # It cancels its timers.
            self.engine._connectionLost(reason)


class WebSocketSessionServerFactory(SessionServerFactory):
    """
    WebSocket sessions for ``listenTCP``, ``listenUNIX``, ``endpoint.listen`` and ``adoptStreamConnection``.

    :param options: the paths, origins, subprotocols and compression.
    :param over: the factory of a service: it hears what this one's connections tell, and its context is shared.

    The others are those of SessionServerFactory.
    """

    protocol: Any = WebSocketSessionProtocol
    answersRefused = True

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
        """One whose sessions belong to the service of another factory."""
        context = factory.context
        return cls(factory.newSession, options, over=factory, context=context, service=context.service)

    def startFactory(self) -> None:
        """A port begins to use it."""
        if self._over is not None:
            self._over.doStart()  # type: ignore[no-untyped-call]  # Twisted's

    def stopFactory(self) -> None:
        """No port uses it any more."""
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
        """The connection's session has had its onClose."""
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

    The others are those of SessionClientFactory.
    """

    protocol: Any = WebSocketSessionProtocol

    def __init__(
        self, newSession: Callable[[Session], object], options: UpgradeOptions | None = None, **settings: Any
    ) -> None:
        super().__init__(newSession, **settings)
        self.options = UpgradeOptions(deflate=False) if options is None else options
