"""Groups over the hub: members of several processes, and random programs."""

from __future__ import annotations

import random
from typing import Any

from getty_tx.groups import Groups, Namespace, Position, Publication
from getty_tx.groups.hub.engine import HubEngine
from getty_tx.testing import Network
from tests.support.groups import GroupsCase
from tests.support.hub import KEPT, HubCase, User
from tests.support.long import examples

SPACE = {"": Namespace(historySize=200, historySeconds=60, presence=True, maxWaiting=1 << 26)}


class MembersTests(HubCase):
    """Groups of two processes, with members."""

    # The sessions of a GroupsCase, which has one process.
    newSession = GroupsCase.newSession
    newClientSession = GroupsCase.newClientSession
    session = GroupsCase.session
    got = GroupsCase.got

    def setUp(self) -> None:
        super().setUp()
        self.network = Network(capacity=1 << 24)
        self.server = self.network.serverFactory(self.newSession)  # type: ignore[arg-type]
        self.client = self.network.clientFactory(self.newClientSession)  # type: ignore[arg-type]
        self.pairs: list[Any] = []
        self.listeners: list[Any] = []

    def process(self) -> tuple[Groups, HubEngine]:
        """One that has groups."""
        theirs, spoke = self.pair()
        engine = HubEngine(theirs)
        self.spokes[engine] = spoke
        groups = Groups(engine, SPACE, reactor=self.clock)
        groups.startService()
        self.addCleanup(groups.stopService)
        return groups, engine

    def join(self, groups: Groups, since: Position | None = None) -> tuple[Any, Any]:
        """A session that has joined."""
        session = self.session()  # type: ignore[misc]
        joined = groups.group("room").join(session, user="u", since=since)
        self.go()
        return session, self.successResultOf(joined)

    def go(self, turns: int = 10) -> None:
        """Let all arrive."""
        self.clock.pump(turns)
        for pair in self.pairs:
            pair.flush()

    def publish(self, groups: Groups, first: int, count: int) -> None:
        """Publish numbers, each with 100 KB."""
        for number in range(first, first + count):
            groups.group("room").publish(b"%d " % number + bytes(100_000))
            self.go(3)
        self.go(20)

    def numbers(self, session: Any) -> list[int]:
        """What a member has got."""
        return [int(pkg.split()[0]) for pkg in self.got(session)]  # type: ignore[misc]

    def test_slowProcess(self) -> None:
        """Members of a process that did not read for a while get all, from the history, in order."""
        (one, _), (other, slow) = self.process(), self.process()
        members = [self.join(groups)[0] for groups in (one, other, other)]
        self.stop(slow)
        self.publish(one, 0, 70)
        self.assertGreater(self.hub.dropped, 0)
        self.assertEqual(self.numbers(members[0]), list(range(70)))
        self.goOn(slow)
        self.go(300)
        self.publish(one, 70, 2)
        self.go(300)
        for member in members:
            self.assertEqual(self.numbers(member), list(range(72)))

    def test_killed(self) -> None:
        """The members of a process that is killed resume in another one."""
        (one, _), (other, engine) = self.process(), self.process()
        stays, joined = self.join(one)
        self.join(other)
        self.publish(one, 0, 3)
        self.spokes[engine].link.close()
        self.publish(one, 3, 3)
        back, again = self.join(one, Position(joined.position.epoch, 3))
        self.assertEqual((again.recovered, again.missed), (True, 3))
        self.publish(one, 6, 1)
        self.assertEqual((self.numbers(stays), self.numbers(back)), (list(range(7)), [3, 4, 5, 6]))
        counted = one.group("room").count()
        self.go()
        self.assertEqual(self.successResultOf(counted), 2)
        self.assertFalse(other.isUp)


class Sub:
    """A process of a random program, with what its engine was told."""

    def __init__(self, case: HubCase) -> None:
        theirs, self.spoke = case.pair()
        self.engine = HubEngine(theirs)
        self.user = User()
        self.engine.start(case.clock, self.user)
        self.stretches: list[list[tuple[Any, ...]]] = []
        self.isIn = False

    def note(self) -> None:
        """Add what was heard to the present stretch."""
        heard = [each for each in self.user.take() if each[0] != "up"]
        if self.isIn:
            self.stretches[-1] += heard


class RandomTests(HubCase):
    """Random programs of three processes: joins, leaves, publications, processes that stop reading, or are killed."""

    def test_random(self) -> None:
        """
        While a process has members it hears all in one order and nothing twice, and is told where something is missing.
        What it is not told is in the history.
        """
        dropped = 0
        for seed in range(examples(40)):
            self.program(random.Random(seed))
            dropped += self.hub.dropped
        self.assertGreater(dropped, 0)

    def program(self, chance: random.Random) -> None:
        """One of them."""
        self.patch(self, "hub", type(self.hub)(self.clock))
        subs = [Sub(self) for _ in range(3)]
        every = list(subs)
        for step in range(60):
            sub = chance.choice(subs)
            action = chance.random()
            if action < 0.55:
                for number in range(chance.randint(1, 4)):
                    size = chance.choice([10, 10, 1000, 1_000_000])
                    text = f"{step} {number} ".ljust(size, "x")
                    sub.engine.publish("room", Publication(text), KEPT).addErrback(lambda _: None)
            elif action < 0.7:
                self.turn(sub)
            elif action < 0.8:
                self.clock.stopped.add(sub.engine._link)
            elif action < 0.9:
                self.clock.stopped.discard(sub.engine._link)
            elif action < 0.93:
                self.kill(sub)
                subs[subs.index(sub)] = Sub(self)
                every.append(subs[-1])
            self.clock.pump(chance.randint(0, 4))
        self.clock.stopped.clear()
        self.clock.pump(300)
        self.check(every)
        for sub in every:
            sub.spoke.link.close()
            sub.engine.stop()
        self.clock.pump()

    def turn(self, sub: Sub) -> None:
        """Its first member comes, or its last one goes."""
        if sub.isIn:
            sub.note()
            sub.isIn = False
            sub.engine.unsubscribe("room")
        else:
            sub.user.take()
            sub.isIn = True
            sub.stretches.append([])
            sub.engine.subscribe("room").addErrback(lambda _: None)

    def kill(self, sub: Sub) -> None:
        """It ends: its last words arrive, and nothing more is heard there."""
        link: Any = sub.engine._link
        sub.note()
        sub.isIn = False
        self.clock.removeReader(link)
        self.clock.removeWriter(link)
        sub.engine._end.close()
        sub.spoke.finish()

    def check(self, every: list[Sub]) -> None:
        """What must hold."""
        kept = {
            each.position.offset: each.pkg[2:] for each in self.hub.sequencer.history("room", None, 1000).publications
        }
        for sub in every:
            sub.note()
            for stretch in sub.stretches:
                last = 0
                isMissing = True
                for event in stretch:
                    if event[0] == "missed":
                        isMissing = True
                    elif event[0] == "room":
                        self.assertTrue(event[2] == last + 1 or (isMissing and event[2] > last), (last, event[2]))
                        last, isMissing = event[2], False
                        if last in kept:
                            self.assertEqual(kept[last], b"s" + event[1].encode(), last)
                if stretch and sub.isIn and stretch is sub.stretches[-1]:
                    self.assertTrue(last == max(kept) or isMissing)
