"""
Bytes of Go: what cloudwego/gopkg, the packages below Kitex, has written is read here, and it has read what is written.

The bytes are from a program on its packages protocol/ttheader, protocol/thrift and protocol/thrift/base, at commit
10def4e of February 2026, by Go 1.19.
"""

from __future__ import annotations

import io
from typing import Any

from getty_tx import rpc
from getty_tx.errors import CodecError
from getty_tx.rpc.messages import Cancel, ErrorReply, GoingAway, Reply, Request
from tests.rpc import test_kitex
from tests.rpc.test_kitex import LIMIT, hexed

#: Of protocol/thrift/base/base.thrift, and a service for it.
IDL = """
struct Base { 1: string LogID = "", 2: string Caller = "", 3: string Addr = "", 6: optional map<string, string> Extra }
struct BaseResp { 1: string StatusMessage = "", 2: i32 StatusCode = 0, 3: optional map<string, string> Extra }
service Gate { BaseResp ask(1: Base base) }
"""

# Written in Go.
CALL = (
    "000000761000000100000007000a0000110003746f6b010001000d5250435f504552534953545f74000137100001000c000431353030"
    "800100010000000361736b000000070c00010b0001000000026c310b000200000005636166c3a90b000300000001610d00060b0b0000"
    "0001000000016b00000001760000"
)
BARE = (
    "800100010000000361736b000000070c00010b0001000000026c310b000200000005636166c3a90b000300000001610d00060b0b0000"
    "0001000000016b00000001760000"
)
POINT = (
    "8001000100000005706f696e74fffffff80c00010b000100000002c3a90f0002080000000200000001fffffffe0d00030b0c00000001"
    "000000016b0b000100000002696e000b000400000001ff0e0005020000000201000400063fe00000000000000a0007c0000000000000"
    "0000060002fff9030003ff00"
)
REPLY = (
    "00000061100000000000000700080000010001000e5250435f4241434b574152445f7800017910000100160001328001000200000003"
    "61736b000000070c00000b0001000000026f6b080002fffffffd0d00030b0b00000001000000016100000001620000"
)
EXCEPTION = (
    "0000003a10000000000000070003000010000100160001330000800100030000000361736b000000070b0001000000066e6f2061736b"
    "0800020000000100"
)
BUSINESS = (
    "00000032100000000000000700060000010001000a62697a2d73746174757300043134303400800100020000000361736b0000000700"
)
LEAVING = "0000002b100000000000000000040000010001000563727273740001310080010002000000046e6f6e650000000000"
STREAM = "00000016100000020000000100031000100001001b0001320000"

# Written here. Go has found in them what the tests say.
CALLED = (
    "00000092100000010000000700120000010003000369736e000447617465000d5250435f504552534953545f74000137000567657474"
    "79000b63616e63656c2c70696e671000020009000361736b000c000431353030800100010000000361736b000000070c00010b000100"
    "0000026c310b000200000002c3a90b0003000000000d00060b0b00000001000000016b00000001760000"
)
REPLIED = (
    "000000751000000000000007000d0000010002000e5250435f4241434b574152445f7800017900056765747479000b63616e63656c2c"
    "70696e671000010016000132800100020000000361736b000000070c00000b0001000000026f6b080002fffffffd0d00030b0b000000"
    "01000000016100000001620000"
)
UNKNOWN = (
    "0000003a10000000000000070003000010000100160001330000800100030000000361736b000000070b0001000000066e6f2061736b"
    "0800020000000100"
)
REFUSED = (
    "00000053100000000000000700090000010001000a67657474792d636f64650007726566757365641000010016000133000080010003"
    "0000000361736b000000070b00010000000766756c6c20c3a90800020000000600"
)
BUSINESS_OUT = (
    "00000062100000000000000700120000010003000a62697a2d737461747573000431343034000b62697a2d6d6573736167650004676f"
    "6e65000962697a2d657874726100097b2261223a2262227d1000010016000132800100020000000361736b0000000700"
)


class GopkgCase(test_kitex.KitexCase):
    """Has wires for the IDL, and for that of the other tests."""

    def setUp(self) -> None:
        import thriftpy2

        super().setUp()
        self.gate = thriftpy2.load_fp(io.StringIO(IDL), "getty_tx_test_gopkg_thrift")
        self.wire = rpc.Thrift({"Gate": self.gate.Gate, "Echo": self.idl.Echo})
        self.payload = self.wire.payload

    def heard(self, text: str) -> Any:
        """What a session reads first."""
        codec = self.wire.codec()
        message, end = codec.read(LIMIT, memoryview(hexed(text)))
        self.assertEqual(end, len(hexed(text)))
        return message


class ReadTests(GopkgCase):
    """Bytes of Go."""

    def test_call(self) -> None:
        """Names, numbers, the deadline, a token of access among the metadata, and the struct."""
        message = self.heard(CALL)
        self.assertEqual((message.id, message.name, message.timeout), (7, "Gate/ask", 1.5))
        self.assertEqual(message.metadata, {"RPC_PERSIST_t": "7", "RPC_TRANSIT_gdpr-token": "tok"})
        for each in (message, self.heard(BARE)):
            [base] = self.payload.decodeArguments("Gate/ask", each.payload)
            self.assertEqual(base, self.gate.Base(LogID="l1", Caller="caf\u00e9", Addr="a", Extra={"k": "v"}))

    def test_types(self) -> None:
        """All types, there and back."""
        message = self.heard(POINT)
        self.assertEqual((message.id, message.name), (-8, "Echo/point"))
        idl = self.idl
        point = idl.P(a="\u00e9", b=[1, -2], c={"k": idl.P(a="in")}, d=b"\xff", e=[True, False], f=0.5, g=-(1 << 62))
        self.assertEqual(self.payload.decodeArguments("Echo/point", message.payload), [point, -7, -1])
        payload = self.payload.encodeArguments("Echo/point", (point, -7, -1))
        codec = rpc.Thrift({"Echo": idl.Echo}, transport="buffered").codec()
        self.assertEqual(codec.write(LIMIT, Request(-8, "Echo/point", payload)).hex(), POINT)

    def test_reply(self) -> None:
        """Results, exceptions, business errors, and the notice of going away."""
        reply = self.heard(REPLY)
        self.assertEqual((reply.id, reply.metadata), (7, {"RPC_BACKWARD_x": "y"}))
        value = self.payload.decodeResult("Gate/ask", reply.payload)
        self.assertEqual(value, self.gate.BaseResp(StatusMessage="ok", StatusCode=-3, Extra={"a": "b"}))
        for text, code, why in ((EXCEPTION, "noMethod", "no ask"), (BUSINESS, "1404", "")):
            error = self.heard(text)
            self.assertEqual((type(error), error.id, error.code, error.text), (ErrorReply, 7, code, why))
        leaving = self.heard(LEAVING)
        self.assertEqual((type(leaving), leaving.message), (GoingAway, None))

    def test_refused(self) -> None:
        """Streams and protobuf are refused by their names, also where the blocks are known."""
        protobuf = CALL[:4] + CALL[4:].replace("80010001", "0000003c90010001")
        for text, why in (
            (STREAM, r"a stream of Kitex \(flag 0x02\): TTHeader\(payload='thrift'\) has no streams"),
            (CALL.replace("10000001", "10000003"), "a stream of Kitex"),
            (f"0000007a{protobuf[8:]}", "Kitex's protobuf"),
        ):
            with self.assertRaisesRegex(CodecError, why):
                self.heard(text)
        codec = self.wire.ttheader.codec()
        known = hexed(EXCEPTION)
        codec.read(LIMIT, memoryview(known))
        stream = known[:7] + b"\2" + known[8:]
        self.assertEqual(len(codec.readMany(LIMIT, known + stream + known, 0, 1 << 20)), 1)

    def test_odd(self) -> None:
        """A time of 0 is no limit, a status that is no number no error, and the number 0 one as others for a call."""
        self.assertIsNone(self.heard(CALL.replace("000431353030", "000430303030")).timeout)
        self.assertIs(type(self.heard(BUSINESS.replace("31343034", "72656675"))), Reply)
        codec = self.wire.codec()
        request, _ = codec.read(LIMIT, memoryview(hexed(CALL.replace("0000000700", "0000000000", 1))))
        self.assertEqual((type(request), request.id, request.name), (Request, 0, "Gate/ask"))
        reply = codec.write(LIMIT, Reply(0, b"\0"))
        self.assertIn(hexed("80010002 00000003 61736b 00000000 00"), reply)


class WriteTests(GopkgCase):
    """Bytes that Go has read."""

    def test_call(self) -> None:
        """The first of a session, with metadata and a deadline."""
        codec = self.wire.ttheader.codec()
        payload = self.payload.encodeArguments(
            "Gate/ask", (self.gate.Base(LogID="l1", Caller="\u00e9", Extra={"k": "v"}),)
        )
        request = Request(7, "Gate/ask", payload, 1.5, {"RPC_PERSIST_t": "7"})
        self.assertEqual(codec.write(LIMIT, request).hex(), CALLED)

    def test_answers(self) -> None:
        """A result, and errors of each kind."""
        codec = self.wire.ttheader.codec()
        result = self.gate.BaseResp(StatusMessage="ok", StatusCode=-3, Extra={"a": "b"})
        payload = self.payload.encodeResult("Gate/ask", result)
        for message, expected in (
            (Reply(7, payload, {"RPC_BACKWARD_x": "y"}), REPLIED),
            (ErrorReply(7, "noMethod", "no ask"), UNKNOWN),
            (ErrorReply(7, "refused", "full \u00e9"), REFUSED),
            (ErrorReply(7, "1404", "gone", {"a": "b"}), BUSINESS_OUT),
            (GoingAway(), LEAVING),
        ):
            codec.read(LIMIT, memoryview(hexed(CALL)))
            self.assertEqual(codec.write(LIMIT, message).hex(), expected)

    def test_cancelToNobody(self) -> None:
        """What Kitex has no word for is not said to it."""
        codec = self.wire.codec()
        codec.read(LIMIT, memoryview(hexed(CALL)))
        self.assertEqual({feature.value for feature in codec.understood}, {"goaway"})
        # To those that have named it, it has a block of its own, which Go reads over.
        self.assertIn(b"getty-cancel", codec.write(LIMIT, Cancel(7)))
