"""The how-tos, topics and pages for newcomers: each of their blocks is run, or at least read by what it is for."""

from __future__ import annotations

import asyncio
import configparser
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import unittest
from contextlib import asynccontextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from getty_tx import Client, CodecError, EventListener, NotReadyError, Server, http, rpc
from getty_tx.codecs import EchoPackage, GettyCodec, LineCodec, RawCodec
from getty_tx.reactors.guest import guestLoop
from getty_tx.rpc import seata
from getty_tx.tap import dial, echo, serve
from getty_tx.testing import Network, RecordingListener
from tests.docs.test_guide import ROOT
from tests.support.certificates import Authority
from tests.support.memory import configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from getty_tx import Session

DOCS = ROOT / "docs"
FOLDERS = ("howto", "topics", "from")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_OPTIONS = {each.command: each for each in (echo.Options, serve.Options, dial.Options)}

#: Of mysite.asgi: it answers with the path.
APPLICATION = """
async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})
"""

#: What the commands on the pages serve: somebody's own listener.
SERVICE = """
from getty_tx import EventListener
class Listener(EventListener):
    pass
"""


class Library:
    """What stands for a library of asyncio on the page about them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Library]:
        await asyncio.sleep(0.001)
        self.url = url
        yield self

    async def text(self) -> str:
        await asyncio.sleep(0)
        self.steps.append("asked")
        return self.url

    async def close(self) -> None:
        await asyncio.sleep(0.001)
        self.steps.append("closed")


class Page:
    """
    A page, and the names that its code makes.

    :ivar commands: how many command lines were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, Any] = {"__name__": path.stem}
        self.commands = 0

    def run(self) -> None:
        """Every block, from top to bottom."""
        text = self.path.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(2))
            try:
                # AttributeError: a language that nobody has thought of.
                getattr(self, match[1])("\n" * line + match[2])
            except AssertionError as error:
                raise AssertionError(f"{self.path.name}, line {line + 1}: {error}") from error

    def python(self, text: str) -> None:
        """Run it."""
        exec(compile(text, self.path.name, "exec", dont_inherit=True), self.names)

    def sh(self, text: str) -> None:
        """Make certificates; read the options of all other commands, with what they name."""
        if text.lstrip().startswith("openssl"):
            if shutil.which("openssl") is None:
                raise SkipTest("there is no openssl")
            done = subprocess.run(["sh", "-ec", text], capture_output=True, text=True)
            if done.returncode:
                raise AssertionError(done.stderr)
            return
        for line in text.replace("\\\n", " ").strip().splitlines():
            if line.startswith("make "):
                assert f"\n{line.split()[1]}:" in (ROOT / "Makefile").read_text(), line
            else:
                self.command(line)

    def command(self, line: str) -> None:
        """The options behind ``twistd``."""
        # What systemd listens on is there in a process that it has started, and in no other.
        words = shlex.split(re.sub(r"\bsystemd:\S+", "unix:systemd.sock", line))
        words = words[[os.path.basename(word) for word in words].index("twistd") :]
        [at] = [index for index, word in enumerate(words) if word in _OPTIONS]
        options = _OPTIONS[words[at]]()
        options.parseOptions(words[at + 1 :])
        self.commands += 1

    def ini(self, text: str) -> None:
        """A unit of systemd."""
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        command = unit.get("Service", "ExecStart", fallback=None)
        if command is not None:
            self.command(command)

    def haproxy(self, text: str) -> None:
        """tests/docs/test_proxies.py runs it."""

    nginx = haproxy

    def yaml(self, text: str) -> None:
        """Kubernetes reads it."""

    toml = yaml

    def go(self, text: str) -> None:
        """For those who know it; where there is Go, it is asked whether that is Go."""
        if (gofmt := shutil.which("gofmt")) is not None:
            done = subprocess.run([gofmt, "-e"], input=f"package main\n{text}", capture_output=True, text=True)
            assert not done.returncode, done.stderr

    def text(self, text: str) -> None:
        """A picture, or what a test of its own reads, as tests/docs/blocks.py says."""

    json = yaml = text


class FolderMixin:
    """A folder to be in, with a certificate, and a listener to serve."""

    mktemp: Callable[[], str]
    addCleanup: Callable[..., None]

    def setUp(self) -> None:
        folder = self.mktemp()
        certificate, key = Authority(folder).issue(["localhost"])
        shutil.copy(certificate, f"{folder}/cert.pem")
        shutil.copy(key, f"{folder}/key.pem")
        os.mkdir(f"{folder}/mypkg")
        Path(folder, "mypkg", "service.py").write_text(SERVICE)
        os.mkdir(f"{folder}/mysite")
        Path(folder, "mysite", "asgi.py").write_text(APPLICATION)
        os.mkdir(f"{folder}/public")
        Path(folder, "public", "a.txt").write_text("a file")
        self.addCleanup(os.chdir, os.getcwd())
        self.addCleanup(sys.path.remove, os.path.abspath(folder))
        sys.path.insert(0, os.path.abspath(folder))
        os.chdir(folder)
        for name in ("mypkg", "mypkg.service", "mysite", "mysite.asgi"):
            self.addCleanup(sys.modules.pop, name, None)

    def page(self, name: str) -> Page:
        """A page that was run."""
        page = Page(DOCS / name)
        page.run()
        return page


class PageTests(FolderMixin, TestCase):
    """What is on the pages, and what comes of it."""

    timeout = 120

    def test_all(self) -> None:
        """Every page, from top to bottom."""
        pages = sorted(path for folder in FOLDERS for path in (DOCS / folder).glob("*.md"))
        self.assertGreater(len(pages), 10)
        commands = 0
        for path in pages:
            # These have tests of their own: one makes certificates, others need what an extra installs, or a server.
            if path.stem not in ("dubbo", "etcd", "gateway", "grpc-calls", "kitex", "redis", "tls", "tracing"):
                commands += self.page(str(path.relative_to(DOCS))).commands
        self.assertGreater(commands, 3)
        # The callback that fails on the page about the life of a connection.
        self.assertEqual(1, len(self.flushLoggedErrors(CodecError)))

    async def test_reconnect(self) -> None:
        """The client that lost its server subscribes again."""
        await self.page("howto/reconnect.md").names["example"]()

    async def test_asyncio(self) -> None:
        """The server for those who come from asyncio serves."""
        with redirect_stdout(io.StringIO()) as printed:
            server, address = await self.page("from/asyncio.md").names["main"](reactor)
            self.addCleanup(server.stopService)
            heard = RecordingListener()
            client = Client(configure(heard, LineCodec()), f"tcp:127.0.0.1:{address.port}")
            client.startService()
            self.addCleanup(client.close)
            await client.whenReady()
            closed: Deferred[None] = Deferred()
            client.pick().addCloseCallback(lambda: closed.callback(None), "test")
            client.pick().writePkg(b"hello")
            await closed
        self.assertEqual([b"hello"], heard.packages)
        self.assertIn("Received 'hello' from", printed.getvalue())

    async def test_guest(self) -> None:
        """The service asks a library of asyncio, which it opens first and closes last."""
        library = Library()

        async def openLibrary() -> Library:
            self.assertIs(asyncio.get_running_loop(), guestLoop())
            return library

        service = self.page("howto/asyncio.md").names["PriceService"](openLibrary, "tcp:0:interface=127.0.0.1")
        service.startService()
        await Deferred.fromFuture(service.opening)
        [address] = await service.server.whenListening()
        reply: Deferred[Any] = Deferred()
        heard = RecordingListener(on={"message": lambda session, answer: reply.callback(answer)})
        client = Client(configure(heard, LineCodec()), f"tcp:127.0.0.1:{address.port}")
        client.startService()
        self.addCleanup(client.close)
        await client.whenReady()
        client.pick().writePkg(b"tea")
        self.assertEqual(b"http://prices.example/tea", await reply)
        await service.stopService()
        self.assertEqual(["asked", "closed"], library.steps)

    async def ask(self, server: Server, codec: Any, pkg: Any, how: str = "tcp:127.0.0.1:{port}") -> Any:
        """Start a server, and ask it something."""
        reply: Deferred[Any] = Deferred()
        heard = RecordingListener(on={"message": lambda session, answer: reply.callback(answer)})
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = Client(configure(heard, codec), how.format(port=address.port))
        client.startService()
        self.addCleanup(client.close)
        await client.whenReady()
        if pkg is not None:
            client.pick().writePkg(pkg)
        return await reply

    async def test_autobahn(self) -> None:
        """The server for those who come from Autobahn sends text back as text."""
        names = self.page("from/autobahn.md").names
        with redirect_stdout(io.StringIO()) as printed:
            server = Server(names["newSession"], "ws:0:interface=127.0.0.1")
            self.assertEqual("hello", await self.ask(server, RawCodec(), "hello", "ws://127.0.0.1:{port}/"))
        self.assertIn("text message of 5", printed.getvalue())

    async def test_webSocketOnHTTP(self) -> None:
        """The room of the page answers; another is not there."""
        router = self.page("howto/websocket-on-http.md").names["router"]
        server = http.Server(router, "tcp:0:interface=127.0.0.1")
        self.assertEqual("hello", await self.ask(server, RawCodec(), "hello", "ws://127.0.0.1:{port}/chat/tea"))
        [address] = await server.whenListening()
        milk = f"ws://127.0.0.1:{address.port}/chat/milk"
        client = Client(configure(EventListener(), RawCodec()), milk, reconnectAttempts=1)
        client.startService()
        self.addCleanup(client.close)
        error = await self.assertFailure(client.whenReady(), NotReadyError)
        self.assertIn("404", str(error))

    async def test_files(self) -> None:
        """Pages that serve a folder, resources, an application in threads, and one of asyncio beside a folder."""
        names = self.page("howto/files-wsgi.md").names
        site = self.page("howto/asgi.md").names["router"]
        head = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        for application, path, body in (
            (names["router"], b"/static/a.txt", b"a file"),
            (names["router"], b"/site/hello?name=you", b"Hello you"),
            (names["site"], b"/", b"Hello"),
            (site, b"/static/a.txt", b"a file"),
            (site, b"/else", b"/else"),
        ):
            server = http.Server(application, "tcp:0:interface=127.0.0.1")
            answer = await self.ask(server, RawCodec(), head % path)
            self.assertTrue(answer.endswith(body), answer)

    async def test_getty(self) -> None:
        """The server for those who know Getty speaks as its echo does."""
        names = self.page("from/getty.md").names
        server = Server(names["newSession"], "tcp:0:interface=127.0.0.1", workers=8)
        package = EchoPackage(body=b"hello")
        self.assertEqual(package, await self.ask(server, GettyCodec(), package))

    async def test_workers(self) -> None:
        """Awaited or in a worker, the answer is the same."""
        for server in self.page("howto/workers.md").names["servers"]:
            self.assertEqual(b"3", await self.ask(server, LineCodec(), b"tea"))

    async def test_ticker(self) -> None:
        """What a thread of its own has computed goes to whoever is there."""
        names = self.page("topics/ordering.md").names
        server = Server(configure(EventListener(), LineCodec()), "tcp:0:interface=127.0.0.1")
        answering = ensureDeferred(self.ask(server, LineCodec(), None))
        while not server.sessions:
            await deferLater(reactor, 0.01, lambda: None)
        names["Ticker"](reactor).start(server)
        self.assertEqual(str(sum(range(1_000_000))).encode(), await answering)

    async def test_kitex(self) -> None:
        """The client of the page asks its server."""
        if find_spec("thriftpy2") is None:
            raise SkipTest("thriftpy2 is not installed")
        [idl] = re.findall(r"```text\n(.*?)```", (DOCS / "howto/kitex.md").read_text(), re.DOTALL)
        Path("users.thrift").write_text(idl)
        names = self.page("howto/kitex.md").names
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        endpoint = f"tcp:127.0.0.1:{address.port}"
        # The other transports at the same port, too.
        wires = [rpc.Thrift("users.thrift", transport=each) for each in ("framed", "buffered")]
        clients = [rpc.Client(endpoint, wire=wire) for wire in (names["wire"], *wires)]
        for client in clients:
            client.startService()
            self.addCleanup(client.stopService)
        with redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(7, await names["ask"](clients[0]))
            for client in clients:
                with self.assertRaises(names["users"].NoSuchUser):
                    await client.call("Users", "find", "bob")
        self.assertEqual("ann\n", printed.getvalue())
        call = clients[0].call("Users", "find", "ann")
        await call
        self.assertEqual({"from": "here"}, call.metadata)
        with self.assertRaises(rpc.RemoteError) as caught:
            await clients[0].call("Users", "find", "")
        self.assertEqual(("1400", {"field": "name"}), (caught.exception.code, caught.exception.details))

    async def test_seata(self) -> None:
        """The client of the page has a transaction with its coordinator."""
        names = self.page("howto/seata.md").names
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = names["connect"](f"tcp:127.0.0.1:{address.port}")
        client.startService()
        self.addCleanup(client.stopService)
        self.assertEqual(seata.GlobalStatus.Committed, await names["order"](client))
        with self.assertRaisesRegex(rpc.RemoteError, "there is no such transaction"):
            await client.service("seata").BranchRegister(seata.BranchRegister("other"))

    async def test_wires(self) -> None:
        """The client of the page asks its server."""
        names = self.page("topics/rpc-wires.md").names
        server = names["server"]
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=rpc.Getty("json"))
        client.startService()
        self.addCleanup(client.stopService)
        self.assertEqual(11, await names["ask"](client))

    def test_processes(self) -> None:
        """What a sub-reactor calls makes a server."""
        names = self.page("howto/processes.md").names
        names["newSession"] = configure(EventListener(), LineCodec())
        self.assertIsInstance(names["makeService"](["tcp:8090"]), Server)

    def test_security(self) -> None:
        """The servers of the page about security can be."""
        names = self.page("topics/security.md").names
        self.assertEqual(1000, names["serve"]().maxSessions)
        self.assertEqual(1000, names["serveSite"](http.Router()).context.limitConcurrency)

    def test_pressure(self) -> None:
        """Who does not read is closed, and hurts nobody else; something long is sent as fast as it is taken."""
        names = self.page("topics/pressure.md").names
        network = Network(capacity=1000)
        heard = [RecordingListener() for _ in range(2)]

        def newServerSession(session: Session) -> None:
            configure(EventListener(), LineCodec())(session)
            session.highWater, session.lowWater, session.maxPending = 2000, 1000, 5000

        server = network.serverFactory(newServerSession)
        pairs = [network.connect(server, network.clientFactory(configure(each, LineCodec()))) for each in heard]
        pairs[0].client.pauseReading()
        for _ in range(20):
            names["broadcast"](server.sessions, bytes(500))
            pairs[1].flush()
        self.assertTrue(pairs[0].server.isClosed)
        self.assertEqual(20, len(heard[1].packages))
        sending = ensureDeferred(names["sendAll"](pairs[1].server, [bytes(1500)] * 10))
        self.assertLess(pairs[1].server.pendingBytes, 5000)
        pairs[1].flush()
        self.assertIsNone(self.successResultOf(sending))
        self.assertEqual(30, len(heard[1].packages))

    async def test_tls(self) -> None:
        """With the certificates that the page makes both sides agree, and the server knows who the client is."""
        names = self.page("howto/tls.md").names
        reply: Deferred[bytes] = Deferred()
        heard = RecordingListener(on={"message": lambda session, pkg: reply.callback(pkg)})
        server = Server(configure(names["Greeter"](), LineCodec()), names["secureServer"](reactor, 0))
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = Client(configure(heard, LineCodec()), names["secureClient"](reactor, address.port))
        client.startService()
        self.addCleanup(client.close)
        await client.whenReady()
        client.pick().writePkg(b"?")
        self.assertEqual(b"hello client", await reply)
        self.assertEqual(b"echo/1", client.pick().transport.negotiatedProtocol)


class CaseTests(FolderMixin, SynchronousTestCase):
    """The test cases of the how-to about them, for which no reactor may run yet."""

    def test_pass(self) -> None:
        """They pass."""
        cases = [
            each
            for each in self.page("howto/testing.md").names.values()
            if isinstance(each, type) and issubclass(each, unittest.TestCase) and each.__module__ == "testing"
        ]
        result = unittest.TestResult()
        unittest.TestSuite(map(unittest.defaultTestLoader.loadTestsFromTestCase, cases)).run(result)
        self.assertEqual((4, [], []), (result.testsRun, result.errors, result.failures))
