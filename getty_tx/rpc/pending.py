"""A call that waits for its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.rpc.errors import RpcError
    from getty_tx.rpc.peer import Peer
    from getty_tx.rpc.streams import Stream
    from getty_tx.status.calls import CallTotals

__all__ = ["PendingCall", "WaitingCall", "handOver"]


def handOver(result: Any, made: Any, call: Any) -> Any:
    """For ``made.addBoth(handOver, made, call)``: another call has the metadata of the one that was made."""
    call.metadata = made.metadata
    return result


class WaitingCall(Deferred[Any]):
    """A call that could not be made yet, or at all."""

    metadata: Mapping[str, str] | None = None


class PendingCall(Deferred[Any]):
    """The reply to come."""

    expiresAt: float
    #: When it was made, if it is measured.
    startedAt = 0.0
    #: ``again(call, error)`` makes it once more, if it was not run, and returns whether it does.
    again: Any = None
    #: When it has fired: what the method has sent along with its result or error, or None.
    metadata: Mapping[str, str] | None = None
    #: The call that is made in its place.
    replacement: PendingCall | None = None
    #: The stream that is open in its place.
    stream: Stream

    def __init__(self, peer: Peer, number: int, name: str, totals: CallTotals) -> None:
        super().__init__()
        self.totals = totals
        self.peer = peer
        self.number = number
        self.name = name

    def cancel(self) -> None:
        """Wait no longer. The peer is told, if it understands that, and cancels the method."""
        if self.replacement is not None and not self.called:
            self.replacement.cancel()
        elif self.called:
            # For the Deferred that a callback has returned.
            super().cancel()
        else:
            self.peer.cancelled(self)

    async def __aenter__(self) -> Stream:
        """
        Have a stream in place of the call, which was made because the stub of a name does not know what is a stream.

        :raise RpcError: it could not be opened.
        """
        if self.again is None:
            raise TypeError(f"{self.name} was called; a stream is opened by stream()")
        again = self.again
        # The peer refuses it.
        self.addErrback(lambda _: None)
        self.stream = again.stream()
        return self.stream

    async def __aexit__(self, *_: object) -> None:
        self.stream.cancel()

    def fail(self, error: RpcError) -> None:
        """The call has failed, or is made once more."""
        # What leaves a method that has made this call is no answer of the method itself.
        error.isOfCall = True
        again, self.again = self.again, None
        if again is None or not error.retryable or not again(self, error):
            self.errback(error)
