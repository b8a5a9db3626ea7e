"""Hessian: each form of the grammar is read, also those that are not written here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.rpc import hessian
from getty_tx.rpc.hessian import HessianError, JavaObject, Long, TypedList, TypedMap
from tests.support.hessian import isSame

#: Forms that the encoder does not write, or not for these values.
FORMS: list[tuple[str, list[Any]]] = [
    # Numbers in longer forms than they need.
    ("c800 d40000 4900000000", [0, 0, 0]),
    ("c82f d4002f 490000002f 49ffffffff", [47, 47, 47, -1]),
    ("f800 3c0000 5900000000 4c0000000000000000", [Long(0)] * 4),
    ("f80f 3c000f 59ffffffff 4cffffffffffffffff", [Long(15), Long(15), Long(-1), Long(-1)]),
    ("5900040000 597fffffff 5980000000", [Long(262144), Long(2**31 - 1), Long(-(2**31))]),
    ("5d00 5d01 5dff 5e0000 5effff 5f00000000 5f000003e8 5fffffffff", [0.0, 1.0, -1.0, 0.0, -1.0, 0.0, 1.0, -0.001]),
    ("440000000000000000 443ff0000000000000", [0.0, 1.0]),
    (
        "4b00000000 4affffffffffffffff",
        [datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)],
    ),
    ("4a0000000000000000", [datetime(1970, 1, 1, tzinfo=UTC)]),
    # Strings.
    ("3000 3003616263 530000 530003616263", ["", "abc", "", "abc"]),
    ("520001610162", ["ab"]),
    ("5200016152000162530001 63", ["abc"]),
    ("520000520000520002c3a9613001 62", ["\u00e9ab"]),
    ("52000161 00", ["a"]),
    ("520002eda0bdedb880 01 61", ["\U0001f600a"]),
    # A chunk between two surrogates, which no writer should make.
    ("520001eda0bd 01edb880", ["\U0001f600"]),
    ("520001eda0bd 0161", ["\ud83da"]),
    ("02edb880eda0bd", ["\ude00\ud83d"]),
    ("04 e4b8ad c3a9 61 e4b8ad 90", ["\u4e2d\u00e9a\u4e2d", 0]),
    ("01 c3a9 a9", ["\u00e9", 25]),
    # Binaries.
    ("3400 3403616263 420000 420003616263", [b"", b"abc", b"", b"abc"]),
    ("4100016120", [b"a"]),
    ("41000161 41000162 22 6364", [b"abcd"]),
    ("41000161 3402 6263 41000061 420001 61".replace("41000061", "410000"), [b"abc", b"a"]),
    # Lists.
    ("57 91 92 5a", [[1, 2]]),
    ("57 5a 5890 78", [[], [], []]),
    ("58 92 91 92", [[1, 2]]),
    ("58 49 00000001 91", [[1]]),
    ("55 016c 91 5a 55 90 92 5a", [TypedList("l", [1]), TypedList("l", [2])]),
    ("56 016c 91 91 56 90 c801 92", [TypedList("l", [1]), TypedList("l", [2])]),
    ("71 016c 91 71 90 92 70 c800", [TypedList("l", [1]), TypedList("l", [2]), TypedList("l")]),
    ("70 3001 6c 70 90", [TypedList("l"), TypedList("l")]),
    ("70 52 0001 6c 00 70 530001 6d 70 91", [TypedList("l"), TypedList("m"), TypedList("m")]),
    # Types are numbered for lists and maps together.
    ("4d 016d 91 92 5a 70 016c 4d 90 5a 70 91", [TypedMap("m", {1: 2}), TypedList("l"), TypedMap("m"), TypedList("l")]),
    ("4d 00 91 92 5a 70 90", [TypedMap("", {1: 2}), TypedList("")]),
    # Maps.
    ("48 5a 48 91 0161 5a", [{}, {1: "a"}]),
    # The last one of equal keys, and of equal fields, is what stays, as in Java.
    ("48 91 92 91 93 5a", [{1: 3}]),
    ("43 0141 92 0178 0178 60 91 92", [JavaObject("A", {"x": 2})]),
    # Definitions before all objects, several in a row, and those that nothing uses.
    ("43 0141 91 0178 43 0142 90 61 60 91", [JavaObject("B"), JavaObject("A", {"x": 1})]),
    ("43 0141 90 91", [1]),
    ("43 0141 90 7a 43 0142 90 61 60", [[JavaObject("B"), JavaObject("A")]]),
    # One within an object of another class, and one that is used before what follows it.
    (
        "43 0141 91 0178 60 43 0142 91 0179 61 92 60 61 93",
        [JavaObject("A", {"x": JavaObject("B", {"y": 2})}), JavaObject("A", {"x": JavaObject("B", {"y": 3})})],
    ),
    ("43 0141 91 0178 4f90 91 4f4900000000 92", [JavaObject("A", {"x": 1}), JavaObject("A", {"x": 2})]),
    ("43 3001 41 c801 52000178 00 60 4e", [JavaObject("A", {"x": None})]),
    ("48 43 0141 90 60 43 0142 90 61 5a", [{JavaObject("A"): JavaObject("B")}]),
]


class FormTests(SynchronousTestCase):
    """Bytes and what they are."""

    def test_read(self) -> None:
        """Each form."""
        for text, expected in FORMS:
            data = bytes.fromhex(text)
            read = hessian.decode(data)
            self.assertTrue(isSame(expected, read), (text, expected, read))

    def test_everyByte(self) -> None:
        """A value begins with each byte but four; 5a ends lists and maps."""
        none = {first for first in range(256) if "no value begins" in str(self.failureOf(bytes([first]) + b"\x00" * 3))}
        self.assertEqual(none, {0x40, 0x45, 0x47, 0x50})
        self.assertIn("has not begun", str(self.failureOf(b"Z")))

    def failureOf(self, data: bytes) -> HessianError | None:
        """The error of reading it."""
        try:
            hessian.decode(data)
        except HessianError as error:
            return error
        return None

    def test_everyInt(self) -> None:
        """All ints and longs of one and two bytes."""
        for first, last, less, kind in ((0x80, 0xBF, 0x90, int), (0xD8, 0xEF, 0xE0, Long)):
            for byte in range(first, last + 1):
                (value,) = hessian.decode(bytes([byte]))
                self.assertEqual((value, type(value)), (byte - less, kind))
        for first, zero, kind in ((0xC0, 0xC8, int), (0xF0, 0xF8, Long)):
            for number in range(first << 8, (first + 16) << 8):
                (value,) = hessian.decode(number.to_bytes(2, "big"))
                self.assertEqual((value, type(value)), (number - (zero << 8), kind))

    def test_thousandths(self) -> None:
        """As Java: a product, whose last bit may not be that of a division."""
        self.assertEqual(hessian.decode(bytes.fromhex("5f000007da")), [0.001 * 2010])


class ReferenceTests(SynchronousTestCase):
    """References count lists, maps and objects in the order of their beginning."""

    def test_order(self) -> None:
        """All kinds are counted, the outer ones first."""
        text = (
            "57"  # 0
            "78"  # 1
            "485a"  # 2
            "43014190 60"  # 3
            "70016c"  # 4
            "4d016d5a"  # 5
            "55905a"  # 6
            "5690 90"  # 7
            "5890"  # 8
            "4f90"  # 9
            "79 7a 78 485a" + "".join(f"51{0x90 + number:02x}" for number in range(14)) + "5a"  # 10: [11: [12, 13]]
        )
        (values,) = hessian.decode(bytes.fromhex(text))
        referred = values[-14:]
        expected = [values, *values[1 - 1 : 9], *[values[9], values[9][0], *values[9][0]]]
        self.assertEqual([id(one) for one in referred], [id(one) for one in expected])

    def test_cycles(self) -> None:
        """A list, map and object in itself, by each form."""
        for text in ("795190", "57 5190 5a", "5891 5190", "71016c5190", "55016c51905a", "56016c915190"):
            (value,) = hessian.decode(bytes.fromhex(text))
            self.assertIs(value[0], value)
        for text in ("48 91 5190 5a", "4d016d 91 5190 5a"):
            (value,) = hessian.decode(bytes.fromhex(text))
            self.assertIs(value[1], value)
        (value,) = hessian.decode(bytes.fromhex("430141910178 60 5190"))
        self.assertIs(value.fields["x"], value)

    def test_beforeTheEnd(self) -> None:
        """A reference to what is being read, from within a value of it."""
        (value,) = hessian.decode(bytes.fromhex("48 91 7a 5190 5191 5a"))
        self.assertIs(value[1][0], value)
        self.assertIs(value[1][1], value[1])

    def test_over(self) -> None:
        """Over all values of one Decoder."""
        decoder = hessian.Decoder(bytes.fromhex("7991 5190 430141910178 60 5190 71016c 5191 7190 5192"))
        first = decoder.read()
        self.assertIs(decoder.read(), first)
        one = decoder.read()
        self.assertIs(one.fields["x"], first)
        self.assertIs(decoder.read()[0], one)
        self.assertEqual(decoder.read(), [[one]])
        self.assertRaises(HessianError, decoder.read)

    def test_notThere(self) -> None:
        """To values, classes and types that are not there."""
        for text in ("5190", "79 5191", "78 518f", "7851 4980000000", "51 e0", "51 0161", "60", "6f", "4f90", "4f8f"):
            self.assertRaises(HessianError, hessian.decode, bytes.fromhex(text))
        for text in ("7090", "708f", "70016c7091", "5590", "569090", "4d905a", "4d8f5a", "70e0", "7020", "704e"):
            self.assertRaises(HessianError, hessian.decode, bytes.fromhex(text))


class InvalidTests(SynchronousTestCase):
    """What is not in the grammar."""

    def test_invalid(self) -> None:
        """An error that says where."""
        for text, at in (
            ("40", 0),
            ("9045", 1),
            ("5a", 0),
            ("7a915a", 2),
            ("43014191 90", 4),
            ("430141 0161", 3),
            ("4391", 1),
            ("43014191785a", 4),
            ("43 0141 8f", 0),
            ("48915a", 0),
            ("48 78 90 5a", 0),
            ("48 485a 90 5a", 0),
            ("48 43014191017860 78 90 5a", 0),
            ("58 e0", 1),
            ("58 8f", 0),
            ("56016c 4e", 3),
            ("52000161 90", 4),
            ("52000161 4e", 4),
            ("41000161 0161", 4),
            ("41000161 5200", 4),
            ("01ff", 1),
            ("01c3", 1),
            ("0180", 1),
            ("02c380 80", 3),
            ("01c080", 1),
            ("01e08080", 1),
            ("01f09f9880", 1),
            ("02f09f9880", 1),
            ("02f09f988061", 1),
            ("0461c3a9c3", 5),
            ("4a7fffffffffffffff", 0),
            ("4a8000000000000000", 0),
            ("4b80000000", 0),
        ):
            with self.assertRaises(HessianError, msg=text) as caught:
                hessian.decode(bytes.fromhex(text))
            self.assertEqual(caught.exception.at, at, (text, str(caught.exception)))

    def test_cut(self) -> None:
        """Each form ends where it ends: no value of any before it."""
        for text, expected in FORMS:
            data = bytes.fromhex(text)
            for end in range(len(data)):
                try:
                    read = hessian.decode(data[:end])
                except HessianError as error:
                    self.assertLessEqual(error.at or 0, end)
                else:
                    self.assertLess(len(read), len(expected))
                    self.assertTrue(isSame(expected[: len(read)], read), (text, end))

    def test_nothing(self) -> None:
        """No bytes are no values."""
        self.assertEqual(hessian.decode(b""), [])
        self.assertRaises(HessianError, hessian.Decoder(b"").read)
        self.assertRaises(HessianError, hessian.Decoder(b"N", at=1).read)
        self.assertRaises(HessianError, hessian.Decoder(b"NN").readMany, 3)
        self.assertRaises(HessianError, hessian.Decoder(b"\x05ab").read)
