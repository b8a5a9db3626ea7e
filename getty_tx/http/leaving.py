"""The end of HTTP on a connection that another protocol goes on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.http.answering import Answering
from getty_tx.http.counting import LOST
from getty_tx.session.pausing import UPGRADE

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.context import HTTPContext
    from getty_tx.http.request import Request
    from getty_tx.session.session import Session

__all__ = ["Leaving"]


class Leaving(Answering):
    """
    Leaves a connection to another protocol.

    :ivar held: the request that asks for it; None: there is none.
    """

    __slots__ = ("held",)

    def __init__(self, session: Session, context: HTTPContext) -> None:
        super().__init__(session, context)
        self.held: Request | None = None

    def hold(self, request: Request) -> None:
        """What comes from now on may belong to another protocol: it waits until the request is answered."""
        self.held = request
        self.session.inbound.pause(UPGRADE)

    def release(self) -> None:
        """What comes belongs to HTTP: the request is answered."""
        self.held = None
        self.session.inbound.resume(UPGRADE)

    def handOver(self, request: Request, change: Callable[[], object]) -> None:
        """Leave the connection to another protocol."""
        self._check(request)
        if self.status:
            raise RuntimeError(f"{request}: an answer has begun already")
        self.status = 101
        # Not in a callback of the session, which ends with it.
        self.session.context.reactor.callLater(0, self._change, request, change)

    def _change(self, request: Request, change: Callable[[], object]) -> None:
        session = self.session
        if self.request is not request or session.isClosed:
            return
        if not session.outbound.isFree:
            again = session.context.reactor.callLater
            session.drained().addCallbacks(lambda _: again(0, self._change, request, change), lambda _: None)
            return
        self._renewDates()
        self.context.running -= 1
        self.request = self._whenGone = None
        change()

    def handedOver(self, request: Request, status: int) -> None:
        """The other protocol has answered."""
        self.count(request, status or LOST, 0, self._seconds())
