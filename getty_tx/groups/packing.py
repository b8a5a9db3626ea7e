"""
Packages as bytes, for engines that carry them to other processes.

A first byte tells the type: ``b`` for bytes, ``s`` for a text in UTF-8, ``j`` for JSON. What comes from an engine is
data of others: it is checked, and never pickled.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.groups.errors import GroupError, tooLong

if TYPE_CHECKING:
    from getty_tx.groups.publication import Publication

__all__ = ["packed", "packedOf", "unpacked"]

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_decode = json.JSONDecoder().raw_decode

#: What may stand around JSON.
_BLANKS = " \t\r\n"


def packed(pkg: Any) -> bytes:
    """
    A package as bytes.

    :raise GroupError: it is neither bytes nor text, and JSON cannot say it; or UTF-8 cannot say the text.
    """
    if isinstance(pkg, bytes):
        return b"b" + pkg
    try:
        if isinstance(pkg, str):
            return b"s" + pkg.encode()
        return b"j" + _encode(pkg).encode()
    except (TypeError, ValueError, RecursionError) as error:
        text = f"a {type(pkg).__name__} cannot be brought to other processes: publish bytes, str, or what JSON can say"
        raise GroupError(f"{text}: {error}") from None


def packedOf(publication: Publication, name: str) -> bytes:
    """
    The package of a publication to this group as bytes; the publication has their number as its size then.

    :raise GroupError: as :py:func:`packed`; PublicationTooLongError: it is longer than its limit.
    """
    data = packed(publication.pkg)
    publication.size = size = len(data) - 1
    if size > publication.limit > 0:
        raise tooLong(name, size, publication.limit)
    return data


def unpacked(data: bytes) -> Any:
    """
    The package.

    :raise GroupError: these are not the bytes of one.
    """
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"b":
            return rest
        if kind == b"s":
            return rest.decode()
        if kind == b"j":
            # Half the time of json.loads, which looks for other encodings and for blanks.
            text = rest.decode().strip(_BLANKS)
            value, end = _decode(text)
            if end < len(text):
                raise ValueError(f"more behind it: {text[end : end + 80]!r}")
            return value
    except (ValueError, RecursionError) as error:
        raise GroupError(f"not a package: {error}") from None
    raise GroupError(f"not a package: it begins with {kind!r}")
