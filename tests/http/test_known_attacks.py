"""
Attacks that are known by a name: those of Http11Probe by its ids, and those that have a number in lists of weaknesses.

What test_refusals has already is not here. Behind each case comes a request for ``/smuggled``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx import http
from tests.support.http import Case, Talk

if TYPE_CHECKING:
    from tests.support.http import Answer

HOST = "Host: a\r\n"
POST = f"POST / HTTP/1.1\r\n{HOST}"
GET = f"GET / HTTP/1.1\r\n{HOST}"
CHUNKED = "Transfer-Encoding: chunked\r\n"
CHUNKS = f"{POST}{CHUNKED}\r\n"
FIVE = "Content-Length: 5\r\n"
#: A body that is chunks for one reader, and a request more for another.
HIDDEN = f"0\r\n\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n"
LENGTH = f"Content-Length: {len(HIDDEN)}\r\n"
SMUGGLED = f"GET /smuggled HTTP/1.1\r\n{HOST}\r\n"
WEBSOCKET = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

#: Refused with this status, and the connection ends. Nothing is served.
REFUSED: dict[str, tuple[int, str]] = {
    # Http11Probe, smuggling.
    "TE-XCHUNKED": (400, f"{POST}Transfer-Encoding: xchunked\r\n{FIVE}\r\nhello"),
    "TE-TRAILING-SPACE": (400, f"{POST}Transfer-Encoding: chunked \r\n{FIVE}\r\nhello"),
    "TE-SP-BEFORE-COLON": (400, f"{POST}Transfer-Encoding : chunked\r\n{FIVE}\r\nhello"),
    "TE-DOUBLE-CHUNKED": (400, f"{POST}Transfer-Encoding: chunked, chunked\r\n{FIVE}\r\nhello"),
    "TE-LEADING-COMMA": (400, f"{POST}Transfer-Encoding: , chunked\r\n{FIVE}\r\nhello"),
    "TE-TRAILING-COMMA": (400, f"{POST}Transfer-Encoding: chunked,\r\n{FIVE}\r\nhello"),
    "TE-DUPLICATE-HEADERS": (400, f"{POST}{CHUNKED}Transfer-Encoding: identity\r\n{FIVE}\r\nhello"),
    "TE-DUPLICATE-CHUNKED": (400, f"{POST}{CHUNKED}{CHUNKED}\r\n{HIDDEN}"),
    "TE-VTAB": (400, f"{POST}Transfer-Encoding: \x0bchunked\r\n{FIVE}\r\nhello"),
    "TE-FORMFEED": (400, f"{POST}Transfer-Encoding: \x0cchunked\r\n{FIVE}\r\nhello"),
    "TE-NULL": (400, f"{POST}Transfer-Encoding: chunked\x00\r\n{FIVE}\r\nhello"),
    "TE-OBS-FOLD": (400, f"{POST}Transfer-Encoding:\r\n chunked\r\n{FIVE}\r\nhello"),
    "TE-TAB-BEFORE-VALUE": (400, f"{POST}Transfer-Encoding:\tchunked\r\n{FIVE}\r\nhello"),
    "TE-HTTP10": (400, f"POST / HTTP/1.0\r\n{HOST}{CHUNKED}{FIVE}\r\nhello"),
    "TE-QUOTED": (400, f'{POST}Transfer-Encoding: "chunked"\r\n\r\n{HIDDEN}'),
    "CHUNKED-WITH-PARAMS": (400, f"{POST}Transfer-Encoding: chunked;ext=val\r\n{FIVE}\r\nhello"),
    "OPTIONS-TE-OBS-FOLD": (400, f"OPTIONS / HTTP/1.1\r\n{HOST}Transfer-Encoding:\r\n chunked\r\n{FIVE}\r\nhello"),
    "CLTE-PIPELINE": (400, f"{POST}Content-Length: 4\r\n{CHUNKED}\r\n0\r\n\r\n"),
    "TECL-PIPELINE": (400, f"{POST}{CHUNKED}Content-Length: 30\r\n\r\n0\r\n\r\n"),
    "CLTE-CONN-CLOSE": (400, f"{POST}{FIVE}{CHUNKED}Connection: close\r\n\r\n0\r\n\r\n"),
    "CLTE-DESYNC": (400, f"{POST}Content-Length: 6\r\n{CHUNKED}\r\n0\r\n\r\nX"),
    "CLTE-SMUGGLED-GET": (400, f"{POST}{LENGTH}{CHUNKED}\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-CL-PLUS": (400, f"{POST}Content-Length: +{len(HIDDEN)}\r\n{CHUNKED}\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-CL-NON-NUMERIC": (400, f"{POST}Content-Length: {len(HIDDEN)}x\r\n{CHUNKED}\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-TE-OBS-FOLD": (400, f"{POST}Transfer-Encoding:\r\n chunked\r\n{LENGTH}\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-TE-TRAILING-SPACE": (400, f"{POST}{LENGTH}Transfer-Encoding: chunked \r\n\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-TE-LEADING-COMMA": (400, f"{POST}{LENGTH}Transfer-Encoding: , chunked\r\n\r\n{HIDDEN}"),
    "CLTE-SMUGGLED-GET-TE-CASE-MISMATCH": (400, f"{POST}{LENGTH}Transfer-Encoding: Chunked\r\n\r\n{HIDDEN}"),
    "TECL-SMUGGLED-GET": (400, f"{POST}{CHUNKED}Content-Length: 4\r\n\r\n{len(HIDDEN):x}\r\n{HIDDEN}\r\n0\r\n\r\n"),
    "TECL-DESYNC": (400, f"{POST}{CHUNKED}Content-Length: 30\r\n\r\n0\r\n\r\nX"),
    "DUPLICATE-CL-SMUGGLED-GET": (400, f"{POST}Content-Length: 4\r\n{LENGTH}\r\n{HIDDEN}"),
    "CL-COMMA-DIFFERENT": (400, f"{POST}Content-Length: 5, 10\r\n\r\nhello"),
    "CL-COMMA-TRIPLE": (400, f"{POST}Content-Length: 5, 5, 5\r\n\r\nhello"),
    "CL-OCTAL": (400, f"{POST}Content-Length: 0o5\r\n\r\nhello"),
    "CL-NEGATIVE-ZERO": (400, f"{POST}Content-Length: -0\r\n\r\n"),
    "CL-SEMICOLON": (400, f"{POST}Content-Length: 5;a\r\n\r\nhello"),
    "CL-QUOTED": (400, f'{POST}Content-Length: "5"\r\n\r\nhello'),
    "CL-VTAB": (400, f"{POST}Content-Length: \x0b5\r\n\r\nhello"),
    "CL-OBS-FOLD": (400, f"{POST}Content-Length:\r\n 5\r\n\r\nhello"),
    "CHUNK-BARE-SEMICOLON": (400, f"{CHUNKS}5;\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-INVALID-TOKEN": (400, f"{CHUNKS}5;bad[=x\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-NO-VALUE": (400, f"{CHUNKS}5;a=\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-OPEN-QUOTE": (400, f'{CHUNKS}5;a="b\r\nhello\r\n0\r\n\r\n'),
    "CHUNK-EXT-SPACE": (400, f"{CHUNKS}5;a b\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-LF": (400, f"{CHUNKS}5;\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-CTRL": (400, f"{CHUNKS}5;\x00ext\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-CR": (400, f"{CHUNKS}5;a\rX\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-EXT-64K": (400, f"{CHUNKS}5;ext={'a' * 65536}\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-SPILL": (400, f"{CHUNKS}5\r\nhello!!\r\n0\r\n\r\n"),
    "CHUNK-LF-TERM": (400, f"{CHUNKS}5\r\nhello\n0\r\n\r\n"),
    "CHUNK-LF-TRAILER": (400, f"{CHUNKS}5\r\nhello\r\n0\r\n\n"),
    "CHUNK-BARE-CR-TERM": (400, f"{CHUNKS}5\rhello\r\n0\r\n\r\n"),
    "CHUNK-SIZE-OVERFLOW": (400, f"{CHUNKS}FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"),
    "CHUNK-INVALID-SIZE-DESYNC": (400, f"{CHUNKS}+0\r\n\r\nX"),
    "BARE-CR-HEADER-VALUE": (400, f"{POST}{FIVE}X-Test: val\rue\r\n\r\nhello"),
    "ABSOLUTE-URI-HOST-MISMATCH": (400, f"GET http://other.example/ HTTP/1.1\r\n{HOST}\r\n"),
    "MULTIPLE-HOST-COMMA": (400, "GET / HTTP/1.1\r\nHost: a, other.example\r\n\r\n"),
    # Http11Probe, compliance.
    "INVALID-VERSION": (505, f"GET / HTTP/9.9\r\n{HOST}\r\n"),
    "HTTP09-REQUEST": (400, "GET /\r\n"),
    "WHITESPACE-BEFORE-HEADERS": (400, f"GET / HTTP/1.1\r\n \r\n{HOST}\r\n"),
    "HOST-WITH-USERINFO": (400, "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "CL-NON-NUMERIC": (400, f"{POST}Content-Length: abc\r\n\r\n"),
    "VERSION-LEADING-ZEROS": (400, f"GET / HTTP/01.01\r\n{HOST}\r\n"),
    "VERSION-WHITESPACE": (400, f"GET / HTTP/ 1.1\r\n{HOST}\r\n"),
    "SPACE-IN-TARGET": (400, f"GET /pa th HTTP/1.1\r\n{HOST}\r\n"),
    "LEADING-CRLF-AND-SPACE": (400, f"\r\n {GET}\r\n"),
    # Http11Probe, malformed.
    "BINARY-GARBAGE": (400, "\x00\x01\x02\xff\xfe\xfd"),
    "LONG-METHOD": (414, f"{'A' * 100_000} / HTTP/1.1\r\n{HOST}\r\n"),
    "LONG-HEADER-NAME": (431, f"{GET}{'A' * 100_000}: b\r\n\r\n"),
    "MANY-HEADERS": (431, GET + "".join(f"X-H-{n}: value\r\n" for n in range(10_000)) + "\r\n"),
    "CONTROL-CHARS-HEADER": (400, f"{GET}X-Test: abc\x07\x08\x0bdef\r\n\r\n"),
    "CL-OVERFLOW": (400, f"{POST}Content-Length: 99999999999999999999\r\n\r\n"),
    "CL-HUGE-NO-BODY": (413, f"{POST}Content-Length: 999999999\r\n\r\n"),
    "WHITESPACE-ONLY-LINE": (400, "   \r\n\r\n"),
    "URL-OVERLONG-UTF8": (400, f"GET /\xc0\xaf HTTP/1.1\r\n{HOST}\r\n"),
    "COOKIE-NUL": (400, f"{GET}Cookie: foo=\x00bar\r\n\r\n"),
    "COOKIE-CONTROL-CHARS": (400, f"{GET}Cookie: foo=\x01\x02\x03\r\n\r\n"),
    "COOKIE-OVERSIZED": (431, f"{GET}Cookie: big={'A' * 65536}\r\n\r\n"),
    # Http11Probe, normalization.
    "SP-BEFORE-COLON-CL": (400, f"{POST}Content-Length: 11\r\nContent-Length : 5\r\n\r\nhello world"),
    "TAB-IN-NAME": (400, f"{POST}Content-Length: 11\r\nContent\tLength: 99\r\n\r\nhello world"),
    "CASE-TE": (400, f"{POST}Content-Length: 11\r\nTRANSFER-ENCODING: chunked\r\n\r\nhello world"),
    # llhttp and Node.
    "CVE-2022-32213": (400, f"{POST}Transfer-Encoding: chunkedchunked\r\n\r\n{HIDDEN}"),
    "CVE-2022-32214": (400, f"{GET}Dummy: x\nContent-Length: 23\r\n\r\n{HIDDEN}"),
    "CVE-2022-32215": (400, f"{POST}Transfer-Encoding: chunked\r\n , identity\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    "CVE-2022-35256": (400, f"{POST}Content-Length: 0\rA: b\r\n\r\n{HIDDEN}"),
    "CVE-2023-30589": (400, f"{POST}X-Abc:\rxTransfer-Encoding: chunked\r\n\r\n{HIDDEN}"),
    "CVE-2024-27982": (400, f"{GET} Content-Length: {len(SMUGGLED)}\r\n\r\n"),
    "CVE-2025-23167": (400, f"{GET}A: b\r\n\rX\r\n\r\n"),
    "GARDEN-30": (400, f"{CHUNKS}2\rXab\r\n0\r\n\r\n"),
    "GARDEN-31": (400, f"{CHUNKS}2\r\nab\rX0\r\n\r\n"),
    # twisted.web.
    "CVE-2020-10108": (400, f"{POST}Content-Length: 0\r\n{LENGTH}\r\n{HIDDEN}"),
    "CVE-2020-10108-TE": (400, f"{POST}{CHUNKED}{LENGTH}\r\n{HIDDEN}"),
    "CVE-2020-10109": (400, f"{POST}{LENGTH}{CHUNKED}\r\n{HIDDEN}"),
    "CVE-2022-24801-CL": (400, f"{POST}Content-Length: +{len(HIDDEN)}\r\n\r\n{HIDDEN}"),
    "CVE-2022-24801-SIZE": (400, f"{CHUNKS}0x3\r\nabc\r\n0\r\n\r\n"),
    "CVE-2022-24801-EXT": (400, f"{CHUNKS}3;\x00\r\nabc\r\n0\r\n\r\n"),
    "CVE-2022-24801-TE": (400, f"{POST}Transfer-Encoding: \x00chunked\r\n\r\n{HIDDEN}"),
    # h11, gunicorn, Daphne, Go.
    "GHSA-vqfr-h8mv-ghfj": (400, f"{CHUNKS}5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n"),
    "CVE-2024-1135": (400, f"{POST}Transfer-Encoding: chunked, identity\r\n{LENGTH}\r\n{HIDDEN}"),
    "CVE-2024-1135-TWO": (400, f"{POST}{CHUNKED}Transfer-Encoding: gzip\r\n\r\n{HIDDEN}"),
    "GUNICORN-DUPLICATE-HOST": (400, f"GET / HTTP/1.1\r\n{HOST}HOST: b\r\n\r\n"),
    "CVE-2023-39326": (400, CHUNKS + f"1;{'a' * 4000}\r\nx\r\n" * 10),
    "CVE-2026-44546-0b": (400, f"{GET}A: b\x0bC: d\r\n\r\n"),
    "CVE-2026-44546-0c": (400, f"{GET}A: b\x0cC: d\r\n\r\n"),
    "CVE-2026-44546-1c": (400, f"{GET}A: b\x1cC: d\r\n\r\n"),
    "CVE-2026-44546-1d": (400, f"{GET}A: b\x1dC: d\r\n\r\n"),
    "CVE-2026-44546-1e": (400, f"{GET}A: b\x1eC: d\r\n\r\n"),
    "CVE-2026-44546-85": (400, f"{GET}A: b\x85C: d\r\n\r\n"),
}

#: Served with this body, and then the request behind it: nothing of one is read as the other.
SERVED: dict[str, tuple[str, str]] = {
    "CL-LEADING-ZEROS": ("hello", f"{POST}Content-Length: 005\r\n\r\nhello"),
    "CL-LEADING-ZEROS-OCTAL": ("a" * 200, f"{POST}Content-Length: 0200\r\n\r\n{'a' * 200}"),
    "CL-DOUBLE-ZERO": ("", f"{POST}Content-Length: 00\r\n\r\n"),
    "CL-TRAILING-SPACE": ("hello", f"{POST}Content-Length: 5 \r\n\r\nhello"),
    "CL-EXTRA-LEADING-SP": ("hello", f"{POST}Content-Length:  5\r\n\r\nhello"),
    "CL-TAB-BEFORE-VALUE": ("hello", f"{POST}Content-Length:\t5\r\n\r\nhello"),
    "TRANSFER_ENCODING": ("hello", f"{POST}Transfer_Encoding: chunked\r\n{FIVE}\r\nhello"),
    "UNDERSCORE-CL": ("hello", f"{POST}{FIVE}Content_Length: 99\r\n\r\nhello"),
    "TRAILER-CL": ("hello", f"{CHUNKS}5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
    "TRAILER-TE": ("hello", f"{CHUNKS}5\r\nhello\r\n0\r\n{CHUNKED}\r\n"),
    "TRAILER-HOST": ("hello", f"{CHUNKS}5\r\nhello\r\n0\r\nHost: evil.example\r\n\r\n"),
    "TRAILER-AUTH": ("hello", f"{CHUNKS}5\r\nhello\r\n0\r\nAuthorization: Bearer evil\r\n\r\n"),
    "TRAILER-CONTENT-TYPE": ("hello", f"{CHUNKS}5\r\nhello\r\n0\r\nContent-Type: text/evil\r\n\r\n"),
    "CHUNKED-EXTENSION": ("hello", f'{CHUNKS}5;ext=value ; a = "b\\"c"\r\nhello\r\n0\r\n\r\n'),
    "CHUNKED-HEX-UPPERCASE": ("helloworld", f"{CHUNKS}A\r\nhelloworld\r\n0\r\n\r\n"),
    "OPTIONS-CL-BODY": ("hello", f"OPTIONS / HTTP/1.1\r\n{HOST}{FIVE}\r\nhello"),
    "GET-CL-BODY-DESYNC": ("hello", f"{GET}{FIVE}\r\nhello"),
    "GET-CL-PREFIX-DESYNC": (SMUGGLED[:-2], f"{GET}Content-Length: {len(SMUGGLED) - 2}\r\n\r\n{SMUGGLED[:-2]}"),
    "TRACE-WITH-BODY": ("hello", f"TRACE / HTTP/1.1\r\n{HOST}{FIVE}\r\nhello"),
    "RANGE-POST": ("hello", f"{POST}{FIVE}Range: bytes=0-10\r\n\r\nhello"),
    "DUPLICATE-CT": ("hello", f"{POST}{FIVE}Content-Type: a/b\r\nContent-Type: c/d\r\n\r\nhello"),
    "EXPECT-100-CL-DESYNC": ("hello", f"{POST}{FIVE}Expect: 100-continue\r\n\r\nhello"),
    "UPGRADE-POST": ("hello", f"{POST}{FIVE}Connection: Upgrade\r\n{WEBSOCKET}\r\nhello"),
    "UPGRADE-MISSING-CONN": ("", f"{GET}{WEBSOCKET}\r\n"),
    "UPGRADE-UNKNOWN": ("", f"{GET}Connection: Upgrade\r\nUpgrade: totally-made-up/1.0\r\n\r\n"),
    "LONG-URL-OK": ("", f"GET /{'a' * 7900} HTTP/1.1\r\n{HOST}\r\n"),
    "URL-PERCENT-CRLF": ("", f"GET /a%0d%0aX-Injected:%20true HTTP/1.1\r\n{HOST}\r\n"),
    "URL-PERCENT-NULL": ("", f"GET /a%00.html HTTP/1.1\r\n{HOST}\r\n"),
    "RANGE-OVERLAPPING": ("", f"{GET}Range: bytes={','.join(['0-'] * 1000)}\r\n\r\n"),
    "COOKIE-MALFORMED": ("", f"{GET}Cookie: ===;;;\r\nCookie: \r\nCookie: a=b\r\n\r\n"),
}


class AttackTests(Case):
    """A handler of all methods that answers with the body."""

    def setUp(self) -> None:
        self.served: list[bytes] = []

    def serve(self, request: http.Request) -> bytes:
        """Remember what is served."""
        self.served.append(request.target)
        assert request.content is not None
        return request.content

    def sent(self, text: str, split: Any = None) -> tuple[Talk, list[Answer]]:
        """Send it; return what is answered, without interim answers."""
        self.served.clear()
        talk = self.talk(self.serve, split=split)
        talk.send(text.encode("latin-1"))
        return talk, [answer for answer in talk.answers() if answer.status >= 200]

    def test_refused(self) -> None:
        for name, (status, text) in REFUSED.items():
            for split in (None, [1]) if len(text) < 1000 else (None,):
                talk, answers = self.sent(text + SMUGGLED, split)
                self.assertEqual([answer.status for answer in answers], [status], name)
                self.assertEqual((self.served, talk.ended), ([], True), name)

    def test_served(self) -> None:
        for name, (body, text) in SERVED.items():
            for split in (None, [1]) if len(text) < 1000 else (None,):
                talk, answers = self.sent(text + SMUGGLED, split)
                self.assertEqual(
                    [(answer.status, answer.body) for answer in answers], [(200, body.encode()), (200, b"")], name
                )
                self.assertEqual((len(self.served), self.served[1], talk.ended), (2, b"/smuggled", False), name)

    def test_poisoned(self) -> None:
        """CL0-BODY-POISON: what is behind a body of no bytes belongs to the next request."""
        _, answers = self.sent(f"{POST}Content-Length: 0\r\n\r\nX{SMUGGLED}")
        self.assertEqual(([answer.status for answer in answers], self.served), ([200, 501], [b"/"]))

    def test_incomplete(self) -> None:
        """
        CL-UNDERSEND, CHUNKED-NO-FINAL, INCOMPLETE-REQUEST, EMPTY-REQUEST, and the truncated chunks of gunicorn.

        The client ends in the middle, and nothing is served.
        """
        for text in (f"{POST}Content-Length: 10\r\n\r\nhello", f"{CHUNKS}5\r\nhello\r\n", f"{GET}X-Test: value", ""):
            talk, answers = self.sent(text)
            talk.close()
            self.assertEqual((answers, talk.answers(), self.served), ([], [], []), text)

    def test_continue(self) -> None:
        """NO-1XX-HTTP10: no interim answer to HTTP/1.0."""
        talk = self.talk(self.serve)
        talk.send(f"POST / HTTP/1.0\r\n{HOST}Expect: 100-continue\r\n{FIVE}\r\n".encode())
        self.assertEqual(talk.answers(), [])
        self.assertEqual(talk.ask(b"hello").status, 200)


class RouterTests(Case):
    """What a router says."""

    def test_methods(self) -> None:
        """405-ALLOW, OPTIONS-ALLOW, NO-CL-IN-204, OPTIONS-STAR, TRACE-SENSITIVE, HEAD-NO-BODY."""
        router = http.Router()
        router.get("/")(lambda request: b"hello")
        talk = self.talk(router)
        secret = "Authorization: Bearer secret-token-123\r\n"
        for method, status, allow in (
            ("DELETE", 405, True),
            ("OPTIONS", 204, True),
            ("TRACE", 405, True),
            ("HEAD", 200, False),
        ):
            answer = talk.ask(f"{method} / HTTP/1.1\r\n{HOST}{secret}\r\n".encode(), method)
            self.assertEqual((answer.status, answer.header(b"allow") is not None), (status, allow), method)
            self.assertNotIn(b"secret", answer.body)
            self.assertEqual(answer.header(b"content-length") is None, status == 204)
        self.assertLess(talk.ask(f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n".encode()).status, 300)

    def test_upgrade(self) -> None:
        """UPGRADE-INVALID-VER, UPGRADE-HTTP10 and UPGRADE-POST where a WebSocket may be had."""
        router = http.Router()
        router.webSocket("/", lambda session: None)
        upgrade = f"{HOST}Connection: Upgrade\r\n{WEBSOCKET}"
        for text, status in (
            (f"GET / HTTP/1.1\r\n{upgrade.replace('13', '99')}\r\n", 426),
            (f"GET / HTTP/1.0\r\n{upgrade}\r\n", 400),
            (f"POST / HTTP/1.1\r\n{upgrade}{FIVE}\r\nhello", 400),
        ):
            self.assertEqual(self.talk(router).ask(text.encode()).status, status, text)

    def test_order(self) -> None:
        """CVE-2023-46137, CVE-2024-41671: each answer goes to its own request, with bodies in chunks in between."""
        gates: list[Deferred[bytes]] = []
        router = http.Router()
        router.post("/slow")(lambda request: gates.append(Deferred()) or gates[-1])
        router.post("/fast")(lambda request: b"fast")
        for split in (None, [1]):
            talk = self.talk(router, split=split)
            body = f" HTTP/1.1\r\n{HOST}{CHUNKED}\r\n1\r\na\r\n0\r\n\r\n"
            talk.send(f"POST /slow{body}POST /fast{body}POST /slow{body}".encode())
            self.assertEqual((len(gates), talk.answers()), (1, []))
            gates.pop().callback(b"slow")
            talk.pair.flush()
            self.assertEqual([answer.body for answer in talk.answers()], [b"slow", b"fast"])
            gates.pop().callback(b"slow")
            talk.pair.flush()
            self.assertEqual([answer.body for answer in talk.answers()], [b"slow"])

    def test_redirect(self) -> None:
        """CVE-2024-41810: nothing of the target is in the body of a redirect."""
        root = self.mktemp()
        os.makedirs(os.path.join(root, "b"))
        answer = self.talk(http.Files(root)).ask(f"GET /b?<script>alert(1)</script> HTTP/1.1\r\n{HOST}\r\n".encode())
        self.assertEqual((answer.status, answer.body), (301, b""))
        self.assertEqual(answer.header(b"location"), b"/b/?<script>alert(1)</script>")
