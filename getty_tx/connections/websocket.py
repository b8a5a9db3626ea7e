"""
Sessions over WebSocket, on Autobahn.

Handshake, control frames, fragments, compression and closing are Autobahn's: a connection has an *engine*, which is
Autobahn's protocol, with the connection as its transport. The session, its limits, its timers and the way out are
getty_tx's. Whole data frames go around the engine, see :py:mod:`getty_tx.connections.messages`.

Close codes. ``session.close()`` sends 1000 with the reason given; a server that stops, and a session that fails for
want of time, 1001; a message longer than ``maxMsgLen``, inflated or not, 1009; what the protocol forbids 1002; text
that is not UTF-8, and any message that the codec refuses, 1007; a callback that fails 1011; ``newSession``'s refusal
1008. From the peer 1000, 1001 and no code are a normal end; any other, and an end without Close frame (1006), reaches
onError as :py:class:`~getty_tx.errors.PeerClosedError`.
"""

from __future__ import annotations

from http import HTTPStatus
from sys import intern
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.protocol import WebSocketClientFactory, WebSocketProtocol, WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.connections.base import Connection, StreamConnection, isEncrypted
from getty_tx.connections.dialing import SessionClientFactory
from getty_tx.connections.factories import SessionServerFactory
from getty_tx.connections.frames import COMPRESSED, wholeFrame
from getty_tx.connections.messages import GOING_AWAY, NORMAL, TOO_LONG, MessageSession
from getty_tx.connections.upgrade import UpgradeOptions
from getty_tx.errors import (
    CodecError,
    MessageTooLongError,
    PeerClosedError,
    ReadTimeoutError,
    SessionRefusedError,
    UpgradeError,
)
from getty_tx.interfaces import IConnection
from getty_tx.lifecycle import CLOSING, OPEN
from getty_tx.refusals import MOST_ANSWERED
from getty_tx.session import formatAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from autobahn.websocket.types import ConnectionRequest
    from twisted.python.failure import Failure

    from getty_tx.keeper import Keeper
    from getty_tx.session import Session
    from getty_tx.wheel import TimingWheel, WheelTimer

__all__ = [
    "WebSocketSessionClientFactory",
    "WebSocketSessionProtocol",
    "WebSocketSessionServerFactory",
]

log = Logger()

#: Bytes of a handshake above which it is refused; what browsers send with many cookies is a quarter of it.
LONGEST_HANDSHAKE = 64 * 1024

#: What a compressor keeps per connection: 2**12 bytes of window, and memory of level 5, 37 KB instead of 268 (zlib.h).
WINDOW_BITS = 12
MEMORY_LEVEL = 5


class _Call:
    """A delayed call of Autobahn's, on the wheel."""

    __slots__ = ("call", "timer")

    def __init__(self, wheel: TimingWheel, delay: float, call: Callable[[], object]) -> None:
        self.call = call
        self.timer: WheelTimer | None = wheel.schedule(delay, _run, self)

    def cancel(self) -> None:
        if self.timer is not None:
            self.timer.stop()
            self.timer = None


def _run(delayed: _Call) -> None:
    delayed.timer = None
    delayed.call()


class _Timers:
    """In place of Autobahn's ``_batched_timer``, which would use the installed reactor and survive its connections."""

    def __init__(self, keeper: Keeper) -> None:
        self._wheel = keeper.wheel

    def call_later(self, delay: float, call: Callable[[], object]) -> _Call:
        return _Call(self._wheel, delay, call)


def _settings(keeper: Keeper, options: UpgradeOptions, isClient: bool) -> Any:
    """
    What Autobahn calls the factory: the options of all connections, as far as they have none of their own.

    Timeouts are 0, as they are the session's: handshakeTimeout, waitTime and cronPeriod, on the service's wheel.
    """
    known = options.made.get("settings")
    if known is not None and known[0] is keeper:
        return known[1]
    settings: Any
    if isClient:
        settings = WebSocketClientFactory(protocols=list(options.subprotocols), useragent="getty_tx")
        settings.host, settings.port, settings.resource = options.host, options.port, options.paths[0]
        settings.origin = options.origin
        settings.setProtocolOptions(
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            perMessageCompressionOffers=[PerMessageDeflateOffer()] if options.deflate else [],
            perMessageCompressionAccept=_acceptResponse,
        )
    else:
        settings = WebSocketServerFactory(server="")
        settings.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            allowNullOrigin=True,
            perMessageCompressionAccept=_acceptOffer if options.deflate else None,
        )
    # The one private attribute of Autobahn's factories that is replaced; tests.test_websocket_frames sees that it is
    # there and is what all of its timers come from.
    settings._batched_timer = _Timers(keeper)
    options.made["settings"] = keeper, settings
    return settings


def _acceptOffer(offers: list[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                # Nothing is asked of the client: the answer may not be more than its offer's own number, which
                # Autobahn does not tell (RFC 7692, section 7.1.2.2).
                request_max_window_bits=0,
                window_bits=min(offer.request_max_window_bits or WINDOW_BITS, WINDOW_BITS),
                mem_level=MEMORY_LEVEL,
            )
    return None


def _acceptResponse(response: Any) -> Any:
    if not isinstance(response, PerMessageDeflateResponse):
        return None
    return PerMessageDeflateResponseAccept(
        response,
        window_bits=min(response.client_max_window_bits or WINDOW_BITS, WINDOW_BITS),
        mem_level=MEMORY_LEVEL,
    )


def _cut(reason: str) -> bytes:
    """As much of a reason as a Close frame has room for."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()


class _FromSettings:
    """An option that the connection has from its settings unless it has its own. (Autobahn copies 26 to each.)"""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance.factory, self._name)


class _Engine(WebSocketProtocol):
    """
    What both of Autobahn's protocols do here otherwise.

    Autobahn's own seam between it and a network framework is methods with an underscore (``_onOpen``, ``_onMessage``,
    ``_closeConnection``): they are overridden as its adapters for Twisted and asyncio do it.
    """

    connection: WebSocketSessionProtocol
    compresses = False
    current_frame: Any = None
    inside_message = False
    message_data: Any
    _perMessageCompress: Any

    def __init__(self, connection: WebSocketSessionProtocol, settings: Any) -> None:
        super().__init__()
        self.connection = connection
        self.transport = connection
        self.factory = settings
        self.peer = formatAddress(connection.getRemoteAddr())

    def _onOpen(self) -> None:
        # Set where a compression was agreed upon; there is no public name for it.
        self.compresses = self._perMessageCompress is not None
        # Texts of the handshake that nobody asks for any more, two kilobytes a connection.
        self.http_request_data = self.http_response_data = b""
        self.connection.opened()

    def compressed(self, first: int, payload: bytes) -> bytes:
        """A frame with the payload compressed."""
        compress = self._perMessageCompress
        compress.start_compress_message()
        payload = compress.compress_message_data(payload) + compress.end_compress_message()
        return wholeFrame(first | COMPRESSED, payload, self.connection.factory.isClient)

    def onMessageEnd(self) -> None:
        """A message is complete that did not take the short path."""
        if not self.failedByMe:
            self.connection.inbound.message(b"".join(self.message_data), not self.message_is_binary)
        self.message_data = None

    def _fail_connection(self, code: int = GOING_AWAY, reason: str = "going away") -> None:
        if self.state == WebSocketProtocol.STATE_OPEN:
            self.failedByMe = True
            self.sendCloseFrame(code=code, reasonUtf8=_cut(reason))
            self.connection.refuse(code, reason)
        # Autobahn drops the connection if more is wrong with the frame; here the peer's Close frame is waited for.

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """The peer's Close frame."""
        result = super().onCloseFrame(code, reasonRaw)
        self.connection.closeFrame(None if self.failedByMe else self.remoteCloseCode, self.remoteCloseReason or "")
        return result

    def onPing(self, payload: bytes) -> None:
        """The peer's ping."""
        self.connection.controlFrameCame(len(payload))
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        """The peer's answer to a ping."""
        self.connection.controlFrameCame(len(payload))

    def onAutoPingTimeout(self) -> None:
        """A ping was not answered."""
        self.autoPingTimeoutCall = None
        self.connection.noPong(False)

    def _closeConnection(self, abort: bool = False) -> None:
        self.connection.drop(abort)

    def unregisterProducer(self) -> None:
        """Autobahn's last act before it drops a connection; producers are the outbound's."""


class _ServerEngine(_Engine, WebSocketServerProtocol):  # type: ignore[misc]
    CONFIG_ATTRS: list[str] = []

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """A WebSocket request that is well-formed."""
        options = self.connection.options
        if request.path not in options.paths:
            raise ConnectionDeny(404, "no such path")
        if not options.allows(request.origin or ""):
            raise ConnectionDeny(403, f"origin {request.origin!r} is not allowed")
        self.connection.checkRoom()
        self.connection.path = intern(request.path)
        chosen = options.choose(request.protocols)
        self.connection.subprotocol = chosen
        return chosen

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Answer with an error of HTTP."""
        if code == 426 and self.http_request_path not in self.connection.options.paths:
            code, reason = 404, "no such path"
        headers = list(responseHeaders or ())
        if code == 426:
            headers += [("Upgrade", "websocket"), ("Connection", "Upgrade, close"), ("Sec-WebSocket-Version", "13")]
        else:
            headers.append(("Connection", "close"))
        if code == 405:
            headers.append(("Allow", "GET"))
        headers.append(("Content-Length", "0"))
        lines = [f"HTTP/1.1 {code} {HTTPStatus(code).phrase}", *(f"{name}: {value}" for name, value in headers)]
        self.connection.refuseUpgrade(f"{code}, {reason}", "\r\n".join([*lines, "", ""]).encode("ascii", "replace"))


class _ClientEngine(_Engine, WebSocketClientProtocol):  # type: ignore[misc]
    CONFIG_ATTRS: list[str] = []

    def failHandshake(self, reason: str) -> None:
        """The server's answer is not the one that it should be."""
        self.connection.refuseUpgrade(reason, b"")


for _base in (WebSocketServerProtocol, WebSocketClientProtocol):
    for _name in _base.CONFIG_ATTRS:
        setattr(_Engine, _name, _FromSettings(_name))


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
        return self.session._inbound

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
        settings = _settings(self.keeper, self.options, self.factory.isClient)
        if self.factory.isClient:
            self.engine = _ClientEngine(self, settings)
            self.path = self.options.paths[0].partition("?")[0]
        else:
            self.engine = _ServerEngine(self, settings)
        self.engine._connectionMade()

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        session = self.session
        if session is not None:
            session._inbound.receive(data)
        elif self._failure is None:
            self._shakeHands(data)

    def _shakeHands(self, data: bytes) -> None:
        engine = self.engine
        if len(engine.data) + len(data) > LONGEST_HANDSHAKE and b"\r\n\r\n" not in engine.data[-3:] + data:
            if self.factory.isClient:
                engine.failHandshake(f"the answer is longer than {LONGEST_HANDSHAKE} bytes")
            else:
                engine.failHandshake(f"the request is longer than {LONGEST_HANDSHAKE} bytes", 431)
            return
        try:
            engine._dataReceived(data)
        except Exception as error:
            # The engine decodes what it is sent. What cannot be decoded is no reason for a traceback.
            self._failure = UpgradeError(f"what came is no WebSocket handshake: {error}")
            self._raw.abortConnection()

    # The engine's transport

    def write(self, data: bytes) -> None:
        """Send what the engine says: in its order among the messages, or as a part of the handshake."""
        session: Any = self.session
        if session is not None:
            session._writeBytes += len(data)
            session._controlBytes += len(data)
            session._outbound.write(data, len(data))
        elif self.factory.isClient:
            self._raw.write(data)
        elif self._early is not None:
            self._early.append(data)

    def refuseUpgrade(self, reason: str, answer: bytes) -> None:
        """The handshake has failed."""
        self._failure = UpgradeError(f"WebSocket handshake: {reason}")
        self.engine.state = WebSocketProtocol.STATE_CLOSED
        if answer:
            self._raw.write(answer)
            self._raw.loseConnection()
        else:
            self._raw.abortConnection()

    def checkRoom(self) -> None:
        """:raise ConnectionDeny: there are ``maxSessions`` already, or the service stops."""
        keeper = self.keeper
        limit = self.above
        # This connection is counted already.
        if limit is None and keeper.maxSessions is not None and keeper.peers > keeper.maxSessions:
            limit = keeper.maxSessions
        if keeper.closing or limit is not None:
            self._isRefused = True
            if keeper.closing:
                keeper.countRefusal("stopping", "the service stops")
            else:
                keeper.countRefusal("maxSessions", f"maxSessions={limit} reached")
            raise ConnectionDeny(503, "no more sessions")

    def drop(self, abort: bool) -> None:
        """The engine is done. With a session it is the session that ends the connection."""
        if self.session is None:
            if abort:
                self._raw.abortConnection()
            else:
                self._raw.loseConnection()
        elif self.session._state == CLOSING:
            self._part()

    def opened(self) -> None:
        """The handshake is done: begin the session, and give it what came behind the handshake."""
        engine = self.engine
        rest, engine.data = engine.data, b""
        self._begin()
        if self.session is not None:
            self.transport = self.session.transport
            self._readDirectly(short=type(self).dataReceived is WebSocketSessionProtocol.dataReceived)
            if rest:
                self.session._inbound.receive(rest)

    def _begin(self) -> None:
        self._endHandshake()
        session = MessageSession(self, self.keeper, self._raw)
        early, self._early = self._early, None
        self.session = session
        if early:
            # Through the outbound, or a first message might overtake the answer to the request.
            answer = b"".join(early)
            session._outbound.write(answer, len(answer))
        wasFree = session._outbound.isFree
        try:
            session.start()
        except SessionRefusedError as error:
            self.session = None
            if wasFree and not self.factory.isClient:
                self._failure = error
                self._countRefusal(error)
                # Where newSession has closed the session, that has been said already.
                if self.engine.state == WebSocketProtocol.STATE_OPEN:
                    self._raw.write(wholeFrame(0x88, b"\x03\xf0", False))
                self._raw.loseConnection()
            else:
                self._refuse(error)

    # What the engine tells of the open connection

    def refuse(self, code: int, reason: str) -> None:
        """The peer has broken the protocol, and was told so."""
        assert self.session is not None
        failed = MessageTooLongError if code == TOO_LONG else CodecError
        self.session._readFailed(failed(f"WebSocket, close code {code}: {reason}", self.session))

    def closeFrame(self, code: int | None, reason: str) -> None:
        """The peer's Close frame came, and was answered."""
        session: Any = self.session
        self.inbound.over = True
        if session._state <= OPEN and code not in (None, NORMAL, GOING_AWAY):
            text = f"the peer closed the WebSocket with code {code}" + (f": {reason}" if reason else "")
            session._fail(PeerClosedError(text, session, code or 0, reason))
        elif session._state == CLOSING:
            self._part()

    def controlFrameCame(self, length: int) -> None:
        """A ping or a pong with ``length`` bytes came."""
        session: Any = self.session
        if session is not None:
            # The header, and the mask of what comes from a client.
            session._controlBytes += length + (2 if self.factory.isClient else 6)

    def noPong(self, sure: bool) -> None:
        """
        A ping was not answered in time.

        :param sure: it was so before, and all that had arrived then was read since.
        """
        session: Any = self.session
        engine = self.engine
        if session is None or session._state > OPEN:
            return
        if session._inbound.paused:
            # The answer may wait to be read.
            engine.autoPingPending = None
            self._startPings(session)
            return
        respite = self.keeper.wheel.respite
        if respite and not sure:
            # Whatever comes takes this back, as it would have taken the first.
            engine.autoPingTimeoutCall = engine.factory._batched_timer.call_later(respite, self._stillNoPong)
            return
        text = f"a ping was not answered in cronPeriod={session.cronPeriod:g} s"
        session._fail(ReadTimeoutError(text, session), abort=True)

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
            engine.sendCloseFrame(session._closeCode, _cut(session._closeReason))
            # The peer's taking of it is no reason to wait longer for the answer.
            session._progress = session._closeProgress()
        if self.inbound.over:
            self._part()

    def _part(self) -> None:
        """Both Close frames are there: end the TCP connection when ours is out; a client leaves that to the server."""
        outbound = self.inbound.outbound
        if not outbound.isFree:
            outbound.finish()
        elif not self.factory.isClient:
            self._raw.loseConnection()

    def disconnect(self) -> None:
        """Everything is flushed, and the peer's end of the stream has come."""
        self._raw.loseConnection()

    def leave(self) -> None:
        """Let go of a peer that does not answer the Close frame, or a server that does not end the connection."""
        if isEncrypted(self._raw):
            self._raw.abortConnection()
        else:
            self._raw.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        if self.engine is not None:
            # It cancels its timers.
            self.engine._connectionLost(reason)
        self._lost(reason)


class WebSocketSessionServerFactory(SessionServerFactory):
    """
    WebSocket sessions for ``listenTCP``, ``listenUNIX``, ``endpoint.listen`` and ``adoptStreamConnection``.

    :param options: the paths, origins, subprotocols and compression.
    :param over: the factory of a service: it hears what this one's connections tell, and its keeper is shared.

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
        keeper = factory.keeper
        return cls(factory.newSession, options, over=factory, keeper=keeper, service=keeper.service)

    def startFactory(self) -> None:
        """A port begins to use it."""
        if self._over is not None:
            self._over.doStart()  # type: ignore[no-untyped-call]  # Twisted's

    def stopFactory(self) -> None:
        """No port uses it any more."""
        if self._over is not None:
            self._over.doStop()  # type: ignore[no-untyped-call]  # Twisted's

    def _hasRoom(self) -> bool:
        keeper = self.keeper
        return keeper.maxSessions is None or keeper.peers < keeper.maxSessions + MOST_ANSWERED or keeper.hasRoom()

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
