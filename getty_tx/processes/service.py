"""
``Processes``, the IService: a program with a main process that accepts connections, and sub-reactors that serve them.

::

    # mypkg/app.py
    def makeService(endpoints):
        return Server(newSession, *endpoints)

    # app.tac
    from getty_tx.reactors import Processes

    application = Application("app")
    Processes("mypkg.app:makeService", "tcp:8090").setServiceParent(application)

``makeService`` runs in each sub-reactor, which is a separate process with a fresh interpreter. It returns an IService,
which may contain more than a Server, such as a Client that connects on the same reactor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from getty_tx import settings
from getty_tx.endpoints import listensWith, serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.processes.balance import REUSE_PORT, checkBalance
from getty_tx.processes.main import MainProcess, ProcessesConfig
from getty_tx.processes.totals import addUp, refusalsIn, statsIn
from getty_tx.server import announcementOf
from getty_tx.session.context import theReactor
from getty_tx.session.observers import Observers
from getty_tx.session.refusals import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.member import Member
    from getty_tx.processes.queries import Queries
    from getty_tx.registry.announcing import Announcement
    from getty_tx.registry.interfaces import IRegistration
    from getty_tx.server import Registering
    from getty_tx.session.observers import Observer
    from getty_tx.session.refusals import Reason

__all__ = ["DRAIN_TIMEOUT", "HEARTBEAT_TIMEOUT", "Processes"]

#: Seconds that a sub-reactor may take to end.
DRAIN_TIMEOUT = 10.0

#: Seconds without a heartbeat after which a sub-reactor is killed.
HEARTBEAT_TIMEOUT = 10.0


class Processes(Service):
    """
    Serves with several processes. An IService: for ``twistd``, or started by a program.

    While it runs, SIGHUP calls :py:meth:`reload`, unless the program handles or ignores the signal.

    :param target: ``module:attribute`` of a callable. Each sub-reactor calls it with a list of endpoints for a Server,
        and with the ``arguments``; it returns an IService.
    :param endpoints: descriptions, see :py:mod:`getty_tx.endpoints`.
    :param processes: the number of sub-reactors; 0: one for each core that this process may use.
    :param balance: one of :py:data:`getty_tx.processes.balance.BALANCES`.
    :param maxSessions: connections above this number, in all processes together, are refused; None: no limit.
    :param maxSessionsPerHost: the same for the connections of each IP address.
    :param drainTimeout: seconds that a sub-reactor may take to end, in which its sessions are flushed and closed.
    :param heartbeatTimeout: seconds without a heartbeat after which a sub-reactor is killed and replaced.
    :param arguments: further arguments for the target, strings.
    :param reactor: by default the installed one, looked up when the service starts.
    :param registering: ``service``, ``registry``, ``advertise`` and what else a :py:class:`~getty_tx.Server` takes to
        register itself. The main process does it, once, when all sub-reactors are ready; the services in these do not.
    :raise SettingError: a description or a setting is not valid.

    :ivar count: the number of sub-reactors.
    :ivar endpoints: their descriptions.
    """

    def __init__(
        self,
        target: str,
        *endpoints: str,
        processes: int = 0,
        balance: str = "round-robin",
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        drainTimeout: float = DRAIN_TIMEOUT,
        heartbeatTimeout: float = HEARTBEAT_TIMEOUT,
        arguments: Sequence[str] = (),
        reactor: Any = None,
        **registering: Unpack[Registering],
    ) -> None:
        if ":" not in target:
            raise SettingError(f"target={target!r} is not module:attribute, such as mypkg.app:makeService")
        if not endpoints:
            raise SettingError("Processes needs at least one endpoint, such as 'tcp:8090'")
        self.endpoints = endpoints
        self.count = settings.count("processes", processes) if processes else _cores()
        self._config = ProcessesConfig(
            target,
            list(arguments),
            endpoints,
            self.count,
            checkBalance(balance),
            settings.optionalCount("maxSessions", maxSessions),
            settings.optionalCount("maxSessionsPerHost", maxSessionsPerHost),
            settings.seconds("drainTimeout", drainTimeout),
            settings.seconds("heartbeatTimeout", heartbeatTimeout),
        )
        self._reactor = reactor
        for endpoint in endpoints:
            # Only for the errors that it raises.
            serverEndpoint(endpoint, reactor)
        self._check()
        self._announcement = announcementOf(endpoints, registering, reactor)
        # Set from the start to the end of the stop.
        self._main: MainProcess | None = None
        # The counts of the last main process.
        self._last = addUp(())
        # Observers of the main process's refusals; the services of the sub-reactors have their own observers.
        self.observers = Observers()

    def _check(self) -> None:
        balance, maxSessions, perHost = self._config.balance, self._config.maxSessions, self._config.maxSessionsPerHost
        shares = balance == REUSE_PORT
        for endpoint in self.endpoints:
            kind = listensWith(endpoint)
            if kind == "udp" and not shares:
                text = f"{endpoint!r}: datagrams cannot be handed over, {balance=}: take {REUSE_PORT!r}"
                raise SettingError(text)
            if kind in ("unix", "systemd") and shares:
                raise SettingError(f"{endpoint!r} is one socket, balance={REUSE_PORT!r}: take 'round-robin'")
        if shares and perHost is not None:
            text = f"maxSessionsPerHost={perHost}: no process counts all connections with balance={REUSE_PORT!r}"
            raise SettingError(text)
        if shares and maxSessions is not None and maxSessions < self.count:
            text = f"{maxSessions=} is less than processes={self.count}, with balance={REUSE_PORT!r}"
            raise SettingError(text)

    @property
    def questions(self) -> Queries | None:
        """The queries that sub-reactors which are started from now on can answer, or None."""
        return self._config.queries

    @questions.setter
    def questions(self, queries: Queries | None) -> None:
        self._config.queries = queries

    @property
    def reactor(self) -> Any:
        """The reactor that it runs on."""
        return theReactor(self._reactor)

    def privilegedStartService(self) -> None:
        """Bind while the process may still bind ports below 1024."""
        Service.privilegedStartService(self)
        self._begin().listen()

    def startService(self) -> None:
        """Bind, and start the sub-reactors."""
        Service.startService(self)
        main = self._begin()
        main.listen()
        self.reactor.callWhenRunning(main.start)

    def _begin(self) -> MainProcess:
        if self._main is None:
            self._main = MainProcess(self._config, self.reactor, self._refused, self._announcement)
        return self._main

    def _refused(self, reason: Reason, why: str) -> None:
        self.observers.tell("refused", self, reason, why)

    def whenListening(self) -> Deferred[list[IAddress]]:
        """
        Fires with the bound addresses, in the order of the endpoints, when all sub-reactors are ready.

        Fails with the reason of the first failure; everything is stopped then.
        """
        if self._main is None:
            raise GettyError("the service was not started")
        return self._main.whenListening()

    def reload(self) -> Deferred[bool]:
        """
        Start new sub-reactors with the present code and certificates; they take over from the running ones.

        :return: fires with True when they have taken over; with False when one of them cannot start, and the running
            ones stay.
        """
        return succeed(False) if self._main is None else self._main.supervisor.reload()

    def stopService(self) -> Deferred[None]:
        """
        Leave the registry, stop accepting, and drain the sub-reactors.

        :return: fires when the last one has ended, after ``drainTimeout`` at most and what the registry needs.
        """
        self.running = False
        if self._main is None:
            return succeed(None)
        return self._main.stop().addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        if self._main is not None:
            self._last = self._main.counts()
            self._main = None

    @property
    def registrations(self) -> list[IRegistration]:
        """As :py:attr:`getty_tx.Server.registrations`."""
        return [] if self._announcement is None else list(self._announcement.registrations)

    @property
    def announcement(self) -> Announcement | None:
        """What registers it; None without ``service``."""
        return self._announcement

    @property
    def isReady(self) -> bool:
        """True while it listens and a sub-reactor takes connections."""
        return self._main is not None and self._main.isReady

    @property
    def isListening(self) -> bool:
        """True while it listens, even if no sub-reactor takes connections."""
        return self._main is not None and self._main.isListening

    @property
    def isStopping(self) -> bool:
        """True while it leaves the registry, and while its sub-reactors drain and are not replaced."""
        return self._main is not None and self._main.isStopping

    def whenStopped(self) -> Deferred[None]:
        """Return a Deferred that fires when it is not stopping."""
        return self._main.stop() if self._main is not None and self._main.isStopping else succeed(None)

    def addObserver(self, observer: Observer) -> None:
        """
        Add an observer of the connections that the main process refuses; see :py:class:`getty_tx.Observer`.

        Observers of sessions belong to the services in the sub-reactors.
        """
        self.observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Remove an observer."""
        self.observers.remove(observer)

    @property
    def restarts(self) -> list[int]:
        """How many sub-reactors had to be replaced since the start, by slot; reloads do not count."""
        return [0] * self.count if self._main is None else self._main.supervisor.restarts

    @property
    def ownRefusals(self) -> dict[str, int]:
        """The refusals of the main process alone, by reason; see :py:attr:`refusals`."""
        return dict.fromkeys(REASONS, 0) if self._main is None else self._main.refusals.counts.copy()

    @property
    def members(self) -> list[Member]:
        """The sub-reactors, including the draining ones."""
        return [] if self._main is None else self._main.supervisor.members

    @property
    def stats(self) -> dict[str, int]:
        """
        The counters of all processes together, from reports that are about a second old at most.

        ``sessions`` and ``connections`` are the current ones. The others count since the start: ``served`` (sessions),
        ``refused`` (connections), ``readBytes``, ``writeBytes``, ``readPkgs``, ``writePkgs`` and ``dropped``
        (datagrams). The counts of a killed sub-reactor after its last report are lost.
        """
        return statsIn(self._last if self._main is None else self._main.counts())

    @property
    def refusals(self) -> dict[str, int]:
        """
        How many connections were refused since the start, by reason, in all processes.

        The reasons are the same as a Server's. The main process applies ``maxSessions`` and ``maxSessionsPerHost``,
        unless the kernel balances; ``descriptors`` includes connections that no sub-reactor has taken.
        """
        return refusalsIn(self._last if self._main is None else self._main.counts())


def _cores() -> int:
    """Return the number of cores that this process may use, or of all where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
