"""The JSON Lines codec: a JSON document (RFC 8259) a line, https://jsonlines.org."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn

from zope.interface import implementer

from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter, Until

__all__ = ["JsonLinesCodec"]

# JSON's white space (RFC 8259, section 2).
_BLANK = b" \t\r\n"

# Bytes searched at first, and the factor of growth, as in codecs/line.py: the cost of a document depends on its own
# length, not on the amount of data behind it in the buffer.
_FIRST_SEARCH = 1024
_GROWTH = 8

# A document that begins later ends with a newline, too.
_UNTIL_NEWLINE = Until(b"\n")


def _refuseConstant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    # 1e999 is valid JSON, but becomes an infinite float, which JSON cannot represent.
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"a number is too large for a float: {text[:20]}")
    return number


_decode = json.JSONDecoder(parse_constant=_refuseConstant, parse_float=_finite).decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@implementer(IReadWriter)
class JsonLinesCodec:
    """
    Each line is a JSON document in UTF-8; packages are the objects that :py:mod:`json` decodes.

    NaN and the infinities are no JSON, and are refused in both directions. So is ``null`` as a whole document: its
    package would be ``None``, which means that there is no package. Blank lines are skipped and count as part of the
    package after them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "JsonLinesCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The document of the first line that is not blank; ``(None, Until(newline))`` while that is incomplete.

        :raise CodecError: the line is not UTF-8, not JSON, nested too deeply, or ``null``.
        """
        start = 0
        size = _FIRST_SEARCH
        while True:
            chunk = data[start : start + size].tobytes()
            text = chunk.lstrip(_BLANK)
            start += len(chunk) - len(text)
            if text:
                break
            if not chunk:
                return None, _UNTIL_NEWLINE
            size *= _GROWTH
        have = len(data)
        line, found, _ = text.partition(b"\n")
        while not found:
            if start + len(text) >= have:
                return None, _UNTIL_NEWLINE
            size *= _GROWTH
            text = data[start : start + size].tobytes()
            line, found, _ = text.partition(b"\n")
        try:
            pkg = _decode(line.decode("utf-8"))
        except RecursionError:
            raise CodecError("codec 'json-lines': a document is nested too deeply", session) from None
        except ValueError as error:
            raise CodecError(f"codec 'json-lines': a line is no JSON document: {error}", session) from error
        if pkg is None:
            raise CodecError("codec 'json-lines': null cannot be a package", session)
        return pkg, start + len(line) + 1

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return JsonLinesCodec

    def write(self, session: Any, pkg: Any) -> bytes:
        """
        The document without unnecessary blanks, and a newline.

        :raise CodecError: :py:mod:`json` cannot write it, or it is ``None``.
        """
        if pkg is None:
            raise CodecError("codec 'json-lines': None cannot be a package", session)
        try:
            # JSON escapes control characters within strings, so that the only newline is the last byte.
            return _encode(pkg).encode("utf-8") + b"\n"
        except RecursionError:
            raise CodecError("codec 'json-lines': the package is nested too deeply", session) from None
        except (TypeError, ValueError) as error:
            raise CodecError(f"codec 'json-lines': the package cannot be written: {error}", session) from error
