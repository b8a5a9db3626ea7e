"""What is refused, and with which status: the cases of RFC 9110 and 9112, and of smuggling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.http import Case

if TYPE_CHECKING:
    from getty_tx import http

HOST = "Host: a\r\n"
BODY = "POST / HTTP/1.1\r\nHost: a\r\n"

#: What is sent, and the status of the only answer; the connection is closed behind it.
REFUSED: dict[str, list[tuple[int, str]]] = {
    "request line": [
        (400, f"GET  / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /  HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET\t/ HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1 \r\n{HOST}\r\n"),
        (400, f" GET / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /\r\n{HOST}\r\n"),
        (400, f"GET\r\n{HOST}\r\n"),
        (400, f"/ HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/01.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1\r\n{HOST}\r\n"),
        (400, f"GET / http/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1x\r\n{HOST}\r\n"),
        (400, f"\nGET / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"\r\n\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"\rGET / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1\n{HOST}\r\n"),
        (400, f"GET / HTTP/1.1\r{HOST}\r\n"),
        (400, f"G\x00T / HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"G(T / HTTP/1.1\r\n{HOST}\r\n"),
        (400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (505, f"GET / HTTP/2.0\r\n{HOST}\r\n"),
        (505, f"GET / HTTP/1.2\r\n{HOST}\r\n"),
        (505, f"GET / HTTP/0.9\r\n{HOST}\r\n"),
        (505, f"GET / RTSP/1.0\r\n{HOST}\r\n"),
        (505, f"GET / ICE/1.0\r\n{HOST}\r\n"),
        (505, "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (501, f"get / HTTP/1.1\r\n{HOST}\r\n"),
        (501, f"BREW / HTTP/1.1\r\n{HOST}\r\n"),
        (501, f"CONNECT a:1 HTTP/1.1\r\n{HOST}\r\n"),
        (414, f"GET /{'a' * 9000} HTTP/1.1\r\n{HOST}\r\n"),
        (414, f"GET /{'a' * 9000}"),
    ],
    "target": [
        (400, f"GET /a#b HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /a\\b HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET * HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET a HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET a:80 HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET http://b/ HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET http://user@a/ HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET ftp://a/ HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /\x85 HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /\xe4 HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /\x00 HTTP/1.1\r\n{HOST}\r\n"),
        (400, f"GET /\x7f HTTP/1.1\r\n{HOST}\r\n"),
    ],
    "host": [
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}Host: b\r\n\r\n"),
        (400, f"GET / HTTP/1.0\r\n{HOST}{HOST}\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\xe4\r\n\r\n"),
    ],
    "fields": [
        (400, f"GET / HTTP/1.1\r\n{HOST}A : b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST} A: b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\r\n c\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\r\n\tc\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}: b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A(: b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A\xe4: b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\rc\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\nC: d\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x00\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x01\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x0b\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x1f\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x7f\r\n\r\n"),
        (400, f"GET / HTTP/1.1\r\n{HOST}A: b\x85C: d\r\n\r\n"),
        (431, f"GET / HTTP/1.1\r\n{HOST}" + "A: b\r\n" * 100 + "\r\n"),
        (431, f"GET / HTTP/1.1\r\n{HOST}A: {'b' * 33000}\r\n\r\n"),
        (431, f"GET / HTTP/1.1\r\n{HOST}A: {'b' * 33000}"),
        (431, f"GET / HTTP/1.1\r\n{HOST}" + "A: b\r\n" * 200),
        (417, f"GET / HTTP/1.1\r\n{HOST}Expect: the best\r\n\r\n"),
        (417, f"GET / HTTP/1.1\r\n{HOST}Expect: 100-continue, more\r\n\r\n"),
    ],
    "content-length": [
        (400, f"{BODY}Content-Length: \r\n\r\n"),
        (400, f"{BODY}Content-Length: +1\r\n\r\na"),
        (400, f"{BODY}Content-Length: -1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1,1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1, 1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 0x1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1 1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1.0\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1_0\r\n\r\na"),
        (400, f"{BODY}Content-Length: \xb2\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        (400, f"{BODY}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        (400, f"{BODY}Content-Length: {2**64}\r\n\r\n"),
        (413, f"{BODY}Content-Length: {2**63}\r\n\r\n"),
    ],
    "transfer-encoding": [
        (400, f"{BODY}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: \r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: chunked;x\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        (400, f"{BODY}Transfer-Encoding: \r\n chunked\r\n\r\n0\r\n\r\n"),
        (400, 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
        (501, f"{BODY}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (501, f"{BODY}Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n"),
        (400, f"POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
}

#: Chunks behind a head, and the status.
CHUNKS: list[tuple[int, str]] = [
    (400, "x\r\n"),
    (400, "\r\n0\r\n\r\n"),
    (400, " 1\r\na\r\n0\r\n\r\n"),
    (400, "1 \r\na\r\n0\r\n\r\n"),
    (400, "0x1\r\na\r\n0\r\n\r\n"),
    (400, "+1\r\na\r\n0\r\n\r\n"),
    (400, "-1\r\na\r\n0\r\n\r\n"),
    (400, "1_0\r\n"),
    (400, "10000000000000000\r\n"),
    (400, "1\na\n0\n\n"),
    (400, "1\ra\r\n0\r\n\r\n"),
    (400, "1\r\nab\r\n0\r\n\r\n"),
    (400, "1\r\na0\r\n\r\n"),
    (400, "1\r\na\n0\r\n\r\n"),
    (400, "1\r\na\rX0\r\n\r\n"),
    (400, "1;a\nb\r\na\r\n0\r\n\r\n"),
    (400, "1;a\rb\r\na\r\n0\r\n\r\n"),
    (400, "1;a\x00\r\na\r\n0\r\n\r\n"),
    (400, f"1;{'a' * 5000}\r\na\r\n0\r\n\r\n"),
    (400, f"1;{'a' * 5000}"),
    (400, "1;aaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n" * 700),
    (400, "0\r\nA\r\n\r\n"),
    (400, "0\r\nA : b\r\n\r\n"),
    (400, "0\r\n A: b\r\n\r\n"),
    (400, "0\r\nA: b\nC: d\r\n\r\n"),
    (400, "0\r\nA: b\x00\r\n\r\n"),
    (400, "0\r\nA: b\x85\r\n\r\n"),
    (400, "0\n\r\n"),
    (431, "0\r\n" + "A: b\r\n" * 101 + "\r\n"),
    (431, f"0\r\nA: {'b' * 33000}\r\n\r\n"),
    (431, f"0\r\nA: {'b' * 33000}"),
]

#: What is served, and its body.
SERVED: list[tuple[str, bytes]] = [
    (f"\r\nGET / HTTP/1.1\r\n{HOST}\r\n", b""),
    (f"\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n", b""),
    ("GET / HTTP/1.0\r\n\r\n", b""),
    ("GET / HTTP/1.1\r\nHost: \r\n\r\n", b""),
    ("GET / HTTP/1.1\r\nHost:\t[::1]:80\t\r\n\r\n", b""),
    ("GET http://A/ HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b""),
    (f"GET / HTTP/1.1\r\n{HOST}A:\r\nB: \xe4\xff\r\nC:d\t \r\n\r\n", b""),
    (f"{BODY}Content-Length: 3\r\n\r\nabc", b"abc"),
    (f"{BODY}Content-Length: 0\r\n\r\n", b""),
    (f"{BODY}Content-Length: 003\r\n\r\nabc", b"abc"),
    (f"GET / HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc", b"abc"),
    (f"{BODY}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (f"{BODY}Transfer-Encoding:\tChunked \r\n\r\n1\r\na\r\n02\r\nbc\r\n000\r\n\r\n", b"abc"),
    (f'{BODY}Transfer-Encoding: chunked\r\n\r\nA;a=b;c="d"\r\n0123456789\r\n0;x\r\nT: x\r\n\r\n', b"0123456789"),
    (f"{BODY}Transfer-Encoding: chunked\r\n\r\n1 ; a\r\na\r\n0\r\n\r\n", b"a"),
]


class RefusalTests(Case):
    """Each case alone, behind a good request, and in pieces."""

    def serve(self, request: http.Request) -> bytes:
        """Remember what is served."""
        self.served.append(request.target)
        assert request.content is not None
        return request.content

    def setUp(self) -> None:
        self.served: list[bytes] = []

    def check(self, status: int, text: str, split: Any = None) -> None:
        """Send it; the only answer has this status, and the connection ends."""
        talk = self.talk(self.serve, split=split)
        talk.send(text.encode("latin-1"))
        answers = talk.answers()
        self.assertEqual([answer.status for answer in answers], [status], (text[:200], answers))
        self.assertEqual(answers[0].header(b"connection"), b"close")
        self.assertTrue(answers[0].isComplete)
        self.assertTrue(talk.ended)
        self.assertEqual(self.served, [])
        # Once, with the route where that was known before.
        self.assertEqual([each.statuses for each in talk.context.counters.served.values()], [{status: 1}])

    def test_heads(self) -> None:
        for cases in REFUSED.values():
            for status, text in cases:
                self.check(status, text)

    def test_chunks(self) -> None:
        for status, text in CHUNKS:
            self.check(status, f"{BODY}Transfer-Encoding: chunked\r\n\r\n{text}")

    def test_inPieces(self) -> None:
        for cases in REFUSED.values():
            for status, text in cases:
                if len(text) < 1000:
                    self.check(status, text, split=[1])
        for status, text in CHUNKS:
            if len(text) < 1000:
                self.check(status, f"{BODY}Transfer-Encoding: chunked\r\n\r\n{text}", split=[1])

    def test_behindOthers(self) -> None:
        """Requests before it are answered first, and nothing behind it is served."""
        first = f"GET /first HTTP/1.1\r\n{HOST}\r\n"
        for cases in REFUSED.values():
            for status, text in cases:
                if not text.startswith("\r\n") and text.endswith("\r\n\r\n"):
                    self.served.clear()
                    talk = self.talk(self.serve)
                    talk.send((first + text + f"GET /smuggled HTTP/1.1\r\n{HOST}\r\n").encode("latin-1"))
                    self.assertEqual([answer.status for answer in talk.answers()], [200, status], text[:200])
                    self.assertEqual(self.served, [b"/first"])

    def test_served(self) -> None:
        for text, body in SERVED:
            for split in (None, [1]):
                talk = self.talk(self.serve, split=split)
                talk.send(text.encode("latin-1"))
                answers = talk.answers()
                self.assertEqual([(each.status, each.body) for each in answers], [(200, body)], text)


class UpgradeTests(Case):
    """Fields that ask for another protocol change nothing of where a body ends."""

    def test_bodies(self) -> None:
        served: list[tuple[str, bytes]] = []

        def serve(request: http.Request) -> bytes:
            served.append((request.urlPath, request.content or b""))
            return b""

        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        length = b"Content-Length: %d\r\n\r\n%b" % (len(smuggled), smuggled)
        chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
        for method in (b"POST", b"GET", b"PUT"):
            for framing in (length, chunks):
                data = method + b" /first HTTP/1.1\r\nHost: a\r\n" + upgrade + framing
                data += b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
                for split in (None, [1], [data.index(b"\r\n\r\n") + 4, 10_000]):
                    served.clear()
                    talk = self.talk(serve, split=split)
                    talk.send(data)
                    self.assertEqual(served, [("/first", smuggled), ("/second", b"")])
                    self.assertEqual([answer.status for answer in talk.answers()], [200, 200])
