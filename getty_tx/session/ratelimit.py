"""How much somebody may ask for in a second: token buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TokenBucket"]


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
