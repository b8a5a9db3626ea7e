"""The timing wheel: times and order of calls, logging, and stopping."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import wheel
from getty_tx.wheel import TICK, TimingWheel, WheelTimer
from tests.support.long import examples


class WheelTests(SynchronousTestCase):
    """Single calls, on a simulated clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimingWheel(self.clock)
        self.called: list[Any] = []

    def call(self, argument: Any) -> None:
        self.called.append((round(self.clock.seconds(), 6), argument))

    def advance(self, seconds: float, step: float = TICK / 4) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def test_order(self) -> None:
        """Calls come in the order of their times, each once."""
        for delay in (3.0, 1.0, 2.0, 0.2):
            self.wheel.schedule(delay, self.call, delay)
        self.advance(10)
        self.assertEqual([argument for _, argument in self.called], [0.2, 1.0, 2.0, 3.0])

    def test_sameTime(self) -> None:
        """Calls of one tick come in the order in which they were scheduled."""
        for i in range(10):
            self.wheel.schedule(1.0, self.call, i)
        self.advance(2)
        self.assertEqual([argument for _, argument in self.called], list(range(10)))

    def test_afterAJump(self) -> None:
        """After a long stall of the reactor, all due calls come in order."""
        for delay in (30.0, 1.0, 20.0, 0.2, 90.0):
            self.wheel.schedule(delay, self.call, delay)
        self.clock.advance(60)
        self.assertEqual([argument for _, argument in self.called], [0.2, 1.0, 20.0, 30.0])
        self.clock.advance(60)
        self.assertEqual(len(self.called), 5)

    @settings(max_examples=examples(100), deadline=None)
    @given(st.floats(0, 1000), st.lists(st.tuples(st.floats(0, 0.2), st.floats(0.001, 3)), min_size=1, max_size=10))
    def test_neverEarlyLittleLate(self, start: float, timers: list[tuple[float, float]]) -> None:
        """Each call comes at its time or up to a tick later, whatever the start times of timer and wheel."""
        clock = Clock()
        clock.advance(start)
        wheel = TimingWheel(clock)
        late: list[float] = []
        for gap, delay in timers:
            for _ in range(20):
                clock.advance(gap / 20)
            due = clock.seconds() + delay
            wheel.schedule(delay, lambda due: late.append(clock.seconds() - due), due)
        # Steps are shorter than a tick, so that they do not make a call late.
        for _ in range(round(4 / TICK) * 10):
            clock.advance(TICK / 10)
        self.assertEqual(len(late), len(timers))
        self.assertGreaterEqual(min(late), -1e-6)
        self.assertLessEqual(max(late), TICK + TICK / 10 + 1e-6)
        self.assertEqual((wheel.running, clock.getDelayedCalls()), (False, []))

    def test_reset(self) -> None:
        """A timer can be moved later or earlier any number of times, and is called once."""
        for delays in ([1.0] * 5, [5.0, 0.9, 0.9, 7.0, 0.9], [100.0, 50.0, 100.0, 50.0, 0.9]):
            self.called.clear()
            timer = self.wheel.schedule(1.0, self.call, "x")
            for delay in delays:
                self.advance(0.8)
                self.assertTrue(timer.reset(delay))
                self.assertAlmostEqual(timer.left, delay, delta=TICK)
            self.advance(0.8)
            self.assertEqual(self.called, [])
            self.advance(0.3)
            self.assertEqual(len(self.called), 1)
            self.advance(200)
            self.assertEqual(len(self.called), 1)
            self.assertFalse(self.wheel.running)

    def test_resetTooLate(self) -> None:
        """reset() of a timer that is not active returns False."""
        fired, stopped = (self.wheel.schedule(1.0, self.call) for _ in range(2))
        stopped.stop()
        self.advance(2)
        for timer in (fired, stopped):
            self.assertFalse(timer.reset(1.0))
            self.assertEqual(timer.left, math.inf)
        self.advance(2)
        self.assertEqual((len(self.called), self.wheel.running), (1, False))

    def test_refused(self) -> None:
        """Invalid times are refused by name; nothing is scheduled or moved."""
        timer = self.wheel.schedule(1.0, self.call)
        for value in (0, 0.0, -1.0, math.nan, math.inf, -math.inf):
            for name, call in (
                ("delay", partial(self.wheel.schedule, value, self.call)),
                ("delay", partial(self.wheel.schedule, value, self.call, loop=True)),
                ("delay", partial(timer.reset, value)),
                ("tick", partial(TimingWheel, self.clock, value)),
            ):
                self.assertIn(f"{name}={value!r} is not", str(self.assertRaises(ValueError, call)))
        self.assertEqual(len(self.wheel), 1)
        self.advance(1.2)
        self.assertEqual(len(self.called), 1)

    def test_anyPeriod(self) -> None:
        """A delay has no upper limit."""
        for delay in (86400.0 * 365, 1e18, 1e308, 10**400):
            for loop in (False, True):
                timer = self.wheel.schedule(delay, self.call, delay, loop)
                self.assertTrue(timer.reset(delay))
        self.clock.advance(86400.0 * 364)
        self.assertEqual(self.called, [])
        self.clock.advance(86400.0 * 2)
        self.assertEqual([argument for _, argument in self.called], [86400.0 * 365] * 2)
        self.assertEqual(len(self.wheel), 7)
        self.wheel.stop()

    def test_stopAll(self) -> None:
        """All timers can be stopped at once, in a call too; new ones may follow."""
        for within in (False, True):
            self.called.clear()
            for delay in (1.0, 1.0, 2.0):
                for loop in (False, True):
                    self.wheel.schedule(delay, self.call, None, loop)
            if within:
                self.wheel.schedule(0.5, lambda _: self.wheel.stop())
                self.wheel.schedule(0.5, self.call)
                # All due calls in one turn.
                self.clock.advance(1.5)
            else:
                self.wheel.stop()
            self.assertEqual((len(self.wheel), self.wheel.running, self.clock.getDelayedCalls()), (0, False, []))
            self.advance(3)
            self.assertEqual(self.called, [])
            self.wheel.schedule(1.0, self.call)
            self.advance(1.2)
            self.assertEqual(len(self.called), 1)

    def test_cancel(self) -> None:
        """A stopped timer is not called; a second stop, or one after the call, does nothing."""
        timer = self.wheel.schedule(1.0, self.call, 1)
        other = self.wheel.schedule(1.0, self.call, 2)
        self.assertTrue(timer.active)
        timer.stop()
        timer.stop()
        self.assertFalse(timer.active)
        self.assertEqual(len(self.wheel), 1)
        self.advance(2)
        other.stop()
        self.assertEqual([argument for _, argument in self.called], [2])
        self.assertEqual(len(self.wheel), 0)

    def test_cancelLetsGo(self) -> None:
        """Neither a stopped nor a fired timer keeps a reference to its call or argument."""
        timers = [self.wheel.schedule(1.0, self.call, object()) for _ in range(2)]
        timers[0].stop()
        self.advance(2)
        for timer in timers:
            self.assertEqual((timer.call, timer.argument), (None, None))

    def test_stopsWhenEmpty(self) -> None:
        """Without timers the LoopingCall is stopped; it starts again with the next timer."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        timer = self.wheel.schedule(1.0, self.call, 1)
        self.assertTrue(self.wheel.running)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        timer.stop()
        self.assertFalse(self.wheel.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.schedule(1.0, self.call, 2)
        self.advance(2)
        self.assertEqual([argument for _, argument in self.called], [2])
        self.assertEqual((self.wheel.running, self.clock.getDelayedCalls()), (False, []))

    def test_exception(self) -> None:
        """An exception of a call is logged and affects no other timer, in the same tick or later."""
        self.wheel.schedule(1.0, lambda _: 1 / 0)
        loop = self.wheel.schedule(1.0, lambda _: [].pop(), loop=True)
        self.wheel.schedule(1.0, self.call, 1)
        self.wheel.schedule(2.0, self.call, 2)
        self.advance(3.05)
        self.assertEqual([argument for _, argument in self.called], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        # A loop goes on.
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 3)
        loop.stop()

    def test_notOnlyExceptions(self) -> None:
        """A SystemExit neither stops the wheel, because that would disable all time-outs of the service."""

        def leave(_: object) -> None:
            raise SystemExit

        self.wheel.schedule(1.0, leave)
        self.wheel.schedule(1.0, self.call, 1)
        self.wheel.schedule(2.0, self.call, 2)
        self.advance(3)
        self.flushLoggedErrors(SystemExit)
        self.assertEqual([argument for _, argument in self.called], [1, 2])

    def test_withinACall(self) -> None:
        """Calls may schedule and stop timers, including themselves and others of the same tick."""
        timers: dict[str, WheelTimer] = {}

        def first(_: object) -> None:
            timers["second"].stop()
            timers["later"].stop()
            self.wheel.schedule(0.001, self.call, "soon")
            self.wheel.schedule(1.0, self.call, "afterwards")

        self.wheel.schedule(1.0, first)
        timers["second"] = self.wheel.schedule(1.0, self.call, "second")
        timers["later"] = self.wheel.schedule(5.0, self.call, "later")
        self.advance(1.05)
        self.advance(0.2)
        self.assertEqual([argument for _, argument in self.called], ["soon"])
        self.advance(10)
        self.assertEqual([argument for _, argument in self.called], ["soon", "afterwards"])
        self.assertEqual((self.wheel.running, self.clock.getDelayedCalls()), (False, []))

    def test_long(self) -> None:
        """A call that took longer than a tick is named in a warning, with its argument."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)

        class Argument:
            def __repr__(self) -> str:
                return "<the argument>"

        self.wheel.schedule(1.0, self.call, Argument())
        self.wheel.schedule(1.0, lambda _: self.clock.advance(5.5), Argument())
        self.wheel.schedule(1.0, self.call, Argument(), loop=True)
        self.wheel.schedule(4.0, self.call, Argument())
        self.advance(1.1)
        warnings = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual([event["seconds"] for event in warnings], [5.5])
        self.assertIn("test_calls.WheelTests.test_long.<locals>.<lambda>(<the argument>)", warnings[0]["call"])
        # Others of the same tick were called, and the next turn calls timers that became due meanwhile.
        self.assertEqual([at for at, _ in self.called[:2]], [1.0, 6.5])
        self.assertEqual(len(self.called), 4)

    def test_anyCall(self) -> None:
        """Any callable may be called, and has a description in the log."""
        self.wheel.schedule(1.0, partial(int, base=2), "x")
        self.advance(2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_counted(self) -> None:
        """The number of timers has no limit."""
        for i in range(20_000):
            self.wheel.schedule(1.0 + i % 100, self.call, i)
        self.assertEqual(len(self.wheel), 20_000)
        self.clock.pump([TICK] * 1015)
        self.assertEqual(len(self.called), 20_000)
        self.assertEqual(sorted(at for at, _ in self.called), [at for at, _ in self.called])

    def test_soon(self) -> None:
        """Even for a very short delay, the call comes in the next turn, not in the same one."""
        for delay in (1e-3, 1e-9, 1e-300):
            self.called.clear()
            self.wheel.schedule(TICK, lambda _, delay=delay: self.wheel.schedule(delay, self.call))  # type: ignore[misc]
            self.clock.advance(TICK)
            self.assertEqual(self.called, [])
            self.clock.advance(TICK)
            self.assertEqual(len(self.called), 1)

    def test_movedAndLate(self) -> None:
        """Moved timers come in the right order after a stall, too."""
        for delay in (1.0, 2.0, 3.0):
            self.wheel.schedule(delay, self.call, delay)
        for delay, moved in ((0.5, 2.5), (0.7, 1.5), (5.0, 0.3)):
            self.wheel.schedule(delay, self.call, moved).reset(moved)
        self.clock.advance(10)
        self.assertEqual([argument for _, argument in self.called], [0.3, 1.0, 1.5, 2.0, 2.5, 3.0])

    def test_movedWhenLate(self) -> None:
        """A moved timer can be moved again by another that is due in the same late turn."""
        moved = self.wheel.schedule(0.5, self.call, "moved")
        moved.reset(2.0)
        self.wheel.schedule(1.0, lambda _: moved.reset(3.0))
        self.clock.advance(10)
        self.assertEqual(self.called, [])
        self.advance(3.2)
        self.assertEqual(len(self.called), 1)

    def test_tick(self) -> None:
        """The tick is configurable."""
        TimingWheel(self.clock, tick=5.0).schedule(1.0, self.call, 1)
        self.advance(4.9)
        self.assertEqual(self.called, [])
        self.advance(0.2)
        self.assertEqual(len(self.called), 1)

    def test_cancelledOnesDoNotPileUp(self) -> None:
        """Stopped timers leave few stale entries."""
        keep = self.wheel.schedule(1000.0, self.call)
        for _ in range(300):
            for _ in range(10):
                self.wheel.schedule(5.0, self.call).stop()
            self.clock.advance(TICK)
            self.assertLessEqual(sum(map(len, self.wheel.buckets.values())), 200)
        keep.stop()
        self.assertEqual(self.wheel.buckets, {})

    def test_backInItsPlace(self) -> None:
        """A timer that was moved back to its tick has one entry there after stale entries are removed."""
        timer = self.wheel.schedule(10.0, self.call)
        timer.reset(5.0)
        timer.reset(10.0)
        self.advance(6)
        for _ in range(wheel.MAX_STALE_ENTRIES + 1):
            self.wheel.schedule(1.0, self.call).stop()
        self.assertEqual((sum(map(len, self.wheel.buckets.values())), self.wheel.staleEntries), (1, 0))
        self.advance(5)
        self.assertEqual(len(self.called), 1)

    def test_movedOnesDoNotPileUp(self) -> None:
        """Timers that are moved often leave few stale entries."""
        timers = [self.wheel.schedule(1000.0, self.call) for _ in range(10)]
        for i in range(1000):
            for timer in timers:
                timer.reset(1000.0 - i % 2 * 500.0)
            self.clock.advance(TICK)
            self.assertLessEqual(sum(map(len, self.wheel.buckets.values())), 100)
        self.assertEqual(self.called, [])
        self.wheel.stop()
