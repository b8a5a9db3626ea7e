"""
Engines of Redis in random trouble: whatever happens, what each process is told is in order, each once, without a hole
that was not told, and in the end nobody is deaf.
"""

from __future__ import annotations

import signal
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from getty_tx.groups import EngineDownError, EngineTimeoutError, Publication, Retention
from tests.groups.test_redis_real import RedisCase
from tests.support.redisserver import Listening, reactor

KEPT = Retention(100_000, 600.0)
NONE = Retention()
NAMES = ("a", "b", "c")


class Checking(Listening):
    """Checks each publication of a group with numbers when it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Any] = {}
        self.excused: set[str] = set()
        self.wrong: list[str] = []
        self.plain: dict[tuple[str, str], int] = {}

    def publicationArrived(self, name: str, publication: Any) -> None:
        position = publication.position
        if position is not None:
            last = self.last.get(name)
            follows = last is None or (position.epoch == last.epoch and position.offset == last.offset + 1)
            if not follows and name not in self.excused:
                self.wrong.append(f"{name}: {position} behind {last}")
            self.last[name] = position
            self.excused.discard(name)
        else:
            # Without numbers there may be holes, but the order of each publisher holds.
            publisher, number = publication.pkg.split()
            if int(number) <= self.plain.get((name, publisher), -1):
                self.wrong.append(f"{name}: {publication.pkg} again")
            self.plain[name, publisher] = int(number)
        self.publications.append(publication)
        self._fire()

    def publicationsMissed(self, name: str) -> None:
        self.excused.add(name)

    def subscribes(self, name: str) -> None:
        """What has come before it does not count."""
        self.last.pop(name, None)
        self.excused.add(name)


class RandomTests(RedisCase):
    seeds = (1, 2, 3, 4)
    steps = 150

    async def test_trouble(self) -> None:
        for seed in self.seeds:
            await self.run_(Random(seed))

    async def run_(self, random: Random) -> None:
        pairs = []
        for _ in range(3):
            checking = Checking()
            engine, _ = self.begin(listening=checking, reconnectInterval=0.01)
            await checking.when("up")
            pairs.append((engine, checking))
        wanted: list[set[str]] = [set(), set(), set()]
        waiting: list[Deferred[Any]] = []
        number = 0
        for _ in range(self.steps):
            index = random.randrange(3)
            engine, user = pairs[index]
            name = random.choice(NAMES)
            what = random.random()
            if what < 0.2:
                if name not in wanted[index]:
                    user.subscribes(name)
                wanted[index].add(name)
                waiting.append(engine.subscribe(name))
            elif what < 0.3:
                wanted[index].discard(name)
                engine.unsubscribe(name)
            elif what < 0.65:
                for _ in range(random.randrange(1, 4)):
                    number += 1
                    retention = random.choice((KEPT, NONE))
                    id = random.choice((None, None, str(random.randrange(50))))
                    waiting.append(engine.publish(name, Publication(f"{index} {number}"), retention, id))
            elif what < 0.68:
                self.server.cut(*random.choice(((), (f"getty-{engine.node}",))))
            elif what < 0.71:
                self.server.call("FLUSHALL")
            elif what < 0.72:
                self.server.signal(signal.SIGSTOP)
                await deferLater(reactor, random.choice((0.01, 0.01, 0.6)))
                self.server.signal(signal.SIGCONT)
            elif what < 0.75:
                await self.allUp(pairs)
            else:
                await deferLater(reactor, random.choice((0, 0, 0.002, 0.01)))
        await self.settle(pairs, wanted, waiting)

    async def allUp(self, pairs: Any) -> None:
        """Wait until no engine is down."""
        while not all(engine.isUp for engine, _ in pairs):
            await deferLater(reactor, 0.005)

    async def settle(self, pairs: Any, wanted: Any, waiting: list[Deferred[Any]]) -> None:
        """In the end all is up, all Deferreds have fired, and everybody gets what is published."""
        for each in waiting:
            each.addErrback(lambda failure: failure.trap(EngineDownError, EngineTimeoutError) and None)
        await gatherResults(waiting)
        await self.allUp(pairs)
        for (engine, user), names in zip(pairs, wanted, strict=True):
            for name in NAMES:
                if name not in names:
                    user.subscribes(name)
                await engine.subscribe(name)
        for name in NAMES:
            for engine, _ in pairs:
                top = await engine.publish(name, Publication("end 0"), KEPT)
            for engine, user in pairs:
                await user.whenTrue(lambda user=user, name=name, top=top: user.last.get(name) == top)
                self.assertEqual((await engine.history(name, None, 0, KEPT)).position, top)
        for engine, user in pairs:
            self.assertEqual(user.wrong, [])
            self.assertEqual(engine.garbage, 0)
            await engine.stop()
