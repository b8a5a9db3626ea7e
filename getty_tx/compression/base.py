"""
The interfaces of compressors and decompressors, and the error for bad data.

A compressor gets the data of one write, or of one delivery, and returns all of it compressed, so that the peer can
decompress it at once. A decompressor is fed with received bytes and read piece by piece: decompressed data has no size
limit, so nothing is decompressed before it is read.
"""

from __future__ import annotations

from typing import Protocol

from getty_tx.errors import CodecError

__all__ = ["PIECE", "Compressor", "Decompressor", "refuse"]

#: Maximum number of bytes that one read of a decompressor returns: as many as one read of an uncompressed stream.
PIECE = 64 * 1024


class Compressor(Protocol):
    """Compresses one direction of a connection."""

    def compress(self, data: bytes) -> bytes:
        """Compress ``data``, which is not empty, and flush, so that the peer can decompress all of it."""

    def end(self) -> bytes:
        """The bytes that end the stream. Called once, after all data."""


class Decompressor:
    """
    Decompresses the other direction, piece by piece.

    :ivar more: :py:meth:`read` may return data or find an error without another :py:meth:`feed`.
    """

    __slots__ = ("_current", "_following", "more")

    def __init__(self) -> None:
        # The fed bytes that are read next, and those fed after them.
        self._current: bytes = b""
        self._following = bytearray()
        self.more = False

    @property
    def held(self) -> int:
        """Bytes fed and not read yet."""
        return len(self._current) + len(self._following)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._current:
            self._following += data
        else:
            self._current = data
        self.more = True

    def _take(self) -> bytes:
        """Take the unread bytes that were fed first; may be empty."""
        if not self._current and self._following:
            self._current, self._following = bytes(self._following), bytearray()
        data, self._current = self._current, b""
        return data

    def _putBack(self, rest: bytes) -> None:
        """Return the rest of the taken bytes, to be read next."""
        self._current = rest

    def read(self) -> bytes:
        """
        Decompress the next piece, at most :py:data:`PIECE` bytes; may be empty.

        :raise CodecError: the received bytes are invalid.
        """
        raise NotImplementedError

    def clear(self) -> None:
        """Drop all unread bytes."""
        self._current = b""
        self._following.clear()
        self.more = False


def refuse(name: str, why: object) -> CodecError:
    """Make the error for received bytes that are invalid in the format ``name``."""
    return CodecError(f"the received data is no {name} stream: {why}; do both sides have the same session.compression?")
