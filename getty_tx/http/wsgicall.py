"""One call of a WSGI application: its environ, its input, and its answer. Most of it runs in a thread."""

from __future__ import annotations

from io import BufferedReader, RawIOBase
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger, LoggingFile, LogLevel

from getty_tx.http.answers import AnswerFields, GoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["WsgiCall", "environOf"]

log = Logger()

#: Bytes that are taken from the body at a time.
_BUFFER = 64 * 1024

#: ``Proxy`` would become HTTP_PROXY, which clients of HTTP take for a setting (CVE-2016-5385 and others).
_UNSAFE = frozenset({b"proxy", b"content-type", b"content-length"})


def environOf(request: Request, exchange: IExchange, rootPath: str) -> dict[str, Any]:
    """The environ of a request, but for what depends on threads and for ``wsgi.input``."""
    raw = request.rawPath
    root = rootPath.encode("utf-8") + unquote_to_bytes(request.root)
    below = unquote_to_bytes(raw[len(request.root) :])
    prefix = rootPath.encode("utf-8")
    if prefix and not request.root and (below == prefix or below.startswith(prefix + b"/")):
        below = below[len(prefix) :]
    server = exchange.endsOf(request)[2] or ("localhost", None)
    client = exchange.clientOf(request)
    scheme = exchange.schemeOf(request)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": root.decode("latin-1"),
        "PATH_INFO": below.decode("latin-1"),
        "QUERY_STRING": request.queryString.decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or (443 if scheme == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "REMOTE_ADDR": "" if client is None else client[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        # One for each call: it keeps what is no line yet.
        "wsgi.errors": LoggingFile(logger=log, level=LogLevel.error),
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    if client is not None:
        environ["REMOTE_PORT"] = str(client[1])
    if scheme == "https":
        environ["HTTPS"] = "on"
    for name, value in request.fields.values.items():
        # With an underscore it could stand for another one, with a dash (CVE-2015-0219 and others).
        if b"_" not in name and name not in _UNSAFE:
            environ["HTTP_" + name.decode("ascii").upper().replace("-", "_")] = value.decode("latin-1")
    kind = request.header("Content-Type")
    if kind:
        environ["CONTENT_TYPE"] = kind
    if b"content-length" in request.fields.values:
        environ["CONTENT_LENGTH"] = str(request.fields.length)
    return environ


class _Input(RawIOBase):
    """The body as it comes, for the thread."""

    def __init__(self, call: WsgiCall) -> None:
        self._call = call
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._call.takePart()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class WsgiCall:
    """
    One call.

    The thread gives work to the reactor and waits for what comes back. :raise GoneError: where it waits, the client has
    gone.
    """

    def __init__(
        self, app: Callable[..., Any], environ: dict[str, Any], request: Request, exchange: IExchange, reactor: Any
    ) -> None:
        self._app = app
        self._environ = environ
        self._request = request
        self._exchange = exchange
        self._reactor = reactor
        self._results: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._isGone = False
        self._status = 0
        self._fields: AnswerFields | None = None
        self._isStarted = False
        environ["wsgi.input"] = BufferedReader(_Input(self), _BUFFER)
        exchange.whenGone(request, self._gone)

    # In the thread

    def run(self) -> None:
        """Call the application, and send its answer."""
        if self._isGone:
            return
        try:
            result = self._app(self._environ, self._startResponse)
            try:
                self._sendAll(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            if not (self._isGone and isinstance(error, OSError)):
                self._reactor.callFromThread(self._fail, error)

    def _sendAll(self, result: Any) -> None:
        if isinstance(result, list | tuple) and not self._isStarted and self._request.method != "HEAD":
            for data in result:
                self._checkData(data)
            status, fields = self._head()
            self._isStarted = True
            self._wait(self._answer, status, fields, b"".join(result))
            return
        for data in result:
            self._write(data)
        self._wait(self._end, *(() if self._isStarted else self._head()))

    def _startResponse(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        """``start_response`` of PEP 3333."""
        try:
            if exc_info is not None:
                if self._isStarted:
                    raise exc_info[1].with_traceback(exc_info[2])
            elif self._fields is not None:
                raise RuntimeError("start_response() was called before; give exc_info to replace the answer")
        finally:
            exc_info = None
        if (
            not isinstance(status, str)
            or not (status[:3].isascii() and status[:3].isdigit())
            or status[3:4] not in ("", " ")
        ):
            raise ValueError(f"status={status!r} is none: give such as '200 OK'")
        number = int(status[:3])
        if not 200 <= number <= 599:
            raise ValueError(f"status={status!r} ends no request: give one from 200 to 599")
        self._fields = AnswerFields([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])
        self._status = number
        return self._write

    def _head(self) -> tuple[int, AnswerFields]:
        if self._fields is None:
            raise RuntimeError("the application has not called start_response()")
        return self._status, self._fields

    def _checkData(self, data: Any) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"the body of a WSGI application is bytes, and not {type(data).__name__}")

    def _write(self, data: bytes) -> None:
        """Send a part, and wait if the client does not take it."""
        self._checkData(data)
        if not data:
            return
        head = () if self._isStarted else self._head()
        self._isStarted = True
        self._wait(self._send, data, *head)

    def takePart(self) -> bytes:
        """The next part of the body; empty at its end."""
        return self._wait(self._take)

    def _wait(self, call: Callable[..., None], *args: Any) -> bytes:
        """Call in the reactor's thread, and wait for what it gives or raises."""
        if self._isGone:
            raise GoneError(f"{self._request}: the client has gone")
        self._reactor.callFromThread(self._do, call, args)
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    # In the reactor's thread

    def _do(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self._isGone:
            # The thread has its result already.
            return
        try:
            call(*args)
        except BaseException as error:
            self._results.put(error)

    def _gone(self) -> None:
        self._isGone = True
        self._results.put(GoneError(f"{self._request}: the client has gone"))

    def _answer(self, status: int, fields: AnswerFields, body: bytes) -> None:
        self._exchange.answer(self._request, status, fields, body)
        self._results.put(b"")

    def _send(self, data: bytes, *head: Any) -> None:
        if head:
            self._exchange.start(self._request, *head)
        self._exchange.write(self._request, data)
        if self._exchange.mustWait():
            self._exchange.drained().addCallbacks(lambda _: self._results.put(b""), self._notDrained)
        else:
            self._results.put(b"")

    def _notDrained(self, failure: Failure) -> None:
        assert failure.value is not None
        self._results.put(failure.value)

    def _end(self, *head: Any) -> None:
        if head:
            self._exchange.start(self._request, *head)
        self._exchange.end(self._request)
        self._results.put(b"")

    def _take(self) -> None:
        body = self._request.body
        if body is None:
            self._results.put(b"")
            return
        body.whenReady(self._ready)

    def _ready(self) -> None:
        body = self._request.body
        assert body is not None
        try:
            self._results.put(body.take())
        except BaseException as error:
            self._results.put(error)

    def _fail(self, error: BaseException) -> None:
        self._exchange.fail(self._request, error)
