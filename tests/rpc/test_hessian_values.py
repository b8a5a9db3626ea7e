"""Hessian: golden bytes both ways, and values that come back as they were."""

from __future__ import annotations

import copy
import enum
import math
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.rpc import PayloadError, hessian
from getty_tx.rpc.hessian import Double, HessianError, JavaObject, Long, TypedList, TypedMap
from getty_tx.rpc.hessian.texts import CHUNK
from tests.support.hessian import isSame, longs, values
from tests.support.long import examples

#: From the specification and from what Java writes.
GOLDEN: list[tuple[Any, str]] = [
    (None, "4e"),
    (True, "54"),
    (False, "46"),
    (0, "90"),
    (-16, "80"),
    (47, "bf"),
    (48, "c830"),
    (-17, "c7ef"),
    (-2048, "c000"),
    (2047, "cfff"),
    (2048, "d40800"),
    (-2049, "d3f7ff"),
    (-262144, "d00000"),
    (262143, "d7ffff"),
    (262144, "4900040000"),
    (-262145, "49fffbffff"),
    (2**31 - 1, "497fffffff"),
    (-(2**31), "4980000000"),
    (Long(0), "e0"),
    (Long(-8), "d8"),
    (Long(15), "ef"),
    (Long(16), "f810"),
    (Long(-9), "f7f7"),
    (Long(-2048), "f000"),
    (Long(2047), "ffff"),
    (Long(2048), "3c0800"),
    (Long(-262144), "380000"),
    (Long(262143), "3fffff"),
    (Long(262144), "5900040000"),
    (Long(-(2**31)), "5980000000"),
    (2**31, "4c0000000080000000"),
    (2**40, "4c0000010000000000"),
    (-(2**63), "4c8000000000000000"),
    (0.0, "5b"),
    (1.0, "5c"),
    (-0.0, "448000000000000000"),
    (-128.0, "5d80"),
    (127.0, "5d7f"),
    (128.0, "5e0080"),
    (-32768.0, "5e8000"),
    (32768.0, "5f01f40000"),
    (12.25, "5f00002fda"),
    (-0.001, "5fffffffff"),
    (math.pi, "44400921fb54442d18"),
    (math.inf, "447ff0000000000000"),
    (datetime(1998, 5, 8, 9, 51, 31, tzinfo=UTC), "4a000000d04b9284b8"),
    (datetime(1998, 5, 8, 9, 51, tzinfo=UTC), "4b00e3838f"),
    (datetime(1969, 12, 31, 23, 59, tzinfo=UTC), "4bffffffff"),
    ("", "00"),
    ("hello", "0568656c6c6f"),
    ("\u00e9", "01c3a9"),
    ("\U0001f600", "02eda0bdedb880"),
    ("\ud83d", "01eda0bd"),
    ("\x00", "0100"),
    ("a" * 31, "1f" + "61" * 31),
    ("a" * 32, "3020" + "61" * 32),
    ("a" * 1023, "33ff" + "61" * 1023),
    ("a" * 1024, "530400" + "61" * 1024),
    ("a" * 32768, "538000" + "61" * 32768),
    ("a" * 32769, "528000" + "61" * 32768 + "0161"),
    (b"", "20"),
    (b"\x00\xff", "2200ff"),
    (b"a" * 15, "2f" + "61" * 15),
    (b"a" * 16, "3410" + "61" * 16),
    (b"a" * 1023, "37ff" + "61" * 1023),
    (b"a" * 1024, "420400" + "61" * 1024),
    (b"a" * 32769, "418000" + "61" * 32768 + "21" + "61"),
    ([], "78"),
    ([1, 2], "7a9192"),
    ([0] * 7, "7f" + "90" * 7),
    ([0] * 8, "5898" + "90" * 8),
    (TypedList("[int", [0, 1]), "72045b696e749091"),
    (TypedList("[int", [0] * 8), "56045b696e7498" + "90" * 8),
    ([TypedList("a", []), TypedList("a", [])], "7a70016170 90".replace(" ", "")),
    ({}, "485a"),
    ({"a": 1}, "480161915a"),
    (TypedMap("com.caucho.test.Car", {1: "fee"}), "4d13636f6d2e63617563686f2e746573742e4361729103666565" + "5a"),
    (JavaObject("Car", {"color": "red"}), "43034361729105636f6c6f726003726564"),
    (
        [JavaObject("Car", {"color": "red"}), JavaObject("Car", {"color": "b"})],
        "7a43034361729105636f6c6f726003726564" + "600162",
    ),
]


class GoldenTests(SynchronousTestCase):
    """Each value has one shortest form."""

    def test_both(self) -> None:
        """It is what is written, and it is read as the value again."""
        for value, text in GOLDEN:
            data = bytes.fromhex(text)
            self.assertEqual(hessian.encode(value).hex(), text)
            for given_ in (data, bytearray(data), memoryview(data)):
                (read,) = hessian.decode(given_)
                self.assertTrue(isSame(value, read), (value, read))

    def test_several(self) -> None:
        """Values one after the other: a call of Dubbo."""
        data = bytes.fromhex(
            "05322e302e32 0b636f6d2e65782e4563686f 03312e30 03736179 124c6a6176612f6c616e672f537472696e673b 026869"
            "48 0470617468 0b636f6d2e65782e4563686f 0776657273696f6e 03312e30 5a"
        )
        call = ["2.0.2", "com.ex.Echo", "1.0", "say", "Ljava/lang/String;", "hi"]
        call.append({"path": "com.ex.Echo", "version": "1.0"})
        self.assertEqual(hessian.encode(*call), data)
        self.assertEqual(hessian.decode(data), call)
        decoder = hessian.Decoder(b"head" + data + b"N", at=4)
        self.assertEqual(decoder.readMany(4), call[:4])
        self.assertEqual([decoder.read() for _ in range(3)], call[4:])
        self.assertEqual((decoder.at, decoder.left), (4 + len(data), 1))
        self.assertEqual(decoder.readAll(), [None])
        self.assertEqual(decoder.left, 0)

    def test_nan(self) -> None:
        """It is no number, and stays none."""
        self.assertEqual(hessian.encode(math.nan).hex(), "447ff8000000000000")
        self.assertTrue(math.isnan(hessian.decode(hessian.encode(math.nan))[0]))

    def test_thousandths(self) -> None:
        """Java multiplies by 0.001, and others divide by 1,000: only what is the same for both has this form."""
        for number in range(-70_000, 70_000, 7):
            for value in (number / 1000, 0.001 * number):
                data = hessian.encode(value)
                self.assertEqual(hessian.decode(data), [value])
                if data[0] == 0x5F:
                    self.assertEqual(int.from_bytes(data[1:], "big", signed=True) / 1000, value)

    def test_many(self) -> None:
        """More than 16 classes, and as many types; definitions with other fields are other definitions."""
        objects = [JavaObject(f"C{number % 40}", {"a": number, f"f{number % 3}": None}) for number in range(400)]
        lists = [TypedList(f"[t{number % 30}", [number]) for number in range(100)]
        maps = [TypedMap(f"[t{number % 30}", {number: number}) for number in range(100)]
        data = hessian.encode(objects, lists, maps)
        self.assertTrue(isSame([objects, lists, maps], [*hessian.decode(data)]))
        self.assertEqual(data.count(b"C\x02C7\x92"), 3)


class RoundTripTests(SynchronousTestCase):
    """Random values."""

    @settings(max_examples=examples(400))
    @given(values)
    def test_any(self, value: Any) -> None:
        """Each comes back as it was, with its types, and has the same bytes again."""
        data = hessian.encode(value, value)
        read = hessian.decode(data)
        self.assertTrue(isSame([value, value], read), (value, read))
        self.assertEqual(hessian.encode(*read), data)

    @given(longs)
    def test_ints(self, number: int) -> None:
        """The shortest form for each, as an int and as a long."""
        self.assertEqual(hessian.decode(hessian.encode(number, Long(number))), [number, number])

    @settings(max_examples=examples(300))
    @given(st.data(), st.integers(8, 100))
    def test_numbers(self, data: Any, count: int) -> None:
        """Many numbers of one type in a list have the bytes that they have one by one."""
        doubles = st.one_of(st.floats(), st.integers(-(2**33), 2**33).map(lambda number: number / 1000))
        large = st.integers(2**31, 2**63 - 1)
        same = (longs, longs.map(Long), large, large.map(lambda number: Long(-number)), doubles)
        numbers = data.draw(st.sampled_from(same).flatmap(lambda one: st.lists(one, min_size=count, max_size=count)))
        expected = b"X" + hessian.encode(count) + b"".join(map(hessian.encode, numbers))
        self.assertEqual(hessian.encode(numbers).hex(), expected.hex())

    @settings(max_examples=examples(60))
    @given(st.text("a\u00e9\u4e2d\U0001f600\ude00", min_size=1, max_size=9), st.integers(1, 12_000))
    def test_longText(self, text: str, count: int) -> None:
        """Chunks of at most 32,768 units, none of which ends between two surrogates."""
        text = (text * count).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        data = hessian.encode(text)
        self.assertEqual(hessian.decode(data), [text])
        units = len(text.encode("utf-16-le", "surrogatepass")) // 2
        at = 0
        while data[at] == 0x52:
            size = int.from_bytes(data[at + 1 : at + 3], "big")
            self.assertIn(size, (CHUNK, CHUNK - 1))
            units -= size
            at += 3
            for _ in range(size):
                last, at = at, at + (1 if data[at] < 0x80 else 2 if data[at] < 0xE0 else 3)
            self.assertFalse(data[last] == 0xED and 0xA0 <= data[last + 1] < 0xB0, "it ends with a high surrogate")
        self.assertLessEqual(units, CHUNK)

    @settings(max_examples=examples(200))
    @given(st.data())
    def test_graphs(self, data: Any) -> None:
        """Lists, maps and objects that refer to one another and to themselves."""
        nodes: list[Any] = []
        for kind in data.draw(st.lists(st.sampled_from("lmotp"), min_size=1, max_size=8)):
            made: dict[str, Any] = {
                "l": [],
                "m": {},
                "o": JavaObject("A", {"x": None, "y": None}),
                "t": TypedList("[A", []),
                "p": TypedMap("B", {}),
            }
            nodes.append(made[kind])
        for node in nodes:
            targets = data.draw(st.lists(st.sampled_from(nodes), max_size=3))
            if isinstance(node, list):
                node.extend(targets)
            else:
                pairs = dict(zip("xyz", targets, strict=False))
                (node if isinstance(node, dict) else node.fields).update(pairs)
        encoded = hessian.encode(*nodes)
        self.assertTrue(isSame(nodes, hessian.decode(encoded)))


class EncoderTests(SynchronousTestCase):
    """What is written, and what cannot be."""

    def test_shared(self) -> None:
        """Writes share references, definitions and types, also after what was written has been taken."""
        encoder = hessian.Encoder()
        shared = [JavaObject("A", {"x": 1})]
        encoder.write(shared)
        self.assertEqual(encoder.take().hex(), "79430141910178" + "6091")
        encoder.write(shared[0])
        encoder.write(shared)
        encoder.write(JavaObject("A", {"x": 2}))
        self.assertEqual(encoder.take().hex(), "5191" + "5190" + "6092")
        self.assertEqual(encoder.take(), b"")

    def test_kept(self) -> None:
        """What was written is kept, so that nothing new has its identity."""
        encoder = hessian.Encoder()
        for number in range(100):
            encoder.write([number])
        self.assertEqual(hessian.decode(encoder.take()), [[number] for number in range(100)])

    def test_subclasses(self) -> None:
        """They are written as what they are made of."""

        class Colour(enum.IntEnum):
            RED = 3

        class Name(str):
            pass

        class Names(list[Any]):
            pass

        class Day(datetime):
            pass

        day = Day(2020, 1, 1, tzinfo=UTC)
        given_ = (Colour.RED, Name("x"), Name("\u00e9" * 40), Names([1]), Double(1), day, bytearray(b"x"))
        self.assertEqual(
            hessian.decode(hessian.encode(*given_, memoryview(b"x" * 1000), (1, 2))),
            [3, "x", "\u00e9" * 40, [1], 1.0, day, b"x", b"x" * 1000, [1, 2]],
        )
        self.assertEqual(hessian.encode(Double(1), 1), b"\\\x91")

    def test_zones(self) -> None:
        """Dates are moments, to the millisecond."""
        zone = timezone(timedelta(hours=5, minutes=30))
        date = datetime(2024, 2, 29, 12, 0, 0, 123_999, tzinfo=zone)
        self.assertEqual(hessian.decode(hessian.encode(date)), [datetime(2024, 2, 29, 6, 30, 0, 123_000, tzinfo=UTC)])

    def test_refused(self) -> None:
        """What has no form, wherever it is; the Encoder goes on as if it had not been asked."""
        cyclic: list[Any] = []
        deep: list[Any] = []
        for _ in range(5000):
            deep = [deep]
        cases: list[Any] = [object(), {1, 2}, 1j, 2**63, -(2**63) - 1, Long(2**63), datetime(2020, 1, 1), deep]
        cases += [TypedList(3, []), TypedMap(None, {}), JavaObject(3, {}), JavaObject("A", {3: 4}), print]  # type: ignore[arg-type]
        cases += [TypedList([], []), JavaObject([], {})]  # type: ignore[arg-type]
        for case in cases:
            encoder = hessian.Encoder()
            encoder.write(["before", b"x" * 3000, cyclic])
            kept = [JavaObject("New", {"x": 1}), TypedList("new", [1]), b"y" * 3000, {"a": case}]
            for bad in (case, kept, {"k": kept}):
                with self.assertRaises(HessianError) as caught:
                    encoder.write(bad)
                self.assertIsNone(caught.exception.at)
            encoder.writeMany([cyclic, kept[:2]])
            expected = [["before", b"x" * 3000, cyclic], cyclic, kept[:2]]
            self.assertTrue(isSame(expected, hessian.decode(encoder.take())))

    def test_errors(self) -> None:
        """They are payload errors, which a call fails with."""
        self.assertTrue(issubclass(HessianError, PayloadError))
        self.assertEqual(HessianError("x").code, "payload")
        self.assertEqual(str(HessianError("x", 3)), "at byte 3: x")


class ValueTests(SynchronousTestCase):
    """The types of their own."""

    def test_compare(self) -> None:
        """As what they are made of; objects by name and fields."""
        self.assertEqual(Long(5), 5)
        self.assertEqual(TypedList("a", [1]), [1])
        self.assertEqual(TypedMap("a", {1: 2}), {1: 2})
        self.assertEqual(JavaObject("a", [("x", 1)]), JavaObject("a", {"x": 1}))
        self.assertNotEqual(JavaObject("a", {"x": 1}), JavaObject("b", {"x": 1}))
        self.assertNotEqual(JavaObject("a", {"x": 1}), JavaObject("a", {"x": 2}))
        self.assertNotEqual(JavaObject("a"), "a")

    def test_keys(self) -> None:
        """An enum is a key of a map."""
        one, other = JavaObject("Colour", {"name": "RED"}), JavaObject("Colour", {"name": "BLUE"})
        self.assertEqual(hessian.decode(hessian.encode({one: 1, other: 2})), [{one: 1, other: 2}])
        with self.assertRaises(TypeError):
            hash(JavaObject("a", {"x": [1]}))

    def test_shown(self) -> None:
        """Also when they hold themselves."""
        thing = JavaObject("a.B", {"x": TypedList("[int", [1]), "y": TypedMap("m", {1: 2})})
        thing.fields["z"] = thing
        self.assertEqual(
            repr(thing), "JavaObject('a.B', {'x': TypedList('[int', [1]), 'y': TypedMap('m', {1: 2}), 'z': ...})"
        )

    def test_copied(self) -> None:
        """Copies and pickles keep the types."""
        value = [Long(1), TypedList("a", [1]), TypedMap("b", {1: 2}), JavaObject("c", {"x": Double(1)})]
        for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            self.assertEqual(repr(other), repr(value))
            self.assertEqual([type(one) for one in other], [type(one) for one in value])
