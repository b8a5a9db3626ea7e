"""
The compressors of Seata's frames, by their numbers there.

What comes out has a limit, and no more is made than that. bzip2 has no ``BZ`` before it, as Java's library leaves that
to its callers, which Seata is not aware of; with it, it is read as well. A zip has one entry.
"""

from __future__ import annotations

import bz2
import io
import zipfile
import zlib
from struct import Struct

from getty_tx.errors import SettingError

__all__ = ["NONE", "compressorNamed", "pack", "unpack"]

#: All that Seata has, by number.
NAMES = ("none", "gzip", "zip", "7z", "bzip2", "lz4", "deflate", "zstd")

NONE, _GZIP, _ZIP, _BZIP2, _DEFLATE = 0, 1, 2, 4, 6

_HERE = (NONE, _GZIP, _ZIP, _BZIP2, _DEFLATE)

#: For zlib: the header that it expects.
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15

#: Of the entry's header: flags and method; the lengths of name and extra field.
_ZIP_HEAD = Struct("<4sHHH16xHH")
_ZIP_SIZE = 30
_ENCRYPTED, _DEFLATED = 1, 8


def compressorNamed(name: str) -> int:
    """:raise SettingError: there is none, or it is not here."""
    here = ", ".join(NAMES[each] for each in _HERE)
    if name not in NAMES:
        raise SettingError(f"Seata(compressor={name!r}) is none of {here}")
    number = NAMES.index(name)
    if number not in _HERE:
        raise SettingError(f"Seata(compressor={name!r}) is not supported; use one of {here}")
    return number


def pack(number: int, data: bytes) -> bytes:
    """Compressed bytes."""
    if number == _GZIP:
        return zlib.compress(data, wbits=_GZIP_BITS)
    if number == _DEFLATE:
        return zlib.compress(data)
    if number == _BZIP2:
        return bz2.compress(data)[2:]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zip", data)
    return file.getvalue()


def unpack(number: int, data: bytes, most: int) -> bytes:
    """
    What was compressed.

    :param most: bytes that it may have.
    :raise ValueError: it cannot be read, has more, or the compressor is not here.
    """
    name = NAMES[number] if number < len(NAMES) else str(number)
    try:
        if number == _GZIP:
            return _inflate(data, _GZIP_BITS, most)
        if number == _DEFLATE:
            return _inflate(data, _ZLIB_BITS, most)
        if number == _ZIP:
            return _unzip(data, most)
        if number == _BZIP2:
            return _bunzip(data, most)
    except (zlib.error, OSError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    raise ValueError(f"the compressor {name} is not supported")


def _whole(found: bytes, isEnded: bool, most: int) -> bytes:
    if len(found) > most:
        raise ValueError(f"more than {most} bytes come out of it")
    if not isEnded:
        raise ValueError("it ends too early")
    return found


def _inflate(data: bytes, bits: int, most: int, isAll: bool = True) -> bytes:
    stream = zlib.decompressobj(bits)
    found = _whole(stream.decompress(data, most + 1), stream.eof, most)
    if isAll and stream.unused_data:
        raise ValueError(f"{len(stream.unused_data)} bytes are behind its end")
    return found


def _bunzip(data: bytes, most: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    found = _whole(stream.decompress(data if data[:2] == b"BZ" else b"BZ" + data, most + 1), stream.eof, most)
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data)} bytes are behind its end")
    return found


def _unzip(data: bytes, most: int) -> bytes:
    if len(data) < _ZIP_SIZE:
        raise ValueError("it ends too early")
    # The archive's directory is behind the entry: a table of an entry for each of its bytes is not asked for.
    magic, _, flags, method, name, extra = _ZIP_HEAD.unpack_from(data)
    if magic != b"PK\3\4" or flags & _ENCRYPTED or method != _DEFLATED:
        raise ValueError("it does not begin with an entry that is deflated")
    return _inflate(data[_ZIP_SIZE + name + extra :], _RAW_BITS, most, isAll=False)
