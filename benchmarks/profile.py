"""Where the server's time for a message goes: the system's calls, and the steps of the package's own way.

    python -m benchmarks.profile
    python -m benchmarks.profile --scenario 256x1x65536 --reactor epoll

An echo server on one core serves the load from another. Its CPU time for a message is what the kernel counts for the
process, divided by the messages. ``perf record`` looks where it is, some hundred times a second, as more would slow it;
a system call's share is that of all that is done in it, which on loopback is the peer's receiving too. What is left is
Python, and is split among the steps in proportion to the instructions that ``benchmarks.path`` counts for each: so that
split is an estimate.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from benchmarks.__main__ import scenario
from benchmarks.loads import LoadError, Scenario, runLoad
from benchmarks.measure import LISTEN
from benchmarks.path import stepsOf
from benchmarks.servers import GETTY_ECHO, ServerError, ServerProcess, onReactor

if TYPE_CHECKING:
    from collections.abc import Sequence

SCENARIOS = ("1x1x915", "50x1x915", "50x16x915", "1000x1x915")

#: Samples a second, and seconds of a run.
RATE, SECONDS = 499, 1.0

#: Seconds until perf samples.
ATTACH = 0.3

RUNS = 7

#: The system calls of a message, by the name of the function in the kernel that has all of one's work below it.
CALLS = {"epoll_wait": "do_epoll_wait", "recv": "__sys_recvfrom", "send": "__sys_sendto", "sendmsg": "__sys_sendmsg"}


def sharesOf(report: str) -> dict[str, float]:
    """The share of each symbol in a report of perf, which has lines such as ``34.39%  [k] __sys_sendto``."""
    shares: dict[str, float] = {}
    for line in report.splitlines():
        found = re.match(r"\s*(\d+\.\d+)%\s+(?:\[[k.]\]\s+)?(\S+)", line)
        if found is not None:
            shares.setdefault(found[2], float(found[1]) / 100)
    return shares


def perfReport(data: str, *options: str) -> dict[str, float]:
    """What perf reports of its data."""
    command = ["perf", "report", "--input", data, "--stdio", "--call-graph", "none", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"perf report: {done.stderr.strip()}")
    return sharesOf(done.stdout)


def sample(server: ServerProcess, each: Scenario) -> tuple[float, dict[str, float]]:
    """
    Microseconds for a message, and the shares of that time by system call; ``kernel`` is all that it is in the kernel.

    Of some runs the one with the least counts: the system's part can be three times as long where the load's core
    sleeps between two answers, and is woken by each.
    """
    best, shares = float("inf"), {}
    for _ in range(RUNS):
        with tempfile.NamedTemporaryFile() as data:
            record = ["perf", "record", "-q", "-F", str(RATE), "-g", "-o", data.name, "-p", str(server.pid)]
            recording = subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                time.sleep(ATTACH)
                spent = runLoad(server, each, SECONDS).cpuPerMessage
                recording.send_signal(signal.SIGINT)
                _, errors = recording.communicate(timeout=30)
            finally:
                recording.kill()
                recording.communicate()
            if spent < best:
                best, shares = spent, sharesIn(data.name)
    if not shares.get("kernel"):
        raise LoadError(f"perf has seen nothing of the kernel: {errors.strip() or 'kernel.perf_event_paranoid'}")
    return best, shares


def sharesIn(data: str) -> dict[str, float]:
    """The shares in what perf has recorded."""
    calls = perfReport(data, "--children", "--fields", "overhead_children,sym")
    objects = perfReport(data, "--no-children", "--fields", "overhead,dso")
    shares = {name: calls.get(symbol, 0.0) for name, symbol in CALLS.items()}
    return shares | {"kernel": objects.get("[kernel.kallsyms]", objects.get("[kernel]", 0.0))}


def profile(each: Scenario, reactor: str) -> dict[str, float]:
    """Microseconds for a message, by what they go to; ``CPU`` is their sum."""
    with ServerProcess(onReactor(GETTY_ECHO, reactor), listen=LISTEN) as server:
        total, shares = sample(server, each)
    kernel = shares.pop("kernel")
    spent = {f"kernel: {name}": share * total for name, share in shares.items() if share >= 0.001}
    spent["kernel: entry and exit"] = max(0.0, kernel - sum(shares.values())) * total
    steps = stepsOf(reactor, each.depth, min(each.connections, 50))
    instructions = sum(steps.values())
    for name, count in steps.items():
        spent[f"Python: {name}"] = (1 - kernel) * total * count / instructions
    return {"CPU": total, **spent}


def table(scenarios: Sequence[Scenario], columns: Sequence[dict[str, float]]) -> str:
    """The profiles beside each other."""
    rows = dict.fromkeys(name for column in columns for name in column)
    lines = [f"{'microseconds for a message':<44}" + "".join(f"{each!s:>14}" for each in scenarios)]
    for name in sorted(rows, key=lambda name: name != "CPU"):
        cells = [f"{used[name]:.2f} {used[name] / used['CPU']:4.0%}" if name in used else "-" for used in columns]
        lines.append(f"{name:<44}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scenario", action="append", type=scenario, metavar="CxDxB", help=f"default: {' '.join(SCENARIOS)}"
    )
    parser.add_argument("--reactor", default="getty", choices=["getty", "epoll"], help="default: %(default)s")
    options = parser.parse_args()
    if shutil.which("perf") is None:
        print("not measured: there is no perf (of the linux-tools)", file=sys.stderr)
        return 1
    scenarios = options.scenario or [Scenario.parse(each) for each in SCENARIOS]
    columns = []
    for each in scenarios:
        started = time.monotonic()
        try:
            columns.append(profile(each, options.reactor))
        except (LoadError, ServerError) as error:
            print(f"{each}: {error}", file=sys.stderr)
            return 1
        print(f"{each}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(table(scenarios, columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
