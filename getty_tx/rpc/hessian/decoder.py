"""
Reading Hessian: one loop over the bytes, with tables for the first byte of a value.

A list, map or object is made before its values are read, so that one of these can refer to it: references count lists,
maps and objects in the order of their beginning. The loop keeps a stack of its own. Values of one byte, short strings
of ASCII, ints of two bytes, short lists and maps are read where they stand; for others a table is asked.
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

    #: What has begun: the value, the list that its values go to, how many these are (-1: up to an end), and what is
    #: filled with them behind that: nothing for a list, a map with pairs, an object's fields by their names.
    Begun = tuple[Any, list[Any], int, Any, tuple[str, ...] | None]

    #: A level: how it goes on in the one above it, where it has begun, its values, and what is filled with them.
    Level = tuple[Callable[[Any], None], int, int, list[Any], Any, tuple[str, ...] | None]

__all__ = ["Decoder", "decode"]

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

    __slots__ = ("_definitions", "_maxDefinitions", "_maxDepth", "_maxReferences", "_references", "_types")

    def __init__(self, data: bytes | bytearray | memoryview, limits: Limits = DEFAULT, at: int = 0) -> None:
        self._data = data = data if type(data) is bytes else bytes(data)
        self._text: str | None = None
        self._size = len(data)
        self._maxLength = limits.maxLength
        self.at = at
        self._maxDepth = limits.maxDepth
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
            self.at = self._fill(self.at, count, values.append)
        except (IndexError, StructError):
            raise self._short() from None
        if self.at > self._size:
            raise self._short()
        return values

    def readAll(self) -> list[Any]:
        """
        All values that are left.

        :raise HessianError: as :py:meth:`read`.
        """
        values: list[Any] = []
        at, size, append = self.at, self._size, values.append
        try:
            while at < size:
                at = self._fill(at, 1, append)
        except (IndexError, StructError):
            raise self._short() from None
        if at > size:
            raise self._short()
        self.at = at
        return values

    def _short(self) -> HessianError:
        return HessianError("the bytes end too early", self._size)

    def _fill(self, at: int, count: int, append: Callable[[Any], None]) -> int:
        """Read so many values, with all that they hold, and return the offset behind them."""
        data, text, one, readers, references = self._data, self._text, ONE, self.readers, self._references
        maxDepth, maxReferences = self._maxDepth, self._maxReferences
        stack: list[Level] = []
        while True:
            while count:
                tag = data[at]
                value = one[tag]
                if value is not MORE:
                    at += 1
                elif tag < 0x20:
                    if text is None:
                        text = self._text = data.decode("latin-1")
                    end = at + 1 + tag
                    value = text[at + 1 : end]
                    if not value.isascii():
                        value, end = self._notASCII(at + 1, tag), self.at
                    at = end
                elif (reader := readers[tag]) is not None:
                    value = reader(self, at)
                    at = self.at
                elif tag >= 0xC0:
                    value = ((tag - 0xC8) << 8) + data[at + 1]
                    at += 2
                elif tag == 0x5A:
                    at = self._behindEnd(count, stack, at)
                    break
                elif tag == 0x43:
                    at = self._define(at)
                    continue
                else:
                    start, target, names = at, None, None
                    if tag >= 0x78:
                        at, many, value = at + 1, tag - 0x78, []
                        values = value
                    elif tag == 0x48:
                        at, many, value, values = at + 1, -1, {}, []
                        target = value
                    else:
                        value, values, many, target, names = self.begins[tag](self, at)
                        at = self.at
                    append(value)
                    if len(stack) >= maxDepth or len(references) >= maxReferences:
                        self._refuse(start, len(stack))
                    references.append(value)
                    stack.append((append, count - 1, start, values, target, names))
                    append, count = values.append, many
                    continue
                append(value)
                count -= 1
            if not stack:
                return at
            append, count, start, values, target, names = stack.pop()
            if names is not None:
                items = iter(values)
                for name in names:
                    target[name] = next(items)
            elif values and target is not None:
                self._pair(target, values, start)

    def _refuse(self, at: int, depth: int) -> NoReturn:
        if depth >= self._maxDepth:
            raise HessianError("lists, maps and objects are nested too deep", at)
        raise HessianError(f"more than {self._maxReferences} lists, maps and objects", at)

    def _behindEnd(self, count: int, stack: list[Any], at: int) -> int:
        """Whether a list or map without a length ends here, and is not too long; the offset behind the end."""
        if count > 0:
            raise HessianError("the end of a list or map that has not begun", at)
        length = ~count
        if length > self._maxLength:
            isMap = stack[-1][4] is not None
            if not isMap or length // 2 > self._maxLength:
                self._tooLong("map" if isMap else "list", length // 2 if isMap else length, stack[-1][2])
        return at + 1

    def _pair(self, target: dict[Any, Any], values: list[Any], start: int) -> None:
        """Fill a map with its keys and values."""
        items = iter(values)
        try:
            for key in items:
                target[key] = next(items)
        except StopIteration:
            raise HessianError("a map that ends behind a key", start) from None
        except TypeError:
            raise HessianError("a map with a key that holds lists, maps or objects", start) from None

    # What begins lists, maps and objects.

    def _counted(self, values: list[Any], start: int) -> Begun:
        """A list whose length comes."""
        count = self._count(self.at, "a length")
        at = self.at
        # Each value has a byte at least.
        if count < 0 or count > self._maxLength or count > self._size - at:
            self._tooLong("list", count, start)
        if count >= _MANY and (same := _SAME.get(self._data[at])) is not None:
            size, unpack, kind = same
            end = at + count * size
            data = self._data[at:end]
            if len(data) == count * size and data[::size].count(data[0]) == count:
                items = chain.from_iterable(unpack(data))
                values.extend(items if kind is None else map(kind, items))
                self.at = end
                return values, values, 0, None, None
        return values, values, count, None, None

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

    def _list(self, at: int) -> Begun:
        self.at = at + 1
        return self._counted([], at)

    def _openList(self, at: int) -> Begun:
        self.at = at + 1
        values: list[Any] = []
        return values, values, -1, None, None

    def _shortTypedList(self, at: int) -> Begun:
        values = TypedList(self._type(at + 1))
        return values, values, self._data[at] - 0x70, None, None

    def _typedList(self, at: int) -> Begun:
        return self._counted(TypedList(self._type(at + 1)), at)

    def _openTypedList(self, at: int) -> Begun:
        values = TypedList(self._type(at + 1))
        return values, values, -1, None, None

    def _typedMap(self, at: int) -> Begun:
        value = TypedMap(self._type(at + 1))
        return value, [], -1, value, None

    def _shortObject(self, at: int) -> Begun:
        self.at = at + 1
        return self._object(self._data[at] - 0x60, at)

    def _longObject(self, at: int) -> Begun:
        return self._object(self._count(at + 1, "the number of a class"), at)

    def _object(self, number: int, start: int) -> Begun:
        definitions = self._definitions
        if not 0 <= number < len(definitions):
            raise HessianError(f"an object of class {number}, of {len(definitions)}", start)
        name, names = definitions[number]
        fields: dict[str, Any] = {}
        return JavaObject(name, fields), [], len(names), fields, names

    # What is no value, or is one that was there before.

    def _define(self, at: int) -> int:
        """Keep the definition of a class, and return the offset behind it."""
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
        return at

    def _reference(self, at: int) -> Any:
        number = self._count(at + 1, "the number of a reference")
        references = self._references
        if 0 <= number < len(references):
            return references[number]
        raise HessianError(f"reference {number}, of {len(references)}", at)

    #: What begins lists, maps and objects, by the first byte: those that are not read where they stand.
    begins: ClassVar[dict[int, Callable[[Any, int], Begun]]] = {
        0x4D: _typedMap,
        0x4F: _longObject,
        0x55: _openTypedList,
        0x56: _typedList,
        0x57: _openList,
        0x58: _list,
        **dict.fromkeys(range(0x60, 0x70), _shortObject),
        **dict.fromkeys(range(0x70, 0x78), _shortTypedList),
    }

    #: What reads values that hold no others, by the first byte; None for those that are read where they stand.
    readers: ClassVar[list[Callable[[Any, int], Any] | None]] = [*ScalarReader.scalars.values()]
    readers[0x51] = _reference
    readers[0x43] = readers[0x48] = readers[0x5A] = None
    readers[0x78:0x80] = [None] * 8
    readers[0xC0:0xD0] = [None] * 16
    for _first in begins:
        readers[_first] = None
    del _first


def decode(data: bytes | bytearray | memoryview, limits: Limits = DEFAULT) -> list[Any]:
    """
    All values that the bytes have.

    :raise HessianError: one is invalid or exceeds a limit, or the bytes end within one.
    """
    return Decoder(data, limits).readAll()
