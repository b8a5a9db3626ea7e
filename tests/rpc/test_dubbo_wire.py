"""The wire of Dubbo: golden bytes, bytes of strangers, limits."""

from __future__ import annotations

import contextlib
from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.registry import Provider
from getty_tx.rpc.hessian import JavaObject, Limits, Long, decode, encode
from getty_tx.rpc.messages import Cancel, ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.wires.dubbobodies import takesAttachments
from getty_tx.settings import MAX_SECONDS
from getty_tx.testing import feedSplit

HEARTBEAT = "dabb e2 00 0000000000000001 00000001 4e"
HEARTBEAT_ANSWER = "dabb 22 14 0000000000000001 00000001 4e"
LEAVING = "dabb a2 00 0000000000000005 00000002 0152"
SAY = (
    "dabb c2 00 0000000000000001 0000004f 05322e302e32 0b636f6d2e65782e4563686f 03312e30 03736179"
    "124c6a6176612f6c616e672f537472696e673b 026869 48 0470617468 0b636f6d2e65782e4563686f 0776657273696f6e 03312e30 5a"
)
VALUE = "dabb 02 14 0000000000000001 00000004 91 026869"
VALUE_ATTACHED = "dabb 02 14 0000000000000001 00000012 94 026869 48 05647562626f 05322e302e32 5a"
NULL = "dabb 02 14 0000000000000001 00000001 92"
BAD = "dabb 02 28 0000000000000001 0000000c 0b6261642072657175657374"

ECHO = "com.ex.Echo"
SAY_NAME = "com.ex.Echo/say"
ATTACHED = 1 << 65


def end(maxMsgLen: int = 1 << 22, provider: Any = None, kind: str = "TCP_CLIENT") -> Any:
    """As much of a session as the codec looks at."""
    return SimpleNamespace(maxMsgLen=maxMsgLen, provider=provider, connection=SimpleNamespace(kind=kind))


def vars_(message: Any) -> list[Any]:
    return [type(message), *(getattr(message, name) for name in message.__slots__)]


def package(flags: int, status: int, number: int, *values: Any, more: bytes = b"") -> bytes:
    """A package with these values."""
    body = encode(*values) + more
    return b"\xda\xbb" + bytes((flags, status)) + number.to_bytes(8, "big") + len(body).to_bytes(4, "big") + body


def asking(*values: Any, number: int = 1, flags: int = 0xC2, more: bytes = b"") -> bytes:
    """A request's package."""
    return package(flags, 0, number, *values, more=more)


class WireCase(SynchronousTestCase):
    """Has a wire, whose service has the version 1.0."""

    def setUp(self) -> None:
        self.wire = rpc.Dubbo(versions={ECHO: "1.0"})

    def knowing(self) -> Any:
        """A codec whose peer has answered a heartbeat."""
        codec = self.wire.codec()
        self.assertNotIn(Feature.PING, codec.understood)
        codec.read(end(), memoryview(bytes.fromhex(HEARTBEAT_ANSWER)))
        self.assertIn(Feature.PING, codec.understood)
        return codec

    def read(self, data: bytes | str, wire: Any = None) -> Any:
        """The one message in the bytes, however it is read."""
        data = bytes.fromhex(data) if isinstance(data, str) else data
        wire = wire or self.wire
        message, length = wire.codec().read(end(), memoryview(data))
        self.assertEqual(length, len(data))
        [(batched, stop)] = wire.codec().readMany(end(), data, 0, 1 << 22)
        self.assertEqual(stop, len(data))
        if not isinstance(getattr(message, "payload", None), rpc.RpcError):
            self.assertEqual(vars_(message), vars_(batched))
        return message

    def write(self, message: Any, wire: Any = None, session: Any = None) -> bytes:
        """The package of a message."""
        data: bytes = (wire or self.wire).codec().write(session or end(), message)
        return data

    def arguments(self, *arguments: Any, name: str = SAY_NAME) -> bytes:
        """A request's payload."""
        return self.wire.payload.encodeArguments(name, arguments)


class GoldenTests(WireCase):
    """Bytes that peers have written."""

    def test_request(self) -> None:
        """A request is written as dubbo-go writes it, and read."""
        data = bytes.fromhex(SAY)
        self.assertEqual(self.write(Request(1, SAY_NAME, self.arguments("hi"))), data)
        message = self.read(data)
        self.assertEqual(vars_(message), vars_(Request(1 | ATTACHED, SAY_NAME, ["hi"])))
        self.assertEqual(self.wire.payload.decodeArguments(SAY_NAME, message.payload), ["hi"])

    def test_replies(self) -> None:
        """So are replies: to a caller who takes attachments, and to one who does not."""
        result = self.wire.payload.encodeResult(SAY_NAME, "hi")
        self.assertEqual(self.write(Reply(1, result)), bytes.fromhex(VALUE))
        self.assertEqual(self.write(Reply(1 | ATTACHED, result)), bytes.fromhex(VALUE_ATTACHED))
        self.assertEqual(self.write(Reply(1, self.wire.payload.encodeResult(SAY_NAME, None))), bytes.fromhex(NULL))
        for data in (VALUE, VALUE_ATTACHED):
            self.assertEqual(vars_(self.read(data)), vars_(Reply(1, "hi")))
        self.assertEqual(vars_(self.read(NULL)), vars_(Reply(1, None)))

    def test_statuses(self) -> None:
        """A bad request."""
        self.assertEqual(self.write(ErrorReply(1, "payload", "bad request")), bytes.fromhex(BAD))
        self.assertEqual(vars_(self.read(BAD)), vars_(ErrorReply(1, "payload", "bad request", 40)))

    def test_events(self) -> None:
        """Heartbeats are answered with their id; ours have ids that no call has. The notice is known."""
        codec = self.knowing()
        self.assertIsInstance(codec.read(end(), memoryview(bytes.fromhex(HEARTBEAT)))[0], Ping)
        self.assertEqual(codec.write(end(), Pong()), bytes.fromhex(HEARTBEAT_ANSWER))
        self.assertIsInstance(self.read(HEARTBEAT_ANSWER), Pong)
        self.assertIsInstance(self.read(LEAVING), GoingAway)
        for message, golden in ((Ping(), HEARTBEAT), (GoingAway(), LEAVING), (Pong(), HEARTBEAT)):
            data = codec.write(end(), message)
            expected = bytes.fromhex(golden)
            self.assertEqual(data[:4] + data[12:], expected[:4] + expected[12:])
            self.assertGreater(int.from_bytes(data[4:12], "big"), 0x7FFFFFFF)
        with self.assertRaises(SettingError):
            codec.write(end(), Cancel(1))

    def test_surplus(self) -> None:
        """dubbo-go writes a null behind each reply, and two in the answer to a heartbeat."""
        self.assertEqual(self.read(package(2, 20, 1, 1, "hi", None)).payload, "hi")
        self.assertEqual(self.read(package(2, 20, 1, 4, "hi", {"dubbo": "2.0.2", "a": "b"}, None)).metadata, {"a": "b"})
        self.assertIsInstance(self.read(package(0x22, 20, 1, None, None)), Pong)
        self.assertEqual(self.read(asking("2.0.2", ECHO, "1.0", "say", "", {}, None, more=b"\xff")).payload, [])
        self.assertEqual(self.read(package(2, 40, 1, "bad", None)).text, "bad")


class RequestTests(WireCase):
    """What requests say."""

    def ask(self, protocol: Any, path: Any, version: Any, method: Any, types: Any, *values: Any, **more: Any) -> Any:
        """The message of a request, which is read twice: by what is known of it the second time."""
        data = asking(protocol, path, version, method, types, *values, **more)
        first, second = self.read(data), self.read(data)
        self.assertEqual(first.name, second.name)
        self.assertEqual((first.id, first.timeout, first.metadata), (second.id, second.timeout, second.metadata))
        return first

    def test_attachments(self) -> None:
        """They are metadata but for the wire's own; the time-out is in milliseconds, as a text or a number."""
        values = {"path": ECHO, "interface": ECHO, "timeout": "1500", "user": "1", "n": 5, "f": 2.5, "b": True}
        message = self.ask("2.0.2", ECHO, "1.0", "say", "", {**values, "list": [1], "none": None, 5: "x"})
        self.assertEqual(message.metadata, {"user": "1", "n": "5", "f": "2.5", "b": "true"})
        self.assertEqual(message.timeout, 1.5)
        for value, expected in ((250, 0.25), (Long(250), 0.25), ("0", None), ("-1", None), ("soon", None), ([1], None)):
            message = self.ask("2.0.2", ECHO, "1.0", "say", "", {"timeout": value})
            self.assertEqual(message.timeout, expected)
        self.assertEqual(self.ask("2.0.2", ECHO, "1.0", "say", "", {"timeout": "9" * 18}).timeout, MAX_SECONDS)
        for values in ((), (None,)):
            self.assertEqual(
                (message.timeout, self.ask("2.0.2", ECHO, "1.0", "say", "", *values).metadata), (None, None)
            )

    def test_sharedReferences(self) -> None:
        """Attachments that refer to an argument are not taken for those of another call with the same bytes."""
        for text in ("a", "b"):
            shared = [text]
            message = self.read(
                asking("2.0.2", ECHO, "1.0", "say", "Ljava/util/List;", shared, {"x": shared, "u": "1"})
            )
            self.assertEqual((message.payload, message.metadata), ([[text]], {"u": "1"}))

    def test_whoTakesAttachments(self) -> None:
        """Callers say so by the version of their protocol."""
        for protocol, expected in (
            ("2.0.1", False), ("2.0.2", True), ("2.0.9", True), ("2.0.10", False), ("2.5.3", False), ("2.6.2", False),
            ("2.6.3", False), ("2.7.23", False), ("3.2.1.1", False), ("2.8.4a", False), ("", False), ("2", False),
            ("2.0.2-SNAPSHOT", True), ("2.0.20", False), ("12.0.2", False),
        ):  # fmt: skip
            self.assertIs(takesAttachments(protocol), expected, protocol)
            number = self.ask(protocol, ECHO, "1.0", "say", "", {}).id
            self.assertEqual(number, 1 | (ATTACHED if expected else 0))

    def test_ids(self) -> None:
        """All 64 bits of an id come back, the sign included."""
        for number in (0, 1, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE):
            message = self.read(asking("2.0.2", ECHO, "1.0", "say", "", {}, number=number))
            for reply in (
                Reply(message.id, b"N"),
                ErrorReply(message.id, "payload", "x"),
                ErrorReply(message.id, "a", "x"),
            ):
                self.assertEqual(self.write(reply)[4:12], number.to_bytes(8, "big"))

    def test_oneWay(self) -> None:
        """Nobody waits for the reply."""
        message = self.read(asking("2.0.2", ECHO, "1.0", "say", "", {}, flags=0x82))
        self.assertTrue(message.isOneWay)
        self.assertEqual(self.write(Request(1, SAY_NAME, self.arguments(), None, None, True))[2], 0x82)

    def test_unreadable(self) -> None:
        """A request that cannot be decoded has its number and the reason, however far it could be read."""
        text = "Ljava/lang/String;"
        for data, why in (
            (asking(more=b""), "end"),
            (asking("2.0.2", ECHO, more=b"\x05ab"), "end"),
            (asking("2.0.2", 5, "1.0", "say", "", {}), "the path is a int"),
            (asking("2.0.2", ECHO, "1.0", "say", "I;", 1, {}), "';' is no type's descriptor"),
            (asking("2.0.2", ECHO, "1.0", "say", "Lcom/ex", 1, {}), "'Lcom/ex' is no type's descriptor"),
            (asking("2.0.2", ECHO, "1.0", "say", "I" * 256, 1, {}), "more than 255 types"),
            (asking("2.0.2", ECHO, "1.0", "say", text + text, "a"), "end"),
            (asking("2.0.2", ECHO, "1.0", "say", text, more=b"\x51\x95"), "at byte"),
            (asking("2.0.2", ECHO, "1.0", "say", "", "text"), "the attachments are a str, and no map"),
            (asking("2.0.2", ECHO, "1.0", "say", "", {"a": "b" * 20_000}), "are above maxMetadata=16384"),
            (asking("2.0.2", ECHO, "1.0", "say", "", {str(n): "" for n in range(300)}), "300 names of metadata"),
            (
                asking("2.0.2", ECHO, "1.0", "say", "", {}, flags=0xC6),
                "its serialization is 6, not 2, which serialization=hessian2 names",
            ),
        ):
            message = self.read(data)
            self.assertIsInstance(message, Request)
            self.assertEqual(message.id & 0xFFFF, 1)
            self.assertRegex(str(message.payload), f"^({message.name}|a request that cannot be read): .*{why}")
            with self.assertRaises(rpc.PayloadError):
                self.wire.payload.decodeArguments(message.name, message.payload)

    def test_keptAreBounded(self) -> None:
        """What is kept of requests does not grow with what strangers ask for."""
        wire = rpc.Dubbo()
        for number in range(2500):
            self.read(asking("2.0.2", f"A{number}", "", "b", "", {"path": f"A{number}"}), wire)
            wire.payload.encodeArguments("A/b", (JavaObject(f"A{number}", {}),))
            self.write(Request(1, f"A{number}/b", b""), wire)
        kept = (wire.bodies._routes, wire.bodies._tails, wire.blocks, wire.payload._packed)  # type: ignore[attr-defined]
        self.assertTrue(all(0 < len(each) <= 1024 for each in kept), [len(each) for each in kept])
        self.read(asking("2.0.2", "A" * 1000, "", "b", "", {"path": "A" * 1000}), wire)
        self.assertTrue(all(len(key) <= 512 for each in kept[:2] for key in each))

    def test_names(self) -> None:
        """Names that are long, or not of ASCII, are those that were sent."""
        for path in ("é" * 40, "x" * 31, "x" * 32, "x" * 1023, "x" * 5000, "\U0001f600"):
            for method in ("say", "m" * 300, "ü"):
                message = self.ask("2.0.2", path, None, method, "I", 5, {})
                self.assertEqual((message.name, message.payload), (f"{path}/{method}", [5]))
                data = self.write(Request(1, f"{path}/{method}", self.arguments(5)))
                self.assertEqual(self.read(data).name, f"{path}/{method}")


class ReplyTests(WireCase):
    """What replies say."""

    def test_kinds(self) -> None:
        """Values, null and exceptions, with attachments and without."""
        error = JavaObject("com.ex.Sold", {"detailMessage": "out", "cause": None, "sku": 5})
        more = {"dubbo": "2.0.2", "user": "1"}
        byName = JavaObject("org.apache.dubbo.rpc.service.GenericException", {"exceptionClass": "a.B"})
        for values, expected in (
            ((1, [1]), Reply(1, [1])),
            ((2,), Reply(1, None)),
            ((None,), Reply(1, None)),
            ((4, "x", more), Reply(1, "x", {"user": "1"})),
            ((5, more), Reply(1, None, {"user": "1"})),
            ((5,), Reply(1, None)),
            ((0, error), ErrorReply(1, "com.ex.Sold", "out", error)),
            ((3, error, more), ErrorReply(1, "com.ex.Sold", "out", error, {"user": "1"})),
            ((0, JavaObject("com.ex.Sold")), ErrorReply(1, "com.ex.Sold", "com.ex.Sold", JavaObject("com.ex.Sold"))),
            ((0, byName), ErrorReply(1, "a.B", "a.B", byName)),
            ((0, "a text"), ErrorReply(1, "java.lang.RuntimeException", "a text", "a text")),
            ((0, None), ErrorReply(1, "java.lang.RuntimeException", "java.lang.RuntimeException")),
        ):
            self.assertEqual(vars_(self.read(package(2, 20, 1, *values))), vars_(expected))
        # As no one writes it, an int of five bytes.
        self.assertEqual(self.read(package(2, 20, 1, more=b"\x49\0\0\0\x01\x05hello")).payload, "hello")

    def test_unreadable(self) -> None:
        """One call fails, and not the session."""
        for data, why in (
            (package(2, 20, 1), "end"),
            (package(2, 20, 1, 7, 1), "unknown kind 7"),
            (package(2, 20, 1, "x"), "unknown kind 'x'"),
            (package(2, 20, 1, 1, more=b"\x05ab"), "end"),
            (package(2, 20, 1, 4, 1, 5), "no map"),
            (package(6, 20, 1, 1, 1), "serialization 6"),
        ):
            message = self.read(data)
            self.assertRegex(str(message.payload), why)
            with self.assertRaisesRegex(rpc.PayloadError, f"^{SAY_NAME}: the result cannot be read: "):
                self.wire.payload.decodeResult(SAY_NAME, message.payload)

    def test_statuses(self) -> None:
        """Each is the error that says the same."""
        for status, code in (
            (30, "deadline"), (31, "deadline"), (40, "payload"), (50, "payload"), (60, "noMethod"), (70, "internal"),
            (80, "internal"), (90, "internal"), (100, "refused"), (25, "payload"), (0, "internal"), (77, "internal"),
        ):  # fmt: skip
            message = self.read(package(2, status, 1, "why"))
            self.assertEqual(vars_(message), vars_(ErrorReply(1, code, "why", status)))
        # Java writes the text of one as it likes: the status is what counts.
        message = self.read(package(0x15, 100, 1, more=b"\0\0\0\x04\x4cwhy"))
        self.assertEqual((message.code, message.details), ("refused", 100))
        self.assertRegex(message.text, "status 100, and a text in the serialization 21, which is not Hessian 2")
        for body in (b"", b"\x05ab", b"N", b"\x00", b"\x91"):
            message = self.read(package(2, 80, 1, more=body))
            self.assertEqual(message.text, "the peer has answered with status 80")

    def test_errors(self) -> None:
        """What has no status is an exception; its text is cut, and details that cannot be sent are left out."""
        for code, status in (("deadline", 31), ("payload", 40), ("noMethod", 60), ("refused", 100), ("lost", 70)):
            self.assertEqual(self.write(ErrorReply(1 | ATTACHED, code, "t"))[3], status)
            self.assertEqual(self.write(ErrorReply(1 | ATTACHED, code, "t", isOfResult=True))[3], 50)

        def thrown(*error: Any, session: Any = None, number: int = 1) -> list[Any]:
            return decode(self.write(ErrorReply(number, *error), session=session)[16:])

        kind, exception = thrown("internal", "boo")
        self.assertEqual((kind, exception.name), (0, "java.lang.RuntimeException"))
        names = ["detailMessage", "cause", "stackTrace", "suppressedExceptions"]
        self.assertEqual(list(exception.fields), names)
        self.assertEqual(list(exception.fields.values()), ["boo", None, [], []])
        self.assertEqual(exception.fields["stackTrace"].type, "[java.lang.StackTraceElement")
        kind, exception, attachments = thrown("outOfStock", "boo", number=1 | ATTACHED)
        self.assertEqual((kind, attachments), (3, {"dubbo": "2.0.2", "getty-code": "outOfStock"}))
        exception = thrown("com.ex.Sold", "boo", {"sku": 5, "cause": "mine"})[1]
        self.assertEqual((exception.name, exception.fields["sku"], exception.fields["cause"]), ("com.ex.Sold", 5, None))
        other = JavaObject("com.ex.Other", {"detailMessage": "theirs"})
        self.assertEqual(thrown("com.ex.Other", "boo", other)[1], other)
        # A call by $invoke has an exception of its own, whatever another provider has sent for such a call or for none.
        byName = JavaObject("com.alibaba.dubbo.rpc.service.GenericException", {"detailMessage": "theirs"})
        self.assertEqual(thrown("com.ex.Other", "boo", byName)[1].name, "com.ex.Other")
        for details in (byName, other):
            self.assertEqual(thrown("com.ex.Other", "boo", details, number=1 | 1 << 64)[1].name, byName.name)
        for details in ({"sku": object()}, JavaObject("com.ex.Sold", {"detailMessage": object()}), object(), [1]):
            self.assertEqual(list(thrown("com.ex.Sold", "boo", details)[1].fields), names)
        small = end(maxMsgLen=4096)
        self.assertEqual(thrown("a.B", "x" * 5000, session=small)[1].fields["detailMessage"], "x" * 512)
        self.assertEqual(list(thrown("a.B", "é" * 5000, {"sku": "x" * 5000}, session=small)[1].fields), names)
        self.assertEqual(thrown("payload", "x" * 5000, session=small), ["x" * 512])


class StrangersTests(WireCase):
    """Bytes of strangers."""

    def test_magic(self) -> None:
        """Both bytes of it are looked at, as soon as they are there; one that is right is not enough."""
        for data in (b"\xda", b"\xda\xbb", b"", b"\xda\xbb" + bytes(13)):
            self.assertEqual(self.wire.codec().read(end(), memoryview(data)), (None, 0))
        for data in (b"\xbb", b"G", b"\xda\xba", b"\xdb\xbb", b"\xda\x00" + bytes(20), b"\x00\xbb" + bytes(20)):
            self.assertRaises(CodecError, self.wire.codec().read, end(), memoryview(data))
            self.assertEqual(self.wire.codec().readMany(end(), data, 0, 1 << 22), [])

    def test_lengths(self) -> None:
        """A body of 8 MiB can be, if the session takes it; more, or less than none, is an error at once."""
        head = bytes.fromhex("dabb 02 14 0000000000000001")
        for size in (8 * 1024 * 1024 + 1, -1, -0x80000000, 0x7FFFFFFF):
            data = head + size.to_bytes(4, "big", signed=True)
            self.assertRaises(CodecError, self.wire.codec().read, end(), memoryview(data))
        data = head + (8 * 1024 * 1024).to_bytes(4, "big")
        self.assertEqual(self.wire.codec().read(end(), memoryview(data)), (None, 16 + 8 * 1024 * 1024))
        self.assertEqual(self.wire.codec().readMany(end(), bytes.fromhex(VALUE), 0, 19), [])

    def test_anyPieces(self) -> None:
        """Packages come in any pieces, a head among them."""
        data = bytes.fromhex(SAY + VALUE + HEARTBEAT + BAD + LEAVING)
        kinds = [Request, Reply, Ping, ErrorReply, GoingAway]
        for sizes in ([1] * len(data), *([size] for size in range(1, len(data)))):
            messages, rest = feedSplit(self.wire.codec(), data, sizes)
            self.assertEqual(([type(each) for each in messages], rest), (kinds, b""))

    def test_randomBytes(self) -> None:
        """Whatever the bytes are, they are a message or an error of the codec."""
        random = Random(19)
        goldens = [bytes.fromhex(each) for each in (SAY, VALUE_ATTACHED, BAD, HEARTBEAT, LEAVING)]
        for _ in range(3000):
            data = bytearray(random.choice(goldens))
            for _ in range(random.randint(1, 4)):
                data[random.randrange(2, len(data))] = random.choice((random.randrange(256), 0, 255, 0x51, 0x48, 0x57))
            codec = self.wire.codec()
            with contextlib.suppress(CodecError):
                codec.read(end(), memoryview(bytes(data)))
            codec.readMany(end(), bytes(data), 0, 1 << 22)

    def test_events(self) -> None:
        """Events that are none of ours are signs of life; those that want an answer get one, in their serialization."""
        codec = self.knowing()
        for data in (package(0xA2, 0, 1, "W"), package(0xA2, 0, 1), package(0x22, 20, 1, more=b"\x05ab")):
            self.assertIsInstance(self.read(data), Pong)
        for flags, body in (
            (0xA2, b"\x30\x01R"),
            (0xA2, b"S\0\x01R"),
            (0xE2, b"\x01R"),
            (0xA2, b"\x01RN"),
            (0xB7, b"\0\0\0\x02\x4aR"),
            (0xA6, b'"R"'),
        ):
            self.assertIsInstance(self.read(package(flags, 0, 1, more=body)), GoingAway)
        for body in (b"x" * 15 + b"R", b"\x01W", b"\0\0\0\x02\x4aW"):
            self.assertIsInstance(self.read(package(0xB7, 0, 1, more=body)), Pong)
        for flags, body, answer in ((0xE2, b"\x01W", b"N"), (0xE6, b"null", b"null"), (0xE2, b"", b"N")):
            self.assertIsInstance(codec.read(end(), memoryview(package(flags, 0, 9, more=body)))[0], Ping)
            self.assertEqual(codec.write(end(), Pong()), package(flags & 0x3F, 20, 9, more=answer))

    def test_manyHeartbeats(self) -> None:
        """Each is answered with its own id, and those that nobody answers do not pile up."""
        codec = self.knowing()
        for number in range(70):
            codec.read(end(), memoryview(package(0xE2, 0, number, None)))
        answered = [int.from_bytes(codec.write(end(), Pong())[4:12], "big") for _ in range(64)]
        self.assertEqual(answered, list(range(6, 70)))
        self.assertEqual(codec._asked, [])

    def test_whoAnswers(self) -> None:
        """An end that has dialled may ask from the beginning; the other asks beside its answers until it knows."""
        for kind, expected in (("TCP_CLIENT", True), ("TCP_SERVER", False)):
            codec = self.wire.codec()
            self.wire.opened(SimpleNamespace(codec=codec, session=end(kind=kind)))
            self.assertIs(Feature.PING in codec.understood, expected)
            codec.read(end(), memoryview(bytes.fromhex(HEARTBEAT)))
            data = codec.write(end(), Pong())
            self.assertEqual(data[:17], bytes.fromhex(HEARTBEAT_ANSWER))
            self.assertEqual(data[17:20], b"" if expected else bytes.fromhex("dabbe2"))


class WritingTests(WireCase):
    """What is written."""

    def test_blocks(self) -> None:
        """Time-out, version, group and metadata are attachments; what is alike is packed once."""
        wire = rpc.Dubbo(groups={ECHO: "blue"})
        data = self.write(Request(1, SAY_NAME, self.arguments(), 0.25, {"user": "1"}), wire)
        *texts, attachments = decode(data[16:])
        self.assertEqual(texts, ["2.0.2", ECHO, "", "say", ""])
        self.assertEqual(attachments, {"path": ECHO, "group": "blue", "timeout": "250", "user": "1"})
        self.assertEqual(wire.blocks, {})
        for _ in range(2):
            data = self.write(Request(1, SAY_NAME, self.arguments(), 0.0001), wire)
            self.assertEqual(decode(data[16:])[-1]["timeout"], "1")
        self.assertEqual(list(wire.blocks), [(SAY_NAME, 0.0001)])
        chosen = Request(1, SAY_NAME, self.arguments(), None, {"version": "3", "group": "red", "user": "1"})
        *texts, attachments = decode(self.write(chosen, wire)[16:])
        self.assertEqual(texts[2], "3")
        self.assertEqual(attachments, {"path": ECHO, "version": "3", "group": "red", "user": "1"})
        name = f"{ECHO}/$invoke"
        data = self.write(Request(1, name, self.arguments("say", None, ["a"], name=name)))
        self.assertEqual(decode(data[16:])[-1], {"path": ECHO, "version": "1.0", "generic": "true"})

    def test_provider(self) -> None:
        """Version, group and path are those of the registry, unless the wire has others."""
        provider = Provider(ECHO, "tcp:h:1", group="blue", version="2.0", meta={"path": "ctx/echo"})
        wire = rpc.Dubbo()
        data = self.write(Request(1, SAY_NAME, self.arguments()), wire, end(provider=provider))
        values = decode(data[16:])
        # Java finds the types of arguments by the interface, and the provider by the attachment.
        self.assertEqual(values[1:4], [ECHO, "2.0", "say"])
        expected = {"path": "ctx/echo", "version": "2.0", "group": "blue", "interface": ECHO}
        self.assertEqual(values[-1], expected)
        self.assertEqual(wire.blocks, {})
        plain = end(provider=Provider(ECHO, "tcp:h:1", version="2.0", meta={"path": ""}))
        data = self.write(Request(1, SAY_NAME, self.arguments()), wire, plain)
        self.assertEqual(decode(data[16:])[-1], {"path": ECHO, "version": "2.0"})
        data = self.write(Request(1, SAY_NAME, self.arguments()), session=end(provider=provider))
        self.assertEqual(decode(data[16:])[-1]["version"], "1.0")
        data = self.write(Request(1, "Other/say", self.arguments()), wire, end(provider=provider))
        self.assertEqual(decode(data[16:])[-1], {"path": "Other"})

    def test_refusals(self) -> None:
        """What cannot be sent is said, and nothing was sent."""
        for metadata, why in (
            ({"a": 1}, "names and values are texts"),
            ({"path": "x"}, "the wire itself needs the name 'path'"),
            ({"a": "x" * 20_000}, "above maxMetadata=16384"),
            ({str(n): "" for n in range(300)}, "names of metadata are above the 256"),
        ):
            with self.assertRaisesRegex(rpc.PayloadError, why) as caught:
                self.write(Request(1, SAY_NAME, b"\0", None, metadata))
            self.assertFalse(caught.exception.sent)
            self.assertRaises(rpc.PayloadError, self.write, Reply(1 | ATTACHED, b"N", metadata))
        with self.assertRaisesRegex(rpc.PayloadError, "above maxMsgLen=1000"):
            self.write(Request(1, SAY_NAME, b"x" * 1000), session=end(1000))
        with self.assertRaisesRegex(rpc.PayloadError, "above the 8388608 of Dubbo"):
            self.write(Reply(1, b"x" * (8 << 20)), session=end(1 << 30))

    def test_settings(self) -> None:
        """Wrong ones are refused."""
        for options in (
            {"versions": {"A": 1}}, {"groups": 5}, {"application": ""}, {"maxMetadata": 0}, {"signatures": {"A": "I"}},
            {"signatures": {"A/b": "Q"}}, {"signatures": {"A/b": "(I"}}, {"signatures": {"A/b": "(I)IJ"}},
        ):  # fmt: skip
            with self.assertRaises(SettingError):
                rpc.Dubbo(**options)  # type: ignore[arg-type]
        self.assertEqual(repr(rpc.Dubbo()), "Dubbo()")
        deep = rpc.Dubbo(limits=Limits(maxDepth=2))
        message = self.read(asking("2.0.2", "A", "", "b", "Ljava/util/List;", [[[1]]], {}), deep)
        self.assertIsInstance(message.payload, rpc.PayloadError)
