"""A Twisted connector for any client endpoint, like the one of ``connectTCP`` for an address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import NotConnectingError, TimeoutError, UserError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IHandshakeListener,
    ILoggingContext,
    IProtocol,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

__all__ = ["CONNECT_TIMEOUT", "EndpointConnector", "isAttempt"]

log = Logger()

#: Seconds that one attempt to connect may take; Getty's ``connectTimeout``.
CONNECT_TIMEOUT = 3.0


@implementer(IAddress)
class _Destination:
    """
    The destination of a connector, as an address.

    :ivar name: its text in logs.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@implementer(IConnector)
class EndpointConnector:
    """
    Connects an endpoint for a ReconnectingClientFactory, like the connector of ``connectTCP``.

    For each ``connect()`` the factory's ``startedConnecting`` is called once, and then once either
    ``clientConnectionFailed`` or ``clientConnectionLost``. The latter follows the protocol's ``connectionLost``.

    :param endpoint: an IStreamClientEndpoint.
    :param factory: the factory; its protocols must not replace their ``dataReceived`` after they are made.
    :param clock: the reactor or a test's clock.
    :param timeout: seconds that an attempt may take. The endpoint's own timeout holds as well.
    :param destination: the endpoint's name in logs.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        factory: ClientFactory[Any],
        clock: IReactorTime,
        *,
        timeout: float = CONNECT_TIMEOUT,
        destination: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.factory = factory
        self.timeout = timeout
        self._clock = clock
        self._destination = _Destination(repr(endpoint) if destination is None else destination)
        # The attempt under way, or the one that has connected. It sets this to None when it ends.
        self.attempt: _Attempt | None = None
        # An endpoint for WebSocket or UDP sets the protocol that the factory builds.
        protocol = getattr(endpoint, "sessionProtocol", None)
        if protocol is not None:
            factory.protocol = protocol

    @property
    def state(self) -> str:
        """``"disconnected"``, ``"connecting"`` or ``"connected"``, like the state of Twisted's connectors."""
        if self.attempt is None:
            return "disconnected"
        return "connecting" if self.attempt.transport is None else "connected"

    def __repr__(self) -> str:
        return f"<EndpointConnector {self.state} {self._destination!r}>"

    def getDestination(self) -> IAddress:
        """An address for logs. It only has a ``name``, because an endpoint does not offer its address."""
        return self._destination

    def connect(self) -> None:
        """
        Start an attempt.

        :raise RuntimeError: an attempt is under way, or there is a connection.
        """
        if self.attempt is not None:
            raise RuntimeError(f"{self!r}: connect() is for when it is disconnected")
        attempt = self.attempt = _Attempt(self)
        self.factory.startedConnecting(self)
        if self.attempt is not attempt:
            return  # startedConnecting() stopped the attempt
        timeout = self.timeout

        def late(result: object, _: float) -> object:
            # The endpoint may still succeed at the moment when it is cancelled.
            if isinstance(result, Failure):
                return Failure(TimeoutError(string=f"not connected in connectTimeout={timeout:g} s"))
            return result

        dialing: Deferred[Any] = maybeDeferred(self.endpoint.connect, attempt)
        attempt.dialing = dialing
        dialing.addTimeout(timeout, self._clock, late)
        dialing.addErrback(attempt.failed)
        dialing.addErrback(lambda failure: log.failure("dialing {connector!r}", failure, connector=self))

    def stopConnecting(self) -> None:
        """
        End the attempt under way; the factory's ``clientConnectionFailed`` is called with a UserError.

        :raise twisted.internet.error.NotConnectingError: no attempt is under way.
        """
        attempt = self.attempt
        if attempt is None or attempt.transport is not None:
            raise NotConnectingError(f"{self!r} is not trying to connect")
        self.attempt = None
        if attempt.dialing is not None:
            attempt.dialing.cancel()
        self.factory.clientConnectionFailed(self, Failure(UserError()))

    def disconnect(self) -> None:
        """End the attempt under way, or close the connection; if it has a session, like the session's ``close()``."""
        attempt = self.attempt
        if attempt is None:
            return
        if attempt.protocol is None or attempt.transport is None:
            self.stopConnecting()
        else:
            # The transport of a session's protocol is the session's facade.
            getattr(attempt.protocol, "transport", attempt.transport).loseConnection()


class _Attempt(ClientFactory[Any]):
    """The factory that the endpoint gets, for one attempt. After the end of the attempt it drops every connection."""

    noisy = False

    def __init__(self, connector: EndpointConnector) -> None:
        self.connector = connector
        self.dialing: Deferred[Any] | None = None
        self.protocol: Any = None
        self.transport: Any = None

    @property
    def isActive(self) -> bool:
        """False if it was stopped, has failed, or its connection was lost."""
        return self.connector.attempt is self

    def doStart(self) -> None:
        """The endpoint starts to use the factory."""
        self.connector.factory.doStart()

    def doStop(self) -> None:
        """The endpoint no longer uses the factory."""
        self.connector.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The factory's protocol, observed; or one that drops the connection, because TLS fails on None."""
        protocol = self.connector.factory.buildProtocol(addr) if self.isActive else None
        return _ObservedProtocol(self, _DroppingProtocol() if protocol is None else protocol)

    def connected(self, observed: _ObservedProtocol, transport: Any) -> bool:
        """The connection is made. Returns False if it is not wanted any more."""
        if not self.isActive or self.transport is not None:
            return False
        self.protocol = observed.protocol
        self.transport = transport
        return True

    def lost(self, reason: Failure) -> None:
        """The connection was lost, and its protocol has been told."""
        if self.isActive:
            self.connector.attempt = None
            self.connector.factory.clientConnectionLost(self.connector, reason)

    def failed(self, failure: Failure) -> None:
        """The endpoint has failed to connect."""
        if not self.isActive:
            return
        if self.transport is not None:
            # The endpoint has connected, and failed afterwards. The factory is told when the connection is lost.
            _drop(self.transport)
            return
        self.connector.attempt = None
        self.connector.factory.clientConnectionFailed(self.connector, failure)


def isAttempt(factory: Any) -> bool:
    """True for the factory that an EndpointConnector gives to its endpoint."""
    return isinstance(factory, _Attempt)


@implementer(IProtocol, ILoggingContext)
class _ObservedProtocol:
    """
    Wraps a protocol, to tell the attempt when the connection is made and lost.

    ``dataReceived`` is the protocol's own method, so that reading costs no additional call.
    """

    def __init__(self, attempt: _Attempt, protocol: Any) -> None:
        self.attempt = attempt
        self.protocol = protocol
        self._wanted = False
        self.dataReceived: Callable[[bytes], None] = protocol.dataReceived
        self._interfaces = [
            interface
            for interface in (IHalfCloseableProtocol, IHandshakeListener, IFileDescriptorReceiver)
            if interface.providedBy(protocol)
        ]
        alsoProvides(self, *self._interfaces)

    def __getattr__(self, name: str) -> Any:
        # Finds the methods of the three interfaces.
        return getattr(self.protocol, name)

    def logPrefix(self) -> str:
        """The prefix of the protocol."""
        if ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    def makeConnection(self, transport: Any) -> None:
        """The connection is made."""
        # Twisted's endpoints put a wrapper in between. It has the methods of all three interfaces, but only provides
        # the last: without the first, a half-close by the peer would drop the pending bytes.
        wrapper = getattr(transport, "protocol", None)
        for interface in self._interfaces:
            if all(hasattr(wrapper, method) for method in interface):
                alsoProvides(wrapper, interface)
        self._wanted = self.attempt.connected(self, transport)
        if self._wanted:
            self.protocol.makeConnection(transport)
        else:
            self.protocol = _DroppingProtocol()
            self.dataReceived = self.protocol.dataReceived
            self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection was lost."""
        try:
            self.protocol.connectionLost(reason)
        finally:
            if self._wanted:
                self.attempt.lost(reason)


class _DroppingProtocol(Protocol):
    """Drops the connection."""

    def connectionMade(self) -> None:
        _drop(self.transport)


def _drop(transport: Any) -> None:
    for name in ("abortConnection", "stopListening", "loseConnection"):
        drop = getattr(transport, name, None)
        if drop is not None:
            drop()
            return
