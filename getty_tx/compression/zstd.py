"""
Zstandard (RFC 8878): one frame for each direction, flushed at each write.

The library is in Python from 3.14 on; for older versions there is a backport of it.
"""

from __future__ import annotations

import sys
from typing import Any

from getty_tx.compression.base import PIECE, Decompressor, refuse

__all__ = ["ZstdCompressor", "ZstdDecompressor", "findLibrary"]

#: Powers of two of a compressor's window and tables. The library's defaults are for large files: a session takes 3 MB
#: at level 3 and 82 MB at level 19. With these values it takes 0.7 MB up to level 15 and 1.3 MB at 19, and compresses
#: short JSON documents equally well.
WINDOW_LOG = 17
TABLE_LOG = 16

#: Power of two of the largest window that a peer may use: 8 MiB, which the RFC recommends every decoder to support.
MAX_WINDOW_LOG = 23


def findLibrary() -> Any:
    """
    Import the library.

    :raise ImportError: it is not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class ZstdCompressor:
    """One frame; each write ends a block."""

    __slots__ = ("_zstd",)

    def __init__(self, library: Any, level: int) -> None:
        parameter = library.CompressionParameter
        options = {
            parameter.compression_level: level,
            parameter.window_log: WINDOW_LOG,
            parameter.hash_log: TABLE_LOG,
            parameter.chain_log: TABLE_LOG,
        }
        self._zstd = library.ZstdCompressor(options=options)

    def compress(self, data: bytes) -> bytes:
        """See :py:class:`~getty_tx.compression.base.Compressor`."""
        zstd = self._zstd
        compressed: bytes = zstd.compress(data, zstd.FLUSH_BLOCK)
        return compressed

    def end(self) -> bytes:
        """The end of the frame."""
        end: bytes = self._zstd.flush()
        return end


class ZstdDecompressor(Decompressor):
    """Accepts several frames in a row, because a peer may send each message as a frame."""

    __slots__ = ("_library", "_zstd")

    def __init__(self, library: Any) -> None:
        super().__init__()
        self._library = library
        self._zstd = self._fresh()

    def _fresh(self) -> Any:
        library = self._library
        return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: MAX_WINDOW_LOG})

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read <getty_tx.compression.base.Decompressor.read>`."""
        if self._zstd.eof:
            self._zstd = self._fresh()
        zstd = self._zstd
        try:
            data: bytes = zstd.decompress(self._take(), PIECE)
        except self._library.ZstdError as error:
            raise refuse("zstd", error) from error
        if zstd.eof:
            self._putBack(zstd.unused_data)
            self.more = self.held > 0
        else:
            # The library keeps unprocessed input itself.
            self.more = self.held > 0 or not zstd.needs_input
        return data
