"""
The timing wheel: any number of timers behind one LoopingCall.

Twisted's ``callLater`` costs a heap entry and some objects for each timer and each reset. Here time goes in ticks, and
a timer lies in the bucket of the tick in which it is due. Adding one, moving it and stopping it take the same time
however many there are, and a tick touches only what is due in it. The LoopingCall runs only while there are timers, so
that an idle program leaves the reactor alone and a test leaves it clean.

::

    wheel = TimingWheel(reactor)
    timer = wheel.schedule(30, giveUp, request)
    timer.reset(30)
    timer.stop()
    wheel.schedule(60, writeReport, loop=True)

All of it belongs to the reactor's thread.
"""

from __future__ import annotations

from math import ceil, floor, inf
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.reflect import fullyQualifiedName, safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IReactorTime

__all__ = ["TICK", "TimingWheel", "WheelTimer"]

log = Logger()

#: Seconds between two turns, and so how late a timer may fire.
TICK = 0.1

#: A part of a tick, by which two floats may differ and still mean the same tick: a microsecond where it is 0.1 s. Two
#: floats that are seconds since 1970 and next to each other differ by a quarter of that.
_SLACK = 1e-5

#: Of a period in ticks, by how much of it a whole number may differ that is meant, as floats make 2.9999999999999996 of
#: 0.3 / 0.1.
_ROUNDING = 1e-12

#: A part of a tick, by which a turn may be late and still counts as on time.
_PUNCTUAL = 0.1

#: Periods that are kept in ticks, so that timers share the number.
_MOST_PERIODS = 64

#: Entries of stopped timers, beside as many as there are timers, above which the buckets are cleared of them.
_MOST_STALE = 64

#: Seconds that nobody will wait; more of them would be too many to be counted in ticks.
_FOREVER = 1e200

#: The tick of a timer that is on no wheel.
_NEVER = -1


class WheelTimer:
    """A call to come, or a row of them; :py:meth:`TimingWheel.schedule` makes it."""

    # The entry that counts is the one in the bucket _at, and _due is when to call. A reset to later writes _due alone,
    # and the entry moves when its bucket's turn comes. A reset to earlier makes another, and the old one is stale.
    __slots__ = ("_argument", "_at", "_call", "_due", "_period", "_wheel")

    def __init__(self, wheel: TimingWheel, call: Callable[[Any], object], argument: Any) -> None:
        self._wheel = wheel
        self._call: Callable[[Any], object] | None = call
        self._argument = argument
        self._at = self._due = _NEVER
        # Ticks between two calls; where that is no whole number, when the row began as well. None: one call.
        self._period: int | tuple[float, float] | None = None

    @property
    def active(self) -> bool:
        """True until the one call has begun, or the timer was stopped."""
        return self._call is not None

    @property
    def left(self) -> float:
        """Seconds until the call: 0 when it is late, infinite when none will come."""
        wheel = self._wheel
        if self._call is None:
            return inf
        return max(0.0, wheel._began + self._due * wheel.tick - wheel.seconds())

    def reset(self, delay: float) -> bool:
        """
        Call ``delay`` seconds from now instead, sooner or later than before; a loop goes on with that period.

        :return: False when the call has begun or the timer was stopped; nothing comes of it then.
        :raise ValueError: the delay is not a finite number above 0.
        """
        return self._wheel._reset(self, delay)

    def stop(self) -> None:
        """Do not call (any more). A timer that is not active is left alone. It lets go of the call and its argument."""
        if self._call is not None:
            self._wheel._remove(self)


class TimingWheel:
    """
    Timers with the resolution of a tick.

    A call comes at its time or up to a tick later, never earlier, and after those of earlier ticks. One that raises is
    logged, one that takes longer than a tick is warned of, and neither stops or shifts the others. After a stall of the
    process or a leap of the clock all that is due is called at once, in its order, a loop only once. When the clock was
    set back, what was left of each timer is still left: that is seen as soon as a timer is scheduled or reset.

    :param clock: the reactor, or a :py:class:`twisted.internet.task.Clock`.
    :param tick: seconds between two turns.
    :raise ValueError: the tick is not a finite number above 0.

    :ivar seconds: the clock's time.
    :ivar late: seconds by which the turn that runs, or ran last, came too late.
    """

    def __init__(self, clock: IReactorTime, tick: float = TICK) -> None:
        self._clock = clock
        self.seconds: Callable[[], float] = clock.seconds
        self.tick = _checked("tick", tick)
        self.late = 0.0
        self._buckets: dict[int, list[WheelTimer]] = {}
        # When tick 0 was, and the last tick that has had its turn, and when that was.
        self._began = 0.0
        self._turned = 0
        self._seen = 0.0
        self._active = 0
        self._stale = 0
        self._turning = False
        self._periods: dict[float, int] = {}
        self._loop: LoopingCall | None = None

    def __len__(self) -> int:
        """How many timers are active."""
        return self._active

    @property
    def running(self) -> bool:
        """True while the LoopingCall runs."""
        return self._loop is not None

    def schedule(
        self, delay: float, call: Callable[[Any], object], argument: Any = None, loop: bool = False
    ) -> WheelTimer:
        """
        Call ``call(argument)`` in ``delay`` seconds, of which there may be any number.

        :param loop: again and again, each ``delay`` seconds after the last call was due. Calls that were missed are not
            made up for, and an exception does not end it. Below a tick, once a tick.
        :raise ValueError: the delay is not a finite number above 0.
        """
        delay = _checked("delay", delay)
        timer = WheelTimer(self, call, argument)
        if self._loop is None:
            self._start()
        self._active += 1
        self._insert(timer, self._aim(timer, delay, loop))
        return timer

    def stop(self) -> None:
        """Stop all timers. Others may be scheduled afterwards."""
        for bucket in list(self._buckets.values()):
            for timer in bucket.copy():
                timer.stop()

    @property
    def respite(self) -> float:
        """
        Seconds to wait before silence is believed, for calls that look for signs of life.

        Timers come before what has arrived is read. When a turn is late, that may be much; at the next turn it is read.
        Otherwise 0.
        """
        return self.tick / 2 if self.late > self.tick * _PUNCTUAL else 0.0

    def phase(self, period: float) -> int:
        """
        Loops with the same period and the same phase at the time when they were scheduled are due in the same ticks.

        :return: the phase now; -1 where the period is no whole number of ticks.
        """
        whole = self._periods.get(period) or self._wholePeriod(period)
        return max(ceil(self._ticks() - _SLACK), self._turned) % whole if whole else -1

    # Timers

    def _ticks(self) -> float:
        """What time it is, in ticks."""
        now = self.seconds()
        if now < self._seen - self.tick:
            self._setBack(now)
        return (now - self._began) / self.tick

    def _aim(self, timer: WheelTimer, delay: float, loop: bool) -> int:
        """The tick in which the timer is due, ``delay`` from now; notes the period of a loop."""
        at = self._ticks()
        ticks = delay / self.tick
        if loop:
            whole = self._periods.get(delay) or self._wholePeriod(delay)
            if whole:
                timer._period = whole
                return max(ceil(at - _SLACK), self._turned) + whole
            timer._period = (at, ticks)
        return max(ceil(at + ticks - _SLACK), self._turned + 1)

    def _wholePeriod(self, delay: float) -> int:
        """A period in ticks, or 0 where that is no whole number."""
        ticks = delay / self.tick
        whole = round(ticks)
        if abs(ticks - whole) > whole * _ROUNDING:
            return 0
        if len(self._periods) >= _MOST_PERIODS:
            self._periods.clear()
        self._periods[delay] = whole
        return whole

    def _nextDue(self, due: int, period: int | tuple[float, float]) -> int:
        """When a loop is due again: the first time in its row that is still to come."""
        turned = self._turned
        if isinstance(period, int):
            due += period
            if due <= turned:
                due += ((turned - due) // period + 1) * period
            return due
        start, ticks = period
        number = floor((turned - start) / ticks + _SLACK) + 1
        return max(ceil(start + number * ticks - _SLACK), turned + 1)

    def _insert(self, timer: WheelTimer, due: int) -> None:
        timer._at = timer._due = due
        bucket = self._buckets.get(due)
        if bucket is None:
            self._buckets[due] = [timer]
        else:
            bucket.append(timer)

    def _reset(self, timer: WheelTimer, delay: float) -> bool:
        delay = _checked("delay", delay)
        if timer._call is None:
            return False
        due = self._aim(timer, delay, timer._period is not None)
        if due >= timer._at:
            timer._due = due
        else:
            self._stale += 1
            self._insert(timer, due)
            self._tidy()
        return True

    def _remove(self, timer: WheelTimer) -> None:
        timer._call = timer._argument = None
        timer._at = timer._due = _NEVER
        self._active -= 1
        self._stale += 1
        self._tidy()

    def _tidy(self) -> None:
        """Stop when there is no timer, or clear the buckets of stale entries when there are more than timers."""
        if self._turning:
            # It is done at the end of the turn.
            return
        if not self._active:
            self._stop()
        elif self._stale > self._active + _MOST_STALE:
            self._stale = 0
            for index, bucket in list(self._buckets.items()):
                # A timer that came back to its bucket has two entries there.
                bucket[:] = dict.fromkeys(timer for timer in bucket if timer._at == index)
                if not bucket:
                    del self._buckets[index]

    # Turns

    def _start(self) -> None:
        self._began = self._seen = self.seconds()
        self._turned = 0
        self._loop = loop = LoopingCall(self._turn)
        loop.clock = self._clock
        loop.start(self.tick, now=False)

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        self._buckets.clear()
        self._stale = 0
        if loop is not None and loop.running:
            loop.stop()

    def _setBack(self, now: float) -> None:
        """The clock was set back: count the ticks on from there, instead of waiting until it is as late again."""
        self._began = now - self._turned * self.tick
        self._seen = now
        if self._loop is not None:
            # The LoopingCall waits for a time that is far away.
            self._loop.reset()

    def _turn(self) -> None:
        now = self.seconds()
        before = self._turned
        ticks = (now - self._began) / self.tick
        upTo = int(ticks + _SLACK)
        self.late = max(0.0, ticks - before - 1) * self.tick
        if upTo < before:
            self._setBack(now)
            return
        self._seen = now
        self._turned = upTo
        self._turning = True
        try:
            if upTo == before + 1:
                if upTo in self._buckets:
                    self._call(upTo)
            elif upTo > before:
                self._catchUp(before, upTo)
        finally:
            self._turning = False
        self._tidy()

    def _catchUp(self, before: int, upTo: int) -> None:
        """Several ticks are due at once."""
        buckets = self._buckets
        indexes: Iterable[int] = range(before + 1, upTo + 1)
        if upTo - before > len(buckets):
            indexes = sorted(index for index in buckets if index <= upTo)
        found: dict[int, list[WheelTimer]] = {}
        for index in indexes:
            for timer in buckets.pop(index, ()):
                if timer._at != index:
                    self._stale -= 1
                elif timer._due > upTo:
                    self._insert(timer, timer._due)
                else:
                    # One that was moved comes among those of its own tick.
                    timer._at = timer._due
                    found.setdefault(timer._due, []).append(timer)
        # While they wait for their turn, stop() has to find them.
        buckets.update(found)
        for index in sorted(found):
            self._call(index)

    def _call(self, index: int) -> None:
        """Call what is due in a bucket, each loop after it was put where it goes next; then drop the bucket."""
        seconds = self.seconds
        before = seconds()
        for timer in self._buckets[index]:
            if timer._due != index:
                if timer._at == index:
                    self._insert(timer, timer._due)
                else:
                    self._stale -= 1
                continue
            call = timer._call
            argument = timer._argument
            if timer._period is None:
                timer._call = timer._argument = None
                timer._at = timer._due = _NEVER
                self._active -= 1
            else:
                self._insert(timer, self._nextDue(index, timer._period))
            try:
                call(argument)  # type: ignore[misc]  # an active timer has one
            except BaseException:
                # Whatever it is, it must not end the LoopingCall and with it all other timers.
                log.failure("a timer's call failed: {call}", call=_describe(call, argument))
            after = seconds()
            if after - before > self.tick:
                log.warn(
                    "a timer's call took {seconds:.3g} s, and all else had to wait: {call}",
                    seconds=after - before,
                    call=_describe(call, argument),
                )
            before = after
        del self._buckets[index]


def _checked(name: str, value: float) -> float:
    if not 0 < value < inf:
        raise ValueError(f"{name}={value!r} is not a finite number of seconds above 0")
    return min(value, _FOREVER)


def _describe(call: Any, argument: Any) -> str:
    """What was called, for the log."""
    try:
        name = fullyQualifiedName(call)
    except AttributeError:
        name = safe_repr(call)
    return f"{name}({safe_repr(argument)[:200]})"
