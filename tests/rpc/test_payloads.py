"""The payloads: what they carry, and what they refuse."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.rpc import PayloadError
from getty_tx.rpc.payloads import BytesPayload, JSONPayload
from tests.support.long import examples

modest = settings(max_examples=examples(100), deadline=None, database=None)

DEEP = b"[" * 1_000_000


class JSONTests(SynchronousTestCase):
    """Arguments as an array, a result as a value."""

    def setUp(self) -> None:
        self.payload = JSONPayload()

    def refused(self, method: str, value: Any) -> str:
        error = self.assertRaises(PayloadError, getattr(self.payload, method), "Echo/say", value)
        self.assertIn("Echo/say", str(error))
        self.assertEqual(error.sent, not method.startswith("encode"))
        return str(error)

    def test_compactUTF8(self) -> None:
        self.assertEqual(self.payload.encodeArguments("a/b", ("ä", {"k": [1, None]})), '["ä",{"k":[1,null]}]'.encode())
        self.assertEqual(self.payload.encodeArguments("a/b", ()), b"[]")
        self.assertEqual(self.payload.encodeResult("a/b", None), b"null")

    def test_views(self) -> None:
        self.assertEqual(self.payload.decodeArguments("a/b", memoryview(b"[1]")), [1])
        self.assertEqual(self.payload.decodeResult("a/b", memoryview(b'"x"')), "x")

    def test_noArray(self) -> None:
        for data in (b"{}", b"1", b'"abc"', b"null"):
            self.assertIn("no array", self.refused("decodeArguments", data))

    def test_noJSON(self) -> None:
        for data in (b"", b"[1", b"[1]x", b"\xff\xfe", b"[\xc3]", b"[" + b"1" * 10_000 + b"]"):
            for method in ("decodeArguments", "decodeResult"):
                self.assertIn("no JSON", self.refused(method, data))

    def test_deep(self) -> None:
        for method in ("decodeArguments", "decodeResult"):
            for data in (DEEP, DEEP + b"]" * len(DEEP), b'{"a":' * 100_000):
                self.assertIn("nested too deeply", self.refused(method, data))
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        self.refused("encodeResult", value)
        self.refused("encodeArguments", (value,))

    def test_valuesWithoutJSON(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for value in (float("nan"), float("inf"), b"bytes", {1, 2}, object(), circle, "\ud800", {(1, 2): 3}):
            self.refused("encodeResult", value)
            self.refused("encodeArguments", (value,))

    def test_surrogatesFromTheWire(self) -> None:
        # JSON can write half of a pair; it is the method's own choice what to do with it.
        self.assertEqual(self.payload.decodeArguments("a/b", b'["\\ud800"]'), ["\ud800"])

    @given(st.binary(max_size=60))
    @modest
    def test_randomBytes(self, data: bytes) -> None:
        for method in (self.payload.decodeArguments, self.payload.decodeResult):
            try:
                method("a/b", data)
            except PayloadError:
                continue


class BytesTests(SynchronousTestCase):
    """One argument and one result."""

    def setUp(self) -> None:
        self.payload = BytesPayload()

    def test_carried(self) -> None:
        for value in (b"x", bytearray(b"x"), memoryview(b"x")):
            self.assertEqual(self.payload.encodeArguments("a/b", (value,)), b"x")
            self.assertEqual(self.payload.encodeResult("a/b", value), b"x")
        self.assertEqual(self.payload.encodeArguments("a/b", ()), b"")
        self.assertEqual(self.payload.encodeResult("a/b", None), b"")
        self.assertEqual(self.payload.decodeArguments("a/b", b"x"), (b"x",))
        self.assertEqual(self.payload.decodeResult("a/b", b"x"), b"x")

    def test_refused(self) -> None:
        for arguments in ((b"a", b"b"), ("text",), (None,), (1,)):
            error = self.assertRaises(PayloadError, self.payload.encodeArguments, "a/b", arguments)
            self.assertFalse(error.sent)
        for value in ("text", 0, [b"x"]):
            self.assertIn(
                "type " + type(value).__name__,
                str(self.assertRaises(PayloadError, self.payload.encodeResult, "a/b", value)),
            )
