"""Real clients against a server on a real socket: curl, httpx, aiohttp and Python's own."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import http as gettyHTTP
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

#: Bytes of the bodies: more than a read, a slice and a water mark.
LARGE = 3_000_000


def makeRouter() -> gettyHTTP.Router:
    """Some handlers."""
    router = gettyHTTP.Router()

    @router.get("/hello")
    def hello(request: gettyHTTP.Request) -> str:
        return "hello"

    @router.post("/length", stream=True)
    async def length(request: gettyHTTP.Request) -> dict[str, int]:
        assert request.body is not None
        return {"length": sum([len(part) async for part in request.body])}

    @router.get("/large")
    async def large(request: gettyHTTP.Request) -> Any:
        for _ in range(LARGE // 1000):
            yield b"x" * 1000

    @router.get("/fail")
    def fail(request: gettyHTTP.Request) -> None:
        raise ValueError("on purpose")

    return router


class Clients(TestCase):
    """Each client makes the same requests."""

    timeout = 120

    #: Options of curl and httpx.
    curlAlways: tuple[str, ...] = ()
    httpxAlways: dict[str, bool] = {}
    statusLine = b"HTTP/1.1 200 OK"
    bodies: tuple[tuple[str, ...], ...] = (
        (),
        ("--http2",),
        ("-H", "Transfer-Encoding: chunked"),
        ("-H", "Expect: 100-continue"),
    )

    async def start(self, endpoint: str = "tcp:0:interface=127.0.0.1") -> str:
        """Start the server; return its URL."""
        self.server = gettyHTTP.Server(makeRouter(), endpoint)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        (address,) = await self.server.whenListening()
        return f"http://127.0.0.1:{address.port}"

    async def inThread(self, work: Callable[[str], Any]) -> Any:
        """Run a client in a thread."""
        url = await self.start()
        return await deferToThread(work, url)

    def countsOf(self, path: str) -> dict[int, int]:
        """How often each status was answered."""
        served = self.server.context.counters.served["GET", path]
        return {status: count for status, count in served.statuses.items() if status < 400}

    async def test_curl(self) -> None:
        curl = shutil.which("curl")
        if curl is None:
            raise SkipTest("curl is not installed")
        url = await self.start()

        async def run(*arguments: str, stdin: bytes | None = None) -> bytes:
            waiting: Deferred[Any] = getProcessOutputAndValue(curl, ["-sS", *self.curlAlways, *arguments])
            output, error, code = await waiting
            self.assertEqual((error, code), (b"", 0))
            return output  # type: ignore[no-any-return]

        self.assertEqual(await run(f"{url}/hello"), b"hello")
        if not self.curlAlways:
            # Two requests on one connection; curl 7.88 forgets that it has begun HTTP/2 on it.
            self.assertEqual(await run(f"{url}/hello", f"{url}/hello"), b"hellohello")
        self.assertEqual(len(await run(f"{url}/large")), LARGE)
        if not self.curlAlways:
            self.assertEqual(len(await run("--http1.0", f"{url}/large")), LARGE)
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"x" * LARGE)
        # curl waits for 100 (Continue), and asks for HTTP/2 with the body behind it.
        for more in self.bodies:
            answer = await run("--data-binary", f"@{path}", *more, f"{url}/length")
            self.assertEqual(json.loads(answer), {"length": LARGE}, more)
        self.assertIn(self.statusLine, await run("-I", f"{url}/hello"))

    async def test_httpx(self) -> None:
        try:
            import httpx
        except ImportError:
            raise SkipTest("httpx is not installed") from None

        def work(url: str) -> None:
            def parts() -> Any:
                for _ in range(LARGE // 1000):
                    yield b"x" * 1000

            with httpx.Client(base_url=url, **self.httpxAlways) as client:
                for _ in range(3):
                    self.assertEqual(client.get("/hello").text, "hello")
                self.assertEqual(client.post("/length", content=parts()).json(), {"length": LARGE})
                self.assertEqual(client.post("/length", content=b"abc").json(), {"length": 3})
                self.assertEqual(len(client.get("/large").content), LARGE)
                self.assertEqual(client.get("/none").status_code, 404)
                self.assertEqual(client.get("/fail").status_code, 500)
                self.assertEqual(client.put("/hello").headers["allow"], "GET, HEAD, OPTIONS")

        await self.inThread(work)
        self.assertEqual(self.countsOf("/hello"), {200: 3})
        self.flushLoggedErrors(ValueError)


class ClientTests(Clients):
    """Over HTTP/1.1."""

    async def test_tls(self) -> None:
        """A certificate by the name of the host, and the protocol that a client offers."""
        authority = Authority(self.mktemp())
        folder = self.mktemp()
        os.mkdir(folder)
        parts = [Path(name).read_bytes() for name in authority.issue(["localhost"])]
        Path(folder, "localhost.pem").write_bytes(b"".join(parts))
        url = await self.start(f"tls:{folder}:0:interface=127.0.0.1")
        context = ssl.create_default_context(cafile=authority.path)

        def work(*offered: str) -> tuple[str | None, bytes]:
            context.set_alpn_protocols(offered)
            plain = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30)
            with context.wrap_socket(plain, server_hostname="localhost") as client:
                chosen = client.selected_alpn_protocol()
                if chosen == "h2":
                    # The settings come first.
                    return chosen, client.recv(9)[3:5]
                client.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return chosen, b"".join(iter(lambda: client.recv(65536), b""))[-5:]

        self.assertEqual(await deferToThread(work, "http/1.1"), ("http/1.1", b"hello"))
        self.assertEqual(await deferToThread(work, "h2", "http/1.1"), ("h2", b"\x04\0"))
        # With one certificate for all names; who offers nothing that is known gets HTTP/1.1.
        certificate, key = authority.issue(["localhost"])
        url = await self.start(f"ssl:0:interface=127.0.0.1:certKey={certificate}:privateKey={key}")
        self.assertEqual(await deferToThread(work, "h2", "http/1.1"), ("h2", b"\x04\0"))
        self.assertEqual(await deferToThread(work, "http/1.1"), ("http/1.1", b"hello"))
        self.assertEqual(await deferToThread(work, "tea"), (None, b"hello"))

    async def test_aiohttp(self) -> None:
        try:
            import aiohttp
        except ImportError:
            raise SkipTest("aiohttp is not installed") from None

        async def talk(url: str) -> None:
            async with aiohttp.ClientSession(url) as session:

                async def once() -> None:
                    async with session.get("/hello") as answer:
                        self.assertEqual(await answer.text(), "hello")

                await asyncio.gather(*[once() for _ in range(50)])
                async with session.post("/length", data=b"x" * LARGE) as answer:
                    self.assertEqual(await answer.json(), {"length": LARGE})
                async with session.get("/large") as answer:
                    self.assertEqual(len(await answer.read()), LARGE)

        await self.inThread(lambda url: asyncio.run(talk(url)))
        self.assertEqual(self.countsOf("/hello"), {200: 50})

    async def test_python(self) -> None:
        def work(url: str) -> None:
            client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
            try:
                for _ in range(3):
                    client.request("GET", "/hello")
                    self.assertEqual(client.getresponse().read(), b"hello")
                client.request("POST", "/length", iter([b"a" * 1000] * 100), encode_chunked=True)
                self.assertEqual(json.loads(client.getresponse().read()), {"length": 100_000})
                client.request("HEAD", "/hello")
                answer = client.getresponse()
                self.assertEqual((answer.getheader("Content-Length"), answer.read()), ("5", b""))
            finally:
                client.close()

        await self.inThread(work)


class TwoTests(Clients):
    """Over HTTP/2, by prior knowledge."""

    curlAlways = ("--http2-prior-knowledge",)
    httpxAlways = {"http2": True, "http1": False}
    statusLine = b"HTTP/2 200"
    bodies = (), ("-H", "Expect: 100-continue")

    async def test_nghttp(self) -> None:
        """Several requests at a time on one connection."""
        nghttp = shutil.which("nghttp")
        if nghttp is None:
            raise SkipTest("nghttp is not installed")
        url = await self.start()
        waiting: Deferred[Any] = getProcessOutputAndValue(nghttp, ["-m", "20", f"{url}/hello"])
        output, error, code = await waiting
        self.assertEqual((output, error, code), (b"hello" * 20, b"", 0))


del Clients
