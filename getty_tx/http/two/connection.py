"""One connection of HTTP/2, of either side: a session, an engine, and streams."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SessionClosedError, SessionError
from getty_tx.http.two.codec import FRAMES
from getty_tx.http.two.engines import newEngine
from getty_tx.http.two.errors import ConnectionFault, ErrorCode, StreamReset, goAwayFrame
from getty_tx.http.two.guard import PREFACE, Guard
from getty_tx.http.two.interfaces import IEngineEvents
from getty_tx.http.two.limits import Times
from getty_tx.http.two.watch import Watch
from getty_tx.interfaces import IEventListener, IReactorTurns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from getty_tx.http.two.interfaces import Headers, IEngine
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.stream import Stream
    from getty_tx.session.session import Session

__all__ = ["Connection"]

log = Logger()

#: Bytes of one read that the engine gets.
READ = 64 * 1024

#: Why this side ends a stream that the peer has made it end (CVE-2025-8671).
_PROVOKED = (
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.FLOW_CONTROL_ERROR,
    ErrorCode.STREAM_CLOSED,
    ErrorCode.FRAME_SIZE_ERROR,
)


@implementer(IEventListener, IEngineEvents)
class Connection:
    """
    Gives what a session reads to the engine, and what the engine makes to the session.

    What is sent while a read is delivered leaves at its end, and what is sent otherwise at the end of the reactor's
    turn, in one write. What a stream raises is logged, and resets it alone.

    :param session: a new session, in ``newSession``.
    :param limits: what the peer may do.
    :param isServer: which side this is.
    :param times: how long it may take.

    :ivar session: the session.
    :ivar engine: the :py:class:`~getty_tx.http.two.interfaces.IEngine`.
    :ivar guard: counts what the peer wastes.
    :ivar streams: the open streams, by number.
    :ivar blocked: streams that wait until data has left.
    :ivar goesAway: no streams are opened any more, by this side or by the peer's word.
    :ivar isEnding: the connection closes with its last stream.
    :ivar last: the number of the last stream that the peer has opened.
    :ivar waitsForSession: nothing is sent until the session has sent what it has.
    :ivar watch: its times.
    """

    __slots__ = (
        "_atEnd",
        "_isIn",
        "_isPlanned",
        "_lost",
        "_resetByPeer",
        "_sendsMore",
        "blocked",
        "engine",
        "goesAway",
        "guard",
        "isEnding",
        "last",
        "seconds",
        "session",
        "streams",
        "waitsForSession",
        "watch",
    )

    def __init__(self, session: Session, limits: Limits, isServer: bool, times: Times = Times()) -> None:  # noqa: B008
        self.session = session
        context = session.context
        self.seconds: Callable[[], float] = context.seconds
        self.guard = Guard(context.seconds, len(PREFACE) if isServer else 0)
        self.engine: IEngine = newEngine(isServer, limits, self)
        self.watch = Watch(self, times)
        self.streams: dict[int, Stream] = {}
        self.blocked: set[Stream] = set()
        self.goesAway = self.isEnding = False
        self.last = self._resetByPeer = 0
        # The engine runs, so what is sent waits for its end; a flush comes at the end of the turn; the session is to
        # drain before the next one.
        self._isIn = self._isPlanned = self.waitsForSession = False
        # Something came to be sent while the engine ran.
        self._sendsMore = False
        self._lost: BaseException | None = None
        reactor: Any = context.reactor
        self._atEnd: Callable[[Callable[[], object]], object]
        if IReactorTurns.providedBy(reactor):
            self._atEnd = reactor.callAtTurnsEnd
        else:
            self._atEnd = partial(reactor.callLater, 0)
        session.codec = FRAMES
        session.listener = self
        session.maxMsgLen = READ

    # The session's events

    def onOpen(self, session: Session) -> None:
        """Send the settings."""
        self.flush()
        self.watch.start()

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """Bytes of the peer."""
        engine = self.engine
        if engine.isOver:
            return
        self._isIn = True
        try:
            self.guard.look(pkg)
            engine.receive(pkg)
            self.received()
        except ConnectionFault as fault:
            self._isIn = False
            # What came before it was told, and is served for others' sake, who may share what it has taken.
            self.received()
            self.fail(fault)
            return
        finally:
            self._isIn = False
        self.flush()
        if self.blocked:
            self._goOn()

    def received(self) -> None:
        """All streams have heard of what one read has brought."""

    def onError(self, session: Session, error: BaseException) -> None:
        """The session fails: ``onClose`` follows."""
        self._lost = self._lost or error

    def onClose(self, session: Session) -> None:
        """The connection is lost, or has ended: so have all streams."""
        self.watch.stop()
        error = self._lost or SessionClosedError(f"{session} has closed", session)
        streams, self.streams = self.streams, {}
        self.goesAway = True
        for stream in streams.values():
            self._finish(stream, error)

    def onCron(self, session: Session) -> None:
        """Nothing to do."""

    # Sending

    def touch(self) -> None:
        """Something is to be sent: soon, with all else of the turn."""
        if self._isIn:
            self._sendsMore = True
        elif not (self._isPlanned or self.waitsForSession):
            self._isPlanned = True
            self._atEnd(self._flushPlanned)

    def _flushPlanned(self) -> None:
        self._isPlanned = False
        self.flush()
        if self.blocked:
            self._goOn()

    def flush(self) -> None:
        """Send what the engine has, unless the session has enough already."""
        if self._isIn or self.waitsForSession:
            return
        session = self.session
        engine = self.engine
        self._sendsMore = True
        while self._sendsMore:
            if session.isClosed:
                return
            if session.pendingBytes > session.highWater:
                # The engine keeps the rest: no more than its streams were given, and its answers are counted.
                self.waitsForSession = True
                session.drained().addCallbacks(self._sessionDrained, lambda _: None)
                return
            self._sendsMore = False
            # Streams that end with their last frame are told of that: what they send then comes behind it.
            self._isIn = True
            try:
                data = engine.take()
            except ConnectionFault as fault:
                self._isIn = False
                self.fail(fault)
                return
            finally:
                self._isIn = False
            if data and not self.write(data):
                return
            if engine.isOver:
                self._over()
                return
        if self.isEnding and not self.streams:
            session.close()

    def write(self, data: bytes) -> bool:
        """Have the session send whole frames. Override it to see what leaves. :return: it takes them."""
        self.guard.sent += len(data)
        session = self.session
        try:
            session.writePkg(data)
        except SessionError as error:
            if not session.isClosed:
                session.close(error)
            return False
        return True

    def _sessionDrained(self, _: object) -> None:
        self.waitsForSession = False
        self.flush()
        self._goOn()

    def _goOn(self) -> None:
        for stream in list(self.blocked):
            stream.goOn()

    # Ends

    def _over(self) -> None:
        """The engine has said what there is to say."""
        fault = self.engine.fault
        if fault is None:
            self.session.close()
        else:
            log.info("{session}: {fault}", session=self.session, fault=fault)
            self.session.close(fault)

    def fail(self, fault: ConnectionFault) -> None:
        """The peer has broken a rule of the connection: say which, and close."""
        session = self.session
        log.info("{session}: {fault}", session=session, fault=fault)
        if not session.isClosed:
            self._lost = self._lost or fault
            # The engine may have stopped within a frame of its own, but not within one that it has given.
            self.write(goAwayFrame(fault.code, self.last, str(fault).encode()))
            session.close(fault)

    def drop(self, error: BaseException) -> None:
        """The peer does not answer: end the connection at once."""
        log.info("{session}: {error}", session=self.session, error=error)
        self._lost = self._lost or error
        self.session.abort()

    def look(self, now: float) -> float:
        """For the watch: look at times. :return: seconds until the next look; infinite: it need not be."""
        return inf

    def _failed(self, stream: Stream) -> None:
        log.failure("{stream}: failed", stream=stream)
        stream.reset(ErrorCode.INTERNAL_ERROR)

    def _finish(self, stream: Stream, error: BaseException | None) -> None:
        try:
            stream.finish(error)
        except Exception:
            log.failure("{stream}: failed at its end", stream=stream)

    # The engine's events

    def headersCame(self, stream: int, headers: Headers, isLast: bool) -> None:
        """The answer on a stream of this side."""
        known = self.streams.get(stream)
        if known is not None:
            try:
                known.headersCame(headers, isLast)
            except Exception:
                self._failed(known)

    def informed(self, stream: int, headers: Headers) -> None:
        """An interim answer."""
        known = self.streams.get(stream)
        if known is not None:
            try:
                known.informed(headers)
            except Exception:
                self._failed(known)

    def dataCame(self, stream: int, data: bytes, isLast: bool) -> None:
        """A part of a body."""
        known = self.streams.get(stream)
        if known is None:
            self.engine.consumed(stream, len(data))
            return
        known.owed += len(data)
        try:
            known.dataCame(data, isLast)
        except Exception:
            self._failed(known)

    def trailersCame(self, stream: int, headers: Headers) -> None:
        """The fields behind a body."""
        known = self.streams.get(stream)
        if known is not None:
            try:
                known.trailersCame(headers)
            except Exception:
                self._failed(known)

    def wasReset(self, stream: int, code: int) -> None:
        """The peer has ended a stream, or says so of one that has ended: of such there may be one for each call."""
        self._resetByPeer = stream
        if stream in self.streams:
            self.guard.streamReset()
        else:
            self.guard.useless()

    def streamEnded(self, stream: int, code: int) -> None:
        """A stream is over."""
        known = self.streams.pop(stream, None)
        if known is not None:
            try:
                known.finish(StreamReset(code) if code else None)
            except Exception:
                log.failure("{stream}: failed at its end", stream=known)
        if code and code in _PROVOKED and stream != self._resetByPeer and not (known is not None and known.wasReset):
            self.guard.streamReset()

    def creditCame(self, stream: int) -> None:
        """The peer takes more data: what waits leaves with the next flush."""
        self.watch.creditCame(stream)

    def settingsCame(self, settings: Mapping[int, int]) -> None:
        """The peer's settings."""

    def pinged(self) -> None:
        """The peer has asked for an answer."""

    def pongCame(self, data: bytes) -> None:
        """The peer has answered."""

    def goingAway(self, last: int, code: int, text: bytes) -> None:
        """The peer accepts no more streams."""
        self.goesAway = True
