"""The connections of a client: streams that are opened, those that wait, and how a connection ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from getty_tx.errors import ReadTimeoutError
from getty_tx.http.two.connection import Connection
from getty_tx.http.two.errors import ErrorCode, StreamRefused, StreamReset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.stream import Stream
    from getty_tx.session.session import Session

__all__ = ["SETTINGS_TIMEOUT", "ClientConnection"]

#: SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2); what holds before the peer's settings have come, and without it.
_MAX_STREAMS = 3
FIRST_STREAMS = 100
_ENDLESS = 2**31

#: Seconds in which the peer's settings are to come; grpc's least time for an attempt to connect.
SETTINGS_TIMEOUT = 20.0

#: What pings carry. What comes back is not compared: any byte says that the peer is there.
_PING = b"getty_tx"


class ClientConnection(Connection):
    """
    Opens streams.

    The connection is ready when the peer's first SETTINGS have come: a port that accepts and says nothing, or speaks
    something else, never is.

    :param keepAlive: seconds of silence before a ping; None: never. Servers of gRPC end a connection with pings that
        come more often than every five minutes, unless they are set otherwise.
    :param keepAliveTimeout: seconds that a ping waits for any byte.
    :param keepAliveIdle: ping without open streams, too.

    :ivar isReady: the peer has said its settings.
    :ivar maxStreams: streams that the peer allows.
    """

    __slots__ = ("_asked", "_idle", "_keepAlive", "_pingTimeout", "_queue", "_timer", "isReady", "maxStreams")

    def __init__(
        self,
        session: Session,
        limits: Limits,
        *,
        keepAlive: float | None = None,
        keepAliveTimeout: float = 20.0,
        keepAliveIdle: bool = False,
    ) -> None:
        super().__init__(session, limits, False)
        self.isReady = False
        self.maxStreams = FIRST_STREAMS
        self._keepAlive = keepAlive
        self._pingTimeout = keepAliveTimeout
        self._idle = keepAliveIdle
        # Streams that wait for others to end.
        self._queue: deque[tuple[Stream, Headers, bool]] = deque()
        # The time of the last byte when the peer was asked; None: it was not.
        self._asked: float | None = None
        self._timer: Any = None

    # To override

    def ready(self) -> None:
        """The peer's first settings have come."""

    def leaving(self) -> None:
        """The peer takes no more streams: others are to be opened elsewhere. Comes once."""

    # Streams

    @property
    def load(self) -> int:
        """Streams that are open, or wait."""
        return len(self.streams) + len(self._queue)

    def open(self, stream: Stream, headers: Headers, isLast: bool) -> None:
        """
        Open a stream: at once, or when another has ended. ``stream.opened()`` is called then.

        :raise StreamRefused: the connection takes none any more.
        """
        if self.goesAway or self.session.isClosed:
            raise StreamRefused(f"{self.session} takes no more streams")
        stream.connection = self
        if self._queue or len(self.streams) >= self.maxStreams:
            self._queue.append((stream, headers, isLast))
            return
        self._open(stream, headers, isLast)

    def _open(self, stream: Stream, headers: Headers, isLast: bool) -> None:
        number = stream.number = self.engine.request(headers, isLast)
        self.streams[number] = stream
        self.touch()
        stream.opened()

    def withdraw(self, stream: Stream) -> None:
        """A stream that waits is not to be opened."""
        self._queue = deque(each for each in self._queue if each[0] is not stream)

    def streamEnded(self, stream: int, code: int) -> None:
        """A stream is over: another may be opened."""
        super().streamEnded(stream, code)
        if self._queue:
            self._openMore()
        if self.goesAway and not self.streams:
            self._atEnd(self._endIfIdle)

    def _openMore(self) -> None:
        queue = self._queue
        while queue and len(self.streams) < self.maxStreams and not self.goesAway:
            stream, headers, isLast = queue.popleft()
            try:
                self._open(stream, headers, isLast)
            except StreamRefused:
                # The numbers are used up.
                stream.finish(StreamReset(ErrorCode.REFUSED_STREAM))
                self.leave()

    def leave(self) -> None:
        """Open no more streams, and close the session when the last one has ended."""
        if not self.goesAway:
            self.goesAway = True
            self.leaving()
        self._dropQueue()
        if not self.streams:
            self._atEnd(self._endIfIdle)

    def _dropQueue(self) -> None:
        queue, self._queue = self._queue, deque()
        for stream, _, _ in queue:
            stream.finish(StreamReset(ErrorCode.REFUSED_STREAM))

    def _endIfIdle(self) -> None:
        if not self.streams and not self.session.isClosed:
            self.session.close()

    # The engine's events

    def wasReset(self, stream: int, code: int) -> None:
        """The peer has ended a stream. A server may refuse as many as it likes."""

    def settingsCame(self, settings: Mapping[int, int]) -> None:
        """The peer's settings."""
        self.maxStreams = settings.get(_MAX_STREAMS, self.maxStreams if self.isReady else _ENDLESS)
        if not self.isReady:
            self.isReady = True
            self._schedule()
            self.ready()
        if self._queue:
            self._openMore()

    def goingAway(self, last: int, code: int, text: bytes) -> None:
        """The peer accepts no streams above ``last``: they were surely not looked at."""
        isFirst = not self.goesAway
        self.goesAway = True
        if isFirst:
            self.leaving()
        for number in [number for number in self.streams if number > last]:
            self.streams.pop(number).finish(StreamReset(ErrorCode.REFUSED_STREAM))
        self._dropQueue()
        if not self.streams:
            self._atEnd(self._endIfIdle)

    # The session, and whether the peer is there

    def onOpen(self, session: Session) -> None:
        """Send the settings, and wait for the peer's."""
        super().onOpen(session)
        self._timer = session.context.wheel.schedule(SETTINGS_TIMEOUT, self._silent, None)

    def onClose(self, session: Session) -> None:
        """The connection is lost, or has ended."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
        super().onClose(session)
        self._dropQueue()

    def _silent(self, _: Any) -> None:
        self._timer = None
        text = f"{self.session}: no SETTINGS in {SETTINGS_TIMEOUT:g} s: does the peer speak HTTP/2?"
        self.session.fail(ReadTimeoutError(text, self.session), abort=True)

    def _schedule(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
        if self._keepAlive is not None:
            self._again(self._keepAlive)

    def _again(self, delay: float) -> None:
        self._timer = self.session.context.wheel.schedule(delay, self._look, None)

    def _look(self, _: Any) -> None:
        session, interval = self.session, self._keepAlive
        self._timer = None
        if session.isClosed or interval is None:
            return
        last = session.lastActive
        silence = self.seconds() - last
        if self._asked is not None and self._asked == last:
            text = f"{session}: no byte in keepAliveTimeout={self._pingTimeout:g} s after a ping"
            session.fail(ReadTimeoutError(text, session), abort=True)
        elif silence < interval or not (self.streams or self._idle):
            self._asked = None
            self._again(interval - silence if silence < interval else interval)
        else:
            self._asked = last
            self.engine.ping(_PING)
            self.touch()
            self._again(self._pingTimeout)
