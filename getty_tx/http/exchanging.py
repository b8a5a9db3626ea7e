"""What an exchange of HTTP/1.1 and one of HTTP/2 have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx.errors import RefuseRequest, SessionError
from getty_tx.http.answers import AnswerFields, GoneError
from getty_tx.http.body import BodyLostError
from getty_tx.http.counting import LOST
from getty_tx.http.refusals import PHRASES
from getty_tx.http.response import TEXT
from getty_tx.session.wrappers import isEncrypted

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.context import HTTPContext
    from getty_tx.http.request import Request
    from getty_tx.session.session import Session

Ends = tuple[str, tuple[str, int] | None, tuple[str, int | None] | None]

__all__ = ["LARGE", "Ends", "Exchanging", "endsOf"]

log = Logger()

#: Bytes of an answer above which it counts when it has left, if that is not at once.
LARGE = 64 * 1024

#: What is no fault of the application.
_OF_THE_CLIENT = GoneError | BodyLostError

_TEXT_TYPE = (b"Content-Type", b"text/plain; charset=utf-8")

#: Seconds after which a client may try again.
_RETRY = AnswerFields([_TEXT_TYPE, (b"Retry-After", b"1")])


class Exchanging:
    """
    Serves and counts requests, and answers for applications that have failed.

    It has no attributes of its own: the classes that extend it have them in their slots.

    :ivar session: the session of the connection.
    :ivar context: what all connections of the server share.
    :ivar request: the one that is being served; None: its answer is complete, or there is none.
    :ivar status: the status of the answer that has begun; 0: none has.
    """

    __slots__ = ()

    session: Session
    context: HTTPContext
    request: Request | None
    status: int
    _seconds: Callable[[], float]

    # For the class that extends it

    def answer(self, request: Request, status: int, fields: AnswerFields, body: bytes) -> None:
        """Send a whole answer."""
        raise NotImplementedError

    def cut(self, request: Request, isLost: bool = False) -> None:
        """
        End an answer that has begun, so that the client sees that it is not complete.

        :param isLost: it is so because the client has gone.
        """
        raise NotImplementedError

    def takeBack(self) -> bool:
        """Forget an answer that has begun, if nothing of it has left. :return: whether it is so."""
        raise NotImplementedError

    def theEnds(self) -> Ends:
        """What :py:func:`endsOf` says of the session."""
        raise NotImplementedError

    # Serving

    def serveNow(self, request: Request) -> None:
        """Have the application answer."""
        context = self.context
        context.running += 1
        limit = context._limitConcurrency
        try:
            if limit is not None and context.running > limit:
                self.refuse(request, 503, f"{limit} requests are being served", _RETRY)
            else:
                # This is the exchange, as the classes that extend it say.
                context.application.serve(request, self)  # type: ignore[arg-type]
        except Exception as error:
            self.fail(request, error)

    def isServing(self, request: Request) -> bool:
        """Whether the answer of this request is awaited."""
        return self.request is request and not self.session.isClosed

    def _check(self, request: Request) -> None:
        if self.request is not request:
            raise GoneError(f"{request}: its answer is complete, or its client has gone")

    def _renewDates(self) -> float:
        now = self._seconds()
        if now >= self.context.dates.until:
            self.context.dates.renew(now)
        return now

    def count(self, request: Request, status: int, sent: int, now: float) -> None:
        """A request is over, ``now`` seconds on the reactor's clock; ``sent`` bytes of the body of its answer."""
        context = self.context
        duration = now - request.began
        if status == LOST:
            context.counters.lose(request.method, request.route, sent, _sizeOf(request))
        else:
            context.counters.add(request.method, request.route, status, duration, sent, _sizeOf(request))
        if context.access is not None:
            context.access(request, status, sent, duration)

    # What is no answer of the application

    def refuse(self, request: Request, status: int, reason: str, fields: AnswerFields | None = None) -> None:
        """Answer with a status and a text that says why."""
        text = f"{status} {PHRASES.get(status, '')}: {reason}\n" if reason else f"{status} {PHRASES.get(status, '')}\n"
        self.answer(request, status, TEXT if fields is None else fields, text.encode())

    def fail(self, request: Request, error: BaseException) -> None:
        """The application has failed, or refuses the request."""
        if self.request is not request:
            if not (self._isOfTheClient(error) or isinstance(error, RefuseRequest)):
                log.error("{request}: failed after its end: {error!r}", request=request, error=error)
            return
        isFree = self.takeBack()
        if isinstance(error, RefuseRequest) and isFree:
            pairs = [(name.encode(), value.encode()) for name, value in error.headers.items()]
            self.refuse(request, error.status, error.reason, AnswerFields([*pairs, _TEXT_TYPE]))
            return
        isOfTheClient = self._isOfTheClient(error)
        if not isOfTheClient:
            log.failure("{request}: the application failed", failure=Failure(error), request=request)
        if isFree:
            self.refuse(request, 500, "")
        else:
            self.cut(request, isOfTheClient)

    def _isOfTheClient(self, error: BaseException) -> bool:
        """Whether an application has failed because its client has gone, and not one of its own connections."""
        isOfThis = isinstance(error, SessionError) and error.session in (None, self.session)
        return isOfThis or isinstance(error, _OF_THE_CLIENT)

    # Where it comes from

    def schemeOf(self, request: Request) -> str:
        """``https`` over TLS, else ``http``; behind a trusted proxy, what that says."""
        scheme, client, _ = self.theEnds()
        proxies = self.context._proxies
        return scheme if proxies is None else proxies.schemeOf(request, scheme, client)

    def clientOf(self, request: Request) -> tuple[str, int] | None:
        """The client's address and port, behind a trusted proxy as that says; None for a unix socket."""
        client = self.theEnds()[1]
        proxies = self.context._proxies
        return client if proxies is None else proxies.clientOf(request, client)

    def endsOf(self, request: Request) -> Ends:
        """The scheme, the client, and the server's address and port; of a unix socket its path and None."""
        ends = self.theEnds()
        if self.context._proxies is None:
            return ends
        return self.schemeOf(request), self.clientOf(request), ends[2]


def _sizeOf(request: Request) -> int:
    """Bytes of its body that have come."""
    body = request.body
    return len(request.content or b"") if body is None else body.size


def endsOf(session: Session) -> Ends:
    """The scheme of a session, and the addresses and ports of the client and of the server."""
    remote: Any = session.remoteAddr
    local: Any = session.localAddr
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    if isinstance(remote, IPv4Address | IPv6Address):
        client = remote.host, remote.port
    if isinstance(local, IPv4Address | IPv6Address):
        server = local.host, local.port
    elif isinstance(local, UNIXAddress):
        server = os.fsdecode(local.name or b""), None
    connection: Any = session.connection
    return "https" if isEncrypted(connection.rawTransport) else "http", client, server
