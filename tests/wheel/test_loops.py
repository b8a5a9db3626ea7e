"""The timing wheel: loops, and clocks that jump."""

from __future__ import annotations

import math
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.wheel import TICK, TimingWheel, WheelTimer


class LoopTests(SynchronousTestCase):
    """Calls that are made again and again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.03)
        self.wheel = TimingWheel(self.clock)
        self.called: list[float] = []

    def loop(self, period: float) -> WheelTimer:
        start = self.clock.seconds()
        return self.wheel.schedule(
            period, lambda _: self.called.append(round(self.clock.seconds() - start, 6)), loop=True
        )

    def test_grid(self) -> None:
        """Each call comes within a tick of its time, without drift, for any period."""
        for period in (0.1, 0.3, 1.0, 0.25, 1 / 3, math.pi, 60.0):
            self.called.clear()
            self.clock.advance(0.0637)
            timer = self.loop(period)
            count = max(int(100 / period), 5)
            while len(self.called) < count:
                self.clock.advance(TICK / 5)
            late = [at - period * (i + 1) for i, at in enumerate(self.called)]
            self.assertGreater(min(late), -1e-5)
            self.assertLess(max(late), TICK * 1.21)
            timer.stop()
            self.clock.advance(period * 2)
            self.assertEqual(len(self.called), count)
            self.assertFalse(self.wheel.running)

    def test_belowATick(self) -> None:
        """A loop is called at most once a tick."""
        timer = self.loop(0.03)
        self.clock.pump([TICK / 10] * 101)
        self.assertEqual(len(self.called), 10)
        timer.stop()

    def test_stall(self) -> None:
        """After a stall or a jump of the clock, one late call comes, and the next at its regular time."""
        for period in (1.0, 0.75, 4.0):
            for leap in (5.3, 86400.3):
                self.called.clear()
                self.clock.advance(0.01)
                timer = self.loop(period)
                self.clock.pump([TICK] * int(period / TICK + 1))
                self.assertEqual(len(self.called), 1)
                self.clock.advance(leap)
                self.assertEqual(len(self.called), 2)
                self.clock.pump([TICK / 2] * int(period / TICK * 4 + 1))
                # Two, or three if the late call came shortly before its time.
                following = self.called[2:]
                self.assertIn(len(following), (2, 3))
                for at in following:
                    self.assertLess(at % period, TICK * 1.6)
                timer.stop()

    def test_reset(self) -> None:
        """A loop that is reset goes on with the new period, in its own call too."""
        timer = self.loop(1.0)
        self.clock.pump([TICK] * 24)
        self.assertEqual(len(self.called), 2)
        timer.reset(2.0)
        self.clock.pump([TICK] * 19)
        self.assertEqual(len(self.called), 2)
        self.clock.pump([TICK] * 22)
        self.assertEqual(len(self.called), 4)
        timer.reset(0.25)
        self.clock.pump([TICK] * 21)
        self.assertEqual(len(self.called), 12)
        timer.stop()
        again = self.wheel.schedule(1.0, lambda _: self.called.clear() or again.reset(3.0), loop=True)  # type: ignore[func-returns-value]
        self.clock.pump([TICK] * 35)
        self.assertAlmostEqual(again.left, 0.5, delta=TICK)
        again.stop()

    def test_stopsItself(self) -> None:
        """A loop may stop itself in its call."""
        calls: list[None] = []

        def call(_: object) -> None:
            calls.append(None)
            if len(calls) == 3:
                timer.stop()

        timer = self.wheel.schedule(1.0, call, loop=True)
        self.clock.pump([TICK] * 100)
        self.assertEqual((len(calls), self.wheel.running), (3, False))


class ClockTests(SynchronousTestCase):
    """Clocks that jump."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1e6)
        self.wheel = TimingWheel(self.clock)
        self.called: list[Any] = []

    def test_forwards(self) -> None:
        """After a jump of years all due timers are called once, in order, and no others."""
        random = Random(5)
        delays = [random.uniform(1, 1e8) for _ in range(200)]
        for delay in delays:
            self.wheel.schedule(delay, self.called.append, delay)
        self.clock.advance(5e7)
        self.assertEqual(self.called, sorted(delay for delay in delays if delay <= 5e7))
        self.clock.advance(6e7)
        self.assertEqual(self.called, sorted(delays))

    def test_backwards(self) -> None:
        """After the clock was set back, timers are called as soon as a timer is added or moved."""
        for move in (False, True):
            self.called.clear()
            moved = self.wheel.schedule(9.0, self.called.append, "moved")
            self.wheel.schedule(3.0, self.called.append, "old")
            loop = self.wheel.schedule(2.0, self.called.append, "loop", loop=True)
            self.clock.pump([TICK] * 11)
            self.clock.rightNow -= 3600.0
            self.clock.pump([TICK] * 50)
            # The wheel has not read the clock. Twisted's calls are waiting, too.
            self.assertEqual(self.called, [])
            if move:
                moved.reset(4.0)
            else:
                self.wheel.schedule(4.0, self.called.append, "new")
            self.clock.pump([TICK] * 8)
            self.assertEqual(self.called, [])
            self.clock.pump([TICK] * 4)
            self.assertEqual(self.called, ["loop"])
            self.clock.pump([TICK] * 10)
            self.assertEqual(self.called, ["loop", "old"])
            self.clock.pump([TICK] * 20)
            self.assertEqual(self.called, ["loop", "old", "loop", "moved" if move else "new"])
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            loop.stop()
            self.wheel.stop()

    def test_backwardsInATurn(self) -> None:
        """The clock may be set back at any moment."""
        self.wheel.schedule(1.0, self.called.append, "a")
        self.clock.pump([TICK] * 5)
        # Between the reading of the clock by the reactor and by the wheel.
        self.patch(self.wheel, "seconds", lambda: self.clock.rightNow - 3600.0)
        self.clock.advance(TICK)
        self.clock.rightNow -= 3600.0
        [call] = self.clock.getDelayedCalls()
        call.reset(TICK)
        self.wheel.seconds = self.clock.seconds
        self.clock.pump([TICK] * 4)
        self.assertEqual(self.called, [])
        self.clock.pump([TICK] * 2)
        self.assertEqual(self.called, ["a"])
