"""What exists of a connection only while an ``async def newSession`` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from getty_tx.errors import HandshakeTimeoutError, SessionRefusedError

if TYPE_CHECKING:
    from twisted.python.failure import Failure

__all__ = ["LIMIT", "Opening"]

log = Logger()

#: Bytes that are kept until newSession has returned. Above it the connection is not read; datagrams are dropped.
LIMIT = 64 * 1024


class Opening:
    """
    Waits for ``newSession``, within the service's ``handshakeTimeout``, and keeps what comes meanwhile.

    :param connection: has no session until then.
    :param session: made, and not open.

    :ivar ended: the peer has ended its side of the stream.
    """

    def __init__(self, connection: Any, session: Any) -> None:
        self._connection = connection
        self._session = session
        self._kept: list[tuple[Any, ...]] = []
        self._size = 0
        self._isPaused = False
        self.ended = False
        self._isDone = False
        self._waiting: Deferred[Any] | None = None
        context = session.context
        context.handshaking.add(connection)
        self._timer = context.wheel.schedule(context.handshakeTimeout, _timedOut, self)

    def wait(self, waiting: Deferred[Any]) -> None:
        """Open the session when ``waiting`` fires, or refuse it when that fails."""
        self._waiting = waiting
        waiting.addCallbacks(self._returned, self._failed)
        waiting.addErrback(lambda failure: log.failure("{session}: not opened", failure, session=self._session))

    def keep(self, *arguments: Any) -> None:
        """Keep bytes for the session; ``arguments`` are those of its inbound, the bytes first."""
        length = len(arguments[0])
        if self._isDone or (self._isPaused and len(arguments) > 1):
            # A datagram. The bytes of a stream that still come were read before the pause.
            return
        self._kept.append(arguments)
        self._size += length
        if self._size > LIMIT and not self._isPaused:
            self._isPaused = True
            self._connection.pauseReading()

    @property
    def isEmpty(self) -> bool:
        """Nothing came so far."""
        return not self._kept

    def cancel(self, why: BaseException) -> None:
        """The connection is lost, or newSession takes too long: cancel it."""
        if self._isDone:
            return
        self._end()
        log.info("{session}: newSession was cancelled: {why}", session=self._session, why=why)
        self._session.abandon()
        if self._waiting is not None:
            self._waiting.cancel()

    def _end(self) -> None:
        self._isDone = True
        self._timer.stop()
        self._session.context.handshaking.discard(self._connection)
        self._connection.opening = None

    def _returned(self, _: object) -> None:
        if self._isDone:
            return
        self._end()
        connection, session = self._connection, self._session
        connection.session = session
        try:
            session.begin()
        except SessionRefusedError as error:
            connection.sessionRefused(error)
            return
        connection.opened()
        kept, self._kept = self._kept, []
        if self._isPaused and not session.inbound.readingStopped:
            connection.resumeReading()
        for arguments in kept:
            connection.deliver(*arguments)
        if self.ended:
            session.peerEnded()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        if self._isDone:
            if not isinstance(error, CancelledError):
                log.failure("{session}: newSession failed after it was cancelled", failure, session=self._session)
            return
        self._end()
        self._connection.session = self._session
        self._connection.sessionRefused(self._session.refusedBy(error))

    def timedOut(self) -> None:
        """newSession has not returned in ``handshakeTimeout``."""
        timeout = self._session.context.handshakeTimeout
        error = HandshakeTimeoutError(f"newSession did not return in handshakeTimeout={timeout:g} s", self._session)
        self.cancel(error)
        self._connection.openingTimedOut(error)


def _timedOut(opening: Opening) -> None:
    opening.timedOut()
