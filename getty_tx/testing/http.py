"""A client of HTTP in memory, for tests of handlers, routers and applications."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from getty_tx.testing.sessions import Network, Pair, Peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from random import Random

    # Those who test sessions need no HTTP: it is imported where it is asked for.
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.interfaces import IRunningApplication
    from getty_tx.testing.reactor import MemoryReactor

__all__ = ["HTTPAnswer", "HTTPPeer", "connectedHTTP"]

#: Seconds on the clock that an application has to stop.
STOP_TIME = 60.0

#: The length of a body that comes in chunks.
_CHUNKED = -1


class HTTPAnswer:
    """
    The answer to a request. It fills as bytes come.

    :ivar status: 0 until the head has come. Interim answers are left out.
    :ivar fields: name and value of all fields, names in lower case.
    :ivar body: what has come of the body.
    :ivar isComplete: its end has come. It stays False where the server has cut it off.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.isComplete = False
        self._hasBody = method != "HEAD"
        # Bytes of the body that are to come.
        self._left = 0

    def __repr__(self) -> str:
        return f"<HTTPAnswer {self.status} {self.body!r}{'' if self.isComplete else ', not complete'}>"

    def header(self, name: str, default: str = "") -> str:
        """The value of a field, as Latin-1; those of the same name are joined by a comma."""
        values = [value for each, value in self.fields if each == name.lower().encode("latin-1")]
        return b", ".join(values).decode("latin-1") if values else default

    def json(self) -> Any:
        """The body, from JSON. :raise ValueError: it is none."""
        return json.loads(self.body)

    def take(self, data: bytearray) -> None:
        """Take its bytes from those that have come."""
        while not self.status:
            if not self._takeHead(data):
                return
        while not self.isComplete:
            if not self._left:
                self.isComplete = True
            elif self._left == _CHUNKED:
                if not self._takeChunk(data):
                    return
            elif not data:
                return
            else:
                part = bytes(data[: self._left])
                del data[: len(part)]
                self.body += part
                self._left -= len(part)

    def _takeHead(self, data: bytearray) -> bool:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        line, *fields = bytes(data[:end]).split(b"\r\n")
        del data[: end + 4]
        status = int(line.split(b" ")[1])
        if status >= 200 or status == 101:
            self.status = status
            pairs = [field.split(b":", 1) for field in fields]
            self.fields = [(name.lower(), value.strip()) for name, value in pairs]
            if self._hasBody and status not in (101, 204, 304):
                isChunked = self.header("Transfer-Encoding") == "chunked"
                self._left = _CHUNKED if isChunked else int(self.header("Content-Length", "0"))
        return True

    def _takeChunk(self, data: bytearray) -> bool:
        end = data.find(b"\r\n")
        if end < 0:
            return False
        size = int(data[:end], 16)
        if size:
            stop = end + 2 + size + 2
            if len(data) < stop:
                return False
            self.body += data[end + 2 : stop - 2]
        else:
            # Behind the last chunk come trailers, if there are any, and an empty line.
            stop = data.find(b"\r\n\r\n", end) + 4
            if stop < 4:
                return False
            self._left = 0
        del data[:stop]
        return True


class HTTPPeer(Peer):
    """
    A client with one connection; :py:func:`connectedHTTP` makes it.

    :param context: of the server's end.
    :param running: an application that has started and is to be stopped; None: there is none.

    :ivar context: what the server's connections share, such as ``context.counters``; its settings may be changed.
    :ivar pair: the connection: ``pair.flush()``, ``pair.reset()``, ``pair.server``.
    :ivar clock: the reactor: ``clock.advance(seconds)``.
    """

    pair: Pair
    clock: MemoryReactor

    def __init__(self, context: HTTPContext, running: IRunningApplication | None) -> None:
        super().__init__(autoClose=True)
        self.context = context
        self._running = running
        self._awaited: deque[HTTPAnswer] = deque()

    @property
    def received(self) -> bytearray:
        """Bytes that belong to no answer of :py:meth:`request`. May be cleared."""
        return self.data

    def request(
        self,
        method: str,
        target: str,
        fields: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: bytes | str = b"",
    ) -> HTTPAnswer:
        """
        Send a request, and do what is to be done at this moment.

        ``Host`` and ``Content-Length`` are added where they are missing. With ``Transfer-Encoding`` among the fields
        the body is sent as it is.

        :param target: the path and the query, encoded.
        :param fields: names and values.
        :param body: str as UTF-8.
        :return: the answer; not complete yet where the application waits for something.
        :raise AssertionError: the server has ended the connection.
        """
        if self.ended or self.lost is not None:
            raise AssertionError("the server has ended the connection: make another one")
        pairs = list(fields.items() if hasattr(fields, "items") else fields)
        data = body.encode() if isinstance(body, str) else body
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", "localhost"))
        if not names & {"content-length", "transfer-encoding"} and (data or method in ("POST", "PUT", "PATCH")):
            pairs.append(("Content-Length", str(len(data))))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        answer = HTTPAnswer(method)
        self._awaited.append(answer)
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
        return answer

    def send(self, data: bytes) -> None:
        """Send any bytes, and do what is to be done at this moment. What is answered is in :py:attr:`received`."""
        self.write(data)
        self.pair.flush()

    def dataReceived(self, data: bytes) -> None:
        """Give the bytes to the answers that are awaited."""
        super().dataReceived(data)
        while self._awaited and self.data:
            self._awaited[0].take(self.data)
            if not self._awaited[0].isComplete:
                break
            self._awaited.popleft()

    def close(self) -> None:
        """
        Leave, whether all answers have come or not, and stop the application if it is one that starts and stops.

        A client that waits for its answers, and only sends no more, calls :py:meth:`~Peer.end`.

        :raise AssertionError: it does not stop within a minute on the clock.
        """
        transport: Any = self.transport
        if self.context.running and self.lost is None:
            transport.abortConnection()
        else:
            self.end()
        self.pair.flush()
        running, self._running = self._running, None
        if running is not None:
            _stop(running, self.clock)


def connectedHTTP(
    application: Any,
    *,
    clock: MemoryReactor | None = None,
    split: Sequence[int] | Random | None = None,
    delay: float | None = None,
    capacity: int | None = None,
    **options: Any,
) -> HTTPPeer:
    """
    A client of an application, without sockets.

    ::

        client = connectedHTTP(router)
        answer = client.request("GET", "/users/7")
        assert (answer.status, answer.json()) == (200, {"id": "7"})

    Time passes in ``client.clock.advance(seconds)``, for asyncio's loop, too. An application that starts and stops,
    such as :py:class:`getty_tx.http.Asgi`, has started: stop it by ``client.close()``. What threads have done is seen
    by ``client.pair.flush()``.

    :param application: what ``http.Server`` takes: a router, another application, or a function of a request.
    :param clock: the reactor; by default a new one. ``split``, ``delay`` and ``capacity`` are those of
        :py:class:`Network`.
    :param options: settings of :py:class:`getty_tx.http.context.HTTPContext`, such as ``maxBody=100``.
    :raise SettingError: a setting is invalid, or the application is none.
    :raise AssertionError: the application has not started at once.
    """
    from getty_tx.http.connection import Connection
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.handlers import Handler
    from getty_tx.http.interfaces import IApplication, IRunningApplication

    if not IApplication.providedBy(application):
        application = Handler(application)
    context = HTTPContext(application, **options)
    network = Network(clock=clock, split=split, delay=delay, capacity=capacity)
    running = None
    if IRunningApplication.providedBy(application):
        _start(application, network.clock)
        running = application
    factory = network.serverFactory(lambda session: Connection(session, context))
    client = HTTPPeer(context, running)
    client.clock = network.clock
    client.pair = network.join(factory.buildProtocol(None), client)
    client.pair.flush()
    return client


def _start(application: Any, clock: MemoryReactor) -> None:
    """Start an application, with asyncio's time on the clock."""
    from getty_tx.reactors.guest import guestLoop

    loop: Any = guestLoop(clock)
    loop.time = clock.seconds
    started: list[Any] = []
    application.startApplication(clock).addBoth(started.append)
    clock.settle()
    late = AssertionError("the application has not started: does it wait for time, threads or sockets?")
    result = started[0] if started else Failure(late)
    if isinstance(result, Failure):
        _endLoop(clock)
        result.raiseException()


def _stop(application: Any, clock: MemoryReactor) -> None:
    """Stop an application, and end asyncio's loop."""
    stopped: list[Any] = []
    application.stopApplication().addBoth(stopped.append)
    clock.settle()
    if not stopped:
        clock.advance(STOP_TIME)
    late = AssertionError(f"the application has not stopped within {STOP_TIME:g} seconds")
    result = stopped[0] if stopped else Failure(late)
    _endLoop(clock)
    if isinstance(result, Failure):
        result.raiseException()


def _endLoop(clock: MemoryReactor) -> None:
    from getty_tx.reactors.guest import guestLoop

    loop = guestLoop(clock)
    # It waits for its last tasks in real time.
    vars(loop).pop("time", None)
    loop.end()
