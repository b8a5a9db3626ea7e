"""Handlers: functions of a request, and what becomes of what they return."""

from __future__ import annotations

from inspect import isasyncgen, iscoroutine, isgenerator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from getty_tx.errors import RefuseRequest, SessionError
from getty_tx.http.answers import NO_FIELDS, GoneError
from getty_tx.http.body import tooLarge
from getty_tx.http.interfaces import IApplication
from getty_tx.http.response import BYTES, JSON, TEXT, Response, encodeJSON

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

#: Bytes of one answer that are sent before other connections have their turn, however fast its client is.
TURN = 256 * 1024

__all__ = ["Handler", "respond", "run"]


@implementer(IApplication)
class Handler:
    """
    An application of one handler, whatever the path and the method.

    :param handler: ``handler(request)``, ``def`` or ``async def``.
    """

    def __init__(self, handler: Callable[[Request], Any]) -> None:
        if not callable(handler):
            raise TypeError(f"{handler!r} is no handler: give a function of a request")
        self._handler = handler

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Call the handler."""
        run(self._handler, request, exchange, exchange.context._maxBody)


def run(handler: Callable[[Request], Any], request: Request, exchange: IExchange, limit: int | None) -> None:
    """
    Call a handler when the body is complete.

    :param limit: bytes of the body, at most; None: no limit.
    """
    content = request.content
    if content is None:
        Deferred.fromCoroutine(_gathered(handler, request, exchange, limit)).addErrback(_failed, request, exchange)
    elif limit is not None and len(content) > limit:
        raise tooLarge(limit)
    else:
        respond(handler(request), request, exchange)


async def _gathered(
    handler: Callable[[Request], Any], request: Request, exchange: IExchange, limit: int | None
) -> None:
    body = request.body
    assert body is not None
    request.content = await body.read(limit)
    respond(handler(request), request, exchange)


def respond(result: Any, request: Request, exchange: IExchange) -> None:
    """Answer with what a handler has returned, now or later. :raise Exception: it is no answer."""
    kind = type(result)
    if kind is bytes:
        exchange.answer(request, 200, BYTES, result)
    elif kind is Response and not result.isStream:
        exchange.answer(request, result.status, result.fields, result.body)
    elif iscoroutine(result):
        waiting: Deferred[Any] = Deferred.fromCoroutine(result)
        waiting.addCallback(_answer, request, exchange).addErrback(_failed, request, exchange)
    else:
        _answer(result, request, exchange)


def _answer(result: Any, request: Request, exchange: IExchange) -> Any:
    """Answer with what a handler has returned."""
    if isinstance(result, bytes):
        exchange.answer(request, 200, BYTES, result)
    elif isinstance(result, str):
        exchange.answer(request, 200, TEXT, result.encode("utf-8"))
    elif isinstance(result, dict | list):
        exchange.answer(request, 200, JSON, encodeJSON(result))
    elif isinstance(result, Response):
        if result.isStream:
            exchange.start(request, result.status, result.fields)
            return _begin(result.body, request, exchange)
        exchange.answer(request, result.status, result.fields, result.body)
    elif isasyncgen(result) or isgenerator(result):
        exchange.start(request, 200, BYTES)
        return _begin(result, request, exchange)
    elif isinstance(result, Deferred):
        return result.addCallback(_answer, request, exchange).addErrback(_failed, request, exchange)
    elif result is None:
        exchange.answer(request, 204, NO_FIELDS, b"")
    else:
        raise TypeError(
            f"the handler of {request} returned {type(result).__name__}: return bytes, str, a dict or list for JSON,"
            " a Response, or an iterable of bytes"
        )
    return None


def _begin(parts: Any, request: Request, exchange: IExchange) -> None:
    sending = _sendAsync if hasattr(parts, "__aiter__") else _send
    Deferred.fromCoroutine(sending(parts, request, exchange)).addErrback(_failed, request, exchange)


async def _sendAsync(parts: Any, request: Request, exchange: IExchange) -> None:
    """Send what an async iterable gives; it is asked for more when the client takes it."""
    size = 0
    try:
        async for part in parts:
            size = await _sendPart(part, size, request, exchange)
    finally:
        close = getattr(parts, "aclose", None)
        # It still runs where what it waits for is garbage: the interpreter ends both then.
        if close is not None and not getattr(parts, "ag_running", False):
            await close()
    exchange.end(request)


async def _send(parts: Any, request: Request, exchange: IExchange) -> None:
    size = 0
    try:
        for part in parts:
            size = await _sendPart(part, size, request, exchange)
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    exchange.end(request)


async def _sendPart(part: Any, size: int, request: Request, exchange: IExchange) -> int:
    """
    Send a part, and wait if the client does not take it, or if it is the turn of other connections.

    :param size: bytes that were sent since it was waited.
    :return: the same, with this part.
    """
    data = part.encode("utf-8") if isinstance(part, str) else part
    exchange.write(request, data)
    size += len(data)
    if exchange.mustWait():
        await exchange.drained()
        return 0
    if size >= TURN:
        await deferLater(exchange.session.context.reactor, 0)
        return 0
    return size


def _failed(failure: Failure, request: Request, exchange: IExchange) -> None:
    error = failure.value
    assert error is not None
    if not exchange.isServing(request) and isinstance(error, GoneError | RefuseRequest | SessionError):
        return
    exchange.fail(request, error)
