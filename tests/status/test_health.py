"""What clients of gRPC are told of a server's health, as the status shows it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.grpc.health import SERVICE, Health, Serving
from getty_tx.http.grpc.server import Server
from getty_tx.status import StatusService
from getty_tx.status.merging import decodeSnapshot, emptySnapshot, encodeSnapshot, mergeEnded, mergeInto
from getty_tx.status.metrics import families
from getty_tx.status.snapshot import ServiceSnapshot, Snapshot
from getty_tx.status.source import ProcessSource
from tests.status.test_page import BrowserCase
from tests.status.test_service import LOCAL, StatusCase


def told(**states: str) -> Snapshot:
    """The snapshot of a process that tells clients this."""
    snapshot = emptySnapshot()
    snapshot.services = [ServiceSnapshot("calls", True, False, {})]
    snapshot.services[0].health = {name: {state: 1} for name, state in states.items()}
    return snapshot


def valuesOf(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """The metric, by its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in families(snapshot)
        if family.name == "getty_grpc_health"
        for sample in family.samples
    }


class MergingTests(SynchronousTestCase):
    """Several processes."""

    def test_roundTrip(self) -> None:
        """It passes the channel; what is no count of states does not."""
        records = [json.loads(record) for record in encodeSnapshot(told(a="SERVING", b="UNKNOWN"))]
        self.assertEqual(decodeSnapshot(records).services[0].health, {"a": {"SERVING": 1}, "b": {"UNKNOWN": 1}})
        for wrong in {"a": {"SERVING": -1}}, {"a": {"SERVING": "1"}}, {"a": 1}:
            self.assertRaises((ValueError, AttributeError), decodeSnapshot, [*records, ["health", wrong]])

    def test_sums(self) -> None:
        """Processes are counted by what they say; those that have ended say nothing any more."""
        total = emptySnapshot()
        mergeEnded(total, told(a="SERVING", gone="SERVING"))
        for snapshot in told(a="SERVING"), told(a="NOT_SERVING"), told(a="SERVING", b="UNKNOWN"):
            mergeInto(total, snapshot)
        wanted = {
            ("calls", "a", "SERVING"): 2,
            ("calls", "a", "NOT_SERVING"): 1,
            ("calls", "b", "SERVING"): 0,
            ("calls", "b", "NOT_SERVING"): 0,
            ("calls", "b", "UNKNOWN"): 1,
        }
        self.assertEqual(valuesOf(total), wanted)

    def test_without(self) -> None:
        """Where nothing tells clients of health there is no metric."""
        self.assertEqual(valuesOf(told()), {})
        server = Server("tcp:0")
        shared: Any = SimpleNamespace(calls={})
        server.context.countIn(shared)
        self.assertEqual(shared.health(), {})
        Health().addTo(server)
        self.assertEqual(shared.health(), {"": "SERVING", SERVICE: "SERVING"})


class HealthCase(StatusCase):
    """A server of calls with a status."""

    async def serve(self, **settings: Any) -> None:
        """Start both."""
        calls = self.calls = Server(LOCAL)
        self.health = Health()
        self.health.addTo(calls)
        self.server = calls.server
        self.server.setName("calls")
        self.status = StatusService(self.server, endpoint=LOCAL)
        for service in (calls, self.status):
            service.startService()
            self.addCleanup(service.stopService)
        await calls.whenListening()
        self.statusPort = (await self.status.whenListening()).port


class StatusTests(HealthCase):
    """Its feed and its metrics."""

    async def test_states(self) -> None:
        """Both have each service, as it is now; nothing when the server has stopped."""
        await self.serve()
        self.health.set("<b>room", Serving.UNKNOWN)
        page, _ = await self.page()
        message = await page.when(lambda message: message["state"])
        names = {"": {"SERVING": 1}, SERVICE: {"SERVING": 1}, "<b>room": {"UNKNOWN": 1}}
        self.assertEqual(message["state"]["grpcHealth"], [{"service": "calls", "names": names}])
        self.health.set("", False)
        code, text = await self.get("/metrics")
        self.assertEqual(code, 200)
        found = {
            (sample.labels["name"], sample.labels["state"]): sample.value
            for family in text_string_to_metric_families(text)
            if family.name == "getty_grpc_health"
            for sample in family.samples
        }
        self.assertEqual(found["", "SERVING"], 0)
        self.assertEqual([each for each, value in found.items() if value], [
            ("", "NOT_SERVING"), ("<b>room", "UNKNOWN"), (SERVICE, "NOT_SERVING"),
        ])  # fmt: skip
        await self.calls.stopService()
        *_, snapshot = ProcessSource({"calls": self.server}, Clock()).walk()
        assert snapshot is not None
        self.assertEqual(snapshot.services[0].health, {})


class PageTests(HealthCase, BrowserCase):
    """The live page."""

    async def test_page(self) -> None:
        """It lists the services, and marks those that cannot be called."""
        await self.serve()
        self.health.set("<b>room", False)
        tab = await self.browse()
        items = "[...document.querySelectorAll('#grpcHealth li li')]"
        await tab.until(f"{items}.length === 3")
        shown = await tab.ask(f"{items}.map(item => [item.textContent, item.className])")
        wanted = [
            ["(the whole server): SERVING", ""], ["<b>room: NOT_SERVING", "bad"], [f"{SERVICE}: SERVING", ""]
        ]  # fmt: skip
        self.assertEqual(sorted(shown), wanted)
        self.health.set("", False)
        await tab.until(f"{items}.every(item => item.className === 'bad')")
        self.assertFalse(await tab.ask("document.getElementById('grpcHealth').hidden"))
