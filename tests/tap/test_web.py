"""``getty-http`` and ``getty-asgi``: their options, and an application on a real socket."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.tap import asgi
from getty_tx.tap import http as plain
from tests.tap.test_options import OptionsTestCase

HERE = __name__

router = http.Router()


@router.get("/")
def hello(request: http.Request) -> bytes:
    """A handler."""
    return b"hello"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An application without a lifespan."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["root_path"].encode() + b"!"})


def makeApplication() -> Any:
    """A factory."""
    return application


number = 3


class OptionsTests(OptionsTestCase):
    """The command line."""

    def test_listen(self) -> None:
        parse = lambda *words: self.parse(plain.Options, *words, f"{HERE}:router").endpoints  # noqa: E731
        self.assertEqual(parse(), ["tcp:8000:interface=127.0.0.1"])
        self.assertEqual(parse("--port", "80"), ["tcp:80:interface=127.0.0.1"])
        self.assertEqual(parse("-b", "::1", "-p", "81"), [r"tcp:81:interface=\:\:1"])
        self.assertEqual(parse("--listen", "tcp:1", "--uds", "/tmp/a:b"), ["tcp:1", r"unix:/tmp/a\:b"])

    def test_applicationFirst(self) -> None:
        options = self.parse(plain.Options, f"{HERE}:router", "--port", "80", "--limit-concurrency", "7")
        self.assertIs(options.application, router)
        self.assertEqual(options.settings()["limitConcurrency"], 7)

    def test_handler(self) -> None:
        options = self.parse(plain.Options, f"{HERE}:hello", "--server-header", "none", "--max-body", "none")
        settings = options.settings()
        self.assertEqual((settings["serverName"], settings["maxBody"]), ("", None))

    def test_proxies(self) -> None:
        self.assertIsNone(self.parse(plain.Options, f"{HERE}:hello").settings()["proxies"])
        words = ["--proxy-headers", "--forwarded-allow-ips", "10.0.0.0/8, unix"]
        proxies = self.parse(plain.Options, *words, f"{HERE}:hello").settings()["proxies"]
        self.assertEqual([proxies.trusts(host) for host in ("10.1.1.1", None, "127.0.0.1")], [True, True, False])

    def test_accessLog(self) -> None:
        path = self.mktemp()
        options = self.parse(plain.Options, "--access-log", path, "--access-log-format", "json", f"{HERE}:hello")
        log = options.accessLog()
        log.close()
        self.assertIsNone(self.parse(plain.Options, f"{HERE}:hello").accessLog())

    def test_headers(self) -> None:
        words = ["--header", "X-Frame-Options: DENY ", "--header", "Link:</a>;rel=b", "--root-path", "/app"]
        settings = self.parse(plain.Options, *words, f"{HERE}:hello").settings()
        self.assertEqual([("X-Frame-Options", "DENY"), ("Link", "</a>;rel=b")], settings["headers"])
        self.assertEqual("/app", settings["rootPath"])

    def test_environment(self) -> None:
        """It is there when the application is imported."""
        self.patch(os, "environ", dict(os.environ))
        self.patch(sys, "path", list(sys.path))
        folder = self.mktemp()
        os.mkdir(folder)
        with open(os.path.join(folder, "needs_a_key.py"), "w") as file:
            file.write("import os\n\n\ndef handler(request): pass\n\n\nos.environ['MY_KEY']\n")
        with open(os.path.join(folder, "env"), "w") as file:
            file.write("MY_KEY=7\n")
        words = ["--app-dir", folder, "needs_a_key:handler"]
        self.assertIn("KeyError: 'MY_KEY'", self.refuse(plain.Options, *words))
        self.addCleanup(sys.modules.pop, "needs_a_key", None)
        self.parse(plain.Options, "--env-file", os.path.join(folder, "env"), *words)

    def test_refused(self) -> None:
        for options, words, why in [
            (plain.Options, ["--access-log", "/no/such/log", f"{HERE}:hello"], "access log /no/such/log: No such file"),
            (
                plain.Options,
                ["--access-log", "-", "--access-log-format", "clf", f"{HERE}:hello"],
                "--access-log-format clf: takes one of combined, json",
            ),
            (
                plain.Options,
                ["--forwarded-allow-ips", "proxy", f"{HERE}:hello"],
                "--forwarded-allow-ips proxy: proxies: 'proxy' is no network",
            ),
            (
                plain.Options,
                ["--forwarded-field", "X-Real-IP", f"{HERE}:hello"],
                "--forwarded-field X-Real-IP: field='X-Real-IP' is neither X-Forwarded-For nor Forwarded",
            ),
            (plain.Options, [], "'' is not one application; give a folder, or module:name of a Router"),
            (plain.Options, ["a", "b"], "'b a' is not one application"),
            (plain.Options, ["router"], "router: it is not a module and an attribute"),
            (plain.Options, ["no_such:router"], "no_such:router: there is no module 'no_such'"),
            (plain.Options, [f"{HERE}:number"], f"{HERE}:number: int is no handler"),
            (plain.Options, ["--listen", "udp:1", f"{HERE}:hello"], "--listen udp:1: HTTP goes over tcp:"),
            (
                plain.Options,
                ["--compression", "deflate", f"{HERE}:hello"],
                "--compression deflate: no client of HTTP reads",
            ),
            (plain.Options, ["--server-header", "\n", f"{HERE}:hello"], "cannot stand in a field"),
            (
                plain.Options,
                ["--timeout-graceful-shutdown", "60", f"{HERE}:hello"],
                "--timeout-graceful-shutdown 60: the command ends after --drain-timeout 10",
            ),
            (plain.Options, ["--header", "X", f"{HERE}:hello"], "--header X: is not NAME:VALUE, such as X-Frame-Op"),
            (plain.Options, ["--header", "X :y", f"{HERE}:hello"], "--header: b'X ': b'y' cannot stand in a head"),
            (plain.Options, ["--header", "Server:y", f"{HERE}:hello"], "--header: Server is the server's own"),
            (plain.Options, ["--env-file", "/no/env", f"{HERE}:hello"], "--env-file /no/env: No such file or dir"),
            (asgi.Options, [f"{HERE}:number"], f"{HERE}:number: '{HERE}:number' is int, which cannot be called"),
            (asgi.Options, [f"{HERE}:missing"], f"{HERE} has no 'missing'"),
            (asgi.Options, [f"{HERE}:application", "--lifespan", "yes"], "takes one of auto, on, off"),
            (asgi.Options, [f"{HERE}:application", "--root-path", "app"], "rootPath='app' begins with a slash"),
        ]:
            self.assertIn(why, self.refuse(options, *words))


class _Client(Protocol):
    """Sends a request, and waits for the end of the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.done.callback(self.data)


class ServiceTests(TestCase):
    """The services, on a real socket."""

    async def ask(self, command: Any, *words: str) -> bytes:
        """Start the command's service, and ask it once."""
        options = command.Options()
        options.parseOptions([*words, "--listen", "tcp:0:interface=127.0.0.1"])
        service = command.makeService(options)
        service.startService()
        self.addCleanup(service.stopService)
        (address,) = await service.server.whenListening()
        client = _Client()
        await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", address.port), client)
        return await client.done

    async def test_http(self) -> None:
        self.assertIn(b"hello", await self.ask(plain, f"{HERE}:router"))

    async def test_folder(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        with open(os.path.join(folder, "index.html"), "w", encoding="utf-8") as file:
            file.write("a folder")
        self.assertIn(b"a folder", await self.ask(plain, folder))

    async def test_asgi(self) -> None:
        answer = await self.ask(asgi, f"{HERE}:makeApplication", "--factory", "--root-path", "/app")
        self.assertTrue(answer.endswith(b"/app!"), answer)
