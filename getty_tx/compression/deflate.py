"""Raw deflate (RFC 1951), with Python's zlib."""

from __future__ import annotations

import zlib

from getty_tx.compression.base import PIECE, Decompressor, refuse

__all__ = ["DeflateCompressor", "DeflateDecompressor"]


class DeflateCompressor:
    """Raw deflate (RFC 1951), without zlib's header, flushed at each write, as by Go's ``compress/flate``."""

    __slots__ = ("_deflate",)

    def __init__(self, level: int = 6) -> None:
        # The largest window of the format, as in Go's writer.
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    def compress(self, data: bytes) -> bytes:
        """See :py:class:`~getty_tx.compression.base.Compressor`."""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """A final block. Without it, Go's reader reports the end of the connection as an error."""
        return self._deflate.flush()


class DeflateDecompressor(Decompressor):
    """Raw deflate. A final block at the end is optional; nothing may follow it."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        super().__init__()
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read <getty_tx.compression.base.Decompressor.read>`."""
        inflate = self._inflate
        if inflate.eof:
            raise refuse("deflate", f"{self.held} bytes came after its end")
        try:
            data = inflate.decompress(self._take(), PIECE)
        except zlib.error as error:
            raise refuse("deflate", error) from error
        self._putBack(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
        # After a full piece, zlib may have more output in its memory.
        self.more = self.held > 0 or (len(data) == PIECE and not inflate.eof)
        return data
