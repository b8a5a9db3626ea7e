"""Chromium, on the pages of the tutorial and of examples/, and with what commands.md has for its console."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.trial.unittest import TestCase

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import JsonLinesCodec, LineCodec, RawCodec
from getty_tx.tap.echo import EchoListener
from getty_tx.testing import RecordingListener
from tests.docs.test_echo_page import CHROMIUM, PATIENCE
from tests.support.devtools import Tab
from tests.support.memory import configure
from tests.support.tutorial import steps
from tests.tap.test_twistd import ROOT, Process


class PageCase(TestCase):
    """Servers, and a browser."""

    timeout = 4 * PATIENCE

    if CHROMIUM is None:
        skip = "there is no Chromium (Debian: apt-get install chromium)"

    async def serve(self, listener: Any, codec: Any, *endpoints: str) -> tuple[Server, list[int]]:
        """A server, and its ports."""
        server = Server(configure(listener, codec), *endpoints)
        server.startService()
        self.addCleanup(server.stopService)
        addresses: list[Any] = list(await server.whenListening())
        return server, [address.port for address in addresses]

    def example(self, name: str, *arguments: str) -> tuple[Process, int]:
        """Run an example in a process of its own; its port."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        process = Process([sys.executable, str(ROOT / "examples" / name), *arguments], environment, os.getcwd())
        self.addCleanup(process.kill)
        return process, int(process.expect(r"^listening on .*port=(\d+)")[1])


class ChatTests(PageCase):
    """The page of the tutorial."""

    def files(self) -> dict[str, str]:
        """Those that the tutorial has its reader write, as they are in the end."""
        return {name: text for _, name, text in steps() if name}

    async def enter(self, port: int, name: str) -> tuple[Any, DeferredQueue[str]]:
        """Somebody over TCP: the session, and what it hears."""
        heard: DeferredQueue[str] = DeferredQueue()
        listener = RecordingListener(on={"message": lambda session, line: heard.put(line.decode())})
        client = Client(configure(listener, LineCodec()), f"tcp:127.0.0.1:{port}")
        client.startService()
        self.addCleanup(client.close)
        [session] = await client.whenReady()
        session.writePkg(name.encode())
        return session, heard

    async def test_chat(self) -> None:
        """Two pages and somebody over TCP hear each other, and that a page was closed; text is no HTML."""
        files = self.files()
        names: dict[str, Any] = {"__name__": "chat"}
        exec(compile(files["chat.py"], "chat.py", "exec", dont_inherit=True), names)
        _, [port, webPort] = await self.serve(
            names["Chat"](), names["Text"](), "tcp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1:path=/chat"
        )
        page = Path(f"{self.mktemp()}.html").absolute()
        page.write_text(files["chat.html"].replace("8091", str(webPort)))
        url = page.as_uri()
        cyd, heard = await self.enter(port, "cyd")
        ann = await Tab.open(self, url)
        bob = await ann.another(url)
        for tab, name in ((ann, "ann"), (bob, "<b>bob</b>")):
            await self.shows(tab, "who are you?")
            await tab.type(name)
            await self.shows(tab, f"{name} is here")
        await self.shows(ann, "<b>bob</b> is here")
        await ann.type("hello from a page")
        await self.shows(bob, "ann: hello from a page")
        cyd.writePkg("grüß euch".encode())
        for tab in (ann, bob):
            await self.shows(tab, "cyd: grüß euch")
        await bob.tell("Page.close")
        await self.shows(ann, "<b>bob</b> has gone")
        expected = [
            "who are you?",
            "cyd is here",
            "ann is here",
            "<b>bob</b> is here",
            "ann: hello from a page",
            "cyd: grüß euch",
            "<b>bob</b> has gone",
        ]
        self.assertEqual(expected, [await heard.get().addTimeout(PATIENCE, reactor) for _ in expected])
        self.assertEqual("", await ann.ask("input.value"))
        self.assertEqual(["who are you?", *expected[2:]], (await ann.ask("heard.textContent")).splitlines())

    async def shows(self, tab: Tab, line: str) -> None:
        """Wait until it is the last line of a page."""
        await tab.until(f"heard.textContent.endsWith({line + chr(10)!r})")


class GatewayTests(PageCase):
    """A page on one side of the gateway, and lines on the other."""

    async def test_lines(self) -> None:
        """What is typed is a line for the server, and comes back as text."""
        _, [port] = await self.serve(EchoListener(), LineCodec(), "tcp:0:interface=127.0.0.1")
        _, webPort = self.example("gateway.py", "ws:0:interface=127.0.0.1:path=/lines", f"tcp:127.0.0.1:{port}")
        page = (ROOT / "examples" / "echo.html").as_uri()
        tab = await Tab.open(self, f"{page}?server=ws://127.0.0.1:{webPort}/lines")
        await tab.until("document.getElementById('status').textContent === 'connected'")
        await tab.ask("document.getElementById('message').value = ''; document.getElementById('message').focus()")
        await tab.type("grüß dich")
        await tab.until("document.getElementById('log').innerText.includes('received text: grüß dich')")


class FeedTests(PageCase):
    """The page of the market feed."""

    async def test_feed(self) -> None:
        """Each price is the last that the feed told; the page comes back when the server does."""
        source, [port] = await self.serve(EventListener(), JsonLinesCodec(), "tcp:0:interface=127.0.0.1")
        process, webPort = self.example("feed.py", f"tcp:127.0.0.1:{port}", "ws:0:interface=127.0.0.1:path=/feed")
        page = (ROOT / "examples" / "feed.html").as_uri()
        tab = await Tab.open(self, f"{page}?server=ws://127.0.0.1:{webPort}/feed")
        await tab.until("document.getElementById('status').textContent === 'live'")
        for price in (1, 2.5, 40):
            await self.tell(tab, source, "ACME", price)
            await self.tell(tab, source, "<i>", price * 2)
            await self.shows(tab, [["ACME", f"{price:.2f}"], ["<i>", f"{2 * price:.2f}"]])
        process.send(signal.SIGTERM)
        process.end()
        await tab.until("document.getElementById('status').textContent.startsWith('lost')")
        self.example("feed.py", f"tcp:127.0.0.1:{port}", f"ws:{webPort}:interface=127.0.0.1:path=/feed")
        await tab.until("document.getElementById('status').textContent === 'live'")
        await self.tell(tab, source, "ACME", 41)
        await self.shows(tab, [["ACME", "41.00"], ["<i>", "80.00"]])

    async def tell(self, tab: Tab, source: Server, symbol: str, price: float) -> None:
        """The feed has a price."""
        # The example dials it as soon as it runs.
        while not source.sessions:
            await tab.ask("0")
        for session in source.sessions:
            session.writePkg({"symbol": symbol, "price": price})

    async def shows(self, tab: Tab, rows: list[list[str]]) -> None:
        """Wait until the table has these rows."""
        found = "JSON.stringify([...prices.rows].map(row => [...row.cells].map(cell => cell.textContent)))"
        await tab.until(f"{found} === JSON.stringify({rows})")

    async def test_madeUp(self) -> None:
        """Without a feed, prices change by themselves."""
        _, webPort = self.example("feed.py", "", "ws:0:interface=127.0.0.1:path=/feed")
        page = (ROOT / "examples" / "feed.html").as_uri()
        tab = await Tab.open(self, f"{page}?server=ws://127.0.0.1:{webPort}/feed")
        await tab.until("prices.rows.length === 3")
        before = await tab.ask("prices.innerText")
        await tab.until(f"prices.innerText !== {before!r}")


class ConsoleTests(PageCase):
    """What commands.md has for the console of a browser."""

    async def test_console(self) -> None:
        """Text comes back as text."""
        text = (ROOT / "docs" / "commands.md").read_text()
        found = re.search(r"((?:^    socket.*\n)+)", text, re.MULTILINE)
        assert found is not None
        _, [port] = await self.serve(EchoListener(), RawCodec(), "ws:0:interface=127.0.0.1:path=/echo")
        page = Path(f"{self.mktemp()}.html").absolute()
        page.write_text("<title>console</title>")
        tab = await Tab.open(self, page.as_uri())
        await tab.until("document.title === 'console'")
        await tab.ask("heard = []; console.log = text => heard.push(text); 0")
        await tab.ask(found[1].replace("localhost:8091", f"127.0.0.1:{port}") + "\n0")
        await tab.until("heard.length")
        self.assertEqual(["hello"], await tab.ask("heard"))
