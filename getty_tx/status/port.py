"""The port of the status service: passes each connection to the web site or to the feed's WebSocket protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from getty_tx.transports.base import dropAtOnce

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall
    from twisted.python.failure import Failure

    from getty_tx.status.resources import Access

__all__ = ["FEED", "StatusPortFactory"]

#: The path of the feed.
FEED = "/feed"

#: Open connections; more are dropped, so that they take no descriptors from the program's own sessions.
MAX_CONNECTIONS = 1000

#: Bytes of the head of the first request, and seconds until it must be complete.
MAX_HEAD = 16 * 1024
HEAD_TIMEOUT = 10.0

_REFUSAL = b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@implementer(IHalfCloseableProtocol)
class _PortConnection(Protocol):
    """Reads the first request of a connection, chooses the protocol for it, and forwards all events to that."""

    factory: StatusPortFactory

    def __init__(self) -> None:
        self._head = b""
        self._inner: Any = None
        self._timeout: IDelayedCall | None = None

    def connectionMade(self) -> None:
        factory = self.factory
        if factory.count >= MAX_CONNECTIONS:
            self._inner = Protocol()
            dropAtOnce(self.transport)
            return
        factory.connections.add(self)
        self._timeout = factory.reactor.callLater(HEAD_TIMEOUT, self._timedOut)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head = head = self._head + data
        if b"\r\n\r\n" in head or len(head) > MAX_HEAD:
            self._choose(head)

    def _choose(self, head: bytes) -> None:
        assert self.transport is not None
        self._cancelTimeout()
        factory = self.factory
        self._head = b""
        lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1:2]
        site = factory.site
        if target and target[0].partition("?")[0] == FEED:
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            host = fields.get("host", "")
            if not (factory.access.allowsHost(host) and factory.access.allowsOrigin(fields.get("origin", ""), host)):
                self._inner = Protocol()
                self.transport.write(_REFUSAL % b"403 Forbidden")
                self.transport.loseConnection()
                return
            site = factory.feed
        inner = site.buildProtocol(self.transport.getPeer())
        self._inner = inner
        inner.makeConnection(self.transport)
        inner.dataReceived(head)

    def _timedOut(self) -> None:
        self._timeout = None
        self.transport.abortConnection()  # type: ignore[union-attr]  # set since connectionMade

    def _cancelTimeout(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.cancel()

    def readConnectionLost(self) -> None:
        """The client has ended its side."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        """This side of the connection has ended."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancelTimeout()
        self.factory.connections.discard(self)
        if self._inner is not None:
            self._inner.connectionLost(reason)


@implementer(IProtocolNegotiationFactory)
class StatusPortFactory(Factory):
    """
    Accepts the connections of the site and the feed.

    :param site: the factory for HTTP requests.
    :param feed: the factory for WebSockets.
    :param access: the access rules.
    """

    noisy = False

    def __init__(self, site: Any, feed: Any, access: Access, reactor: Any) -> None:
        self.site = site
        self.feed = feed
        self.access = access
        self.reactor = reactor
        self.connections: set[_PortConnection] = set()

    @property
    def count(self) -> int:
        """The number of open connections."""
        return len(self.connections)

    def acceptableProtocols(self) -> list[bytes]:
        """What browsers offer: a ``tls:`` endpoint refuses those with whom it has nothing in common."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """A port has started to use this factory."""
        self.site.doStart()

    def stopFactory(self) -> None:
        """No port uses this factory any more."""
        self.site.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Make the protocol of an accepted connection."""
        connection = _PortConnection()
        connection.factory = self
        return connection

    def closeAll(self) -> None:
        """Drop all open connections."""
        for connection in list(self.connections):
            connection.transport.abortConnection()  # type: ignore[union-attr]  # set while it is in the set
