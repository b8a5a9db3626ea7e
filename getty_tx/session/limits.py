"""
When a session's time is up: silence ends at ``readTimeout``, a close and whatever that waits for at ``waitTime``.

The wheel is given functions and the session apart: a bound method for each timer would be one object more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from getty_tx.session.states import LOST

if TYPE_CHECKING:
    from getty_tx.session.lifecycle import Lifecycle

__all__ = ["checkClose", "checkSilence"]

log = Logger()


def checkSilence(session: Lifecycle) -> None:
    """A timer's: nothing may have come for ``readTimeout``."""
    _look(session, False)


def _checkSilenceAgain(session: Lifecycle) -> None:
    _look(session, True)


def _look(session: Lifecycle, sure: bool) -> None:
    """
    See whether that is so.

    :param sure: it was so before, and all that had arrived then was read since.
    """
    timeout = session._readTimeout
    if timeout is None:
        return
    now = session.keeper.seconds()
    wheel = session.keeper.wheel
    if session._inbound.paused or session._lastActive > now:
        # Not the peer is silent: this side does not listen. Or the clock was set back.
        session._lastActive = now
    left = session._lastActive + timeout - now
    if left > 0:
        session._readTimer = wheel.schedule(left, checkSilence, session)
    elif wheel.respite and not sure:
        session._readTimer = wheel.schedule(wheel.respite, _checkSilenceAgain, session)
    else:
        session._silent(timeout)


def checkClose(session: Lifecycle) -> None:
    """A timer's: the close, or a callback after the end, has taken ``waitTime``."""
    wait = session._waitTime
    if session._state >= LOST:
        if session._awaiting is not None:
            log.warn("{session}: cancelled a callback that ran {wait:g} s after the end", session=session, wait=wait)
            # One that goes on all the same is cancelled again, or it would keep the session for ever.
            session._closeTimer = session.keeper.wheel.schedule(wait, checkClose, session)
            session._inbound.close()
            session._cancelling = True
            session._awaiting.cancel()
            session._cancelling = False
        elif session._work is not None and session._work.busy:
            session._closeTimer = None
            session._inbound.close()
            dropped = session._work.abandon()
            text = "{session}: a worker is still busy {wait:g} s after the end, {dropped} packages dropped"
            log.warn(text, session=session, wait=wait, dropped=dropped)
            session._continue()
        return
    before, session._progress = session._progress, session._closeProgress()
    out, kernel = session._progress
    if session._patient and (out > before[0] or (kernel is not None and kernel < (before[1] or 0))):
        # The peer takes what was written: nothing of it may be lost for its being slow.
        session._closeTimer = session.keeper.wheel.schedule(wait, checkClose, session)
        return
    pending = session._outbound.pending
    if pending:
        log.warn("{session}: the peer took no more: {pending} bytes dropped", session=session, pending=pending)
        session.connection.abort()
    else:
        session.connection.leave()
