"""The end of a sub-reactor's sessions: each is closed when nothing of it is under way, as far as time allows."""

from __future__ import annotations

import fcntl
from struct import unpack
from termios import FIONREAD
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.session.inbound import Inbound
from getty_tx.session.lifecycle import OPEN
from getty_tx.session.wrappers import socketOf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session

__all__ = ["Drain", "isAtRest"]

#: Seconds of silence before a session is taken for being at rest, at first: what comes next may be on its way.
SILENCE = 0.1

#: Seconds between two looks at which sessions are at rest; at least so many times what a look takes.
LOOK, APART = 0.02, 10


def isAtRest(session: Session) -> bool:
    """
    Whether all that has arrived is delivered, every callback has returned, and all that was written is out.

    Only sessions over streams come to rest: there is always one more datagram.
    """
    inbound: Any = session.inbound
    if session.state != OPEN or session.inCallback or session.awaiting is not None or not isinstance(inbound, Inbound):
        return False
    # Incomplete packages, and WebSocket messages of which a fragment is there.
    if inbound.unread or getattr(inbound, "_slow", False) or session.pendingBytes:
        return False
    if session.work is not None and session.work.busy:
        return False
    handle = socketOf(session.outbound.transport)
    if handle is None:
        return True
    try:
        waiting: int = unpack("i", fcntl.ioctl(handle.fileno(), FIONREAD, b"\0\0\0\0"))[0]
    except OSError:
        # It is closed, which reading is about to find out.
        return True
    return not waiting


class Drain:
    """
    Closes sessions as they come to rest.

    :param contexts: whose sessions.
    :param reactor: the reactor.
    """

    def __init__(self, contexts: Iterable[ServiceContext], reactor: Any) -> None:
        self._keepers = list(contexts)
        self._reactor = reactor
        self._done: Deferred[None] = Deferred()
        self._end = self._half = 0.0

    def run(self, timeout: float) -> Deferred[None]:
        """
        Begin. A session is closed when it has been at rest for :py:data:`SILENCE`; in the second half of the time, as
        soon as it is.

        :param timeout: seconds that sessions have to come to rest.
        :return: fires when that is over, or there is nothing left to wait for.
        """
        self._end = self._reactor.seconds() + timeout
        self._half = timeout / 2
        self._look()
        return self._done

    def _look(self) -> None:
        begin = self._reactor.seconds()
        left = 0
        latest = begin - SILENCE if self._end - begin > self._half else begin
        for context in self._keepers:
            left += len(context.handshaking)
            for session in list(context.sessions):
                if session.activeAt <= latest and isAtRest(session):
                    # As when the service stops: a WebSocket's peer is told that the server goes away (1001).
                    session.stop()
                elif session.state == OPEN and isinstance(session.inbound, Inbound):
                    left += 1
        now = self._reactor.seconds()
        if left and now < self._end:
            delay = max(LOOK, (now - begin) * APART)
            self._reactor.callLater(min(delay, self._end - now), self._look)
        else:
            self._done.callback(None)
