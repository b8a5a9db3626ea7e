"""
The varint codec: protobuf's base-128 varint as length, as in ``writeDelimitedTo`` and ``parseDelimitedFrom``.

The encoding: https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.codecs.common import SEPARATE_ABOVE, asPayload, checkViews
from getty_tx.errors import CodecError
from getty_tx.interfaces import IBatchWriter, IReadWriter

__all__ = ["VarintCodec"]

# The limits of a varint: 10 bytes of 7 bits, and 64 bits in all.
_MAX_BYTES = 10
_MAX_LENGTH = 2**64 - 1

# The byte for each value of 7 bits: as the last byte of a varint, and as one followed by another.
_LAST = [bytes((bits,)) for bits in range(128)]
_MORE = [bytes((bits | 128,)) for bits in range(128)]


@implementer(IReadWriter, IBatchWriter)
class VarintCodec:
    """
    The length of the payload as a varint, then the payload; packages are ``bytes``, or views of what was read if they
    are large.

    As in protobuf, a varint may be longer than necessary, but has at most 10 bytes and 64 bits.

    :param views: as in :py:class:`getty_tx.codecs.LengthCodec`.
    :raise SettingError: it is no number of bytes from 1 on.
    """

    __slots__ = ("_copied", "views")

    def __init__(self, views: int | None = None) -> None:
        self.views = views
        # Bytes of the longest payload that is copied.
        self._copied = checkViews("varint", views)

    def __repr__(self) -> str:
        return "VarintCodec()" if self.views is None else f"VarintCodec(views={self.views})"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | memoryview | None, int]:
        """
        The payload of the frame at the front of ``data``.

        :raise CodecError: the varint has more than 10 bytes or 64 bits.
        """
        have = len(data)
        if not have:
            return None, 0
        number = data[0]
        start = 1
        if number > 127:
            if have < 2:
                return None, 0
            second = data[1]
            if second < 128:
                number += (second << 7) - 128
                start = 2
            else:
                number = start = 0
                for byte in data[:_MAX_BYTES].tobytes():
                    number |= (byte & 127) << 7 * start
                    start += 1
                    if byte < 128:
                        break
                else:
                    if start < _MAX_BYTES:
                        return None, 0
                    raise CodecError(f"codec 'varint': the length has more than {_MAX_BYTES} bytes", session)
                if number > _MAX_LENGTH:
                    raise CodecError(f"codec 'varint': the length {number} has more than 64 bits", session)
        end = start + number
        if have < end:
            return None, end
        payload = data[start:end]
        return payload if number > self._copied else payload.tobytes(), end

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return VarintCodec

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes | memoryview]:
        """
        Varint and payload.

        :raise CodecError: not bytes-like.
        """
        payload: bytes | memoryview = pkg if type(pkg) is bytes else asPayload("varint", session, pkg)
        count = len(payload)
        if count < 128:
            return _LAST[count] + payload
        if count < 16384:
            return _MORE[count & 127] + _LAST[count >> 7] + payload
        header = b""
        rest = count
        while rest > 127:
            header += _MORE[rest & 127]
            rest >>= 7
        header += _LAST[rest]
        if count > SEPARATE_ABOVE:
            return [header, payload]
        return header + payload

    def writeMany(self, session: Any, packages: list[Any]) -> bytes | list[bytes | memoryview]:
        """
        Varints and payloads.

        :raise CodecError: not bytes-like.
        """
        pieces: list[bytes | memoryview] = []
        append = pieces.append
        isLarge = False
        for pkg in packages:
            count = len(pkg) if type(pkg) is bytes else 0
            if 0 < count < 128:
                append(_LAST[count])
                append(pkg)
            elif 0 < count < 16384:
                append(_MORE[count & 127])
                append(_LAST[count >> 7])
                append(pkg)
            else:
                data = self.write(session, pkg)
                isLarge = isLarge or count > SEPARATE_ABOVE
                pieces += data if isinstance(data, list) else [data]
        return pieces if isLarge else b"".join(pieces)
