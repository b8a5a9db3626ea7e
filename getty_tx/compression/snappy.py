"""
Snappy's framing format, as ``NewBufferedWriter`` and ``NewReader`` of ``golang/snappy`` write and read it.

A stream is chunks with a header of 4 bytes, of which the first is the stream identifier
(https://github.com/google/snappy/blob/main/framing_format.txt). The library's own decoder of streams gives all that
its input contains at once, however much that is; so chunks are told apart here, and the library is given one at a time,
for which the format allows 64 KiB. It verifies the checksum of each (CRC-32C, masked). Chunks know nothing of one
another, and so a session keeps nothing but the beginning of a chunk.
"""

from __future__ import annotations

from typing import Any

from getty_tx.compression.formats import Decompressor, refuse

__all__ = ["SnappyCompressor", "SnappyDecompressor", "findLibrary"]

#: The chunk that every stream begins with, and that may come again.
IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"

#: The format's numbers: bytes of the checksum that a chunk of data begins with, and of data in one chunk.
CHECKSUM = 4
LONGEST = 64 * 1024

#: What 64 KiB may become where they do not compress: snappy's MaxCompressedLength, 32 + n + n / 6.
LONGEST_COMPRESSED = 32 + LONGEST + LONGEST // 6

#: Chunks that are looked at for one piece; a flood of empty ones, or of ones to be skipped, gives none.
MOST = 16


def findLibrary() -> Any:
    """
    The library.

    :raise ImportError: it is not installed.
    """
    import cramjam

    return cramjam.snappy


class SnappyCompressor:
    """Every write is a chunk of its own, or several."""

    __slots__ = ("_begun", "_library")

    def __init__(self, library: Any) -> None:
        self._library = library
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        """See :py:class:`~getty_tx.compression.formats.Compressor`."""
        stream = self._library.compress(data)
        if self._begun:
            return bytes(memoryview(stream)[len(IDENTIFIER) :])
        self._begun = True
        return bytes(stream)

    def end(self) -> bytes:
        """The format knows no end."""
        return b""


class SnappyDecompressor(Decompressor):
    """Chunk by chunk."""

    __slots__ = ("_begun", "_buffer", "_library", "_skip")

    def __init__(self, library: Any) -> None:
        super().__init__()
        self._library = library
        self._buffer = bytearray()
        self._begun = False
        # Bytes of a chunk without meaning that are still to come.
        self._skip = 0

    @property
    def held(self) -> int:
        """Bytes that were fed and not read yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._buffer += data
        self.more = True

    def clear(self) -> None:
        """Forget what was fed."""
        self._buffer.clear()
        self.more = False

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read <getty_tx.compression.formats.Decompressor.read>`."""
        buffer = self._buffer
        at = 0
        data = b""
        self.more = False
        for _ in range(MOST):
            skipped = min(self._skip, len(buffer) - at)
            self._skip -= skipped
            at += skipped
            if len(buffer) - at < 4:
                break
            kind = buffer[at]
            length = int.from_bytes(buffer[at + 1 : at + 4], "little")
            self._check(kind, length)
            if kind >= 0x80 and kind != 0xFF:
                # Padding, and what later versions of the format may have.
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
        """See from a chunk's header that it can be."""
        if not self._begun and kind != 0xFF:
            raise refuse("snappy", "it does not begin with the stream identifier")
        if 0x02 <= kind <= 0x7F:
            raise refuse("snappy", f"a chunk of type {kind:#04x} cannot be skipped")
        if kind == 0xFF:
            fits = length == len(IDENTIFIER) - 4
        elif kind == 0x00:
            fits = CHECKSUM <= length <= CHECKSUM + LONGEST_COMPRESSED
        else:
            fits = kind != 0x01 or CHECKSUM <= length <= CHECKSUM + LONGEST
        if not fits:
            raise refuse("snappy", f"a chunk of type {kind:#04x} cannot have {length} bytes")

    def _data(self, chunk: bytes) -> bytes:
        try:
            # It refuses a chunk that says it has more than the format allows, before it makes anything of it.
            return bytes(self._library.decompress(IDENTIFIER + chunk))
        except Exception as error:
            raise refuse("snappy", error) from error
