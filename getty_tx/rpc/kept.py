"""Calls in that wait until others have ended, where the session is read on because something is awaited from it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from getty_tx.rpc.errors import RpcError
from getty_tx.rpc.messages import OVERHEAD

if TYPE_CHECKING:
    from getty_tx.rpc.messages import Request
    from getty_tx.rpc.peer import Peer

__all__ = ["Kept"]

#: Requests of one session that may wait.
MOST = 1000

#: Bytes of a name and a value in metadata, beside their characters: two strings, and their place in a dict.
PAIR = 200


class Kept:
    """
    Requests of one session, in their order.

    :param peer: their peer.
    :ivar size: their bytes.
    """

    __slots__ = ("_numbers", "_peer", "_requests", "size")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        # With when they came. Both ends of an OrderedDict cost the same.
        self._requests: OrderedDict[Request, float] = OrderedDict()
        # By number: a peer that cancels them one by one is not to have us look at all of them each time.
        self._numbers: dict[int, Request] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def hasRoom(self, request: Request | None = None) -> bool:
        """Whether there is room for a request, or for a small one. Where none waits there is."""
        size = 0 if request is None else _sizeOf(request)
        isLow = len(self._requests) < MOST and self.size + size <= self._peer.session.maxMsgLen
        return isLow or not self._requests

    def add(self, request: Request) -> None:
        """It came with what was read last."""
        self._requests[request] = self._peer.session.activeAt
        # If the peer has used a number twice, the first keeps it.
        self._numbers.setdefault(request.id, request)
        self.size += _sizeOf(request)

    def take(self) -> Request:
        """The first of them. Its time-out is what is left of it now: 0 or less if it is over."""
        request, at = self._requests.popitem(last=False)
        if self._numbers.get(request.id) is request:
            del self._numbers[request.id]
        self.size -= _sizeOf(request)
        if request.timeout is not None:
            request.timeout -= self._peer.session.context.seconds() - at
        return request

    def forget(self, number: int) -> bool:
        """Remove a call; returns whether it was here."""
        request = self._numbers.pop(number, None)
        if request is None:
            return False
        del self._requests[request]
        self.size -= _sizeOf(request)
        return True


def _sizeOf(request: Request) -> int:
    payload, metadata = request.payload, request.metadata
    size = OVERHEAD if isinstance(payload, RpcError) else OVERHEAD + len(payload)
    if metadata:
        size += sum(PAIR + len(name) + len(value) for name, value in metadata.items())
    return size
