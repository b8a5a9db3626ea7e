"""A client of HTTP/2, the h2 package, and a connection in memory that it talks to."""

from __future__ import annotations

from typing import Any

import h11
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from tests.support.http import Answer, Case, Talk
from tests.support.http2 import GOAWAY

__all__ = ["Case2", "H2Client", "Talk2", "Translated"]


#: It sends what is wrong, too.
_CONFIG = H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


class H2Client(H2Connection):
    """h2 that goes on behind GOAWAY, which is the end of new streams to others, and of the connection to h2."""

    rest = b""

    def receive_data(self, data: bytes) -> list[Any]:
        """As the base class."""
        data = self.rest + data
        found: list[Any] = []
        while len(data) >= 9 and len(data) >= (stop := 9 + int.from_bytes(data[:3], "big")):
            found += super().receive_data(data[:stop])
            if data[3] == GOAWAY:
                self.state_machine.state = ConnectionState.CLIENT_OPEN
            data = data[stop:]
        self.rest = data
        return found


class Answer2(Answer):
    """An answer on a stream."""

    def __init__(self) -> None:
        super().__init__(0, [])
        #: Interim answers.
        self.informed: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        #: Why the stream was reset; None: it was not.
        self.code: int | None = None


class Talk2(Talk):
    """
    An application behind one connection of HTTP/2 in memory.

    :ivar client: the h2 connection.
    :ivar heard: the answers, by stream.
    :ivar gone: the code of GOAWAY, and its last stream; None: none has come.
    """

    def __init__(self, application: Any, takes: bool = True, **options: Any) -> None:
        super().__init__(application, **options)
        #: Whether the client gives credit for what it gets.
        self.takes = takes
        self.client = H2Client(_CONFIG)
        self.heard: dict[int, Answer2] = {}
        self.gone: tuple[int, int | None] | None = None
        self.client.initiate_connection()
        self.go()

    def go(self) -> None:
        """Send what the client has, and read what it gets."""
        for _ in range(1000):
            data = self.client.data_to_send()
            if data:
                self.send(data)
            got = bytes(self.pair.peer.data)
            self.pair.peer.data.clear()
            if not (data or got):
                self.pair.flush()
                if not self.pair.peer.data:
                    return
            for event in self.client.receive_data(got):
                self._event(event)

    def _event(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            self.gone = int(event.error_code or 0), event.last_stream_id
        number = getattr(event, "stream_id", 0)
        if not number:
            return
        answer = self.heard.setdefault(number, Answer2())
        if isinstance(event, ResponseReceived):
            answer.status = int(event.headers[0][1])
            answer.headers = [(bytes(name), bytes(value)) for name, value in event.headers[1:]]
        elif isinstance(event, InformationalResponseReceived):
            answer.informed.append((int(event.headers[0][1]), [(bytes(n), bytes(v)) for n, v in event.headers[1:]]))
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if self.takes:
                self.client.acknowledge_received_data(event.flow_controlled_length, number)
        elif isinstance(event, TrailersReceived):
            answer.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, StreamEnded):
            answer.isComplete = True
        elif isinstance(event, StreamReset):
            answer.code = int(event.error_code)

    def begin(
        self, path: str = "/", method: str = "GET", *fields: tuple[str, str], last: bool = True, authority: str = "a"
    ) -> int:
        """Open a stream; :py:meth:`go` sends it. :return: its number."""
        number = self.client.get_next_available_stream_id()
        pairs = [(":method", method), (":scheme", "http"), (":path", path)]
        if authority:
            pairs.append((":authority", authority))
        self.client.send_headers(number, [*pairs, *fields], end_stream=last)
        self.heard[number] = Answer2()
        return number

    def get(self, path: str = "/", method: str = "GET", *fields: tuple[str, str], authority: str = "a") -> Answer2:
        """Ask, and return the answer as far as it has come."""
        number = self.begin(path, method, *fields, authority=authority)
        self.go()
        return self.heard[number]

    def post(self, data: bytes, path: str = "/", *fields: tuple[str, str]) -> Answer2:
        """Send a body in one read with its head, and return the answer as far as it has come."""
        number = self.begin(path, "POST", *fields, last=False)
        self.client.send_data(number, data, end_stream=True)
        self.go()
        return self.heard[number]


class Translated(Talk2):
    """Takes requests of HTTP/1.1, which tests have written, to HTTP/2."""

    def __init__(self, application: Any, capacity: int | None = None, **options: Any) -> None:
        super().__init__(application, capacity=capacity, **options)
        self.waiting: list[int] = []

    def send(self, data: bytes) -> None:
        """Whole requests of HTTP/1.1, or bytes of HTTP/2."""
        if not data[:1].isalpha() or data.startswith(b"PRI"):
            super().send(data)
            return
        while data:
            data = self._one(data)
        self.go()

    def _one(self, data: bytes) -> bytes:
        """Translate a request; return what is behind it."""
        reader = h11.Connection(h11.SERVER)
        reader.receive_data(data)
        number = 0
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Request):
                fields = [
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in event.headers
                    if name not in (b"host", b"connection", b"transfer-encoding")
                ]
                method = event.method.decode()
                host = dict(event.headers)[b"host"].decode("latin-1")
                number = self.begin(event.target.decode("latin-1"), method, *fields, last=False, authority=host)
                self.waiting.append(number)
            elif isinstance(event, h11.Data):
                body = bytes(event.data)
                for at in range(0, len(body), 16384):
                    self.client.send_data(number, body[at : at + 16384])
                    if len(body) > 16384:
                        self.go()
            elif isinstance(event, h11.EndOfMessage):
                if self.heard[number].code is None:
                    self.client.end_stream(number)
                return reader.trailing_data[0]
            else:
                return b""

    def answers(self, *methods: str) -> list[Any]:
        """The answers that have come since it was called last, in the order of their requests."""
        self.go()
        found = [number for number in self.waiting if self.heard[number].status]
        self.waiting = [number for number in self.waiting if number not in found]
        return [self.heard[number] for number in found]


class Case2(Case):
    """At the end of each test no request is left."""

    def talk2(self, application: Any, **options: Any) -> Talk2:
        """A connection that is closed when the test is over."""
        talk = Talk2(application, **options)

        def finish() -> None:
            transport: Any = talk.pair.peer.transport
            if talk.pair.peer.lost is None:
                transport.abortConnection()
            talk.pair.flush()
            talk.clock.advance(10)
            self.assertEqual(talk.context.running, 0)
            self.assertEqual(talk.context.connections, set())

        self.addCleanup(finish)
        return talk
