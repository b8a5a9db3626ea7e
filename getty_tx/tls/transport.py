"""The part of a transport that a layer on a socket's transport passes on as it is."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_CORK
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet import unix

from getty_tx.session.wrappers import Layer

if TYPE_CHECKING:
    import socket

__all__ = ["LayeredTransport", "readLeftover"]

#: Bytes of a failed peer's that are read and dropped before its socket is closed. Unread ones would turn the close into
#: a reset, and the peer would not see the alert that tells the reason.
LEFTOVER = 64 * 1024

_UNIX = (unix.Server, unix.Client)


def readLeftover(handle: socket.socket) -> None:
    """Read what a failed peer has sent, and drop it."""
    left = LEFTOVER
    try:
        while left > 0:
            data = handle.recv(left)
            if not data:
                return
            left -= len(data)
    except OSError:
        return


class Factory(NamedTuple):
    """
    What policies of Twisted look for in the factory of TLS.

    :ivar wrappedFactory: that of the protocol above; it may name application protocols (IProtocolNegotiationFactory).
    """

    wrappedFactory: Any


class LayeredTransport(Layer):
    """What users of Twisted's TCP and unix transports find there, and what has to do with the bytes only indirectly."""

    __slots__ = ()

    def getHost(self) -> Any:
        """This end's address."""
        return self.transport.getHost()

    def getPeer(self) -> Any:
        """The peer's address."""
        return self.transport.getPeer()

    def getTcpNoDelay(self) -> bool:
        """As ITCPTransport."""
        return self.transport.getTcpNoDelay()  # type: ignore[no-any-return]

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As ITCPTransport."""
        self.transport.setTcpNoDelay(enabled)

    def getTcpKeepAlive(self) -> bool:
        """As ITCPTransport."""
        return self.transport.getTcpKeepAlive()  # type: ignore[no-any-return]

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """As ITCPTransport."""
        self.transport.setTcpKeepAlive(enabled)

    def loseConnection(self) -> None:
        """Send what was written, and close."""
        raise NotImplementedError

    def stopProducing(self) -> None:
        """As loseConnection."""
        self.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Never called: ``doRead`` is replaced."""
        raise AssertionError("a transport with TLS on its socket has read by itself")

    def writeConnectionLost(self) -> None:
        """The stream below has ended: TLS has before."""

    def cork(self, isOn: bool) -> None:
        """As IByteSink: several records share packets."""
        transport = self.transport
        if type(transport) not in _UNIX:
            transport.socket.setsockopt(IPPROTO_TCP, TCP_CORK, isOn)

    def logPrefix(self) -> str:
        """As ILoggingContext."""
        return type(self.wrappedProtocol).__name__

    @property
    def factory(self) -> Factory:
        """As a policy of Twisted finds it."""
        return Factory(getattr(self.wrappedProtocol, "factory", None))

    @property
    def socket(self) -> socket.socket:
        """The socket."""
        return self.transport.socket  # type: ignore[no-any-return]

    @property
    def reactor(self) -> Any:
        """The reactor of the transport below."""
        return self.transport.reactor
