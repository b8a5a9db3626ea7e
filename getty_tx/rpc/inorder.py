"""Calls in that run one after the other, for wires whose callers take replies in the order of their requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.rpc.incoming import Incoming
from getty_tx.rpc.kept import Kept

if TYPE_CHECKING:
    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.messages import Request
    from getty_tx.rpc.peer import Peer
    from getty_tx.rpc.streams import Stream

__all__ = ["InOrder"]


class InOrder(Incoming):
    """
    As its base, but a request waits until the method of the one before has returned, while the codec's ``inOrder`` is
    true.

    One waits here. The session is not read on behind it, so that others stay where they are; and it is read while none
    does, so that the end of a caller is noticed.

    :param peer: the peer.
    :param context: has the methods and the limits.
    """

    __slots__ = ("_next",)

    def __init__(self, peer: Peer, context: CallContext) -> None:
        super().__init__(peer, context)
        self._next = Kept(peer)

    def serve(self, request: Request, stream: Stream | None = None, at: float | None = None) -> None:
        """Run the method that a request asks for, or keep it until its turn."""
        codec: Any = self.peer.codec
        if self.count and codec.inOrder:
            self._next.add(request)
            self.hold()
        else:
            super().serve(request, stream, at)

    def afterwards(self) -> None:
        """A method has returned: it is the turn of the next."""
        session = self.peer.session
        while self._next and not self.count and not session.isClosed:
            super().serve(self._next.take(), None, session.context.seconds())
        if not self._next:
            super().afterwards()

    def stop(self) -> None:
        """The session has ended."""
        self._next = Kept(self.peer)
        super().stop()
