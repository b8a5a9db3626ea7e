"""
Autobahn's protocols, as *engines* of connections: handshake, control frames, fragments, compression and closing.

An engine has its connection for a transport, and its timers are on the wheel of the service.
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

from getty_tx.session.addresses import formatAddress
from getty_tx.transports.websocket.frames import COMPRESSED, CloseCode, wholeFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from autobahn.websocket.types import ConnectionRequest

    from getty_tx.session.context import ServiceContext
    from getty_tx.transports.websocket.protocol import WebSocketSessionProtocol
    from getty_tx.transports.websocket.request import UpgradeOptions
    from getty_tx.wheel import TimingWheel, WheelTimer

__all__ = ["ClientEngine", "ServerEngine", "cut", "makeSettings"]

#: What a compressor keeps per connection: 2**12 bytes of window, and memory of level 5, 37 KB instead of 268 (zlib.h).
WINDOW_BITS = 12
MEMORY_LEVEL = 5


# A client keeps its context if the server lets it: client_no_context_takeover, where it is named, says that we would go
# without (RFC 7692, section 7.1.1.2). The second offer is for servers that ask only those for it that name it.
_OFFERS = [PerMessageDeflateOffer(accept_no_context_takeover=False), PerMessageDeflateOffer()]


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

    def __init__(self, context: ServiceContext) -> None:
        self._wheel = context.wheel

    def call_later(self, delay: float, call: Callable[[], object]) -> _Call:
        return _Call(self._wheel, delay, call)


def makeSettings(context: ServiceContext, options: UpgradeOptions, isClient: bool) -> Any:
    """
    What Autobahn calls the factory: the options of all connections, as far as they have none of their own.

    Timeouts are 0, as they are the session's: handshakeTimeout, waitTime and cronPeriod, on the service's wheel.
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
            # What was not offered is refused (RFC 6455, section 4.1), as Autobahn's default does.
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
    # The one private attribute of Autobahn's factories that is replaced. tests.transports.websocket.test_frames sees
    # that it is there and is what all of its timers come from.
    settings._batched_timer = _Timers(context)
    options.made["settings"] = context, settings
    return settings


def _isOffer(name: str, parameters: dict[str, list[Any]]) -> bool:
    """Whether a client's extension is one to answer: all others are declined, where Autobahn refuses the connection."""
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:
        # RFC 7692, section 7.1. server_max_window_bits=8 is among them, which zlib cannot do.
        return False
    return True


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


def cut(reason: str) -> bytes:
    """As much of a reason as a Close frame has room for."""
    return reason.encode("utf-8", "replace")[:123].decode("utf-8", "ignore").encode()


class _FromSettings:
    """An option that the connection has from its settings unless it has its own. (Autobahn copies 26 to each.)"""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else getattr(instance.factory, self._name)


class Engine(WebSocketProtocol):
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

    def _fail_connection(self, code: int = CloseCode.GOING_AWAY, reason: str = "going away") -> None:
        if self.state == WebSocketProtocol.STATE_OPEN:
            self.failedByMe = True
            self.sendCloseFrame(code=code, reasonUtf8=cut(reason))
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


class ServerEngine(Engine, WebSocketServerProtocol):  # type: ignore[misc]
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
        self.websocket_extensions = [each for each in self.websocket_extensions if _isOffer(*each)]
        return chosen

    def perMessageCompressionAccept(self, offers: list[Any]) -> Any:
        """The settings' answer to an offer, and what it depends on in the offer that Autobahn does not tell."""
        accept = self.factory.perMessageCompressionAccept(offers)
        if accept is not None:
            # The first, which the settings take; onConnect has left no other extension.
            offer = self.websocket_extensions[0][1]
            # gorilla, and so each client of Getty in Go, takes no answer without it. Where it is not named, it is not
            # asked for, though RFC 7692 lets us: Tyrus passes over it and goes on with its context, ws refuses it under
            # clientNoContextTakeover: false, and all others would compress worse.
            accept.request_no_context_takeover = "client_no_context_takeover" in offer
        return accept

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


class ClientEngine(Engine, WebSocketClientProtocol):  # type: ignore[misc]
    CONFIG_ATTRS: list[str] = []

    def failHandshake(self, reason: str) -> None:
        """The server's answer is not the one that it should be."""
        self.connection.refuseUpgrade(reason, b"")


for _base in (WebSocketServerProtocol, WebSocketClientProtocol):
    for _name in _base.CONFIG_ATTRS:
        setattr(Engine, _name, _FromSettings(_name))
