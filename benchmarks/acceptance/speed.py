"""The rate of the echo against bare Twisted, both on Twisted's default reactor, turn by turn in the same run.

Limits: at least 1.5 times bare Twisted's rate at 50x1x915, 1.3 times at 50x16x915 and 1.35 times at 1000x1x915
(connections x messages in flight x bytes); the ratio of the best of 7 repetitions of 1 s. It needs a C compiler: no
load in Python is fast enough to find a server's rate.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, NotMeasured, Target, main
from benchmarks.loads import Scenario, compiledLoad
from benchmarks.measure import PEERS, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

REPETITIONS = 7
SECONDS = 1.0

FLOORS = {Scenario(50, 1, 915): 1.5, Scenario(50, 16, 915): 1.3, Scenario(1000, 1, 915): 1.35}


def measure(target: Target, floors: dict[Scenario, float] = FLOORS, peer: str = "twisted") -> Iterator[Figure]:
    if compiledLoad() is None:
        raise NotMeasured("no C compiler for the load")
    if peer not in PEERS:
        raise NotMeasured(f"{peer} is not installed")
    servers = {"server": target.echo, peer: PEERS[peer]}
    for scenario, floor in floors.items():
        summaries = compare(servers, scenario, REPETITIONS, SECONDS)
        ours, theirs = summaries["server"], summaries[peer]
        problem = ours.problem or theirs.problem
        ratio = 0.0 if problem else ours.best / theirs.best
        yield Figure(
            f"rate {scenario} beside {peer}",
            ratio,
            floor,
            f"{ratio:.2f} times the rate",
            problem or f"CPU {ours.cpuPerMessage:.1f} and {theirs.cpuPerMessage:.1f} us/message",
            floor=True,
        )


if __name__ == "__main__":
    sys.exit(main("speed", measure, __doc__, seconds=300))
