"""ASGI and WSGI over HTTP/2: what is other than over HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import http
from getty_tx.http.asgi import Asgi
from tests.support.asgi import AsgiCase, answer
from tests.support.h2client import Talk2

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class AsgiTests(AsgiCase):
    """Applications of ASGI."""

    def talk2(self, app: Any, **options: Any) -> Talk2:
        """A connection to an application without a lifespan."""
        application = Asgi(app, lifespan="off")
        application.startApplication(reactor)
        talk = Talk2(application, **options)

        def finish() -> None:
            transport: Any = talk.pair.peer.transport
            transport.abortConnection()
            talk.pair.flush()
            self.assertEqual(talk.context.running, 0)

        self.addCleanup(finish)
        return talk

    async def complete(self, talk: Talk2, number: int) -> Any:
        """The answer on a stream, when it is complete or was reset."""

        def isOver() -> bool:
            talk.clock.advance(0)
            talk.go()
            return talk.heard[number].isComplete or talk.heard[number].code is not None

        await self.until(talk, isOver)
        return talk.heard[number]

    async def test_scope(self) -> None:
        scopes: list[dict[str, Any]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await answer(send)

        talk = self.talk2(app)
        got = await self.complete(talk, talk.begin("/a%20b?c=d", "GET", ("x", "1"), authority="b"))
        (scope,) = scopes
        self.assertEqual((got.body, scope["http_version"], scope["scheme"]), (b"done", "2", "http"))
        self.assertEqual((scope["path"], scope["raw_path"], scope["query_string"]), ("/a b", b"/a%20b", b"c=d"))
        self.assertEqual(scope["headers"], [(b"host", b"b"), (b"x", b"1")])
        self.assertEqual(
            set(scope["extensions"]),
            {"http.response.trailers", "http.response.pathsend", "http.response.early_hint"},
        )

    async def test_extensions(self) -> None:
        """Early hints, a file, and trailers."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(bytes(300_000))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            start = {"type": "http.response.start", "status": 200, "headers": []}
            if scope["path"] == "/file":
                await send(start)
                await send({"type": "http.response.pathsend", "path": path})
                return
            await send({**start, "trailers": True})
            await send({"type": "http.response.body", "body": b"x"})
            await send({"type": "http.response.trailers", "headers": [(b"A", b"b")]})

        talk = self.talk2(app)
        got = await self.complete(talk, talk.begin("/file"))
        self.assertEqual((len(got.body), got.header(b"content-length")), (300_000, b"300000"))
        got = await self.complete(talk, talk.begin("/"))
        self.assertEqual((got.informed, got.body), ([(103, [(b"link", b"</a>")])], b"x"))
        self.assertEqual((got.trailers, got.header(b"content-length")), ([(b"a", b"b")], None))

    async def test_body(self) -> None:
        """In parts; 100 (Continue) where the client asks for it, when the application does."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            size, more = 0, True
            while more:
                message = await receive()
                size += len(message["body"])
                more = message["more_body"]
            await answer(send, str(size).encode())

        talk = self.talk2(app)
        number = talk.begin("/", "POST", ("expect", "100-continue"), last=False)
        talk.go()
        self.assertEqual(talk.heard[number].informed, [(100, [])])
        for last in (False, False, True):
            talk.client.send_data(number, bytes(10_000), end_stream=last)
            talk.go()
        self.assertEqual((await self.complete(talk, number)).body, b"30000")

    async def test_disconnect(self) -> None:
        """A stream that the client resets is a disconnect; that it has sent all is none."""
        heard: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            while not heard or heard[-1] != "http.disconnect":
                heard.append((await receive())["type"])
            try:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            except OSError:
                heard.append("OSError")

        talk = self.talk2(app)
        number = talk.begin()
        talk.go()
        self.assertEqual((talk.heard[number].body, heard), (b"x", ["http.request"]))
        talk.client.reset_stream(number)
        talk.go()
        await self.until(talk, lambda: len(heard) == 3)
        self.assertEqual(heard[1:], ["http.disconnect", "OSError"])
        self.assertEqual(talk.context.counters.lost, 1)

    async def test_fails(self) -> None:
        """Before its answer has begun: 500; after that the stream is reset, and the connection goes on."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/late":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            raise ValueError("on purpose")

        talk = self.talk2(app)
        self.assertEqual((await self.complete(talk, talk.begin("/"))).status, 500)
        self.assertEqual((await self.complete(talk, talk.begin("/late"))).code, 2)
        self.assertEqual((await self.complete(talk, talk.begin("/"))).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)


class WsgiTests(TestCase):
    """An application in threads."""

    timeout = 60

    async def test_calls(self) -> None:
        try:
            import httpx
        except ImportError:
            raise SkipTest("httpx is not installed") from None

        def app(environ: Any, start: Any) -> Any:
            data = environ["wsgi.input"].read()
            start("200 OK", [("Content-Type", "text/plain")])
            return [environ["SERVER_PROTOCOL"].encode(), environ["HTTP_HOST"].encode()[:3], b"%d" % len(data)]

        server = http.Server(http.Wsgi(app), "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()

        def work() -> list[str]:
            with httpx.Client(http1=False, http2=True, base_url=f"http://127.0.0.1:{address.port}") as client:
                return [client.get("/").text, client.post("/", content=bytes(200_000)).text]

        waiting: Deferred[list[str]] = deferToThread(work)
        self.assertEqual(await waiting, ["HTTP/21270", "HTTP/2127200000"])
