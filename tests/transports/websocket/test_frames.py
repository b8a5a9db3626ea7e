"""Frames, options of handshakes, descriptions, and the private names of Autobahn that are used."""

from __future__ import annotations

import random
import sys
from typing import Any
from unittest.mock import patch

import _nvx_xormasker
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from websockets.speedups import apply_mask

from getty_tx.codecs import RawCodec
from getty_tx.endpoints import clientEndpoint, serverEndpoint
from getty_tx.errors import SettingError
from getty_tx.session.context import ServiceContext
from getty_tx.transports.websocket import frames
from getty_tx.transports.websocket.endpoints import WebSocketClientEndpoint, WebSocketServerEndpoint
from getty_tx.transports.websocket.engine import makeSettings
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.websocket import parse

nvx = frames._makeXor(_nvx_xormasker)


class FrameTests(SynchronousTestCase):
    """Headers and masks."""

    @given(st.integers(0, 300_000), st.binary(min_size=4, max_size=4))
    def test_xor(self, size: int, mask: bytes) -> None:
        """The result is the same in C and with integers, and masking twice returns the payload."""
        payload = random.randbytes(size)
        masked = frames._xorInt(payload, mask)
        self.assertEqual(masked[:4], bytes(a ^ b for a, b in zip(payload, mask, strict=False)))
        for xor in (apply_mask, nvx, frames._xorInt):
            self.assertEqual(xor(payload, mask), masked)
            self.assertEqual(xor(masked, mask), payload)

    def test_fastest(self) -> None:
        """The C part of websockets is called, without it that of Autobahn, and without both integers are used."""
        self.assertIs(frames.xor, apply_mask)
        with patch.dict(sys.modules, {"websockets.speedups": None}):
            self.assertEqual(frames.fastestXor().__qualname__, nvx.__qualname__)
            with patch.dict(sys.modules, {"_nvx_xormasker": None}):
                self.assertIs(frames.fastestXor(), frames._xorInt)

    @given(st.sampled_from([0, 1, 125, 126, 65535, 65536]), st.booleans())
    def test_wholeFrame(self, size: int, masked: bool) -> None:
        """A frame can be read back, and ``sizeOf`` finds its size from its first bytes."""
        payload = random.randbytes(size)
        frame = frames.wholeFrame(frames.BINARY, payload, masked)
        self.assertEqual(parse(frame), [(0x82, payload)])
        head, length = frames.sizeOf(frame[: frames.MAX_HEADER])
        self.assertEqual((head + length, length), (len(frame), size))
        for have in range(head):
            least, unknown = frames.sizeOf(frame[:have])
            self.assertEqual(unknown, -1)
            self.assertTrue(have < least <= head)


class OptionTests(SynchronousTestCase):
    """Valid and invalid descriptions."""

    def test_server(self) -> None:
        """All options of a server."""
        description = (
            "ws:0:path=/a,/b:origins=https\\://*.a.example,http\\://b:subprotocols=x,y:deflate=no:interface=::1"
        )
        endpoint: Any = serverEndpoint(description.replace("::1", "\\:\\:1"), None)
        self.assertIsInstance(endpoint, WebSocketServerEndpoint)
        options = endpoint.options
        self.assertEqual((options.paths, options.subprotocols, options.deflate), (("/a", "/b"), ("x", "y"), False))
        for origin, allowed in [
            ("https://www.a.example", True),
            ("HTTP://B", True),
            ("", True),
            ("https://a.example.evil.test", False),
            ("null", False),
            ("http://b.evil.test", False),
        ]:
            self.assertEqual(options.allows(origin), allowed, origin)

    def test_client(self) -> None:
        """Both forms of a client's description."""
        from twisted.internet.testing import MemoryReactorClock

        reactor = MemoryReactorClock()
        for description, host, port, path in [
            ("ws:a.example:8091:path=/echo", "a.example", 8091, "/echo"),
            ("ws://a.example:8091/echo?q=1", "a.example", 8091, "/echo?q=1"),
            ("ws://a.example", "a.example", 80, "/"),
            ("ws://[::1]:81/", "[::1]", 81, "/"),
            ("wss://a.example/x", "a.example", 443, "/x"),
        ]:
            endpoint: Any = clientEndpoint(description, reactor)
            self.assertIsInstance(endpoint, WebSocketClientEndpoint)
            options = endpoint.options
            self.assertEqual((options.host, options.port, options.paths), (host, port, (path,)))

    def test_wrong(self) -> None:
        """Each error says what is wrong."""
        for description in [
            "ws:path=/",
            "ws:0:path=echo",
            "ws:0:path=/a b",
            "ws:0:deflate=perhaps",
            "ws:0:certKey=x.pem",
            "ws:70000:path=/",
            "ws:0:endpoint=tcp\\:0",
            "ws:endpoint=nothing\\:0",
            "ws:0:subprotocols=a b",
            "wss:0:certKey=/nowhere.pem",
        ]:
            error = self.assertRaises(SettingError, serverEndpoint, description, None)
            self.assertIn(repr(description), str(error))
        for description in ["ws:host", "ws://", "ws://u@host/", "ws://host/#f", "ws:host:x:path=/", "ws:host:1:paht=/"]:
            error = self.assertRaises(SettingError, clientEndpoint, description, Clock())
            self.assertIn(description, str(error))


class PrivateTests(SynchronousTestCase):
    """The undocumented names of Autobahn that getty_tx uses; these tests fail if one disappears."""

    def test_timers(self) -> None:
        """The factories have ``_batched_timer``, and its ``call_later`` uses the service's wheel."""
        clock = Clock()
        context = ServiceContext(None, lambda session: None, reactor=clock)
        for isClient, base in [(False, WebSocketServerFactory), (True, WebSocketClientFactory)]:
            self.assertTrue(hasattr(base(reactor=clock)._batched_timer, "call_later"))
            settings = makeSettings(context, UpgradeOptions(), isClient)
            called: list[int] = []
            settings._batched_timer.call_later(1.0, lambda called=called: called.append(1))
            settings._batched_timer.call_later(1.0, lambda called=called: called.append(2)).cancel()
            clock.pump([0.1] * 12)
            self.assertEqual(called, [1])

    def test_names(self) -> None:
        """The methods that are overridden or called."""
        for name in (
            "_cancelAutoPingTimeoutCall",
            "_closeConnection",
            "_connectionLost",
            "_connectionMade",
            "_dataReceived",
            "_fail_connection",
            "_onOpen",
            "_sendAutoPing",
            "consumeData",
            "dropConnection",
            "failHandshake",
            "onCloseFrame",
            "onMessageEnd",
            "onPing",
            "onPong",
            "sendCloseFrame",
        ):
            self.assertTrue(callable(getattr(WebSocketServerProtocol, name)), name)
        self.assertTrue(WebSocketServerProtocol.CONFIG_ATTRS)
        self.assertEqual((WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSED), (3, 0))


class RawTests(SynchronousTestCase):
    """RawCodec without and with messages."""

    def test_empty(self) -> None:
        """No bytes on a stream are no package; an empty message is one."""

        class Session:
            isText: bool | None = None

        session: Any = Session()
        self.assertEqual(RawCodec().read(session, memoryview(b"")), (None, 0))
        session.isText = True
        self.assertEqual(RawCodec().read(session, memoryview(b"")), ("", 0))
        session.isText = False
        self.assertEqual(RawCodec().read(session, memoryview(b"")), (b"", 0))
