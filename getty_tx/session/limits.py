"""
What ends a session: ``readTimeout``, ``waitTime`` of a close, ``idleTimeout``, ``maxLifetime``, and the peer's end.

Timers call functions with the session as argument: a bound method for each timer would cost one more object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import IdleTimeoutError
from getty_tx.interfaces import IHalfCloseListener
from getty_tx.session.pausing import CALLBACK
from getty_tx.session.states import LOST, OPEN

if TYPE_CHECKING:
    from getty_tx.session.state import SessionState
    from getty_tx.wheel import WheelTimer

__all__ = ["Lifetime", "checkClose", "checkSilence", "outlivesPeer"]

log = Logger()

#: Checks in each time-out for which writes count, too. A write notes no time: it counts from the next check on, so that
#: the session ends up to one such part of the time-out later.
IDLE_CHECKS = 4


def checkSilence(session: SessionState) -> None:
    """Timer callback: check ``readTimeout``."""
    _look(session, False)


def _checkSilenceAgain(session: SessionState) -> None:
    _look(session, True)


def _look(session: SessionState, sure: bool) -> None:
    """
    Fail a session that was silent for ``readTimeout``.

    :param sure: an earlier check found the same, and all that had arrived was read since.
    """
    timeout = session._readTimeout
    if timeout is None:
        return
    now = session.context.seconds()
    wheel = session.context.wheel
    if _mayBeSilent(session) or session.activeAt > now:
        # Silence says nothing about the peer; or the clock went backwards.
        session.activeAt = now
    left = session.activeAt + timeout - now
    if left > 0:
        if session.inbound.ended:
            left = min(left, timeout / IDLE_CHECKS)
        session.readTimer = wheel.schedule(left, checkSilence, session)
    elif wheel.respite and not sure:
        session.readTimer = wheel.schedule(wheel.respite, _checkSilenceAgain, session)
    else:
        session.readTimedOut(timeout)


def _mayBeSilent(session: SessionState) -> bool:
    """
    Whether reading is paused, so that the peer is not heard.

    When the peer has ended its side nothing more can come, and a callback that runs is no excuse. Then the session is
    silent if nothing has left since the last look.
    """
    inbound = session.inbound
    if not inbound.ended or inbound.paused & ~CALLBACK:
        return bool(inbound.paused)
    before, session.lastProgress = session.lastProgress, session.closeProgress()
    return session.lastProgress != before


def outlivesPeer(session: Any) -> bool:
    """Whether a session stays open, of which the peer has ended its side: the listener says so, or has closed it."""
    listener = session.receiver
    if not IHalfCloseListener.providedBy(listener):
        return False
    session.inCallback = True
    try:
        return bool(listener.onPeerEnded(session)) or session.state != OPEN
    except BaseException:
        log.failure("{session}: onPeerEnded failed", session=session)
        return bool(session.state != OPEN)
    finally:
        session.inCallback = False


def checkClose(session: SessionState) -> None:
    """Timer callback: a close, or a callback after the end, has taken ``waitTime``."""
    wait = session._waitTime
    if session.state >= LOST:
        if session.awaiting is not None:
            log.warn("{session}: cancelled a callback that ran {wait:g} s after the end", session=session, wait=wait)
            # A callback that ignores the cancellation is cancelled again, or the session would never end.
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
        # The peer still takes bytes: none may be lost because it is slow.
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

    :ivar isOver: ``maxLifetime`` has passed.
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
        """Start or restart the timers with the present settings."""
        self.stop()
        session = self._session
        context = session.context
        if session._idleTimeout is not None:
            self.look(False)
        if session._maxLifetime is not None:
            left = session.openedAt + session._maxLifetime - context.seconds()
            self._endTimer = context.wheel.schedule(max(left, context.wheel.tick), _endLifetime, self)

    def stop(self) -> None:
        """Stop the timers."""
        for timer in (self._idleTimer, self._endTimer):
            if timer is not None:
                timer.stop()
        self._idleTimer = self._endTimer = None

    def touch(self) -> None:
        """Count this moment as active."""
        self._activeAt = self._session.context.seconds()

    def end(self) -> None:
        """Timer callback: ``maxLifetime`` has passed."""
        self.isOver = True
        self._session.lifetimeOver()

    def look(self, sure: bool) -> None:
        """
        Timer callback: fail a session that was idle for ``idleTimeout``.

        :param sure: an earlier check found the same, and all that had arrived was read since.
        """
        session = self._session
        timeout = session._idleTimeout
        assert timeout is not None
        now = session.context.seconds()
        wheel = session.context.wheel
        activity = session.activity()
        # writeTimeout watches pending bytes. While reading is paused nothing is known of the peer. If activeAt lies
        # ahead, the clock went backwards.
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
