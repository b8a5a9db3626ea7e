"""Snapshots of several processes: encoded as JSON for the channel, decoded, and merged into one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.status.calls import decodeCalls, encodeCalls
from getty_tx.status.groups import RECORDS, decodeGroups, encodeGroups
from getty_tx.status.histogram import Histogram
from getty_tx.status.requests import SIDE, decodeRequests, encodeRequests
from getty_tx.status.snapshot import EndpointSnapshot, ServiceSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["decodeSnapshot", "emptySnapshot", "encodeSnapshot", "mergeEnded", "mergeInto"]

_TOTALS = ("readBytes", "writeBytes", "readPkgs", "writePkgs", "dropped")
_SUMS = ("handshaking", "reconnects", "workers", "queued", "threads", "lateReplies", "serving")


def emptySnapshot(process: str = "") -> Snapshot:
    """A snapshot without services."""
    return Snapshot(process, [], Histogram(), Histogram(), Histogram(), {})


# Encoding


def encodeSnapshot(snapshot: Snapshot) -> Iterator[str]:
    """Encode a snapshot as JSON records: one of the process, one of each service and endpoint, and those of groups."""
    histograms = [snapshot.lag, snapshot.turn, snapshot.handler]
    waits = {name: _encode(histogram) for name, histogram in snapshot.workerWait.items()}
    yield json.dumps(["process", snapshot.cpu, *map(_encode, histograms), waits])
    for service in snapshot.services:
        sums = [getattr(service, name) for name in _SUMS]
        flags = [service.isReady, service.isStopping]
        yield json.dumps(["service", service.name, *flags, sums, service.timerLag, service.refused])
        for (side, method), calls in service.calls.items():
            if side == SIDE:
                yield json.dumps(["requests", method, encodeRequests(calls)])
            else:
                yield json.dumps(["calls", side, method, encodeCalls(calls)])
        if service.health:
            yield json.dumps(["health", service.health])
        for name, endpoint in service.endpoints.items():
            counts = [getattr(endpoint.totals, each) for each in _TOTALS]
            numbers = [
                counts,
                endpoint.totals.closed,
                endpoint.opened,
                endpoint.states,
                endpoint.paused,
                endpoint.pendingBytes,
            ]
            yield json.dumps(["endpoint", name, *numbers])
    yield from encodeGroups(snapshot.groups)


def decodeSnapshot(records: Iterable[Any]) -> Snapshot:
    """
    The reverse of :py:func:`encodeSnapshot`.

    :raise ValueError: the records are invalid. ``TypeError``, ``KeyError``: the same.
    """
    snapshot: Snapshot | None = None
    for kind, *fields in records:
        if kind == "process":
            cpu, lag, turn, handler, waits = fields
            snapshot = Snapshot(
                "",
                [],
                _histogram(lag),
                _histogram(turn),
                _histogram(handler),
                {name: _histogram(wait) for name, wait in waits.items()},
                _number(cpu),
            )
        elif snapshot is None:
            raise ValueError(f"{kind!r:.40} before the process")
        elif kind == "service":
            name, isReady, isStopping, sums, timerLag, refused = fields
            service = ServiceSnapshot(_text(name), isReady is True, isStopping is True, {})
            for each, value in zip(_SUMS, sums, strict=True):
                setattr(service, each, _count(value))
            service.timerLag = _number(timerLag)
            service.refused = _counts(refused)
            snapshot.services.append(service)
        elif kind == "calls":
            side, method, counters = fields
            snapshot.services[-1].calls[_text(side), _text(method)] = decodeCalls(counters)
        elif kind == "requests":
            method, counters = fields
            snapshot.services[-1].calls[SIDE, _text(method)] = decodeRequests(counters)
        elif kind == "health":
            [health] = fields
            snapshot.services[-1].health = {_text(name): _counts(states) for name, states in health.items()}
        elif kind == "endpoint":
            name, totals, closed, opened, states, paused, pending = fields
            endpoint = EndpointSnapshot(opened=_count(opened), pendingBytes=_count(pending))
            for each, value in zip(_TOTALS, totals, strict=True):
                setattr(endpoint.totals, each, _count(value))
            endpoint.totals.closed = _counts(closed)
            endpoint.states = {state: _count(states[state]) for state in endpoint.states}
            endpoint.paused = {reason: _count(paused[reason]) for reason in endpoint.paused}
            snapshot.services[-1].endpoints[_text(name)] = endpoint
        elif kind in RECORDS:
            decodeGroups(snapshot.groups, kind, fields)
        else:
            raise ValueError(f"unknown record {kind!r:.40}")
    if snapshot is None:
        raise ValueError("a snapshot without a process")
    return snapshot


def _encode(histogram: Histogram) -> list[Any]:
    return [histogram.counts, histogram.sum]


def _histogram(fields: Any) -> Histogram:
    counts, total = fields
    histogram = Histogram()
    if len(counts) != len(histogram.counts):
        raise ValueError(f"{len(counts)} buckets in place of {len(histogram.counts)}")
    histogram.counts = [_count(each) for each in counts]
    histogram.sum = _number(total)
    return histogram


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is not a count")
    return value


def _counts(fields: Any) -> dict[str, int]:
    return {name: _count(value) for name, value in fields.items()}


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not a text")
    return value


# Merging


def mergeInto(total: Snapshot, snapshot: Snapshot, isEnded: bool = False) -> None:
    """
    Add a snapshot to a total, services and endpoints by their names.

    :param isEnded: the process has ended: add its counters only, not its gauges.
    """
    for mine, other in ((total.lag, snapshot.lag), (total.turn, snapshot.turn), (total.handler, snapshot.handler)):
        mine.addAll(other)
    for name, histogram in snapshot.workerWait.items():
        total.workerWait.setdefault(name, Histogram()).addAll(histogram)
    total.cpu += snapshot.cpu
    total.groups.addAll(snapshot.groups, isEnded)
    services = {service.name: service for service in total.services}
    for service in snapshot.services:
        merged = services.get(service.name)
        if merged is None:
            merged = services[service.name] = ServiceSnapshot(service.name, False, not isEnded, {})
            total.services.append(merged)
        _addService(merged, service, isEnded)


def mergeEnded(total: Snapshot, snapshot: Snapshot) -> None:
    """Add the counters of a process that has ended."""
    mergeInto(total, snapshot, isEnded=True)


def _addService(total: ServiceSnapshot, service: ServiceSnapshot, isEnded: bool) -> None:
    total.reconnects += service.reconnects
    total.lateReplies += service.lateReplies
    for key, calls in service.calls.items():
        total.calls.setdefault(key, type(calls)()).addAll(calls, isEnded)
    for reason, count in service.refused.items():
        total.refused[reason] = total.refused.get(reason, 0) + count
    if service.providers is not None:
        # Of this process: others do not tell of theirs.
        total.providers = service.providers
    if not isEnded:
        total.isReady = total.isReady or service.isReady
        total.isStopping = total.isStopping and service.isStopping
        total.handshaking += service.handshaking
        total.workers += service.workers
        total.queued += service.queued
        total.serving += service.serving
        total.threads += service.threads
        for name, states in service.health.items():
            known = total.health.setdefault(name, {})
            for state, count in states.items():
                known[state] = known.get(state, 0) + count
        total.timerLag = max(total.timerLag, service.timerLag)
    for name, endpoint in service.endpoints.items():
        sums = total.endpoints.setdefault(name, EndpointSnapshot())
        sums.totals.addAll(endpoint.totals)
        sums.opened += endpoint.opened
        if isEnded:
            # The sessions that were open have ended with the process.
            stillOpen = endpoint.opened - sum(endpoint.totals.closed.values())
            sums.totals.closed["lost"] = sums.totals.closed.get("lost", 0) + stillOpen
        else:
            sums.pendingBytes += endpoint.pendingBytes
            for state, count in endpoint.states.items():
                sums.states[state] += count
            for reason, count in endpoint.paused.items():
                sums.paused[reason] += count
