"""One connection of HTTP/2, of either side: a session, an engine, and streams."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SessionClosedError, SessionError
from getty_tx.http.two.codec import FRAMES
from getty_tx.http.two.engines import newEngine
from getty_tx.http.two.errors import ConnectionFault, StreamReset
from getty_tx.http.two.guard import PREFACE, Guard
from getty_tx.http.two.interfaces import IEngineEvents
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


@implementer(IEventListener, IEngineEvents)
class Connection:
    """
    Gives what a session reads to the engine, and what the engine makes to the session.

    What is sent while a read is delivered leaves at its end, and what is sent otherwise at the end of the reactor's
    turn, in one write.

    :param session: a new session, in ``newSession``.
    :param limits: what the peer may do.
    :param isServer: which side this is.

    :ivar session: the session.
    :ivar engine: the :py:class:`~getty_tx.http.two.interfaces.IEngine`.
    :ivar guard: counts what the peer wastes.
    :ivar streams: the open streams, by number.
    :ivar blocked: streams that wait until data has left.
    :ivar creditAt: bytes of a stream that were taken, at which the peer is told.
    :ivar goesAway: no streams are opened any more, by this side or by the peer's word.
    """

    __slots__ = (
        "_atEnd",
        "_isIn",
        "_isPlanned",
        "_lost",
        "_waitsForSession",
        "blocked",
        "creditAt",
        "engine",
        "goesAway",
        "guard",
        "seconds",
        "session",
        "streams",
    )

    def __init__(self, session: Session, limits: Limits, isServer: bool) -> None:
        self.session = session
        context = session.context
        self.seconds: Callable[[], float] = context.seconds
        self.guard = Guard(context.seconds, len(PREFACE) if isServer else 0)
        self.engine: IEngine = newEngine(isServer, limits, self)
        self.streams: dict[int, Stream] = {}
        self.blocked: set[Stream] = set()
        self.creditAt = limits.streamWindow // 4
        self.goesAway = False
        # A read is delivered; a flush comes at the end of the turn; the session is to drain before the next one.
        self._isIn = self._isPlanned = self._waitsForSession = False
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
        self._lost = error

    def onClose(self, session: Session) -> None:
        """The connection is lost, or has ended: so have all streams."""
        error = self._lost or SessionClosedError(f"{session} has closed", session)
        streams, self.streams = self.streams, {}
        self.goesAway = True
        for stream in streams.values():
            stream.finish(error)

    def onCron(self, session: Session) -> None:
        """Nothing to do."""

    # Sending

    def touch(self) -> None:
        """Something is to be sent: soon, with all else of the turn."""
        if not (self._isIn or self._isPlanned or self._waitsForSession):
            self._isPlanned = True
            self._atEnd(self._flushPlanned)

    def _flushPlanned(self) -> None:
        self._isPlanned = False
        self.flush()

    def flush(self) -> None:
        """Send what the engine has, unless the session has enough already."""
        if self._isIn or self._waitsForSession:
            return
        session = self.session
        engine = self.engine
        if session.isClosed:
            return
        if session.pendingBytes > session.highWater:
            # The engine keeps the rest: no more than its streams were given, and its answers are counted.
            self._waitsForSession = True
            session.drained().addCallbacks(self._sessionDrained, lambda _: None)
            return
        data = engine.take()
        if data:
            self.guard.sent += len(data)
            try:
                session.writePkg(data)
            except SessionError as error:
                if not session.isClosed:
                    session.close(error)
                return
        if engine.isOver:
            session.close()

    def _sessionDrained(self, _: object) -> None:
        self._waitsForSession = False
        self.flush()
        self._goOn()

    def _goOn(self) -> None:
        for stream in list(self.blocked):
            stream.goOn()

    def fail(self, fault: ConnectionFault) -> None:
        """The peer has broken a rule of the connection: say which, and close."""
        session = self.session
        log.info("{session}: {fault}", session=session, fault=fault)
        if not session.isClosed:
            self._waitsForSession = False
            if not self.engine.isOver:
                self.engine.goAway(fault.code, str(fault).encode())
                self.flush()
            else:
                session.writePkg(goAwayFrame(fault.code))
            session.close(fault)

    # The engine's events

    def headersCame(self, stream: int, headers: Headers, isLast: bool) -> None:
        """The answer on a stream of this side."""
        known = self.streams.get(stream)
        if known is not None:
            known.headersCame(headers, isLast)

    def informed(self, stream: int, headers: Headers) -> None:
        """An interim answer."""
        known = self.streams.get(stream)
        if known is not None:
            known.informed(headers)

    def dataCame(self, stream: int, data: bytes, isLast: bool) -> None:
        """A part of a body."""
        known = self.streams.get(stream)
        if known is not None:
            known.dataCame(data, isLast)
        else:
            self.engine.consumed(stream, len(data))

    def trailersCame(self, stream: int, headers: Headers) -> None:
        """The fields behind a body."""
        known = self.streams.get(stream)
        if known is not None:
            known.trailersCame(headers)

    def wasReset(self, stream: int, code: int) -> None:
        """The peer has ended a stream: ``streamEnded`` follows."""
        self.guard.streamReset()

    def streamEnded(self, stream: int, code: int) -> None:
        """A stream is over."""
        known = self.streams.pop(stream, None)
        if known is not None:
            known.finish(StreamReset(code) if code else None)

    def creditCame(self) -> None:
        """The peer takes more data: what waits leaves with the next flush."""

    def settingsCame(self, settings: Mapping[int, int]) -> None:
        """The peer's settings."""

    def pinged(self) -> None:
        """The peer has asked for an answer."""

    def pongCame(self, data: bytes) -> None:
        """The peer has answered."""

    def goingAway(self, last: int, code: int, text: bytes) -> None:
        """The peer accepts no more streams."""
        self.goesAway = True


def goAwayFrame(code: int, last: int = 2**31 - 1) -> bytes:
    """A GOAWAY frame, for a connection whose engine makes none any more (RFC 9113, 6.8)."""
    return b"\0\0\x08\x07\0\0\0\0\0%b%b" % (last.to_bytes(4, "big"), code.to_bytes(4, "big"))
