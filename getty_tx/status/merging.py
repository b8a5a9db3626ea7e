"""Snapshots of several processes: as they are told, and added up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.status.histogram import Histogram
from getty_tx.status.snapshot import EndpointSnapshot, ServiceSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["addLasting", "addUp", "empty", "read", "write"]

_TOTALS = ("readBytes", "writeBytes", "readPkgs", "writePkgs", "dropped")
_SUMS = ("handshaking", "reconnects", "workers", "queued", "threads")


def empty(process: str = "") -> Snapshot:
    """One of no services."""
    return Snapshot(process, [], Histogram(), Histogram(), Histogram(), {})


# As it is told


def write(snapshot: Snapshot) -> Iterator[str]:
    """Things in JSON, which together are the snapshot: each is as small as an endpoint."""
    histograms = [snapshot.lag, snapshot.turn, snapshot.handler]
    waits = {name: _counted(histogram) for name, histogram in snapshot.workerWait.items()}
    yield json.dumps(["process", snapshot.cpu, *map(_counted, histograms), waits])
    for service in snapshot.services:
        sums = [getattr(service, name) for name in _SUMS]
        flags = [service.isReady, service.isStopping]
        yield json.dumps(["service", service.name, *flags, sums, service.timerLag, service.refused])
        for name, end in service.endpoints.items():
            counts = [getattr(end.totals, each) for each in _TOTALS]
            numbers = [counts, end.totals.closed, end.opened, end.states, end.paused, end.pendingBytes]
            yield json.dumps(["endpoint", name, *numbers])


def read(things: Iterable[Any]) -> Snapshot:
    """
    The reverse of :py:func:`write`.

    :raise ValueError: it is none. ``TypeError``, ``KeyError``: the same.
    """
    snapshot: Snapshot | None = None
    for kind, *told in things:
        if kind == "process":
            cpu, lag, turn, handler, waits = told
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
            name, isReady, isStopping, sums, timerLag, refused = told
            service = ServiceSnapshot(_text(name), isReady is True, isStopping is True, {})
            for each, value in zip(_SUMS, sums, strict=True):
                setattr(service, each, _count(value))
            service.timerLag = _number(timerLag)
            service.refused = _counts(refused)
            snapshot.services.append(service)
        elif kind == "endpoint":
            name, totals, closed, opened, states, paused, pending = told
            end = EndpointSnapshot(opened=_count(opened), pendingBytes=_count(pending))
            for each, value in zip(_TOTALS, totals, strict=True):
                setattr(end.totals, each, _count(value))
            end.totals.closed = _counts(closed)
            end.states = {state: _count(states[state]) for state in end.states}
            end.paused = {reason: _count(paused[reason]) for reason in end.paused}
            snapshot.services[-1].endpoints[_text(name)] = end
        else:
            raise ValueError(f"{kind!r:.40} is no part of a snapshot")
    if snapshot is None:
        raise ValueError("there is no process in it")
    return snapshot


def _counted(histogram: Histogram) -> list[Any]:
    return [histogram.counts, histogram.sum]


def _histogram(told: Any) -> Histogram:
    counts, total = told
    made = Histogram()
    if len(counts) != len(made.counts):
        raise ValueError(f"{len(counts)} buckets in place of {len(made.counts)}")
    made.counts = [_count(each) for each in counts]
    made.sum = _number(total)
    return made


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no count")
    return value


def _counts(told: Any) -> dict[str, int]:
    return {name: _count(value) for name, value in told.items()}


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{value!r:.40} is no number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    return value


# Added up


def addUp(total: Snapshot, snapshot: Snapshot, isLasting: bool = False) -> None:
    """
    Add a snapshot to a total, services and endpoints by their names.

    :param isLasting: only what outlasts the process: counters, and not what was there at the moment.
    """
    for mine, other in ((total.lag, snapshot.lag), (total.turn, snapshot.turn), (total.handler, snapshot.handler)):
        mine.addAll(other)
    for name, histogram in snapshot.workerWait.items():
        total.workerWait.setdefault(name, Histogram()).addAll(histogram)
    total.cpu += snapshot.cpu
    services = {service.name: service for service in total.services}
    for service in snapshot.services:
        known = services.get(service.name)
        if known is None:
            known = services[service.name] = ServiceSnapshot(service.name, False, not isLasting, {})
            total.services.append(known)
        _addService(known, service, isLasting)


def addLasting(total: Snapshot, snapshot: Snapshot) -> None:
    """Add what is left of a process that is gone."""
    addUp(total, snapshot, isLasting=True)


def _addService(total: ServiceSnapshot, service: ServiceSnapshot, isLasting: bool) -> None:
    total.reconnects += service.reconnects
    for reason, count in service.refused.items():
        total.refused[reason] = total.refused.get(reason, 0) + count
    if not isLasting:
        total.isReady = total.isReady or service.isReady
        total.isStopping = total.isStopping and service.isStopping
        total.handshaking += service.handshaking
        total.workers += service.workers
        total.queued += service.queued
        total.threads += service.threads
        total.timerLag = max(total.timerLag, service.timerLag)
    for name, end in service.endpoints.items():
        sums = total.endpoints.setdefault(name, EndpointSnapshot())
        sums.totals.addAll(end.totals)
        sums.opened += end.opened
        if isLasting:
            # Those that it had went down with it.
            left = end.opened - sum(end.totals.closed.values())
            sums.totals.closed["lost"] = sums.totals.closed.get("lost", 0) + left
        else:
            sums.pendingBytes += end.pendingBytes
            for state, count in end.states.items():
                sums.states[state] += count
            for reason, count in end.paused.items():
                sums.paused[reason] += count
