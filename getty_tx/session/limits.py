"""
When a session's time is up: silence ends at ``readTimeout``, a close and whatever that waits for at ``waitTime``.

The wheel is given functions and the session apart: a bound method for each timer would be one object more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from getty_tx.errors import IdleTimeoutError
from getty_tx.session.states import LOST

if TYPE_CHECKING:
    from getty_tx.session.state import SessionState
    from getty_tx.wheel import WheelTimer

__all__ = ["Lifetime", "checkClose", "checkSilence"]

log = Logger()

#: Looks at an idle session in each ``idleTimeout``. A write notes no time, so one between two looks counts from the
#: second of them on, and the session ends by up to such a part of ``idleTimeout`` later.
IDLE_CHECKS = 4


def checkSilence(session: SessionState) -> None:
    """A timer's: nothing may have come for ``readTimeout``."""
    _look(session, False)


def _checkSilenceAgain(session: SessionState) -> None:
    _look(session, True)


def _look(session: SessionState, sure: bool) -> None:
    """
    See whether that is so.

    :param sure: it was so before, and all that had arrived then was read since.
    """
    timeout = session._readTimeout
    if timeout is None:
        return
    now = session.context.seconds()
    wheel = session.context.wheel
    if session.inbound.paused or session.activeAt > now:
        # Not the peer is silent: this side does not listen. Or the clock was set back.
        session.activeAt = now
    left = session.activeAt + timeout - now
    if left > 0:
        session.readTimer = wheel.schedule(left, checkSilence, session)
    elif wheel.respite and not sure:
        session.readTimer = wheel.schedule(wheel.respite, _checkSilenceAgain, session)
    else:
        session.readTimedOut(timeout)


def checkClose(session: SessionState) -> None:
    """A timer's: the close, or a callback after the end, has taken ``waitTime``."""
    wait = session._waitTime
    if session.state >= LOST:
        if session.awaiting is not None:
            log.warn("{session}: cancelled a callback that ran {wait:g} s after the end", session=session, wait=wait)
            # One that goes on all the same is cancelled again, or it would keep the session for ever.
            session.closeTimer = session.context.wheel.schedule(wait, checkClose, session)
            session.inbound.close()
            session.cancelling = True
            session.awaiting.cancel()
            session.cancelling = False
        elif session.work is not None and session.work.busy:
            session.closeTimer = None
            session.inbound.close()
            dropped = session.work.abandon()
            text = "{session}: a worker is still busy {wait:g} s after the end, {dropped} packages dropped"
            log.warn(text, session=session, wait=wait, dropped=dropped)
            session.dispatchEvents()
        return
    before, session.lastProgress = session.lastProgress, session.closeProgress()
    out, kernel = session.lastProgress
    if session.extendsClose and (out > before[0] or (kernel is not None and kernel < (before[1] or 0))):
        # The peer takes what was written: nothing of it may be lost for its being slow.
        session.closeTimer = session.context.wheel.schedule(wait, checkClose, session)
        return
    pending = session.outbound.pending
    if pending:
        log.warn("{session}: the peer took no more: {pending} bytes dropped", session=session, pending=pending)
        session.connection.abort()
    else:
        session.connection.leave()


class Lifetime:
    """
    Watches ``idleTimeout`` and ``maxLifetime``; exists only where one of them is set.

    :param session: it has an ``idleTimeout``, a ``maxLifetime``, or both.

    :ivar isOver: ``maxLifetime`` has ended the session.
    """

    __slots__ = ("_activeAt", "_activity", "_endTimer", "_idleTimer", "_session", "isOver")

    def __init__(self, session: SessionState) -> None:
        self._session = session
        self._activity = session.activity()
        self._activeAt = session.context.seconds()
        self._idleTimer: WheelTimer | None = None
        self._endTimer: WheelTimer | None = None
        self.isOver = False

    def start(self) -> None:
        """Wait for what is set; after another call, for what is set now."""
        self.stop()
        session = self._session
        context = session.context
        if session._idleTimeout is not None:
            self.look(False)
        if session._maxLifetime is not None:
            left = session.openedAt + session._maxLifetime - context.seconds()
            self._endTimer = context.wheel.schedule(max(left, context.wheel.tick), _endLifetime, self)

    def stop(self) -> None:
        """Wait no more."""
        for timer in (self._idleTimer, self._endTimer):
            if timer is not None:
                timer.stop()
        self._idleTimer = self._endTimer = None

    def touch(self) -> None:
        """This moment counts as active."""
        self._activeAt = self._session.context.seconds()

    def end(self) -> None:
        """A timer's: ``maxLifetime`` has passed."""
        self.isOver = True
        self._session.lifetimeOver()

    def look(self, sure: bool) -> None:
        """
        A timer's: see whether the session has been idle.

        :param sure: it was so before, and all that had arrived then was read since.
        """
        session = self._session
        timeout = session._idleTimeout
        assert timeout is not None
        now = session.context.seconds()
        wheel = session.context.wheel
        activity = session.activity()
        # Bytes that are still on their way are a matter of writeTimeout. While this side does not listen, or works on a
        # package, nobody knows what the peer does. And a moment that lies ahead means that the clock was set back.
        busy = session.outbound.pending or session.inbound.paused
        if activity != self._activity or busy or self._activeAt > now:
            self._activity = activity
            self._activeAt = now
        left = self._activeAt + timeout - now
        if left > 0:
            self._idleTimer = wheel.schedule(min(left, timeout / IDLE_CHECKS), _lookAtLifetime, self)
        elif wheel.respite and not sure:
            self._idleTimer = wheel.schedule(wheel.respite, _lookAtLifetimeAgain, self)
        else:
            session.close(IdleTimeoutError(f"nothing was sent or received for idleTimeout={timeout:g} s", session))


def _lookAtLifetime(lifetime: Lifetime) -> None:
    lifetime.look(False)


def _lookAtLifetimeAgain(lifetime: Lifetime) -> None:
    lifetime.look(True)


def _endLifetime(lifetime: Lifetime) -> None:
    lifetime.end()
