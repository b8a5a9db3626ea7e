"""Hostile peers: whatever bytes they send, what is kept for them is bounded, or the session ends with a reason."""

from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, MessageTooLongError
from getty_tx.rpc.messages import (
    CREDIT,
    DATA,
    OPEN,
    Cancel,
    ErrorReply,
    GoingAway,
    Ping,
    Pong,
    Reply,
    Request,
    StreamFrame,
)
from getty_tx.rpc.payloads.thriftbinary import MAX_STRUCTS, readMessage
from getty_tx.rpc.streams import WINDOW
from getty_tx.rpc.wires.info import packInfo, parseInfo
from tests.support.rpc import Foreign, Outcome

_u32 = struct.Struct(">I").pack


class Quiet:
    """Methods that do not answer, and a stream that reads nothing."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.value = "x" * 1000

    @rpc.method
    def say(self, text: Any = None) -> Any:
        return text

    @rpc.method
    def wait(self) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.waiting.append(waiting)
        return waiting

    @rpc.stream
    async def deaf(self) -> None:
        await self.wait()

    @rpc.stream
    async def loud(self) -> Any:
        while True:
            yield self.value


class HostileCase(SynchronousTestCase):
    """A peer in memory whose other end is the test."""

    def foreign(self, wire: Any = None, **options: Any) -> Foreign:
        self.quiet = Quiet()
        foreign = Foreign(wire, {"Quiet": self.quiet}, **options)
        self.addCleanup(foreign.clock.advance, 30)
        self.addCleanup(foreign.session.close)
        return foreign


class PayloadTests(SynchronousTestCase):
    """Values that are small as bytes and large as objects, or endless."""

    def refused(self, payload: Any, data: bytes, why: str) -> None:
        error = self.assertRaises(rpc.PayloadError, payload.decodeArguments, "Quiet/say", data)
        self.assertIn(why, str(error))
        self.assertLess(len(str(error)), 300)
        self.assertRaises(rpc.PayloadError, payload.decodeResult, "Quiet/say", data)

    def test_json(self) -> None:
        for payload in (rpc.TTHeader().payload, rpc.Getty().payload):
            for data, why in (
                (b"[" * 100_000, "nested too deeply"),
                (b'{"a":' * 100_000, "nested too deeply"),
                (b"[" + b"9" * 100_000 + b"]", "4300 digits"),
                (b"[NaN]", "NaN"),
                (b"[-Infinity]", "-Infinity"),
                (b'["\xed\xa0\x80"]', "utf-8"),
            ):
                self.refused(payload, data, why)
            # As everywhere in Python, the last one counts.
            self.assertEqual(payload.decodeResult("Quiet/say", b'{"a":1,"a":2}'), {"a": 2})

    @skipIf(find_spec("msgpack") is None, "msgpack is not installed")
    def test_msgpackArraysThatAreNotThere(self) -> None:
        """The library would make room for each of these arrays, 480 MB for a message of 60 KB."""
        payload: Any = rpc.TTHeader("msgpack").payload

        def unpack(*_args: Any, **_limits: Any) -> None:
            raise AssertionError("the library was asked to make them")

        unpacking, payload._unpack = payload._unpack, unpack
        for head in (b"\xdd" + _u32(59_000), b"\xdc\xe0\x00"):
            data = head * 1000
            data += b"\xc0" * (60_000 - len(data))
            self.refused(payload, data, "No more data")
            self.refused(payload, data[:-1] + b"\xc1", "")
        payload._unpack = unpacking
        for values in ([list(range(70_000))], ["x" * 70_000, [1] * 1000], [b"\xdd" * 1000]):
            self.assertEqual(payload.decodeArguments("Quiet/say", payload.encodeArguments("Quiet/say", values)), values)

    @skipIf(find_spec("msgpack") is None, "msgpack is not installed")
    def test_msgpackNestedDeeply(self) -> None:
        payload = rpc.TTHeader("msgpack").payload
        self.refused(payload, b"\x91" * 100_000, "")
        self.refused(payload, b"\x81\xa0" * 100_000, "")
        self.refused(payload, b"\xdc\x00\x01" * 100_000, "")

    def test_thriftStructsOfOneByte(self) -> None:
        """Each would become an object of a hundred bytes or more."""
        made: list[Any] = []

        class Small:
            thrift_spec: dict[int, Any] = {}

            def __init__(self) -> None:
                made.append(self)

        class Arguments:
            thrift_spec = {1: (15, "values", (12, Small), False)}
            values: Any = None

        def message(count: int, struct: bytes) -> bytes:
            return b"\x0f\x00\x01\x0c" + _u32(count) + struct * count + b"\0"

        target = Arguments()
        readMessage(message(MAX_STRUCTS, b"\0"), target)
        self.assertEqual(len(target.values), MAX_STRUCTS)
        made.clear()
        error = self.assertRaises(ValueError, readMessage, message(MAX_STRUCTS + 1, b"\0"), Arguments())
        self.assertIn("100000 structs", str(error))
        self.assertEqual(len(made), MAX_STRUCTS)
        # Longer ones may be more.
        readMessage(message(MAX_STRUCTS + 1, b"\x0a\0\1" + bytes(13)), Arguments())


class HeaderTests(HostileCase):
    """Frames whose head or blocks are wrong: the session ends with a reason."""

    def failed(self, data: bytes, kind: type[Any], wire: Any = None) -> str:
        foreign = self.foreign(wire)
        foreign.pair.peer.write(data)
        foreign.pair.flush()
        self.assertTrue(foreign.session.isClosed)
        self.assertIs(type(foreign.session.error), kind, foreign.session.error)
        return str(foreign.session.error)

    def frame(self, block: bytes, payload: bytes = b"", number: int = 1) -> bytes:
        return (
            struct.pack(">IHHiH", 10 + len(block) + len(payload), 0x1000, 0, number, len(block) >> 2) + block + payload
        )

    def test_lengths(self) -> None:
        for length, size in ((0, 1), (9, 0), (10, 0), (14, 0), (13, 1), (100, 65_535), (0xFFFFFFFF, 0)):
            data = struct.pack(">IHHiH", length, 0x1000, 0, 1, size)
            self.assertIn("bytes of blocks", self.failed(data, CodecError))
        data = struct.pack(">IHHiH", 0xFFFFFFFF, 0x1000, 0, 1, 1)
        self.assertIn("4194304", self.failed(data, MessageTooLongError))
        data = struct.pack(">IHHiH", 300_000, 0x1000, 0, 1, 65_535)
        self.assertIn("262140 bytes of metadata", self.failed(data, CodecError))

    def test_blocks(self) -> None:
        for block, why in (
            (b"\x4a\0\x01\xff\xff\0\0\0", "ends within"),
            (b"\x4a\0\x10\xff\xff\0\x09\0\x01a\0\0", "ends within"),
            (b"\x4a\0\x01\0\1\xff\xff\0", "ends within"),
            (b"\x4a\0\x02\0", "unknown group"),
            (b"\x4a\x01\0\0", "transforms"),
            (b"\x4b\0\0\0", "protocol id"),
            (b"\x4a\0\x11\0\2\xff\xff\0", "UTF-8"),
        ):
            self.assertIn(why, self.failed(self.frame(block), CodecError))

    def test_gettyLengths(self) -> None:
        for payload in ("json", "protobuf"):
            wire = rpc.Getty(payload)

            def head(size: int, command: int = 3, kind: int = wire.codecType) -> bytes:
                return struct.pack("<ihhQQhhi", 0x20160905, command, 0, 1, 0, 0, kind, size)

            for data, why in (
                (head(-1), "a body of -1 bytes"),
                (head(2**31 - 1), "a body of 2147483647 bytes"),
                (head(0), "a body of 0 bytes"),
                (head(4) + b"\xff\xff\0\0", "ends within"),
                (head(4) + bytes(4), "RPC header" if payload == "json" else ""),
                (head(4, 9), "unknown command"),
                (head(4, 3, 7), "the codec 7"),
            ):
                if why:
                    self.assertIn(why, self.failed(data, CodecError, wire))

    def test_gettyNestedHeader(self) -> None:
        header = b"[" * 60_000
        size = 4 + len(header)
        data = struct.pack("<ihhQQhhi", 0x20160905, 3, 0, 1, 0, 0, 1, size)
        data += struct.pack("<H", len(header)) + header + bytes(2)
        self.assertIn("no JSON", self.failed(data, CodecError, rpc.Getty()))

    def test_namesOfMetadata(self) -> None:
        """2,700 names of two letters, which fit into 16 KiB, would be 220 KB of objects for each call that waits."""
        names = {f"{number:x}": "" for number in range(1000)}
        block = packInfo(0x4A, {"isn": "Quiet", **names}, {9: "wait"})
        self.assertLess(len(block), 16_384)
        self.assertEqual(len(parseInfo(block)[1]), 1001)
        self.assertIn("1001 names of metadata are above the 256", self.failed(self.frame(block, b"[]"), CodecError))
        codec = rpc.TTHeader().codec()
        request = Request(1, "Quiet/say", b"[]", None, names)
        error = self.assertRaises(rpc.PayloadError, codec.write, None, request)
        self.assertFalse(error.sent)
        small = rpc.TTHeader(maxMetadata=1000).codec()
        session = self.foreign().session
        self.assertTrue(small.write(session, Request(1, "Quiet/say", b"[]", None, dict.fromkeys("abcdefgh", ""))))


class FloodTests(HostileCase):
    """Messages in any number."""

    def assertServes(self, foreign: Foreign) -> None:
        foreign.heard()
        foreign.say(Request(77_777, "Quiet/say", b'["x"]'))
        (reply,) = foreign.heard()
        self.assertEqual((type(reply), reply.payload), (Reply, b'"x"'))

    def test_callsBeyondTheLimitOfTheSession(self) -> None:
        foreign = self.foreign(maxCallsPerSession=10)
        foreign.say(*[Request(number, "Quiet/wait", b"[]") for number in range(1, 1001)])
        self.assertEqual((len(self.quiet.waiting), foreign.context.running), (10, 10))
        self.assertTrue(foreign.session.inbound.paused)

    def test_callsBeyondTheLimitOfAll(self) -> None:
        foreign = self.foreign(maxCalls=10)
        foreign.say(*[Request(number, "Quiet/wait", b"[]") for number in range(1, 1001)])
        self.assertEqual(foreign.context.refused, 990)
        self.assertEqual({message.code for message in foreign.heard()}, {"refused"})
        for waiting in self.quiet.waiting:
            waiting.callback(None)
        self.assertServes(foreign)

    def test_repliesThatAreNotRead(self) -> None:
        """The answers to pings and calls wait for the peer: it is not read any more."""
        for message in (Ping(), Request(1, "Quiet/none", b"[]"), Request(1, "Quiet/say", b"[]")):
            foreign = self.foreign(capacity=10_000)
            foreign.pair.peer.transport.pauseProducing()
            session = foreign.session
            frame = foreign.codec.write(session, message)
            for _ in range(100):
                foreign.pair.peer.write(frame * 1000)
                foreign.pair.pump(5)
            self.assertLess(session.pendingBytes, 300_000)
            self.assertTrue(session.inbound.paused)
            self.assertLess(session.stats.readPkgs, 20_000)

    def test_oneWay(self) -> None:
        foreign = self.foreign()
        foreign.say(*[Request(number, "Quiet/say", b"[]", None, None, True) for number in range(1, 10_001)])
        self.assertEqual(foreign.heard(), [])
        self.assertEqual((foreign.context.running, foreign.peer.incoming.open), (0, {}))
        foreign.say(*[Request(number, "Quiet/wait", b"[]", None, None, True) for number in range(1, 10_001)])
        self.assertEqual(len(self.quiet.waiting), 100)

    def test_whatBelongsToNoCall(self) -> None:
        foreign = self.foreign()
        outcome = Outcome(foreign.peer.call("A", "b", timeout=None))
        before = len(foreign.peer.streams)
        for number in range(2, 2002):
            foreign.say(
                Cancel(number),
                Reply(number, b"1"),
                ErrorReply(number, "x", "y"),
                Pong(),
                StreamFrame(number, DATA, b"1"),
                StreamFrame(number, CREDIT, b"1", True),
            )
        self.assertEqual(foreign.context.late, 4000)
        self.assertEqual((outcome.results, len(foreign.peer.pending), len(foreign.peer.streams)), ([], 1, before))
        foreign.heard()
        self.assertServes(foreign)

    def test_namesOfMethods(self) -> None:
        """The counters and the kept blocks have a bound, and the error repeats no long name."""
        foreign = self.foreign()
        for start in range(0, 3000, 100):
            foreign.say(*[Request(1, f"Quiet/no{number}", b"[]") for number in range(start, start + 100)])
        heard = foreign.heard()
        self.assertEqual({message.code for message in heard}, {"noMethod"})
        self.assertLessEqual(set(foreign.session.context.calls["server"]), {"", "Quiet/say", "Quiet/wait"})
        self.assertLessEqual(len(foreign.context.wire.routes), 1024)
        foreign.say(Request(1, f"Quiet/{'x' * 15_000}", b"[]"))
        self.assertLess(len(foreign.heard()[0].text), 300)

    def test_metadataAtTheLimit(self) -> None:
        """Calls that wait keep what they were sent, once."""
        foreign = self.foreign()
        metadata = {"x": "y" * 16_000}
        for number in range(1, 51):
            foreign.say(Request(number, "Quiet/wait", b"[]", None, metadata))
        self.assertEqual(len(foreign.peer.incoming.open), 50)
        self.assertEqual(foreign.context.wire.routes, {})


class StreamTests(HostileCase):
    """Streams of a peer that breaks their rules."""

    def opened(self, method: str, **options: Any) -> Foreign:
        foreign = self.foreign(**options)
        foreign.say(Ping(), StreamFrame(1, OPEN, b"[]", False, f"Quiet/{method}"))
        return foreign

    def test_manyThatAreNotRead(self) -> None:
        """100,000 are no more than maxCallsPerSession, each with its window."""
        foreign = self.foreign()
        for start in range(1, 100_001, 5000):
            frames = [StreamFrame(number, OPEN, b"[]", False, "Quiet/loud") for number in range(start, start + 5000)]
            foreign.pair.peer.write(b"".join(foreign.codec.write(foreign.session, frame) for frame in frames))
            foreign.pair.pump()
        self.assertLessEqual(len(foreign.peer.streams), 100)
        self.assertLessEqual(foreign.peer.incoming.count, 100)

    def test_openedAndCancelled(self) -> None:
        """Also by a notice that is for calls: nothing is left of the stream."""
        foreign = self.foreign()
        for number in range(1, 1001):
            foreign.say(StreamFrame(number, OPEN, b"[]", False, "Quiet/deaf"), Cancel(number))
        self.assertEqual((foreign.peer.streams, foreign.peer.incoming.count), ({}, 0))

    def test_valuesWithoutCredit(self) -> None:
        foreign = self.opened("deaf")
        foreign.heard()
        value = b'"%s"' % (b"x" * 10_000)
        foreign.say(*[StreamFrame(1, DATA, value) for _ in range(WINDOW // 10_000 + 5)])
        (reset,) = foreign.heard()
        self.assertEqual(reset.error[0], "payload")
        self.assertIn("without credit", reset.error[1])
        self.assertEqual((foreign.peer.streams, foreign.context.running), ({}, 0))

    def test_emptyValuesWithoutCredit(self) -> None:
        foreign = self.opened("deaf")
        foreign.heard()
        foreign.say(*[StreamFrame(1, DATA, b"0") for _ in range(10_000)])
        self.assertEqual(len(foreign.heard()), 1)

    def test_creditBeyondTheWindow(self) -> None:
        """Whatever a peer gives, no more than the window is on its way."""
        for credit in (b"999999999", b"99999999999999999999", b"-1", b"\xb2", b"", b"1e9"):
            foreign = self.opened("loud")
            sent = len([message for message in foreign.heard() if type(message) is StreamFrame])
            self.assertLess(sent * 1000, WINDOW)
            foreign.say(*[StreamFrame(1, CREDIT, credit)] * 2)
            more = len(foreign.heard())
            self.assertLess(more * 1000, 2 * WINDOW + 2000)


class ServerTests(HostileCase):
    """A client whose server is hostile."""

    def test_repliedTwice(self) -> None:
        foreign = self.foreign()
        outcome = Outcome(foreign.peer.call("A", "b"))
        foreign.say(Reply(1, b"1"), Reply(1, b"2"), ErrorReply(1, "x", "y"))
        self.assertEqual((outcome.only, foreign.context.late), (1, 2))

    def test_codesOfErrors(self) -> None:
        """They are counted as one."""
        foreign = self.foreign()
        for number in range(1, 101):
            outcome = Outcome(foreign.peer.call("A", "b"))
            foreign.say(ErrorReply(number, f"{number}" * 10_000, "y"))
            self.assertIs(type(outcome.only), rpc.RemoteError)
        self.assertEqual(set(foreign.session.context.calls["client"]["A/b"].failed), {"other"})

    def test_creditAndLeaving(self) -> None:
        foreign = self.foreign()
        foreign.say(Ping())
        stream = foreign.peer.stream("A", "b")
        for _ in range(100):
            foreign.say(*[StreamFrame(1, CREDIT, b"999999999", True)] * 10, GoingAway())
        self.assertFalse(foreign.session.isClosed)
        self.assertTrue(foreign.peer.isLeaving)
        for _ in range(30):
            self.ensureSent(stream)
        self.assertLess(len(foreign.heard()) * 20_000, 2 * WINDOW)

    def ensureSent(self, stream: Any) -> None:
        Deferred.fromCoroutine(stream.send("x" * 20_000)).addErrback(lambda _: None)
