"""
The header that proxies of a service mesh put before Thrift's messages, as servers of Kitex take it::

    ffaf  size:u16  count:u16 (key:s16 value:s16)*  message, framed or buffered

``size`` counts what follows it of the header. Replies have none.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from getty_tx.errors import CodecError
from getty_tx.rpc.messages import Request
from getty_tx.rpc.wires.info import InfoError, parseInfo
from getty_tx.rpc.wires.thriftframed import BufferedCodec, FramedCodec

__all__ = ["MESH", "MeshCodec"]

#: The first bytes.
MESH = b"\xff\xaf"

_size = Struct(">H").unpack_from

#: Bytes of the magic and the size; and of the least that follows the header, by which it is told how that is written.
_HEAD = 4
_TOLD = 2


class MeshCodec(FramedCodec):
    """
    The codec of a session whose messages have such headers, or some of them.

    The strings are the metadata of a call; ``isn`` among them is its service.

    :param wire: what the sessions share: a :py:class:`~getty_tx.rpc.Thrift`.
    """

    __slots__ = ("_inner",)

    def __init__(self, wire: Any) -> None:
        super().__init__(wire)
        # By the first message.
        self._inner: FramedCodec | None = None

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """None: each is looked at by itself."""
        return []

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: it is none, or its header is invalid or longer than ``maxMetadata``.
        """
        if len(data) < _HEAD:
            return None, 0
        at = _HEAD + _size(data, 2)[0] if bytes(data[:2]) == MESH else 0
        if at > self.wire.maxMetadata:
            raise CodecError(f"rpc: {at} bytes of metadata are above maxMetadata={self.wire.maxMetadata}", session)
        if len(data) < at + _TOLD:
            return None, at + _TOLD
        inner = self._inner
        if inner is None:
            isBuffered = bytes(data[at : at + _TOLD]) == b"\x80\x01"
            inner = self._inner = (BufferedCodec if isBuffered else FramedCodec)(self.wire)
        message, end = inner.read(session, data[at:])
        if message is None:
            # Its end may not be known; then more bytes than there are must come.
            return None, max(at + end, len(data) + 1)
        if at and type(message) is Request:
            self._complete(session, message, data[_HEAD:at].tobytes())
        return message, at + end

    def _complete(self, session: Any, message: Any, header: bytes) -> None:
        try:
            # As the strings of TTHeader, whose blocks begin with two numbers.
            _, strings, _ = parseInfo(b"\0\0\1" + header) if header else (0, {}, {})
        except InfoError as error:
            raise CodecError(f"rpc: {error}", session) from None
        service = strings.pop("isn", None)
        if service:
            message.name = f"{service}/{message.id.method}"
        message.metadata = strings or None

    def write(self, session: Any, message: Any) -> bytes:
        """The bytes of a message: as those that were read, without the header."""
        return (self._inner or FramedCodec(self.wire)).write(session, message)
