"""Groups over Redis: what the way through it adds, and how much two processes bring to one another.

Limits: from publishing to the last of 200 members p99 is at most 3 ms more than with groups of the process alone, by
turns. Two processes, each with one publisher and one member, publish 20,000 a second together, with a history, and each
member gets all; 12,000 where the application reads and makes JSON for each. It needs redis-server.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.acceptance.groups_processes import MEMBERS, PUBLICATIONS, ROOM, Lines, cpuOf, p99, reaches, start
from benchmarks.acceptance.harness import Figure, NotMeasured, Target, connect, main

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Milliseconds that p99 may be higher.
MORE = 3.0

#: Publications a second of both processes together, how many one publishes at once, and how often.
RATE = 20_000
#: The same where each request and each publication is a line with JSON, which an application reads and makes.
JSON_RATE = 12_000
AT_ONCE, TIMES = 250, 200


def _awaitListening(port: int) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            connect(port).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


@dataclass
class Redis:
    """A redis-server."""

    address: str
    pid: int


@contextmanager
def redis() -> Iterator[Redis]:
    """A server that keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotMeasured("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _awaitListening(port)
            yield Redis(f"redis://127.0.0.1:{port}", process.pid)
        finally:
            process.kill()
            process.wait()


@contextmanager
def engine(text: str | None) -> Iterator[None]:
    """Servers that are started within have this engine; None: that of their process."""
    before = os.environ.pop("GETTY_GROUPS", None)
    if text is not None:
        os.environ["GETTY_GROUPS"] = text
    try:
        yield
    finally:
        os.environ.pop("GETTY_GROUPS", None)
        if before is not None:
            os.environ["GETTY_GROUPS"] = before


def latency(target: Target, address: str) -> Figure:
    """Both servers run: one publication here, one there, so that both have the same machine."""
    times: list[list[float]] = [[], []]
    with ExitStack() as stack:
        every = []
        for text in (None, address):
            with engine(text):
                server = stack.enter_context(start(target, ""))
            every.append(stack.enter_context(closing(Lines(server.port, MEMBERS))))
        for lines in every:
            lines.join()
        time.sleep(0.5)
        for number in range(PUBLICATIONS):
            for lines, got in zip(every, times, strict=True):
                got.append(reaches(lines, number))
    alone, through = map(p99, times)
    middle = " and ".join(f"{statistics.median(got) * 1000:.2f}" for got in times)
    note = f"{alone:.2f} ms alone, {through:.2f} through Redis, medians {middle}"
    more = through - alone
    return Figure(f"publishing to the last of {MEMBERS}, p99, through Redis", more, MORE, f"{more:.2f} ms more", note)


def rate(target: Target, server: Redis, listener: str, least: float, what: str) -> Iterator[Figure]:
    """Two processes that publish as fast as they are answered."""
    with ExitStack() as stack:
        with engine(server.address):
            servers = [stack.enter_context(start(target, "", listener)) for _ in range(2)]
        every = [stack.enter_context(closing(Lines(server.port, 1))) for server in servers]
        for lines in every:
            lines.join()
        time.sleep(0.5)
        count = 2 * AT_ONCE * TIMES
        pids = [server.pid, *(each.pid for each in servers)]
        before = [*map(cpuOf, pids), time.process_time()]
        begun = time.perf_counter()
        for _ in range(TIMES):
            for lines in every:
                lines.send(lines.connections[0], {"say": ROOM, "text": "x" * 60}, AT_ONCE)
                # Its answers, and what both publish.
                lines.expect(3 * AT_ONCE)
            # One ahead: the next ones are on their way while these arrive.
            for lines in every:
                while lines.missing > 3 * AT_ONCE:
                    lines.take(lines.connections[0])
        for lines in every:
            lines.wait()
        found = count / (time.perf_counter() - begun)
        after = [*map(cpuOf, pids), time.process_time()]
    took = [f"{(end - start) / count * 1e6:.1f}" for start, end in zip(before, after, strict=True)]
    note = f"CPU of each: Redis {took[0]}, the processes {took[1]} and {took[2]}, the clients {took[3]} us"
    yield Figure(f"publications a second of two processes{what}", found, least, f"{found:,.0f}", note, floor=True)
    lost = sum(lines.missing for lines in every)
    yield Figure(f"that did not come to both, of {count}", lost, 0, str(lost))


def measure(target: Target) -> Iterator[Figure]:
    """Both."""
    with redis() as server:
        yield latency(target.on("getty"), server.address)
        yield from rate(target.on("getty"), server, "Plain", RATE, "")
        yield from rate(target.on("getty"), server, "Rooms", JSON_RATE, ", with JSON")


if __name__ == "__main__":
    sys.exit(main("groups_redis", measure, __doc__, seconds=300))
