"""
Thrift's binary protocol, read into the classes of thriftpy2.

thriftpy2 itself reads past the end of the bytes, and takes the lengths in them as they are. This reads the bytes
of strangers: it never goes past the end, nor deeper than 64 levels, and does no more work than there are bytes. A
struct of one byte becomes an object of some hundred, or of some thousand if it has many fields: the structs of a
message are counted, with the fields of their classes.
"""

from __future__ import annotations

from struct import Struct, unpack_from
from typing import Any

__all__ = ["MAX_DEPTH", "MAX_STRUCTS", "readMessage", "readStruct"]

#: Levels of structs and containers, as in Thrift.
MAX_DEPTH = 64

#: Structs that a message may become, at most; a long one, one for so many bytes. So many fields, which an object has
#: whether they came or not, count as a struct, too.
MAX_STRUCTS = 100_000
BYTES_OF_STRUCT = 16
FIELDS_OF_STRUCT = 8

_STRING, _STRUCT, _MAP, _SET, _LIST = 11, 12, 13, 14, 15

#: What has a fixed size, by the type. thriftpy2 has no UUID, of 16 bytes, but others may send one.
_FIXED = {2: Struct(">?"), 3: Struct(">b"), 4: Struct(">d"), 6: Struct(">h"), 8: Struct(">i"), 10: Struct(">q")}
_FIXED[16] = Struct(">16s")

#: thriftpy2 has a type of its own for bytes, which is a string on the wire.
_BINARY = 18

_count = Struct(">i").unpack_from
_field = Struct(">Bh").unpack_from


class _Structs:
    """The structs that may still be made."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = max(MAX_STRUCTS, size // BYTES_OF_STRUCT)

    def take(self, fields: int) -> None:
        """:raise ValueError: there were as many before."""
        self.left -= 1 + fields // FIELDS_OF_STRUCT
        if self.left < 0:
            many = f"{FIELDS_OF_STRUCT} fields counted as one more"
            raise ValueError(f"more than {MAX_STRUCTS} structs, and than one in {BYTES_OF_STRUCT} bytes, {many}")


def readMessage(data: bytes, target: Any) -> None:
    """Read a whole message, as :py:func:`readStruct`. :raise ValueError: it has too many structs, too."""
    readStruct(data, 0, target, _Structs(len(data)))


def readStruct(data: bytes, at: int, target: Any, structs: _Structs, depth: int = MAX_DEPTH) -> int:
    """
    Set the fields of an instance of a thriftpy2 class; those that it does not have, or with other types, are skipped.

    :param target: the instance, or None to skip all.
    :return: where the struct ends.
    :raise ValueError: the bytes are no such struct.
    """
    fields = {} if target is None else target.thrift_spec
    while True:
        if at >= len(data):
            raise ValueError("a struct has no end")
        if not data[at]:
            return at + 1
        if at + 3 > len(data):
            raise ValueError("the bytes end within a field")
        kind, number = _field(data, at)
        spec = fields.get(number)
        if spec is None or _wire(spec[0]) != kind:
            _, at = _read(data, at + 3, kind, None, structs, depth)
            continue
        value, at = _read(data, at + 3, spec[0], spec[2] if len(spec) == 4 else None, structs, depth)
        setattr(target, spec[1], value)


def _wire(kind: int) -> int:
    return _STRING if kind == _BINARY else kind


def _read(data: bytes, at: int, kind: int, spec: Any, structs: _Structs, depth: int) -> tuple[Any, int]:
    fixed = _FIXED.get(kind)
    if fixed is not None:
        end = at + fixed.size
        if end > len(data):
            raise ValueError("the bytes end within a number")
        return fixed.unpack_from(data, at)[0], end
    if kind in (_STRING, _BINARY):
        size, at = _size(data, at)
        content = data[at : at + size]
        return content if kind == _BINARY else _text(content), at + size
    if not depth:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    if kind == _STRUCT:
        target = None
        structs.take(0 if spec is None else len(spec.thrift_spec))
        if spec is not None:
            target = spec()
        end = readStruct(data, at, target, structs, depth - 1)
        return target, end
    if kind in (_LIST, _SET):
        return _readList(data, at, spec, structs, depth - 1)
    if kind == _MAP:
        return _readMap(data, at, spec, structs, depth - 1)
    raise ValueError(f"the unknown type {kind}")


def _text(content: bytes) -> str | bytes:
    """IDLs often say string for bytes; so does thriftpy2."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _size(data: bytes, at: int) -> tuple[int, int]:
    """A length in bytes, or of items, of which each has a byte at least."""
    if at + 4 > len(data):
        raise ValueError("the bytes end within a length")
    size: int = _count(data, at)[0]
    if not 0 <= size <= len(data) - at - 4:
        raise ValueError(f"a length of {size}, where {len(data) - at - 4} bytes follow")
    return size, at + 4


def _item(spec: Any) -> tuple[int, Any]:
    return (spec[0], spec[1]) if isinstance(spec, tuple) else (spec, None)


def _kind(data: bytes, at: int, spec: Any) -> tuple[int, Any, bool]:
    """The type of items, their spec, and whether they are what the spec says."""
    if at >= len(data):
        raise ValueError("the bytes end within a container")
    kind = data[at]
    if spec is not None:
        wanted, inner = _item(spec)
        if _wire(wanted) == kind:
            return wanted, inner, True
    return kind, None, False


def _readList(data: bytes, at: int, spec: Any, structs: _Structs, depth: int) -> tuple[list[Any], int]:
    kind, inner, isWanted = _kind(data, at, spec)
    size, at = _size(data, at + 1)
    found: list[Any] = []
    fixed = _FIXED.get(kind)
    if fixed is not None:
        end = at + size * fixed.size
        if end > len(data):
            raise ValueError("the bytes end within a container")
        return list(unpack_from(f">{size}{fixed.format[1]}", data, at)) if isWanted else found, end
    for _ in range(size):
        value, at = _read(data, at, kind, inner, structs, depth)
        if isWanted:
            found.append(value)
    return found, at


def _readMap(data: bytes, at: int, spec: Any, structs: _Structs, depth: int) -> tuple[dict[Any, Any], int]:
    keys, keySpec, isKey = _kind(data, at, None if spec is None else spec[0])
    values, valueSpec, isValue = _kind(data, at + 1, None if spec is None else spec[1])
    size, at = _size(data, at + 2)
    found: dict[Any, Any] = {}
    for _ in range(size):
        key, at = _read(data, at, keys, keySpec, structs, depth)
        value, at = _read(data, at, values, valueSpec, structs, depth)
        if isKey and isValue:
            found[key] = value
    return found, at
