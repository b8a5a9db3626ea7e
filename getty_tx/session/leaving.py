"""
The sessions of a service that stops, closed at a pace.

Clients that all come back at once are more than the servers that are left may be able to take.
"""

from __future__ import annotations

from random import uniform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["INTERVAL", "Pace", "closeAtPace", "closeWith", "farewell"]

#: Seconds between two rounds.
INTERVAL = 0.05


class Pace:
    """
    So many a second, from its first question on.

    :param rate: how many.
    :param seconds: the clock.
    """

    __slots__ = ("_began", "_left", "_rate", "_seconds")

    def __init__(self, rate: float, seconds: Callable[[], float]) -> None:
        self._rate = rate
        self._seconds = seconds
        self._began: float | None = None
        self._left = 0

    def take(self) -> bool:
        """Whether one more may go now."""
        now = self._seconds()
        if self._began is None:
            self._began = now
        if self._left > (now - self._began) * self._rate:
            return False
        self._left += 1
        return True


def closeAtPace(sessions: Iterable[Any], pace: Pace, reactor: Any) -> None:
    """
    Stop sessions, the first ones now. Those that have ended by themselves meanwhile count for nothing.

    :param reactor: for the later ones.
    """
    waiting = list(sessions)

    def some() -> None:
        while waiting:
            if not waiting[-1].isClosed and not pace.take():
                reactor.callLater(INTERVAL, some)
                return
            waiting.pop().stop()

    some()


def closeWith(session: Any, code: int, reason: str) -> None:
    """
    Close a session: a WebSocket with this code in its Close frame, others without.

    :param code: as for :py:meth:`getty_tx.MessageSession.closeWith`.
    """
    close = getattr(session, "closeWith", None)
    if close is not None:
        close(code, reason)
    else:
        session.close(reason)


def farewell(retryWithin: float | None) -> str:
    """
    The reason in the Close frames of a server that stops.

    :param retryWithin: seconds in which all its clients should come back, each at a time of its own; None: they may
        come back at once.
    """
    return "the server stops" if retryWithin is None else f"the server stops; retry={uniform(0, retryWithin):.1f}"
