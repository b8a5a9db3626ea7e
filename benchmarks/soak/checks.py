"""What must hold of the whole run: memory that is flat, nothing left behind, an end in order."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEFT", "Memory", "isSettled", "leftovers"]

MB = 1_000_000

#: How far the memory of the last third may lie above that of the second, in bytes; the first third is for warming up.
#: Medians of a process that does not leak differ by 5 MB. In ten minutes, 1 KB for each connection makes 25 MB.
ALLOWED = 16 * MB

#: Samples without which nothing is said.
FEWEST = 12

#: What a server's report has to be the same in at the end as at the beginning, when all connections are gone.
LEFT = ("sessions", "connections", "handshaking", "timers", "calls")


class Memory:
    """Samples of one process's resident memory, in bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples: list[int] = []

    def problem(self) -> str:
        """Why it is not flat, or nothing."""
        third = len(self.samples) // 3
        if len(self.samples) < FEWEST:
            return ""
        before, after = median(self.samples[third : 2 * third]), median(self.samples[2 * third :])
        allowed = before + ALLOWED
        if after <= allowed:
            return ""
        return (
            f"{self.name}: {after / MB:.1f} MB in the last third of the time, {before / MB:.1f} MB in the second; "
            f"at most {allowed / MB:.1f} MB is flat"
        )

    def __str__(self) -> str:
        """The series, thinned out to a line."""
        step = max(1, len(self.samples) // 20)
        return f"memory of the {self.name}, MB: " + " ".join(f"{each / MB:.0f}" for each in self.samples[::step])


def isSettled(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """True when a server has let go of all connections, as far as its report tells."""
    return not leftovers(before, after)


def leftovers(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a process has at the end and had not at the beginning, in words."""
    found = [f"{after[name] - before[name]} {name} left" for name in LEFT if after.get(name, 0) > before.get(name, 0)]
    if after.get("alive", 0) > before.get("alive", 0):
        found.append(f"{after['alive'] - before['alive']} session objects left")
    return found + moreDescriptors(before["descriptors"], after["descriptors"])


def moreDescriptors(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The descriptors that came to stay, in words."""
    more = Counter(after) - Counter(before)
    return [f"descriptors left: {count} of {name}" for name, count in more.items()]
