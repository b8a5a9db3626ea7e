"""Measure getty_tx beside bare Twisted and asyncio (and uvloop, if it is installed) as echo servers.

getty_fast is getty_tx on ``twistd --reactor getty``.

    python -m benchmarks
    python -m benchmarks --scenario 50x16x915 --repetitions 3
    python -m benchmarks --server 'mine=python my_server.py {port}' --only getty_tx,mine
    python -m benchmarks --websocket --server 'mine=python my_server.py {port}' --baseline mine

Every repetition starts each server once, in turn, on one core, and the load on another where there are two. A server
echoes frames of a 4-byte little-endian length and a payload on 127.0.0.1:{port}, with --websocket binary messages on
the path /. Every echoed byte is compared.

Columns: best rate of the repetitions; its ratio to the baseline's best; median rate; medians of the round trips'
p50 and p99; the server's CPU time per message (the lowest) and its ratio (baseline to this, so that more is better
as well); resident memory. Believe no difference below 10 % from fewer than 7 repetitions, and compare only figures
of one run. The load is load.c where there is a C compiler. Otherwise it is load.py, which may be slower than a server:
then only the CPU columns tell one from another.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from benchmarks.loads import LoadError, Scenario, loadProgram
from benchmarks.measure import SERVERS, WEBSOCKET_SERVERS, Summary, compare
from benchmarks.servers import ServerError, cores

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SCENARIOS = ("1x1x915", "50x1x915", "50x16x915", "1000x1x915")

HEADING = (
    f"  {'server':<12}{'best/s':>10}{'ratio':>7}{'median/s':>10}{'p50 us':>9}{'p99 us':>9}"
    f"{'CPU us/msg':>12}{'ratio':>7}{'RSS MB':>8}"
)


def scenario(text: str) -> Scenario:
    try:
        return Scenario.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """What an argument's text has to pass: it stays a text."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


def server(text: str) -> tuple[str, str]:
    name, separator, command = text.partition("=")
    if not (name and separator and "{port}" in command.replace("{listen}", "{port}")):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND with a {{port}} or {{listen}}")
    return name, command


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scenario",
        action="append",
        type=scenario,
        metavar="CxDxB",
        help=f"connections x messages in flight on each x payload bytes; repeatable (default: {' '.join(SCENARIOS)})",
    )
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        type=server,
        metavar="NAME=COMMAND",
        help="one more server, or another command for one of the stock ones; {port} and {listen} (an endpoint"
        f" description) are filled in; repeatable. Stock: {', '.join(SERVERS)}",
    )
    parser.add_argument("--websocket", action="store_true", help="WebSocket messages; needs a C compiler")
    parser.add_argument("--only", metavar="NAMES", help="measure these servers only, separated by commas")
    parser.add_argument("--baseline", help="the server that ratios refer to (default: twisted, or getty_tx without it)")
    parser.add_argument("--repetitions", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of one run (default: %(default)s)")
    parser.add_argument("--load", default="auto", choices=["auto", "c", "python"], help="default: %(default)s")
    options = parser.parse_args()
    options.servers = {**(WEBSOCKET_SERVERS if options.websocket else SERVERS), **dict(options.server)}
    options.baseline = options.baseline or ("getty_tx" if options.websocket else "twisted")
    if options.only:
        unknown = set(options.only.split(",")) - set(options.servers)
        if unknown:
            parser.error(f"--only names {', '.join(sorted(unknown))}; there are {', '.join(options.servers)}")
        options.servers = {name: options.servers[name] for name in options.only.split(",")}
    if options.repetitions < 1 or options.seconds <= 0:
        parser.error("--repetitions and --seconds have to be positive")
    return options


def row(name: str, summary: Summary, baseline: Summary | None) -> str:
    if summary.problem:
        return f"  {name:<12}FAILED: {summary.problem}"
    rateRatio = cpuRatio = "-"
    if baseline is not None and not baseline.problem:
        rateRatio = f"{summary.best / baseline.best:.2f}"
        # A run too short for the kernel's clock ticks has no CPU time.
        if summary.cpuPerMessage:
            cpuRatio = f"{baseline.cpuPerMessage / summary.cpuPerMessage:.2f}"
    return (
        f"  {name:<12}{summary.best:>10.0f}{rateRatio:>7}{summary.rate:>10.0f}{summary.p50:>9.0f}{summary.p99:>9.0f}"
        f"{summary.cpuPerMessage:>12.2f}{cpuRatio:>7}{summary.rss:>8.1f}"
    )


def end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(143)


def main() -> int:
    options = parse()
    # As with Ctrl-C, the with statements then end the servers.
    signal.signal(signal.SIGTERM, end)
    try:
        isC = len(loadProgram(options.load)) == 1
        load = "load.c" if isC else "load.py (may be slower than the servers: compare CPU us/msg)"
        print(f"{load} on core {min(cores()[1])}, servers on core {min(cores()[0])}")
        for wanted in options.scenario or map(Scenario.parse, SCENARIOS):
            wanted = replace(wanted, isWebSocket=options.websocket)
            summaries = compare(options.servers, wanted, options.repetitions, options.seconds, kind=options.load)
            print(f"\n{wanted}, best of {options.repetitions}\n{HEADING}")
            for name, summary in summaries.items():
                print(row(name, summary, summaries.get(options.baseline)), flush=True)
    except (ServerError, LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
