"""The port of the status service: requests go to the web site, and who asks for the feed gets a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from zope.interface import implementer

from getty_tx.transports.base import dropAtOnce

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall
    from twisted.python.failure import Failure

    from getty_tx.status.resources import Access

__all__ = ["FEED", "Door"]

#: The path of the feed.
FEED = "/feed"

#: Connections at once; more are dropped, so that they take no descriptors from the program's own.
MOST_CONNECTIONS = 1000

#: Bytes of the head of a first request, and seconds that it may take.
MOST_HEAD = 16 * 1024
HEAD_TIMEOUT = 10.0

_REFUSAL = b"HTTP/1.1 %s\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@implementer(IHalfCloseableProtocol)
class _Visitor(Protocol):
    """A connection, until its first request shows what it is, and the way to that from then on."""

    factory: Door

    def __init__(self) -> None:
        self._head = b""
        self._inner: Any = None
        self._late: IDelayedCall | None = None

    def connectionMade(self) -> None:
        door = self.factory
        if door.count >= MOST_CONNECTIONS:
            self._inner = Protocol()
            dropAtOnce(self.transport)
            return
        door.visitors.add(self)
        self._late = door.reactor.callLater(HEAD_TIMEOUT, self._tooLate)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._head = head = self._head + data
        if b"\r\n\r\n" in head or len(head) > MOST_HEAD:
            self._choose(head)

    def _choose(self, head: bytes) -> None:
        assert self.transport is not None
        self._forget()
        door = self.factory
        self._head = b""
        lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        target = lines[0].split(" ")[1:2]
        site = door.site
        if target and target[0].partition("?")[0] == FEED:
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            host = fields.get("host", "")
            if not (door.access.allowsHost(host) and door.access.allowsOrigin(fields.get("origin", ""), host)):
                self._inner = Protocol()
                self.transport.write(_REFUSAL % b"403 Forbidden")
                self.transport.loseConnection()
                return
            site = door.feed
        inner = site.buildProtocol(self.transport.getPeer())
        self._inner = inner
        inner.makeConnection(self.transport)
        inner.dataReceived(head)

    def _tooLate(self) -> None:
        self._late = None
        self.transport.abortConnection()  # type: ignore[union-attr]  # it has one since connectionMade

    def _forget(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def readConnectionLost(self) -> None:
        """The client sends nothing more."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        """This side has ended."""
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()
        self.factory.visitors.discard(self)
        if self._inner is not None:
            self._inner.connectionLost(reason)


class Door(Factory):
    """
    Accepts for the site and the feed.

    :param site: the factory for requests.
    :param feed: the factory for WebSockets.
    """

    noisy = False

    def __init__(self, site: Any, feed: Any, access: Access, reactor: Any) -> None:
        self.site = site
        self.feed = feed
        self.access = access
        self.reactor = reactor
        self.visitors: set[_Visitor] = set()

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self.visitors)

    def startFactory(self) -> None:
        """A port begins to use it."""
        self.site.doStart()

    def stopFactory(self) -> None:
        """No port uses it any more."""
        self.site.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """For a connection that has come."""
        visitor = _Visitor()
        visitor.factory = self
        return visitor

    def closeAll(self) -> None:
        """Drop the connections that are left."""
        for visitor in list(self.visitors):
            visitor.transport.abortConnection()  # type: ignore[union-attr]  # it has one while it is here
