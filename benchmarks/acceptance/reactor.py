"""System calls and rates of the echo on ``twistd --reactor getty``.

Limits: at most 3.0 system calls for a message on one connection (and a hundredth for timers), 2.1 on 50 with a message
each in flight, counted as ``syscalls`` counts them. Then rates, taken as ``speed`` takes them: 2.0, 1.45 and 1.8 times
bare Twisted's at 50x1x915, 50x16x915 and 1000x1x915 (connections x messages in flight x bytes); 0.75, 0.6 and 0.65
times that of an asyncio protocol on uvloop, and 0.65 times with 256 connections and 64 KB messages.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.acceptance import speed, syscalls
from benchmarks.acceptance.harness import Figure, Target, main
from benchmarks.loads import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = {Scenario(1, 1, 915): 3.01, Scenario(50, 1, 915): 2.1}

BESIDE_TWISTED = {Scenario(50, 1, 915): 2.0, Scenario(50, 16, 915): 1.45, Scenario(1000, 1, 915): 1.8}
BESIDE_UVLOOP = {
    Scenario(50, 1, 915): 0.75,
    Scenario(50, 16, 915): 0.6,
    Scenario(1000, 1, 915): 0.65,
    Scenario(256, 1, 65536): 0.65,
}


def measure(target: Target) -> Iterator[Figure]:
    fast = target.on("getty")
    yield from syscalls.measure(fast, CALLS)
    yield from speed.measure(fast, BESIDE_TWISTED)
    yield from speed.measure(fast, BESIDE_UVLOOP, "uvloop")


if __name__ == "__main__":
    sys.exit(main("reactor", measure, __doc__, seconds=500))
