"""
A stand-in for the reactor, that endpoints listen with.

Whatever an endpoint's description says, in the end it calls ``listenTCP`` or one of its like, with a factory that has
all its wrappers: TLS, WebSocket, PROXY headers. So that call is where an endpoint is divided: the main process takes
from it what to bind, and a sub-reactor what to build for a connection.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, INegotiated, IStreamServerEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from getty_tx.endpoints import serverEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.subreactor import SubReactor

    Listen = Callable[["Binding", Any], IListeningPort]

__all__ = [
    "Arrival",
    "Binding",
    "Place",
    "StandIn",
    "StandInPort",
    "SubEndpoint",
    "divide",
    "innermost",
    "innermostProtocol",
    "tellsHost",
]


@dataclass(frozen=True)
class Binding:
    """
    What an endpoint would bind.

    :ivar family: the address family.
    :ivar listen: has the reactor bind it, with a factory that is given in place of the endpoint's.
    :ivar port: of TCP and UDP only, as the following.
    """

    family: int
    listen: Callable[[Any], IListeningPort]
    port: int | None = None
    interface: str = ""
    backlog: int = 0
    maxPacketSize: int = 0
    isDatagrams: bool = False


class StandIn:
    """
    The reactor, but for what listens.

    :param reactor: the reactor.
    :param listen: called in its place, with the endpoint's factory; for UDP with the protocol.
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


def divide(description: str, reactor: Any, listen: Listen, factory: Any) -> Deferred[IListeningPort]:
    """
    Listen on what a description says, with ``listen`` called in place of binding.

    :raise SettingError: the description cannot be.
    """
    standIn: Any = StandIn(reactor, listen)
    return serverEndpoint(description, standIn).listen(factory)


def innermost(factory: Any) -> Any:
    """The factory below TLS and other wrappers."""
    while isinstance(factory, WrappingFactory):
        factory = factory.wrappedFactory
    return factory


def innermostProtocol(protocol: Any) -> Any:
    """The protocol below TLS and other wrappers."""
    while isinstance(protocol, ProtocolWrapper):
        protocol = protocol.wrappedProtocol
    return protocol


def tellsHost(factory: Any) -> bool:
    """Whether the address that a connection comes from is its peer's, as it is not behind ``haproxy:``."""
    while isinstance(factory, WrappingFactory):
        if not INegotiated.implementedBy(factory.protocol):
            return False
        factory = factory.wrappedFactory
    return True


@implementer(IListeningPort)
class StandInPort:
    """What an endpoint gets for the port that the main process listens on."""

    def __init__(self, address: IAddress, factory: Any) -> None:
        self._address = address
        self._factory: Any = factory
        factory.doStart()

    def startListening(self) -> None:
        """The main process does."""

    def stopListening(self) -> Deferred[None]:
        """The main process hands nothing over any more, or is told so."""
        factory, self._factory = self._factory, None
        if factory is not None:
            factory.doStop()
        return succeed(None)

    def getHost(self) -> IAddress:
        """The address that the main process has bound."""
        return self._address


@implementer(IStreamServerEndpoint)
class SubEndpoint:
    """
    Listens to the main process for the connections of one endpoint.

    :param sub: the sub-reactor.
    :param number: the endpoint's.
    :param description: of the endpoint, as the main process has it.
    """

    def __init__(self, sub: SubReactor, number: int, description: str) -> None:
        self._sub = sub
        self._number = number
        self.description = description

    def __repr__(self) -> str:
        return self.description

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Have this factory build what comes."""
        bind = partial(self._sub.bind, self._number)
        listening: Deferred[IListeningPort] = maybeDeferred(
            divide, self.description, self._sub.reactor, bind, protocolFactory
        )
        return listening.addErrback(self._sub.bindFailed)


class Place:
    """An endpoint, once the service listens on it."""

    def __init__(self, family: int, factory: Any) -> None:
        self.family = family
        self.factory = factory


class Arrival:
    """
    The factory of one connection, which hears of its end, however soon that comes.

    :param factory: builds the protocol.
    :param number: the connection's.
    :param ended: called with the number when the transport is gone.

    :ivar transport: the connection's, as soon as the protocol has it.
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
        # The reactor, and the transport itself, ask the transport for it.
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
        """The protocol was not built, or has failed at once."""
        if self.transport is not None:
            self.transport.abortConnection()
