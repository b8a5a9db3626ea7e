"""How a client compresses: the names of encodings, and deflate."""

from __future__ import annotations

import zlib
from typing import Any

from getty_tx.errors import SettingError
from getty_tx.http.grpc.messages import frame

__all__ = ["deflated", "encodingOf"]

#: By name, and by the numbers of ``grpc.Compression``.
_NAMES: dict[Any, bytes] = {
    "identity": b"",
    "none": b"",
    "deflate": b"deflate",
    "gzip": b"gzip",
    0: b"",
    1: b"deflate",
    2: b"gzip",
}


def encodingOf(compression: Any) -> bytes:
    """
    The encoding of a call's requests; empty: they are not compressed.

    :param compression: ``"gzip"``, ``"deflate"`` or ``"identity"``, or a ``grpc.Compression``.
    :raise SettingError: it is none.
    """
    found = _NAMES.get(compression) if isinstance(compression, str | int) else None
    if found is None:
        raise SettingError(f"compression={compression!r} is none of gzip, deflate, identity")
    return found


def deflated(message: bytes) -> bytes:
    """A message that is compressed by deflate, as it is sent."""
    return frame(zlib.compress(message, 6), True)
