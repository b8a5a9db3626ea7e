"""A 503 for connections that are refused before their handshake, which the context does not count."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from getty_tx.session.refusals import MOST_ANSWERED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.session.context import ServiceContext

__all__ = ["MAX_HANDSHAKE", "Refuser", "answerTo"]

#: Bytes of a handshake above which it is refused. Browsers with many cookies send a quarter of that.
MAX_HANDSHAKE = 64 * 1024


def answerTo(status: int, phrase: str, headers: Mapping[str, str]) -> bytes:
    """An answer that ends the connection, and has no body; without a phrase it has the status's own."""
    if not phrase:
        phrase = next((each.phrase for each in HTTPStatus if each == status), "Refused")
    fields = {**headers, "Connection": "close", "Content-Length": "0"}
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class Refuser:
    """
    Waits for the end of a request, as long as a handshake may take, and answers 503.

    The request is read first: bytes that are unread at the end make it a reset, which may take the answer along.

    :param context: has room for MOST_ANSWERED of them.
    :param transport: the connection's transport.
    """

    def __init__(self, context: ServiceContext, transport: Any) -> None:
        self._context = context
        self._transport = transport
        self._end = b""
        self._read = 0
        self._isAnswered = False
        self._timer = context.wheel.schedule(context.handshakeTimeout, _timedOut, self)
        context.answering.add(self)

    @staticmethod
    def hasRoom(context: ServiceContext) -> bool:
        """False if as many are answered as may be at a time."""
        return not context.closing and len(context.answering) < MOST_ANSWERED

    def receive(self, data: bytes) -> None:
        """Bytes of the request arrived."""
        if self._isAnswered:
            return
        self._read += len(data)
        seen = self._end + data
        if b"\r\n\r\n" in seen:
            self._isAnswered = True
            self._transport.write(answerTo(503, "", {}))
            self._transport.loseConnection()
        elif self._read > MAX_HANDSHAKE:
            self.abort()
        self._end = seen[-3:]

    def lost(self) -> None:
        """The connection has ended."""
        self._timer.stop()
        self._context.answering.discard(self)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abortConnection()


def _timedOut(refuser: Refuser) -> None:
    refuser.abort()
