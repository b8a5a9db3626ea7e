"""Run the acceptance modules, all or those that are named, and print a table of their figures.

The exit status is 0 if every figure is within its limit. A module runs on its own as well:
python -m benchmarks.acceptance.NAME --help says what it measures.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.acceptance import (
    big_packages,
    both_ways,
    closing,
    cron,
    fairness,
    files,
    fuzz_http,
    groups_processes,
    groups_redis,
    groups_slow,
    groups_soak,
    groups_storms,
    hostile_calls,
    hostile_http,
    http2_streams,
    idle_memory,
    large_calls,
    many,
    memberships,
    processes,
    processes_http,
    reactor,
    registry,
    slow_http,
    slow_peers,
    speed,
    status,
    syscalls,
    waiting_calls,
    websocket_memory,
    workers,
)
from benchmarks.acceptance.harness import addTargetOptions, endCleanly, runModule, targetOf
from benchmarks.servers import pinLoad

#: Each module with the seconds it may take.
MODULES = {
    "syscalls": (syscalls, 90),
    "idle_memory": (idle_memory, 120),
    "websocket_memory": (websocket_memory, 120),
    "many": (many, 300),
    "slow_peers": (slow_peers, 180),
    "both_ways": (both_ways, 600),
    "fairness": (fairness, 120),
    "files": (files, 180),
    "hostile_calls": (hostile_calls, 600),
    "fuzz_http": (fuzz_http, int(fuzz_http.SECONDS) + 120),
    "hostile_http": (hostile_http, 900),
    "http2_streams": (http2_streams, 60),
    "slow_http": (slow_http, 300),
    "big_packages": (big_packages, 180),
    "large_calls": (large_calls, 180),
    "waiting_calls": (waiting_calls, 180),
    "closing": (closing, 150),
    "cron": (cron, 90),
    "memberships": (memberships, 120),
    "speed": (speed, 300),
    "status": (status, 120),
    "reactor": (reactor, 500),
    "workers": (workers, 120),
    "processes": (processes, 600),
    "processes_http": (processes_http, 300),
    "groups_processes": (groups_processes, 600),
    "groups_redis": (groups_redis, 300),
    "groups_soak": (groups_soak, int(groups_soak.SECONDS) + 120),
    "groups_storms": (groups_storms, 600),
    "groups_slow": (groups_slow, 900),
    "registry": (registry, 1500),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run: {', '.join(MODULES)} (default: all)")
    addTargetOptions(parser)
    options = parser.parse_args()
    unknown = set(options.names) - set(MODULES)
    if unknown:
        parser.error(f"no module {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    endCleanly()
    pinLoad()
    target = targetOf(options)
    figures = []
    for name in options.names or MODULES:
        module, seconds = MODULES[name]
        figures += runModule(name, module.measure, target, seconds)
    width = max(len(figure.name) for figure in figures)
    print()
    for figure in figures:
        print(f"{figure.name:<{width}}  {'ok    ' if figure.ok else 'FAILED'}  {figure.text}")
    failures = sum(not figure.ok for figure in figures)
    print(f"{len(figures)} figures, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
