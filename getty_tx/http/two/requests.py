"""A connection of HTTP/2 whose streams are requests for the application of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.http.connection import MAX_UNSENT, RATE_GRACE
from getty_tx.http.exchanging import endsOf
from getty_tx.http.refusals import Refused
from getty_tx.http.two.exchange import Exchange
from getty_tx.http.two.heads import Heads
from getty_tx.http.two.limits import Times
from getty_tx.http.two.server import ServerConnection

if TYPE_CHECKING:
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.exchanging import Ends
    from getty_tx.session.session import Session

__all__ = ["RequestConnection"]


class RequestConnection(ServerConnection):
    """
    Serves the requests of one session.

    :param session: a new session, or one that has brought the preface of HTTP/2.
    :param context: what all connections of the server share.

    :ivar context: the same.
    :ivar heads: makes requests of header fields.
    :ivar hanging: streams whose answer is complete, and whose client still sends a body.
    """

    __slots__ = ("_ends", "_receiving", "context", "hanging", "heads")

    def __init__(self, session: Session, context: HTTPContext) -> None:
        times = Times(frameTimeout=context.headTimeout, keepAlive=context.keepAlive)
        super().__init__(session, context.limits(), Exchange, times)  # type: ignore[arg-type]
        self.context = context
        self.heads = Heads(context)
        self.hanging: set[Exchange] = set()
        # Those whose body has not ended.
        self._receiving: set[Exchange] = set()
        self._ends: Ends | None = None
        context.countIn(session.context)
        session.unsentLimit = MAX_UNSENT

    def onOpen(self, session: Session) -> None:
        """Send the settings, and wait for requests."""
        self.context.connections.add(self)
        super().onOpen(session)

    def onClose(self, session: Session) -> None:
        """The client has gone."""
        self.context.connections.discard(self)
        super().onClose(session)

    def theEnds(self) -> Ends:
        """The scheme, and the addresses of both sides."""
        ends = self._ends
        if ends is None:
            ends = self._ends = endsOf(self.session)
        return ends

    # Ends of streams

    def flush(self) -> None:
        """As the base class; then end the streams whose answer has left before their body had come."""
        super().flush()
        if self.hanging and not (self._isIn or self.waitsForSession):
            for each in list(self.hanging):
                each.hangUp()
            super().flush()

    # Times

    def receives(self, exchange: Exchange) -> None:
        """A body begins of which not all has come."""
        self._receiving.add(exchange)
        self.watch.hurry(self.context.bodyTimeout / 4)

    def receivedAll(self, exchange: Exchange) -> None:
        """A body has ended, or its stream."""
        self._receiving.discard(exchange)
        self.hanging.discard(exchange)

    def look(self, now: float) -> float:
        """As the base class; and refuse bodies that come too slowly."""
        left = super().look(now)
        if not self._receiving:
            return left
        context = self.context
        for each in list(self._receiving):
            late = _whyLate(each, context, now)
            if late:
                self._receiving.discard(each)
                each.abandon(Refused(408, late))
        self.flush()
        return min(left, context.bodyTimeout / 4)


def _whyLate(exchange: Exchange, context: HTTPContext, now: float) -> str:
    """Why a body is too slow; empty: it is not."""
    request = exchange.request
    if request is None or request.body is None:
        # It was answered: what is left of the body is dropped.
        return "late" if now - exchange.bodyAt >= context.bodyTimeout else ""
    body = request.body
    if body.waiting or (request.expects and not body.isWanted):
        # The client may have no credit, or waits for 100 (Continue), so it cannot be late.
        exchange.bodyBegan += now - max(exchange.bodyAt, exchange.lookedAt)
        exchange.bodyAt = now
    exchange.lookedAt = now
    if now - exchange.bodyAt >= context.bodyTimeout:
        return f"no byte of the body has come for {context.bodyTimeout:g} seconds"
    elapsed = now - exchange.bodyBegan - RATE_GRACE
    if elapsed > 0 and body.size < elapsed * context.minRate:
        return f"the body comes with less than {context.minRate} bytes a second"
    return ""
