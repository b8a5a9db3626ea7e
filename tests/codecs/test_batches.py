"""``readMany`` finds the same packages as ``read``, and leaves other cases to it; ``writeMany`` writes as ``write``."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from getty_tx.codecs import LengthCodec, LineCodec, VarintCodec
from getty_tx.codecs.common import BATCH
from getty_tx.errors import CodecError
from getty_tx.interfaces import IBatchReader, IBatchWriter
from tests.support.long import examples

SESSION: Any = None
CODECS = [
    LengthCodec(),
    LengthCodec(size=1, includes="frame"),
    LengthCodec(size=2, order="little", includes="frame"),
    LengthCodec(size=8),
    LineCodec(),
    LineCodec(b"\r\n"),
    LineCodec(b"aab"),
]


def oneByOne(codec: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
    """The result of ``readMany`` by calls of ``read``."""
    found = []
    while at < len(data):
        try:
            pkg, length = codec.read(SESSION, memoryview(data)[at:])
        except CodecError:
            break
        if pkg is None or length > limit:
            break
        at += length
        found.append((pkg, at))
    return found


class BatchTests(SynchronousTestCase):
    """IBatchReader."""

    def test_interface(self) -> None:
        """Codecs with ``readMany`` declare it."""
        for codec in CODECS:
            verifyObject(IBatchReader, codec)

    @settings(deadline=None, max_examples=examples(150))
    @given(
        st.sampled_from(CODECS),
        st.lists(st.binary(max_size=20), max_size=8),
        st.binary(max_size=12),
        st.integers(0, 30),
        st.integers(1, 30),
    )
    def test_asRead(self, codec: Any, packages: list[bytes], more: bytes, at: int, limit: int) -> None:
        """For any bytes, offset and limit, the packages are those of ``read``."""
        data = more
        for pkg in packages:
            try:
                written = codec.write(SESSION, pkg)
            except CodecError:
                continue
            data = written + data
        at = min(at, len(data))
        self.assertEqual(codec.readMany(SESSION, data, at, limit), oneByOne(codec, data, at, limit))

    def test_batches(self) -> None:
        """Many packages take several calls; none is missing."""
        for codec in CODECS:
            packages = [b"%d" % i for i in range(3 * len(BATCH) + 1)]
            data = b"".join(codec.write(SESSION, pkg) for pkg in packages)
            found: list[tuple[bytes, int]] = []
            calls = 0
            while more := codec.readMany(SESSION, data, found[-1][1] if found else 0, 100):
                found += more
                calls += 1
            self.assertEqual([pkg for pkg, _ in found], packages)
            self.assertEqual(found[-1][1], len(data))
            self.assertEqual(calls, 4)


class WriteTests(SynchronousTestCase):
    """IBatchWriter."""

    def test_interface(self) -> None:
        """Codecs with ``writeMany`` declare it."""
        for codec in (*CODECS, VarintCodec()):
            verifyObject(IBatchWriter, codec)

    @settings(deadline=None, max_examples=examples(200))
    @given(
        st.sampled_from([*CODECS, VarintCodec()]),
        st.lists(
            st.one_of(
                st.binary(max_size=300),
                st.binary(max_size=4).map(bytearray),
                st.binary(max_size=4).map(memoryview),
                st.sampled_from([b"\n", b"x" * 40_000, b"aa", "text", 5, b"y" * 20_000]),
            ),
            max_size=8,
        ),
    )
    def test_asWrite(self, codec: Any, packages: list[Any]) -> None:
        """For any packages: the same bytes, or the same error."""

        def joined(data: bytes | list[bytes]) -> bytes:
            return data if isinstance(data, bytes) else b"".join(data)

        try:
            expected = b"".join(joined(codec.write(SESSION, pkg)) for pkg in packages)
        except CodecError as error:
            self.assertEqual(str(self.assertRaises(CodecError, codec.writeMany, SESSION, packages)), str(error))
        else:
            before = list(packages)
            self.assertEqual(joined(codec.writeMany(SESSION, packages)), expected)
            self.assertEqual(packages, before)

    def test_large(self) -> None:
        """Large packages are not joined."""
        large = b"z" * 100_000
        for codec in (LengthCodec(), VarintCodec()):
            self.assertIs(codec.writeMany(SESSION, [b"a", large])[-1], large)
