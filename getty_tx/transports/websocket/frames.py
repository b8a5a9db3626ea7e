"""
WebSocket frames (RFC 6455, section 5.2), as far as the short path needs them: headers, masks, whole data frames.

Masks are applied to all of a payload at once. For 915 bytes that takes 0.7 microseconds with the C part of Autobahn,
and 1.6 as one exclusive or of two large integers, where Autobahn's masker itself takes 2.5.
"""

from __future__ import annotations

from enum import IntEnum
from random import getrandbits
from struct import Struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BINARY",
    "CLOSE",
    "COMPRESSED",
    "LONGEST_HEADER",
    "TEXT",
    "CloseCode",
    "header",
    "sizeOf",
    "wholeFrame",
    "xor",
]

#: First bytes of whole, uncompressed data frames.
TEXT = 0x81
BINARY = 0x82
#: What is to be set in them when the payload is compressed (RFC 7692).
COMPRESSED = 0x40

#: The opcode of Close frames.
CLOSE = 8


class CloseCode(IntEnum):
    """The codes of Close frames (RFC 6455, section 7.4.1)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    #: Never sent: the connection was lost without a closing handshake.
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011


#: Bytes of the longest header: two, eight of length, four of mask.
LONGEST_HEADER = 14

#: Bytes that are masked at once, a multiple of four; more would only need more memory.
_PIECE = 64 * 1024

#: Bytes below which large integers are faster than two calls of C.
_SHORT = 128

_pack16 = Struct("!BBH").pack
_pack64 = Struct("!BBQ").pack


def _xorInt(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    if size > _PIECE:
        return b"".join([_xorInt(payload[at : at + _PIECE], mask) for at in range(0, size, _PIECE)])
    pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ pattern).to_bytes(size, "little")


def _makeXor(nvx: Any) -> Callable[[bytes, bytes], bytes]:
    fromBuffer = nvx.ffi.from_buffer
    new, process, free = nvx.lib.nvx_xormask_new, nvx.lib.nvx_xormask_process, nvx.lib.nvx_xormask_free

    def xor(payload: bytes, mask: bytes) -> bytes:
        size = len(payload)
        if size < _SHORT:
            return _xorInt(payload, mask)
        data = bytearray(payload)
        masker = new(mask)
        process(masker, fromBuffer("uint8_t[]", data), size)
        free(masker)
        return bytes(data)

    return xor


#: Apply the four bytes of a mask, which masks as well as it unmasks.
xor: Callable[[bytes, bytes], bytes]
try:
    # What Autobahn's own maskers call, where it was installed with its C part. Private to it; called as they do, but
    # without their three objects for each frame. tests.transports.websocket.test_frames fails when it goes away.
    import _nvx_xormasker as _nvx
except ImportError:
    xor = _xorInt
else:
    xor = _makeXor(_nvx)


def header(first: int, size: int, masked: bool = False) -> bytes:
    """The header of a frame without its mask; ``first`` is the first byte of it."""
    bit = 0x80 if masked else 0
    if size < 126:
        return bytes((first, bit | size))
    if size < 65536:
        return _pack16(first, bit | 126, size)
    return _pack64(first, bit | 127, size)


def wholeFrame(first: int, payload: bytes, masked: bool) -> bytes:
    """A frame, whose first byte is given; a client masks it with a random mask."""
    if not masked:
        return header(first, len(payload)) + payload
    # What RFC 6455 wants from it, section 10.3, is that whoever chooses the payload cannot choose the bytes on the wire
    # of a browser. Autobahn takes its masks from the same generator.
    mask = getrandbits(32).to_bytes(4, "big")
    return b"".join((header(first, len(payload), True), mask, xor(payload, mask)))


def sizeOf(start: bytes) -> tuple[int, int]:
    """
    How long a frame is.

    :param start: its first bytes, as many as are there.
    :return: the bytes of its header and those of its payload; the latter are -1 while the header does not tell yet, and
        the former are the least then that it must have.
    """
    if len(start) < 2:
        return 2, -1
    second = start[1]
    length = second & 0x7F
    size = 6 if second & 0x80 else 2
    if length < 126:
        return (size, length) if len(start) >= size else (size, -1)
    extended = 2 if length == 126 else 8
    size += extended
    if len(start) < size:
        return size, -1
    return size, int.from_bytes(start[2 : 2 + extended], "big")
