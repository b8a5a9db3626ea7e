"""The page about calling services of gRPC: its blocks run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from getty_tx import http
from tests.docs.test_guide import ROOT, codeIn, read

PAGE = ROOT / "docs" / "guide" / "grpc-client.md"


class ClientPageTests(TestCase):
    """What the page makes."""

    timeout = 30

    async def test_page(self) -> None:
        """Against a server of grpcio."""
        names: dict[str, Any] = {"__name__": "pages"}
        for place, tree in codeIn(PAGE):
            exec(compile(tree, place, "exec", dont_inherit=True), names)
        server = grpc.server(ThreadPoolExecutor(4))
        servicer = health.HealthServicer()
        servicer.set("a", 1)
        servicer.set("b", 2)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        target = f"tcp:127.0.0.1:{port}"
        self.assertEqual(await ensureDeferred(names["check"](target)), 1)
        channel = http.grpc.Channel(target)
        channel.startService()
        self.addCleanup(channel.close)
        self.assertEqual(await names["checkBoth"](channel, ["a", "b"]), [1, 2])
        self.assertEqual(await ensureDeferred(names["watch"](channel, "b", 1)), [2])

    def test_settings(self) -> None:
        """Each is on the page."""
        page = read(PAGE)
        for name in signature(http.grpc.Channel.__init__).parameters:
            if name not in ("self", "target", "options", "reactor"):
                self.assertRegex(page, rf"`[^`]*\b{name}\b[^`]*`", name)
