"""One connection of HTTP/1.1: the order of its requests, its pauses and its times."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.http.answers import AnswerFields
from getty_tx.http.body import LOW_WATER, MAX_DISCARD, BodyLostError, BodyPart
from getty_tx.http.codec import HTTPCodec, Preface
from getty_tx.http.counting import LOST
from getty_tx.http.exchanging import LARGE, endsOf
from getty_tx.http.interfaces import IExchange
from getty_tx.http.leaving import Leaving
from getty_tx.http.refusals import Refused
from getty_tx.http.request import Request
from getty_tx.interfaces import IDrainingListener, IEventListener, IHalfCloseListener
from getty_tx.processes.drain import SILENCE, isAtRest

if TYPE_CHECKING:
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.exchanging import Ends
    from getty_tx.session.session import Session
    from getty_tx.wheel import WheelTimer

__all__ = ["Connection"]

log = Logger()

#: Requests, and bytes of their bodies, that wait for the answer before theirs. With more the client is read no more.
MAX_WAITING = 16
MAX_WAITING_BYTES = 256 * 1024

#: Bytes of an answer that the system takes above what the network has room for: ``unsentLimit``. Without a limit it
#: takes 2.6 MB for each client that does not read; with less it is filled more often for fast clients of large files.
MAX_UNSENT = 256 * 1024

#: Seconds of a body before its rate is looked at; Kestrel has the same.
RATE_GRACE = 5.0

# Why the client is not read.
_WAITING, _BODY, _ENDED = 1, 2, 4


@implementer(IEventListener, IExchange, IDrainingListener, IHalfCloseListener)
class Connection(Leaving):
    """
    Serves the requests of one session, one after the other.

    It is the session's listener, and the exchange of each of its requests.

    :param session: a new session, in ``newSession``.
    :param context: what all connections of the server share.
    """

    __slots__ = (
        "_bodyAt",
        "_bodyBegan",
        "_closing",
        "_codec",
        "_ends",
        "_headBegan",
        "_idleSince",
        "_lookedAt",
        "_pauses",
        "_receiving",
        "_starting",
        "_timer",
        "_waiting",
        "_waitingBytes",
        "_written",
    )

    def __init__(self, session: Session, context: HTTPContext) -> None:
        super().__init__(session, context)
        self._codec = HTTPCodec(context, self._headBegins)
        self._waiting: deque[Request | Refused] | None = None
        self._waitingBytes = 0
        # The request of which the body has not ended.
        self._receiving: Request | None = None
        self._timer: WheelTimer | None = None
        self._pauses = 0
        self._closing = self._starting = False
        self._headBegan = self._idleSince = self._lookedAt = 0.0
        self._bodyAt = self._bodyBegan = 0.0
        # Bytes of the session when the client had ended its side and was looked at last; -1: it has not.
        self._written = -1
        self._ends: Ends | None = None
        context.countIn(session.context)
        session.codec = self._codec
        session.listener = self
        session.maxMsgLen = max(64 * 1024, context.maxHead + 16)
        session.unsentLimit = MAX_UNSENT

    # The session's events

    def onOpen(self, session: Session) -> None:
        """Wait for the first request."""
        self.context.connections.add(self)
        self._idleSince = self._seconds()
        self._timer = session.context.wheel.schedule(self.context._keepAlive, _look, self)

    def onMessage(self, session: Session, pkg: Any) -> None:
        """A request, a part of a body, or what is none."""
        kind = type(pkg)
        if kind is Request:
            if self._closing:
                # Behind a request that says that it is the last.
                return
            pkg.exchange = self
            if not pkg.keepAlive:
                self._closing = True
            if pkg.body is not None:
                self._receive(pkg)
            elif pkg.fields.upgrade:
                self.hold(pkg)
            # A request that waits comes first, also while the client is read again between two of them.
            if self.request is None and not self._waiting:
                pkg.began = session.activeAt
                self._serve(pkg)
            else:
                self._wait(pkg)
        elif kind is BodyPart:
            self._part(pkg)
        elif kind is Preface:
            self._goOnAsTwo(session, pkg.data)
        elif not self._closing or self._receiving is not None:
            self._refused(pkg)

    def onPeerEnded(self, session: Session) -> bool:
        """The client sends no more: it gets the answers to what it has asked for completely."""
        if self.request is None or self._receiving is not None or self.held is not None:
            return False
        if self._written < 0:
            self.isDraining = True
            self._written = session.activity()
            self._idleSince = self._seconds()
            self._hurry(self.context._keepAlive)
        if self._hearsEnd:
            self.tellGone()
        return True

    def onError(self, session: Session, error: BaseException) -> None:
        """The session fails: ``onClose`` follows."""

    def onClose(self, session: Session) -> None:
        """The client has gone."""
        self.context.connections.discard(self)
        if self._timer is not None:
            self._timer.stop()
        self._waiting = None
        request, self.request = self.request, None
        if request is not None:
            # Before its application hears of it, and fails.
            self.context.running -= 1
            self.count(request, LOST, self._sent, self._seconds())
        if self._receiving is not None and self._receiving.body is not None:
            self._receiving.body.lose(BodyLostError(f"{self._receiving}: the client has gone"))
        if request is not None:
            self.tellGone()

    def onCron(self, session: Session) -> None:
        """Nothing to do."""

    def _goOnAsTwo(self, session: Session, data: bytes) -> None:
        """The client speaks HTTP/2 without having said so before."""
        if self._timer is not None:
            self._timer.stop()
        self.context.connections.discard(self)
        # Loaded with the first such client.
        from getty_tx.http.two.requests import RequestConnection

        connection = RequestConnection(session, self.context)
        connection.onOpen(session)
        connection.onMessage(session, data)

    # The order of requests

    def _serve(self, request: Request) -> None:
        self.request = request
        self.status = 0
        self.serveNow(request)

    def _wait(self, pkg: Request | Refused) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(pkg)
        if type(pkg) is Request and pkg.content:
            self._waitingBytes += len(pkg.content)
        if len(self._waiting) >= MAX_WAITING or self._waitingBytes > MAX_WAITING_BYTES:
            self._pause(_WAITING)

    def _next(self) -> None:
        """Serve those that wait, as long as each is answered at once."""
        waiting = self._waiting
        self._starting = True
        while waiting and self.request is None and self._waiting is not None:
            pkg = waiting.popleft()
            if type(pkg) is Request:
                if pkg.content:
                    self._waitingBytes -= len(pkg.content)
                pkg.began = self._seconds()
                self._serve(pkg)
            else:
                assert isinstance(pkg, Refused)
                self._answerRefused(pkg)
        self._starting = False
        if not waiting:
            self._resume(_WAITING)

    def finished(self, request: Request, sent: int, now: float) -> None:
        """The answer of the request is complete: go on with the next one, or close."""
        context = self.context
        context.running -= 1
        body = request.body
        if sent > LARGE and self.session.pendingBytes:
            self.countLater(request, sent)
        else:
            # In place of a call of count(): this is for each request.
            duration = now - request.began
            content = request.content
            received = body.size if body is not None else len(content) if content else 0
            context.counters.add(request.method, request.route, self.status, duration, sent, received)
            if context.access is not None:
                context.access(request, self.status, sent, duration)
        self.request = None
        self._whenGone = None
        if not request.keepAlive:
            # Before the client is read again: what is behind this request is not served.
            self._closing = True
        if body is not None:
            # A body that has ended may still be what the client is not read for.
            held = self._receiving is request or body.waiting > LOW_WATER
            body.drop()
            if held:
                self._resume(_BODY)
        if not request.keepAlive or (self._written >= 0 and not self._waiting):
            self._end()
            return
        self._idleSince = now
        if self.held is request:
            self.release()
        if self._waiting and not self._starting:
            self._next()

    def closesAfter(self, request: Request) -> bool:
        """Whether the connection ends with this answer."""
        if self.isDraining and not self._waiting:
            return True
        body = request.body
        if body is None or self._receiving is not request:
            return False
        # The client may not send the body at all, or more of it than is worth reading.
        left = self._codec.left
        return request.expects or (left is not None and left > MAX_DISCARD)

    def _end(self) -> None:
        self._closing = True
        self._waiting = None
        self.session.close()

    def _refused(self, refused: Refused) -> None:
        """What came is no request: nothing behind it is read."""
        self._closing = True
        receiving = self._receiving
        if receiving is not None:
            self._receiving = None
            assert receiving.body is not None
            if receiving.body.isUnwanted:
                # It was answered before its body ended: there is nothing to say.
                self._end()
                return
            lost = BodyLostError(f"{receiving}: {refused.reason}")
            if self.request is receiving:
                # Before its application hears of it.
                self._abandon(receiving, refused)
                receiving.body.lose(lost)
                return
            # It waits for its turn, in which its application finds the body lost: see fail().
            receiving.body.lose(lost)
        self._pause(_ENDED)
        if self.request is None and not self._waiting:
            self._answerRefused(refused)
        else:
            self._wait(refused)

    def fail(self, request: Request, error: BaseException) -> None:
        """The application has failed, or refuses the request."""
        waiting = self._waiting
        if self.request is request and isinstance(error, BodyLostError) and waiting:
            refused = waiting[-1]
            if isinstance(refused, Refused):
                waiting.pop()
                self._abandon(request, refused)
                return
        super().fail(request, error)

    def _abandon(self, request: Request, refused: Refused) -> None:
        """The body of the request that is being served cannot be read on: answer in place of its application."""
        request.keepAlive = False
        call, self._whenGone = self._whenGone, None
        if self.status and self._head is None:
            self.cut(request)
        else:
            self.status = 0
            self._head = None
            self.refuse(request, refused.status, refused.reason)
        if call is not None:
            call()

    def _answerRefused(self, refused: Refused) -> None:
        context = self.context
        context.counters.refuse(refused.status)
        log.debug("{session}: {refused}", session=self.session, refused=refused)
        self._renewDates()
        text = f"{refused}\n".encode()
        prefix = _REFUSAL.prefix(refused.status, context.dates)
        self._write(b"%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (prefix, len(text), text))
        self._end()

    # Bodies

    def _receive(self, request: Request) -> None:
        """A body begins of which not all has come."""
        self._receiving = request
        now = self._seconds()
        self._bodyBegan = self._bodyAt = self._lookedAt = now
        self._hurry(self.context._bodyTimeout)

    def _part(self, part: BodyPart) -> None:
        request = self._receiving
        if request is None:
            return
        body = request.body
        assert body is not None
        self._bodyAt = self.session.activeAt
        if part.isLast:
            self._receiving = None
            self._idleSince = self._bodyAt
        if body.feed(part):
            self._pause(_BODY)
        elif body.isUnwanted and self._receiving is not None:
            left = self._codec.left
            if body.size > MAX_DISCARD and (left is None or left > MAX_DISCARD):
                self._end()

    def bodyTaken(self, request: Request) -> None:
        """Parts of the body were taken: the client may be read again."""
        body = request.body
        if body is not None and body.waiting <= LOW_WATER:
            self._resume(_BODY)

    # Pauses

    def _pause(self, reason: int) -> None:
        if not self._pauses:
            self.session.pauseReading()
        self._pauses |= reason

    def _resume(self, reason: int) -> None:
        if self._pauses & reason:
            self._pauses &= ~reason
            if not self._pauses:
                self.session.resumeReading()

    # Times

    def _headBegins(self) -> None:
        self._headBegan = self._seconds()
        self._hurry(self.context._headTimeout)

    def _hurry(self, delay: float) -> None:
        """Look in ``delay`` seconds at the latest."""
        timer = self._timer
        if timer is not None and timer.left > delay:
            timer.reset(delay)

    def look(self) -> None:
        """Timer callback: end what takes too long."""
        context = self.context
        now = self._seconds()
        left = context._keepAlive
        if self.session.isClosed:
            return
        if self._receiving is not None:
            late = self._lookAtBody(self._receiving, now)
            if late:
                self._refused(Refused(408, late))
                return
            left = min(left, context._bodyTimeout / 4)
        elif self._written >= 0:
            left = self._lookAtEnd(now)
            if left <= 0:
                self.session.abort()
                return
        elif self._codec.inHead and not self._pauses:
            left = self._headBegan + context._headTimeout - now
            if left <= 0:
                self._refused(Refused(408, f"the head has not come within {context._headTimeout:g} seconds"))
                return
        elif self.request is None and not self._waiting:
            left = self._idleSince + context._keepAlive - now
            if left <= 0:
                self._end()
                return
        self._timer = self.session.context.wheel.schedule(left, _look, self)

    def _lookAtEnd(self, now: float) -> float:
        """Seconds for which a client that has ended its side may yet get nothing: it may have gone."""
        written = self.session.activity()
        if written != self._written or self.session.pendingBytes:
            # That it takes what is pending is the affair of writeTimeout.
            self._written = written
            self._idleSince = now
        return self._idleSince + self.context._keepAlive - now

    def _lookAtBody(self, request: Request, now: float) -> str:
        """Why the body is too slow; empty: it is not."""
        context = self.context
        body = request.body
        assert body is not None
        if self._pauses or (request.expects and not body.isWanted):
            # The client is not read, or waits for 100 (Continue), so it cannot be late.
            self._bodyAt = now
            self._bodyBegan += now - self._lookedAt
        self._lookedAt = now
        if now - self._bodyAt >= context._bodyTimeout:
            return f"no byte of the body has come for {context._bodyTimeout:g} seconds"
        elapsed = now - self._bodyBegan - RATE_GRACE
        if elapsed > 0 and body.size < elapsed * context._minRate:
            return f"the body comes with less than {context._minRate} bytes a second"
        return ""

    # Ends

    def drain(self) -> None:
        """Close when no request is on its way; answers say that they are the last."""
        self.isDraining = True
        session = self.session
        if self.request is None and not self._waiting and self._receiving is None:
            silent = self._seconds() - session.activeAt
            if (silent >= SILENCE or silent < 0) and isAtRest(session):
                self._end()

    # Where it comes from

    def theEnds(self) -> Ends:
        """The scheme, and the addresses of both sides."""
        ends = self._ends
        if ends is None:
            ends = self._ends = endsOf(self.session)
        return ends


_REFUSAL = AnswerFields([(b"Content-Type", b"text/plain; charset=utf-8")])


def _look(connection: Connection) -> None:
    connection.look()
