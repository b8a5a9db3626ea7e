"""The codecs with random packages, splits and bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import (
    EchoPackage,
    GettyCodec,
    JsonLinesCodec,
    LengthCodec,
    LineCodec,
    NetstringCodec,
    RawCodec,
    VarintCodec,
)
from getty_tx.errors import CodecError
from tests.support.long import examples

SESSION: Any = object()

modest = settings(max_examples=examples(100), deadline=None, database=None)

lengthCodecs = st.builds(
    LengthCodec,
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["big", "little"]),
    st.sampled_from(["payload", "frame"]),
)
lineCodecs = st.sampled_from([b"\n", b"\r\n", b"\0", b"|", b"\n\n", b"aba", b"aab"]).map(LineCodec)
# Few different bytes, so that delimiters, digits and separators occur.
payloads = st.one_of(
    st.binary(max_size=40),
    st.text("ab\r\n:,01|\0", max_size=12).map(str.encode),
    st.integers(100, 3000).map(lambda count: b"x" * count),
    st.just(b"y" * 17_000),
)
documents = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20)),
    lambda inner: st.lists(inner | st.none(), max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
echoPackages = st.builds(
    EchoPackage,
    command=st.integers(0, 2**32 - 1),
    body=st.binary(max_size=255),
    sequence=st.integers(0, 2**32 - 1),
    logId=st.integers(0, 2**32 - 1),
    serviceId=st.integers(0, 2**32 - 1),
    code=st.integers(-(2**31), 2**31 - 1),
)
codecsAndPackages = st.one_of(
    st.tuples(lengthCodecs, st.lists(payloads, max_size=6)),
    st.tuples(lineCodecs, st.lists(payloads, max_size=6)),
    st.tuples(st.just(NetstringCodec()), st.lists(payloads, max_size=6)),
    st.tuples(st.just(VarintCodec()), st.lists(payloads, max_size=6)),
    st.tuples(st.just(JsonLinesCodec()), st.lists(documents, max_size=6)),
    st.tuples(st.just(GettyCodec()), st.lists(echoPackages, max_size=6)),
)
anyCodec = st.one_of(
    lengthCodecs,
    lineCodecs,
    st.sampled_from([NetstringCodec(), VarintCodec(), RawCodec(), JsonLinesCodec(), GettyCodec()]),
)
someBytes = st.one_of(
    st.binary(max_size=60),
    st.text('0123456789:,\n\r "[]{}aNI.eE-', max_size=30).map(str.encode),
    st.lists(st.sampled_from([0x80, 0xFF, 0, 1, 0x7F]), max_size=14).map(bytes),
    st.tuples(st.just(b"\x05\x09\x16\x20"), st.binary(max_size=60)).map(b"".join),
    st.tuples(st.binary(min_size=22, max_size=22), st.integers(0, 300), st.binary(max_size=300)).map(
        lambda parts: b"\x05\x09\x16\x20" + parts[0][:20] + parts[1].to_bytes(2, "little") + parts[0][:6] + parts[2]
    ),
)


class Gatherer:
    """
    The contract of a reader in its simplest form.

    ``read`` gets all unread bytes, is called on the rest after each package, and is called again only when the bytes
    that it asked for have arrived.
    """

    def __init__(self, codec: Any) -> None:
        self.codec = codec
        self.unread = b""
        self.needed = 1
        self.packages: list[Any] = []

    def feed(self, data: bytes) -> None:
        # At an offset of one object, as in a session after its first package.
        whole = memoryview(self.unread + data)
        at = 0
        while len(whole) - at >= self.needed:
            rest = whole[at:]
            pkg, count = self.codec.read(SESSION, rest)
            if pkg is None:
                if count == 0:
                    self.needed = len(rest) + 1
                    break
                assert count > len(rest), f"{count} bytes needed, and {len(rest)} there"
                self.needed = count
            else:
                assert 0 < count <= len(rest), f"a package of {count} bytes out of {len(rest)}"
                assert not isinstance(pkg, memoryview)
                self.packages.append(pkg)
                at += count
                self.needed = 1
        self.unread = bytes(whole[at:])


def encode(codec: Any, packages: list[Any]) -> tuple[bytes, list[Any]]:
    """Encoded packages and their bytes, without packages that the codec refuses."""
    wire = b""
    taken = []
    for pkg in packages:
        try:
            written = codec.write(SESSION, pkg)
        except CodecError:
            continue
        wire += b"".join(written) if isinstance(written, list) else written
        taken.append(pkg)
    return wire, taken


class PropertyTests(SynchronousTestCase):
    """Properties of all codecs."""

    @modest
    @given(codecsAndPackages, st.data())
    def test_packagesSurviveAnyCut(self, both: tuple[Any, list[Any]], data: st.DataObject) -> None:
        codec, packages = both
        wire, taken = encode(codec, packages)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
        gatherer = Gatherer(codec)
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            gatherer.feed(wire[start:end])
        self.assertEqual(gatherer.packages, taken)
        self.assertEqual(gatherer.unread, b"")

    @modest
    @given(codecsAndPackages)
    def test_packagesSurviveByteByByte(self, both: tuple[Any, list[Any]]) -> None:
        codec, packages = both
        wire, taken = encode(codec, [pkg for pkg in packages if not isinstance(pkg, bytes) or len(pkg) < 100])
        gatherer = Gatherer(codec)
        for at in range(len(wire)):
            gatherer.feed(wire[at : at + 1])
        self.assertEqual(gatherer.packages, taken)
        self.assertEqual(gatherer.unread, b"")

    @modest
    @given(st.lists(st.binary(min_size=1, max_size=6000), max_size=5))
    def test_rawKeepsTheChunks(self, chunks: list[bytes]) -> None:
        gatherer = Gatherer(RawCodec())
        for chunk in chunks:
            gatherer.feed(chunk)
        self.assertEqual(gatherer.packages, chunks)

    @settings(modest, max_examples=examples(150))
    @given(anyCodec, someBytes, st.integers(0, 3), st.integers(0, 3))
    def test_anyBytes(self, codec: Any, data: bytes, before: int, behind: int) -> None:
        """read() gives a package, a wait or a CodecError, and the same for every view of the same bytes."""
        answers = []
        for view in (
            memoryview(data),
            memoryview(b"\n1:,"[:before] + data + b"\n1:,"[:behind])[before : before + len(data)],
            memoryview(bytearray(data)),
            memoryview(data[::-1])[::-1],
        ):
            try:
                pkg, count = codec.read(SESSION, view)
            except CodecError as error:
                self.assertIs(error.session, SESSION)
                answers.append(str(error))
            else:
                if pkg is None:
                    self.assertTrue(count == 0 or count > len(data), count)
                else:
                    self.assertTrue(0 < count <= len(data), count)
                answers.append(repr((pkg, count)))
        self.assertEqual(len(set(answers)), 1, answers)

    @modest
    @given(codecsAndPackages, st.data())
    def test_nearlyGoodBytes(self, both: tuple[Any, list[Any]], data: st.DataObject) -> None:
        """After a change of one byte, read() keeps its contract, which Gatherer asserts."""
        codec, packages = both
        wire = bytearray(encode(codec, packages)[0])
        if wire:
            at = data.draw(st.integers(0, min(len(wire) - 1, 300)))
            wire[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b"019:,\n ")))
        try:
            Gatherer(codec).feed(bytes(wire))
        except CodecError as error:
            self.assertIs(error.session, SESSION)

    @modest
    @given(anyCodec, someBytes)
    def test_moreBytesChangeNothing(self, codec: Any, data: bytes) -> None:
        """A complete package stays the same when more data arrives (except for raw, which has no framing)."""
        if isinstance(codec, RawCodec):
            return
        try:
            answer = codec.read(SESSION, memoryview(data))
        except CodecError:
            self.assertRaises(CodecError, codec.read, SESSION, memoryview(data + b"\n1:,\0"))
            return
        if answer[0] is not None:
            self.assertEqual(codec.read(SESSION, memoryview(data + b"\n1:,\0")), answer)

    @modest
    @given(
        anyCodec,
        st.one_of(documents, payloads, echoPackages, st.none(), st.sampled_from([b"", (), object(), 1j, {1: b""}])),
    )
    def test_anyPackage(self, codec: Any, pkg: Any) -> None:
        """write() returns bytes or raises a CodecError."""
        try:
            written = codec.write(SESSION, pkg)
        except CodecError as error:
            self.assertIs(error.session, SESSION)
        else:
            if isinstance(codec, RawCodec) and isinstance(pkg, str):
                self.assertIs(written, pkg)
            else:
                for one in written if isinstance(written, list) else [written]:
                    self.assertIs(type(one), bytes)
