"""No framing at all."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter

__all__ = ["RawCodec"]

# Bytes. From here on, looking whether a chunk need not be copied costs less than copying it.
_WORTH_A_LOOK = 4096


@implementer(IReadWriter)
class RawCodec:
    """
    Every chunk as it comes is a package, as ``bytes``: whatever a stream has brought, one datagram, one WebSocket
    message. On a stream the chunks are cut where the network cut them.

    ``write`` also takes a ``str``, which becomes the text of a WebSocket message.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "RawCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | str | None, int]:
        """All of ``data``, as ``str`` if it is a text message; ``(None, 0)`` if a stream has brought nothing."""
        have = len(data)
        if getattr(session, "isText", False):
            return str(data, "utf-8"), have
        if have > _WORTH_A_LOOK:
            whole = data.obj
            # As long as the bytes underneath, and without strides: it is all of them.
            if type(whole) is bytes and len(whole) == have and data.c_contiguous:
                return whole, have
        elif not have and getattr(session, "isText", None) is None:
            return None, 0
        return data.tobytes(), have

    def write(self, session: Any, pkg: Any) -> bytes | str:
        """
        The bytes, or the text, as they are; a bytearray or memoryview is copied.

        :raise CodecError: neither bytes-like nor ``str``.
        """
        if type(pkg) is bytes or type(pkg) is str:
            return pkg
        if isinstance(pkg, (bytes, bytearray, memoryview)):
            return bytes(pkg)
        if isinstance(pkg, str):
            return pkg
        raise CodecError(
            f"codec 'raw': a package to write is bytes, bytearray, memoryview or str, not {type(pkg).__name__}",
            session,
        )
