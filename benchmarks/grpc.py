"""Measure gRPC servers: getty_tx beside grpc.aio, grpcio with threads, grpclib, and pygrpc-native.

    python -m benchmarks.grpc --python FOLDER/bin/python
    python -m benchmarks.grpc --row unary:1x100 --peer 'getty def' --peer grpc.aio --repetitions 3

A row is KIND:CONNECTIONSxCALLS, CALLS being in flight on each connection. Kinds: ``unary`` (100 bytes, and as many
back), and streams of 1,000 such messages: ``server`` (to the client), ``client`` (from it) and ``bidi`` (all come
back). Messages are google.protobuf.BytesValue. ``getty def`` has handlers with ``def`` (``async def`` where requests
are a stream), ``getty async`` has ``async def``; the head of each file ``peers/grpc_*`` tells the settings.

The load of unary calls is h2load, which must be installed, and of streams ``grpcload.py``. Server and load have a core
each where there are two; all servers take turns, each in a new process. Each must answer right before it is loaded. A
call that fails, or an answer that has another size, ends the runs of that server, and is shown. What is not installed
is left out: make a virtual environment with ``pip install grpcio grpclib pygrpc-native protobuf``, and uvloop if you
like, and name its interpreter with ``--python``; getty_tx runs on this one.

    python -m benchmarks.grpc --plot grpc.svg --page PAGE.md --python FOLDER/bin/python

``--plot`` draws the figures, and writes them beside it; ``--page`` puts the tables into a page.

Columns, medians of the repetitions: calls a second, and with streams messages; the server's CPU time for one in
microseconds (of all its processes and threads); no round trips; the peak of resident memory in MB; how busy the load
was in percent of its core (near 100 the rate is that of the load, and only the CPU time tells); and CPU time and rate
as multiples of grpc.aio's. The load averages before and after are printed: above 2 on two cores something else has run.
Below each row stands how getty_tx compares with what it should reach.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.__main__ import checked, end
from benchmarks.figures import Figures, putInto
from benchmarks.grpcloads import Row, awaitAnswer, run
from benchmarks.grpcpeers import BASELINE, PEERS, commandOf, missing, unable, versions
from benchmarks.grpcplot import MARK, drawing, tables, verdicts
from benchmarks.http import HEADING, Found, line
from benchmarks.loads import LoadError
from benchmarks.servers import ServerError, ServerProcess, cores, pinLoad

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS = (
    *(f"unary:{each}" for each in ("1x1", "1x100", "10x10")),
    *(f"{kind}:{each}" for kind in ("server", "client", "bidi") for each in ("1x1", "1x10")),
)


def once(name: str, row: Row, python: str, seconds: float, warmup: float, found: Found) -> None:
    """
    Run a peer once, and keep what was found.

    :raise LoadError: there were errors, or a wrong answer.
    :raise ServerError: it does not start.
    """
    with ServerProcess(commandOf(name, python)) as server:
        awaitAnswer(server, row.kind)
        server.resetPeak()
        result = run(server, row, seconds, warmup)
        found.memory.append(server.peakMemory())
        found.results.append(result)
        server.checkAlive()


def compare(
    names: Iterable[str], row: Row, python: str, repetitions: int, seconds: float, warmup: float = 1.0
) -> dict[str, Found]:
    """Run the peers in turn."""
    found = {name: Found(skipped=unable(PEERS[name], row.kind)) for name in names}
    for _ in range(repetitions):
        for name, each in found.items():
            if not (each.problem or each.skipped):
                try:
                    once(name, row, python, seconds, min(warmup, seconds), each)
                except (LoadError, ServerError) as error:
                    each.problem = str(error)
    return found


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--row", action="append", type=checked(Row.parse), help=f"repeatable (default: {' '.join(ROWS)})")
    add("--peer", action="append", choices=[*PEERS], help="repeatable (default: all)")
    add("--python", default=sys.executable, metavar="PATH", help="the interpreter that has the others' packages")
    add("--repetitions", type=int, default=5, metavar="N", help="default: %(default)s")
    add("--seconds", type=float, default=2.0, metavar="S", help="of one run (default: %(default)s)")
    add("--json", type=Path, metavar="FILE.json", help="write the figures, after each row")
    add("--plot", type=Path, metavar="FILE.svg", help="draw the figures, and write them beside it")
    add("--page", type=Path, metavar="PAGE.md", help="put the tables into a page")
    given = parser.parse_args()
    if given.repetitions < 1 or given.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    if given.plot and given.json is None:
        given.json = given.plot.with_suffix(".json")
    return given


def measureRows(names: list[str], given: argparse.Namespace) -> Figures:
    """Measure, print each row, and write what was found so far where figures are asked for."""
    figures = Figures(given.repetitions, given.seconds)
    figures.versions = versions(names, given.python)
    print(HEADING, flush=True)
    for text in given.row or ROWS:
        print(text, flush=True)
        found = compare(names, Row.parse(text), given.python, given.repetitions, given.seconds)
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
    if shutil.which("h2load") is None:
        print("install h2load first (Debian: nghttp2-client)", file=sys.stderr)
        return 1
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    names = given.peer or [*PEERS]
    absences = missing(names, given.python)
    for why in absences.values():
        print(why)
    names = [name for name in names if name not in absences]
    print(f"servers on core {min(cores()[0])}, load on core {min(cores()[1])}, medians of {given.repetitions}")
    print(f"load average before: {os.getloadavg()[0]:.2f}")
    try:
        pinLoad()
        figures = measureRows(names, given)
        if given.plot:
            given.plot.write_text(drawing(figures))
        if given.page:
            given.page.write_text(putInto(given.page.read_text(), tables(figures), MARK))
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        # Of the files that are written.
        print(error, file=sys.stderr)
        return 1
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
