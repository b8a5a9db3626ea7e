"""One stream of a connection, for who serves or makes a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from getty_tx.http.two.errors import ErrorCode

if TYPE_CHECKING:
    from getty_tx.http.two.connection import Connection
    from getty_tx.http.two.interfaces import Headers

__all__ = ["HIGH_WATER", "Stream"]

#: Bytes of one stream that wait for the peer's credit, above which who writes is to wait.
HIGH_WATER = 64 * 1024


class Stream:
    """
    A stream. A class below this one overrides what it wants to hear.

    :param connection: the connection.

    :ivar connection: the connection.
    :ivar number: of the stream on it; 0: it is not open yet.
    :ivar hasEnded: nothing can be sent any more.
    :ivar owed: bytes of data that came and were not taken; what is left at the end is credited then.
    :ivar wasReset: this side has ended it.
    """

    #: Of a client: all that it sends was given to the engine.
    hasSent = False

    __slots__ = ("_blocked", "connection", "hasEnded", "number", "owed", "wasReset")

    def __init__(self, connection: Connection, number: int = 0) -> None:
        self.connection = connection
        self.number = number
        self.hasEnded = self.wasReset = False
        self.owed = 0
        self._blocked: list[Deferred[None]] | None = None

    # What the peer does

    def headersCame(self, headers: Headers, isLast: bool) -> None:
        """The answer has begun. Servers make the stream of it."""

    def begin(self) -> None:
        """On a server: serve it. All that one read has brought of it was told."""

    def opened(self) -> None:
        """On a client: the request has its number, and its body may be sent."""

    def informed(self, headers: Headers) -> None:
        """An interim answer."""

    def dataCame(self, data: bytes, isLast: bool) -> None:
        """A part of the body. :py:meth:`take` it, or the peer stops sending when its window is full."""
        self.take(len(data))

    def trailersCame(self, headers: Headers) -> None:
        """The fields behind the body, which end it."""

    def ended(self, error: BaseException | None) -> None:
        """
        The stream has ended on both sides; comes once.

        :param error: why it ended early, such as a StreamReset of the peer or the loss of the connection; None: all was
            sent and received.
        """

    # What this side does

    def take(self, size: int) -> None:
        """Bytes of data were taken: the peer may send as many more."""
        if not self.hasEnded:
            # The engine tells the peer when it is worth a frame.
            self.owed -= size
            self.connection.engine.consumed(self.number, size)
            self.connection.touch()

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """End the stream; what waits is dropped. ``ended`` follows."""
        if not self.hasEnded:
            self.wasReset = True
            self.connection.engine.reset(self.number, code)
            self.connection.touch()

    @property
    def waiting(self) -> int:
        """Bytes of data that wait for the peer's credit."""
        return 0 if self.hasEnded else self.connection.engine.waiting(self.number)

    def mustWait(self) -> bool:
        """Whether so much waits that who writes is to wait for :py:meth:`drained`."""
        if self.hasEnded:
            return False
        connection = self.connection
        connection.flush()
        session = connection.session
        return connection.engine.waiting(self.number) > HIGH_WATER or session.pendingBytes > session.highWater

    def drained(self) -> Deferred[None]:
        """Fires when :py:meth:`mustWait` is false; fails when the stream ends before."""
        if not self.mustWait():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        if self._blocked is None:
            self._blocked = []
            self.connection.blocked.add(self)
            # It may be that nothing waits for credit, but for the end of a callback of the engine.
            self.connection.touch()
        self._blocked.append(waiting)
        return waiting

    def goOn(self) -> None:
        """For the connection: some data has left."""
        if self._blocked is not None and not self.mustWait():
            blocked, self._blocked = self._blocked, None
            self.connection.blocked.discard(self)
            for each in blocked:
                each.callback(None)

    def finish(self, error: BaseException | None) -> None:
        """For the connection: the stream has ended."""
        self.hasEnded = True
        owed, self.owed = self.owed, 0
        if owed:
            # The credit of the connection is not the stream's alone.
            self.connection.engine.consumed(self.number, owed)
            self.connection.touch()
        blocked, self._blocked = self._blocked, None
        try:
            self.ended(error)
        finally:
            if blocked is not None:
                self.connection.blocked.discard(self)
                for each in blocked:
                    if error is None:
                        each.callback(None)
                    else:
                        each.errback(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of {self.connection.session}>"
