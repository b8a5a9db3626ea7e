"""Measure getty_tx beside Getty in Go: rates and CPU time for a message, in one table of one run.

    python -m benchmarks.getty FOLDER/echo
    python -m benchmarks.getty FOLDER/echo --row 50x1x915 --row ws:50x1x915 --row udp:50x1 --repetitions 3

FOLDER/echo is the server that the head of ``peers/getty_echo.go`` says how to build. It is beside getty_tx twice: on
Twisted's default reactor, and on ``--reactor getty``. All three take turns, on one core, with the load on another
where there are two.

A row is CONNECTIONSxDEPTHxBYTES, as for ``python -m benchmarks``; with ``ws:`` before it of WebSocket messages, and
``udp:`` has datagrams of 512 bytes, one in flight on each socket. Columns: Getty's best rate, and its lowest CPU time
for a message in microseconds; then for each of the others the rate as a multiple of Getty's, its CPU time, and that as
a multiple of Getty's. The load averages of the machine before and after are printed, too: above 2 on two cores
something else has run, and only the CPU times say something.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from benchmarks.__main__ import checked, end
from benchmarks.loads import LoadError, Scenario, loadProgram
from benchmarks.measure import SERVERS, WEBSOCKET_SERVERS, compare
from benchmarks.servers import ServerError, cores, onReactor, pinLoad
from benchmarks.udp import measureEcho

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = (
    "1x1x915",
    "50x1x915",
    "1000x1x915",
    "50x16x915",
    "20x1x65536",
    "ws:1x1x915",
    "ws:50x1x915",
    "udp:1x1",
    "udp:50x1",
)

#: A datagram holds one frame with its length, as Getty's server has it.
_UDP = "twistd -n --pidfile= getty-echo --codec length:order=little --listen udp:{port}:interface=127.0.0.1"

#: What is beside Getty, by the name of its column.
NAMES = ("getty_tx", "getty_fast")

HEADING = (
    f"  {'':<12}{'Getty/s':>10}{'CPU us':>8}"
    + "".join(f"{f'{name} rate':>17}{'CPU us':>8}{'ratio':>7}" for name in NAMES)
)  # fmt: skip


def serversOf(kind: str, program: str) -> dict[str, str]:
    """The commands of Getty and of getty_tx, for ``tcp``, ``ws`` or ``udp``."""
    stock = {"tcp": SERVERS, "ws": WEBSOCKET_SERVERS, "udp": {"getty_tx": _UDP, "getty_fast": onReactor(_UDP, "getty")}}
    return {"getty": f"{shlex.quote(program)} {{port}} {kind}", **{name: stock[kind][name] for name in NAMES}}


def parseRow(text: str) -> tuple[str, Scenario]:
    """
    Read a row: its kind, and its load.

    :raise ValueError: for any other text.
    """
    kind, _, numbers = text.rpartition(":")
    kind = kind or "tcp"
    if kind == "udp":
        scenario = Scenario.parse(f"{numbers}x512")
        if scenario.depth != 1:
            raise ValueError(f"a socket has one datagram in flight: {text!r} should be udp:{scenario.connections}x1")
        return kind, scenario
    if kind not in ("tcp", "ws"):
        raise ValueError(f"{kind!r} in {text!r} is neither ws nor udp")
    return kind, Scenario.parse(numbers)


def line(label: str, rates: Mapping[str, float], cpu: Mapping[str, float]) -> str:
    """A line of the table."""
    text = f"  {label:<12}{rates['getty']:>10.0f}{cpu['getty']:>8.2f}"
    for name in NAMES:
        ratio = f"{cpu[name] / cpu['getty']:.2f}" if cpu["getty"] else "-"
        text += f"{rates[name] / rates['getty']:>17.2f}{cpu[name]:>8.2f}{ratio:>7}"
    return text


def measure(text: str, program: str, repetitions: int, seconds: float) -> str:
    """Measure a row, and return its line of the table."""
    kind, scenario = parseRow(text)
    servers = serversOf(kind, program)
    if kind == "udp":
        return line(text, *measureEcho(servers, repetitions, seconds, scenario.connections))
    wanted = Scenario(scenario.connections, scenario.depth, scenario.size, isWebSocket=kind == "ws")
    found = compare(servers, wanted, repetitions, seconds)
    problems = [f"{name}: {summary.problem}" for name, summary in found.items() if summary.problem]
    if problems:
        return f"  {text:<12}FAILED: {'; '.join(problems)}"
    rates = {name: summary.best for name, summary in found.items()}
    return line(text, rates, {name: summary.cpuPerMessage for name, summary in found.items()})


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.getty", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", metavar="FOLDER/echo", help="Getty's server")
    parser.add_argument(
        "--row", action="append", type=checked(parseRow), help=f"repeatable (default: {' '.join(ROWS)})"
    )
    parser.add_argument("--repetitions", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one run (default: %(default)s)")
    options = parser.parse_args()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    try:
        loadProgram("c")
        print(f"servers on core {min(cores()[0])}, load on core {min(cores()[1])}, best of {options.repetitions}")
        print(f"load average before: {os.getloadavg()[0]:.2f}\n{HEADING}", flush=True)
        pinLoad()
        for text in options.row or ROWS:
            print(measure(text, os.path.abspath(options.program), options.repetitions, options.seconds), flush=True)
        print(f"load average after: {os.getloadavg()[0]:.2f}")
    except (ServerError, LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
