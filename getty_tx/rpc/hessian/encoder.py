"""
Writing Hessian, each value in its shortest form.

What is written is collected as text whose characters are the bytes (latin-1): strings of ASCII are taken as they are,
and the text becomes bytes once. Lists, maps and objects are found again by their identity, and are references then.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import chain
from math import copysign
from re import compile as regex
from struct import Struct
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.hessian.limits import HessianError
from getty_tx.rpc.hessian.scalars import EPOCH
from getty_tx.rpc.hessian.values import JavaObject, Long, TypedList, TypedMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["CHUNK", "Encoder", "encode"]

#: UTF-16 units of a string in a chunk, and bytes of a binary, at most: as Java has it.
CHUNK = 32_768

#: Binaries above so many bytes are not made text.
_LARGE = 512

#: The characters of bytes.
_CHARACTERS = [chr(number) for number in range(256)]


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


#: Ints of one and two bytes, by the int: negative ones count from the end.
_INTS = [
    chr(0x90 + number) if -16 <= number < 48 else _latin((0xC800 + number).to_bytes(2, "big"))
    for number in (*range(2048), *range(-2048, 0))
]

_i32 = Struct(">Bi").pack
_i64 = Struct(">Bq").pack
_f64 = Struct(">Bd").pack

#: Characters that are two UTF-16 units.
_ASTRAL = regex("[\U00010000-\U0010ffff]")
_MILLISECOND = timedelta(milliseconds=1)


def _surrogates(match: Any) -> str:
    number = ord(match.group()) - 0x10000
    return chr(0xD800 + (number >> 10)) + chr(0xDC00 + (number & 0x3FF))


def _units(text: str) -> str:
    """A text that has a character for each UTF-16 unit."""
    if len(text.encode("utf-16-le", "surrogatepass")) == 2 * len(text):
        return text
    return _ASTRAL.sub(_surrogates, text)


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
        self._large: list[tuple[int, bytes]] = []
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
            parts: list[bytes] = []
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
        append, writers = self._append, self.writers
        for value in values:
            kind = type(value)
            if kind is str:
                length = len(value)
                if length < 32 and value.isascii():
                    append(_CHARACTERS[length])
                    append(value)
                else:
                    self._string(value)
            elif kind is int and -2048 <= value < 2048:
                append(_INTS[value])
            else:
                writer = writers.get(kind)
                if writer is None:
                    writer = self._writer(value)
                writer(self, value)

    def _writer(self, value: Any) -> Callable[[Any, Any], None]:
        """What writes a value of a subclass."""
        for kind in type(value).__mro__:
            writer = self.writers.get(kind)
            if writer is not None:
                return writer
        raise HessianError(f"{type(value).__qualname__} has no form in Hessian")

    # Numbers, dates.

    def _none(self, value: None) -> None:
        self._append("N")

    def _bool(self, value: bool) -> None:
        self._append("T" if value else "F")

    def _int(self, value: int) -> None:
        if -2048 <= value < 2048:
            self._append(_INTS[value])
        elif -0x40000 <= value < 0x40000:
            self._append(_latin((0xD40000 + value).to_bytes(3, "big")))
        elif -0x80000000 <= value < 0x80000000:
            self._append(_latin(_i32(0x49, value)))
        else:
            self._long(value)

    def _long(self, value: int) -> None:
        if -8 <= value < 16:
            self._append(_CHARACTERS[0xE0 + value])
        elif -2048 <= value < 2048:
            self._append(_latin((0xF800 + value).to_bytes(2, "big")))
        elif -0x40000 <= value < 0x40000:
            self._append(_latin((0x3C0000 + value).to_bytes(3, "big")))
        elif -0x80000000 <= value < 0x80000000:
            self._append(_latin(_i32(0x59, value)))
        elif -0x8000000000000000 <= value < 0x8000000000000000:
            self._append(_latin(_i64(0x4C, value)))
        else:
            raise HessianError(f"an int of {value.bit_length()} bits: 64 with the sign")

    def _float(self, value: float) -> None:
        if -32768.0 <= value < 32768.0 and (whole := int(value)) == value:
            if whole == 0:
                self._append("[" if copysign(1.0, value) > 0 else _latin(_f64(0x44, value)))
            elif whole == 1:
                self._append("\\")
            elif -128 <= whole < 128:
                self._append("]" + _CHARACTERS[whole & 0xFF])
            else:
                self._append("^" + _latin((whole & 0xFFFF).to_bytes(2, "big")))
            return
        if -2147483.0 < value < 2147483.0:
            # Java multiplies, others divide: only what is the same for both.
            thousandths = round(value * 1000.0)
            if 0.001 * thousandths == value and thousandths / 1000.0 == value:
                self._append(_latin(_i32(0x5F, thousandths)))
                return
        self._append(_latin(_f64(0x44, value)))

    def _date(self, value: datetime) -> None:
        if value.utcoffset() is None:
            raise HessianError("a datetime without a time zone")
        milliseconds = (value - EPOCH) // _MILLISECOND
        minutes, rest = divmod(milliseconds, 60_000)
        if not rest and -0x80000000 <= minutes < 0x80000000:
            self._append(_latin(_i32(0x4B, minutes)))
        else:
            self._append(_latin(_i64(0x4A, milliseconds)))

    # Strings, binaries.

    def _string(self, value: str) -> None:
        isASCII = value.isascii()
        text = value if isASCII else _units(value)
        length = len(text)
        append = self._append
        at = 0
        while length - at > CHUNK:
            end = at + CHUNK
            if not isASCII and "\ud800" <= text[end - 1] <= "\udbff":
                end -= 1
            append("R" + _latin((end - at).to_bytes(2, "big")))
            piece = text[at:end]
            append(piece if isASCII else _latin(piece.encode("utf-8", "surrogatepass")))
            at = end
        if at:
            text = text[at:]
            length -= at
        if length < 32:
            append(_CHARACTERS[length])
        elif length < 1024:
            append(_CHARACTERS[0x30 + (length >> 8)] + _CHARACTERS[length & 0xFF])
        else:
            append("S" + _latin(length.to_bytes(2, "big")))
        append(text if isASCII else _latin(text.encode("utf-8", "surrogatepass")))

    def _binary(self, value: bytes | bytearray) -> None:
        length = len(value)
        if length < 16:
            self._append(_CHARACTERS[0x20 + length] + _latin(value))
        elif length <= _LARGE:
            self._append(_CHARACTERS[0x34 + (length >> 8)] + _CHARACTERS[length & 0xFF] + _latin(value))
        else:
            append, large, pieces = self._append, self._large, self._pieces
            at = 0
            while length - at > CHUNK:
                append("A" + _latin(CHUNK.to_bytes(2, "big")))
                large.append((len(pieces), bytes(value[at : at + CHUNK])))
                at += CHUNK
            length -= at
            append(_latin((0x3400 + length).to_bytes(2, "big") if length < 1024 else b"B" + length.to_bytes(2, "big")))
            large.append((len(pieces), bytes(value[at:])))

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
        self._int(number)
        return True

    def _type(self, name: str) -> None:
        if not isinstance(name, str):
            raise HessianError(f"a type that is {type(name).__qualname__}, in place of str")
        number = self._types.get(name)
        if number is not None:
            self._int(number)
            return
        self._types[name] = len(self._types)
        self._string(name)

    def _list(self, value: Sequence[Any]) -> None:
        if self._isKnown(value):
            return
        length = len(value)
        if length < 8:
            self._append(_CHARACTERS[0x78 + length])
        else:
            self._append("X")
            self._int(length)
        self._all(value)

    def _typedList(self, value: TypedList) -> None:
        if self._isKnown(value):
            return
        length = len(value)
        if length < 8:
            self._append(_CHARACTERS[0x70 + length])
            self._type(value.type)
        else:
            self._append("V")
            self._type(value.type)
            self._int(length)
        self._all(value)

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
            self._append(_CHARACTERS[0x60 + number])
        else:
            self._append("O")
            self._int(number)
        self._all(fields.values())

    def _define(self, definition: tuple[str, ...]) -> None:
        if not all(isinstance(name, str) for name in definition):
            raise HessianError("the name of a field that is not str")
        self._append("C")
        self._string(definition[0])
        self._int(len(definition) - 1)
        self._all(definition[1:])

    #: What writes a value, by its type.
    writers: dict[type[Any], Callable[[Any, Any], None]] = {
        type(None): _none,
        bool: _bool,
        int: _int,
        Long: _long,
        float: _float,
        datetime: _date,
        str: _string,
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
    encoder = Encoder()
    encoder.writeMany(values)
    return encoder.take()
