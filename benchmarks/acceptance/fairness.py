"""The wait of a small message beside a connection whose pipe is always full.

Limit: the p99 round trip of 64-byte messages, one in flight on one connection, is at most 3 times as long beside
another connection that keeps 1 MB of 915-byte frames in flight, as it is alone. The best of several repetitions of
each counts, since noise only slows. The server has one core, both loads share another one, where the small message
goes first. The full pipe is full all the time: at no moment does the server wait for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import MB, Figure, Target, main
from benchmarks.loads import Scenario, backgroundLoad, runLoad

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 3.0
REPETITIONS = 9
SECONDS = 0.5

SMALL = Scenario(1, 1, 64)
FULL = Scenario(1, MB // 915, 915)


def measure(target: Target) -> Iterator[Figure]:
    alone = beside = float("inf")
    for _ in range(REPETITIONS):
        with target.start() as server:
            alone = min(alone, runLoad(server, SMALL, SECONDS).p99)
            with backgroundLoad(server, FULL, SECONDS + 20):
                beside = min(beside, runLoad(server, SMALL, SECONDS).p99)
    ratio = beside / alone
    yield Figure(
        "p99 beside a full pipe", ratio, LIMIT, f"{ratio:.2f} times", f"{alone:.0f} us alone, {beside:.0f} us beside"
    )


if __name__ == "__main__":
    sys.exit(main("fairness", measure, __doc__, seconds=120))
