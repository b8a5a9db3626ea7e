"""A snapshot as Prometheus metrics. The only module that imports prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from getty_tx.session.totals import CLOSE_REASONS
from getty_tx.status.histogram import bucketsOf
from getty_tx.status.requests import SIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from getty_tx.status.groups import GroupsSnapshot, NamespaceSnapshot
    from getty_tx.status.histogram import Histogram
    from getty_tx.status.snapshot import Snapshot

__all__ = ["encode", "families"]

_SERVICE = ["service"]
_ENDPOINT = ["service", "endpoint"]

#: The counters of endpoints: name, help, and the attribute of Totals.
_TRAFFIC = (
    ("getty_read_packages", "Packages delivered to onMessage.", "readPkgs"),
    ("getty_write_packages", "Packages accepted for sending.", "writePkgs"),
    ("getty_read_bytes", "Bytes received, below compression and above TLS.", "readBytes"),
    ("getty_write_bytes", "Bytes accepted for sending.", "writeBytes"),
    ("getty_dropped_datagrams", "Datagrams dropped: bad, empty, too long or too many.", "dropped"),
)

#: The states of health that always have a value.
_HEALTH = {"SERVING": 0, "NOT_SERVING": 0}

#: The metrics of groups that have no other label than the namespace: kind, name, help and value.
_OF_GROUPS: tuple[tuple[Any, str, str, Callable[[NamespaceSnapshot], float]], ...] = (
    (GaugeMetricFamily, "getty_groups", "Groups that have members, in each process.", lambda of: of.groups),
    (GaugeMetricFamily, "getty_group_memberships", "Members of groups.", lambda of: of.memberships),
    (GaugeMetricFamily, "getty_group_behind", "Members that wait for their peers.", lambda of: of.behind),
    (
        GaugeMetricFamily,
        "getty_group_waiting_bytes",
        "Bytes of kept publications.",
        lambda of: of.waitingBytes,
    ),
    (CounterMetricFamily, "getty_group_deliveries", "Publications times members.", lambda of: of.stats.deliveries),
    (CounterMetricFamily, "getty_group_delivery_bytes", "Bytes of these.", lambda of: of.stats.deliveryBytes),
    (CounterMetricFamily, "getty_group_gaps", "How often a member missed something.", lambda of: of.stats.gaps),
)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """
    The metrics of a snapshot.

    The number of label values is bounded by the configuration (services, endpoints) and by constant lists of reasons.
    """
    opened = CounterMetricFamily("getty_sessions_opened", "Sessions opened.", labels=_ENDPOINT)
    closed = CounterMetricFamily("getty_sessions_closed", "Sessions ended, by reason.", labels=[*_ENDPOINT, "reason"])
    states = GaugeMetricFamily("getty_sessions", "Sessions by state.", labels=[*_ENDPOINT, "state"])
    pending = GaugeMetricFamily("getty_pending_bytes", "Bytes written and not yet sent.", labels=_ENDPOINT)
    paused = GaugeMetricFamily(
        "getty_reads_paused", "Sessions whose reading is paused, by reason.", labels=[*_ENDPOINT, "reason"]
    )
    traffic = [CounterMetricFamily(name, text, labels=_ENDPOINT) for name, text, _ in _TRAFFIC]
    handshaking = GaugeMetricFamily(
        "getty_handshakes", "Connections whose TLS or WebSocket handshake is under way.", labels=_SERVICE
    )
    refused = CounterMetricFamily(
        "getty_connections_refused", "Connections refused, by reason.", labels=["service", "reason"]
    )
    reconnects = CounterMetricFamily(
        "getty_reconnects", "Attempts of a client to replace a session, or an attempt that failed.", labels=_SERVICE
    )
    ready = GaugeMetricFamily("getty_ready", "1 while the service is ready.", labels=_SERVICE)
    timerLag = GaugeMetricFamily(
        "getty_timer_lag_seconds", "Delay of the last tick of the sessions' timers.", labels=_SERVICE
    )
    workers = GaugeMetricFamily("getty_workers", "Maximum number of worker threads.", labels=_SERVICE)
    busy = GaugeMetricFamily("getty_workers_busy", "Busy worker threads.", labels=_SERVICE)
    queued = GaugeMetricFamily("getty_worker_queue_packages", "Packages that wait for a worker.", labels=_SERVICE)
    wait = HistogramMetricFamily(
        "getty_worker_wait_seconds", "How long a task waits for a worker, sampled.", labels=_SERVICE
    )
    for service in snapshot.services:
        for endpoint, found in service.endpoints.items():
            labels = [service.name, endpoint]
            opened.add_metric(labels, found.opened)
            for why in CLOSE_REASONS:
                closed.add_metric([*labels, why], found.totals.closed.get(why, 0))
            for state, count in found.states.items():
                states.add_metric([*labels, state], count)
            pending.add_metric(labels, found.pendingBytes)
            for reason, count in found.paused.items():
                paused.add_metric([*labels, reason], count)
            for family, (_, _, attribute) in zip(traffic, _TRAFFIC, strict=True):
                family.add_metric(labels, getattr(found.totals, attribute))
        handshaking.add_metric([service.name], service.handshaking)
        for reason, count in service.refused.items():
            refused.add_metric([service.name, reason], count)
        reconnects.add_metric([service.name], service.reconnects)
        ready.add_metric([service.name], service.isReady)
        timerLag.add_metric([service.name], service.timerLag)
        if service.workers:
            workers.add_metric([service.name], service.workers)
            busy.add_metric([service.name], service.threads)
            queued.add_metric([service.name], service.queued)
    for name, histogram in snapshot.workerWait.items():
        wait.add_metric([name], histogram.buckets(), histogram.sum)
    yield from (opened, closed, states, pending, paused, *traffic, handshaking, refused, reconnects, ready, timerLag)
    yield from (workers, busy, queued, wait)
    yield _histogram("getty_reactor_lag_seconds", "How late the reactor runs a delayed call, sampled.", snapshot.lag)
    yield _histogram("getty_reactor_turn_seconds", "How long a reactor iteration takes, sampled.", snapshot.turn)
    yield _histogram("getty_handler_seconds", "How long onMessage takes, sampled.", snapshot.handler)
    sides = {side for service in snapshot.services for side, _ in service.calls}
    if sides - {SIDE}:
        yield from _calls(snapshot)
    if SIDE in sides:
        yield from _requests(snapshot)
    if any(service.health for service in snapshot.services):
        yield _health(snapshot)
    if any(service.providers is not None for service in snapshot.services):
        yield from _providers(snapshot)
    if snapshot.registries:
        yield from _registries(snapshot)
    if snapshot.groups.namespaces:
        yield from _groups(snapshot.groups)
    if snapshot.main is not None:
        yield from _subReactors(snapshot, snapshot.main)


def _calls(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of calls, by side (``server`` or ``client``) and method."""
    method = ["service", "side", "method"]
    calls = CounterMetricFamily("getty_rpc_calls", "Calls that have ended, by code.", labels=[*method, "code"])
    running = GaugeMetricFamily("getty_rpc_calls_running", "Calls that have not ended.", labels=method)
    seconds = HistogramMetricFamily("getty_rpc_call_seconds", "How long calls take, sampled.", labels=method)
    late = CounterMetricFamily("getty_rpc_late_replies", "Replies to calls that had ended.", labels=_SERVICE)
    for service in snapshot.services:
        for (side, name), totals in service.calls.items():
            if side == SIDE:
                continue
            labels = [service.name, side, name]
            calls.add_metric([*labels, "ok"], totals.done)
            for code, count in totals.failed.items():
                calls.add_metric([*labels, code], count)
            running.add_metric(labels, totals.running)
            seconds.add_metric(labels, totals.seconds.buckets(), totals.seconds.sum)
        late.add_metric([service.name], service.lateReplies)
    yield from (calls, running, seconds, late)


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of HTTP, by method and route. Routes are templates, so that their number is bounded."""
    route = ["service", "method", "route"]
    requests = CounterMetricFamily("getty_http_requests", "Requests, by status.", labels=[*route, "status"])
    seconds = HistogramMetricFamily("getty_http_request_seconds", "How long requests take.", labels=route)
    received = CounterMetricFamily("getty_http_request_bytes", "Bytes of the bodies of requests.", labels=route)
    sent = CounterMetricFamily("getty_http_response_bytes", "Bytes of the bodies of answers.", labels=route)
    running = GaugeMetricFamily("getty_http_requests_running", "Requests that are being served.", labels=_SERVICE)
    for service in snapshot.services:
        for (side, name), totals in service.calls.items():
            if side != SIDE:
                continue
            method, _, template = name.partition(" ")
            labels = [service.name, method, template]
            for status, count in totals.statuses.items():
                requests.add_metric([*labels, str(status)], count)
            seconds.add_metric(labels, totals.seconds.buckets(), totals.seconds.sum)
            received.add_metric(labels, totals.received)
            sent.add_metric(labels, totals.sent)
        running.add_metric([service.name], service.serving)
    yield from (requests, seconds, received, sent, running)


def _health(snapshot: Snapshot) -> Metric:
    """What clients of gRPC are told. Processes are counted: each says it of itself."""
    health = GaugeMetricFamily(
        "getty_grpc_health", "Processes that say so of a service.", labels=["service", "name", "state"]
    )
    for service in snapshot.services:
        for name, states in service.health.items():
            for state, count in {**_HEALTH, **states}.items():
                health.add_metric([service.name, name, state], count)
    return health


def _providers(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of clients with several endpoints. Providers come and go: they have no labels of their own."""
    states = GaugeMetricFamily(
        "getty_client_providers", "Endpoints of a client, by state.", labels=["service", "state"]
    )
    ejections = CounterMetricFamily(
        "getty_client_ejections", "Endpoints that were left out because they failed.", labels=_SERVICE
    )
    for service in snapshot.services:
        if service.providers is not None:
            for state, count in service.providers.states.items():
                states.add_metric([service.name, state], count)
            ejections.add_metric([service.name], service.providers.ejections)
    yield from (states, ejections)


def _registries(snapshot: Snapshot) -> Iterator[Metric]:
    """The metrics of registries, by their names."""
    label = ["registry"]
    connected = GaugeMetricFamily("getty_registry_connected", "1 while the registry answers.", labels=label)
    stale = GaugeMetricFamily("getty_registry_stale_seconds", "Seconds since it last answered.", labels=label)
    providers = GaugeMetricFamily(
        "getty_registry_providers", "Known providers of followed services.", labels=[*label, "service", "state"]
    )
    registrations = GaugeMetricFamily(
        "getty_registry_registrations", "What is to be registered.", labels=[*label, "registered"]
    )
    events = CounterMetricFamily("getty_registry_events", "Records that were reported or deleted.", labels=label)
    failures = CounterMetricFamily("getty_registry_failures", "Requests that it did not fulfil.", labels=label)
    for registry in snapshot.registries:
        labels = [registry.name]
        connected.add_metric(labels, registry.isConnected)
        stale.add_metric(labels, registry.staleFor)
        for service, states in registry.providers.items():
            for state, count in states.items():
                providers.add_metric([*labels, service, state], count)
        for isRegistered, text in ((True, "yes"), (False, "no")):
            count = sum(each.isRegistered is isRegistered for each in registry.registrations)
            registrations.add_metric([*labels, text], count)
        events.add_metric(labels, registry.events)
        failures.add_metric(labels, registry.failures)
    yield from (connected, stale, providers, registrations, events, failures)


def _groups(snapshot: GroupsSnapshot) -> Iterator[Metric]:
    """The metrics of groups, by namespace, and of their engines. Never by group: there may be any number of these."""
    from getty_tx.groups.stats import DROP_REASONS, FLUSH_BOUNDS, TIME_BOUNDS

    label = ["namespace"]
    plain: list[tuple[Any, Callable[[NamespaceSnapshot], float]]] = [
        (kind(name, text, labels=label), value) for kind, name, text, value in _OF_GROUPS
    ]
    publications = CounterMetricFamily(
        "getty_group_publications", "Publications of this process, or from the engine.", labels=[*label, "direction"]
    )
    dropped = CounterMetricFamily(
        "getty_group_dropped", "Publications that members did not get, by reason.", labels=[*label, "reason"]
    )
    recoveries = CounterMetricFamily(
        "getty_group_recoveries", "Members that came back, by whether they got all.", labels=[*label, "result"]
    )
    flushes = HistogramMetricFamily(
        "getty_group_flush_publications", "Publications that leave in one piece.", labels=label
    )
    seconds = HistogramMetricFamily(
        "getty_group_fanout_seconds", "From the arrival of publications to their last member.", labels=label
    )
    for name, namespace in snapshot.namespaces.items():
        stats = namespace.stats
        for family, value in plain:
            family.add_metric([name], value(namespace))
        publications.add_metric([name, "out"], stats.published)
        publications.add_metric([name, "in"], stats.arrived)
        for reason in DROP_REASONS:
            dropped.add_metric([name, reason], stats.dropped.get(reason, 0))
        recoveries.add_metric([name, "recovered"], stats.recovered)
        recoveries.add_metric([name, "unrecovered"], stats.unrecovered)
        flushes.add_metric([name], bucketsOf(FLUSH_BOUNDS, stats.flushes), stats.flushed)
        seconds.add_metric([name], bucketsOf(TIME_BOUNDS, stats.times), stats.seconds)
    yield from (family for family, _ in plain)
    yield from (publications, dropped, recoveries, flushes, seconds)
    label = ["engine"]
    up = GaugeMetricFamily("getty_group_engine_up", "1 while it is there, for all processes.", labels=label)
    reconnects = CounterMetricFamily("getty_group_engine_reconnects", "Attempts to connect again.", labels=label)
    lag = GaugeMetricFamily("getty_group_engine_lag_seconds", "How long its last answer took.", labels=label)
    for name, engine in snapshot.engines.items():
        for of, number in ((up, engine.isUp), (reconnects, engine.reconnects), (lag, engine.lag)):
            if number is not None:
                of.add_metric([name], number)
    yield from (up, reconnects, lag)
    if snapshot.hubDropped is not None:
        text = "Publications that the main process dropped for a sub-reactor that did not read."
        yield CounterMetricFamily("getty_group_hub_dropped", text, snapshot.hubDropped)


def _subReactors(snapshot: Snapshot, main: Snapshot) -> Iterator[Metric]:
    """The metrics of each sub-reactor, by its number, and of the main process."""
    label = ["subreactor"]
    up = GaugeMetricFamily("getty_subreactor_up", "1 while it takes connections and answers.", labels=label)
    draining = GaugeMetricFamily(
        "getty_subreactor_draining", "Its processes that take no more connections and still run.", labels=label
    )
    restarts = CounterMetricFamily("getty_subreactor_restarts", "Restarts of its process.", labels=label)
    sessions = GaugeMetricFamily("getty_subreactor_sessions", "Open sessions.", labels=label)
    pending = GaugeMetricFamily("getty_subreactor_pending_bytes", "Bytes written and not yet sent.", labels=label)
    traffic = [
        CounterMetricFamily(name.replace("getty_", "getty_subreactor_", 1), text, labels=label)
        for name, text, _ in _TRAFFIC
    ]
    cpu = CounterMetricFamily("getty_subreactor_cpu_seconds", "CPU time of its processes.", labels=label)
    lag = HistogramMetricFamily(
        "getty_subreactor_reactor_lag_seconds", "How late its reactor runs a delayed call, sampled.", labels=label
    )
    for slot in snapshot.slots:
        labels = [str(slot.number)]
        endpoints = slot.sum.endpoints
        up.add_metric(labels, slot.isUp)
        draining.add_metric(labels, slot.draining)
        restarts.add_metric(labels, slot.restarts)
        sessions.add_metric(labels, sum(sum(endpoint.states.values()) for endpoint in endpoints))
        pending.add_metric(labels, sum(endpoint.pendingBytes for endpoint in endpoints))
        for family, (_, _, attribute) in zip(traffic, _TRAFFIC, strict=True):
            family.add_metric(labels, sum(getattr(endpoint.totals, attribute) for endpoint in endpoints))
        cpu.add_metric(labels, slot.sum.cpu)
        lag.add_metric(labels, slot.sum.lag.buckets(), slot.sum.lag.sum)
    yield from (up, draining, restarts, sessions, pending, *traffic, cpu, lag)
    yield CounterMetricFamily("getty_main_cpu_seconds", "CPU time of the main process.", main.cpu)
    yield _histogram(
        "getty_main_reactor_lag_seconds", "How late the main process runs a delayed call, sampled.", main.lag
    )
    yield _histogram(
        "getty_main_reactor_turn_seconds", "How long a reactor iteration of the main process takes, sampled.", main.turn
    )


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, histogram.buckets(), histogram.sum)


class _Everything:
    """The collector for an encoder: the metrics of the services, and those that the program has registered."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from families(self._snapshot)
        yield from REGISTRY.collect()


def encode(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """
    The response of ``/metrics``.

    :param accept: the request's Accept header, which chooses between the text format and OpenMetrics.
    :return: the content type and the body.
    """
    try:
        encoder, contentType = choose_encoder(accept)
    except (ValueError, TypeError):
        # The header has a version that is not a number; which one it is differs between versions of the library.
        encoder, contentType = choose_encoder("")
    registry: Any = _Everything(snapshot)
    return contentType, encoder(registry)
