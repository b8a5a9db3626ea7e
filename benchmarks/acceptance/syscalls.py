"""System calls of the server for one echoed message, counted with strace on Twisted's default reactor.

Limits: 3.1 at one connection with one message in flight (epoll_wait, recv, send), 2.2 at 50 connections with one
message each in flight (where one epoll_wait finds several).

strace is attached after the warm-up and detached before the load ends. Messages are counted in the same trace, by the
bytes that the server received in it, so that both numbers are of exactly the same window.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceptance.harness import HEADER, Figure, NotMeasured, Target, main
from benchmarks.loads import Scenario, backgroundLoad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import ServerProcess

#: Seconds that strace counts.
WINDOW = 2.0

LIMITS = {Scenario(1, 1, 915): 3.1, Scenario(50, 1, 915): 2.2}

# "PID name(arguments) = result"; a call that another thread interrupts is "unfinished" first and "resumed" later.
CALL = re.compile(r"^(?:\d+\s+)?(?:<\.\.\. )?(\w+)(?: resumed>|\()(?:.*= (-?\d+)[^=]*$)?")
RECEIVING = {"recvfrom", "recvmsg", "read", "readv"}


def countCalls(trace: str, frameSize: int) -> tuple[Counter[str], float]:
    """The system calls in an strace output by name, and the messages whose bytes were received in it."""
    calls: Counter[str] = Counter()
    received = 0
    for line in trace.splitlines():
        match = CALL.match(line)
        if match is None:
            continue
        name, result = match.groups()
        if "resumed>" not in line:
            calls[name] += 1
        if name in RECEIVING and result is not None:
            received += max(0, int(result))
    return calls, received / frameSize


def traceServer(server: ServerProcess, seconds: float) -> str:
    """What strace writes about all threads of ``server`` in ``seconds``."""
    program = shutil.which("strace")
    if program is None:
        raise NotMeasured("strace is not installed")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "trace"
        # -s 0: nothing of the messages is written, which keeps the trace and the slowing small.
        strace = subprocess.Popen(
            [program, "-f", "-s", "0", "-o", str(output), "-p", str(server.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            time.sleep(seconds)
            strace.send_signal(signal.SIGINT)
            _, errors = strace.communicate(timeout=10)
        finally:
            strace.kill()
            strace.wait()
        trace = output.read_text() if output.exists() else ""
    if not trace:
        raise NotMeasured(f"strace counted nothing: {errors.decode(errors='replace').strip()}")
    return trace


def measure(target: Target, limits: dict[Scenario, float] = LIMITS) -> Iterator[Figure]:
    for scenario, limit in limits.items():
        with target.start() as server, backgroundLoad(server, scenario, WINDOW + 20):
            trace = traceServer(server, WINDOW)
        calls, messages = countCalls(trace, HEADER.size + scenario.size)
        if messages < 100:
            raise NotMeasured(f"{messages:.0f} messages are too few to count system calls for")
        perMessage = calls.total() / messages
        most = ", ".join(f"{name} {count / messages:.2f}" for name, count in calls.most_common(5))
        yield Figure(
            f"syscalls {scenario}",
            perMessage,
            limit,
            f"{perMessage:.3f} calls/message",
            f"{messages:.0f} messages: {most}",
        )


if __name__ == "__main__":
    sys.exit(main("syscalls", measure, __doc__, seconds=90))
