"""100,000 connections at once: whether all are served, what one costs, and how the 100 that are active fare.

Limits, on the fast reactor, with as many sub-reactors as the limit of open files makes necessary: each connection has
its echo, once before and once after the load; 3072 bytes of the server's resident memory for each after the first echo,
the main process's share in it; and among the others the active ones have at least 0.7 of the rate that they have alone.
The best of 5 runs of each counts, each with a new server.

Where the machine does not allow so many there are fewer, as the note tells.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, NotMeasured, Target, main
from benchmarks.many import ACTIVE, CONNECTIONS, HoldError, Result
from benchmarks.many import measure as measureMany
from benchmarks.room import Machine, RoomError, makePlan

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_LIMIT = 3072
FLOOR = 0.7
REPETITIONS = 5


def measure(target: Target) -> Iterator[Figure]:
    try:
        plan = makePlan(Machine.here(CONNECTIONS), CONNECTIONS, ACTIVE)
    except RoomError as error:
        raise NotMeasured(str(error)) from error
    processes = f" --processes {plan.processes}" if plan.processes else ""
    name = f"{plan.connections} connections"
    found = Result(plan)
    try:
        for _ in range(REPETITIONS):
            measureMany(target.on("getty").echo + processes, found, 1.0)
    except HoldError as error:
        yield Figure(f"{name}, without an echo", 1, 0, str(error))
        return
    note = f"{plan.processes} sub-reactors" if processes else "one process"
    if plan.limit:
        note += f", not more for {plan.limit}"
    yield Figure(f"{name}, without an echo", 0, 0, "none", note)
    used = max(found.used)
    yield Figure(f"{name}, memory of each", used, MEMORY_LIMIT, f"{used:.0f} bytes")
    rates = f"{found.among.best:.0f} messages a second, {found.alone.best:.0f} alone"
    yield Figure(f"{ACTIVE} active among them", found.ratio, FLOOR, f"{found.ratio:.2f} times", rates, floor=True)


if __name__ == "__main__":
    sys.exit(main("many", measure, __doc__, seconds=300))
