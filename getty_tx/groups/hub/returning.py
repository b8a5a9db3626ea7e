"""
Who has another session in a group, or has left it a moment ago: that such a user comes is no news.

A process hears of a group while it has members there. One that takes over in a reload, or in place of another that was
killed, does not know who was there before; the hub does.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.groups.publication import Member

__all__ = ["AWAY_SECONDS", "MAX_AWAY", "Returning"]

#: Seconds for which users who have left are remembered, and how many. What counts as back in time each process decides
#: by its ``leaveDelay``, of 5 seconds unless told otherwise.
AWAY_SECONDS = 60.0
MAX_AWAY = 100_000


class Returning:
    """
    The users of all groups. Members without a user do not come back: they have another key then.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        # By group and user, how many sessions are there; and when the last one has left.
        self._there: dict[tuple[str, str], int] = {}
        self._left: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._there) + len(self._left)

    def came(self, name: str, member: Member) -> float | None:
        """One more. :return: for how many seconds the user was away; None: for long, or nobody knows."""
        if member.user is None:
            return None
        key = name, member.user
        count = self._there.get(key, 0)
        self._there[key] = count + 1
        if count:
            return 0.0
        at = self._left.pop(key, None)
        away = None if at is None else self._seconds() - at
        return None if away is None or away > AWAY_SECONDS else away

    def went(self, name: str, member: Member) -> float | None:
        """One less. :return: 0 if the user has another session there, else None."""
        if member.user is None:
            return None
        key = name, member.user
        count = self._there.get(key, 1) - 1
        if count:
            self._there[key] = count
            return 0.0
        self._there.pop(key, None)
        now = self._left[key] = self._seconds()
        left = self._left
        left.move_to_end(key)
        while len(left) > MAX_AWAY or now - next(iter(left.values())) > AWAY_SECONDS:
            left.popitem(last=False)
        return None
