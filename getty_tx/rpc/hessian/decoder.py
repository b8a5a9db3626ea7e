"""
Reading Hessian: one pass over the bytes, by a table of 256 readers for the first byte of a value.

A list, map or object is made before its values are read, so that one of these can refer to it: references count lists,
maps and objects in the order of their beginning. Values of one byte, and short strings of ASCII, are read where they
stand; for others the table is asked.
"""

from __future__ import annotations

from itertools import chain
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from getty_tx.rpc.hessian.limits import DEFAULT, HessianError, Limits
from getty_tx.rpc.hessian.scalars import MORE, ONE, ScalarReader
from getty_tx.rpc.hessian.values import JavaObject, Long, TypedList, TypedMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Decoder", "decode"]

#: What ends a list or a map without a length.
_END = 0x5A

#: Lists of so many values are looked at as a whole: of one form and size they are read at once.
_MANY = 8

#: Such forms by their first byte: how many bytes they have, what reads many, and the type where it is not Python's.
_SAME: dict[int, tuple[int, Callable[[bytes], Iterator[tuple[Any]]], type[Any] | None]] = {
    0x44: (9, Struct(">xd").iter_unpack, None),
    0x49: (5, Struct(">xi").iter_unpack, None),
    0x4C: (9, Struct(">xq").iter_unpack, Long),
    0x59: (5, Struct(">xi").iter_unpack, Long),
}


class Decoder(ScalarReader):
    """
    Reads values that stand one after the other. They share references, definitions of classes and types.

    :param data: the bytes.
    :param limits: what the values may have.
    :param at: where to begin.

    :ivar at: the offset behind the last value that was read.
    """

    __slots__ = ("_definitions", "_depth", "_maxDefinitions", "_maxReferences", "_references", "_types")

    def __init__(self, data: bytes | bytearray | memoryview, limits: Limits = DEFAULT, at: int = 0) -> None:
        super().__init__(data, limits.maxLength, at)
        self._depth = limits.maxDepth
        self._maxReferences = limits.maxReferences
        self._maxDefinitions = limits.maxDefinitions
        self._references: list[Any] = []
        self._definitions: list[tuple[str, tuple[str, ...]]] = []
        self._types: list[str] = []

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._size - self.at

    def read(self) -> Any:
        """
        The next value.

        :raise HessianError: there is none, or it is invalid or exceeds a limit. The Decoder is of no more use then.
        """
        return self.readMany(1)[0]

    def readMany(self, count: int) -> list[Any]:
        """
        The next so many values.

        :raise HessianError: as :py:meth:`read`.
        """
        values: list[Any] = []
        try:
            self._fill(self.at, count, self._depth, values.append)
        except (IndexError, StructError, RecursionError) as error:
            raise self._failed(error) from None
        if self.at > self._size:
            raise self._failed()
        return values

    def readAll(self) -> list[Any]:
        """
        All values that are left.

        :raise HessianError: as :py:meth:`read`.
        """
        values: list[Any] = []
        fill, size, depth, append = self._fill, self._size, self._depth, values.append
        try:
            while self.at < size:
                fill(self.at, 1, depth, append)
        except (IndexError, StructError, RecursionError) as error:
            raise self._failed(error) from None
        if self.at > size:
            raise self._failed()
        return values

    def _failed(self, error: Exception | None = None) -> HessianError:
        if isinstance(error, RecursionError):
            return HessianError("lists, maps and objects are nested too deep for the stack", self.at)
        return HessianError("the bytes end too early", self._size)

    def _fill(self, at: int, count: int, depth: int, append: Callable[[Any], None]) -> None:
        """
        Read values that stand one after the other.

        :param count: how many, or -1 for those up to the end of a list or map.
        :param depth: how many levels there may be in them.
        """
        data, text, one, readers = self._data, self._text, ONE, self.readers
        while count:
            tag = data[at]
            value = one[tag]
            if value is not MORE:
                at += 1
            elif tag < 0x20:
                end = at + 1 + tag
                value = text[at + 1 : end]
                if value.isascii():
                    at = end
                else:
                    value = self._notASCII(at + 1, tag)
                    at = self.at
            elif 0xC0 <= tag <= 0xCF:
                value = ((tag - 0xC8) << 8) + data[at + 1]
                at += 2
            elif tag == _END and count < 0:
                at += 1
                break
            else:
                value = readers[tag](self, at, depth)
                at = self.at
            append(value)
            count -= 1
        self.at = at

    # Lists.

    def _refuse(self, at: int, depth: int) -> NoReturn:
        if depth:
            raise HessianError(f"more than {self._maxReferences} lists, maps and objects", at)
        raise HessianError("lists, maps and objects are nested too deep", at)

    def _begin(self, value: Any, at: int, depth: int) -> None:
        """A list, map or object begins. Where many begin it stands in place of a call."""
        references = self._references
        if not depth or len(references) >= self._maxReferences:
            self._refuse(at, depth)
        references.append(value)

    def _counted(self, values: list[Any], count: int, start: int, depth: int) -> list[Any]:
        """Fill a list whose length was announced."""
        at = self.at
        # Each value has a byte at least.
        if count < 0 or count > self._maxLength or count > self._size - at:
            self._tooLong("list", count, start)
        self._begin(values, start, depth)
        if count >= _MANY and (same := _SAME.get(self._data[at])) is not None:
            size, unpack, kind = same
            end = at + count * size
            data = self._data[at:end]
            if len(data) == count * size and data[::size].count(data[0]) == count:
                items = chain.from_iterable(unpack(data))
                values.extend(items if kind is None else map(kind, items))
                self.at = end
                return values
        self._fill(at, count, depth - 1, values.append)
        return values

    def _open(self, values: list[Any], start: int, depth: int) -> list[Any]:
        """Fill a list up to its end."""
        self._begin(values, start, depth)
        self._fill(self.at, -1, depth - 1, values.append)
        if len(values) > self._maxLength:
            self._tooLong("list", len(values), start)
        return values

    def _type(self, at: int) -> str:
        """The type of a list or map: a string once, and then its number."""
        tag = self._data[at]
        types = self._types
        if tag < 0x20 or 0x30 <= tag <= 0x33 or 0x52 <= tag <= 0x53:
            if len(types) >= self._maxDefinitions:
                raise HessianError(f"more than {self._maxDefinitions} types", at)
            types.append(self._name(at, "a type"))
            return types[-1]
        number = self._count(at, "a type")
        if 0 <= number < len(types):
            return types[number]
        raise HessianError(f"type {number}, of {len(types)}", at)

    def _shortList(self, at: int, depth: int) -> list[Any]:
        values: list[Any] = []
        references = self._references
        if not depth or len(references) >= self._maxReferences:
            self._refuse(at, depth)
        references.append(values)
        self._fill(at + 1, self._data[at] - 0x78, depth - 1, values.append)
        return values

    def _list(self, at: int, depth: int) -> list[Any]:
        return self._counted([], self._count(at + 1, "a length"), at, depth)

    def _openList(self, at: int, depth: int) -> list[Any]:
        self.at = at + 1
        return self._open([], at, depth)

    def _shortTypedList(self, at: int, depth: int) -> list[Any]:
        values = TypedList(self._type(at + 1))
        self._begin(values, at, depth)
        self._fill(self.at, self._data[at] - 0x70, depth - 1, values.append)
        return values

    def _typedList(self, at: int, depth: int) -> list[Any]:
        values = TypedList(self._type(at + 1))
        return self._counted(values, self._count(self.at, "a length"), at, depth)

    def _openTypedList(self, at: int, depth: int) -> list[Any]:
        return self._open(TypedList(self._type(at + 1)), at, depth)

    # Maps, objects, references.

    def _pairs(self, values: dict[Any, Any], start: int, depth: int) -> dict[Any, Any]:
        """Fill a map up to its end."""
        references = self._references
        if not depth or len(references) >= self._maxReferences:
            self._refuse(start, depth)
        references.append(values)
        flat: list[Any] = []
        self._fill(self.at, -1, depth - 1, flat.append)
        if len(flat) & 1:
            raise HessianError("a map that ends behind a key", start)
        if len(flat) > 2 * self._maxLength:
            self._tooLong("map", len(flat) // 2, start)
        pairs = iter(flat)
        try:
            values.update(zip(pairs, pairs, strict=True))
        except TypeError:
            raise HessianError("a map with a key that holds lists, maps or objects", start) from None
        return values

    def _map(self, at: int, depth: int) -> dict[Any, Any]:
        self.at = at + 1
        return self._pairs({}, at, depth)

    def _typedMap(self, at: int, depth: int) -> dict[Any, Any]:
        return self._pairs(TypedMap(self._type(at + 1)), at, depth)

    def _defined(self, at: int, depth: int) -> Any:
        """Definitions of classes, and the value behind them."""
        data = self._data
        while data[at] == 0x43:
            start = at
            name = self._name(at + 1, "a class's name")
            count = self._count(self.at, "a number of fields")
            at = self.at
            if count < 0 or count > self._maxLength or count > self._size - at:
                self._tooLong("definition", count, start)
            if len(self._definitions) >= self._maxDefinitions:
                raise HessianError(f"more than {self._maxDefinitions} definitions of classes", start)
            names = []
            for _ in range(count):
                names.append(self._name(at, "a field's name"))
                at = self.at
            self._definitions.append((name, tuple(names)))
        return self.readers[data[at]](self, at, depth)

    def _shortObject(self, at: int, depth: int) -> JavaObject:
        self.at = at + 1
        return self._object(self._data[at] - 0x60, at, depth)

    def _longObject(self, at: int, depth: int) -> JavaObject:
        return self._object(self._count(at + 1, "the number of a class"), at, depth)

    def _object(self, number: int, start: int, depth: int) -> JavaObject:
        definitions = self._definitions
        if not 0 <= number < len(definitions):
            raise HessianError(f"an object of class {number}, of {len(definitions)}", start)
        name, names = definitions[number]
        fields: dict[str, Any] = {}
        value = JavaObject(name, fields)
        references = self._references
        if not depth or len(references) >= self._maxReferences:
            self._refuse(start, depth)
        references.append(value)
        values: list[Any] = []
        self._fill(self.at, len(names), depth - 1, values.append)
        fields.update(zip(names, values, strict=True))
        return value

    def _reference(self, at: int, depth: int) -> Any:
        number = self._count(at + 1, "the number of a reference")
        references = self._references
        if 0 <= number < len(references):
            return references[number]
        raise HessianError(f"reference {number}, of {len(references)}", at)

    def _lost(self, at: int, depth: int) -> NoReturn:
        raise HessianError("the end of a list or map that has not begun", at)

    #: The readers by the first byte of a value.
    readers: ClassVar[list[Callable[[Any, int, int], Any]]] = [ScalarReader.scalars[0][2]] * 256
    for _first, _last, _reader in (
        *ScalarReader.scalars,
        (0x43, 0x43, _defined),
        (0x48, 0x48, _map),
        (0x4D, 0x4D, _typedMap),
        (0x4F, 0x4F, _longObject),
        (0x51, 0x51, _reference),
        (0x55, 0x55, _openTypedList),
        (0x56, 0x56, _typedList),
        (0x57, 0x57, _openList),
        (0x58, 0x58, _list),
        (0x5A, 0x5A, _lost),
        (0x60, 0x6F, _shortObject),
        (0x70, 0x77, _shortTypedList),
        (0x78, 0x7F, _shortList),
    ):
        readers[_first : _last + 1] = [_reader] * (_last + 1 - _first)
    del _first, _last, _reader


def decode(data: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> list[Any]:
    """
    All values that the bytes have.

    :raise HessianError: one is invalid or exceeds a limit, or the bytes end within one.
    """
    return Decoder(data, limits).readAll()
