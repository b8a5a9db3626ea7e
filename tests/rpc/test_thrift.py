"""Thrift framed and buffered: golden bytes, what a port finds out, the order of replies, bytes of strangers."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, MessageTooLongError, SettingError
from getty_tx.rpc.messages import Cancel, ErrorReply, Reply, Request
from getty_tx.rpc.wires.kitex import KitexCodec
from getty_tx.rpc.wires.thriftframed import BufferedCodec, FramedCodec
from getty_tx.rpc.wires.thriftmessage import MessageEnd
from tests.rpc.test_kitex import _SKIP, CALL, ECHO, EXCEPTION, LIMIT, NAMED, REPLY, hexed, load, vars_
from tests.support.rpc import Both, Foreign

#: The messages of the frames of TTHeader, by themselves.
ANSWER = REPLY[REPLY.index("80010002") :]
ERROR = EXCEPTION[EXCEPTION.index("80010003") :]


def framed(text: str) -> str:
    """With its length before it."""
    return f"{len(hexed(text)):08x}{text}"


def call(number: int, text: str, name: str = "echo", kind: str = "80010001") -> bytes:
    """A framed call of Echo/echo, or another method of one text."""
    body = hexed(f"{kind} {len(name):08x}") + name.encode() + number.to_bytes(4, "big", signed=True)
    body += hexed(f"0b0001 {len(text):08x}") + text.encode() + b"\0"
    return len(body).to_bytes(4, "big") + body


class ThriftCase(SynchronousTestCase):
    """Has a wire."""

    skip = _SKIP

    def setUp(self) -> None:
        self.idl = load()
        self.wire = self.thrift()
        self.payload = self.wire.payload

    def thrift(self, **options: Any) -> rpc.Thrift:
        return rpc.Thrift({"Echo": self.idl.Echo, "Other": self.idl.Other}, **options)

    def read(self, text: str) -> Any:
        """What a server reads, at once and by itself, of a framed or buffered message."""
        data = hexed(text)
        codec = self.wire.codec()
        message, end = codec.read(LIMIT, memoryview(data))
        self.assertEqual(end, len(data))
        for other, _ in codec.readMany(LIMIT, data + data, 0, 1 << 20):
            self.assertEqual(vars_(other), vars_(message))
        return message


class GoldenTests(ThriftCase):
    """The bytes of Apache's clients and servers."""

    def test_call(self) -> None:
        """A call, framed and buffered."""
        for text, options in ((framed(ECHO), {}), (ECHO, {"transport": "buffered"})):
            message = self.read(text)
            self.assertEqual((message.id, message.name, message.isOneWay), (1, "Echo/echo", False))
            self.assertEqual(self.payload.decodeArguments(message.name, message.payload), ["hi"])
            codec = self.thrift(**options).codec()
            written = codec.write(LIMIT, Request(1, "Echo/echo", self.payload.encodeArguments("Echo/echo", ("hi",))))
            self.assertEqual(written, hexed(text))

    def test_reply(self) -> None:
        """A result and an exception, with the id and the name of their call."""
        result = self.payload.encodeResult("Echo/echo", "hi")
        for before, asked in (("", ECHO), ("framed", framed(ECHO))):
            codec = self.wire.codec()
            request, _ = codec.read(LIMIT, memoryview(hexed(asked)))
            for message, expected in (
                (Reply(request.id, result), ANSWER),
                # To whom it goes cannot take metadata.
                (Reply(request.id, result, {"a": "b"}), ANSWER),
                (ErrorReply(request.id, "noMethod", "unknown method"), ERROR),
            ):
                written = codec.write(LIMIT, message)
                self.assertEqual(written, hexed(framed(expected) if before else expected))
        reply = self.read(framed(ANSWER))
        self.assertEqual((reply.id, self.payload.decodeResult("Echo/echo", reply.payload)), (1, "hi"))
        error = self.read(ERROR)
        self.assertEqual((error.id, error.code, error.text), (1, "noMethod", "unknown method"))

    def test_types(self) -> None:
        """The types of exceptions, there and back."""
        codes = [self.read(framed(ERROR[:-11] + f"{kind:08x} 00")).code for kind in (0, 1, 2, 5, 6, 7, 20)]
        self.assertEqual(codes, ["internal", "noMethod", "2", "5", "internal", "payload", "noMethod"])
        for code, kind in (("noMethod", 1), ("payload", 7), ("internal", 6), ("refused", 6), ("outOfStock", 6)):
            codec = self.wire.codec()
            request, _ = codec.read(LIMIT, memoryview(hexed(ECHO)))
            self.assertEqual(codec.write(LIMIT, ErrorReply(request.id, code, "why"))[-2], kind)

    def test_oneWay(self) -> None:
        """Type 4; the IDL says it of type 1 as well."""
        codec = self.wire.codec()
        frame = codec.write(LIMIT, Request(2, "Echo/log", b"\0", None, None, True))
        self.assertEqual(frame, hexed(framed("80010004 00000003 6c6f67 00000002 00")))
        for text in (frame.hex(), frame.hex().replace("80010004", "80010001"), ECHO.replace("80010001", "80010004")):
            self.assertTrue(self.read(text).isOneWay)
        with self.assertRaisesRegex(rpc.PayloadError, "Echo/log is oneway in the IDL"):
            codec.write(LIMIT, Request(2, "Echo/log", b"\0"))

    def test_multiplexed(self) -> None:
        """The service before the name, as TMultiplexedProtocol has it; replies do not have it."""
        codec = self.thrift(multiplexed=True).codec()
        frame = codec.write(LIMIT, Request(1, "Other/echo", b"\0"))
        self.assertEqual(frame, hexed(framed("80010001 0000000a 4f746865723a6563686f 00000001 00")))
        server = self.wire.codec()
        request, _ = server.read(LIMIT, memoryview(frame))
        self.assertEqual(request.name, "Other/echo")
        self.assertIn(hexed("80010002 00000004 6563686f 00000001"), server.write(LIMIT, Reply(request.id, b"\0")))

    def test_cannotSay(self) -> None:
        """What is not there is refused, and what is too long."""
        codec = self.wire.codec()
        with self.assertRaisesRegex(SettingError, "has none; use rpc.TTHeader"):
            codec.write(LIMIT, Request(1, "Echo/echo", b"\0", None, {"a": "b"}))
        with self.assertRaisesRegex(SettingError, "cannot say Cancel"):
            codec.write(LIMIT, Cancel(1))
        with self.assertRaisesRegex(rpc.PayloadError, "above maxMsgLen=1048576") as caught:
            codec.write(LIMIT, Request(1, "Echo/echo", bytes(1 << 20)))
        self.assertFalse(caught.exception.sent)
        # The text of an error is cut.
        request, _ = codec.read(LIMIT, memoryview(hexed(framed(ECHO))))
        small = type("Small", (), {"maxMsgLen": 400})()
        self.assertLess(len(codec.write(small, ErrorReply(request.id, "internal", "\U0001f600" * 1000))), 400)


class SniffTests(ThriftCase):
    """One port for all, as at Kitex's servers."""

    def test_each(self) -> None:
        """The codec is that of the first bytes, however they come."""
        for text, kind in ((ECHO, BufferedCodec), (framed(ECHO), FramedCodec), (NAMED, KitexCodec), (CALL, KitexCodec)):
            data = hexed(text)
            codec: Any = self.wire.codec()
            for at in range(1, len(data)):
                message, need = codec.read(LIMIT, memoryview(data[:at]))
                self.assertIsNone(message)
                self.assertTrue(need == 0 or at < need <= len(data), (at, need))
            message, _ = codec.read(LIMIT, memoryview(data))
            self.assertEqual(message.name, "Echo/echo")
            self.assertIs(type(codec._codec), kind)
            self.assertEqual(codec.inOrder, kind is not KitexCodec)

    def test_others(self) -> None:
        """What is none of them is refused, with a word of what it is."""
        for text, why in (
            ("82210204", "speaks the compact protocol"),
            ("0000000e 8221 0204", "speaks the compact protocol"),
            (
                "0000000e 9001 0001",
                "speaks Kitex's protobuf; Thrift.transport='framed'. takes the binary protocol alone",
            ),
            ("0000000e 0fff 0000", "speaks Apache's THeader"),
            # A message that is not strict, and a browser.
            ("00000004 6563686f 01 00000001", "000000046563: neither Thrift's binary protocol, strict, nor"),
            (b"GET / HTTP/1.1".hex(), "begins with 474554202f20: neither"),
        ):
            with self.assertRaisesRegex(CodecError, why):
                self.wire.codec().read(LIMIT, memoryview(hexed(text)))
        for text in (ECHO, framed(ECHO)):
            with self.assertRaisesRegex(CodecError, "Thrift without TTHeader, .*; rpc.Thrift takes both"):
                self.wire.ttheader.codec().read(LIMIT, memoryview(hexed(text)))

    def test_kitex(self) -> None:
        """A session of TTHeader has what TTHeader has: metadata both ways, and calls at the same time."""
        waiting: list[Deferred[str]] = []

        class Echo:
            @rpc.method
            def echo(self, text: str) -> Any:
                rpc.currentCall().replyMetadata = {"RPC_BACKWARD_seen": rpc.currentCall().metadata["RPC_TRANSIT_x"]}
                waiting.append(Deferred())
                return waiting[-1]

        foreign = Foreign(self.wire, {"Echo": Echo()})
        self.addCleanup(foreign.clock.advance, 30)
        self.addCleanup(foreign.session.close)
        foreign.codec = self.wire.ttheader.codec()
        foreign.say(*(Request(n, "Echo/echo", b"\0", 1.0, {"RPC_TRANSIT_x": f"{n}"}) for n in (1, 2)))
        self.assertEqual(len(waiting), 2)
        waiting[1].callback("second")
        [reply] = foreign.heard()
        self.assertEqual((reply.id, reply.metadata), (2, {"RPC_BACKWARD_seen": "2"}))


class OrderTests(ThriftCase):
    """Replies come in the order of the requests, where callers cannot tell them apart."""

    def foreign(self, **options: Any) -> Foreign:
        self.waiting: dict[str, Deferred[str]] = {}
        self.lines: list[str] = []
        self.cancelled: list[str] = []

        def wait(text: str) -> Deferred[str]:
            self.waiting[text] = Deferred(lambda _: self.cancelled.append(text))
            return self.waiting[text]

        class Echo:
            @rpc.method
            def echo(_, text: str) -> Any:
                return wait(text) if text in ("wait", "slow", "stuck") else text

            @rpc.method
            def log(_, line: str) -> Any:
                self.lines.append(line)
                return wait(line)

        foreign = Foreign(self.thrift(**options), {"Echo": Echo()}, maxTimeout=5)
        self.addCleanup(foreign.clock.advance, 30)
        self.addCleanup(foreign.session.close)
        self.far = foreign
        return foreign

    def say(self, *texts: str, number: int = 0) -> None:
        self.far.pair.peer.write(b"".join(call(number, text) for text in texts))
        self.far.pair.flush()

    def heard(self) -> list[tuple[int, Any]]:
        found = []
        for message in self.far.heard():
            isReply = type(message) is Reply
            value = self.payload.decodeResult("Echo/echo", message.payload) if isReply else message.code
            found.append((message.id, value))
        return found

    def test_oneAfterTheOther(self) -> None:
        """A method waits for the one before it; all calls have the id 0, as those of Apache's clients."""
        self.foreign()
        self.say("a", "wait", "b", "slow", "c", "d")
        self.assertEqual(self.heard(), [(0, "a")])
        self.assertEqual(list(self.waiting), ["wait"])
        self.waiting["wait"].callback("late")
        self.assertEqual(self.heard(), [(0, "late"), (0, "b")])
        self.waiting["slow"].callback("later")
        self.assertEqual(self.heard(), [(0, "later"), (0, "c"), (0, "d")])
        self.assertEqual(self.far.peer.incoming.count, 0)

    def test_pieces(self) -> None:
        """Calls that come while one runs wait as well, and the session is read until there is one."""
        foreign = self.foreign()
        self.say("wait")
        self.assertFalse(foreign.session.inbound.paused)
        self.say("a")
        self.assertTrue(foreign.session.inbound.paused)
        self.say("b")
        self.waiting["wait"].callback("late")
        self.assertEqual(self.heard(), [(0, "late"), (0, "a"), (0, "b")])
        self.assertFalse(foreign.session.inbound.paused)
        self.say("c")
        self.assertEqual(self.heard(), [(0, "c")])

    def test_failures(self) -> None:
        """Errors have their place, and a method whose time is over gives way."""
        self.foreign()
        self.say("wait", "stuck", "a")
        self.waiting["wait"].errback(rpc.RemoteError("no"))
        self.assertEqual(self.heard(), [(0, "internal")])
        self.far.clock.advance(6)
        self.assertEqual(self.heard(), [(0, "internal"), (0, "a")])

    def test_timeBegins(self) -> None:
        """The time of a method begins with it, not while another runs that cannot be stopped."""
        foreign = self.foreign()
        self.say("wait", "slow")
        self.waiting["wait"].cancel = lambda: None  # type: ignore[method-assign]
        foreign.clock.advance(7)
        self.waiting["wait"].callback("late")
        foreign.clock.advance(4)
        self.waiting["slow"].callback("in time")
        self.assertEqual(self.heard(), [(0, "internal"), (0, "in time")])

    def test_fewCalls(self) -> None:
        """The order is the same where one call may run, also if more may from now on, and the session is read on."""
        foreign = self.foreign()
        foreign.context.maxCallsPerSession = 1
        foreign.peer.call("Echo", "echo", "asked").addErrback(lambda _: None)
        foreign.heard()
        self.say("wait", "slow", "a", "stuck", "b")
        foreign.context.maxCallsPerSession = 3
        for text in ("wait", "slow", "stuck"):
            self.waiting[text].callback(text)
        self.assertEqual([text for _, text in self.heard()], ["wait", "slow", "a", "stuck", "b"])
        self.assertEqual((foreign.session.inbound.paused, foreign.peer.incoming.isFull), (0, False))

    def test_oneWay(self) -> None:
        """A call without reply has its turn, too."""
        foreign = self.foreign()
        foreign.pair.peer.write(call(0, "x", "log", "80010004") + call(0, "a"))
        foreign.pair.flush()
        self.assertEqual((self.lines, self.heard()), (["x"], []))
        self.waiting["x"].callback("")
        self.assertEqual(self.heard(), [(0, "a")])

    def test_callerLeaves(self) -> None:
        """The end of a caller is noticed while its method runs, which is cancelled."""
        foreign = self.foreign()
        self.say("wait")
        foreign.pair.peer.end()
        foreign.pair.flush()
        self.assertEqual((self.cancelled, foreign.peer.incoming.count), (["wait"], 0))

    def test_lost(self) -> None:
        """What waits when the session is lost is not run."""
        foreign = self.foreign()
        self.say("wait", "slow")
        foreign.session.fail(ValueError("lost"), abort=True)
        foreign.pair.flush()
        self.assertEqual((self.cancelled, foreign.peer.incoming.count), (["wait"], 0))
        self.assertEqual(list(self.waiting), ["wait"])

    def test_atTheSameTime(self) -> None:
        """With inOrder=False a reply goes when it is there; two calls with one id cannot be."""
        self.foreign(inOrder=False)
        self.far.pair.peer.write(call(1, "wait") + call(2, "a") + call(1, "b"))
        self.far.pair.flush()
        self.assertEqual(self.heard(), [(2, "a"), (1, "payload")])
        self.waiting["wait"].callback("late")
        self.assertEqual(self.heard(), [(1, "late")])

    def test_drained(self) -> None:
        """A server that stops serves what waits."""
        foreign = self.foreign()
        self.say("wait", "a")
        ended: list[Any] = []
        foreign.peer.drain().addCallback(ended.append)
        foreign.clock.advance(1)
        self.assertEqual(ended, [])
        self.waiting["wait"].callback("late")
        self.assertEqual(self.heard(), [(0, "late"), (0, "a")])
        self.assertTrue(foreign.session.isClosed)


class PeersTests(ThriftCase):
    """Two peers of getty_tx."""

    def test_both(self) -> None:
        """Over both transports: results, declared exceptions, errors, one-way, what is unknown."""
        idl = self.idl
        lines: list[str] = []

        class Echo:
            @rpc.method
            def echo(self, text: str) -> str:
                return text * 2

            @rpc.method
            def point(self, p: Any, n: int, small: int) -> Any:
                if n < 0:
                    raise idl.Out(what="below")
                return p

            @rpc.method
            def nothing(self) -> None:
                pass

            @rpc.method
            def log(self, line: str) -> None:
                lines.append(line)

        for transport in ("framed", "buffered"):
            both = Both({"Echo": Echo()}, wire=self.thrift(transport=transport))
            self.assertEqual(both.result("Echo/echo", "ab"), "abab")
            self.assertEqual(both.result("Echo/echo", "x" * 300_000), "x" * 600_000)
            point = idl.P(a="x", b=[1], c={"k": idl.P(a="in", e=[True])})
            self.assertEqual(both.result("Echo/point", point, 1, 2), point)
            self.assertEqual(vars(both.result("Echo/point", point, -1, 2)), {"what": "below"})
            self.assertIsNone(both.result("Echo/nothing"))
            self.assertEqual(both.result("Other/only", 1).code, "noMethod")
            both.client.send("Echo", "log", transport)
            both.pair.flush()
            self.assertFalse(both.client.tell(rpc.peer.Feature.PING, None))
            both.client.session.close()
            both.clock.advance(30)
            both.pair.flush()
            self.assertEqual(both.leftovers(), [])
        self.assertEqual(lines, ["framed", "buffered"])


class EndTests(ThriftCase):
    """Where a message ends that has no length."""

    def ends(self, data: bytes) -> None:
        """In one piece, byte by byte, and with more behind it."""
        self.assertEqual(MessageEnd(99).find(data + b"\x80\x01"), len(data))
        end, asked, need = MessageEnd(99), 0, 1
        for at in range(1, len(data)):
            if at >= need:
                need = end.find(data[:at])
                asked += 1
                self.assertTrue(at < need <= len(data), (at, need))
        self.assertEqual(end.find(data), len(data))

    def test_values(self) -> None:
        """Every type, nested, in containers that are empty or not."""
        idl = self.idl
        points = [idl.P(), idl.P(a="", b=[], c={}, d=b"", e=[]), idl.P(f=0.5, g=-1, e=[True, False], b=[1, 2])]
        points.append(idl.P(a="x" * 300, c={f"k{n}": each for n, each in enumerate(points)}, d=bytes(99)))
        head = hexed("80010001 00000005 706f696e74 00000007")
        for point in points:
            self.ends(head + self.payload.encodeArguments("Echo/point", (point, 7, -1)))
        # A list of lists of structs, a map of numbers to sets, a set of maps, a list of nothing.
        for field in (
            "0f0001 0f 00000002 0c 00000002 00 030001 05 00 0c 00000000",
            "0d0001 08 0e 00000001 00000001 0a 00000001 0000000000000001",
            "0e0001 0d 00000001 0b 03 00000002 00000000 01 00000001 61 02",
            "0f0001 00 00000000 020002 01",
        ):
            self.ends(head + hexed(field) + b"\0")

    def test_looksOnce(self) -> None:
        """A message that comes byte by byte is not looked through again for each."""
        data = hexed("80010001 00000000 00000000 0f0001 0c 000003e8") + b"\0" * 1001
        end = MessageEnd(99)
        looks = 0

        class Counted(bytes):
            def __getitem__(self, at: Any) -> Any:
                nonlocal looks
                looks += 1
                return bytes.__getitem__(self, at)

        for at in range(1, len(data) + 1):
            end.find(Counted(data[:at]))
        self.assertLess(looks, 3 * len(data))

    def test_hostile(self) -> None:
        """Lengths, types and depths that cannot be."""
        head = "80010001 00000000 00000000"
        for text, why in (
            ("80020001 00000000", "begins with 0x80020001"),
            ("80010001 00000064", "a name of 100 bytes is above maxMetadata=99"),
            (head + "0b0001 ffffffff", "a length of -1"),
            (head + "0f0001 0b ffffffff", "a length of -1"),
            (head + "630001 00 00 00 00 00 00 00", "unknown type 99"),
            (head + "0f0001 63 00000001 00 00 00 00 00", "unknown type 99"),
            (head + "0c0001" * 100, "more than 64 levels"),
            (head + "0f0001" + "0f00000001" * 100, "more than 64 levels"),
        ):
            with self.assertRaisesRegex(ValueError, why):
                MessageEnd(99).find(hexed(text))

    @given(st.binary(max_size=60))
    def test_any(self, data: bytes) -> None:
        """No bytes raise anything else, or are said to be more than they are."""
        with contextlib.suppress(ValueError):
            self.assertGreater(MessageEnd(99).find(hexed("80010001 00000000 00000000") + data), 12)

    @given(st.sampled_from([ECHO, framed(ECHO), NAMED, framed(ERROR)]), st.integers(0, 67), st.integers(0, 255))
    def test_changed(self, text: str, at: int, value: int) -> None:
        """A first message with any byte changed is a message, incomplete, or a CodecError."""
        data = bytearray(hexed(text))
        data[at % len(data)] = value
        codec = self.wire.codec()
        with contextlib.suppress(CodecError):
            message, end = codec.read(LIMIT, memoryview(data))
            self.assertTrue(end <= len(data) if message is not None else not end or end > len(data))
            codec.readMany(LIMIT, bytes(data), 0, 1 << 20)

    def test_tooLong(self) -> None:
        """A message that cannot end within maxMsgLen fails the session at once."""
        for text in ("7fffffff 80010001", "80010001 00000000 00000000 0b0001 7fffffff"):
            foreign = Foreign(self.wire, {"Echo": type("E", (), {"echo": rpc.method(lambda self, text: text)})()})
            foreign.pair.peer.write(hexed(text))
            foreign.pair.flush()
            self.assertIsInstance(foreign.session.error, MessageTooLongError)
            foreign.clock.advance(30)

    def test_splits(self) -> None:
        """However the bytes come, the messages are the same."""
        chance = random.Random(1)
        for texts in ([ECHO, ANSWER, ERROR], [framed(each) for each in (ECHO, ANSWER, ERROR)]):
            data = hexed("".join(texts * 3))
            for _ in range(30):
                codec = self.wire.codec()
                buffer, found, at = b"", [], 0
                while at < len(data):
                    step = chance.randint(1, 40)
                    buffer, at = buffer + data[at : at + step], at + step
                    while buffer:
                        many = codec.readMany(LIMIT, buffer, 0, 1 << 20)
                        message, end = many[0] if many else codec.read(LIMIT, memoryview(buffer))
                        if message is None:
                            break
                        found.append(type(message))
                        buffer = buffer[end:]
                self.assertEqual(found, [Request, Reply, ErrorReply] * 3)
