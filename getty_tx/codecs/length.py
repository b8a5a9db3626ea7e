"""The length codec: a length field of fixed size and a payload, the framing of most custom protocols."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.codecs.common import BATCH, SEPARATE_ABOVE, asPayload, checkChoice, checkViews
from getty_tx.errors import CodecError
from getty_tx.interfaces import IBatchReader, IBatchWriter, IReadWriter

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["LengthCodec"]

# struct's letters for unsigned integers by their size in bytes, and its marks for the byte order.
_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_ORDERS = {"big": ">", "little": "<"}
_INCLUDES = ("payload", "frame")


@implementer(IReadWriter, IBatchReader, IBatchWriter)
class LengthCodec:
    """
    A length field and a payload of that length; packages are ``bytes``, or views of what was read if they are large.

    The defaults are the format of :py:class:`twisted.protocols.basic.Int32StringReceiver`; ``order="little"`` is the
    format of dubbo-getty's ``demo/hello``.

    :param size: bytes of the length field: 1, 2, 4 or 8.
    :param order: its byte order, ``big`` (network order) or ``little``.
    :param includes: what the length counts: the ``payload`` alone, or the whole ``frame``, length field included.
    :param views: payloads of so many bytes and more are memoryviews of what was read, and not copied. Each keeps the
        whole read alive, up to 120 KiB or its own frame, as long as it exists. None: all payloads are ``bytes``.
    :raise SettingError: a parameter has another value.
    """

    __slots__ = ("_added", "_copied", "_extra", "_pack", "_unpack", "includes", "order", "size", "views")

    _pack: Callable[[int], bytes]
    _unpack: Callable[..., tuple[int]]

    def __init__(self, size: int = 4, order: str = "big", includes: str = "payload", views: int | None = None) -> None:
        checkChoice("length", "size", size, _LETTERS)
        checkChoice("length", "order", order, _ORDERS)
        checkChoice("length", "includes", includes, _INCLUDES)
        self.size = size
        self.order = order
        self.includes = includes
        self.views = views
        # Bytes of the longest frame whose payload is copied.
        self._copied = checkViews("length", views) + size
        layout = struct.Struct(_ORDERS[order] + _LETTERS[size])
        self._pack = layout.pack
        self._unpack = layout.unpack_from
        # Added to the number on the wire to get the length of the frame.
        self._extra = size if includes == "payload" else 0
        # Added to the length of the payload to get the number on the wire.
        self._added = size - self._extra

    def __repr__(self) -> str:
        views = "" if self.views is None else f", views={self.views}"
        return f"LengthCodec(size={self.size}, order={self.order!r}, includes={self.includes!r}{views})"

    def read(self, session: Any, data: memoryview) -> tuple[bytes | memoryview | None, int]:
        """
        The payload of the frame at the front of ``data``.

        :raise CodecError: the number counts the frame and is smaller than the length field.
        """
        have = len(data)
        size = self.size
        if have < size:
            return None, 0
        try:
            end = self._unpack(data)[0] + self._extra
        except BufferError:  # struct takes no view with strides; a session never passes one
            return self.read(session, memoryview(data.tobytes()))
        if have < end:
            return None, end
        if end < size:
            raise CodecError(
                f"codec 'length': a frame of {end} bytes cannot hold its own length field of {size} bytes", session
            )
        payload = data[size:end]
        return payload if end > self._copied else payload.tobytes(), end

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[bytes | memoryview, int]]:
        """All complete frames; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[bytes | memoryview, int]] = []
        unpack = self._unpack
        size = self.size
        extra = self._extra
        end = len(data)
        last = end - size
        if at > last:
            return found
        copied = self._copied
        if copied > limit:
            copied = limit
        for _ in BATCH:
            (length,) = unpack(data, at)
            length += extra
            stop = at + length
            if length < size or length > copied or stop > end:
                if copied < length <= limit and stop <= end:
                    # It ends the batch, so that the others pay nothing for views.
                    found.append((memoryview(data)[at + size : stop], stop))
                break
            found.append((data[at + size : stop], stop))
            at = stop
            if at > last:
                break
        return found

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return (LengthCodec, self.size, self.order, self.includes)

    def write(self, session: Any, pkg: Any) -> bytes | list[bytes | memoryview]:
        """
        Length field and payload.

        :raise CodecError: not bytes-like, or too long for the length field.
        """
        payload: bytes | memoryview = pkg if type(pkg) is bytes else asPayload("length", session, pkg)
        count = len(payload)
        pack = self._pack
        try:
            header = pack(count + self._added)
        except struct.error:
            raise CodecError(
                f"codec 'length': a payload of {count} bytes does not fit into a length field with size={self.size}"
                f" and includes={self.includes}",
                session,
            ) from None
        if count > SEPARATE_ABOVE:
            return [header, payload]
        return header + payload

    def writeMany(self, session: Any, packages: list[Any]) -> bytes | list[bytes | memoryview]:
        """
        Length fields and payloads.

        :raise CodecError: as ``write``, for the first package that cannot be written.
        """
        pack = self._pack
        added = self._added
        pieces: list[bytes | memoryview] = []
        append = pieces.append
        size = -1
        longest = 0
        for pkg in packages:
            payload: bytes | memoryview = pkg if type(pkg) is bytes else asPayload("length", session, pkg)
            count = len(payload)
            # Packages of one length often follow one another.
            if count != size:
                size = count
                try:
                    header = pack(count + added)
                except struct.error:
                    # It says why.
                    self.write(session, pkg)
                    raise
                if count > longest:
                    longest = count
            append(header)
            append(payload)
        return pieces if longest > SEPARATE_ABOVE else b"".join(pieces)
