"""
Endpoints for WebSocket sessions, over any stream endpoint.

With a factory of sessions, ``listen`` makes a factory for WebSocket that shares its sessions, and ``connect`` makes it
build the protocol for WebSocket. Any other factory gets a byte stream over binary messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from zope.interface import implementer

from getty_tx.transports.connector import isAttempt
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.websocket.protocol import WebSocketSessionProtocol, WebSocketSessionServerFactory
from getty_tx.transports.websocket.tunnel import clientTunnel, serverTunnel

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IProtocol

    from getty_tx.transports.websocket.request import UpgradeOptions

__all__ = ["WebSocketClientEndpoint", "WebSocketServerEndpoint"]


@implementer(IStreamServerEndpoint)
class WebSocketServerEndpoint:
    """
    Listens for WebSocket connections.

    :param below: the stream endpoint that listens.
    :param options: paths, origins, subprotocols and compression.
    """

    def __init__(self, below: IStreamServerEndpoint, options: UpgradeOptions) -> None:
        self.below = below
        self.options = options

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Listen. Each connection gets a session or a byte stream, depending on the factory."""
        if not isinstance(protocolFactory, SessionServerFactory):
            protocolFactory = serverTunnel(protocolFactory)
        factory = WebSocketSessionServerFactory.sharing(protocolFactory, self.options)
        return self.below.listen(factory)


@implementer(IStreamClientEndpoint)
class WebSocketClientEndpoint:
    """
    Connects to a WebSocket server.

    :param below: the stream endpoint that connects.
    :param options: path, host, origin, subprotocols and compression.
    """

    def __init__(self, below: IStreamClientEndpoint, options: UpgradeOptions) -> None:
        self.below = below
        self.options = options

    def sessionProtocol(self) -> WebSocketSessionProtocol:
        """The protocol that a SessionClientFactory builds for a connection of this endpoint."""
        return WebSocketSessionProtocol(self.options)

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """Connect. The protocol's connectionMade is called before the WebSocket handshake."""
        if isinstance(protocolFactory, SessionClientFactory):
            protocolFactory.protocol = self.sessionProtocol
        elif not isAttempt(protocolFactory):
            protocolFactory = clientTunnel(protocolFactory, self.sessionProtocol)
        connecting: Deferred[Any] = self.below.connect(protocolFactory)
        return connecting
