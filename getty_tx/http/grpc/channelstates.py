"""What a channel is doing, and who waits for that."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ChannelState", "StateWatchers"]


class ChannelState(Enum):
    """What a channel is doing (doc/connectivity-semantics-and-api.md of gRPC)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    TRANSIENT_FAILURE = "transient failure"
    SHUTDOWN = "shutdown"


class StateWatchers:
    """
    Who waits for another state.

    :param stopped: the text for those who wait for READY when there is none any more.
    """

    __slots__ = ("_stopped", "_waiting")

    def __init__(self, stopped: Callable[[], str]) -> None:
        self._stopped = stopped
        # With the state that is to end; None: for READY.
        self._waiting: list[tuple[Awaiting[None], ChannelState | None]] = []

    def wait(self, last: ChannelState | None, now: ChannelState) -> Awaiting[None]:
        """Fires when the state is not ``last``, or, without one, when it is READY. :param now: the state."""
        waiting: Awaiting[None] = Awaiting()
        self._waiting.append((waiting, last))
        self.changed(now)
        return waiting

    def changed(self, now: ChannelState) -> None:
        """The state is this one."""
        watchers, self._waiting = self._waiting, []
        for waiting, last in watchers:
            if waiting.called:
                continue
            if last is None and now is ChannelState.SHUTDOWN:
                waiting.errback(StatusError(Code.UNAVAILABLE, self._stopped(), sent=False))
            elif now is ChannelState.READY if last is None else now is not last:
                waiting.callback(None)
            else:
                self._waiting.append((waiting, last))
