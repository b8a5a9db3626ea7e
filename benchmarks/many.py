"""Measure many connections at once: what one costs, whether all are served, and the rate of the few that are active.

    python -m benchmarks.many            (make bench without ARGS does so, too)
    python -m benchmarks.many --connections 5000 --repetitions 1
    python -m benchmarks.many --processes 8

It raises the limit of open files as far as it may, and opens as many of the 100,000 connections as the machine allows:
first to one server process, getty_tx on the reactor of --reactor and bare Twisted; then, where one process cannot have
them all, to getty_tx with as many sub-reactors as they need. Processes that only hold connections have the other ends,
and come from several loopback addresses. The server has a core and the load another; sub-reactors have both.

The active connections keep a message of 915 bytes in flight each: first alone, then among the others, which are idle.
Before and after that each of the others sends a frame, and must have its echo. The exit status is 1 if one has not.
Every repetition does that once with each server, in turn, in a new process.

Columns: connections at once, the active ones among them; how many were opened in a second; resident memory of the
server for each connection when it was opened and when it has had its first echo, and the kernel's for both ends of it
(Slab, which others may change as well), medians all; the rate of the active ones alone and among the others, the bests,
and their ratio; that of the CPU time for a message (alone to among, so that more is better); the median p99 of the
round trips and the longest of them all, in microseconds, alone and among the others.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.__main__ import end
from benchmarks.loads import LoadError, Scenario, loadProgram, runLoad
from benchmarks.measure import LISTEN, PEERS, Summary
from benchmarks.room import Machine, Plan, RoomError, makePlan
from benchmarks.servers import GETTY_ECHO, ROOT, ServerError, ServerProcess, onReactor, pinLoad

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CONNECTIONS = 100_000
ACTIVE = 100
SIZE = 915

#: Seconds that the server has for settling before its memory is read.
SETTLE = 0.5

#: Seconds between two lines of progress.
PROGRESS = 10.0

HEADING = (
    f"  {'server':<12}{'conns':>8}{'open/s':>8}{'B idle':>8}{'B used':>8}{'B kernel':>10}"
    f"{'alone/s':>9}{'among/s':>9}{'ratio':>7}{'CPU':>6}"
    f"{'p99 us alone':>14}{'among':>7}{'max us alone':>14}{'among':>7}"
)


class HoldError(Exception):
    """Connections were lost, or not served, or could not be opened."""


class Crowd:
    """The processes that hold connections, to be used in a ``with`` statement.

    :param tell: called with how far it is.
    :param path: they are connections of HTTP, which ask for it.
    """

    def __init__(self, port: int, plan: Plan, tell: Callable[[str], object], path: str | None = None) -> None:
        self._plan = plan
        self._tell = tell
        self._holders = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.holder"),
                    *map(str, (port, count, plan.firstAddress(number), plan.perAddress, plan.batch)),
                    *([] if path is None else [path]),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for number, count in enumerate(plan.holders)
        ]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for holder in self._holders:
            holder.kill()
            holder.communicate()

    def open(self) -> float:
        """Open all connections, one process after the other; the seconds that took.

        :raise HoldError: it was not possible.
        """
        return sum(answer["seconds"] for answer in self._all("open", "opened"))

    def echo(self) -> None:
        """Have each connection send a frame, one process after the other.

        :raise HoldError: one has not had its echo.
        """
        answers = self._all("echo", "served")
        held = sum(self._plan.holders)
        served, lost = (sum(each[key] for each in answers) for key in ("served", "lost"))
        if served < held:
            raise HoldError(f"{held - served} of {held} connections had no echo, {lost} of them were closed or wrong")

    def _all(self, command: str, done: str) -> list[dict[str, float]]:
        return [
            self._ask(holder, command, sum(self._plan.holders[:number]), done)
            for number, holder in enumerate(self._holders)
        ]

    def _ask(self, holder: subprocess.Popen[str], command: str, before: int, done: str) -> dict[str, float]:
        """What one answers, where those before it have ``done`` so much."""
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
        # If it is gone, its output tells why.
        with suppress(OSError):
            holder.stdin.write(command + "\n")
            holder.stdin.flush()
        for line in holder.stdout:
            answer: dict[str, float] = json.loads(line)
            if "done" not in answer:
                return answer
            self._tell(f"{before + answer['done']} of {sum(self._plan.holders)} connections {done}")
        why = holder.stderr.read().strip() or f"a process that holds them ended with status {holder.wait()}"
        raise HoldError(f"not all connections could be {done}: {why}")


@dataclass
class Result:
    """What was measured with one server: a figure for each repetition.

    :ivar plan: what it held.
    :ivar opening: connections opened in a second.
    :ivar idle: resident bytes of the server for each connection when they were open.
    :ivar used: the same when each has had an echo.
    :ivar kernel: the kernel's bytes for both ends.
    :ivar alone: the runs of the active ones before there were others.
    :ivar among: those among the others.
    """

    plan: Plan
    opening: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    kernel: list[float] = field(default_factory=list)
    alone: Summary = field(default_factory=Summary)
    among: Summary = field(default_factory=Summary)

    @property
    def ratio(self) -> float:
        """The best rate among the others, of that alone."""
        return self.among.best / self.alone.best

    def __str__(self) -> str:
        # A run too short for the kernel's clock ticks has no CPU time.
        cpu = f"{self.alone.cpuPerMessage / self.among.cpuPerMessage:.2f}" if self.among.cpuPerMessage else "-"
        opening, idle, used, kernel = map(median, (self.opening, self.idle, self.used, self.kernel))
        alone, among = self.alone, self.among
        return (
            f"{self.plan.connections:>8}{opening:>8.0f}{idle:>8.0f}{used:>8.0f}{kernel:>10.0f}"
            f"{alone.best:>9.0f}{among.best:>9.0f}{self.ratio:>7.2f}{cpu:>6}"
            f"{alone.p99:>14.0f}{among.p99:>7.0f}{longest(alone):>14.0f}{longest(among):>7.0f}"
        )


def longest(summary: Summary) -> float:
    """The longest round trip of all runs, in microseconds."""
    return max(result.max for result in summary.results)


def slab() -> int:
    """Bytes of the kernel's own objects, sockets among them."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Slab:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(command: str, result: Result, seconds: float, tell: Callable[[str], object] = lambda text: None) -> None:
    """Have the server of a command hold what is planned, once.

    :raise HoldError: connections were lost, or not served, or could not be opened.
    :raise LoadError: one of the active ones was.
    :raise ServerError: the server does not start.
    """
    plan = result.plan
    active = Scenario(plan.active, 1, SIZE)
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess(command, everywhere=plan.processes > 0, listen=LISTEN))
        alone = runLoad(server, active, seconds)
        crowd = stack.enter_context(Crowd(server.port, plan, tell))
        time.sleep(SETTLE)
        before, kernelBefore = server.memory(), slab()
        took = crowd.open()
        time.sleep(SETTLE)
        idle, kernel = server.memory(), slab()
        crowd.echo()
        time.sleep(SETTLE)
        used = server.memory()
        among = runLoad(server, active, seconds)
        crowd.echo()
        server.checkAlive()
    held = sum(plan.holders)
    result.alone.results.append(alone)
    result.among.results.append(among)
    result.opening.append(held / took)
    result.idle.append((idle - before) / held)
    result.used.append((used - before) / held)
    result.kernel.append((kernel - kernelBefore) / held)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--connections", type=int, default=CONNECTIONS, metavar="N", help="at once (default: %(default)s)")
    add("--active", type=int, default=ACTIVE, metavar="N", help="of these (default: %(default)s)")
    add("--processes", type=int, metavar="N", help="getty_tx with so many sub-reactors only; 0: one process only")
    add("--reactor", default="getty", metavar="NAME", help="of getty_tx (default: %(default)s)")
    add("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    add("--seconds", type=float, default=1.0, metavar="S", help="of one rate (default: %(default)s)")
    options = parser.parse_args()
    if options.active < 1 or options.connections <= options.active:
        parser.error("--active has to be positive, and --connections more than that")
    if options.processes is not None and options.processes < 0:
        parser.error("--processes has to be 0 or more")
    if options.repetitions < 1 or options.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    return options


def plansFor(options: argparse.Namespace, machine: Machine) -> list[tuple[str, str, Plan]]:
    """Names, commands and plans of what is to be measured.

    :raise RoomError: nothing can be.
    """
    getty = onReactor(GETTY_ECHO, options.reactor)
    wanted = (machine, options.connections, options.active)
    if options.processes:
        plan = makePlan(*wanted, options.processes)
        return [(f"getty_tx x{plan.processes}", f"{getty} --processes {plan.processes}", plan)]
    one = makePlan(*wanted, 0)
    if options.processes == 0:
        return [("getty_tx", getty, one)]
    found = [("getty_tx", getty, one), ("twisted", PEERS["twisted"], one)]
    plan = makePlan(*wanted)
    if plan.connections > one.connections:
        found.append((f"getty_tx x{plan.processes}", f"{getty} --processes {plan.processes}", plan))
    return found


class Progress:
    """Prints a line now and then of what it is told."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS

    def tell(self, about: str, text: str) -> None:
        """Print what it is about and the text, if the last line is some time ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS
            print(f"    {about}: {text}", file=sys.stderr, flush=True)


def measureAll(options: argparse.Namespace, plans: list[tuple[str, str, Plan]]) -> bool:
    """Measure and print a table; whether all went well."""
    results = {name: Result(plan) for name, _, plan in plans}
    problems: dict[str, str] = {}
    progress = Progress()
    for number in range(options.repetitions):
        for name, command, _ in plans:
            if name not in problems:
                which = f"{name}, {number + 1} of {options.repetitions}"
                try:
                    measure(command, results[name], options.seconds, partial(progress.tell, which))
                except (ServerError, LoadError, HoldError) as error:
                    problems[name] = str(error)
    print(HEADING)
    for name, result in results.items():
        print(f"  {name:<12}" + (f"FAILED: {problems[name]}" if name in problems else str(result)))
    return not problems


def main() -> int:
    options = parse()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    pinLoad()
    try:
        machine = Machine.here(options.connections)
        plans = plansFor(options, machine)
        largest = max((plan for _, _, plan in plans), key=lambda plan: plan.connections)
        print(f"{machine.files} open files for each process: up to {machine.each} connections to one")
        if largest.limit:
            print(f"{largest.connections} connections and not {options.connections}: {largest.limit}")
        load = "load.c" if len(loadProgram()) == 1 else "load.py (may be slower than the servers)"
        print(f"{load}; getty_tx on --reactor {options.reactor}; {options.active} connections are active", flush=True)
        return 0 if measureAll(options, plans) else 1
    except RoomError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
