"""Deadlines without a timer each: order, laziness, and bounded memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.session.deadlines import PRECISE, Deadlines, rounded
from getty_tx.wheel import TICK, TimingWheel
from tests.support.long import examples

steps = st.tuples(st.sampled_from(["add", "end", "wait"]), st.integers(0, 5), st.sampled_from([0.1, 0.3, 1.0, 1.7]))


class Item:
    def __init__(self, number: int) -> None:
        self.number = number
        self.expiresAt = 0.0


class Table:
    """A table of calls with deadlines, on a Clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        context: Any = SimpleNamespace(reactor=self.clock, seconds=self.clock.seconds, wheel=TimingWheel(self.clock))
        self.wheel = context.wheel
        self.open: dict[int, Item] = {}
        self.ended: list[tuple[int, float]] = []
        self.deadlines = Deadlines(context, self.open, self.expired)

    def expired(self, item: Item, timeout: float) -> None:
        del self.open[item.number]
        self.ended.append((item.number, round(self.clock.seconds(), 6)))

    def add(self, number: int, timeout: float) -> None:
        self.open[number] = item = Item(number)
        self.deadlines.add(number, item, timeout)

    def advance(self, seconds: float, step: float = 0.05) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    @property
    def entries(self) -> int:
        return sum(map(len, self.deadlines._queues.values()))

    @property
    def timers(self) -> int:
        """Those of the reactor, the wheel's own not counted, and those on the wheel."""
        return len(self.clock.getDelayedCalls()) - self.wheel.running + len(self.wheel)


class DeadlineTests(SynchronousTestCase):
    """When calls expire."""

    def setUp(self) -> None:
        self.table = Table()

    def test_precise(self) -> None:
        self.table.add(1, 0.33)
        self.table.clock.advance(0.32)
        self.assertEqual(self.table.ended, [])
        self.table.clock.advance(0.01)
        self.assertEqual(self.table.ended, [(1, 0.33)])

    def test_onTheWheel(self) -> None:
        self.table.add(1, PRECISE + 0.03)
        self.table.advance(PRECISE + 0.03 + TICK, 0.01)
        ((number, at),) = self.table.ended
        self.assertEqual(number, 1)
        self.assertTrue(PRECISE + 0.03 <= at <= PRECISE + 0.03 + TICK + 1e-6, at)

    def test_order(self) -> None:
        for number, timeout in ((1, 3.0), (2, 1.0), (3, 0.5), (4, 3.0), (5, 1.0)):
            self.table.add(number, timeout)
        self.table.advance(4)
        self.assertEqual([number for number, _ in self.table.ended], [3, 2, 5, 1, 4])

    def test_oneTimerForATimeout(self) -> None:
        for number in range(100):
            self.table.add(number, 3.0)
            self.table.clock.advance(0.001)
        self.assertEqual(self.table.timers, 1)
        self.table.advance(4)
        self.assertEqual(len(self.table.ended), 100)
        self.assertEqual(self.table.timers, 0)
        self.assertEqual(self.table.entries, 0)

    def test_endedInTime(self) -> None:
        self.table.add(1, 0.5)
        self.table.add(2, 0.5)
        del self.table.open[1]
        self.table.advance(1)
        self.assertEqual([number for number, _ in self.table.ended], [2])

    def test_againAfterAllHaveEnded(self) -> None:
        self.table.add(1, 0.5)
        del self.table.open[1]
        self.table.advance(0.3)
        self.table.add(2, 0.5)
        self.table.advance(0.45)
        self.assertEqual(self.table.ended, [])
        self.table.advance(0.1)
        self.assertEqual([number for number, _ in self.table.ended], [2])

    def test_stop(self) -> None:
        self.table.add(1, 0.5)
        self.table.add(2, 5.0)
        self.table.deadlines.stop()
        self.assertEqual((self.table.timers, self.table.entries), (0, 0))
        self.table.advance(6)
        self.assertEqual(self.table.ended, [])
        self.assertEqual(self.table.clock.getDelayedCalls(), [])

    def test_stopWhileOneExpires(self) -> None:
        def expired(item: Item, timeout: float) -> None:
            self.table.ended.append((item.number, 0.0))
            self.table.open.clear()
            self.table.deadlines.stop()

        self.table.deadlines._expired = expired
        for number in range(3):
            self.table.add(number, 0.5)
        self.table.advance(2)
        self.assertEqual(self.table.ended, [(0, 0.0)])
        self.assertEqual((self.table.timers, self.table.entries), (0, 0))

    def test_callsMadeWhileOneExpires(self) -> None:
        def expired(item: Item, timeout: float) -> None:
            self.table.expired(item, timeout)
            if item.number == 0:
                # So many ended ones that the queue is tidied while it is looked at.
                for number in range(1, 300):
                    self.table.add(number, timeout)
                    if number < 299:
                        del self.table.open[number]

        self.table.deadlines._expired = expired
        self.table.add(0, 0.5)
        self.table.advance(2)
        self.assertEqual([number for number, _ in self.table.ended], [0, 299])
        self.assertEqual((self.table.timers, self.table.entries), (0, 0))

    def test_numberUsedAgain(self) -> None:
        self.table.add(1, 0.5)
        self.table.add(2, 0.5)
        del self.table.open[1]
        self.table.advance(0.3)
        self.table.add(1, 0.5)
        self.table.advance(0.25)
        self.assertEqual([number for number, _ in self.table.ended], [2])
        self.table.advance(0.3)
        self.assertEqual([number for number, _ in self.table.ended], [2, 1])

    def test_rounded(self) -> None:
        for left, expected in ((2.91, 3.0), (0.01, 0.1), (3.0, 3.0), (0.0, 0.0)):
            self.assertAlmostEqual(rounded(left), expected)


class MemoryTests(SynchronousTestCase):
    """What is kept for calls that have ended."""

    def setUp(self) -> None:
        self.table = Table()

    def test_endedBehindAnOpenOne(self) -> None:
        self.table.add(0, 60.0)
        most = 0
        for number in range(1, 100_001):
            self.table.add(number, 60.0)
            del self.table.open[number]
            most = max(most, len(self.table.deadlines._queues[60.0]))
        self.assertLess(most, 300)
        self.table.advance(61, 0.5)
        self.assertEqual([number for number, _ in self.table.ended], [0])

    def test_oneNumberForAll(self) -> None:
        self.table.add(0, 60.0)
        for _ in range(10_000):
            self.table.add(1, 60.0)
            del self.table.open[1]
            self.table.clock.advance(0.001)
        self.table.add(1, 60.0)
        self.assertLess(self.table.entries, 300)

    def test_distinctTimeouts(self) -> None:
        self.table.add(0, 60.0)
        for number in range(1, 10_000):
            self.table.add(number, 1000 + number / 1000)
            del self.table.open[number]
        self.assertLess(len(self.table.deadlines._queues), 100)
        self.assertLess(self.table.timers, 100)
        self.assertEqual(set(self.table.deadlines._queues), set(self.table.deadlines._timers))
        self.table.advance(61, 0.5)
        self.assertEqual([number for number, _ in self.table.ended], [0])

    def test_openCallsWithDistinctTimeouts(self) -> None:
        for number in range(1000):
            self.table.add(number, 0.1 + number / 500)
        self.table.advance(3, 0.01)
        self.assertEqual([number for number, _ in self.table.ended], list(range(1000)))
        self.assertEqual((self.table.timers, self.table.entries), (0, 0))


class RandomTests(SynchronousTestCase):
    """Any calls, ends and times."""

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["add", "end", "wait"]), st.integers(0, 5), st.sampled_from([0.1, 0.3, 1.0, 1.7])
            ),
            max_size=60,
        )
    )
    @settings(max_examples=examples(150), deadline=None, database=None)
    def test_each(self, steps: list[tuple[str, int, float]]) -> None:
        table = Table()
        due: dict[int, float] = {}
        for step, number, seconds in steps:
            if step == "add" and number not in table.open:
                table.add(number, seconds)
                due[number] = table.clock.seconds() + seconds
            elif step == "end":
                table.open.pop(number, None)
            elif step == "wait":
                table.advance(seconds)
            for number in table.open:
                assert due[number] > table.clock.seconds() - TICK - 0.06, "a call is open too long"
        left = dict(table.open)
        table.ended.clear()
        table.advance(2.5)
        assert sorted(number for number, _ in table.ended) == sorted(left)
        assert all(at >= due[number] - 1e-6 for number, at in table.ended)
        assert not table.timers and not table.entries
        assert not table.clock.getDelayedCalls()
