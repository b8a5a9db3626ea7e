"""What a session has besides, if ``idleTimeout`` or ``maxLifetime`` is set: is it idle, and when is it to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.errors import IdleTimeoutError

if TYPE_CHECKING:
    from getty_tx.session.session import Session
    from getty_tx.wheel import WheelTimer

__all__ = ["Lifetime"]

#: Looks at an idle session in each ``idleTimeout``. A write notes no time, so one between two looks counts from the
#: second of them on, and the session ends by up to such a part of ``idleTimeout`` later.
LOOKS = 4


class Lifetime:
    """
    Ends its session in time.

    :param session: it has an ``idleTimeout``, a ``maxLifetime``, or both.

    :ivar isOver: ``maxLifetime`` has ended the session.
    """

    __slots__ = ("_activeAt", "_activity", "_endTimer", "_idleTimer", "_session", "isOver")

    def __init__(self, session: Session) -> None:
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
            self._look(False)
        if session._maxLifetime is not None:
            left = session.openedAt + session._maxLifetime - context.seconds()
            self._endTimer = context.wheel.schedule(max(left, context.wheel.tick), _end, self)

    def stop(self) -> None:
        """Wait no more."""
        for timer in (self._idleTimer, self._endTimer):
            if timer is not None:
                timer.stop()
        self._idleTimer = self._endTimer = None

    def touch(self) -> None:
        """This moment counts as active."""
        self._activeAt = self._session.context.seconds()

    def _look(self, sure: bool) -> None:
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
            self._idleTimer = wheel.schedule(min(left, timeout / LOOKS), _look, self)
        elif wheel.respite and not sure:
            self._idleTimer = wheel.schedule(wheel.respite, _lookAgain, self)
        else:
            session.close(IdleTimeoutError(f"nothing was sent or received for idleTimeout={timeout:g} s", session))


def _look(lifetime: Lifetime) -> None:
    lifetime._look(False)


def _lookAgain(lifetime: Lifetime) -> None:
    lifetime._look(True)


def _end(lifetime: Lifetime) -> None:
    lifetime.isOver = True
    lifetime._session.lifetimeOver()
