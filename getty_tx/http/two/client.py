"""The connections of a client: streams that are opened, those that wait, and how a connection ends."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

from getty_tx.errors import ReadTimeoutError
from getty_tx.http.two.connection import Connection
from getty_tx.http.two.errors import ErrorCode, StreamRefused, StreamReset
from getty_tx.http.two.limits import Times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.stream import Stream
    from getty_tx.session.session import Session

__all__ = ["SETTINGS_TIMEOUT", "TIMES", "ClientConnection"]

#: SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, 6.5.2); what holds before the peer's settings have come, and without it.
_MAX_STREAMS = 3
FIRST_STREAMS = 100
_ENDLESS = 2**31

#: Seconds in which the peer's settings are to come; grpc's least time for an attempt to connect.
SETTINGS_TIMEOUT = 20.0

#: A client waits for credit as long as it likes: its requests have deadlines of their own.
TIMES = Times(stallTimeout=None)


class ClientConnection(Connection):
    """
    Opens streams.

    The connection is ready when the peer's first SETTINGS have come: a port that accepts and says nothing, or speaks
    something else, never is.

    :ivar isReady: the peer has said its settings.
    :ivar maxStreams: streams that the peer allows.
    """

    __slots__ = ("_ending", "_openedAt", "_queue", "isReady", "maxStreams")

    def __init__(self, session: Session, limits: Limits, times: Times = TIMES) -> None:
        super().__init__(session, limits, False, times)
        self.isReady = False
        self.maxStreams = FIRST_STREAMS
        # Streams that wait for others to end.
        self._queue: deque[tuple[Stream, Headers, bool]] = deque()
        self._openedAt: float | None = None
        # The stream that has ended, of which only that was not told; 0: there is none.
        self._ending = 0

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
        if self._queue or len(self.streams) - (self._ending in self.streams) >= self.maxStreams:
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

    def headersCame(self, stream: int, headers: Headers, isLast: bool) -> None:
        """An answer, or nothing but its end."""
        if isLast and len(self.streams) >= self.maxStreams:
            self._hasEnded(stream)
        super().headersCame(stream, headers, isLast)

    def trailersCame(self, stream: int, headers: Headers) -> None:
        """The end of an answer."""
        if len(self.streams) >= self.maxStreams:
            self._hasEnded(stream)
        super().trailersCame(stream, headers)

    def _hasEnded(self, stream: int) -> None:
        """Who hears of the end may open another stream in place of this one, which the engine has forgotten."""
        known = self.streams.get(stream)
        if known is not None and known.hasSent and not known.waiting:
            self._ending = stream

    def streamEnded(self, stream: int, code: int) -> None:
        """A stream is over: another may be opened."""
        super().streamEnded(stream, code)
        if self._queue:
            self._openMore()

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
        self.isEnding = True
        self.touch()

    def _dropQueue(self) -> None:
        queue, self._queue = self._queue, deque()
        for stream, _, _ in queue:
            stream.finish(StreamReset(ErrorCode.REFUSED_STREAM))

    # The engine's events

    def wasReset(self, stream: int, code: int) -> None:
        """The peer has ended a stream. A server may refuse as many as it likes."""
        self._resetByPeer = stream

    def settingsCame(self, settings: Mapping[int, int]) -> None:
        """The peer's settings."""
        self.maxStreams = settings.get(_MAX_STREAMS, self.maxStreams if self.isReady else _ENDLESS)
        if not self.isReady:
            self.isReady = True
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
        self.isEnding = True
        self.touch()

    # The session

    def onClose(self, session: Session) -> None:
        """The connection is lost, or has ended."""
        super().onClose(session)
        self._dropQueue()

    def look(self, now: float) -> float:
        """For the watch: whether the peer's settings are there in time."""
        if self.isReady:
            return inf
        if self._openedAt is None:
            self._openedAt = now
        left = self._openedAt + SETTINGS_TIMEOUT - now
        if left <= 0:
            text = f"{self.session}: no SETTINGS in {SETTINGS_TIMEOUT:g} s: does the peer speak HTTP/2?"
            self.drop(ReadTimeoutError(text, self.session))
        return left
