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

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from getty_tx import settings
from getty_tx.endpoints import listensWith, serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.keeper import theReactor
from getty_tx.reactors import passing
from getty_tx.reactors.balance import REUSE_PORT, checkBalance, makeBalancer
from getty_tx.reactors.binding import accepting, sharing
from getty_tx.reactors.counts import addUp, lasting, refusalsIn, statsIn
from getty_tx.reactors.handover import Handover
from getty_tx.reactors.passing import unpackNumbers
from getty_tx.reactors.process import SubProcess
from getty_tx.reactors.supervise import Member, Supervisor, beatPeriod
from getty_tx.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.reactors.binding import AcceptingPort, SharedPort
    from getty_tx.reactors.handover import Accepted

__all__ = ["DRAIN_TIMEOUT", "HEARTBEAT_TIMEOUT", "Processes"]

log = Logger()

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
    :param balance: one of :py:data:`getty_tx.reactors.balance.BALANCES`.
    :param maxSessions: connections above this number, in all processes together, are refused; None: no limit.
    :param maxSessionsPerHost: the same for those of each IP address.
    :param drainTimeout: seconds that a sub-reactor may take to end, in which its sessions are flushed and closed.
    :param heartbeatTimeout: seconds without a sign of life after which a sub-reactor is killed and replaced.
    :param arguments: texts.
    :param reactor: by default the installed one, looked up when the service starts.
    :raise SettingError: a description or a setting cannot be.

    :ivar count: how many sub-reactors there are to be.
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
    ) -> None:
        if ":" not in target:
            raise SettingError(f"target={target!r} is not module:attribute, such as mypkg.app:makeService")
        if not endpoints:
            raise SettingError("Processes needs at least one endpoint, such as 'tcp:8090'")
        self._target = target
        self._arguments = list(arguments)
        self._endpoints = endpoints
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
        self._run: _Run | None = None
        # The counts of the last run.
        self._last = addUp(())

    def _check(self) -> None:
        shares = self._balance == REUSE_PORT
        for endpoint in self._endpoints:
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

    def _begin(self) -> _Run:
        if self._run is None:
            self._run = _Run(self)
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


class _Run:
    """What a service has from a start to the end of the stop that follows it."""

    def __init__(self, service: Processes) -> None:
        self._service = service
        self._reactor = service.reactor
        self._ports: list[AcceptingPort | SharedPort] = []
        self._listening: Deferred[Any] | None = None
        self._outcome: list[IAddress] | Failure | None = None
        self._waiting: list[Deferred[list[IAddress]]] = []
        self._stopping: Deferred[None] | None = None
        self._handlesSignal = False
        # The counts of sub-reactors that are gone.
        self._gone = addUp(())
        self._refusals = Refusals(self._reactor.seconds)
        self.supervisor = Supervisor(
            service.count,
            self._startMember,
            self._changed,
            reactor=self._reactor,
            heartbeatTimeout=service._heartbeatTimeout,
            drainTimeout=service._drainTimeout,
        )
        self._handover: Handover | None = None
        if service._balance != REUSE_PORT:
            self._handover = Handover(
                makeBalancer(service._balance, service.count),
                lambda: self.supervisor.ready,
                self._send,
                self._refusals.count,
                service._maxSessions,
                service._maxSessionsPerHost,
            )

    # Starting

    def listen(self) -> None:
        """Bind. Nothing listens, or at least nothing is accepted, before all sub-reactors are ready."""
        if self._listening is not None:
            return
        service = self._service
        attempts: list[Deferred[Any]] = []
        for number, description in enumerate(service._endpoints):
            attempt: Deferred[Any]
            if self._handover is None:
                attempt = maybeDeferred(sharing, description, service.count, self._reactor)
            else:
                attempt = maybeDeferred(accepting, description, number, self._accepted, self._reactor)
            attempts.append(attempt.addCallback(self._listensOn))
        self._listening = gatherResults(attempts, consumeErrors=True)
        self._listening.addErrback(self._listensNot)

    def _listensOn(self, port: Any) -> Any:
        if self._outcome is None:
            self._ports.append(port)
        else:
            port.stop()
        return port

    def _listensNot(self, failure: Failure) -> None:
        error: Any = failure.value
        reason: Failure = error.subFailure
        log.error("cannot listen: {reason}", reason=reason.getErrorMessage())
        self._fail(reason)

    def start(self) -> None:
        """Start the sub-reactors, once all endpoints are bound."""
        if self._listening is not None:
            self._listening.addCallback(self._startAll)

    def _startAll(self, ports: list[Any] | None) -> None:
        if ports is None or self._stopping is not None:
            return
        self._ports = ports
        self._handleSignal()
        self.supervisor.start().addCallbacks(self._started, self._fail)

    def _started(self, _: object) -> None:
        try:
            for port in self._ports:
                port.listen()
        except CannotListenError as error:
            log.error("cannot listen: {reason}", reason=error)
            self._fail(Failure())
        else:
            self._flow()
            self._settle([port.address for port in self._ports])

    def _fail(self, failure: Failure) -> None:
        self._settle(failure)
        self.stop()

    def _settle(self, outcome: list[IAddress] | Failure) -> None:
        if self._outcome is not None:
            return
        self._outcome = outcome
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            _fire(deferred, outcome)

    def whenListening(self) -> Deferred[list[IAddress]]:
        """See Processes."""
        waiting: Deferred[list[IAddress]] = Deferred()
        if self._outcome is None:
            self._waiting.append(waiting)
        else:
            _fire(waiting, self._outcome)
        return waiting

    def _handleSignal(self) -> None:
        try:
            if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
                signal.signal(signal.SIGHUP, self._onSignal)
                self._handlesSignal = True
        except ValueError:
            # Only the main thread may, and the reactor runs in another.
            pass

    def _onSignal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        log.info("reloading")
        self.supervisor.reload().addCallback(self._reloaded)

    def _reloaded(self, done: bool) -> None:
        if done:
            log.info("reloaded")

    def _startMember(self, member: Member) -> None:
        service = self._service
        member.process = process = SubProcess(member, self._received, self._lost, self._isGone, self._reactor)
        config = {
            "target": service._target,
            "arguments": service._arguments,
            "endpoints": service._endpoints,
            "addresses": [_plain(port.address) for port in self._ports],
            "path": sys.path,
            "pythonpath": os.environ.get("PYTHONPATH"),
            "reactor": type(self._reactor).__module__,
            "period": beatPeriod(service._heartbeatTimeout),
            "drainTimeout": service._drainTimeout,
            "maxSessions": self._shareOf(member),
        }
        lent = [each.fileno() for port in self._ports if (each := port.lend(member.place)) is not None]
        process.channel.send(passing.CONFIG, json.dumps(config).encode(), lent)

    def _shareOf(self, member: Member) -> int | None:
        """Its part of ``maxSessions`` where the main process cannot count."""
        limit = self._service._maxSessions
        if self._handover is not None or limit is None:
            return None
        count = self._service.count
        return limit // count + (member.place < limit % count)

    # Connections

    def _accepted(self, batch: list[Accepted]) -> None:
        assert self._handover is not None
        self._handover.take(batch)
        self._flow()

    def _send(self, member: Member, kind: int, data: bytes, descriptors: Sequence[int]) -> None:
        process: Any = member.process
        process.channel.send(kind, data, descriptors)

    def _changed(self) -> None:
        """Other sub-reactors take connections than before."""
        if self._handover is not None:
            self._handover.proceed()
            self._flow()

    def _flow(self) -> None:
        takes = self._handover is not None and self._handover.takes
        for port in self._ports:
            port.accept(takes)

    # What sub-reactors tell

    def _received(self, member: Member, kind: int, data: bytes) -> None:
        supervisor, handover = self.supervisor, self._handover
        supervisor.isAlive(member)
        if kind == passing.BEAT:
            member.counts = json.loads(data)
        elif kind == passing.LOG:
            _publish(member, data)
        elif kind == passing.READY:
            supervisor.isReady(member)
        elif kind == passing.FAILED:
            supervisor.hasFailed(member, data.decode(errors="replace"))
        elif kind == passing.LEAVING:
            supervisor.isLeaving(member)
        elif handover is not None:
            numbers = unpackNumbers(data)
            if kind == passing.TAKEN:
                handover.taken(member, numbers)
            elif kind == passing.ENDED:
                handover.ended(member, numbers)
            elif kind == passing.RETURNED:
                handover.returned(member, numbers)
            self._flow()

    def _lost(self, member: Member) -> None:
        self.supervisor.isUnreachable(member)
        self._gone = addUp([self._gone, lasting(member.counts)])
        member.counts = {}
        if self._handover is not None:
            self._handover.lost(member)
            self._flow()

    def _isGone(self, member: Member, how: str) -> None:
        self.supervisor.isGone(member, how)

    def counts(self) -> dict[str, int]:
        """What all have counted."""
        told = [member.counts for member in self.supervisor.members]
        sums = addUp([*told, self._gone, self._refusals.counts])
        if self._handover is not None:
            sums["connections"] = self._handover.connections
        return sums

    # The end

    def stop(self) -> Deferred[None]:
        """See Processes."""
        if self._stopping is None:
            self._settle(Failure(GettyError("the service was stopped")))
            ends: list[Deferred[Any]] = [port.stop() for port in self._ports]
            self._ports = []
            ends.append(self.supervisor.stop())
            if self._handover is not None:
                self._handover.close()
            self._stopping = DeferredList(ends).addCallback(self._stopped)
        done: Deferred[None] = Deferred()
        self._stopping.addCallback(lambda _: done.callback(None))
        return done


    def _stopped(self, _: object) -> None:
        if self._handlesSignal:
            # Not before: it would end the process.
            self._handlesSignal = False
            signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _cores() -> int:
    """How many this process may use, where the system tells that."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fire(waiting: Deferred[list[IAddress]], outcome: list[IAddress] | Failure) -> None:
    if isinstance(outcome, Failure):
        waiting.errback(outcome)
    else:
        waiting.callback(outcome)


def _plain(address: Any) -> list[Any]:
    """An address for JSON."""
    name = getattr(address, "name", None)
    return [getattr(address, "host", None) if name is None else os.fsdecode(name), getattr(address, "port", None)]


def _publish(member: Member, data: bytes) -> None:
    """An event of a sub-reactor's log, as one of this process's."""
    event = eventFromJSON(data.decode())
    failure = event.get("log_failure")
    if failure is not None:
        # JSON has lost it.
        failure.value = Exception(event.pop("failureText", ""))
    namespace, level = event.get("log_namespace", "-"), event.get("log_level")
    system = event.get("log_system") or f"{namespace}#{getattr(level, 'name', '-')}"
    event["log_system"] = f"sub-reactor {member.number},{system}"
    event["subReactor"] = member.number
    globalLogPublisher(event)
