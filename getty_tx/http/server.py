"""http.Server: an application that is served over HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from getty_tx import server, settings
from getty_tx.errors import SettingError
from getty_tx.http.access import AccessLog
from getty_tx.http.connection import Connection
from getty_tx.http.context import DRAIN_TIME, HTTPContext
from getty_tx.http.handlers import Handler
from getty_tx.http.interfaces import IApplication, IRunningApplication
from getty_tx.session.context import HANDSHAKE_TIMEOUT, theReactor
from getty_tx.session.wrappers import tlsOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
    from twisted.python.failure import Failure

    from getty_tx.http.request import Request
    from getty_tx.session.session import Session

__all__ = ["Server"]

log = Logger()

#: Seconds between two looks at the connections of a server that stops.
_LOOK = 0.02


class Server(Service):
    """
    Serves an application over HTTP while it runs. An IService: for ``twistd``, or started by hand.

    ::

        server = http.Server(router, "tcp:8080", "ssl:8443:privateKey=key.pem:certKey=cert.pem")

    :param application: a :py:class:`~getty_tx.http.Router`, another
        :py:class:`~getty_tx.http.interfaces.IApplication`, or a function of a request.
    :param endpoints: descriptions or endpoints of streams.
    :param accessLog: an :py:class:`~getty_tx.http.AccessLog`, or a function with its parameters that is called after
        each answer; None: there is none.
    :param drainTime: seconds that requests may take when it stops.
    :param maxSessions: as for a :py:class:`~getty_tx.Server`; ``maxSessionsPerHost``, ``handshakeTimeout``,
        ``reactor``, too.
    :param options: the settings of :py:class:`~getty_tx.http.context.HTTPContext`: ``maxBody=1 MiB``,
        ``keepAlive=15``, ``limitConcurrency=None`` and others. And ``service``, ``registry``, ``advertise`` and what
        else a Server takes to register itself.
    :raise SettingError: a description or a setting is invalid.

    :ivar context: what its connections share; its settings may be changed at any time.
    :ivar server: the :py:class:`~getty_tx.Server` with the sessions.
    :ivar startFailure: why the application could not start; None: it could, or is to be started.
    """

    def __init__(
        self,
        application: Any,
        *endpoints: str | IStreamServerEndpoint,
        accessLog: Callable[[Request, int, int, float], object] | None = None,
        drainTime: float = DRAIN_TIME,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        reactor: Any = None,
        **options: Any,
    ) -> None:
        for endpoint in endpoints:
            if isinstance(endpoint, str) and endpoint.startswith(("udp", "ws:", "wss:")):
                raise SettingError(f"{endpoint} is not for HTTP: use tcp:, tls:, unix:, systemd: or haproxy:")
        self.drainTime = settings.seconds("drainTime", drainTime)
        self._reactor = reactor
        if not IApplication.providedBy(application):
            application = Handler(application)
        self._starting: Deferred[None] | None = None
        self.startFailure: Failure | None = None
        self._waiting: list[Deferred[list[IAddress]]] = []
        self._isApplicationOn = False
        registering = server.registeringIn(options)
        self.context = HTTPContext(application, **options)
        self.context.access = accessLog
        self.server = server.Server(
            self.newSession,
            *endpoints,
            maxSessions=maxSessions,
            maxSessionsPerHost=maxSessionsPerHost,
            handshakeTimeout=handshakeTimeout,
            reactor=reactor,
            **registering,
        )
        # Browsers offer it, and a tls: endpoint refuses those with whom it has nothing in common.
        self.server.speaks(*(b"h2", b"http/1.1") if self.context.speaksTwo else (b"http/1.1",))

    def newSession(self, session: Session) -> None:
        """Make the connection of a new session. Override it to set more, such as ``session.writeTimeout``."""
        if self.context.speaksTwo and _hasChosenTwo(session):
            # Loaded with the first such client.
            from getty_tx.http.two.requests import RequestConnection

            RequestConnection(session, self.context)
        else:
            Connection(session, self.context)

    def whenListening(self) -> Deferred[list[IAddress]]:
        """As :py:meth:`getty_tx.Server.whenListening`; fails, too, if the application cannot start."""
        listening: Deferred[list[IAddress]] = Deferred()
        if self.startFailure is not None:
            listening.errback(self.startFailure)
        elif IRunningApplication.providedBy(self.context.application) and not self._isApplicationOn:
            # It starts before the server listens, or is about to.
            self._waiting.append(listening)
        else:
            return self.server.whenListening()
        return listening

    def privilegedStartService(self) -> None:
        """Listen while the process may still bind ports below 1024, unless the application is to start before."""
        Service.privilegedStartService(self)
        if not IRunningApplication.providedBy(self.context.application):
            self.server.privilegedStartService()

    def startService(self) -> None:
        """Start the application, then listen."""
        Service.startService(self)
        application = self.context.application
        if not IRunningApplication.providedBy(application):
            self._listen()
            return
        self.startFailure = None
        starting = application.startApplication(theReactor(self._reactor))
        self._starting = starting
        starting.addCallbacks(self._applicationStarted, self._applicationFailed)

    def _listen(self) -> None:
        self.server.startService()
        # Its sessions share another context after each start, which the first connection may be long in coming to.
        self.server.whenListening().addCallbacks(self._listens, lambda _: None)

    def _listens(self, _: Any) -> None:
        for each in self.server.contexts:
            self.context.countIn(each)

    def _applicationStarted(self, _: Any) -> None:
        self._starting = None
        self._isApplicationOn = True
        waiting, self._waiting = self._waiting, []
        if not self.running:
            for each in waiting:
                each.errback(CancelledError("the server was stopped before its application had started"))
            return
        self._listen()
        for each in waiting:
            self.server.whenListening().chainDeferred(each)

    def _applicationFailed(self, failure: Failure) -> None:
        self._starting = None
        self.startFailure = failure
        log.failure("the application cannot start, so that the server does not listen", failure)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)

    def _stopApplication(self, _: Any) -> Deferred[None] | None:
        if isinstance(self.context.access, AccessLog):
            self.context.access.flush()
        if not self._isApplicationOn:
            return None
        self._isApplicationOn = False
        application: Any = self.context.application
        stopped: Deferred[None] = application.stopApplication()
        return stopped

    def stopService(self) -> Deferred[None]:
        """
        Answer the requests on their way, for ``drainTime`` at most, close all connections, and end the application.

        :return: fires when the last session and the application have ended.
        """
        Service.stopService(self)
        if self._starting is not None:
            stopped: Deferred[None] = Deferred()
            self._starting.addBoth(lambda _: stopped.callback(None))
            stopped.addCallback(lambda _: self.server.stopService())
            return stopped.addCallback(self._stopApplication)
        return self.server.leave().addCallback(self._stopServing).addCallback(self._stopApplication)

    def _stopServing(self, _: object) -> Deferred[Any]:
        if not self.context.connections:
            return self.server.stopService()
        self.server.stopListening()
        reactor = theReactor(self._reactor)
        until = reactor.seconds() + self.drainTime

        def drain() -> None:
            for connection in list(self.context.connections):
                connection.drain()
            if not self.context.connections or reactor.seconds() >= until:
                looking.stop()

        looking = LoopingCall(drain)
        looking.clock = reactor
        return looking.start(_LOOK).addBoth(lambda _: self.server.stopService())


def _hasChosenTwo(session: Session) -> bool:
    """Whether the handshake of TLS has agreed on HTTP/2 (ALPN)."""
    connection: Any = session.connection
    tls = tlsOf(connection.rawTransport)
    return tls is not None and tls.negotiatedProtocol == b"h2"
