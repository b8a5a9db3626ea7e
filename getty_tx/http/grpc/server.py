"""grpc.Server: services of generated code, served over HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.threads import deferToThread

from getty_tx import server, settings
from getty_tx.http.grpc.context import DRAIN_TIME, ServerContext, checkEndpoint
from getty_tx.http.grpc.serverconnection import CallConnection
from getty_tx.http.two.engines import checkEngine
from getty_tx.session.context import HANDSHAKE_TIMEOUT, theReactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IAddress, IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["Server"]


class Server(Service):
    """
    Serves services of generated code while it runs. An IService: for ``twistd``, or started by hand.

    ::

        server = grpc.Server("tcp:50051", "ssl:50052:privateKey=key.pem:certKey=cert.pem")
        add_GreeterServicer_to_server(Greeter(), server)

    A handler is an ``async def``, with yield or without, which may await Deferreds and what asyncio has; or a ``def``,
    which has to be quick, as it runs in the reactor's thread, unless the server has ``workers``.

    :param endpoints: descriptions or endpoints of streams.
    :param drainTime: seconds that calls may take when it stops; clients are told to go elsewhere before.
    :param maxSessions: as for a :py:class:`~getty_tx.Server`; ``maxSessionsPerHost``, ``handshakeTimeout``,
        ``reactor``, too.
    :param options: the settings of :py:class:`~getty_tx.http.grpc.context.ServerContext`: ``maxReceived=4 MiB``,
        ``maxStreams=100``, ``maxCalls=None``, ``workers=None``, ``compression=None`` and others. And ``service``,
        ``registry``, ``advertise`` and what else a Server takes to register itself.
    :raise SettingError: a description or a setting is invalid, or the extra ``getty_tx[http2]`` is not installed.

    :ivar context: what its calls share; its settings may be changed at any time.
    :ivar server: the :py:class:`~getty_tx.Server` with the sessions.
    :ivar onStop: called without arguments when it begins to stop, or its sub-reactor does, while all calls still run.
    """

    def __init__(
        self,
        *endpoints: str | IStreamServerEndpoint,
        drainTime: float = DRAIN_TIME,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        reactor: Any = None,
        **options: Any,
    ) -> None:
        checkEngine()
        for endpoint in endpoints:
            checkEndpoint(endpoint)
        self.drainTime = settings.seconds("drainTime", drainTime)
        self._reactor = reactor
        registering = server.registeringIn(options)
        self.context = ServerContext(reactor, **options)
        self.server = server.Server(
            self.newSession,
            *endpoints,
            maxSessions=maxSessions,
            maxSessionsPerHost=maxSessionsPerHost,
            handshakeTimeout=handshakeTimeout,
            reactor=reactor,
            **registering,
        )
        self.onStop: list[Callable[[], object]] = []
        self._isLeaving = False
        # Clients of gRPC insist on it.
        self.server.speaks(b"h2")

    # What generated code calls

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """
        For generated code, as ``grpc.Server`` has it: the methods of a service by name.

        :raise SettingError: one is none.
        """
        self.context.methods.addRegistered(service, handlers)

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """For generated code, as ``grpc.Server`` has it: what is asked for methods that are not registered."""
        self.context.methods.generic += handlers

    def wrap(self, wrapper: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        """
        Call ``wrapper(name, handler)`` for each method, and what it returns in place of the method.

        ``name`` is ``package.Service/Method``; the handler is called with the request, or an iterator of requests, and
        the context. The first wrapper is the outermost. It is called once for each method, now or when it is added.
        """
        self.context.methods.wrap(wrapper)

    def newSession(self, session: Session) -> None:
        """Make the connection of a new session. Override it to set more, such as ``session.writeTimeout``."""
        CallConnection(session, self.context)

    # Running

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
        self._isLeaving = False
        context = self.context
        if context.workers is not None and context.threads is None:
            from getty_tx.http.grpc.threads import Threads

            context.threads = Threads(theReactor(self._reactor), context.workers)
        self.server.startService()
        # Its sessions share another context after each start.
        self.server.whenListening().addCallbacks(self._listens, lambda _: None)

    def _listens(self, _: Any) -> None:
        for each in self.server.contexts:
            self.context.countIn(each)
            each.onDrain.append(self._leave)

    def _leave(self) -> None:
        """The server begins to stop, or its process has begun before it."""
        if not self._isLeaving:
            self._isLeaving = True
            for each in self.onStop:
                each()

    def stopService(self) -> Deferred[None]:
        """
        Tell all clients to go elsewhere, serve the calls on their way for ``drainTime`` at most, and close.

        :return: fires when the last session has ended.
        """
        Service.stopService(self)
        self._leave()
        return self.server.leave().addCallback(self._drain).addCallback(self._stopThreads)

    def _drain(self, _: object) -> Deferred[Any]:
        if not self.context.connections:
            return self.server.stopService()
        self.server.stopListening()
        return self.context.drain(self.drainTime).addBoth(lambda _: self.server.stopService())

    def _stopThreads(self, _: object) -> Deferred[None] | None:
        threads, self.context.threads = self.context.threads, None
        # Handlers that run still are waited for in a thread: what they say last goes through the reactor.
        return None if threads is None else deferToThread(threads.stop)
