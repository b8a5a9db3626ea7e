"""The timing wheel compared with a model, in random programs."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import wheel
from getty_tx.wheel import TimingWheel, WheelTimer
from tests.support.long import examples

#: The ticks and steps of the model are exact in floats, so that results are equal.
MODEL_TICK, MODEL_STEP = 1 / 8, 1 / 64

times = st.sampled_from([1, 5, 8, 13, 20, 30, 40, 64, 90, 128, 200, 300, 800, 64_000])
places = st.integers(0, 30)
deeds = st.one_of(
    *[st.tuples(st.just("add"), times, st.booleans())] * 3,
    *[st.tuples(st.just("reset"), places, times)] * 3,
    st.tuples(st.just("stop"), places),
)
advances = st.tuples(st.just("advance"), st.sampled_from([1, 5, 8, 8, 16, 50, 100, 300, 1000, 100_000]))
programs = st.lists(st.one_of(deeds, deeds, advances), min_size=5, max_size=60)


class Model:
    """
    A wheel and a simple model of it. Each call is compared with the model, and does a step of the program.

    :ivar due: the tick of each timer. The start and the period of loops are in ``rows``.
    """

    def __init__(self, reactions: list[Any]) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.wheel = TimingWheel(self.clock, MODEL_TICK)
        self.reactions = list(reversed(reactions))
        self.timers: list[WheelTimer] = []
        self.due: dict[int, int] = {}
        self.rows: dict[int, tuple[float, float]] = {}
        self.began = self.turned = self.last = 0
        self.wrong: list[str] = []

    @property
    def now(self) -> float:
        """The time in ticks."""
        return self.clock.seconds() / MODEL_TICK

    def do(self, deed: Any) -> None:
        """A step of the program."""
        name, *args = deed
        if name == "advance":
            # call() checks each call; here, that none is missing.
            self.clock.advance(args[0] * MODEL_STEP)
            self.turned = self.last = math.floor(self.now)
            self.wrong += [f"{i} was due in tick {due}" for i, due in self.due.items() if due <= self.turned]
        elif name == "add":
            i = len(self.timers)
            self.timers.append(self.wheel.schedule(args[0] * MODEL_STEP, self.call, i, args[1]))
            self.set(i, args[0], args[1])
        elif self.timers:
            i = args[0] % len(self.timers)
            if name == "stop":
                self.timers[i].stop()
                self.due.pop(i, None)
                self.rows.pop(i, None)
            elif self.timers[i].reset(args[1] * MODEL_STEP) != (i in self.due):
                self.wrong.append(f"reset is wrong about {i}")
            elif i in self.due:
                self.set(i, args[1], i in self.rows)
        if [timer.active for timer in self.timers] != [i in self.due for i in range(len(self.timers))]:
            self.wrong.append(f"active after {deed}")
        if len(self.wheel) != len(self.due):
            self.wrong.append(f"{len(self.wheel)} timers, not {len(self.due)}, after {deed}")

    def set(self, i: int, delay: int, loop: bool) -> None:
        """Schedule the timer in the model."""
        if loop:
            self.rows[i] = self.now, delay * MODEL_STEP / MODEL_TICK
        self.due[i] = max(math.ceil(self.now + delay * MODEL_STEP / MODEL_TICK), math.floor(self.now) + 1)

    def call(self, i: int) -> None:
        """Check a call."""
        due = self.due.pop(i, None)
        if due is None:
            self.wrong.append(f"{i} was called, and is not due")
            return
        if not self.last <= due <= self.now:
            self.wrong.append(f"{i} of tick {due} was called at {self.now}, after one of {self.last}")
        self.last = due
        if i in self.rows:
            start, period = self.rows[i]
            number = (math.floor(self.now) - start) // period + 1
            self.due[i] = max(math.ceil(start + number * period), math.floor(self.now) + 1)
        if self.reactions:
            self.do(self.reactions.pop())


class ModelTests(SynchronousTestCase):
    """Random programs."""

    @settings(max_examples=examples(300), deadline=None)
    @given(programs, st.lists(deeds, max_size=20))
    def test_programs(self, program: list[Any], reactions: list[Any]) -> None:
        """
        Each timer is called once in its tick, a loop once for all its missed ticks, in the order of the ticks, while
        timers are added, moved and stopped, also in calls. Stale entries do not accumulate.
        """
        self.patch(wheel, "MAX_STALE_ENTRIES", 3)
        model = Model(reactions)
        # So that ticks begin at the same time as in the model.
        keep = model.wheel.schedule(1e9, lambda _: None)
        model.due[-1] = 10**10
        for deed in program:
            model.do(deed)
            self.assertEqual(model.wrong, [])
            entries = sum(map(len, model.wheel.buckets.values()))
            self.assertEqual(entries, len(model.wheel) + model.wheel.staleEntries)
            self.assertLessEqual(entries, 2 * len(model.wheel) + 3)
        for timer in (keep, *model.timers):
            timer.stop()
        self.assertEqual((model.wheel.running, model.clock.getDelayedCalls()), (False, []))
