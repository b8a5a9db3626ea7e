"""Snapshots: the counters and gauges of services at one moment, and the walk over their sessions that sums them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from getty_tx.session.lifecycle import CLOSING, CONNECTING, OPEN
from getty_tx.session.pausing import CALLBACK, CALLS, CRON_BARRIER, PRESSURE, QUOTA, RELAY, TLS, USER, WORKERS
from getty_tx.session.totals import Totals
from getty_tx.status.groups import GroupsSnapshot
from getty_tx.status.providers import ProvidersSnapshot, providersOf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.client import Client
    from getty_tx.server import Server
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.status.histogram import Histogram
    from getty_tx.status.registries import RegistrySnapshot

    Service = Server | Client

__all__ = [
    "PAUSES",
    "SESSIONS_PER_STEP",
    "STATES",
    "EndpointSnapshot",
    "MemberSnapshot",
    "ServiceSnapshot",
    "SlotSnapshot",
    "Snapshot",
    "stateOf",
    "walk",
]

#: Sessions in one step of the walk, which takes less than a millisecond; after a step the time of the slice is checked.
SESSIONS_PER_STEP = 250

#: States of a connection. ``handshaking``: it has no session yet. ``lost``: packages or callbacks of it are left.
STATES = ("handshaking", "connecting", "open", "closing", "lost")

#: The reasons for which a session delivers no packages; see :py:mod:`getty_tx.session.pausing`.
PAUSES = {
    USER: "user",
    PRESSURE: "pressure",
    CALLBACK: "callback",
    WORKERS: "workers",
    TLS: "tls",
    CRON_BARRIER: "order",
    QUOTA: "share",
    RELAY: "relay",
    CALLS: "calls",
}

_STATES = {CONNECTING: "connecting", OPEN: "open", CLOSING: "closing"}


def stateOf(session: Session) -> str:
    """The session's state, as one of :py:data:`STATES`."""
    return _STATES.get(session.state, "lost")


@dataclass
class EndpointSnapshot:
    """
    The sessions of one endpoint.

    :ivar totals: the counters of ended and open sessions.
    :ivar opened: sessions opened since the start.
    :ivar states: open sessions by state.
    :ivar paused: sessions whose reading is paused, by reason.
    :ivar pendingBytes: bytes written and not yet sent.
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
    :ivar threads: busy workers.
    :ivar calls: by side and method, a :py:class:`~getty_tx.status.calls.CallTotals`; for requests a
        :py:class:`~getty_tx.status.requests.RequestTotals`. ``lateReplies``: replies that nobody waited for any more.
    :ivar serving: requests that are being served.
    :ivar health: of each service that clients are told of, in how many processes it is in which state.
    :ivar providers: of a client with several endpoints, or with a registry; None of others, and of other processes.
    :ivar timerLag: seconds by which the last tick of the timing wheel was late.
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
    calls: dict[tuple[str, str], Any] = field(default_factory=dict)
    lateReplies: int = 0
    serving: int = 0
    health: dict[str, dict[str, int]] = field(default_factory=dict)
    providers: ProvidersSnapshot | None = None


@dataclass
class Snapshot:
    """
    One process, or several processes merged.

    :ivar lag: how late the reactor runs delayed calls. ``turn``: how long its iterations take. Both are sampled.
    :ivar handler: how long onMessage takes, sampled. ``workerWait``: how long a task waits for a worker, by service.
    :ivar cpu: seconds of CPU time; 0 if not measured.
    :ivar main: if merged, the main process alone. ``slots`` and ``members``: the sub-reactors and their processes.
    :ivar registries: those of this process; if merged, of the main process.
    :ivar groups: those of this process; if merged, of all.
    """

    process: str
    services: list[ServiceSnapshot]
    lag: Histogram
    turn: Histogram
    handler: Histogram
    workerWait: dict[str, Histogram]
    cpu: float = 0.0
    main: Snapshot | None = None
    slots: list[SlotSnapshot] = field(default_factory=list)
    members: list[MemberSnapshot] = field(default_factory=list)
    registries: list[RegistrySnapshot] = field(default_factory=list)
    groups: GroupsSnapshot = field(default_factory=GroupsSnapshot)

    @property
    def endpoints(self) -> list[EndpointSnapshot]:
        """The endpoints of all services."""
        return [endpoint for service in self.services for endpoint in service.endpoints.values()]


@dataclass
class SlotSnapshot:
    """
    A sub-reactor with all its processes: the present one, draining ones and ended ones.

    :ivar number: from 1, as in the log.
    :ivar isUp: whether a process takes connections and answers.
    :ivar draining: processes that take no more connections and still have sessions.
    :ivar restarts: how often the process had to be replaced.
    :ivar sum: all its processes merged, with the counters of ended ones.
    """

    number: int
    isUp: bool
    draining: int
    restarts: int
    sum: Snapshot


@dataclass
class MemberSnapshot:
    """
    One process of a sub-reactor.

    :ivar state: ``starting``, ``ready``, ``draining``, or ``silent``: it does not answer.
    :ivar snapshot: its last report; None before the first one.
    """

    number: int
    pid: int | None
    state: str
    snapshot: Snapshot | None


def walk(name: str, service: Service) -> Iterator[ServiceSnapshot | None]:
    """
    Gather one service in steps: yields None after each step, and the snapshot at the end.

    Counters never decrease from one walk to the next: the totals of ended sessions and the set of open sessions are
    read at one moment, and the counters of a session that ends during the walk stay readable.
    """
    found = ServiceSnapshot(
        name, service.isReady, service.isStopping, {each: EndpointSnapshot() for each in service.endpoints}
    )
    workers = service.workers
    if workers is not None:
        found.workers = workers.size
        found.queued, found.threads = workers.load()
    openSessions: list[tuple[ServiceContext, list[Session]]] = []
    for context in service.contexts:
        openSessions.append((context, list(context.sessions)))
        found.handshaking += len(context.handshaking)
        found.reconnects += context.reconnects
        found.lateReplies += context.lateReplies
        for side, methods in context.calls.items():
            for method, calls in methods.items():
                found.calls.setdefault((side, method), type(calls)()).addAll(calls)
        found.serving += context.serving.running if context.serving is not None else 0
        if context.health is not None:
            found.health = {each: {state: 1} for each, state in context.health().items()}
        found.timerLag = max(found.timerLag, context.wheel.late if context.wheel.running else 0.0)
        for reason, count in context.refusals.counts.items():
            found.refused[reason] = found.refused.get(reason, 0) + count
        for endpoint, totals in context.totals.items():
            of = _of(found, endpoint)
            of.totals.addAll(totals)
            of.opened += sum(totals.closed.values())
    for context, sessions in openSessions:
        yield from _walkSessions(found, context, sessions)
    if getattr(service, "hasSeveral", False):
        for providers in providersOf(service):
            found.providers = providers
            yield None
    yield found


def _of(found: ServiceSnapshot, endpoint: str) -> EndpointSnapshot:
    return found.endpoints.setdefault(endpoint, EndpointSnapshot())


def _walkSessions(found: ServiceSnapshot, context: ServiceContext, sessions: list[Session]) -> Iterator[None]:
    endpoints = context.endpoints
    for start in range(0, len(sessions), SESSIONS_PER_STEP):
        step = sessions[start : start + SESSIONS_PER_STEP]
        if endpoints.only is not None:
            _addSessions(_of(found, endpoints.only), step)
        else:
            groups: dict[str, list[Session]] = {}
            for session in step:
                groups.setdefault(endpoints.of(session), []).append(session)
            for endpoint, group in groups.items():
                _addSessions(_of(found, endpoint), group)
        works: list[Any] = [session.work for session in step]
        found.queued += sum(work.queued for work in works if work is not None)
        yield None


def _addSessions(of: EndpointSnapshot, sessions: list[Session]) -> None:
    """Add open sessions to their endpoint. Sums and Counters run no line of Python for each of them."""
    of.opened += len(sessions)
    of.totals.addOpen(sessions)
    for state, number in Counter(map(attrgetter("state"), sessions)).items():
        of.states[_STATES.get(state, "lost")] += number
    of.pendingBytes += sum(map(attrgetter("outbound.pending"), sessions))
    for paused, number in Counter(map(attrgetter("inbound.paused"), sessions)).items():
        for bit, reason in PAUSES.items():
            if paused & bit:
                of.paused[reason] += number
