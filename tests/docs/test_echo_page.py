"""Chromium, on the page ``examples/echo.html``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import Any
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import File

from getty_tx import Server
from getty_tx.codecs import RawCodec
from getty_tx.tap.echo import EchoListener
from tests.support.memory import configure
from tests.tap.test_twistd import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PAGE = ROOT / "examples" / "echo.html"

#: What the page reports if all is well.
GOOD = {"text": True, "binary": True, "status": "connected, all came back"}

#: Nothing of the machine's, nothing of the network's.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Seconds that Chromium may take for a step; only a machine that is very busy comes near.
PATIENCE = 60


class Reports(Resource):
    """
    Takes what pages post.

    :ivar queue: what they did, in order.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.queue: DeferredQueue[Any] = DeferredQueue()

    def render_POST(self, request: Any) -> bytes:
        """A page reports; one that is a file may, too."""
        request.setHeader(b"access-control-allow-origin", b"*")
        self.queue.put(json.load(request.content))
        return b""


class Connections(WrappingFactory):
    """Counts the connections of another factory."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self.gone: Deferred[None] = Deferred()

    def unregisterProtocol(self, p: ProtocolWrapper) -> None:
        """A connection is gone."""
        super().unregisterProtocol(p)
        if not self.protocols and not self.gone.called:
            self.gone.callback(None)

    def whenGone(self) -> Deferred[None]:
        """No connection is there any more."""
        self.gone = Deferred()
        if not self.protocols:
            self.gone.callback(None)
        return self.gone


class Browser(ProcessProtocol):
    """
    Chromium.

    :ivar ended: fires when it is gone, and all of its children that hold its pipes.
    """

    def __init__(self, reports: DeferredQueue[Any]) -> None:
        self.reports = reports
        self.output = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """It said something."""
        self.output += data

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It has ended; who waits for a report need not wait longer."""
        self.reports.put(Failure(AssertionError(f"Chromium: {reason.value}\n{self.output.decode(errors='replace')}")))
        self.ended.callback(None)

    def end(self) -> Deferred[None]:
        """Make an end of it."""
        for seconds, signal in ((0, "TERM"), (10, "KILL")):
            killing = reactor.callLater(seconds, self.signal, signal)
            self.ended.addBoth(_cancel, killing)
        return self.ended

    def signal(self, name: str) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)


def _cancel(result: Any, call: Any) -> Any:
    if call.active():
        call.cancel()
    return result


class BrowserTests(TestCase):
    """A page, a server for it, and the server that it dials."""

    timeout = 4 * PATIENCE

    if CHROMIUM is None:
        skip = "there is no Chromium (Debian: apt-get install chromium)"

    async def serveEcho(self, port: int = 0) -> tuple[Server, int]:
        """An echo server; its port."""
        server = Server(configure(EchoListener(), RawCodec()), f"ws:{port}:interface=127.0.0.1:path=/echo")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        return server, address.port

    def servePage(self) -> tuple[int, Reports]:
        """A web server for the page; its port, and where the page reports to."""
        root, reports = Resource(), Reports()
        root.putChild(b"echo.html", File(str(PAGE)))
        root.putChild(b"report", reports)
        connections = Connections(Site(root))
        port = reactor.listenTCP(0, connections, interface="127.0.0.1")
        self.addCleanup(connections.whenGone)
        self.addCleanup(port.stopListening)
        return port.getHost().port, reports

    def browse(self, url: str, reports: Reports) -> Browser:
        """Open a page in a browser that knows nothing."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        browser = Browser(reports.queue)
        command = [CHROMIUM, *ARGUMENTS, f"--user-data-dir={folder}", url]
        reactor.spawnProcess(browser, CHROMIUM, command, env={**os.environ, "HOME": folder}, path=folder)
        self.addCleanup(browser.end)
        return browser

    def query(self, port: int) -> str:
        """What tells the page whom to dial."""
        return "server=" + quote(f"ws://127.0.0.1:{port}/echo", safe="")

    async def reported(self, reports: Reports) -> dict[str, Any]:
        """The page's next report."""
        report: dict[str, Any] = await reports.queue.get().addTimeout(PATIENCE, reactor)
        return report

    async def test_echo(self) -> None:
        """Text and bytes come back, compressed as Chromium offers, and again when the server was restarted."""
        server, port = await self.serveEcho()
        webPort, reports = self.servePage()
        self.browse(f"http://127.0.0.1:{webPort}/echo.html?{self.query(port)}&report=/report#auto", reports)
        first = await self.reported(reports)
        self.assertIn("permessage-deflate", first.pop("extensions"))
        self.assertEqual(GOOD | {"lastClose": None}, first)
        await server.stopService()
        await self.serveEcho(port)
        second = await self.reported(reports)
        self.assertIn("permessage-deflate", second.pop("extensions"))
        self.assertEqual(GOOD | {"lastClose": 1001}, second)

    async def test_file(self) -> None:
        """The page as a file, whose origin is ``null``."""
        _, port = await self.serveEcho()
        webPort, reports = self.servePage()
        to = quote(f"http://127.0.0.1:{webPort}/report", safe="")
        self.browse(f"{PAGE.as_uri()}?{self.query(port)}&report={to}#auto", reports)
        report = await self.reported(reports)
        self.assertEqual(GOOD, {name: report[name] for name in GOOD})
