"""Hessian from strangers: limits, and random, cut and changed bytes. An error or a value, and never much work."""

from __future__ import annotations

import random
import sys
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.rpc import hessian
from getty_tx.rpc.hessian import HessianError, JavaObject, Limits
from tests.support.hessian import values
from tests.support.long import examples


def tried(data: bytes, limits: Limits | None = None) -> list[Any] | HessianError:
    """The values, or the error; any other error is the test's failure."""
    try:
        return hessian.decode(data, limits or Limits())
    except HessianError as error:
        return error


class LimitTests(SynchronousTestCase):
    """Each limit: as much as it says, and not more."""

    def check(self, limits: Limits, good: str, bad: str, said: str) -> None:
        """One is read, and the other refused with a text."""
        self.assertEqual(len(hessian.decode(bytes.fromhex(good), limits)), 1)
        with self.assertRaises(HessianError) as caught:
            hessian.decode(bytes.fromhex(bad), limits)
        self.assertIn(said, str(caught.exception))

    def test_depth(self) -> None:
        """Levels, of all kinds."""
        limits = Limits(maxDepth=4)
        for begin, end in (
            ("79", ""),
            ("5891", ""),
            ("57", "5a"),
            ("71 016c", ""),
            ("56 016c 91", ""),
            ("55 016c", "5a"),
            ("48 90", "5a"),
            ("4d 016d 90", "5a"),
            ("43 0141 91 0178 60", ""),
            ("43 0141 91 0178 4f90", ""),
        ):
            self.check(limits, begin * 3 + "78" + end * 3, begin * 4 + "78" + end * 4, "nested too deep")
            self.assertIn("nested too deep", str(tried(bytes.fromhex(begin * 100_000))))

    def test_depthOfAll(self) -> None:
        """The levels of one value are no more for the next."""
        deepest = hessian.limits.DEEPEST
        for level in ("79", "57", "4890", "43014191017860", "71016c"):
            end = "5a" if level in ("57", "4890") else ""
            one = bytes.fromhex(level * (deepest - 1) + "78" + end * (deepest - 1))
            self.assertEqual(len(hessian.decode(one * 2, Limits(maxDepth=deepest))), 2)

    def test_stack(self) -> None:
        """Levels take nothing of Python's stack, which the caller may have used up."""

        def below(levels: int) -> Any:
            return below(levels - 1) if levels else tried(b"\x79" * 60 + b"\x78")

        depth = len(self.stack())
        self.assertEqual(len(below(sys.getrecursionlimit() - depth - 40)), 1)

    def stack(self) -> list[Any]:
        """The frames below."""
        frame, frames = sys._getframe(), []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back  # type: ignore[assignment]
        return frames

    def test_references(self) -> None:
        """Lists, maps and objects, all together."""
        limits = Limits(maxReferences=4)
        for one in ("78", "5890", "575a", "485a", "4d905a", "60", "4f90", "7090", "569090", "55905a"):
            begin = "43014190" + "57" + "70016c"
            self.check(limits, begin + one * 2 + "5a", begin + one * 3 + "5a", "more than 4 lists, maps and objects")

    def test_definitions(self) -> None:
        """Of classes, and names of types."""
        limits = Limits(maxDefinitions=3)
        self.check(limits, "43014190" * 3 + "90", "43014190" * 4 + "90", "more than 3 definitions")
        self.check(limits, "57" + "70016c" * 3 + "5a", "57" + "70016c" * 4 + "5a", "more than 3 types")
        self.assertIn("definitions", str(tried(bytes.fromhex("43014190" * 200_000))))

    def test_lengths(self) -> None:
        """Of strings in units, of binaries in bytes, of lists, maps and objects in values."""
        limits = Limits(maxLength=32)
        for good, bad, said in (
            ("3020" + "61" * 32, "3021" + "61" * 33, "a string of 33"),
            ("530020" + "61" * 32, "530021" + "61" * 33, "a string of 33"),
            (
                "52001061616161616161616161616161616161" + "10" + "61" * 16,
                "520010" + "61" * 16 + "11" + "61" * 17,
                "of 33",
            ),
            ("520020" + "61" * 32 + "00", "520021" + "61" * 33 + "00", "a string of 33"),
            ("3020" + "eda0bdedb880" * 16, "3022" + "eda0bdedb880" * 17, "a string of 34"),
            ("3420" + "61" * 32, "3421" + "61" * 33, "a binary of 33"),
            ("420020" + "61" * 32, "420021" + "61" * 33, "a binary of 33"),
            ("410010" + "61" * 16 + "3410" + "61" * 16, "410012" + "61" * 18 + "2f" + "61" * 15, "a binary of 33"),
            ("58b0" + "90" * 32, "58b1" + "90" * 33, "a list of 33"),
            ("5600b0" + "90" * 32, "5600b1" + "90" * 33, "a list of 33"),
            ("57" + "90" * 32 + "5a", "57" + "90" * 33 + "5a", "a list of 33"),
            ("5500" + "90" * 32 + "5a", "5500" + "90" * 33 + "5a", "a list of 33"),
            ("48" + "9090" * 32 + "5a", "48" + "9090" * 33 + "5a", "a map of 33"),
            ("430141b0" + "0178" * 32 + "90", "430141b1" + "0178" * 33 + "90", "a definition of 33"),
        ):
            self.check(limits, good, bad, said)

    def test_settings(self) -> None:
        """Limits that are none."""
        for options in (
            {"maxDepth": 0},
            {"maxDepth": 129},
            {"maxLength": 31},
            {"maxReferences": 0},
            {"maxDefinitions": -1},
            {"maxDepth": "8"},
            {"maxReferences": 1.5},
        ):
            self.assertRaises(SettingError, Limits, **options)


class HostileTests(SynchronousTestCase):
    """Bytes that want more than they are."""

    def test_announced(self) -> None:
        """Lengths of up to 2**31 with nothing behind them, or little: no memory is taken for them."""
        tracemalloc.start()
        try:
            for text in (
                "58 49 7fffffff",
                "58 49 80000000",
                "58 49 ffffffff",
                "56 016c 49 7fffffff",
                "43 0141 49 7fffffff",
                "43 0141 49 80000000",
                "43 0141 49 00100000 0178",
                "51 49 7fffffff",
                "4f 49 7fffffff",
                "56 49 7fffffff 90",
                "53 ffff",
                "52 ffff",
                "42 ffff",
                "41 ffff",
                "33ff",
                "37ff",
                "58 49 007fffff",
            ):
                for behind in (b"", b"a" * 100):
                    self.assertIsInstance(tried(bytes.fromhex(text) + behind), HessianError, text)
            self.assertLess(tracemalloc.get_traced_memory()[1], 300_000)
        finally:
            tracemalloc.stop()

    def test_fields(self) -> None:
        """A definition with very many fields: objects of it need a byte for each."""
        count = 100_000
        definition = b"C\x01AI" + count.to_bytes(4, "big") + b"\x01x" * count
        self.assertIsInstance(tried(definition + b"`" * 50_000), HessianError)
        self.assertEqual(tried(definition + b"`" + b"\x91" * count), [JavaObject("A", {"x": 1})])

    def test_keys(self) -> None:
        """Objects as keys of one map: equal hashes are for equal objects."""
        count = 20_000
        pairs = b"".join(b"`I" + number.to_bytes(4, "big") + b"N" for number in range(count))
        (read,) = hessian.decode(b"C\x01A\x91\x01x" + b"H" + pairs + b"Z")
        self.assertEqual(len(read), count)
        self.assertEqual(len({hash(key) for key in read}), count)

    def test_work(self) -> None:
        """A byte takes a few calls of functions, however many there are, and whatever they repeat."""
        tails = [bytes([first]) for first in range(256)]
        tails += [
            b"R\x00\x00",
            b"A\x00\x00",
            b"C\x00\x90",
            b"S\xff\xff",
            b"R\x01\x00",
            b"\x1f\x80",
            b"\xe4\xb8",
            b"I\x7f",
        ]
        tails += [
            b"\x01\x80",
            b"S\x80\x80\xc3",
            b"R\x00\x01\xc3\xa9",
            b"\x57Z",
            b"HZ",
            b"H\x90",
            b"p\x00",
            b"V\x00\x90",
        ]
        for tail in tails:
            for head in (b"", b"W", b"R\xff\xff"):
                size = 500 if head else 2000
                self.assertLess(self.workOf(head + tail * (size // len(tail))), 9 * size + 60, (head, tail))

    def workOf(self, data: bytes) -> int:
        """The calls of functions, in Python and in C, that reading takes."""
        count = 0

        def called(frame: Any, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(called)
        try:
            tried(data)
        finally:
            sys.setprofile(None)
        return count

    def test_memory(self) -> None:
        """What bytes become: at most some 32 bytes of memory for each, and some 300 for a list, map or object."""
        limits = Limits(maxReferences=100)
        size = 1000
        repeated = [bytes([first]) for first in range(256)]
        repeated += [
            b"\x02ab",
            b"9\x00\x00",
            b"]\x05",
            b"C\x00\x90",
            b"q\x00\x90",
            b"J" + bytes(8),
            b"\x21a",
            b"\x01\x80",
        ]
        repeated += [
            b"R\x00\x00",
            b"C\x01A\x91\x01x`",
            b"MNZ",
            b"M\x00\x90\x90Z",
            b"H\x90\x90Z",
            b"\xf9\x00",
            b"\x02\xc3\xa9a",
        ]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for one in repeated:
            for head in (b"", b"W" if len(one) == 1 else b"C\x00\x91\x00"):
                data = head + one * (size // len(one))
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                read = tried(data, limits)
                peak = tracemalloc.get_traced_memory()[1] - before
                self.assertLess(peak, 40 * size + 300 * 100, (head, one))
                del read


class RandomTests(SynchronousTestCase):
    """Bytes of no meaning."""

    def test_random(self) -> None:
        """A million random bytes, in pieces: an error or values, which can be written again."""
        source = random.Random(19)
        left, read = 1_000_000, 0
        while left > 0:
            size = source.choice((2, 4, 8, 30, 100, 300, 1000))
            # Some with fewer kinds of bytes, so that more of them are read.
            data = source.randbytes(size)
            if source.random() < 0.5:
                data = bytes(0x40 + (byte & 0x3F) if byte & 3 else byte >> 4 for byte in data)
            left -= size
            result = tried(data)
            if isinstance(result, list):
                read += 1
                again = hessian.decode(hessian.encode(*result))
                self.assertEqual(len(again), len(result))
        self.assertGreater(read, 200)

    @settings(max_examples=examples(300))
    @given(values, st.data())
    def test_changed(self, value: Any, data: Any) -> None:
        """Bytes of values with a cut, a change, something more or something less."""
        encoded = bytearray(hessian.encode(value, value))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(encoded)))
            kind = data.draw(st.integers(0, 3))
            if kind == 0:
                del encoded[at:]
            elif kind == 1:
                encoded[at : at + 1] = data.draw(st.binary(max_size=3))
            elif kind == 2:
                del encoded[at : at + data.draw(st.integers(1, 5))]
            else:
                encoded[at:at] = encoded[: data.draw(st.integers(0, 20))]
        tried(bytes(encoded))

    @settings(max_examples=examples(300))
    @given(
        st.lists(
            st.sampled_from(
                [bytes([byte]) for byte in b"CHMOQRSUVWXYZ`aopqwxy\x7f\x80\x90\x91\x92\x00\x01A\xc3\xed\xa0\x80NT"]
            )
        )
    )
    def test_tags(self, parts: list[bytes]) -> None:
        """First bytes in any order."""
        tried(b"".join(parts))
