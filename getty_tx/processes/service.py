"""
The main process: it binds, accepts and hands over, and keeps the sub-reactors running.

::

    # mypkg/app.py
    def makeService(endpoints):
        return Server(newSession, *endpoints)

    # app.tac
    from getty_tx.reactors import Processes

    application = Application("app")
    Processes("mypkg.app:makeService", "tcp:8090").setServiceParent(application)

``makeService`` runs in each sub-reactor, a process of its own with a fresh interpreter. It returns an IService, which
may have more in it than a Server: a Client, for one, that dials on the same reactor.
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
from getty_tx.processes.main import Run
from getty_tx.processes.totals import addUp, refusalsIn, statsIn
from getty_tx.session.context import theReactor
from getty_tx.session.observers import Observers
from getty_tx.session.refusals import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.queries import Questions
    from getty_tx.processes.supervisor import Member
    from getty_tx.session.observers import Observer

__all__ = ["DRAIN_TIMEOUT", "HEARTBEAT_TIMEOUT", "Processes"]

#: Seconds that a sub-reactor may take to end.
DRAIN_TIMEOUT = 10.0

#: Seconds without a sign of life after which a sub-reactor is killed.
HEARTBEAT_TIMEOUT = 10.0


class Processes(Service):
    """
    Serves with several processes. An IService: for ``twistd``, or started by hand.

    While it runs, SIGHUP is :py:meth:`reload`, unless something else handles or ignores it.

    :param target: ``module:attribute``: in each sub-reactor it is called with a list of endpoints to give to a Server,
        and with the ``arguments``, and returns an IService.
    :param endpoints: descriptions, see :py:mod:`getty_tx.endpoints`.
    :param processes: how many sub-reactors; 0: one for each core that this process may use.
    :param balance: one of :py:data:`getty_tx.processes.balance.BALANCES`.
    :param maxSessions: connections above this number, in all processes together, are refused; None: no limit.
    :param maxSessionsPerHost: the same for those of each IP address.
    :param drainTimeout: seconds that a sub-reactor may take to end, in which its sessions are flushed and closed.
    :param heartbeatTimeout: seconds without a sign of life after which a sub-reactor is killed and replaced.
    :param arguments: texts.
    :param reactor: by default the installed one, looked up when the service starts.
    :raise SettingError: a description or a setting cannot be.

    :ivar count: how many sub-reactors there are to be.
    :ivar endpoints: their descriptions.
    :ivar questions: what sub-reactors that are started from now on are asked, or None.
    """

    questions: Questions | None = None

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
    ) -> None:
        if ":" not in target:
            raise SettingError(f"target={target!r} is not module:attribute, such as mypkg.app:makeService")
        if not endpoints:
            raise SettingError("Processes needs at least one endpoint, such as 'tcp:8090'")
        self._target = target
        self._arguments = list(arguments)
        self.endpoints = endpoints
        self.count = settings.count("processes", processes) if processes else _cores()
        self._balance = checkBalance(balance)
        self._maxSessions = settings.optionalCount("maxSessions", maxSessions)
        self._maxSessionsPerHost = settings.optionalCount("maxSessionsPerHost", maxSessionsPerHost)
        self._drainTimeout = settings.seconds("drainTimeout", drainTimeout)
        self._heartbeatTimeout = settings.seconds("heartbeatTimeout", heartbeatTimeout)
        self._reactor = reactor
        for endpoint in endpoints:
            # For its errors.
            serverEndpoint(endpoint, reactor)
        self._check()
        # From a start to the end of the stop that follows it.
        self._run: Run | None = None
        # The counts of the last run.
        self._last = addUp(())
        # Those of the main process's own refusals; a sub-reactor's service has its own.
        self.observers = Observers()

    def _check(self) -> None:
        shares = self._balance == REUSE_PORT
        for endpoint in self.endpoints:
            kind = listensWith(endpoint)
            if kind == "udp" and not shares:
                text = f"{endpoint!r}: datagrams cannot be handed over, balance={self._balance!r}: take {REUSE_PORT!r}"
                raise SettingError(text)
            if kind in ("unix", "systemd") and shares:
                raise SettingError(f"{endpoint!r} is one socket, balance={REUSE_PORT!r}: take 'round-robin'")
        if shares and self._maxSessionsPerHost is not None:
            text = f"maxSessionsPerHost={self._maxSessionsPerHost}: nobody counts for all with balance={REUSE_PORT!r}"
            raise SettingError(text)
        if shares and self._maxSessions is not None and self._maxSessions < self.count:
            text = f"maxSessions={self._maxSessions} is less than processes={self.count}, with balance={REUSE_PORT!r}"
            raise SettingError(text)

    @property
    def reactor(self) -> Any:
        """The reactor that it runs on."""
        return theReactor(self._reactor)

    def privilegedStartService(self) -> None:
        """Bind while the process still may bind ports below 1024."""
        Service.privilegedStartService(self)
        self._begin().listen()

    def startService(self) -> None:
        """Bind, and start the sub-reactors."""
        Service.startService(self)
        run = self._begin()
        run.listen()
        self.reactor.callWhenRunning(run.start)

    def _begin(self) -> Run:
        if self._run is None:
            self._run = Run(self)
        return self._run

    def whenListening(self) -> Deferred[list[IAddress]]:
        """
        Fires with the bound addresses, in the order of the endpoints, when all sub-reactors are ready.

        Fails with the reason of the first failure; all is stopped then.
        """
        if self._run is None:
            raise GettyError("the service was not started")
        return self._run.whenListening()

    def reload(self) -> Deferred[bool]:
        """
        Have new sub-reactors, with what code and certificates are there now, take over from the running ones.

        :return: fires with True when they have; with False if one of them cannot start, and all stays as it was.
        """
        return succeed(False) if self._run is None else self._run.supervisor.reload()

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting, and drain the sub-reactors.

        :return: fires when the last one has ended, after ``drainTimeout`` at most.
        """
        self.running = False
        if self._run is None:
            return succeed(None)
        return self._run.stop().addCallback(self._stopped)

    def _stopped(self, _: object) -> None:
        if self._run is not None:
            self._last = self._run.counts()
            self._run = None

    @property
    def isReady(self) -> bool:
        """True while it listens and some sub-reactor takes connections."""
        return self._run is not None and self._run.isReady

    @property
    def isListening(self) -> bool:
        """True while it listens, though perhaps no sub-reactor takes connections."""
        return self._run is not None and self._run.isListening

    @property
    def isStopping(self) -> bool:
        """True while its sub-reactors drain and no others take their places."""
        return self._run is not None and self._run.isStopping

    def whenStopped(self) -> Deferred[None]:
        """Fires when it is not stopping."""
        return self._run.stop() if self._run is not None and self._run.isStopping else succeed(None)

    def addObserver(self, observer: Observer) -> None:
        """
        Have an observer hear of the connections that the main process refuses; see :py:class:`getty_tx.Observer`.

        What else happens to sessions, observers hear in the sub-reactors, which have the service.
        """
        self.observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Take that back."""
        self.observers.remove(observer)

    @property
    def restarts(self) -> list[int]:
        """How many sub-reactors had to be replaced since the start, by place; reloads do not count."""
        return [0] * self.count if self._run is None else self._run.supervisor.restarts

    @property
    def ownRefusals(self) -> dict[str, int]:
        """Those of the main process alone, as :py:attr:`refusals`."""
        return dict.fromkeys(REASONS, 0) if self._run is None else self._run.refusals.counts.copy()

    @property
    def members(self) -> list[Member]:
        """The sub-reactors, those that drain included."""
        return [] if self._run is None else self._run.supervisor.members

    @property
    def stats(self) -> dict[str, int]:
        """
        What all processes have counted, as they told within the last second or so.

        ``sessions`` and ``connections`` are those of now. Of the time since the start are ``served`` (sessions),
        ``refused`` (connections), ``readBytes``, ``writeBytes``, ``readPkgs``, ``writePkgs`` and ``dropped``
        (datagrams). What a killed sub-reactor had counted after it told last is not in them.
        """
        return statsIn(self._last if self._run is None else self._run.counts())

    @property
    def refusals(self) -> dict[str, int]:
        """
        How many connections were refused since the start, by reason, in all processes.

        The reasons are those of a Server. ``maxSessions`` and ``maxSessionsPerHost`` are the main process's, unless the
        kernel balances; ``descriptors`` also stands for connections that no sub-reactor has taken.
        """
        return refusalsIn(self._last if self._run is None else self._run.counts())


def _cores() -> int:
    """How many this process may use, where the system tells that."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
