"""One request of HTTP/2 and its answer: a stream, as handlers and applications see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import finalize

from zope.interface import implementer

from getty_tx.errors import GettyError
from getty_tx.http.answers import AnswerFields, GoneError, pairsOf
from getty_tx.http.body import MAX_DISCARD, Body, BodyLostError, BodyPart
from getty_tx.http.counting import LOST
from getty_tx.http.exchanging import LARGE, Exchanging
from getty_tx.http.interfaces import IExchange
from getty_tx.http.refusals import Refused
from getty_tx.http.response import TEXT
from getty_tx.http.two.errors import ErrorCode
from getty_tx.http.two.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from getty_tx.http.exchanging import Ends
    from getty_tx.http.request import Request
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.requests import RequestConnection

__all__ = ["Exchange"]

#: Header lists that are kept for a second, at most.
MAX_LISTS = 256

_CONTINUE = [(b":status", b"100")]

_NO_BODY = (204, 304)


class StreamBody(Body):
    """A body, whose client has credit for each part that was taken, and for no other."""

    __slots__ = ()

    def take(self) -> bytes:
        """As the base class."""
        data = super().take()
        if data:
            self._exchange.creditBody(len(data))  # type: ignore[attr-defined]
        return data

    def drop(self) -> None:
        """As the base class."""
        waiting = self.waiting
        super().drop()
        if waiting:
            self._exchange.creditBody(waiting)  # type: ignore[attr-defined]


@implementer(IExchange)
class Exchange(Stream, Exchanging):
    """
    A stream of a server, with one request.

    :param connection: its connection.
    :param number: of the stream.
    :param headers: the header fields of the request.
    :param isLast: there is no body.

    :ivar request: the request, until its answer is complete.
    :ivar status: the status of the answer that has begun; 0: none has.
    :ivar bodyAt: when a byte of the body that is awaited has come last, in seconds on the reactor's clock.
    :ivar bodyBegan: when it began, but for the time in which nobody took it.
    :ivar lookedAt: when the connection has looked whether it comes.
    """

    __slots__ = (
        "_body",
        "_head",
        "_headers",
        "_isReceived",
        "_late",
        "_left",
        "_seconds",
        "_sent",
        "_whenGone",
        "bodyAt",
        "bodyBegan",
        "context",
        "lookedAt",
        "request",
        "session",
        "status",
    )

    connection: RequestConnection

    def __init__(self, connection: RequestConnection, number: int, headers: Headers, isLast: bool) -> None:
        Stream.__init__(self, connection, number)
        self.session = connection.session
        self.context = connection.context
        self._seconds = connection.seconds
        self._headers = headers
        self._isReceived = isLast
        # What came with the head, then what comes as long as somebody wants it.
        self._body: list[bytes] | StreamBody | None = None
        self.request: Request | None = None
        self.status = self._sent = 0
        # The head of an answer that has begun, as long as it is held; bytes of its body that are to come, if they are
        # known; -1: it has none.
        self._head: list[tuple[bytes, bytes]] | None = None
        self._left: int | None = None
        self._whenGone: Callable[[], object] | None = None
        # A large answer, which counts when it has left: the request, the status and the bytes.
        self._late: tuple[Request, int, int] | None = None

    # What the client does

    def begin(self) -> None:
        """Serve the request, with what has come of its body."""
        try:
            request = self.connection.heads.requestOf(self._headers)
        except Refused as refused:
            self._refuseAtOnce(refused)
            return
        finally:
            self._headers = ()
        if self.hasEnded:
            # It was reset in the same read.
            self.connection.served()
            return
        self.request = request
        request.exchange = self
        request.began = self.session.activeAt
        parts = self._body
        if not self._isReceived:
            request.content = None
            body = request.body = self._body = StreamBody(request)
            if parts is not None:
                assert isinstance(parts, list)
                for part in parts:
                    body.feed(BodyPart(part, False))
            self.bodyAt = self.bodyBegan = self.lookedAt = request.began
            self.connection.receives(self)
        elif parts is not None:
            assert isinstance(parts, list)
            request.content = content = b"".join(parts)
            self._body = None
            self.take(len(content))
        self.serveNow(request)

    def _refuseAtOnce(self, refused: Refused) -> None:
        context = self.context
        context.counters.refuse(refused.status)
        now = self._seconds()
        if now >= context.dates.until:
            context.dates.renew(now)
        text = f"{refused}\n".encode()
        engine = self.connection.engine
        engine.headers(self.number, self._listOf(refused.status, TEXT, len(text)), False)
        engine.data(self.number, text, True)
        self.connection.touch()
        self.connection.served()
        self._body = None
        self._hangUp()

    def dataCame(self, data: bytes, isLast: bool) -> None:
        """A part of the body."""
        if isLast:
            self._isReceived = True
        body = self._body
        if self._headers:
            # Not served yet.
            if body is None:
                self._body = [data]
            else:
                assert isinstance(body, list)
                body.append(data)
        elif isinstance(body, StreamBody):
            if data:
                self.bodyAt = self.session.activeAt
            if body.isUnwanted:
                self.take(len(data))
                if body.size + len(data) > MAX_DISCARD:
                    self._hangUp()
            if isLast:
                self.connection.receivedAll(self)
            body.feed(BodyPart(data, isLast))
        else:
            self.take(len(data))

    def trailersCame(self, headers: Headers) -> None:
        """The fields behind the body."""
        self._isReceived = True
        body = self._body
        if isinstance(body, StreamBody):
            self.connection.receivedAll(self)
            body.feed(BodyPart(b"", True, list(headers)))

    def finish(self, error: BaseException | None) -> None:
        """As the base class; most streams have nothing left to do."""
        if self._isReceived and self.request is None and self._late is None and self._blocked is None and not self.owed:
            self.hasEnded = True
        else:
            super().finish(error)

    def ended(self, error: BaseException | None) -> None:
        """The stream has ended."""
        if not self._isReceived:
            self.connection.receivedAll(self)
        late, self._late = self._late, None
        if late is not None:
            request, status, sent = late
            if error is None or self._isNoError(error):
                self.count(request, status, sent, self._seconds())
            else:
                self.count(request, LOST, sent, self._seconds())
            return
        lost = self.request
        if lost is None:
            return
        # Before its application hears of it, and fails.
        self.request = None
        self.context.running -= 1
        self.count(lost, LOST, self._sent, self._seconds())
        # It counts among the streams of the connection until nobody has its request any more: a client that opens and
        # resets streams gets no more work done at a time (CVE-2023-44487, rapid reset).
        finalize(lost, self.connection.served).atexit = False
        if lost.body is not None:
            lost.body.lose(BodyLostError(f"{lost}: the client has gone"))
        call, self._whenGone = self._whenGone, None
        if call is not None:
            call()

    @staticmethod
    def _isNoError(error: BaseException) -> bool:
        return getattr(error, "code", None) == ErrorCode.NO_ERROR

    # Whole answers

    def _listOf(self, status: int, fields: AnswerFields, length: int | None) -> list[tuple[bytes, bytes]]:
        """The header fields of an answer. The dates are up to date."""
        dates = self.context.dates
        key = status, fields, length
        head = dates.lists.get(key)
        if head is None:
            own = dates.without(fields.hasDate, fields.hasServer)
            head = [(b":status", b"%d" % status), *pairsOf(own), *fields.pairs]
            if length is not None:
                head.append((b"content-length", b"%d" % length))
            if len(dates.lists) < MAX_LISTS:
                dates.lists[key] = head
        return head

    def answer(self, request: Request, status: int, fields: AnswerFields, body: bytes) -> None:
        """Send a whole answer."""
        if self.request is not request or self.status:
            self._check(request)
            raise RuntimeError(f"{request}: an answer has begun already")
        dates = self.context.dates
        now = self._seconds()
        if now >= dates.until:
            dates.renew(now)
        sent = length = len(body)
        if fields.length is not None and fields.length != length:
            if body or (request.method != "HEAD" and status != 304):
                raise ValueError(f"Content-Length is {fields.length}, and the body has {length} bytes")
            length = fields.length
        said: int | None = length
        if status == 204 or (status == 304 and fields.length is None):
            said = None
        if status in _NO_BODY or request.method == "HEAD":
            sent = 0
        head = dates.lists.get((status, fields, said)) or self._listOf(status, fields, said)
        self.status = status
        connection = self.connection
        engine = connection.engine
        if sent:
            engine.headers(self.number, head, False)
            engine.data(self.number, body, True)
        else:
            engine.headers(self.number, head, True)
        connection.touch()
        self._finished(request, sent, now)

    def _finished(self, request: Request, sent: int, now: float) -> None:
        """The answer of the request is complete."""
        context = self.context
        context.running -= 1
        self.request = self._whenGone = None
        self.connection.served()
        body = request.body
        if sent > LARGE:
            self._late = request, self.status, sent
        else:
            # In place of a call of count(): this is for each request.
            duration = now - request.began
            content = request.content
            received = body.size if body is not None else len(content) if content else 0
            context.counters.add(request.method, request.route, self.status, duration, sent, received)
            if context.access is not None:
                context.access(request, self.status, sent, duration)
        if body is not None:
            body.drop()
            if not self._isReceived:
                # The client may not send the body at all, or more of it than is worth reading.
                left = request.fields.length - body.size
                if request.expects or left > MAX_DISCARD:
                    self._hangUp()

    def takeBack(self) -> bool:
        """Forget an answer that has begun, if nothing of it has left."""
        if self.status and self._head is None:
            return False
        self.status = 0
        self._head = None
        return True

    def cut(self, request: Request, isLost: bool = False) -> None:
        """End an answer that has begun, so that the client sees that it is not complete."""
        if isLost:
            self.status = LOST
        self._head = None
        sent, self._sent = self._sent, 0
        self._finished(request, min(sent, LARGE), self._seconds())
        self.reset(ErrorCode.INTERNAL_ERROR)

    def abandon(self, refused: Refused) -> None:
        """The body cannot be waited for any more: answer in place of the application."""
        request = self.request
        if request is None:
            self._hangUp()
            return
        body = request.body
        call, self._whenGone = self._whenGone, None
        if self.takeBack():
            self.refuse(request, refused.status, refused.reason)
        else:
            self.cut(request)
        self._hangUp()
        # Its application finds that nobody waits for an answer.
        if body is not None:
            body.lose(BodyLostError(f"{request}: {refused.reason}"))
        if call is not None:
            call()

    # The end of a stream whose body nobody wants

    def _hangUp(self) -> None:
        """When the answer has left, tell the client to stop sending the body (RFC 9113, 8.1)."""
        if not (self._isReceived or self.hasEnded):
            self.connection.hanging.add(self)

    def hangUp(self) -> None:
        """For the connection: what was sent may have left."""
        if not self.waiting:
            self.connection.hanging.discard(self)
            self.reset(ErrorCode.NO_ERROR)

    # Answers that are sent as they come

    def start(self, request: Request, status: int, fields: AnswerFields, length: int | None = None) -> None:
        """Begin an answer; its head leaves with the first bytes of the body, or with its end."""
        self._check(request)
        if self.status:
            raise RuntimeError(f"{request}: an answer has begun already")
        if length is None:
            length = fields.length
        self._renewDates()
        self._head = self._listOf(status, fields, None if status == 204 else length)
        self.status = status
        self._left = -1 if status in _NO_BODY or request.method == "HEAD" else length

    def write(self, request: Request, data: bytes) -> None:
        """Send bytes of the body."""
        self._check(request)
        if not self.status:
            raise RuntimeError(f"{request}: start() the answer first")
        size = len(data)
        left = self._left
        if left == -1 or not size:
            return
        if left is not None:
            if size > left:
                raise ValueError(f"{request}: the body is longer than Content-Length says")
            self._left = left - size
        self._sent += size
        if self._head is not None:
            self._sendHead(False)
        self.connection.engine.data(self.number, bytes(data), False)
        self.connection.touch()

    def _sendHead(self, isLast: bool) -> None:
        head, self._head = self._head, None
        assert head is not None
        self.connection.engine.headers(self.number, head, isLast)
        self.connection.touch()

    def flush(self, request: Request) -> None:
        """Send the head now if it has not left."""
        self._check(request)
        if self._head is not None:
            self._sendHead(False)

    def writeFile(self, request: Request, file: Any, offset: int, count: int) -> Deferred[int]:
        """Send a part of a file as the next bytes of the body."""
        self._check(request)
        if self._left is None or count > self._left:
            raise ValueError(f"{request}: a file needs a Content-Length that is not shorter")
        from getty_tx.http.two.sending import sendFile

        return sendFile(self, request, file, offset, count)

    def end(self, request: Request, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """The answer is complete."""
        self._check(request)
        if not self.status:
            raise RuntimeError(f"{request}: start() the answer first")
        engine = self.connection.engine
        left = self._left
        if left is not None and left > 0:
            raise ValueError(f"{request}: the body has {left} bytes less than Content-Length says")
        pairs = AnswerFields(trailers).pairs if trailers and left != -1 else None
        if self._head is not None:
            self._sendHead(not pairs)
        elif not pairs:
            engine.data(self.number, b"", True)
        if pairs:
            engine.trailers(self.number, pairs)
        self.connection.touch()
        sent, self._sent = self._sent, 0
        self._finished(request, sent, self._seconds())

    def inform(self, request: Request, status: int, fields: AnswerFields) -> None:
        """Send an interim answer."""
        self._check(request)
        if not 100 <= status <= 199 or status == 101:
            raise ValueError(f"{status} is no interim answer")
        if not self.status:
            self.connection.engine.inform(self.number, [(b":status", b"%d" % status), *fields.pairs])
            self.connection.touch()

    # Back-pressure and ends

    def drained(self) -> Deferred[None]:
        """Fires when :py:meth:`mustWait` is false."""
        return super().drained().addErrback(_gone)

    def whenGone(self, request: Request, call: Callable[[], object], orEnded: bool = False) -> None:
        """Call ``call()`` once if the client goes before the answer is complete. That it has asked all is no end."""
        self._check(request)
        self._whenGone = call

    def wantBody(self, request: Request) -> None:
        """Somebody waits for the body: ask the client for it."""
        if request.expects and self.request is request and not self.status:
            request.expects = False
            self.connection.engine.inform(self.number, _CONTINUE)
            self.connection.touch()

    def bodyTaken(self, request: Request) -> None:
        """The client has its credit for each part already."""

    def creditBody(self, size: int) -> None:
        """For the body: so many bytes were taken."""
        if not self.hasEnded:
            self.take(size)

    def handOver(self, request: Request, change: Callable[[], object]) -> None:
        """Not possible: the connection has other streams. :raise GettyError: always."""
        raise GettyError(f"{request}: a stream of HTTP/2 cannot be left to another protocol; ask for it by HTTP/1.1")

    def handedOver(self, request: Request, status: int) -> None:
        """It never is."""

    # Where it comes from

    def theEnds(self) -> Ends:
        """The scheme, and the addresses of both sides."""
        return self.connection.theEnds()


def _gone(failure: Failure) -> None:
    raise GoneError(f"the client has gone: {failure.value}") from failure.value
