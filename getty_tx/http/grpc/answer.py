"""The answer of a call that is served: its head, its replies and its status."""

from __future__ import annotations

from asyncio import CancelledError
from base64 import b64encode
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError as DeferredCancelled
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import ENCODINGS, deflated, frame, gzipped
from getty_tx.http.grpc.metadata import encodeMetadata
from getty_tx.http.grpc.status import Code, encodeText
from getty_tx.http.two.stream import Stream
from getty_tx.status.histogram import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.grpc.methods import Method
    from getty_tx.http.grpc.requests import Requests
    from getty_tx.http.grpc.serverconnection import CallConnection
    from getty_tx.http.grpc.servicercontext import Chosen
    from getty_tx.http.two.interfaces import Headers

__all__ = ["Answer"]

log = Logger()

_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK = ((b"grpc-status", b"0"),)
#: Members of enumerations are slow to ask for.
_DONE = Code.OK
_ENCODINGS = (b"grpc-accept-encoding", ENCODINGS)

#: Bytes of replies after which it is looked whether the client takes them.
LOOK = 16 * 1024

#: What makes the frames of each encoding.
_PACKERS: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzipped, b"deflate": deflated}


class Answer(Stream):
    """
    A stream of a client's call, as far as it is answered.

    :param isLast: there is no request.

    :ivar context: what the calls of the server share.
    :ivar headers: the header fields of the request.
    :ivar chosen: what the handler has said of the answer; None: nothing.
    :ivar method: what is called; None: it is not known yet, or there is none.
    :ivar requests: the requests, unless there is one that came whole.
    :ivar isAnswered: the status was sent, or is about to be.
    :ivar deadline: the time when the client waits no longer; 0: it waits as long as it takes.
    :ivar expiresAt: when the call is ended, a bit after that.
    """

    __slots__ = (
        "_data",
        "_hasHead",
        "_isLast",
        "_isRunning",
        "_pack",
        "_startedAt",
        "_task",
        "_unseen",
        "chosen",
        "context",
        "deadline",
        "expiresAt",
        "headers",
        "isAnswered",
        "method",
        "requests",
    )

    connection: CallConnection

    def __init__(self, connection: CallConnection, number: int, headers: Headers, isLast: bool) -> None:
        Stream.__init__(self, connection, number)
        self.context: ServerContext = connection.context
        self.headers = headers
        self._isLast = isLast
        self._data = b""
        self.method: Method | None = None
        self.requests: Requests | None = None
        self.isAnswered = self._hasHead = self._isRunning = False
        self.deadline = self.expiresAt = self._startedAt = 0.0
        self._task: Any = None
        # What compresses replies, and bytes of them since it was last looked whether the client takes them.
        self._pack: Callable[[bytes], bytes] | None = None
        self._unseen = 0
        self.chosen: Chosen | None = None

    # The answer

    def sendHead(self, metadata: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        Begin the answer.

        :raise RuntimeError: it has begun.
        """
        if self._hasHead or self.isAnswered:
            raise RuntimeError(f"{self}: the answer has begun already")
        self._hasHead = True
        chosen = self.chosen
        encoding = None if chosen is None else chosen.encoding
        if encoding is None:
            encoding = self.context.encoding
        head = [*_HEAD, *metadata]
        if encoding:
            accepted = dict(self.headers).get(b"grpc-accept-encoding", b"")
            if encoding in [each.strip() for each in accepted.split(b",")]:
                self._pack = _PACKERS[encoding]
                head.append((b"grpc-encoding", encoding))
        if not self.hasEnded:
            self.connection.engine.headers(self.number, head, False)
            self.connection.touch()

    def write(self, reply: Any) -> bool:
        """
        Send one reply.

        :return: whether to wait for :py:meth:`room` before the next one.
        :raise StatusError: it cannot be sent, or nothing can.
        """
        if self.hasEnded or self.isAnswered:
            raise StatusError(Code.CANCELLED, "the call has ended")
        return self.send(self.encode(reply))

    def encode(self, reply: Any) -> bytes:
        """The bytes of a reply. :raise StatusError: it has none."""
        assert self.method is not None
        try:
            return self.method.encode(reply)
        except Exception:
            log.failure("{call}: a reply cannot be encoded", call=self)
            raise StatusError(Code.INTERNAL, "the reply cannot be encoded") from None

    def send(self, message: bytes) -> bool:
        """As :py:meth:`write`, of bytes."""
        if not self._hasHead:
            self.sendHead()
        pack = self._pack
        chosen = self.chosen
        if pack is not None and chosen is not None and chosen.isNextPlain:
            pack, chosen.isNextPlain = None, False
        framed = frame(message) if pack is None else pack(message)
        connection = self.connection
        connection.engine.data(self.number, framed, False)
        connection.touch()
        self._unseen += len(framed)
        if self._unseen < LOOK:
            return False
        self._unseen = 0
        return self.mustWait()

    async def room(self) -> None:
        """Wait until more replies can be sent. :raise StatusError: the call has ended. CancelledError: this was."""
        try:
            await self.drained()
        except DeferredCancelled:
            raise
        except Exception:
            raise StatusError(Code.CANCELLED, "the call has ended") from None

    def reply(self, result: Any) -> None:
        """Send the one reply, and end the call."""
        if self.hasEnded or self.isAnswered:
            return
        if self.chosen is None and self.context.encoding is None and not self._hasHead:
            try:
                message = self.encode(result)
            except StatusError as error:
                self.failed(error)
                return
            self.isAnswered = True
            connection = self.connection
            connection.engine.answer(self.number, _HEAD, frame(message), _OK)
            if not self._isLast:
                connection.closing.append(self)
            connection.touch()
            self._count(_DONE)
            return
        chosen = self.chosen
        try:
            if chosen is None or (chosen.aborted is None and (chosen.code is Code.OK or result is not None)):
                self.send(self.encode(result))
        except StatusError as error:
            self.failed(error)
            return
        self.complete()

    def complete(self) -> None:
        """All replies were sent: end the call with what the handler has said, or with OK."""
        chosen = self.chosen
        if chosen is None:
            if not self._hasHead and not self.isAnswered:
                self.sendHead()
            self.end(_DONE)
        elif chosen.aborted is not None:
            self.failed(chosen.aborted)
        else:
            self.end(chosen.code, chosen.text, chosen.details, chosen.trailers)

    def failed(self, error: BaseException) -> None:
        """The handler has raised something: end the call with the status that belongs to it."""
        chosen = self.chosen
        if chosen is not None and chosen.aborted is not None:
            error = chosen.aborted
        if isinstance(error, StatusError) and error.code != Code.OK:
            try:
                trailers = encodeMetadata(error.trailers)
            except Exception:
                log.failure("{call}: the metadata of a status", call=self)
                trailers = []
            if chosen is not None:
                trailers = [*chosen.trailers, *trailers]
            self.end(error.code, error.text, error.details, trailers)
        elif isinstance(error, CancelledError | DeferredCancelled):
            self.end(Code.CANCELLED, "the call was cancelled")
        elif self.hasEnded or self.isAnswered:
            log.failure("{call}: failed after its client had gone", failure=Failure(error), call=self)
        elif chosen is not None and chosen.code is not Code.OK:
            if not isinstance(error, NotImplementedError):
                log.failure("{call}: failed", failure=Failure(error), call=self)
            self.end(chosen.code, chosen.text, chosen.details, chosen.trailers)
        else:
            log.failure("{call}: failed", failure=Failure(error), call=self)
            self.end(Code.UNKNOWN, "the method has failed", trailers=() if chosen is None else chosen.trailers)

    def end(
        self, code: Code, text: str = "", details: bytes = b"", trailers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send the status."""
        if self.hasEnded or self.isAnswered:
            return
        self.isAnswered = True
        fields = [(b"grpc-status", b"%d" % code)]
        if text:
            fields.append((b"grpc-message", encodeText(text)))
        if details:
            fields.append((b"grpc-status-details-bin", b64encode(details).rstrip(b"=")))
        fields += trailers
        connection = self.connection
        if self._hasHead:
            connection.engine.trailers(self.number, fields)
        else:
            connection.engine.headers(self.number, (*_HEAD, *fields), True)
        if not self._isLast:
            connection.closing.append(self)
        connection.touch()
        self._count(code)

    def _refuse(self, error: StatusError) -> None:
        """The call is none that could be served, or its requests are wrong."""
        fields = (_ENCODINGS,) if error.code is Code.UNIMPLEMENTED and "grpc-encoding" in error.text else ()
        self.end(error.code, error.text, error.details, fields)
        if self._task is not None:
            self._task.cancel()

    def _refuseHTTP(self, status: bytes) -> None:
        """It is no call of gRPC at all."""
        self.isAnswered = True
        fields = [(b":status", status)]
        if status == b"405":
            fields.append((b"allow", b"POST"))
        self.connection.engine.headers(self.number, fields, True)
        if not self._isLast:
            self.connection.closing.append(self)
        self.connection.touch()
        self.context.methods.countUnknown("http " + status.decode())

    def _count(self, code: Code) -> None:
        method = self.method
        if method is None:
            self.context.methods.countUnknown(code.name)
            return
        totals = method.totals
        if code:
            totals.fail(code.name)
            return
        totals.done += 1
        if self._startedAt:
            seconds = self.connection.seconds() - self._startedAt
            totals.seconds.counts[bisect_left(BOUNDS, seconds)] += 1
            totals.seconds.sum += seconds
