"""The call that a method serves: ``currentCall()``."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from getty_tx.errors import GettyError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Call", "currentCall", "running"]


class Call:
    """
    A call that is being served.

    :ivar peer: the :py:class:`~getty_tx.rpc.Peer` that made it; calls to it go over the same session.
    :ivar name: ``Service/method``.
    :ivar metadata: what the caller has sent along.
    :ivar expiresAt: when its time is over, on the clock of the reactor; None: never.
    :ivar stream: of a ``@rpc.stream``: the :py:class:`~getty_tx.rpc.Stream` with the caller's values; else None.
    :ivar replyMetadata: what goes along with the reply; set it to a dict of strings.
    """

    __slots__ = (
        "expiresAt",
        "id",
        "isOneWay",
        "metadata",
        "name",
        "peer",
        "replyMetadata",
        "startedAt",
        "stream",
        "totals",
        "work",
    )

    #: Set where the method has not returned at once.
    isOneWay: bool

    def __init__(self, peer: Any, id: int, name: str, metadata: Mapping[str, str] | None) -> None:
        self.peer = peer
        self.id = id
        self.name = name
        self.metadata: Mapping[str, str] = metadata or {}
        self.expiresAt: float | None = None
        self.replyMetadata: dict[str, str] | None = None
        self.stream: Any = None
        # The counters of its method; and when it began, if it is measured.
        self.totals: Any = None
        self.startedAt = 0.0
        # The Deferred of what runs for it.
        self.work: Any = None

    @property
    def deadline(self) -> float | None:
        """As ``expiresAt``."""
        return self.expiresAt

    def timeLeft(self) -> float | None:
        """Seconds until the caller waits no longer; None: it has set no limit."""
        if self.expiresAt is None:
            return None
        seconds: float = self.peer.session.context.seconds()
        return max(0.0, self.expiresAt - seconds)


#: The call that is served here.
running: ContextVar[Call | None] = ContextVar("getty_tx.rpc.running", default=None)


def currentCall() -> Call:
    """
    The call that this code serves, also behind an ``await`` and in the worker threads.

    :raise GettyError: it serves none.
    """
    call = running.get()
    if call is None:
        raise GettyError("currentCall() outside of a method that serves a call")
    return call
