"""
What a description of compression stands for, and deflate, which needs no library of its own.

A description is written as those of codecs are, ``NAME[:option=value...]``::

    deflate
    deflate:level=9
    snappy
    zstd:level=1

A compressor is given what one write, or one delivery, has to say, and returns all of it, so that the peer can read it
at once. A decompressor is fed what came, and is read from piece by piece: what a stream says when it is decompressed
has no bound, and so nothing of it is made before somebody takes it.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from getty_tx.errors import CodecError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PIECE", "Compressor", "Decompressor", "Format", "checkCompression", "findFormat"]

#: Bytes that a decompressor gives at a time, at most: no more than an uncompressed stream is read at a time.
PIECE = 64 * 1024


class Compressor(Protocol):
    """One side's stream, on its way out."""

    def compress(self, data: bytes) -> bytes:
        """All of ``data``, which is not empty, so that the peer can read to its end."""

    def end(self) -> bytes:
        """What ends the stream; nothing is compressed after."""


class Decompressor:
    """
    The other side's stream, on its way in.

    :ivar more: :py:meth:`read` has something to do without being fed before.
    """

    __slots__ = ("_later", "_tail", "more")

    def __init__(self) -> None:
        # What is being read, and what came after it.
        self._tail: bytes = b""
        self._later = bytearray()
        self.more = False

    @property
    def held(self) -> int:
        """Bytes that were fed and not read yet."""
        return len(self._tail) + len(self._later)

    def feed(self, data: bytes) -> None:
        """Add what came."""
        if self._tail:
            self._later += data
        else:
            self._tail = data
        self.more = True

    def _next(self) -> bytes:
        """Take what was fed first and is not read yet; it may be empty."""
        if not self._tail and self._later:
            self._tail, self._later = bytes(self._later), bytearray()
        data, self._tail = self._tail, b""
        return data

    def _back(self, rest: bytes) -> None:
        """Of what was taken, this is still to be read."""
        self._tail = rest

    def read(self) -> bytes:
        """
        The next piece, at most :py:data:`PIECE` bytes; it may be empty.

        :raise CodecError: what came cannot be.
        """
        raise NotImplementedError

    def clear(self) -> None:
        """Forget what was fed."""
        self._tail = b""
        self._later.clear()
        self.more = False


def refuse(name: str, why: object) -> CodecError:
    """What came cannot be."""
    return CodecError(f"what came is no {name} stream: {why}; do both sides have the same session.compression?")


class DeflateCompressor:
    """Raw deflate (RFC 1951), without zlib's header, flushed each time: what Go's ``compress/flate`` makes."""

    __slots__ = ("_deflate",)

    def __init__(self, level: int = 6) -> None:
        # The window is as large as the format has it: that is what Go's writer uses, too.
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)

    def compress(self, data: bytes) -> bytes:
        """See :py:class:`Compressor`."""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """A final block. Go's reader takes an end of the connection without one for a failure."""
        return self._deflate.flush()


class DeflateDecompressor(Decompressor):
    """Raw deflate. The stream may have a final block, or just end; nothing may come after a final block."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        super().__init__()
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self) -> bytes:
        """See :py:meth:`Decompressor.read`."""
        inflate = self._inflate
        if inflate.eof:
            raise refuse("deflate", f"{self.held} bytes came after its end")
        try:
            data = inflate.decompress(self._next(), PIECE)
        except zlib.error as error:
            raise refuse("deflate", error) from error
        self._back(inflate.unused_data if inflate.eof else inflate.unconsumed_tail)
        # With a full piece there may be more in zlib's own memory.
        self.more = self.held > 0 or (len(data) == PIECE and not inflate.eof)
        return data


@dataclass(frozen=True, slots=True)
class Format:
    """
    What a description stands for.

    :ivar compressor: makes a compressor for a session.
    :ivar decompressor: makes a decompressor for a session.
    """

    compressor: Callable[[], Compressor]
    decompressor: Callable[[], Decompressor]


def _deflate(level: int = 6) -> Format:
    return Format(lambda: DeflateCompressor(level), DeflateDecompressor)


def _snappy() -> Format:
    from getty_tx.compression import snappy

    library = snappy.findLibrary()
    return Format(lambda: snappy.SnappyCompressor(library), lambda: snappy.SnappyDecompressor(library))


def _zstd(level: int = 3) -> Format:
    from getty_tx.compression import zstd

    library = zstd.findLibrary()
    return Format(lambda: zstd.ZstdCompressor(library, level), lambda: zstd.ZstdDecompressor(library))


#: What makes a format, and the levels that it has.
_FORMATS: dict[str, tuple[Callable[..., Format], range]] = {
    "deflate": (_deflate, range(10)),
    "snappy": (_snappy, range(0)),
    # Above 19 a peer needs more than the 8 MiB that every decoder should have (RFC 8878, section 3.1.1.1.2).
    "zstd": (_zstd, range(1, 20)),
}


@lru_cache(maxsize=64)
def findFormat(description: str) -> Format:
    """
    What a description stands for.

    :raise SettingError: it cannot be, or its library is not installed; the text does not name the setting.
    """
    name, *options = description.split(":")
    if name not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise SettingError(f"known are {known}, with options such as deflate:level=6")
    make, levels = _FORMATS[name]
    arguments: dict[str, int] = {}
    for option in options:
        level = re.fullmatch("level=([0-9]{1,3})", option, re.ASCII)
        if not levels:
            raise SettingError(f"{name} has no options, so {option!r} cannot be given")
        if level is None or int(level[1]) not in levels or arguments:
            raise SettingError(f"{name} has the option level={levels[0]} to level={levels[-1]}, once, not {option!r}")
        arguments["level"] = int(level[1])
    try:
        return make(**arguments)
    except ImportError as error:
        raise SettingError(f"its library is not there ({error}): pip install 'getty_tx[{name}]'") from error


def checkCompression(name: str, value: Any) -> str | None:
    """
    The check of a setting, as those in :py:mod:`getty_tx.settings`.

    :raise SettingError: it names the setting, the value, and what would be right.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingError(f"{name}={value!r} is neither a text such as 'deflate' nor None")
    try:
        findFormat(value)
    except SettingError as error:
        raise SettingError(f"{name}={value!r}: {error}") from error.__cause__
    return value
