"""receive and send of one WebSocket."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import SessionError
from getty_tx.http.answers import AnswerFields, GoneError
from getty_tx.http.asgi.exchange import asBytes, isOfTheClient
from getty_tx.http.asgi.scope import addTLS
from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from asyncio import Future, Task

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request
    from getty_tx.http.upgrade import WebSocketUpgrade
    from getty_tx.reactors.guest import GuestLoop

__all__ = ["Messages", "WebSocketExchange", "webSocketScope"]

log = Logger()

#: Messages that wait for the application, and their bytes. With more the client is read no more.
MAX_WAITING = 32
MAX_WAITING_BYTES = 1024 * 1024

# RFC 6455, section 7.4.1, and its registry.
_NORMAL, _ABNORMAL, _INTERNAL_ERROR = 1000, 1006, 1011

# The life of a WebSocket. In the last of them the application has closed or refused it; in the one before, another has.
_CONNECTING, _ACCEPTING, _OPEN, _DENYING, _GONE, _CLOSED = range(6)


def webSocketScope(upgrade: WebSocketUpgrade, exchange: IExchange, rootPath: str, state: dict[str, Any]) -> Any:
    """The scope of a WebSocket."""
    request = upgrade.request
    path = request.rawPath
    text = unquote(path.decode("ascii"))
    scheme, client, server = exchange.endsOf(request)
    scope: dict[str, Any] = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": request.version,
        "scheme": "wss" if scheme == "https" else "ws",
        "path": rootPath + text,
        "raw_path": rootPath.encode() + path,
        "query_string": request.queryString,
        "root_path": rootPath + request.root.decode(),
        "headers": request.headers,
        "client": client,
        "server": server,
        "subprotocols": list(upgrade.subprotocols),
        "state": state.copy(),
        "extensions": {"websocket.http.response": {}},
    }
    if scheme == "https":
        addTLS(scope, exchange.session)
    return scope


class Messages:
    """The codec: a message is bytes, or text."""

    def read(self, session: Any, data: memoryview) -> tuple[bytes | str, int]:
        """Take a message, which is whole. Autobahn has checked the UTF-8 of a text."""
        return str(data, "utf-8") if session.isText else bytes(data), len(data)

    def write(self, session: Any, pkg: bytes | str) -> bytes | str:
        """It is one already."""
        return pkg


_MESSAGES = Messages()


class WebSocketExchange(EventListener):
    """
    Carries the messages between an application and one WebSocket. It is the listener of its session.

    :param upgrade: what the client asks for.
    :param loop: where the application runs.
    :param maxSize: bytes of a message, at most.
    """

    __slots__ = (
        "_code",
        "_exchange",
        "_isConnected",
        "_isPaused",
        "_loop",
        "_maxSize",
        "_opened",
        "_reason",
        "_request",
        "_session",
        "_stage",
        "_status",
        "_upgrade",
        "_waiting",
        "_waitingBytes",
        "_wanted",
    )

    def __init__(self, upgrade: WebSocketUpgrade, exchange: IExchange, loop: GuestLoop, maxSize: int) -> None:
        self._upgrade = upgrade
        self._request: Request = upgrade.request
        self._exchange = exchange
        self._loop = loop
        self._maxSize = maxSize
        self._stage = _CONNECTING
        self._session: Any = None
        self._waiting: deque[bytes | str] = deque()
        self._waitingBytes = 0
        self._wanted: list[Future[None]] = []
        self._opened: Future[None] | None = None
        self._status: tuple[int, AnswerFields] | None = None
        self._isConnected = self._isPaused = False
        self._code, self._reason = _ABNORMAL, ""
        exchange.whenGone(self._request, self._gone)

    # The session's events

    def _newSession(self, session: Any) -> None:
        session.codec = _MESSAGES
        session.listener = self
        session.maxMsgLen = self._maxSize

    def onOpen(self, session: Any) -> None:
        """The client has the answer."""
        self._session = session
        self._stage = _OPEN
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    def onMessage(self, session: Any, pkg: Any) -> None:
        """A message."""
        self._waiting.append(pkg)
        self._waitingBytes += len(pkg)
        if len(self._waiting) >= MAX_WAITING or self._waitingBytes > MAX_WAITING_BYTES:
            self._isPaused = True
            session.pauseReading()
        self._wake()

    def onError(self, session: Any, error: BaseException) -> None:
        """Nothing more can be sent, and ``onClose`` may take its time."""
        code, reason = session.closeStatus
        if code is None and session.closeFrameAt is not None:
            # Such as 1009, for a message that is too long.
            code, reason = int(session.closeFrameCode), session.closeFrameReason
        self._closed(_ABNORMAL if code is None else code, reason)

    def onClose(self, session: Any) -> None:
        """The client has gone, or this side has closed."""
        code, reason = session.closeStatus
        self._closed(_ABNORMAL if code is None else code, reason)

    def _gone(self) -> None:
        """The client has gone before it was accepted."""
        self._closed(_ABNORMAL, "")

    def _closed(self, code: int, reason: str, stage: int = _GONE) -> None:
        if self._stage < _GONE:
            self._stage = stage
            self._code, self._reason = code, reason
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)
        self._wake()

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, []
        for future in wanted:
            if not future.done():
                future.set_result(None)

    # receive

    async def receive(self) -> dict[str, Any]:
        """The next message: connect, then what comes, then disconnect."""
        if not self._isConnected:
            self._isConnected = True
            return {"type": "websocket.connect"}
        while not self._waiting:
            if self._stage >= _GONE:
                return {"type": "websocket.disconnect", "code": self._code, "reason": self._reason}
            future = self._loop.create_future()
            self._wanted.append(future)
            try:
                await future
            finally:
                # Cancelled by who looks whether something has come.
                if future in self._wanted:
                    self._wanted.remove(future)
        pkg = self._waiting.popleft()
        self._waitingBytes -= len(pkg)
        if self._isPaused and len(self._waiting) <= MAX_WAITING / 4 and self._waitingBytes <= MAX_WAITING_BYTES / 4:
            self._isPaused = False
            self._session.resumeReading()
        if type(pkg) is str:
            return {"type": "websocket.receive", "text": pkg}
        return {"type": "websocket.receive", "bytes": pkg}

    # send

    async def send(self, message: dict[str, Any]) -> None:
        """
        Take a message.

        :raise RuntimeError: it is not its turn, such as after the application's own ``websocket.close``.
        :raise OSError: the client has gone, or the server has closed.
        """
        kind = message["type"]
        stage = self._stage
        if kind == "websocket.send" and stage == _OPEN:
            await self._sendMessage(message)
        elif kind == "websocket.accept" and stage == _CONNECTING:
            await self._accept(message)
        elif kind == "websocket.close" and stage in (_CONNECTING, _OPEN):
            self._close(message.get("code") or _NORMAL, message.get("reason") or "")
        elif kind == "websocket.http.response.start" and stage == _CONNECTING:
            status = message["status"]
            if not 200 <= status <= 999:
                raise ValueError(f"{status} is no status of an answer")
            self._status = status, AnswerFields(message.get("headers", ()))
            self._stage = _DENYING
        elif kind == "websocket.http.response.body" and stage == _DENYING:
            await self._deny(message.get("body", b""), message.get("more_body", False))
        elif stage == _GONE:
            raise GoneError(f"{self._request}: the client has gone, or the server ends")
        else:
            raise RuntimeError(f"{self._request}: the message {kind!r} is out of turn, {_EXPECTED[stage]}")

    async def _accept(self, message: dict[str, Any]) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in message.get("headers") or ()]
        self._upgrade.accept(self._newSession, subprotocol=message.get("subprotocol"), headers=headers)
        self._stage = _ACCEPTING
        self._opened = self._loop.create_future()
        await self._opened
        if self._session is None:
            raise GoneError(f"{self._request}: the client has gone")

    async def _sendMessage(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        data = message.get("bytes")
        if (text is None) == (data is None):
            raise RuntimeError(f"{self._request}: websocket.send has either bytes or text")
        session = self._session
        try:
            session.writePkg(asBytes(data) if data is not None else text)
            if session.pendingBytes > session.highWater:
                await session.drained().asFuture(self._loop)
        except SessionError as error:
            raise GoneError(str(error)) from None

    def _close(self, code: int, reason: str) -> None:
        if self._stage == _CONNECTING:
            self._upgrade.refuse(403, AnswerFields())
            self._closed(_ABNORMAL, "", _CLOSED)
            return
        if not _NORMAL <= code <= 4999:
            raise ValueError(f"{code} is no code to close a WebSocket with")
        session = self._session
        self._closed(code, reason, _CLOSED)
        session.closeWith(code, reason)

    async def _deny(self, body: bytes, more: bool) -> None:
        exchange, request = self._exchange, self._request
        if self._status is not None:
            (status, fields), self._status = self._status, None
            if not more:
                self._upgrade.refuse(status, fields, asBytes(body))
                self._closed(_ABNORMAL, "", _CLOSED)
                return
            exchange.start(request, status, fields)
        exchange.write(request, asBytes(body))
        if not more:
            exchange.end(request)
            self._closed(_ABNORMAL, "", _CLOSED)
        elif exchange.mustWait():
            try:
                await exchange.drained().asFuture(self._loop)
            except SessionError as error:
                raise GoneError(str(error)) from None

    # The end of the application

    def ended(self, task: Task[Any]) -> None:
        """The application has returned, or failed."""
        error: BaseException | None = RuntimeError("cancelled") if task.cancelled() else task.exception()
        if self._exchange.isServing(self._request):
            if error is None:
                error = RuntimeError("the application has neither accepted nor closed the WebSocket")
            self._exchange.fail(self._request, error)
        elif error is not None and not (task.cancelled() or isOfTheClient(error)):
            log.failure("{request}: the application failed", failure=Failure(error), request=self._request)
        if self._session is not None and not self._session.isClosed:
            self._session.closeWith(_NORMAL if error is None else _INTERNAL_ERROR, "")


_EXPECTED = (
    "as websocket.accept or close is awaited",
    "as websocket.accept has not returned",
    "as the WebSocket is open",
    "as websocket.http.response.body is awaited",
    "as the client has gone",
    "as it is behind the end that the application has made: the WebSocket is closed",
)
