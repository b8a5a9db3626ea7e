"""
The information blocks of a TTHeader frame (cloudwego/gopkg, protocol/ttheader): strings, and ints with their meanings.

A block is the protocol id, the number of transforms, then any number of groups, padded with zeros to four bytes::

    00                                padding, one byte
    01 count:u16 (key:s16 value:s16)* strings
    10 count:u16 (key:u16 value:s16)* ints: numbers as keys, strings as values
    11 token:s16                      a string of the key ``RPC_TRANSIT_gdpr-token``

``s16`` is a length of two bytes and so many bytes of UTF-8; all numbers are big-endian.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LARGEST", "LONGEST", "TOKEN", "InfoError", "packInfo", "parseInfo"]

#: Bytes of all blocks of a frame: 65,535 units of four.
LARGEST = 262140

#: Bytes of a string.
LONGEST = 65535

#: Strings of a group.
MOST = 65535

#: The key that a token has among the strings.
TOKEN = "RPC_TRANSIT_gdpr-token"

_u16 = Struct(">H").unpack_from
_pack16 = Struct(">H").pack
_packGroup = Struct(">BH").pack


class InfoError(ValueError):
    """The blocks are invalid, or too large."""


def _string(value: str) -> bytes:
    try:
        data = value.encode()
    except (AttributeError, UnicodeError):
        raise InfoError(f"{value!r:.80} is no text for a TTHeader") from None
    if len(data) > LONGEST:
        raise InfoError(f"a string of {len(data)} bytes in a TTHeader, which takes {LONGEST}")
    return _pack16(len(data)) + data


def packInfo(protocol: int, strings: Mapping[str, str], ints: Mapping[int, str]) -> bytes:
    """
    The blocks of a frame.

    :raise InfoError: a string is longer than 65,535 bytes, or all of it than 262,140; or it is no text.
    """
    if len(strings) > MOST:
        raise InfoError(f"{len(strings)} strings in a TTHeader, which takes {MOST}")
    parts = [bytes((protocol, 0))]
    if strings:
        parts.append(_packGroup(1, len(strings)))
        for name, value in strings.items():
            parts += (_string(name), _string(value))
    if ints:
        parts.append(_packGroup(0x10, len(ints)))
        for key, value in ints.items():
            parts += (_pack16(key), _string(value))
    block = b"".join(parts)
    block += bytes(-len(block) % 4)
    if len(block) > LARGEST:
        raise InfoError(f"metadata of {len(block)} bytes in a TTHeader, which takes {LARGEST}")
    return block


def parseInfo(block: bytes) -> tuple[int, dict[str, str], dict[int, str]]:
    """
    The protocol id, the strings and the ints of a frame.

    :raise InfoError: the bytes are no such blocks, or a transform is asked for.
    """
    end = len(block)
    if end < 2:
        raise InfoError("a TTHeader without a protocol id")
    if block[1]:
        raise InfoError(f"a TTHeader with {block[1]} transforms; none is supported")
    strings: dict[str, str] = {}
    ints: dict[int, str] = {}
    at = 2

    def string() -> str:
        nonlocal at
        if at + 2 > end:
            raise InfoError("a TTHeader ends within a string's length")
        start = at + 2
        at = start + _u16(block, at)[0]
        if at > end:
            raise InfoError("a TTHeader ends within a string")
        return block[start:at].decode()

    def number() -> int:
        nonlocal at
        if at + 2 > end:
            raise InfoError("a TTHeader ends within a number")
        at += 2
        value: int = _u16(block, at - 2)[0]
        return value

    try:
        while at < end:
            kind = block[at]
            at += 1
            if kind == 0:
                continue
            if kind == 1:
                for _ in range(number()):
                    name = string()
                    strings[name] = string()
            elif kind == 0x10:
                for _ in range(number()):
                    key = number()
                    ints[key] = string()
            elif kind == 0x11:
                strings[TOKEN] = string()
            else:
                raise InfoError(f"a TTHeader with the unknown group {kind:#04x}")
    except UnicodeDecodeError:
        raise InfoError("a TTHeader with a string that is no UTF-8") from None
    return block[0], strings, ints
