"""The limits of one connection of HTTP/2."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the peer of a connection may do.

    :ivar maxStreams: streams that it may have open.
    :ivar streamWindow: bytes of data of one stream that it may send before they are taken.
    :ivar connectionWindow: the same, of all streams together.
    :ivar maxHeaders: bytes of the header fields of a message: name, value and 32 for each (RFC 9113, 6.5.2).
    :ivar maxFields: header fields of a message. Bytes alone are no limit where one byte repeats a field
        (CVE-2026-49975).
    """

    maxStreams: int = 100
    streamWindow: int = 256 * 1024
    connectionWindow: int = 1024 * 1024
    maxHeaders: int = 32 * 1024
    maxFields: int = 100
