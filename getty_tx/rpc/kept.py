"""Calls in that wait until others have ended, where the session is read on because something is awaited from it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from getty_tx.rpc.errors import RpcError
from getty_tx.rpc.messages import OVERHEAD

if TYPE_CHECKING:
    from getty_tx.rpc.messages import Request
    from getty_tx.rpc.peer import Peer

__all__ = ["Kept"]

#: Requests of one session that may wait.
MOST = 1000


class Kept:
    """
    Requests of one session, in their order.

    :param peer: their peer.
    :ivar size: their bytes.
    """

    __slots__ = ("_peer", "_requests", "size")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        # With when they came.
        self._requests: deque[tuple[Request, float]] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._requests)

    def hasRoom(self, request: Request | None = None) -> bool:
        """Whether there is room for a request, or for a small one. Where none waits there is."""
        size = 0 if request is None else _sizeOf(request)
        isLow = len(self._requests) < MOST and self.size + size <= self._peer.session.maxMsgLen
        return isLow or not self._requests

    def add(self, request: Request) -> None:
        """It came with what was read last."""
        self._requests.append((request, self._peer.session.activeAt))
        self.size += _sizeOf(request)

    def take(self) -> Request:
        """The first of them; its time-out begins with what was read last, as that of any other."""
        request, at = self._requests.popleft()
        self.size -= _sizeOf(request)
        if request.timeout is not None:
            request.timeout -= self._peer.session.activeAt - at
        return request

    def forget(self, number: int) -> bool:
        """Remove a call; returns whether it was here."""
        for each in self._requests:
            if each[0].id == number:
                self._requests.remove(each)
                self.size -= _sizeOf(each[0])
                return True
        return False


def _sizeOf(request: Request) -> int:
    payload, metadata = request.payload, request.metadata
    size = OVERHEAD if isinstance(payload, RpcError) else OVERHEAD + len(payload)
    if metadata:
        size += sum(len(name) + len(value) for name, value in metadata.items())
    return size
