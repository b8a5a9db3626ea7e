"""
The engine of Redis when things fail: after each of them all positions fit, and no process stays deaf.
"""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from getty_tx.groups import EngineDownError, EngineTimeoutError, Member, Publication
from getty_tx.groups.redis.layout import partitionOf
from tests.groups.test_redis_real import KEPT, NONE, RedisCase
from tests.support.redisserver import Relay, reactor

if TYPE_CHECKING:
    from getty_tx.groups.redis import RedisEngine
    from tests.support.redisserver import Listening


class OutageCase(RedisCase):
    async def checkAll(self, *pairs: tuple[RedisEngine, Listening], name: str = "a") -> None:
        """
        Nobody is deaf, and what each has got, together with the history where it was told that it has missed
        something, is what was published.
        """
        channel = f"getty:{{{partitionOf(name)}}}:{name}"
        while self.server.call("PUBSUB", "NUMSUB", channel)[1] != len(pairs):
            # Redis has not seen the end of a connection yet.
            await deferLater(reactor, 0.01)
        for number, (engine, _) in enumerate(pairs):
            await engine.publish(name, Publication(f"last {number}"), KEPT)
        last = f"last {len(pairs) - 1}"
        for engine, user in pairs:
            await user.whenTrue(lambda user=user: user.publications and user.publications[-1].pkg == last)
            found = await engine.history(name, None, 1000, KEPT)
            kept = {each.position: each.pkg for each in found.publications}
            own = [each for each in user.publications if each.position and each.position.epoch == found.position.epoch]
            self.assertEqual(own[-1].position, found.position)
            offsets = [each.position.offset for each in own]
            self.assertEqual(offsets, sorted(set(offsets)))
            holes = len([1 for one, two in itertools.pairwise(offsets) if two != one + 1])
            self.assertLessEqual(holes, user.count(("missed", name)))
            for each in own:
                self.assertEqual(kept.get(each.position, each.pkg), each.pkg)
            self.assertEqual(user.count("up"), user.count("down") + 1 - (user.said[0] == "down"))

    async def both(self, **settings: Any) -> tuple[Any, ...]:
        """Two engines, some publications."""
        one, first, other, second = await self.two("a", **settings)
        for number in range(3):
            await one.publish("a", Publication(number), KEPT)
        await second.whenTrue(lambda: len(second.publications) == 3)
        return one, first, other, second


class ServerTests(OutageCase):
    async def test_killed(self) -> None:
        """Publishing fails loudly; behind the restart, at the same place, all is numbered anew."""
        one, first, other, second = await self.both()
        self.server.kill()
        unknown = one.publish("a", Publication("unknown"), KEPT)
        await self.assertFailure(unknown, EngineTimeoutError, EngineDownError)
        await gatherResults([first.when("down"), second.when("down")])
        for retention in (KEPT, NONE):
            failure = self.failureResultOf(one.publish("a", Publication(1), retention), EngineDownError)
        self.assertIn("Redis at unix:", str(failure.value))
        for done in (one.history("a", None, 1, KEPT), one.presence("a", 1), one.counts(["a"]), one.subscribe("b")):
            self.failureResultOf(done, EngineDownError)
        self.server.start()
        for user in (first, second):
            await user.when("up", 2)
            await user.when(("missed", "a"))
        await self.checkAll((one, first), (other, second))
        await other.publish("b", Publication("wanted all the time"), NONE)
        await first.when(("arrived", "b", "wanted all the time"))

    async def test_hangs(self) -> None:
        """It is found; what was asked is unknown, and safe to repeat with its id."""
        one, first, other, second = await self.both()
        self.server.signal(signal.SIGSTOP)
        done = one.publish("a", Publication("x"), KEPT, id="x")
        await self.assertFailure(done, EngineTimeoutError)
        await gatherResults([first.when("down"), second.when("down")])
        self.server.signal(signal.SIGCONT)
        await gatherResults([first.when("up", 2), second.when("up", 2)])
        await one.publish("a", Publication("x"), KEPT, id="x")
        found = await other.history("a", None, 100, KEPT)
        self.assertEqual([each.pkg for each in found.publications], [0, 1, 2, "x"])
        await self.checkAll((one, first), (other, second))

    async def test_hangsShortly(self) -> None:
        """Nothing happens but a delay."""
        one, first, other, second = await self.both()
        self.server.signal(signal.SIGSTOP)
        done = gatherResults([one.publish("a", Publication(number), KEPT) for number in range(10)])
        await deferLater(reactor, 0.2)
        self.server.signal(signal.SIGCONT)
        await done
        await self.checkAll((one, first), (other, second))
        self.assertNotIn("down", first.said + second.said)
        self.assertNotIn(("missed", "a"), first.said + second.said)

    async def test_flushed(self) -> None:
        """All data is deleted: the next publication has another epoch, and is announced."""
        one, first, other, second = await self.both()
        epoch = first.publications[-1].position.epoch
        self.server.call("FLUSHALL")
        position = await one.publish("a", Publication("new"), KEPT)
        self.assertEqual(position.offset, 1)
        self.assertNotEqual(position.epoch, epoch)
        await second.when(("arrived", "a", "new"))
        for user in (first, second):
            self.assertEqual(user.said[-2:], [("missed", "a"), ("arrived", "a", "new")])
        self.server.call("FLUSHALL")
        found = await other.history("a", None, 1, KEPT)
        self.assertEqual((found.position.offset, second.said[-1]), (0, ("missed", "a")))
        await self.checkAll((one, first), (other, second))

    async def test_numbersGoBack(self) -> None:
        """A replica without the last publications has taken over: no number is given twice."""
        one, first, other, second = await self.both()
        self.server.call("HSET", f"getty:{{{partitionOf('a')}}}.m:a", "o", 2)
        self.server.cut()
        await gatherResults([first.when("up", 2), second.when("up", 2)])
        self.assertEqual((first.count(("missed", "a")), second.count(("missed", "a"))), (1, 1))
        position = await one.publish("a", Publication("new"), KEPT)
        self.assertEqual(position.offset, 1)
        self.assertNotEqual(position.epoch, first.publications[0].position.epoch)
        await self.checkAll((one, first), (other, second))

    async def test_replica(self) -> None:
        """A server that takes no publications any more is left, and taken again when it does."""
        one, first, other, second = await self.both()
        self.server.call("REPLICAOF", "127.0.0.1", "1")
        await self.assertFailure(one.publish("a", Publication(1), KEPT), EngineDownError)
        await first.when("down")
        while "is a replica" not in str(one.lastError):
            await deferLater(reactor, 0.01)
        self.server.call("REPLICAOF", "NO", "ONE")
        await first.when("up", 2)
        await self.checkAll((one, first), (other, second))

    async def test_awayAtFirst(self) -> None:
        """The reason is told, and when it comes all is well."""
        self.server.kill()
        engine, user = self.begin()
        await user.when("down")
        self.assertIn("No such file", str(user.error).replace("Connection refused", "No such file"))
        await self.assertFailure(engine.subscribe("a"), EngineDownError)
        self.server.start()
        await user.when("up")
        await self.checkAll((engine, user))
        self.assertEqual(user.said[:2], ["down", "up"])


class ConnectionTests(OutageCase):
    async def test_cutWithoutLoss(self) -> None:
        """Nothing was published meanwhile: nobody is told to look for anything; a group without history is."""
        one, first, other, second = await self.two("a", "plain")
        await one.publish("a", Publication(1), KEPT)
        self.server.cut()
        await gatherResults([first.when("up", 2), second.when("up", 2)])
        for user in (first, second):
            self.assertEqual((user.count(("missed", "a")), user.count(("missed", "plain"))), (0, 1))
        await self.checkAll((one, first), (other, second))

    async def test_cutWithLoss(self) -> None:
        """What was published meanwhile is in the history, behind what was known."""
        one, first, other, second = await self.both(reconnectInterval=0.1)
        self.server.cut(f"getty-{one.node}")
        await first.when("down")
        for number in range(3, 6):
            await other.publish("a", Publication(number), KEPT)
        await first.when("up", 2)
        self.assertEqual(first.said[-1], ("missed", "a"))
        found = await one.history("a", first.publications[-1].position, 100, KEPT)
        self.assertEqual(([each.pkg for each in found.publications], found.isWhole), ([3, 4, 5], True))
        self.assertEqual(second.count(("missed", "a")), 0)
        await self.checkAll((one, first), (other, second))

    async def test_publishedWhileItComesBack(self) -> None:
        """One publishes all the time while the other is cut off again and again."""
        one, first, other, second = await self.both(reconnectInterval=0.01)
        number = 3

        async def publish() -> None:
            nonlocal number
            for _ in range(20):
                await other.publish("a", Publication(number), KEPT)
                number += 1

        for times in range(2, 6):
            self.server.cut(f"getty-{one.node}")
            await publish()
            await first.when("up", times)
            await publish()
        await self.checkAll((one, first), (other, second))
        found = await one.history("a", None, 1000, KEPT)
        self.assertEqual([each.pkg for each in found.publications[:-2]], list(range(number)))

    async def test_tooSlow(self) -> None:
        """Redis cuts off who does not read; it comes back and finds what it has missed."""
        self.server.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 1")
        relay = Relay(self.server)
        relay.start()
        self.addCleanup(relay.stop)
        one, first = self.begin(timeout=5.0)
        slow, second = self.begin(relay.endpoint, timeout=5.0)
        await gatherResults([first.when("up"), second.when("up")])
        await gatherResults([one.subscribe("a"), slow.subscribe("a")])
        position = await one.publish("a", Publication("first"), KEPT)
        await second.whenTrue(lambda: second.publications)
        relay.stopReading()
        for _ in range(60):
            await one.publish("a", Publication(bytes(100_000)), KEPT)
        relay.startReading()
        await second.when("up", 2)
        self.assertGreaterEqual(second.count(("missed", "a")), 1)
        self.server.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
        self.assertTrue((await slow.history("a", position, 100, KEPT)).isWhole)
        await self.checkAll((one, first), (slow, second))

    async def test_cableCut(self) -> None:
        """Nothing says that the connection is dead: pings find it. Members of that process leave, and come back."""
        relay = Relay(self.server)
        relay.start()
        self.addCleanup(relay.stop)
        one, first = self.begin(leaseTime=1.0)
        cut, second = self.begin(relay.endpoint, leaseTime=1.0)
        await gatherResults([first.when("up"), second.when("up")])
        await gatherResults([one.subscribe("a"), cut.subscribe("a")])
        cut.present("a", Member("m"))
        await first.when(("members", "a", ["m"], []))
        await one.publish("a", Publication(1), KEPT)
        await second.whenTrue(lambda: second.publications)
        relay.die()
        await second.when("down")
        await one.publish("a", Publication(2), KEPT)
        await first.when(("members", "a", [], ["m"]))
        self.assertEqual(await one.counts(["a"]), {"a": 0})
        cut.present("a", Member("joined meanwhile"))
        relay.heal()
        await second.when("up", 2)
        self.assertEqual(second.said[second.said.index("up", 3) :][:2], ["up", ("missed", "a")])
        await first.when(("members", "a", ["joined meanwhile", "m"], []))
        self.assertEqual(await one.counts(["a"]), {"a": 2})
        relay.dropDead()
        await self.checkAll((one, first), (cut, second))

    async def test_manySubscriptions(self) -> None:
        """They are sent in portions; ``engineUp`` comes when Redis has all of them."""
        engine, user = self.begin()
        await user.when("up")
        names = [f"group-{number}" for number in range(1500)]
        await gatherResults([engine.subscribe(name) for name in names])
        self.server.call("CONFIG", "RESETSTAT")
        self.server.cut()
        await user.when("up", 2)
        stats = self.server.call("INFO", "commandstats").decode()
        self.assertIn("cmdstat_subscribe:calls=3,", stats)
        channels = [f"getty:{{{partitionOf(name)}}}:{name}" for name in names]
        self.assertEqual(self.server.call("PUBSUB", "NUMSUB", *channels)[1::2], [1] * 1500)


class PresenceTests(OutageCase):
    async def test_redisAway(self) -> None:
        """It comes back without data: presence is right again, and nobody is told that members came who were there."""
        one, first, other, second = await self.both()
        one.present("a", Member("stays"))
        one.present("a", Member("goes"))
        await second.when(("members", "a", ["goes", "stays"], []))
        # Once this is answered, that they were told is known.
        await one.counts(["a"])
        self.server.kill()
        await gatherResults([first.when("down"), second.when("down")])
        one.present("a", Member("comes"))
        one.absent("a", "goes")
        self.server.start()
        await gatherResults([first.when("up", 2), second.when("up", 2)])
        await first.whenTrue(lambda: first.said[-1][0] == "members")
        self.assertEqual(first.said[-1], ("members", "a", ["comes"], ["goes"]))
        self.assertEqual(sorted(each.key for each in await other.presence("a", 10)), ["comes", "stays"])

    async def test_flushed(self) -> None:
        """All data is deleted while everybody is connected: it is there again soon, and nobody is told."""
        one, first, other, second = await self.both()
        one.present("a", Member("1"))
        await second.when(("members", "a", ["1"], []))
        self.server.call("FLUSHALL")
        while await other.counts(["a"]) != {"a": 1}:
            await deferLater(reactor, 0.02)
        self.assertEqual(len([said for said in first.said + second.said if said[0] == "members"]), 2)

    async def test_redisHangs(self) -> None:
        """Longer than a lease: nobody could renew one, and nobody is taken for dead."""
        one, first, other, second = await self.both(timeout=5.0, leaseTime=1.0)
        one.present("a", Member("1"))
        other.present("a", Member("2"))
        await gatherResults([user.when(("members", "a", [key], [])) for user in (first, second) for key in "12"])
        self.server.signal(signal.SIGSTOP)
        await deferLater(reactor, 1.2)
        self.server.signal(signal.SIGCONT)
        await deferLater(reactor, 0.3)
        self.assertEqual(await one.counts(["a"]), {"a": 2})
        self.assertEqual(len([said for said in first.said + second.said if said[0] == "members"]), 4)


class AppendOnlyTests(OutageCase):
    # Each command is in the file before it is answered. By default Redis waits with writing while the disk is busy.
    more = ("--appendonly", "yes", "--appendfsync", "always")

    async def test_killed(self) -> None:
        """With a file of its commands a restart costs nothing but the time."""
        one, first, other, second = await self.both()
        await gatherResults([other.publish("a", Publication(number), KEPT) for number in range(3, 6)])
        await first.whenTrue(lambda: len(first.publications) == 6)
        self.server.kill()
        await gatherResults([first.when("down"), second.when("down")])
        self.server.start()
        await gatherResults([first.when("up", 2), second.when("up", 2)])
        self.assertEqual((await one.publish("a", Publication(6), KEPT)).offset, 7)
        self.assertNotIn(("missed", "a"), first.said + second.said)
        await self.checkAll((one, first), (other, second))
