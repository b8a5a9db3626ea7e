"""What a server adds to all answers, and what its applications are told of a proxy that leaves out a path."""

from __future__ import annotations

import os
from typing import Any

from twisted.web.resource import Resource

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http.wsgicall import environOf
from tests.support.http import Case

GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"


class HeadersTests(Case):
    """Fields of every answer."""

    headers = (("X-One", "1"), (b"Link", b"</a>"), ("Link", "</b>"))

    def test_everyAnswer(self) -> None:
        """Of handlers, whole ones and streams, and of the server itself; each field once."""
        router = http.Router()
        router.add("GET", "/bytes", lambda request: b"hello")
        router.add("GET", "/stream", lambda request: http.Response(body=iter([b"a"])))
        router.add("GET", "/own", lambda request: http.Response(headers={"Server": "mine", "Date": "today"}))
        router.add("GET", "/named", lambda request: http.Response(headers={"Server": "mine"}))
        talk = self.talk(router, headers=self.headers)
        for request in (b"bytes", b"bytes", b"bytes", b"stream", b"own", b"named", b"no-such", b"\x00"):
            answer = talk.ask(GET % request)
            self.assertEqual(answer.header(b"x-one"), b"1", answer)
            self.assertEqual([value for name, value in answer.headers if name == b"link"], [b"</a>", b"</b>"])
            self.assertEqual(answer.header(b"server"), b"mine" if request in (b"own", b"named") else b"getty_tx")
            self.assertEqual(answer.header(b"date") == b"today", request == b"own")

    def test_webSocket(self) -> None:
        router = http.Router()
        router.webSocket("/chat", lambda session: None)
        talk = self.talk(router, headers={"X-One": "1"})
        talk.send(
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        talk.clock.advance(0)
        talk.pair.flush()
        self.assertIn(b"HTTP/1.1 101", bytes(talk.pair.peer.data))
        self.assertIn(b"\r\nX-One: 1\r\n", bytes(talk.pair.peer.data))

    def test_changed(self) -> None:
        """They may be changed at any time."""
        talk = self.talk(lambda request: b"hello")
        self.assertIsNone(talk.ask(GET % b"").header(b"x-one"))
        talk.context.headers = {"X-One": "1"}
        self.assertEqual(talk.ask(GET % b"").header(b"x-one"), b"1")

    def test_refused(self) -> None:
        for headers, why in [
            ({"X": "a\r\nY: b"}, "headers: b'X': b'a\\r\\nY: b' cannot stand in a head"),
            ({"X Y": "a"}, "cannot stand in a head"),
            ({"X": "\u20ac"}, "use Latin-1"),
            ({"Content-Length": "1"}, "headers: Content-Length is the server's own; leave it out"),
            ({"upgrade": "x"}, "headers: upgrade is the server's own"),
            (7, "headers: "),
            (["X"], "headers: "),
        ]:
            self.assertIn(why, str(self.assertRaises(SettingError, self.talk, lambda request: b"", headers=headers)))


class RootPathTests(Case):
    """A proxy has the server below a path."""

    def test_handler(self) -> None:
        answer = self.talk(lambda request: request.rootPath + request.urlPath, rootPath="/app").ask(GET % b"a")
        self.assertEqual(answer.body, b"/app/a")
        self.assertEqual(self.talk(lambda request: request.rootPath).ask(GET % b"a").body, b"")

    def test_folder(self) -> None:
        """The way to a folder is one that the client can go."""
        os.makedirs(os.path.join(root := self.mktemp(), "sub"))
        router = http.Router()
        router.mount("/static", http.Files(root))
        answer = self.talk(http.Files(root), rootPath="/the app").ask(GET % b"sub?a=b")
        self.assertEqual((answer.status, answer.header(b"location")), (301, b"/the%20app/sub/?a=b"))
        answer = self.talk(router, rootPath="/app").ask(GET % b"static/sub")
        self.assertEqual((answer.status, answer.header(b"location")), (301, b"/app/static/sub/"))

    def test_wsgi(self) -> None:
        def environ(request: http.Request) -> Any:
            found = environOf(request, request.exchange, request.rootPath)
            return [found["SCRIPT_NAME"], found["PATH_INFO"]]

        talk = self.talk(environ, rootPath="/app")
        # Whether the proxy leaves it out or not.
        for target in (b"a%20b", b"app/a%20b"):
            self.assertEqual(talk.ask(GET % target).body, b'["/app","/a b"]')

    def test_resources(self) -> None:
        class Page(Resource):
            """Tells where it is."""

            isLeaf = True

            def render(self, request: Any) -> Any:
                return request.prePathURL() + b" " + request.path

        root: Any = Resource()  # type: ignore[no-untyped-call]  # Twisted's
        root.putChild(b"page", Page())  # type: ignore[no-untyped-call]  # Twisted's
        router = http.Router()
        router.mount("/site", http.Resources(root))
        answer = self.talk(http.Resources(root), rootPath="/the app").ask(GET % b"page")
        self.assertEqual(answer.body, b"http://a:8090/the%20app/page /page")
        answer = self.talk(router, rootPath="/app").ask(GET % b"site/page")
        self.assertEqual(answer.body, b"http://a:8090/app/site/page /site/page")

    def test_refused(self) -> None:
        for bad in ("app", "/", "/app/", 7):
            error = self.assertRaises(SettingError, self.talk, lambda request: b"", rootPath=bad)
            self.assertIn(f"rootPath={bad!r} begins with a slash", str(error))
