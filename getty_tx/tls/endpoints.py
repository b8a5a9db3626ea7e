"""
TLS around an endpoint: on the socket where that is possible, by Twisted's own TLS elsewhere.

It is possible on Twisted's own TCP and unix transports, if the policy has not ``onSocket=False``. Below another
wrapper, such as ``haproxy:``, the socket's bytes are not all TLS's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from getty_tx.session.outbound import DIRECT
from getty_tx.tls import openssl
from getty_tx.tls.onsocket import SocketTLS

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory
    from twisted.python.failure import Failure

__all__ = ["startOnSocket", "wrapClient", "wrapServer"]


def wrapServer(policy: Any, endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """
    An endpoint that listens with TLS over another endpoint; as Twisted's ``wrapServerTLS``, and faster.

    :param policy: of :py:func:`~getty_tx.tls.serverPolicy`, or any that Twisted's takes.
    """
    return _ServerEndpoint(policy, endpoint)


def wrapClient(policy: Any, endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
    """
    An endpoint that dials with TLS over another endpoint; as Twisted's ``wrapClientTLS``, and faster.

    :param policy: of :py:func:`~getty_tx.tls.clientPolicy`, or any that Twisted's takes.
    """
    return _ClientEndpoint(policy, endpoint)


def isPossible(policy: Any, transport: Any) -> bool:
    """Whether there is TLS on the socket with this policy over this transport."""
    return openssl.AVAILABLE and type(transport) in DIRECT and not transport.TLS and getattr(policy, "onSocket", True)


def startOnSocket(policy: Any, transport: Any, isClient: bool) -> SocketTLS | None:
    """
    TLS on a connected transport from now on, for its present protocol; None if it is not possible.

    :param transport: it has nothing left to send in clear.
    """
    if not isPossible(policy, transport):
        return None
    protocol = transport.protocol = SocketTLS(transport.protocol, policy, isClient)
    protocol.makeConnection(transport, connects=False)
    return protocol


@implementer(IStreamServerEndpoint)
class _ServerEndpoint:
    def __init__(self, policy: Any, endpoint: IStreamServerEndpoint) -> None:
        self._policy = policy
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self._endpoint.listen(_Factory(self._policy, False, protocolFactory))


@implementer(IStreamClientEndpoint)
class _ClientEndpoint:
    def __init__(self, policy: Any, endpoint: IStreamClientEndpoint) -> None:
        self._policy = policy
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected: Deferred[Any] = self._endpoint.connect(_Factory(self._policy, True, protocolFactory))
        # As Twisted's endpoint does, the caller gets its own protocol.
        return connected.addCallback(lambda choice: choice.wrappedProtocol)


class _Factory(WrappingFactory):
    """Puts a :py:class:`_Choice` below each protocol of the wrapped factory."""

    noisy = False
    # As other wrapping factories say what is between the transport and the wrapped factory's protocols.
    protocol = SocketTLS  # type: ignore[assignment]

    def __init__(self, policy: Any, isClient: bool, wrapped: IProtocolFactory) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        self.policy = policy
        self.isClient = isClient
        # Checked now, so that a policy that cannot be used is an error when the endpoint is.
        self.twisted = TLSMemoryBIOFactory(policy, isClient, wrapped)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        return None if protocol is None else _Choice(self, protocol)


class _Choice(Protocol):
    """
    Learns which transport a connection has, and puts TLS between it and the protocol.

    TLS on the socket takes this one's place in the transport. To Twisted's TLS it passes everything on.
    """

    _below: Any = None

    def __init__(self, factory: _Factory, wrapped: Any) -> None:
        self._factory = factory
        self.wrappedProtocol = wrapped

    def makeConnection(self, transport: Any) -> None:
        """Begin TLS."""
        factory = self._factory
        if isPossible(factory.policy, transport):
            transport.protocol = SocketTLS(self.wrappedProtocol, factory.policy, factory.isClient)
            transport.protocol.makeConnection(transport)
        else:
            twisted = factory.twisted
            self._below = twisted.protocol(twisted, self.wrappedProtocol)
            self._below.makeConnection(transport)

    def logPrefix(self) -> str:
        """As the wrapped protocol's, for the time before the connection is made."""
        return type(self.wrappedProtocol).__name__

    def dataReceived(self, data: bytes) -> None:
        """For Twisted's TLS."""
        self._below.dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted gives it a default
        """For Twisted's TLS."""
        self._below.connectionLost(reason)
