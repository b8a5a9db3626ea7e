"""
Bytes from messages, and messages from bytes, with Seata's own serializer.

::

    type:i16  fields

All big-endian. A text has its length before it, in 16 or in 32 bits; all bits set is null. Java takes the length for a
signed number, so that a text with 16 bits has 32,767 bytes at most. A result begins with ``1``, or with ``0`` and a
text; a byte of :py:class:`~getty_tx.rpc.seata.ExceptionCode` follows. The fields of merged messages are::

    length:i32  count:i16  (type:i16 fields) ...  id:i32 ...

What is behind the fields that are known is skipped, in a body and within that length, as in Java: a newer peer may have
more to say.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.seata.messages import (
    RESULTS,
    BatchResult,
    BranchStatus,
    BranchType,
    ExceptionCode,
    GlobalStatus,
    MergedMessages,
    MergedResults,
    Message,
    Result,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum

__all__ = ["TYPES", "decode", "encode"]

_BYTE = Struct(">B")
_U16 = Struct(">H")
_I16 = Struct(">h")
_I32 = Struct(">i")
_I64 = Struct(">q")

#: Bytes of a text whose length has 16 bits, and the length of one that is null.
LONGEST = 0x7FFF
_NULL = 0xFFFF

#: The classes of messages by their numbers.
TYPES: dict[int, type[Message]] = {
    each.TYPE: each for request, results in RESULTS.items() for each in (request, *results)
}

_REQUESTS = frozenset(RESULTS) - {MergedMessages}
_ANSWERS = frozenset(TYPES.values()) - frozenset(RESULTS) - {MergedResults, BatchResult}

#: What may be in those that have several.
_PARTS: dict[type[Message], frozenset[type[Message]]] = {
    MergedMessages: _REQUESTS,
    MergedResults: _ANSWERS,
    BatchResult: _ANSWERS,
}


# Writing


def _text16(value: str) -> bytes:
    data = value.encode()
    if len(data) > LONGEST:
        raise ValueError(f"{len(data)} bytes are above the {LONGEST} that Java reads")
    return _U16.pack(len(data)) + data


def _text32(value: str) -> bytes:
    data = value.encode()
    return _I32.pack(len(data)) + data


#: For each kind of field: what writes one, and what may be in it.
_WRITERS: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "ms": (lambda seconds: _I32.pack(round(seconds * 1000)), "seconds, from -2147483 to 2147483"),
    "s16": (_text16, "a text"),
    "s32": (_text32, "a text"),
    "i16": (_I16.pack, "a whole number of 16 bits"),
    "i64": (_I64.pack, "a whole number of 64 bits"),
    "flag": (lambda value: b"\1" if value else b"\0", "True or False"),
    "flag16": (lambda value: b"\0\1" if value else b"\0\0", "True or False"),
    "branchType": (_BYTE.pack, "a BranchType, or a number from 0 to 255"),
    "branchStatus": (_BYTE.pack, "a BranchStatus, or a number from 0 to 255"),
    "globalStatus": (_BYTE.pack, "a GlobalStatus, or a number from 0 to 255"),
    "exception": (_BYTE.pack, "an ExceptionCode, or a number from 0 to 255"),
}


def encode(message: Message) -> bytes:
    """
    The body of a message.

    :raise PayloadError: it is no message, or a field has a value that cannot be written.
    """
    parts: list[bytes] = []
    _write(parts, message)
    return b"".join(parts)


def _write(parts: list[bytes], message: Message) -> None:
    kind = type(message)
    if TYPES.get(getattr(kind, "TYPE", 0)) is not kind:
        raise PayloadError(f"{message!r:.80} is no message of Seata", sent=False)
    parts.append(_U16.pack(kind.TYPE))
    if isinstance(message, Result):
        if message.succeeded:
            parts.append(b"\1")
        else:
            parts += (b"\0", _field(message, "text", "s16"))
        parts.append(_field(message, "exception", "exception"))
    for name, how in kind.LAYOUT:
        parts.append(_field(message, name, how))
    if kind in _PARTS:
        _writeSeveral(parts, message)


def _field(message: Message, name: str, how: str) -> bytes:
    value = getattr(message, name)
    write, what = _WRITERS[how]
    try:
        return write(value)
    except (StructError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = error if isinstance(value, str) and how in ("s16", "s32") else f"it is not {what}"
        raise PayloadError(f"{type(message).__name__}({name}={value!r:.80}): {why}", sent=False) from None


def _writeSeveral(parts: list[bytes], message: Any) -> None:
    kind = type(message)
    messages = message.messages
    ids = getattr(message, "ids", [])
    for name, value in (("messages", messages), ("ids", ids)):
        if not isinstance(value, list | tuple):
            raise PayloadError(f"{kind.__name__}({name}={value!r:.80}): it is not a list", sent=False)
    if len(ids) != len(messages) and (ids or kind is BatchResult):
        raise PayloadError(f"{kind.__name__}: {len(ids)} ids for {len(messages)} messages", sent=False)
    inner: list[bytes] = []
    try:
        inner.append(_I16.pack(len(messages)))
        for each in messages:
            if type(each) not in _PARTS[kind]:
                raise PayloadError(f"{kind.__name__}: {each!r:.80} cannot be in it", sent=False)
            _write(inner, each)
        inner += [_I32.pack(each) for each in ids]
    except StructError as error:
        raise PayloadError(f"{kind.__name__} of {len(messages)} messages: {error}", sent=False) from None
    data = b"".join(inner)
    parts += (_I32.pack(len(data)), data)


# Reading


class _Reader:
    """Takes fields off the front of a body."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, struct: Struct) -> int:
        value: int = struct.unpack_from(self.data, self.at)[0]
        self.at += struct.size
        return value

    def text(self, length: int) -> str:
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise ValueError(f"a text of {length} bytes where {len(self.data) - self.at} are left")
        value = self.data[self.at : end].decode()
        self.at = end
        return value

    def text16(self) -> str:
        length = self.number(_U16)
        return "" if length == _NULL else self.text(length)

    def text32(self) -> str:
        length = self.number(_I32)
        return "" if length == -1 else self.text(length)

    def flag(self, struct: Struct) -> bool:
        value = self.number(struct)
        if value not in (0, 1):
            raise ValueError(f"{value} where 0 or 1 stands")
        return value == 1

    def named(self, names: type[IntEnum]) -> int:
        value = self.number(_BYTE)
        return names(value) if value < len(names) else value


_READERS: dict[str, Callable[[_Reader], Any]] = {
    "ms": lambda reader: reader.number(_I32) / 1000,
    "s16": _Reader.text16,
    "s32": _Reader.text32,
    "i16": lambda reader: reader.number(_I16),
    "i64": lambda reader: reader.number(_I64),
    "flag": lambda reader: reader.flag(_BYTE),
    "flag16": lambda reader: reader.flag(_U16),
    "branchType": lambda reader: reader.named(BranchType),
    "branchStatus": lambda reader: reader.named(BranchStatus),
    "globalStatus": lambda reader: reader.named(GlobalStatus),
}


def decode(data: bytes | memoryview) -> Message:
    """
    The message in a body.

    :raise PayloadError: it is none, or ends too early.
    """
    reader = _Reader(bytes(data))
    name = "a message"
    try:
        kind = _kind(reader)
        name = kind.__name__
        message = _read(reader, kind)
    except StructError:
        raise PayloadError(f"{name} of {len(reader.data)} bytes ends within a field") from None
    except ValueError as error:
        raise PayloadError(f"{name} of {len(reader.data)} bytes: {error}, at byte {reader.at}") from None
    return message


def _kind(reader: _Reader) -> type[Message]:
    number = reader.number(_U16)
    kind = TYPES.get(number)
    if kind is None:
        raise ValueError(f"the unknown type {number}")
    return kind


def _read(reader: _Reader, kind: type[Message]) -> Message:
    message = kind()
    if isinstance(message, Result):
        message.succeeded = reader.flag(_BYTE)
        if not message.succeeded:
            message.text = reader.text16()
        message.exception = reader.named(ExceptionCode)
    for name, how in kind.LAYOUT:
        setattr(message, name, _READERS[how](reader))
    if kind in _PARTS:
        _readSeveral(reader, message)
    return message


def _readSeveral(reader: _Reader, message: Any) -> None:
    kind = type(message)
    length = reader.number(_I32)
    end = reader.at + length
    if not reader.at <= end <= len(reader.data):
        raise ValueError(f"messages of {length} bytes where {len(reader.data) - reader.at} are left")
    reader.data = reader.data[:end]
    count = reader.number(_I16)
    if count < 0:
        raise ValueError(f"{count} messages, where Java reads 0 to {LONGEST}")
    for _ in range(count):
        each = _kind(reader)
        if each not in _PARTS[kind]:
            raise ValueError(f"{each.__name__} cannot be in it")
        message.messages.append(_read(reader, each))
    if kind is BatchResult or (kind is MergedMessages and reader.at < len(reader.data)):
        message.ids = [reader.number(_I32) for _ in range(count)]
