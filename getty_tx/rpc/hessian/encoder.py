"""
Writing Hessian: values and what they hold.

What is written is collected as text whose characters are the bytes (latin-1), which becomes bytes once. Lists, maps and
objects are found again by their identity, and are references then.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.hessian.limits import HessianError
from getty_tx.rpc.hessian.texts import (
    CHARACTERS,
    CHUNK,
    INTS,
    NUMBERS,
    TEXTS,
    binaryHead,
    intText,
    latin,
    numbersText,
    stringText,
)
from getty_tx.rpc.hessian.values import JavaObject, TypedList, TypedMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Encoder", "encode"]

#: Binaries above so many bytes are not made text.
_LARGE = 512

#: Lists of so many numbers are looked at as a whole.
_MANY = 8


class Encoder:
    """
    Writes values one after the other. They share references, definitions of classes and types.

    It keeps what it has written, so that no other object can be taken for it.
    """

    __slots__ = ("_append", "_definitions", "_kept", "_large", "_pieces", "_seen", "_types")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._append = self._pieces.append
        #: Binaries that are not made text, and how many pieces of text come before them.
        self._large: list[tuple[int, bytes | memoryview]] = []
        #: The numbers of lists, maps and objects by their identity; these themselves.
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []
        self._definitions: dict[tuple[str, ...], int] = {}
        self._types: dict[str, int] = {}

    def write(self, value: Any) -> None:
        """
        Write a value.

        :raise HessianError: it, or one in it, has no form in Hessian. The Encoder is as it was before.
        """
        self.writeMany((value,))

    def writeMany(self, values: Iterable[Any]) -> None:
        """Write values. :raise HessianError: as :py:meth:`write`; none is written then."""
        before = len(self._pieces), len(self._large), len(self._kept), len(self._definitions), len(self._types)
        try:
            self._all(values)
        except RecursionError:
            self._back(*before)
            raise HessianError("lists, maps and objects are nested too deep") from None
        except BaseException:
            self._back(*before)
            raise

    def take(self) -> bytes:
        """The bytes that were written since the last time. References to what was in them stay possible."""
        pieces, large = self._pieces, self._large
        if not large:
            data = "".join(pieces).encode("latin-1")
        else:
            parts: list[bytes | memoryview] = []
            start = 0
            for at, binary in large:
                parts += ("".join(pieces[start:at]).encode("latin-1"), binary)
                start = at
            parts.append("".join(pieces[start:]).encode("latin-1"))
            data = b"".join(parts)
            large.clear()
        pieces.clear()
        return data

    def _back(self, pieces: int, large: int, kept: int, definitions: int, types: int) -> None:
        """Forget what was written since there were so many of each."""
        del self._pieces[pieces:], self._large[large:], self._kept[kept:]
        for known, count in ((self._seen, kept), (self._definitions, definitions), (self._types, types)):
            while len(known) > count:
                known.popitem()

    def _all(self, values: Iterable[Any]) -> None:
        append, texts, writers = self._append, TEXTS, self.writers
        for value in values:
            kind = type(value)
            if kind is str:
                length = len(value)
                if length < 32 and value.isascii():
                    append(CHARACTERS[length])
                    append(value)
                else:
                    append(stringText(value))
            elif kind is int and -2048 <= value < 2048:
                append(INTS[value])
            elif kind in texts:
                append(texts[kind](value))
            elif kind in writers:
                writers[kind](self, value)
            else:
                self._other(value)

    def _other(self, value: Any) -> None:
        """Write a value of a subclass."""
        for kind in type(value).__mro__:
            if kind in TEXTS:
                self._append(TEXTS[kind](value))
                return
            if kind in self.writers:
                self.writers[kind](self, value)
                return
        raise HessianError(
            f"{type(value).__qualname__} has no form in Hessian: make a JavaObject, a dict or a str of it"
        )

    def _binary(self, value: bytes | bytearray) -> None:
        length = len(value)
        if length <= _LARGE:
            self._append(latin(binaryHead(length) + value))
        else:
            append, large, pieces = self._append, self._large, self._pieces
            # As it is now, without a copy where nobody can change it.
            rest: bytes | memoryview = bytes(value)
            if length > CHUNK:
                view = memoryview(rest)
                at = 0
                while length - at > CHUNK:
                    append("A" + latin(CHUNK.to_bytes(2, "big")))
                    large.append((len(pieces), view[at : at + CHUNK]))
                    at += CHUNK
                length -= at
                rest = view[at:]
            append(latin(binaryHead(length)))
            large.append((len(pieces), rest))

    def _memory(self, value: memoryview) -> None:
        self._binary(bytes(value))

    # Lists, maps, objects.

    def _isKnown(self, value: Any) -> bool:
        """Write a reference, if the value was written before."""
        seen, kept = self._seen, self._kept
        number = seen.setdefault(id(value), len(kept))
        if number == len(kept):
            kept.append(value)
            return False
        self._append("Q")
        self._append(intText(number))
        return True

    def _type(self, name: str) -> None:
        if not isinstance(name, str):
            raise HessianError(f"a type that is {type(name).__qualname__}, in place of str")
        number = self._types.get(name)
        if number is not None:
            self._append(intText(number))
            return
        self._types[name] = len(self._types)
        self._append(stringText(name))

    def _list(self, value: Sequence[Any]) -> None:
        if self._isKnown(value):
            return
        length = len(value)
        if length < 8:
            self._append(CHARACTERS[0x78 + length])
        else:
            self._append("X")
            self._append(intText(length))
        self._items(value, length)

    def _typedList(self, value: TypedList) -> None:
        if self._isKnown(value):
            return
        length = len(value)
        if length < 8:
            self._append(CHARACTERS[0x70 + length])
            self._type(value.type)
        else:
            self._append("V")
            self._type(value.type)
            self._append(intText(length))
        self._items(value, length)

    def _items(self, values: Sequence[Any], length: int) -> None:
        if length >= _MANY and (kind := type(values[0])) in NUMBERS and len(set(map(type, values))) == 1:
            self._append(numbersText(values, kind))
        else:
            self._all(values)

    def _map(self, value: Mapping[Any, Any]) -> None:
        if self._isKnown(value):
            return
        self._append("H")
        self._all(chain.from_iterable(value.items()))
        self._append("Z")

    def _typedMap(self, value: TypedMap) -> None:
        if self._isKnown(value):
            return
        self._append("M")
        self._type(value.type)
        self._all(chain.from_iterable(value.items()))
        self._append("Z")

    def _object(self, value: JavaObject) -> None:
        if self._isKnown(value):
            return
        name, fields = value.name, value.fields
        if not isinstance(name, str):
            raise HessianError(f"a class's name that is {type(name).__qualname__}, in place of str")
        definition = (name, *fields)
        number = self._definitions.get(definition)
        if number is None:
            number = self._definitions[definition] = len(self._definitions)
            self._define(definition)
        if number < 16:
            self._append(CHARACTERS[0x60 + number])
        else:
            self._append("O")
            self._append(intText(number))
        self._all(fields.values())

    def _define(self, definition: tuple[str, ...]) -> None:
        if not all(isinstance(name, str) for name in definition):
            raise HessianError("the name of a field that is not str")
        self._append("C")
        self._append(stringText(definition[0]))
        self._append(intText(len(definition) - 1))
        self._all(definition[1:])

    #: What writes a value, by its type.
    writers: dict[type[Any], Callable[[Any, Any], None]] = {
        bytes: _binary,
        bytearray: _binary,
        memoryview: _memory,
        list: _list,
        tuple: _list,
        TypedList: _typedList,
        dict: _map,
        TypedMap: _typedMap,
        JavaObject: _object,
    }


def encode(*values: Any) -> bytes:
    """
    The bytes of values, one after the other, which share references, definitions of classes and types.

    :raise HessianError: one has no form in Hessian.
    """
    if len(values) == 1:
        # As nearly all results are.
        value = values[0]
        text = TEXTS.get(type(value))
        if text is not None:
            return text(value).encode("latin-1")
        if type(value) is bytes and len(value) <= CHUNK:
            return binaryHead(len(value)) + value
    pieces = []
    for value in values:
        text = TEXTS.get(type(value))
        if text is None:
            break
        pieces.append(text(value))
    else:
        return "".join(pieces).encode("latin-1")
    encoder = Encoder()
    encoder.writeMany(values[len(pieces) :])
    return "".join(pieces).encode("latin-1") + encoder.take()
