"""The connector that dials any endpoint, as ``connectTCP``'s dials an address."""

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
    Where a connector dials, as an address.

    :ivar name: as it stands in logs.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@implementer(IConnector)
class EndpointConnector:
    """
    Dials an endpoint for a ReconnectingClientFactory, as ``connectTCP``'s connector dials an address.

    The factory hears of ``startedConnecting``, and of either ``clientConnectionFailed`` or ``clientConnectionLost``,
    exactly once for each ``connect()``. The connection is lost for it when it is for its protocol.

    :param endpoint: an IStreamClientEndpoint.
    :param factory: the factory; its protocols must not change their ``dataReceived`` once they are made.
    :param clock: the reactor or a test's clock.
    :param timeout: seconds that an attempt may take. The endpoint's own timeout holds as well.
    :param destination: what logs call the endpoint.
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
        self._attempt: _Attempt | None = None
        # An endpoint for WebSocket has the factory build another protocol than the one for streams.
        protocol = getattr(endpoint, "sessionProtocol", None)
        if protocol is not None:
            factory.protocol = protocol

    @property
    def state(self) -> str:
        """``"disconnected"``, ``"connecting"`` or ``"connected"``, as that of Twisted's connectors."""
        if self._attempt is None:
            return "disconnected"
        return "connecting" if self._attempt.transport is None else "connected"

    def __repr__(self) -> str:
        return f"<EndpointConnector {self.state} {self._destination!r}>"

    def getDestination(self) -> IAddress:
        """An address that says in logs what is dialed. It has a ``name`` and no more: endpoints do not tell theirs."""
        return self._destination

    def connect(self) -> None:
        """
        Begin an attempt.

        :raise RuntimeError: one is under way, or there is a connection.
        """
        if self._attempt is not None:
            raise RuntimeError(f"{self!r}: connect() is for when it is disconnected")
        attempt = self._attempt = _Attempt(self)
        self.factory.startedConnecting(self)
        if self._attempt is not attempt:
            return  # the factory thought better of it
        timeout = self.timeout

        def late(result: object, _: float) -> object:
            # The endpoint may succeed all the same, at the moment of being cancelled.
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

        :raise twisted.internet.error.NotConnectingError: there is none.
        """
        attempt = self._attempt
        if attempt is None or attempt.transport is not None:
            raise NotConnectingError(f"{self!r} is not trying to connect")
        self._attempt = None
        if attempt.dialing is not None:
            attempt.dialing.cancel()
        self.factory.clientConnectionFailed(self, Failure(UserError()))

    def disconnect(self) -> None:
        """End the attempt under way, or close the connection: with a session as its ``close()`` does."""
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.protocol is None or attempt.transport is None:
            self.stopConnecting()
        else:
            # A session's protocol has the session's facade there.
            getattr(attempt.protocol, "transport", attempt.transport).loseConnection()


class _Attempt(ClientFactory[Any]):
    """The factory that the endpoint is given, for one attempt; when the attempt is over it connects nobody any more."""

    noisy = False

    def __init__(self, connector: EndpointConnector) -> None:
        self.connector = connector
        self.dialing: Deferred[Any] | None = None
        self.protocol: Any = None
        self.transport: Any = None

    @property
    def current(self) -> bool:
        """False when it was stopped, has failed, or its connection was lost."""
        return self.connector._attempt is self

    def doStart(self) -> None:
        """The endpoint begins to use the factory."""
        self.connector.factory.doStart()

    def doStop(self) -> None:
        """The endpoint no longer uses the factory."""
        self.connector.factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The factory's protocol, watched. Where there is none, one that drops the connection: TLS fails on None."""
        protocol = self.connector.factory.buildProtocol(addr) if self.current else None
        return _Watched(self, _Nobody() if protocol is None else protocol)

    def connected(self, watched: _Watched, transport: Any) -> bool:
        """The connection is made; False when it is not wanted any more."""
        if not self.current or self.transport is not None:
            return False
        self.protocol = watched.protocol
        self.transport = transport
        return True

    def lost(self, reason: Failure) -> None:
        """The connection is gone, and its protocol has been told."""
        if self.current:
            self.connector._attempt = None
            self.connector.factory.clientConnectionLost(self.connector, reason)

    def failed(self, failure: Failure) -> None:
        """The endpoint has no connection."""
        if not self.current:
            return
        if self.transport is not None:
            # It has made one and failed after that. The loss is what the factory hears of.
            _drop(self.transport)
            return
        self.connector._attempt = None
        self.connector.factory.clientConnectionFailed(self.connector, failure)


def isAttempt(factory: Any) -> bool:
    """True for the factory that an EndpointConnector gives to its endpoint."""
    return isinstance(factory, _Attempt)


@implementer(IProtocol, ILoggingContext)
class _Watched:
    """
    A protocol, seen from its transport; the attempt hears of its beginning and end.

    What is called per read is the protocol's own method, so that watching costs nothing there.
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
        # The methods of the three interfaces.
        return getattr(self.protocol, name)

    def logPrefix(self) -> str:
        """The protocol's."""
        if ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    def makeConnection(self, transport: Any) -> None:
        """The connection is made."""
        # Twisted's endpoints have a wrapper of their own in between, which provides only the last of these interfaces
        # although it has the methods of all: without the first, the peer's half-close would drop what is pending.
        wrapper = getattr(transport, "protocol", None)
        for interface in self._interfaces:
            if all(hasattr(wrapper, method) for method in interface):
                alsoProvides(wrapper, interface)
        self._wanted = self.attempt.connected(self, transport)
        if self._wanted:
            self.protocol.makeConnection(transport)
        else:
            self.protocol = _Nobody()
            self.dataReceived = self.protocol.dataReceived
            self.protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        try:
            self.protocol.connectionLost(reason)
        finally:
            if self._wanted:
                self.attempt.lost(reason)


class _Nobody(Protocol):
    """Drops its connection."""

    def connectionMade(self) -> None:
        _drop(self.transport)


def _drop(transport: Any) -> None:
    for name in ("abortConnection", "stopListening", "loseConnection"):
        drop = getattr(transport, name, None)
        if drop is not None:
            drop()
            return
