"""The compression formats: streams of other implementations, splits, limits, and invalid data."""

from __future__ import annotations

import sys
import zlib
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.compression import findFormat, formats
from getty_tx.compression.base import PIECE
from getty_tx.compression.formats import checkCompression
from getty_tx.compression.snappy import IDENTIFIER, MAX_CHUNK, MAX_CHUNKS_PER_READ, MAX_COMPRESSED_CHUNK
from getty_tx.compression.zstd import MAX_WINDOW_LOG, findLibrary
from getty_tx.errors import CodecError, SettingError
from tests.support.compressed import (
    DEFLATE,
    DEFLATE_END,
    FORMATS,
    MESSAGES,
    SNAPPY,
    ZSTD,
    chunk,
    decompress,
    plainChunk,
    split,
)
from tests.support.long import examples

if TYPE_CHECKING:
    from getty_tx.compression.base import Decompressor

#: Messages: short, long, uniform, random.
messages = st.one_of(
    st.binary(min_size=1, max_size=300), st.integers(1, 40_000).map(lambda n: b"getty" * n), st.just(bytes(PIECE))
)


class Case(SynchronousTestCase):
    """Helpers."""

    def refuse(self, description: str, data: bytes) -> str:
        """The text of the error for a stream."""
        return str(self.assertRaises(CodecError, decompress, description, [data]))

    def stream(self, description: str, data: bytes) -> Decompressor:
        """A decompressor that was fed ``data``."""
        stream = findFormat(description).decompressor()
        stream.feed(data)
        return stream


class GoTests(Case):
    """Streams made with Go."""

    def test_deflate(self) -> None:
        """Every level of compress/flate, with and without an end, whole, byte by byte and in random pieces."""
        random = Random(5)
        for name, (written, stream) in DEFLATE.items():
            data, end = bytes.fromhex(stream), bytes.fromhex(DEFLATE_END)
            for whole in (data, data + end):
                for sizes in ([], [1] * len(whole), [random.randint(1, 60) for _ in range(60)]):
                    self.assertEqual(decompress("deflate", split(whole, sizes)), b"".join(written), name)

    def test_snappy(self) -> None:
        """golang/snappy."""
        data = bytes.fromhex(SNAPPY)
        for sizes in ([], [1] * len(data), [7] * 100):
            self.assertEqual(decompress("snappy", split(data, sizes)), b"".join(MESSAGES))

    def test_zstd(self) -> None:
        """klauspost/compress, whose window is the largest allowed one."""
        data = bytes.fromhex(ZSTD)
        self.assertEqual(data[5] >> 3, MAX_WINDOW_LOG - 10)
        for sizes in ([], [1] * len(data), [7] * 100):
            self.assertEqual(decompress("zstd", split(data, sizes)), b"".join(MESSAGES))

    def test_snappyIsWrittenTheSame(self) -> None:
        """Our snappy streams equal Go's in chunk types and checksums."""
        compressor = findFormat("snappy").compressor()
        ours = b"".join(map(compressor.compress, MESSAGES)) + compressor.end()
        self.assertEqual(self.checksums(ours), self.checksums(bytes.fromhex(SNAPPY)))

    def checksums(self, data: bytes) -> list[bytes]:
        """The type and the checksum of each chunk."""
        found = []
        while data:
            length = 4 + int.from_bytes(data[1:4], "little")
            found.append(data[:1] + data[4:8])
            data = data[length:]
        return found

    def test_deflateIsRaw(self) -> None:
        """Our deflate streams have no header, a sync flush after each write, and a final block at the end."""
        compressor = findFormat("deflate").compressor()
        inflate = zlib.decompressobj(-15)
        for message in MESSAGES:
            data = compressor.compress(message)
            self.assertTrue(data.endswith(b"\0\0\xff\xff"))
            self.assertEqual(inflate.decompress(data), message)
        self.assertFalse(inflate.eof)
        self.assertEqual(inflate.decompress(compressor.end()), b"")
        self.assertTrue(inflate.eof)


class StreamTests(Case):
    """All formats."""

    @settings(max_examples=examples(60), deadline=None)
    @given(st.sampled_from(FORMATS), st.lists(messages, max_size=8), st.lists(st.integers(1, 5000), max_size=40))
    def test_anySplit(self, description: str, written: list[bytes], sizes: list[int]) -> None:
        """A stream gives the same data in any pieces."""
        compressor = findFormat(description).compressor()
        data = b"".join([*map(compressor.compress, written), compressor.end()])
        self.assertEqual(decompress(description, split(data, sizes)), b"".join(written))

    @settings(max_examples=examples(30), deadline=None)
    @given(st.sampled_from(FORMATS), st.lists(messages, max_size=8))
    def test_flushed(self, description: str, written: list[bytes]) -> None:
        """The data of one write can be read at once."""
        form = findFormat(description)
        compressor, stream = form.compressor(), form.decompressor()
        for message in written:
            stream.feed(compressor.compress(message))
            said = b""
            while stream.more:
                said += stream.read()
            self.assertEqual(said, message)

    @settings(max_examples=examples(60), deadline=None)
    @given(st.sampled_from(("deflate", "snappy", "zstd")), st.binary(min_size=1, max_size=500))
    def test_noise(self, description: str, data: bytes) -> None:
        """Any bytes give data, wait for more, or are a CodecError."""
        try:
            decompress(description, [data])
        except CodecError as error:
            self.assertIn(f"no {description} stream", str(error))

    def test_pieces(self) -> None:
        """No piece is longer than PIECE, and data fed meanwhile comes after it."""
        for description in FORMATS:
            compressor = findFormat(description).compressor()
            long, after = compressor.compress(bytes(3 * PIECE + 5)), compressor.compress(b"after")
            stream = self.stream(description, long)
            sizes = [len(stream.read())]
            for byte in after:
                stream.feed(bytes([byte]))
            self.assertGreaterEqual(stream.held, len(after))
            said = b""
            while stream.more:
                said += (piece := stream.read())
                sizes.append(len(piece))
            self.assertEqual(max(sizes), PIECE, description)
            self.assertEqual(said[-6:], b"\0after")
            self.assertEqual((sum(sizes), stream.held), (3 * PIECE + 10, 0))

    def test_clear(self) -> None:
        """clear() drops all unread bytes."""
        for description in FORMATS:
            stream = self.stream(description, b"anything")
            stream.feed(b"and more")
            stream.clear()
            self.assertEqual((stream.more, stream.held), (False, 0))

    def test_plain(self) -> None:
        """Data of a peer without compression, or with another format, is an error whose text names the setting."""
        for description in ("deflate", "snappy", "zstd"):
            text = self.refuse(description, b"\xff\xffHello, getty!\n" * 3)
            self.assertIn("the same session.compression", text)


class DeflateTests(Case):
    """Deflate."""

    def test_end(self) -> None:
        """Data after a final block is an error, in the same piece or later."""
        end = bytes.fromhex(DEFLATE_END)
        self.assertIn("1 bytes came after its end", self.refuse("deflate", end + b"x"))
        stream = self.stream("deflate", end)
        self.assertEqual((stream.read(), stream.more), (b"", False))
        stream.feed(b"xy")
        self.assertIn("2 bytes came after", str(self.assertRaises(CodecError, stream.read)))

    def test_withinZlib(self) -> None:
        """Output that zlib holds back is read without more input."""
        for size in range(PIECE + 1, PIECE + 2000, 40):
            data = zlib.compress(bytes(size), 9, wbits=-15)
            self.assertEqual(decompress("deflate", [data]), bytes(size))

    def test_beforeTheEnd(self) -> None:
        """Data before an error is delivered."""
        stream = self.stream("deflate", zlib.compress(HELLO_LONG, wbits=-15) + b"x")
        said = stream.read()
        while said != HELLO_LONG:
            said += stream.read()
        self.assertRaises(CodecError, stream.read)


HELLO_LONG = b"hello" * 40_000


class SnappyTests(Case):
    """The rules of the framing format."""

    def test_plainChunks(self) -> None:
        """Uncompressed data, and a repeated identifier."""
        data = IDENTIFIER + plainChunk(b"one") + IDENTIFIER + plainChunk(b"") + plainChunk(b"two")
        self.assertEqual(decompress("snappy", [data]), b"onetwo")

    def test_skipped(self) -> None:
        """Padding and reserved chunks of any length are skipped without being buffered."""
        for kind in (0x80, 0xFD, 0xFE):
            data = IDENTIFIER + chunk(kind, b"") + plainChunk(b"a") + chunk(kind, bytes(100_000)) + plainChunk(b"b")
            self.assertEqual(decompress("snappy", split(data, [5000] * 30)), b"ab")
        stream = self.stream("snappy", IDENTIFIER + b"\xfe\xff\xff\xff")
        for _ in range(16):
            self.assertEqual(stream.read(), b"")
            self.assertEqual(stream.held, 0)
            stream.feed(bytes(1 << 20))
        self.assertEqual(stream.read(), b"")
        self.assertEqual(stream.held, 1)

    def test_refused(self) -> None:
        """Invalid chunks are refused, most of them by their header alone."""
        good = plainChunk(b"abc")
        for data, why in (
            (good, "does not begin with the stream identifier"),
            (chunk(0xFE, b"") + IDENTIFIER, "does not begin with the stream identifier"),
            (b"\xff\x07\0\0", "cannot have 7 bytes"),
            (chunk(0xFF, b"sNaPpy"), "identifier is wrong"),
            (IDENTIFIER + b"\x02\0\0\0", "cannot be skipped"),
            (IDENTIFIER + b"\x7f\0\0\0", "cannot be skipped"),
            (IDENTIFIER + b"\x00\x03\0\0", "cannot have 3 bytes"),
            (IDENTIFIER + b"\x01\x03\0\0", "cannot have 3 bytes"),
            (IDENTIFIER + b"\x01" + (MAX_CHUNK + 5).to_bytes(3, "little"), "cannot have 65541 bytes"),
            (IDENTIFIER + b"\x00" + (MAX_COMPRESSED_CHUNK + 5).to_bytes(3, "little"), "cannot have 76495 bytes"),
            (IDENTIFIER + good[:-1] + b"d", "checksum"),
            (IDENTIFIER + good[:4] + b"\0" + good[5:], "checksum"),
            (IDENTIFIER + chunk(0x00, b"\0\0\0\0" + b"\xff\xff"), "snappy"),
        ):
            self.assertIn(why, self.refuse("snappy", data), data[:20])

    def test_longest(self) -> None:
        """64 KiB of incompressible data are one chunk, and a byte more are two."""
        noise = Random(1).randbytes(MAX_CHUNK + 1)
        for size, chunks in ((MAX_CHUNK, 1), (MAX_CHUNK + 1, 2)):
            data = findFormat("snappy").compressor().compress(noise[:size])
            self.assertEqual(len(data), len(IDENTIFIER) + size + 8 * chunks)
            self.assertEqual(decompress("snappy", [data]), noise[:size])

    def test_liar(self) -> None:
        """A chunk that announces more than 64 KiB of data is refused."""
        for length in (b"\x81\x80\x04", b"\xff\xff\xff\xff\x0f"):
            body = b"\0\0\0\0" + length + b"\x00a" + b"\xfe\x01\x00" * 1100
            self.assertIn("chunk length", self.refuse("snappy", IDENTIFIER + chunk(0x00, body)))

    def test_flood(self) -> None:
        """A read handles a limited number of empty chunks."""
        stream = self.stream("snappy", IDENTIFIER + chunk(0xFE, b"") * 3 * MAX_CHUNKS_PER_READ + plainChunk(b"end"))
        said = []
        while stream.more:
            said.append(stream.read())
        self.assertEqual(said, [b"", b"", b"", b"end", b""])


class ZstdTests(Case):
    """Frames and windows."""

    def test_frames(self) -> None:
        """A frame for each message works like one frame for all; empty frames are read one by one."""
        library = findLibrary()
        data = b"".join(map(library.compress, MESSAGES))
        for sizes in ([], [1] * len(data)):
            self.assertEqual(decompress("zstd", split(data, sizes)), b"".join(MESSAGES))
        stream = self.stream("zstd", library.compress(b"") * 3)
        self.assertEqual([stream.read(), stream.more, stream.read(), stream.more], [b"", True, b"", True])

    def test_window(self) -> None:
        """A frame that needs a window of more than 8 MiB is refused by its header."""
        library = findLibrary()
        for log, fits in ((MAX_WINDOW_LOG, True), (MAX_WINDOW_LOG + 1, False)):
            compressor = library.ZstdCompressor(options={library.CompressionParameter.window_log: log})
            data = compressor.compress(b"hello", compressor.FLUSH_BLOCK)
            if fits:
                self.assertEqual(decompress("zstd", [data]), b"hello")
            else:
                self.assertIn("too much memory", self.refuse("zstd", data[:6]))

    def test_ownWindow(self) -> None:
        """Every level uses a window of 128 KiB."""
        for level in (1, 3, 19):
            data = findFormat(f"zstd:level={level}").compressor().compress(b"hello")
            self.assertEqual(data[5] >> 3, 17 - 10)


class DescriptionTests(SynchronousTestCase):
    """Values of the setting."""

    def refuse(self, value: Any, *says: str) -> None:
        text = str(self.assertRaises(SettingError, checkCompression, "compression", value))
        for word in (f"compression={value!r}", *says):
            self.assertIn(word, text)

    def test_taken(self) -> None:
        """None, and every format with each of its levels."""
        levels = {"deflate": range(10), "zstd": range(1, 20), "snappy": ()}
        for name, has in levels.items():
            for description in (name, *(f"{name}:level={level}" for level in has)):
                self.assertEqual(checkCompression("compression", description), description)
        self.assertIsNone(checkCompression("compression", None))

    def test_levels(self) -> None:
        """A higher level compresses better."""
        data = b"".join(b"%d, " % (i * i) for i in range(10_000))
        for name, low, high in (("deflate", 0, 1), ("deflate", 1, 9), ("zstd", 1, 19)):
            sizes = [len(findFormat(f"{name}:level={level}").compressor().compress(data)) for level in (low, high)]
            self.assertGreater(*sizes)

    def test_refused(self) -> None:
        """The error names the value and the valid values."""
        for value in ("gzip", "", "Deflate", "deflate ", ":level=6"):
            self.refuse(value, "known are deflate, snappy, zstd")
        for value in (6, True, b"deflate", ["deflate"]):
            self.refuse(value, "neither a text such as 'deflate' nor None")
        for option in ("level=10", "level=-1", "level=", "level", "", "window=9", "level=6:level=6", "level=\u0666"):
            self.refuse(f"deflate:{option}", "level=0 to level=9")
        for option in ("level=0", "level=20"):
            self.refuse(f"zstd:{option}", "level=1 to level=19")
        self.refuse("snappy:level=1", "has no options")

    def test_noLibrary(self) -> None:
        """A format without its library is refused when it is set; the error names the package to install."""
        self.addCleanup(formats.findFormat.cache_clear)
        for name, *modules in (("snappy", "cramjam"), ("zstd", "backports", "backports.zstd", "compression")):
            formats.findFormat.cache_clear()
            for module in modules:
                self.hide(module)
            self.refuse(name, f"pip install 'getty_tx[{name}]'")
        self.assertEqual(checkCompression("compression", "deflate"), "deflate")

    def hide(self, module: str) -> None:
        """Make imports of a module fail."""
        there = sys.modules.get(module)
        sys.modules[module] = None  # type: ignore[assignment]
        self.addCleanup(sys.modules.pop, module)
        if there is not None:
            self.addCleanup(sys.modules.__setitem__, module, there)
