"""
A codec alone: the reading contract without a session.

``readAll`` and ``feedSplit`` read as a session does, and raise an AssertionError with a clear text for an answer that a
session would have to refuse. They set no limit on length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["feedSplit", "readAll"]


def readAll(codec: Any, data: bytes, session: Any = None) -> tuple[list[Any], bytes]:
    """
    All packages in ``data``, and the bytes that are left.

    ::

        assert readAll(LineCodec(), b"one\\ntwo\\nthr") == ([b"one", b"two"], b"thr")

    :param session: what ``read`` gets as its session.
    :raise AssertionError: the codec gave an answer that cannot be.
    :raise Exception: what ``read`` raised.
    """
    packages, rest, _ = _read(codec, bytes(data), session)
    return packages, rest


def feedSplit(codec: Any, data: bytes, sizes: Iterable[int], session: Any = None) -> tuple[list[Any], bytes]:
    """
    As :py:func:`readAll`, but the bytes come in pieces of the given sizes, and what is left after those in one.

    A codec must give the same packages however the stream is cut::

        whole = readAll(codec, data)
        for size in range(1, len(data)):
            assert feedSplit(codec, data, [size]) == whole

    As in a session, ``read`` is not called again before the bytes that it asked for are there.
    """
    packages: list[Any] = []
    unread = b""
    need = 0
    at = 0
    for size in (*sizes, len(data)):
        if size < 0:
            raise ValueError(f"sizes: {size!r} is less than 0")
        piece = data[at : at + size]
        at += len(piece)
        unread += piece
        if piece and len(unread) >= need:
            more, unread, need = _read(codec, unread, session)
            packages += more
    return packages, unread


def _read(codec: Any, data: bytes, session: Any) -> tuple[list[Any], bytes, int]:
    """The packages, the rest, and how many bytes of it the codec wants to see."""
    packages: list[Any] = []
    at = 0
    while at < len(data):
        left = len(data) - at
        answer = codec.read(session, memoryview(data)[at:])
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise AssertionError(f"read() answered {answer!r}, which is not a tuple of package and length")
        pkg, length = answer
        if not isinstance(length, int) or isinstance(length, bool):
            raise AssertionError(f"read() answered a length of {length!r}, which is not a whole number of bytes")
        if length < 0:
            raise AssertionError(f"read() answered a length of {length}, which is negative")
        if pkg is None:
            if 0 < length <= left:
                raise AssertionError(f"read() asks for {length} bytes in all where {left} are there already")
            return packages, data[at:], length or left + 1
        if length == 0:
            raise AssertionError(f"read() answered the package {pkg!r} of 0 bytes: it would be read for ever")
        if length > left:
            raise AssertionError(f"read() answered a package of {length} bytes where only {left} are there")
        packages.append(pkg)
        at += length
    return packages, b"", 0
