"""The handshake of WebSocket on the port of HTTP: what is accepted, and how the rest is answered."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import http
from getty_tx.codecs import RawCodec
from getty_tx.errors import SettingError
from getty_tx.http.upgrade import parseExtensions
from getty_tx.testing import RecordingListener
from tests.support.http import Answer, Case, Talk
from tests.support.memory import configure
from tests.support.websocket import KEY, frame, parse, request

ECHO = {"message": lambda session, pkg: session.writePkg(pkg)}

#: A key, and what is answered to it (RFC 6455, section 1.3).
SAMPLE, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def asking(path: str = "/ws", *more: bytes, without: str = "", **headers: str) -> bytes:
    """A request for a WebSocket, with more lines of fields, and without the field of a name."""
    head, _, _ = request(path, **headers).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not without or not line.startswith(without.encode() + b":")]
    return b"\r\n".join([*lines, *more, b"", b""])


class UpgradeCase(Case):
    """A router with a WebSocket at ``/ws``, whose listener is ``self.heard``, and a handler at ``/``."""

    def setUp(self) -> None:
        super().setUp()
        self.heard = RecordingListener(ECHO)

    def serve(self, newSession: Any = None, options: dict[str, Any] | None = None, **settings: Any) -> Talk:
        """A connection to it."""
        router = http.Router()
        router.webSocket("/ws", newSession or configure(self.heard, RawCodec()), **(options or {}))
        router.add(["GET", "POST"], "/", lambda asked: b"%b:%b" % (asked.method.encode(), asked.content))
        return self.talk(router, **settings)

    def upgraded(self, talk: Talk) -> tuple[Answer, list[tuple[int, bytes]]]:
        """The answer with status 101, and the frames behind it."""
        head, end, rest = bytes(talk.pair.peer.data).partition(b"\r\n\r\n")
        talk.pair.peer.data.clear()
        first, *lines = head.split(b"\r\n")
        self.assertEqual(first, b"HTTP/1.1 101 Switching Protocols")
        self.assertTrue(end)
        fields = [line.split(b": ", 1) for line in lines]
        return Answer(101, [(name.lower(), value) for name, value in fields]), parse(rest)

    def refused(self, data: bytes, **options: Any) -> Answer:
        """The answer to a request that asks for no WebSocket that is served; the connection stays."""
        talk = self.serve(options=options)
        answer = talk.ask(data)
        self.assertEqual(self.heard.events, [])
        self.assertFalse(talk.ended)
        self.assertEqual(talk.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").body, b"GET:")
        return answer


class AcceptedTests(UpgradeCase):
    """What is answered with 101."""

    def test_answer(self) -> None:
        talk = self.serve()
        talk.send(asking(Sec_WebSocket_Key=SAMPLE))
        answer, frames = self.upgraded(talk)
        self.assertEqual(answer.header(b"upgrade"), b"websocket")
        self.assertEqual(answer.header(b"connection"), b"Upgrade")
        self.assertEqual(answer.header(b"sec-websocket-accept"), ACCEPT)
        for absent in (b"sec-websocket-protocol", b"sec-websocket-extensions", b"content-length", b"transfer-encoding"):
            self.assertIs(answer.header(absent), None)
        self.assertEqual((frames, self.heard.names), ([], ["open"]))
        talk.send(frame(2, b"a") + frame(1, b"b"))
        self.assertEqual(parse(bytes(talk.pair.peer.data)), [(0x82, b"a"), (0x81, b"b")])
        self.assertEqual(self.heard.packages, [b"a", "b"])

    def test_tokens(self) -> None:
        """``Connection`` and ``Upgrade`` are lists, in any case, in one field or in several."""
        for fields in (
            {"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"},
            {"Connection": "close , upgrade", "Upgrade": "h2c, websocket"},
        ):
            talk = self.serve()
            talk.send(asking(**fields))
            self.upgraded(talk)
        talk = self.serve()
        talk.send(asking("/ws", b"Connection: keep-alive"))
        self.upgraded(talk)

    def test_split(self) -> None:
        """Whatever the pieces are in which the request and the frames come."""
        data = asking() + frame(2, b"first") + frame(1, b"second")
        for at in range(1, len(data)):
            self.heard = RecordingListener(ECHO)
            talk = self.serve()
            talk.send(data[:at])
            talk.send(data[at:])
            _, frames = self.upgraded(talk)
            self.assertEqual(frames, [(0x82, b"first"), (0x81, b"second")])

    def test_absolute(self) -> None:
        """The target may be a URL."""
        talk = self.serve()
        talk.send(asking("http://a.example/ws?a=b"))
        self.upgraded(talk)

    def test_subprotocols(self) -> None:
        """The server's first that the client offers, in one field or in two; none if there is none."""
        for offered, more, chosen in [
            ("c, b, a", (), b"a"),
            ("c, b", (), b"b"),
            ("c", (b"Sec-WebSocket-Protocol: a",), b"a"),
            ("c", (), None),
            ("", (), None),
        ]:
            talk = self.serve(options={"protocols": ("a", "b")})
            talk.send(asking("/ws", *more, Sec_WebSocket_Protocol=offered))
            answer, _ = self.upgraded(talk)
            self.assertEqual(answer.header(b"sec-websocket-protocol"), chosen)

    def test_deflate(self) -> None:
        """permessage-deflate is answered as on a port for WebSocket alone, unless the route says no."""
        for offered, expected in [
            ("permessage-deflate; client_max_window_bits", b"permessage-deflate"),
            (
                "permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
                b"permessage-deflate; server_max_window_bits=10; client_no_context_takeover",
            ),
            ("x-webkit-deflate-frame, permessage-deflate", b"permessage-deflate"),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; a b", None),
            ("permessage-bzip2", None),
        ]:
            talk = self.serve()
            talk.send(asking(Sec_WebSocket_Extensions=offered))
            answer, _ = self.upgraded(talk)
            self.assertEqual(answer.header(b"sec-websocket-extensions"), expected)
        talk = self.serve(options={"deflate": False})
        talk.send(asking(Sec_WebSocket_Extensions="permessage-deflate"))
        self.assertIs(self.upgraded(talk)[0].header(b"sec-websocket-extensions"), None)

    def test_origins(self) -> None:
        """Pages of others are refused; what is no page has no Origin."""
        options = {"origins": ("https://*.a.example", "https://b.example")}
        for origin in ("https://www.a.example", "https://B.example", ""):
            talk = self.serve(options=options)
            talk.send(asking(Origin=origin))
            self.upgraded(talk)
        self.heard.events.clear()
        for origin in ("https://c.example", "http://b.example", "null", "https://b.example.c.example"):
            answer = self.refused(asking(Origin=origin), **options)
            self.assertEqual(answer.status, 403)
        self.assertEqual(
            self.refused(asking("/ws", b"Origin: https://b.example", Origin="https://b.example"), **options).status, 400
        )


class RefusedTests(UpgradeCase):
    """What is answered otherwise; the connection goes on as HTTP."""

    def test_methods(self) -> None:
        """Only GET of HTTP/1.1 begins a WebSocket."""
        self.assertEqual(self.refused(asking().replace(b"GET", b"PUT")).status, 400)
        talk = self.serve()
        answer = talk.ask(asking(Connection="keep-alive, Upgrade").replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(answer.status, 400)

    def test_versions(self) -> None:
        """426, with the version that there is."""
        for version in ("12", "8", "13, 12", "", "1 3", "013"):
            answer = self.refused(asking(Sec_WebSocket_Version=version))
            self.assertEqual((answer.status, answer.header(b"sec-websocket-version")), (426, b"13"), version)
            self.assertEqual((answer.header(b"upgrade"), answer.header(b"connection")), (b"websocket", b"Upgrade"))

    def test_keys(self) -> None:
        """16 bytes in base64, once."""
        for key in ("", "AAAA", KEY[:-2], KEY[:-1], KEY + "=", "*" + KEY[1:], KEY.replace("=", "A"), KEY + ", " + KEY):
            self.assertEqual(self.refused(asking(Sec_WebSocket_Key=key)).status, 400, key)
        self.assertEqual(self.refused(asking("/ws", b"Sec-WebSocket-Key: " + KEY.encode())).status, 400)
        self.assertEqual(self.refused(asking("/ws", b"Sec-WebSocket-Version: 13")).status, 400)

    def test_bodies(self) -> None:
        """A body is read as one, and its request refused."""
        smuggled = b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n"
        answer = self.refused(asking("/ws", b"Content-Length: %d" % len(smuggled)) + smuggled)
        self.assertEqual(answer.status, 400)
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
        self.assertEqual(self.refused(asking("/ws", b"Transfer-Encoding: chunked") + chunks).status, 400)
        talk = self.serve()
        talk.send(asking("/ws", b"Content-Length: 0"))
        self.upgraded(talk)

    def test_plain(self) -> None:
        """A request that asks for no WebSocket, at the path of one."""
        for data in (b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", asking(Connection="keep-alive"), asking(Upgrade="h2c")):
            answer = self.refused(data)
            self.assertEqual((answer.status, answer.header(b"upgrade")), (426, b"websocket"))
        answer = self.refused(b"POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(answer.status, 405)

    def test_bytes(self) -> None:
        """Bytes that some take for an end of line, in any field: nothing behind them is read."""
        for byte in (b"\x85", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\r", b"\n", b"\0"):
            for name in (b"X-A", b"Sec-WebSocket-Protocol", b"Origin", b"Host", b"Cookie"):
                talk = self.serve()
                answer = talk.ask(asking("/ws", name + b": a" + byte + b"Cookie: smuggled", without=name.decode()))
                self.assertEqual((answer.status, talk.ended), (400, True), (byte, name))
        for name in (b"Sec-WebSocket-Protocol", b"Origin"):
            self.assertEqual(self.refused(asking("/ws", name + b": \xa0")).status, 400)

    def test_elsewhere(self) -> None:
        """Where there is no WebSocket, ``Upgrade`` is ignored: with a body and without, of WebSocket and of others."""
        for upgrade in ("h2c", "websocket", "TLS/1.0", "foo, bar"):
            talk = self.serve()
            plain = asking("/", Upgrade=upgrade, HTTP2_Settings="AAMAAABkAAQCAAAAAAIAAAAA")
            talk.send(plain + plain)
            self.assertEqual([answer.body for answer in talk.answers()], [b"GET:", b"GET:"])
            smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            post = plain.replace(b"GET", b"POST", 1)
            length = post.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % len(smuggled))
            chunked = post.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
            talk.send(length + smuggled + chunked)
            talk.send(chunks + plain)
            bodies = [answer.body for answer in talk.answers("POST", "POST", "GET")]
            self.assertEqual(bodies, [b"POST:" + smuggled, b"POST:" + smuggled, b"GET:"])
            self.assertEqual(self.heard.events, [])


class RouteTests(UpgradeCase):
    """Routes."""

    def test_both(self) -> None:
        """A path may have a WebSocket and handlers."""
        router = http.Router()
        router.webSocket("/{name}", configure(self.heard, RawCodec()))
        router.get("/{name}")(lambda asked: asked.path["name"])
        talk = self.talk(router)
        self.assertEqual(talk.ask(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").body, b"a")
        talk.send(asking("/b"))
        self.upgraded(talk)

    def test_wrong(self) -> None:
        """What cannot be is refused where it is set."""
        for options in (
            {"newSession": None},
            {"protocols": "chat"},
            {"protocols": ("a b",)},
            {"origins": "https://a.example"},
            {"origins": (" ",)},
            {"deflate": 1},
            {"template": "ws"},
        ):
            arguments: Any = {"template": "/ws", "newSession": print, **options}
            self.assertRaises(SettingError, http.Router().webSocket, **arguments)
        router = http.Router()
        router.webSocket("/ws", print)
        self.assertRaises(SettingError, router.webSocket, "/ws", print)


class ExtensionTests(SynchronousTestCase):
    """Offers of extensions."""

    def test_offers(self) -> None:
        self.assertEqual(
            parseExtensions('A; b; c=1; c="2" , d;e = "x" ,, f'),
            [("a", {"b": [True], "c": ["1", "2"]}), ("d", {"e": ["x"]}), ("f", {})],
        )
        for malformed in ("", "a b", "a; b c", 'a; b="c d"', "a;", "a; =1", 'a; b="', "a; b="):
            self.assertEqual(parseExtensions(malformed), [], malformed)
