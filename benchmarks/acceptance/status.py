"""What --status costs: CPU time of a message with it and without, and /metrics of 10,000 sessions.

Limits: at most 1.05 times the CPU time for a message, with a scrape each second; /metrics in at most 100 ms, and the
round trip of another connection meanwhile in at most 20 ms, which is as long as the reactor may pause. The same for a
page deep in the table of sessions, and both with two sub-reactors.

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
    from collections.abc import Iterator, Sequence

SESSIONS = 10_000
SCRAPES = 10
ROUNDS = 5
SCENARIO = Scenario(50, 1, 915)

#: A page in the middle of the table, in another order than that in which the sessions came.
DEEP = f"/sessions?sort=silence&order=descending&offset={SESSIONS // 2}&limit=100"

COST = 1.05
LATENCY = 0.1
PAUSE = 0.02


def start(target: Target, statusPort: int = 0, more: str = "") -> ServerProcess:
    """An echo server, with a status or without."""
    status = f" --status tcp:{statusPort}:interface=127.0.0.1" if statusPort else ""
    return ServerProcess(
        f"{target.echo}{status} {more}", listen="tcp:{port}:interface=127.0.0.1", everywhere=bool(more)
    )


def scrape(port: int, path: str = "/metrics") -> float:
    """Seconds that /metrics takes, or another path."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        size = 0
        while part := client.recv(1 << 16):
            size += len(part)
    if size < 1000:
        raise NotMeasured(f"{path} has {size} bytes")
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


def measureScrapes(target: Target, more: str = "", paths: Sequence[str] = ("/metrics", DEEP)) -> Iterator[Figure]:
    """/metrics and a page with many sessions, and the round trips of two meanwhile, which are with both processes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    number = SESSIONS if hard == resource.RLIM_INFINITY else min(SESSIONS, hard - 500)
    statusPort = freePort()
    with start(target, statusPort, more) as server:
        connections = [connect(server.port) for _ in range(number)]
        package = frame(b"ping")
        for each in connections:
            each.sendall(package)
        for each in connections:
            receiveExactly(each, len(package))
        for path in paths * 3:
            # The garbage collector looks through all these sessions once, whoever makes the next objects.
            scrape(statusPort, path)
        for path in paths:
            longest = 0.0
            times: list[float] = []
            for _ in range(SCRAPES):
                thread = threading.Thread(target=lambda path=path, times=times: times.append(scrape(statusPort, path)))
                thread.start()
                while thread.is_alive():
                    for each in connections[:2]:
                        began = time.perf_counter()
                        each.sendall(package)
                        receiveExactly(each, len(package))
                        longest = max(longest, time.perf_counter() - began)
                thread.join()
            note = f"{number} sessions, {SCRAPES} requests"
            most = max(times, default=1.0)
            yield Figure(f"{path}{more}", most, LATENCY, f"{most * 1000:.0f} ms", note)
            yield Figure(f"round trip during {path}{more}", longest, PAUSE, f"{longest * 1000:.1f} ms", note)
        for each in connections:
            each.close()


def measure(target: Target) -> Iterator[Figure]:
    """All figures."""
    yield measureCost(target)
    yield from measureScrapes(target)
    yield from measureScrapes(target, " --processes 2")


if __name__ == "__main__":
    sys.exit(main("status", measure, __doc__, 120))
