"""A peer that takes no new calls: it tells the other end, serves what is on its way, and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.rpc.messages import Feature, Ping

if TYPE_CHECKING:
    from getty_tx.rpc.peer import Peer

__all__ = ["Draining"]

#: Seconds in which calls may still come from a peer that cannot say that it has heard.
GRACE = 0.5


class Draining:
    """
    Ends the session of a peer when nothing is on its way any more.

    The notice crosses calls that the other end has sent. A ping goes out behind it: when the answer comes, the other
    end has read the notice, and what it sent before was read here.

    :param peer: the peer.
    :ivar ended: fires when the session has ended.
    """

    __slots__ = ("_hasHeard", "_peer", "_timer", "ended")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.ended: Deferred[None] = Deferred()
        self._hasHeard = False
        self._timer: Any = None
        peer.goAway()
        if not peer.tell(Feature.PING, Ping()):
            self._timer = peer.session.context.reactor.callLater(GRACE, self.heard)

    def heard(self) -> None:
        """The other end knows."""
        self._hasHeard = True
        self.check()

    def check(self) -> None:
        """A call has ended, perhaps the last."""
        if self._hasHeard and not self._peer.incoming.count:
            self._peer.session.close()

    def lost(self) -> None:
        """The session has ended."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.ended.callback(None)
