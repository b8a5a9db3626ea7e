"""Measure HTTP servers: getty_tx beside uvicorn, granian, gunicorn, Daphne, hypercorn, h2corn, twisted.web and Go.

    python -m benchmarks.http --python FOLDER/bin/python
    python -m benchmarks.http --row hello:50x1 --row echo:50x1:tls --peer uvicorn --peer granian --repetitions 3

A row is SHAPE:CONNECTIONSxDEPTH, DEPTH being requests in flight on each connection. Shapes: ``hello`` (plaintext),
``echo`` (POST of 1 KB), ``json`` and ``fastapi`` (an object, through Starlette and FastAPI with ASGI servers),
``stream64k`` and ``stream10m`` (answers in chunks of 16 and 64 KiB, of no length said before), and the two of wnet's
scenario, which have a body of 1 KB: ``loop`` (100,000 turns of an empty loop) and ``digest`` (SHA-256 of 32 KiB, some
25 us of C). Behind it may stand ``:browser`` (a browser's twelve header fields instead of Host alone), ``:tls``,
``:new`` (a new connection for each request), ``:two`` (two processes, which have the load's core as well) and ``:h2``
(HTTP/2, by servers that have it; net/http in clear only with Debian's ``golang-golang-x-net-dev``).

The load is wrk, which must be installed, h2load for HTTP/2, and golang for Go's server. Server and load have a core
each where there are two; all servers take turns, each in a new process. Each must answer right before it is loaded. An
error or an answer that is not 2xx ends the runs of that server, and is shown. What is not installed is left out: make
a virtual environment with ``pip install 'uvicorn[standard]' zttp granian gunicorn gunicorn_h1c daphne hypercorn h2corn
starlette fastapi uvloop`` and what getty_tx needs, and name its interpreter with ``--python``: all run on that,
getty_tx as well. ``httppeers.py`` tells their command lines and settings.

    python -m benchmarks.http --well 60 --python FOLDER/bin/python
    python -m benchmarks.http --idle 10000 --python FOLDER/bin/python
    python -m benchmarks.http --plot http.svg --python FOLDER/bin/python

``--well`` has each server loaded for so many seconds, after a load that has come and gone, and prints the answers, the
resident memory before and after, the errors and what the server has said. ``--idle`` opens so many connections from
several addresses, asks once on each and keeps them: resident bytes of the server for each. ``--plot`` measures the rows
of wnet's scenario and draws them.

Columns, medians of the repetitions: answers a second, the server's CPU time for one in microseconds (of all its
processes and threads), p50 and p99 in microseconds (as wrk corrects them; none with several in flight), the peak of
resident memory in MB (shared pages count in each process), how busy the load was in percent of its core (near 100 the
rate is that of the load, and only the CPU time tells), and CPU time and rate as multiples of uvicorn's. The load
averages before and after are printed: above 2 on two cores something else has run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.__main__ import checked, end
from benchmarks.acceptance.harness import newCertificate
from benchmarks.figures import Figures
from benchmarks.httploads import Row, awaitAnswer, run
from benchmarks.httppeers import BASELINE, PEERS, commandOf, missing, unable, versions
from benchmarks.httpplot import CURVES, DRAWN, drawing
from benchmarks.loads import LoadError
from benchmarks.many import SETTLE, Crowd, HoldError
from benchmarks.measure import Summary
from benchmarks.room import Machine, Plan, RoomError, makePlan
from benchmarks.servers import ServerError, ServerProcess, cores, pinLoad

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = (
    "hello:50x1",
    "hello:50x1:browser",
    "hello:50x16",
    "hello:1000x1",
    "echo:50x1",
    "json:50x1",
    "fastapi:50x1",
    "stream64k:50x1",
    "stream10m:10x1",
    "hello:50x1:tls",
    "hello:50x1:new",
    "hello:10x10:h2",
    "hello:10x10:h2:tls",
)

#: The row of ``--well``.
LONG = "echo:50x1"

_COLUMNS = {
    "rate": 10,
    "CPU us": 10,
    "p50 us": 10,
    "p99 us": 10,
    "RSS MB": 8,
    "load %": 8,
    "CPU x": 8,
    "rate x": 8,
}
HEADING = f"  {'':<14}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())

WELL_HEADING = f"  {'':<14}{'answers':>10}{'before MB':>11}{'after MB':>10}  said"


IDLE_HEADING = f"  {'':<14}{'held':>10}{'opened/s':>10}{'B opened':>10}{'B used':>10}{'before MB':>11}"


@dataclass
class Found(Summary):
    """The runs of one server in one row.

    :ivar skipped: why it has none.
    """

    skipped: str = ""

    @property
    def cpu(self) -> float:
        """The median of the server's CPU time for one answer, in microseconds."""
        return median(result.cpuPerMessage for result in self.results)

    @property
    def busy(self) -> float:
        """The median of the load's CPU time, in percent of the time."""
        return median(result.clientSeconds / result.seconds for result in self.results) * 100

    @property
    def figures(self) -> dict[str, float | str]:
        """What is kept of them, or the problem in one line."""
        if self.skipped or self.problem:
            return {"skipped": self.skipped} if self.skipped else {"problem": shortened(self.problem)}
        return {
            "rate": round(self.rate, 1),
            "server": round(self.cpu, 2),
            "p50": round(self.p50),
            "p99": round(self.p99),
            "rss": round(self.rss, 1),
            "busy": round(self.busy),
            "answers": sum(result.messages for result in self.results) // len(self.results),
        }


def shortened(problem: str) -> str:
    """The first line of a problem, and the last, if there are several."""
    lines = problem.strip().splitlines()
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))


class Bench:
    """Runs servers, all on one interpreter; to be used in a ``with`` statement, in which there is a certificate."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        self._made = self._stack.enter_context(newCertificate())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, name: str, row: Row) -> ServerProcess:
        """A server of a peer, to be used in a ``with`` statement."""
        command = commandOf(name, row, self._python)
        files = {"key": str(self._made.key), "certificate": str(self._made.chain)}
        return ServerProcess(command, everywhere=row.isTwo, **files)

    def once(self, name: str, row: Row, seconds: float, warmup: float, found: Found) -> None:
        """
        Run a peer once, and keep what was found.

        :raise LoadError: there were errors, or a wrong answer.
        :raise ServerError: it does not start.
        """
        with self.server(name, row) as server:
            awaitAnswer(server, row)
            server.resetPeak()
            result = run(server, row, seconds, warmup)
            found.memory.append(server.peakMemory())
            found.results.append(result)
            server.checkAlive()

    def compare(
        self, names: Iterable[str], row: Row, repetitions: int, seconds: float, warmup: float = 1.0
    ) -> dict[str, Found]:
        """Run the peers in turn."""
        found = {name: Found(skipped=unable(PEERS[name], row)) for name in names}
        for _ in range(repetitions):
            for name, each in found.items():
                if not (each.problem or each.skipped):
                    try:
                        self.once(name, row, seconds, warmup, each)
                    except (LoadError, ServerError) as error:
                        each.problem = str(error)
        return found

    def idle(self, name: str, plan: Plan) -> str:
        """A line about a peer that holds connections, each of which has had an answer and has one again later."""
        row = Row.parse("hello:50x1")
        try:
            with self.server(name, row) as server:
                awaitAnswer(server, row)
                # What only the first requests cost is no cost of a connection.
                run(server, row, 1.0, 0)
                with Crowd(server.port, plan, lambda text: None, row.path) as crowd:
                    time.sleep(SETTLE)
                    before = server.memory()
                    took = crowd.open()
                    time.sleep(SETTLE)
                    opened = server.memory()
                    crowd.echo()
                    time.sleep(SETTLE)
                    after = server.memory()
                    crowd.echo()
                server.checkAlive()
        except (LoadError, ServerError, HoldError) as error:
            return line(name, Found(problem=str(error)), None)
        held = sum(plan.holders)
        each = f"{(opened - before) / held:>10.0f}{(after - before) / held:>10.0f}"
        return f"  {name:<14}{held:>10}{held / took:>10.0f}{each}{before / 1e6:>11.1f}"

    def wellness(self, name: str, row: Row, seconds: float) -> str:
        """A line about a peer that was loaded for a long time."""
        try:
            with self.server(name, row) as server:
                awaitAnswer(server, row)
                run(server, row, 1.0, 1.0)
                before, answers, said = server.memory(), 0, []
                try:
                    answers = run(server, row, seconds, 0).messages
                except LoadError as error:
                    said.append(f"FAILED: {error}")
                after = server.memory()
                said += filter(None, server.outputTail().split("\n"))
                server.checkAlive()
        except (LoadError, ServerError) as error:
            return line(name, Found(problem=str(error)), None)
        return f"  {name:<14}{answers:>10}{before / 1e6:>11.1f}{after / 1e6:>10.1f}  {' / '.join(said)}".rstrip()


def line(name: str, each: Found, first: Found | None) -> str:
    """A line of the table; ``first`` is what it is compared with."""
    if each.skipped or each.problem:
        return f"  {name:<14}" + (f"- ({each.skipped})" if each.skipped else f"FAILED: {each.figures['problem']}")
    text = f"  {name:<14}{each.rate:>10.0f}{each.cpu:>10.2f}"
    text += f"{each.p50:>10.0f}{each.p99:>10.0f}" if each.p50 else f"{'-':>10}{'-':>10}"
    text += f"{each.rss:>8.1f}{each.busy:>8.0f}"
    if first is None or first.skipped or first.problem or not first.cpu:
        return text
    return f"{text}{each.cpu / first.cpu:>8.2f}{each.rate / first.rate:>8.2f}"


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.http", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--row", action="append", type=checked(Row.parse), help=f"repeatable (default: {' '.join(ROWS)})")
    add("--peer", action="append", choices=[*PEERS], help="repeatable (default: all)")
    add("--python", default=sys.executable, metavar="PATH", help="the interpreter that has the servers")
    add("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    add("--seconds", type=int, default=2, metavar="S", help="of one run (default: %(default)s)")
    add("--json", type=Path, metavar="FILE.json", help="write the figures, after each row")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--well", type=int, metavar="S", help=f"load each for S seconds instead (row: {LONG})")
    instead.add_argument("--idle", type=int, metavar="N", help="have each hold N connections instead")
    instead.add_argument("--plot", type=Path, metavar="FILE.svg", help="measure wnet's scenario, and draw it")
    given = parser.parse_args()
    numbers = (given.repetitions, given.seconds, given.well, given.idle)
    if any(number is not None and number < 1 for number in numbers):
        parser.error("--repetitions, --seconds, --well and --idle have to be positive")
    if given.plot and given.json is None:
        given.json = given.plot.with_suffix(".json")
    return given


def measureRows(bench: Bench, rows: Iterable[str], names: list[str], given: argparse.Namespace) -> Figures:
    """Measure, print each row, and write what was found so far where figures are asked for."""
    figures = Figures(given.repetitions, given.seconds)
    figures.versions = versions(names, given.python)
    for text in rows:
        print(text, flush=True)
        found = bench.compare(names, Row.parse(text), given.repetitions, given.seconds)
        for name, each in found.items():
            print(line(name, each, found.get(BASELINE)), flush=True)
        figures.rows[text] = {name: each.figures for name, each in found.items()}
        figures.loadAfter = os.getloadavg()[0]
        if given.json:
            figures.write(given.json)
    return figures


def main() -> int:
    given = options()
    if shutil.which("wrk") is None:
        print("install wrk first", file=sys.stderr)
        return 1
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    names = given.peer or ([*DRAWN] if given.plot else [*PEERS])
    absences = missing(names, given.python)
    for why in absences.values():
        print(why)
    names = [name for name in names if name not in absences]
    # Servers and loads inherit the limit of open files.
    Machine.here(20_000)
    print(f"servers on core {min(cores()[0])}, load on core {min(cores()[1])}, medians of {given.repetitions}")
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    try:
        pinLoad()
        with Bench(given.python) as bench:
            if given.well:
                for text in given.row or [LONG]:
                    print(f"{text}\n{WELL_HEADING}", flush=True)
                    for name in names:
                        print(bench.wellness(name, Row.parse(text), given.well), flush=True)
            elif given.idle:
                print(IDLE_HEADING, flush=True)
                plan = makePlan(Machine.here(given.idle + 1), given.idle + 1, 1, 0)
                for name in names:
                    print(bench.idle(name, plan), flush=True)
            else:
                print(HEADING, flush=True)
                figures = measureRows(bench, given.row or (CURVES if given.plot else ROWS), names, given)
                if given.plot:
                    given.plot.write_text(drawing(figures))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RoomError) as error:
        # Of the files that are written, and of what there is no room for.
        print(error, file=sys.stderr)
        return 1
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
