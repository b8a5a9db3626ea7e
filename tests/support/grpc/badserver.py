"""
A server that breaks off, on h2's frames: that of gRPC's negative interop tests, by their official names.

Its unary calls are answered with a message of 314,159 bytes, if the way in which it misbehaves lets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, PingAckReceived, RequestReceived, StreamEnded, WindowUpdated
from h2.settings import SettingCodes
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KINDS", "BadServer"]

KINDS = ("goaway", "rst_after_header", "rst_during_data", "rst_after_data", "ping", "max_streams")

_HEAD = ((":status", "200"), ("content-type", "application/grpc"))
_TRAILERS = (("grpc-status", "0"),)


class _Connection(Protocol):
    """One connection. What is behind a window's end waits in ``_left``, by stream: bytes, and what follows them."""

    def __init__(self, server: BadServer) -> None:
        self._server = server
        self._engine = H2Connection(H2Configuration(client_side=False))
        self._left: dict[int, tuple[bytes, Callable[[], object]]] = {}
        self._open: set[int] = set()

    def connectionMade(self) -> None:
        self._engine.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        self.transport.write(self._engine.data_to_send())  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        server = self._server
        for event in self._engine.receive_data(data):
            if isinstance(event, RequestReceived):
                server.calls += 1
                self._open.add(event.stream_id)
                server.most = max(server.most, len(self._open))
            elif isinstance(event, DataReceived):
                self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                getattr(self, f"_{server.kind}")(event.stream_id)
            elif isinstance(event, PingAckReceived):
                server.pongs += 1
            elif isinstance(event, WindowUpdated):
                self._goOn()
        self._flush()

    def _send(self, stream: int, data: bytes, then: Callable[[], object]) -> None:
        self._left[stream] = data, then
        self._goOn()

    def _goOn(self) -> None:
        for stream, (data, then) in list(self._left.items()):
            while data and (size := min(self._engine.local_flow_control_window(stream), 16_384)) > 0:
                self._engine.send_data(stream, data[:size])
                data = data[size:]
            self._left[stream] = data, then
            if not data:
                del self._left[stream]
                then()

    def _answer(self, stream: int, then: Callable[[], object] | None = None) -> None:
        """Answer as one should; ``then`` comes behind it."""

        def end() -> None:
            self._engine.send_headers(stream, _TRAILERS, end_stream=True)
            self._open.discard(stream)
            if then is not None:
                then()

        self._engine.send_headers(stream, _HEAD)
        self._send(stream, self._server.reply, end)

    # The ways of misbehaving

    def _goaway(self, stream: int) -> None:
        def leave() -> None:
            if self._server.calls == 1:
                # h2 would read nothing any more.
                self._flush()
                frame = b"\0\0\x08\x07\0" + bytes(4) + stream.to_bytes(4, "big") + bytes(4)
                self.transport.write(frame)  # type: ignore[union-attr]

        self._answer(stream, leave)

    def _rst_after_header(self, stream: int) -> None:
        self._engine.send_headers(stream, _HEAD)
        self._engine.reset_stream(stream, ErrorCodes.NO_ERROR)

    def _rst_during_data(self, stream: int) -> None:
        self._engine.send_headers(stream, _HEAD)
        half = self._server.reply[: len(self._server.reply) // 2]
        self._send(stream, half, lambda: self._engine.reset_stream(stream, ErrorCodes.NO_ERROR))

    def _rst_after_data(self, stream: int) -> None:
        self._engine.send_headers(stream, _HEAD)
        self._send(stream, self._server.reply, lambda: self._engine.reset_stream(stream, ErrorCodes.NO_ERROR))

    def _ping(self, stream: int) -> None:
        def ping() -> None:
            self._server.pings += 1
            self._engine.ping(bytes(8))

        def end() -> None:
            ping()
            self._engine.send_headers(stream, _TRAILERS, end_stream=True)
            ping()

        ping()
        self._engine.send_headers(stream, _HEAD)
        ping()
        self._send(stream, self._server.reply, end)

    def _max_streams(self, stream: int) -> None:
        def limit() -> None:
            if self._server.calls == 1:
                self._engine.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
                self._server.most = 0

        self._answer(stream, limit)


class BadServer:
    """
    Listens.

    :param kind: one of :data:`KINDS`.
    :param reply: the message of its answers, in bytes.

    :ivar connections: that it has had.
    :ivar calls: that it has had.
    :ivar most: streams that were open at once on a connection, since it has said how many may be.
    :ivar pings: that it has sent; ``pongs`` those that were answered.
    """

    def __init__(self, reactor: Any, kind: str, reply: bytes) -> None:
        self._reactor = reactor
        self.kind = kind
        self.reply = b"\0%b%b" % (len(reply).to_bytes(4, "big"), reply)
        self.connections = self.calls = self.most = self.pings = self.pongs = 0
        self._ends: list[_Connection] = []
        self.port = 0

    async def start(self) -> None:
        """Listen on a port of 127.0.0.1."""
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        self._listening: Any = await endpoint.listen(Factory.forProtocol(self._connection))
        self.port = self._listening.getHost().port

    def _connection(self) -> _Connection:
        self.connections += 1
        self._ends.append(_Connection(self))
        return self._ends[-1]

    async def stop(self) -> None:
        """Close all."""
        for end in self._ends:
            if end.transport is not None:
                end.transport.abortConnection()  # type: ignore[attr-defined]
        await self._listening.stopListening()
