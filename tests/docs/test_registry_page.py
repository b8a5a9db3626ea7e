"""The page about providers: its blocks run."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from getty_tx.codecs import LineCodec
from getty_tx.registry import Provider
from getty_tx.testing import MemoryRegistry, RecordingListener
from tests.docs.test_guide import ROOT, codeIn
from tests.support.memory import configure

PAGE = ROOT / "docs" / "guide" / "registry.md"


class RegistryPageTests(TestCase):
    """What the page makes."""

    timeout = 30

    def setUp(self) -> None:
        self.names: dict[str, Any] = {"__name__": "pages"}
        for place, tree in codeIn(PAGE):
            exec(compile(tree, place, "exec", dont_inherit=True), self.names)

    async def test_serveAndDial(self) -> None:
        """A server registers, and a client finds it."""
        registry = MemoryRegistry(reactor)
        server = self.names["serve"](configure(RecordingListener(), LineCodec()), registry)
        self.addCleanup(server.stopService)
        client = self.names["dial"](configure(RecordingListener(), LineCodec()), registry)
        self.addCleanup(client.stopService)
        [session] = await client.whenReady(timeout=10)
        self.assertEqual(session.provider.service, "echo")

    def test_announce(self) -> None:
        """What is printed, and what is registered."""
        registry = MemoryRegistry(Clock())
        lines: list[tuple[Any, ...]] = []
        self.names["print"] = lambda *words: lines.append(words)
        registration = self.names["announce"](registry)
        self.assertEqual(lines, [("new:", "tcp:10.0.0.5:8090", "tcp:10.0.0.5:8090", 100)])
        self.assertEqual(registration.provider, Provider("echo", "tcp:10.0.0.5:8090", zone="a", weight=50))

    def test_outage(self) -> None:
        """It asserts by itself."""
        self.names["outage"]()
