"""
Deadlines of calls without a timer for each.

Calls with the same time-out expire in the order in which they were made. So there is a queue for each time-out, and one
timer for its head. What has ended in time is skipped when it comes to the head.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import TYPE_CHECKING, Any

from getty_tx.wheel import WheelTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.context import ServiceContext

__all__ = ["Deadlines", "rounded"]

#: Seconds below which a queue's timer is the reactor's and not the wheel's, which is up to a tick late.
PRECISE = 1.0

#: Ended calls behind an open one, in excess of twice the open ones, above which they are removed from a queue.
MAX_ENDED = 64


def rounded(timeout: float) -> float:
    """The time-out of a call that has inherited its deadline, up to a tenth of a second more: few queues serve all."""
    return ceil(timeout * 10) / 10


class Deadlines:
    """
    The deadlines of one table of calls.

    :param context: has the wheel and the reactor.
    :param table: the open calls by number; each has an attribute ``expiresAt``.
    :param expired: called with each call that is still in the table at its deadline; it removes it.
    """

    __slots__ = ("_context", "_expired", "_queues", "_table", "_timers")

    def __init__(self, context: ServiceContext, table: dict[int, Any], expired: Callable[[Any], object]) -> None:
        self._context = context
        self._table = table
        self._expired = expired
        self._queues: dict[float, deque[int]] = {}
        self._timers: dict[float, Any] = {}

    def add(self, number: int, call: Any, timeout: float) -> None:
        """The call with that number, which is in the table, ends after ``timeout`` seconds at the latest."""
        call.expiresAt = self._context.seconds() + timeout
        queue = self._queues.get(timeout)
        if queue is None:
            self._queues[timeout] = deque([number])
            self._schedule(timeout, timeout)
            return
        table = self._table
        while queue and queue[0] not in table:
            queue.popleft()
        queue.append(number)
        if len(queue) > 2 * len(table) + MAX_ENDED:
            self._queues[timeout] = deque(each for each in queue if each in table)

    def stop(self) -> None:
        """Forget all."""
        self._queues.clear()
        timers, self._timers = self._timers, {}
        for timer in timers.values():
            _stop(timer)

    def _schedule(self, timeout: float, delay: float) -> None:
        if delay < PRECISE:
            self._timers[timeout] = self._context.reactor.callLater(max(delay, 0.0), self._look, timeout)
        else:
            self._timers[timeout] = self._context.wheel.schedule(delay, self._look, timeout)

    def _look(self, timeout: float) -> None:
        queue = self._queues.get(timeout)
        if queue is None:
            return
        del self._timers[timeout]
        table = self._table
        now = self._context.seconds()
        while queue:
            call = table.get(queue[0])
            if call is not None:
                if call.expiresAt > now:
                    self._schedule(timeout, call.expiresAt - now)
                    return
                queue.popleft()
                self._expired(call)
            else:
                queue.popleft()
        # Unless all was forgotten by what has expired.
        if self._queues.get(timeout) is queue:
            del self._queues[timeout]


def _stop(timer: Any) -> None:
    if isinstance(timer, WheelTimer):
        timer.stop()
    elif timer.active():
        timer.cancel()
