"""rpc.Server: services that are called over the sessions of a Server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from getty_tx import server, settings
from getty_tx.errors import SettingError
from getty_tx.rpc.context import DRAIN_TIME, CallContext, checkEndpoint
from getty_tx.rpc.interfaces import IServing
from getty_tx.rpc.peer import Peer
from getty_tx.rpc.wires import TTHeader
from getty_tx.session.context import HANDSHAKE_TIMEOUT, theReactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IAddress, IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["Server", "servingOf"]


def servingOf(context: CallContext, reactor: Any) -> IServing:
    """What a wire has for the sessions of a Server: connections of its own, or peers."""
    makes = getattr(context.wire, "serving", Peers)
    return makes(context, reactor)


@implementer(IServing)
class Peers:
    """
    A peer for each session, where the wire makes no connections itself.

    :param context: what they share.
    """

    protocols: tuple[bytes, ...] = ()

    def __init__(self, context: CallContext, reactor: Any) -> None:
        self._context = context
        self._reactor = reactor

    def checkEndpoint(self, endpoint: Any) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        checkEndpoint(endpoint)

    def newSession(self, session: Session) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        Peer(session, self._context)

    def drain(self, seconds: float) -> Deferred[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IServing`."""
        drained = gatherResults([peer.drain() for peer in self._context.peers], consumeErrors=True)
        drained.addTimeout(seconds, theReactor(self._reactor))
        return drained


class Server(Service):
    """
    Serves calls while it runs. An IService: for ``twistd``, or started by hand.

    ::

        server = rpc.Server("tcp:8090", {"Echo": Echo()})

    :param endpoint: a description or an endpoint, or a list of them, as for a :py:class:`~getty_tx.Server`.
    :param services: objects with ``@rpc.method`` by name.
    :param wire: how calls look on the network; with ``rpc.Grpc()`` clients of gRPC make them.
    :param drainTime: seconds that calls may take when it stops; the callers are asked for no new ones.
    :param maxSessions: as for a Server; ``maxSessionsPerHost``, ``handshakeTimeout``, ``reactor``, too.
    :param options: the settings of :py:class:`~getty_tx.rpc.context.CallContext`: ``maxCalls=1000``,
        ``maxCallsPerSession=100``, ``maxTimeout=None``, ``maxMsgLen=4 MiB``, ``pingInterval=15`` and others. And
        ``service``, ``registry``, ``advertise`` and what else a Server takes to register itself.
    :raise SettingError: a description, a service or a setting is invalid.

    :ivar context: what its peers share; its settings may be changed at any time.
    :ivar server: the :py:class:`~getty_tx.Server` with the sessions.
    """

    def __init__(
        self,
        endpoint: str | IStreamServerEndpoint | list[str | IStreamServerEndpoint],
        services: Mapping[str, object],
        *,
        wire: Any = None,
        drainTime: float = DRAIN_TIME,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        reactor: Any = None,
        **options: Any,
    ) -> None:
        if not services:
            raise SettingError("an rpc.Server needs at least one service, such as {'Echo': Echo()}")
        self.drainTime = settings.seconds("drainTime", drainTime)
        self._services = dict(services)
        self._wrappers: list[Any] = []
        self._reactor = reactor
        registering = server.registeringIn(options)
        self.context = CallContext(TTHeader() if wire is None else wire, services, **options)
        complete = getattr(wire, "registering", None)
        if complete is not None and registering.get("service") is not None:
            registering = complete(registering, self.context.handlers)
        endpoints = endpoint if isinstance(endpoint, list) else [endpoint]
        self._serving = servingOf(self.context, reactor)
        for each in endpoints:
            self._serving.checkEndpoint(each)
        self.server = server.Server(
            self.newSession,
            *endpoints,
            maxSessions=maxSessions,
            maxSessionsPerHost=maxSessionsPerHost,
            handshakeTimeout=handshakeTimeout,
            reactor=reactor,
            **registering,
        )
        if self._serving.protocols:
            self.server.speaks(*self._serving.protocols)

    def wrap(self, wrapper: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        """
        Call ``wrapper(name, handler)`` for each method, and what it returns in place of the method.

        The first wrapper is the outermost. It is called now, once for each method.
        """
        self._wrappers.append(wrapper)
        self.context.use(self._services, self._wrappers)

    def newSession(self, session: Session) -> None:
        """Make the peer of a new session. Override it to set more, such as ``session.compression``."""
        self._serving.newSession(session)

    def whenListening(self) -> Deferred[list[IAddress]]:
        """As :py:meth:`getty_tx.Server.whenListening`."""
        return self.server.whenListening()

    def privilegedStartService(self) -> None:
        """Listen while the process may still bind ports below 1024."""
        Service.privilegedStartService(self)
        self.server.privilegedStartService()

    def startService(self) -> None:
        """Listen."""
        Service.startService(self)
        self.server.startService()

    def stopService(self) -> Deferred[None]:
        """
        Ask all callers for no new calls, serve those on their way for ``drainTime`` at most, and close all sessions.

        :return: fires when the last session has ended.
        """
        Service.stopService(self)
        return self.server.leave().addCallback(self._drain)

    def _drain(self, _: object) -> Deferred[Any]:
        if not self.server.sessions:
            return self.server.stopService()
        self.server.stopListening()
        drained: Deferred[Any] = self._serving.drain(self.drainTime)
        return drained.addBoth(lambda _: self.server.stopService())
