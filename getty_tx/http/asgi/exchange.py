"""receive and send of one request."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import SessionError
from getty_tx.http.answers import AnswerFields, GoneError
from getty_tx.http.body import BodyLostError
from getty_tx.http.handlers import TURN

if TYPE_CHECKING:
    from asyncio import Future, Task
    from collections.abc import Iterable, Sequence

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request
    from getty_tx.reactors.guest import GuestLoop

__all__ = ["HTTPExchange", "asBytes", "isOfTheClient", "keptFields"]

log = Logger()

# What is awaited of the application.
_START, _FIRST, _MORE, _TRAILERS, _DONE = range(5)

#: Lists of header fields that are kept, at most: most applications have few.
MAX_FIELDS = 256


def keptFields(known: dict[Any, AnswerFields], headers: Iterable[Iterable[bytes]]) -> AnswerFields:
    """
    Check and encode header fields that an application has not sent before, or has sent as lists.

    :param known: those that were sent before, by their pairs; these are added.
    :raise ValueError: one of them cannot stand in a head.
    """
    key = tuple((bytes(name), bytes(value)) for name, value in headers)
    fields = known.get(key)
    if fields is None:
        fields = AnswerFields(key)
        if len(known) >= MAX_FIELDS:
            known.clear()
        known[key] = fields
    return fields


class HTTPExchange:
    """
    Carries the messages between an application and one request.

    :param loop: where the application runs.
    :param known: the header fields that the application has sent before, for ``keptFields``.
    """

    __slots__ = (
        "_exchange",
        "_fields",
        "_hasTrailers",
        "_isReceived",
        "_isTold",
        "_known",
        "_loop",
        "_request",
        "_stage",
        "_status",
        "_trailers",
        "_unyielded",
        "_waiting",
    )

    def __init__(self, request: Request, exchange: IExchange, loop: GuestLoop, known: dict[Any, AnswerFields]) -> None:
        self._request = request
        self._exchange = exchange
        self._loop = loop
        self._known = known
        self._stage = _START
        self._status = self._unyielded = 0
        self._fields: Any = None
        self._hasTrailers = self._isReceived = self._isTold = False
        self._trailers: Sequence[tuple[bytes, bytes]] = ()
        self._waiting: list[Future[None]] | None = None

    # receive

    async def receive(self) -> dict[str, Any]:
        """The next message: parts of the body, then that the client has gone or the answer is complete."""
        if not self._isReceived:
            content = self._request.content
            if content is not None:
                self._isReceived = True
                return {"type": "http.request", "body": content, "more_body": False}
            body = self._request.body
            assert body is not None
            # Two tasks may wait here, of which the other one may take the end.
            while not (self._isReceived or self._isOver):
                if not body.isReady:
                    body.whenReady(self._wake)
                    await self._awaken()
                    continue
                try:
                    data = body.take()
                except BodyLostError:
                    self._isReceived = True
                    return {"type": "http.disconnect"}
                self._isReceived = body.isEnded and not body.waiting
                return {"type": "http.request", "body": data, "more_body": not self._isReceived}
        while not self._isOver:
            if self._exchange.hasEnded:
                # As most do that go. It may wait for its answer all the same, but a stream that the application ends
                # for this reason must not look complete.
                self._isTold = True
                if self._stage >= _MORE:
                    self._exchange.session.abort()
                break
            self._exchange.whenGone(self._request, self._wake, orEnded=True)
            await self._awaken()
        return {"type": "http.disconnect"}

    @property
    def _isOver(self) -> bool:
        """The answer is complete, or the client has gone."""
        return self._stage == _DONE or not self._exchange.isServing(self._request)

    async def _awaken(self) -> None:
        """Wait for the next _wake."""
        future = self._loop.create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(future)
        try:
            await future
        finally:
            # Who looks often whether the client has gone cancels this each time.
            if self._waiting and future in self._waiting:
                self._waiting.remove(future)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_result(None)

    # send

    async def send(self, message: dict[str, Any]) -> None:
        """
        Take a message.

        :raise RuntimeError: it is not its turn.
        :raise OSError: the client has gone.
        """
        kind = message["type"]
        stage = self._stage
        if kind == "http.response.start" and stage == _START:
            status = self._status = message["status"]
            if not 200 <= status <= 999:
                raise ValueError(f"{status} is no status of an answer")
            headers = tuple(message.get("headers", ()))
            try:
                self._fields = self._known[headers]
            except (KeyError, TypeError):
                self._fields = keptFields(self._known, headers)
            self._hasTrailers = message.get("trailers", False)
            self._stage = _FIRST
        elif kind == "http.response.body" and _FIRST <= stage <= _MORE:
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = asBytes(body)
            more = message.get("more_body", False)
            if stage == _FIRST:
                if not more and not self._hasTrailers:
                    self._exchange.answer(self._request, self._status, self._fields, body)
                    self._complete()
                    return
                self._startStream()
            self._exchange.write(self._request, body)
            if more:
                if stage == _FIRST and not body:
                    self._exchange.flush(self._request)
                self._unyielded += len(body)
                if self._exchange.mustWait():
                    await self._drained()
                elif self._unyielded >= TURN:
                    self._unyielded = 0
                    await asyncio.sleep(0)
            elif self._hasTrailers:
                self._stage = _TRAILERS
            else:
                self._exchange.end(self._request)
                self._complete()
        elif kind == "http.response.pathsend" and stage == _FIRST:
            await self._sendPath(message["path"])
        elif kind == "http.response.trailers" and stage == _TRAILERS:
            self._sendTrailers(message)
        elif kind == "http.response.early_hint" and stage <= _FIRST:
            links = [(b"Link", bytes(link)) for link in message.get("links", ())]
            self._exchange.inform(self._request, 103, AnswerFields(links))
        elif stage != _DONE and not self._exchange.isServing(self._request):
            raise GoneError(f"{self._request}: the client has gone")
        else:
            raise RuntimeError(f"{self._request}: the message {kind!r} is out of turn, {_EXPECTED[stage]}")

    def _sendTrailers(self, message: dict[str, Any]) -> None:
        """Send those of all messages when the last one has come."""
        trailers = [*self._trailers, *((bytes(name), bytes(value)) for name, value in message.get("headers", ()))]
        if message.get("more_trailers", False):
            self._trailers = trailers
        else:
            self._exchange.end(self._request, trailers)
            self._complete()

    def _startStream(self) -> None:
        if self._isTold:
            self._exchange.session.abort()
            raise GoneError(f"{self._request}: the client has ended its side, and gets no stream")
        self._exchange.start(self._request, self._status, self._fields)
        self._stage = _MORE

    def _complete(self) -> None:
        self._stage = _DONE
        if self._waiting:
            self._wake()

    async def _drained(self) -> None:
        try:
            await self._exchange.drained().asFuture(self._loop)
        except SessionError as error:
            raise GoneError(str(error)) from None

    async def _sendPath(self, path: str) -> None:
        """Send a file."""
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._exchange.start(self._request, self._status, self._fields, size)
            self._stage = _MORE
            if size and self._request.method != "HEAD":
                try:
                    await self._exchange.writeFile(self._request, file, 0, size).asFuture(self._loop)
                except SessionError as error:
                    raise GoneError(str(error)) from None
        self._exchange.end(self._request)
        self._complete()

    # The end of the application

    def ended(self, task: Task[Any]) -> None:
        """The application has returned, or failed."""
        if self._stage == _DONE and not task.cancelled() and task.exception() is None:
            return
        request, exchange = self._request, self._exchange
        isServing = exchange.isServing(request)
        error: BaseException | None
        if task.cancelled():
            error = RuntimeError("the application was cancelled")
        else:
            error = task.exception()
            if error is None:
                if not isServing:
                    return
                if exchange.hasEnded:
                    # It was told that the client has gone.
                    exchange.session.abort()
                    return
                body = request.body
                # Who is told of a disconnect has nobody to answer: the client has sent what is no body.
                error = None if body is None else body.lost
                if error is None:
                    error = RuntimeError("the application has returned before its answer was complete")
        self._stage = _DONE
        if isServing:
            exchange.fail(request, error)
        elif not (task.cancelled() or isOfTheClient(error)):
            log.failure("{request}: the application failed", failure=Failure(error), request=request)


def asBytes(value: Any) -> bytes:
    """What an application sends. :raise TypeError: it is no bytes; of a number, bytes() would make zeros."""
    return value if type(value) is bytes else bytes(memoryview(value))


def isOfTheClient(error: BaseException | None) -> bool:
    """Whether an application has failed for the reason that its client has gone."""
    if isinstance(error, BaseExceptionGroup):
        return all(isOfTheClient(each) for each in error.exceptions)
    while error is not None and not isinstance(error, GoneError | BodyLostError):
        error = error.__cause__
    return error is not None


_EXPECTED = (
    "as http.response.start is awaited",
    "as http.response.body is awaited",
    "as http.response.body is awaited",
    "as http.response.trailers is awaited",
    "as the answer is complete",
)
