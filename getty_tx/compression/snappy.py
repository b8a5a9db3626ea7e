"""
Snappy's framing format, as ``NewBufferedWriter`` and ``NewReader`` of ``golang/snappy`` write and read it.

A stream is a sequence of chunks with a header of 4 bytes; the first chunk is the stream identifier
(https://github.com/google/snappy/blob/main/framing_format.txt). The library's stream decoder returns all of the output
at once, without a limit. So this module splits the stream, and gives the library one chunk at a time, which has at most
64 KiB of data. The library verifies the checksum of each (CRC-32C, masked). Chunks are independent of one another, so a
session keeps only an incomplete chunk.
"""

from __future__ import annotations

from typing import Any

from getty_tx.compression.base import Decompressor, refuse

__all__ = ["SnappyCompressor", "SnappyDecompressor", "findLibrary"]

#: The chunk at the start of every stream; it may be repeated.
IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"

#: Bytes of the checksum at the start of a data chunk, and the maximum number of bytes of data in one.
CHECKSUM_SIZE = 4
MAX_CHUNK = 64 * 1024

#: Maximum number of bytes of a compressed chunk: snappy's MaxCompressedLength, 32 + n + n / 6.
MAX_COMPRESSED_CHUNK = 32 + MAX_CHUNK + MAX_CHUNK // 6

#: Limits the work of one read of a flood of empty or skippable chunks.
MAX_CHUNKS_PER_READ = 16


def findLibrary() -> Any:
    """
    Import the library.

    :raise ImportError: it is not installed.
    """
    import cramjam

    return cramjam.snappy


class SnappyCompressor:
    """Each write becomes one chunk or several."""

    __slots__ = ("_begun", "_library")

    def __init__(self, library: Any) -> None:
        self._library = library
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        """See :py:class:`~getty_tx.compression.base.Compressor`."""
        stream = self._library.compress(data)
        if self._begun:
            return bytes(memoryview(stream)[len(IDENTIFIER) :])
        self._begun = True
        return bytes(stream)

    def end(self) -> bytes:
        """Empty: the format has no end of stream."""
        return b""


class SnappyDecompressor(Decompressor):
    """Reads one data chunk at a time."""

    __slots__ = ("_begun", "_buffer", "_library", "_skip")

    def __init__(self, library: Any) -> None:
        super().__init__()
        self._library = library
        self._buffer = bytearray()
        self._begun = False
        # Bytes of a skippable chunk that have not arrived yet.
        self._skip = 0

    @property
    def held(self) -> int:
        """Bytes fed and not read yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data
        self.more = True

    def clear(self) -> None:
        """Drop all unread bytes."""
        self._buffer.clear()
        self.more = False

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read <getty_tx.compression.base.Decompressor.read>`."""
        buffer = self._buffer
        at = 0
        data = b""
        self.more = False
        for _ in range(MAX_CHUNKS_PER_READ):
            skipped = min(self._skip, len(buffer) - at)
            self._skip -= skipped
            at += skipped
            if len(buffer) - at < 4:
                break
            kind = buffer[at]
            length = int.from_bytes(buffer[at + 1 : at + 4], "little")
            self._check(kind, length)
            if kind >= 0x80 and kind != 0xFF:
                # Padding, and chunks of later versions of the format.
                at += 4
                self._skip = length
                continue
            end = at + 4 + length
            if end > len(buffer):
                break
            chunk = bytes(buffer[at:end])
            at = end
            if kind == 0xFF:
                if chunk != IDENTIFIER:
                    raise refuse("snappy", "its identifier is wrong")
                self._begun = True
                continue
            data = self._data(chunk)
            if data:
                self.more = True
                break
        else:
            self.more = True
        del buffer[:at]
        return data

    def _check(self, kind: int, length: int) -> None:
        """Check a chunk's header."""
        if not self._begun and kind != 0xFF:
            raise refuse("snappy", "it does not begin with the stream identifier")
        if 0x02 <= kind <= 0x7F:
            raise refuse("snappy", f"a chunk of type {kind:#04x} cannot be skipped")
        if kind == 0xFF:
            fits = length == len(IDENTIFIER) - 4
        elif kind == 0x00:
            fits = CHECKSUM_SIZE <= length <= CHECKSUM_SIZE + MAX_COMPRESSED_CHUNK
        else:
            fits = kind != 0x01 or CHECKSUM_SIZE <= length <= CHECKSUM_SIZE + MAX_CHUNK
        if not fits:
            raise refuse("snappy", f"a chunk of type {kind:#04x} cannot have {length} bytes")

    def _data(self, chunk: bytes) -> bytes:
        try:
            # The library refuses a chunk that announces too much data before it decompresses any.
            return bytes(self._library.decompress(IDENTIFIER + chunk))
        except Exception as error:
            raise refuse("snappy", error) from error
