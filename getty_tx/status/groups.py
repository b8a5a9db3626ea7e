"""Groups, as the status shows them: namespaces, engines, the largest and the busiest, and who is behind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.groups.stats import GroupStats

__all__ = [
    "RECORDS",
    "SHOWN",
    "BehindRow",
    "EngineSnapshot",
    "GroupRow",
    "GroupsSnapshot",
    "NamespaceSnapshot",
    "addEngine",
    "byDeliveries",
    "byMembers",
    "bySeconds",
    "decodeGroups",
    "encodeGroups",
    "forPage",
]

#: Groups that the page shows, by each order; and members that are behind.
SHOWN = 10

_GAUGES = ("groups", "memberships", "behind", "waitingBytes")

#: How rows are sorted, from the largest one down.
byMembers = attrgetter("members", "name")
byDeliveries = attrgetter("deliveries", "name")
bySeconds = attrgetter("seconds")


@dataclass
class NamespaceSnapshot:
    """
    The groups of one namespace.

    :ivar groups: those that have members, in each process.
    :ivar behind: members that wait for their peers.
    :ivar waitingBytes: bytes of publications that are kept for them, or under way.
    """

    stats: GroupStats
    groups: int = 0
    memberships: int = 0
    behind: int = 0
    waitingBytes: int = 0


@dataclass
class EngineSnapshot:
    """
    One engine. Several processes have one with the same description.

    :ivar isUp: whether it is there, for all processes; None: no process that uses it is left.
    :ivar reconnects: None: it does not count them.
    :ivar lag: seconds that its last answer took; None: it does not say.
    :ivar error: why it is away.
    """

    isUp: bool | None = None
    reconnects: int | None = None
    lag: float | None = None
    error: str = ""


@dataclass(slots=True)
class GroupRow:
    """
    One group.

    :ivar rate: publications in a second; ``deliveries``: the same times members.
    """

    name: str
    members: int
    rate: float
    deliveries: float
    behind: int


@dataclass(slots=True)
class BehindRow:
    """
    One member that waits for its peer.

    :ivar session: its id; ``name``: its name.
    :ivar seconds: for how long.
    :ivar missed: publications that it has not got.
    :ivar subreactor: the number of its process; 0: this one, or the main process.
    """

    group: str
    session: int
    name: str
    seconds: float
    missed: int
    subreactor: int = 0


@dataclass
class GroupsSnapshot:
    """
    The groups of one process, or of several merged.

    :ivar namespaces: empty where nobody uses groups.
    :ivar engines: by their descriptions.
    :ivar rows: the largest and the busiest groups, by name.
    :ivar behind: the members that are behind for the longest time.
    :ivar hubDropped: publications that the main process has dropped for sub-reactors; None: it has no hub of groups.
    """

    namespaces: dict[str, NamespaceSnapshot] = field(default_factory=dict)
    engines: dict[str, EngineSnapshot] = field(default_factory=dict)
    rows: dict[str, GroupRow] = field(default_factory=dict)
    behind: list[BehindRow] = field(default_factory=list)
    hubDropped: int | None = None

    def addAll(self, other: GroupsSnapshot, isEnded: bool = False) -> None:
        """Add another process; with ``isEnded`` its counters only."""
        if other.hubDropped is not None:
            self.hubDropped = (self.hubDropped or 0) + other.hubDropped
        for name, namespace in other.namespaces.items():
            mine = self.namespaces.setdefault(name, NamespaceSnapshot(type(namespace.stats)()))
            mine.stats.addAll(namespace.stats)
            if not isEnded:
                for gauge in _GAUGES:
                    setattr(mine, gauge, getattr(mine, gauge) + getattr(namespace, gauge))
        for name, engine in other.engines.items():
            addEngine(self.engines.setdefault(name, EngineSnapshot()), engine, isEnded)
        if isEnded:
            return
        for row in other.rows.values():
            known = self.rows.setdefault(row.name, GroupRow(row.name, 0, 0.0, 0.0, 0))
            known.members += row.members
            known.behind += row.behind
            known.deliveries += row.deliveries
            # What is published comes to each process that has members.
            known.rate = max(known.rate, row.rate)
        self.behind = nlargest(SHOWN, [*self.behind, *other.behind], bySeconds)


def addEngine(total: EngineSnapshot, engine: EngineSnapshot, isEnded: bool = False) -> None:
    """Add what another process, or another Groups, says of it."""
    if engine.reconnects is not None:
        total.reconnects = (total.reconnects or 0) + engine.reconnects
    if isEnded or engine.isUp is None:
        return
    total.isUp = engine.isUp and total.isUp is not False
    total.error = total.error or engine.error
    if engine.lag is not None:
        total.lag = max(total.lag or 0.0, engine.lag)


# For the page


def forPage(snapshot: GroupsSnapshot) -> dict[str, Any] | None:
    """What the page shows, as JSON; None: nobody uses groups."""
    if not snapshot.namespaces:
        return None
    rows = snapshot.rows.values()
    busy = [row for row in rows if row.deliveries]
    return {
        "groups": sum(each.groups for each in snapshot.namespaces.values()),
        "memberships": sum(each.memberships for each in snapshot.namespaces.values()),
        "deliveries": sum(each.stats.deliveries for each in snapshot.namespaces.values()),
        "dropped": sum(sum(each.stats.dropped.values()) for each in snapshot.namespaces.values()),
        "isBehind": sum(each.behind for each in snapshot.namespaces.values()),
        "engines": [
            {"name": name, **asdict(engine)} for name, engine in snapshot.engines.items() if engine.isUp is not None
        ],
        "largest": [asdict(row) for row in nlargest(SHOWN, rows, byMembers)],
        "busiest": [asdict(row) for row in nlargest(SHOWN, busy, byDeliveries)],
        "behind": [asdict(row) for row in snapshot.behind],
    }


# For the channel

#: The kinds of records, and what each is made of.
RECORDS = ("namespace", "engine", "group", "behind")

_COUNTERS = ("published", "arrived", "deliveries", "deliveryBytes", "gaps", "recovered", "unrecovered", "flushed")


def encodeGroups(snapshot: GroupsSnapshot) -> Iterator[str]:
    """Encode groups as JSON records."""
    for name, namespace in snapshot.namespaces.items():
        stats = namespace.stats
        gauges = [getattr(namespace, gauge) for gauge in _GAUGES]
        counters = [getattr(stats, counter) for counter in _COUNTERS]
        times = [stats.flushes, stats.times, stats.seconds]
        yield json.dumps(["namespace", name, gauges, counters, stats.dropped, *times])
    for name, engine in snapshot.engines.items():
        yield json.dumps(["engine", name, engine.isUp, engine.reconnects, engine.lag, engine.error])
    for row in snapshot.rows.values():
        yield json.dumps(["group", *asdict(row).values()])
    for member in snapshot.behind:
        yield json.dumps(["behind", *asdict(member).values()])


def decodeGroups(snapshot: GroupsSnapshot, kind: str, fields: list[Any]) -> None:
    """
    Add one record of :py:func:`encodeGroups`.

    :raise ValueError: the record is invalid. ``TypeError``, ``AttributeError``: the same.
    """
    if kind == "namespace":
        name, gauges, counters, dropped, flushes, times, seconds = fields
        _check(int, *gauges, *counters, *dropped.values(), *flushes, *times)
        _check(float, seconds)
        from getty_tx.groups.stats import GroupStats

        stats = GroupStats()
        if (len(flushes), len(times)) != (len(stats.flushes), len(stats.times)):
            raise ValueError(f"{fields!r:.80} has other buckets")
        for counter, value in zip(_COUNTERS, counters, strict=True):
            setattr(stats, counter, value)
        stats.dropped, stats.flushes, stats.times, stats.seconds = dropped, flushes, times, float(seconds)
        snapshot.namespaces[_text(name)] = namespace = NamespaceSnapshot(stats)
        for gauge, value in zip(_GAUGES, gauges, strict=True):
            setattr(namespace, gauge, value)
    elif kind == "engine":
        name, isUp, reconnects, lag, error = fields
        _check(int, *([] if reconnects is None else [reconnects]))
        _check(float, *([] if lag is None else [lag]))
        snapshot.engines[_text(name)] = EngineSnapshot(isUp is True, reconnects, lag, _text(error))
    elif kind == "group":
        name, members, rate, deliveries, behind = fields
        _check(int, members, behind)
        _check(float, rate, deliveries)
        snapshot.rows[_text(name)] = GroupRow(name, members, rate, deliveries, behind)
    else:
        group, session, name, waits, missed, subreactor = fields
        _check(int, session, missed, subreactor)
        _check(float, waits)
        snapshot.behind.append(BehindRow(_text(group), session, _text(name), waits, missed, subreactor))


def _check(kind: type, *values: Any) -> None:
    """:raise ValueError: one of the values is no number of this kind; for ``int`` also one below 0."""
    for value in values:
        if type(value) not in (int, kind) or (kind is int and value < 0):
            raise ValueError(f"{value!r:.40} is not a number")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not a text")
    return value
