"""What --status costs: CPU time of a message with it and without, and /metrics of 10,000 sessions.

Limits: at most 1.05 times the CPU time for a message, with a scrape each second; /metrics in at most 100 ms, and the
round trip of another connection meanwhile in at most 20 ms, which is as long as the reactor may pause.

CPU times are measured turn by turn, and the least of each counts. Where the limit of descriptors allows fewer sessions,
there are fewer, and the note says so.
"""

from __future__ import annotations

import resource
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import Figure, NotMeasured, Target, connect, frame, main, receiveExactly
from benchmarks.loads import Scenario, runLoad
from benchmarks.servers import ServerProcess, freePort

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = 10_000
SCRAPES = 10
ROUNDS = 5
SCENARIO = Scenario(50, 1, 915)

COST = 1.05
LATENCY = 0.1
PAUSE = 0.02


def start(target: Target, statusPort: int = 0) -> ServerProcess:
    """An echo server, with a status or without."""
    status = f" --status tcp:{statusPort}:interface=127.0.0.1" if statusPort else ""
    return ServerProcess(target.echo + status, listen="tcp:{port}:interface=127.0.0.1")


def scrape(port: int) -> float:
    """Seconds that /metrics takes."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        size = 0
        while part := client.recv(1 << 16):
            size += len(part)
    if size < 1000:
        raise NotMeasured(f"/metrics has {size} bytes")
    return time.perf_counter() - began


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """Scrape once a second meanwhile."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(1):
            scrape(port)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def measureCost(target: Target) -> Figure:
    """CPU time of a message."""
    least = {False: float("inf"), True: float("inf")}
    statusPort = freePort()
    with start(target) as without, start(target, statusPort) as shown:
        for _ in range(ROUNDS):
            least[False] = min(least[False], runLoad(without, SCENARIO, 2).cpuPerMessage)
            with scraped(statusPort):
                least[True] = min(least[True], runLoad(shown, SCENARIO, 2).cpuPerMessage)
    ratio = least[True] / least[False]
    note = f"{least[True]:.1f} and {least[False]:.1f} µs a message at {SCENARIO}"
    return Figure("CPU with --status", ratio, COST, f"{ratio:.3f} of without", note)


def measureScrapes(target: Target) -> Iterator[Figure]:
    """/metrics with many sessions, and the round trips of one of them meanwhile."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    number = SESSIONS if hard == resource.RLIM_INFINITY else min(SESSIONS, hard - 500)
    statusPort = freePort()
    longest = 0.0
    times: list[float] = []
    with start(target, statusPort) as server:
        connections = [connect(server.port) for _ in range(number)]
        package = frame(b"ping")
        for each in connections:
            each.sendall(package)
        for each in connections:
            receiveExactly(each, len(package))
        scrape(statusPort)
        for _ in range(SCRAPES):
            thread = threading.Thread(target=lambda: times.append(scrape(statusPort)))
            thread.start()
            while thread.is_alive():
                began = time.perf_counter()
                connections[0].sendall(package)
                receiveExactly(connections[0], len(package))
                longest = max(longest, time.perf_counter() - began)
            thread.join()
        for each in connections:
            each.close()
    note = f"{number} sessions, {SCRAPES} scrapes"
    yield Figure("/metrics", max(times, default=1.0), LATENCY, f"{max(times, default=1.0) * 1000:.0f} ms", note)
    yield Figure("round trip during /metrics", longest, PAUSE, f"{longest * 1000:.1f} ms", note)


def measure(target: Target) -> Iterator[Figure]:
    """All figures."""
    yield measureCost(target)
    yield from measureScrapes(target)


if __name__ == "__main__":
    sys.exit(main("status", measure, __doc__, 120))
