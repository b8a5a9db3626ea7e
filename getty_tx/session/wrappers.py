"""What lies below a transport: wrappers, TLS, the socket. Twisted has no common way down."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import INegotiated
from twisted.protocols.policies import ProtocolWrapper

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["bottomOf", "bytesInKernel", "isCutOff", "readRest", "socketOf"]


def socketOf(transport: Any) -> socket.socket | None:
    """The socket at the bottom of a transport, below wrappers and TLS, or None where there is none."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    handle = getattr(transport, "socket", None)
    return handle if isinstance(handle, socket.socket) else None


def bytesInKernel(transport: Any) -> int | None:
    """Bytes in the socket's send buffer that the peer has not acknowledged, or None where that cannot be told."""
    handle = socketOf(transport)
    if handle is None:
        return None
    return _ask(handle, termios.TIOCOUTQ)


def _ask(handle: socket.socket, request: int) -> int | None:
    """The number with which the system answers an ioctl about the socket, or None."""
    try:
        answer = fcntl.ioctl(handle.fileno(), request, b"\0\0\0\0")
    except OSError:
        return None
    return int(struct.unpack("i", answer)[0])


def readRest(transport: Any) -> None:
    """
    Read what a socket still has when its transport is told that the connection is lost, and before it closes it.

    After a reset the kernel keeps what came before: at most its receive buffer, so this ends. Twisted's transports
    drop it where the reset shows in a write, or while they do not read.

    :param transport: the socket's own; others are left alone.
    """
    handle = getattr(transport, "socket", None)
    if not isinstance(handle, socket.socket):
        return
    unread = _ask(handle, termios.FIONREAD)
    while unread:
        transport.doRead()
        before, unread = unread, _ask(handle, termios.FIONREAD)
        if unread is not None and unread >= before:
            # It was aborted, and reads no more.
            return


def bottomOf(transport: Any, sockets: Collection[type]) -> Any:
    """
    What the layers above a socket's transport write to, or None where there is no such transport at the bottom.

    It is the one that knows when the bytes are out: TLS, and any wrapper, passes on everything at once.

    :param sockets: the types of such transports.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if type(transport) not in sockets:
        return None
    if transport.TLS:
        # After startTLS the transport's methods lead to TLS, and TLS has a transport of its own to get around that.
        return transport.protocol.transport if isinstance(transport.protocol, ProtocolWrapper) else None
    return transport


def isCutOff(transport: Any, bottom: Any) -> bool:
    """TLS is over, by the peer's end or an error: it drops what is written, and has the transport below close."""
    while isinstance(transport, ProtocolWrapper) and not INegotiated.providedBy(transport):
        transport = transport.transport
    return bool(bottom.disconnecting and (isinstance(transport, ProtocolWrapper) or transport.TLS))
