"""The part of a transport that a layer on a socket's transport passes on as it is."""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_CORK
from typing import TYPE_CHECKING, Any

from twisted.internet import unix

from getty_tx.session.wrappers import Layer

if TYPE_CHECKING:
    import socket

    from twisted.internet.interfaces import IProducer

__all__ = ["LayeredTransport"]

_UNIX = (unix.Server, unix.Client)


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

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """As IConsumer: the transport below tells when the bytes are out."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """As IConsumer."""
        self.transport.unregisterProducer()

    def cork(self, isOn: bool) -> None:
        """As IByteSink: several records share packets."""
        transport = self.transport
        if type(transport) not in _UNIX:
            transport.socket.setsockopt(IPPROTO_TCP, TCP_CORK, isOn)

    def logPrefix(self) -> str:
        """As ILoggingContext."""
        return type(self.wrappedProtocol).__name__

    @property
    def socket(self) -> socket.socket:
        """The socket."""
        return self.transport.socket  # type: ignore[no-any-return]

    @property
    def reactor(self) -> Any:
        """The reactor of the transport below."""
        return self.transport.reactor
