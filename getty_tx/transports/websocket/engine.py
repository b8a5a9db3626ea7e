"""
Autobahn's protocols as *engines* of connections: handshake, control frames, fragments, compression and closing.

The connection is the transport of its engine, and the engine's timers are on the wheel of the service.
"""

from __future__ import annotations

from http import HTTPStatus
from sys import intern
from typing import TYPE_CHECKING, Any, Protocol

from autobahn.twisted.websocket import WebSocketClientProtocol, WebSocketServerProtocol
from autobahn.websocket.compress import (
    PerMessageDeflate,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.protocol import WebSocketClientFactory, WebSocketProtocol, WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny

from getty_tx.session.addresses import formatAddress
from getty_tx.session.pausing import CLOSED
from getty_tx.transports.websocket.frames import COMPRESSED, CloseCode, wholeFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from autobahn.websocket.types import ConnectionRequest
    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.session.context import ServiceContext
    from getty_tx.transports.websocket.request import UpgradeOptions
    from getty_tx.wheel import TimingWheel, WheelTimer

__all__ = ["ClientEngine", "EngineConnection", "ServerEngine", "cut", "makeSettings"]

#: A compressor has a window of 2**12 bytes and memory level 5: 37 KB for a connection instead of 268 (zlib.h).
WINDOW_BITS = 12
MEMORY_LEVEL = 5

# A client keeps its compression context if the server allows it. client_no_context_takeover in an offer says that the
# client would do without (RFC 7692, section 7.1.1.2). Some servers require that only from clients whose offer names it:
# the second offer is for them.
_OFFERS = [PerMessageDeflateOffer(accept_no_context_takeover=False), PerMessageDeflateOffer()]


class _Call:
    """A delayed call of Autobahn on the wheel of the service."""

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
    """Replaces Autobahn's ``_batched_timer``, which uses the installed reactor and outlives its connections."""

    def __init__(self, context: ServiceContext) -> None:
        self._wheel = context.wheel

    def call_later(self, delay: float, call: Callable[[], object]) -> _Call:
        return _Call(self._wheel, delay, call)


def makeSettings(context: ServiceContext, options: UpgradeOptions, isClient: bool) -> Any:
    """
    What Autobahn calls the factory: the options of all connections that do not override them.

    Autobahn's timeouts are 0, because the session has its own: handshakeTimeout, waitTime and cronPeriod.
    """
    known = options.made.get("settings")
    if known is not None and known[0] is context:
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
            perMessageCompressionOffers=_OFFERS if options.deflate else [],
            # An extension that was not offered is refused (RFC 6455, section 4.1), as by Autobahn's default.
            perMessageCompressionAccept=_acceptResponse if options.deflate else None,
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
    # The only private attribute of Autobahn's factories that is replaced. tests.transports.websocket.test_frames checks
    # that it exists and that all of Autobahn's timers come from it.
    settings._batched_timer = _Timers(context)
    options.made["settings"] = context, settings
    return settings


def _isOffer(name: str, parameters: dict[str, list[Any]]) -> bool:
    """Whether to answer this extension of a client. Others are declined; Autobahn would refuse the connection."""
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:
        # RFC 7692, section 7.1. One such parameter is server_max_window_bits=8, which zlib does not support.
        return False
    return True


def _acceptOffer(offers: list[Any]) -> Any:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                # 0 asks nothing of the client: the answer may not exceed the number in its offer, which Autobahn does
                # not pass on (RFC 7692, section 7.1.2.2).
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


def cut(reason: str) -> bytes:
    """A reason, cut to the 123 bytes that fit into a Close frame."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()


class _FromSettings:
    """An option that an engine reads from its settings unless it has its own. (Autobahn copies 26 to each engine.)"""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance.factory, self._name)


class EngineConnection(Protocol):
    """What an engine calls of its connection."""

    factory: Any
    path: str
    subprotocol: str | None

    @property
    def context(self) -> ServiceContext:
        """The context of the service."""

    @property
    def options(self) -> UpgradeOptions:
        """The options of the handshake."""

    @property
    def inbound(self) -> Any:
        """The session's MessageInbound."""

    def getRemoteAddr(self) -> IAddress:
        """The peer's address."""

    def checkCapacity(self) -> None:
        """Raise ConnectionDeny if the limits allow no more sessions."""

    def handshakeRefused(self, reason: str, answer: bytes) -> None:
        """The handshake has failed; ``answer`` is sent to the peer."""

    def handshakeSucceeded(self) -> None:
        """The handshake is done."""

    def protocolViolated(self, code: int, reason: str) -> None:
        """The peer has violated the protocol, and was told so."""

    def closeFrameReceived(self, code: int | None, reason: str) -> None:
        """The peer's Close frame was received and answered."""

    def controlFrameReceived(self, length: int) -> None:
        """A ping or a pong with ``length`` bytes was received."""

    def pingTimedOut(self, sure: bool) -> None:
        """A ping was not answered in time; ``sure``: for the second time."""

    def engineDone(self, abort: bool) -> None:
        """The engine asks to close the connection."""


class Engine(WebSocketProtocol):
    """
    The differences to Autobahn's protocols that both sides share.

    Autobahn's interface to a network framework consists of methods with an underscore (``_onOpen``, ``_onMessage``,
    ``_closeConnection``). They are overridden in the same way as in its adapters for Twisted and asyncio.
    """

    connection: EngineConnection
    # True if messages are compressed.
    compresses = False
    autoPingPendingCall: Any
    autoPingTimeoutCall: Any
    current_frame: Any = None
    inside_message = False
    message_data: Any
    _perMessageCompress: Any

    #: The code and the reason of the peer's Close frame; None: it has sent none.
    peerStatus: tuple[int | None, str] = (None, "")

    def __init__(self, connection: EngineConnection, settings: Any) -> None:
        super().__init__()
        self.connection = connection
        self.transport = connection
        self.factory = settings
        self.peer = formatAddress(connection.getRemoteAddr())

    # For the connection and the inbound

    def begin(self) -> None:
        """The connection is made: start the handshake."""
        self._connectionMade()

    def feed(self, data: bytes) -> None:
        """Read bytes of the handshake."""
        self._dataReceived(data)

    def end(self, reason: Failure) -> None:
        """The connection was lost: cancel the timers."""
        self._connectionLost(reason)  # type: ignore[arg-type]  # Autobahn makes a text of it

    def startPings(self, period: float) -> None:
        """Ping every ``period`` seconds from now on, as Autobahn does if the period is known before the handshake."""
        self.autoPingInterval = self.autoPingTimeout = period
        if self.autoPingPendingCall is not None:
            self.autoPingPendingCall.cancel()
        if self.autoPingTimeoutCall is not None:
            self.autoPingTimeoutCall.cancel()
            self.autoPingTimeoutCall = None
        self.autoPingPendingCall = _Call(self.connection.context.wheel, period, self._sendAutoPing)

    def awaitPong(self, seconds: float) -> None:
        """Wait longer for the answer to a ping. Any data cancels this, like the first timeout."""
        self.autoPingTimeoutCall = _Call(self.connection.context.wheel, seconds, self._pongMissing)

    def _pongMissing(self) -> None:
        self.autoPingTimeoutCall = None
        self.connection.pingTimedOut(True)

    def cancelPingTimeout(self) -> None:
        """
        The peer has sent data, so it is alive.

        The engine does this itself for messages that it reads, by the name that is called here. The PingTests of
        tests.transports.websocket.test_session need the name.
        """
        self._cancelAutoPingTimeoutCall()  # type: ignore[no-untyped-call]  # Autobahn's

    # For Autobahn

    def _onOpen(self) -> None:
        # Set if a compression was negotiated; it has no public name.
        self.compresses = self._perMessageCompress is not None
        # The texts of the handshake are not needed any more, and take two kilobytes for a connection.
        self.http_request_data = self.http_response_data = b""
        self.connection.handshakeSucceeded()

    def compressed(self, first: int, payload: bytes) -> bytes:
        """A frame with the payload compressed."""
        compress = self._perMessageCompress
        compress.start_compress_message()
        payload = compress.compress_message_data(payload) + compress.end_compress_message()
        return wholeFrame(first | COMPRESSED, payload, self.connection.factory.isClient)

    @property
    def windowBits(self) -> int:
        """The window of the peer's decompressor has 2**windowBits bytes. There is compression, on a server."""
        bits: int = self._perMessageCompress.server_max_window_bits
        return bits

    def onMessageEnd(self) -> None:
        """A message is complete that was not read on the short path."""
        if not self.failedByMe:
            self.connection.inbound.messageReceived(b"".join(self.message_data), not self.message_is_binary)
        self.message_data = None

    def _fail_connection(self, code: int = CloseCode.GOING_AWAY, reason: str = "going away") -> None:
        if self.state == WebSocketProtocol.STATE_OPEN:
            # The messages before it come first, as long as the session can answer them.
            inbound = self.connection.inbound
            if inbound.deliverGathered() and inbound.paused & CLOSED:
                # Their listener has closed the session, which reads no more.
                return
            self.failedByMe = True
            self.sendCloseFrame(code=code, reasonUtf8=cut(reason))
            self.connection.protocolViolated(code, reason)
        # Autobahn drops the connection on further errors in the frame. Here the peer's Close frame is awaited.

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        """The peer's Close frame."""
        result = super().onCloseFrame(code, reasonRaw)
        # Where there is no code, Autobahn's own attribute has 1000.
        self.peerStatus = CloseCode.NO_STATUS if code is None else int(code), self.remoteCloseReason or ""
        self.connection.closeFrameReceived(
            None if self.failedByMe else self.remoteCloseCode, self.remoteCloseReason or ""
        )
        return result

    def onPing(self, payload: bytes) -> None:
        """The peer's ping."""
        self.connection.controlFrameReceived(len(payload))
        super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        """The peer's answer to a ping."""
        self.connection.controlFrameReceived(len(payload))

    def onAutoPingTimeout(self) -> None:
        """A ping was not answered."""
        self.autoPingTimeoutCall = None
        self.connection.pingTimedOut(False)

    def _closeConnection(self, abort: bool = False) -> None:
        self.connection.engineDone(abort)

    def unregisterProducer(self) -> None:
        """Called by Autobahn before it drops a connection. Does nothing, because producers belong to the outbound."""


class ServerEngine(Engine, WebSocketServerProtocol):  # type: ignore[misc]
    CONFIG_ATTRS: list[str] = []

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """A valid request has arrived: check its path and origin, and choose the subprotocol."""
        options = self.connection.options
        if request.path not in options.paths:
            raise ConnectionDeny(404, "no such path")
        if not options.allows(request.origin or ""):
            raise ConnectionDeny(403, f"origin {request.origin!r} is not allowed")
        self.connection.checkCapacity()
        self.connection.path = intern(request.path)
        chosen = options.choose(request.protocols)
        self.connection.subprotocol = chosen
        self.websocket_extensions = [each for each in self.websocket_extensions if _isOffer(*each)]
        return chosen

    def perMessageCompressionAccept(self, offers: list[Any]) -> Any:
        """The answer to an offer. One parameter depends on a part of the offer that Autobahn does not pass on."""
        accept = self.factory.perMessageCompressionAccept(offers)
        if accept is not None:
            # The settings take the first offer, and onConnect has removed all other extensions.
            offer = self.websocket_extensions[0][1]
            # gorilla, and so each client of Getty in Go, accepts no answer without this parameter. If the offer does
            # not name it, it is not required, although RFC 7692 allows that: Tyrus ignores it and keeps its context,
            # ws refuses it under clientNoContextTakeover: false, and all others would compress less.
            accept.request_no_context_takeover = "client_no_context_takeover" in offer
        return accept

    def agree(self, subprotocol: str | None, extensions: Sequence[tuple[str, dict[str, list[Any]]]]) -> str | None:
        """
        Take what another handshake has agreed on, instead of Autobahn's.

        What Autobahn's ``succeedHandshake`` sets is set here. Of it, ``_perMessageCompress`` has no public name;
        tests.transports.websocket.test_upgraded needs it, and that nothing else is set there.

        :param extensions: what the client offers.
        :return: the value of Sec-WebSocket-Extensions; None: there is no extension.
        """
        self.websocket_version = 13
        self.websocket_protocol_in_use = subprotocol
        self.websocket_extensions = [each for each in extensions if _isOffer(*each)]
        self.websocket_extensions_in_use: list[Any] = []
        if not self.websocket_extensions:
            return None
        accept = self.perMessageCompressionAccept([PerMessageDeflateOffer.parse(self.websocket_extensions[0][1])])
        if accept is None:
            return None
        self._perMessageCompress = PerMessageDeflate.create_from_offer_accept(True, accept)
        self.websocket_extensions_in_use.append(self._perMessageCompress)
        text: str = accept.get_extension_string()
        return text

    def open(self) -> None:
        """Go on as Autobahn does when its handshake has succeeded."""
        self.state = WebSocketProtocol.STATE_OPEN
        self.inside_message = False
        self.current_frame = None
        self._onOpen()

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Answer with an HTTP error."""
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
        self.connection.handshakeRefused(f"{code}, {reason}", "\r\n".join([*lines, "", ""]).encode("ascii", "replace"))


class ClientEngine(Engine, WebSocketClientProtocol):  # type: ignore[misc]
    CONFIG_ATTRS: list[str] = []

    def failHandshake(self, reason: str) -> None:
        """The server's answer is invalid."""
        self.connection.handshakeRefused(reason, b"")


for _base in (WebSocketServerProtocol, WebSocketClientProtocol):
    for _name in _base.CONFIG_ATTRS:
        setattr(Engine, _name, _FromSettings(_name))
