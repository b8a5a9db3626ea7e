"""The netstring codec (D. J. Bernstein, 1997): https://cr.yp.to/proto/netstrings.txt"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.codecs.common import SEPARATE_ABOVE, asBytes
from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter

__all__ = ["NetstringCodec"]

# The digits of 2**64 - 1: no real length has more, and it limits the work of int().
_MAX_DIGITS = 20
_COMMA = ord(",")


@implementer(IReadWriter)
class NetstringCodec:
    """
    ``12:hello world!,``: the length in decimal ASCII digits, a colon, the payload, a comma; packages are ``bytes``.

    Strict, as in the specification: 1 to 20 digits, no leading zeros, no signs or blanks.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "NetstringCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | None, int]:
        """
        The string of the netstring at the front of ``data``.

        :raise CodecError: the length is invalid, or the comma at the end is missing.
        """
        head = data[: _MAX_DIGITS + 1].tobytes()
        digits, colon, _ = head.partition(b":")
        count = len(digits)
        if count > _MAX_DIGITS:
            raise CodecError(
                f"codec 'netstring': no colon in the first {_MAX_DIGITS + 1} bytes, which are {digits!r}", session
            )
        # bytes.isdigit accepts ASCII digits only.
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

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return NetstringCodec

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes]:
        """
        Length, colon, string, comma.

        :raise CodecError: not bytes-like.
        """
        payload: bytes = pkg if type(pkg) is bytes else asBytes("netstring", session, pkg)
        count = len(payload)
        if count > SEPARATE_ABOVE:
            return [b"%d:" % count, payload, b","]
        return b"%d:%b," % (count, payload)
