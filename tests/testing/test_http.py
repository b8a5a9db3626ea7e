"""connectedHTTP: applications of HTTP in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx import http
from getty_tx.codecs import RawCodec
from getty_tx.errors import SettingError
from getty_tx.http.answers import NO_FIELDS, AnswerFields
from getty_tx.http.asgi.lifespan import LifespanError
from getty_tx.http.interfaces import IApplication
from getty_tx.testing import HTTPPeer, MemoryReactor, RecordingListener, connectedHTTP
from tests.support.memory import configure
from tests.support.websocket import frame, parse

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def echo(request: http.Request) -> http.Response:
    """Answers with what was asked."""
    fields = [(name, value) for name, value in request.headers if name.startswith(b"x-")]
    body = {
        "line": f"{request.method} {request.target.decode()}",
        "host": request.header("Host"),
        "length": request.header("Content-Length"),
        "body": (request.content or b"").decode(),
    }
    return http.Response(201, body, headers=fields)


class HandlerTests(SynchronousTestCase):
    """What a user's test does with handlers and routers."""

    def connect(self, application: Any, **options: Any) -> HTTPPeer:
        client = connectedHTTP(application, **options)
        self.addCleanup(client.close)
        return client

    def test_request(self) -> None:
        client = self.connect(echo)
        answer = client.request("GET", "/a?b=c", [("X-A", "1"), ("X-A", "2"), ("Host", "example.com")])
        self.assertEqual((answer.status, answer.isComplete), (201, True))
        self.assertEqual(
            answer.json(), {"line": "GET /a?b=c", "host": "example.com", "length": "", "body": ""}, answer.body
        )
        self.assertEqual((answer.header("X-a"), answer.header("X-B", "none")), ("1, 2", "none"))
        self.assertEqual([value for name, value in answer.fields if name == b"x-a"], [b"1", b"2"])
        self.assertEqual(repr(client.request("HEAD", "/")), "<HTTPAnswer 201 b''>")

    def test_bodies(self) -> None:
        client = self.connect(echo)
        for method, fields, body, length in (
            ("POST", {}, "\u20ac", "3"),
            ("PUT", {}, b"", "0"),
            ("POST", {"Content-Length": "1"}, b"a", "1"),
            ("POST", {"Transfer-Encoding": "chunked"}, b"1\r\na\r\n0\r\n\r\n", ""),
        ):
            answer = client.request(method, "/", fields, body)
            self.assertEqual(answer.json()["length"], length)
        self.assertEqual(answer.json()["body"], "a")

    def test_answers(self) -> None:
        """With a length, in chunks, without a body, with interim answers and trailers; however they are cut."""

        async def parts(request: http.Request) -> Any:
            yield "a"
            yield "b" * 10_000

        @implementer(IApplication)
        class Informs:
            def serve(self, request: http.Request, exchange: Any) -> None:
                exchange.inform(request, 103, AnswerFields([(b"Link", b"</a.css>")]))
                exchange.start(request, 200, NO_FIELDS)
                exchange.write(request, b"body")
                exchange.end(request, [(b"X-Sum", b"1")])

        router = http.Router()
        router.get("/none")(lambda request: None)
        router.get("/parts")(parts)
        router.mount("/informs", Informs())
        for split in (None, [1], [3, 1000]):
            client = self.connect(router, split=split)
            self.assertEqual(client.request("GET", "/none").status, 204)
            answer = client.request("GET", "/parts")
            self.assertEqual((len(answer.body), answer.isComplete), (10_001, True))
            answer = client.request("HEAD", "/parts")
            self.assertEqual((answer.body, answer.isComplete), (b"", True))
            answer = client.request("GET", "/informs")
            self.assertEqual((answer.status, answer.body, answer.isComplete), (200, b"body", True))
            self.assertEqual(client.request("GET", "/nowhere").status, 404)
            self.assertEqual(client.received, b"")

    def test_later(self) -> None:
        """Answers come when the test lets time pass, in the order of the requests."""

        async def slow(request: http.Request) -> str:
            await deferLater(client.clock, 5)
            return request.urlPath

        client = self.connect(slow)
        answers = [client.request("GET", path) for path in ("/a", "/b")]
        client.clock.advance(4.9)
        self.assertEqual(repr(answers[0]), "<HTTPAnswer 0 b'', not complete>")
        client.clock.advance(0.1)
        self.assertEqual([answer.body for answer in answers], [b"/a", b""])
        client.clock.advance(5)
        self.assertEqual(answers[1].body, b"/b")

    def test_options(self) -> None:
        """The clock, the network and the settings are those that are given."""
        clock = MemoryReactor()
        client = self.connect(echo, clock=clock, delay=1.0, maxBody=1)
        self.assertIs(client.clock, clock)
        answer = client.request("POST", "/", body="ab")
        self.assertEqual(answer.status, 0)
        clock.advance(2)
        self.assertEqual(answer.status, 413)
        self.assertEqual(client.context.counters.refused, {})
        self.assertRaises(SettingError, connectedHTTP, echo, maxBodies=1)
        self.assertRaises(TypeError, connectedHTTP, None)

    def test_raw(self) -> None:
        """Any bytes may be sent; what is answered to them is as it was sent."""
        client = self.connect(echo)
        self.assertEqual(client.request("GET", "/").status, 201)
        client.send(b"nonsense\r\n\r\n")
        self.assertTrue(client.received.startswith(b"HTTP/1.1 400 "))
        self.assertTrue(client.ended)
        self.assertRaises(AssertionError, client.request, "GET", "/")

    def test_cutOff(self) -> None:
        async def parts(request: http.Request) -> Any:
            yield "a"
            raise ValueError("in the middle")

        client = self.connect(parts)
        answer = client.request("GET", "/")
        self.assertEqual((answer.body, answer.isComplete, client.ended), (b"a", False, True))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_leaves(self) -> None:
        """A client that goes, in order or not."""
        requests: list[http.Request] = []

        def handler(request: http.Request) -> Deferred[None]:
            requests.append(request)
            return Deferred()

        for leave in (lambda client: client.close(), lambda client: client.pair.reset()):
            client = self.connect(handler)
            client.request("GET", "/")
            leave(client)
            client.clock.advance(10)
            self.assertTrue(requests[-1].isGone)
            self.assertEqual(client.context.running, 0)

    def test_sendsNoMore(self) -> None:
        """A client that only ends its side waits for its answers."""
        later: Deferred[bytes] = Deferred()
        client = self.connect(lambda request: later)
        answer = client.request("GET", "/")
        client.end()
        client.pair.flush()
        later.callback(b"a")
        client.pair.flush()
        self.assertEqual((answer.body, answer.header("Connection"), client.ended), (b"a", "close", True))

    def test_webSocket(self) -> None:
        router = http.Router()
        heard = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
        router.webSocket("/ws", configure(heard, RawCodec()))
        client = self.connect(router)
        answer = client.request("GET", "/ws", UPGRADE)
        self.assertEqual((answer.status, answer.isComplete), (101, True))
        client.send(frame(2, b"a"))
        self.assertEqual((heard.packages, parse(bytes(client.received))), ([b"a"], [(0x82, b"a")]))

    def test_lazy(self) -> None:
        """Tests of sessions do not load HTTP."""
        code = "import sys, getty_tx.testing; sys.exit('getty_tx.http' in sys.modules)"
        self.assertEqual(0, subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode)


class AsgiTests(SynchronousTestCase):
    """Applications of ASGI, with their lifespan and their time."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.sleeps = 5.0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Sleeps, and answers."""
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                self.events.append((await receive())["type"])
                await send({"type": f"lifespan.{step}.complete"})
            return
        body = (await receive())["body"]
        try:
            await asyncio.sleep(self.sleeps)
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def test_lifespan(self) -> None:
        """asyncio's time is the clock's; no second passes."""
        router = http.Router()
        router.mount("/app", http.Asgi(self.app))
        client = connectedHTTP(router)
        self.assertEqual(self.events, ["lifespan.startup"])
        answer = client.request("POST", "/app/", body="hello")
        client.clock.advance(4.9)
        self.assertEqual(answer.status, 0)
        client.clock.advance(0.2)
        self.assertEqual((answer.status, answer.body), (200, b"hello"))
        client.close()
        self.assertEqual(self.events, ["lifespan.startup", "lifespan.shutdown"])
        client.close()

    def test_running(self) -> None:
        """What still runs at the end is cancelled."""
        self.sleeps = 500.0
        client = connectedHTTP(http.Asgi(self.app))
        client.request("GET", "/")
        client.close()
        self.assertEqual(self.events, ["lifespan.startup", "cancelled", "lifespan.shutdown"])

    def test_neverStarts(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(1)

        async def fails(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

        error = self.assertRaises(AssertionError, connectedHTTP, http.Asgi(app))
        self.assertIn("does it wait for time", str(error))
        error = self.assertRaises(LifespanError, connectedHTTP, http.Asgi(fails))
        self.assertIn("cannot start: no", str(error))
