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

    from getty_tx.outbound import Outbound

__all__ = ["Turn"]

#: Answers in a turn from which on those of the next turn wait for each other.
MANY = 4

#: Answers that leave together at most; the peers work on them meanwhile.
MOST = 64

#: Answers sent at once before the next turn is looked at.
PROBE = 64


class Turn:
    """
    Gathers the outbounds that have something to send.

    :ivar left: answers that are to be sent at once, counted down; below 0 they are added here.
    """

    __slots__ = ("_atEnd", "_gone", "_outbounds", "_scheduled", "left")

    def __init__(self, reactor: Any) -> None:
        # Called with what is to be called when the reactor's turn ends.
        self._atEnd: Callable[[Callable[[], object]], object]
        if IReactorTurns.providedBy(reactor):
            self._atEnd = reactor.callAtTurnsEnd
        else:
            self._atEnd = partial(reactor.callLater, 0)
        self._outbounds: list[Outbound] = []
        self._scheduled = False
        # Those of this turn that have left already.
        self._gone = 0
        self.left = PROBE

    def add(self, outbound: Outbound) -> None:
        """Release ``outbound`` when the turn ends."""
        outbounds = self._outbounds
        if not (outbounds or self._scheduled):
            self._scheduled = True
            self._atEnd(self._end)
        outbounds.append(outbound)
        # It was counted down from 0 for each, so that their number need not be asked for.
        if self.left <= -MOST:
            self._flush()

    def _flush(self) -> None:
        outbounds, self._outbounds = self._outbounds, []
        self._gone += len(outbounds)
        self.left = 0
        for outbound in outbounds:
            outbound.listed = False
            if outbound.queue is None:
                # Lost, or sent already as there was more than a chunk of it.
                outbound.corked = False
                continue
            try:
                outbound.release()
            except Exception as error:
                # Somebody who waited for this one raised: the others' answers leave all the same.
                outbound.session._callbackFailed(error)

    def _end(self) -> None:
        self._scheduled = False
        self._flush()
        self.left = 0 if self._gone >= MANY else PROBE
        self._gone = 0
