"""
The main process: it binds, accepts and hands over, and keeps the sub-reactors running.

::

    # mypkg/app.py
    def makeService(endpoints):
        return Server(newSession, *endpoints)

    # app.tac
    from getty_tx.reactors import Processes

    application = Application("app")
    Processes("mypkg.app:makeService", "tcp:8090", processes=0).setServiceParent(application)

``makeService`` runs in each sub-reactor, a process of its own with a fresh interpreter. It returns an IService, which may
have more in it than a Server: a Client, for one, that dials on the same reactor.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from struct import pack
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults, maybeDeferred, succeed
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, eventFromJSON, globalLogPublisher
from twisted.python.failure import Failure

from getty_tx import settings
from getty_tx.endpoints import serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.keeper import theReactor
from getty_tx.reactors import passing
from getty_tx.reactors.balance import REUSE_PORT, checkBalance, makeBalancer
from getty_tx.reactors.binding import accepting, sharing
from getty_tx.reactors.counts import TOTALS, addUp
from getty_tx.reactors.handover import Handover
from getty_tx.reactors.passing import Channel, channelPair, unpackNumbers
from getty_tx.reactors.supervise import GONE, READY, Member, Supervisor, beatPeriod
from getty_tx.session import formatAddress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IAddress

    from getty_tx.reactors.binding import AcceptingPort, SharedPort

__all__ = ["Processes"]

log = Logger()

#: What the interpreter of a sub-reactor runs. That systemd's sockets are meant for the process has to be known before
#: Twisted is imported; they are the main process's, and stand-ins in this one, which only descriptions refer to.
_RUN = """\
import os, sys
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
from getty_tx.reactors.sub import main
main()
"""

#: Where a sub-reactor has its channel, above descriptors that stand for those of systemd.
FIRST = 3


class _Sub(ProcessProtocol):
    """
    The process of a sub-reactor and the channel to it.

    :param main: the service.
    :param member: which it is.
    """

    pid = 0

    def __init__(self, main: Processes, member: Member) -> None:
        self._main = main
        self._member = member
        self._lines = {1: b"", 2: b""}
        self._isRunning = True
        ours, theirs = channelPair()
        self.channel = Channel(ours, main.reactor, self._received, self._lost)
        with theirs, open(os.devnull) as nothing:
            environment, descriptors = _surroundings(theirs.fileno(), nothing.fileno())
            process = main.reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-c", _RUN, str(max(descriptors)), f"sub-reactor-{member.number}"],
                environment,
                childFDs={0: nothing.fileno(), 1: "r", 2: "r", **descriptors},
            )
        self.pid = process.pid

    # IProcess

    def drain(self, timeout: float) -> None:
        """Tell it to end."""
        self.channel.send(passing.DRAIN, pack("<d", timeout))

    def kill(self) -> None:
        """End it."""
        if self._isRunning and self.transport is not None:
            self.transport.signalProcess("KILL")

    # What it tells

    def _received(self, kind: int, data: bytes, descriptors: list[int]) -> None:
        self._main.received(self._member, kind, data)

    def _lost(self) -> None:
        self._main.lost(self._member)
        # Without its channel it is of no use; usually it is gone already.
        self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It printed something, before or beside its log."""
        *lines, self._lines[childFD] = (self._lines[childFD] + data).split(b"\n")
        for line in lines:
            log.info("{member}: {line}", member=self._member, line=line.decode(errors="replace"))

    def processExited(self, reason: Failure) -> None:
        """It is gone."""
        self._isRunning = False
        self.channel.finish()
        value = reason.value
        if isinstance(value, ProcessTerminated) and value.signal:
            how = f"was ended by {signal.Signals(value.signal).name}"
        else:
            how = f"has ended with status {getattr(value, 'exitCode', 0) or 0}"
        self._main.gone(self._member, how)


def _surroundings(channel: int, nothing: int) -> tuple[dict[str, str], dict[int, int]]:
    """The environment and the descriptors of a sub-reactor; the channel is the last of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # Twisted takes LISTEN_PID and LISTEN_FDS away when they are meant for this process, and leaves the names.
    names = environment.get("LISTEN_FDNAMES", "")
    count = len(names.split(":")) if names and "LISTEN_PID" not in environment else 0
    if count:
        environment["LISTEN_FDS"] = str(count)
    return environment, dict.fromkeys(range(FIRST, FIRST + count), nothing) | {FIRST + count: channel}


class Processes(Service):
    """
    Serves with several processes. An IService: for ``twistd``, or started by hand.

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
    """

    def __init__(
        self,
        target: str,
        *endpoints: str,
        processes: int = 0,
        balance: str = "round-robin",
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        drainTimeout: float = 10.0,
        heartbeatTimeout: float = 10.0,
        arguments: Sequence[str] = (),
        reactor: Any = None,
    ) -> None:
        if not endpoints:
            raise SettingError("Processes needs at least one endpoint, such as 'tcp:8090'")
        self._target = target
        self._endpoints = endpoints
        self._count = processes or len(os.sched_getaffinity(0))
        self._balance = checkBalance(balance)
        self._maxSessions = settings.optionalCount("maxSessions", maxSessions)
        self._maxSessionsPerHost = settings.optionalCount("maxSessionsPerHost", maxSessionsPerHost)
        self._drainTimeout = settings.seconds("drainTimeout", drainTimeout)
        self._heartbeatTimeout = settings.seconds("heartbeatTimeout", heartbeatTimeout)
        self._arguments = list(arguments)
        self._reactor = reactor
        self._ports: list[AcceptingPort | SharedPort] | None = None
        self._listening: Deferred[Any] | None = None
        for endpoint in endpoints:
            serverEndpoint(endpoint, reactor)

    @property
    def reactor(self) -> Any:
        """The reactor that it runs on."""
        return theReactor(self._reactor)

    # Starting

    def privilegedStartService(self) -> None:
        """Bind while the process still may bind ports below 1024."""
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> None:
        """Bind, and start the sub-reactors."""
        Service.startService(self)
        self._listen()
        self.reactor.callWhenRunning(self._startSubs)

    def _listen(self) -> None:
        if self._listening is not None:
            return
        reactor = self.reactor
        self._gone = dict.fromkeys(TOTALS, 0)
        self._handover = Handover(
            makeBalancer(self._balance, self._count),
            lambda: self._supervisor.ready,
            self._send,
            self._refused,
            self._maxSessions,
            self._maxSessionsPerHost,
        )
        self._supervisor = Supervisor(
            self._count,
            self._start,
            self._changed,
            reactor=reactor,
            heartbeatTimeout=self._heartbeatTimeout,
            drainTimeout=self._drainTimeout,
        )
        attempts = [
            maybeDeferred(accepting, description, number, self._accepted, reactor)
            for number, description in enumerate(self._endpoints)
        ]
        self._listening = gatherResults(attempts).addCallback(self._listens)

    def _listens(self, ports: list[AcceptingPort]) -> None:
        self._ports = list(ports)

    def _startSubs(self) -> None:
        self._supervisor.start()

    def _start(self, member: Member) -> None:
        sub = _Sub(self, member)
        member.process = sub
        config = {
            "target": self._target,
            "arguments": self._arguments,
            "endpoints": self._endpoints,
            "addresses": [_plainAddress(port.address) for port in self._ports or ()],
            "path": sys.path,
            "pythonpath": os.environ.get("PYTHONPATH"),
            "reactor": type(self.reactor).__module__,
            "period": beatPeriod(self._heartbeatTimeout),
            "drainTimeout": self._drainTimeout,
        }
        sub.channel.send(passing.CONFIG, json.dumps(config).encode())

    # Accepting

    def _accepted(self, batch: Any) -> None:
        self._handover.take(batch)
        self._flow()

    def _send(self, member: Member, kind: int, data: bytes, descriptors: Sequence[int]) -> None:
        sub: Any = member.process
        sub.channel.send(kind, data, descriptors)

    def _changed(self) -> None:
        self._handover.proceed()
        self._flow()

    def _flow(self) -> None:
        takes = self._handover.takes
        for port in self._ports or ():
            port.accept(takes)

    def _refused(self, reason: str, why: str) -> None:
        log.info("refused: {why}", why=why)

    # What sub-reactors tell

    def received(self, member: Member, kind: int, data: bytes) -> None:
        """A message of a sub-reactor."""
        supervisor, handover = self._supervisor, self._handover
        supervisor.isAlive(member)
        if kind == passing.TAKEN:
            handover.taken(member, unpackNumbers(data))
            self._flow()
        elif kind == passing.ENDED:
            handover.ended(member, unpackNumbers(data))
        elif kind == passing.RETURNED:
            handover.returned(member, unpackNumbers(data))
        elif kind == passing.READY:
            supervisor.isReady(member)
        elif kind == passing.FAILED:
            supervisor.hasFailed(member, data.decode())
        elif kind == passing.LEAVING:
            supervisor.isLeaving(member)
        elif kind == passing.BEAT:
            member.counts = json.loads(data)
        elif kind == passing.LOG:
            self._log(member, data)

    def _log(self, member: Member, data: bytes) -> None:
        event = eventFromJSON(data.decode())
        event["subReactor"] = member.number
        globalLogPublisher(event)

    def lost(self, member: Member) -> None:
        self._handover.lost(member)

    def gone(self, member: Member, how: str) -> None:
        self._supervisor.isGone(member, how)


def _plainAddress(address: Any) -> list[Any]:
    return [getattr(address, "host", None), getattr(address, "port", None)]
