"""
Messages of Thrift's binary protocol, in its strict form.

::

    0x8001:u16  0:u8  type:u8  name:s32  id:i32  struct

They have no length. A transport has one before them, or :py:class:`MessageEnd` finds where they end. Errors are
Thrift's application exceptions, whose numbers say less than the codes of getty_tx.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Any

from getty_tx.errors import CodecError
from getty_tx.rpc.messages import ErrorReply
from getty_tx.rpc.payloads.thriftbinary import MAX_DEPTH, readMessage

__all__ = [
    "CALL",
    "EXCEPTION",
    "MOST_TEXT",
    "ONE_WAY",
    "OVERHEAD",
    "REPLY",
    "VERSION",
    "MessageEnd",
    "cutText",
    "exceptionStruct",
    "exceptionType",
    "packMessage",
    "parseMessage",
    "readException",
]

VERSION = 0x80010000
CALL, REPLY, EXCEPTION, ONE_WAY = 1, 2, 3, 4

_begin = Struct(">II")
_id = Struct(">i")
_count = _id.unpack_from

#: Codes by the types of Thrift's exceptions, and of Kitex's.
_CODES = {0: "internal", 1: "noMethod", 6: "internal", 7: "payload", 20: "noMethod", 21: "noMethod"}
UNKNOWN_METHOD, INTERNAL, PROTOCOL, UNKNOWN_SERVICE = 1, 6, 7, 20

#: Bytes of what has a fixed size, by the type.
_SIZES = {2: 1, 3: 1, 4: 8, 6: 2, 8: 4, 10: 8, 16: 16}
_STRING, _STRUCT, _MAP, _SET, _LIST = 11, 12, 13, 14, 15

#: Bytes of the text of an error; and those that its frame may have beside it.
MOST_TEXT = 40000
OVERHEAD = 128


def cutText(text: str, size: int) -> str:
    """So much of a text as has ``size`` bytes at most, and what is no UTF-8 as question marks."""
    return text.encode(errors="replace")[: max(0, size)].decode(errors="ignore")


def packMessage(kind: int, name: str, number: int, struct: bytes) -> bytes:
    """The bytes of a message."""
    text = name.encode()
    return b"".join((_begin.pack(VERSION | kind, len(text)), text, _id.pack(number), struct))


def parseMessage(session: Any, data: bytes, most: int) -> tuple[int, str, int, bytes]:
    """
    The type, the name, the id and the struct of a message.

    :param most: bytes that the name may have.
    :raise CodecError: it is none.
    """
    try:
        version, size = _begin.unpack_from(data)
        at = 8 + size
        name = data[8:at].decode()
        number: int = _id.unpack_from(data, at)[0]
    except (StructError, UnicodeDecodeError):
        raise CodecError("rpc: the payload is no Thrift message", session) from None
    if size > most:
        raise CodecError(f"rpc: a name of {size} bytes is above maxMetadata={most}", session)
    if version & 0xFFFFFF00 != VERSION:
        raise CodecError(f"rpc: the payload begins with {version:#010x}, which is no Thrift message", session)
    return version & 0xFF, name, number, data[at + 4 :]


class _Exception:
    """TApplicationException: 1 a text, 2 a type."""

    thrift_spec = {1: (11, "text", False), 2: (8, "type", False)}

    def __init__(self) -> None:
        self.text: Any = ""
        self.type = 0


def exceptionType(code: str, isServiceKnown: bool) -> int:
    """The type of the exception for a code of getty_tx."""
    if code == "noMethod":
        return UNKNOWN_METHOD if isServiceKnown else UNKNOWN_SERVICE
    return PROTOCOL if code == "payload" else INTERNAL


def exceptionStruct(text: str, kind: int) -> bytes:
    """The struct of an exception."""
    data = text.encode(errors="replace")
    return b"".join((b"\x0b\x00\x01", _id.pack(len(data)), data, b"\x08\x00\x02", _id.pack(kind), b"\x00"))


def readException(number: int, struct: bytes, metadata: Any = None, code: str | None = None) -> ErrorReply:
    """
    The error of an exception.

    :param code: where the wire has told one; by default that of the type, or the type as a text.
    """
    error = _Exception()
    try:
        readMessage(struct, error)
    except ValueError as why:
        return ErrorReply(number, "internal", f"the peer's exception cannot be read: {why}", None, metadata)
    code = code or _CODES.get(error.type, str(error.type))
    return ErrorReply(number, code, str(error.text), None, metadata)


class MessageEnd:
    """
    Finds the end of a message whose bytes come in pieces.

    It goes on where it was when more bytes come, so each is looked at once, and strings are passed over.

    :param most: bytes that the name may have.
    """

    __slots__ = ("_at", "_most", "_stack")

    def __init__(self, most: int) -> None:
        self._most = most
        self._at = 0
        # What is open: None for a struct; for a container the types of its items by turns, and how many are left.
        self._stack: list[list[int] | None] = []

    def find(self, data: bytes | memoryview) -> int:
        """
        The bytes that the message has, or at least: those that must have come before its end can be told.

        :param data: the bytes from its first one on. It is complete if they are so many.
        :raise ValueError: it is no message, or deeper than 64 levels.
        """
        have = len(data)
        at = self._at
        stack = self._stack
        if not at:
            if have < 8:
                return 8
            version, size = _begin.unpack_from(data)
            if version & 0xFFFFFF00 != VERSION:
                raise ValueError(f"it begins with {version:#010x}")
            if size > self._most:
                raise ValueError(f"a name of {size} bytes is above maxMetadata={self._most}")
            self._at = at = 12 + size
            stack.append(None)
        while at < have:
            top = stack[-1]
            if top is not None:
                left = top[2]
                if not left:
                    stack.pop()
                    continue
                after = self._after(data, at, top[left & 1])
                if after > 0:
                    top[2] = left - 1
            elif not data[at]:
                stack.pop()
                if not stack:
                    return at + 1
                after = at + 1
            else:
                after = self._after(data, at + 3, data[at])
            if after < 0:
                self._at = at
                return -after
            at = after
        self._at = at
        # A struct is open at least.
        return at + 1

    def _after(self, data: bytes | memoryview, at: int, kind: int) -> int:
        """Where a value ends, or the first of its items begins; or, below 0, the bytes without which it has no size."""
        size = _SIZES.get(kind)
        if size is not None:
            return at + size
        if kind == _STRUCT:
            self._push(None)
            return at
        body = at + (4 if kind == _STRING else 6 if kind == _MAP else 5)
        if body > len(data):
            return -body
        count: int = _count(data, body - 4)[0]
        if count < 0:
            raise ValueError(f"a length of {count}")
        if kind == _STRING:
            return body + count
        if kind not in (_LIST, _SET, _MAP):
            raise ValueError(f"the unknown type {kind}")
        if count:
            first, second = data[at], data[at + 1] if kind == _MAP else data[at]
            if first in _SIZES and second in _SIZES:
                return body + count * (_SIZES[first] + (_SIZES[second] if kind == _MAP else 0))
            # The first type where an even number is left: of a map the key.
            self._push([first, second, 2 * count if kind == _MAP else count])
        return body

    def _push(self, entry: list[int] | None) -> None:
        if len(self._stack) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        self._stack.append(entry)
