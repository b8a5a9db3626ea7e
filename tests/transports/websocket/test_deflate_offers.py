"""
permessage-deflate: offers of clients, our answers, their reaction to them, and which contexts are kept.

The offers and the rules are those of the clients' sources, each named in a comment. What is theirs is not run here, but
for ``websockets``.
"""

from __future__ import annotations

import json
import random
import zlib
from typing import TYPE_CHECKING, NamedTuple

from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from getty_tx.codecs import RawCodec
from getty_tx.errors import CodecError, UpgradeError
from getty_tx.testing import RecordingListener
from getty_tx.transports.websocket import WebSocketSessionClientFactory
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.memory import configure
from tests.support.websocket import WebSocketCase, frame, response

if TYPE_CHECKING:
    from collections.abc import Callable

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}

#: An extension's parameters and their values.
Parameters = dict[str, str | None]

PLAIN = "permessage-deflate"
BITS = "permessage-deflate; client_max_window_bits"
BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def parameters(value: str) -> Parameters:
    """
    Those of one permessage-deflate.

    :raise ValueError: one is there twice.
    """
    name, *rest = (part.strip() for part in value.split(";"))
    assert name == "permessage-deflate", value
    found: Parameters = {}
    for part in rest:
        key, sign, number = part.partition("=")
        if key in found:
            raise ValueError(part)
        found[key] = number if sign else None
    return found


def bits(given: Parameters, name: str) -> int:
    """The bits of a window; 15 if it is missing or has no number."""
    return int(given.get(name) or 15)


def rfc(offer: Parameters, answer: Parameters) -> bool:
    """RFC 7692, sections 7.1.1 and 7.1.2."""
    windows = {"server_max_window_bits", "client_max_window_bits"}
    return (
        set(answer) <= windows | {"server_no_context_takeover", "client_no_context_takeover"}
        and all((value is not None) is (name in windows) for name, value in answer.items())
        and all(8 <= bits(answer, name) <= bits(offer, name) for name in windows)
        and not ("server_no_context_takeover" in offer and "server_no_context_takeover" not in answer)
        and not ("server_max_window_bits" in offer and "server_max_window_bits" not in answer)
        and not ("client_max_window_bits" in answer and "client_max_window_bits" not in offer)
    )


def gorilla(offer: Parameters, answer: Parameters) -> bool:
    """It requires both parameters in the answer."""
    return "server_no_context_takeover" in answer and "client_no_context_takeover" in answer


def coder(offer: Parameters, answer: Parameters) -> bool:
    """The answer may not have a client window."""
    return "client_max_window_bits" not in answer


def ws(offer: Parameters, answer: Parameters) -> bool:
    """With ``clientNoContextTakeover: false``, whose offer is the same, it must not be in the answer."""
    return "client_no_context_takeover" in offer or "client_no_context_takeover" not in answer


def okhttp(offer: Parameters, answer: Parameters) -> bool:
    """The answer may not have a client window, but any server window."""
    return "client_max_window_bits" not in answer


def javaWebSocket(offer: Parameters, answer: Parameters) -> bool:
    """The answer may only have the largest client window, because Java has no other."""
    return bits(answer, "client_max_window_bits") == 15


def tyrus(offer: Parameters, answer: Parameters) -> bool:
    """It does not read the answer, and keeps its context."""
    return "client_no_context_takeover" not in answer


def dotnet(offer: Parameters, answer: Parameters) -> bool:
    """No window may be larger than offered; a missing one is 15."""
    return all(bits(answer, name) <= bits(offer, name) for name in ("server_max_window_bits", "client_max_window_bits"))


def websockets(offer: Parameters, answer: Parameters) -> bool:
    """The library's own check."""
    window = offer.get("client_max_window_bits")
    server = offer.get("server_max_window_bits")
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover="server_no_context_takeover" in offer,
        client_no_context_takeover="client_no_context_takeover" in offer,
        server_max_window_bits=int(server) if server else None,
        client_max_window_bits=int(window) if window else "client_max_window_bits" in offer or None,
    )
    try:
        factory.process_response_params(list(answer.items()), [])
    except NegotiationError:
        return False
    return True


class Case(NamedTuple):
    """A client, its offer, and the answer that it gets."""

    client: str
    offer: str
    answer: str
    accepts: Callable[[Parameters, Parameters], bool] = rfc


CASES = [
    # gorilla/websocket: client.go, DialContext; so each WebSocket client of Getty in Go (its client.go sets
    # EnableCompression).
    Case("gorilla", BOTH, BOTH, gorilla),
    # coder/websocket, once nhooyr.io/websocket: compress.go, compressionOptions.String; dial.go, verifyServerExtensions
    Case("coder, CompressionContextTakeover", PLAIN, PLAIN, coder),
    Case(
        "coder, CompressionNoContextTakeover",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        BOTH,
        coder,
    ),
    # chromium/chromium: net/websockets/websocket_handshake_stream_create_helper.cc, CreateBasicStream;
    # websocket_deflate_parameters.cc, IsCompatibleWith, which is the RFC's.
    Case("Chromium", BITS, PLAIN),
    # mozilla/gecko-dev: netwerk/protocol/websocket/WebSocketChannel.cpp, SetupRequest; ParseWebSocketExtension takes
    # all that the RFC knows.
    Case("Firefox", PLAIN, PLAIN),
    # python-websockets/websockets: src/websockets/extensions/permessage_deflate.py, enable_client_permessage_deflate.
    Case("websockets", BITS, PLAIN, websockets),
    Case("websockets, both", BOTH + "; client_max_window_bits", BOTH, websockets),
    Case(
        "websockets, a window of the server's",
        "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=9",
        websockets,
    ),
    # crossbario/autobahn-python: src/autobahn/websocket/compress_deflate.py, PerMessageDeflateOffer.
    Case(
        "Autobahn",
        "permessage-deflate; client_no_context_takeover; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover",
    ),
    # websockets/ws: lib/permessage-deflate.js, offer and acceptAsClient.
    Case("ws", BITS, PLAIN, ws),
    Case("ws, both", BOTH + "; client_max_window_bits", BOTH, ws),
    # square/okhttp: okhttp3/internal/ws/RealWebSocket.kt, connect and isValid.
    Case("OkHttp", PLAIN, PLAIN, okhttp),
    # TooTallNate/Java-WebSocket: PerMessageDeflateExtension.java, getProvidedExtensionAsClient and
    # acceptExtensionParametersAsClient.
    Case("Java-WebSocket", PLAIN, PLAIN, javaWebSocket),
    Case(
        "Java-WebSocket, both",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        BOTH,
        javaWebSocket,
    ),
    # eclipse-ee4j/tyrus: org/glassfish/tyrus/ext/extension/deflate/PerMessageDeflateExtension.java, getParameters and
    # onHandshakeResponse.
    Case("Tyrus", PLAIN, PLAIN, tyrus),
    # jetty/jetty.project: PerMessageDeflateExtension.java, init, takes all that the RFC knows; what it offers it is
    # given (CoreClientUpgradeRequest.java), and sorts the parameters.
    Case("Jetty", PLAIN, PLAIN),
    Case("Jetty, both", "permessage-deflate;client_no_context_takeover;server_no_context_takeover", BOTH),
    # dotnet/runtime: System/Net/WebSockets/WebSocketHandle.Managed.cs, GetDeflateOptions and ParseDeflateOptions.
    Case(".NET, DangerousDeflateOptions", BITS, PLAIN, dotnet),
    Case(
        ".NET, both, and a window of the server's",
        "permessage-deflate; client_max_window_bits; client_no_context_takeover; server_max_window_bits=10; "
        "server_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=10; client_no_context_takeover",
        dotnet,
    ),
]

#: What getty_tx itself offers.
OURS = "permessage-deflate; client_max_window_bits"
OURS_TOO = "permessage-deflate; client_no_context_takeover; client_max_window_bits"

_blocks = [random.Random(number).randbytes(size) for number, size in enumerate((700, 5000))]

#: Similar messages, with repetitions that are further away than the smaller windows reach.
MESSAGES = [
    *(json.dumps({"number": number, "text": "hello world " * 20}).encode() for number in range(4)),
    b"",
    *(block + block for block in _blocks),
    b"a" * 50_000,
]


class Deflater:
    """
    One direction of permessage-deflate, of a client or a server.

    :param isKept: whether a message may refer to those before it.
    """

    def __init__(self, isKept: bool, window: int = 15) -> None:
        self.isKept = isKept
        self.window = window
        self._deflate = zlib.compressobj(wbits=-window)
        self._inflate = zlib.decompressobj(wbits=-window)

    def deflate(self, payload: bytes) -> bytes:
        """Compress a message."""
        if not self.isKept:
            self._deflate = zlib.compressobj(wbits=-self.window)
        return (self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def inflate(self, payload: bytes) -> bytes:
        """Decompress a message."""
        if not self.isKept:
            self._inflate = zlib.decompressobj(wbits=-self.window)
        return self._inflate.decompress(payload + b"\0\0\xff\xff")


class OfferTests(WebSocketCase):
    """Offers of clients to our server."""

    def answerTo(self, offer: str) -> str | None:
        """The extensions that our server answers with."""
        self.open(ECHO, headers={"Sec_WebSocket_Extensions": offer})
        lines = (line.partition(": ") for line in self.answer.split("\r\n"))
        return next((value for name, _, value in lines if name == "Sec-WebSocket-Extensions"), None)

    def echo(self, out: Deflater, back: Deflater) -> list[int]:
        """Check that all messages are echoed; return their compressed lengths."""
        sizes = []
        for number, message in enumerate(MESSAGES):
            payload = out.deflate(message)
            if number % 2:
                # In two frames.
                self.say(frame(2, payload[:10], rsv=4, fin=False), frame(0, payload[10:]))
            else:
                self.say(frame(2, payload, rsv=4))
            ((first, answer),) = self.said()
            self.assertEqual((first, back.inflate(answer)), (0xC2, message))
            sizes.append(len(answer))
        self.assertEqual(self.heard.packages, MESSAGES)
        return sizes

    def test_answers(self) -> None:
        """Each client gets this answer and accepts it, and all of its messages are echoed."""
        for case in CASES:
            answer = self.answerTo(case.offer)
            self.assertEqual(answer, case.answer, case.client)
            offered, agreed = parameters(case.offer), parameters(case.answer)
            self.assertTrue(rfc(offered, agreed), case.client)
            self.assertTrue(case.accepts(offered, agreed), case.client)
            self.echo(
                Deflater("client_no_context_takeover" not in agreed, bits(offered, "client_max_window_bits")),
                Deflater("server_no_context_takeover" not in agreed, bits(agreed, "server_max_window_bits")),
            )

    def test_rules(self) -> None:
        """The rules refuse invalid answers: gorilla's once broke on half an answer."""
        half = parameters("permessage-deflate; server_no_context_takeover")
        self.assertFalse(gorilla(parameters(BOTH), half))
        asked = parameters("permessage-deflate; client_no_context_takeover")
        self.assertTrue(rfc({}, asked))
        self.assertFalse(tyrus({}, asked) or ws({}, asked))
        window = parameters("permessage-deflate; client_max_window_bits=10")
        for rule in (rfc, coder, okhttp, javaWebSocket, websockets):
            self.assertFalse(rule({}, window), rule.__name__)
        wide = parameters("permessage-deflate; server_max_window_bits=15")
        narrow = parameters("permessage-deflate; server_max_window_bits=10")
        for rule in (rfc, dotnet, websockets):
            self.assertFalse(rule(narrow, wide) or rule(narrow, {}), rule.__name__)

    def test_ours(self) -> None:
        """The first of our client's two offers is accepted, so contexts are kept."""
        self.assertEqual(self.answerTo(f"{OURS}, {OURS_TOO}"), PLAIN)

    def test_first(self) -> None:
        """The first of several offers is answered; other extensions are ignored."""
        for offer, answer in [
            (f"x-webkit-deflate-frame, {BOTH}", BOTH),
            (f"permessage-bzip2; client_no_context_takeover, {PLAIN}", PLAIN),
            # Invalid parameters are declined (RFC 7692, section 7.1), and so is a window that zlib does not support,
            # which ws offers under serverMaxWindowBits: 8.
            ("permessage-deflate; server_max_window_bits=8; client_max_window_bits", None),
            (f"permessage-deflate; server_max_window_bits=8, {BOTH}", BOTH),
            (f"permessage-deflate; window=8, {BOTH}", BOTH),
            (f"permessage-deflate; client_no_context_takeover; client_no_context_takeover, {PLAIN}", PLAIN),
            (f"{PLAIN}, {BOTH}", PLAIN),
            (f"{BOTH}, {PLAIN}", BOTH),
            ("Permessage-Deflate; Client_No_Context_Takeover", "permessage-deflate; client_no_context_takeover"),
            ("x-webkit-deflate-frame", None),
        ]:
            self.assertEqual(self.answerTo(offer), answer, offer)

    def test_deflateNo(self) -> None:
        """``deflate=no``: no offer is answered."""
        for case in CASES:
            self.open(options=UpgradeOptions(deflate=False), headers={"Sec_WebSocket_Extensions": case.offer})
            self.assertNotIn("Sec-WebSocket-Extensions", self.answer)

    def test_contexts(self) -> None:
        """Similar messages become shorter if the context is kept, and not otherwise."""
        self.answerTo(PLAIN)
        sizes = self.echo(Deflater(True), Deflater(True))
        self.assertLess(sizes[1], sizes[0] // 2)
        self.answerTo(BOTH)
        sizes = self.echo(Deflater(False), Deflater(False))
        self.assertEqual(sizes[1], sizes[0])

    def test_forgotten(self) -> None:
        """After client_no_context_takeover our server forgets each message before the next one."""
        self.answerTo(BOTH)
        out = Deflater(True)
        self.say(frame(2, out.deflate(MESSAGES[0]), rsv=4))
        self.assertEqual(self.heard.packages, [MESSAGES[0]])
        self.say(frame(2, out.deflate(MESSAGES[0]), rsv=4))
        self.assertEqual(self.heard.packages, [MESSAGES[0]])
        self.assertIsInstance(self.heard.errors[0], CodecError)
        self.assertEqual(self.said()[-1][1][:2], (1007).to_bytes(2, "big"))


class AnswerTests(WebSocketCase):
    """Answers of servers to our client."""

    DEFLATE = UpgradeOptions(deflate=True)
    PLAIN = UpgradeOptions(deflate=False)

    def refused(self, options: UpgradeOptions, extensions: str) -> str:
        """The reason why an answer is refused."""
        self.connect(isClient=True, options=options)
        self.pair.peer.write(response(bytes(self.pair.peer.data), Sec_WebSocket_Extensions=extensions))
        self.pair.flush()
        failure = self.pair.clientProtocol._failure
        self.assertIsInstance(failure, UpgradeError, extensions)
        self.assertEqual(self.heard.events, [])
        self.assertEnded()
        return str(failure)

    def test_offer(self) -> None:
        """It offers both to keep its context and not to; it offers nothing without compression."""
        self.connect(isClient=True, options=self.DEFLATE)
        self.assertIn(f"Sec-WebSocket-Extensions: {OURS},{OURS_TOO}\r\n".encode(), bytes(self.pair.peer.data))
        self.connect(isClient=True, options=self.PLAIN)
        self.assertNotIn(b"Sec-WebSocket-Extensions", bytes(self.pair.peer.data))

    def test_accepted(self) -> None:
        """Each parameter that RFC 7692 allows in an answer, asked for or not, and what it means for both directions."""
        for answer in [
            PLAIN,
            BOTH,
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9",
            'permessage-deflate; server_max_window_bits="10"; client_max_window_bits="10"',
            "Permessage-Deflate; client_max_window_bits=15",
        ]:
            headers = {"Sec_WebSocket_Extensions": answer}
            self.open(ECHO, isClient=True, options=self.DEFLATE, headers=headers)
            agreed = parameters(answer.lower().replace('"', ""))
            out = Deflater("server_no_context_takeover" not in agreed, bits(agreed, "server_max_window_bits"))
            back = Deflater("client_no_context_takeover" not in agreed, bits(agreed, "client_max_window_bits"))
            for message in MESSAGES:
                self.say(frame(2, out.deflate(message), rsv=4, masked=False))
                ((first, payload),) = self.said()
                self.assertEqual((first, back.inflate(payload)), (0xC2, message), answer)

    def test_none(self) -> None:
        """Without an answer nothing is compressed."""
        self.open(ECHO, isClient=True, options=self.DEFLATE)
        self.say(frame(2, b"a" * 100, masked=False))
        self.assertEqual(self.said(), [(0x82, b"a" * 100)])

    def test_refused(self) -> None:
        """An invalid answer (RFC 7692, section 7.1; RFC 6455, section 4.1) opens no session."""
        for answer, text in [
            ("permessage-deflate; client_window", "client_window"),
            ("permessage-deflate; client_max_window_bits", "client_max_window_bits"),
            ("permessage-deflate; client_max_window_bits=16", "16"),
            ("permessage-deflate; client_max_window_bits=7", "7"),
            ("permessage-deflate; server_max_window_bits", "server_max_window_bits"),
            ("permessage-deflate; server_max_window_bits=x", "x"),
            ("permessage-deflate; server_no_context_takeover=1", "server_no_context_takeover"),
            ("permessage-deflate; client_no_context_takeover=1", "client_no_context_takeover"),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", "multiple"),
            ("permessage-deflate, permessage-deflate", "multiple"),
            ("permessage-bzip2", "permessage-"),
            ("x-webkit-deflate-frame", "x-webkit-deflate-frame"),
        ]:
            self.assertIn(text, self.refused(self.DEFLATE, answer))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_unasked(self) -> None:
        """A client that offers nothing refuses an answer."""
        for answer in (PLAIN, BOTH):
            self.assertIn("denied", self.refused(self.PLAIN, answer))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_both(self) -> None:
        """Our client and our server: contexts are kept in both directions."""
        self.connect(ECHO)
        heard = RecordingListener()
        client = WebSocketSessionClientFactory(configure(heard, RawCodec()), self.DEFLATE, reactor=self.network.clock)
        client.continueTrying = 0
        pair = self.network.connect(self.factory, client)
        pair.flush()
        before = []
        for message in (MESSAGES[0], MESSAGES[0]):
            pair.client.writePkg(message)
            pair.flush()
            before.append((pair.server.stats.readBytes, pair.server.stats.writeBytes))
        self.assertEqual(self.heard.packages, [MESSAGES[0]] * 2)
        self.assertEqual(heard.packages, [MESSAGES[0]] * 2)
        for first, both in zip(*before, strict=True):
            self.assertLess(both - first, 40)
        pair.client.close()
        pair.flush()
