"""
Bytes of Kitex: what a client and a server of it have written, version 0.16.3 of August 2026, built with Go 1.19.

The client has the options TransportProtocol, ClientTTHeaderHandler, MetainfoClientHandler and RPCTimeout; the server
MuxTransport, ServerTTHeaderHandler and MetainfoServerHandler.
"""

from __future__ import annotations

import io
from typing import Any

from getty_tx import rpc
from getty_tx.rpc.messages import ErrorReply, GoingAway, Reply
from tests.rpc import test_kitex
from tests.rpc.test_kitex import LIMIT, hexed

IDL = """
exception NoSuchUser { 1: string name }
struct User { 1: string name, 2: i32 age }
service Users { User find(1: string name) throws (1: NoSuchUser missing), void nothing() }
"""

# find("ann"), in TTHeader with one call at a time, and mixed with others, and without it.
ONE = (
    "000000991000000000000001001c0000010003000f5250435f5452414e5349545f484f5000013800125250435f504552534953545f5445"
    "4e414e54000137000369736e000555736572731000070016000131000100066672616d6564000c00043230303000030000001400000006"
    "000575736572730009000466696e64000000001b800100010000000466696e64000000010b000100000003616e6e00"
)
MIXED = (
    "000000991000000100000001001c0000010003000f5250435f5452414e5349545f484f5000013800125250435f504552534953545f5445"
    "4e414e54000137000369736e0005557365727310000700030000001400000006000575736572730009000466696e640016000131000100"
    "066672616d6564000c000432303030000000001b800100010000000466696e64000000010b000100000003616e6e00"
)
FRAMED = "0000001b800100010000000466696e64000000010b000100000003616e6e00"

# What a server has answered to the number 5.
MISSING = (
    "0000003510000000000000050003000010000100160001320000800100020000000466696e64000000050c00010b0001000000037a65640000"
)
BUSINESS = (
    "00000077100000000000000500170000010003000a62697a2d737461747573000431343030000b62697a2d6d6573736167650011612075"
    "736572206861732061206e616d65000962697a2d657874726100107b226669656c64223a226e616d65227d100001001600013280010002"
    "0000000466696e640000000500"
)
FAILED = (
    "0000004810000000000000050003000010000100160001330000800100030000000466696e64000000050b00010000001362697a206572"
    "726f723a206f646420746578740800020000000600"
)
NO_METHOD = (
    "000000581000000000000005000300001000010016000133000080010003000000046e6f7065000000050b000100000023756e6b6e6f77"
    "6e206d6574686f64206e6f7065202873657276696365205573657273290800020000000100"
)
NO_SERVICE = (
    "000000561000000000000005000300001000010016000133000080010003000000046e6f7065000000050b000100000021756e6b6e6f77"
    "6e2073657276696365204e6f70652c206d6574686f64206e6f70650800020000001400"
)
BAD_ARGUMENT = (
    "0000007e10000000000000050003000010000100160001330000800100030000000466696e64000000050b0001000000492a7573657273"
    "2e557365727346696e64417267732072656164206669656c64203120276e616d6527206572726f723a2052656164537472696e673a2062"
    "756620746f6f20736d616c6c0800020000000700"
)
NOTHING = "0000002a1000000000000005000300001000010016000132000080010002000000076e6f7468696e670000000500"


class BytesTests(test_kitex.KitexCase):
    """Each is what it is meant to be."""

    def setUp(self) -> None:
        import thriftpy2

        super().setUp()
        self.users = thriftpy2.load_fp(io.StringIO(IDL), "getty_tx_test_kitex_users_thrift")
        self.wire = rpc.Thrift({"Users": self.users.Users})  # type: ignore[assignment]
        self.payload = self.wire.payload

    def heard(self, text: str) -> Any:
        codec = self.wire.codec()
        message, end = codec.read(LIMIT, memoryview(hexed(text)))
        self.assertEqual(end, len(hexed(text)))
        return message

    def test_calls(self) -> None:
        """The name, the deadline and the metadata, and whether the client knows the notice of going away."""
        for text, isPlain, mixes in ((ONE, False, False), (MIXED, False, True), (FRAMED, True, False)):
            codec: Any = self.wire.codec()
            message, _ = codec.read(LIMIT, memoryview(hexed(text)))
            self.assertEqual((message.id, message.name), (1, "Users/find"))
            self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["ann"])
            if isPlain:
                self.assertEqual((message.timeout, message.metadata), (None, None))
                continue
            metadata = {"RPC_TRANSIT_HOP": "8", "RPC_PERSIST_TENANT": "7"}
            self.assertEqual((message.timeout, message.metadata), (2.0, metadata))
            self.assertEqual(bool(codec.write(LIMIT, GoingAway())), mixes)
            # Its messages have a length, and so have their replies.
            reply = codec.write(LIMIT, Reply(1, b"\0"))
            self.assertTrue(reply.endswith(hexed("00000011 80010002 00000004 66696e64 00000001 00")))

    def test_results(self) -> None:
        """A result, nothing, and an exception of the IDL."""
        reply = self.heard(MISSING)
        error = self.payload.decodeResult("Users/find", reply.payload).value
        self.assertEqual((reply.id, type(error), error.name), (5, self.users.NoSuchUser, "zed"))
        self.assertIsNone(self.payload.decodeResult("Users/nothing", self.heard(NOTHING).payload))

    def test_errors(self) -> None:
        """Their codes, texts and details."""
        for text, code, why, details in (
            (BUSINESS, "1400", "a user has a name", {"field": "name"}),
            (FAILED, "internal", "biz error: odd text", None),
            (NO_METHOD, "noMethod", "unknown method nope (service Users)", None),
            (NO_SERVICE, "noMethod", "unknown service Nope, method nope", None),
            (
                BAD_ARGUMENT,
                "payload",
                "*users.UsersFindArgs read field 1 'name' error: ReadString: buf too small",
                None,
            ),
        ):
            error = self.heard(text)
            self.assertEqual((type(error), error.id, error.code, error.text), (ErrorReply, 5, code, why))
            self.assertEqual(error.details, details)
