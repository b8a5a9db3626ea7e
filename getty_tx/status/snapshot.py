"""What is known of services at one moment, and the walk over their sessions that finds it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from getty_tx.session.lifecycle import CLOSING, CONNECTING, OPEN
from getty_tx.session.pausing import CALLBACK, CLOSED, CRON_BARRIER, PRESSURE, QUOTA, TLS, USER, WORKERS
from getty_tx.session.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.client import Client
    from getty_tx.server import Server
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.status.histogram import Histogram

    Service = Server | Client

__all__ = [
    "PAUSES",
    "STATES",
    "STEP",
    "EndpointSnapshot",
    "MemberSnapshot",
    "PlaceSnapshot",
    "ServiceSnapshot",
    "Snapshot",
    "stateOf",
    "walk",
]

#: Sessions looked at without asking whether it is time for a pause, which takes less than a millisecond.
STEP = 250

#: What a connection can be. A ``handshaking`` one has no session yet, a ``lost`` one has packages or callbacks left.
STATES = ("handshaking", "connecting", "open", "closing", "lost")

#: Why a session does not deliver what it reads; see :py:mod:`getty_tx.session.pausing`.
PAUSES = {
    USER: "user",
    PRESSURE: "pressure",
    CALLBACK: "callback",
    WORKERS: "workers",
    TLS: "tls",
    CRON_BARRIER: "order",
    QUOTA: "share",
}

_STATES = {CONNECTING: "connecting", OPEN: "open", CLOSING: "closing"}


def stateOf(session: Session) -> str:
    """One of :py:data:`STATES`."""
    return _STATES.get(session.state, "lost")


@dataclass
class EndpointSnapshot:
    """
    The sessions of one endpoint.

    :ivar totals: of those that have ended and those that are there.
    :ivar opened: how many there ever were.
    :ivar paused: how many do not read, by reason.
    """

    totals: Totals = field(default_factory=Totals)
    opened: int = 0
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES[1:], 0))
    paused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PAUSES.values(), 0))
    pendingBytes: int = 0


@dataclass
class ServiceSnapshot:
    """
    One Server or Client.

    :ivar queued: messages that wait for a worker.
    :ivar threads: workers that are busy.
    :ivar timerLag: seconds by which the last turn of the timing wheel was late.
    """

    name: str
    isReady: bool
    isStopping: bool
    endpoints: dict[str, EndpointSnapshot]
    handshaking: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    workers: int = 0
    queued: int = 0
    threads: int = 0
    timerLag: float = 0.0


@dataclass
class Snapshot:
    """
    One process, or several added up.

    :ivar lag: how late the reactor comes to what it was asked to call. ``turn``: how long its turns take, sampled.
    :ivar handler: how long onMessage takes, sampled. ``workerWait``: how long a task waits for a worker, by service.
    :ivar cpu: seconds of CPU time; 0 where that is not asked for.
    :ivar main: of several, the main process alone. ``places`` and ``members``: the sub-reactors.
    """

    process: str
    services: list[ServiceSnapshot]
    lag: Histogram
    turn: Histogram
    handler: Histogram
    workerWait: dict[str, Histogram]
    cpu: float = 0.0
    main: Snapshot | None = None
    places: list[PlaceSnapshot] = field(default_factory=list)
    members: list[MemberSnapshot] = field(default_factory=list)

    @property
    def ends(self) -> list[EndpointSnapshot]:
        """The endpoints of all services."""
        return [end for service in self.services for end in service.endpoints.values()]


@dataclass
class PlaceSnapshot:
    """
    A sub-reactor, whichever process that is and was.

    :ivar number: from 1, as in the log.
    :ivar isUp: whether it takes connections, and answers.
    :ivar draining: processes that no longer take connections, and have their sessions still.
    :ivar restarts: how often it had to be replaced.
    :ivar sum: of all its processes; those that are gone have left their counters.
    """

    number: int
    isUp: bool
    draining: int
    restarts: int
    sum: Snapshot


@dataclass
class MemberSnapshot:
    """
    The process of a sub-reactor.

    :ivar state: ``starting``, ``ready``, ``draining``, or ``silent``: it does not answer, and this is what it told
        last.
    :ivar snapshot: None where it has told nothing yet.
    """

    number: int
    pid: int | None
    state: str
    snapshot: Snapshot | None


def walk(name: str, service: Service) -> Iterator[ServiceSnapshot | None]:
    """
    Gather one service; yields None for a pause now and then, and the snapshot at last.

    Counters never go back from one walk to the next: the sums of ended sessions, and who is there, are taken in one
    moment, and a session's counters go on being readable when it ends meanwhile.
    """
    found = ServiceSnapshot(
        name, service.isReady, service.isStopping, {each: EndpointSnapshot() for each in service.endpoints}
    )
    workers = service.workers
    if workers is not None:
        found.workers = workers.size
        found.queued, found.threads = workers.load()
    there: list[tuple[ServiceContext, list[Session]]] = []
    for context in service.contexts:
        there.append((context, list(context.sessions)))
        found.handshaking += len(context.handshaking)
        found.reconnects += context.reconnects
        found.timerLag = max(found.timerLag, context.wheel.late if context.wheel.running else 0.0)
        for reason, count in context.refusals.counts.items():
            found.refused[reason] = found.refused.get(reason, 0) + count
        for endpoint, totals in context.totals.items():
            of = _of(found, endpoint)
            of.totals.addAll(totals)
            of.opened += sum(totals.closed.values())
    for context, sessions in there:
        yield from _walkSessions(found, context, sessions)
    yield found


def _of(found: ServiceSnapshot, endpoint: str) -> EndpointSnapshot:
    return found.endpoints.setdefault(endpoint, EndpointSnapshot())


def _walkSessions(found: ServiceSnapshot, context: ServiceContext, sessions: list[Session]) -> Iterator[None]:
    endpointOf = context.endpoints.of
    for start in range(0, len(sessions), STEP):
        for session in sessions[start : start + STEP]:
            of = _of(found, endpointOf(session))
            of.opened += 1
            totals = of.totals
            totals.readBytes += session.bytesRead
            totals.writeBytes += session.bytesWritten
            totals.readPkgs += session.pkgsRead
            totals.writePkgs += session.pkgsWritten
            totals.dropped += session.datagramsDropped
            state = session.state
            of.states[_STATES.get(state, "lost")] += 1
            outbound = session.outbound
            of.pendingBytes += outbound.queued + outbound.inTransport
            paused = session.inbound.paused & ~CLOSED
            if paused:
                for bit, reason in PAUSES.items():
                    if paused & bit:
                        of.paused[reason] += 1
            work: Any = session.work
            if work is not None:
                found.queued += work.waiting
        yield None
