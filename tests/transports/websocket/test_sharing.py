"""Frames that many sessions get, mixed with those of their own: what peers make of them."""

from __future__ import annotations

import zlib
from typing import Any

from autobahn.websocket.compress import PerMessageDeflate

from getty_tx.codecs import RawCodec
from getty_tx.session.sharing import STREAM, writeToAll
from getty_tx.transports.websocket.session import contextIsLost
from getty_tx.transports.websocket.sharing import PLAIN, deflateFraming
from tests.support.websocket import WebSocketCase

OFFER = "permessage-deflate; client_max_window_bits"


class SharingTests(WebSocketCase):
    def deflated(self, offer: str) -> Any:
        """The session of a peer that has offered compression."""
        from getty_tx.transports.websocket.request import UpgradeOptions

        options = UpgradeOptions(deflate=True)
        return self.open(options=options, headers={"Sec-WebSocket-Extensions": offer}).server

    def write(self, session: Any, data: Any) -> None:
        """As a group does."""
        framing = session.framing
        writeToAll([session], 0, framing.frame(data), 1, framing, 1000, float, 1.0, [])
        self.pair.flush()

    def test_plain(self) -> None:
        """Text and bytes, long and short."""
        session = self.open().server
        self.assertIs(session.framing, PLAIN)
        for data, first, payload in (
            ("ä", 0x81, "ä".encode()),
            (b"x" * 300, 0x82, b"x" * 300),
            ([b"a", b"b"], 0x82, b"ab"),
        ):
            self.write(session, data)
            self.assertEqual(self.said(), [(first, payload)])
        self.assertEqual(session.stats.writePkgs, 3)

    def test_client(self) -> None:
        """A client masks each frame: it shares none."""
        self.assertIsNone(self.open(isClient=True).client.framing)

    def test_deflate(self) -> None:
        """Shared frames and own ones in any order, for a decompressor that goes on from message to message."""
        session = self.deflated(OFFER)
        self.assertIs(session.framing, deflateFraming(12, contextIsLost))
        decompressor = zlib.decompressobj(-12)
        text = "the same words again and again, and again the same words"
        for number, isShared in enumerate([True, False, True, True, False, False, True, False]):
            message = f"{number}: {text}"
            if isShared:
                self.write(session, message)
            else:
                session.writePkg(message)
                self.pair.flush()
            [(first, payload)] = self.said()
            self.assertEqual(first, 0xC1)
            self.assertEqual(decompressor.decompress(payload + b"\0\0\xff\xff").decode(), message)

    def test_window(self) -> None:
        """A peer with a small window gets frames that it can read."""
        session = self.deflated("permessage-deflate; server_max_window_bits=9")
        message = "".join(chr(65 + number * 7 % 26) * (number % 9) for number in range(2000))
        self.write(session, message)
        [(_, payload)] = self.said()
        self.assertEqual(zlib.decompressobj(-9).decompress(payload + b"\0\0\xff\xff").decode(), message)

    def test_engine(self) -> None:
        """The name by which an engine has what compresses."""
        session = self.deflated(OFFER)
        session.writePkg("own")
        self.assertIsNotNone(session._engine._perMessageCompress._compressor)
        contextIsLost(session)
        self.assertIsNone(session._engine._perMessageCompress._compressor)

    def test_compressorOfAutobahn(self) -> None:
        """The name by which an engine lets go of its compressor."""
        compress = PerMessageDeflate(True, False, False, 12, 12, 5)
        self.assertIsNone(compress._compressor)
        compress.start_compress_message()
        first = compress._compressor
        self.assertIsNotNone(first)
        compress.start_compress_message()
        self.assertIs(compress._compressor, first)
        compress._compressor = None
        compress.start_compress_message()
        self.assertIsNot(compress._compressor, first)

    def test_stream(self) -> None:
        self.assertEqual(STREAM.frame([b"a", b"b"]), b"ab")
        self.assertEqual(STREAM.frame(bytearray(b"a")), b"a")
        self.assertRaises(TypeError, STREAM.frame, "text")
        self.assertEqual(RawCodec().shareKey(None), RawCodec)
