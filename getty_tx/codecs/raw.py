"""The raw codec: no framing, every chunk is a package."""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter

__all__ = ["RawCodec"]

# Bytes. Above this, checking whether a chunk can be used without a copy costs less than a copy.
_NO_COPY_ABOVE = 4096


@implementer(IReadWriter)
class RawCodec:
    """
    Every received chunk is a package, as ``bytes``: the data of one read of a stream, one datagram, or one WebSocket
    message. The boundaries of chunks on a stream have no meaning.

    ``write`` also takes a ``str``, which becomes the text of a WebSocket message.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "RawCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | str | None, int]:
        """All of ``data``, as ``str`` if it is a text message; ``(None, 0)`` for an empty stream."""
        have = len(data)
        if getattr(session, "isText", False):
            return str(data, "utf-8"), have
        if have > _NO_COPY_ABOVE:
            whole = data.obj
            # As long as the underlying bytes, and without strides: the view covers all of them.
            if type(whole) is bytes and len(whole) == have and data.c_contiguous:
                return whole, have
        elif not have and getattr(session, "isText", None) is None:
            return None, 0
        return data.tobytes(), have

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return RawCodec

    def write(self, session: Any, pkg: Any) -> bytes | str:
        """
        The bytes or the text, unchanged; a bytearray or memoryview is copied.

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
