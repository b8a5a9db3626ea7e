"""
The codec of Getty's echo examples (AlexStocks/getty-examples, ``echo``), to communicate with those programs.

======  ====  ==========================================================
offset  size  field, all little-endian
======  ====  ==========================================================
0       4     magic 0x20160905
4       4     log id
8       4     sequence
12      4     service id
16      4     command: 0 heartbeat, 1 echo (over WebSocket 0 is echo)
20      4     code, signed
24      2     length of what follows the header, that is body length + 1
26      2     reserved
28      4     reserved
32      1     body length
33      ..    body, at most 255 bytes
======  ====  ==========================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from getty_tx.errors import CodecError
from getty_tx.interfaces import IReadWriter

__all__ = ["ECHO", "HEARTBEAT", "MAGIC", "WEBSOCKET_ECHO", "EchoPackage", "GettyCodec"]

MAGIC = 0x20160905

#: Commands of the TCP and UDP examples.
HEARTBEAT = 0
ECHO = 1

#: The command of the WebSocket examples, which have no heartbeat command.
WEBSOCKET_ECHO = 0

_header = struct.Struct("<IIIIIiHHi")
_SIZE = _header.size
_MAX_BODY = 255
_magicBytes = struct.pack("<I", MAGIC)


@dataclass(frozen=True, slots=True)
class EchoPackage:
    """
    One package. The integers have 32 bits and are unsigned, except ``code``. They are checked when it is written.

    :ivar body: at most 255 bytes; the examples send text.
    """

    command: int = ECHO
    body: bytes = b""
    sequence: int = 0
    logId: int = 0
    serviceId: int = 0
    code: int = 0


@implementer(IReadWriter)
class GettyCodec:
    """
    The 32-byte header and a short string; packages are :py:class:`EchoPackage`.

    Getty's reader mixes the length in the header with the length before the body, and a header length of 0 wraps to
    65535. This codec requires that both agree. Reserved fields are written as 0 and ignored when read.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "GettyCodec()"

    def read(self, session: Any, data: memoryview) -> tuple[EchoPackage | None, int]:
        """
        The package at the front of ``data``.

        :raise CodecError: wrong magic, an invalid length, or two lengths that do not agree.
        """
        head = data[: _SIZE + 1].tobytes()
        # Check from the first byte on: a peer that is not Getty is detected before it has sent 32 bytes.
        if not head.startswith(_magicBytes[: len(head)]):
            raise CodecError(f"codec 'getty': the magic is {head[:4].hex()}, not {_magicBytes.hex()}", session)
        if len(head) < _SIZE:
            return None, 0
        _magic, logId, sequence, serviceId, command, code, count, _, _ = _header.unpack_from(head)
        if not 1 <= count <= _MAX_BODY + 1:
            raise CodecError(
                f"codec 'getty': the header's length is {count}; it is 1 to {_MAX_BODY + 1}, body length + 1", session
            )
        end = _SIZE + count
        if len(data) < end:
            return None, end
        if head[_SIZE] != count - 1:
            raise CodecError(
                f"codec 'getty': the header's length {count} is not that of the body, {head[_SIZE]}, + 1", session
            )
        body = data[_SIZE + 1 : end].tobytes()
        return EchoPackage(command, body, sequence, logId, serviceId, code), end

    def shareKey(self, session: Any) -> object:
        """See :py:class:`getty_tx.interfaces.ISharedWriter`."""
        return GettyCodec

    def write(self, session: Any, pkg: Any) -> bytes:
        """
        Header and body.

        :raise CodecError: no EchoPackage, a number out of range, or a body that is not bytes-like or too long.
        """
        if not isinstance(pkg, EchoPackage):
            raise CodecError(f"codec 'getty': a package to write is an EchoPackage, not {type(pkg).__name__}", session)
        if not isinstance(pkg.body, (bytes, bytearray, memoryview)):
            raise CodecError(
                f"codec 'getty': a body is bytes, bytearray or memoryview, not {type(pkg.body).__name__}", session
            )
        body = bytes(pkg.body)
        count = len(body)
        if count > _MAX_BODY:
            raise CodecError(f"codec 'getty': a body of {count} bytes is longer than {_MAX_BODY}", session)
        try:
            header = _header.pack(MAGIC, pkg.logId, pkg.sequence, pkg.serviceId, pkg.command, pkg.code, count + 1, 0, 0)
        except struct.error as error:
            raise CodecError(f"codec 'getty': a number of the header is out of its range: {error}", session) from error
        return b"%b%c%b" % (header, count, body)
