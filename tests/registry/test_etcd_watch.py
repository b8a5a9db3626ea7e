"""The engine for etcd: lists and watches, with an etcd in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.registry.errors import RecordError
from getty_tx.registry.etcd import bodies
from tests.support.etcd import text64
from tests.support.fakeetcd import FakeEtcd, RecordingSink, engineWith, line, put

A, B = "/getty/echo/a", "/getty/echo/b"


class WatchTestCase(SynchronousTestCase):
    """One engine with one watch."""

    def setUp(self) -> None:
        self.etcd = FakeEtcd()
        self.sink = RecordingSink()

    def start(self, **settings: Any) -> None:
        """Start the engine and the watch."""
        self.engine, self.user = engineWith(self.etcd, **settings)
        self.watching = self.engine.watch("echo", self.sink)
        self.addCleanup(self.engine.stop)

    def ranges(self) -> int:
        """How many lists, or pages, were asked for."""
        return len(self.etcd.of("kv/range"))

    def cutAndWait(self, seconds: float = 1.0) -> None:
        """The watch breaks; wait for the next one."""
        self.etcd.watch.cut()
        self.etcd.clock.advance(seconds)


class ListTests(WatchTestCase):
    """The first list, and later ones."""

    def test_listAndWatch(self) -> None:
        """All is listed, and watched from the next revision on. Keys are those behind the service's."""
        self.etcd.records = {A: b"{}", "/getty/echo2/x": b"{}", "/getty/ech": b"{}"}
        self.start()
        self.assertEqual(self.user.told, ["connected"])
        self.assertEqual(self.sink.records, {"a": b"{}"})
        create = self.etcd.watch.body["create_request"]
        self.assertEqual(create["start_revision"], 5)
        self.assertEqual((create["key"], create["range_end"]), (text64("/getty/echo/"), text64("/getty/echo0")))

    def test_emptyList(self) -> None:
        """Nothing is a list, too."""
        self.start()
        self.assertEqual(self.sink.told, ["are"])
        self.assertEqual(self.sink.records, {})

    def test_quoted(self) -> None:
        """A service's name cannot reach beyond its place."""
        self.engine, _ = engineWith(self.etcd)
        self.addCleanup(self.engine.stop)
        self.engine.watch("a/b", self.sink)
        self.assertEqual(self.etcd.watch.body["create_request"]["key"], text64("/getty/a%2Fb/"))

    def test_foreignKeys(self) -> None:
        """Keys that are no id's are reported as such, each as its own."""
        self.etcd.records = {A: b"{}", "/getty/echo/b/c": b"{}", "/getty/echo/é": b"{}", "/getty/echo/": b"{}"}
        self.start()
        bad = {key: value for key, value in self.sink.records.items() if isinstance(value, RecordError)}
        self.assertEqual(len(bad), 3)
        self.assertEqual(len(self.sink.records), 4)

    def test_pages(self) -> None:
        """1,200 records are three pages at one revision."""
        self.etcd.records = {f"/getty/echo/{number:05}": b"{}" for number in range(1200)}
        revisions = []

        def count(asked: Any) -> bool:
            revisions.append(asked.body.get("revision"))
            self.etcd.revision += 1
            return False

        self.etcd.special["kv/range"] = count
        self.start()
        self.assertEqual(len(self.sink.records), 1200)
        self.assertEqual(revisions, [None, 5, 5])
        self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], 6)

    def test_longRecords(self) -> None:
        """Pages get shorter where records are long, and a page that is too long is asked for again."""
        self.patch(bodies, "LIMIT", 2_000_000)
        self.etcd.records = {f"/getty/echo/{number:05}": b"x" * 20_000 for number in range(150)}
        self.start()
        self.assertEqual(len(self.sink.records), 150)
        limits = [asked.body["limit"] for asked in self.etcd.of("kv/range")]
        self.assertEqual(limits[:2], [500, 62])
        self.assertTrue(all(limit < 25 for limit in limits[2:]), limits)

    def test_compactedWhileListed(self) -> None:
        """A list whose revision goes away while it is read is begun again."""
        self.etcd.records = {f"/getty/echo/{number:05}": b"{}" for number in range(600)}
        refusals = [self.etcd.refuse(400, 11, "etcdserver: mvcc: required revision has been compacted")]

        def refuse(asked: Any) -> Any:
            return refusals.pop()(asked) if "revision" in asked.body and refusals else False

        self.etcd.special["kv/range"] = refuse
        self.start()
        self.assertEqual(len(self.sink.records), 600)
        self.assertEqual(self.ranges(), 4)

    def test_afterAnOutage(self) -> None:
        """After an outage that was longer than 5 s a list waits some time."""
        self.etcd.away.add("a:2379")
        self.start()
        self.etcd.clock.pump([0.1] * 80)
        self.etcd.away.clear()
        while not self.etcd.of("maintenance/status")[-1].response.called or "connected" not in self.user.told:
            self.etcd.clock.advance(0.01)
        self.assertEqual(self.ranges(), 0)
        self.etcd.clock.pump([0.1] * 20)
        self.assertEqual(self.ranges(), 1)
        self.assertEqual(self.sink.told, ["are"])

    def test_herd(self) -> None:
        """Of many clients no more than 15 % list in any second after an outage."""
        self.etcd.away.add("a:2379")
        sinks = []
        for seed in range(300):
            engine, _ = engineWith(self.etcd, seed=seed)
            sinks.append(RecordingSink())
            engine.watch("echo", sinks[-1])
            self.addCleanup(engine.stop)
        self.etcd.clock.pump([1.0] * 20)
        self.etcd.away.clear()
        self.etcd.asked.clear()
        counts = []
        for _ in range(20):
            before = self.ranges()
            self.etcd.clock.pump([0.25] * 4)
            counts.append(self.ranges() - before)
        self.assertEqual(sum(counts), 300)
        self.assertLessEqual(max(counts), 45)


class FollowTests(WatchTestCase):
    """Events, and what interrupts them."""

    def test_events(self) -> None:
        """All of a response at once, of each key the last."""
        self.etcd.records = {A: b"1"}
        self.start()
        events = [put(A, "2", 5), put(B, "1", 6), put(A, "", 7), put("/getty/echo/c", "", 8), put(A, "3", 9)]
        self.etcd.watch.send(self.etcd.event(*events))
        self.assertEqual(self.sink.changes, [({"b": b"1", "a": b"3"}, ["c"])])

    def test_segments(self) -> None:
        """Responses come in segments of any size; there are empty lines, and two in one segment."""
        self.start()
        data = b"\n" + self.etcd.event(put(A, "1", 5)) + b"\r\n\n" + self.etcd.event(put(B, "2", 6), put(A, "", 6))
        for size in (1, 7, len(data)):
            self.sink.changes.clear()
            self.etcd.watch.send(data, size)
            self.assertEqual(self.sink.changes, [({"a": b"1"}, []), ({"b": b"2"}, ["a"])])

    def test_resumed(self) -> None:
        """After a break it goes on behind the last that was seen."""
        self.start()
        self.etcd.watch.send(self.etcd.event(put(A, "1", 9)))
        self.etcd.revision = 12
        self.cutAndWait()
        self.assertEqual(self.sink.told, ["are", "changed", "interrupted", "resumed"])
        self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], 10)
        self.assertEqual(self.ranges(), 1)
        self.assertIn("reset", self.sink.errors[0])

    def test_pause(self) -> None:
        """After each read there is a pause. What has been read is told at once; a watch that ends leaves no call."""
        self.start()
        clock, watch = self.etcd.clock, self.etcd.watch
        calls = len(clock.getDelayedCalls())
        self.assertFalse(watch.isPaused)
        for number in (1, 2):
            watch.send(self.etcd.event(put(A, str(number), 4 + number)))
            self.assertEqual((self.sink.records, watch.isPaused), ({"a": b"%d" % number}, True))
        self.assertEqual(len(clock.getDelayedCalls()), calls + 1)
        clock.advance(bodies.GATHER_TIME)
        self.assertFalse(watch.isPaused)
        watch.send(self.etcd.event(put(A, "3", 7)))
        self.watching.stop()
        self.assertEqual((watch.closed, len(clock.getDelayedCalls())), (True, calls))

    def test_progress(self) -> None:
        """What etcd says of how far it is counts; that a watch was created says nothing of it."""
        self.start()
        self.etcd.watch.send(line({"header": self.etcd.header(400)}))
        self.etcd.revision = 500
        self.cutAndWait()
        self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], 401)
        self.cutAndWait()
        self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], 401)

    def test_compacted(self) -> None:
        """Where the changes since are not known any more, all is listed again."""
        self.etcd.records = {A: b"1"}
        self.start()

        def compacted(asked: Any) -> None:
            del self.etcd.special["watch"]
            created, canceled = {"created": True}, {"canceled": True, "compact_revision": "44"}
            header = {"header": self.etcd.header()}
            asked.answer(line({**header, **created}) + line({**header, **canceled}), over=False)

        self.etcd.special["watch"] = compacted
        self.etcd.records = {B: b"1"}
        self.etcd.revision = 50
        self.cutAndWait()
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed", "interrupted", "are"])
        self.assertEqual(self.sink.records, {"b": b"1"})
        self.assertTrue(self.etcd.of("watch")[1].closed)
        self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], 51)

    def test_wiped(self) -> None:
        """A lower revision, an older term or another cluster: all is listed again, nothing is waited for."""
        for name, value in (("revision", 2), ("term", 1), ("cluster", "78")):
            self.etcd = FakeEtcd()
            self.sink = RecordingSink()
            self.start()
            setattr(self.etcd, name, value)
            self.etcd.records = {B: b"1"}
            self.cutAndWait()
            self.etcd.clock.advance(1)
            self.assertEqual(self.sink.told, ["are", "interrupted", "are"], name)
            self.assertEqual(self.sink.records, {"b": b"1"})
            self.assertEqual(self.etcd.watch.body["create_request"]["start_revision"], self.etcd.revision + 1)

    def test_cancelledForAnotherReason(self) -> None:
        """It is an error, which has the reason, and is tried again."""
        self.start()
        self.etcd.watch.send(line({"header": self.etcd.header(), "canceled": True, "cancel_reason": "no time"}))
        self.assertEqual(self.sink.told, ["are", "interrupted"])
        self.assertIn("no time", self.sink.errors[0])
        self.assertTrue(self.etcd.watch.closed)
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told[-1], "resumed")

    def test_denied(self) -> None:
        """A watch that is denied says what to do; a token that may be too old is asked for again."""
        denied = line({"header": self.etcd.header(), "created": True, "canceled": True, "watch_id": "-1"})
        reason = b'"cancel_reason": "rpc error: code = PermissionDenied desc = etcdserver: permission denied", '
        denied = denied.replace(b'"created"', reason + b'"created"')
        self.etcd.special["watch"] = lambda asked: asked.answer(denied, over=False)
        self.start(user="u", password="p")
        self.assertIn("etcdctl role grant-permission ROLE read /getty/ --prefix=true", self.sink.errors[0])
        self.assertIn("user='u'", self.sink.errors[0])
        self.etcd.clock.advance(0.25)
        self.assertEqual([asked.token for asked in self.etcd.of("watch")], [b"token1", b"token2"])
        # Not each time: etcd spends a tenth of a second on each.
        self.etcd.clock.pump([1.0] * 30)
        self.assertEqual(self.etcd.watch.token, b"token2")
        self.etcd.clock.pump([1.0] * 50)
        self.assertEqual(self.etcd.watch.token, b"token3")
        del self.etcd.special["watch"]
        self.etcd.clock.pump([1.0] * 16)
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed"])

    def test_refused(self) -> None:
        """So is one that is not begun at all."""
        self.etcd.special["watch"] = lambda asked: asked.answer(b"404 page not found", 404)
        self.start(user="u", password="p")
        self.assertIn("--enable-grpc-gateway", self.sink.errors[0])
        self.etcd.special["watch"] = self.etcd.refuse(401, 16, "etcdserver: invalid auth token")
        self.etcd.clock.pump([0.1] * 10)
        self.assertEqual(self.etcd.of("watch")[1].token, b"token1")
        del self.etcd.special["watch"]
        self.etcd.clock.pump([0.25] * 20)
        self.assertNotEqual(self.etcd.watch.token, b"token1")
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed"])

    def test_orderlyStop(self) -> None:
        """etcd says that it stops, and ends the response."""
        self.start()
        watch = self.etcd.watch
        error = {"grpc_code": 14, "http_code": 503, "message": "etcdserver: server stopped"}
        watch.send(json.dumps({"error": error}).encode())
        watch.cut()
        self.assertEqual(self.sink.told, ["are", "interrupted"])
        self.assertIn("server stopped", self.sink.errors[0])

    def test_garbage(self) -> None:
        """What is not etcd's language interrupts, and is tried again."""
        for data in (
            b"{[}\n",
            b"17\n",
            b'{"result": {"events": [{"kv": 1}]}}\n',
            b'{"error": 3}\n',
            b'{"result": 1}\n',
        ):
            self.etcd, self.sink = FakeEtcd(), RecordingSink()
            self.start()
            self.etcd.watch.send(data)
            self.assertEqual(self.sink.told, ["are", "interrupted"], data)
            self.etcd.clock.advance(1)
            self.assertEqual(self.sink.told[-1], "resumed")

    def test_garbageInLists(self) -> None:
        """So does a list, and is logged."""
        self.etcd.special["kv/range"] = lambda asked: asked.answer(b'{"header": 5}')
        self.start()
        self.assertEqual(self.sink.told, ["interrupted"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        del self.etcd.special["kv/range"]
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["interrupted", "are"])

    def test_tooLong(self) -> None:
        """A line without end is not kept: all is listed again."""
        self.patch(bodies, "LIMIT", 1000)
        self.start()
        self.etcd.watch.send(b"x" * 1001, 100)
        self.assertEqual(self.sink.told, ["are", "interrupted"])
        self.assertTrue(self.etcd.watch.closed)
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["are", "interrupted", "are"])

    def test_neverCreated(self) -> None:
        """A watch that says nothing is given up, and the endpoint with it."""
        self.etcd.held.add("watch")
        self.start(endpoints=(("a", 1), ("b", 1)))
        self.etcd.held.clear()
        self.etcd.clock.advance(5)
        self.assertTrue(self.etcd.of("watch")[0].wasCancelled)
        self.assertEqual([asked.at for asked in self.etcd.of("watch")], ["a:1", "b:1"])
        self.assertEqual(self.etcd.dropped, ["a:1"])


class SilentTests(WatchTestCase):
    """The watch's sign of life."""

    def test_statusFails(self) -> None:
        """Without a lease the status is asked for; where it does not come the watch goes to the next endpoint."""
        self.start(endpoints=(("a", 1), ("b", 1)))
        self.etcd.special["maintenance/status"] = lambda asked: None if asked.at == "a:1" else False
        self.etcd.clock.advance(11)
        self.assertEqual(self.sink.told, ["are"])
        self.etcd.clock.advance(5)
        self.assertEqual(self.sink.told, ["are", "interrupted"])
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed"])
        self.assertEqual(self.etcd.watch.at, "b:1")
        self.assertTrue(self.etcd.of("watch")[0].closed)
        self.assertEqual(self.etcd.dropped, ["a:1"])
        self.assertEqual(self.user.told, ["connected"])

    def test_noLeader(self) -> None:
        """So it does where an endpoint has lost the others of its cluster."""
        self.start(endpoints=(("a", 1), ("b", 1)))
        self.etcd.special["maintenance/status"] = lambda asked: asked.at == "a:1" and asked.answer(b'{"version": "3"}')
        self.etcd.clock.advance(11)
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed"])
        self.assertEqual(self.etcd.watch.at, "b:1")
        self.assertIn("no leader", self.sink.errors[0])

    def test_noneAnswers(self) -> None:
        """Where none answers the engine says so, and watches wait until one does."""
        self.start()
        self.etcd.away.add("a:2379")
        self.etcd.clock.advance(11)
        self.assertEqual(self.sink.told, ["are", "interrupted"])
        self.assertIn("disconnected: etcd at a:2379 cannot be asked: refused", self.user.told)
        watches = len(self.etcd.of("watch"))
        self.etcd.clock.pump([0.1] * 30)
        self.assertEqual(len(self.etcd.of("watch")), watches)
        self.etcd.away.clear()
        self.etcd.clock.pump([0.25] * 60)
        self.assertEqual(self.user.told[-1], "connected")
        self.assertEqual(self.sink.told, ["are", "interrupted", "resumed"])


class StopTests(WatchTestCase):
    """The end of a watch."""

    def test_stop(self) -> None:
        """The response is closed, and nothing is told any more. Twice is once."""
        self.start()
        watch = self.etcd.watch
        self.watching.stop()
        self.watching.stop()
        self.assertTrue(watch.closed)
        watch.send(self.etcd.event(put(A, "1", 5)))
        watch.cut()
        self.etcd.clock.advance(1)
        self.assertEqual(self.sink.told, ["are"])
        self.assertEqual(len(self.etcd.of("watch")), 1)

    def test_stopWhileListing(self) -> None:
        """The request is given up. That is no failure of the endpoint."""
        self.etcd.held.add("kv/range")
        self.start()
        self.watching.stop()
        self.assertTrue(self.etcd.of("kv/range")[0].wasCancelled)
        self.etcd.clock.advance(6)
        self.assertEqual((self.sink.told, self.etcd.dropped, self.user.told), ([], [], ["connected"]))

    def test_stopWhileWaiting(self) -> None:
        """It waits no more."""
        self.start()
        self.etcd.watch.cut()
        self.watching.stop()
        self.etcd.clock.advance(5)
        self.assertEqual(len(self.etcd.of("watch")), 1)

    def test_stopWhileAway(self) -> None:
        """It does not come back with etcd."""
        self.etcd.away.add("a:2379")
        self.start()
        self.watching.stop()
        self.etcd.away.clear()
        self.etcd.clock.advance(5)
        self.assertEqual(self.etcd.of("kv/range"), [])

    def test_stopWithinCalls(self) -> None:
        """A sink may stop it in each of its calls."""
        for kind in ("are", "changed", "interrupted", "resumed"):
            self.etcd, self.sink = FakeEtcd(), Stopping(kind)
            self.engine, self.user = engineWith(self.etcd)
            self.sink.engine = self.engine
            self.watching = self.sink.watch = self.engine.watch("echo", self.sink)
            self.etcd.revision = 5
            if kind != "are":
                self.etcd.watch.send(self.etcd.event(put(A, "1", 5)))
            if kind not in ("are", "changed"):
                self.cutAndWait()
            self.etcd.clock.advance(20)
            self.assertEqual(self.sink.told[-1], kind)
            self.assertTrue(self.etcd.closed, kind)

    def test_failingSink(self) -> None:
        """What a sink raises is logged, and nothing else."""

        class Failing(RecordingSink):
            def recordsAre(self, records: Any) -> None:
                raise ValueError("sink")

        self.sink = Failing()
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.etcd.watch.send(self.etcd.event(put(A, "1", 5)))
        self.assertEqual(self.sink.told, ["changed"])


class Stopping(RecordingSink):
    """Stops the engine in one of its calls: also before the watch is known, if that comes at once."""

    engine: Any = None
    watch: Any = None

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def _told(self, kind: str) -> None:
        super()._told(kind)
        if kind == self._kind:
            self.engine.stop()
