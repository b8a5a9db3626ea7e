"""The engine of Redis against a real one: what it promises while all is well."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.groups import (
    EngineDownError,
    GroupError,
    Member,
    Position,
    Publication,
    PublicationTooLongError,
    Retention,
)
from getty_tx.groups.publication import CLOSE, EXCLUSIVE
from getty_tx.groups.redis import RedisEngine
from getty_tx.groups.redis.layout import partitionOf
from tests.support.redisserver import SKIP, Listening, RedisServer, reactor

KEPT = Retention(1000, 60.0)
NONE = Retention()

#: Settings with which outages are found soon.
FAST = {"timeout": 1.0, "pingInterval": 0.3, "reconnectInterval": 0.03, "leaseInterval": 0.15, "leaseTime": 5.0}


class RedisCase(TestCase):
    """Has a server, and engines that are stopped in the end."""

    skip = SKIP
    timeout = 20
    more: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.server = RedisServer(*self.more)
        self.addCleanup(self.server.remove)
        self.server.start()

    def begin(
        self, endpoint: str | None = None, listening: Listening | None = None, **settings: Any
    ) -> tuple[RedisEngine, Listening]:
        """Start an engine."""
        engine = RedisEngine(endpoint or self.server.endpoint, **{**FAST, **settings})
        user = listening or Listening()
        engine.start(reactor, user)
        self.addCleanup(engine.stop)
        return engine, user

    async def two(self, *names: str, **settings: Any) -> tuple[RedisEngine, Listening, RedisEngine, Listening]:
        """Two engines that have subscribed to these groups."""
        one, first = self.begin(**settings)
        other, second = self.begin(**settings)
        await gatherResults([first.when("up"), second.when("up")])
        await gatherResults([each.subscribe(name) for each in (one, other) for name in names])
        return one, first, other, second


class PublishingTests(RedisCase):
    async def test_oneOrderForAll(self) -> None:
        """Two processes publish at once: both get all of it in one order, numbered without a hole."""
        one, first, other, second = await self.two("a")
        sent = []
        for number in range(100):
            sent.append(one.publish("a", Publication(f"one {number}"), KEPT))
            sent.append(other.publish("a", Publication(f"other {number}"), KEPT))
        positions = await gatherResults(sent)
        await second.whenTrue(lambda: len(second.publications) == 200)
        await first.whenTrue(lambda: len(first.publications) == 200)
        self.assertEqual([each.pkg for each in first.publications], [each.pkg for each in second.publications])
        self.assertEqual([each.position.offset for each in first.publications], list(range(1, 201)))
        self.assertEqual(sorted(each.offset for each in positions), list(range(1, 201)))
        self.assertEqual(len({each.position.epoch for each in first.publications}), 1)
        mine = [each.pkg for each in first.publications if each.pkg.startswith("one")]
        self.assertEqual(mine, [f"one {number}" for number in range(100)])
        self.assertNotIn(("missed", "a"), first.said + second.said)

    async def test_comesBackBeforeTheAnswer(self) -> None:
        """The Deferred fires behind publicationArrived, also if subscribe was called just before."""
        engine, user = self.begin()
        await user.when("up")
        order: list[str] = []
        engine.subscribe("a")
        for retention in (KEPT, NONE):
            done = engine.publish("a", Publication("x"), retention)
            done.addCallback(lambda _: order.append(f"answer behind {len(user.publications)}"))
            await done
        self.assertEqual(order, ["answer behind 1", "answer behind 2"])

    async def test_whatComesIsWhatWasPublished(self) -> None:
        """Packages, keys, kinds; ``publisher`` is known in its own process only."""
        one, first, _other, second = await self.two("a")
        await one.publish("a", Publication({"ä": [1, None]}, key="ké|y", publisher=7), KEPT)
        await one.publish("a", Publication(b"|\r\n\0"), NONE)
        await one.publish("a", Publication("member-1", kind=EXCLUSIVE), KEPT)
        await one.publish("a", Publication({"reason": "x"}, kind=CLOSE), KEPT)
        await second.whenTrue(lambda: len(second.publications) == 4)
        for user, publisher in ((first, 7), (second, 0)):
            kinds = [(each.pkg, each.key, each.kind, each.publisher, each.size) for each in user.publications]
            self.assertEqual(kinds[0], ({"ä": [1, None]}, "ké|y", 0, publisher, 15))
            self.assertEqual(kinds[1], (b"|\r\n\0", None, 0, 0, 4))
            self.assertEqual(kinds[2][:3], ("member-1", None, EXCLUSIVE))
            self.assertEqual(kinds[3][:3], ({"reason": "x"}, None, CLOSE))
            numbered = [each.position is not None for each in user.publications]
            self.assertEqual(numbered, [True, False, False, False])

    async def test_idempotent(self) -> None:
        """With the same id it is published once, numbered or not."""
        one, first, other, _second = await self.two("a")
        for retention in (KEPT, NONE):
            answers = [await one.publish("a", Publication("x"), retention, "1")]
            answers.append(await other.publish("a", Publication("x"), retention, "1"))
            answers += await gatherResults([other.publish("a", Publication("x"), retention, "1") for _ in range(3)])
            self.assertEqual(len(set(answers)), 1)
            self.server.call("DEL", f"getty:{{{partitionOf('a')}}}.i:a 1")
        await one.publish("a", Publication("end"), KEPT)
        self.assertEqual([each.pkg for each in first.publications], ["x", "x", "end"])

    async def test_unsubscribe(self) -> None:
        """What is published behind it does not come; what was published before is answered."""
        one, first, _other, _second = await self.two("a")
        done = one.publish("a", Publication(1), KEPT)
        one.unsubscribe("a")
        await done
        await one.publish("a", Publication(2), KEPT)
        self.assertEqual(first.publications, [])
        await one.subscribe("a")
        await one.publish("a", Publication(3), KEPT)
        self.assertEqual([each.pkg for each in first.publications], [3])
        self.assertEqual(self.server.call("PUBSUB", "NUMSUB", f"getty:{{{partitionOf('a')}}}:a")[1], 2)

    async def test_subscribeAgain(self) -> None:
        """Within one turn, and with publications between."""
        engine, user = self.begin()
        await user.when("up")
        sent = []
        for number in range(3):
            done = engine.subscribe("a")
            sent.append(engine.publish("a", Publication(number), KEPT))
            engine.unsubscribe("a")
            await done
            engine.subscribe("a")
            engine.unsubscribe("a")
            await engine.subscribe("a")
            engine.unsubscribe("a")
        await gatherResults(sent)
        await engine.subscribe("a")
        engine.unsubscribe("a")
        await engine.subscribe("a")
        await engine.publish("a", Publication("end"), KEPT)
        self.assertEqual(user.publications[-1].pkg, "end")
        self.assertEqual(engine.garbage, 0)

    async def test_scriptsForgotten(self) -> None:
        """Scripts that Redis has forgotten are sent again."""
        one, first, other, _second = await self.two("a")
        self.server.call("SCRIPT", "FLUSH")
        await gatherResults([one.publish("a", Publication(number), KEPT) for number in range(10)])
        self.server.call("SCRIPT", "FLUSH")
        self.assertEqual(len((await other.history("a", None, 100, KEPT)).publications), 10)
        self.assertEqual([each.pkg for each in first.publications], list(range(10)))

    async def test_otherPrograms(self) -> None:
        """They publish in the documented envelope. What is none is skipped, counted, and named once."""
        engine, user = self.begin(prefix="app")
        await user.when("up")
        await engine.subscribe("chat:42")
        channel = f"app:{{{partitionOf('chat:42')}}}:chat:42"
        self.assertEqual(self.server.call("PUBSUB", "CHANNELS", "app:{*}:chat:42"), [channel.encode()])
        for garbage in ("", "hello", "G2||||||||jx", "G1||||||||j{", "G1|e|-1||||||sx", "G1|||||9|||s", "M1|[]"):
            self.server.call("PUBLISH", channel, garbage)
        self.server.call("PUBLISH", channel, 'G1||||||||j{"text":"hello"}')
        await user.whenTrue(lambda: user.publications)
        self.assertEqual(user.publications[0].pkg, {"text": "hello"})
        self.assertEqual((engine.garbage, len(user.said)), (7, 2))

    async def test_refused(self) -> None:
        """What is too long, or cannot be said, is refused alone."""
        engine, user = self.begin()
        await user.when("up")
        await self.assertFailure(engine.publish("a", Publication(bytes(1 << 24)), KEPT), PublicationTooLongError)
        await self.assertFailure(engine.publish("a", Publication(object()), KEPT), GroupError)
        await self.assertFailure(engine.publish("a", Publication("\ud800"), KEPT), GroupError)
        self.assertEqual((await engine.publish("a", Publication(1), KEPT)).offset, 1)

    async def test_memory(self) -> None:
        """What Redis refuses is an error that says why, and the next may succeed."""
        engine, user = self.begin()
        await user.when("up")
        self.server.call("CONFIG", "SET", "maxmemory", "1")
        error = await self.assertFailure(engine.publish("a", Publication(1), KEPT), GroupError)
        self.assertIn("OOM", str(error))
        self.server.call("CONFIG", "SET", "maxmemory", "0")
        self.assertEqual((await engine.publish("a", Publication(1), KEPT)).offset, 1)

    async def test_stop(self) -> None:
        """Whatever waits ends with it, and nothing is heard from then on."""
        engine, user = self.begin()
        await user.when("up")
        await engine.subscribe("a")
        waiting = [engine.publish("a", Publication(1), KEPT), engine.subscribe("b"), engine.history("a", None, 1, KEPT)]
        said = list(user.said)
        await engine.stop()
        for each in waiting:
            each.addErrback(lambda failure: failure.trap(EngineDownError) and None)
            self.assertTrue(each.called)
        await self.assertFailure(engine.publish("a", Publication(1), KEPT), EngineDownError)
        self.assertEqual(user.said, said)
        engine.start(reactor, user)
        await user.when("up", 2)
        self.assertEqual((await engine.publish("a", Publication(2), KEPT)).offset, 2)


class HistoryTests(RedisCase):
    async def test_wholeOrNot(self) -> None:
        """Each case of what may be asked for."""
        engine, user = self.begin()
        await user.when("up")
        empty = await engine.history("a", None, 10, KEPT)
        self.assertEqual((empty.position.offset, list(empty.publications), empty.isWhole), (0, [], True))
        epoch = empty.position.epoch
        for number in range(1, 8):
            await engine.publish("a", Publication(number), Retention(5, 60.0))
        table = [
            (None, 3, [5, 6, 7], True),
            (None, 0, [], True),
            (None, 100, [3, 4, 5, 6, 7], True),
            (Position(epoch, 7), 10, [], True),
            (Position(epoch, 7), 0, [], True),
            (Position(epoch, 4), 10, [5, 6, 7], True),
            (Position(epoch, 2), 10, [3, 4, 5, 6, 7], True),
            (Position(epoch, 2), 5, [3, 4, 5, 6, 7], True),
            (Position(epoch, 2), 4, [3, 4, 5, 6], False),
            (Position(epoch, 1), 10, [], False),
            (Position(epoch, 0), 10, [], False),
            (Position(epoch, 8), 10, [], False),
            (Position("other", 7), 10, [], False),
            (Position("", 0), 10, [], False),
        ]
        for since, limit, packages, isWhole in table:
            found = await engine.history("a", since, limit, KEPT)
            self.assertEqual(found.position, Position(epoch, 7))
            self.assertEqual(([each.pkg for each in found.publications], found.isWhole), (packages, isWhole), since)
            if packages:
                self.assertEqual(found.publications[0].position, Position(epoch, packages[0]))

    async def test_severalAtOnce(self) -> None:
        """Publications of one turn: each is numbered and kept, and no more than are to be kept."""
        one, first, other, second = await self.two("a")
        kept = Retention(5, 60.0)
        positions = await gatherResults([one.publish("a", Publication(number), kept) for number in range(1, 201)])
        self.assertEqual([each.offset for each in positions], list(range(1, 201)))
        await second.whenTrue(lambda: len(second.publications) == 200)
        for user in (first, second):
            self.assertEqual([each.pkg for each in user.publications], list(range(1, 201)))
            self.assertEqual([each.position for each in user.publications], positions)
        found = await other.history("a", None, 100, kept)
        self.assertEqual([each.pkg for each in found.publications], [196, 197, 198, 199, 200])
        self.assertEqual(found.position, positions[-1])

    async def test_withoutHistory(self) -> None:
        """There is nothing to ask for."""
        engine, user = self.begin()
        await user.when("up")
        found = await engine.history("a", None, 10, NONE)
        self.assertEqual((found.publications, found.isWhole), ((), True))
        self.assertFalse((await engine.history("a", Position("x", 1), 10, NONE)).isWhole)

    async def test_forgotten(self) -> None:
        """After its time it is gone, and the numbers go on."""
        engine, user = self.begin()
        await user.when("up")
        short = Retention(5, 0.03)
        position = await engine.publish("a", Publication(1), short)
        await engine.publish("a", Publication(2), short)
        await deferLater(reactor, 0.06)
        self.assertFalse((await engine.history("a", position, 10, short)).isWhole)
        self.assertEqual((await engine.publish("a", Publication(3), short)).offset, 3)

    async def test_large(self) -> None:
        """An answer has 8 MiB at most: what is left out makes it not whole."""
        engine, user = self.begin(timeout=5.0)
        await user.when("up")
        first = await engine.publish("a", Publication(1), KEPT)
        large = bytes(3 << 20)
        for _ in range(3):
            await engine.publish("a", Publication(large), KEPT)
        found = await engine.history("a", first, 100, KEPT)
        self.assertEqual((len(found.publications), found.isWhole), (2, False))
        newest = await engine.history("a", None, 100, KEPT)
        self.assertEqual([each.position.offset for each in newest.publications], [3, 4])


class PresenceTests(RedisCase):
    async def test_comeAndGo(self) -> None:
        """Members of all processes, those of one turn told together."""
        one, first, other, second = await self.two("a")
        for number in range(3):
            one.present("a", Member(f"m{number}", "ü", {"n": number}))
        one.present("a", Member("brief"))
        one.absent("a", "brief")
        other.present("a", Member("o"))
        for user in (first, second):
            await user.when(("members", "a", ["m0", "m1", "m2"], []))
            await user.when(("members", "a", ["o"], []))
        for engine in (one, other):
            members = await engine.presence("a", 100)
            self.assertEqual(sorted(each.key for each in members), ["m0", "m1", "m2", "o"])
            self.assertEqual(len(await engine.presence("a", 2)), 2)
            self.assertEqual(await engine.counts(["a", "b"]), {"a": 4, "b": 0})
        found = {each.key: each for each in members}
        self.assertEqual(found["m1"], Member("m1", "ü", {"n": 1}))
        one.present("a", Member("m1", "ü", {"n": "changed"}))
        one.absent("a", "m0")
        await second.when(("members", "a", [], ["m0"]))
        found = {each.key: each for each in await other.presence("a", 100)}
        self.assertEqual(found["m1"].info, {"n": "changed"})

    async def test_many(self) -> None:
        """Members go in portions."""
        one, _first, other, second = await self.two("a")
        for number in range(1200):
            one.present("a", Member(f"{number}"))
        await second.whenTrue(lambda: sum(len(each[2]) for each in second.said if each[0] == "members") == 1200)
        self.assertEqual(await other.counts(["a"]), {"a": 1200})
        self.assertEqual(len(await other.presence("a", 5000)), 1200)

    async def test_stop(self) -> None:
        """A process that ends takes its members with it, and leaves no key behind."""
        one, first, other, second = await self.two("a")
        one.present("a", Member("m"))
        await second.when(("members", "a", ["m"], []))
        said = list(first.said)
        await one.stop()
        await second.when(("members", "a", [], ["m"]))
        self.assertEqual(await other.counts(["a"]), {"a": 0})
        self.assertEqual(first.said, said)
        keys = self.server.call("KEYS", "*")
        self.assertEqual(sorted(keys), [b"getty:{nodes}.live", b"getty:{nodes}.state"])

    async def test_wrongInfo(self) -> None:
        """What JSON cannot say is refused at once."""
        engine, _user = self.begin()
        self.assertRaises(GroupError, engine.present, "a", Member("m", None, {"x": object()}))


class AccessTests(RedisCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.call("ACL", "SETUSER", "u", "on", ">p", "~app:*", "&app:*", "+@all")
        self.server.call("ACL", "SETUSER", "v", "on", ">p", "~*", "resetchannels", "+@all")
        self.server.call("CONFIG", "SET", "requirepass", "secret")

    async def test_wrongPassword(self) -> None:
        """The reason is told, without the password."""
        for settings in ({}, {"password": "wrong"}, {"user": "u", "password": "wrong"}):
            engine, user = self.begin(**settings)
            await user.when("down")
            self.assertRegex(str(user.error), "NOAUTH|WRONGPASS")
            self.assertNotIn("wrong'", str(user.error))
            self.assertFalse(engine.isUp)
            await self.assertFailure(engine.publish("a", Publication(1), KEPT), EngineDownError)
        self.flushLoggedErrors()

    async def test_user(self) -> None:
        """A user who may use one prefix is enough."""
        engine, user = self.begin(user="u", password="p", prefix="app")
        await user.when("up")
        await engine.subscribe("a")
        engine.present("a", Member("m"))
        await engine.publish("a", Publication(1), KEPT)
        self.assertEqual(await engine.counts(["a"]), {"a": 1})

    async def test_channelNotAllowed(self) -> None:
        """A subscription that is refused is an error, and all else goes on."""
        engine, user = self.begin(user="v", password="p")
        await user.when("up")
        tried = [engine.subscribe("a"), engine.subscribe("b")]
        for each in tried:
            error = await self.assertFailure(each, GroupError)
            self.assertIn("NOPERM", str(error))
        self.assertTrue(engine.isUp)
        self.assertEqual((await engine.history("a", None, 0, KEPT)).position.offset, 0)
