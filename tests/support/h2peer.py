"""A server of HTTP/2 by the package h2, whose answers tests write themselves: for what no server of gRPC does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from twisted.internet.protocol import Factory, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OK", "TRAILERS", "H2Peer", "PeerFactory", "framed"]

OK = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message of gRPC."""
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


class H2Peer(Protocol):
    """One connection; calls the factory's ``serve(peer, stream, fields)`` for each request when it has ended."""

    factory: PeerFactory

    def connectionMade(self) -> None:
        """Send the settings."""
        self.h2 = H2Connection(H2Configuration(client_side=False))
        # What tests answer may be wrong.
        self.h2.config.validate_outbound_headers = False
        self.h2.config.normalize_outbound_headers = False
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.factory.peers.append(self)
        if self.factory.isSilent:
            return
        if self.factory.maxStreams is not None:
            values = {SettingCodes.MAX_CONCURRENT_STREAMS: self.factory.maxStreams}
            self.h2.local_settings = Settings(client=False, initial_values=values)
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what there is."""
        self.transport.write(self.h2.data_to_send())

    def dataReceived(self, data: bytes) -> None:
        """What the client sends."""
        if self.factory.isSilent:
            return
        for event in self.h2.receive_data(data):
            number: Any = getattr(event, "stream_id", None)
            if isinstance(event, RequestReceived):
                self.requests[number] = {name.decode(): value.decode() for name, value in event.headers}
                self.bodies[number] = b""
                if self.factory.atHead:
                    self.factory.serve(self, number, self.requests[number])
            elif isinstance(event, DataReceived):
                self.bodies[number] += event.data
                self.factory.received += len(event.data)
                if self.factory.takes:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, StreamEnded) and not self.factory.atHead:
                self.factory.serve(self, number, self.requests[number])
            elif isinstance(event, StreamReset):
                self.resets[number] = int(event.error_code)
                self.factory.wasReset(number, int(event.error_code))
        self.flush()

    def answer(self, stream: int, *parts: Any, head: Any = OK, trailers: Any = TRAILERS) -> None:
        """Answer with these messages."""
        self.h2.send_headers(stream, head)
        for part in parts:
            self.h2.send_data(stream, part)
        if trailers is not None:
            self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()

    def echo(self, stream: int) -> None:
        """Answer with what was sent."""
        self.answer(stream, self.bodies[stream])

    def leave(self, last: int, code: int = 0, text: bytes = b"") -> None:
        """Send GOAWAY. h2 would take this side for closed."""
        head = (8 + len(text)).to_bytes(3, "big") + b"\x07\0\0\0\0\0"
        self.transport.write(head + last.to_bytes(4, "big") + code.to_bytes(4, "big") + text)


class PeerFactory(Factory):
    """
    :param serve: called with each request.
    """

    protocol = H2Peer
    noisy = False
    isSilent = False
    maxStreams: int | None = None
    #: Requests are served when their head has come; data of requests is taken.
    atHead = False
    takes = True

    def __init__(self, serve: Callable[[H2Peer, int, dict[str, str]], object]) -> None:
        self.serve = serve
        self.peers: list[H2Peer] = []
        self.received = 0
        self.resets: list[tuple[int, int]] = []

    def wasReset(self, stream: int, code: int) -> None:
        """A client has reset a stream."""
        self.resets.append((stream, code))
