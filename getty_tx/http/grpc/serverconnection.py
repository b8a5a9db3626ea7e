"""The connections of a server of calls: their deadlines, and clients that ping too often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.servercall import ServerCall
from getty_tx.http.two.errors import ConnectionFault, ErrorCode
from getty_tx.http.two.limits import Times
from getty_tx.http.two.server import ServerConnection
from getty_tx.session.deadlines import Deadlines

if TYPE_CHECKING:
    from getty_tx.http.grpc.answer import Answer
    from getty_tx.http.grpc.context import ServerContext
    from getty_tx.http.grpc.servercall import Asked
    from getty_tx.session.session import Session

__all__ = ["CallConnection"]

#: Pings that come too early, one after another, above which the connection ends. grpc-go and grpcio have the same.
MAX_STRIKES = 2

#: Seconds between pings of a client without calls, below which one is too early; the same.
IDLE_PINGS = 7200.0


class CallConnection(ServerConnection):
    """
    A connection whose streams are calls.

    :param session: a new session.
    :param context: what the calls of the server share.

    :ivar asked: what the header fields of its last call have asked for; None: there was none.
    :ivar deadlines: of its calls.
    :ivar starting: calls of this read whose handlers are coroutines, and what these are called with.
    :ivar closing: calls that were answered before their client had sent all.
    """

    __slots__ = ("_pingedAt", "_strikes", "asked", "closing", "context", "deadlines", "starting")

    def __init__(self, session: Session, context: ServerContext) -> None:
        times = Times(
            # A client that reads slowly, or not for a while, is an affair of the call's deadline.
            stallTimeout=None,
            keepAlive=context.maxIdle,
            maxAge=context.maxAge,
            maxAgeGrace=context.maxAgeGrace,
            pingInterval=context.pingInterval,
            pingTimeout=context.pingTimeout,
        )
        super().__init__(session, context.limits, ServerCall, times)  # type: ignore[arg-type]
        self.context = context
        self.asked: Asked | None = None
        self.starting: list[tuple[ServerCall, Any]] = []
        self.deadlines = Deadlines(session.context, self.streams, _expire)
        self.closing: list[Answer] = []
        # Since a part of an answer has left: when the client's last ping came, and how many came too early.
        self._pingedAt: float | None = None
        self._strikes = 0

    # The session's events

    def onOpen(self, session: Session) -> None:
        """Send the settings, and begin to watch it."""
        self.context.connections.add(self)
        super().onOpen(session)

    def onClose(self, session: Session) -> None:
        """All its calls have ended."""
        self.context.connections.discard(self)
        # They end one after another below; none is to be found by a deadline.
        self.deadlines.stop()
        self.closing.clear()
        super().onClose(session)

    def received(self) -> None:
        """All streams have heard of what one read has brought."""
        super().received()
        starting = self.starting
        if not starting:
            return
        self.starting = []
        if len(starting) == 1:
            self._start(starting)
        else:
            with self.context.loop.entered():
                self._start(starting)

    def _start(self, starting: list[tuple[ServerCall, Any]]) -> None:
        for call, request in starting:
            try:
                call.runPlanned(request)
            except Exception:
                self._failed(call)

    # Sending

    def flush(self) -> None:
        """As the base class; and end the streams of calls whose status has left before all of their requests came."""
        super().flush()
        closing = self.closing
        if not closing or self._isIn or self.waitsForSession:
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

    def write(self, data: bytes) -> bool:
        """As the base class; and forgive pings: clients measure with them how fast an answer comes."""
        if self._pingedAt is not None and _hasAnswer(data):
            self._pingedAt = None
            self._strikes = 0
        return super().write(data)

    # Pings

    def pinged(self) -> None:
        """
        The client has asked for an answer. The first one after a part of an answer never comes too early, as for
        grpc-go and grpcio.

        :raise ConnectionFault: it does so all the time.
        """
        super().pinged()
        now = self.seconds()
        least = self.context.minPingInterval if self.streams else IDLE_PINGS
        isEarly = self._pingedAt is not None and now < self._pingedAt + least
        self._pingedAt = now
        if isEarly:
            self._strikes += 1
            if self._strikes > MAX_STRIKES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")


def _hasAnswer(data: bytes) -> bool:
    """Whether there is DATA or HEADERS among these frames (RFC 9113, 4.1, 6.1 and 6.2)."""
    at = 0
    while at < len(data):
        if data[at + 3] <= 1:
            return True
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return False


def _expire(call: ServerCall, _timeout: float) -> None:
    call.expire()
