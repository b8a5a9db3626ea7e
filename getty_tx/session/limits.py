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


def checkClose(session: Lifecycle) -> None:
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
