"""Picker and Hashing alone: shares by weight, zones and priorities, and which keys move."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.client.hashing import FEW, MANY, Hashing, numberOf, seedOf
from getty_tx.client.picking import Picker, Skip
from getty_tx.registry import Provider
from getty_tx.session.states import CLOSING, OPEN
from tests.support.long import examples


class OneGroup:
    """A group with one session, which is the group itself."""

    def __init__(self, serial: int, weight: int = 100, zone: str = "", priority: int = 0, pending: int = 0) -> None:
        self.id = f"p{serial}"
        self.serial = serial
        self.weight = weight
        self.provider = Provider("s", f"tcp:h:{serial + 1}", zone=zone, weight=weight, meta={"priority": priority})
        self.place = -1
        self.deadline = self.period = 0.0
        self.warmFrom = None
        self.share: int | None = None
        self.kind: Any = None
        self.ejection = None
        self.seed = seedOf(self.id)
        self.isOpen = True
        self.pendingBytes = pending

    @property
    def outbound(self) -> Any:
        return SimpleNamespace(pending=self.pendingBytes)

    @property
    def only(self) -> OneGroup:
        return self

    @property
    def state(self) -> int:
        return OPEN if self.isOpen else CLOSING

    def next(self, skipped: Any = ()) -> OneGroup | None:
        return self if self.isOpen and self not in skipped else None

    least = next

    def at(self, number: int, skipped: Any = ()) -> OneGroup | None:
        return self.next(skipped)


def picker(groups: list[OneGroup], zone: str = "", seed: int = 1) -> Any:
    """A picker with these, all open."""
    found: Any = Picker(zone, lambda group: group.weight, Random(seed))
    for group in groups:
        found.known(group, 1)
        found.add(group)
    return found


def shares(found: Any, by: str, picks: int) -> Counter[Any]:
    """How often each was picked."""
    return Counter(found.pick(by, None, None, None) for _ in range(picks))


class WeightTests(SynchronousTestCase):
    """Shares of picks."""

    @given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(0, 99))
    @settings(max_examples=examples(30), deadline=None)
    def test_roundRobin(self, weights: list[int], seed: int) -> None:
        """Each has its share by weight; the first deadlines of the others move it by a part of one pick each."""
        groups = [OneGroup(i, weight) for i, weight in enumerate(weights)]
        found = picker(groups, seed=seed)
        picks = 300
        counted = shares(found, "roundRobin", picks)
        for group in groups:
            share = group.weight / sum(weights)
            self.assertLess(abs(counted[group] - picks * share), 1.5 + len(weights) * share)

    def test_random(self) -> None:
        """Each has its share by weight, about; also with P2C when nothing is pending."""
        groups = [OneGroup(i, weight) for i, weight in enumerate((10, 100, 200, 1000))]
        counted = shares(picker(groups), "random", 5000)
        for group in groups:
            expected = 5000 * group.weight / 1310
            self.assertLess(abs(counted[group] - expected), 5 * expected**0.5)
        counted = shares(picker(groups), "leastPending", 5000)
        self.assertLess(counted[groups[1]] * 3, counted[groups[3]])

    def test_zero(self) -> None:
        """Weight 0 is picked only when nothing else is open."""
        groups = [OneGroup(0, 0), OneGroup(1, 0), OneGroup(2, 1)]
        found = picker(groups)
        for by in ("roundRobin", "random", "leastPending"):
            self.assertEqual(set(shares(found, by, 50)), {groups[2]})
        self.assertIn(found.pick("random", None, Skip(groups=[groups[2]]), None), groups[:2])
        groups[2].isOpen = False
        for by in ("roundRobin", "random", "leastPending"):
            self.assertEqual(set(shares(found, by, 50)), set(groups[:2]))

    def test_leastPending(self) -> None:
        """Of two that are drawn, the one with fewer bytes for its weight; any two are drawn."""
        groups = [OneGroup(i, pending=1000 * i) for i in range(20)]
        counted = shares(picker(groups), "leastPending", 4000)
        self.assertNotIn(groups[19], counted)
        # 2/n - 1/n^2 or so of the picks are for the best.
        self.assertTrue(300 < counted[groups[0]] < 500)
        self.assertEqual(set(counted), set(groups[:19]))
        few = [OneGroup(0, 100, pending=1000), OneGroup(1, 1000, pending=5000)]
        self.assertEqual(set(shares(picker(few), "leastPending", 9)), {few[1]})

    def test_zone(self) -> None:
        """The own zone alone, while at least half of it is open."""
        groups = [OneGroup(i, zone="east" if i < 4 else "west") for i in range(8)]
        found = picker(groups, "east")
        self.assertEqual(set(shares(found, "roundRobin", 50)), set(groups[:4]))
        for group in groups[:2]:
            found.discard(group)
        self.assertEqual(set(shares(found, "random", 50)), set(groups[2:4]))
        # Better another zone than none.
        self.assertIn(found.pick("random", None, Skip(groups=groups[:4]), None), groups[4:])
        found.discard(groups[2])
        self.assertEqual(set(shares(found, "roundRobin", 50)), set(groups[3:]))
        found.add(groups[2])
        self.assertEqual(set(shares(found, "leastPending", 50)), set(groups[2:4]))

    def test_priority(self) -> None:
        """Those with the lowest number that is open."""
        groups = [OneGroup(i, priority=i // 2) for i in range(6)]
        found = picker(groups)
        self.assertEqual(set(shares(found, "roundRobin", 50)), set(groups[:2]))
        groups[0].isOpen = groups[1].isOpen = False
        self.assertEqual(set(shares(found, "roundRobin", 50)), set(groups[2:4]))
        groups[0].isOpen = True
        found.add(groups[0])
        self.assertEqual(set(shares(found, "random", 50)), {groups[0]})

    def test_heap(self) -> None:
        """What comes and goes without picks leaves nothing behind."""
        groups = [OneGroup(i, 100 + i) for i in range(10)]
        found = picker(groups)
        for _ in range(1000):
            found.discard(groups[3])
            found.add(groups[3])
            if found._heap is None:
                found.roundRobin()
        self.assertLess(len(found._heap), 40)
        self.assertEqual(set(shares(found, "roundRobin", 20)), set(groups))

    @given(st.data())
    @settings(max_examples=examples(30), deadline=None)
    def test_sequences(self, data: st.DataObject) -> None:
        """Whatever comes, goes and is skipped: an open one that is not skipped is picked, if there is one."""
        groups = [
            OneGroup(i, data.draw(st.sampled_from([0, 1, 100])), data.draw(st.sampled_from(["", "east"])), i % 2)
            for i in range(11)
        ]
        found = picker([], "east")
        hashing: Any = Hashing([])
        for group in groups:
            group.isOpen = False
            found.known(group, 1)
            hashing.add(group)
        for step in data.draw(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3)), max_size=60)):
            group = groups[step[0]]
            if step[1] == 0:
                group.isOpen = True
                found.add(group)
            elif step[1] == 1:
                group.isOpen = False
                found.discard(group)
            elif step[1] == 2:
                # It closes itself: the picker finds out.
                group.isOpen = False
            skipped = groups[: step[0]] if step[1] == 3 else []
            left = {each for each in groups if each.isOpen and each in found.opened and each not in skipped}
            for by in ("roundRobin", "random", "leastPending", "hash"):
                session = found.pick(by, step[0], Skip(groups=skipped) if skipped else None, hashing)
                if left:
                    self.assertIn(session, left)
                else:
                    self.assertIsNone(session)
            self.assertEqual([each.place for each in found.groups], list(range(len(found.groups))))
            self.assertEqual(found._sessions, found.groups)
            self.assertEqual(list(found._weights), [each.weight or 1 for each in found.groups])


class HashingTests(SynchronousTestCase):
    """Which keys move when a provider comes or goes."""

    def firsts(self, hashing: Any, keys: range) -> list[OneGroup]:
        """The first of each key."""
        found = [hashing.first(key)[1] for key in keys]
        self.assertEqual(found, [next(hashing.order(key)[1]) for key in keys])
        return found

    @given(st.sampled_from([2, 10, FEW, MANY, MANY + 30]), st.integers(0, 1000))
    @settings(max_examples=examples(12), deadline=None)
    def test_moves(self, number: int, which: int) -> None:
        """Only its own keys move when one goes, and all of them come back with it."""
        groups = [OneGroup(i) for i in range(number)]
        hashing: Any = Hashing(groups)  # type: ignore[arg-type]
        keys = range(300)
        before = self.firsts(hashing, keys)
        gone = groups[which % number]
        hashing.discard(gone)
        between = self.firsts(hashing, keys)
        for old, new in zip(before, between, strict=True):
            self.assertTrue(new is old if old is not gone else new is not gone)
        hashing.add(gone)
        self.assertEqual(self.firsts(hashing, keys), before)

    @given(st.sampled_from([10, MANY + 30]), st.lists(st.integers(0, 20), max_size=30))
    @settings(max_examples=20, deadline=None)
    def test_history(self, number: int, changes: list[int]) -> None:
        """What came and went before does not matter, nor the order in which they came."""
        groups = [OneGroup(i) for i in range(number + 21)]
        hashing: Any = Hashing(groups[:number])  # type: ignore[arg-type]
        keys = range(100)
        self.firsts(hashing, keys)
        there = set(groups[:number])
        for change in changes:
            group = groups[number - 10 + change]
            (hashing.discard if group in there else hashing.add)(group)
            there ^= {group}
        other: Any = Hashing(sorted(there, key=lambda each: each.id))  # type: ignore[arg-type]
        self.assertEqual(len(hashing), len(other))
        self.assertEqual(self.firsts(hashing, keys), self.firsts(other, keys))
        for key in range(3):
            self.assertEqual(list(hashing.order(key)[1]), list(other.order(key)[1]))

    def test_numbers(self) -> None:
        """Keys and ids have the same numbers in all processes, and in later versions."""
        self.assertEqual((numberOf("key"), numberOf(b"key")), (0x900146C90A20A87D, 0x900146C90A20A87D))
        self.assertEqual((numberOf(7), seedOf("7")), (0xD5C47F63555AE063, 0xD5C47F63555AE063))

    def test_shares(self) -> None:
        """Each has about its share, with few and with many; and the order has all of them."""
        for number in (20, 100, 200):
            groups = [OneGroup(i) for i in range(number)]
            hashing: Any = Hashing(groups)  # type: ignore[arg-type]
            counted = Counter(self.firsts(hashing, range(number * 60)))
            self.assertTrue(all(15 < counted[group] < 140 for group in groups), counted)
            order = list(hashing.order("key")[1])
            self.assertEqual((len(order), set(order)), (number, set(groups)))
            # The keys of one go to many others.
            seconds = {
                list(hashing.order(key)[1])[1] for key in range(number * 60) if hashing.first(key)[1] is groups[0]
            }
            self.assertGreater(len(seconds), 10)

    def test_ring(self) -> None:
        """The ring is there above 100 providers, and until there are fewer than 50."""
        groups = [OneGroup(i) for i in range(MANY + 1)]
        hashing: Any = Hashing(groups)  # type: ignore[arg-type]
        self.assertIsNotNone(hashing._circles)
        for group in groups[FEW:]:
            hashing.discard(group)
        self.assertIsNotNone(hashing._circles)
        hashing.discard(groups[0])
        self.assertIsNone(hashing._circles)
        for group in groups[1:FEW]:
            hashing.discard(group)
        self.assertEqual(list(hashing.order("key")[1]), [])
