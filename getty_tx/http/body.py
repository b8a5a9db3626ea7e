"""The body of a request as it comes, with back-pressure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from getty_tx.errors import GettyError, RefuseRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["MAX_DISCARD", "Body", "BodyLostError", "BodyPart"]

#: Bytes that wait to be taken. Above the first the client is read no more, below the second it is read again.
HIGH_WATER = 64 * 1024
LOW_WATER = 16 * 1024

#: Bytes of a body that nobody takes which are read all the same, to keep the connection; Go has the same.
MAX_DISCARD = 256 * 1024


class BodyLostError(GettyError, OSError):
    """The client has gone, or has sent what is no body, before the end of the body."""


class BodyPart:
    """
    A package: a part of a body.

    :ivar data: its bytes.
    :ivar isLast: no other part follows.
    :ivar trailers: the fields behind the last part, names in lower case.
    """

    __slots__ = ("data", "isLast", "trailers")

    def __init__(self, data: bytes, isLast: bool, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.data = data
        self.isLast = isLast
        self.trailers = trailers


class Body:
    """
    The parts of a body that have come and were not taken yet.

    ``async for`` gives them as bytes. An application that does not wait with Deferreds uses :py:meth:`take` and
    :py:meth:`whenReady`.

    :ivar size: bytes that have come.
    :ivar waiting: bytes that wait to be taken.
    :ivar isEnded: the last part has come.
    :ivar isWanted: somebody has asked for a part, so that the client is to send it.
    :ivar lost: why no more will come.
    :ivar trailers: the fields behind the body, names in lower case.
    """

    __slots__ = (
        "_parts",
        "_ready",
        "_request",
        "isEnded",
        "isUnwanted",
        "isWanted",
        "lost",
        "size",
        "trailers",
        "waiting",
    )

    def __init__(self, request: Request) -> None:
        self._request = request
        self._parts: deque[bytes] = deque()
        self._ready: Callable[[], object] | None = None
        self.size = self.waiting = 0
        self.isEnded = self.isWanted = self.isUnwanted = False
        self.lost: BaseException | None = None
        self.trailers: list[tuple[bytes, bytes]] = []

    # From the connection

    def feed(self, part: BodyPart) -> bool:
        """A part has come. :return: the client is to be read no more for now."""
        size = len(part.data)
        self.size += size
        if size and not self.isUnwanted:
            self._parts.append(part.data)
            self.waiting += size
        if part.isLast:
            self.isEnded = True
            if part.trailers:
                self.trailers = part.trailers
        if size or part.isLast:
            self._wake()
        return self.waiting > HIGH_WATER

    def lose(self, error: BaseException) -> None:
        """No more will come."""
        if not self.isEnded and self.lost is None:
            self.lost = error
            self._wake()

    def drop(self) -> None:
        """The answer is complete: nobody takes what comes from now on."""
        self.isUnwanted = True
        self._parts.clear()
        self.waiting = 0

    def _wake(self) -> None:
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    # For applications

    @property
    def isReady(self) -> bool:
        """Whether :py:meth:`take` has an answer now."""
        return bool(self._parts) or self.isEnded or self.lost is not None

    def take(self) -> bytes:
        """
        Take the next part; empty at the end of the body.

        :raise BodyLostError: no more will come.
        """
        parts = self._parts
        if parts:
            data = parts.popleft()
            before, self.waiting = self.waiting, self.waiting - len(data)
            if before > HIGH_WATER >= self.waiting or before > LOW_WATER >= self.waiting:
                self._exchange.bodyTaken(self._request)
            return data
        if self.lost is not None:
            raise self.lost
        return b""

    def whenReady(self, call: Callable[[], object]) -> None:
        """Call ``call()`` once when :py:attr:`isReady`; the client is asked to send the body if it waits for that."""
        self._want()
        if self.isReady:
            call()
        else:
            self._ready = call

    def _want(self) -> None:
        if not self.isWanted:
            self.isWanted = True
            self._exchange.wantBody(self._request)

    @property
    def _exchange(self) -> IExchange:
        return self._request.exchange

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if not self.isReady:
            ready: Deferred[None] = Deferred()
            self.whenReady(lambda: ready.callback(None))
            await ready
        data = self.take()
        if not data:
            raise StopAsyncIteration
        return data

    async def read(self, limit: int | None) -> bytes:
        """
        Read all that is left.

        :param limit: bytes, at most; None: no limit.
        :raise RefuseRequest: there is more; the answer is 413.
        :raise BodyLostError: the client has gone before the end.
        """
        length = self._request.fields.length
        if limit is not None and length > limit:
            raise tooLarge(limit)
        parts = []
        size = 0
        async for data in self:
            size += len(data)
            if limit is not None and size > limit:
                raise tooLarge(limit)
            parts.append(data)
        return b"".join(parts)


def whole(request: Request) -> Body:
    """The body of a request of which all came with the head, for who takes it as it comes."""
    body = Body(request)
    body.isWanted = True
    body.feed(BodyPart(request.content or b"", True))
    return body


def tooLarge(limit: int) -> RefuseRequest:
    """What refuses a body of more than ``limit`` bytes."""
    return RefuseRequest(413, f"the body has more than {limit} bytes")
