"""
Compressed streams made with Go's libraries, and helpers for the tests of compression.

The streams contain the messages below, each flushed. They were made with ``compress/flate`` of Go 1.19.8,
``NewBufferedWriter`` of ``golang/snappy`` at 43d5d4c, and ``NewWriter`` of ``klauspost/compress/zstd`` 1.15.12, with a
``Flush`` after each message, as in Getty's deflate. ``DEFLATE_END`` is what ``Close`` adds to a deflate stream.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from getty_tx.compression import findFormat
from getty_tx.testing import DirectTransport, MemoryTransport
from tests.support.memory import SessionCase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.testing import Pair

#: Transports on which a session sends directly, and on which it writes to the transport.
BOTH: tuple[type[MemoryTransport], ...] = (DirectTransport, MemoryTransport)


def _noise() -> bytes:
    """Incompressible bytes."""
    state, noise = 1, bytearray()
    for _ in range(100):
        state = (state * 1103515245 + 12345) % 2**32
        noise.append(state >> 16 & 0xFF)
    return bytes(noise)


HELLO = b"Hello, getty!"
SHORT = [HELLO, HELLO, _noise()]
MESSAGES = [HELLO, HELLO, b"".join(b"message %d of 40; " % i for i in range(40)), _noise(), bytes(1000)]

#: Go's level, what was written, and the stream.
DEFLATE: dict[str, tuple[list[bytes], str]] = {
    "HuffmanOnly": (
        SHORT,
        (
            "000d00f2ff48656c6c6f2c20676574747921000000ffff000d00f2ff48656c6c6f2c20676574747921000000ffff0064009b"
            "ffc67e816b4bfbe2fb54f6bddf7c1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda"
            "027998cce31a768e5fd9998f1f3f36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b48"
            "99000000ffff"
        ),
    ),
    "DefaultCompression": (
        MESSAGES,
        (
            "f248cdc9c9d751484f2d29a95404000000ffff42e100000000ffff64d2bb0d02511403d1566e096b7bf9896a08162244f0fa"
            "978820f0a4131d597e1f6b3d5ec76cf379cebedde717d4c11dd261ef70ea70ee70e970ed70038c545805aca015b88257000b"
            "62812c980db3b92fcc86d9301b66c36c980db3610ecc81393c05cc81393007e6c01c98f3377f010000ffff0064009bffc67e"
            "816b4bfbe2fb54f6bddf7c1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda027998"
            "cce31a768e5fd9998f1f3f36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b48990000"
            "00ffff621805a360140c7b00000000ffff"
        ),
    ),
    "NoCompression": (
        SHORT,
        (
            "000d00f2ff48656c6c6f2c20676574747921000000ffff000d00f2ff48656c6c6f2c20676574747921000000ffff0064009b"
            "ffc67e816b4bfbe2fb54f6bddf7c1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda"
            "027998cce31a768e5fd9998f1f3f36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b48"
            "99000000ffff"
        ),
    ),
    "BestSpeed": (
        MESSAGES,
        (
            "000d00f2ff48656c6c6f2c20676574747921000000ffff000d00f2ff48656c6c6f2c20676574747921000000ffff64cead0d"
            "c3401084d156b6849b99cb8fe56a02eca0c8e0fa97824cf6a30fbddfb1d6e77bd4a8ebac39f6ba411ddc211d668747876787"
            "57877787ad8358c555c80a5ba12b7c85b03016cac2d9381b67e36c9c8db37136cec6d9381be7e01c9c8373700ecec1393807"
            "e7e09cadaeb3e6d8eb0f0000ffff0064009bffc67e816b4bfbe2fb54f6bddf7c1ce18701bf31de56720f4767668759aa883c"
            "59ea56137bd285a1d83c54552f37ae655bda027998cce31a768e5fd9998f1f3f36ee43784d0dfabea6dae4868edc296d4eff"
            "56e17020fb8fb1580590c509dc53cdaa3b4899000000ffffecc0010d000000c220fba7b6c70703f20e0000ffff"
        ),
    ),
    "BestCompression": (
        MESSAGES,
        (
            "f248cdc9c9d751484f2d29a95404000000ffff42e100000000ffff64d2bb0d02511403d1566e096b7bf9896a08162244f0fa"
            "978820f0a4131d597e1f6b3d5ec76cf379cebedde717d4c11dd261ef70ea70ee70e970ed70038c545805aca015b88257000b"
            "62812c980db3b92fcc86d9301b66c36c980db3610ecc81393c05cc81393007e6c01c98f3377f010000ffff0064009bffc67e"
            "816b4bfbe2fb54f6bddf7c1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda027998"
            "cce31a768e5fd9998f1f3f36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b48990000"
            "00ffff621805a360140c7b00000000ffff"
        ),
    ),
}
DEFLATE_END = "010000ffff"

SNAPPY = (
    "ff060000734e61507059011100002688fe9348656c6c6f2c20676574747921011100002688fe9348656c6c6f2c2067657474"
    "792100e20000d70dbe4ac605406d6573736167652030206f662034303b20111100313e110000323e110000333e110000343e"
    "110000353e110000363e110000373e110000383e110000393e1100003146ab0042ac00003142ad00003142ae00003142af00"
    "003142b000003142b100003142b200003142b300003142b400003242b400003242b4000432323eea00003242b400003242b4"
    "00003242b400003242b400003242b400003242b400003242b400003342b400003342b400003342b400003342b400003342b4"
    "00003342b400003342b400003342b400003342b400243339206f662034303b20016800007746654cc67e816b4bfbe2fb54f6"
    "bddf7c1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda027998cce31a768e5fd999"
    "8f1f3f36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b489900380000739b3257e807"
    "0000fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe0100fe01009a0100"
)

ZSTD = (
    "28b52ffd046868000048656c6c6f2c2067657474792168000048656c6c6f2c20676574747921ec020002840c13a0a1019072"
    "fb80cf44c2b4f76ed9790e6264182b3576d048dbb66dfbffff24499224c42004a373a5c60e5acd008a944c2027a831f4fd37"
    "70e3d203100e840779f67d77231bb5d29a256b2c58c4abe33246ee2005a425a5afd5200300c67e816b4bfbe2fb54f6bddf7c"
    "1ce18701bf31de56720f4767668759aa883c59ea56137bd285a1d83c54552f37ae655bda027998cce31a768e5fd9998f1f3f"
    "36ee43784d0dfabea6dae4868edc296d4eff56e17020fb8fb1580590c509dc53cdaa3b48994c00000800015401022de40901"
    "0000cc83e45e"
)

FORMATS = ("deflate", "deflate:level=0", "deflate:level=9", "snappy", "zstd", "zstd:level=19")


def decompress(description: str, pieces: Iterable[bytes]) -> bytes:
    """Decompress a stream."""
    stream = findFormat(description).decompressor()
    said = bytearray()
    for piece in pieces:
        stream.feed(piece)
        while stream.more:
            said += stream.read()
    return bytes(said)


def split(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in (*pieces, data) if piece]


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def chunk(kind: int, body: bytes) -> bytes:
    """A chunk of snappy's framing format."""
    return bytes([kind]) + struct.pack("<I", len(body))[:3] + body


def plainChunk(data: bytes) -> bytes:
    """A chunk of uncompressed data, with its checksum as the format masks it."""
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
    return chunk(0x01, struct.pack("<I", masked) + data)


def stream(*said: bytes, description: str = "deflate", end: bool = False) -> bytes:
    """A compressed stream of these messages, each flushed."""
    compressor = findFormat(description).compressor()
    return b"".join([*map(compressor.compress, said), compressor.end() if end else b""])


def echo(session: Any, pkg: bytes) -> None:
    """Sends packages back."""
    session.writePkg(pkg)


class CompressionCase(SessionCase):
    """A compressed session with a peer of raw bytes."""

    def heardBy(self, pair: Pair, description: str = "deflate") -> bytes:
        """The decompressed output of the session."""
        pair.flush()
        return decompress(description, [bytes(pair.peer.data)])
