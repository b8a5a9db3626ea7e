"""
The timing wheel: all timeouts of a service's sessions behind one LoopingCall.

Twisted's ``callLater`` costs a heap entry and an object per timer and per reset. Here a timer goes into the bucket of
the tick in which it is due, and resetting one to a later time is writing a float: the wheel looks at the time again
when the bucket's turn comes. The LoopingCall runs only while there are timers, so that an idle service leaves the
reactor alone and a test leaves it clean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

__all__ = ["TimingWheel", "WheelTimer"]

log = Logger()

#: Seconds between two turns, and so how late a timer may fire.
TICK = 0.1

#: A part of a tick, by which two floats may differ and still mean the same tick.
_SLACK = 1e-6


class WheelTimer:
    """
    One call to come.

    :ivar deadline: when, on the wheel's clock. Writing a later time moves the call; an earlier one needs a new timer.
    """

    __slots__ = ("_argument", "_call", "deadline")

    def __init__(self, deadline: float, call: Callable[[Any], object], argument: Any) -> None:
        self.deadline = deadline
        self._call: Callable[[Any], object] | None = call
        self._argument = argument

    @property
    def active(self) -> bool:
        """True until it has fired or was cancelled."""
        return self._call is not None


class TimingWheel:
    """
    Timers with the resolution of a tick.

    :param clock: the reactor, or a :py:class:`twisted.internet.task.Clock`.
    :param tick: seconds between two turns.
    """

    def __init__(self, clock: IReactorTime, tick: float = TICK) -> None:
        self._clock = clock
        self._tick = tick
        self._buckets: dict[int, list[WheelTimer]] = {}
        # The ticks are counted from when the LoopingCall was started, as its turns are.
        self._began = 0.0
        self._turned = 0
        self._active = 0
        self._loop: LoopingCall | None = None

    def __len__(self) -> int:
        """How many timers are to fire yet."""
        return self._active

    @property
    def running(self) -> bool:
        """True while the LoopingCall runs."""
        return self._loop is not None

    def schedule(self, delay: float, call: Callable[[Any], object], argument: Any = None) -> WheelTimer:
        """
        Call ``call(argument)`` once, ``delay`` seconds from now or up to a tick later, never earlier.

        An exception of the call is logged and hurts no other timer.
        """
        if self._loop is None:
            self._start()
        timer = WheelTimer(self._clock.seconds() + delay, call, argument)
        self._active += 1
        self._insert(timer)
        return timer

    def cancel(self, timer: WheelTimer) -> None:
        """Take the timer back; one that has fired or was cancelled is left alone. It keeps no reference to its call."""
        if timer._call is None:
            return
        timer._call = timer._argument = None
        self._active -= 1
        if not self._active:
            self._stop()

    def _insert(self, timer: WheelTimer) -> None:
        index = max(math.ceil((timer.deadline - self._began) / self._tick - _SLACK), self._turned + 1)
        bucket = self._buckets.get(index)
        if bucket is None:
            self._buckets[index] = [timer]
        else:
            bucket.append(timer)

    def _start(self) -> None:
        self._began = self._clock.seconds()
        self._turned = 0
        self._loop = loop = LoopingCall(self._turn)
        loop.clock = self._clock
        loop.start(self._tick, now=False)

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        # What is left in the buckets was cancelled.
        self._buckets.clear()
        if loop is not None and loop.running:
            loop.stop()

    def _turn(self) -> None:
        now = self._clock.seconds()
        upTo = int((now - self._began) / self._tick + _SLACK)
        due: list[WheelTimer] = []
        if upTo - self._turned > len(self._buckets):
            for index in sorted(i for i in self._buckets if i <= upTo):
                due += self._buckets.pop(index)
        else:
            for index in range(self._turned + 1, upTo + 1):
                due += self._buckets.pop(index, ())
        self._turned = upTo
        early = now + self._tick * _SLACK
        for timer in due:
            call = timer._call
            if call is None:
                continue
            if timer.deadline > early:
                self._insert(timer)
                continue
            argument = timer._argument
            timer._call = timer._argument = None
            self._active -= 1
            try:
                call(argument)
            except BaseException:
                # Whatever it is, it must not end the LoopingCall and with it all other timers.
                log.failure("a timer's call failed")
        if not self._active:
            self._stop()
