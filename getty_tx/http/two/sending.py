"""Files as bodies of HTTP/2: read piece by piece, as the client has credit for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from getty_tx.errors import CodecError
from getty_tx.http.handlers import TURN
from getty_tx.session.buffers import CHUNK

if TYPE_CHECKING:
    from getty_tx.http.request import Request
    from getty_tx.http.two.exchange import Exchange

__all__ = ["sendFile"]


def sendFile(exchange: Exchange, request: Request, file: Any, offset: int, count: int) -> Deferred[int]:
    """
    Send a part of a file as the next bytes of the body. The file may be closed at once.

    :return: fires with the bytes when all were read, and no more wait than ``mustWait`` allows. It fails with a
        GoneError if the client goes, CodecError if the file is too short, OSError if it cannot be read.
    """
    try:
        # Of its own, so that the caller may close the file.
        number = os.dup(file.fileno())
    except OSError as error:
        return fail(error)
    return Deferred.fromCoroutine(_send(exchange, request, number, offset, count))


async def _send(exchange: Exchange, request: Request, number: int, offset: int, count: int) -> int:
    end = offset + count
    turn = 0
    try:
        while offset < end:
            data = os.pread(number, min(end - offset, CHUNK), offset)
            if not data:
                text = f"the file ended at byte {offset}, {end - offset} bytes before the end of what was to be sent"
                raise CodecError(text, exchange.session)
            exchange.write(request, data)
            offset += len(data)
            turn += len(data)
            if exchange.mustWait():
                await exchange.drained()
                turn = 0
            elif turn >= TURN:
                # Other connections have their turn.
                await deferLater(exchange.session.context.reactor, 0)
                turn = 0
    finally:
        os.close(number)
    return count
