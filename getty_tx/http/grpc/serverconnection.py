"""The connections of a server of calls: deadlines, pings, and when a connection has lived long enough."""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.servercall import ServerCall
from getty_tx.http.two.errors import ConnectionFault, ErrorCode
from getty_tx.http.two.server import ServerConnection
from getty_tx.rpc.deadlines import Deadlines

if TYPE_CHECKING:
    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.session.session import Session

__all__ = ["CallConnection"]

#: Pings that come too early, one after another, above which the connection ends. grpc-go and grpcio have the same.
MAX_STRIKES = 2

#: Seconds between pings of a client without calls, below which one is too early; the same.
IDLE_PINGS = 7200.0

#: Ages differ by so much of one, so that not all clients come back at once; the same.
JITTER = 0.1

_PING = b"getty_tx"


class CallConnection(ServerConnection):
    """
    A connection whose streams are calls.

    :param session: a new session.
    :param context: what the calls of the server share.

    :ivar deadlines: of its calls.
    :ivar strikes: pings that came too early, since something was sent.
    :ivar closing: calls that were answered before their client had sent all.
    """

    __slots__ = (
        "_age",
        "_context",
        "_drains",
        "_end",
        "_idleSince",
        "_openedAt",
        "_pingedAt",
        "_pings",
        "_timer",
        "closing",
        "deadlines",
        "strikes",
    )

    def __init__(self, session: Session, context: ServerContext) -> None:
        super().__init__(session, context.limits, self._newCall)  # type: ignore[arg-type]
        self._context = context
        self.deadlines = Deadlines(session.context, self.streams, _expire)
        self.strikes = 0
        self.closing: list[ServerCall] = []
        now = self.seconds()
        self._openedAt = self._idleSince = now
        # When the client's last ping came, and when ours went out that has no answer.
        self._pingedAt = -IDLE_PINGS
        self._pings = 0.0
        self._drains = False
        age = context.maxAge
        self._age = None if age is None else age * (1 + JITTER * (2 * random() - 1))
        self._end: float | None = None
        self._timer: Any = None

    def _newCall(self, connection: CallConnection, number: int, headers: Headers, isLast: bool) -> ServerCall:
        return ServerCall(self, number, headers, isLast, self._context)

    # The session's events

    def onOpen(self, session: Session) -> None:
        """Send the settings, and begin to watch it."""
        self._context.connections.add(self)
        super().onOpen(session)
        self._watch()

    def onClose(self, session: Session) -> None:
        """All its calls have ended."""
        self._context.connections.discard(self)
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        # They end one after another below; none is to be found by a deadline.
        self.deadlines.stop()
        self.closing.clear()
        super().onClose(session)

    # Sending

    def flush(self) -> None:
        """As the base class; and end the streams of calls whose status has left before all of their requests came."""
        super().flush()
        closing = self.closing
        if not closing or self._isIn or self._waitsForSession:
            return
        engine = self.engine
        self.closing = []
        for call in closing:
            if call.hasEnded:
                continue
            if engine.waiting(call.number):
                self.closing.append(call)
            else:
                # RFC 9113, 8.1: the answer is complete, and the rest of the requests is not wanted.
                engine.reset(call.number, ErrorCode.NO_ERROR)
        if len(self.closing) < len(closing):
            super().flush()

    # Pings

    def pinged(self) -> None:
        """
        The client has asked for an answer.

        :raise ConnectionFault: it does so all the time.
        """
        super().pinged()
        now = self.seconds()
        least = self._context.minPingInterval if self.streams else IDLE_PINGS
        isEarly = now < self._pingedAt + least
        self._pingedAt = now
        if isEarly:
            self.strikes += 1
            if self.strikes > MAX_STRIKES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    # Age

    def drain(self) -> None:
        """Accept no more calls, and close when the last one has ended."""
        if not self._drains:
            self._drains = True
            super().drain()

    def streamEnded(self, stream: int, code: int) -> None:
        """A call is over."""
        super().streamEnded(stream, code)
        if not self.streams:
            self._idleSince = self.seconds()

    def _watch(self) -> None:
        """Look again when the next of its times may have come."""
        context = self._context
        now = self.seconds()
        session = self.session
        times = []
        if self._pings:
            times.append(self._pings + context.pingTimeout)
        elif context.pingInterval is not None:
            times.append(session.activeAt + context.pingInterval)
        if context.maxIdle is not None and not self._drains:
            times.append((now if self.streams else self._idleSince) + context.maxIdle)
        if self._age is not None and not self._drains:
            times.append(self._openedAt + self._age)
        if self._end is not None:
            times.append(self._end)
        if times:
            self._timer = session.context.wheel.schedule(max(0.01, min(times) - now), _look, self)

    def look(self) -> None:
        """See which of its times have come."""
        self._timer = None
        session = self.session
        if session.isClosed:
            return
        context = self._context
        now = self.seconds()
        if self._end is not None and now >= self._end:
            session.close("maxAgeGrace is over")
            return
        if self._pings:
            if session.activeAt > self._pings:
                self._pings = 0.0
            elif now >= self._pings + context.pingTimeout:
                session.close(f"no answer to a ping within pingTimeout={context.pingTimeout:g} s")
                return
        elif context.pingInterval is not None and now >= session.activeAt + context.pingInterval:
            self._pings = now
            self.engine.ping(_PING)
            self.touch()
        if not self._drains:
            maxIdle = context.maxIdle
            isIdle = maxIdle is not None and not self.streams and now >= self._idleSince + maxIdle
            isOld = self._age is not None and now >= self._openedAt + self._age
            if isOld and context.maxAgeGrace is not None:
                self._end = now + context.maxAgeGrace
            if isIdle or isOld:
                self.drain()
        if not session.isClosed:
            self._watch()


def _look(connection: CallConnection) -> None:
    connection.look()


def _expire(call: ServerCall, _timeout: float) -> None:
    call.expire()
