"""Measures how long onMessage takes, on some sessions for a short time; at other times it costs nothing."""

from __future__ import annotations

from inspect import iscoroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from getty_tx.listener import ListenerProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from getty_tx.session.session import Session

__all__ = ["TimedListener"]


class TimedListener(ListenerProxy):
    """
    Replaces a session's listener while the session is measured.

    :param record: called with the seconds of each onMessage, in the thread that ran it.
    """

    __slots__ = ("_record",)

    def __init__(self, listener: Any, record: Callable[[float], object]) -> None:
        self.listener = listener
        self._record = record

    @classmethod
    def put(cls, session: Session, record: Callable[[float], object]) -> TimedListener:
        """Measure this session from its next message on."""
        holder: Any = session if session.work is None else session.work
        name = "receiver" if session.work is None else "listener"
        listener = getattr(holder, name)
        timed = cls(listener.listener if type(listener) is cls else listener, record)
        setattr(holder, name, timed)
        return timed

    def take(self, session: Session) -> None:
        """Stop to measure; a listener that was set in the meantime stays."""
        holder: Any = session if session.work is None else session.work
        name = "receiver" if session.work is None else "listener"
        if getattr(holder, name) is self:
            setattr(holder, name, self.listener)

    def __getattr__(self, name: str) -> Any:
        # All other events.
        return getattr(self.listener, name)

    def __repr__(self) -> str:
        return repr(self.listener)

    def onMessage(self, session: Session, pkg: Any) -> Any:
        """Forward the package, and record the time that the listener takes."""
        return self._time(self.listener.onMessage, session, pkg)

    def onMessages(self, session: Session, packages: list[Any]) -> Any:
        """As onMessage: a list counts once."""
        return self._time(self.listener.onMessages, session, packages)

    def _time(self, call: Callable[..., Any], session: Session, pkg: Any) -> Any:
        before = perf_counter()
        result = call(session, pkg)
        if iscoroutine(result):
            return self._timed(result, before)
        self._record(perf_counter() - before)
        return result

    async def _timed(self, result: Coroutine[Any, Any, Any], before: float) -> Any:
        try:
            return await result
        finally:
            self._record(perf_counter() - before)
