"""How much a peer may ask for in a second: token buckets, and a listener in front of another that has them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.listener import ListenerProxy, missingEvents
from getty_tx.session.leaving import closeWith
from getty_tx.session.pausing import RATE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimit", "TokenBucket"]

#: The code of a Close frame for a peer that breaks a rule of the application (RFC 6455, section 7.4.1).
POLICY_VIOLATION = 1008


class TokenBucket:
    """
    Takes so much in a second, and more at once after a rest.

    :param rate: in a second.
    :param burst: at once, after a rest.
    :param seconds: the clock.
    """

    __slots__ = ("_at", "_left", "_seconds", "burst", "rate")

    def __init__(self, rate: float, burst: float, seconds: Callable[[], float]) -> None:
        self.rate = rate
        self.burst = burst
        self._seconds = seconds
        self._left = burst
        self._at = seconds()

    def _fill(self) -> float:
        now = self._seconds()
        # A clock that was set back has no effect but that.
        self._left = min(self.burst, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now
        return self._left

    def take(self, amount: float = 1.0) -> bool:
        """Take something out. :return: whether there was so much; if not, nothing is taken."""
        if self._fill() < amount:
            return False
        self._left -= amount
        return True

    def spend(self, amount: float) -> float:
        """Take something out, whether it is there or not. :return: what is left, less than 0 if it was not."""
        self._left = self._fill() - amount
        return self._left

    def until(self, amount: float) -> float:
        """In how many seconds there will be so much; 0: there is."""
        return max(0.0, (amount - self._fill()) / self.rate)


class _Limits:
    """Of one session: what it may send, and the call that lets it go on."""

    __slots__ = ("bytes", "bytesRead", "messages", "timer")

    def __init__(self, messages: TokenBucket | None, bytes: TokenBucket | None, bytesRead: int) -> None:
        self.messages = messages
        self.bytes = bytes
        self.bytesRead = bytesRead
        self.timer: Any = None


class RateLimit(ListenerProxy):
    """
    Stands in front of a listener, and lets through no more than so many messages and bytes in a second::

        session.listener = RateLimit(listener, messages=10)

    A peer that sends more waits: its session is not read, so that what it sends stays in the buffers of the kernel, and
    nothing is lost. With ``closes`` the session is closed instead, a WebSocket with 1008. One serves any number of
    sessions, each of which has the limits for itself. ``session.listener`` is the listener behind it.

    :param listener: an :py:class:`~getty_tx.IEventListener`.
    :param messages: packages in a second; None: no limit.
    :param bytes: bytes in a second, as they come from the network; None: no limit.
    :param burst: seconds whose messages and bytes may come at once after a rest.
    :param closes: whether a peer that sends more is closed.
    :raise SettingError: there is no limit, or one is out of its bounds.
    """

    __slots__ = ("_burst", "_bytes", "_closes", "_messages")

    def __init__(
        self,
        listener: Any,
        messages: float | None = None,
        bytes: float | None = None,
        burst: float = 2.0,
        closes: bool = False,
    ) -> None:
        if isinstance(listener, type) or missingEvents(listener):
            raise SettingError(f"listener={listener!r} is no listener")
        if messages is None and bytes is None:
            raise SettingError("messages= and bytes= are both None: nothing is limited")
        for name, rate in (("messages", messages), ("bytes", bytes)):
            if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
                raise SettingError(f"{name}={rate!r} is not a number in a second, more than 0")
        self.listener = listener
        self._messages = messages
        self._bytes = bytes
        self._burst = settings.seconds("burst", burst)
        self._closes = settings.flag("closes", closes)

    def __getattr__(self, name: str) -> Any:
        # All other events. A listener that takes lists is to get lists.
        found = getattr(self.listener, name)
        return partial(self._onMessages, found) if name == "onMessages" else found

    def __repr__(self) -> str:
        return repr(self.listener)

    def onMessage(self, session: Any, pkg: Any) -> Any:
        """A package has come."""
        if self._isLetThrough(session, 1):
            return self.listener.onMessage(session, pkg)
        return None

    def _onMessages(self, onMessages: Callable[[Any, list[Any]], Any], session: Any, packages: list[Any]) -> Any:
        """Packages have come."""
        if self._isLetThrough(session, len(packages)):
            return onMessages(session, packages)
        return None

    def onClose(self, session: Any) -> Any:
        """It is over."""
        limits = session.attributes.pop(self, None)
        if limits is not None and limits.timer is not None:
            limits.timer.stop()
        return self.listener.onClose(session)

    def _isLetThrough(self, session: Any, count: int) -> bool:
        limits = session.attributes.get(self)
        if limits is None:
            limits = session.attributes[self] = self._limitsOf(session)
        wait = over = 0.0
        if limits.messages is not None:
            over = min(over, limits.messages.spend(count))
            wait = limits.messages.until(1)
        if limits.bytes is not None:
            before, limits.bytesRead = limits.bytesRead, session.bytesRead
            over = min(over, limits.bytes.spend(limits.bytesRead - before))
            wait = max(wait, limits.bytes.until(0))
        if self._closes:
            if over < 0:
                session.context.threads.onReactor(closeWith, session, POLICY_VIOLATION, "too many messages")
                return False
        elif wait > 0:
            session.context.threads.onReactor(_pause, session, limits, wait)
        return True

    def _limitsOf(self, session: Any) -> _Limits:
        seconds, burst = session.context.seconds, self._burst
        # At least one message may come.
        messages = self._messages and TokenBucket(self._messages, max(1.0, self._messages * burst), seconds)
        bytes = self._bytes and TokenBucket(self._bytes, self._bytes * burst, seconds)
        return _Limits(messages or None, bytes or None, 0)


def _pause(session: Any, limits: _Limits, wait: float) -> None:
    if session.isClosed:
        return
    session.inbound.pause(RATE)
    if limits.timer is not None:
        limits.timer.stop()
    limits.timer = session.context.wheel.schedule(wait, partial(_resume, limits), session)


def _resume(limits: _Limits, session: Any) -> None:
    limits.timer = None
    session.inbound.resume(RATE)
