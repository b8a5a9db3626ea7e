"""Messages on a stream: a byte that says whether it is compressed, four of its length, and itself."""

from __future__ import annotations

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENCODINGS", "MAX_RECEIVED", "PREFIX", "Messages", "Packed", "decompressor", "deflated", "frame", "gzipped"]

#: Bytes of a message that is received, at most; grpcio and grpc-go have the same.
MAX_RECEIVED = 4 * 1024 * 1024

#: What this side reads and writes.
ENCODINGS = b"identity,gzip,deflate"

#: zlib's window bits of both encodings: gzip's head, and zlib's.
_GZIP, _DEFLATE = 31, 15


#: What stands before a message: whether it is compressed, and its length.
PREFIX = Struct(">BI")


def frame(message: bytes, isCompressed: bool = False) -> bytes:
    """A message as it is sent."""
    return PREFIX.pack(isCompressed, len(message)) + message


def gzipped(message: bytes) -> bytes:
    """A message that is compressed by gzip, as it is sent."""
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return frame(packer.compress(message) + packer.flush(), True)


def deflated(message: bytes) -> bytes:
    """A message that is compressed by deflate, as it is sent."""
    return frame(zlib.compress(message, 6), True)


class Packed(bytes):
    """A message that is still compressed."""

    __slots__ = ()


def decompressor(encoding: bytes) -> Callable[[bytes, int], bytes] | None:
    """
    What decompresses messages of an encoding: called with a message and the bytes that it may become.

    :return: None: messages cannot be compressed.
    :raise StatusError: the encoding is not known.
    """
    if encoding == b"identity" or not encoding:
        return None
    if encoding == b"gzip":
        return _gunzip
    if encoding == b"deflate":
        return _inflate
    name = encoding.decode("latin-1")
    raise StatusError(Code.UNIMPLEMENTED, f"grpc-encoding {name} is not supported: use one of {ENCODINGS.decode()}")


def _gunzip(data: bytes, limit: int) -> bytes:
    return _unpacked(data, limit, _GZIP)


def _inflate(data: bytes, limit: int) -> bytes:
    return _unpacked(data, limit, _DEFLATE)


def _unpacked(data: bytes, limit: int, bits: int) -> bytes:
    unpacker = zlib.decompressobj(bits)
    try:
        message = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise StatusError(Code.INTERNAL, f"a message cannot be decompressed: {error}") from None
    if len(message) > limit:
        raise tooLarge(f"more than {limit} bytes when it is decompressed", limit)
    if not unpacker.eof:
        raise StatusError(Code.INTERNAL, "a compressed message is cut off")
    return message


def tooLarge(what: str, limit: int) -> StatusError:
    """What refuses a message above the limit."""
    return StatusError(Code.RESOURCE_EXHAUSTED, f"a message has {what}: maxReceived is {limit}")


class Messages:
    """
    Cuts the data of a stream into messages.

    :param limit: bytes of a message, at most, also when it is decompressed.

    :ivar unpack: what decompresses; None: the peer may not compress.
    """

    __slots__ = ("_limit", "_need", "_parts", "_size", "unpack")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.unpack: Callable[[bytes, int], bytes] | None = None
        # What has come of a message that is not whole; its bytes; and those with which it, or its head, is whole.
        self._parts: list[bytes] = []
        self._size = 0
        self._need = 5

    @property
    def isWhole(self) -> bool:
        """No message is cut off where the data ends now."""
        return not self._size

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take what has come.

        :return: the messages that are whole now.
        :raise StatusError: one is too large, or cannot be decompressed.
        """
        found = self.cut(data)
        for index, message in enumerate(found):
            if type(message) is Packed:
                found[index] = self.opened(message)
        return found

    def cut(self, data: bytes) -> list[bytes]:
        """
        As :py:meth:`feed`, but compressed messages stay so, as :py:class:`Packed`: those that wait are no larger than
        they were sent.
        """
        size = self._size + len(data)
        if size < self._need or self._parts:
            self._parts.append(data)
            self._size = size
            if size < self._need:
                return []
            data = b"".join(self._parts)
            self._parts.clear()
        found: list[bytes] = []
        at = 0
        need = 5
        limit, prefix = self._limit, PREFIX.unpack_from
        while size - at >= 5:
            flag, length = prefix(data, at)
            if length > limit:
                raise tooLarge(f"{length} bytes", limit)
            begin = at + 5
            stop = begin + length
            if stop > size:
                need = stop - at
                break
            message = data[begin:stop]
            found.append(self._marked(flag, message) if flag else message)
            at = stop
        self._need = need
        self._size = size - at
        if self._size:
            self._parts.append(data[at:])
        return found

    def opened(self, message: bytes) -> bytes:
        """Decompress a message of :py:meth:`cut`. :raise StatusError: it cannot be done, or it gets too large."""
        if type(message) is not Packed:
            return message
        assert self.unpack is not None
        return self.unpack(message, self._limit)

    def _marked(self, flag: int, message: bytes) -> Packed:
        if flag != 1:
            raise StatusError(Code.INTERNAL, f"the first byte of a message is {flag}, not 0 or 1")
        if self.unpack is None:
            raise StatusError(Code.INTERNAL, "a message is compressed, and grpc-encoding does not say how")
        return Packed(message)
