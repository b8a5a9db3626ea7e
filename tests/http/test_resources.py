"""Resources of twisted.web: what they are given, and what becomes of what they do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.resource import EncodingResourceWrapper, Resource
from twisted.web.server import NOT_DONE_YET, GzipEncoderFactory
from twisted.web.static import File
from zope.interface.verify import verifyObject

from getty_tx import http
from getty_tx.errors import SettingError
from tests.support.http import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http import Talk

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FORM = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"

#: A multipart/form-data with a field and a file.
PARTS = (
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n\x00\xff\r\n--x--\r\n'
)


class Page(Resource):
    """Renders by a function, whatever the method and the path."""

    isLeaf = True

    def __init__(self, render: Callable[[Any], Any]) -> None:
        super().__init__()
        self.renderer = render

    def render(self, request: Any) -> Any:
        return self.renderer(request)


class ResourcesCase(Case):
    """Answers of one resource."""

    def serve(self, render: Callable[[Any], Any], **options: Any) -> Talk:
        return self.talk(http.Resources(Page(render), **options))


class RequestTests(ResourcesCase):
    """What a resource finds in its request."""

    def see(self, data: bytes, look: Callable[[Any], Any], **options: Any) -> Any:
        seen: list[Any] = []

        def render(request: Any) -> bytes:
            seen.append(look(request))
            return b"ok"

        answer = self.serve(render, **options).ask(data)
        self.assertEqual((answer.status, answer.body, answer.header(b"content-length")), (200, b"ok", b"2"))
        return seen[0]

    def test_head(self) -> None:
        data = (
            b"GET /a/b%20c?x=1&x=2&y= HTTP/1.1\r\nHost: example.com:81\r\nCookie: k=v; l=w\r\nX-A: 1\r\nX-A: 2\r\n"
            b"Authorization: Basic dTpw\r\n\r\n"
        )

        def look(request: Any) -> dict[str, Any]:
            verifyObject(IRequest, request)
            return {
                "line": (request.method, request.uri, request.path, request.clientproto),
                "args": request.args,
                "paths": (request.prepath, request.postpath),
                "fields": (request.getHeader("x-a"), request.requestHeaders.getRawHeaders(b"X-A")),
                "host": (request.getAllHeaders()[b"host"], request.getRequestHostname()),
                "cookies": (request.getCookie(b"k"), request.getCookie(b"l"), request.getCookie(b"m")),
                "user": (request.getUser(), request.getPassword()),
                "content": request.content.read(),
                "ends": (request.getHost(), type(request.getClientAddress()), request.isSecure()),
                "urls": (request.prePathURL(), str(request.URLPath())),
            }

        seen = self.see(data, look)
        self.assertEqual(seen["line"], (b"GET", b"/a/b%20c?x=1&x=2&y=", b"/a/b%20c", b"HTTP/1.1"))
        self.assertEqual(seen["args"], {b"x": [b"1", b"2"], b"y": [b""]})
        self.assertEqual(seen["paths"], ([], [b"a", b"b c"]))
        self.assertEqual(seen["fields"], ("2", [b"1", b"2"]))
        self.assertEqual(seen["host"], (b"example.com:81", b"example.com"))
        self.assertEqual(seen["cookies"], (b"v", b"w", None))
        self.assertEqual(seen["user"], (b"u", b"p"))
        self.assertEqual(seen["content"], b"")
        self.assertEqual(seen["ends"], (IPv4Address("TCP", "192.0.2.1", 8090), IPv4Address, False))
        self.assertEqual(seen["urls"], (b"http://example.com:8090/", "http://example.com:8090/"))

    def test_bodies(self) -> None:
        """Of any length, in one piece or many, from memory or from a file."""
        for size in (0, 1, 200_000):
            body = os.urandom(size)
            whole = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, body)
            chunk = b"%x\r\n%b\r\n" % (size, body) if size else b""
            chunks = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunk
            for data in (whole, chunks):
                self.assertEqual(self.see(data, lambda request: request.content.read()), body)

    def test_maxBody(self) -> None:
        opened: list[Any] = []
        talk = self.serve(opened.append, maxBody=3)
        chunks = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
        for data in (FORM % (b"a/b", 4, b"abcd"), FORM % (b"a/b", 4, b"a"), chunks):
            talk = self.serve(opened.append, maxBody=3)
            self.assertEqual(talk.ask(data).status, 413)
        talk = self.serve(opened.append)
        talk.context.maxBody = 3
        self.assertEqual(talk.ask(FORM % (b"a/b", 4, b"abcd")).status, 413)
        self.assertEqual(opened, [])
        self.assertRaises(SettingError, http.Resources, Resource(), maxBody=-1)
        self.assertEqual(
            self.see(FORM % (b"a/b", 4, b"abcd"), lambda request: request.content.read(), maxBody=None), b"abcd"
        )

    def test_forms(self) -> None:
        data = FORM % (b"application/x-www-form-urlencoded", 11, b"a=1&a=2&b=%")
        self.assertEqual(self.see(data, lambda request: request.args), {b"a": [b"1", b"2"], b"b": [b"%"]})
        data = FORM % (b"multipart/form-data; boundary=x", len(PARTS), PARTS)
        self.assertEqual(self.see(data, lambda request: request.args), {b"a": [b"1"], b"f": [b"\x00\xff"]})

    def test_malformedForm(self) -> None:
        """Twisted calls a private method of the channel where a form has no parts, as long as there is one."""
        self.assertTrue(hasattr(HTTPChannel, "_respondToBadRequestAndDisconnect"))
        for kind in (b"multipart/form-data; boundary=x", b"multipart/form-data"):
            answer = self.serve(lambda request: b"").ask(FORM % (kind, 3, b"abc"))
            self.assertEqual((answer.status, answer.body), (400, b"400 Bad Request: the form is malformed\n"))
        part = b"--x\r\nContent-Disposition: form-data; name*=utf-8''a\r\n\r\n1\r\n--x--\r\n"
        data = FORM % (b"multipart/form-data; boundary=x", len(part), part)
        self.assertEqual(self.serve(lambda request: b"").ask(data).status, 400)

    def test_proxies(self) -> None:
        data = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: https\r\n\r\n"

        def render(request: Any) -> bytes:
            return repr((request.getClientAddress().host, request.isSecure())).encode()

        for proxies, client, seen in (
            (None, b"203.0.113.7", "('198.51.100.1', False)"),
            (["198.51.100.0/24"], b"203.0.113.7", "('203.0.113.7', True)"),
            (["198.51.100.0/24"], b"2001:db8::1", "('2001:db8::1', True)"),
        ):
            talk = self.serve(render)
            talk.context.proxies = proxies
            self.assertEqual(talk.ask(data % client).body.decode(), seen)

    def test_session(self) -> None:
        def render(request: Any) -> bytes:
            session = request.getSession()
            session.count = getattr(session, "count", 0) + 1
            return b"%d" % session.count

        talk = self.serve(render)
        cookie = talk.ask(GET).header(b"set-cookie")
        assert cookie is not None
        again = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % cookie.partition(b";")[0]
        self.assertEqual(talk.ask(again).body, b"2")
        talk.clock.advance(901)
        self.assertEqual(talk.clock.getDelayedCalls(), [])


class AnswerTests(ResourcesCase):
    """What becomes of what a resource does."""

    def test_fields(self) -> None:
        def render(request: Any) -> bytes:
            request.setResponseCode(201, b"Made")
            request.setHeader("X-A", "\u20ac")
            request.responseHeaders.addRawHeader(b"X-B", b"1\r\nX-C: 2")
            request.addCookie("k", "v", httpOnly=True)
            request.addCookie("l", "w")
            request.setLastModified(1000000000)
            request.setETag(b'"e"')
            return b"made"

        answer = self.serve(render).ask(GET)
        self.assertEqual((answer.status, answer.body, answer.header(b"content-length")), (201, b"made", b"4"))
        self.assertEqual(answer.header(b"x-a"), "\u20ac".encode())
        self.assertEqual((answer.header(b"x-b"), answer.header(b"x-c")), (b"1 X-C: 2", None))
        self.assertEqual([value for name, value in answer.headers if name == b"set-cookie"], [b"k=v; HttpOnly", b"l=w"])
        self.assertEqual(answer.header(b"last-modified"), b"Sun, 09 Sep 2001 01:46:40 GMT")
        self.assertEqual((answer.header(b"etag"), answer.header(b"content-type")), (b'"e"', b"text/html"))
        self.assertEqual(answer.header(b"server"), b"getty_tx")
        assert answer.header(b"date")

    def test_conditions(self) -> None:
        def render(request: Any) -> bytes:
            return b"" if request.setETag(b'"e"') else b"new"

        answer = self.serve(render).ask(b'GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: "e"\r\n\r\n')
        self.assertEqual((answer.status, answer.body), (304, b""))

    def test_redirect(self) -> None:
        def render(request: Any) -> Any:
            request.redirect(b"/there")
            request.finish()
            return NOT_DONE_YET

        answer = self.serve(render).ask(GET)
        self.assertEqual((answer.status, answer.header(b"location"), answer.body), (302, b"/there", b""))

    def test_streams(self) -> None:
        """In chunks, with a length, and to the end of the connection."""

        def render(request: Any) -> Any:
            if request.args:
                request.setHeader(b"Content-Length", b"3")
            for data in (b"a", b"", b"b", b"c"):
                request.write(data)
            request.finish()
            return NOT_DONE_YET

        talk = self.serve(render)
        answer = talk.ask(GET)
        self.assertEqual((answer.body, answer.header(b"transfer-encoding")), (b"abc", b"chunked"))
        answer = talk.ask(GET.replace(b"/ ", b"/?a=b "))
        self.assertEqual((answer.body, answer.header(b"transfer-encoding")), (b"abc", None))
        answer = talk.ask(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual((answer.body, answer.isComplete, talk.ended), (b"abc", True, True))

    def test_HEAD(self) -> None:
        class Child(Resource):
            def render_GET(self, request: Any) -> bytes:
                return b"body"

        root = Resource()
        root.putChild(b"", Child())
        for resource in (root, Page(lambda request: b"body")):
            answer = self.talk(http.Resources(resource)).ask(GET.replace(b"GET", b"HEAD"), "HEAD")
            self.assertEqual((answer.status, answer.body, answer.header(b"content-length")), (200, b"", b"4"))

    def test_methods(self) -> None:
        root = Resource()
        root.putChild(b"", File(self.mktemp()))
        talk = self.talk(http.Resources(root))
        self.assertEqual(talk.ask(GET.replace(b"GET", b"POST")).status, 405)
        self.assertEqual(talk.ask(GET.replace(b"GET", b"PUT")).status, 501)
        self.assertEqual(talk.ask(GET.replace(b"/ ", b"/none ")).status, 404)
        answer = talk.ask(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual((answer.status, answer.header(b"content-length")), (200, b"0"))
        self.assertEqual(answer.header(b"server"), b"getty_tx")

    def test_later(self) -> None:
        """The connection waits for the answer, and goes on."""
        requests: list[Any] = []
        ended: list[Any] = []

        def render(request: Any) -> Any:
            requests.append(request)
            request.notifyFinish().addCallback(ended.append)
            return NOT_DONE_YET

        talk = self.serve(render)
        talk.send(GET * 2)
        self.assertEqual((talk.answers(), len(requests)), ([], 1))
        for data in (b"one", b"two"):
            request = requests.pop()
            request.write(data)
            request.finish()
            talk.pair.flush()
            (answer,) = talk.answers()
            self.assertEqual((answer.body, answer.isComplete), (data, True))
        self.assertEqual((ended, requests), ([None, None], []))

    def test_mount(self) -> None:
        """The prefix is what the request has gone through already."""

        def render(request: Any) -> bytes:
            request.getSession().expire()
            return repr((request.prepath, request.postpath, request.prePathURL())).encode()

        root = Resource()
        root.putChild(b"x", Page(render))
        router = http.Router()
        router.mount("/a/b", http.Resources(root))
        router.mount("/c", http.Resources(Page(render)))
        talk = self.talk(router)
        for path, text in (
            (b"/a/b/x/y", "([b'a', b'b', b'x'], [b'y'], b'http://a:8090/a/b/x')"),
            (b"/c", "([b'c'], [], b'http://a:8090/c')"),
            (b"/c/", "([b'c'], [b''], b'http://a:8090/c')"),
        ):
            answer = talk.ask(GET.replace(b"/ ", path + b" "))
            self.assertEqual(answer.body.decode(), text)
            self.assertIn(b"TWISTED_SESSION_" + path[1:2], answer.header(b"set-cookie") or b"")

    def test_file(self) -> None:
        """twisted.web's File, which is a pull producer; ranges, and what it compresses."""
        folder = self.mktemp()
        os.mkdir(folder)
        data = os.urandom(300_000)
        with open(os.path.join(folder, "a.bin"), "wb") as file:
            file.write(data)
        root = File(folder)
        talk = self.talk(http.Resources(root), capacity=1000)
        line = b"GET /a.bin HTTP/1.1\r\nHost: a\r\n"
        self.assertTrue(talk.ask(line + b"\r\n").body == data)
        answer = talk.ask(line + b"Range: bytes=10-19\r\n\r\n")
        self.assertEqual((answer.status, answer.body), (206, data[10:20]))
        answer = talk.ask(line.replace(b"GET", b"HEAD") + b"\r\n", "HEAD")
        self.assertEqual((answer.status, answer.header(b"content-length")), (200, b"300000"))
        talk = self.talk(
            http.Resources(EncodingResourceWrapper(Page(lambda request: b"x" * 999), [GzipEncoderFactory()]))
        )
        answer = talk.ask(b"GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        self.assertEqual((answer.header(b"content-encoding"), answer.body[:2]), (b"gzip", b"\x1f\x8b"))
