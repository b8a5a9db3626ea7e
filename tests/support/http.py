"""A client of raw bytes, and an HTTP connection in memory that it talks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.connection import Connection
from getty_tx.http.context import HTTPContext
from getty_tx.http.handlers import Handler
from getty_tx.http.interfaces import IApplication
from getty_tx.testing import connectedPeer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from getty_tx.testing import Pair

__all__ = ["Answer", "Case", "Talk", "answersIn"]


class Answer:
    """An answer, as h11 reads it."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self.body = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        #: Its end has come.
        self.isComplete = False

    def header(self, name: bytes) -> bytes | None:
        """The value of its only field of this name; None: there is none."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) < 2, values
        return values[0] if values else None

    def __repr__(self) -> str:
        return f"<{self.status} {self.body!r}>"


def answersIn(data: bytes | bytearray, methods: Sequence[str] = (), ended: bool = False) -> list[Answer]:
    """
    The answers in the bytes that a server has sent, interim ones included.

    :param methods: of the requests, where they are not all GET.
    :param ended: the server has ended its side.
    :raise h11.RemoteProtocolError: they are malformed.
    """
    answers: list[Answer] = []
    rest, wanted = bytes(data), list(methods)
    while rest:
        reader = h11.Connection(h11.CLIENT)
        method = wanted.pop(0) if wanted else "GET"
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(rest)
        if ended:
            reader.receive_data(b"")
        answer: Answer | None = None
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError as error:
                if "without sending complete" in str(error):
                    break
                raise
            if isinstance(event, h11.InformationalResponse | h11.Response):
                answer = Answer(event.status_code, list(event.headers))
                answers.append(answer)
                answer.isComplete = isinstance(event, h11.InformationalResponse)
            elif isinstance(event, h11.Data):
                assert answer is not None
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert answer is not None
                answer.trailers = list(event.headers)
                answer.isComplete = True
                break
            else:
                break
        if answer is None or not answer.isComplete:
            break
        rest = reader.trailing_data[0]
    return answers


class Talk:
    """
    An application behind one connection in memory.

    :param application: an IApplication, or a function of a request.
    :param split: how what the client sends is cut.
    :param capacity: bytes that a client which does not read takes.
    :param options: of the context.
    """

    def __init__(self, application: Any, split: Any = None, capacity: int | None = None, **options: Any) -> None:
        if not IApplication.providedBy(application):
            application = Handler(application)
        self.context = HTTPContext(application, **options)
        self.connections: list[Connection] = []
        self.pair: Pair = connectedPeer(self._newSession, split=split, capacity=capacity)
        self.clock = self.pair.clock
        self.pair.flush()

    def _newSession(self, session: Any) -> None:
        self.connections.append(Connection(session, self.context))

    @property
    def connection(self) -> Connection:
        """The connection."""
        return self.connections[0]

    @property
    def session(self) -> Any:
        """Its session."""
        return self.pair.server

    def send(self, data: bytes) -> None:
        """The client sends."""
        self.pair.peer.write(data)
        self.pair.flush()

    def answers(self, *methods: str) -> list[Answer]:
        """What the client has got since it looked last, whole answers or not."""
        data = bytes(self.pair.peer.data)
        self.pair.peer.data.clear()
        return answersIn(data, methods, self.ended)

    def ask(self, data: bytes, *methods: str) -> Answer:
        """Send a request, and return its only answer."""
        self.send(data)
        (answer,) = self.answers(*methods)
        return answer

    @property
    def ended(self) -> bool:
        """The server has ended its side, or the connection is lost."""
        return self.pair.peer.ended or self.pair.peer.lost is not None

    def close(self) -> None:
        """The client goes, whether it has its answers or not: one that only ends its side may wait for them."""
        transport: Any = self.pair.peer.transport
        if self.pair.peer.lost is None and any(each.request for each in self.connections):
            transport.abortConnection()
        else:
            self.pair.peer.end()
        self.pair.flush()


class Case(SynchronousTestCase):
    """At the end of each test no request is left."""

    def talk(self, application: Any, **options: Any) -> Talk:
        """A connection that is closed when the test is over."""
        talk = Talk(application, **options)

        def finish() -> None:
            talk.close()
            talk.clock.advance(10)
            talk.pair.flush()
            self.assertEqual(talk.context.running, 0)
            self.assertEqual(talk.context.connections, set())

        self.addCleanup(finish)
        return talk
