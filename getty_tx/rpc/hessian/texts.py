"""
Writing what holds no other values: numbers, dates, strings and short binaries, each in its shortest form.

What is written is text whose characters are the bytes (latin-1): strings of ASCII are taken as they are.
"""

from __future__ import annotations

from datetime import datetime
from math import copysign
from re import compile as regex
from struct import Struct
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.hessian.limits import HessianError
from getty_tx.rpc.hessian.scalars import EPOCH
from getty_tx.rpc.hessian.values import Double, Long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CHARACTERS",
    "CHUNK",
    "INTS",
    "NUMBERS",
    "TEXTS",
    "binaryHead",
    "intText",
    "latin",
    "numbersText",
    "stringText",
]

#: UTF-16 units of a string in a chunk, and bytes of a binary, at most: as Java has it.
CHUNK = 32_768

#: The characters of bytes.
CHARACTERS = [chr(number) for number in range(256)]


def latin(data: bytes | bytearray) -> str:
    """The text whose characters are the bytes."""
    return data.decode("latin-1")


#: Ints of one and two bytes, by the int: negative ones count from the end.
INTS = [
    chr(0x90 + number) if -16 <= number < 48 else latin((0xC800 + number).to_bytes(2, "big"))
    for number in (*range(2048), *range(-2048, 0))
]

_i32 = Struct(">Bi").pack
_i64 = Struct(">Bq").pack
_f64 = Struct(">Bd").pack

#: Numbers that are packed at once, and room for the first byte of each.
_AT_ONCE = 32
_manyI32 = Struct(">" + "xi" * _AT_ONCE)
_manyI64 = Struct(">" + "xq" * _AT_ONCE)
_manyF64 = Struct(">" + "xd" * _AT_ONCE)

#: Characters that are two UTF-16 units.
_ASTRAL = regex("[\U00010000-\U0010ffff]")
_FOUR = regex("[\xf0-\xf4]...")


def noneText(value: None) -> str:
    """The form of null."""
    return "N"


def boolText(value: bool) -> str:
    """The form of a boolean."""
    return "T" if value else "F"


def intText(value: int) -> str:
    """
    The form of an int, or of a long if it has more than 32 bits.

    :raise HessianError: it has more than 64.
    """
    if -2048 <= value < 2048:
        return INTS[value]
    if -0x80000000 <= value < 0x80000000:
        if -0x40000 <= value < 0x40000:
            return (0xD40000 + value).to_bytes(3, "big").decode("latin-1")
        return _i32(0x49, value).decode("latin-1")
    return longText(value)


def longText(value: int) -> str:
    """The form of a long. :raise HessianError: it has more than 64 bits."""
    if -0x80000000 <= value < 0x80000000:
        if -8 <= value < 16:
            return CHARACTERS[0xE0 + value]
        if -2048 <= value < 2048:
            return (0xF800 + value).to_bytes(2, "big").decode("latin-1")
        if -0x40000 <= value < 0x40000:
            return (0x3C0000 + value).to_bytes(3, "big").decode("latin-1")
        return _i32(0x59, value).decode("latin-1")
    if -0x8000000000000000 <= value < 0x8000000000000000:
        return _i64(0x4C, value).decode("latin-1")
    raise HessianError(f"an int of {value.bit_length()} bits: 64 with the sign")


def doubleText(value: float) -> str:
    """The form of a double."""
    if -2147483.0 < value < 2147483.0:
        thousandths = round(value * 1000.0)
        # Java multiplies, others divide: only what is the same for both.
        if 0.001 * thousandths == value and thousandths / 1000.0 == value:
            if thousandths % 1000 or not -32_768_000 <= thousandths < 32_768_000:
                return _i32(0x5F, thousandths).decode("latin-1")
            return _wholeText(thousandths // 1000, value)
        if value.is_integer() and -32768.0 <= value < 32768.0:
            return _wholeText(int(value), value)
    return _f64(0x44, value).decode("latin-1")


def _wholeText(whole: int, value: float) -> str:
    """The form of a double of 16 bits that is whole."""
    if whole == 0:
        return "[" if copysign(1.0, value) > 0 else latin(_f64(0x44, value))
    if whole == 1:
        return "\\"
    if -128 <= whole < 128:
        return "]" + CHARACTERS[whole & 0xFF]
    return "^" + latin((whole & 0xFFFF).to_bytes(2, "big"))


def dateText(value: datetime) -> str:
    """The form of a moment, to the millisecond below. :raise HessianError: it has no time zone."""
    try:
        since = value - EPOCH
    except TypeError:
        raise HessianError("a datetime without a time zone") from None
    seconds, microseconds = since.days * 86_400 + since.seconds, since.microseconds
    if seconds % 60 or microseconds >= 1000:
        return _i64(0x4A, seconds * 1000 + microseconds // 1000).decode("latin-1")
    # Years up to 9999 have that many minutes: all below 2^32, but not all below 2^31.
    minutes = seconds // 60
    if -0x80000000 <= minutes < 0x80000000:
        return _i32(0x4B, minutes).decode("latin-1")
    return latin(_i64(0x4A, seconds * 1000))


def _six(match: Any) -> str:
    """The six bytes of a character of four, which are two surrogates."""
    one, two, three, four = map(ord, match.group())
    number = ((one & 7) << 18 | (two & 0x3F) << 12 | (three & 0x3F) << 6 | four & 0x3F) - 0x10000
    high, low = number >> 10, number & 0x3FF
    return (
        f"\xed{CHARACTERS[0xA0 | high >> 6]}{CHARACTERS[0x80 | high & 0x3F]}"
        f"\xed{CHARACTERS[0xB0 | low >> 6]}{CHARACTERS[0x80 | low & 0x3F]}"
    )


def _surrogates(match: Any) -> str:
    number = ord(match.group()) - 0x10000
    return chr(0xD800 + (number >> 10)) + chr(0xDC00 + (number & 0x3FF))


def _head(length: int) -> str:
    """What comes before the text of the last chunk."""
    if length < 32:
        return CHARACTERS[length]
    if length < 1024:
        return CHARACTERS[0x30 + (length >> 8)] + CHARACTERS[length & 0xFF]
    return "S" + length.to_bytes(2, "big").decode("latin-1")


def stringText(value: str) -> str:
    """The form of a string."""
    length = len(value)
    if value.isascii():
        return _head(length) + value if length <= CHUNK else _chunksText(value)
    try:
        data, wide = value.encode(), value.encode("utf-16")
    except UnicodeEncodeError:
        data, wide = value.encode("utf-8", "surrogatepass"), value.encode("utf-16", "surrogatepass")
    # There are two bytes of a mark, and two for each unit.
    units = len(wide) // 2 - 1
    if units > CHUNK:
        return _chunksText(value if units == length else _ASTRAL.sub(_surrogates, value))
    text = data.decode("latin-1")
    return _head(units) + (text if units == length else _FOUR.sub(_six, text))


def binaryHead(length: int) -> bytes:
    """What comes before the bytes of the last chunk of a binary."""
    if length < 16:
        return bytes((0x20 + length,))
    return (0x3400 + length).to_bytes(2, "big") if length < 1024 else b"B" + length.to_bytes(2, "big")


def _chunksText(value: str) -> str:
    """The form of a long string that has a character for each unit. No chunk ends with the first of two surrogates."""
    pieces: list[str] = []
    at, length = 0, len(value)
    while length - at > CHUNK:
        end = at + CHUNK
        if "\ud800" <= value[end - 1] <= "\udbff":
            end -= 1
        piece = value[at:end].encode("utf-8", "surrogatepass").decode("latin-1")
        pieces += ("R", latin((end - at).to_bytes(2, "big")), piece)
        at = end
    pieces += (_head(length - at), value[at:].encode("utf-8", "surrogatepass").decode("latin-1"))
    return "".join(pieces)


#: What makes the text of a value, by its type.
TEXTS: dict[type[Any], Callable[[Any], str]] = {
    type(None): noneText,
    bool: boolText,
    int: intText,
    Long: longText,
    float: doubleText,
    Double: doubleText,
    datetime: dateText,
    str: stringText,
}

#: Added to a float and taken off again, it leaves the whole number next to it: 1.5 times 2 to the power 52.
_WHOLE = 6755399441055744.0


def _doublesText(values: Sequence[float]) -> str:
    """The forms of many doubles: all in nine bytes, but for those that may have a shorter form."""
    text = _packed(values, b"D", _manyF64)
    pieces: list[str] = []
    start = 0
    for number, value in enumerate(values):
        # Of thousandths, the same as round(value * 1000.0) / 1000.0: large ones, which differ, have no shorter form.
        if (value * 1000.0 + _WHOLE - _WHOLE) / 1000.0 == value:
            at = number * 9
            pieces += (text[start:at], doubleText(value))
            start = at + 9
    pieces.append(text[start:])
    return "".join(pieces)


def _packed(values: Sequence[float], tag: bytes, form: Struct) -> str:
    """Values of one size, each behind its first byte: the form has so many of them."""
    size = form.size // _AT_ONCE
    whole = len(values) // _AT_ONCE * _AT_ONCE
    parts = [form.pack(*values[at : at + _AT_ONCE]) for at in range(0, whole, _AT_ONCE)]
    rest = values[whole:]
    parts.append(form.pack(*rest, *[0] * (_AT_ONCE - len(rest)))[: len(rest) * size])
    data = bytearray(b"".join(parts))
    data[::size] = tag * len(values)
    return data.decode("latin-1")


#: The types of which lists may have many at once.
NUMBERS = frozenset({int, Long, float, datetime})


def numbersText(values: Sequence[Any], kind: type[Any]) -> str:
    """
    The forms of many values of one type, which is one of :py:data:`NUMBERS`.

    :raise HessianError: one has none.
    """
    if kind is int or kind is Long:
        low, high = min(values), max(values)
        if kind is int:
            if low >= -2048 and high < 2048:
                return "".join(map(INTS.__getitem__, values))
            if (low >= 0x40000 or high < -0x40000) and low >= -0x80000000 and high < 0x80000000:
                return _packed(values, b"I", _manyI32)
        if (low >= 0x80000000 and high < 1 << 63) or (high < -0x80000000 and low >= -1 << 63):
            return _packed(values, b"L", _manyI64)
    elif kind is float:
        return _doublesText(values)
    return "".join(map(TEXTS[kind], values))
