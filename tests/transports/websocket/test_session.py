"""WebSocket sessions in memory: messages, refused handshakes, limits, pings, and threads."""

from __future__ import annotations

import zlib
from typing import Any

from getty_tx.codecs import LengthCodec, RawCodec
from getty_tx.errors import (
    CodecError,
    HandshakeTimeoutError,
    MessageTooLongError,
    ReadTimeoutError,
    UpgradeError,
    WriteTimeoutError,
)
from getty_tx.session.lifecycle import GONE
from getty_tx.testing import RecordingListener
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase, closeFrame, frame, parse, request

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}


class MessageTests(WebSocketCase):
    """Messages, one by one."""

    def test_kinds(self) -> None:
        """Text is answered with text and bytes with bytes, empty messages too."""
        self.open(ECHO)
        self.say(frame(1, "é".encode()), frame(2, b"\xff"), frame(1), frame(2))
        self.assertEqual(self.heard.packages, ["é", b"\xff", "", b""])
        self.assertEqual(self.said(), [(0x81, "é".encode()), (0x82, b"\xff"), (0x81, b""), (0x82, b"")])
        self.assertEqual((self.pair.server.stats.readPkgs, self.pair.server.stats.writePkgs), (4, 4))

    def test_isText(self) -> None:
        """``session.isText`` tells a codec the kind of a message."""
        kinds = []

        class Codec:
            def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
                kinds.append(session.isText)
                return data.tobytes(), len(data)

            def write(self, session: Any, pkg: Any) -> Any:
                return pkg

        self.open(codec=Codec())
        self.say(frame(1, b"a"), frame(2, b"b"), frame(1, b"c", fin=False), frame(0, b"d"))
        self.assertEqual(kinds, [True, False, True])

    def test_lengths(self) -> None:
        """All three forms of a length, in one piece and byte by byte."""
        for split in ([1 << 20], [7, 900, 1]):
            self.open(ECHO, network={"split": split})
            sizes = [0, 125, 126, 65535, 65536]
            self.say(*(frame(2, b"x" * size) for size in sizes))
            self.assertEqual([len(pkg) for pkg in self.heard.packages], sizes)
            self.assertEqual([len(payload) for _, payload in self.said()], sizes)

    def test_fragments(self) -> None:
        """A message in fragments, with a ping between them, is one package; the ping is answered at once."""
        self.open(ECHO)
        self.say(frame(1, b"a", fin=False), frame(9, b"p"), frame(0, b"b"), frame(2, b"c"))
        self.assertEqual(self.heard.packages, ["ab", b"c"])
        self.assertEqual(self.said(), [(0x8A, b"p"), (0x81, b"ab"), (0x82, b"c")])

    def test_order(self) -> None:
        """A pong follows the messages that were written before it."""
        self.open(ECHO)
        self.say(frame(2, b"1") + frame(9) + frame(2, b"2"))
        self.assertEqual(self.said(), [(0x82, b"1"), (0x8A, b""), (0x82, b"2")])

    def test_client(self) -> None:
        """A client masks its frames and accepts unmasked ones."""
        self.open(ECHO, isClient=True)
        self.assertEqual(str(self.pair.client).partition(":")[0], "{ws-session")
        self.assertIn(":WS_CLIENT:", str(self.pair.client))
        self.say(frame(1, b"hello" * 100, masked=False))
        self.assertTrue(self.pair.peer.data[1] & 0x80)
        self.assertEqual(self.said(), [(0x81, b"hello" * 100)])

    def test_codecs(self) -> None:
        """A message that is not exactly one package is refused with 1007."""
        for data in (b"\0\0\0", b"\0\0\0\1", b"\0\0\0\1ab"):
            self.open(codec=LengthCodec())
            self.say(frame(2, data))
            self.assertEqual(self.heard.names, ["open", "error"])
            self.assertIsInstance(self.heard.errors[0], CodecError)
            self.assertEqual(self.said()[-1][1][:2], (1007).to_bytes(2, "big"))
        self.open(ECHO, codec=LengthCodec())
        self.say(frame(2, b"\0\0\0\1a"))
        self.assertEqual(self.said(), [(0x82, b"\0\0\0\1a")])

    def test_writeBytes(self) -> None:
        """Each piece of bytes is a binary message, also those written to the transport."""
        self.open()
        session = self.pair.server
        self.assertEqual(session.writeBytesArray(b"a", b"bc"), 3)
        session.transport.write(b"d")
        self.pair.flush()
        self.assertEqual(self.said(), [(0x82, b"a"), (0x82, b"bc"), (0x82, b"d")])
        self.assertEqual(session.stats.writePkgs, 2)

    def test_first(self) -> None:
        """Messages that onOpen writes follow the answer to the handshake."""
        self.open({"open": lambda session: session.writePkg("welcome")})
        self.assertEqual(self.said(), [(0x81, b"welcome")])

    def test_early(self) -> None:
        """Messages that arrive with the request are delivered after onOpen."""
        self.connect(ECHO)
        self.pair.peer.write(request() + frame(2, b"a") + frame(9, b"b"))
        self.pair.flush()
        self.takeAnswer()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.assertEqual(self.said(), [(0x82, b"a"), (0x8A, b"b")])

    def test_pause(self) -> None:
        """A paused session delivers nothing more, also of the same read, and later continues there."""
        self.open({"message": lambda session, pkg: session.pauseReading() if pkg == b"1" else None})
        self.say(frame(2, b"1") + frame(1, b"2", fin=False) + frame(0, b"3") + frame(2, b"4"))
        self.assertEqual(self.heard.packages, [b"1"])
        self.pair.server.resumeReading()
        self.pair.flush()
        self.assertEqual(self.heard.packages, [b"1", "23", b"4"])

    def test_backPressure(self) -> None:
        """A peer that does not read its answers is not read from."""
        self.open({"message": lambda session, pkg: session.writePkg(b"x" * 64_000)}, network={"capacity": 65536})
        self.pair.clientTransport.pauseProducing()
        for _ in range(200):
            self.pair.peer.write(frame(2, b"q") * 10)
            self.pair.flush()
        self.assertLess(self.pair.server.pendingBytes, 1_000_000)
        self.pair.clientTransport.resumeProducing()
        self.pair.flush()
        self.assertEqual(len(self.heard.packages), 2000)

    def test_writeTimeout(self) -> None:
        """A peer that does not read for writeTimeout is dropped."""
        self.open(network={"capacity": 65536})
        self.pair.clientTransport.pauseProducing()
        self.pair.server.writePkg(b"x" * 500_000)
        self.pair.advance(12)
        self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)


class TLSTests(WebSocketCase):
    """startTLS is refused: TLS is only possible below WebSocket."""

    def test_startTLS(self) -> None:
        """It would encrypt below the frames."""
        self.open()
        self.assertRaises(CodecError, self.pair.server.transport.startTLS, object())
        self.say(frame(2, b"still there"))
        self.assertEqual(self.heard.packages, [b"still there"])


class DeflateTests(WebSocketCase):
    """permessage-deflate."""

    EXTENSION = {"Sec_WebSocket_Extensions": "permessage-deflate"}

    def compress(self, payload: bytes) -> bytes:
        deflate = zlib.compressobj(wbits=-15)
        return (deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def test_echo(self) -> None:
        """Both directions; uncompressed messages are accepted as well."""
        self.open(ECHO, headers=self.EXTENSION)
        self.assertIn("permessage-deflate", self.answer)
        self.say(frame(1, self.compress(b"ab" * 500), rsv=4), frame(2, b"plain"))
        self.assertEqual(self.heard.packages, ["ab" * 500, b"plain"])
        inflate = zlib.decompressobj(wbits=-15)
        said = [(first, inflate.decompress(payload + b"\0\0\xff\xff")) for first, payload in self.said()]
        self.assertEqual(said, [(0xC1, b"ab" * 500), (0xC2, b"plain")])

    def test_bomb(self) -> None:
        """A message that inflates to more than maxMsgLen is refused with 1009."""
        self.open(headers=self.EXTENSION)
        self.say(frame(2, self.compress(bytes(100_000_000)), rsv=4))
        self.assertEqual(self.said()[0][1][:2], (1009).to_bytes(2, "big"))
        self.assertIsInstance(self.heard.errors[0], MessageTooLongError)
        self.say(closeFrame(1009))
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEnded()

    def test_deflateNo(self) -> None:
        """``deflate=no``."""
        self.open(headers=self.EXTENSION, options=UpgradeOptions(deflate=False))
        self.assertNotIn("permessage-deflate", self.answer)

    def test_windowOfTheClient(self) -> None:
        """The answer asks for no larger window of the client than it offered (RFC 7692, section 7.1.2.2)."""
        for offer in ("client_max_window_bits=9", "client_max_window_bits"):
            self.open(headers={"Sec_WebSocket_Extensions": f"permessage-deflate; {offer}"})
            self.assertIn("permessage-deflate", self.answer)
            self.assertNotIn("client_max_window_bits", self.answer)


class HandshakeTests(WebSocketCase):
    """Refused requests, none of them with a traceback, and the results of accepted ones."""

    OPTIONS = UpgradeOptions(paths=("/a", "/b"), origins=("https://*.example",), subprotocols=("x", "y"))

    def refused(self, data: bytes) -> str:
        self.connect(options=self.OPTIONS)
        self.pair.peer.write(data)
        self.pair.flush()
        answer = self.takeAnswer()
        self.assertEqual(self.heard.events, [])
        self.pair.peer.end()
        self.pair.flush()
        self.assertEnded()
        return answer

    def test_refusals(self) -> None:
        """A plain request, another path, another origin, another method, and no HTTP at all."""
        plain = self.refused(request("/a", Upgrade=""))
        self.assertTrue(plain.startswith("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"), plain)
        cases = {
            404: [request("/c"), request("/c", Upgrade=""), request("/")],
            403: [request("/a", Origin="https://evil.test"), request("/a", Origin="null")],
            405: [b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n"],
            400: [b"\xff\xfe\0\r\n\r\n", request("/a", Sec_WebSocket_Key="short"), request("/a", Host="")],
            431: [b"GET /a HTTP/1.1\r\nX: " + b"x" * 70_000],
        }
        for code, requests in cases.items():
            for each in requests:
                self.assertTrue(self.refused(each).startswith(f"HTTP/1.1 {code} "), (code, each[:80]))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_agreed(self) -> None:
        """Path, subprotocol and origin of an accepted request."""
        self.connect(options=self.OPTIONS)
        self.pair.peer.write(request("/b?q=1", Origin="https://www.example", Sec_WebSocket_Protocol="z, y, x"))
        self.pair.flush()
        self.assertIn("Sec-WebSocket-Protocol: x", self.takeAnswer())
        session: Any = self.pair.server
        self.assertEqual((session.path, session.subprotocol), ("/b", "x"))

    def test_late(self) -> None:
        """A client that sends nothing, or an incomplete request, is dropped after handshakeTimeout."""
        for data in (b"", request()[:-1]):
            self.connect(factory={"handshakeTimeout": 2.0})
            self.pair.peer.write(data)
            self.pair.advance(1.9)
            self.assertIsNone(self.pair.peer.lost)
            self.pair.advance(0.3)
            self.assertIsNotNone(self.pair.peer.lost)
            self.assertIsInstance(self.pair.serverProtocol._failure, HandshakeTimeoutError)
            self.assertEnded()

    def test_maxSessions(self) -> None:
        """A request above maxSessions is answered with 503, and a later one is accepted."""
        self.open(factory={"maxSessions": 1})
        first = self.pair
        second = self.pair = self.network.join(self.factory.buildProtocol(None), type(first.peer)())
        second.peer.write(request())
        second.flush()
        self.assertTrue(self.takeAnswer().startswith("HTTP/1.1 503 "))
        self.assertEqual((self.factory.context.refused, self.factory.context.connections), (1, 1))
        first.peer.write(closeFrame())
        first.flush()
        self.pair = self.network.join(self.factory.buildProtocol(None), type(first.peer)())
        self.pair.peer.write(request())
        self.pair.flush()
        self.assertTrue(self.takeAnswer().startswith("HTTP/1.1 101 "))

    def test_flood(self) -> None:
        """Far above maxSessions a connection is dropped without an answer."""
        self.open(factory={"maxSessions": 1})
        for _ in range(70):
            self.network.join(self.factory.buildProtocol(None), type(self.pair.peer)())
        self.assertLess(self.factory.context.connections, 70)

    def test_newSessionRefuses(self) -> None:
        """newSession's refusal is a Close frame with 1008."""

        def newSession(session: Any) -> None:
            raise ValueError("no")

        self.connect(newSession=newSession)
        self.pair.peer.write(request())
        self.pair.flush()
        self.takeAnswer()
        self.assertEqual(self.said(), [(0x88, (1008).to_bytes(2, "big"))])
        # No frame follows a Close frame.
        configured = configure(None, RawCodec())
        self.connect(newSession=lambda session: (configured(session), session.close("not now")))
        self.pair.peer.write(request())
        self.pair.flush()
        self.takeAnswer()
        self.assertEqual(self.said(), [(0x88, (1000).to_bytes(2, "big") + b"not now")])
        self.assertEnded()

    def test_client(self) -> None:
        """If a server refuses, or is no WebSocket server, the attempt fails with its answer."""
        for answer, text in [
            (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            (b"SSH-2.0\r\n\r\n", "SSH"),
            (b"\xff\xfe\r\n\r\n", "handshake"),
            (b"x" * 70_000, "longer"),
        ]:
            self.connect(isClient=True)
            self.assertIn(b"GET / HTTP/1.1\r\n", bytes(self.pair.peer.data))
            self.pair.peer.write(answer)
            self.pair.flush()
            failure = self.pair.clientProtocol._failure
            self.assertIsInstance(failure, UpgradeError)
            self.assertIn(text, str(failure))
            self.assertEqual(self.heard.events, [])
            self.assertEnded()
        self.assertEqual(self.flushLoggedErrors(), [])


class PingTests(WebSocketCase):
    """Pings every cronPeriod."""

    def test_answered(self) -> None:
        """A peer that answers, or sends messages instead, stays connected."""
        for answer in ("pong", "message"):
            self.open(cronPeriod=10.0)
            for _ in range(5):
                self.pair.advance(10.2)
                pings = [payload for first, payload in self.said() if first == 0x89]
                self.assertEqual(len(pings), 1, answer)
                self.say(frame(10, pings[0]) if answer == "pong" else frame(2, b"here"))
            self.assertNotIn("error", self.heard.names)

    def test_unanswered(self) -> None:
        """A peer that does not answer is dropped after another cronPeriod."""
        self.open(cronPeriod=10.0)
        self.pair.advance(10.2)
        self.assertEqual(self.said()[0][0], 0x89)
        self.pair.advance(9.5)
        self.assertNotIn("error", self.heard.names)
        self.pair.advance(1)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.assertEqual(self.heard.names[-1], "close")
        self.assertEnded()

    def test_paused(self) -> None:
        """While a session does not read, its peer does not time out."""
        self.open(cronPeriod=10.0)
        self.pair.server.pauseReading()
        self.pair.advance(45)
        self.assertNotIn("error", self.heard.names)

    def test_changed(self) -> None:
        """A cronPeriod that is set later takes effect at once, and so does maxMsgLen."""
        self.open()
        self.pair.server.cronPeriod = 5.0
        self.pair.server.maxMsgLen = 10
        self.pair.advance(5.2)
        self.assertEqual(self.said()[0][0], 0x89)
        self.say(frame(2, b"x" * 11))
        self.assertIsInstance(self.heard.errors[0], MessageTooLongError)


class ThreadTests(WebSocketCase):
    """Writing from another thread."""

    def test_write(self) -> None:
        """The kind of each message is kept."""
        import threading

        self.open()
        session = self.pair.server

        def write() -> None:
            session.writePkg("text")
            session.writePkg(b"bytes")
            session.close("done")

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        self.pair.flush()
        self.assertEqual(self.said(), [(0x81, b"text"), (0x82, b"bytes"), (0x88, b"\x03\xe8done")])


class BothTests(WebSocketCase):
    """Sessions at both ends."""

    def test_pair(self) -> None:
        """A client and a server, closed from either side."""
        for closer in ("server", "client"):
            self.connect()
            heard = RecordingListener(ECHO)
            from getty_tx.codecs import RawCodec
            from getty_tx.transports.websocket import WebSocketSessionClientFactory
            from tests.support.memory import configure

            client = WebSocketSessionClientFactory(configure(heard, RawCodec()), reactor=self.network.clock)
            client.continueTrying = 0
            pair = self.network.connect(self.factory, client)
            pair.flush()
            pair.server.writePkg("hello")
            pair.flush()
            self.assertEqual(self.heard.packages, ["hello"])
            session = getattr(pair, closer)
            session.close()
            pair.flush()
            self.assertEqual(session.state, GONE)
            self.assertEqual((self.heard.names[-1], heard.names[-1], heard.errors), ("close", "close", []))
            self.assertEqual(parse(b""), [])
