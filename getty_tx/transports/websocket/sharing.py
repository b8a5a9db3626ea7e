"""
Frames that many sessions get: made once, without a session.

Compressed ones come from a compressor of their own, so that they refer to nothing but themselves. A peer whose
decompressor goes on from message to message reads such a frame all the same (RFC 7692, section 7.2.2: a sender need not
use its context). But the frame is in the peer's window from then on, and not in that of the session's own compressor,
which has to begin anew.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

from getty_tx.transports.websocket.frames import BINARY, COMPRESSED, TEXT, header

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PLAIN", "DeflateFraming", "MessageFraming", "PlainFraming", "deflateFraming"]


class MessageFraming:
    """Messages of servers: each package is one frame, as text if the codec has written a ``str``."""

    __slots__ = ()

    def frame(self, data: Any) -> bytes:
        """See :py:class:`getty_tx.session.sharing.IFraming`."""
        if isinstance(data, str):
            return self.framed(TEXT, data.encode())
        if isinstance(data, list):
            data = b"".join(data)
        return self.framed(BINARY, bytes(data))

    def framed(self, first: int, payload: bytes) -> bytes:
        """The frame with this first byte."""
        return header(first, len(payload)) + payload


class PlainFraming(MessageFraming):
    """Of sessions of servers without compression."""

    __slots__ = ()

    after: Callable[[Any], None] | None = None


class DeflateFraming(MessageFraming):
    """
    Of sessions of servers with permessage-deflate.

    :param bits: the largest window that the peers have, of 2**bits bytes.
    :param after: called with each session that was sent a frame, as its own compressor does not know of it.
    """

    __slots__ = ("_bits", "after")

    def __init__(self, bits: int, after: Callable[[Any], None]) -> None:
        self._bits = bits
        self.after = after

    def framed(self, first: int, payload: bytes) -> bytes:
        """The frame with this first byte, compressed."""
        compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits)
        # Without the last four bytes of a flush (RFC 7692, section 7.2.1).
        data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        return header(first | COMPRESSED, len(data)) + data


PLAIN = PlainFraming()


@cache
def deflateFraming(bits: int, after: Callable[[Any], None]) -> DeflateFraming:
    """The one for this window."""
    return DeflateFraming(bits, after)
