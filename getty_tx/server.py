"""Server: listens on any number of endpoints, and configures each session with one ``newSession``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from getty_tx import settings
from getty_tx.endpoints import serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.session.addresses import formatAddress
from getty_tx.session.context import HANDSHAKE_TIMEOUT, theReactor
from getty_tx.session.refusals import REASONS
from getty_tx.settings import Setting
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set
    from typing import Unpack

    from twisted.internet.interfaces import IAddress, IListeningPort

    from getty_tx.registry.announcing import Announcement
    from getty_tx.registry.interfaces import IRegistration, IRegistry
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.observers import Observer
    from getty_tx.session.session import Session

__all__ = ["Registering", "Server", "announcementOf", "registeringIn"]

log = Logger()


class Registering(TypedDict, total=False):
    """What a service that registers itself takes by name; see :py:class:`Server`."""

    service: str | None
    registry: IRegistry | str | None
    advertise: str | Sequence[str] | None
    weight: int
    zone: str
    meta: Mapping[str, Any] | None
    group: str
    version: str
    leaveTime: float | None
    registerRequired: bool
    registerTimeout: float


def registeringIn(options: dict[str, Any]) -> Registering:
    """Take what is for :py:class:`Registering` out of the arguments of another service."""
    return cast("Registering", {name: options.pop(name) for name in Registering.__annotations__ if name in options})


def announcementOf(endpoints: Sequence[Any], registering: Registering, reactor: Any) -> Announcement | None:
    """
    The announcement of a service with these endpoints; None without ``service``.

    :raise SettingError: a setting is invalid, or the registry cannot register these endpoints.
    """
    unknown = registering.keys() - Registering.__annotations__.keys()
    if unknown:
        raise TypeError(f"there is no argument {', '.join(sorted(unknown))}")
    if registering.get("service") is None:
        return None
    # Imported here, because most services are in no registry.
    from getty_tx.registry.announcing import Announcement

    settings: Any = registering
    return Announcement(endpoints, reactor=reactor, **settings)


class Server(Service):
    """
    Listens on its endpoints while it runs. An IService: for ``twistd``, or started by hand.

    ::

        server = Server(newSession, "tcp:8090", "unix:/run/echo.sock")
        server.startService()
        addresses = await server.whenListening()

    :param newSession: called with each new session to configure it; raises to refuse the connection, with
        :py:exc:`~getty_tx.RefuseRequest` to answer a WebSocket handshake with a status. May be an ``async def``.
    :param endpoints: descriptions (see :py:mod:`getty_tx.endpoints`) or IStreamServerEndpoint objects.
    :param maxSessions: connections above this number are refused and counted; None: no limit.
    :param maxSessionsPerHost: the same for the connections of each IP address. It does not hold for unix sockets and
        behind ``haproxy:``, because the peer's address is not known when the connection is made.
    :param handshakeTimeout: seconds that a TLS or WebSocket handshake may take, the header of ``haproxy:``, and then an
        ``async def newSession``.
    :param drainRate: sessions that are closed a second when it stops; None: all at once. A WebSocket client is told in
        the reason, ``retry=SECONDS``, when to come back, so that not all do at once.
    :param workers: threads for onMessage: a WorkerPool, or a number for ``WorkerPool.keyed``, or a text like that of
        ``--workers``; None: it is called on the reactor's thread. See WorkerPool for their use.
    :param reactor: by default the installed one, looked up when the service starts.
    :param service: the name under which clients find it in the ``registry``; None: it is in none. Each endpoint is
        registered while the server listens, and says that it is leaving before it stops.
    :param registry: an :py:class:`~getty_tx.registry.IRegistry`, which services may share, or a text such as
        ``dir:/run/getty`` or ``etcd:10.0.0.1:2379``; None: that of ``GETTY_REGISTRY``, or a directory of this user.
    :param advertise: what clients dial: a host, or a client's description for each endpoint, in a list if there are
        several; None: the bound interface, or this machine's address on the way to the registry.
    :param weight: its share of the picks, 0 to 1000, 100 by default; ``zone``, ``meta``, ``group`` and ``version`` are
        as in a :py:class:`~getty_tx.registry.Provider`.
    :param leaveTime: seconds from the word that it is leaving to the stop; None: what the registry's followers need.
    :param registerRequired: whether :py:meth:`whenListening` waits until it is registered, and fails if it is not
        within ``registerTimeout``, 10 seconds by default. A server that is not registered serves, and tries again.
    :raise SettingError: a description or a setting is invalid.

    ``maxSessions``, ``maxSessionsPerHost`` and ``handshakeTimeout`` may be changed at any time, and then hold for new
    connections.
    """

    maxSessions: Setting[int | None] = Setting(
        settings.optionalCount, None, "Connections above which new ones are refused; None: no limit."
    )
    maxSessionsPerHost: Setting[int | None] = Setting(
        settings.optionalCount, None, "Connections of one IP address above which new ones are refused; None: no limit."
    )
    handshakeTimeout = Setting(settings.seconds, HANDSHAKE_TIMEOUT, "Seconds that a handshake may take.")
    drainRate: Setting[int | None] = Setting(
        settings.optionalCount, None, "Sessions that are closed a second when it stops; None: all at once."
    )

    def __init__(
        self,
        newSession: Callable[[Session], object],
        *endpoints: str | IStreamServerEndpoint,
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        drainRate: int | None = None,
        workers: WorkerPool | int | str | None = None,
        reactor: Any = None,
        **registering: Unpack[Registering],
    ) -> None:
        if not endpoints:
            raise SettingError("a Server needs at least one endpoint, such as 'tcp:8090'")
        for endpoint in endpoints:
            if isinstance(endpoint, str):
                # To find its errors. The endpoint that is used is made with the reactor, when the service starts.
                serverEndpoint(endpoint, reactor)
            elif not IStreamServerEndpoint.providedBy(endpoint):
                raise SettingError(f"endpoint {endpoint!r} is neither a description nor an IStreamServerEndpoint")
        self._endpoints = endpoints
        self._reactor = reactor
        self._announcement = announcementOf(endpoints, registering, reactor)
        self._workers = WorkerPool.of(workers)
        # The workers were started for this service.
        self._hasWorkers = False
        self._factory = SessionServerFactory(newSession, service=self, reactor=reactor, workers=self._workers)
        self.maxSessions = maxSessions
        self.maxSessionsPerHost = maxSessionsPerHost
        self.handshakeTimeout = handshakeTimeout
        self.drainRate = drainRate
        self._ports: list[IListeningPort] = []
        # Ports that are closing.
        self._ending: list[Deferred[Any]] = []
        # From a start to the end of the next stop; _run identifies this time.
        self._listening = self._stopping = False
        self._run: object = None
        self._outcome: list[IAddress] | Failure | None = None
        # Fires with startService, when the server listens since privilegedStartService.
        self._starting: Deferred[Any] | None = None
        self._waiting: list[Deferred[list[IAddress]]] = []
        self._stopWaiting: list[Deferred[None]] = []

    def settingChanged(self, name: str) -> None:
        setattr(self._factory, name, getattr(self, name))

    def speaks(self, *protocols: bytes) -> None:
        """
        Name the application protocols (ALPN) of the sessions, the preferred one first, as bytes such as ``http/1.1``.

        On ``tls:`` endpoints a client that offers some has to offer one of these. On ``ssl:`` endpoints, and with a
        policy of :py:func:`~getty_tx.tls.serverPolicy` that names none, the first that a client offers is agreed on.
        """
        self._factory.applicationProtocols = protocols

    @property
    def sessions(self) -> Set[Session]:
        """The open sessions."""
        return self._factory.sessions if self._listening else frozenset()

    @property
    def refused(self) -> int:
        """How many connections were refused since the start, for any reason."""
        return sum(self.refusals.values())

    @property
    def refusals(self) -> dict[str, int]:
        """
        How many connections were refused since the start, by reason.

        The reasons are ``maxSessions``, ``maxSessionsPerHost``, ``peers`` (a UDP socket without ``maxSessions`` has
        16384), ``descriptors`` (hardly any is left), ``newSession``, ``handshake`` (of TLS or WebSocket, has failed),
        ``handshakeTimeout`` and ``stopping``. The dictionary contains all of them, also those with 0.
        """
        if not self._listening:
            return dict.fromkeys(REASONS, 0)
        return self._factory.context.refusals.counts.copy()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """
        The descriptions of the endpoints. For an endpoint object it is the ``description``, if there is one, as with
        :py:class:`getty_tx.reactors.Processes`, or else its class and its index.
        """
        named = [each if isinstance(each, str) else getattr(each, "description", None) for each in self._endpoints]
        return tuple(
            name if isinstance(name, str) else f"{type(endpoint).__name__}-{place}"
            for place, (endpoint, name) in enumerate(zip(self._endpoints, named, strict=True))
        )

    @property
    def registrations(self) -> list[IRegistration]:
        """One for each endpoint while it is registered, or tries to be; see :py:class:`getty_tx.registry.Provider`."""
        return [] if self._announcement is None else list(self._announcement.registrations)

    @property
    def announcement(self) -> Announcement | None:
        """What registers it; None without ``service``."""
        return self._announcement

    @property
    def isReady(self) -> bool:
        """True while it listens on all endpoints, and is not stopping."""
        return self._listening and not self._stopping and isinstance(self._outcome, list) and bool(self._ports)

    @property
    def isStopping(self) -> bool:
        """True while it leaves the registry, and while sessions are flushed and closed."""
        return self._stopping

    @property
    def contexts(self) -> list[ServiceContext]:
        """The context of the sessions, in a list; empty while the server is stopped."""
        return [self._factory.context] if self._listening else []

    @property
    def workers(self) -> WorkerPool | None:
        """The threads for onMessage."""
        return self._workers

    def addObserver(self, observer: Observer) -> None:
        """Tell an observer about every session from now on; see :py:class:`getty_tx.Observer`."""
        self._factory.addObserver(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Remove an observer."""
        self._factory.removeObserver(observer)

    def whenListening(self) -> Deferred[list[IAddress]]:
        """Fires with the bound addresses, in the order of the endpoints; fails with the reason of the first failure."""
        waiting: Deferred[list[IAddress]] = Deferred()
        if self._outcome is None or (self._stopping and self.running):
            self._waiting.append(waiting)
        else:
            _fire(waiting, self._outcome)
        return waiting

    def privilegedStartService(self) -> None:
        """Listen while the process may still bind ports below 1024."""
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        """
        Listen. :py:meth:`whenListening` gives the result; a failure is also logged.

        If the server is stopping, it listens again when it has stopped.
        """
        Service.startService(self)
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.callback(None)
        self._listen()

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        self._stopping = False
        run = self._run = object()
        reactor = theReactor(self._reactor)
        self._factory.renew(reactor)
        names = self.endpoints
        self._factory.endpoints.only = names[0] if len(names) == 1 else None
        if self._workers is not None and not self._hasWorkers:
            self._hasWorkers = True
            self._workers.start(reactor)
        attempts: list[Deferred[IAddress]] = []
        for endpoint, name in zip(self._endpoints, names, strict=True):
            attempt = maybeDeferred(self._listenOn, endpoint, reactor)
            attempts.append(
                attempt.addCallbacks(self._listenSucceeded, self._listenFailed, (name, run), {}, (name,), {})
            )
        listening = gatherResults(attempts, consumeErrors=True)
        listening.addCallbacks(self._announce, lambda failure: failure.value.subFailure, (run,))
        listening.addBoth(self._settle, run)

    def _announce(self, addresses: list[IAddress], run: object) -> Any:
        announcement = self._announcement
        if announcement is None or run is not self._run or self._outcome is not None:
            return addresses
        if not self.running:
            # The registry is used with the rights that the process is going to have.
            self._starting = Deferred()
        announced = succeed(None) if self._starting is None else self._starting
        announced.addCallback(lambda _: announcement.announce(addresses))
        return announced.addCallback(lambda _: addresses) if announcement.registerRequired else addresses

    def _listenOn(self, endpoint: str | IStreamServerEndpoint, reactor: Any) -> Deferred[IListeningPort]:
        made = serverEndpoint(endpoint, reactor) if isinstance(endpoint, str) else endpoint
        return made.listen(self._factory)

    def _listenSucceeded(self, port: IListeningPort, endpoint: str, run: object) -> IAddress:
        address: IAddress = port.getHost()
        if run is not self._run or self._outcome is not None:
            # The server was stopped, or another endpoint failed, before this one listened.
            self._stopPort(port)
        else:
            self._ports.append(port)
            self._factory.endpoints.add(address, endpoint)
            log.info("listening on {address} ({endpoint})", address=formatAddress(address), endpoint=endpoint)
        return address

    def _listenFailed(self, failure: Failure, endpoint: object) -> Failure:
        log.error("cannot listen on {endpoint}: {reason}", endpoint=endpoint, reason=failure.getErrorMessage())
        return failure

    def _settle(self, outcome: list[IAddress] | Failure, run: object) -> None:
        """Keep the result of listening until the service is started again, and answer whenListening."""
        if run is not self._run or self._outcome is not None:
            return
        self._outcome = outcome
        if isinstance(outcome, Failure):
            self._stopListening()
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            _fire(deferred, outcome)

    def stopListening(self) -> None:
        """Accept no more connections; the sessions go on until :py:meth:`stopService`."""
        self._stopListening()

    def _stopListening(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            self._stopPort(port)

    def _stopPort(self, port: IListeningPort) -> None:
        ending: Deferred[Any] = maybeDeferred(port.stopListening)
        self._ending.append(ending)
        ending.addErrback(lambda failure: log.failure("a port did not close", failure))
        ending.addCallback(self._ended, ending)

    def _ended(self, _: object, ending: Deferred[Any]) -> None:
        self._ending.remove(ending)

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting, flush and close every session, each within its ``waitTime``.

        :return: fires when the last onClose has returned.
        """
        self.running = False
        if not self._listening:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopWaiting.append(stopped)
        if not self._stopping:
            self._stopping = True
            self._settle(Failure(GettyError("the server was stopped")), self._run)
            self.leave().addCallback(self._close)
        return stopped

    def leave(self) -> Deferred[None]:
        """
        Say in the registry that it is about to stop; it goes on serving. :py:meth:`stopService` does this first.

        :return: fires when clients have had time to go elsewhere; at once if it is in no registry.
        """
        return succeed(None) if self._announcement is None else self._announcement.leave()

    def _close(self, _: object) -> None:
        self._stopListening()
        ended = DeferredList([*self._ending, self._factory.context.closeAll()])
        ended.addCallback(self._stopWorkers).addCallback(self._withdraw).addCallback(self._forget)

    def _withdraw(self, _: object) -> Deferred[None]:
        return succeed(None) if self._announcement is None else self._announcement.withdraw()

    def _stopWorkers(self, _: object) -> Deferred[Any]:
        if not self._hasWorkers:
            return succeed(None)
        assert self._workers is not None
        self._hasWorkers = False
        return self._workers.stop()

    def _forget(self, _: object) -> None:
        self._listening = self._stopping = False
        self._run = self._outcome = self._starting = None
        waiting, self._stopWaiting = self._stopWaiting, []
        if self.running:
            self._listen()
        for deferred in waiting:
            deferred.callback(None)


def _fire(waiting: Deferred[list[IAddress]], outcome: list[IAddress] | Failure) -> None:
    if isinstance(outcome, Failure):
        waiting.errback(outcome)
    else:
        waiting.callback(outcome)
