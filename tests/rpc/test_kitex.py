"""TTHeader with Thrift's messages, as Kitex speaks it: golden bytes, bytes of strangers, two peers."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.rpc.messages import Cancel, ErrorReply, Feature, GoingAway, Ping, Reply, Request
from tests.support.rpc import Foreign, Outcome

_SKIP = None if find_spec("thriftpy2") else "thriftpy2 is not installed"

IDL = """
exception Out { 1: string what }
struct P { 1: string a, 2: list<i32> b, 3: map<string, P> c, 4: binary d, 5: set<bool> e, 6: double f, 7: i64 g }
service Echo {
    string echo(1: string text)
    P point(1: P p, 2: i16 n, 3: byte small) throws (1: Out out)
    void nothing()
    oneway void log(1: string line)
}
service Other extends Echo { i32 only(1: i32 n) }
"""


def load() -> Any:
    """The classes of the IDL."""
    import thriftpy2

    return thriftpy2.load_fp(io.StringIO(IDL), "getty_tx_test_kitex_thrift")


ECHO = "80010001 00000004 6563686f 00000001 0b0001 00000002 6869 00"
CALL = f"00000028 1000 0001 00000001 0001 0000 0000 {ECHO}"
NAMED = f"00000040 1000 0001 00000001 0007 00 00 01 0001 0003 69736e 0004 4563686f 10 0001 0009 0004 6563686f 00 {ECHO}"
REPLY = (
    "00000030 1000 0000 00000001 0003 0000 10 0001 0016 0001 32 0000"
    "80010002 00000004 6563686f 00000001 0b0000 00000002 6869 00"
)
EXCEPTION = (
    "00000043 1000 0000 00000001 0003 0000 10 0001 0016 0001 33 0000 80010003 00000004 6563686f 00000001"
    "0b0001 0000000e 756e6b6e6f776e206d6574686f64 080002 00000001 00"
)
LEAVING = (
    "0000002b 1000 0000 00000000 0004 0000 01 0001 0005 6372727374 0001 31 00 80010002 00000004 6e6f6e65 00000000 00"
)


#: Of the session, for what codecs ask it.
LIMIT: Any = type("Limit", (), {"maxMsgLen": 1 << 20})()


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


class KitexCase(SynchronousTestCase):
    """Has a wire, and a codec that has announced itself already, and been asked Echo/echo as number 1."""

    skip = _SKIP

    def setUp(self) -> None:
        self.idl = load()
        self.wire = rpc.TTHeader(payload="thrift", services={"Echo": self.idl.Echo})
        self.payload: Any = self.wire.payload
        self.codec: Any = self.wire.codec()
        self.codec.write(LIMIT, Ping())
        self.codec.write(LIMIT, Request(9, "Echo/echo", b"\0"))

    def read(self, text: str) -> Any:
        data = hexed(text)
        message, end = self.codec.read(LIMIT, memoryview(data))
        self.assertEqual(end, len(data))
        again = self.codec.readMany(LIMIT, data + data, 0, 1 << 20)
        for other, _ in again:
            self.assertEqual(vars_(other), vars_(message))
        return message


def vars_(message: Any) -> list[Any]:
    return [type(message), *(getattr(message, name) for name in message.__slots__)]


class GoldenTests(KitexCase):
    """The bytes of a Kitex client and server."""

    def test_call(self) -> None:
        """A call, with and without the names in the blocks."""
        for text in (CALL, NAMED):
            message = self.read(text)
            self.assertEqual((message.id, message.name, message.isOneWay), (1, "Echo/echo", False))
            self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["hi"])
        payload = self.payload.encodeArguments("Echo/echo", ("hi",))
        self.assertEqual(self.codec.write(LIMIT, Request(1, "Echo/echo", payload)), hexed(NAMED))
        # The blocks were kept.
        self.assertEqual(self.codec.write(LIMIT, Request(1, "Echo/echo", payload)), hexed(NAMED))

    def test_framed(self) -> None:
        """A client with TTHeaderFramed has a length before each message, and is answered so."""
        message = self.read(f"0000002c 1000 0001 00000001 0001 0000 0000 0000001a {ECHO}")
        self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["hi"])
        framed = REPLY.replace("00000030", "00000034", 1).replace("80010002", "0000001a 80010002")
        reply = Reply(1, self.payload.encodeResult("Echo/echo", "hi"))
        self.assertEqual(self.codec.write(LIMIT, reply), hexed(framed))
        self.assertEqual(self.payload.decodeResult("Echo/echo", self.read(framed).payload), "hi")
        with self.assertRaisesRegex(CodecError, "not as long as its frame of 30 bytes"):
            self.codec.read(LIMIT, memoryview(hexed(framed.replace("0000001a", "0000001b"))))

    def test_reply(self) -> None:
        """A reply, for which the codec remembers the name."""
        message = self.read(REPLY)
        self.assertIs(type(message), Reply)
        self.assertEqual(self.payload.decodeResult("Echo/echo", message.payload), "hi")
        self.read(CALL)
        reply = Reply(1, self.payload.encodeResult("Echo/echo", "hi"))
        self.assertEqual(self.codec.write(LIMIT, reply), hexed(REPLY))
        self.assertEqual(self.codec._asked, {})

    def test_exception(self) -> None:
        """An unknown method, and a service that is unknown."""
        message = self.read(EXCEPTION)
        self.assertEqual((message.id, message.code, message.text), (1, "noMethod", "unknown method"))
        self.read(CALL)
        error = ErrorReply(1, "noMethod", "unknown method")
        self.assertEqual(self.codec.write(LIMIT, error), hexed(EXCEPTION))
        self.read(NAMED.replace("4563686f 10", "4563686e 10"))
        self.assertEqual(self.codec.write(LIMIT, error)[-2], 20)

    def test_leaving(self) -> None:
        """Going away, with an empty reply, to a client that mixes calls."""
        self.assertIs(type(self.read(LEAVING)), GoingAway)
        self.read(CALL)
        self.assertEqual(self.codec.write(LIMIT, GoingAway()), hexed(LEAVING))
        self.assertEqual(self.codec.write(LIMIT, Reply(1, self.payload.encodeResult("Echo/echo", "hi"))), hexed(REPLY))

    def test_leavingByReply(self) -> None:
        """A client with one call at a time takes any frame for its reply, so the replies say it."""
        self.read(CALL.replace("1000 0001", "1000 0000"))
        self.assertEqual(self.codec.write(LIMIT, GoingAway()), b"")
        for message in (Reply(1, b"\0"), ErrorReply(1, "internal", "why"), ErrorReply(1, "404", "why")):
            frame = self.codec.write(LIMIT, message)
            self.assertIn(b"\0\x05crrst\0\x011", frame)
            for _ in range(2):
                # Also where the blocks are known.
                found = self.codec.readMany(LIMIT, frame, 0, 1 << 20) or [self.codec.read(LIMIT, memoryview(frame))]
                self.assertIs(type(found[0][0]), GoingAway)
                self.assertEqual((type(found[0][0].message), found[0][0].message.id), (type(message), 1))

    def test_left(self) -> None:
        """A caller that a reply tells so has its result, and makes no more calls there."""
        foreign = Foreign(self.wire)
        self.addCleanup(foreign.clock.advance, 30)
        self.addCleanup(foreign.session.close)
        outcome = Outcome(foreign.peer.call("Echo", "echo", "hi"))
        leaving: Any = self.wire.codec()
        leaving.write(LIMIT, GoingAway())
        reply = Reply(1, self.payload.encodeResult("Echo/echo", "hi"))
        foreign.pair.peer.write(leaving.write(foreign.session, reply))
        foreign.pair.flush()
        self.assertEqual((outcome.only, foreign.peer.isLeaving), ("hi", True))

    def test_types(self) -> None:
        """The types of exceptions, there and back; a code that they do not have is kept between peers of getty_tx."""
        codes = [self.read(EXCEPTION[:-11] + f"{kind:08x} 00").code for kind in (0, 1, 2, 6, 7, 10, 20, 21)]
        self.assertEqual(codes, ["internal", "noMethod", "2", "internal", "payload", "10", "noMethod", "noMethod"])
        for code, kind in (("internal", 6), ("payload", 7), ("refused", 6), ("outOfStock", 6)):
            data = self.codec.write(LIMIT, ErrorReply(1, code, "why"))
            self.assertEqual(data[-2], kind)
            message, _ = self.codec.read(LIMIT, memoryview(data))
            self.assertEqual((message.code, message.text), (code, "why"))

    def test_oneWay(self) -> None:
        """The IDL says which calls have no reply; type 4 does as well."""
        frame = self.codec.write(LIMIT, Request(2, "Echo/log", b"\0", None, None, True))
        self.assertIn(hexed("80010001 00000003 6c6f67 00000002 00"), frame)
        for data in (frame, frame.replace(hexed("80010001"), hexed("80010004"))):
            message, _ = self.codec.read(LIMIT, memoryview(data))
            self.assertTrue(message.isOneWay)
        self.assertTrue(self.read(CALL.replace("80010001", "80010004")).isOneWay)
        with self.assertRaisesRegex(rpc.PayloadError, "Echo/log is oneway in the IDL"):
            self.codec.write(LIMIT, Request(2, "Echo/log", b"\0"))

    def test_deadlineAndMetadata(self) -> None:
        """Milliseconds in int 12; strings as they are."""
        metadata = {"RPC_PERSIST_user": "7", "RPC_TRANSIT_x": "8"}
        frame = self.codec.write(LIMIT, Request(1, "Echo/echo", b"\0", 1.5, metadata))
        message, _ = self.codec.read(LIMIT, memoryview(frame))
        self.assertEqual((message.timeout, message.metadata), (1.5, metadata))

    def test_businessError(self) -> None:
        """A status beside an empty result is an error."""
        self.read(CALL)
        metadata = {"biz-status": "1404", "biz-message": "gone", "biz-extra": '{"a":"b"}'}
        message, _ = self.codec.read(LIMIT, memoryview(self.codec.write(LIMIT, Reply(1, b"\0", metadata))))
        self.assertEqual((message.code, message.text, message.details), ("1404", "gone", {"a": "b"}))

    def test_businessErrorOut(self) -> None:
        """An error whose code is a number is such a status; details are for it if they are texts."""
        for code, details, there in (("1404", {"a": "b"}, {"a": "b"}), ("-7", {"a": 1}, None), ("7", None, None)):
            self.read(CALL)
            frame = self.codec.write(LIMIT, ErrorReply(1, code, "gone", details))
            self.assertIn(hexed("80010002 00000004 6563686f 00000001 00"), frame)
            message, _ = self.codec.read(LIMIT, memoryview(frame))
            self.assertEqual((message.code, message.text, message.details), (code, "gone", there))
        for code in ("0", "2147483648", "", "-", "1e3", "\u0661"):
            self.assertIn(hexed("80010003"), self.codec.write(LIMIT, ErrorReply(1, code, "gone")))

    def test_cancelled(self) -> None:
        """A call that its caller gives up is forgotten."""
        self.read(CALL)
        self.codec.read(LIMIT, memoryview(self.codec.write(LIMIT, Cancel(1))))
        self.assertEqual(self.codec._asked, {})

    def test_splits(self) -> None:
        """However the bytes come, the messages are the same."""
        data = hexed(CALL + NAMED + REPLY + EXCEPTION + LEAVING)
        chance = random.Random(1)
        for _ in range(50):
            buffer, found, at = b"", [], 0
            while at < len(data):
                step = chance.randint(1, 40)
                buffer, at = buffer + data[at : at + step], at + step
                while True:
                    message, end = self.codec.read(LIMIT, memoryview(buffer))
                    if message is None:
                        break
                    found.append(type(message))
                    buffer = buffer[end:]
            self.assertEqual(found, [Request, Request, Reply, ErrorReply, GoingAway])
            self.assertEqual(buffer, b"")


class PayloadTests(KitexCase):
    """Structs."""

    def test_thriftpy2(self) -> None:
        """What thriftpy2 writes is read as it was."""
        idl = self.idl
        point = idl.P(a="\u00e9", b=[1, -2], c={"k": idl.P(a="in")}, d=b"\xff", e=[True, False], f=0.5, g=-(2**62))
        data = self.payload.encodeArguments("Echo/point", (point, 7, -1))
        self.assertEqual(self.payload.decodeArguments("Echo/point", data), [point, 7, -1])
        self.assertEqual(self.payload.decodeArguments("Echo/point", b"\0"), [None, None, None])
        # A field of another type, and one that is not known, are skipped.
        self.assertEqual(self.payload.decodeArguments("Echo/echo", data), [None])

    def test_cannotEncode(self) -> None:
        """Values that the IDL does not have."""
        for name, arguments, text in (
            ("Echo/echo", (5,), "Echo/echo: no Thrift: .*text"),
            ("Echo/echo", ("a", "b"), "has 1 arguments in the IDL"),
            ("Echo/nope", (), "is not in the IDL"),
        ):
            with self.assertRaisesRegex(rpc.PayloadError, text) as caught:
                self.payload.encodeArguments(name, arguments)
            self.assertFalse(caught.exception.sent)
        with self.assertRaisesRegex(rpc.PayloadError, "returned None"):
            self.payload.encodeResult("Echo/echo", None)
        with self.assertRaisesRegex(rpc.PayloadError, "returned a int"):
            self.payload.encodeResult("Echo/nothing", 1)
        with self.assertRaisesRegex(rpc.PayloadError, "no result"):
            self.payload.decodeResult("Echo/echo", b"\0")

    def test_hostile(self) -> None:
        """Lengths of all kinds, levels, unknown types: PayloadErrors, at once."""
        for text in (
            "",
            "0b0001",
            "0b0001 ffffffff",
            "0b0001 7fffffff",
            "0b0001 00000005 61 00",
            "0f0009 03 7fffffff",
            "0f0009 00 00000001 00 00",
            "0d0009 0b 0b 7fffffff",
            "630009 00",
            "0c0009" * 5000,
            "0f0009" + "0f00000001" * 100,
        ):
            with self.assertRaisesRegex(rpc.PayloadError, "Echo/echo: no Thrift: ."):
                self.payload.decodeArguments("Echo/echo", hexed(text))

    @given(st.binary())
    def test_anyStruct(self, data: bytes) -> None:
        """No bytes raise anything else."""
        for name in ("Echo/echo", "Echo/point"):
            with contextlib.suppress(rpc.PayloadError):
                self.payload.decodeArguments(name, data)
            with contextlib.suppress(rpc.PayloadError):
                self.payload.decodeResult(name, data)

    @given(st.integers(0, 67), st.integers(0, 255))
    def test_anyFrame(self, at: int, value: int) -> None:
        """A frame with any byte changed is a message, incomplete, or a CodecError."""
        for text in (NAMED, EXCEPTION):
            data = bytearray(hexed(text))
            data[at] = value
            with contextlib.suppress(CodecError):
                self.codec.read(LIMIT, memoryview(data))
            self.codec.readMany(LIMIT, bytes(data), 0, 1 << 20)

    def test_noMessage(self) -> None:
        """Payloads that are no Thrift messages."""
        for change in (
            ("80010001", "80020001"),
            ("80010001", "80010009"),
            ("00000004 6563686f 00", "7fffffff 6563686f 00"),
        ):
            with self.assertRaisesRegex(CodecError, "Thrift message"):
                self.codec.read(LIMIT, memoryview(hexed(CALL.replace(*change))))


class SettingTests(KitexCase):
    """What is wrong is said when the wire is made."""

    def test_settings(self) -> None:
        """Each names the setting."""
        for options, text in (
            ({"payload": "thrift"}, "services= is the path of an IDL file, or "),
            ({"payload": "thrift", "services": {"Echo": object()}}, "no service of thriftpy2"),
            ({"payload": "json", "services": {"Echo": self.idl.Echo}}, "is for payload='thrift'"),
        ):
            with self.assertRaisesRegex(SettingError, text):
                rpc.TTHeader(**options)

    def test_noSlices(self) -> None:
        """Kitex has none, whatever the other end says."""
        wire = rpc.TTHeader("thrift", services={"Echo": self.idl.Echo})
        self.assertNotIn(Feature.SLICES, wire.features)
        self.assertNotIn("slices", wire.announced)


class MissingTests(SynchronousTestCase):
    """Without the library."""

    def test_missing(self) -> None:
        """The error names the setting and the command."""
        with (
            patch.dict(sys.modules, {"thriftpy2.protocol": None, "thriftpy2": None}),
            self.assertRaisesRegex(SettingError, r"^Thrift needs thriftpy2: pip install 'getty_tx\[thrift\]'$"),
        ):
            rpc.TTHeader(payload="thrift", services={})


class SocketTests(TestCase):
    """Two peers over loopback."""

    skip = _SKIP
    timeout = 20

    async def test_calls(self) -> None:
        """Results, nothing, declared exceptions, others, what is unknown, one-way."""
        idl = load()
        lines: list[str] = []

        class Echo:
            @rpc.method
            def echo(self, text: str) -> str:
                if text == "odd":
                    raise ValueError(text)
                return text

            @rpc.method
            async def point(self, p: Any, n: int, small: int) -> Any:
                if n < 0:
                    raise idl.Out(what="below")
                return p

            @rpc.method
            def nothing(self) -> None:
                pass

            @rpc.method
            def log(self, line: str) -> None:
                lines.append(line)

        def wire() -> rpc.TTHeader:
            return rpc.TTHeader("thrift", services={"Echo": idl.Echo, "Other": idl.Other})

        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Echo": Echo()}, wire=wire())
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        client = rpc.Client(f"tcp:127.0.0.1:{address.port}", wire=wire())
        client.startService()
        self.addCleanup(client.stopService)
        echo = client.service("Echo")
        self.assertEqual(await echo.echo("hi"), "hi")
        point = idl.P(a="x", b=[1])
        self.assertEqual(await echo.point(point, 1, 2), point)
        self.assertIsNone(await echo.nothing())
        with self.assertRaises(idl.Out) as caught:
            await echo.point(point, -1, 2)
        self.assertEqual(caught.exception.what, "below")
        with self.assertRaisesRegex(rpc.RemoteError, "Echo/echo failed: ValueError"):
            await echo.echo("odd")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        with self.assertRaisesRegex(rpc.NoSuchMethodError, "there is no Other/only"):
            await client.call("Other", "only", 1)
        with self.assertRaisesRegex(rpc.PayloadError, "is oneway in the IDL"):
            await echo.log("x")
        client.send("Echo", "log", "line")
        self.assertEqual(await echo.echo("after"), "after")
        self.assertEqual(lines, ["line"])
