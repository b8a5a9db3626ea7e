"""The codecs against hand-written bytes, and the data they refuse."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from getty_tx.codecs import (
    GettyCodec,
    JsonLinesCodec,
    LengthCodec,
    LineCodec,
    NetstringCodec,
    RawCodec,
    VarintCodec,
)
from getty_tx.codecs.common import SEPARATE_ABOVE
from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter

SESSION: Any = object()
BIG = bytes(range(256)) * (SEPARATE_ABOVE // 256) + b"!"

ALL = [
    LengthCodec(),
    LineCodec(),
    NetstringCodec(),
    VarintCodec(),
    RawCodec(),
    JsonLinesCodec(),
    GettyCodec(),
]
BYTE_CODECS = [LengthCodec(), LineCodec(), NetstringCodec(), VarintCodec()]


class CodecCase(SynchronousTestCase):
    """Assertions about results of ``read`` and ``write``."""

    def assertReads(self, codec: Any, data: bytes, pkg: Any, length: int | None = None) -> None:
        """
        The package is found in a view of any object at any offset, not in fewer bytes, and whatever data follows.
        """
        count = len(data) if length is None else length
        for more in (b"", b"\x00", data):
            whole = b"??" + data + more
            views = {
                "bytes": memoryview(data + more),
                "bytes at an offset": memoryview(whole)[2:],
                "not to the end": memoryview(whole + b"\n,\x00")[2:-3],
                "bytearray": memoryview(bytearray(data + more)),
                "strides": memoryview(bytes(byte for one in data + more for byte in (one, 10)))[::2],
                "backwards": memoryview((data + more)[::-1])[::-1],
            }
            for name, view in views.items():
                answer = codec.read(SESSION, view)
                self.assertEqual(answer, (pkg, count), name)
                self.assertIs(type(answer[0]), type(pkg), name)
        for have in range(1, count):
            part, needed = codec.read(SESSION, memoryview(data[:have]))
            self.assertIsNone(part)
            self.assertTrue(needed == 0 or have < needed <= count, (have, needed))

    def assertWrites(self, codec: Any, pkg: Any, wire: bytes) -> None:
        written = codec.write(SESSION, pkg)
        self.assertIs(type(written), bytes)
        self.assertEqual(written, wire)

    def assertWire(self, codec: Any, pkg: Any, wire: bytes) -> None:
        self.assertWrites(codec, pkg, wire)
        self.assertReads(codec, wire, pkg)

    def assertAnswer(self, codec: Any, data: bytes, answer: tuple[Any, int]) -> None:
        self.assertEqual(codec.read(SESSION, memoryview(data)), answer)

    def assertBadBytes(self, codec: Any, data: bytes, *texts: str) -> None:
        error = self.assertRaises(CodecError, codec.read, SESSION, memoryview(data))
        self.assertError(error, texts)

    def assertBadPackage(self, codec: Any, pkg: Any, *texts: str) -> None:
        error = self.assertRaises(CodecError, codec.write, SESSION, pkg)
        self.assertError(error, texts)

    def assertError(self, error: CodecError, texts: tuple[str, ...]) -> None:
        self.assertIs(error.session, SESSION)
        self.assertLess(len(str(error)), 300)
        for text in texts:
            self.assertIn(text, str(error))


class CommonTests(CodecCase):
    """All byte codecs."""

    def test_interface(self) -> None:
        for codec in ALL:
            verifyObject(IReadWriter, codec)

    def test_nothingKeptPerSession(self) -> None:
        """Codecs have no ``__dict__``, so they keep no state."""
        for codec in ALL:
            self.assertFalse(hasattr(codec, "__dict__"), codec)

    def test_empty(self) -> None:
        for codec in ALL:
            self.assertAnswer(codec, b"", (None, 0))

    def test_repr(self) -> None:
        self.assertEqual(
            repr(LengthCodec(2, "little", "frame")), "LengthCodec(size=2, order='little', includes='frame')"
        )
        self.assertEqual(repr(LineCodec(b"\r\n")), r"LineCodec(delimiter=b'\r\n')")
        for codec in ALL:
            self.assertEqual(repr(eval(repr(codec))), repr(codec))

    def test_otherBytesLike(self) -> None:
        """A mutable payload is copied, whatever its size."""
        for codec in [*BYTE_CODECS, RawCodec()]:
            for payload in (b"abc", BIG.replace(b"\n", b" ")):
                wanted = codec.write(SESSION, payload)
                mutable = bytearray(payload)
                view = memoryview(mutable)
                for written in (codec.write(SESSION, mutable), codec.write(SESSION, view)):
                    for one in written if isinstance(written, list) else [written]:
                        self.assertIs(type(one), bytes)
                    self.assertEqual(written, wanted)
                written = codec.write(SESSION, mutable)
                mutable[0] ^= 1
                self.assertEqual(written, wanted)

    def test_bytesSubclass(self) -> None:
        class Special(bytes):
            def __add__(self, other: object) -> Any:
                raise AssertionError("not to be called")

        for codec in [*BYTE_CODECS, RawCodec()]:
            written = codec.write(SESSION, Special(b"abc"))
            self.assertIs(type(written), bytes)
            self.assertEqual(written, codec.write(SESSION, b"abc"))

    def test_wrongTypes(self) -> None:
        for codec in BYTE_CODECS:
            for pkg in ("text", 3, None, ["a"], object()):
                self.assertBadPackage(codec, pkg, "bytes, bytearray or memoryview", f"not {type(pkg).__name__}")

    def test_large(self) -> None:
        """Above 16 KiB the payload is the same object, not a copy; at it, all is one."""
        payload = BIG.replace(b"\n", b" ")
        for codec in BYTE_CODECS:
            written = codec.write(SESSION, payload)
            self.assertIs(type(written), list)
            self.assertEqual(sum(one is payload for one in written), 1)
            wire = b"".join(written)
            self.assertAnswer(codec, wire, (payload, len(wire)))
            self.assertIs(type(codec.write(SESSION, payload[:SEPARATE_ABOVE])), bytes)
            wire = codec.write(SESSION, payload[:SEPARATE_ABOVE])
            self.assertAnswer(codec, wire, (payload[:SEPARATE_ABOVE], len(wire)))


class LengthTests(CodecCase):
    """LengthCodec."""

    def test_wire(self) -> None:
        for codec, wire in [
            (LengthCodec(), b"\x00\x00\x00\x03abc"),
            (LengthCodec(order="little"), b"\x03\x00\x00\x00abc"),
            (LengthCodec(size=1), b"\x03abc"),
            (LengthCodec(size=2), b"\x00\x03abc"),
            (LengthCodec(size=2, order="little"), b"\x03\x00abc"),
            (LengthCodec(size=8), b"\x00\x00\x00\x00\x00\x00\x00\x03abc"),
            (LengthCodec(size=8, order="little"), b"\x03\x00\x00\x00\x00\x00\x00\x00abc"),
            (LengthCodec(includes="frame"), b"\x00\x00\x00\x07abc"),
            (LengthCodec(size=1, includes="frame"), b"\x04abc"),
            (LengthCodec(size=2, order="little", includes="frame"), b"\x05\x00abc"),
        ]:
            self.assertWire(codec, b"abc", wire)

    def test_empty(self) -> None:
        self.assertWire(LengthCodec(), b"", b"\x00\x00\x00\x00")
        self.assertWire(LengthCodec(includes="frame"), b"", b"\x00\x00\x00\x04")

    def test_waits(self) -> None:
        codec = LengthCodec()
        self.assertAnswer(codec, b"\x00\x00\x00", (None, 0))
        self.assertAnswer(codec, b"\x00\x00\x01\x00", (None, 260))
        self.assertAnswer(codec, b"\x00\x00\x01\x00abc", (None, 260))
        self.assertAnswer(LengthCodec(includes="frame"), b"\x00\x00\x01\x00abc", (None, 256))

    def test_hugeLengthIsANumber(self) -> None:
        """A huge length is returned without allocating memory; the session refuses it."""
        self.assertAnswer(LengthCodec(size=8), b"\xff" * 9, (None, 2**64 + 7))
        self.assertAnswer(LengthCodec(), b"\xff" * 9, (None, 2**32 + 3))

    def test_frameShorterThanItsHeader(self) -> None:
        codec = LengthCodec(includes="frame")
        for number in range(4):
            self.assertBadBytes(codec, bytes((0, 0, 0, number)), f"a frame of {number} bytes", "4 bytes")

    def test_payloadTooLong(self) -> None:
        self.assertWire(LengthCodec(size=1), b"a" * 255, b"\xff" + b"a" * 255)
        self.assertBadPackage(LengthCodec(size=1), b"a" * 256, "256 bytes", "size=1")
        self.assertWire(LengthCodec(size=1, includes="frame"), b"a" * 254, b"\xff" + b"a" * 254)
        self.assertBadPackage(LengthCodec(size=1, includes="frame"), b"a" * 255, "size=1", "includes=frame")
        self.assertBadPackage(LengthCodec(size=2), b"a" * 65536, "65536 bytes", "size=2")

    def test_settings(self) -> None:
        for arguments, text in [
            ({"size": 3}, "codec 'length': size=3 is not one of 1, 2, 4, 8"),
            ({"size": 0}, "size=0 is not one of"),
            ({"size": True}, "size=True is not one of"),
            ({"size": 4.0}, "size=4.0 is not one of"),
            ({"size": "4"}, "size='4' (str) is not one of 1, 2, 4, 8"),
            ({"size": [4]}, "size=[4] is not one of"),
            ({"order": "middle"}, "codec 'length': order=middle is not one of big, little"),
            ({"order": None}, "order=None is not one of"),
            ({"includes": "all"}, "codec 'length': includes=all is not one of payload, frame"),
        ]:
            broken: Any = arguments
            error = self.assertRaises(SettingError, LengthCodec, **broken)
            self.assertIn(text, str(error))


class LineTests(CodecCase):
    """LineCodec."""

    def test_wire(self) -> None:
        self.assertWire(LineCodec(), b"abc", b"abc\n")
        self.assertWire(LineCodec(), b"", b"\n")
        self.assertWire(LineCodec(b"\r\n"), b"abc", b"abc\r\n")
        self.assertWire(LineCodec(b"\r\n"), b"a\rb\n", b"a\rb\n\r\n")
        self.assertWire(LineCodec(b"\r\n"), b"a\r", b"a\r\r\n")
        self.assertWire(LineCodec("\0"), b"a\nb", b"a\nb\0")
        self.assertWire(LineCodec("§"), b"\xa7\xc2", b"\xa7\xc2\xc2\xa7")

    def test_keptAsItCame(self) -> None:
        self.assertReads(LineCodec(), b" abc \r\n", b" abc \r")

    def test_waits(self) -> None:
        self.assertAnswer(LineCodec(), b"abc", (None, 0))
        self.assertAnswer(LineCodec(b"\r\n"), b"abc\r", (None, 0))
        self.assertAnswer(LineCodec(), b"a" * 100_000, (None, 0))

    def test_delimiterAtEverySeam(self) -> None:
        """Prefixes of 1024, 8192, 65536 bytes are searched one after the other."""
        codec = LineCodec(b"\r\n")
        for seam in (1024, 8192, 65536):
            for count in range(seam - 4, seam + 3):
                for more in (b"", b"x", b"\n" * 9000):
                    wire = b"\r" * count + b"\r\n" + more
                    self.assertAnswer(codec, wire, (b"\r" * count, count + 2))
                    self.assertEqual(
                        codec.read(SESSION, memoryview(bytearray(b"\r\n" + wire))[2:]), (b"\r" * count, count + 2)
                    )
                self.assertAnswer(codec, b"x" * count + b"\r", (None, 0))

    def test_noSearchBehindTheView(self) -> None:
        """A delimiter in the underlying object but outside of the view does not count."""
        self.assertEqual(LineCodec().read(SESSION, memoryview(b"\nabc\n")[1:4]), (None, 0))

    def test_delimiterInPackage(self) -> None:
        for codec, pkg in [
            (LineCodec(), b"a\nb"),
            (LineCodec(), b"\n"),
            (LineCodec(b"\r\n"), b"a\r\n"),
            (LineCodec(b"\r\n"), b"\r\n" + BIG.replace(b"\r", b"")),
            (LineCodec(), b"a" * SEPARATE_ABOVE + b"\n"),
        ]:
            self.assertBadPackage(codec, pkg, "contains, or runs into, the delimiter", repr(codec.delimiter))

    def test_packageRunsIntoDelimiter(self) -> None:
        r"""``a\n`` with ``\n\n`` would be read as ``a`` with a newline left over."""
        self.assertBadPackage(LineCodec(b"\n\n"), b"a\n", "runs into")
        self.assertBadPackage(LineCodec(b"\n\n"), b"a" * SEPARATE_ABOVE + b"\n", "runs into")
        self.assertBadPackage(LineCodec(b"abab"), b"xab", "runs into")
        self.assertWire(LineCodec(b"\n\n"), b"a\nb", b"a\nb\n\n")

    def test_delimiterLongerThanLarge(self) -> None:
        delimiter = b"<" + b"=" * (SEPARATE_ABOVE + 10) + b">"
        codec = LineCodec(delimiter)
        pkg = b"=" * (SEPARATE_ABOVE + 1)
        self.assertEqual(codec.write(SESSION, pkg), [pkg, delimiter])
        self.assertAnswer(codec, pkg + delimiter, (pkg, len(pkg + delimiter)))

    def test_settings(self) -> None:
        for delimiter, text in [
            (b"", "delimiter= is empty"),
            ("", "delimiter= is empty"),
            (10, "delimiter=10 is neither bytes nor str"),
            (bytearray(b"\n"), "is neither bytes nor str"),
            ("\ud800", r"delimiter='\ud800' cannot be encoded in UTF-8"),
        ]:
            broken: Any = delimiter
            error = self.assertRaises(SettingError, LineCodec, broken)
            self.assertIn(text, str(error))


class NetstringTests(CodecCase):
    """NetstringCodec; the first two are the specification's own examples."""

    def test_wire(self) -> None:
        self.assertWire(NetstringCodec(), b"hello world!", b"12:hello world!,")
        self.assertWire(NetstringCodec(), b"", b"0:,")
        self.assertWire(NetstringCodec(), b"1:,,", b"4:1:,,,")

    def test_waits(self) -> None:
        codec = NetstringCodec()
        self.assertAnswer(codec, b"1", (None, 0))
        self.assertAnswer(codec, b"0", (None, 0))
        self.assertAnswer(codec, b"12345678901234567890", (None, 0))
        self.assertAnswer(codec, b"12:hello", (None, 16))
        self.assertAnswer(codec, b"3:abc", (None, 6))
        self.assertAnswer(codec, b"99999999999999999999:", (None, 10**20 + 21))

    def test_badBytes(self) -> None:
        codec = NetstringCodec()
        for data, text in [
            (b":", "not made of digits"),
            (b"a", "not made of digits"),
            (b"-1:", "not made of digits"),
            (b"+1:a,", "not made of digits"),
            (b" 1:a,", "not made of digits"),
            (b"1 :a,", "not made of digits"),
            (b"1_0:", "not made of digits"),
            ("\u0661:a,".encode(), "not made of digits"),
            (b"\xb2:ab,", "not made of digits"),
            (b"01:a,", "leading zero"),
            (b"00", "leading zero"),
            (b"00:,", "leading zero"),
            (b"1:a;", "byte 0x3b"),
            (b"0:0:,", "not with a comma"),
            (b"1" * 21, "no colon in the first 21 bytes"),
            (b"1" * 5000, "no colon"),
            (b"1" * 5000 + b":", "no colon"),
        ]:
            self.assertBadBytes(codec, data, text)


class VarintTests(CodecCase):
    """VarintCodec; 300 is the encoding document's own example."""

    def test_wire(self) -> None:
        for count, header in [
            (0, b"\x00"),
            (1, b"\x01"),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (150, b"\x96\x01"),
            (300, b"\xac\x02"),
            (915, b"\x93\x07"),
        ]:
            self.assertWire(VarintCodec(), b"a" * count, header + b"a" * count)

    def test_longer(self) -> None:
        for count, header in [
            (16383, b"\xff\x7f"),
            (16384, b"\x80\x80\x01"),
            (16385, b"\x81\x80\x01"),
            (2097151, b"\xff\xff\x7f"),
            (2097152, b"\x80\x80\x80\x01"),
        ]:
            written: Any = VarintCodec().write(SESSION, b"a" * count)
            wire = b"".join(written) if isinstance(written, list) else written
            self.assertEqual(wire[: len(header) + 1], header + b"a")
            self.assertAnswer(VarintCodec(), wire, (b"a" * count, len(header) + count))

    def test_longerThanNeeded(self) -> None:
        """Varints that are not canonical are valid protobuf."""
        self.assertReads(VarintCodec(), b"\x81\x00a", b"a")
        self.assertReads(VarintCodec(), b"\x81\x80\x00a", b"a")
        self.assertReads(VarintCodec(), b"\x80" * 9 + b"\x00", b"")
        self.assertReads(VarintCodec(), b"\x83" + b"\x80" * 8 + b"\x00abc", b"abc")

    def test_waits(self) -> None:
        codec = VarintCodec()
        for count in range(1, 10):
            self.assertAnswer(codec, b"\xff" * count, (None, 0))
        self.assertAnswer(codec, b"\xac\x02abc", (None, 302))
        self.assertAnswer(codec, b"\x80\x80\x01", (None, 16387))
        self.assertAnswer(codec, b"\xff" * 9 + b"\x01", (None, 2**64 + 9))

    def test_badBytes(self) -> None:
        self.assertBadBytes(VarintCodec(), b"\x80" * 10, "more than 10 bytes")
        self.assertBadBytes(VarintCodec(), b"\xff" * 100_000, "more than 10 bytes")
        self.assertBadBytes(VarintCodec(), b"\xff" * 9 + b"\x02", "more than 64 bits")
        self.assertBadBytes(VarintCodec(), b"\xff" * 9 + b"\x7f", "more than 64 bits")


class RawTests(CodecCase):
    """RawCodec."""

    def test_reads(self) -> None:
        """Small and large chunks become separate bytes or the whole object, never a view."""
        for data in (b"a", b"a\nb", BIG):
            for view in (
                memoryview(data),
                memoryview(b"?" + data)[1:],
                memoryview(data + b"?")[:-1],
                memoryview(bytearray(data)),
                memoryview(data[::-1])[::-1],
            ):
                pkg, count = RawCodec().read(SESSION, view)
                self.assertIs(type(pkg), bytes)
                self.assertEqual((pkg, count), (data, len(data)))

    def test_wholeObjectIsNotCopied(self) -> None:
        self.assertIs(RawCodec().read(SESSION, memoryview(BIG))[0], BIG)

    def test_writes(self) -> None:
        self.assertIs(RawCodec().write(SESSION, BIG), BIG)
        self.assertWrites(RawCodec(), b"", b"")
        self.assertWrites(RawCodec(), bytearray(b"abc"), b"abc")

    def test_text(self) -> None:
        class Text(str):
            pass

        self.assertEqual(RawCodec().write(SESSION, "häßlich"), "häßlich")
        self.assertEqual(RawCodec().write(SESSION, Text("abc")), "abc")

    def test_wrongTypes(self) -> None:
        for pkg in (3, None, ["a"], object()):
            self.assertBadPackage(RawCodec(), pkg, "bytearray, memoryview or str", f"not {type(pkg).__name__}")
