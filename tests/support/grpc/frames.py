"""
What HTTP/2 shows on its way: a port between a client and a server that reads along which messages are compressed.

No library of gRPC tells that of its messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

__all__ = ["Tap"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _PADDED = 0, 8


class _Reader:
    """Reads one direction. ``flags`` gets one for each message."""

    def __init__(self, flags: list[bool], skip: int) -> None:
        self._flags = flags
        self._skip = skip
        self._data = b""
        self._streams: dict[int, bytes] = {}

    def feed(self, data: bytes) -> None:
        self._data += data
        if self._skip:
            if len(self._data) < self._skip:
                return
            self._data = self._data[self._skip :]
            self._skip = 0
        while len(self._data) >= 9:
            size = int.from_bytes(self._data[:3], "big")
            if len(self._data) < 9 + size:
                return
            kind, flags = self._data[3], self._data[4]
            stream = int.from_bytes(self._data[5:9], "big")
            body, self._data = self._data[9 : 9 + size], self._data[9 + size :]
            if kind == _DATA:
                if flags & _PADDED:
                    body = body[1 : len(body) - body[0]]
                self._messages(stream, body)

    def _messages(self, stream: int, body: bytes) -> None:
        data = self._streams.get(stream, b"") + body
        while len(data) >= 5 and len(data) >= (size := 5 + int.from_bytes(data[1:5], "big")):
            self._flags.append(bool(data[0]))
            data = data[size:]
        self._streams[stream] = data


class _End(Protocol):
    """One of the two connections."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self.other: _End | None = None
        self._early: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        if self.other is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)  # type: ignore[union-attr]

    def join(self, other: _End) -> None:
        """Both ends are there."""
        self.other, other.other = other, self
        other.transport.write(b"".join(self._early))  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Tap:
    """
    Listens for a client, and hands all to a server and back.

    :param target: the server's port of 127.0.0.1.

    :ivar port: where it listens.
    """

    def __init__(self, reactor: Any, target: int) -> None:
        self._reactor = reactor
        self._target = target
        self._up: list[bool] = []
        self._down: list[bool] = []
        # The messages of the client that were told of by ``sent`` and by ``sawCompressed``.
        self._told = self._seen = 0
        self._ends: list[_End] = []
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        self._listening: Any = await endpoint.listen(Factory.forProtocol(self._client))
        self.port = self._listening.getHost().port

    def _client(self) -> _End:
        near = _End(_Reader(self._up, len(_PREFACE)))
        far = _End(_Reader(self._down, 0))
        self._ends += near, far
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._target)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(lambda: far))
        connecting.addCallback(lambda _: near.join(far))
        return near

    async def stop(self) -> None:
        """Close all."""
        for end in self._ends:
            if end.transport is not None:
                end.transport.abortConnection()  # type: ignore[attr-defined]
        await self._listening.stopListening()

    def sent(self) -> list[bool]:
        """Which messages of the client were compressed since this was asked for last."""
        found = self._up[self._told :]
        self._told = len(self._up)
        return found

    def came(self) -> list[bool]:
        """Which of the server's were."""
        found = self._down[:]
        self._down.clear()
        return found

    def sawCompressed(self) -> bool:
        """Whether the client's next message was; asked once for each, when it is handled."""
        self._seen += 1
        return self._up[self._seen - 1]
