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


#: The service of the page.
CHECK = "grpc.health.v1.Health/"


class Tokens:
    """What the page leaves to its reader."""

    def __init__(self) -> None:
        self._number = 0

    async def current(self) -> int:
        """Another one each time."""
        self._number += 1
        return self._number


class ClientPageTests(TestCase):
    """What the page makes."""

    timeout = 30

    async def test_page(self) -> None:
        """Against a server of grpcio."""
        names: dict[str, Any] = {"__name__": "pages"}
        for place, tree in codeIn(PAGE):
            exec(compile(tree, place, "exec", dont_inherit=True), names)
        sent: list[Any] = []

        class Seen(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
            def intercept_service(self, goOn: Any, details: Any) -> Any:
                sent.append(dict(details.invocation_metadata).get("authorization"))
                return goOn(details)

        server = grpc.server(ThreadPoolExecutor(4), interceptors=[Seen()])
        servicer = health.HealthServicer()
        servicer.set("a", 1)
        servicer.set("b", 2)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        target = f"tcp:127.0.0.1:{port}"
        self.assertEqual(await ensureDeferred(names["check"](target)), 1)
        printed: list[str] = []
        names["print"] = printed.append
        channel = names["channelTo"](target, Tokens())
        channel.startService()
        self.addCleanup(channel.close)
        self.assertEqual(await names["checkBoth"](channel, ["a", "b"]), [1, 2])
        self.assertEqual(await ensureDeferred(names["watch"](channel, "b", 1)), [2])
        self.assertEqual(sent[-3:], ["Bearer 1", "Bearer 2", "Bearer 3"])
        self.assertEqual([line.partition(" took ")[0] for line in printed], [*[f"{CHECK}Check"] * 2, f"{CHECK}Watch"])

    def test_settings(self) -> None:
        """Each is on the page."""
        page = read(PAGE)
        for name in signature(http.grpc.Channel.__init__).parameters:
            if name not in ("self", "target", "options", "reactor"):
                self.assertRegex(page, rf"`[^`]*\b{name}\b[^`]*`", name)
