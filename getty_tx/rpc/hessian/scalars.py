"""
Reading what holds no other values: numbers, dates, strings and binaries.

A string's length counts UTF-16 units, each of which is one to three bytes: characters above U+FFFF are two surrogates
of three bytes each (CESU-8). Strings of ASCII, which nearly all are, need no more than a slice of the message as
latin-1.

Readers are called with the offset of a value's first byte and leave the offset behind the value in ``at``. Where the
message ends within a value, an IndexError or a ``struct.error`` says so, or ``at`` is behind the message's end: whoever
calls the first reader looks for these.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from re import compile as regex
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from getty_tx.rpc.hessian.limits import HessianError
from getty_tx.rpc.hessian.values import Long

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EPOCH", "MORE", "ONE", "ScalarReader"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Up to so many milliseconds a float of seconds is exact to the microsecond.
_EXACT = 2**32 * 1000

_i16 = Struct(">h").unpack_from
_u16 = Struct(">H").unpack_from
_i32 = Struct(">i").unpack_from
_i64 = Struct(">q").unpack_from
_f64 = Struct(">d").unpack_from

#: In :py:data:`ONE`, for a first byte that is not the whole value.
MORE = object()

#: The values of one byte, by the byte.
ONE: list[Any] = [MORE] * 256
ONE[0x00] = ""
ONE[0x20] = b""
ONE[0x46], ONE[0x54], ONE[0x4E] = False, True, None
ONE[0x5B], ONE[0x5C] = 0.0, 1.0
ONE[0x80:0xC0] = range(-16, 48)
ONE[0xD8:0xF0] = map(Long, range(-8, 16))

#: All bytes but those that begin a character of four bytes, or no character.
_SHORTER = bytes(range(0xF0))

#: Two surrogates, of three bytes each.
_PAIR = regex(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def _character(match: Any) -> bytes:
    """The character of two surrogates."""
    _, one, two, _, three, four = match.group()
    high, low = (one & 0x0F) << 6 | two & 0x3F, (three & 0x0F) << 6 | four & 0x3F
    return chr(0x10000 + (high << 10 | low)).encode()


def _joined(text: str) -> str:
    """Make one character of each pair of surrogates; those that are alone stay."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


class ScalarReader:
    """
    A message, and how far it is read. What extends it sets the attributes.

    :ivar at: the offset behind the last value that was read.
    """

    __slots__ = ("_data", "_maxLength", "_size", "_text", "at")

    _data: bytes
    #: The message as latin-1, once a short string was read.
    _text: str | None
    _size: int
    #: Of a string in units, of a binary in bytes.
    _maxLength: int
    at: int

    def _tooLong(self, what: str, length: int, at: int) -> NoReturn:
        if length < 0:
            raise HessianError(f"a {what} of {length}", at)
        if length > self._maxLength:
            raise HessianError(f"a {what} of {length}: at most {self._maxLength}", at)
        raise HessianError(f"a {what} of {length}, and {max(self._size - self.at, 0)} bytes behind it", at)

    def _other(self, at: int) -> NoReturn:
        raise HessianError(f"no value begins with 0x{self._data[at]:02x}", at)

    # Numbers and dates.

    def _int2(self, at: int) -> int:
        self.at = at + 2
        return ((self._data[at] - 0xC8) << 8) + self._data[at + 1]

    def _int3(self, at: int) -> int:
        self.at = at + 3
        data = self._data
        return ((data[at] - 0xD4) << 16) + (data[at + 1] << 8) + data[at + 2]

    def _int4(self, at: int) -> int:
        self.at = at + 5
        value: int = _i32(self._data, at + 1)[0]
        return value

    def _long2(self, at: int) -> Long:
        self.at = at + 2
        return Long(((self._data[at] - 0xF8) << 8) + self._data[at + 1])

    def _long3(self, at: int) -> Long:
        self.at = at + 3
        data = self._data
        return Long(((data[at] - 0x3C) << 16) + (data[at + 1] << 8) + data[at + 2])

    def _long4(self, at: int) -> Long:
        self.at = at + 5
        return Long(_i32(self._data, at + 1)[0])

    def _long8(self, at: int) -> Long:
        self.at = at + 9
        return Long(_i64(self._data, at + 1)[0])

    def _double1(self, at: int) -> float:
        self.at = at + 2
        byte = self._data[at + 1]
        return float(byte if byte < 128 else byte - 256)

    def _double2(self, at: int) -> float:
        self.at = at + 3
        return float(_i16(self._data, at + 1)[0])

    def _doubleThousandths(self, at: int) -> float:
        # As Java does, whose result may differ from that of a division in the last bit.
        self.at = at + 5
        return 0.001 * float(_i32(self._data, at + 1)[0])

    def _double8(self, at: int) -> float:
        self.at = at + 9
        value: float = _f64(self._data, at + 1)[0]
        return value

    def _date(self, at: int) -> datetime:
        self.at = at + 9
        milliseconds = _i64(self._data, at + 1)[0]
        if -_EXACT < milliseconds < _EXACT:
            return datetime.fromtimestamp(milliseconds / 1000, UTC)
        try:
            return EPOCH + timedelta(milliseconds=milliseconds)
        except OverflowError:
            raise HessianError(f"a date of {milliseconds} ms: years from 1 to 9999 only", at) from None

    def _minutes(self, at: int) -> datetime:
        self.at = at + 5
        minutes = _i32(self._data, at + 1)[0]
        try:
            return EPOCH + timedelta(minutes=minutes)
        except OverflowError:
            raise HessianError(f"a date of {minutes} minutes: years from 1 to 9999 only", at) from None

    # Strings.

    def _units(self, at: int, count: int) -> str:
        """The text of so many UTF-16 units; pairs of surrogates are one character."""
        if count > self._maxLength:
            self._tooLong("string", count, at)
        self.at = end = at + count
        # A slice of the bytes: the message as text is made for short strings alone.
        text = self._data[at:end].decode("latin-1")
        return text if text.isascii() else self._notASCII(at, count)

    def _notASCII(self, at: int, count: int) -> str:
        # As many bytes as there can be; what is behind the text is read over, whatever it is.
        data = self._data[at : at + 3 * count]
        text = data.decode("utf-8", "surrogateescape")
        try:
            if len(text) == count:
                # Nothing is: as of most texts in Chinese.
                length = len(data)
            else:
                text = text[:count]
                length = len(text.encode())
            # In UTF-16 there are two bytes of a mark, and two for each unit: no character has two of these.
            wide = len(text.encode("utf-16"))
        except UnicodeEncodeError:
            return self._surrogates(at, count)
        if len(text) != count or wide != 2 * count + 2:
            return self._surrogates(at, count)
        self.at = at + length
        return text

    def _surrogates(self, at: int, count: int) -> str:
        """A text with surrogates, or one that is invalid."""
        data, end = self._data, at
        for _ in range(count):
            first = data[end]
            end += 1 if first < 0x80 else 2 if first < 0xE0 else 3
        raw = data[at:end]
        if raw.translate(None, _SHORTER):
            raise HessianError("a string with a character of four bytes, which are two surrogates in Hessian", at)
        self.at = end
        try:
            return _PAIR.sub(_character, raw).decode()
        except UnicodeDecodeError:
            pass
        try:
            return _joined(raw.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError as error:
            raise HessianError(f"a string that is not UTF-8: {error.reason}", at + error.start) from None

    def _shortString(self, at: int) -> str:
        return self._units(at + 1, self._data[at])

    def _middleString(self, at: int) -> str:
        data = self._data
        return self._units(at + 2, ((data[at] - 0x30) << 8) + data[at + 1])

    def _string(self, at: int) -> str:
        return self._units(at + 3, _u16(self._data, at + 1)[0])

    def _chunkedString(self, at: int) -> str:
        start, data = at, self._data
        parts: list[str] = []
        total = 0
        while data[at] == 0x52:
            count = _u16(data, at + 1)[0]
            total += count
            if total > self._maxLength:
                self._tooLong("string", total, start)
            parts.append(self._units(at + 3, count))
            at = self.at
        behind, count = self._head(at, "the rest of a string")
        if total + count > self._maxLength:
            self._tooLong("string", total + count, start)
        parts.append(self._units(behind, count))
        text = "".join(parts)
        try:
            text.encode()
        except UnicodeEncodeError:
            # Some writers end chunks between two surrogates.
            return _joined(text)
        return text

    def _head(self, at: int, what: str) -> tuple[int, int]:
        """Where the text of a string begins that is not in chunks, or is the last of them, and its length."""
        data = self._data
        tag = data[at]
        if tag < 0x20:
            return at + 1, tag
        if 0x30 <= tag <= 0x33:
            return at + 2, ((tag - 0x30) << 8) + data[at + 1]
        if tag == 0x53:
            return at + 3, _u16(data, at + 1)[0]
        raise HessianError(f"0x{tag:02x} in place of {what}", at)

    def _name(self, at: int, what: str) -> str:
        """A string that has to be there."""
        return self._chunkedString(at) if self._data[at] == 0x52 else self._units(*self._head(at, what))

    def _count(self, at: int, what: str) -> int:
        """An int that has to be there."""
        tag = self._data[at]
        if 0x80 <= tag <= 0xBF:
            self.at = at + 1
            return tag - 0x90
        if 0xC0 <= tag <= 0xCF:
            return self._int2(at)
        if 0xD0 <= tag <= 0xD7:
            return self._int3(at)
        if tag == 0x49:
            return self._int4(at)
        raise HessianError(f"0x{tag:02x} in place of {what}", at)

    # Binaries.

    def _bytes(self, at: int, count: int) -> bytes:
        if count > self._maxLength:
            self._tooLong("binary", count, at)
        self.at = end = at + count
        return self._data[at:end]

    def _shortBinary(self, at: int) -> bytes:
        return self._bytes(at + 1, self._data[at] - 0x20)

    def _middleBinary(self, at: int) -> bytes:
        data = self._data
        return self._bytes(at + 2, ((data[at] - 0x34) << 8) + data[at + 1])

    def _binary(self, at: int) -> bytes:
        return self._bytes(at + 3, _u16(self._data, at + 1)[0])

    def _chunkedBinary(self, at: int) -> bytes:
        start, data = at, self._data
        parts: list[bytes] = []
        total = 0
        while True:
            tag = data[at]
            if tag == 0x41 or tag == 0x42:
                part = self._binary(at)
            elif 0x20 <= tag <= 0x2F:
                part = self._shortBinary(at)
            elif 0x34 <= tag <= 0x37:
                part = self._middleBinary(at)
            else:
                raise HessianError(f"0x{tag:02x} in place of a binary", at)
            parts.append(part)
            total += len(part)
            if total > self._maxLength:
                self._tooLong("binary", total, start)
            if tag != 0x41:
                return b"".join(parts)
            at = self.at

    #: The readers by the first byte of what they read.
    scalars: ClassVar[dict[int, Callable[[Any, int], Any]]] = {
        **dict.fromkeys(range(0x100), _other),
        **dict.fromkeys(range(0x20), _shortString),
        **dict.fromkeys(range(0x20, 0x30), _shortBinary),
        **dict.fromkeys(range(0x30, 0x34), _middleString),
        **dict.fromkeys(range(0x34, 0x38), _middleBinary),
        **dict.fromkeys(range(0x38, 0x40), _long3),
        0x41: _chunkedBinary,
        0x42: _binary,
        0x44: _double8,
        0x49: _int4,
        0x4A: _date,
        0x4B: _minutes,
        0x4C: _long8,
        0x52: _chunkedString,
        0x53: _string,
        0x59: _long4,
        0x5D: _double1,
        0x5E: _double2,
        0x5F: _doubleThousandths,
        **dict.fromkeys(range(0xC0, 0xD0), _int2),
        **dict.fromkeys(range(0xD0, 0xD8), _int3),
        **dict.fromkeys(range(0xF0, 0x100), _long2),
    }
