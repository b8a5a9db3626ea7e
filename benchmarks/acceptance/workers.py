"""What workers cost, and that handlers which sleep hold up nobody.

Limits, with 4 keyed workers: 50 connections with 16 messages in flight each have at least 0.4 of the rate without
workers; 49 connections keep at least 0.8 of their rate beside one session whose handler sleeps 5 ms for each message,
and 0.5 beside eight such. The best of the repetitions of each counts. It needs a C compiler.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, NotMeasured, Target, main
from benchmarks.loads import compiledLoad
from benchmarks.workers import DEEP, OTHERS, SLEEP, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = Runs(5, 0.7)


def measure(target: Target) -> Iterator[Figure]:
    if compiledLoad() is None:
        raise NotMeasured("there is no C compiler for the load")
    without, keyed = RUNS.rate("none", DEEP), RUNS.rate("keyed", DEEP)
    note = f"{keyed:.0f} messages a second, {without:.0f} without workers"
    yield Figure("keyed workers at 50x16", keyed / without, 0.4, f"{keyed / without:.2f} times", note, floor=True)
    alone = RUNS.rate("keyed", OTHERS)
    for sessions, floor in ((1, 0.8), (8, 0.5)):
        kept = RUNS.rate("keyed", OTHERS, SLEEP, sessions)
        note = f"{kept:.0f} messages a second, {alone:.0f} alone"
        name = f"49 beside {sessions} that sleep"
        yield Figure(name, kept / alone, floor, f"{kept / alone:.2f} times", note, floor=True)


if __name__ == "__main__":
    sys.exit(main("workers", measure, __doc__, seconds=120))
