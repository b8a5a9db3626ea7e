"""
Deadlines of calls without a timer for each.

Calls with the same time-out expire in the order in which they were made. So there is a queue for each time-out, and one
timer for its head. What has ended in time is skipped when it comes to the head.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.settings import MAX_SECONDS
from getty_tx.wheel import WheelTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.context import ServiceContext

__all__ = ["Deadlines", "checkTimeout", "rounded"]

#: Seconds below which a queue's timer is the reactor's and not the wheel's, which is up to a tick late.
PRECISE = 1.0

#: Ended calls behind an open one, or queues without an open call, in excess of twice the open calls, above which they
#: are removed.
MAX_ENDED = 64


def rounded(timeout: float) -> float:
    """The time-out of a call that has inherited its deadline, up to a tenth of a second more: few queues serve all."""
    return ceil(timeout * 10) / 10


def checkTimeout(timeout: Any) -> None:
    """
    See whether a call may have a time-out: None, or seconds; 0 and less are no time, which is no mistake.

    :raise SettingError: it is no number, not finite, or more than 30 years.
    """
    if type(timeout) in (int, float) and -MAX_SECONDS <= timeout <= 0:
        return
    settings.optionalSeconds("timeout", timeout)


class Deadlines:
    """
    The deadlines of one table of calls.

    :param context: has the wheel and the reactor.
    :param table: the open calls by number; each has an attribute ``expiresAt``.
    :param expired: called with each call that is still in the table at its deadline, and its time-out; it removes it.
    """

    __slots__ = ("_context", "_expired", "_queues", "_table", "_timers")

    def __init__(self, context: ServiceContext, table: dict[int, Any], expired: Callable[[Any, float], object]) -> None:
        self._context = context
        self._table = table
        self._expired = expired
        # By time-out, in turns: a number, and when its call expires. The number may belong to a later call by then.
        self._queues: dict[float, deque[Any]] = {}
        self._timers: dict[float, Any] = {}

    def add(self, number: int, call: Any, timeout: float) -> None:
        """The call with that number, which is in the table, ends after ``timeout`` seconds at the latest."""
        at = call.expiresAt = self._context.seconds() + timeout
        queue = self._queues.get(timeout)
        table = self._table
        if queue is None:
            if len(self._queues) > 2 * len(table) + MAX_ENDED:
                self._sweep()
            self._queues[timeout] = deque((number, at))
            self._schedule(timeout, timeout)
            return
        while queue:
            head = table.get(queue[0])
            if head is not None and head.expiresAt == queue[1]:
                break
            queue.popleft()
            queue.popleft()
        queue.append(number)
        queue.append(at)
        if len(queue) > 4 * len(table) + 2 * MAX_ENDED:
            self._tidy(queue)

    def stop(self) -> None:
        """Forget all."""
        self._queues.clear()
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            _stop(timer)

    def _isOpen(self, number: int, at: float) -> bool:
        call = self._table.get(number)
        return call is not None and call.expiresAt == at

    def _tidy(self, queue: deque[Any]) -> None:
        """Remove ended calls from a queue."""
        entries = list(queue)
        # In place: what expires now may have added to the queue that is being looked at.
        queue.clear()
        for number, at in zip(entries[::2], entries[1::2], strict=True):
            if self._isOpen(number, at):
                queue.append(number)
                queue.append(at)

    def _sweep(self) -> None:
        """Remove queues that have no open call: a time-out that is used once would keep its queue until it is over."""
        # A queue that is being looked at has no timer.
        for timeout in list(self._timers):
            queue = self._queues[timeout]
            self._tidy(queue)
            if not queue:
                del self._queues[timeout]
                _stop(self._timers.pop(timeout))

    def _schedule(self, timeout: float, delay: float) -> None:
        if delay < PRECISE:
            self._timers[timeout] = self._context.reactor.callLater(max(delay, 0.0), self._look, timeout)
        else:
            self._timers[timeout] = self._context.wheel.schedule(delay, self._look, timeout)

    def _look(self, timeout: float) -> None:
        queue = self._queues[timeout]
        del self._timers[timeout]
        table = self._table
        now = self._context.seconds()
        while queue:
            number, at = queue[0], queue[1]
            isOpen = self._isOpen(number, at)
            if isOpen and at > now:
                self._schedule(timeout, at - now)
                return
            queue.popleft()
            queue.popleft()
            if isOpen:
                self._expired(table[number], timeout)
        # Unless all was forgotten by what has expired.
        if self._queues.get(timeout) is queue:
            del self._queues[timeout]


def _stop(timer: Any) -> None:
    if isinstance(timer, WheelTimer):
        timer.stop()
    elif timer.active():
        timer.cancel()
