"""Helpers for tests of WebSocket: both handshakes, frames, and a test case with a raw peer."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import RawCodec
from getty_tx.session import outbound
from getty_tx.testing import DirectTransport, Network, Pair, Peer, RecordingListener
from getty_tx.transports.websocket import WebSocketSessionClientFactory, WebSocketSessionServerFactory
from getty_tx.transports.websocket.frames import xor
from tests.support.memory import configure

if TYPE_CHECKING:
    from getty_tx.testing import MemoryTransport
    from getty_tx.transports.websocket.request import UpgradeOptions

KEY = base64.b64encode(b"sixteen bytes!!!").decode()
MASK = b"\x11\x22\x33\x44"


def request(path: str = "/", **headers: str) -> bytes:
    """A client's request. An underscore in a header's name stands for a hyphen; an empty value omits the header."""
    fields = {
        "Host": "a.example",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode()


def response(ofRequest: bytes, **headers: str) -> bytes:
    """A server's answer."""
    key = next(line[19:].strip() for line in ofRequest.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True, form: int | None = None
) -> bytes:
    """Any frame; ``form`` forces 0, 2 or 8 bytes of extended length."""
    size = len(payload)
    if form is None:
        form = 0 if size < 126 else 2 if size < 65536 else 8
    first, bit = (0x80 if fin else 0) | rsv << 4 | opcode, 0x80 if masked else 0
    if form == 0:
        head = struct.pack("!BB", first, bit | size)
    elif form == 2:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (MASK + xor(payload, MASK) if masked else payload)


def closeFrame(code: int | None = 1000, reason: str = "", masked: bool = True) -> bytes:
    """A Close frame."""
    payload = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return frame(8, payload, masked=masked)


def parse(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame."""
    found = []
    while data:
        size = data[1] & 0x7F
        at = 2
        if size > 125:
            extended = 2 if size == 126 else 8
            size = int.from_bytes(data[2 : 2 + extended], "big")
            at += extended
        if data[1] & 0x80:
            mask, at = data[at : at + 4], at + 4
            payload = xor(data[at : at + size], mask)
        else:
            payload = data[at : at + size]
        found.append((data[0], payload))
        data = data[at + size :]
    return found


class WebSocketCase(SynchronousTestCase):
    """Tests of one WebSocket session with a raw peer, ``self.pair``; its listener is ``self.heard``."""

    def setUp(self) -> None:
        self.patch(outbound, "DIRECT", outbound.DIRECT | {DirectTransport})
        self.heard = RecordingListener()

    def connect(
        self,
        on: dict[str, Any] | None = None,
        *,
        isClient: bool = False,
        codec: Any = None,
        options: UpgradeOptions | None = None,
        factory: dict[str, Any] | None = None,
        network: dict[str, Any] | None = None,
        transport: type[MemoryTransport] = DirectTransport,
        newSession: Any = None,
        **settings: Any,
    ) -> Pair:
        """Connect a session's protocol and a peer, without a handshake."""
        self.heard = RecordingListener(on)
        self.network = Network(transport=transport, **(network or {}))
        configured = newSession or configure(self.heard, codec or RawCodec(), **settings)
        made: Any = WebSocketSessionClientFactory if isClient else WebSocketSessionServerFactory
        self.factory = made(configured, options, reactor=self.network.clock, **(factory or {}))
        if isClient:
            self.factory.continueTrying = 0
        protocol = self.factory.buildProtocol(None)
        ends = (Peer(), protocol) if isClient else (protocol, Peer())
        self.pair = self.network.join(*ends)
        self.pair.flush()
        return self.pair

    def open(self, on: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None, **settings: Any) -> Pair:
        """Connect, and do the handshake."""
        pair = self.connect(on, **settings)
        if settings.get("isClient"):
            pair.peer.write(response(bytes(pair.peer.data), **(headers or {})))
            pair.peer.data.clear()
            pair.flush()
        else:
            pair.peer.write(request(**(headers or {})))
            pair.flush()
            self.answer = self.takeAnswer()
            self.assertTrue(self.answer.startswith("HTTP/1.1 101 "), self.answer)
        return pair

    def takeAnswer(self) -> str:
        """The server's HTTP answer."""
        head, _, rest = bytes(self.pair.peer.data).partition(b"\r\n\r\n")
        self.pair.peer.data[:] = rest
        return head.decode()

    def say(self, *frames: bytes) -> None:
        """The peer sends frames."""
        for each in frames:
            self.pair.peer.write(each)
        self.pair.flush()

    def said(self) -> list[tuple[int, bytes]]:
        """First byte and payload of the frames that the session has sent since last asked."""
        data = bytes(self.pair.peer.data)
        self.pair.peer.data.clear()
        return parse(data)

    def assertEnded(self) -> None:
        """The connection has ended and left nothing behind, also no timer of Autobahn."""
        context = self.factory.context
        self.assertEqual((context.connections, context.sessions, context.handshaking), (0, set(), set()))
        self.assertEqual(len(context.wheel), 0, "timers are left on the wheel")
        self.pair.flush()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])
