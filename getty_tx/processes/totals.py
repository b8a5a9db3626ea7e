"""The counters of sub-reactors, and their sums over all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.session.refusals import REASONS
from getty_tx.session.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from getty_tx.session.context import ServiceContext

__all__ = ["addUp", "countsOf", "lasting", "refusalsIn", "statsIn"]

#: Current numbers.
_GAUGES = ("sessions", "connections")

#: Totals since the start, which are kept after the process has ended. Refusals are counted by reason.
_TOTALS = ("served", "readBytes", "writeBytes", "readPkgs", "writePkgs", "dropped")


def countsOf(contexts: Iterable[ServiceContext]) -> dict[str, int]:
    """Count the sessions of the services of this process."""
    counts = addUp(())
    for context in contexts:
        counts = addUp([counts, _sumsOf(context), context.refusals.counts])
        counts["sessions"] += len(context.sessions)
        counts["connections"] += context.peers
    return counts


def _sumsOf(context: ServiceContext) -> dict[str, int]:
    """Return the totals of all sessions since the start, including the open ones."""
    totals = Totals()
    for each in context.totals.values():
        totals.addAll(each)
    served = sum(totals.closed.values()) + len(context.sessions)
    totals.addOpen(context.sessions)
    return {"served": served, **{name: getattr(totals, name) for name in _TOTALS[1:]}}


def addUp(all: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counters by name. Every name is in the result, unknown names are not."""
    sums = dict.fromkeys((*_GAUGES, *_TOTALS, *REASONS), 0)
    for counts in all:
        for name, number in counts.items():
            if name in sums:
                sums[name] += number
    return sums


def lasting(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counters that remain of a process that has ended."""
    return {name: number for name, number in counts.items() if name not in _GAUGES}


def statsIn(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counters, with the sum of refusals instead of their reasons."""
    stats = {name: counts[name] for name in (*_GAUGES, *_TOTALS)}
    return {**stats, "refused": sum(refusalsIn(counts).values())}


def refusalsIn(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the number of refusals by reason."""
    return {name: counts[name] for name in REASONS}
