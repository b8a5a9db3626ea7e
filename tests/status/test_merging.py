"""The status of several processes in memory: reports, their sums, and counters that never decrease."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parseOpenMetrics
from prometheus_client.parser import text_string_to_metric_families as parseText
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.processes.member import DRAINING, STARTING, Member
from getty_tx.processes.queries import ANSWER_TIMEOUT
from getty_tx.reactors import Processes
from getty_tx.session.totals import Totals
from getty_tx.status import StatusService
from getty_tx.status.aggregate import AggregateSource, MemberReports
from getty_tx.status.histogram import Histogram
from getty_tx.status.merging import decodeSnapshot, encodeSnapshot
from getty_tx.status.metrics import encode
from getty_tx.status.slices import PAUSE
from getty_tx.status.snapshot import EndpointSnapshot, ServiceSnapshot, Snapshot
from getty_tx.status.table import Query
from tests.processes.test_queries import memberOf


def snapshotOf(packages: int, *, isReady: bool = True, refused: int = 0) -> Snapshot:
    """The snapshot of a process with so many packages and sessions."""
    totals = Totals()
    totals.readPkgs = packages
    totals.closed = {"peer": 2}
    end = EndpointSnapshot(totals=totals, opened=packages + 2, pendingBytes=10 * packages)
    end.states["open"] = packages
    end.paused["user"] = 1
    service = ServiceSnapshot("echo", isReady, False, {"tcp:0": end}, handshaking=1, refused={"handshake": refused})
    service.workers, service.queued, service.timerLag = 4, 2, packages / 100
    histograms = [Histogram() for _ in range(4)]
    for histogram in histograms:
        histogram.add(packages / 1000)
    return Snapshot("", [service], *histograms[:3], {"echo": histograms[3]}, cpu=packages / 10)


def report(snapshot: Snapshot, *errors: dict[str, Any], number: int = 1) -> list[Any]:
    """The report with this snapshot, in two parts."""
    records = [json.loads(record) for record in encodeSnapshot(snapshot)]
    if errors:
        records += [["errors", number], *(["error", error] for error in errors)]
    return [records[:2], records[2:]]


def valuesIn(text: str) -> dict[str, float]:
    """The samples of a text for Prometheus, by the name and the labels."""
    return {
        sample.name + "".join(sorted(f" {name}={value}" for name, value in sample.labels.items() if name != "service")):
            sample.value
        for family in parseText(text) for sample in family.samples if sample.name.startswith("getty_")
    }  # fmt: skip


class Many:
    """A Processes, as far as the status uses it."""

    name = "echo"
    isReady = isListening = True
    isStopping = False

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self.members: list[Member] = [memberOf(place) for place in range(count)]
        self.restarts = [0] * count
        self.ownRefusals = {"maxSessions": 3}
        self.questions: Any = None


class EncodingTests(SynchronousTestCase):
    """The encoding for the channel."""

    def test_roundTrip(self) -> None:
        """A decoded snapshot equals the encoded one."""
        snapshot = snapshotOf(7, refused=5)
        again = decodeSnapshot(json.loads(record) for record in encodeSnapshot(snapshot))
        self.assertEqual(list(encodeSnapshot(snapshot)), list(encodeSnapshot(again)))
        self.assertEqual((7, 0.7, 1), (again.endpoints[0].totals.readPkgs, again.cpu, again.lag.count))

    def test_invalid(self) -> None:
        """Invalid records are refused as a whole."""
        records = [json.loads(record) for record in encodeSnapshot(snapshotOf(7))]
        for place, wrong in (
            (0, ["process", 1.0]),
            (0, ["process", "x", *records[0][2:]]),
            (0, ["process", 0.0, [[1], 0.0], *records[0][3:]]),
            (1, ["service", 5, *records[1][2:]]),
            (1, ["service", *records[1][1:4], [1], *records[1][5:]]),
            (2, ["endpoint", "tcp:0", [-1, 0, 0, 0, 0], *records[2][3:]]),
            (2, ["endpoint", "tcp:0", *records[2][2:5], {}, *records[2][6:]]),
            (2, ["bolt"]),
        ):
            self.assertRaises(
                (ValueError, TypeError, KeyError), decodeSnapshot, [*records[:place], wrong, *records[place + 1 :]]
            )
        self.assertRaises(ValueError, decodeSnapshot, [])
        self.assertRaises(ValueError, decodeSnapshot, records[1:])


class AggregateTests(SynchronousTestCase):
    """The source for several processes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.many: Any = Many()
        self.reports = MemberReports(self.many)
        self.source = AggregateSource("echo", self.many, self.reports, {}, self.clock)
        self.asked: list[tuple[Any, Any, Any]] = []

    def answer(self, member: Any, parts: list[Any]) -> None:
        """Have a member answer all new queries."""
        sent, member.process.channel.sent = member.process.channel.sent, []
        for _, data in sent:
            for place, part in enumerate(parts, 1):
                head = data[:4] + bytes([place == len(parts)])
                self.reports.questions.received(member, head + json.dumps(part).encode())

    def collect(self, *packages: int | None) -> Any:
        """Collect; the sub-reactors report so many packages; None: no answer."""
        asked = self.source.collect()
        for member, number in zip(self.many.members, packages, strict=True):
            if number is not None:
                self.answer(member, report(snapshotOf(number)))
        self.clock.pump([PAUSE] * 5)
        if None in packages:
            self.clock.advance(ANSWER_TIMEOUT)
        return self.successResultOf(asked)

    def values(self, snapshot: Snapshot) -> dict[str, float]:
        """The metrics."""
        list(parseOpenMetrics(encode(snapshot, "application/openmetrics-text; version=1.0.0")[1].decode()))
        return valuesIn(encode(snapshot, "")[1].decode())

    def test_sums(self) -> None:
        """Sums have the names of a single process, and each sub-reactor its own; the main process's refusals count."""
        self.many.restarts = [0, 4]
        values = self.values(self.collect(5, 7))
        expected = {
            "getty_read_packages_total endpoint=tcp:0": 12,
            "getty_sessions endpoint=tcp:0 state=open": 12,
            "getty_sessions_opened_total endpoint=tcp:0": 16,
            "getty_sessions_closed_total endpoint=tcp:0 reason=peer": 4,
            "getty_pending_bytes endpoint=tcp:0": 120,
            "getty_reads_paused endpoint=tcp:0 reason=user": 2,
            "getty_connections_refused_total reason=maxSessions": 3,
            "getty_handshakes": 2,
            "getty_ready": 1,
            "getty_workers": 8,
            "getty_worker_queue_packages": 4,
            "getty_timer_lag_seconds": 0.07,
            "getty_handler_seconds_count": 2,
            "getty_worker_wait_seconds_count": 2,
            "getty_subreactor_up subreactor=1": 1,
            "getty_subreactor_read_packages_total subreactor=1": 5,
            "getty_subreactor_read_packages_total subreactor=2": 7,
            "getty_subreactor_sessions subreactor=2": 7,
            "getty_subreactor_pending_bytes subreactor=1": 50,
            "getty_subreactor_cpu_seconds_total subreactor=2": 0.7,
            "getty_subreactor_reactor_lag_seconds_count subreactor=2": 1,
            "getty_subreactor_restarts_total subreactor=2": 4,
            "getty_subreactor_draining subreactor=1": 0,
        }
        self.assertEqual(expected, {name: values.get(name) for name in expected})
        self.assertIn("getty_main_reactor_lag_seconds_count", values)
        self.assertGreater(values["getty_main_cpu_seconds_total"], 0)

    def test_shared(self) -> None:
        """Concurrent requests share one result."""
        first, second = self.source.collect(), self.source.collect()
        for member in self.many.members:
            self.assertEqual(1, len(member.process.channel.sent))
            self.answer(member, report(snapshotOf(1)))
        self.clock.pump([PAUSE] * 5)
        self.assertIs(self.successResultOf(first), self.successResultOf(second))

    def test_silent(self) -> None:
        """A member that does not answer is shown as silent, with its last report; the next request does not wait."""
        self.collect(5, 7)
        snapshot = self.collect(6, None)
        values = self.values(snapshot)
        self.assertEqual(13, values["getty_read_packages_total endpoint=tcp:0"])
        self.assertEqual((1, 0), tuple(values[f"getty_subreactor_up subreactor={number}"] for number in (1, 2)))
        self.assertEqual(["ready", "silent"], [member.state for member in snapshot.members])
        asked = self.source.collect()
        self.answer(self.many.members[0], report(snapshotOf(9)))
        self.clock.pump([PAUSE] * 5)
        self.assertEqual(16, self.successResultOf(asked).endpoints[0].totals.readPkgs)
        # A late answer still counts.
        self.answer(self.many.members[1], report(snapshotOf(20)))
        snapshot = self.collect(9, 21)
        self.assertEqual((30, "ready"), (snapshot.endpoints[0].totals.readPkgs, snapshot.members[1].state))
        # A member without a heartbeat is silent, too.
        self.many.members[1].isLate = True
        self.assertEqual("silent", self.collect(9, 21).members[1].state)

    def test_invalidReport(self) -> None:
        """A member with an invalid answer is shown with its last report; that is logged once."""
        self.collect(5, 7)
        for _ in range(2):
            asked = self.source.collect()
            self.answer(self.many.members[0], [["what"]])
            self.answer(self.many.members[1], report(snapshotOf(8)))
            self.clock.pump([PAUSE] * 5)
            snapshot = self.successResultOf(asked)
            self.assertEqual((13, "silent"), (snapshot.endpoints[0].totals.readPkgs, snapshot.members[0].state))
        self.assertEqual(1, len(self.flushLoggedErrors()))
        asked = self.source.collect()
        self.answer(self.many.members[0], report(snapshotOf(9), {"text": "no time"}))
        self.answer(self.many.members[1], report(snapshotOf(8)))
        self.clock.pump([PAUSE] * 5)
        self.assertEqual("silent", self.successResultOf(asked).members[0].state)
        self.assertEqual([], self.source.errors())

    def test_ended(self) -> None:
        """The counters of an ended process stay, its gauges do not; its successor adds to them."""
        first, second = self.many.members
        self.collect(5, 7)
        self.reports.questions.lost(second)
        self.many.members = [first]
        values = self.values(self.collect(5))
        name = "getty_read_packages_total endpoint=tcp:0"
        self.assertEqual((12, 5), (values[name], values["getty_sessions endpoint=tcp:0 state=open"]))
        self.assertEqual(7, values["getty_sessions_closed_total endpoint=tcp:0 reason=lost"])
        self.assertEqual(7, values["getty_subreactor_read_packages_total subreactor=2"])
        self.assertEqual(0, values["getty_subreactor_up subreactor=2"])
        self.many.members = [first, memberOf(1)]
        values = self.values(self.collect(5, 1))
        self.assertEqual((13, 6), (values[name], values["getty_sessions endpoint=tcp:0 state=open"]))
        self.assertEqual(8, values["getty_subreactor_read_packages_total subreactor=2"])

    def test_endedUnseen(self) -> None:
        """What a process had counted at its last heartbeat stays, though nobody has collected since."""
        first, second = self.many.members
        self.collect(5, 7)
        for number in (8, 9):
            self.reports.questions.changed(second, self.clock)
            self.answer(second, report(snapshotOf(number)))
        # The answer to this one never comes.
        self.reports.questions.changed(second, self.clock)
        self.many.members = [first]
        self.reports.questions.lost(second)
        values = self.values(self.collect(5))
        self.assertEqual(14, values["getty_read_packages_total endpoint=tcp:0"])
        self.assertEqual(9, values["getty_subreactor_read_packages_total subreactor=2"])
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_endedDuringQuery(self) -> None:
        """A member that ends during a query delays nothing; its last report counts."""
        self.collect(5, 7)
        asked = self.source.collect()
        first, second = self.many.members
        self.answer(first, report(snapshotOf(5)))
        for place, part in enumerate(report(snapshotOf(8))):
            self.reports.questions.received(second, bytes([0, 0, 0, 0, place]) + json.dumps(part).encode())
        self.many.members = [first]
        self.reports.questions.lost(second)
        self.clock.pump([PAUSE] * 5)
        self.assertEqual(13, self.successResultOf(asked).endpoints[0].totals.readPkgs)

    def test_unreachable(self) -> None:
        """A process that lives after its channel was lost gets no queries, and nothing of it is stored."""
        self.collect(5, 7)
        self.many.members[1].isUnreachable = True
        self.reports.questions.lost(self.many.members[1])
        for _ in range(2):
            asked = self.source.collect()
            self.answer(self.many.members[0], report(snapshotOf(5)))
            self.clock.pump([PAUSE] * 5)
            self.assertEqual(12, self.successResultOf(asked).endpoints[0].totals.readPkgs)
        self.assertEqual([], self.many.members[1].process.channel.sent)
        self.assertEqual([self.many.members[0]], list(self.reports._last))

    def test_reload(self) -> None:
        """While old processes drain and new ones start, both are shown, and summed in one slot."""
        old = self.many.members
        self.collect(5, 7)
        for member in old:
            member.state = DRAINING
        new = [memberOf(0), memberOf(1, STARTING)]
        new[1].process.pid = 2000
        self.many.members = [*old, *new]
        snapshot = self.collect(5, 7, 1, None)
        self.assertEqual(["draining", "ready", "draining", "starting"], [each.state for each in snapshot.members])
        values = self.values(snapshot)
        self.assertEqual(6, values["getty_subreactor_read_packages_total subreactor=1"])
        self.assertEqual((1, 0), tuple(values[f"getty_subreactor_up subreactor={number}"] for number in (1, 2)))
        self.assertEqual(1, values["getty_subreactor_draining subreactor=2"])
        self.assertEqual(1, values["getty_ready"])

    def test_problems(self) -> None:
        """A main process is ready if it listens and a sub-reactor takes connections."""
        self.assertEqual([], self.source.problems())
        self.many.isReady = False
        self.assertEqual(["echo has no sub-reactor that is ready"], self.source.problems())
        self.many.isListening = False
        self.assertEqual(["echo does not listen"], self.source.problems())
        self.many.isStopping = True
        self.assertEqual(["echo is stopping"], self.source.problems())

    def test_otherName(self) -> None:
        """A Processes with another name than its server is shown beside it."""
        source = AggregateSource("main", self.many, self.reports, {}, self.clock)
        asked = source.collect()
        for member in self.many.members:
            self.answer(member, report(snapshotOf(1)))
        self.clock.pump([PAUSE] * 5)
        services = self.successResultOf(asked).services
        found = [(service.name, service.isReady, service.refused) for service in services]
        self.assertEqual([("main", True, {"maxSessions": 3}), ("echo", True, {"handshake": 0})], found)

    def test_errors(self) -> None:
        """The last errors of all members, with their numbers; sent again only if there are new ones; they stay."""
        first, second = self.many.members
        asked = self.source.collect()
        self.answer(first, report(snapshotOf(1), {"time": 1.0, "text": "a"}, number=1))
        self.answer(second, report(snapshotOf(1), {"time": 5.0, "text": "c"}, {"time": 2.0, "text": "b"}, number=2))
        self.clock.pump([PAUSE] * 5)
        self.successResultOf(asked)
        expected = [("c", 2), ("b", 2), ("a", 1)]
        self.assertEqual(expected, [(each["text"], each["subreactor"]) for each in self.source.errors()])
        asked = self.source.collect()
        self.assertEqual(b'["collect", 2]', second.process.channel.sent[0][1][4:])
        self.collect(1, 1)
        self.reports.questions.lost(second)
        self.assertEqual(expected, [(each["text"], each["subreactor"]) for each in self.source.errors()])

    def test_table(self) -> None:
        """The page names a sub-reactor that did not answer; requests for the same page share it."""
        first, _ = self.many.members
        asked = [self.source.table(Query(limit=5)) for _ in range(3)]
        self.assertEqual(1, len(first.process.channel.sent))
        self.answer(first, [[[1, 2]]])
        self.clock.pump([PAUSE] * 10)
        self.clock.advance(ANSWER_TIMEOUT)
        # Both of its rows are on the page, so that it is asked for nothing else.
        self.answer(first, [[[1, 1, {"id": 1}]], [[2, 2, {"id": 2}]]])
        self.clock.pump([PAUSE] * 10)
        for each in asked:
            page = self.successResultOf(each)
            self.assertEqual((2, [1, 2], [2]), (page["total"], [row["id"] for row in page["sessions"]], page["silent"]))
        self.assertEqual({"subreactor": 1, "pid": 1000, "id": 1}, page["sessions"][0])

    def test_tableOfEnded(self) -> None:
        """If a process ends while its rows are read, the page has the rows of the others."""
        first, second = self.many.members
        asked = self.source.table(Query(limit=5, descending=True))
        for member in (first, second):
            self.answer(member, [[[1, 2]]])
        self.clock.pump([PAUSE] * 10)
        self.many.members = [first]
        self.reports.questions.lost(second)
        self.answer(first, [[[1, 1, {"id": 1}], [2, 2, {"id": 2}]]])
        self.clock.pump([PAUSE] * 10)
        self.answer(first, [[[1, 1, {"id": 1}], [2, 2, {"id": 2}]]])
        self.clock.pump([PAUSE] * 10)
        page = self.successResultOf(asked)
        self.assertEqual((2, [2, 1]), (page["total"], [row["id"] for row in page["sessions"]]))

    def test_close(self) -> None:
        """A session is closed in its own process."""
        for pid in (4711, None):
            self.assertFalse(self.successResultOf(self.source.close(5, "why", pid)))
        closed = self.source.close(5, "why", 1001)
        self.assertEqual(b'["close", 5, "why"]', self.many.members[1].process.channel.sent[0][1][4:])
        self.answer(self.many.members[1], [[True]])
        self.assertTrue(self.successResultOf(closed))

    def test_stop(self) -> None:
        """stop() ends all requests, and leaves no delayed call."""
        asked: list[Any] = [self.source.table(Query(offset=number)) for number in range(10)]
        asked.append(self.source.collect())
        self.source.stop()
        for each in asked:
            self.assertIsNotNone(each.result)
            each.addErrback(lambda failure: None)
        self.assertEqual([], self.clock.getDelayedCalls())


class ServiceTests(SynchronousTestCase):
    """Which services a status takes."""

    def test_one(self) -> None:
        """One Processes, which is not running and has no other status."""
        first, second = Processes("some:thing", "tcp:0"), Processes("some:thing", "tcp:0")
        self.assertRaises(SettingError, StatusService, first, second)
        StatusService(first)
        error = self.assertRaises(SettingError, StatusService, first)
        self.assertIn("one Processes", str(error))
