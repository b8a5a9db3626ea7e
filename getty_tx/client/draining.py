"""Sessions that are used no more, and are closed when nothing is on its way on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session

__all__ = ["Drains"]

#: Seconds without a byte from the peer, after which no answer is expected any more.
QUIET = 0.5

#: Seconds between two looks at the sessions.
STEP = 0.1


class Drains:
    """
    Closes sessions when their bytes are out and nothing was read for half a second, at the latest after ``drainTime``.

    A listener that knows better has an ``isBusy``, as the peers of calls have: while it is true there is something on
    its way.

    :param drainTime: seconds.
    """

    __slots__ = ("_call", "_context", "_drainTime", "_sessions")

    def __init__(self, drainTime: float) -> None:
        self._drainTime = drainTime
        self._context: ServiceContext | None = None
        # When each was let go.
        self._sessions: dict[Session, float] = {}
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        """Nothing more will be written to a session."""
        if session.isClosed:
            return
        self._context = session.context
        self._sessions[session] = self._context.seconds()
        if self._call is None:
            self._call = self._context.reactor.callLater(STEP, self._look)

    def stop(self) -> None:
        """Leave the sessions to others."""
        self._sessions.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        assert self._context is not None
        now = self._context.seconds()
        for session, since in list(self._sessions.items()):
            if session.isClosed:
                self._sessions.pop(session, None)
                continue
            isQuiet = now - max(since, session.lastActive) >= QUIET and not session.pendingBytes
            if now - since >= self._drainTime or (isQuiet and not getattr(session.listener, "isBusy", False)):
                self._sessions.pop(session, None)
                session.close()
        if self._sessions and self._call is None:
            self._call = self._context.reactor.callLater(STEP, self._look)
