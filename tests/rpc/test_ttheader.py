"""TTHeader frames: golden bytes, both directions, any split, any bytes, and the limits."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.rpc.messages import Cancel, ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.wires.info import TOKEN, InfoError, packInfo, parseInfo
from getty_tx.testing import connectedPeer, feedSplit, readAll
from tests.support.long import examples

if TYPE_CHECKING:
    from getty_tx.rpc.wires.ttheader import TTHeaderCodec

LIMIT = 4 * 1024 * 1024
SESSION: Any = SimpleNamespace(maxMsgLen=LIMIT)

modest = settings(max_examples=examples(150), deadline=None, database=None)


def told(message: Any) -> tuple[Any, ...]:
    """A message as something that can be compared."""
    names = [name for name in type(message).__slots__ if name != "metadata"]
    metadata = getattr(message, "metadata", None)
    return type(message).__name__, {name: getattr(message, name) for name in names}, dict(metadata or {})


def written(codec: TTHeaderCodec, *messages: Any) -> bytes:
    return b"".join(codec.write(SESSION, message) for message in messages)


def read(codec: TTHeaderCodec, data: bytes) -> list[tuple[Any, ...]]:
    messages, rest = readAll(codec, data, SESSION)
    assert not rest
    return [told(message) for message in messages]


def readAsSession(codec: TTHeaderCodec, data: bytes) -> list[tuple[Any, ...]]:
    """As a session does it: with readMany, and read for what that leaves."""
    found: list[Any] = []
    at = 0
    while at < len(data):
        for message, stop in codec.readMany(SESSION, data, at, LIMIT):
            assert at < stop <= len(data)
            found.append(told(message))
            at = stop
        if at < len(data):
            message, length = codec.read(SESSION, memoryview(data)[at:])
            if message is None:
                break
            assert length > 0
            found.append(told(message))
            at += length
    return found


def frame(block: bytes, payload: bytes = b"", number: int = 1, size: int | None = None, magic: int = 0x1000) -> bytes:
    size = len(block) >> 2 if size is None else size
    length = 10 + len(block) + len(payload)
    head = length.to_bytes(4, "big") + magic.to_bytes(2, "big") + bytes(2) + number.to_bytes(4, "big", signed=True)
    return head + size.to_bytes(2, "big") + block + payload


class GoldenTests(SynchronousTestCase):
    """Kitex's blocks, byte for byte."""

    def test_route(self) -> None:
        block = bytes.fromhex("0000010001000369736e00044563686f1000010009000465 63686f00".replace(" ", ""))
        self.assertEqual(parseInfo(block), (0, {"isn": "Echo"}, {9: "echo"}))
        self.assertEqual(packInfo(0, {"isn": "Echo"}, {9: "echo"}), block)

    def test_types(self) -> None:
        for kind in ("2", "3"):
            block = bytes.fromhex(f"0000 10 0001 0016 0001 3{kind} 0000")
            self.assertEqual(parseInfo(block), (0, {}, {22: kind}))
            self.assertEqual(packInfo(0, {}, {22: kind}), block)

    def test_goingAway(self) -> None:
        block = bytes.fromhex("0000 01 0001 0005 6372727374 0001 31 00")
        self.assertEqual(parseInfo(block), (0, {"crrst": "1"}, {}))
        self.assertEqual(packInfo(0, {"crrst": "1"}, {}), block)

    def test_none(self) -> None:
        self.assertEqual(packInfo(0, {}, {}), bytes(4)[:2] + bytes(2))
        self.assertEqual(parseInfo(bytes(4)), (0, {}, {}))

    def test_streamBlock(self) -> None:
        block = bytes.fromhex("1000 10 0002 001b 0001 33 0009 0004 6563686f 0000")
        self.assertEqual(parseInfo(block), (0x10, {}, {27: "3", 9: "echo"}))
        self.assertEqual(packInfo(0x10, {}, {27: "3", 9: "echo"}), block)

    def test_groupsAddUp(self) -> None:
        one, two = "01 0001 0001 61 0001 31", "01 0001 0001 62 0001 32"
        block = bytes.fromhex(f"0000 {one} 00 {two} 11 0003 746f6b")
        self.assertEqual(parseInfo(block), (0, {"a": "1", "b": "2", TOKEN: "tok"}, {}))

    def test_kitexPayloadIsRefused(self) -> None:
        golden = bytes.fromhex(
            "00000040 1000 0001 00000001 0007 00 00 01 0001 0003 69736e 0004 4563686f 10 0001 0009 0004 6563686f 00"
            "80010001 00000004 6563686f 00000001 0b0001 00000002 6869 00"
        )
        error = self.assertRaises(CodecError, readAll, rpc.TTHeader().codec(), golden, SESSION)
        self.assertIn("protocol id 0x00", str(error))

    def test_ourRequest(self) -> None:
        wire = rpc.TTHeader()
        codec = wire.codec()
        first = codec.write(SESSION, Request(1, "Echo/say", b'["hi"]', 3.0))
        self.assertIn(b"getty\x00\x19cancel,ping,stream,slices", first)
        expected = frame(
            bytes.fromhex("4a00 01 0001 0003 69736e 0004 4563686f 10 0002 0009 0003 736179 000c 0004 33303030 0000"),
            b'["hi"]',
            2,
        )
        for _ in range(2):
            self.assertEqual(codec.write(SESSION, Request(2, "Echo/say", b'["hi"]', 3.0)), expected)
        self.assertEqual(len(wire.blocks), 1)

    def test_ourReply(self) -> None:
        codec = rpc.TTHeader("bytes").codec()
        codec.write(SESSION, Reply(1, b""))
        golden = bytes.fromhex("4200 10 0001 0016 0001 32 0000")
        self.assertEqual(codec.write(SESSION, Reply(-5, b"hi")), frame(golden, b"hi", -5))

    def test_ourGoingAway(self) -> None:
        golden = bytes.fromhex("0000001a 1000 0000 00000000 0004 4a00 01 0001 0005 6372727374 0001 31 00")
        self.assertEqual(rpc.TTHeader().codec().write(SESSION, GoingAway()), golden)


class MessageTests(SynchronousTestCase):
    """What is written is what is read."""

    messages = (
        Request(1, "Echo/say", b"x", 3.0),
        Request(2, "Echo/say", b"", None, {"trace": "ä"}),
        Request(3, "Echo/log", b"line", None, None, True),
        Reply(1, b"result"),
        Reply(-2, b"", {"a": ""}),
        ErrorReply(3, "outOfStock", "none is left", {"left": 0}),
        ErrorReply(4, "internal", "\udc80 ü", None, {"b": "c"}),
        Cancel(7),
        Ping(),
        Pong(),
        GoingAway(),
    )

    def test_all(self) -> None:
        wire = rpc.TTHeader()
        for again in range(2):
            data = written(wire.codec(), *self.messages)
            expected = [told(message) for message in self.messages]
            self.assertEqual(read(rpc.TTHeader().codec(), data), expected)
            self.assertEqual(readAsSession(wire.codec(), data), expected, f"the caches were used {again} times")

    def test_everyMessageFirst(self) -> None:
        for message in self.messages:
            codec, other = rpc.TTHeader().codec(), rpc.TTHeader().codec()
            self.assertEqual(read(other, codec.write(SESSION, message)), [told(message)])

    def test_announcedOnce(self) -> None:
        codec, other = rpc.TTHeader().codec(), rpc.TTHeader().codec()
        self.assertEqual(other.understood, {Feature.GOAWAY})
        data = [codec.write(SESSION, Request(1, "Echo/say", b"")) for _ in range(2)]
        read(other, data[0])
        self.assertEqual(other.understood, set(Feature) - {Feature.DEADLINE, Feature.METADATA})
        self.assertNotIn(b"getty", data[1])
        # Each codec has to see it, though the sessions of a wire share what is parsed.
        wire = rpc.TTHeader()
        for codec in (wire.codec(), wire.codec()):
            readAsSession(codec, data[0])
            self.assertIn(Feature.PING, codec.understood)

    def test_oneWayIsNotTakenFromTheCache(self) -> None:
        codec = rpc.TTHeader().codec()
        messages = [Request(number, "a/b", b"", 1.0, None, number == 3) for number in (1, 2, 3, 4)]
        self.assertEqual(read(rpc.TTHeader().codec(), written(codec, *messages)), [told(each) for each in messages])

    def test_readManyLeavesWhatIsTooLong(self) -> None:
        wire = rpc.TTHeader()
        data = written(rpc.TTHeader().codec(), *(Request(1, "a/b", b"x" * 50) for _ in range(3)))
        readAll(wire.codec(), data, SESSION)
        rest = written(self._announced(), Request(1, "a/b", b"x" * 50))
        length = len(rest)
        self.assertEqual(len(wire.codec().readMany(SESSION, rest, 0, length)), 1)
        self.assertEqual(wire.codec().readMany(SESSION, rest, 0, length - 1), [])

    def _announced(self) -> TTHeaderCodec:
        codec = rpc.TTHeader().codec()
        codec.write(SESSION, Reply(1, b""))
        return codec

    def test_announcedAfterAFailure(self) -> None:
        codec = rpc.TTHeader().codec()
        self.assertRaises(rpc.PayloadError, codec.write, SESSION, Request(1, "a/b", b"", None, {"x": "y" * 70000}))
        self.assertIn(b"getty", codec.write(SESSION, Request(1, "a/b", b"")))

    def test_unknownFeaturesAreIgnored(self) -> None:
        codec = rpc.TTHeader().codec()
        read(codec, frame(packInfo(0x4A, {"isn": "a", "getty": "future,cancel,,"}, {9: "b"})))
        self.assertEqual(codec.understood, {Feature.GOAWAY, Feature.CANCEL})

    def test_timeouts(self) -> None:
        for text, seconds in (("1500", 1.5), ("-1", None), ("1e3", None), ("", None), ("9" * 12, None), ("x", None)):
            ((_, fields, _),) = read(rpc.TTHeader().codec(), frame(packInfo(0x4A, {"isn": "a"}, {9: "b", 12: text})))
            self.assertEqual(fields["timeout"], seconds, text)

    def test_shortTimeoutIsNotNone(self) -> None:
        data = written(rpc.TTHeader().codec(), Request(1, "a/b", b"", 0.00001))
        ((_, fields, _),) = read(rpc.TTHeader().codec(), data)
        self.assertEqual(fields["timeout"], 0.001)

    def test_unknownControlFrameIsASignOfLife(self) -> None:
        for strings in ({}, {"getty-cancel": "x"}, {"getty-cancel": "9" * 20}, {"other": "1"}):
            self.assertEqual(read(rpc.TTHeader().codec(), frame(packInfo(0x4A, strings, {}), b"", 0))[0][0], "Pong")

    def test_errorsThatCannotBeRead(self) -> None:
        block = packInfo(0x4A, {}, {22: "3"})
        for payload in (b"", b"[]", b"5", b"{}", b'{"code": 1}', b"\xff", b"[" * 100_000):
            ((kind, fields, _),) = read(rpc.TTHeader().codec(), frame(block, payload))
            self.assertEqual((kind, fields["code"]), ("ErrorReply", "internal"))

    def test_detailsThatAreNoJSON(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        for details in (object(), circle, float("nan"), {(): 1}):
            data = written(rpc.TTHeader().codec(), ErrorReply(1, "code", "text", details))
            ((_, fields, _),) = read(rpc.TTHeader().codec(), data)
            self.assertEqual((fields["code"], fields["text"], fields["details"]), ("code", "text", None))

    def test_errorsAboveMaxMsgLenAreCut(self) -> None:
        session: Any = SimpleNamespace(maxMsgLen=2000)
        for text, details in (("why", "x" * 5000), ("ü" * 5000, None), ("\U0001f600" * 5000, "x")):
            data = rpc.TTHeader().codec().write(session, ErrorReply(1, "code", text, details))
            self.assertLessEqual(len(data), 2000)
            ((_, fields, _),) = read(rpc.TTHeader().codec(), data)
            self.assertEqual(fields["code"], "code")
            self.assertTrue(fields["text"] and text.startswith(fields["text"]))
            self.assertIsNone(fields["details"])

    def test_payloads(self) -> None:
        self.assertRaises(SettingError, rpc.TTHeader, "xml")
        self.assertRaises(SettingError, rpc.TTHeader, maxMetadata=0)


class LimitTests(SynchronousTestCase):
    """Frames and metadata that cannot be, or are too large."""

    def refused(self, data: bytes, wire: Any = None) -> str:
        codec = (wire or rpc.TTHeader()).codec()
        self.assertEqual(codec.readMany(SESSION, data, 0, LIMIT), [])
        return str(self.assertRaises(CodecError, codec.read, SESSION, memoryview(data)))

    def test_wrongLengths(self) -> None:
        block = packInfo(0x4A, {"isn": "a"}, {9: "b"})
        self.assertIn("magic number", self.refused(frame(block, magic=0x1001)))
        self.assertIn("bytes of blocks", self.refused(frame(b"", b"x" * 20, size=0)))
        self.assertIn("bytes of blocks", self.refused(frame(block, size=len(block))))
        self.assertIn("bytes of blocks", self.refused(bytes(4) + frame(block)[4:]))

    def test_hugeFrameIsNotAwaited(self) -> None:
        data = b"\xff\xff\xff\xff" + frame(packInfo(0x4A, {"isn": "a"}, {9: "b"}))[4:]
        self.assertEqual(rpc.TTHeader().codec().read(SESSION, memoryview(data)), (None, 2**32 + 3))
        pair = connectedPeer(lambda session: rpc.Peer(session, rpc.TTHeader()) and None)
        pair.peer.write(data)
        pair.flush()
        self.assertTrue(pair.server.isClosed)
        self.assertIn("maxMsgLen", str(pair.server.error))

    def test_hugeHeader(self) -> None:
        block = packInfo(0x4A, {str(number): "x" * 65000 for number in range(4)}, {})
        whole = block + bytes(262140 - len(block))
        self.assertIn("above maxMetadata=16384", self.refused(frame(whole)))
        # It is refused before it has come.
        self.assertIn("above maxMetadata=16384", self.refused(frame(whole)[:14]))
        wire = rpc.TTHeader(maxMetadata=262140)
        ((_, _, metadata),) = read(wire.codec(), frame(whole))
        self.assertEqual(len(metadata), 4)
        self.assertEqual((wire.routes, wire.blocks), ({}, {}))

    def test_blocks(self) -> None:
        for block, why in (
            ("4a01 00 00", "1 transforms"),
            ("4a00 02 00", "unknown group 0x02"),
            ("4a00 01 00", "within a number"),
            ("4a00 01 0001 0001 61", "within a string's length"),
            ("4a00 01 0001 0009 61 00 00 00", "within a string"),
            ("4a00 10 00", "within a number"),
            ("4a00 10 ffff 0000 00", "within a string's length"),
            ("4a00 11 0001 ff 000000", "no UTF-8"),
            ("4200 00 00", "protocol id 0x42"),
        ):
            self.assertIn(why, self.refused(frame(bytes.fromhex(block))), block)
        self.assertRaises(InfoError, parseInfo, b"\x4a")

    def test_unknownTypeIsNeverKept(self) -> None:
        wire = rpc.TTHeader()
        data = frame(packInfo(0x4A, {"isn": "a"}, {9: "b", 22: "9"}))
        for _ in range(2):
            self.assertIn("unknown type", self.refused(data, wire))

    def test_writing(self) -> None:
        for metadata, why in (
            ({"a": "x" * 65536}, "65536 bytes"),
            ({"a": "x" * 20000}, "maxMetadata=16384"),
            ({str(number): "" for number in range(65536)}, "names of metadata are above"),
            ({"isn": "Other"}, "'isn'"),
            ({"getty": "ping"}, "'getty'"),
            ({"a": 1}, "no text"),
            ({"a": b"x"}, "no text"),
            ({"\ud800": "x"}, "no text"),
        ):
            for message in (Request(1, "a/b", b"", None, metadata), Reply(1, b"", metadata)):  # type: ignore[arg-type]
                error = self.assertRaises(rpc.PayloadError, rpc.TTHeader().codec().write, SESSION, message)
                self.assertIn(why, str(error))
        wire = rpc.TTHeader(maxMetadata=262140)
        many = {str(number): "x" * 60000 for number in range(5)}
        error = self.assertRaises(rpc.PayloadError, wire.codec().write, SESSION, Reply(1, b"", many))
        self.assertIn("262140", str(error))

    def test_metadataAndPayloadAboveMaxMsgLen(self) -> None:
        session: Any = SimpleNamespace(maxMsgLen=10_000)
        metadata = {"a": "x" * 1000}
        error = self.assertRaises(
            rpc.PayloadError, rpc.TTHeader().codec().write, session, Reply(1, b"x" * 9_500, metadata)
        )
        self.assertIn("maxMsgLen=10000", str(error))
        self.assertTrue(rpc.TTHeader().codec().write(session, Reply(1, b"x" * 8_000, metadata)))

    def test_cachesDoNotGrow(self) -> None:
        wire = rpc.TTHeader()
        ours, theirs = wire.codec(), rpc.TTHeader().codec()
        for number in range(5000):
            message = Request(1, f"Echo/m{number}", b"", number + 1)
            self.assertEqual(read(ours, ours.write(SESSION, message)), [told(message)])
            ours.write(SESSION, Request(1, "Echo/" + "x" * 300 + str(number), b""))
            read(ours, theirs.write(SESSION, Request(1, "Echo/say", b"", None, {"a": str(number)})))
        self.assertLessEqual(len(wire.routes), 1024)
        self.assertLessEqual(len(wire.blocks), 1024)
        self.assertLessEqual(max(map(len, [*wire.routes, *wire.blocks.values()])), 256)


names = st.text("abc/äö", min_size=1, max_size=8)
keys = st.text(min_size=1, max_size=5).filter(lambda name: name not in ("isn", "getty", "crrst"))
metadata = st.none() | st.dictionaries(keys, st.text(max_size=9), max_size=3)
numbers = st.integers(1, 2**31 - 1)
payloads = st.binary(max_size=60) | st.just(b"z" * 5000)
documents = st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3))
someMessages = st.lists(
    st.one_of(
        st.builds(
            Request,
            numbers,
            st.builds("{}/{}".format, st.text("ab", max_size=3), names),
            payloads,
            st.none() | st.integers(1, 10**6).map(lambda ms: ms / 1000),
            metadata,
            st.booleans(),
        ),
        st.builds(Reply, numbers, payloads, metadata),
        st.builds(ErrorReply, numbers, st.text(max_size=5), st.text(max_size=9), documents, metadata),
        st.builds(Cancel, numbers),
        st.sampled_from([Ping(), Pong(), GoingAway()]),
    ),
    max_size=12,
)


class RandomTests(SynchronousTestCase):
    """Random messages, cut anywhere, and random bytes."""

    @given(someMessages, st.lists(st.integers(0, 80), max_size=40))
    @modest
    def test_anySplit(self, messages: list[Any], sizes: list[int]) -> None:
        wire = rpc.TTHeader()
        for _ in range(2):
            data = written(wire.codec(), *messages)
            # An empty dict of metadata is None on the other side.
            expected = [told(message) for message in messages]
            found, rest = feedSplit(rpc.TTHeader().codec(), data, sizes, SESSION)
            self.assertEqual(([told(message) for message in found], rest), (expected, b""))
            self.assertEqual(readAsSession(wire.codec(), data), expected)

    def _survives(self, data: bytes) -> None:
        for _ in range(2):
            with contextlib.suppress(CodecError):
                readAsSession(rpc.TTHeader().codec(), data)

    @given(st.binary(max_size=200))
    @modest
    def test_randomBytes(self, data: bytes) -> None:
        self._survives(data)
        self._survives(frame(b"\x4a\0" + data + bytes((-len(data) - 2) % 4), b"x"))

    @given(someMessages, st.data())
    @modest
    def test_changedBytes(self, messages: list[Any], choices: st.DataObject) -> None:
        data = bytearray(written(rpc.TTHeader().codec(), *messages))
        for _ in range(choices.draw(st.integers(1, 4)) if data else 0):
            data[choices.draw(st.integers(0, len(data) - 1))] = choices.draw(st.integers(0, 255))
        self._survives(bytes(data))

    @given(st.binary(max_size=100))
    @modest
    def test_randomInfo(self, data: bytes) -> None:
        try:
            protocol, strings, ints = parseInfo(data)
        except InfoError:
            return
        self.assertEqual(parseInfo(packInfo(protocol, strings, ints)), (protocol, strings, ints))
