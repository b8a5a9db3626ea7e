"""The running main process: its ports, its sub-reactors, and the messages and connections between them."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from getty_tx.errors import GettyError
from getty_tx.processes import channel as passing
from getty_tx.processes.balance import REUSE_PORT, makeBalancer
from getty_tx.processes.beside import Beside
from getty_tx.processes.channel import unpackNumbers
from getty_tx.processes.child import SubProcess
from getty_tx.processes.handover import Handover
from getty_tx.processes.ports import accepting, sharing
from getty_tx.processes.supervisor import Supervisor, beatPeriod
from getty_tx.processes.totals import addUp, lasting
from getty_tx.session.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.member import Member, PendingConnection
    from getty_tx.processes.ports import AcceptingPort, SharedPort
    from getty_tx.processes.queries import Queries
    from getty_tx.registry.announcing import Announcement
    from getty_tx.session.refusals import Reason

__all__ = ["MainProcess", "ProcessesConfig"]

log = Logger()


@dataclass
class ProcessesConfig:
    """
    The settings of a Processes, checked; see there.

    :ivar queries: the queries to sub-reactors, or None; sub-reactors that are started later can answer them.
    """

    target: str
    arguments: Sequence[str]
    endpoints: Sequence[str]
    count: int
    balance: str
    maxSessions: int | None
    maxSessionsPerHost: int | None
    drainTimeout: float
    heartbeatTimeout: float
    queries: Queries | None = None


class MainProcess:
    """
    The main process, from the start of the service to the end of its stop.

    :param config: the settings.
    :param reactor: the reactor.
    :param refused: called with the reason and a text for each connection that the main process refuses.
    :param announcement: registers the endpoints in a registry, for all sub-reactors together; None: they are in none.

    :ivar refusals: the refusals of the main process.
    :ivar supervisor: keeps the sub-reactors running.
    """

    def __init__(
        self,
        config: ProcessesConfig,
        reactor: Any,
        refused: Callable[[Reason, str], object],
        announcement: Announcement | None = None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._refused = refused
        self._announcement = announcement
        self._ports: list[AcceptingPort | SharedPort] = []
        self._listening: Deferred[Any] | None = None
        self._outcome: list[IAddress] | Failure | None = None
        self._waiting: list[Deferred[list[IAddress]]] = []
        self._stopping: Deferred[None] | None = None
        self._handlesSignal = False
        # The counts of sub-reactors that have ended.
        self._endedCounts = addUp(())
        self.refusals = Refusals(reactor.seconds)
        self.supervisor = Supervisor(
            config.count,
            self._startMember,
            self._readyChanged,
            reactor=reactor,
            heartbeatTimeout=config.heartbeatTimeout,
            drainTimeout=config.drainTimeout,
        )
        self._beside = Beside(reactor)
        self._handover: Handover | None = None
        if config.balance != REUSE_PORT:
            self._handover = Handover(
                makeBalancer(config.balance, config.count),
                lambda: self.supervisor.ready,
                self._refuse,
                reactor.seconds,
                config.maxSessions,
                config.maxSessionsPerHost,
            )

    # Starting

    def listen(self) -> None:
        """Bind all endpoints. No connection is accepted before all sub-reactors are ready."""
        if self._listening is not None:
            return
        config = self._config
        attempts: list[Deferred[Any]] = []
        for number, description in enumerate(config.endpoints):
            attempt: Deferred[Any]
            if self._handover is None:
                attempt = maybeDeferred(sharing, description, config.count, self._reactor)
            else:
                attempt = maybeDeferred(accepting, description, number, self._accepted, self._reactor)
            attempts.append(attempt.addCallback(self._bound))
        self._listening = gatherResults(attempts, consumeErrors=True)
        self._listening.addErrback(self._listenFailed)

    def _bound(self, port: Any) -> Any:
        if self._outcome is None:
            self._ports.append(port)
        else:
            port.stop()
        return port

    def _listenFailed(self, failure: Failure) -> None:
        error: Any = failure.value
        reason: Failure = error.subFailure
        log.error("cannot listen: {reason}", reason=reason.getErrorMessage())
        self._fail(reason)

    def start(self) -> None:
        """Start the sub-reactors when all endpoints are bound."""
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
            self._updateAccepting()
            addresses = [port.address for port in self._ports]
            announced = succeed(None) if self._announcement is None else self._announcement.announce(addresses)
            announced.addCallbacks(lambda _: self._settle(addresses), self._fail)

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
        """See Processes.whenListening."""
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
            # Only the main thread may set handlers, and the reactor runs in another one.
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
        config = self._config
        member.process = SubProcess(member, self._received, self._lost, self.supervisor.memberGone, self._reactor)
        # The names are part of the protocol between processes.
        message = {
            "target": config.target,
            "arguments": config.arguments,
            "endpoints": config.endpoints,
            "addresses": [_plain(port.address) for port in self._ports],
            "path": sys.path,
            "pythonpath": os.environ.get("PYTHONPATH"),
            "reactor": type(self._reactor).__module__,
            "period": beatPeriod(config.heartbeatTimeout),
            "drainTimeout": config.drainTimeout,
            "maxSessions": self._shareOf(member),
            "answering": None if config.queries is None else config.queries.target,
        }
        lent = [each.fileno() for port in self._ports if (each := port.lend(member.slot)) is not None]
        member.send(passing.CONFIG, json.dumps(message).encode(), [*lent, self._beside.open(member)])

    def _shareOf(self, member: Member) -> int | None:
        """Return the member's part of ``maxSessions`` where the main process cannot count, else None."""
        limit = self._config.maxSessions
        if self._handover is not None or limit is None:
            return None
        count = self._config.count
        return limit // count + (member.slot < limit % count)

    # Connections

    def _accepted(self, batch: list[PendingConnection]) -> None:
        assert self._handover is not None
        self._handover.dispatch(batch)
        self._updateAccepting()

    def _refuse(self, reason: Reason, why: str) -> None:
        self.refusals.count(reason, why)
        self._refused(reason, why)

    def _readyChanged(self) -> None:
        """The sub-reactors that take connections have changed."""
        if self._handover is not None:
            self._handover.readyChanged()
            self._updateAccepting()

    def _updateAccepting(self) -> None:
        """Have the ports accept connections while the handover can take more."""
        wanted = self._handover is not None and self._handover.canAccept
        for port in self._ports:
            port.setAccepting(wanted)

    # Events of sub-reactors

    def _received(self, member: Member, kind: int, data: bytes) -> None:
        supervisor, handover = self.supervisor, self._handover
        supervisor.memberAlive(member)
        if kind == passing.BEAT:
            before, member.counts = member.counts, json.loads(data)
            if member.counts != before and self._config.queries is not None:
                self._config.queries.changed(member, self._reactor)
        elif kind == passing.LOG:
            _publish(member, data)
        elif kind == passing.ANSWER:
            if self._config.queries is not None:
                self._config.queries.received(member, data)
        elif kind == passing.READY:
            self._beside.taken(member)
            supervisor.memberReady(member)
        elif kind == passing.FAILED:
            supervisor.memberFailed(member, data.decode(errors="replace"))
        elif kind == passing.LEAVING:
            supervisor.memberLeaving(member)
        elif handover is not None:
            numbers = unpackNumbers(data)
            if kind == passing.TAKEN:
                handover.taken(member, numbers)
            elif kind == passing.ENDED:
                handover.ended(member, numbers)
            elif kind == passing.RETURNED:
                handover.returned(member, numbers)
            self._updateAccepting()

    def _lost(self, member: Member) -> None:
        self.supervisor.memberUnreachable(member)
        self._beside.lost(member)
        self._endedCounts = addUp([self._endedCounts, lasting(member.counts)])
        member.counts = {}
        if self._config.queries is not None:
            self._config.queries.lost(member)
        if self._handover is not None:
            self._handover.lost(member)
            self._updateAccepting()

    def counts(self) -> dict[str, int]:
        """Return the counters of all processes together."""
        reports = [member.counts for member in self.supervisor.members]
        sums = addUp([*reports, self._endedCounts, self.refusals.counts])
        if self._handover is not None:
            sums["connections"] = self._handover.connections
        return sums

    # The end

    @property
    def isReady(self) -> bool:
        """Whether it listens and a sub-reactor takes connections."""
        return self.isListening and bool(self.supervisor.ready)

    @property
    def isListening(self) -> bool:
        """Whether it listens on all endpoints."""
        return self._stopping is None and isinstance(self._outcome, list)

    @property
    def isStopping(self) -> bool:
        """Whether it leaves the registry, or the sub-reactors drain and are not replaced."""
        return self._stopping is not None

    def stop(self) -> Deferred[None]:
        """Leave the registry, stop accepting, and drain the sub-reactors; see Processes.stopService."""
        if self._stopping is None:
            self._settle(Failure(GettyError("the service was stopped")))
            left = succeed(None) if self._announcement is None else self._announcement.leave()
            self._stopping = left.addCallback(self._drain).addCallback(self._stopped)
        done: Deferred[None] = Deferred()
        self._stopping.addCallback(lambda _: done.callback(None))
        return done

    def _drain(self, _: object) -> Deferred[Any]:
        ends: list[Deferred[Any]] = [port.stop() for port in self._ports]
        self._ports = []
        ends.append(self.supervisor.stop())
        if self._handover is not None:
            self._handover.close()
        return DeferredList(ends)

    def _stopped(self, _: object) -> Deferred[None]:
        if self._handlesSignal:
            # Not earlier: the default action would end the process.
            self._handlesSignal = False
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        return succeed(None) if self._announcement is None else self._announcement.withdraw()


def _fire(waiting: Deferred[list[IAddress]], outcome: list[IAddress] | Failure) -> None:
    if isinstance(outcome, Failure):
        waiting.errback(outcome)
    else:
        waiting.callback(outcome)


def _plain(address: Any) -> list[Any]:
    """Return the host or path, and the port, of an address, for JSON."""
    name = getattr(address, "name", None)
    return [getattr(address, "host", None) if name is None else os.fsdecode(name), getattr(address, "port", None)]


def _publish(member: Member, data: bytes) -> None:
    """Publish an event of a sub-reactor's log in this process."""
    event = eventFromJSON(data.decode())
    failure = event.get("log_failure")
    if failure is not None:
        # JSON does not carry the exception.
        failure.value = Exception(event.pop("failureText", ""))
    namespace, level = event.get("log_namespace", "-"), event.get("log_level")
    system = event.get("log_system") or f"{namespace}#{getattr(level, 'name', '-')}"
    event["log_system"] = f"sub-reactor {member.number},{system}"
    event["subReactor"] = member.number
    globalLogPublisher(event)
