"""Draining: the sessions of a sub-reactor are closed when they are idle, as far as the time allows."""

from __future__ import annotations

import fcntl
from struct import unpack
from termios import FIONREAD
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from getty_tx.interfaces import IDrainingListener
from getty_tx.session.inbound import Inbound
from getty_tx.session.lifecycle import OPEN
from getty_tx.session.wrappers import socketOf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session

__all__ = ["Drain", "isAtRest"]

log = Logger()

#: Seconds without input before an idle session is closed, in the first half of the time: more may be on its way.
SILENCE = 0.1

#: Seconds between two checks of all sessions; and how many times the duration of a check they are at least.
CHECK_INTERVAL, CHECK_SPACING = 0.02, 10


def isAtRest(session: Session) -> bool:
    """
    Whether all input is delivered, every callback has returned, and all output is sent, also that of groups.

    Only sessions over streams can be at rest: another datagram may always come.
    """
    inbound = session.inbound
    if session.state != OPEN or session.inCallback or session.awaiting is not None or not isinstance(inbound, Inbound):
        return False
    if inbound.hasPartial or session.pendingBytes:
        return False
    if session.work is not None and session.work.busy:
        return False
    if any(membership.isBehind(session) for membership in session.memberships):
        return False
    handle = socketOf(session.outbound.transport)
    if handle is None:
        return True
    try:
        waiting: int = unpack("i", fcntl.ioctl(handle.fileno(), FIONREAD, b"\0\0\0\0"))[0]
    except OSError:
        # The socket is closed, and the next read will report that.
        return True
    return not waiting


class Drain:
    """
    Closes sessions when they are at rest, or has their listeners close them.

    :param contexts: the contexts of the sessions.
    :param reactor: the reactor.
    """

    def __init__(self, contexts: Iterable[ServiceContext], reactor: Any) -> None:
        self._contexts = list(contexts)
        self._reactor = reactor
        self._done: Deferred[None] = Deferred()
        self._deadline = self._half = 0.0
        self._paces = {context: context.pace() for context in self._contexts if context.drainRate is not None}

    def run(self, timeout: float) -> Deferred[None]:
        """
        Tell who is to know (``onDrain`` of the contexts), and start.

        A session is closed when it has been at rest for :py:data:`SILENCE`; in the second half of the time, as soon as
        it is at rest.

        :param timeout: seconds that the sessions have to come to rest.
        :return: fires after the timeout, or earlier when no session is left to wait for.
        """
        self._deadline = self._reactor.seconds() + timeout
        self._half = timeout / 2
        for context in self._contexts:
            for each in context.onDrain:
                try:
                    each()
                except Exception:
                    log.failure("{each} failed as the process began to drain", each=each)
        self._check()
        return self._done

    def _check(self) -> None:
        begin = self._reactor.seconds()
        remaining = 0
        latest = begin - SILENCE if self._deadline - begin > self._half else begin
        for context in self._contexts:
            pace = self._paces.get(context)
            remaining += len(context.handshaking)
            for session in list(context.sessions):
                if session.state == OPEN and IDrainingListener.providedBy(session.listener):
                    try:
                        session.listener.drain()
                    except Exception as error:
                        session.callbackFailed(error)
                    remaining += 1
                elif session.activeAt <= latest and isAtRest(session):
                    if pace is not None and not pace.take():
                        remaining += 1
                        break
                    # As when the service stops: a WebSocket close has the code 1001, going away.
                    session.stop()
                elif session.state == OPEN and isinstance(session.inbound, Inbound):
                    remaining += 1
        now = self._reactor.seconds()
        if remaining and now < self._deadline:
            delay = max(CHECK_INTERVAL, (now - begin) * CHECK_SPACING)
            self._reactor.callLater(min(delay, self._deadline - now), self._check)
        else:
            self._done.callback(None)
