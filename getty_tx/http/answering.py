"""The way out of a connection: whole answers, and answers that are sent as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import SessionError
from getty_tx.http.answers import AnswerFields, encodeTrailers, statusLine
from getty_tx.http.counting import LOST
from getty_tx.http.exchanging import Exchanging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from getty_tx.http.context import HTTPContext
    from getty_tx.http.request import Request
    from getty_tx.session.session import Session

__all__ = ["Answering"]

_CLOSE = b"Connection: close\r\n"
_KEEP = b"Connection: keep-alive\r\n"

#: Heads that are kept for a second, at most.
MAX_HEADS = 256

# How the end of a body is told.
_NOTHING, _LENGTH, _CHUNKS, _END = range(4)


class Answering(Exchanging):
    """
    Sends the answers of one connection, one after the other.

    :ivar isDraining: the connection is to end.
    :ivar request: the one that is being served.
    :ivar status: the status of the answer that has begun; 0: none has.
    """

    __slots__ = (
        "_ending",
        "_head",
        "_hearsEnd",
        "_left",
        "_seconds",
        "_sent",
        "_whenGone",
        "context",
        "isDraining",
        "request",
        "session",
        "status",
    )

    def __init__(self, session: Session, context: HTTPContext) -> None:
        self.session = session
        self.context = context
        self.isDraining = False
        self.request: Request | None = None
        self.status = 0
        self._seconds: Callable[[], float] = session.context.seconds
        self._whenGone: Callable[[], object] | None = None
        self._hearsEnd = False
        # An answer that has begun: its head, as long as it is held, how its end is told, and bytes of its body.
        self._head: bytes | None = None
        self._ending = _NOTHING
        self._left = self._sent = 0

    # For the class above

    def finished(self, request: Request, sent: int, now: float) -> None:
        """The answer of the request is complete, ``now`` seconds on the reactor's clock; ``sent`` bytes of body."""
        raise NotImplementedError

    def closesAfter(self, request: Request) -> bool:
        """Whether the connection ends with this answer. Only asked while it drains, or if the request has a body."""
        raise NotImplementedError

    def countLater(self, request: Request, sent: int) -> None:
        """Count an answer when all of it has left: its client may go before."""
        status, atLeast = self.status, max(0, sent - self.session.pendingBytes)
        self.session.drained().addCallbacks(
            lambda _: self.count(request, status, sent, self._seconds()),
            lambda _: self.count(request, LOST, atLeast, self._seconds()),
        )

    # Whole answers

    def _headOf(self, request: Request, status: int, fields: AnswerFields) -> bytes:
        """The head but for the length and the empty line. The request's ``keepAlive`` is what happens."""
        prefix = fields.prefix(status, self.context.dates)
        mayClose = self.isDraining or request.body is not None
        if fields.closes or not request.keepAlive or (mayClose and self.closesAfter(request)):
            request.keepAlive = False
            return prefix + _CLOSE
        return prefix if request.version == "1.1" else prefix + _KEEP

    def answer(self, request: Request, status: int, fields: AnswerFields, body: bytes) -> None:
        """Send a whole answer."""
        if self.request is not request or self.status:
            self._check(request)
            raise RuntimeError(f"{request}: an answer has begun already")
        dates = self.context.dates
        now = self._seconds()
        if now >= dates.until:
            dates.renew(now)
        length = len(body)
        head = dates.heads.get((status, fields, length)) if request.isUsual and request.keepAlive else None
        if head is None or self.isDraining:
            self._answerUnusual(request, status, fields, body, now)
            return
        self.status = status
        if self._write(head + body):
            self.finished(request, length, now)

    def _answerUnusual(self, request: Request, status: int, fields: AnswerFields, body: bytes, now: float) -> None:
        """Any answer; keeps the heads of usual ones, which begin alike for a second."""
        sent = length = len(body)
        if fields.length is not None and fields.length != length:
            if body or (request.method != "HEAD" and status != 304):
                raise ValueError(f"Content-Length is {fields.length}, and the body has {length} bytes")
            length = fields.length
        head = self._headOf(request, status, fields)
        if status == 204 or (status == 304 and fields.length is None):
            head += b"\r\n"
        else:
            head = b"%bContent-Length: %d\r\n\r\n" % (head, length)
        if request.method == "HEAD" or status == 204 or status == 304:
            body, sent = b"", 0
        elif request.isUsual and request.keepAlive and len(self.context.dates.heads) < MAX_HEADS:
            self.context.dates.heads[status, fields, length] = head
        self.status = status
        if self._write(head + body):
            self.finished(request, sent, now)

    def _write(self, data: bytes) -> bool:
        """Send bytes; False: the session has ended, or ends now."""
        session = self.session
        try:
            session.writePkg(data)
        except SessionError as error:
            if not session.isClosed:
                session.close(error)
            return False
        return True

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
        request.keepAlive = False
        closes = self._ending != _END
        self._head = None
        self._complete(request)
        if not closes:
            self.session.abort()

    # Answers that are sent as they come

    def start(self, request: Request, status: int, fields: AnswerFields, length: int | None = None) -> None:
        """Begin an answer; its head leaves with the first bytes of the body, or with its end."""
        self._check(request)
        if self.status:
            raise RuntimeError(f"{request}: an answer has begun already")
        if length is None:
            length = fields.length
        if request.method == "HEAD" or status == 204 or status == 304:
            ending = _NOTHING
        elif length is not None:
            ending = _LENGTH
        elif request.version == "1.1":
            ending = _CHUNKS
        else:
            ending = _END
            request.keepAlive = False
        self._renewDates()
        head = self._headOf(request, status, fields)
        if length is not None and status != 204:
            head = b"%bContent-Length: %d\r\n\r\n" % (head, length)
        elif ending == _CHUNKS:
            head += b"Transfer-Encoding: chunked\r\n\r\n"
        else:
            head += b"\r\n"
        self.status = status
        self._head = head
        self._ending = ending
        self._left = length or 0

    def write(self, request: Request, data: bytes) -> None:
        """Send bytes of the body."""
        self._check(request)
        ending = self._ending
        size = len(data)
        if not self.status:
            raise RuntimeError(f"{request}: start() the answer first")
        if ending == _NOTHING or not size:
            return
        if ending == _LENGTH:
            if size > self._left:
                raise ValueError(f"{request}: the body is longer than Content-Length says")
            self._left -= size
        elif ending == _CHUNKS:
            data = b"%x\r\n%b\r\n" % (size, data)
        self._sent += size
        head = self._head
        if head is not None:
            self._head = None
            data = head + data
        self._write(data)

    def flush(self, request: Request) -> None:
        """Send the head now if it has not left."""
        self._check(request)
        head, self._head = self._head, None
        if head is not None:
            self._write(head)

    def writeFile(self, request: Request, file: Any, offset: int, count: int) -> Deferred[int]:
        """Send a part of a file as the next bytes of the body."""
        self._check(request)
        if self._ending != _LENGTH or count > self._left:
            raise ValueError(f"{request}: a file needs a Content-Length that is not shorter")
        self.flush(request)
        self._left -= count
        return self.session.sendFile(file, offset, count).addCallback(self._fileSent)

    def _fileSent(self, count: int) -> int:
        self._sent += count
        return count

    def end(self, request: Request, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """The answer is complete."""
        self._check(request)
        if not self.status:
            raise RuntimeError(f"{request}: start() the answer first")
        data = self._head or b""
        if self._ending == _CHUNKS:
            data += b"0\r\n%b\r\n" % encodeTrailers(trailers) if trailers else b"0\r\n\r\n"
        elif self._ending == _LENGTH and self._left:
            raise ValueError(f"{request}: the body has {self._left} bytes less than Content-Length says")
        self._head = None
        if not data or self._write(data):
            self._complete(request)

    def _complete(self, request: Request) -> None:
        sent, self._sent = self._sent, 0
        self.finished(request, sent, self._seconds())

    def inform(self, request: Request, status: int, fields: AnswerFields) -> None:
        """Send an interim answer."""
        self._check(request)
        if not 100 <= status <= 199 or status == 101:
            raise ValueError(f"{status} is no interim answer")
        if not self.status and request.version == "1.1":
            self._write(statusLine(status) + fields.lines + b"\r\n")

    # Back-pressure and ends

    def mustWait(self) -> bool:
        """Whether more than ``highWater`` bytes wait to be sent."""
        return self.session.pendingBytes > self.session.highWater

    def drained(self) -> Deferred[None]:
        """Fires when all bytes have left."""
        return self.session.drained()

    def whenGone(self, request: Request, call: Callable[[], object], orEnded: bool = False) -> None:
        """Call ``call()`` once if the client goes before the answer is complete, or ends its side."""
        self._check(request)
        self._whenGone = call
        self._hearsEnd = orEnded

    @property
    def hasEnded(self) -> bool:
        """The client has ended its side: it may have gone, or waits for its answers."""
        return self.session.inbound.ended

    def tellGone(self) -> None:
        """The client has gone, or has ended its side, for who waits for that."""
        self._hearsEnd = False
        call, self._whenGone = self._whenGone, None
        if call is not None:
            call()

    def wantBody(self, request: Request) -> None:
        """Somebody waits for the body: ask the client for it."""
        if request.expects and self.request is request and not self.status:
            request.expects = False
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
