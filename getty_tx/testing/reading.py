"""
Reads with a codec alone, by the contract of ``read`` and without a session.

``readAll`` and ``feedSplit`` read as a session does, and raise an AssertionError with a clear text for an answer that a
session would refuse. They do not limit the length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.interfaces import Until

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["feedSplit", "readAll"]


def readAll(codec: Any, data: bytes, session: Any = None) -> tuple[list[Any], bytes]:
    """
    All packages in ``data``, and the rest of the bytes.

    ::

        assert readAll(LineCodec(), b"one\\ntwo\\nthr") == ([b"one", b"two"], b"thr")

    :param session: the session that ``read`` gets.
    :raise AssertionError: the codec gave an invalid answer.
    :raise Exception: an exception of ``read``.
    """
    packages, rest, _ = _read(codec, bytes(data), session)
    return packages, rest


def feedSplit(codec: Any, data: bytes, sizes: Iterable[int], session: Any = None) -> tuple[list[Any], bytes]:
    """
    Like :py:func:`readAll`, but the bytes come in pieces of the given sizes, and the rest in one piece.

    A codec must give the same packages however the stream is cut::

        whole = readAll(codec, data)
        for size in range(1, len(data)):
            assert feedSplit(codec, data, [size]) == whole

    As in a session, ``read`` is not called again before the bytes that it asked for have come, or the mark of an
    :py:class:`getty_tx.interfaces.Until`.
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
        seen = len(unread)
        unread += piece
        if type(need) is Until and need.mark not in unread[max(0, seen - len(need.mark) + 1) :]:
            continue
        if piece and len(unread) >= need:
            more, unread, need = _read(codec, unread, session)
            packages += more
    return packages, unread


def _read(codec: Any, data: bytes, session: Any) -> tuple[list[Any], bytes, int]:
    """The packages, the rest, and the number of bytes or the mark that the codec needs to go on."""
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
                raise AssertionError(f"read() asks for {length} bytes in all, but {left} are available already")
            return packages, data[at:], length if length or type(length) is Until else left + 1
        if length == 0:
            raise AssertionError(
                f"read() answered the package {pkg!r} with a length of 0 bytes, and would do so forever"
            )
        if length > left:
            raise AssertionError(f"read() answered a package of {length} bytes, but only {left} are available")
        packages.append(pkg)
        at += length
    return packages, b"", 0
