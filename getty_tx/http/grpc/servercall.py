"""A call that is served: its stream, its messages, and what runs for it."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.http.grpc.messages import frame
from getty_tx.http.grpc.servicercontext import ServicerContext
from getty_tx.http.grpc.status import Code, encodeText
from getty_tx.http.two.stream import Stream

if TYPE_CHECKING:
    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.grpc.methods import Method
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.server import ServerConnection

log = Logger()

_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK = ((b"grpc-status", b"0"),)


class ServerCall(Stream):
    __slots__ = ("_data", "_isLast", "_server", "context", "headers", "method", "state", "task")

    def __init__(
        self, connection: ServerConnection, number: int, headers: Headers, isLast: bool, context: ServerContext
    ) -> None:
        super().__init__(connection, number)
        self._server = connection
        self.context = context
        self.headers = headers
        self._isLast = isLast
        self._data = b""
        self.method: Method | None = None
        self.state = 0
        self.task: Any = None

    def dataCame(self, data: bytes, isLast: bool) -> None:
        self._isLast |= isLast
        self._data += data
        if self.method is not None and self._isLast:
            self._unary()

    def begin(self) -> None:
        fields = dict(self.headers)
        method = self.method = self.context.methods.byPath.get(fields.get(b":path", b""))
        if method is None:
            self.end(Code.UNIMPLEMENTED, "no such method")
            return
        if self._isLast:
            self._unary()

    def _unary(self) -> None:
        data = self._data
        method = self.method
        assert method is not None
        try:
            result = method.behavior(method.decode(data[5:]), ServicerContext(self))
        except Exception as error:
            self.failed(error)
            return
        if type(result) is CoroutineType:
            self.task = self.context.loop.start(self._await(result))
        else:
            self._reply(result)

    async def _await(self, result: Any) -> None:
        try:
            self._reply(await result)
        except Exception as error:
            self.failed(error)

    def _reply(self, result: Any) -> None:
        assert self.method is not None
        if self.hasEnded:
            return
        message = self.method.encode(result)
        engine, number = self.connection.engine, self.number
        engine.headers(number, _HEAD, False)
        engine.data(number, frame(message), False)
        engine.trailers(number, _OK)
        self.connection.touch()

    def failed(self, error: BaseException) -> None:
        log.failure("{call}: failed", failure=Failure(error), call=self)
        self.end(Code.UNKNOWN, str(error))

    def end(self, code: Code, text: str) -> None:
        if not self.hasEnded:
            self.connection.engine.headers(
                self.number, (*_HEAD, (b"grpc-status", b"%d" % code), (b"grpc-message", encodeText(text))), True
            )
            self.connection.touch()

    def ended(self, error: BaseException | None) -> None:
        self._server.served()
        if self.task is not None and not self.task.done():
            self.task.cancel()
