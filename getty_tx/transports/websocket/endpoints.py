"""
Endpoints for WebSocket sessions, over any stream endpoint.

They take the factories of sessions: ``listen`` makes one for WebSocket that shares the sessions of the factory given,
``connect`` has it build the protocol for WebSocket. Any other factory gets its byte stream over binary messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from zope.interface import implementer

from getty_tx.transports.connector import isAttempt
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.websocket import WebSocketSessionProtocol, WebSocketSessionServerFactory
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

    :param below: the endpoint whose connections they are.
    :param options: paths, origins, subprotocols and compression.
    """

    def __init__(self, below: IStreamServerEndpoint, options: UpgradeOptions) -> None:
        self.below = below
        self.options = options

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """Listen, with a session or a byte stream for each connection as the factory says."""
        if not isinstance(protocolFactory, SessionServerFactory):
            protocolFactory = serverTunnel(protocolFactory)
        factory = WebSocketSessionServerFactory.sharing(protocolFactory, self.options)
        return self.below.listen(factory)


@implementer(IStreamClientEndpoint)
class WebSocketClientEndpoint:
    """
    Dials for a WebSocket connection.

    :param below: the endpoint that is dialed.
    :param options: path, host, origin, subprotocols and compression.
    """

    def __init__(self, below: IStreamClientEndpoint, options: UpgradeOptions) -> None:
        self.below = below
        self.options = options

    def sessionProtocol(self) -> WebSocketSessionProtocol:
        """What a SessionClientFactory builds for a connection over this endpoint."""
        return WebSocketSessionProtocol(self.options)

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        """Dial; the connection is made before the WebSocket handshake is."""
        if isinstance(protocolFactory, SessionClientFactory):
            protocolFactory.protocol = self.sessionProtocol
        elif not isAttempt(protocolFactory):
            protocolFactory = clientTunnel(protocolFactory, self.sessionProtocol)
        connecting: Deferred[Any] = self.below.connect(protocolFactory)
        return connecting
