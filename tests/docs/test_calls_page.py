"""The guide's page about calls: its blocks run, and its programs do what the page says."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from dataclasses import fields
from typing import Any

from twisted.trial.unittest import TestCase

from getty_tx import Client, Server, rpc
from getty_tx.client.outliers import FAILURES
from getty_tx.rpc.context import CallContext
from getty_tx.settings import Setting
from tests.docs.test_guide import ROOT, codeIn, read, rowsIn, section

PAGE = ROOT / "docs" / "guide" / "calls.md"


class CallsPageTests(TestCase):
    """What the page makes, over sockets."""

    timeout = 60

    def setUp(self) -> None:
        self.names: dict[str, Any] = {"__name__": "calls"}
        for place, tree in codeIn(PAGE):
            exec(compile(tree, place, "exec", dont_inherit=True), self.names)

    async def serve(self, **services: object) -> str:
        """A server for these; returns what to dial."""
        return await self.listening(rpc.Server("tcp:0:interface=127.0.0.1", services))

    async def listening(self, server: Any) -> str:
        """Start a server; returns what to dial."""
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        return f"tcp:127.0.0.1:{address.port}"

    async def client(self, *names: str) -> rpc.Client:
        """A client of a server with the page's classes of these names."""
        return self.dialing(rpc.Client(await self.serve(**{name: self.names[name]() for name in names})))

    def dialing(self, client: rpc.Client) -> rpc.Client:
        """Start a client."""
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def test_first(self) -> None:
        """The first client hears what it has said."""
        endpoint = await self.serve(Echo=self.names["Echo"]())
        with redirect_stdout(io.StringIO()) as printed:
            await self.names["ask"](endpoint)
        self.assertEqual("hi\n", printed.getvalue())

    async def test_shop(self) -> None:
        """Plain, async and in a thread; with its own name, without an argument, with one too many; and by its class."""
        shop = (await self.client("Shop")).service("Shop")
        self.assertEqual(6, await shop.price("tea", 2))
        self.assertEqual(3, await shop.price("tea"))
        self.assertEqual("tea is on its way", await shop.order("tea"))
        self.assertEqual(["computed in a thread"], await shop.report())
        await self.assertFailure(shop.price(1, 2, 3), rpc.PayloadError)

    async def test_timeouts(self) -> None:
        """The calls with other time-outs are made."""
        await self.names["timeouts"](await self.client("Shop"))

    def test_wrap(self) -> None:
        """The page's wrapper counts."""
        handler = self.names["server"].context.handlers["Echo/say"]
        self.assertEqual(("hi", {"Echo/say": 1}), (handler.call("hi"), self.names["calls"]))

    async def test_errors(self) -> None:
        """An error of one's own has its class and details."""
        self.assertEqual("tea", await self.names["take"](await self.client("Store")))

    async def test_metadata(self) -> None:
        """The method knows who calls."""
        self.assertEqual("ann called Who/ami", await self.names["who"](await self.client("Who")))

    async def test_bothWays(self) -> None:
        """The method calls its caller."""
        endpoint = await self.serve(Work=self.names["Work"]())
        client = self.dialing(self.names["workingClient"](endpoint))
        self.assertEqual("done", await client.service("Work").run())
        self.assertEqual([50], self.names["reports"])

    async def test_peer(self) -> None:
        """Sessions of other services make and serve calls."""
        newSession = self.names["newSession"]
        endpoint = await self.listening(Server(newSession, "tcp:0:interface=127.0.0.1"))
        client = Client(newSession, endpoint)
        client.startService()
        self.addCleanup(client.close)
        await client.whenReady()
        for peer in self.names["peers"]:
            self.assertEqual("hi", await peer.call("Echo", "say", "hi"))

    async def test_bytes(self) -> None:
        """The server with the payload of bytes serves bytes."""
        server = rpc.Server(
            "tcp:0:interface=127.0.0.1", {"Mirror": self.names["Mirror"]()}, wire=self.names["binary"].context.wire
        )
        client = self.dialing(rpc.Client(await self.listening(server), wire=rpc.TTHeader(payload="bytes")))
        self.assertEqual(b"cba", await client.call("Mirror", "reverse", b"abc"))

    async def test_describe(self) -> None:
        """What can be called."""
        listed = await self.names["describe"](await self.client("Echo"))
        self.assertEqual("Echo/say(text: str) -> str", listed[0])


class TableTests(TestCase):
    """The tables of the page."""

    def test_errors(self) -> None:
        """Every error is in the table, with its code."""
        rows = rowsIn(section(read("guide/calls.md"), "Errors"))
        listed = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows if row[0].startswith("`")}
        there = {
            name: [kind.code]
            for name, kind in vars(rpc).items()
            if isinstance(kind, type) and issubclass(kind, rpc.RpcError)
        }
        del there["RpcError"]
        self.assertEqual(there, listed)

    def test_settings(self) -> None:
        """Every setting is in the table, with its default."""
        shown = {"4 MiB": 4 * 1024 * 1024}
        listed: dict[str, str] = {}
        for row in rowsIn(section(read("guide/calls.md"), "Limits")):
            listed |= zip(re.findall(r"`(\w+)`", row[0]), row[1].split(", "), strict=False)
        settings = {name: value.default for name, value in vars(CallContext).items() if isinstance(value, Setting)}
        self.assertEqual(
            settings,
            {
                name: shown.get(text, None if text == "None" else float(text) if text.isdecimal() else text)
                for name, text in listed.items()
            },
        )


class StreamsPageTests(TestCase):
    """The page about streams."""

    timeout = 60

    async def test_use(self) -> None:
        """Values from the server, to it, and both ways."""
        names: dict[str, Any] = {"__name__": "streams"}
        for place, tree in codeIn(ROOT / "docs" / "guide" / "streams.md"):
            exec(compile(tree, place, "exec", dont_inherit=True), names)
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Meter": names["Meter"]()})
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}")
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady()
        self.assertEqual(await names["use"](client), 6)


class Some:
    """A service."""

    @rpc.method
    def call(self) -> None:
        """Do nothing."""


class OutliersPageTests(TestCase):
    """The page about providers that fail."""

    timeout = 60

    async def test_dial(self) -> None:
        """The client looks for outliers."""
        names: dict[str, Any] = {"__name__": "outliers"}
        for place, tree in codeIn(ROOT / "docs" / "guide" / "outliers.md"):
            exec(compile(tree, place, "exec", dont_inherit=True), names)
        servers = [rpc.Server("tcp:0:interface=127.0.0.1", {"Some": Some()}) for _ in range(2)]
        endpoints = []
        for server in servers:
            server.startService()
            self.addCleanup(server.stopService)
            [address] = await server.whenListening()
            endpoints.append(f"tcp:127.0.0.1:{address.port}")
        client = names["dial"](endpoints)
        self.addCleanup(client.stopService)
        await client.whenReady(2)
        self.assertNotIn(None, [peer.tally for peer in client.context.peers])

    def test_settings(self) -> None:
        """The table has all settings with their defaults."""
        rows = list(rowsIn(section(read("guide/outliers.md"), "When")))[2:]
        self.assertEqual(
            {row[0].strip("`"): float(row[1]) for row in rows},
            {each.name: each.default for each in fields(rpc.Outliers)},
        )

    def test_codes(self) -> None:
        """The table has all codes that there are."""
        rows = list(rowsIn(section(read("guide/outliers.md"), "What is a failure")))[2:]
        counted = {code: row[1] for row in rows for code in re.findall("`([a-zA-Z]+)`", row[0])}
        self.assertEqual({code for code, what in counted.items() if what == "failure"}, FAILURES)
        own = {code for code, kind in rpc.RpcError.byCode.items() if kind.__module__ == rpc.RpcError.__module__}
        self.assertEqual(set(counted), own)
