"""The wire of Getty's RPC: golden bytes, bytes of strangers, limits."""

from __future__ import annotations

import contextlib
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import CodecError, SettingError
from getty_tx.rpc.messages import Cancel, ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.wires.getty import HEAD, LARGEST, LONGEST
from getty_tx.testing import feedSplit, readAll

ZEROS = "0000000000000000"
ONE = "0100000000000000"

PING = f"05091620 0100 0000 0300000000000000 {ZEROS} 0000 0100 00000000"
PONG = f"05091620 0200 0000 0300000000000000 {ZEROS} 0000 0100 00000000"
ADD_PROTOBUF = (
    f"05091620 0300 0000 {ONE} {ZEROS} 0000 0200 1c0000001400 0a0b5465737453657276696365 1203416464 1802 0400 0801 100a"
)
SUM_PROTOBUF = f"05091620 0400 0000 {ONE} {ZEROS} 0000 0200 08000000 0200 0a00 0200 080b"


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def counted(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "little") + data


def package(head: str, *parts: str) -> bytes:
    return hexed(head) + b"".join(counted(each) for each in parts)


ADD_HEADER = '{"Service":"TestService","Method":"Add","CallType":"CT_TwoWay"}'
ADD_JSON = package(f"05091620 0300 0000 {ONE} {ZEROS} 0000 0100 51000000", ADD_HEADER, '{"A":1,"B":10}')
SUM_JSON = package(f"05091620 0400 0000 {ONE} {ZEROS} 0000 0100 1a000000", '{"Error":""}', '{"Sum":11}')
ERROR_JSON = package(f"05091620 0400 0000 {ONE} {ZEROS} 0100 0100 24000000", '{"Error":"this is a error test"}', "")
ERROR_PROTOBUF = f"05091620 0400 0000 {ONE} {ZEROS} 0100 0200 08000000 0400 0a026e6f 0000"


def end(kind: str = "TCP_CLIENT", maxMsgLen: int = 1 << 22) -> Any:
    """As much of a session as the codec looks at."""
    return SimpleNamespace(connection=SimpleNamespace(kind=kind), maxMsgLen=maxMsgLen)


def asked(codec: Any, session: Any) -> Any:
    """The codec, after its first request."""
    codec.write(session, Request(1, "A/b", b""))
    return codec


def vars_(message: Any) -> list[Any]:
    return [type(message), *(getattr(message, name) for name in message.__slots__)]


class WireCase(SynchronousTestCase):
    """Has both wires, and log ids that are 0."""

    def setUp(self) -> None:
        patcher = patch("getty_tx.rpc.wires.getty.getrandbits", lambda bits: 0)
        patcher.start()
        self.addCleanup(patcher.stop)
        self.json = rpc.Getty("json")
        self.protobuf = rpc.Getty("protobuf")

    def read(self, codec: Any, data: bytes) -> Any:
        """The one message in the bytes, however it is read."""
        message, length = codec.read(None, memoryview(data))
        self.assertEqual(length, len(data))
        for other, _ in codec.readMany(None, data + data, 0, 1 << 22):
            self.assertEqual(vars_(other), vars_(message))
        return message


class GoldenTests(WireCase):
    """Bytes from messages, and messages from bytes."""

    def test_requests(self) -> None:
        """A request is that of the Go client, with an odd sequence at the end that has dialled."""
        for wire, arguments, expected in (
            (self.json, b'{"A":1,"B":10}', ADD_JSON),
            (self.protobuf, hexed("0801100a"), hexed(ADD_PROTOBUF)),
        ):
            for _ in range(2):
                # The second time its header is known.
                self.assertEqual(wire.codec().write(end(), Request(1, "TestService/Add", arguments)), expected)
                message = self.read(asked(wire.codec(), end("TCP_SERVER")), expected)
                self.assertEqual(vars_(message), vars_(Request(1, "TestService/Add", arguments)))

    def test_replies(self) -> None:
        """So is a result."""
        for wire, result, expected in (
            (self.json, b'{"Sum":11}', SUM_JSON),
            (self.protobuf, hexed("080b"), hexed(SUM_PROTOBUF)),
        ):
            self.assertEqual(wire.codec().write(end("TCP_SERVER"), Reply(1, result)), expected)
            message = self.read(asked(wire.codec(), end()), expected)
            self.assertEqual(vars_(message), vars_(Reply(1, result)))

    def test_errors(self) -> None:
        """So is an error."""
        for wire, text, expected in (
            (self.json, "this is a error test", ERROR_JSON),
            (self.protobuf, "no", hexed(ERROR_PROTOBUF)),
        ):
            self.assertEqual(wire.codec().write(end("TCP_SERVER"), ErrorReply(1, "outOfStock", text)), expected)
            message = self.read(asked(wire.codec(), end()), expected)
            self.assertEqual(vars_(message), vars_(ErrorReply(1, "internal", text)))

    def test_heartbeats(self) -> None:
        """The answer to a heartbeat has its sequence and log id."""
        codec = self.json.codec()
        self.assertIs(type(self.read(codec, hexed(PING))), Ping)
        self.assertEqual(codec.write(end("TCP_SERVER"), Pong()), hexed(PONG))
        logged = hexed(PING.replace(ZEROS, "ffeeddccbbaa9988"))
        self.assertIs(type(self.read(codec, logged)), Ping)
        self.assertEqual(codec.write(end("TCP_SERVER"), Pong()), hexed(PONG.replace(ZEROS, "ffeeddccbbaa9988")))
        self.assertIs(type(self.read(codec, hexed(PONG))), Pong)
        ping = codec.write(end(), Ping())
        self.assertEqual(ping[:8], hexed("05091620 0100 0000"))
        self.assertEqual(ping[16:], hexed(PING)[16:])

    def test_signOfLife(self) -> None:
        """An answer that nobody has asked for would end Getty's servers: it is a heartbeat."""
        codec = self.json.codec()
        self.assertEqual(codec.write(end(), Pong()), codec.write(end(), Ping()))

    def test_oneWay(self) -> None:
        """A call without a reply says so."""
        data = self.json.codec().write(end(), Request(1, "A/b", b"1", isOneWay=True))
        self.assertEqual(data[HEAD:], counted('{"Service":"A","Method":"b","CallType":"CT_OneWay"}') + counted("1"))
        self.assertTrue(self.read(asked(self.json.codec(), end()), data).isOneWay)
        data = self.protobuf.codec().write(end(), Request(1, "A/b", b"", isOneWay=True))
        self.assertEqual(data[HEAD:], hexed("0800 0a0141 120162 1801 0000"))
        self.assertTrue(self.read(self.protobuf.codec(), data).isOneWay)

    def test_sequences(self) -> None:
        """They are odd at the end that has dialled and even at the other one, and the replies' are looked for there."""
        for kind, number, sequence in (("TCP_CLIENT", 5, 9), ("TLS_CLIENT", 5, 9), ("TCP_SERVER", 5, 10)):
            codec = self.json.codec()
            data = codec.write(end(kind), Request(number, "A/b", b"1"))
            self.assertEqual(int.from_bytes(data[8:16], "little"), sequence)
            for given_, expected in ((sequence, number), (sequence ^ 1, 0), (2**64 - 1, 2**63), (2**64 - 2, 2**63 - 1)):
                reply = SUM_JSON[:8] + given_.to_bytes(8, "little") + SUM_JSON[16:]
                if given_ % 2 != sequence % 2:
                    expected = 0
                self.assertEqual(self.read(codec, reply).id, expected)
        # Before any call there is none to be answered.
        self.assertEqual(self.read(self.json.codec(), SUM_JSON).id, 0)

    def test_echo(self) -> None:
        """A response repeats sequence and log id, whatever they are."""
        data = ADD_JSON[:8] + bytes(range(0x80, 0x90)) + ADD_JSON[24:]
        codec = self.json.codec()
        request = self.read(codec, data)
        for answer in (Reply(request.id, b"1"), ErrorReply(request.id, "internal", "no")):
            self.assertEqual(codec.write(end("TCP_SERVER"), answer)[8:24], bytes(range(0x80, 0x90)))

    def test_logID(self) -> None:
        """A request has a random log id of 63 bits."""
        with patch("getty_tx.rpc.wires.getty.getrandbits", lambda bits: (1 << bits) - 1):
            data = self.json.codec().write(end(), Request(1, "A/b", b""))
        self.assertEqual(data[16:24], b"\xff" * 7 + b"\x7f")

    def test_forms(self) -> None:
        """Keys in any case, kinds as texts and numbers, fields that are missing, null, unknown or there twice."""
        for header, name, isOneWay in (
            ('{"service":"A","METHOD":"b","callType":1}', "A/b", True),
            ('{"Service":"A","Method":"b","CallType":2}', "A/b", False),
            ('{"Service":"A","Method":"b","CallType":"CT_UNKNOWN"}', "A/b", False),
            ('{"Service":"A","Method":"b","CallType":99}', "A/b", False),
            ('{"Service":"A"}', "A/", False),
            (' {"Service":null,"Method":"\\u003c","More":[1]} ', "/<", False),
            ('{"Service":"x","Service":"A","Method":"b"}', "A/b", False),
        ):
            size = (4 + len(header)).to_bytes(4, "little")
            request = self.read(self.json.codec(), ADD_JSON[:28] + size + counted(header) + counted(""))
            self.assertEqual((request.name, request.isOneWay), (name, isOneWay), header)
        for field, name, isOneWay in (
            ("", "/", False),
            ("120162 0a0141 1801", "A/b", True),
            ("0a0178 0a0141 18ffffffffffffffffff01", "A/", False),
            ("2005 2a0101 31 0102030405060708 3d 01020304 0a0141", "A/", False),
        ):
            header = hexed(field)
            size = (4 + len(header)).to_bytes(4, "little")
            body = len(header).to_bytes(2, "little") + header + b"\0\0"
            request = self.read(self.protobuf.codec(), hexed(ADD_PROTOBUF)[:28] + size + body)
            self.assertEqual((request.name, request.isOneWay), (name, isOneWay), field)

    def test_surplus(self) -> None:
        """Bytes behind the argument are skipped, as in Go; so is the body of a heartbeat."""
        longer = ADD_JSON[:28] + (0x51 + 3).to_bytes(4, "little") + ADD_JSON[32:] + b"abc"
        self.assertEqual(self.read(self.json.codec(), longer).payload, b'{"A":1,"B":10}')
        self.assertIs(type(self.read(self.json.codec(), hexed(PING)[:28] + b"\3\0\0\0abc")), Ping)

    def test_errorsWithoutText(self) -> None:
        """An error always has a text, as it would be a success to Go without one."""
        for message, text in (
            (ErrorReply(1, "refused", ""), "refused"),
            (ErrorReply(1, "", ""), "failed"),
            (ErrorReply(1, "internal", "half \ud800"), "half ?"),
        ):
            for wire in (self.json, self.protobuf):
                data = wire.codec().write(end("TCP_SERVER"), message)
                self.assertEqual(self.read(asked(wire.codec(), end()), data).text, text)
        nothing = ERROR_JSON[:28] + b"\x10\0\0\0" + counted('{"Error":""}') + counted("")
        self.assertEqual(self.read(asked(self.json.codec(), end()), nothing).text, "the peer has given no reason")
        broken = ERROR_JSON[:28] + b"\x05\0\0\0" + counted("[") + counted("")
        text = self.read(asked(self.json.codec(), end()), broken).text
        self.assertRegex(text, "the peer's error cannot be read: no JSON: ")


class StrangerTests(WireCase):
    """Bytes that are no packages."""

    def refused(self, data: bytes, why: str, wire: Any = None) -> None:
        codec = (wire or self.json).codec()
        self.assertEqual(codec.readMany(None, data, 0, 1 << 22), [])
        with self.assertRaisesRegex(CodecError, why):
            codec.read(None, memoryview(data))

    def test_heads(self) -> None:
        """Another magic number, command, codec or length."""
        self.refused(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", "no package of Getty's: it begins with 0x20544547")
        # A result is read without a look at its RPC header.
        for good in (ADD_JSON, SUM_JSON):
            self.refused(b"\xff" + good[1:], "begins with 0x201609ff")
            for codec in (0, 2, 3, -1):
                data = good[:26] + codec.to_bytes(2, "little", signed=True) + good[28:]
                self.refused(data, rf"a package with the codec {codec}, where Getty\('json'\) is 1")
            for command in (0, 5, -1):
                data = good[:4] + command.to_bytes(2, "little", signed=True) + good[6:]
                self.refused(data, f"unknown command {command}$")
            for length in (-1, -(2**31), LARGEST + 1, 2**31 - 1):
                data = good[:28] + length.to_bytes(4, "little", signed=True) + good[32:]
                self.refused(data, f"a body of {length} bytes; 131074 can be")
            # All of it is there.
            data = good[:28] + (LARGEST + 1).to_bytes(4, "little") + good[32:] + bytes(LARGEST)
            self.refused(data, "a body of 131075 bytes; 131074 can be")

    def test_bodies(self) -> None:
        """Bodies that end within a part."""
        for body in (b"", b"\0", b"\1\0a", b"\1\0a\0", b"\0\0\1\0", b"\xff\xff\0\0", b"\0\0\xff\xff"):
            data = ADD_JSON[:28] + len(body).to_bytes(4, "little") + body
            for start in (data, data[:4] + b"\4" + data[5:]):
                self.refused(start, f"a body of {len(body)} bytes ends within")

    def test_headers(self) -> None:
        """RPC headers that cannot be read."""
        for header in (
            "",
            "1",
            "[]",
            '{"Service":1}',
            '{"CallType":"CT_Other"}',
            '{"CallType":2.0}',
            "{" * 9,
            "[" * 9999,
        ):
            data = ADD_JSON[:28] + (4 + len(header)).to_bytes(4, "little") + counted(header) + counted("")
            self.refused(data, "the RPC header of a request: .")
        for text in ("0a", "0a02 41", "0a01ff", "0801", "1a0101", "0b", "0f", "80" * 12, "0a" + "ff" * 10):
            header = hexed(text)
            body = len(header).to_bytes(2, "little") + header + b"\0\0"
            data = hexed(ADD_PROTOBUF)[:28] + len(body).to_bytes(4, "little") + body
            self.refused(data, "the RPC header of a request: .", self.protobuf)

    def test_splits(self) -> None:
        """The same messages come however the bytes are cut."""
        for wire, data in (
            (self.json, ADD_JSON + hexed(PING) + SUM_JSON + ERROR_JSON + hexed(PONG) + ADD_JSON),
            (self.protobuf, hexed(ADD_PROTOBUF + SUM_PROTOBUF + ERROR_PROTOBUF + ADD_PROTOBUF)),
        ):
            whole = [vars_(each) for each in readAll(asked(wire.codec(), end()), data)[0]]
            self.assertIn(len(whole), (4, 6))
            for size in range(1, len(data)):
                found, rest = feedSplit(asked(wire.codec(), end()), data, [size])
                self.assertEqual(([vars_(each) for each in found], rest), (whole, b""))
            random = Random(7)
            sizes = [random.randrange(1, 9) for _ in range(len(data))]
            self.assertEqual([vars_(each) for each in feedSplit(asked(wire.codec(), end()), data, sizes)[0]], whole)

    @given(st.binary(max_size=90), st.integers(0, 5), st.booleans())
    def test_random(self, body: bytes, command: int, isJSON: bool) -> None:
        """Any bytes behind a good head are messages, or a CodecError; ``readMany`` finds what ``read`` does."""
        wire = self.json if isJSON else self.protobuf
        kind = bytes([command, 0, 0, 0]) + bytes(16) + b"\0\0" + bytes([wire.codecType, 0])
        data = hexed("05091620") + kind + len(body).to_bytes(4, "little") + body
        codec = asked(wire.codec(), end())
        try:
            expected = codec.read(None, memoryview(data))
        except CodecError:
            self.assertEqual(codec.readMany(None, data, 0, 1 << 22), [])
            return
        for message, stop in codec.readMany(None, data, 0, 1 << 22):
            self.assertEqual((vars_(message), stop), (vars_(expected[0]), expected[1]))

    @given(st.data())
    def test_damaged(self, data: Any) -> None:
        """So are packages with other bytes in them."""
        golden = data.draw(st.sampled_from([(self.json, ADD_JSON), (self.protobuf, hexed(ADD_PROTOBUF))]))
        damaged = bytearray(golden[1] * 2)
        for at in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=4)):
            damaged[at] = data.draw(st.integers(0, 255))
        with contextlib.suppress(CodecError):
            readAll(asked(golden[0].codec(), end()), bytes(damaged))

    def test_known(self) -> None:
        """Headers of strangers are kept up to a number, and up to a length."""
        codec = self.json.codec()
        for number in range(1500):
            header = f'{{"Service":"A{number}"}}'
            size = (4 + len(header)).to_bytes(4, "little")
            self.read(codec, ADD_JSON[:28] + size + counted(header) + counted(""))
            self.json.codec().write(end(), Request(1, f"A{number}/b", b""))
        long = f'{{"Service":"{"A" * 300}"}}'
        self.read(codec, ADD_JSON[:28] + (4 + len(long)).to_bytes(4, "little") + counted(long) + counted(""))
        self.assertLessEqual(len(self.json.routes), 1024)
        self.assertLessEqual(len(self.json.blocks), 1024)
        self.assertNotIn(long.encode(), self.json.routes)


class LimitTests(WireCase):
    """What the wire cannot carry, or cannot say."""

    def test_lengths(self) -> None:
        """65,535 bytes of an argument or result pass, one more is an error before anything is sent."""
        for wire in (self.json, self.protobuf):
            for message in (Request(1, "A/b", b"x" * LONGEST), Reply(1, b"x" * LONGEST)):
                data = wire.codec().write(end(), message)
                self.assertEqual(self.read(asked(wire.codec(), end()), data).payload, b"x" * LONGEST)
                message.payload += b"x"
                with self.assertRaisesRegex(rpc.PayloadError, "of 65536 bytes is above the 65535 of Getty") as caught:
                    wire.codec().write(end(), message)
                self.assertFalse(caught.exception.sent)

    def test_names(self) -> None:
        """So it is with names; and half of a surrogate pair is none."""
        for wire in (self.json, self.protobuf):
            wire.codec().write(end(), Request(1, f"A/{'b' * 65000}", b""))
            for name, why in ((f"A/{'b' * 65600}", "have 65[0-9]+ bytes, above the 65535"), ("A/\ud800", "is no name")):
                with self.assertRaisesRegex(rpc.PayloadError, why) as caught:
                    wire.codec().write(end(), Request(1, name, b""))
                self.assertFalse(caught.exception.sent)

    def test_texts(self) -> None:
        """A long error is cut, so that it fits, also below the session's maxMsgLen."""
        for wire in (self.json, self.protobuf):
            for text in ("<" * 70000, "\x01" * 70000, "\U0001f600" * 70000):
                data = wire.codec().write(end("TCP_SERVER"), ErrorReply(1, "internal", text))
                self.assertEqual(self.read(asked(wire.codec(), end()), data).text, text[:10000])
                short = wire.codec().write(end("TCP_SERVER", 1024), ErrorReply(1, "internal", text))
                self.assertLessEqual(len(short), 1024)
                self.assertEqual(self.read(asked(wire.codec(), end()), short).text, text[:160])

    def test_maxMsgLen(self) -> None:
        """A request with its names is not above maxMsgLen."""
        self.json.codec().write(end(maxMsgLen=len(ADD_JSON)), Request(1, "TestService/Add", b'{"A":1,"B":10}'))
        with self.assertRaisesRegex(rpc.PayloadError, "a package of 113 bytes is above maxMsgLen=112"):
            self.json.codec().write(end(maxMsgLen=112), Request(1, "TestService/Add", b'{"A":1,"B":10}'))
        # The batch stops before one, so that the session says why.
        self.assertEqual(asked(self.json.codec(), end()).readMany(None, SUM_JSON, 0, len(SUM_JSON) - 1), [])

    def test_features(self) -> None:
        """It has heartbeats, from the end that has dialled, and nothing else."""
        self.assertEqual(self.json.features, {Feature.PING})
        codec = self.json.codec()
        self.assertEqual(codec.understood, set())
        self.assertEqual(asked(codec, end()).understood, {Feature.PING})
        self.assertEqual(asked(self.json.codec(), end("WS_SERVER")).understood, set())
        for message in (Cancel(1), GoingAway()):
            with self.assertRaisesRegex(SettingError, rf"Getty\('json'\) cannot say {type(message).__name__}"):
                codec.write(end(), message)

    def test_metadata(self) -> None:
        """Metadata is an error that names the wire, and another one."""
        for message in (
            Request(1, "A/b", b"", metadata={"a": "b"}),
            Reply(1, b"", {}),
            ErrorReply(1, "", "", None, {}),
        ):
            with self.assertRaisesRegex(SettingError, r"metadata=.*: Getty\('protobuf'\) has none; use rpc.TTHeader"):
                self.protobuf.codec().write(end(), message)

    def test_settings(self) -> None:
        """Other payloads, and classes where they mean nothing."""
        with self.assertRaisesRegex(SettingError, r"Getty\(payload='xml'\) is none of json, protobuf"):
            rpc.Getty("xml")
        with self.assertRaisesRegex(SettingError, "for 'protobuf', not for 'json'"):
            rpc.Getty("json", types={})
        self.assertEqual(repr(rpc.Getty()), "Getty('json')")
        self.assertEqual(repr(rpc.Getty("protobuf").codec()), "Getty('protobuf')")
