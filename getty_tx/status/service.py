"""StatusService: what an operator looks at, beside the services that it tells of."""

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
from getty_tx.status.aggregate import ProcessesSource, Told
from getty_tx.status.feed import Feed
from getty_tx.status.lasterrors import LastErrors
from getty_tx.status.port import Door
from getty_tx.status.resources import Access, statusSite
from getty_tx.status.source import ProcessSource, namesOf

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IListeningPort
    from twisted.python.failure import Failure

__all__ = ["DEFAULT_STATUS", "StatusService", "checkStatus"]

log = Logger()

#: Where it listens unless told otherwise: for this machine alone.
DEFAULT_STATUS = "tcp:8092:interface=127.0.0.1"


def checkStatus(endpoint: str | IStreamServerEndpoint, token: str | None) -> bool:
    """
    See whether the status may be shown there.

    :return: whether only programs of this machine come there.
    :raise SettingError: it may not; or prometheus_client is not installed.
    """
    if isinstance(endpoint, str):
        serverEndpoint(endpoint, None)
        if not carriesStream(endpoint):
            raise SettingError(f"{endpoint} is for messages: the status needs tcp:, ssl:, tls: or unix:")
    elif not IStreamServerEndpoint.providedBy(endpoint):
        raise SettingError(f"endpoint {endpoint!r} is neither a description nor an IStreamServerEndpoint")
    if token is not None and (not isinstance(token, str) or not token.isascii() or not token or " " in token):
        raise SettingError("the token of the status is no ASCII text without blanks")
    local = isinstance(endpoint, str) and isLocal(endpoint)
    if not local and token is None:
        raise SettingError(
            f"{endpoint} is reached from elsewhere, as far as can be seen: give a token (--status-token), or a loopback"
            " address (--status tcp:8092:interface=127.0.0.1)"
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

    It reads what sessions count anyway, so that a message costs the same with it and without. When its services are
    stopped together with it, it answers until their sessions are flushed, and ``/health/ready`` says 503 meanwhile.

    :param services: Servers and Clients; each is shown by its ``name``, or by its kind and number. One of them may be
        a :py:class:`getty_tx.reactors.Processes` that was not started yet: then it is about the Servers and Clients of
        all sub-reactors. What the main process refuses is shown as the refusals of the one that has its ``name``.
    :param endpoint: where to listen; on anything but a loopback address or a unix socket everything but the health
        takes the token.
    :param token: what closing a session takes; None: none can be closed.
    :param reactor: by default the installed one, looked up when the service starts.
    :raise SettingError: something is missing, or cannot be.
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
        self._source: ProcessSource | ProcessesSource | None = None
        self._feed: Feed | None = None
        self._door: Door | None = None
        self._errors = LastErrors(self._nameOf, time.time)
        self._told = Told(many[0]) if many else None
        self._listening: Deferred[IAddress] | None = None
        self._waiting: list[Deferred[IAddress]] = []
        self._outcome: IAddress | Failure | None = None

    def _nameOf(self, service: Any) -> str:
        return next((name for name, each in namesOf(self._services).items() if each is service), "")

    def whenListening(self) -> Deferred[IAddress]:
        """Fires with the bound address, or fails with the reason for which there is none."""
        waiting: Deferred[IAddress] = Deferred()
        if self._outcome is None:
            self._waiting.append(waiting)
        else:
            waiting.callback(self._outcome)
        return waiting

    def startService(self) -> None:
        """Listen; :py:meth:`whenListening` tells how it went."""
        Service.startService(self)
        if self._source is not None:
            return
        reactor = theReactor(self._reactor)
        endpoint = serverEndpoint(self._endpoint, reactor) if isinstance(self._endpoint, str) else self._endpoint
        source = self._source = self._makeSource(reactor)
        self._feed = Feed(source, self._access, self._errors, reactor)
        self._door = Door(statusSite(source, self._access, reactor), self._feed.factory, self._access, reactor)
        for service in self._services:
            service.addObserver(self._errors)
        source.start()
        maybeDeferred(endpoint.listen, self._door).addCallbacks(
            self._listens, self._listensNot, (source,), {}, (source,), {}
        )

    def _makeSource(self, reactor: Any) -> ProcessSource | ProcessesSource:
        services = namesOf(self._services)
        if self._told is None:
            return ProcessSource(services, reactor)
        [(name, processes)] = [each for each in services.items() if isinstance(each[1], Processes)]
        del services[name]
        return ProcessesSource(name, processes, self._told, services, reactor)

    def _listens(self, port: IListeningPort, source: ProcessSource) -> None:
        if source is not self._source:
            maybeDeferred(port.stopListening).addErrback(lambda failure: log.failure("a port did not close", failure))
            return
        self._port = port
        address: IAddress = port.getHost()
        where = formatAddress(address)
        log.info("status on {url} ({endpoint})", url=f"http://{where}/", endpoint=self._endpoint, address=where)
        self._settle(address)

    def _listensNot(self, failure: Failure, source: ProcessSource) -> None:
        log.error("cannot show the status on {endpoint}: {reason}", endpoint=self._endpoint,
                  reason=failure.getErrorMessage())  # fmt: skip
        if source is self._source:
            self._settle(failure)

    def _settle(self, outcome: IAddress | Failure) -> None:
        self._outcome = outcome
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(outcome)

    def stopService(self) -> Deferred[None]:
        """Listen no more, once the services that are stopping have stopped; fires when the last page is gone."""
        Service.stopService(self)
        source = self._source
        if source is None:
            return succeed(None)
        # A turn later those that are stopped together with this one have begun to.
        return deferLater(theReactor(self._reactor), 0, self._whenDrained).addCallback(lambda _: self._stop(source))

    def _whenDrained(self) -> Deferred[None]:
        idle: list[Deferred[Any]] = []
        for service in self._services:
            if isinstance(service, Processes):
                idle.append(service.whenStopped())
            elif service.isStopping:
                idle += [context.whenIdle() for context in service.contexts]
        return gatherResults(idle).addCallback(lambda _: None)

    def _stop(self, source: ProcessSource | ProcessesSource) -> Deferred[None]:
        if source is not self._source or self.running:
            # Stopped twice, or started again meanwhile.
            return succeed(None)
        feed, door, port = self._feed, self._door, self._port
        assert feed is not None and door is not None
        self._source = self._feed = self._door = self._port = self._outcome = None
        for service in self._services:
            service.removeObserver(self._errors)
        source.stop()
        closing: Deferred[Any] = succeed(None) if port is None else maybeDeferred(port.stopListening)
        closing.addErrback(lambda failure: log.failure("a port did not close", failure))
        closing.addCallback(lambda _: feed.stop())
        return closing.addCallback(lambda _: door.closeAll())
