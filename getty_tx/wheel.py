"""
The timing wheel: any number of timers behind one LoopingCall.

Twisted's ``callLater`` costs a heap entry and some objects for each timer and each reset. The wheel counts time in
ticks, and keeps a timer in the bucket of the tick in which it is due. To add, move or stop a timer takes the same time
for any number of timers, and a tick touches only the timers that are due in it. The LoopingCall runs only while there
are timers, so that an idle program does not wake the reactor and a test leaves it clean.

::

    wheel = TimingWheel(reactor)
    timer = wheel.schedule(30, giveUp, request)
    timer.reset(30)
    timer.stop()
    wheel.schedule(60, writeReport, loop=True)

Everything here is for the reactor's thread only.
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

#: Seconds between two turns of the wheel, which is also how late a timer may fire.
TICK = 0.1

#: Fraction of a tick by which two floats may differ and still mean the same tick: a microsecond for a tick of 0.1 s.
#: Adjacent floats of seconds since 1970 differ by a quarter of that.
_SLACK = 1e-5

#: Fraction by which a period in ticks may differ from a whole number and still count as whole: 0.3 / 0.1 is
#: 2.9999999999999996 in floats.
_ROUNDING = 1e-12

#: Fraction of a tick by which a turn may be late and still counts as on time.
_LATE_FROM = 0.1

#: Maximum number of periods that are cached in ticks, so that timers share the int object.
MAX_PERIODS = 64

#: Stale entries, in excess of the number of timers, above which they are removed from the buckets.
MAX_STALE_ENTRIES = 64

#: Seconds. Longer delays are cut to this, because their number of ticks could overflow a float.
_MAX_DELAY = 1e200

#: The tick of a timer that is on no wheel.
_NO_TICK = -1


class WheelTimer:
    """A scheduled call, once or repeated; made by :py:meth:`TimingWheel.schedule`."""

    # The slots are for this module only. The valid entry is the one in the bucket of tick ``bucket``; ``due`` is the
    # tick of the call. A reset to later changes ``due`` only, and the entry moves when its bucket's turn comes. A reset
    # to earlier adds an entry, and the old one becomes stale.
    __slots__ = ("argument", "bucket", "call", "due", "period", "wheel")

    def __init__(self, wheel: TimingWheel, call: Callable[[Any], object], argument: Any) -> None:
        self.wheel = wheel
        self.call: Callable[[Any], object] | None = call
        self.argument = argument
        self.bucket = self.due = _NO_TICK
        # Ticks between two calls; if that is no whole number, (start of the loop, ticks). None: a single call.
        self.period: int | tuple[float, float] | None = None

    @property
    def active(self) -> bool:
        """True until a single call has begun, or the timer was stopped."""
        return self.call is not None

    @property
    def left(self) -> float:
        """Seconds until the call: 0 if it is late, infinite if the timer is not active."""
        wheel = self.wheel
        if self.call is None:
            return inf
        return max(0.0, wheel.began + self.due * wheel.tick - wheel.seconds())

    def reset(self, delay: float) -> bool:
        """
        Move the call to ``delay`` seconds from now; a loop goes on with that period.

        :return: False, with no effect, if the timer is not active.
        :raise ValueError: the delay is not a finite number above 0.
        """
        return self.wheel.resetTimer(self, delay)

    def stop(self) -> None:
        """Cancel the timer, and drop the references to the call and its argument. Does nothing if it is not active."""
        if self.call is not None:
            self.wheel.removeTimer(self)


class TimingWheel:
    """
    Timers with the resolution of a tick.

    A call comes at its time or up to a tick later, never earlier, and after the calls of earlier ticks. A call that
    raises is logged, and a call that takes longer than a tick logs a warning; neither stops or shifts other timers.
    After a stall of the process or a forward jump of the clock all due timers are called at once, in order, a loop only
    once. If the clock is set back, each timer keeps its remaining time; the wheel notices when a timer is scheduled or
    reset.

    :param clock: the reactor, or a :py:class:`twisted.internet.task.Clock`.
    :param tick: seconds between two turns.
    :raise ValueError: the tick is not a finite number above 0.

    :ivar seconds: the clock's time.
    :ivar late: seconds by which the present or last turn was late.
    """

    def __init__(self, clock: IReactorTime, tick: float = TICK) -> None:
        self._clock = clock
        self.seconds: Callable[[], float] = clock.seconds
        self.tick = _checked("tick", tick)
        self.late = 0.0
        # Entries of timers by tick, and the number of stale entries: for this module and its tests.
        self.buckets: dict[int, list[WheelTimer]] = {}
        self.staleEntries = 0
        # The time of tick 0 (WheelTimer reads it), the last tick whose turn has come, and the time of that turn.
        self.began = 0.0
        self._turned = 0
        self._seen = 0.0
        self._active = 0
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
        Call ``call(argument)`` in ``delay`` seconds.

        :param loop: repeat the call, each time ``delay`` seconds after the last one was due. Missed calls are skipped,
            and an exception does not end the loop. A delay below a tick means once a tick.
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
        """Stop all timers. New ones may be scheduled afterwards."""
        for bucket in list(self.buckets.values()):
            for timer in bucket.copy():
                timer.stop()

    @property
    def respite(self) -> float:
        """
        Seconds that a time-out check should wait before it takes silence for a dead peer; 0 if the turn is on time.

        The reactor calls timers before it reads. When a turn is late, much unread data may have arrived; it is read
        before the next turn.
        """
        return self.tick / 2 if self.late > self.tick * _LATE_FROM else 0.0

    def phase(self, period: float) -> int:
        """
        The phase of a loop scheduled now. Loops with the same period and phase are due in the same ticks.

        :return: the phase; -1 if the period is no whole number of ticks.
        """
        whole = self._periods.get(period) or self._wholePeriod(period)
        return max(ceil(self._ticks() - _SLACK), self._turned) % whole if whole else -1

    # For WheelTimer

    def resetTimer(self, timer: WheelTimer, delay: float) -> bool:
        delay = _checked("delay", delay)
        if timer.call is None:
            return False
        due = self._aim(timer, delay, timer.period is not None)
        if due >= timer.bucket:
            timer.due = due
        else:
            self.staleEntries += 1
            self._insert(timer, due)
            self._tidy()
        return True

    def removeTimer(self, timer: WheelTimer) -> None:
        timer.call = timer.argument = None
        timer.bucket = timer.due = _NO_TICK
        self._active -= 1
        self.staleEntries += 1
        self._tidy()

    # Timers

    def _ticks(self) -> float:
        """The present time in ticks."""
        now = self.seconds()
        if now < self._seen - self.tick:
            self._setBack(now)
        return (now - self.began) / self.tick

    def _aim(self, timer: WheelTimer, delay: float, loop: bool) -> int:
        """The tick that is ``delay`` seconds from now; sets the period of a loop."""
        at = self._ticks()
        ticks = delay / self.tick
        if loop:
            whole = self._periods.get(delay) or self._wholePeriod(delay)
            if whole:
                timer.period = whole
                return max(ceil(at - _SLACK), self._turned) + whole
            timer.period = (at, ticks)
        return max(ceil(at + ticks - _SLACK), self._turned + 1)

    def _wholePeriod(self, delay: float) -> int:
        """A period in ticks, or 0 if that is no whole number."""
        ticks = delay / self.tick
        whole = round(ticks)
        if abs(ticks - whole) > whole * _ROUNDING:
            return 0
        if len(self._periods) >= MAX_PERIODS:
            self._periods.clear()
        self._periods[delay] = whole
        return whole

    def _nextDue(self, due: int, period: int | tuple[float, float]) -> int:
        """The next tick in which a loop is due: the first of its ticks in the future."""
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
        timer.bucket = timer.due = due
        bucket = self.buckets.get(due)
        if bucket is None:
            self.buckets[due] = [timer]
        else:
            bucket.append(timer)

    def _tidy(self) -> None:
        """Stop if there is no timer; remove stale entries if they are too many."""
        if self._turning:
            # _turn does it at its end.
            return
        if not self._active:
            self._stop()
        elif self.staleEntries > self._active + MAX_STALE_ENTRIES:
            self.staleEntries = 0
            for index, bucket in list(self.buckets.items()):
                # A timer that was moved away and back has two entries in its bucket.
                bucket[:] = dict.fromkeys(timer for timer in bucket if timer.bucket == index)
                if not bucket:
                    del self.buckets[index]

    # Turns

    def _start(self) -> None:
        self.began = self._seen = self.seconds()
        self._turned = 0
        self._loop = loop = LoopingCall(self._turn)
        loop.clock = self._clock
        loop.start(self.tick, now=False)

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        self.buckets.clear()
        self.staleEntries = 0
        if loop is not None and loop.running:
            loop.stop()

    def _setBack(self, now: float) -> None:
        """The clock was set back: continue the ticks from now, instead of waiting until the clock has caught up."""
        self.began = now - self._turned * self.tick
        self._seen = now
        if self._loop is not None:
            # The LoopingCall waits for a time that is now far in the future.
            self._loop.reset()

    def _turn(self) -> None:
        now = self.seconds()
        before = self._turned
        ticks = (now - self.began) / self.tick
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
                if upTo in self.buckets:
                    self._callDue(upTo)
            elif upTo > before:
                self._catchUp(before, upTo)
        finally:
            self._turning = False
        self._tidy()

    def _catchUp(self, before: int, upTo: int) -> None:
        """Call the timers of several ticks that are due at once."""
        buckets = self.buckets
        indexes: Iterable[int] = range(before + 1, upTo + 1)
        if upTo - before > len(buckets):
            indexes = sorted(index for index in buckets if index <= upTo)
        found: dict[int, list[WheelTimer]] = {}
        for index in indexes:
            for timer in buckets.pop(index, ()):
                if timer.bucket != index:
                    self.staleEntries -= 1
                elif timer.due > upTo:
                    self._insert(timer, timer.due)
                else:
                    # A timer that was reset to later is called with the timers of its new tick.
                    timer.bucket = timer.due
                    found.setdefault(timer.due, []).append(timer)
        # Back into the buckets, so that stop() finds them until they are called.
        buckets.update(found)
        for index in sorted(found):
            self._callDue(index)

    def _callDue(self, index: int) -> None:
        """Call the due timers of a bucket, then drop the bucket. A loop is inserted anew before its call."""
        seconds = self.seconds
        before = seconds()
        for timer in self.buckets[index]:
            if timer.due != index:
                if timer.bucket == index:
                    self._insert(timer, timer.due)
                else:
                    self.staleEntries -= 1
                continue
            call = timer.call
            argument = timer.argument
            if timer.period is None:
                timer.call = timer.argument = None
                timer.bucket = timer.due = _NO_TICK
                self._active -= 1
            else:
                self._insert(timer, self._nextDue(index, timer.period))
            try:
                call(argument)  # type: ignore[misc]  # an active timer has one
            except BaseException:
                # No exception may end the LoopingCall, and with it all other timers.
                log.failure("a timer's call failed: {call}", call=_describe(call, argument))
            after = seconds()
            if after - before > self.tick:
                log.warn(
                    "a timer's call took {seconds:.3g} s and delayed all other work: {call}",
                    seconds=after - before,
                    call=_describe(call, argument),
                )
            before = after
        del self.buckets[index]


def _checked(name: str, value: float) -> float:
    if not 0 < value < inf:
        raise ValueError(f"{name}={value!r} is not a finite number of seconds above 0")
    return min(value, _MAX_DELAY)


def _describe(call: Any, argument: Any) -> str:
    """Name the call and its argument, for the log."""
    try:
        name = fullyQualifiedName(call)
    except AttributeError:
        name = safe_repr(call)
    return f"{name}({safe_repr(argument)[:200]})"
