"""Starlette and FastAPI on real sockets, asked by httpx and websockets, all on the guest loop."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import http
from getty_tx.reactors import guestLoop
from getty_tx.tls import serverPolicy, wrapServer
from tests.support.certificates import Authority

try:
    import fastapi
    import httpx
    import starlette.applications
    from starlette import responses, routing
    from starlette.background import BackgroundTask
    from websockets.asyncio.client import connect
except ImportError as missing:
    raise SkipTest(f"needs fastapi, httpx, starlette and websockets: {missing}") from None

events: list[str] = []


async def body(request: Any) -> Any:
    return responses.Response(await request.body(), headers={"x-query": request.url.query})


async def streamed(request: Any) -> Any:
    got = [part async for part in request.stream()]

    async def parts() -> Any:
        for part in got:
            yield part.upper()

    return responses.StreamingResponse(parts())


async def ticks(request: Any) -> Any:
    async def parts() -> Any:
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)
        finally:
            events.append("ticks end")

    return responses.StreamingResponse(parts())


async def later(request: Any) -> Any:
    async def work() -> None:
        await asyncio.sleep(0.05)
        events.append("worked")

    return responses.PlainTextResponse("accepted", 202, background=BackgroundTask(work))


async def scopeOf(request: Any) -> Any:
    tls = request.scope["extensions"].get("tls")
    return responses.JSONResponse({"tls": tls, "url": str(request.url), "state": list(request.state._state)})


async def echo(ws: Any) -> None:
    await ws.accept(subprotocol="b", headers=[(b"x-a", b"1")])
    async for text in ws.iter_text():
        if text == "close":
            await ws.close(4001, "bye")
            return
        await ws.send_text(text)
    events.append("ws ends")


async def denied(ws: Any) -> None:
    await ws.send_denial_response(responses.PlainTextResponse("not you", 401))


@asynccontextmanager
async def lifespan(app: Any) -> Any:
    events.append("startup")
    yield {"opened": True}
    events.append("shutdown")


class FrameworkTests(TestCase):
    """Each with a server."""

    timeout = 60

    def setUp(self) -> None:
        events.clear()
        self.addCleanup(self.settle)

    async def settle(self) -> None:
        """Let the loop see that the timers of its tasks were cancelled, so that it leaves none to the reactor."""
        for _ in range(100):
            await Deferred.fromFuture(guestLoop().start(asyncio.sleep(0)))
            if not reactor.getDelayedCalls():  # type: ignore[attr-defined]
                return
            await deferLater(reactor, 0.01)

    async def serve(self, app: Any, policy: Any = None) -> int:
        """Serve it until the end of the test. :return: the port."""
        endpoint: Any = "tcp:0:interface=127.0.0.1"
        if policy is not None:
            endpoint = wrapServer(policy, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        self.server = http.Server(http.Asgi(app), endpoint)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        (address,) = await self.server.whenListening()
        port: int = address.port  # type: ignore[attr-defined]
        return port

    async def run_(self, coroutine: Any) -> Any:
        """Run a client."""
        return await Deferred.fromFuture(guestLoop().start(coroutine))

    def starlette(self) -> Any:
        """An application."""
        return starlette.applications.Starlette(
            routes=[
                routing.Route("/body", body, methods=["POST"]),
                routing.Route("/streamed", streamed, methods=["POST"]),
                routing.Route("/ticks", ticks),
                routing.Route("/later", later),
                routing.Route("/scope", scopeOf),
                routing.WebSocketRoute("/echo", echo),
                routing.WebSocketRoute("/denied", denied),
            ],
            lifespan=lifespan,
        )

    async def test_starlette(self) -> None:
        port = await self.serve(self.starlette())

        async def client() -> None:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=None) as ask:
                got = await ask.post("/body?a=b%20c", content=b"x" * 300_000)
                self.assertEqual((got.content, got.headers["x-query"]), (b"x" * 300_000, "a=b%20c"))

                async def parts() -> Any:
                    for each in (b"a", b"b", b"c"):
                        yield each
                        await asyncio.sleep(0.002)

                self.assertEqual((await ask.post("/streamed", content=parts())).content, b"ABC")
                self.assertEqual((await ask.get("/none")).status_code, 404)
                self.assertEqual((await ask.get("/scope")).json()["state"], ["opened"])
                self.assertEqual((await ask.get("/later")).status_code, 202)
                async with ask.stream("GET", "/ticks") as stream:
                    async for line in stream.aiter_lines():
                        self.assertEqual(line, "tick")
                        break
            while "ticks end" not in events:
                await asyncio.sleep(0.01)

        await self.run_(client())
        await self.server.stopService()
        self.assertEqual(sorted(events), ["shutdown", "startup", "ticks end", "worked"])
        self.assertEqual(events[-1], "shutdown")

    async def test_webSockets(self) -> None:
        port = await self.serve(self.starlette())

        async def client() -> None:
            url = f"ws://127.0.0.1:{port}"
            async with connect(f"{url}/echo", subprotocols=["a", "b"], proxy=None) as ws:  # type: ignore[list-item]
                self.assertEqual((ws.subprotocol, ws.response.headers["x-a"]), ("b", "1"))
                for text in ("a", "é" * 50_000, ""):
                    await ws.send(text)
                    self.assertEqual(await ws.recv(), text)
            async with connect(f"{url}/echo", subprotocols=["b"], proxy=None) as ws:  # type: ignore[list-item]
                await ws.send("close")
                await ws.wait_closed()
                self.assertEqual((ws.close_code, ws.close_reason), (4001, "bye"))
            for path, status in (("/denied", 401), ("/none", 403)):
                try:
                    async with connect(url + path, proxy=None):
                        self.fail("it was accepted")
                except Exception as error:
                    self.assertEqual(error.response.status_code, status, error)  # type: ignore[attr-defined]

        await self.run_(client())
        await self.server.stopService()
        self.assertIn("ws ends", events)

    async def test_fastapi(self) -> None:
        app = fastapi.FastAPI()

        @app.post("/items/{number}")
        async def item(number: int, names: list[str]) -> dict[str, Any]:
            return {"number": number, "names": names}

        @app.get("/thread")
        def thread() -> str:
            return "from a thread"

        port = await self.serve(app)

        async def client() -> None:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=None) as ask:
                got = await ask.post("/items/3", json=["a", "b"])
                self.assertEqual(got.json(), {"number": 3, "names": ["a", "b"]})
                self.assertEqual((await ask.post("/items/x", json=[])).status_code, 422)
                self.assertEqual((await ask.get("/thread")).json(), "from a thread")
                self.assertIn("/items/{number}", (await ask.get("/openapi.json")).json()["paths"])

        await self.run_(client())

    async def test_tls(self) -> None:
        """The scheme, and the extension ``tls``."""
        authority = Authority(self.mktemp())
        policy = serverPolicy(*authority.issue(["localhost"]))
        port = await self.serve(self.starlette(), policy)

        async def client() -> Any:
            context = ssl.create_default_context(cafile=authority.path)
            async with httpx.AsyncClient(verify=context, trust_env=False, timeout=None) as ask:
                return (await ask.get(f"https://localhost:{port}/scope")).json()

        got = await self.run_(client())
        self.assertEqual(got["url"], f"https://localhost:{port}/scope")
        tls = got["tls"]
        self.assertTrue(tls["server_cert"].startswith("-----BEGIN CERTIFICATE-----"))
        self.assertEqual(
            (tls["client_cert_chain"], tls["client_cert_name"], tls["client_cert_error"]), ([], None, None)
        )
        self.assertEqual(tls["tls_version"], 0x0304)
        # RFC 8446, B.4.
        self.assertIn(tls["cipher_suite"], (0x1301, 0x1302, 0x1303))
