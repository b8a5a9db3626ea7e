"""What sub-reactors count, and what it is for all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.session.refusals import REASONS
from getty_tx.session.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from getty_tx.session.context import ServiceContext

__all__ = ["addUp", "countsOf", "lasting", "refusalsIn", "statsIn"]

#: What is there at the moment.
_STANDING = ("sessions", "connections")

#: Totals since the start, which outlast the process that has counted them; how many were refused is a sum of reasons.
_TOTALS = ("served", "readBytes", "writeBytes", "readPkgs", "writePkgs", "dropped")


def countsOf(contexts: Iterable[ServiceContext]) -> dict[str, int]:
    """What services of this process count."""
    counts = addUp(())
    for context in contexts:
        counts = addUp([counts, _sumsOf(context), context.refusals.counts])
        counts["sessions"] += len(context.sessions)
        counts["connections"] += context.peers
    return counts


def _sumsOf(context: ServiceContext) -> dict[str, int]:
    """What all sessions have counted since the start, open ones included."""
    totals = Totals()
    for each in context.totals.values():
        totals.addAll(each)
    served = sum(totals.closed.values()) + len(context.sessions)
    for session in context.sessions:
        totals.add(session, "local")
    return {"served": served, **{name: getattr(totals, name) for name in _TOTALS[1:]}}


def addUp(all: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of all that counted, each name of it there."""
    sums = dict.fromkeys((*_STANDING, *_TOTALS, *REASONS), 0)
    for counts in all:
        for name, number in counts.items():
            if name in sums:
                sums[name] += number
    return sums


def lasting(counts: Mapping[str, int]) -> dict[str, int]:
    """What is left of the counts of a process that is gone."""
    return {name: number for name, number in counts.items() if name not in _STANDING}


def statsIn(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts but the reasons of refusals, of which there is the sum."""
    stats = {name: counts[name] for name in (*_STANDING, *_TOTALS)}
    return {**stats, "refused": sum(refusalsIn(counts).values())}


def refusalsIn(counts: Mapping[str, int]) -> dict[str, int]:
    """How many were refused, by reason."""
    return {name: counts[name] for name in REASONS}
