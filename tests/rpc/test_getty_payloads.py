"""What Getty's wire carries: JSON as Go writes it, and messages of protobuf."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.payloads.gojson import goJSON
from tests.support.rpc import Both

_SKIP = None if find_spec("google") and find_spec("google.protobuf") else "protobuf is not installed"

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class GoJSONTests(SynchronousTestCase):
    """JSON as encoding/json of Go writes it."""

    def setUp(self) -> None:
        self.payload: Any = rpc.Getty("json").payload

    def test_golden(self) -> None:
        """Sorted keys, nothing that HTML knows, no blanks, UTF-8."""
        for value, expected in (
            ({"b": 1, "a": [True, None], "\u00e9": {}, "Z": -5}, '{"Z":-5,"a":[true,null],"b":1,"\u00e9":{}}'),
            ("<a href='x'>&</a>", "\"\\u003ca href='x'\\u003e\\u0026\\u003c/a\\u003e\""),
            ({"<": "\u2028\u2029"}, '{"\\u003c":"\\u2028\\u2029"}'),
            ('\\u003c"\n\r\t\x01\x1f\x7f\U0001f600', '"\\\\u003c\\"\\n\\r\\t\\u0001\\u001f\x7f\U0001f600"'),
            (1.5, "1.5"),
            (10**30, "1000000000000000000000000000000"),
        ):
            self.assertEqual(goJSON(value).decode(), expected)
            self.assertEqual(self.payload.encodeArguments("A/b", (value,)).decode(), expected)
            self.assertEqual(self.payload.encodeResult("A/b", value).decode(), expected)

    @given(_values)
    def test_roundTrip(self, value: Any) -> None:
        """Each value comes back as it was. No result is null."""
        data = self.payload.encodeResult("A/b", value)
        self.assertEqual(self.payload.decodeResult("A/b", memoryview(data)), value)
        self.assertEqual(json.loads(data), value)
        self.assertEqual(self.payload.decodeArguments("A/b", data), () if value is None else (value,))

    def test_nothing(self) -> None:
        """No argument is null; no bytes at all are no result."""
        self.assertEqual(self.payload.encodeArguments("A/b", ()), b"null")
        self.assertEqual(self.payload.decodeArguments("A/b", b"null"), ())
        self.assertIsNone(self.payload.decodeResult("A/b", b""))

    def test_cannotEncode(self) -> None:
        """What is no JSON says so before anything is sent."""
        deep: list[Any] = []
        for _ in range(20000):
            deep = [deep]
        for value in (object(), {1: 1, "a": 2}, float("inf"), "\ud800", deep, b"bytes", {(1, 2): 3}):
            with self.assertRaisesRegex(rpc.PayloadError, "A/b: the argument is no JSON: .") as caught:
                self.payload.encodeArguments("A/b", (value,))
            self.assertFalse(caught.exception.sent)

    def test_cannotDecode(self) -> None:
        """So do bytes of strangers."""
        for data in (b"{", b"[" * 100000, b"\xff", b'{"a":1,}', b"1 2", b"9" * 5000):
            with self.assertRaisesRegex(rpc.PayloadError, "A/b: no JSON: ."):
                self.payload.decodeArguments("A/b", data)


@cache
def messages() -> dict[str, Any]:
    """The classes of Getty's example, and one with a field that must be there."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="getty_tx_test.proto", package="service", syntax="proto2")
    for name, fields in (("AddReq", ("A", "B")), ("AddRsp", ("Sum",))):
        kind = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            kind.field.add(name=field, number=number, type=5, label=1)
    file.message_type.add(name="Must").field.add(name="A", number=1, type=5, label=2)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClassesForFiles(["getty_tx_test.proto"], pool)
    return {name.partition(".")[2]: kind for name, kind in found.items()}


class Adder:
    """Adds, with messages and with bytes."""

    @rpc.method(name="Add")
    def add(self, request: Any) -> Any:
        return messages()["AddRsp"](Sum=request.A + request.B)

    @rpc.method(name="Raw")
    def raw(self, request: bytes) -> bytes:
        return request[::-1]

    @rpc.method(name="Nothing")
    def nothing(self, request: Any) -> None:
        return None


class BytesTests(SynchronousTestCase):
    """Protobuf without classes: whoever calls has encoded messages."""

    def setUp(self) -> None:
        self.both = Both({"Adder": Adder()}, wire=rpc.Getty("protobuf"))

    def test_bytes(self) -> None:
        """Bytes go and come, of any kind."""
        for value in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
            self.assertEqual(self.both.result("Adder/Raw", value), b"cba")
        self.assertEqual(self.both.result("Adder/Raw"), b"")
        self.assertEqual(self.both.result("Adder/Nothing", b"1"), b"")

    def test_others(self) -> None:
        """Others are an error, and so are two."""
        for value in ("abc", 1, {"A": 1}):
            error = self.both.result("Adder/Raw", value)
            self.assertRegex(str(error), "Adder/Raw: the argument is .*, not a message or bytes")
            self.assertFalse(error.sent)
        self.assertRegex(str(self.both.result("Adder/Raw", b"", b"")), "carries one argument, not 2")

    def test_missing(self) -> None:
        """Classes need the library, and say how to get it. Bytes do not."""
        with patch.dict(sys.modules, {"google": None, "google.protobuf": None, "google.protobuf.message": None}):
            rpc.Getty("protobuf")
            with self.assertRaisesRegex(SettingError, r"^types= needs protobuf: pip install 'getty_tx\[protobuf\]'$"):
                rpc.Getty("protobuf", types={"A/b": (bytes, bytes)})


class MessageTests(TestCase):
    """Protobuf with classes."""

    skip = _SKIP

    def setUp(self) -> None:
        kinds = messages()
        self.request, self.result = kinds["AddReq"], kinds["AddRsp"]
        self.wire = rpc.Getty("protobuf", types={"Adder/Add": (self.request, self.result)})
        self.payload: Any = self.wire.payload

    def test_golden(self) -> None:
        """Messages become the bytes of the golden packages, and those become messages."""
        request = self.request(A=1, B=10)
        self.assertEqual(self.payload.encodeArguments("Adder/Add", (request,)), bytes.fromhex("0801100a"))
        self.assertEqual(self.payload.decodeArguments("Adder/Add", bytes.fromhex("0801100a")), (request,))
        self.assertEqual(self.payload.encodeResult("Adder/Add", self.result(Sum=11)), bytes.fromhex("080b"))
        self.assertEqual(self.payload.decodeResult("Adder/Add", memoryview(bytes.fromhex("080b"))).Sum, 11)

    def test_calls(self) -> None:
        """Methods get and return messages, also where nobody has named their classes to the caller."""
        both = Both({"Adder": Adder()}, wire=self.wire)
        self.assertEqual(both.result("Adder/Add", self.request(A=1, B=10)), self.result(Sum=11))
        self.assertEqual(both.result("Adder/Add", b"\x08\x02"), self.result(Sum=2))
        self.assertEqual(both.result("Adder/Add"), self.result(Sum=0))
        self.assertEqual(both.result("Adder/Raw", self.request(A=1, B=10)), bytes.fromhex("0a100108"))
        error = both.result("Adder/Add", b"\xff")
        self.assertRegex(str(error), "Adder/Add: the argument is no AddReq: ")

    def test_cannotEncode(self) -> None:
        """Another class, and a message without a field that must be there."""
        must = messages()["Must"]
        with self.assertRaisesRegex(rpc.PayloadError, "Adder/Add: the argument is AddRsp, not AddReq or bytes"):
            self.payload.encodeArguments("Adder/Add", (self.result(),))
        with self.assertRaisesRegex(
            rpc.PayloadError, "Adder/Raw: the argument cannot be encoded: .*required"
        ) as caught:
            self.payload.encodeArguments("Adder/Raw", (must(),))
        self.assertFalse(caught.exception.sent)

    def test_types(self) -> None:
        """What is in ``types`` are pairs of classes of messages."""
        for types in ({"Adder/Add": self.request}, {"Add": (self.request, self.result)}, {"A/b": (self.request,)}):
            with self.assertRaisesRegex(SettingError, r"is not 'Service/method': \(Request, Reply\)"):
                rpc.Getty("protobuf", types=types)  # type: ignore[arg-type]
        for kind in (bytes, self.request(), None):
            with self.assertRaisesRegex(SettingError, "is no class of messages"):
                rpc.Getty("protobuf", types={"A/b": (self.request, kind)})

    async def test_sockets(self) -> None:
        """A whole server and a whole client."""
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Adder": Adder()}, wire=self.wire)
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=self.wire, timeout=60)
        client.startService()
        self.addCleanup(client.stopService)
        self.assertEqual((await client.call("Adder", "Add", self.request(A=1, B=10))).Sum, 11)
