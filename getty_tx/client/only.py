"""The only endpoint of a client, where it is asked for what clients of several have."""

from __future__ import annotations

from random import choice
from typing import TYPE_CHECKING, Any

from getty_tx.client.hashing import numberOf
from getty_tx.errors import NoSessionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.client.client import Client
    from getty_tx.session.session import Session

__all__ = ["Only", "pickOf"]


class Only:
    """The only one of ``client.providers`` where there is one endpoint: as a :py:class:`Group`."""

    __slots__ = ("_client", "since")

    provider = None

    def __init__(self, client: Client) -> None:
        self._client = client
        opened = [session.openedAt for session in client.sessions]
        #: When the first of its sessions has opened; None while there is none.
        self.since = min(opened) if opened else None

    @property
    def id(self) -> str:
        return self._client.destination

    @property
    def destination(self) -> str:
        return self._client.destination

    @property
    def state(self) -> str:
        if self._client.isReady:
            return "open"
        return "ended" if self._client.hasEnded else "connecting"

    @property
    def sessions(self) -> list[Session]:
        return self._client.sessions

    @property
    def lastError(self) -> BaseException | None:
        return self._client.lastError


def pickOf(client: Client, places: list[Session | None], by: str, key: Any, exclude: Iterable[Any]) -> Session:
    """
    A session by its key, or one that is not excluded.

    :param places: the session of each place, or None.
    """
    excluded = list(exclude)
    isOut = client.destination in excluded or any(isinstance(each, Only) for each in excluded)
    can = [None if each is None or each.isClosed or each in excluded or isOut else each for each in places]
    left = [each for each in can if each is not None]
    if not left:
        if client.isReady:
            raise NoSessionError(f"{client.destination}: all open sessions are excluded")
        text = f"{client.destination}: none of {len(places) or client.number} sessions is open"
        raise NoSessionError(client.because(text))
    if by == "hash":
        first = numberOf(key) % len(can)
        return next(each for each in [*can[first:], *can[:first]] if each is not None)
    if by == "leastPending":
        return min(left, key=_pending)
    return choice(left)


def _pending(session: Session) -> int:
    return session.pendingBytes
