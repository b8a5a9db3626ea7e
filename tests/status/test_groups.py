"""Groups, as the status shows them: in one process, and merged from several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest import mock
from weakref import WeakSet

from getty_tx.codecs import LengthCodec
from getty_tx.groups import EngineDownError, Groups, MemoryEngine, Namespace, Position, groups, joining
from getty_tx.groups.hub import hub as hubModule
from getty_tx.status.aggregate import AggregateSource, MemberReports
from getty_tx.status.groups import SHOWN, decodeGroups, forPage
from getty_tx.status.groupwalk import GROUPS_PER_STEP, GroupsWalk
from getty_tx.status.merging import decodeSnapshot, emptySnapshot, encodeSnapshot, mergeEnded, mergeInto
from getty_tx.status.metrics import families
from getty_tx.status.resources import Access, statusSite
from getty_tx.status.source import ProcessSource
from getty_tx.status.table import COLUMNS
from tests.status.test_merging import Many
from tests.support.groups import GroupsCase

if TYPE_CHECKING:
    from getty_tx.status.snapshot import Snapshot

KB = bytes(1000)

#: What says something of an engine that is there.
OF_ENGINE = {"_engine_up an engine", "_engine_lag_seconds an engine"}


class LossyEngine(MemoryEngine):
    """It may be away, and tells how it fares."""

    description = "an engine"
    reconnects = 2
    lag = 0.25

    def away(self, user: Groups) -> None:
        self.isUp = False
        user.engineDown(EngineDownError("an engine is away: refused"))


class OwnCodec(LengthCodec):
    """Says that it cannot share."""

    def shareKey(self, session: Any) -> object:
        return None


class SeenCase(GroupsCase):
    """One Groups, and no other."""

    capacity = 4000

    def setUp(self) -> None:
        # Other tests of this process may have left some to the reactor's end.
        self.patch(groups, "_running", WeakSet())
        self.patch(hubModule, "_hubs", WeakSet())
        super().setUp()
        self.walk = GroupsWalk(self.clock)

    def namespaces(self) -> dict[str, Namespace]:
        return {
            "room": Namespace(slow="follow", slowLimit=2000, maxPublication=2000, maxWaiting=20_000),
            "log": Namespace(historySize=10, historySeconds=60),
        }

    def engine(self) -> Any:
        return LossyEngine()

    def snapshot(self) -> Snapshot:
        """Of the process, with nothing but groups."""
        *_, found = self.walk.walk()
        assert found is not None
        snapshot = emptySnapshot()
        snapshot.groups = found
        return snapshot

    def values(self, snapshot: Snapshot) -> dict[str, float]:
        """The metrics of groups that are not 0, without buckets, by their names and labels."""
        return {
            " ".join([sample.name.removeprefix("getty_group"), *sample.labels.values()]): sample.value
            for family in families(snapshot)
            if family.name.startswith("getty_group")
            for sample in family.samples
            if sample.value and not sample.name.endswith("_bucket")
        }

    def stuck(self, name: str = "room:1") -> Any:
        """A member that does not read, and is behind."""
        session = self.member(name)
        self.pairs[-1].client.pauseReading()
        for _ in range(12):
            self.groups.group(name).publish(KB)
            self.go()
        return session


class ProcessTests(SeenCase):
    """One process."""

    def test_none(self) -> None:
        """Without groups there is nothing of them; with those that have stopped their counters."""
        self.member("room:1")
        self.groups.group("room:1").publish(b"1")
        self.go()
        self.assertEqual(groups.running(), [self.groups])
        names = self.values(self.snapshot()).keys()
        self.groups.stopService()
        self.assertEqual(groups.running(), [])
        left = self.values(self.snapshot()).keys()
        gone = {"s room", "_memberships room", *OF_ENGINE, "_engine_reconnects_total an engine"}
        self.assertEqual((names - left, left - names), (gone, set()))
        self.walk = GroupsWalk(self.clock)
        self.assertEqual((self.values(self.snapshot()), forPage(self.snapshot().groups)), ({}, None))

    def test_counters(self) -> None:
        """What was published, and who got it; bytes are those of the frames."""
        a, b = self.member("room:1"), self.member("room:1")
        self.member("other")
        group = self.groups.group("room:1")
        group.publish(b"123456")
        group.publish(b"123456", but=b)
        self.go()
        self.assertEqual(
            self.values(self.snapshot()),
            {
                "s ": 1,
                "s room": 1,
                "_memberships ": 1,
                "_memberships room": 2,
                "_publications_total room out": 2,
                "_publications_total room in": 2,
                "_deliveries_total room": 3,
                "_delivery_bytes_total room": a.stats.writeBytes + b.stats.writeBytes,
                "_flush_publications_count room": 1,
                "_flush_publications_sum room": 2,
                "_fanout_seconds_count room": 1,
                "_engine_up an engine": 1,
                "_engine_reconnects_total an engine": 2,
                "_engine_lag_seconds an engine": 0.25,
            },
        )
        self.assertEqual(COLUMNS["groups"](a, "", 0.0), 1)

    def newOwn(self, session: Any) -> None:
        """Of a member whose codec shares nothing."""
        super().newSession(session)
        session.codec = OwnCodec()

    def test_ownBytes(self) -> None:
        """Bytes of members that share none with others are counted, too."""
        self.server = self.network.serverFactory(self.newOwn)
        session = self.member("room:1")
        for pkg in (b"1", b"22"):
            self.groups.group("room:1").publish(pkg)
            self.go()
        self.assertEqual(self.groups.stats["room"].deliveryBytes, session.stats.writeBytes)
        self.assertGreater(session.stats.writeBytes, 3)

    def test_recoveries(self) -> None:
        """Those who came back, with all or without."""
        self.member("log:1")
        group = self.groups.group("log:1")
        position = self.successResultOf(group.publish(b"1"))
        assert position is not None
        self.member("log:1", since=Position(position.epoch, 0))
        self.member("log:1", since=Position("another", 0))
        values = self.values(self.snapshot())
        self.assertEqual([values[f"_recoveries_total log {result}"] for result in ("recovered", "unrecovered")], [1, 1])

    def test_behind(self) -> None:
        """Who waits for its peer is shown, until it has read."""
        stuck = self.stuck()
        stuck.name = "lazy"
        self.clock.advance(2.0)
        snapshot = self.snapshot()
        page = forPage(snapshot.groups)
        assert page is not None
        [row] = page["behind"]
        missed = row.pop("missed")
        self.assertEqual(row, {"group": "room:1", "session": stuck.id, "name": "lazy", "seconds": 2.0, "subreactor": 0})
        self.assertEqual(missed, 12 - self.groups.stats["room"].deliveries)
        values = self.values(snapshot)
        self.assertEqual((values["_behind room"], page["isBehind"]), (1, 1))
        self.assertGreater(values["_waiting_bytes room"], 1000)
        self.pairs[-1].client.resumeReading()
        self.go()
        self.assertNotIn("_behind room", self.values(self.snapshot()))

    def test_top(self) -> None:
        """The largest, and the busiest since the look before, among more groups than one step has."""
        session = self.session()
        self.patch(joining, "MAX_GROUPS", GROUPS_PER_STEP + 100)
        for number in range(GROUPS_PER_STEP + 100):
            self.successResultOf(self.groups.group(f"room:{number}").join(session))
        for name in ("room:3", "room:333"):
            for _ in range(2):
                self.member(name)
        self.groups.group("room:5").publish(b"before")
        self.go()
        self.snapshot()
        self.clock.advance(2.0)
        for name in ("room:5", "room:333", "room:333", "room:333"):
            self.groups.group(name).publish(b"now")
            self.go()
        page = forPage(self.snapshot().groups)
        assert page is not None
        self.assertEqual((page["groups"], page["memberships"]), (GROUPS_PER_STEP + 100, GROUPS_PER_STEP + 104))
        self.assertEqual(
            (len(page["largest"]), {row["name"] for row in page["largest"][:2]}), (SHOWN, {"room:3", "room:333"})
        )
        self.assertEqual(
            [(row["name"], row["members"], row["rate"], row["deliveries"]) for row in page["busiest"]],
            [("room:333", 3, 1.5, 4.5), ("room:5", 1, 0.5, 0.5)],
        )
        # A look after a moment goes on from the one before, and one after a longer time sees that nothing happens.
        self.clock.advance(0.1)
        self.snapshot()
        self.clock.advance(0.9)
        page = forPage(self.snapshot().groups)
        assert page is not None
        self.assertEqual(page["busiest"], [])

    def test_health(self) -> None:
        """While the engine is away the process is ready, with a warning that names nothing."""
        source = ProcessSource({}, self.clock)
        site = statusSite(source, Access(None, isLocal=True), self.clock)

        def ready() -> tuple[int, bytes]:
            request: Any = mock.Mock(method=b"GET")
            request.getHeader.return_value = None
            resource: Any = site.resource.getChildWithDefault(b"health", request).getChildWithDefault(b"ready", request)
            body = resource.render(request)
            return request.setResponseCode.call_args[0][0], body

        self.assertEqual(ready(), (200, b"ok\n"))
        engine: Any = self.groups.engine
        engine.away(self.groups)
        self.assertEqual(ready(), (200, b"ok\nwarning: the engine of groups is away\n"))
        snapshot = self.snapshot()
        self.assertNotIn("_engine_up an engine", self.values(snapshot))
        page = forPage(snapshot.groups)
        assert page is not None
        [shown] = page["engines"]
        self.assertEqual((shown["isUp"], shown["error"]), (False, "an engine is away: refused"))
        engine.isUp = True
        self.groups.engineUp()
        self.assertEqual(ready(), (200, b"ok\n"))


class MergedTests(SeenCase):
    """Several processes."""

    def reported(self) -> list[Any]:
        """The records of this process."""
        return [json.loads(record) for record in encodeSnapshot(self.snapshot())]

    def test_sums(self) -> None:
        """Counters are added, and stay when a process has ended; gauges do not."""
        self.stuck()
        self.member("room:1")
        records = self.reported()
        one, other = decodeSnapshot(records), decodeSnapshot(records)
        self.assertEqual(list(encodeSnapshot(one)), [json.dumps(record) for record in records])
        total = emptySnapshot()
        mergeInto(total, one)
        single = self.values(total)
        mergeInto(total, other)
        double = self.values(total)
        self.assertEqual(double, {name: value if name in OF_ENGINE else 2 * value for name, value in single.items()})
        [row] = total.groups.rows.values()
        self.assertEqual((row.members, row.behind, len(total.groups.behind)), (4, 2, 2))
        ended = emptySnapshot()
        mergeEnded(ended, one)
        gauges = {"s room", "_memberships room", "_behind room", "_waiting_bytes room", *OF_ENGINE}
        self.assertEqual(self.values(ended), {name: value for name, value in single.items() if name not in gauges})
        page = forPage(ended.groups)
        assert page is not None
        self.assertEqual((page["engines"], page["largest"], page["behind"]), ([], [], []))

    def test_subReactors(self) -> None:
        """The main process shows those of its sub-reactors, and says of which the engine is away."""
        self.stuck()
        engine: Any = self.groups.engine
        up = self.reported()
        engine.away(self.groups)
        down = self.reported()
        self.groups.stopService()
        many: Any = Many()
        reports = MemberReports(many)
        source = AggregateSource("echo", many, reports, {}, self.clock)
        self.assertEqual(source.warnings(), [])
        first, second = many.members
        reports.received(first, [up])
        self.assertEqual(source.warnings(), [])
        reports.received(second, [down])
        self.assertEqual(source.warnings(), ["the engine of groups is away from sub-reactor 2"])
        asked = source.collect()
        self.clock.pump([0.01] * 5)
        self.clock.advance(2.0)
        snapshot = self.successResultOf(asked)
        values = self.values(snapshot)
        self.assertEqual((values["_memberships room"], values["_behind room"]), (2, 2))
        self.assertNotIn("_engine_up an engine", values)
        self.assertEqual({row.subreactor for row in snapshot.groups.behind}, {1, 2})
        reports.lost(first)
        reports.lost(second)
        self.assertEqual(source.warnings(), [])

    def test_hub(self) -> None:
        """The main process shows what its hub has dropped for sub-reactors; without a hub there is no such metric."""
        self.member("room:1")
        records = self.reported()
        names = {family.name for family in families(decodeSnapshot(records))}
        self.assertNotIn("getty_group_hub_dropped", names)
        self.groups.stopService()
        hub = hubModule.Hub(self.clock)
        hub.dropped = 3
        many: Any = Many()
        reports = MemberReports(many)
        for member in many.members:
            reports.received(member, [records])
        asked = AggregateSource("echo", many, reports, {}, self.clock).collect()
        self.clock.pump([0.01] * 5)
        self.clock.advance(2.0)
        values = self.values(self.successResultOf(asked))
        self.assertEqual((values["_memberships room"], values["_hub_dropped_total"]), (2, 3))

    def test_invalid(self) -> None:
        """Records that are none are refused."""
        self.stuck()
        found = {kind: fields for kind, *fields in self.reported()}
        namespace = found["namespace"]
        for kind, wrong in (
            ("namespace", ["room", [1], *namespace[2:]]),
            ("namespace", ["room", [1, 1, 1, -1], *namespace[2:]]),
            ("namespace", [5, *namespace[1:]]),
            ("namespace", [*namespace[:4], [0], *namespace[5:]]),
            ("namespace", [*namespace[:-1], "x"]),
            ("engine", ["an engine", True, -1, 0.0, ""]),
            ("engine", ["an engine", True, None, "x", ""]),
            ("engine", ["an engine", True, None, None, None]),
            ("group", [None, 1, 0.0, 0.0, 0]),
            ("group", ["room:1", 1.0, 0.0, 0.0, 0]),
            ("behind", ["room:1", 1, "", 0.0, None, 0]),
            ("behind", ["room:1"]),
        ):
            self.assertRaises((ValueError, TypeError), decodeGroups, emptySnapshot().groups, kind, wrong)
