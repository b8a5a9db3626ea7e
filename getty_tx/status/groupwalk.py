"""
The walk over the groups of this process.

A process that uses no groups does not import them for its status either.
"""

from __future__ import annotations

import sys
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from getty_tx.status.groups import (
    SHOWN,
    BehindRow,
    EngineSnapshot,
    GroupRow,
    GroupsSnapshot,
    NamespaceSnapshot,
    addEngine,
    byDeliveries,
    byMembers,
    bySeconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.groups import Group, Groups
    from getty_tx.groups.stats import GroupStats

__all__ = ["GroupsWalk", "isEngineAway"]

#: Groups that a process reports, by each order: more than are shown, as a group that is large in the sum of all
#: processes may be smaller than others in each.
REPORTED = 50

#: Groups in one step of the walk, which takes less than a millisecond.
GROUPS_PER_STEP = 250

#: Seconds between two looks from which rates are made: with less, a rate says little.
LEAST_SECONDS = 0.5

#: Characters of the name of a session.
MAX_TEXT = 100


def _running() -> list[Groups]:
    """The Groups of this process: none, if nobody has imported them, which takes 0.6 MB."""
    module = sys.modules.get("getty_tx.groups.groups")
    return [] if module is None else module.running()


def _dropped() -> int | None:
    """What the hub of this process has dropped for its sub-reactors; None: there is none."""
    module = sys.modules.get("getty_tx.groups.hub.hub")
    every = [] if module is None else module.hubs()
    return sum(each.dropped for each in every) if every else None


def isEngineAway() -> bool:
    """Whether an engine of this process is away."""
    return not all(groups.isUp for groups in _running())


class GroupsWalk:
    """
    Looks at the groups of this process.

    It remembers how many publications each group had, for the rates; and the counters of Groups that it has seen, so
    that they do not decrease when these stop.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._counters: dict[GroupStats, str] = {}
        # When the numbers were read, and for each Groups, by its id, the publications of each of its groups.
        self._at: float | None = None
        self._before: dict[int, dict[str, int]] = {}

    def walk(self) -> Iterator[GroupsSnapshot | None]:
        """Yields None after each step, and the snapshot at the end."""
        found = GroupsSnapshot(hubDropped=_dropped())
        every = _running()
        for groups in every:
            self._counters.update((stats, name) for name, stats in groups.stats.items())
            addEngine(found.engines.setdefault(groups.engine.description, EngineSnapshot()), _engineOf(groups))
        for stats, name in self._counters.items():
            found.namespaces.setdefault(name, NamespaceSnapshot(type(stats)())).stats.addAll(stats)
        now = self._reactor.seconds()
        elapsed = 0.0 if self._at is None else now - self._at
        counts: dict[int, dict[str, int]] = {}
        for groups in every:
            mine = counts[id(groups)] = {}
            before = self._before.get(id(groups), {})
            active = list(groups.active.values())
            for start in range(0, len(active), GROUPS_PER_STEP):
                step = active[start : start + GROUPS_PER_STEP]
                rows = [self._look(found, group, before, elapsed, mine, now) for group in step]
                _keepTop(found, rows)
                yield None
        if self._at is None or elapsed >= LEAST_SECONDS:
            self._at, self._before = now, counts
        yield found

    def _look(
        self,
        found: GroupsSnapshot,
        group: Group,
        before: dict[str, int],
        elapsed: float,
        counts: dict[str, int],
        now: float,
    ) -> GroupRow:
        of = found.namespaces[self._counters[group.stats]]
        name, members, arrivals = group.name, group.size, group.arrivals
        of.groups += 1
        of.memberships += members
        of.waitingBytes += group.waitingBytes
        rate = 0.0
        if arrivals:
            counts[name] = arrivals
            known = before.get(name, 0)
            if elapsed:
                # A group that had no members meanwhile has begun anew.
                rate = (arrivals - known if arrivals >= known else arrivals) / elapsed
        behind = group.membersBehind()
        if behind:
            of.behind += len(behind)
            found.behind += [
                BehindRow(name, session.id, session.name[:MAX_TEXT], now - since, missed)
                for session, since, missed in nlargest(SHOWN, behind, lambda each: now - each[1])
            ]
            found.behind = nlargest(SHOWN, found.behind, bySeconds)
        return GroupRow(name, members, rate, rate * members, len(behind))


def _engineOf(groups: Groups) -> EngineSnapshot:
    engine: Any = groups.engine
    error = "" if groups.lastError is None else str(groups.lastError)
    return EngineSnapshot(groups.isUp, getattr(engine, "reconnects", None), getattr(engine, "lag", None), error)


def _keepTop(found: GroupsSnapshot, rows: list[GroupRow]) -> None:
    """Keep the largest and the busiest of those that are known and these."""
    every = [*found.rows.values(), *rows]
    busy = [row for row in every if row.deliveries]
    top = [*nlargest(REPORTED, every, byMembers), *nlargest(REPORTED, busy, byDeliveries)]
    found.rows = {row.name: row for row in top}
