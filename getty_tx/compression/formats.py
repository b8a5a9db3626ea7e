"""
Find a compression format by its description, and check such a setting.

A description has the form of a codec's, ``NAME[:option=value...]``::

    deflate
    deflate:level=9
    snappy
    zstd:level=1
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from getty_tx.compression.deflate import DeflateCompressor, DeflateDecompressor
from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.compression.base import Compressor, Decompressor

__all__ = ["Format", "checkCompression", "findFormat"]


@dataclass(frozen=True, slots=True)
class Format:
    """
    A compression format with its options.

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


#: By name, the function that makes a format, and its levels.
_FORMATS: dict[str, tuple[Callable[..., Format], range]] = {
    "deflate": (_deflate, range(10)),
    "snappy": (_snappy, range(0)),
    # Above 19 a peer needs a window of more than the 8 MiB that every decoder should support (RFC 8878, 3.1.1.1.2).
    "zstd": (_zstd, range(1, 20)),
}


@lru_cache(maxsize=64)
def findFormat(description: str) -> Format:
    """
    The format of a description.

    :raise SettingError: the description is invalid, or its library is missing; the text does not name the setting.
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
    The check of a compression setting, like those in :py:mod:`getty_tx.settings`.

    :raise SettingError: the text names the setting, the value, and the valid values.
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
