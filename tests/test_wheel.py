"""The timing wheel: when calls come, in which order, and that it stops."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.wheel import TICK, TimingWheel, WheelTimer


class WheelTests(SynchronousTestCase):
    """On a clock that the test advances."""

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
        """Calls come in the order of their times, and each once."""
        for delay in (3.0, 1.0, 2.0, 0.2):
            self.wheel.schedule(delay, self.call, delay)
        self.advance(10)
        self.assertEqual([argument for _, argument in self.called], [0.2, 1.0, 2.0, 3.0])

    def test_sameTime(self) -> None:
        """Those of one tick come in the order in which they were scheduled."""
        for i in range(10):
            self.wheel.schedule(1.0, self.call, i)
        self.advance(2)
        self.assertEqual([argument for _, argument in self.called], list(range(10)))

    def test_afterAJump(self) -> None:
        """A reactor that was busy for long calls all that is due, in order."""
        for delay in (30.0, 1.0, 20.0, 0.2, 90.0):
            self.wheel.schedule(delay, self.call, delay)
        self.clock.advance(60)
        self.assertEqual([argument for _, argument in self.called], [0.2, 1.0, 20.0, 30.0])
        self.clock.advance(60)
        self.assertEqual(len(self.called), 5)

    @settings(max_examples=100, deadline=None)
    @given(st.floats(0, 1000), st.lists(st.tuples(st.floats(0, 0.2), st.floats(0, 3)), min_size=1, max_size=10))
    def test_neverEarlyLittleLate(self, start: float, timers: list[tuple[float, float]]) -> None:
        """Each comes at its time or up to a tick later, wherever on the clock it and the wheel began."""
        clock = Clock()
        clock.advance(start)
        wheel = TimingWheel(clock)
        late: list[float] = []
        for gap, delay in timers:
            for _ in range(20):
                clock.advance(gap / 20)
            due = clock.seconds() + delay
            wheel.schedule(delay, lambda due: late.append(clock.seconds() - due), due)
        # Finer than a tick, so that the test's steps are not what makes a call late.
        for _ in range(round(4 / TICK) * 10):
            clock.advance(TICK / 10)
        self.assertEqual(len(late), len(timers))
        self.assertGreaterEqual(min(late), -1e-6)
        self.assertLessEqual(max(late), TICK + TICK / 10 + 1e-6)
        self.assertEqual((wheel.running, clock.getDelayedCalls()), (False, []))

    def test_laterByWriting(self) -> None:
        """Writing a later deadline moves the call, as often as one likes."""
        timer = self.wheel.schedule(1.0, self.call, "x")
        for _ in range(5):
            self.advance(0.8)
            timer.deadline = self.clock.seconds() + 1.0
        self.assertEqual(self.called, [])
        self.advance(0.9)
        self.assertEqual(self.called, [])
        self.advance(0.3)
        self.assertEqual(len(self.called), 1)

    def test_cancel(self) -> None:
        """A cancelled timer is not called; cancelling twice, or after the call, does nothing."""
        timer = self.wheel.schedule(1.0, self.call, 1)
        other = self.wheel.schedule(1.0, self.call, 2)
        self.assertTrue(timer.active)
        self.wheel.cancel(timer)
        self.wheel.cancel(timer)
        self.assertFalse(timer.active)
        self.assertEqual(len(self.wheel), 1)
        self.advance(2)
        self.wheel.cancel(other)
        self.assertEqual([argument for _, argument in self.called], [2])
        self.assertEqual(len(self.wheel), 0)

    def test_cancelLetsGo(self) -> None:
        """Neither a cancelled nor a fired timer keeps its call or its argument."""
        timers = [self.wheel.schedule(1.0, self.call, object()) for _ in range(2)]
        self.wheel.cancel(timers[0])
        self.advance(2)
        for timer in timers:
            self.assertEqual((timer._call, timer._argument), (None, None))

    def test_stopsWhenEmpty(self) -> None:
        """It asks nothing of the reactor while there is no timer, and starts again with the next."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        timer = self.wheel.schedule(1.0, self.call, 1)
        self.assertTrue(self.wheel.running)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.wheel.cancel(timer)
        self.assertFalse(self.wheel.running)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.schedule(1.0, self.call, 2)
        self.advance(2)
        self.assertEqual([argument for _, argument in self.called], [2])
        self.assertEqual((self.wheel.running, self.clock.getDelayedCalls()), (False, []))

    def test_exception(self) -> None:
        """An exception of a call is logged and hurts no other timer, of the same tick or later."""
        self.wheel.schedule(1.0, lambda _: 1 / 0)
        self.wheel.schedule(1.0, self.call, 1)
        self.wheel.schedule(2.0, self.call, 2)
        self.advance(3)
        self.assertEqual([argument for _, argument in self.called], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_notOnlyExceptions(self) -> None:
        """Nor does a SystemExit: a wheel that stands still would take every timeout of the service with it."""

        def leave(_: object) -> None:
            raise SystemExit

        self.wheel.schedule(1.0, leave)
        self.wheel.schedule(1.0, self.call, 1)
        self.wheel.schedule(2.0, self.call, 2)
        self.advance(3)
        self.flushLoggedErrors(SystemExit)
        self.assertEqual([argument for _, argument in self.called], [1, 2])

    def test_withinACall(self) -> None:
        """Calls may schedule and cancel, themselves and others of the same tick too."""
        timers: dict[str, WheelTimer] = {}

        def first(_: object) -> None:
            self.wheel.cancel(timers["second"])
            self.wheel.cancel(timers["later"])
            self.wheel.schedule(0.0, self.call, "soon")
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

    def test_drift(self) -> None:
        """A timer that schedules itself again comes as often as its period says, over a long time."""

        def again(_: object) -> None:
            self.call(None)
            self.wheel.schedule(1.0, again)

        self.wheel.schedule(1.0, again)
        for _ in range(1000):
            self.clock.advance(TICK)
        # Up to a tick late each time.
        self.assertGreaterEqual(len(self.called), 90)
        self.assertLessEqual(len(self.called), 100)

    def test_tick(self) -> None:
        """The tick may be set."""
        wheel = TimingWheel(self.clock, tick=5.0)
        wheel.schedule(1.0, self.call, 1)
        self.advance(4.9)
        self.assertEqual(self.called, [])
        self.advance(0.2)
        self.assertEqual(len(self.called), 1)

    def test_cancelledOnesDoNotPileUp(self) -> None:
        """Timers that are cancelled again and again leave no more than the last seconds' behind."""
        keep = self.wheel.schedule(1000.0, self.call)
        for _ in range(300):
            for _ in range(10):
                self.wheel.cancel(self.wheel.schedule(5.0, self.call))
            self.clock.advance(TICK)
        left = sum(len(bucket) for bucket in self.wheel._buckets.values())
        self.assertLessEqual(left, 10 * 5 / TICK + 20)
        self.wheel.cancel(keep)
        self.assertEqual(self.wheel._buckets, {})
