"""StatusService: the web service that shows the status of Servers, Clients and Processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger

from getty_tx.client import Client
from getty_tx.endpoints import carriesStream, isLocal, serverEndpoint
from getty_tx.errors import SettingError
from getty_tx.processes.service import Processes
from getty_tx.server import Server
from getty_tx.session.addresses import formatAddress
from getty_tx.session.context import theReactor
from getty_tx.status.aggregate import AggregateSource, MemberReports
from getty_tx.status.feed import Feed
from getty_tx.status.lasterrors import LastErrors
from getty_tx.status.port import StatusPortFactory
from getty_tx.status.resources import Access, statusSite
from getty_tx.status.source import ProcessSource, namesOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IListeningPort
    from twisted.python.failure import Failure

__all__ = ["DEFAULT_STATUS", "StatusService", "checkStatus"]

log = Logger()

#: The default endpoint; loopback only.
DEFAULT_STATUS = "tcp:8092:interface=127.0.0.1"


def checkStatus(endpoint: str | IStreamServerEndpoint, token: str | None) -> bool:
    """
    Check the endpoint and the token of a status.

    :return: whether only programs on this machine can reach the endpoint.
    :raise SettingError: one of them is invalid, or a token is missing, or prometheus_client is not installed.
    """
    if isinstance(endpoint, str):
        serverEndpoint(endpoint, None)
        if not carriesStream(endpoint):
            raise SettingError(f"{endpoint} carries messages: the status needs tcp:, ssl:, tls: or unix:")
    elif not IStreamServerEndpoint.providedBy(endpoint):
        raise SettingError(f"endpoint {endpoint!r} is neither a description nor an IStreamServerEndpoint")
    if token is not None and (not isinstance(token, str) or not token.isascii() or not token or " " in token):
        raise SettingError("the token of the status must be ASCII text without blanks")
    local = isinstance(endpoint, str) and isLocal(endpoint)
    if not local and token is None:
        raise SettingError(
            f"{endpoint} may be reached from other machines: give a token (--status-token), or a loopback address"
            " (--status tcp:8092:interface=127.0.0.1)"
        )
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise SettingError("the status needs prometheus_client: pip install 'getty_tx[status]'") from error
    return local


class StatusService(Service):
    """
    A web service with ``/`` (a live page), ``/metrics``, ``/health/live``, ``/health/ready`` and ``/sessions``.

    ::

        StatusService(server, endpoint="tcp:8092:interface=127.0.0.1").setServiceParent(application)

    It reads counters that sessions have in any case, so a message costs the same with and without a status. When its
    services are stopped together with it, it answers until their sessions are flushed; ``/health/ready`` answers 503
    during that time.

    :param services: Servers and Clients; each is shown by its ``name``, or by its kind and number. One of them may be
        a :py:class:`getty_tx.reactors.Processes` that was not started yet: then the status shows the Servers and
        Clients of all sub-reactors. Refusals of the main process are added to the service that has its ``name``.
    :param endpoint: where to listen; unless it is a loopback address or a unix socket, all requests except the health
        need the token.
    :param token: the secret that closing a session needs; None: sessions cannot be closed.
    :param reactor: by default the installed one, looked up when the service starts.
    :raise SettingError: an argument is invalid or missing.
    """

    def __init__(
        self,
        *services: Server | Client | Processes,
        endpoint: str | IStreamServerEndpoint = DEFAULT_STATUS,
        token: str | None = None,
        reactor: Any = None,
    ) -> None:
        if not services or not all(isinstance(service, Server | Client | Processes) for service in services):
            raise SettingError(f"a StatusService needs Servers, Clients or a Processes, not {services!r:.100}")
        many = [service for service in services if isinstance(service, Processes)]
        if len(many) > 1 or any(service.running or service.questions is not None for service in many):
            raise SettingError("a StatusService takes one Processes, which is not running and has no other status")
        self._access = Access(token, checkStatus(endpoint, token))
        self._endpoint = endpoint
        self._reactor = reactor
        self._services = services
        self._port: IListeningPort | None = None
        self._source: ProcessSource | AggregateSource | None = None
        self._feed: Feed | None = None
        self._factory: StatusPortFactory | None = None
        self._errors = LastErrors(self._nameOf, time.time)
        self._reports = MemberReports(many[0]) if many else None
        self._waiters: list[Deferred[IAddress]] = []
        self._outcome: IAddress | Failure | None = None

    def _nameOf(self, service: Any) -> str:
        return next((name for name, each in namesOf(self._services).items() if each is service), "")

    def whenListening(self) -> Deferred[IAddress]:
        """Fires with the bound address, or fails with the error of listening."""
        waiter: Deferred[IAddress] = Deferred()
        if self._outcome is None:
            self._waiters.append(waiter)
        else:
            waiter.callback(self._outcome)
        return waiter

    def startService(self) -> None:
        """Listen; :py:meth:`whenListening` reports the result."""
        Service.startService(self)
        if self._source is not None:
            return
        reactor = theReactor(self._reactor)
        endpoint = serverEndpoint(self._endpoint, reactor) if isinstance(self._endpoint, str) else self._endpoint
        source = self._source = self._makeSource(reactor)
        self._feed = Feed(source, self._access, self._errors, reactor)
        self._factory = StatusPortFactory(
            statusSite(source, self._access, reactor), self._feed.factory, self._access, reactor
        )
        for service in self._services:
            service.addObserver(self._errors)
        source.start()
        maybeDeferred(endpoint.listen, self._factory).addCallbacks(
            self._listening, self._listenFailed, (source,), {}, (source,), {}
        )

    def _makeSource(self, reactor: Any) -> ProcessSource | AggregateSource:
        services = namesOf(self._services)
        if self._reports is None:
            return ProcessSource(services, reactor)
        [(name, processes)] = [each for each in services.items() if isinstance(each[1], Processes)]
        del services[name]
        return AggregateSource(name, processes, self._reports, services, reactor)

    def _listening(self, port: IListeningPort, source: ProcessSource) -> None:
        if source is not self._source:
            maybeDeferred(port.stopListening).addErrback(lambda failure: log.failure("a port did not close", failure))
            return
        self._port = port
        address: IAddress = port.getHost()
        where = formatAddress(address)
        log.info("status on {url} ({endpoint})", url=f"http://{where}/", endpoint=self._endpoint, address=where)
        self._settle(address)

    def _listenFailed(self, failure: Failure, source: ProcessSource) -> None:
        log.error("cannot show the status on {endpoint}: {reason}", endpoint=self._endpoint,
                  reason=failure.getErrorMessage())  # fmt: skip
        if source is self._source:
            self._settle(failure)

    def _settle(self, outcome: IAddress | Failure) -> None:
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(outcome)

    def stopService(self) -> Deferred[None]:
        """Wait for the services that are stopping, then stop listening; fires when the last page is closed."""
        Service.stopService(self)
        source = self._source
        if source is None:
            return succeed(None)
        # In the next iteration, services that are stopped together with this one are stopping.
        return deferLater(theReactor(self._reactor), 0, self._whenDrained).addCallback(lambda _: self._stop(source))

    def _whenDrained(self) -> Deferred[None]:
        idle: list[Deferred[Any]] = []
        for service in self._services:
            if isinstance(service, Processes):
                idle.append(service.whenStopped())
            elif service.isStopping:
                idle += [context.whenIdle() for context in service.contexts]
        return gatherResults(idle).addCallback(lambda _: None)

    def _stop(self, source: ProcessSource | AggregateSource) -> Deferred[None]:
        if source is not self._source or self.running:
            # stopService was called twice, or the service has been started again.
            return succeed(None)
        feed, factory, port = self._feed, self._factory, self._port
        assert feed is not None and factory is not None
        self._source = self._feed = self._factory = self._port = self._outcome = None
        for service in self._services:
            service.removeObserver(self._errors)
        source.stop()
        closing: Deferred[Any] = succeed(None) if port is None else maybeDeferred(port.stopListening)
        closing.addErrback(lambda failure: log.failure("a port did not close", failure))
        closing.addCallback(lambda _: feed.stop())
        return closing.addCallback(lambda _: factory.closeAll())
