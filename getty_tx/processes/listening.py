"""Where a sub-reactor's service listens, in place of ports, and the connections that arrive there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from zope.interface import implementer

from getty_tx.processes.standin import divide

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.subreactor import SubReactor

__all__ = ["Arrival", "Place", "StandInPort", "SubEndpoint"]


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
