"""
Sending at the end of the reactor's turn, when many sessions have answers in it.

A peer that sleeps until an answer comes is woken by the kernel within the ``send``, at several times the cost of the
sending itself. Answers that leave one by one, each after the work of its own package, find the peers (or the one
process that is all of them) asleep again and again; answers that leave together wake it once. With few sessions ready,
waiting would only delay them, so that is done only where the last turn had many, and tried out from time to time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from getty_tx.interfaces import IReactorTurns

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.outbound import Outbound

__all__ = ["TurnCork"]

#: Answers in an iteration from which on those of the next iteration are sent together.
MANY = 4

#: Answers that are sent together at most, so that the peers can begin their work.
MOST = 64

#: Bytes. Taken from the system once, and given back whole, they make glibc keep twice as much at the end of its heap
#: (mallopt(3), M_MMAP_THRESHOLD) in place of 128 KiB: room for MOST answers of 64 KiB. Otherwise it would give back
#: what a turn's answers took, and have the system find and clear as much again in the next turn: with 32 KB packages
#: that is a third of all time.
KEPT = 2 * 1024 * 1024

#: Answers sent one by one before the next iteration is probed.
PROBE = 64


class TurnCork:
    """
    Holds the outbounds that have something to send. They add themselves, in :py:meth:`Outbound.uncork`.

    :ivar left: answers still to be sent one by one; below 0: how many were held back.
    :ivar waiting: the outbounds that were held back.
    """

    __slots__ = ("_atEnd", "_released", "_scheduled", "left", "waiting")

    def __init__(self, reactor: Any) -> None:
        # Schedules a call for the end of the reactor's iteration.
        self._atEnd: Callable[[Callable[[], object]], object]
        if IReactorTurns.providedBy(reactor):
            self._atEnd = reactor.callAtTurnsEnd
        else:
            self._atEnd = partial(reactor.callLater, 0)
        self.waiting: list[Outbound] = []
        self._scheduled = False
        # How many were released in this iteration.
        self._released = 0
        self.left = PROBE
        bytes(KEPT)

    def begin(self) -> None:
        """An outbound is held back: release all at the end of the reactor's iteration."""
        if not self._scheduled:
            self._scheduled = True
            self._atEnd(self._end)

    def release(self) -> None:
        """Let all outbounds that were held back send."""
        outbounds, self.waiting = self.waiting, []
        self._released += len(outbounds)
        self.left = 0
        for outbound in outbounds:
            outbound.heldToTurnEnd = False
            if outbound.queue is None:
                # The connection is lost, or more than a chunk was there and was sent.
                outbound.corked = False
                continue
            try:
                outbound.sendQueued()
            except Exception as error:
                # A drained() callback raised; keep flushing the other sessions.
                outbound.session.callbackFailed(error)

    def _end(self) -> None:
        self._scheduled = False
        self.release()
        self.left = 0 if self._released >= MANY else PROBE
        self._released = 0
