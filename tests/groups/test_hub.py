"""The hub and its engines, without processes: order, interest, histories, presence, and who does not read."""

from __future__ import annotations

import gc
import os
from typing import Any

from zope.interface.verify import verifyObject

from getty_tx.errors import SettingError
from getty_tx.groups import (
    EngineDownError,
    EngineTimeoutError,
    GroupError,
    Groups,
    IEngine,
    Member,
    MemoryEngine,
    Position,
    Publication,
    PublicationTooLongError,
    Retention,
    engines,
)
from getty_tx.groups.hub import engine as engineModule
from getty_tx.groups.hub.engine import ANSWER_SECONDS
from getty_tx.groups.hub.hub import MAX_WAITING
from getty_tx.groups.hub.wire import MAX_PUBLICATION
from getty_tx.groups.publication import CLOSE
from getty_tx.processes import beside
from tests.support.hub import KEPT, HubCase, User

NONE = Retention()


class OrderTests(HubCase):
    def test_order(self) -> None:
        """One order for all, the publishers among them; the Deferred fires after the arrival."""
        a, b, c = self.subscribed(), self.subscribed(), self.engine()
        verifyObject(IEngine, a[0])
        order: list[Any] = []
        for number in range(3):
            for engine, _ in (a, b, c):
                published = engine.publish("room", Publication(f"{engine.node} {number}"), KEPT)
                published.addCallback(lambda position: order.append(position.offset))
        self.clock.pump()
        heard = [user.take() for _, user in (a, b, c)]
        self.assertEqual((len(heard[0]), heard[2]), (9, []))
        self.assertEqual(heard[0], heard[1])
        self.assertEqual([offset for *_, offset in heard[0]], list(range(1, 10)))
        self.assertEqual(sorted(order), list(range(1, 10)))

    def test_arrivesFirst(self) -> None:
        engine, user = self.subscribed()
        engine.publish("room", Publication(b"x"), KEPT).addCallback(lambda _: user.heard.append(("fired",)))
        self.clock.advance(0.25)
        self.clock.pump()
        self.assertEqual(engine.lag, 0.25)
        self.assertEqual(user.take(), [("room", b"x", 1), ("fired",)])

    def test_packages(self) -> None:
        """What JSON can say, bytes, and text come as they were; with key, kind, and the own publisher's number."""
        a, b = self.subscribed(), self.subscribed()
        seen: list[list[Any]] = [[], []]
        for (_, user), mine in zip((a, b), seen, strict=True):
            user.publicationArrived = lambda name, each, mine=mine: mine.append(each)  # type: ignore[method-assign]
        every = [b"\0\xff", "ä", {"x": [1, None]}]
        for pkg in every:
            a[0].publish("room", Publication(pkg, key="ö", publisher=7), NONE)
        b[0].publish("room", Publication({"but": ""}, kind=CLOSE), NONE)
        self.clock.pump()
        for mine in seen:
            self.assertEqual([each.pkg for each in mine], [*every, {"but": ""}])
            self.assertEqual(
                [(each.key, each.kind, each.position) for each in mine[::3]], [("ö", 0, None), (None, 2, None)]
            )
        self.assertEqual([each.publisher for each in seen[0] + seen[1]], [7, 7, 7, 0, 0, 0, 0, 0])
        self.assertEqual([each.size for each in seen[0]][:2], [2, 2])

    def test_long(self) -> None:
        """Publications of megabytes are whole, and in order with short ones; too long ones are refused."""
        a, b = self.subscribed(), self.subscribed()
        long = bytes(range(256)) * 8192
        for pkg in (b"1", long, b"2"):
            a[0].publish("room", Publication(pkg), KEPT)
        self.clock.pump(80)
        self.assertEqual(b[1].take(), [("room", b"1", 1), ("room", long, 2), ("room", b"2", 3)])
        for pkg in (bytes(MAX_PUBLICATION), "ä" * (MAX_PUBLICATION // 2)):
            failed = a[0].publish("room", Publication(pkg), KEPT)
            self.failureResultOf(failed, PublicationTooLongError)
        self.failureResultOf(a[0].publish("room", Publication({1, 2}), KEPT), GroupError)
        self.failureResultOf(a[0].publish("room", Publication(b"", key="k" * 65535), KEPT), GroupError)
        self.clock.advance(ANSWER_SECONDS)

    def test_interest(self) -> None:
        """Only those that have members get it: bytes go to nobody else."""
        a, b = self.subscribed("a"), self.subscribed("b")
        a[0].publish("b", Publication(b"x"), NONE)
        a[0].publish("nobody", Publication(b"x"), NONE)
        self.clock.pump()
        self.assertEqual((a[1].take(), b[1].take()), ([], [("b", b"x", None)]))
        b[0].unsubscribe("b")
        a[0].publish("b", Publication(b"y"), NONE)
        self.clock.pump()
        self.assertEqual((b[1].take(), list(self.hub.interested)), ([], ["a"]))

    def test_crossing(self) -> None:
        """What crosses with the end of a subscription is not brought; nor is what was there before the next."""
        a, b = self.subscribed(), self.subscribed()
        self.stop(b[0])
        a[0].publish("room", Publication(b"before"), KEPT)
        self.clock.pump()
        b[0].unsubscribe("room")
        done = b[0].subscribe("room")
        self.goOn(b[0])
        self.successResultOf(done)
        a[0].publish("room", Publication(b"after"), KEPT)
        self.clock.pump()
        self.assertEqual(b[1].take(), [("room", b"after", 2)])

    def test_id(self) -> None:
        """A publication with the same id, from another process, is not brought again."""
        a, b = self.subscribed(), self.subscribed()
        done = [engine.publish("room", Publication(b"x"), KEPT, "id") for engine, _ in (a, b)]
        self.clock.pump()
        self.assertEqual(self.successResultOf(done[0]), self.successResultOf(done[1]))
        self.assertEqual([a[1].take(), b[1].take()], [[("room", b"x", 1)]] * 2)

    def test_oneMessage(self) -> None:
        """All of a turn leaves in one send."""
        a, b = self.subscribed(), self.subscribed()
        sends: list[int] = []
        link: Any = self.spokes[b[0]].link
        end = link._end
        link._end = self.Counting(end, sends)
        for number in range(50):
            a[0].publish("room", Publication(b"%d" % number), KEPT)
        self.clock.pump()
        link._end = end
        self.assertEqual((len(sends), len(b[1].take())), (1, 50))

    class Counting:
        """A socket that notes how much it is given to send."""

        def __init__(self, end: Any, sends: list[int]) -> None:
            self._real, self._sends = end, sends

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def send(self, data: bytes) -> int:
            self._sends.append(len(data))
            count: int = self._real.send(data)
            return count


class HistoryTests(HubCase):
    def test_since(self) -> None:
        """Whole, in parts, from another process; not whole from an unknown epoch."""
        a, b = self.subscribed(), self.engine()
        every = [bytes([65 + number]) * 30_000 for number in range(10)]
        for pkg in every:
            a[0].publish("room", Publication(pkg, key="k"), KEPT)
        self.clock.pump(20)
        asked = b[0].history("room", None, 100, KEPT)
        self.clock.pump(20)
        history = self.successResultOf(asked)
        self.assertEqual(([each.pkg for each in history.publications], history.isWhole), (every, True))
        self.assertEqual({(each.key, each.size) for each in history.publications}, {("k", 30_000)})
        since = Position(history.position.epoch, 7)
        for position, limit, wanted in (
            (since, 100, ([8, 9, 10], True)),
            (since, 2, ([8, 9], False)),
            (Position("other", 7), 100, ([], False)),
            (Position(since.epoch, 11), 100, ([], False)),
            (None, 0, ([], True)),
        ):
            asked = b[0].history("room", position, limit, KEPT)
            self.clock.pump(20)
            found = self.successResultOf(asked)
            self.assertEqual(([each.position.offset for each in found.publications], found.isWhole), wanted)
            self.assertEqual(found.position.offset, 10)
        self.failureResultOf(b[0].history("room", Position("e" * 256, 1), 100, KEPT), GroupError)

    def test_unreadable(self) -> None:
        """A package that cannot be read keeps its place in the order."""
        a, b = self.subscribed(), self.subscribed()
        self.patch(engineModule.carried, "packedOf", lambda publication, name: b"jno JSON")
        a[0].publish("room", Publication(b"x"), KEPT)
        self.clock.pump()
        self.assertEqual(b[1].take(), [("room", None, 1)])
        asked = b[0].history("room", None, 100, KEPT)
        self.clock.pump()
        self.assertEqual([each.pkg for each in self.successResultOf(asked).publications], [None])
        self.assertTrue(self.spokes[b[0]].link.fileno() >= 0)


class PresenceTests(HubCase):
    def test_presence(self) -> None:
        """Of all processes; those with members hear of it; a process that ends takes its members with it, at once."""
        a, b = self.subscribed(), self.subscribed()
        a[0].present("room", Member("a:1", "ann", {"x": 1}))
        b[0].present("room", Member("b:1"))
        b[0].present("room", Member("b:2"))
        b[0].present("other", Member("b:2"))
        self.clock.pump()
        changes = [("members", "room", [key], []) for key in ("a:1", "b:1", "b:2")]
        self.assertEqual(sorted(a[1].take()), changes)
        self.assertEqual(sorted(b[1].take()), changes)
        asked = a[0].presence("room", 10), a[0].presence("room", 2), a[0].counts(["room", "other", "none"])
        self.clock.pump()
        found = self.successResultOf(asked[0])
        self.assertIn(Member("a:1", "ann", {"x": 1}), found)
        self.assertEqual((len(found), len(self.successResultOf(asked[1]))), (3, 2))
        self.assertEqual(self.successResultOf(asked[2]), {"room": 3, "other": 1, "none": 0})
        b[0].absent("room", "b:1")
        b[0].absent("room", "nobody")
        self.clock.pump()
        self.assertEqual(a[1].take(), [("members", "room", [], ["b:1"])])
        self.spokes[b[0]].link.close()
        self.clock.pump()
        self.assertEqual(a[1].take(), [("members", "room", [], ["b:2"])])
        asked3 = a[0].counts(["room", "other"])
        self.clock.pump()
        self.assertEqual(self.successResultOf(asked3), {"room": 1, "other": 0})

    def test_many(self) -> None:
        """An answer in parts."""
        engine, _ = self.engine()
        for number in range(300):
            engine.present("room", Member(f"k:{number}", None, {"x": "y" * 1000}))
        self.clock.pump(30)
        asked = engine.presence("room", 1000)
        self.clock.pump(30)
        self.assertEqual(len(self.successResultOf(asked)), 300)

    def test_stop(self) -> None:
        """Groups that stop withdraw what they had, and may start again."""
        a, b = self.subscribed(), self.subscribed()
        b[0].present("room", Member("b:1"))
        published = b[0].publish("room", Publication(b"x"), KEPT)
        b[0].stop()
        self.failureResultOf(published, EngineDownError)
        self.failureResultOf(b[0].publish("room", Publication(b"x"), KEPT), EngineDownError)
        self.clock.pump()
        self.assertEqual(a[1].take()[-1], ("members", "room", [], ["b:1"]))
        self.assertEqual(list(self.hub.interested["room"]), [self.spokes[a[0]]])
        again = User()
        b[0].start(self.clock, again)
        done = b[0].subscribe("room")
        a[0].publish("room", Publication(b"z"), KEPT)
        self.clock.pump()
        self.successResultOf(done)
        self.assertEqual(again.take()[0], ("up",))

    def test_oneOnly(self) -> None:
        """A second Groups() of a sub-reactor is told that it cannot be."""
        engine, _ = self.engine()
        self.assertRaises(SettingError, Groups(engine, reactor=self.clock).startService)

    def test_oneAtStart(self) -> None:
        """It is told when it is made, before anything was started; one that has stopped is in nobody's way."""
        self.patch(engines, "_ofProcess", [])
        self.patch(beside, "_own", [self.pair()[0]])
        self.patch(os, "environ", {})
        first = Groups(reactor=self.clock)
        error = self.assertRaises(SettingError, Groups)
        for text in ("engine=None", "already", "namespaces=", "gateway.groups", "redis://"):
            self.assertIn(text, str(error))
        Groups(MemoryEngine())
        first.startService()
        self.assertRaises(SettingError, Groups)
        first.stopService()
        again = Groups(reactor=self.clock)
        self.assertRaises(SettingError, first.startService)
        self.assertFalse(first.running)
        del again
        gc.collect()
        first.startService()
        first.stopService()


class SlowTests(HubCase):
    def fill(self, engine: Any, count: int, size: int = 100_000) -> None:
        """Publish so many."""
        for _ in range(count):
            engine.publish("room", Publication(bytes(size)), KEPT)
            self.clock.pump(3)
        self.clock.pump(20)

    def test_drops(self) -> None:
        """
        Above 4 MiB publications are dropped for the one that does not read, and for nobody else. It is told when it
        reads again, and finds in the history what it has missed.
        """
        a, slow, b = self.subscribed(), self.subscribed(), self.subscribed()
        self.stop(slow[0])
        self.fill(a[0], 60)
        spoke = self.spokes[slow[0]]
        self.assertTrue(spoke.isCongested)
        self.assertLessEqual(spoke.link.waiting, MAX_WAITING)
        self.assertEqual((len(a[1].take()), len(b[1].take())), (60, 60))
        dropped = self.hub.dropped
        self.assertGreater(dropped, 10)
        self.goOn(slow[0])
        heard = slow[1].take()
        self.assertEqual(heard.count(("missed", "room")), 1)
        got = [each[2] for each in heard if each[0] == "room"]
        self.assertEqual(got, list(range(1, 61 - dropped)))
        self.fill(a[0], 1)
        self.assertEqual(slow[1].take()[-1][2], 61)
        self.assertEqual(self.hub.dropped, dropped)
        epoch = self.hub.sequencer.history("room", None, 0).position.epoch
        asked = slow[0].history("room", Position(epoch, got[-1]), 100, KEPT)
        self.clock.pump(300)
        self.assertEqual(len(self.successResultOf(asked).publications), dropped + 1)

    def test_membersAndKicks(self) -> None:
        """Kicks are not dropped; who has come and gone is told afterwards, unless both."""
        a, slow = self.subscribed(), self.subscribed()
        a[0].present("room", Member("was"))
        self.clock.pump()
        self.stop(slow[0])
        self.fill(a[0], 60)
        slow[1].take()
        for key in ("stays", "goes"):
            a[0].present("room", Member(key))
        for key in ("goes", "was"):
            a[0].absent("room", key)
        a[0].publish("room", Publication({"but": ""}, kind=CLOSE), NONE)
        self.clock.pump()
        self.goOn(slow[0])
        heard = slow[1].take()
        self.assertEqual([each for each in heard if each[0] == "members"], [("members", "room", ["stays"], ["was"])])
        self.assertIn(("room", {"but": ""}, None), heard)

    def test_oneLong(self) -> None:
        """A publication that is longer than the bound arrives where nothing else waits."""
        a, b = self.subscribed(), self.subscribed()
        a[0].publish("room", Publication(bytes(2 * MAX_WAITING)), KEPT)
        self.clock.pump(300)
        self.assertEqual([each[2] for each in b[1].take()], [1])

    def test_mainStuck(self) -> None:
        """A main process that does not answer: first unknown, then nothing more is published."""
        engine, _ = self.engine()
        self.clock.stopped.add(self.spokes[engine].link)
        published = engine.publish("room", Publication(b"x"), KEPT)
        self.clock.advance(1)
        asked = engine.counts(["room"])
        self.clock.advance(ANSWER_SECONDS - 1)
        self.failureResultOf(published, EngineTimeoutError)
        self.assertNoResult(asked)
        self.clock.advance(1)
        self.failureResultOf(asked, EngineTimeoutError)
        many = [engine.publish("room", Publication(bytes(1 << 20)), KEPT) for _ in range(8)]
        self.failureResultOf(many[-1], EngineDownError)
        self.assertNoResult(many[0])
        for each in many[1:-1]:
            each.addErrback(lambda failure: failure.trap(EngineDownError))
        self.clock.stopped.clear()
        self.clock.pump(300)
        self.assertEqual(self.successResultOf(many[0]).offset, 2)
        self.clock.advance(ANSWER_SECONDS)


class EndTests(HubCase):
    def test_mainGone(self) -> None:
        """The groups hear it once; what was asked fails, and all that comes later."""
        engine, user = self.subscribed()
        asked = engine.publish("room", Publication(b"x"), KEPT)
        self.spokes[engine].link.close()
        self.clock.pump()
        self.assertEqual(user.take(), [("down", "the main process is gone")])
        self.assertFalse(engine.isUp)
        for failed in (
            asked,
            engine.publish("room", Publication(b"x"), KEPT),
            engine.subscribe("other"),
            engine.counts(["room"]),
        ):
            self.failureResultOf(failed, EngineDownError)
        engine.present("room", Member("a"))
        engine.unsubscribe("room")
        engine.stop()
        again = User()
        engine.start(self.clock, again)
        self.assertEqual(again.take(), [("down", "the main process is gone")])

    def test_lastWords(self) -> None:
        """What a process has published before it was killed arrives: its end may be known first, it may not read."""
        a, b = self.subscribed(), self.subscribed()
        self.stop(b[0])
        a[0].publish("room", Publication(b"unread"), NONE)
        self.clock.pump()
        a[1].take()
        self.clock.stopped.add(self.spokes[b[0]].link)
        self.unheard = b[0].publish("room", Publication(b"last"), KEPT).addErrback(lambda _: None)
        self.clock.pump()
        b[0]._end.close()
        self.spokes[b[0]].finish()
        self.clock.removeReader(b[0]._link)
        self.clock.pump()
        self.assertEqual(a[1].take(), [("room", b"last", 1)])
        self.assertEqual(self.hub.spokes, {self.spokes[a[0]]})

    def test_mainKilled(self) -> None:
        """The same words, where it has not read all."""
        engine, user = self.subscribed()
        self.clock.stopped.add(self.spokes[engine].link)
        engine.publish("room", Publication(b"x"), KEPT).addErrback(lambda _: None)
        self.clock.pump()
        self.spokes[engine].link.close()
        self.clock.pump()
        self.assertEqual(user.take(), [("down", "the main process is gone")])

    def test_listenerFails(self) -> None:
        """What the groups raise does not end the pair."""
        engine, user = self.subscribed()
        user.publicationArrived = lambda name, publication: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        engine.publish("room", Publication(b"x"), KEPT)
        self.clock.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(engine.isUp)
