"""``views``: large packages are views of what was read, and views of bytes are written without a copy."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LengthCodec, VarintCodec, fromDescription
from getty_tx.codecs.common import SEPARATE_ABOVE
from getty_tx.errors import SettingError

SESSION: Any = None
VIEWS = 1000
CODECS = [
    LengthCodec(views=VIEWS),
    LengthCodec(size=8, order="little", views=VIEWS),
    LengthCodec(size=2, includes="frame", views=VIEWS),
    VarintCodec(views=VIEWS),
]


def encode(codec: Any, pkg: Any) -> bytes:
    written = codec.write(SESSION, pkg)
    return b"".join(written) if isinstance(written, list) else written


class ReadTests(SynchronousTestCase):
    """What ``read`` and ``readMany`` deliver."""

    def test_size(self) -> None:
        """From that size of the payload on a package is a view, below it is bytes."""
        for codec in CODECS:
            for count in (0, 1, VIEWS - 1, VIEWS, VIEWS + 1, 20_000):
                payload = bytes(range(251)) * (count // 251) + b"x" * (count % 251)
                data = encode(codec, payload)
                pkg, length = codec.read(SESSION, memoryview(data + b"more"))
                self.assertEqual((pkg, length), (payload, len(data)))
                self.assertIs(type(pkg), memoryview if count >= VIEWS else bytes, f"{codec}: {count}")

    def test_noCopy(self) -> None:
        """The view is of the very bytes that were read, and read-only."""
        for codec in CODECS:
            data = b"?" + encode(codec, bytes(VIEWS))
            pkg, _ = codec.read(SESSION, memoryview(data)[1:])
            self.assertIs(pkg.obj, data)
            self.assertTrue(pkg.readonly)

    def test_batches(self) -> None:
        """readMany has the same packages with the same types."""
        for codec in CODECS[:3]:
            payloads = [b"a", bytes(VIEWS), b"b" * (VIEWS - 1), b"c" * (VIEWS + 1), b"d" * VIEWS, b"e"]
            data = b"".join(encode(codec, each) for each in payloads) + b"\0"
            found: list[Any] = []
            while more := codec.readMany(SESSION, data, found[-1][1] if found else 0, 10_000):
                found += more
            self.assertEqual([pkg for pkg, _ in found], payloads)
            self.assertEqual([type(pkg) is memoryview for pkg, _ in found], [len(each) >= VIEWS for each in payloads])
            self.assertTrue(all(pkg.obj is data for pkg, _ in found if type(pkg) is memoryview))

    def test_batchesLeaveToRead(self) -> None:
        """A package above the limit, an incomplete and an invalid one are left to ``read``."""
        codec = LengthCodec(size=2, includes="frame", views=VIEWS)
        data = encode(codec, bytes(VIEWS))
        for rest, limit in ((data, VIEWS + 1), (data[:-1], 10_000), (b"\0\1" + data, 10_000)):
            self.assertEqual(codec.readMany(SESSION, rest, 0, limit), [])
        self.assertEqual(len(codec.readMany(SESSION, data, 0, VIEWS + 2)), 1)


class WriteTests(SynchronousTestCase):
    """What ``write`` does with views."""

    def test_noCopy(self) -> None:
        """A view of bytes goes into the list as it is, with or without the setting."""
        for codec in (LengthCodec(), VarintCodec(), *CODECS):
            whole = bytes(SEPARATE_ABOVE + 10)
            _, payload = codec.write(SESSION, memoryview(whole)[3:-3])
            self.assertIs(payload.obj, whole)
            self.assertEqual(len(payload), SEPARATE_ABOVE + 4)

    def test_small(self) -> None:
        """A short one is joined with the header."""
        for codec in CODECS:
            self.assertEqual(codec.write(SESSION, memoryview(b"abc")), codec.write(SESSION, b"abc"))

    def test_otherViews(self) -> None:
        """Views of what may change, with strides or with larger items are copied, byte for byte."""
        whole = bytes(range(256)) * (SEPARATE_ABOVE // 64)
        for view in (
            memoryview(bytearray(whole)).toreadonly(),
            memoryview(whole)[::2],
            memoryview(whole).cast("I"),
            memoryview(whole).cast("B", (2, len(whole) // 2)),
        ):
            for codec in CODECS[:2] + CODECS[3:]:
                header, payload = codec.write(SESSION, view)
                self.assertIs(type(payload), bytes)
                self.assertEqual(header + payload, encode(codec, view.tobytes()))


class SettingTests(SynchronousTestCase):
    """The setting."""

    def test_off(self) -> None:
        """By default all packages are bytes, however large."""
        for codec in (LengthCodec(), VarintCodec()):
            self.assertIsNone(codec.views)
            pkg, _ = codec.read(SESSION, memoryview(encode(codec, bytes(1 << 20))))
            self.assertIs(type(pkg), bytes)

    def test_description(self) -> None:
        for text, wanted in (
            ("length:order=little:views=16384", "LengthCodec(size=4, order='little', includes='payload', views=16384)"),
            ("varint:views=1", "VarintCodec(views=1)"),
        ):
            self.assertEqual(repr(fromDescription(text)), wanted)
            self.assertEqual(repr(eval(wanted)), wanted)

    def test_invalid(self) -> None:
        """What is no size is refused, and the text says what is."""
        for codec, make in (("length", lambda views: LengthCodec(views=views)), ("varint", VarintCodec)):
            for views in (0, -1, True, 1.5, "16384", sys.float_info.max):
                error = self.assertRaises(SettingError, make, views)
                self.assertEqual(
                    str(error),
                    f"codec {codec!r}: views={views!r} is no number of bytes from 1 on; leave it out for copies",
                )
        for text in ("length:views=16K", "varint:views=0", "varint:views="):
            self.assertIn("from 1 on", str(self.assertRaises(SettingError, fromDescription, text)))
