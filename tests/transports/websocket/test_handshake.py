"""Heads of handshakes: refused heads, a single meaning of accepted ones, and heads in pieces."""

from __future__ import annotations

from typing import Any

from autobahn.websocket.protocol import parseHttpHeader
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import UpgradeError
from getty_tx.transports.websocket.handshake import checkHead
from getty_tx.transports.websocket.protocol import MAX_HANDSHAKE
from getty_tx.transports.websocket.request import UpgradeOptions
from tests.support.long import examples
from tests.support.websocket import KEY, WebSocketCase, frame, request, response

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}

#: The line ends of ``str.splitlines`` except CRLF, and two more characters that are not part of HTTP.
SPLITS = [b"\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x85"]
OTHERS = [b"\0", b"\x1f", b"\x7f"]

#: Fields that another field may smuggle in.
SMUGGLED = b"Origin: https://good.example"

_bytes = st.binary(max_size=12)
#: Pieces for random heads, including the dangerous ones.
_pieces = st.sampled_from(
    [b"\r\n", b" ", b"\t", b":", b",", b"\xa0", b"Host", b"Upgrade", b"Sec-WebSocket-Key", b"a", b"\xc3\xa9", *SPLITS]
)
_lines = st.lists(st.one_of(_pieces, _bytes), max_size=8).map(b"".join)
_named = st.tuples(
    st.sampled_from([b"Host", b"X-A", b"x-a", b"Cookie", b"Connection", b"Sec-WebSocket-Protocol"]), _lines
)
_fields = st.lists(st.one_of(_lines, _named.map(b": ".join)), max_size=5)


def strictly(head: bytes) -> tuple[bytes, dict[str, str], dict[str, int]]:
    """Parse by RFC 9112: the first line, and the fields by name, with their number."""
    first, *lines = head.split(b"\r\n")
    values: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        values.setdefault(name.lower(), []).append(value.strip(" \t"))
    return first, {name: ", ".join(each) for name, each in values.items()}, {name: len(values[name]) for name in values}


def trimmed(fields: dict[str, str]) -> dict[str, str]:
    """Remove no-break spaces at the ends of values, which Autobahn removes in fields that are not used."""
    return {name: ", ".join(part.strip() for part in value.split(",")) for name, value in fields.items()}


class CheckTests(SynchronousTestCase):
    """``checkHead``."""

    def test_good(self) -> None:
        """Heads that clients and servers send, and others that the RFC allows."""
        for head in [
            request()[:-4],
            b"GET / HTTP/1.1",
            b"POST * HTTP/1.1\r\nHost:",
            b"GET /?\xc3\xa9 HTTP/2.0\r\nHost:\t a \t",
            b"GET / HTTP/1.1\r\nX-!#$%&'*+.^_`|~09: \t!~\x80\x84\x86\xff",
            b"GET / HTTP/1.1\r\nCookie: a=\xa0; b=\xd0\xb6\r\nCookie: c::",
        ]:
            self.assertIsNone(checkHead(head, True), head)
        for head in [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nServer: \xc3\xa9",
            b"HTTP/1.1 101 ",
            b"HTTP/1.0 404",
            b"HTTP/1.1 404 nicht gef\xfcnden\tnada",
        ]:
            self.assertIsNone(checkHead(head, False), head)

    def test_firstLine(self) -> None:
        """Parts that are not separated by one blank, and invalid bytes."""
        for line in [
            b"",
            b"GET / HTTP/1.1 x",
            b"GET /",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1 ",
            b"GET  / HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"\xe9 / HTTP/1.1",
            *(b"GET /" + split + b" HTTP/1.1" for split in SPLITS + OTHERS),
            *(b"GET" + split + b"/ HTTP/1.1" for split in [*SPLITS, b"\xa0"]),
        ]:
            self.assertIn("no request line: ", str(checkHead(line + b"\r\nHost: a", True)), line)
        for line in [
            b"",
            b"HTTP/1.1",
            b"HTTP/1.1 1O1 x",
            b"HTTP/1.1 1010 x",
            b" HTTP/1.1 101 x",
            b"HTTP/1.1\xa0101 x",
            *(b"HTTP/1.1 101 " + split for split in SPLITS + OTHERS),
        ]:
            self.assertIn("no status line: ", str(checkHead(line + b"\r\nHost: a", False)), line)

    def test_fields(self) -> None:
        """Lines that are no field, among others; the reason shows a part of the line."""
        for line, reason in [
            (b"", "no header field: b''"),
            (b"X-A", "no header field: b'X-A'"),
            (b": a", "no header field"),
            (b"X-A : a", "no header field"),
            (b" X-A: a", "no header field"),
            (b"\tfolded", "no header field"),
            (b"X A: a", "no header field"),
            (b"X(A): a", "no header field"),
            (b"X\xe9: a", "no header field"),
            (b"X-A\0: a", "byte 0x00 in a header field"),
            *((b"X-A: a" + wrong + b"b", f"byte 0x{wrong[0]:02x} in") for wrong in SPLITS + OTHERS),
            *((b"X-A: a" + wrong + SMUGGLED, f"byte 0x{wrong[0]:02x} in") for wrong in SPLITS),
            (b"Host: \xa0", "host is not ASCII"),
            (b"ORIGIN: a\xe9", "origin is not ASCII"),
            (b"Upgrade: \xa0websocket", "upgrade is not ASCII"),
            (b"Connection: a,\xa0upgrade", "connection is not ASCII"),
            (b"Sec-WebSocket-Key: " + KEY.encode() + b"\xa0", "sec-websocket-key is not ASCII"),
        ]:
            for around in ([line], [b"X: a", line], [line, b"X: a"]):
                head = b"\r\n".join([b"GET / HTTP/1.1", *around])
                self.assertIn(reason, str(checkHead(head, True)), head)
        self.assertLess(len(str(checkHead(b"GET / HTTP/1.1\r\n" + b"\0" * 60_000, True))), 400)

    @settings(max_examples=examples(400))
    @given(fields=_fields)
    @example(fields=[b"X-A: a\x85" + SMUGGLED])
    @example(fields=[b"X-A: a", b" " + SMUGGLED])
    @example(fields=[b"X-A: \xa0a\xa0"])
    def test_oneMeaning(self, fields: list[bytes]) -> None:
        """Autobahn and a strict parser read the same from every accepted head."""
        head = b"\r\n".join([b"GET / HTTP/1.1", *fields])
        if b"\r\n\r\n" in head + b"\r\n" or checkHead(head, True) is not None:
            return
        first, values, counts = strictly(head)
        line, found, numbers = parseHttpHeader(head + b"\r\n\r\n")
        self.assertEqual((line.encode(), numbers), (first, counts))
        self.assertEqual(trimmed(found), trimmed(values))
        for name in ("host", "connection", "sec-websocket-protocol"):
            self.assertEqual(found.get(name), values.get(name))

    @given(first=_lines, isRequest=st.booleans())
    def test_firstLines(self, first: bytes, isRequest: bool) -> None:
        """Autobahn splits an accepted first line at its blanks."""
        if b"\r\n" in first or checkHead(first, isRequest) is not None:
            return
        line = parseHttpHeader(first + b"\r\n\r\n")[0]
        parts = 3 if isRequest else 2
        self.assertEqual(line.split()[:parts], first.decode("latin-1").split(" ")[:parts])


class RequestTests(WebSocketCase):
    """Requests, in one piece and byte by byte."""

    OPTIONS = UpgradeOptions(paths=("/a",), origins=("https://good.example",), subprotocols=("x", "y"))

    def ask(self, data: bytes, split: list[int] | None = None, options: UpgradeOptions | None = None) -> str:
        """The answer to a request."""
        self.connect(ECHO, options=options or self.OPTIONS, network={"split": split} if split else None)
        self.pair.peer.write(data)
        self.pair.flush()
        return self.takeAnswer()

    def refused(self, data: bytes, code: int = 400) -> None:
        """Check that a request, in one piece and in several, is answered with an error."""
        for split in (None, [1], [3, 50, 1]):
            answer = self.ask(data, split)
            self.assertTrue(answer.startswith(f"HTTP/1.1 {code} "), (code, data[:400], answer))
            self.assertIn("\r\nContent-Length: 0", answer)
            self.assertEqual(bytes(self.pair.peer.data), b"")
            self.assertEqual(self.heard.events, [])
            self.assertIsInstance(self.pair.serverProtocol._failure, UpgradeError)
            self.pair.peer.write(request("/a"))
            self.pair.peer.end()
            self.pair.flush()
            self.assertEnded()
        self.assertEqual(self.flushLoggedErrors(), [])

    def withLine(self, line: bytes, **headers: str) -> bytes:
        """A request with an additional line before the last."""
        return request("/a", **headers)[:-2] + line + b"\r\nX-Last: a\r\n\r\n"

    def test_smuggled(self) -> None:
        """Text that one parser reads as part of a field and another as a field."""
        for split in SPLITS:
            self.refused(self.withLine(b"X-A: a" + split + SMUGGLED, Origin=""))
            self.refused(self.withLine(b"X-A: a" + split + b"b"))
            self.refused(b"GET /a" + split + b" HTTP/1.1" + request("/a")[15:])
        for line in [b"X-A: a\0", b" " + SMUGGLED, b"\t" + SMUGGLED, b"X-A : a", b"X A: a", b"nothing", b": a"]:
            self.refused(self.withLine(line))

    def test_doubled(self) -> None:
        """Host, Origin and the fields of the handshake may occur once."""
        for line in [
            b"Host: b.example",
            b"Origin: https://good.example",
            b"Sec-WebSocket-Key: " + KEY.encode(),
            b"sec-websocket-version: 13",
            b"Sec-WebSocket-Version: 8",
        ]:
            self.refused(self.withLine(line, Origin="https://good.example"))
        self.refused(self.withLine(b"Sec-WebSocket-Extensions: a", Sec_WebSocket_Extensions="permessage-deflate"))
        self.refused(self.withLine(b"Sec-WebSocket-Protocol: y", Sec_WebSocket_Protocol="z"))
        self.refused(self.withLine(b"Sec-WebSocket-Anything: y\r\nsec-websocket-anything: z"))

    def test_lists(self) -> None:
        """Connection and Upgrade are lists, and unused fields may occur several times."""
        data = self.withLine(
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nCookie: a\r\nCookie: \xd0\xb6", Connection="x"
        )
        self.assertTrue(self.ask(data).startswith("HTTP/1.1 101 "))

    def test_asBefore(self) -> None:
        """The answers to valid heads do not depend on the check."""
        self.refused(request("/a", Upgrade=""), 426)
        self.refused(request("/c"), 404)
        self.refused(request("/c", Upgrade=""), 404)
        self.refused(request("/a", Origin="https://evil.example"), 403)
        self.refused(b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n", 405)
        self.refused(b"GET /a HTTP/1.0\r\nHost: a\r\n\r\n", 505)
        self.refused(b"PRI * HTTP/2.0\r\n\r\n", 405)
        self.refused(request("/a", Host=""))
        self.refused(b"\r\n\r\n")
        self.refused(b"\r\n" + request("/a"))

    def test_longest(self) -> None:
        """The limit holds for the head alone, in one piece and in several, whatever follows it."""
        room = MAX_HANDSHAKE - len(request("/a", X_A="a")) + 5
        longest = request("/a", X_A="a" * room)
        self.assertEqual(len(longest) - 4, MAX_HANDSHAKE)
        tooLong = request("/a", X_A="a" * (room + 1))
        for split in (None, [1000, 1]):
            self.assertTrue(self.ask(longest, split).startswith("HTTP/1.1 101 "))
            self.assertTrue(self.ask(tooLong, split).startswith("HTTP/1.1 431 "))
            self.assertTrue(self.ask(tooLong[:-2], split).startswith("HTTP/1.1 431 "))
            self.assertTrue(self.ask(request("/a") + frame(2, b"a" * 100_000), split).startswith("HTTP/1.1 101 "))
            self.assertEqual(self.heard.packages, [b"a" * 100_000])

    def test_bytesAfterHead(self) -> None:
        """Bytes after the head belong to the session, and are not checked."""
        messages = [b"\r\n\r\n", b"\x85: a\r\n\r\n", b"", b"GET / HTTP/1.1\r\n\r\n"]
        data = request("/a") + b"".join(frame(2, message) for message in messages)
        head = len(request("/a"))
        for split in (None, [1], [head, 1000], [head - 1, 1000], [head + 1, 1000], [head - 3, 3, 2, 1000]):
            self.assertTrue(self.ask(data, split).startswith("HTTP/1.1 101 "))
            self.assertEqual(self.heard.packages, messages)
            self.assertEqual(self.said(), [(0x82, message) for message in messages])

    def test_unfinished(self) -> None:
        """An incomplete head is awaited, even if it is invalid, and given up after handshakeTimeout."""
        for data in (request("/a")[:-1], b"\0\x85\r\n", b""):
            self.connect(options=self.OPTIONS, factory={"handshakeTimeout": 2.0})
            self.pair.peer.write(data)
            self.pair.advance(1.9)
            self.assertEqual(bytes(self.pair.peer.data), b"")
            self.assertIsNone(self.pair.peer.lost)
            self.pair.advance(0.3)
            self.assertIsNotNone(self.pair.peer.lost)
            self.assertEnded()

    @settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        name=st.sampled_from([b"X-A", b"Cookie", b"Origin", b"Host", b"Connection", b"Sec-WebSocket-Protocol"]),
        value=st.one_of(_lines, st.binary(max_size=30)),
        split=st.sampled_from([None, [1], [100, 7]]),
    )
    @example(name=b"X-A", value=b"a\x85" + SMUGGLED, split=None)
    @example(name=b"X-A", value=b"a\x0b\r\n\r\n", split=[1])
    @example(name=b"Connection", value=b"\xa0Upgrade", split=None)
    @example(name=b"Sec-WebSocket-Protocol", value=b"x,\xa0y", split=None)
    def test_anything(self, name: bytes, value: bytes, split: list[int] | None) -> None:
        """With any bytes in a field, the session has the fields that a strict parser sees, or the answer is 400."""
        headers = {name.decode(): ""} if name in (b"Host", b"Connection") else {}
        data = b"GET / HTTP/1.1\r\n" + name + b": " + value + b"\r\n" + request(**headers)[16:]
        self.ask(data, split, UpgradeOptions(subprotocols=("x", "y")))
        _, values, _ = strictly(data[: data.index(b"\r\n\r\n")])
        # The answer is lost if it is sent before the bytes after the head are read.
        failure = self.pair.serverProtocol._failure
        if failure is None:
            found = self.pair.serverProtocol.engine.http_headers
            self.assertEqual(trimmed(found), trimmed(values))
            for each in ("host", "origin", "connection", "sec-websocket-protocol"):
                self.assertEqual(found.get(each), values.get(each))
            self.assertEqual(self.heard.names[0], "open")
        else:
            # An empty line inside a value has cut off the rest.
            code = 426 if "host" in values and "upgrade" not in values else 400
            self.assertIn(str(failure)[:26], (f"WebSocket handshake: {code}, ", "WebSocket handshake: 400, "))
            self.assertEqual(self.heard.events, [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.pair.reset()
        self.pair.flush()


class ResponseTests(WebSocketCase):
    """Answers to our client."""

    OPTIONS = UpgradeOptions(subprotocols=("x",))

    def answered(self, line: bytes, split: list[int] | None = None, first: bytes = b"", **headers: str) -> Any:
        """Answer with an additional line; the error of the attempt."""
        network = {"split": split} if split else None
        self.connect(ECHO, isClient=True, options=self.OPTIONS, network=network)
        data = response(bytes(self.pair.peer.data), **headers)
        self.pair.peer.data.clear()
        if first:
            data = first + data[data.index(b"\r\n") :]
        end = b"\r\n" if line else b""
        self.sent = data[:-2] + line + end + b"X-Last: a\r\n\r\n" + frame(2, b"a", masked=False)
        self.pair.peer.write(self.sent)
        self.pair.flush()
        return self.pair.clientProtocol._failure

    def refused(self, reason: str, line: bytes, **more: Any) -> None:
        """Check that it fails with this reason."""
        for split in (None, [1]):
            failure = self.answered(line, split, **more)
            self.assertIsInstance(failure, UpgradeError, line)
            self.assertIn(reason, str(failure))
            self.assertEqual(self.heard.events, [])
            self.assertEnded()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_good(self) -> None:
        """Text that is not ASCII is accepted in unused fields, and so are bytes after the head."""
        for line in (b"", b"Server: \xc3\xa9", b"Set-Cookie: a\r\nSet-Cookie: b"):
            for split in (None, [1], [150, 3]):
                self.assertIsNone(self.answered(line, split, Sec_WebSocket_Protocol="x"))
                self.assertEqual(self.heard.packages, [b"a"])
                self.assertEqual(self.said(), [(0x82, b"a")])

    def test_refused(self) -> None:
        """Bytes that end lines, lines that are no fields, and first lines that are none."""
        for split in SPLITS + OTHERS:
            self.refused(
                f"byte 0x{split[0]:02x} in a header field: b'X-A: a", b"X-A: a" + split + b"Upgrade: websocket"
            )
        self.refused("no header field: b' folded'", b"X-A: a\r\n folded")
        self.refused("no header field: b'X-A : a'", b"X-A : a")
        self.refused("sec-websocket-protocol is not ASCII", b"Sec-WebSocket-Protocol: x\xa0")
        self.refused("no status line: b'HTTP/1.1\\xa0101 x'", b"", first=b"HTTP/1.1\xa0101 x")
        self.refused("no status line: b'SSH-2.0'", b"", first=b"SSH-2.0")
        # Autobahn reads UTF-8 here.
        self.refused("can't decode byte 0xe9", b"Server: \xe9")

    def test_doubled(self) -> None:
        """Fields that may occur once."""
        for line, headers in [
            (b"Sec-WebSocket-Accept: a", {}),
            (b"Sec-WebSocket-Protocol: x", {"Sec_WebSocket_Protocol": "x"}),
            (b"Sec-WebSocket-Extensions: a", {"Sec_WebSocket_Extensions": "permessage-deflate"}),
        ]:
            self.refused("stands twice", line, **headers)
        self.refused("Upgrade header", b"Upgrade: websocket")

    def test_longest(self) -> None:
        """A head that is too long, complete or not."""
        for line in (b"X-A: " + b"a" * MAX_HANDSHAKE, b"X-A: a\r\n" * 9000):
            failure = self.answered(line)
            self.assertIn(f"longer than {MAX_HANDSHAKE} bytes", str(failure))
            self.assertEnded()

    @settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
    @given(value=st.one_of(_lines, st.binary(max_size=30)), split=st.sampled_from([None, [1]]))
    def test_anything(self, value: bytes, split: list[int] | None) -> None:
        """With any bytes in a field, the session has the fields that a strict parser sees, or there is none."""
        failure = self.answered(b"X-A: " + value, split)
        if failure is None:
            _, values, _ = strictly(self.sent[: self.sent.index(b"\r\n\r\n")])
            self.assertEqual(trimmed(self.pair.clientProtocol.engine.http_headers), trimmed(values))
            self.assertEqual(self.heard.names[0], "open")
        else:
            self.assertIsInstance(failure, UpgradeError)
            self.assertEqual(self.heard.events, [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.pair.reset()
        self.pair.flush()
