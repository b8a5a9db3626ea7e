"""The wire of Seata: golden frames, bytes of strangers, compressors, limits."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
import zlib
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.rpc import seata
from getty_tx.rpc.messages import Cancel, ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.seata.packing import pack, unpack
from getty_tx.testing import feedSplit, readAll
from tests.rpc.test_seata_messages import MESSAGES
from tests.support.long import examples

PING = bytes.fromhex("dada 01 00000010 0010 03 01 00 00000001")
PONG = bytes.fromhex("dada 01 00000010 0010 04 01 00 00000001")
BEGIN = bytes.fromhex("dada 01 0000001a 0010 00 01 00 00000002 0001 0000ea60 0002 7478")
BEGIN_MAP = bytes.fromhex("dada 01 00000020 0016 00 01 00 00000002 0001 6b 0001 76 0001 0000ea60 0002 7478")
BEGUN = bytes.fromhex("dada 01 00000028 0010 01 01 00 00000002 0002 01 00 0010 3132372e302e302e313a383039313a31 0000")
REGISTER = bytes.fromhex("dada 01 00000025 0010 02 01 00 00000003 0065 0005 322e302e30 0003 617070 0003 677270 0000")
DELETE = bytes.fromhex("dada 01 00000018 0010 02 01 00 00000009 006f 00 0001 72 0007")
FAILED = bytes.fromhex("dada 01 0000001c 0010 01 01 00 00000002 0002 00 0002 6e6f 0a 0000 0000")

#: The bodies of the frames above.
BEGIN_BODY, REGISTER_BODY, DELETE_BODY = BEGIN[16:], REGISTER[16:], DELETE[16:]

#: How a request's number has its type.
_BEGIN, _REGISTER_TYPE = 1 << 32, 101 << 32


def end(maxMsgLen: int = 1 << 22) -> Any:
    """As much of a session as the codec looks at."""
    return SimpleNamespace(maxMsgLen=maxMsgLen)


def vars_(message: Any) -> list[Any]:
    return [type(message), *(getattr(message, name) for name in message.__slots__)]


def frame(body: bytes, kind: int = 0, compressor: int = 0, block: bytes = b"", number: int = 2) -> bytes:
    """A frame with whatever a test wants in it."""
    head = 16 + len(block)
    start = b"\xda\xda\1" + (head + len(body)).to_bytes(4) + head.to_bytes(2)
    return start + bytes([kind, 1, compressor]) + number.to_bytes(4) + block + body


class WireCase(SynchronousTestCase):
    """Has a wire, and reads."""

    def setUp(self) -> None:
        self.wire = rpc.Seata()

    def read(self, data: bytes, codec: Any = None) -> Any:
        """The one message in the bytes, however it is read."""
        codec = codec or self.wire.codec()
        message, length = codec.read(end(), memoryview(data))
        self.assertEqual(length, len(data))
        for other, _ in codec.readMany(end(), data + data, 0, 1 << 22):
            self.assertEqual(vars_(other), vars_(message))
        return message

    def refused(self, data: bytes, why: str, most: int = 1 << 22) -> None:
        codec = self.wire.codec()
        self.assertEqual(codec.readMany(end(most), data, 0, most), [])
        with self.assertRaisesRegex(CodecError, why):
            codec.read(end(most), memoryview(data))


class GoldenTests(WireCase):
    """Bytes from messages, and messages from bytes."""

    def test_requests(self) -> None:
        """A request, with and without metadata; its number has its type, for the answer."""
        for data, metadata in ((BEGIN, None), (BEGIN_MAP, {"k": "v"})):
            request = Request(2, "seata/GlobalBegin", BEGIN_BODY, None, metadata)
            self.assertEqual(self.wire.codec().write(end(), request), data)
            request.id |= _BEGIN
            self.assertEqual(vars_(self.read(data)), vars_(request))

    def test_oneWay(self) -> None:
        """A TM registers one-way, and is answered; what has no result is one-way."""
        codec = self.wire.codec()
        self.assertEqual(codec.write(end(), Request(3, "seata/RegisterTM", REGISTER_BODY)), REGISTER)
        request = self.read(REGISTER)
        self.assertEqual(vars_(request), vars_(Request(3 | _REGISTER_TYPE, "seata/RegisterTM", REGISTER_BODY)))
        request = Request(9, "seata/DeleteUndoLog", DELETE_BODY, isOneWay=True)
        self.assertEqual(codec.write(end(), request), DELETE)
        self.assertTrue(self.read(DELETE).isOneWay)
        with self.assertRaisesRegex(rpc.PayloadError, r"seata/DeleteUndoLog has no result: send\(\) it") as caught:
            codec.write(end(), Request(9, "seata/DeleteUndoLog", DELETE_BODY))
        self.assertFalse(caught.exception.sent)
        sent = codec.write(end(), Request(2, "seata/GlobalBegin", BEGIN_BODY, isOneWay=True))
        self.assertEqual(sent, BEGIN[:9] + b"\2" + BEGIN[10:])
        # As Java sends them, though it awaits their results.
        merged = seata.encode(seata.MergedMessages([seata.GlobalCommit("x")]))
        self.assertEqual(codec.write(end(), Request(2, "seata/MergedMessages", merged)), frame(merged, 2))
        self.assertFalse(self.read(frame(merged, 2)).isOneWay)

    def test_replies(self) -> None:
        """A result has the number of its request, without the type."""
        self.assertEqual(self.wire.codec().write(end(), Reply(2 | _BEGIN, BEGUN[16:])), BEGUN)
        self.assertEqual(vars_(self.read(BEGUN)), vars_(Reply(2, BEGUN[16:])))
        number = frame(BEGIN_BODY, number=0xFFFFFFFF)
        self.assertEqual(self.read(number).id, 0xFFFFFFFF | _BEGIN)
        self.assertEqual(self.wire.codec().write(end(), Reply(0xFFFFFFFF | _BEGIN, b"ab"))[12:16], b"\xff" * 4)

    def test_errors(self) -> None:
        """A result that says so is an error, and an error is the result that belongs to the request."""
        error = ErrorReply(2 | _BEGIN, "GlobalTransactionNotExist", "no")
        self.assertEqual(self.wire.codec().write(end(), error), FAILED)
        read = self.read(FAILED)
        self.assertEqual((read.id, read.code, read.text), (2, "GlobalTransactionNotExist", "no"))
        self.assertEqual(read.details, seata.decode(FAILED[16:]))
        # Codes that Seata does not have.
        data = self.wire.codec().write(end(), ErrorReply(2 | _BEGIN, "noMethod", "half \ud800" + "x" * 5000))
        read = self.read(data)
        self.assertEqual((read.code, read.text), ("Unknown", "half ?" + "x" * 994))
        read = self.read(frame(bytes.fromhex("0008 00 0000 c8 00"), 1))
        self.assertEqual((read.code, read.text), ("200", "the peer has given no reason"))
        read = self.read(frame(bytes.fromhex("0008 00 0005"), 1))
        self.assertEqual(read.code, "payload")
        self.assertRegex(read.text, "the peer's error cannot be read: GlobalCommitResult of 5 bytes")

    def test_errorsWithoutText(self) -> None:
        """A registration that is not taken has no room for a text."""
        data = self.wire.codec().write(end(), ErrorReply(3 | _REGISTER_TYPE, "internal", "no"))
        self.assertEqual(data[16:], bytes.fromhex("0066 00 0005 322e302e30"))
        self.assertEqual(self.read(data).code, "notIdentified")

    def test_errorsOfMerged(self) -> None:
        """Merged messages that fail together fail each, as their sender waits for a result of each."""
        codec = self.wire.codec()
        parts: list[seata.Message] = [seata.BranchRegister("x"), seata.GlobalLockQuery(), seata.DeleteUndoLog()]
        body = seata.encode(seata.MergedMessages(parts, [7, 8, 9]))
        for _ in range(3):
            request = self.read(frame(body, 2, number=3), codec)
            data = codec.write(end(), ErrorReply(request.id, "LockKeyConflict", "no"))
            why = {"succeeded": False, "text": "no", "exception": seata.ExceptionCode.LockKeyConflict}
            answers: list[Any] = [seata.BranchRegisterResult, seata.GlobalLockQueryResult, seata.BranchReportResult]
            self.assertEqual(seata.decode(data[16:]), seata.MergedResults([kind(**why) for kind in answers]))
            # A result that is too long is such an error.
            request = self.read(frame(body, 2, number=3), codec)
            with self.assertRaises(rpc.PayloadError):
                codec.write(end(100), Reply(request.id, bytes(100)))
            data = codec.write(end(), ErrorReply(request.id, "internal", "no"))
            self.assertEqual(len(self.read(data).payload), 42)
            # Bodies are not kept when they are answered, in either way.
            self.read(frame(body, 2, number=4), codec)
            codec.write(end(), Reply(4 | 59 << 32, b"ab"))
            self.assertEqual(codec._merged, {})
        # As many as there can be make no answer that is much longer than they are.
        many = seata.encode(seata.MergedMessages([seata.GlobalCommit()] * 32767))
        request = self.read(frame(many, number=3), codec)
        data = codec.write(end(), ErrorReply(request.id, "internal", "x" * 1000))
        self.assertLess(len(data), 2 * len(many))
        # One that cannot be read has no messages in it.
        request = self.read(frame(body[:-1], number=3), codec)
        data = codec.write(end(), ErrorReply(request.id, "payload", "no"))
        self.assertEqual(seata.decode(data[16:]), seata.MergedResults())

    def test_heartbeats(self) -> None:
        """The answer to a heartbeat has its id; a sign of life that nobody has asked for is a heartbeat with id 0."""
        codec = self.wire.codec()
        self.assertIs(type(self.read(PING, codec)), Ping)
        self.assertEqual(codec.write(end(), Pong()), PONG)
        for message in (Ping(), Pong()):
            self.assertEqual(codec.write(end(), message), PING[:12] + bytes(4))
        self.assertIs(type(self.read(PONG, codec)), Pong)
        self.assertIs(type(self.read(frame(b"surplus", 3))), Ping)

    def test_unknown(self) -> None:
        """A type that is not known, or is that of a result, is a request that nobody can answer."""
        for body, name in (("007a 01", "seata/122"), ("0002 01", "seata/2"), ("0000", "seata/0")):
            request = self.read(frame(bytes.fromhex(body)))
            self.assertEqual((request.name, request.isOneWay, request.id), (name, True, 2))

    def test_maps(self) -> None:
        """Null is not there, nor what is named null, and null is no text of 65,535 bytes."""
        for block, expected in (
            ("0000 0000", {"": ""}),
            ("0001 61 ffff", {}),
            ("ffff 0001 61", {}),
            ("ffff ffff 0001 61 0001 62", {"a": "b"}),
            ("0001 61 0001 62 0001 61 0001 63", {"a": "c"}),
        ):
            read = self.read(frame(BEGIN_BODY, block=bytes.fromhex(block)))
            self.assertEqual((read.metadata, read.payload), (expected, BEGIN_BODY))
        message: Any = Reply(2, b"\0\1", {"a": None, "b": ""})
        self.assertEqual(self.wire.codec().write(end(), message)[16:], bytes.fromhex("0001 61 ffff 0001 62 0000 0001"))
        self.assertEqual(self.wire.codec().write(end(), Reply(2, b"\0\1", {}))[16:], b"\0\1")


class StrangerTests(WireCase):
    """Bytes that are no frames."""

    def test_heads(self) -> None:
        """Another magic number, version, kind, serializer, or lengths that cannot be."""
        self.refused(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "no frame of Seata's: it begins with 0x4745")
        for version in (0, 2, 255):
            self.refused(BEGIN[:2] + bytes([version]) + BEGIN[3:], f"Seata's protocol {version}, where this is 1")
        self.refused(BEGIN[:9] + b"\5" + BEGIN[10:], "unknown kind 5")
        for serializer, name in ((2, "protobuf"), (0x16, "hessian"), (0, "0"), (3, "3")):
            self.refused(BEGIN[:10] + bytes([serializer]) + BEGIN[11:], f"the serializer {name}, where this is seata")
        for length in (0, 15, 8 * 1024 * 1024 + 1, 0xFFFFFFFF):
            self.refused(BEGIN[:3] + length.to_bytes(4) + BEGIN[7:], f"a frame of {length} bytes with a head of 16")
        for head in (0, 15, 27, 0xFFFF):
            self.refused(BEGIN[:7] + head.to_bytes(2) + BEGIN[9:], f"a frame of 26 bytes with a head of {head}")

    def test_bodies(self) -> None:
        """A body without a type, and maps that are cut."""
        self.refused(frame(b""), "a body of 0 bytes has no type")
        self.refused(frame(b"\0", 1), "a body of 1 bytes has no type")
        for block in ("00", "0001", "0001 61", "0001 61 00", "0001 61 0002 62", "0005 61 0000", "0001 61 fffe"):
            self.refused(frame(BEGIN_BODY, block=bytes.fromhex(block)), "the map of a frame: it ends within a text")
        self.refused(frame(BEGIN_BODY, block=bytes.fromhex("0001 ff 0000")), "the map of a frame: .* can't decode")
        # The largest map that the head has room for, with a part of a text at its end: above what Java reads.
        self.wire.maxMetadata = 65519
        self.refused(frame(BEGIN_BODY, block=b"\xff\xff" * 32759 + b"\0"), "the map of a frame: it ends within a text")

    def test_splits(self) -> None:
        """The same messages come however the bytes are cut, and the length is told as soon as it is known."""
        data = BEGIN + PING + BEGUN + FAILED + PONG + BEGIN_MAP + REGISTER + DELETE
        whole = [vars_(each) for each in readAll(self.wire.codec(), data, end())[0]]
        self.assertEqual(len(whole), 8)
        for size in range(1, len(data)):
            found, rest = feedSplit(self.wire.codec(), data, [size], end())
            self.assertEqual(([vars_(each) for each in found], rest), (whole, b""))
        found, rest = feedSplit(self.wire.codec(), data, [1] * len(data), end())
        self.assertEqual([vars_(each) for each in found], whole)
        for size in range(len(BEGIN)):
            expected = (None, 0) if size < 16 else (None, len(BEGIN))
            self.assertEqual(self.wire.codec().read(end(), memoryview(BEGIN[:size])), expected)

    @settings(max_examples=examples(100), deadline=None)
    @given(st.binary(max_size=60), st.integers(0, 5), st.integers(0, 8), st.binary(max_size=12))
    def test_random(self, body: bytes, kind: int, compressor: int, block: bytes) -> None:
        """Any bytes behind a good head are a message or a CodecError; ``readMany`` finds what ``read`` does."""
        data = frame(body, kind, compressor, block)
        codec = self.wire.codec()
        try:
            message, length = codec.read(end(), memoryview(data))
        except CodecError:
            self.assertEqual(codec.readMany(end(), data, 0, 1 << 22), [])
            return
        self.assertEqual(length, len(data))
        for other, stop in codec.readMany(end(), data, 0, 1 << 22):
            self.assertEqual((vars_(other), stop), (vars_(message), length))

    @settings(max_examples=examples(100), deadline=None)
    @given(st.data())
    def test_damaged(self, data: Any) -> None:
        """So are frames with other bytes in them."""
        damaged = bytearray(data.draw(st.sampled_from([BEGIN, BEGIN_MAP, BEGUN, FAILED, REGISTER])) * 2)
        for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
            damaged[at] = data.draw(st.integers(0, 255))
        try:
            found, rest = readAll(self.wire.codec(), bytes(damaged), end())
        except CodecError:
            return
        self.assertLessEqual(len(found) * 16 + len(rest), len(damaged))

    @settings(max_examples=examples(60), deadline=None)
    @given(MESSAGES, st.sampled_from(["none", "gzip", "zip", "deflate", "bzip2"]), st.integers(1, 0x7FFFFFFF))
    def test_everyMessage(self, message: seata.Message, compressor: str, number: int) -> None:
        """A message that was written as a request or as a result is read, through each compressor."""
        codec = rpc.Seata(compressor=compressor).codec()
        body = seata.encode(message)
        for written in (Request(number, "", body, isOneWay=True), Reply(number, body)):
            read = self.read(codec.write(end(), written))
            self.assertEqual(read.id & 0xFFFFFFFF, number)
            if isinstance(read, ErrorReply):
                self.assertEqual(read.details, message)
            else:
                self.assertEqual(seata.decode(read.payload), message)


class Streamed(io.BytesIO):
    """A file that is written from its start to its end."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("not here")


class CompressorTests(WireCase):
    """Bodies of others that are compressed, and of this end."""

    def test_others(self) -> None:
        """What the libraries of Java write is read: a zip that is written in one go, and bzip2 without its mark."""
        streamed = Streamed()
        with zipfile.ZipFile(streamed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zip", BEGIN_BODY)
        # The lengths are behind the entry.
        self.assertEqual(streamed.getvalue()[6], 8)
        for number, body in (
            (1, gzip.compress(BEGIN_BODY)),
            (2, streamed.getvalue()),
            (4, bz2.compress(BEGIN_BODY)[2:]),
            (4, bz2.compress(BEGIN_BODY)),
            (6, zlib.compress(BEGIN_BODY)),
        ):
            self.assertEqual(self.read(frame(BEGIN_BODY, compressor=0)).payload, BEGIN_BODY)
            self.assertEqual(self.read(frame(body, compressor=number)).payload, BEGIN_BODY)

    def test_writing(self) -> None:
        """The setting is that of the bodies; heartbeats have none."""
        for name, number, unpacked in (
            ("gzip", 1, gzip.decompress),
            ("zip", 2, lambda data: zipfile.ZipFile(io.BytesIO(data)).read("zip")),
            ("bzip2", 4, lambda data: bz2.decompress(b"BZ" + data)),
            ("deflate", 6, zlib.decompress),
        ):
            wire = rpc.Seata(compressor=name)
            data = wire.codec().write(end(), Request(2, "seata/GlobalBegin", BEGIN_BODY))
            self.assertEqual((data[11], unpacked(data[16:])), (number, BEGIN_BODY))
            self.assertEqual(wire.codec().write(end(), Ping())[11], 0)

    def test_refused(self) -> None:
        """Compressors that are not here are refused by name, as a setting and in a frame."""
        for name, number in (("7z", 3), ("lz4", 5), ("zstd", 7)):
            with self.assertRaisesRegex(
                SettingError, rf"Seata\(compressor='{name}'\) is not supported; use one of none"
            ):
                rpc.Seata(compressor=name)
            self.refused(frame(b"abc", compressor=number), f"the compressor {name} is not supported")
        self.refused(frame(b"abc", compressor=8), "the compressor 8 is not supported")
        with self.assertRaisesRegex(SettingError, r"Seata\(compressor='snappy'\) is none of none, gzip, zip"):
            rpc.Seata(compressor="snappy")

    def test_broken(self) -> None:
        """Bytes that are cut, that something is behind, or that are something else."""
        for number, name in ((1, "gzip"), (2, "zip"), (4, "bzip2"), (6, "deflate")):
            good = pack(number, BEGIN_BODY)
            self.refused(frame(b"", compressor=number), f"{name}: it ends too early")
            self.refused(frame(b"x" * 40, compressor=number), f"{name}: ")
            # The directory of an archive is behind its entry, and not read.
            cut = good[: 30 + len("zip") + 5] if number == 2 else good[:-1]
            self.refused(frame(cut, compressor=number), f"{name}: it ends too early")
            if number != 2:
                self.refused(frame(good + b"xyz", compressor=number), f"{name}: 3 bytes are behind its end")

    def test_bombs(self) -> None:
        """No more comes out than a message may have; exactly that does."""
        for number, name in ((1, "gzip"), (2, "zip"), (4, "bzip2"), (6, "deflate")):
            bomb = pack(number, bytes(10_000_000))
            self.assertLess(len(bomb), 20_000)
            self.refused(frame(bomb, compressor=number), f"{name}: more than 4194304 bytes come out of it")
            self.assertEqual(unpack(number, pack(number, bytes(70_000)), 70_000), bytes(70_000))
            with self.assertRaisesRegex(ValueError, "more than 69999 bytes"):
                unpack(number, pack(number, bytes(70_000)), 69_999)


class LimitTests(WireCase):
    """What the wire cannot carry, or cannot say."""

    def test_lengths(self) -> None:
        """A frame above maxMsgLen or 8 MiB is an error before anything is sent."""
        codec = self.wire.codec()
        self.assertEqual(len(codec.write(end(100), Request(1, "a/b", bytes(84)))), 100)
        with self.assertRaisesRegex(rpc.PayloadError, "a/b: a request of 101 bytes is above the 100") as caught:
            codec.write(end(100), Request(1, "a/b", bytes(85)))
        self.assertFalse(caught.exception.sent)
        with self.assertRaisesRegex(rpc.PayloadError, "a result of 8388609 bytes is above the 8388608"):
            codec.write(end(1 << 24), Reply(1, bytes(8 * 1024 * 1024 - 15)))
        # The batch stops before one, so that the session says why.
        self.assertEqual(codec.readMany(end(), BEGUN, 0, len(BEGUN) - 1), [])

    def test_metadata(self) -> None:
        """Maps have a limit, in both directions, and texts as names and values."""
        wire = rpc.Seata(maxMetadata=8)
        self.assertEqual(len(wire.codec().write(end(), Reply(1, b"ab", {"ab": "cd"}))), 26)
        with self.assertRaisesRegex(rpc.PayloadError, "metadata of 9 bytes is above maxMetadata=8") as caught:
            wire.codec().write(end(), Reply(1, b"ab", {"ab": "cde"}))
        self.assertFalse(caught.exception.sent)
        self.wire.maxMetadata = 3
        self.refused(BEGIN_MAP, "a map of 6 bytes is above maxMetadata=3")
        bad: list[Any] = [{"a": 1}, {"a": "\ud800"}, {"a": "x" * 70_000}]
        for metadata in bad:
            with self.assertRaisesRegex(rpc.PayloadError, "metadata="):
                rpc.Seata().codec().write(end(), Request(1, "a/b", b"ab", None, metadata))

    def test_features(self) -> None:
        """It has metadata and heartbeats, and nothing else."""
        self.assertEqual(self.wire.features, {Feature.METADATA, Feature.PING})
        self.assertEqual(self.wire.codec().understood, self.wire.features)
        for message in (Cancel(1), GoingAway()):
            with self.assertRaisesRegex(SettingError, rf"Seata\(\) cannot say {type(message).__name__}"):
                self.wire.codec().write(end(), message)
        self.assertEqual(repr(self.wire.codec()), "Seata()")

    def test_settings(self) -> None:
        """What else a setting may be is told."""
        # Java would read a longer head as one below zero.
        self.assertEqual(rpc.Seata(maxMetadata=32751).maxMetadata, 32751)
        with self.assertRaisesRegex(SettingError, r"Seata\(maxMetadata=32752\) is above 32751"):
            rpc.Seata(maxMetadata=32752)
        bad: Any
        for bad in ([seata.GlobalBegin()], seata.GlobalBegin(), seata.RegisterTM, None, 5, "x", [None]):
            with self.assertRaisesRegex(SettingError, r"Seata\(register=.* is neither a RegisterTM nor a RegisterRM"):
                rpc.Seata(register=bad)
        for field in ("application", "group"):
            for value in (None, "x" * 40_000):
                with self.assertRaisesRegex(SettingError, rf"Seata\(register=\.\.\.\): RegisterRM\({field}="):
                    rpc.Seata(register=seata.RegisterRM(**{field: value}))  # type: ignore[arg-type]
        both = (seata.RegisterTM(), seata.RegisterRM())
        self.assertEqual(rpc.Seata(register=both).register, both)
        self.assertEqual(rpc.Seata(register=both[1]).register, both[1:])
