"""Connections to the endpoints: with TLS or without, kept for later requests, ended when there is no answer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IProtocolFactory
    from twisted.web.client import URI
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse

__all__ = ["Connections", "Endpoint"]

#: Seconds of silence after which the kernel asks whether the other machine is there, seconds between its questions,
#: and how many of them: a watch may be silent for hours, so one whose network is gone is found after half a minute.
KEEP_ALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


#: Connections that are kept for later requests, as many as a registry writes records at a time, and for how many
#: seconds.
MAX_KEPT, KEPT_TIME = 64, 30


class Endpoint:
    """
    Where one etcd is.

    :param policy: TLS; None: without.
    :ivar address: ``host:port``, for texts and URLs.
    :raise SettingError: there can be no such host or port.
    """

    __slots__ = ("address", "host", "policy", "port", "url")

    def __init__(self, host: str, port: int, policy: IOpenSSLClientConnectionCreator | None) -> None:
        if not isinstance(host, str) or not host.isascii() or not host.isprintable() or set(host) & set("/@[]?# "):
            raise SettingError(f"endpoints: {host!r} is no host name or address")
        if not host or isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
            raise SettingError(f"endpoints: {host!r}, {port!r} is no host with a port from 1 to 65535")
        self.host, self.port, self.policy = host, port, policy
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.url = f"{'http' if policy is None else 'https'}://{self.address}".encode()


@implementer(IAgentEndpointFactory)
class Connections:
    """
    The connections of one engine.

    :param connectTimeout: seconds that connecting may take.
    """

    def __init__(self, reactor: Any, endpoints: Sequence[Endpoint], connectTimeout: float) -> None:
        self._reactor = reactor
        self._timeout = connectTimeout
        self._endpoints = {each.address.encode(): each for each in endpoints}
        self._open: dict[Endpoint, WeakSet[Any]] = {each: WeakSet() for each in endpoints}
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = MAX_KEPT
        self._pool.cachedConnectionTimeout = KEPT_TIME
        self._agent = Agent.usingEndpointFactory(reactor, self, self._pool)

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """As that of twisted.web's Agent."""
        response: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return response

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Where to connect. Called by the Agent."""
        endpoint = self._endpoints[uri.netloc]
        host = HostnameEndpoint(self._reactor, endpoint.host, endpoint.port, timeout=self._timeout)
        kept = _Kept(host, self._open[endpoint].add)
        return _Quiet(kept if endpoint.policy is None else wrapClientTLS(endpoint.policy, kept))

    def drop(self, endpoint: Endpoint) -> None:
        """End all connections to an endpoint, at once."""
        for transport in list(self._open[endpoint]):
            transport.abortConnection()

    def close(self) -> Deferred[None]:
        """End all connections; fires when those are closed that were kept for later."""
        for endpoint in self._open:
            self.drop(endpoint)
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


@implementer(IStreamClientEndpoint)
class _Quiet:
    """An endpoint that logs no lines for each connection, of which there are many while etcd is away."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect."""
        protocolFactory.noisy = False
        connected: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connected


@implementer(IStreamClientEndpoint)
class _Kept:
    """An endpoint whose transports are remembered. TLS goes around it."""

    def __init__(self, endpoint: IStreamClientEndpoint, remember: Callable[[Any], None]) -> None:
        self._endpoint = endpoint
        self._remember = remember

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect."""
        connected: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connected.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        transport = protocol.transport
        self._remember(transport)
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        for name, value in KEEP_ALIVE:
            if hasattr(socket, name):
                transport.getHandle().setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return protocol
