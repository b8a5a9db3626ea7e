"""WebSocket on the port of HTTP: the handshake, and the change of a connection from one protocol to the other."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

from getty_tx.errors import RefuseRequest
from getty_tx.http.answers import AnswerFields
from getty_tx.http.upgraded import WebSocketRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["UPGRADE_REQUIRED", "WebSocketUpgrade", "asksForWebSocket", "parseExtensions"]

#: RFC 6455, section 1.3.
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

#: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")

#: Fields that may not stand twice, and that no accepting application may set.
_ONCE = (b"sec-websocket-key", b"sec-websocket-version", b"origin")

#: What tells a client which WebSocket there is (RFC 6455, section 4.4, and RFC 9110, section 15.5.22).
UPGRADE_REQUIRED = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def asksForWebSocket(request: Request) -> bool:
    """Whether a request asks for WebSocket, in its right form or not."""
    upgrade = request.fields.upgrade
    return bool(upgrade) and b"websocket" in [name.strip() for name in upgrade.split(b",")]


class WebSocketUpgrade:
    """
    A WebSocket that a client asks for, and that is not accepted yet.

    Frames that the client sends already wait. Accept or refuse it now, or later; ``exchange.whenGone`` tells if the
    client goes before. To refuse it with an answer that is sent as it comes, use the exchange as for any request.

    :param request: for which :py:func:`asksForWebSocket` is true.
    :param exchange: its exchange.
    :raise RefuseRequest: it is malformed (400), or asks for another version (426). Nothing was answered.

    :ivar subprotocols: the subprotocols that the client offers, the preferred one first.
    :ivar origin: the page that the request comes from, as a browser says; empty: it is none of a browser.
    """

    __slots__ = ("_exchange", "_key", "isDecided", "origin", "request", "subprotocols")

    def __init__(self, request: Request, exchange: IExchange) -> None:
        self.request = request
        self._exchange = exchange
        self.isDecided = False
        self._key = _check(request)
        self.origin = request.header("Origin")
        offered = request.header("Sec-WebSocket-Protocol").split(",")
        self.subprotocols = [name.strip() for name in offered if name.strip()]

    def accept(
        self,
        newSession: Callable[[Any], object],
        *,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
        deflate: bool = True,
    ) -> None:
        """
        Answer with 101, and make the connection a WebSocket session.

        That happens soon, not before this returns, and not at all if the client has gone by then.

        :param newSession: configures the session, as that of a :py:class:`~getty_tx.Server` does: it sets ``codec`` and
            ``listener``. It may raise a :py:class:`~getty_tx.errors.RefuseRequest` to refuse it after all, and may be
            an ``async def``.
        :param subprotocol: one of ``subprotocols``; None: none.
        :param headers: fields of the answer besides those of the handshake.
        :param deflate: compress messages (permessage-deflate) if the client offers it.
        :raise GoneError: the client has gone, or an answer was given.
        :raise ValueError: the subprotocol was not offered, or a field cannot stand there.
        """
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise ValueError(f"the subprotocol {subprotocol!r} is none of {self.subprotocols}")
        fields = _answerFields(headers)
        # Autobahn is loaded where a WebSocket is served.
        from getty_tx.transports.websocket.upgraded import Agreement, UpgradedProtocol

        request, exchange = self.request, self._exchange
        context = exchange.context

        def makeAnswer(extensions: str | None) -> bytes:
            lines = [
                fields.prefix(101, context.dates),
                b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % _acceptFor(self._key),
            ]
            if subprotocol is not None:
                lines.append(b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode("ascii"))
            if extensions is not None:
                lines.append(b"Sec-WebSocket-Extensions: %b\r\n" % extensions.encode("ascii"))
            return b"".join([*lines, b"\r\n"])

        agreement = Agreement(
            WebSocketRequest(request, exchange.session.remoteAddr),
            newSession,
            subprotocol=subprotocol,
            extensions=parseExtensions(request.header("Sec-WebSocket-Extensions")) if deflate else (),
            makeAnswer=makeAnswer,
            answered=lambda status: exchange.handedOver(request, status),
        )

        def change() -> None:
            before: Any = exchange.session.connection
            UpgradedProtocol(context.webSocketOptions(), agreement).takeOver(before)

        exchange.handOver(request, change)
        self.isDecided = True

    def refuse(self, status: int, fields: AnswerFields, body: bytes = b"") -> None:
        """
        Answer with an ordinary answer, after which the connection goes on as HTTP.

        :raise GoneError: the client has gone, or an answer was given.
        """
        self._exchange.answer(self.request, status, fields, body)
        self.isDecided = True


def _check(request: Request) -> bytes:
    """The key of a handshake. :raise RefuseRequest: it is none that is served."""
    if request.method != "GET" or request.version != "1.1":
        raise RefuseRequest(400, "a WebSocket begins with GET of HTTP/1.1")
    if request.fields.length:
        raise RefuseRequest(400, "a request for a WebSocket has no body")
    seen = set()
    for name, value in request.fields.headers:
        if name.startswith(b"sec-websocket-") or name == b"origin":
            if not value.isascii():
                raise RefuseRequest(400, f"{name.decode('ascii')} is not ASCII")
            if name in _ONCE and name in seen:
                raise RefuseRequest(400, f"{name.decode('ascii')} stands twice")
            seen.add(name)
    values = request.fields.values
    if values.get(b"sec-websocket-version") != b"13":
        raise RefuseRequest(426, "the version of WebSocket is 13", headers=UPGRADE_REQUIRED)
    key = values.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise RefuseRequest(400, "Sec-WebSocket-Key has not 16 bytes in base64")
    return key


def _acceptFor(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())


def _answerFields(headers: Iterable[tuple[bytes, bytes]]) -> AnswerFields:
    """Fields that may stand in the answer. :raise ValueError: one may not."""
    pairs = list(headers)
    for name, _ in pairs:
        lower = name.lower()
        if lower.startswith(b"sec-websocket-") or lower in (b"upgrade", b"content-length"):
            raise ValueError(f"{bytes(name)!r} cannot be set: it belongs to the handshake")
    return AnswerFields(pairs)


def parseExtensions(text: str) -> list[tuple[str, dict[str, list[Any]]]]:
    """
    The offers in a Sec-WebSocket-Extensions (RFC 6455, section 9.1): the name, and for each parameter its values.

    A malformed offer is left out, as one that is not known.
    """
    found = []
    for offer in text.split(","):
        name, *parts = [part.strip() for part in offer.split(";")]
        parameters: dict[str, list[Any]] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            key, value = key.strip().lower(), value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if not _TOKEN.fullmatch(key) or (equals and not _TOKEN.fullmatch(value)):
                break
            parameters.setdefault(key, []).append(value if equals else True)
        else:
            if _TOKEN.fullmatch(name):
                found.append((name.lower(), parameters))
    return found
