"""What a main process has from its start to its end: ports, sub-reactors, and what is handed from one to the other."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from getty_tx.errors import GettyError
from getty_tx.processes import channel as passing
from getty_tx.processes.balance import REUSE_PORT, makeBalancer
from getty_tx.processes.channel import unpackNumbers
from getty_tx.processes.child import SubProcess
from getty_tx.processes.handover import Handover
from getty_tx.processes.ports import accepting, sharing
from getty_tx.processes.supervisor import Member, Supervisor, beatPeriod
from getty_tx.processes.totals import addUp, lasting
from getty_tx.session.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.processes.handover import Accepted
    from getty_tx.processes.ports import AcceptingPort, SharedPort
    from getty_tx.processes.service import Processes
    from getty_tx.session.refusals import Reason

__all__ = ["Run"]

log = Logger()


class Run:
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
        self.refusals = Refusals(self._reactor.seconds)
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
                self._refuse,
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
        for number, description in enumerate(service.endpoints):
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
            "endpoints": service.endpoints,
            "addresses": [_plain(port.address) for port in self._ports],
            "path": sys.path,
            "pythonpath": os.environ.get("PYTHONPATH"),
            "reactor": type(self._reactor).__module__,
            "period": beatPeriod(service._heartbeatTimeout),
            "drainTimeout": service._drainTimeout,
            "maxSessions": self._shareOf(member),
            "limit": service._maxSessions,
            "answering": None if service.questions is None else service.questions.target,
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

    def _refuse(self, reason: Reason, why: str) -> None:
        self.refusals.count(reason, why)
        self._service.observers.tell("refused", self._service, reason, why)

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
        elif kind == passing.ANSWER:
            if self._service.questions is not None:
                self._service.questions.received(member, data)
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
        if self._service.questions is not None:
            self._service.questions.lost(member)
        if self._handover is not None:
            self._handover.lost(member)
            self._flow()

    def _isGone(self, member: Member, how: str) -> None:
        self.supervisor.isGone(member, how)

    def counts(self) -> dict[str, int]:
        """What all have counted."""
        told = [member.counts for member in self.supervisor.members]
        sums = addUp([*told, self._gone, self.refusals.counts])
        if self._handover is not None:
            sums["connections"] = self._handover.connections
        return sums

    # The end

    @property
    def isReady(self) -> bool:
        """Whether it listens, and some sub-reactor takes connections."""
        return self.isListening and bool(self.supervisor.ready)

    @property
    def isListening(self) -> bool:
        """Whether it listens on all endpoints."""
        return self._stopping is None and isinstance(self._outcome, list)

    @property
    def isStopping(self) -> bool:
        """Whether the sub-reactors drain, and no others come."""
        return self._stopping is not None

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
