"""
Listening in two processes: an endpoint's call to listen is captured, and a sub-reactor adopts its connections.

Every endpoint calls ``listenTCP`` or a similar method of the reactor in the end, with a factory that has all its
wrappers: TLS, WebSocket, PROXY headers. This call is where an endpoint is divided: the main process takes the address
from it, and binds it; a sub-reactor takes the factory, and builds protocols with it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, INegotiated, IStreamServerEndpoint
from twisted.protocols.policies import WrappingFactory
from zope.interface import implementer

from getty_tx.endpoints import serverEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    Listen = Callable[["Binding", Any], IListeningPort]

__all__ = [
    "AdoptedConnection",
    "Binding",
    "BoundEndpoint",
    "ListenCapture",
    "RemotePort",
    "SubEndpoint",
    "TurningAway",
    "captureListen",
    "innermost",
    "tellsHost",
]


@dataclass(frozen=True)
class Binding:
    """
    The address that an endpoint listens on.

    :ivar family: the address family.
    :ivar listen: binds the address with the real reactor, with the given factory instead of the endpoint's.
    :ivar port: the port of TCP or UDP; None for other sockets, for which the following have no meaning either.
    """

    family: int
    listen: Callable[[Any], IListeningPort]
    port: int | None = None
    interface: str = ""
    backlog: int = 0
    maxPacketSize: int = 0
    isDatagrams: bool = False


class ListenCapture:
    """
    A reactor that calls a function instead of listening; everything else is the real reactor's.

    :param reactor: the real reactor.
    :param listen: called with the binding and the endpoint's factory, or its protocol for UDP.
    """

    def __init__(self, reactor: Any, listen: Listen) -> None:
        self._reactor = reactor
        self._listen = listen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:
        """See IReactorTCP."""
        binding = Binding(
            _family(interface),
            lambda other: self._reactor.listenTCP(port, other, backlog, interface),
            port,
            interface,
            backlog,
        )
        return self._listen(binding, factory)

    def listenUNIX(
        self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        """See IReactorUNIX."""
        binding = Binding(
            socket.AF_UNIX, lambda other: self._reactor.listenUNIX(address, other, backlog, mode, wantPID)
        )
        return self._listen(binding, factory)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> IListeningPort:
        """See IReactorSocket."""
        binding = Binding(
            addressFamily, lambda other: self._reactor.adoptStreamPort(fileDescriptor, addressFamily, other)
        )
        return self._listen(binding, factory)

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> IListeningPort:
        """See IReactorUDP."""
        binding = Binding(
            _family(interface),
            lambda other: self._reactor.listenUDP(port, other, interface, maxPacketSize),
            port,
            interface,
            maxPacketSize=maxPacketSize,
            isDatagrams=True,
        )
        return self._listen(binding, protocol)


def _family(interface: str) -> int:
    return socket.AF_INET6 if ":" in interface else socket.AF_INET


def captureListen(description: str, reactor: Any, listen: Listen, factory: Any) -> Deferred[IListeningPort]:
    """
    Have the endpoint of a description listen, and call ``listen`` instead of binding its address.

    :raise SettingError: the description is not valid.
    """
    capture: Any = ListenCapture(reactor, listen)
    return serverEndpoint(description, capture).listen(factory)


def innermost(factory: Any) -> Any:
    """The factory below TLS and other wrappers."""
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    return factory


def tellsHost(factory: Any) -> bool:
    """Whether a connection's remote address is its peer's: False behind ``haproxy:``."""
    while isinstance(factory, WrappingFactory):
        if not INegotiated.implementedBy(factory.protocol):
            return False
        factory = factory.wrappedFactory
    return True


@implementer(IListeningPort)
class RemotePort:
    """The port of an endpoint in a sub-reactor; the main process has the socket."""

    def __init__(self, address: IAddress, factory: Any) -> None:
        self._address = address
        self._factory: Any = factory
        factory.doStart()

    def startListening(self) -> None:
        """Do nothing: the main process listens."""

    def stopListening(self) -> Deferred[None]:
        """Stop the factory. The main process hands over no more connections by now, or is told so."""
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()
        return succeed(None)

    def getHost(self) -> IAddress:
        """Return the address that the main process has bound."""
        return self._address


@implementer(IStreamServerEndpoint)
class SubEndpoint:
    """
    An endpoint in a sub-reactor, which gets its connections from the main process.

    :param description: of the endpoint, the same as in the main process.
    :param reactor: the reactor.
    :param bind: called with the binding and the factory when the service listens.
    :param failed: called with the Failure when listening fails; its result replaces it.
    """

    def __init__(self, description: str, reactor: Any, bind: Listen, failed: Callable[[Any], Any]) -> None:
        self._reactor = reactor
        self._bind = bind
        self._failed = failed
        self.description = description

    def __repr__(self) -> str:
        return self.description

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Build the protocols of this endpoint's connections with the factory."""
        listening: Deferred[IListeningPort] = maybeDeferred(
            captureListen, self.description, self._reactor, self._bind, protocolFactory
        )
        return listening.addErrback(self._failed)


class BoundEndpoint:
    """An endpoint that the service listens on."""

    def __init__(self, family: int, factory: Any) -> None:
        self.family = family
        self.factory = factory


class TurningAway:
    """
    The factory of a connection that the main process has refused and counted: its protocol only answers.

    :param factory: its endpoint's, with ``answersRefused``.
    """

    def __init__(self, factory: Any) -> None:
        self._factory = factory

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See IProtocolFactory."""
        # Not on the protocol: a wrapper may hide it until it is connected, as TLS does.
        inner = innermost(self._factory)
        inner.turnsAway = True
        try:
            return self._factory.buildProtocol(addr)
        finally:
            inner.turnsAway = False


class AdoptedConnection:
    """
    The factory of one connection that the main process has handed over; it reports the connection's end, even a very
    early one.

    :param factory: builds the protocol.
    :param number: the number of the connection.
    :param ended: called with the number when the transport has lost its connection.

    :ivar transport: the connection's transport, from ``makeConnection`` on.
    """

    __slots__ = ("_ended", "_factory", "_number", "_protocol", "transport")

    def __init__(self, factory: Any, number: int, ended: Callable[[int], object]) -> None:
        self._factory = factory
        self._number = number
        self._ended = ended
        self._protocol: Any = None
        self.transport: Any = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See IProtocolFactory."""
        self._protocol = protocol = self._factory.buildProtocol(addr)
        if protocol is not None:
            protocol.makeConnection = self._makeConnection
        return protocol

    def _makeConnection(self, transport: Any) -> None:
        self.transport = transport
        # The reactor, and the transport itself, look it up on the transport.
        transport.connectionLost = self._connectionLost
        protocol, self._protocol = self._protocol, None
        self._factory = None
        del protocol.makeConnection
        protocol.makeConnection(transport)

    def _connectionLost(self, reason: Any) -> None:
        transport = self.transport
        del transport.connectionLost
        try:
            transport.connectionLost(reason)
        finally:
            self._ended(self._number)

    def drop(self) -> None:
        """Abort the connection because its protocol was not built, or has failed at once."""
        if self.transport is not None:
            self.transport.abortConnection()
