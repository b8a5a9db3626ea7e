"""The limits and the times of one connection of HTTP/2."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_WINDOW", "Limits", "Times"]

#: Bytes of the largest window that there can be (RFC 9113, 6.9.1).
MAX_WINDOW = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the peer of a connection may do.

    :ivar maxStreams: streams that it may have open.
    :ivar streamWindow: bytes of data of one stream that it may send before they are taken.
    :ivar connectionWindow: the same, of all streams together; None: as many as leave streams that are not read to
        hold themselves alone, see :py:attr:`credit`.
    :ivar maxHeaders: bytes of the header fields of a message: name, value and 32 for each (RFC 9113, 6.5.2).
    :ivar maxFields: header fields of a message. Bytes alone are no limit where one byte repeats a field
        (CVE-2026-49975).
    """

    maxStreams: int = 100
    streamWindow: int = 256 * 1024
    connectionWindow: int | None = None
    maxHeaders: int = 32 * 1024
    maxFields: int = 100

    @property
    def credit(self) -> int:
        """
        Bytes of data that the peer may send before they are taken, of all streams together.

        Without a ``connectionWindow`` the windows of all streams may be full, and another stream has credit still: what
        was taken is told when it is half of the connection's window, so that has twice as much as the streams have.
        """
        if self.connectionWindow is not None:
            return self.connectionWindow
        return min(max(2 * self.maxStreams * self.streamWindow, 65535), MAX_WINDOW)


@dataclass(frozen=True, slots=True)
class Times:
    """
    How long a connection waits for what, in seconds; None: for ever. Each is kept to within a look, which comes when
    the next one may be due: things take at most twice as long.

    :ivar frameTimeout: for the rest of a frame or of a header block that has begun, and for the preface.
    :ivar stallTimeout: for credit for a stream that has data to send; then it is reset. None leaves a client as much
        time as it likes, and with it as many bytes of its streams.
    :ivar keepAlive: for the next stream, when there is none; then a server closes the connection.
    :ivar maxAge: until a server drains a connection, give or take a tenth.
    :ivar maxAgeGrace: for the streams of a connection that has reached ``maxAge``; then it is closed.
    :ivar pingInterval: without input, before the peer is asked for an answer.
    :ivar pingTimeout: for that answer, or any other input; then the connection is dropped.
    :ivar pingIdle: ask also while there are no streams.
    """

    frameTimeout: float | None = 10.0
    stallTimeout: float | None = 30.0
    keepAlive: float | None = None
    maxAge: float | None = None
    maxAgeGrace: float | None = None
    pingInterval: float | None = None
    pingTimeout: float = 20.0
    pingIdle: bool = True
