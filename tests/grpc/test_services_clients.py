"""Health and reflection for grpcio's own clients of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred

from getty_tx.http.grpc.health import Health, Serving
from getty_tx.http.grpc.reflection import SERVICES, addReflection
from tests.grpc.test_interop_server import InteropCase
from tests.support.grpc.child import childOf
from tests.support.grpc.protos import compiled

TEST = "grpc.testing.TestService"
HEALTH = "grpc.health.v1.Health"


class ServicesCase(InteropCase):
    """A server that has them."""

    async def serve(self, endpoint: str = "tcp:0:interface=127.0.0.1") -> int:
        """Start it."""
        self.port = await super().serve(endpoint)
        self.health = Health()
        self.health.addTo(self.server)
        addReflection(self.server)
        # A channel without calls looks at its connection every five seconds, and is told to leave.
        self.addCleanup(lambda: ensureDeferred(self.ask("close")))
        return self.port

    async def ask(self, do: str, **words: Any) -> Any:
        """Have the client ask."""
        return (await childOf("grpcioservices").ask(do=do, port=self.port, **words))["found"]


class HealthTests(ServicesCase):
    """grpcio-health-checking's stub."""

    async def test_check(self) -> None:
        """Of the server, of a service that it has, and of one that it does not have."""
        await self.serve()
        self.assertEqual([await self.ask("check", service=name) for name in ("", TEST)], [1, 1])
        self.health.set(TEST, False)
        self.assertEqual(await self.ask("check", service=TEST), 2)
        self.assertEqual(await self.ask("check", service="a.B"), ["NOT_FOUND", "there is no service a.B"])

    async def test_list(self) -> None:
        """Of all."""
        await self.serve()
        self.health.set("a.B", False)
        wanted = {"": 1, TEST: 1, HEALTH: 1, **dict.fromkeys(SERVICES, 1), "a.B": 2}
        self.assertEqual(await self.ask("list"), wanted)

    async def test_watch(self) -> None:
        """Who watches hears of changes, and that the server leaves."""
        await self.serve()
        self.assertEqual(await self.ask("watch", service="a.B"), 3)
        for status, wanted in ((True, 1), (False, 2)):
            self.health.set("a.B", status)
            self.assertEqual(await self.ask("next"), wanted)
        self.health.set("a.B", True)
        self.assertEqual(await self.ask("next"), 1)
        self.health.shutDown()
        self.assertEqual(await self.ask("next"), 2)
        await self.ask("leave")

    async def test_stop(self) -> None:
        """Who watches hears that the server stops, and does not keep it from that."""
        await self.serve()
        self.assertEqual(await self.ask("watch", service=""), 1)
        stopped = self.server.stopService()
        self.assertEqual([await self.ask("next"), await self.ask("next")], [2, "UNAVAILABLE"])
        await self.ask("close")
        await stopped
        self.assertIs(self.health.get(TEST), Serving.NOT_SERVING)


class ReflectionTests(ServicesCase):
    """grpcio-reflection's database of descriptors."""

    async def test_reflection(self) -> None:
        """Services, their methods with messages, and extensions."""
        compiled("extended")
        await self.serve()
        found = await self.ask("reflect", service=TEST, extended="google.protobuf.MethodOptions")
        self.assertEqual(found["services"], sorted([TEST, HEALTH, *SERVICES]))
        self.assertEqual(found["methods"]["UnaryCall"], "grpc.testing.SimpleRequest")
        self.assertIn(50_123, found["extensions"])
        # Also of those that have no generated code here.
        found = await self.ask("reflect", service=HEALTH, extended="google.protobuf.MethodOptions")
        self.assertEqual(found["methods"]["List"], "grpc.health.v1.HealthListRequest")
