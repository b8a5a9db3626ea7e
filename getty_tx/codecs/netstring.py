"""Netstrings, D. J. Bernstein, 1997: https://cr.yp.to/proto/netstrings.txt"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.codecs.common import LARGE, asBytes
from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter

__all__ = ["NetstringCodec"]

# As many digits as 2**64 - 1 has: no length that can be is longer, and int() is never given more.
_DIGITS = 20
_COMMA = ord(",")


@implementer(IReadWriter)
class NetstringCodec:
    """
    ``12:hello world!,``: the length in decimal ASCII digits, a colon, so many bytes, a comma; packages are ``bytes``.

    Strict, as the specification is: at least one digit and at most 20, no leading zeros, no signs or blanks.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "NetstringCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | None, int]:
        """
        The string of the netstring at the front of ``data``.

        :raise CodecError: the length is no such number, or there is no comma at the end.
        """
        head = data[: _DIGITS + 1].tobytes()
        digits, colon, _ = head.partition(b":")
        count = len(digits)
        if count > _DIGITS:
            raise CodecError(
                f"codec 'netstring': no colon in the first {_DIGITS + 1} bytes, which are {digits!r}", session
            )
        # bytes.isdigit knows the ASCII digits only.
        if not digits.isdigit() and (digits or colon):
            raise CodecError(f"codec 'netstring': the length {digits!r} is not made of digits", session)
        if count > 1 and digits[0] == 48:
            raise CodecError(f"codec 'netstring': the length {digits!r} has a leading zero", session)
        if not colon:
            return None, 0
        end = count + 2 + int(digits)
        if len(data) < end:
            return None, end
        if data[end - 1] != _COMMA:
            raise CodecError(
                f"codec 'netstring': a string of {digits.decode()} bytes ends with byte {data[end - 1]:#04x},"
                " not with a comma",
                session,
            )
        return data[count + 1 : end - 1].tobytes(), end

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes]:
        """
        Length, colon, string, comma.

        :raise CodecError: not bytes-like.
        """
        payload: bytes = pkg if type(pkg) is bytes else asBytes("netstring", session, pkg)
        count = len(payload)
        if count > LARGE:
            return [b"%d:" % count, payload, b","]
        return b"%d:%b," % (count, payload)
