"""Requests in the metrics, in the table of methods, and over several processes."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import http
from getty_tx.http.counting import Counters
from getty_tx.status.merging import decodeSnapshot, emptySnapshot, encodeSnapshot, mergeEnded, mergeInto
from getty_tx.status.methods import BY_CALLS, methodsOf
from getty_tx.status.metrics import families
from getty_tx.status.requests import SIDE, decodeRequests
from getty_tx.status.snapshot import ServiceSnapshot, Snapshot, walk


def snapshotOf(counters: Counters, running: int = 0) -> Snapshot:
    """A snapshot with one service that has these counters."""
    snapshot = emptySnapshot()
    service = ServiceSnapshot("web", True, False, {}, serving=running)
    service.calls = {(SIDE, name): totals for name, totals in counters.byName.items()}
    snapshot.services.append(service)
    return snapshot


def metricsOf(snapshot: Snapshot) -> dict[tuple[str, ...], float]:
    """The samples of HTTP, by their name and their labels but the service, without the buckets."""
    return {
        (sample.name, *[value for name, value in sample.labels.items() if name != "service"]): sample.value
        for family in families(snapshot)
        for sample in family.samples
        if sample.name.startswith("getty_http_") and not sample.name.endswith("_bucket")
    }


def someCounters() -> Counters:
    """Some requests."""
    counters = Counters()
    counters.add("GET", "/users/{id}", 200, 0.002, 100, 7)
    counters.add("GET", "/users/{id}", 200, 0.004, 50)
    counters.add("GET", "/users/{id}", 404, 0.001, 9)
    counters.add("POST", "", 503, 0.5, 0)
    counters.lose("POST", "", 30, 4)
    counters.refuse(431)
    return counters


class RequestTests(SynchronousTestCase):
    """The counters of http."""

    def test_metrics(self) -> None:
        found = metricsOf(snapshotOf(someCounters(), 3))
        name = "getty_http_requests_total"
        self.assertEqual(
            {key[1:]: value for key, value in found.items() if key[0] == name},
            {
                ("GET", "/users/{id}", "200"): 2,
                ("GET", "/users/{id}", "404"): 1,
                ("POST", "", "503"): 1,
                ("POST", "", "499"): 1,
                ("-", "(refused)", "431"): 1,
            },
        )
        self.assertEqual(found["getty_http_request_bytes_total", "GET", "/users/{id}"], 7)
        self.assertEqual(found["getty_http_response_bytes_total", "GET", "/users/{id}"], 159)
        self.assertEqual(found["getty_http_request_bytes_total", "POST", ""], 4)
        self.assertEqual(found["getty_http_response_bytes_total", "POST", ""], 30)
        self.assertEqual(found["getty_http_request_seconds_count", "GET", "/users/{id}"], 3)
        self.assertAlmostEqual(found["getty_http_request_seconds_sum", "GET", "/users/{id}"], 0.007)
        self.assertEqual(found[("getty_http_requests_running",)], 3)

    def test_startedAgain(self) -> None:
        """A server that is stopped and started again has its counters before its first connection."""
        server = http.Server(lambda request: b"", "tcp:8080", reactor=MemoryReactorClock())
        for _ in range(2):
            server.startService()
            self.successResultOf(server.whenListening())
            server.context.counters.add("GET", "/", 200, 0.1, 1)
            steps = list(walk("web", server.server))
            assert steps[-1] is not None
            (key,) = steps[-1].calls
            self.assertEqual(key, (SIDE, "GET /"))
            self.successResultOf(server.stopService())

    def test_noCalls(self) -> None:
        """Requests are not shown as calls, and calls bring no metrics of requests."""
        names = {family.name for family in families(snapshotOf(someCounters()))}
        self.assertNotIn("getty_rpc_calls", names)
        self.assertEqual(metricsOf(emptySnapshot()), {})

    def test_merged(self) -> None:
        """The processes of sub-reactors, those that have ended, too."""
        records = [json.loads(record) for record in encodeSnapshot(snapshotOf(someCounters(), 2))]
        total = emptySnapshot()
        mergeInto(total, decodeSnapshot(records))
        mergeInto(total, decodeSnapshot(records))
        mergeEnded(total, decodeSnapshot(records))
        found = metricsOf(total)
        self.assertEqual(found["getty_http_requests_total", "GET", "/users/{id}", "200"], 6)
        self.assertEqual(found["getty_http_request_bytes_total", "GET", "/users/{id}"], 21)
        self.assertEqual(found["getty_http_response_bytes_total", "GET", "/users/{id}"], 477)
        self.assertEqual(found["getty_http_request_seconds_count", "GET", "/users/{id}"], 9)
        self.assertEqual(found[("getty_http_requests_running",)], 4)

    def test_malformed(self) -> None:
        good: list[Any] = [[[200, 1]], 4, 5, [0] * 14, 0.0]
        decodeRequests(good)
        for at, value in (
            (0, [[200, -1]]),
            (0, [["200", 1]]),
            (1, -4),
            (2, -5),
            (2, 1.5),
            (3, [0] * 13),
            (3, [True] * 14),
        ):
            bad = list(good)
            bad[at] = value
            self.assertRaises(ValueError, decodeRequests, bad)

    def test_table(self) -> None:
        """The page shows them beside calls."""
        page = methodsOf(snapshotOf(someCounters(), 3), BY_CALLS)
        first = page["methods"][0]
        self.assertEqual((first["side"], first["method"]), ("http", "GET /users/{id}"))
        self.assertEqual((first["calls"], first["failed"], first["codes"]), (3, 1, {"404": 1}))
        self.assertEqual((first["received"], first["sent"], page["serving"]), (7, 159, 3))

    def test_bounded(self) -> None:
        counters = Counters()
        for number in range(3000):
            counters.add("GET", f"/{number}", 200, 0.0, 0)
        self.assertLessEqual(len(counters.served), 1001)
        self.assertEqual(sum(totals.done for totals in counters.served.values()), 3000)
