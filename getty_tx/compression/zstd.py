"""
Zstandard (RFC 8878): one frame for each direction, flushed at each write.

The library is Python's own from 3.14 on, and before that its backport, which is the same.
"""

from __future__ import annotations

import sys
from typing import Any

from getty_tx.compression.formats import PIECE, Decompressor, refuse

__all__ = ["ZstdCompressor", "ZstdDecompressor", "findLibrary"]

#: Powers of two of a compressor's window and tables. The library chooses them for large files: a session of level 3
#: takes 3 MB then, one of level 19 takes 82 MB. So it is 0.7 MB up to level 15 and 1.3 MB at 19, and short JSON
#: documents compress as well.
WINDOW_LOG = 17
TABLE_LOG = 16

#: Power of two of the largest window that a peer may ask for: what the RFC recommends every decoder to have, 8 MiB.
WIDEST_LOG = 23


def findLibrary() -> Any:
    """
    The library.

    :raise ImportError: it is not installed.
    """
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


class ZstdCompressor:
    """One frame, in blocks that end with each write."""

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
        """See :py:class:`~getty_tx.compression.formats.Compressor`."""
        zstd = self._zstd
        compressed: bytes = zstd.compress(data, zstd.FLUSH_BLOCK)
        return compressed

    def end(self) -> bytes:
        """The end of the frame."""
        end: bytes = self._zstd.flush()
        return end


class ZstdDecompressor(Decompressor):
    """One frame after the other, as the format allows; a peer may make one of each message."""

    __slots__ = ("_library", "_zstd")

    def __init__(self, library: Any) -> None:
        super().__init__()
        self._library = library
        self._zstd = self._fresh()

    def _fresh(self) -> Any:
        library = self._library
        return library.ZstdDecompressor(options={library.DecompressionParameter.window_log_max: WIDEST_LOG})

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read <getty_tx.compression.formats.Decompressor.read>`."""
        if self._zstd.eof:
            self._zstd = self._fresh()
        zstd = self._zstd
        try:
            data: bytes = zstd.decompress(self._next(), PIECE)
        except self._library.ZstdError as error:
            raise refuse("zstd", error) from error
        if zstd.eof:
            self._back(zstd.unused_data)
            self.more = self.held > 0
        else:
            # What it did not get to, it keeps itself.
            self.more = self.held > 0 or not zstd.needs_input
        return data
