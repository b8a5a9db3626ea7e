"""What sub-reactors count, and what it is for all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from getty_tx.keeper import Keeper

__all__ = ["STANDING", "TOTALS", "addUp", "countsOf"]

#: Totals since the start of a process; they stay when it is gone.
TOTALS = ("served", "refused", "readBytes", "writeBytes", "readPkgs", "writePkgs", "dropped")

#: What is there at the moment.
STANDING = ("sessions", "connections")


def countsOf(keepers: Iterable[Keeper]) -> dict[str, int]:
    """What services of this process count."""
    counts = dict.fromkeys((*STANDING, *TOTALS), 0)
    for keeper in keepers:
        sums = keeper.sums()
        counts["sessions"] += len(keeper.sessions)
        counts["connections"] += keeper.peers
        counts["refused"] += keeper.refused
        counts["served"] += sums.pop("sessions")
        for name, number in sums.items():
            counts[name] += number
    return counts


def addUp(counts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The sum of all."""
    sums = dict.fromkeys((*STANDING, *TOTALS), 0)
    for each in counts:
        for name in sums:
            sums[name] += each.get(name, 0)
    return sums
