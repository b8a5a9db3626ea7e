"""When to try again."""

from __future__ import annotations

from random import Random

__all__ = ["FIRST", "LONGEST", "Backoff"]

#: Seconds of the first wait at most, and of the longest.
FIRST, LONGEST = 0.25, 15.0


class Backoff:
    """
    Waits that double, each drawn anew between 0 and its bound, so that clients of one registry do not come together.

    :param random: draws them.
    """

    __slots__ = ("_bound", "_random")

    def __init__(self, random: Random | None = None) -> None:
        self._random = Random() if random is None else random
        self._bound = FIRST

    def next(self) -> float:
        """Seconds until the next attempt."""
        bound, self._bound = self._bound, min(self._bound * 2, LONGEST)
        return self._random.uniform(0, bound)

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._bound = FIRST
