"""What the servers of ``benchmarks.http`` are asked for, and what they answer: the same bytes in every language."""

from __future__ import annotations

import hashlib

HELLO = b"Hello, World!"

#: What is posted: the 1 KB of wnet's scenario.
BODY = b"x" * 1024

#: The answer of the shape ``json``, as an object and as the bytes that every encoder here makes of it.
OBJECT = {"message": "Hello, World!"}
JSON = b'{"message":"Hello, World!"}'

#: The streamed answers: bytes of a chunk, and how many.
STREAMS = {"stream64k": (16_384, 4), "stream10m": (65_536, 160)}

#: The turns of the loop of wnet's scenario, and what is hashed in its place: 25 us of C.
TURNS = 100_000
BLOCK = bytes(32_768)


def digest() -> bytes:
    """What the shape ``digest`` answers."""
    return hashlib.sha256(BLOCK).hexdigest().encode()


def loop() -> bytes:
    """What the shape ``loop`` answers, when the loop is over."""
    for _ in range(TURNS):
        pass
    return HELLO


#: The shapes that compute when the body has come.
WORK = {"loop": loop, "digest": digest}
