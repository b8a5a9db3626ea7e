"""The codecs whose packages are objects, json-lines and getty, against hand-written wire bytes."""

from __future__ import annotations

import math
from typing import Any

from getty_tx.codecs import EchoPackage, GettyCodec, JsonLinesCodec
from getty_tx.codecs.getty import HEARTBEAT
from tests.codecs.test_wire import SESSION, CodecCase


class JsonLinesTests(CodecCase):
    """JsonLinesCodec."""

    def test_wire(self) -> None:
        for pkg, wire in [
            ({"a": 1, "b": [True, None, 2.5]}, b'{"a":1,"b":[true,null,2.5]}\n'),
            ("häß \u20ac", b'"h\xc3\xa4\xc3\x9f \xe2\x82\xac"\n'),
            ("a\nb\x00", b'"a\\nb\\u0000"\n'),
            ([], b"[]\n"),
            ({}, b"{}\n"),
            (0, b"0\n"),
            (False, b"false\n"),
            ("", b'""\n'),
            (10**30, b"1" + b"0" * 30 + b"\n"),
        ]:
            self.assertWire(JsonLinesCodec(), pkg, wire)

    def test_blanks(self) -> None:
        """Blanks around a document, and blank lines before it, count as part of it."""
        codec = JsonLinesCodec()
        self.assertReads(codec, b' { "a" : 1 }\t\r\n', {"a": 1})
        self.assertReads(codec, b"\n\r\n \t\n[1]\n", [1])
        for blanks in (1023, 1024, 1025, 8192, 50_000):
            wire = b"\n" * blanks + b"[1]\n[2]\n"
            self.assertAnswer(codec, wire, ([1], blanks + 4))

    def test_long(self) -> None:
        for count in (1020, 1021, 1022, 1023, 1024, 8190, 9000, 70_000):
            wire = b'"' + b"a" * count + b'"\n'
            self.assertAnswer(JsonLinesCodec(), wire + b"\n[1]\n", ("a" * count, count + 3))
            self.assertAnswer(JsonLinesCodec(), b" " * 1000 + wire, ("a" * count, count + 1003))
            self.assertAnswer(JsonLinesCodec(), wire[:-1], (None, 0))

    def test_waits(self) -> None:
        for data in (b"\n", b" \r\n\t", b"\n" * 3000, b"{}", b"\n\n{}", b"not json"):
            self.assertAnswer(JsonLinesCodec(), data, (None, 0))

    def test_badBytes(self) -> None:
        codec = JsonLinesCodec()
        for data, text in [
            (b"{\n", "no JSON document"),
            (b"{}{}\n", "Extra data"),
            (b"\xff\n", "utf-8"),
            (b'"\xc3"\n', "utf-8"),
            (b"\xff\xfe[\x001\x00]\x00\n", "utf-8"),
            (b"\xef\xbb\xbf[1]\n", "Expecting value"),
            (b"NaN\n", "NaN"),
            (b"[Infinity]\n", "Infinity"),
            (b"[-Infinity]\n", "-Infinity"),
            (b"[1e999]\n", "too large for a float: 1e999"),
            (b"-" + b"9" * 400 + b".0\n", "too large for a float"),
            (b"9" * 5000 + b"\n", "no JSON document"),
            (b"null\n", "null cannot be a package"),
            (b"\n null \r\n", "null cannot be a package"),
            (b"[" * 100_000 + b"\n", "nested too deeply"),
            (b'{"a":' * 100_000 + b"\n", "nested too deeply"),
            (b"'a'\n", "no JSON document"),
            (b"\x00\n", "no JSON document"),
        ]:
            self.assertBadBytes(codec, data, text)

    def test_badPackages(self) -> None:
        codec = JsonLinesCodec()
        circular: list[Any] = []
        circular.append(circular)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for pkg, text in [
            (None, "None cannot be a package"),
            (math.nan, "cannot be written"),
            ([math.inf], "cannot be written"),
            ({"a": -math.inf}, "cannot be written"),
            (b"bytes", "bytes is not JSON serializable"),
            ({(1, 2): 3}, "keys must be"),
            (circular, "Circular"),
            (deep, "nested too deeply"),
            ("\ud800", "surrogates not allowed"),
            (1 << 20_000, "cannot be written"),
        ]:
            self.assertBadPackage(codec, pkg, text)


def golden(**changes: bytes) -> bytes:
    """The bytes of ``FULL``, with parts changed."""
    parts = {
        "magic": b"\x05\x09\x16\x20",
        "logId": b"\x04\x03\x02\x01",
        "sequence": b"\x08\x07\x06\x05",
        "serviceId": b"\x0c\x0b\x0a\x09",
        "command": b"\x01\x00\x00\x00",
        "code": b"\xfe\xff\xff\xff",
        "length": b"\x0e\x00",
        "reserved": b"\x00\x00" + b"\x00\x00\x00\x00",
        "bodyLength": b"\x0d",
        "body": b"Hello, getty!",
    }
    return b"".join({**parts, **changes}.values())


FULL = EchoPackage(
    command=1, body=b"Hello, getty!", sequence=0x05060708, logId=0x01020304, serviceId=0x090A0B0C, code=-2
)


class GettyTests(CodecCase):
    """GettyCodec."""

    def test_wire(self) -> None:
        self.assertEqual(len(golden()), 32 + 1 + 13)
        self.assertWire(GettyCodec(), FULL, golden())

    def test_heartbeat(self) -> None:
        """The ping of Getty's client, with a body of 4 bytes."""
        wire = bytes.fromhex("05091620 00000000 07000000 00000000 00000000 00000000 0500 0000 00000000 04 70696e67")
        self.assertWire(GettyCodec(), EchoPackage(HEARTBEAT, b"ping", 7), wire)

    def test_bodies(self) -> None:
        for count in (0, 1, 255):
            body = b"\xff" * count
            wire = b"\x05\x09\x16\x20" + bytes(12) + b"\x01" + bytes(7)
            wire += (count + 1).to_bytes(2, "little") + bytes(6) + bytes((count,)) + body
            self.assertWire(GettyCodec(), EchoPackage(body=body), wire)

    def test_reservedIsNotLookedAt(self) -> None:
        self.assertReads(GettyCodec(), golden(reserved=b"\xff" * 6), FULL)

    def test_waits(self) -> None:
        codec = GettyCodec()
        self.assertAnswer(codec, golden()[:31], (None, 0))
        self.assertAnswer(codec, golden()[:32], (None, 46))
        self.assertAnswer(codec, golden()[:45], (None, 46))

    def test_badBytes(self) -> None:
        codec = GettyCodec()
        for data, text in [
            (golden(magic=b"\x20\x16\x09\x05"), "the magic is 20160905, not 05091620"),
            (b"G", "the magic is 47"),
            (b"\x05\x09\x17", "the magic is 050917"),
            (golden(length=b"\x00\x00"), "length is 0"),
            (golden(length=b"\x00\x00")[:32], "length is 0"),
            (golden(length=b"\x01\x01"), "length is 257"),
            (golden(length=b"\xff\xff")[:32], "length is 65535"),
            (golden(length=b"\x0d\x00"), "length 13 is not that of the body, 13, + 1"),
            (golden(bodyLength=b"\x0c"), "length 14 is not that of the body, 12, + 1"),
            (golden(bodyLength=b"\xff"), "is not that of the body, 255"),
        ]:
            self.assertBadBytes(codec, data, text)

    def test_badPackages(self) -> None:
        codec = GettyCodec()
        text: Any = "text"
        half: Any = 1.5
        for pkg, words in [
            (b"bytes", "an EchoPackage, not bytes"),
            (None, "an EchoPackage, not NoneType"),
            (EchoPackage(body=text), "a body is bytes, bytearray or memoryview, not str"),
            (EchoPackage(body=b"a" * 256), "256 bytes is longer than 255"),
            (EchoPackage(command=-1), "out of its range"),
            (EchoPackage(sequence=2**32), "out of its range"),
            (EchoPackage(code=2**31), "out of its range"),
            (EchoPackage(logId=half), "out of its range"),
        ]:
            self.assertBadPackage(codec, pkg, words)

    def test_otherBytesLike(self) -> None:
        body: Any = bytearray(b"abc")
        self.assertEqual(
            GettyCodec().write(SESSION, EchoPackage(body=body)), GettyCodec().write(SESSION, EchoPackage(body=b"abc"))
        )

    def test_package(self) -> None:
        """EchoPackage is immutable, comparable and hashable."""
        self.assertRaises(AttributeError, setattr, FULL, "code", 0)
        self.assertEqual(len({FULL, EchoPackage(), EchoPackage()}), 2)
