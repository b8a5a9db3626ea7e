"""Measure broadcasts to groups: getty_tx beside Autobahn, websockets, python-socketio, nchan, and a loop of writePkg.

    python -m benchmarks.groups --python FOLDER/bin/python
    python -m benchmarks.groups --row 1000x100 --row 1000x100:deflate --peer getty --peer autobahn --repetitions 3

A row is MEMBERSxBYTES: one connection publishes text messages of so many bytes, and all members get each. Two are under
way, the next one when the oldest has reached every member. Behind it may stand ``:deflate`` (WebSocket with
permessage-deflate, without it none is offered), ``:one`` (one under way, so that nothing can be joined), ``:window``
(one under way, and groups of getty_tx have a window of 50 ms), ``:burst`` (20 at once, with that window), ``:half``
(one under way, and none for as long as it took), ``:stuck`` (1 % of the members read nothing) and ``:slow`` (they read
10 KB a second; nothing waits for them). Ten connections that are no members have 250 echoes a second meanwhile, but
with ``:window`` and ``:burst``.

``getty`` is a group of getty_tx with a codec of JSON over WebSocket, ``loop`` calls ``writePkg`` for each member
instead; ``getty length`` and ``loop length`` are the same with LengthCodec over TCP. ``sends`` is a program in C that
does one send for each member and nothing else. ``autobahn`` has bare Twisted and ``sendPreparedMessage``,
``websockets`` its ``broadcast``, ``socketio`` is python-socketio with uvicorn, ``nchan`` nginx with this module. The
head of each file ``peers/groups_*`` tells the settings.

Server and load, which is ``groupload.c``, have a core each where there are two; all servers take turns, each in a new
process. Every member must have all publications in order, else the runs of that server end, and that is shown. What is
not installed is left out: make a virtual environment with ``pip install websockets python-socketio
'uvicorn[standard]'`` and name its interpreter with ``--python``; nchan needs nginx and, in Debian, libnginx-mod-nchan.

    python -m benchmarks.groups --well 60 --python FOLDER/bin/python
    python -m benchmarks.groups --plot groups.svg --python FOLDER/bin/python

``--well`` has each server loaded for so many seconds, after a load that has come and gone, and prints the deliveries,
the resident memory before and after, and what the server has said. ``--plot`` draws deliveries a second and p99 over
the number of members.

Columns, medians of the repetitions: deliveries a second; the server's CPU time for one in microseconds; p50 and p99 of
the time from publishing to a delivery, and p99 to the last one of each publication; p99 of the echoes, all in ms; the
server's resident memory when publishing begins, how much it grows then at its peak, and how much the kernel's for all
connections of the machine grows until the end, in MB; how busy the load was in percent of its core (near 100, rate and
times are those of the load); CPU time and rate as multiples of getty's; and, behind those, slow members that the server
has closed. The load averages before and after are printed: above 2 on two cores something else has run. Below each row
stands how getty_tx compares with what it should reach.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.__main__ import checked, end
from benchmarks.figures import Figures
from benchmarks.grouploads import GroupResult, Row, checkDeflate, program, run
from benchmarks.grouppeers import BASELINE, PEERS, commandOf, missing, unable, versions
from benchmarks.groupplot import drawing, verdicts
from benchmarks.loads import LoadError
from benchmarks.room import Machine, RoomError
from benchmarks.servers import ServerError, ServerProcess, cores, pinLoad

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = (
    *(f"{members}x{size}" for size in (100, 1024) for members in (100, 1000, 10_000)),
    "1000x100:one",
    "1000x1024:deflate",
    "1000x100:window",
    "1000x100:burst",
    "10000x100:half",
    "1000x10240:stuck",
    "1000x10240:slow",
)

#: The row of ``--well``.
LONG = "1000x1024"

_COLUMNS = {
    "deliv/s": 10,
    "CPU us": 9,
    "p50 ms": 9,
    "p99 ms": 9,
    "last99": 9,
    "echo99": 9,
    "RSS MB": 8,
    "grown": 7,
    "kernel": 8,
    "load %": 8,
    "CPU x": 8,
    "rate x": 8,
}
HEADING = f"  {'':<14}" + "".join(f"{name:>{width}}" for name, width in _COLUMNS.items())

WELL_HEADING = f"  {'':<14}{'deliveries':>12}{'before MB':>11}{'after MB':>10}  said"


@dataclass
class Found:
    """The runs of one server in one row: the results, or why there are none."""

    results: list[GroupResult] = field(default_factory=list)
    problem: str = ""
    skipped: str = ""

    def median(self, name: str) -> float:
        """The median of one of the results' figures."""
        return median(getattr(result, name) for result in self.results)

    @property
    def figures(self) -> dict[str, float | str]:
        """What is kept of them, or the problem in one line. Times are in microseconds, memory in MB."""
        if self.skipped or self.problem:
            return {"skipped": self.skipped} if self.skipped else {"problem": shortened(self.problem)}
        times = ("p50", "p99", "last50", "last99", "echo50", "echo99")
        return {
            "rate": round(self.median("rate"), 1),
            "server": round(self.median("cpuPerMessage"), 3),
            **{name: round(self.median(name)) for name in times},
            "rss": round(self.median("memory") / 1e6, 1),
            "grown": round(self.median("grown") / 1e6, 1),
            "kernel": round(self.median("kernel") / 1e6, 1),
            "busy": round(median(result.clientSeconds / result.seconds for result in self.results) * 100),
            "bytes": round(median(result.bytes / result.messages for result in self.results), 1),
            "closed": self.median("closed"),
        }


def shortened(problem: str) -> str:
    """The first line of a problem, and the last, if there are several."""
    lines = problem.strip().splitlines()
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))


def line(name: str, each: Found, first: Found | None) -> str:
    """A line of the table; ``first`` is what it is compared with."""
    found = each.figures
    if each.skipped or each.problem:
        return f"  {name:<14}" + (f"- ({each.skipped})" if each.skipped else f"FAILED: {found['problem']}")
    text = f"  {name:<14}{found['rate']:>10.0f}{found['server']:>9.2f}"
    text += "".join(f"{float(found[key]) / 1000:>9.2f}" for key in ("p50", "p99", "last99"))
    text += f"{float(found['echo99']) / 1000:>9.2f}" if found["echo99"] else f"{'-':>9}"
    text += f"{found['rss']:>8.1f}{found['grown']:>7.1f}{found['kernel']:>8.1f}{found['busy']:>8.0f}"
    if first is not None and first.results and not first.problem:
        own = first.figures
        ratios = (float(found[key]) / float(own[key]) if own[key] else 0.0 for key in ("server", "rate"))
        text += "".join(f"{ratio:>8.2f}" for ratio in ratios)
    return text + (f"  closed {found['closed']:.0f}" if found["closed"] else "")


class Bench:
    """Runs servers; to be used in a ``with`` statement, in which there is a folder for them."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._folder = tempfile.TemporaryDirectory(prefix="groups-")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def server(self, name: str, row: Row) -> ServerProcess:
        """A server of a peer, to be used in a ``with`` statement."""
        return ServerProcess(commandOf(name, row, self._python), folder=self._folder.name)

    def once(self, name: str, row: Row, seconds: float, warmup: float) -> GroupResult:
        """
        Run a peer once.

        :raise LoadError: a member has not had what was published.
        :raise ServerError: the server does not start, or has ended.
        """
        wire = PEERS[name].wireOf(row)
        with self.server(name, row) as server:
            try:
                if row.isDeflate:
                    checkDeflate(server.port, wire)
                found = run(server, row, wire, seconds, warmup)
            except (LoadError, OSError) as error:
                raise LoadError(f"{error}\n{server.outputTail(300).strip()}".strip()) from None
            server.checkAlive()
        return found

    def compare(
        self, names: Iterable[str], row: Row, repetitions: int, seconds: float, warmup: float = 1.0
    ) -> dict[str, Found]:
        """Run the peers in turn."""
        found = {name: Found(skipped=unable(PEERS[name], row)) for name in names}
        for _ in range(repetitions):
            for name, each in found.items():
                if not (each.problem or each.skipped):
                    try:
                        each.results.append(self.once(name, row, seconds, warmup))
                    except (LoadError, ServerError) as error:
                        each.problem = str(error)
        return found

    def wellness(self, name: str, row: Row, seconds: float) -> str:
        """A line about a peer that was loaded for a long time."""
        wire = PEERS[name].wireOf(row)
        if why := unable(PEERS[name], row):
            return line(name, Found(skipped=why), None)
        try:
            with self.server(name, row) as server:
                run(server, row, wire, 1.0, 0.5)
                before, deliveries, said = server.memory(), 0, []
                try:
                    deliveries = run(server, row, wire, seconds, 0.5).messages
                except LoadError as error:
                    said.append(f"FAILED: {error}")
                after = server.memory()
                said += filter(None, server.outputTail().split("\n"))
                server.checkAlive()
        except (LoadError, ServerError) as error:
            return line(name, Found(problem=str(error)), None)
        return f"  {name:<14}{deliveries:>12}{before / 1e6:>11.1f}{after / 1e6:>10.1f}  {' / '.join(said)}".rstrip()


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.groups", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--row", action="append", type=checked(Row.parse), help=f"repeatable (default: {' '.join(ROWS)})")
    add("--peer", action="append", choices=[*PEERS], help="repeatable (default: all)")
    add("--python", default=sys.executable, metavar="PATH", help="the interpreter that has the others' packages")
    add("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    add("--seconds", type=float, default=2.0, metavar="S", help="of one run (default: %(default)s)")
    add("--json", type=Path, metavar="FILE.json", help="write the figures, after each row")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--well", type=float, metavar="S", help=f"load each for S seconds instead (row: {LONG})")
    instead.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the figures, and write them beside it")
    given = parser.parse_args()
    if any(number is not None and number <= 0 for number in (given.repetitions, given.seconds, given.well)):
        parser.error("--repetitions, --seconds and --well have to be positive")
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
        for verdict in verdicts(figures, text):
            print(f"  {verdict}", flush=True)
        figures.loadAfter = os.getloadavg()[0]
        if given.json:
            figures.write(given.json)
    return figures


def main() -> int:
    given = options()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    names = given.peer or [*PEERS]
    absences = missing(names, given.python)
    for why in absences.values():
        print(why)
    names = [name for name in names if name not in absences]
    rows = given.row or ([LONG] if given.well else ROWS)
    # Servers and loads inherit the limit of open files.
    Machine.here(max(20_000, max(Row.parse(text).members for text in rows)))
    print(f"servers on core {min(cores()[0])}, load on core {min(cores()[1])}, medians of {given.repetitions}")
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    try:
        program()
        pinLoad()
        with Bench(given.python) as bench:
            if given.well:
                for text in rows:
                    print(f"{text}\n{WELL_HEADING}", flush=True)
                    for name in names:
                        print(bench.wellness(name, Row.parse(text), given.well), flush=True)
            else:
                print(HEADING, flush=True)
                figures = measureRows(bench, rows, names, given)
                if given.plot:
                    given.plot.write_text(drawing(figures))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, LoadError, RoomError) as error:
        # Of the files that are written, of a load that cannot be built, and of what there is no room for.
        print(error, file=sys.stderr)
        return 1
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
