"""The table of methods that are called: its rows, its order, and where it is shown."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.status import StatusService
from getty_tx.status.calls import CallTotals
from getty_tx.status.histogram import BOUNDS, Histogram
from getty_tx.status.merging import emptySnapshot
from getty_tx.status.methods import BY_CALLS, COLUMNS, hasCalls, methodsOf
from getty_tx.status.snapshot import ServiceSnapshot, Snapshot
from getty_tx.status.table import Query
from tests.status.test_service import LOCAL, StatusCase


class Echo:
    """A service."""

    @rpc.method
    def say(self, text: str) -> str:
        return text


def totalsOf(done: int = 0, running: int = 0, seconds: tuple[float, ...] = (), **failed: int) -> CallTotals:
    """Counters with these values."""
    totals = CallTotals()
    totals.done, totals.running, totals.failed = done, running, failed
    for each in seconds:
        totals.seconds.add(each)
    return totals


class QuantileTests(SynchronousTestCase):
    """Times from the buckets of a histogram."""

    def test_none(self) -> None:
        self.assertIsNone(Histogram().quantile(0.5))

    def test_within(self) -> None:
        """Times lie evenly between the bounds of their bucket."""
        histogram = Histogram()
        for _ in range(4):
            histogram.add(0.0005)
        found = histogram.quantile(0.5)
        assert found is not None
        self.assertAlmostEqual(found, 0.00025 + 0.00075 / 2)

    def test_buckets(self) -> None:
        """Each share is in the bucket that has it, whatever is in others."""
        histogram = Histogram()
        for seconds in 98 * [0.0002] + [0.05, 0.2]:
            histogram.add(seconds)
        for share, low, high in (
            (0.01, 0.0001, 0.00025),
            (0.98, 0.0001, 0.00025),
            (0.99, 0.025, 0.1),
            (1.0, 0.1, 0.25),
        ):
            found = histogram.quantile(share)
            assert found is not None
            self.assertTrue(low < found <= high, (share, found))

    def test_above(self) -> None:
        """Of times above the last bound nothing else is known."""
        histogram = Histogram()
        histogram.add(100)
        self.assertEqual(histogram.quantile(0.5), BOUNDS[-1])


class RowTests(SynchronousTestCase):
    """Pages of the table."""

    def setUp(self) -> None:
        self.snapshot: Snapshot = emptySnapshot("main")
        calls = {
            ("server", "Shop/price"): totalsOf(70, 1, (0.002, 0.002), deadline=2, internal=20, refused=1),
            ("server", "Shop/order"): totalsOf(7, deadline=1),
            ("server", ""): totalsOf(noMethod=4),
        }
        self.snapshot.services += [
            ServiceSnapshot("shop", True, False, {}, calls=calls, lateReplies=1),
            ServiceSnapshot("client", True, False, {}, calls={("client", "Echo/say"): totalsOf(1000)}, lateReplies=2),
        ]

    def names(self, **query: Any) -> list[str]:
        return [row["method"] for row in methodsOf(self.snapshot, Query(**query))["methods"]]

    def test_row(self) -> None:
        """What a row has, and the sums over all methods, on this page or not."""
        page = methodsOf(self.snapshot, Query("calls", True, 1, 1))
        [row] = page.pop("methods")
        self.assertTrue(0.001 < row.pop("p50") < row.pop("p99") <= 0.0025)
        self.assertEqual(
            row,
            {
                "service": "shop",
                "side": "server",
                "method": "Shop/price",
                "calls": 93,
                "failed": 23,
                "running": 1,
                "received": None,
                "sent": None,
                "codes": {"internal": 20, "deadline": 2, "refused": 1},
            },
        )
        self.assertEqual(page, {"total": 4, "sort": "calls", "descending": True, "offset": 1, "limit": 1,
                                "lateReplies": 3, "refused": 1, "timeouts": 3, "serving": 0})  # fmt: skip

    def test_order(self) -> None:
        """By the calls that have ended, whether well or not; or by any column, where None is less than a time."""
        self.assertEqual(self.names(sort="calls", descending=True), ["Echo/say", "Shop/price", "Shop/order", ""])
        self.assertEqual(self.names(sort="method"), ["", "Echo/say", "Shop/order", "Shop/price"])
        self.assertEqual(self.names(sort="failed", descending=True)[:2], ["Shop/price", ""])
        self.assertEqual(self.names(sort="p99", descending=True)[0], "Shop/price")
        self.assertEqual(self.names(sort="calls", offset=3), ["Echo/say"])
        for column in COLUMNS:
            self.assertEqual(len(self.names(sort=column)), 4)

    def test_bounded(self) -> None:
        """Long names are cut, and of many codes the most frequent ones are told."""
        failed = {f"code{number}": number for number in range(1, 100)}
        self.snapshot.services[1].calls = {("client", 10**5 * "x"): totalsOf(10**6, **failed)}
        row = methodsOf(self.snapshot, BY_CALLS)["methods"][0]
        self.assertEqual((200, 4950), (len(row["method"]), row["failed"]))
        self.assertEqual({f"code{number}": number for number in range(95, 100)}, row["codes"])

    def test_none(self) -> None:
        self.assertTrue(hasCalls(self.snapshot))
        for service in self.snapshot.services:
            service.calls.clear()
        self.assertFalse(hasCalls(self.snapshot))
        self.assertEqual([], methodsOf(self.snapshot, BY_CALLS)["methods"])


class ShownTests(StatusCase):
    """The JSON and the feed of a server of calls."""

    async def serveCalls(self) -> rpc.Client:
        """Start a server, a status and a client."""
        served = rpc.Server(LOCAL, {"Echo": Echo()})
        self.server = served.server
        self.server.setName("calls")
        self.status = StatusService(self.server, endpoint=LOCAL)
        for service in (served, self.status):
            service.startService()
            self.addCleanup(service.stopService)
        [address] = await self.server.whenListening()
        self.statusPort = (await self.status.whenListening()).port
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}")  # type: ignore[attr-defined]
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady()
        return client

    async def test_json(self) -> None:
        """All methods come in pages, in the order of any column; those with the most calls first."""
        client = await self.serveCalls()
        self.assertEqual([], json.loads((await self.get("/calls"))[1])["methods"])
        for _ in range(3):
            await client.call("Echo", "say", "hi")
        await client.call("rpc", "describe")
        code, text = await self.get("/calls")
        page = json.loads(text)
        self.assertEqual((200, 2, "calls", True), (code, page["total"], page["sort"], page["descending"]))
        found = [(row["service"], row["side"], row["method"], row["calls"]) for row in page["methods"]]
        self.assertEqual([("calls", "server", "Echo/say", 3), ("calls", "server", "rpc/describe", 1)], found)
        _, text = await self.get("/calls?sort=method&offset=1&limit=1")
        self.assertEqual(["rpc/describe"], [row["method"] for row in json.loads(text)["methods"]])
        for query in ("sort=id", "order=up", "limit=1001", "x=1"):
            code, text = await self.get(f"/calls?{query}")
            self.assertEqual(400, code, query)

    async def test_feed(self) -> None:
        """The table comes with the state, as soon as anything was called; no more methods than the page shows."""
        client = await self.serveCalls()
        page, _ = await self.page()
        self.assertNotIn("calls", (await page.when(lambda message: message["state"]))["state"])
        await client.call("Echo", "say", "hi")
        message = await page.when(lambda message: message["state"] and "calls" in message["state"])
        self.assertEqual(["Echo/say"], [row["method"] for row in message["state"]["calls"]["methods"]])
        for number in range(1000):
            # What a client may count, and a server has.
            self.server.contexts[0].calls["server"][f"Many/method{number}" + 200 * "x"] = totalsOf(5)
        message = await page.when(lambda message: message["state"] and message["state"]["calls"]["total"] > 1000)
        self.assertEqual(50, len(message["state"]["calls"]["methods"]))
        self.assertLess(len(json.dumps(message["state"]["calls"])), 25000)
