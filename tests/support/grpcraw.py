"""A client of HTTP/2 for tests of what gRPC looks like on the wire: on h2, which checks little of what it sends."""

from __future__ import annotations

from typing import Any

from h2 import events
from h2.config import H2Configuration
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone

from tests.support.h2client import H2Client

__all__ = ["Answer", "RawClient", "framed"]

HEAD = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/",
    ":authority": "test",
    "te": "trailers",
    "content-type": "application/grpc",
}


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message with its head."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


class Answer:
    """
    What came on one stream.

    :ivar heads: the fields of each HEADERS frame, as dicts.
    :ivar data: all of it.
    :ivar code: of RST_STREAM; None: it was not reset.
    :ivar ended: fires when the stream has ended, by END_STREAM or RST_STREAM.
    """

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []
        self.data = b""
        self.code: int | None = None
        self.isComplete = False
        self.ended: Deferred[Answer] = Deferred()

    @property
    def status(self) -> str | None:
        """``grpc-status``."""
        return self.heads[-1].get("grpc-status") if self.heads else None

    @property
    def text(self) -> str | None:
        """``grpc-message``."""
        return self.heads[-1].get("grpc-message")


class RawClient(Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.h2 = H2Client(
            H2Configuration(header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.answers: dict[int, Answer] = {}
        self.goAways: list[Any] = []
        self.lost: Deferred[None] = Deferred()
        self.isLost = False
        self.takes = True

    @classmethod
    async def to(cls, port: int) -> RawClient:
        """A client that is connected."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)  # type: ignore[no-untyped-call]  # Twisted's
        client: RawClient = await connectProtocol(endpoint, cls())
        return client

    def connectionMade(self) -> None:
        self.h2.initiate_connection()
        self.send()

    def send(self) -> None:
        """Send what h2 has."""
        if self.transport is not None and not self.isLost:
            self.transport.write(self.h2.data_to_send())

    def call(self, path: str, data: bytes | None = b"", isLast: bool = True, **fields: str | None) -> Answer:
        """
        Open a stream.

        :param data: the requests; None: only the head is sent.
        :param fields: with ``_`` for ``-``; more header fields, others in their place, or None for none. ``_method``
            is ``:method``.
        """
        head: dict[str, str | None] = dict(HEAD)
        head[":path"] = path
        for name, value in fields.items():
            head[name.replace("_", ":", 1) if name.startswith("_") else name.replace("_", "-")] = value
        number = self.h2.get_next_available_stream_id()
        answer = self.answers[number] = Answer()
        pairs = [(name, value) for name, value in head.items() if value is not None]
        self.h2.send_headers(number, pairs, end_stream=data is None and isLast)
        if data is not None:
            for at in range(0, len(data), 16384):
                self.h2.send_data(number, data[at : at + 16384])
            if isLast:
                self.h2.end_stream(number)
        self.send()
        return answer

    def numberOf(self, answer: Answer) -> int:
        """The number of a stream."""
        return next(number for number, each in self.answers.items() if each is answer)

    def dataReceived(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self._took(event)
        self.send()

    def _took(self, event: Any) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self.goAways.append(event)
        answer = self.answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, events.ResponseReceived | events.TrailersReceived):
            answer.heads.append(dict(event.headers))  # type: ignore[arg-type]
        elif isinstance(event, events.DataReceived):
            answer.data += event.data
            if self.takes and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            answer.isComplete = True
            self._end(answer)
        elif isinstance(event, events.StreamReset):
            answer.code = int(event.error_code)
            self._end(answer)

    def _end(self, answer: Answer) -> None:
        if not answer.ended.called:
            answer.ended.callback(answer)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.isLost = True
        self.lost.callback(None)

    async def close(self) -> None:
        """Close the connection."""
        if not self.isLost:
            assert self.transport is not None
            self.transport.loseConnection()
            await self.lost
