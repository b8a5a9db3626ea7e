"""Find the TLS layer, the socket or the peer's host below a transport. Twisted has no common way down its wrappers."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import INegotiated
from twisted.protocols.policies import ProtocolWrapper

from getty_tx.interfaces import IByteSink

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from twisted.internet.interfaces import IAddress

__all__ = [
    "LAYERS",
    "Layer",
    "bottomOf",
    "bytesInKernel",
    "expectProxyHeader",
    "hostOf",
    "innermostProtocol",
    "isCutOff",
    "isEncrypted",
    "isOnSocket",
    "listeningAddress",
    "plainHost",
    "readRest",
    "replaceProtocol",
    "socketOf",
    "tlsOf",
]


class Layer:
    """
    What is between a socket's transport and a protocol, as Twisted's ProtocolWrapper is.

    A ProtocolWrapper has ``__getattr__``, with which Python finds every attribute in the slow way.

    :ivar transport: what is below.
    :ivar wrappedProtocol: what is above.
    """

    __slots__ = ("transport", "wrappedProtocol")

    transport: Any
    wrappedProtocol: Any


#: The types of what may be between a socket's transport and a protocol.
LAYERS = (ProtocolWrapper, Layer)


def _descend(transport: Any, isFound: Callable[[Any], bool] | None = None) -> Any:
    """The first wrapper from the top for which ``isFound`` is true, or the transport below all wrappers."""
    while isinstance(transport, LAYERS) and (isFound is None or not isFound(transport)):
        transport = transport.transport
    return transport


def innermostProtocol(protocol: Any) -> Any:
    """The application's protocol, which TLS and other wrappers were put around."""
    while isinstance(protocol, LAYERS):
        protocol = protocol.wrappedProtocol
    return protocol


def tlsOf(transport: Any) -> Any:
    """The first wrapper that offers what TLS does, or None. It is None after ``startTLS`` on a socket's transport."""
    found = _descend(transport, INegotiated.providedBy)
    return found if isinstance(found, LAYERS) else None


def isEncrypted(transport: Any) -> bool:
    """True if a wrapper of the transport begins with a TLS handshake."""
    return tlsOf(transport) is not None


def isOnSocket(transport: Any) -> bool:
    """True if the transport is TLS on a socket: its bytes leave at once, and each direction ends by itself."""
    return IByteSink.providedBy(transport)


def hostOf(transport: Any) -> str | None:
    """
    The IP address of the peer, or None if it has none or if it is not known from the beginning.

    It is not known below a wrapper other than TLS: ``haproxy:`` returns the proxy's address until its header arrives.
    """
    found = _descend(transport, _isNotTLS)
    if isinstance(found, LAYERS):
        return None
    host = getattr(found.getPeer(), "host", None)
    return None if host is None else plainHost(host)


def _isNotTLS(wrapper: Any) -> bool:
    # The class is asked because an instance also provides the interfaces of the transport below it.
    return not INegotiated.implementedBy(type(wrapper))


def _awaitsHeader(wrapper: Any) -> bool:
    # What Twisted's wrapper of ``haproxy:`` keeps its header in; there is no public way to ask whether it has come:
    # a header may be one that tells no address. tests.transports.test_proxied needs the name.
    return getattr(wrapper, "_proxyInfo", wrapper) is None


def expectProxyHeader(transport: Any, encrypted: bool, arrived: Callable[[], None]) -> bool:
    """
    Whether the transport is behind ``haproxy:``, and its header has not come; if so, ``arrived`` is called when it has.

    Bytes that come together with the header are passed on before that call.

    :param encrypted: the transport begins with a TLS handshake: a header below it comes first anyway.
    """
    wrapper = transport if encrypted else _descend(transport, _awaitsHeader)
    if not _awaitsHeader(wrapper):
        return False
    feed = wrapper.dataReceived

    def dataReceived(data: bytes) -> None:
        feed(data)
        if wrapper._proxyInfo is not None:
            # From here on the wrapper reads by itself.
            vars(wrapper).pop("dataReceived", None)
            arrived()

    wrapper.dataReceived = dataReceived
    return True


def listeningAddress(transport: Any) -> IAddress:
    """This end's address below all wrappers, by which the endpoint is found: ``haproxy:`` tells that of the proxy."""
    address: IAddress = _descend(transport).getHost()
    return address


def plainHost(host: str) -> str:
    """An IP address; an IPv4 address that arrived over IPv6 (``::ffff:192.0.2.1``) without that prefix."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def socketOf(transport: Any) -> socket.socket | None:
    """The socket at the bottom of a transport, below wrappers and TLS, or None if the transport has no socket."""
    handle = getattr(_descend(transport), "socket", None)
    return handle if isinstance(handle, socket.socket) else None


def bytesInKernel(transport: Any) -> int | None:
    """Bytes in the socket's send buffer that the peer has not acknowledged, or None if the system does not say."""
    handle = socketOf(transport)
    if handle is None:
        return None
    return _ask(handle, termios.TIOCOUTQ)


def _ask(handle: socket.socket, request: int) -> int | None:
    """The number that an ioctl returns for the socket, or None if it fails."""
    try:
        answer = fcntl.ioctl(handle.fileno(), request, b"\0\0\0\0")
    except OSError:
        return None
    return int(struct.unpack("i", answer)[0])


def readRest(transport: Any) -> None:
    """
    Read the bytes that a socket still holds when its connection is lost, before the transport closes it.

    After a reset the kernel keeps the bytes that arrived before: at most its receive buffer, so the loop ends.
    Twisted's transports drop them if a write reports the reset, or while they do not read.

    :param transport: the socket's own; others are left alone.
    """
    handle = socketOf(transport) if isOnSocket(transport) else getattr(transport, "socket", None)
    if not isinstance(handle, socket.socket):
        return
    unread = _ask(handle, termios.FIONREAD)
    while unread:
        transport.doRead()
        before, unread = unread, _ask(handle, termios.FIONREAD)
        if unread is not None and unread >= before:
            # The transport was aborted and does not read.
            return


def replaceProtocol(transport: Any, protocol: Any) -> None:
    """Give another protocol what a transport reads, and its end. Its ``makeConnection`` is not called."""
    if isinstance(transport, LAYERS):
        transport.wrappedProtocol = protocol
        if isOnSocket(transport):
            transport.receive = protocol.dataReceived  # type: ignore[union-attr]  # of SocketTLS
    else:
        transport.protocol = protocol
        # A session's short path, which leads to the protocol before.
        vars(transport).pop("doRead", None)


def bottomOf(transport: Any, sockets: Collection[type]) -> Any:
    """
    The object that the layers above a socket's transport write to, or None if the bottom is no such transport.

    It is the one that knows when the bytes are sent: TLS, and any wrapper, passes on everything at once.

    :param sockets: the types of such transports.
    """
    transport = _descend(transport)
    if type(transport) not in sockets:
        return None
    if transport.TLS:
        # After startTLS the transport's methods lead to TLS, and TLS has a transport of its own to get around that.
        return transport.protocol.transport if isinstance(transport.protocol, LAYERS) else None
    return transport


def isCutOff(transport: Any, bottom: Any) -> bool:
    """True if TLS has ended, by the peer or an error: it drops what is written, and the transport below closes."""
    transport = _descend(transport, INegotiated.providedBy)
    return bool(bottom.disconnecting and (isinstance(transport, LAYERS) or transport.TLS))
