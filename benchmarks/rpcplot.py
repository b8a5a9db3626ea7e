"""Draw and tabulate what ``benchmarks.rpc --plot`` has measured, without measuring again.

    python -m benchmarks.rpcplot docs/topics/calls.json
    python -m benchmarks.rpcplot docs/topics/calls.json --plot docs/topics/calls.svg --page docs/topics/performance.md

The first prints tables in Markdown, the second draws the plot and puts the tables into a page, in place of what it has
between the lines ``<!-- calls -->`` and ``<!-- end of calls -->``.

The messages are those of the benchmark of Getty, 915 bytes, and of rpcx-benchmark, 581 bytes, from which that was made.
Both sizes are called by 1, 10 and 100 clients, with one call in flight each, and on one connection with more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.svg import Line, Panel, draw

SIZES = (581, 915)
CLIENTS = (1, 10, 100)
DEPTHS = (1, 4, 16, 64, 256)

#: The size that is drawn.
DRAWN = 581

#: What the peers are called in tables and in the plot, where that is not their name.
NAMES = {"getty_rpc": "getty_tx.rpc", "amp": "Twisted AMP"}

#: Those that have one call at a time on a connection.
IN_LINE = ("thriftpy2", "Pyro5")

BEGIN, END = "<!-- calls -->", "<!-- end of calls -->"


def rowOf(clients: int, depth: int, size: int) -> str:
    """A row of ``benchmarks.rpc``."""
    return f"{clients}x{depth}x{size}" + (":clients" if clients > 1 else "")


#: What ``benchmarks.rpc --plot`` measures: clients, then the depths on one connection.
ARTICLE = tuple(
    rowOf(clients, depth, size)
    for size in SIZES
    for clients, depth in [*((clients, 1) for clients in CLIENTS), *((1, depth) for depth in DEPTHS if depth > 1)]
)


def processor() -> str:
    """What the system calls the processor, and how many there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {name}"


@dataclass
class Figures:
    """
    What was found in one run.

    :ivar seconds: of each repetition.
    :ivar versions: the package and version of each peer.
    :ivar loadBefore: the machine's load average; so is ``loadAfter``.
    :ivar rows: for each row, and each peer in it, ``rate`` in calls a second, CPU times of ``server`` and ``client``
        for a call, and ``p50`` and ``p99``, all in microseconds; or a ``problem``.
    """

    repetitions: int
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=processor)
    python: str = field(default_factory=platform.python_version)
    loadBefore: float = field(default_factory=lambda: os.getloadavg()[0])
    loadAfter: float = 0.0
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Figures:
        """
        Those of a file.

        :raise ValueError: it has others.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} has no figures of benchmarks.rpc: {error}") from None

    def write(self, path: Path) -> None:
        """Write them, a peer in a row to a line."""
        kept = asdict(self)
        rows = kept.pop("rows")
        blocks = [
            f"  {json.dumps(row)}: {{\n"
            + ",\n".join(f"   {json.dumps(name)}: {json.dumps(each)}" for name, each in peers.items())
            + "\n  }"
            for row, peers in rows.items()
        ]
        head = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in kept.items())
        path.write_text(f'{{\n{head} "rows": {{\n' + ",\n".join(blocks) + "\n }\n}\n")

    @property
    def peers(self) -> list[str]:
        """All that are in a row, in the order in which they come."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def get(self, row: str, peer: str) -> dict[str, Any] | None:
        """What was found, or None where a peer was not measured or failed."""
        found = self.rows.get(row, {}).get(peer, {})
        return found if "rate" in found else None


def drawing(figures: Figures, size: int = DRAWN) -> str:
    """
    An SVG: calls a second over depth, and below it p99 and, thin, p50.

    :raise ValueError: no peer has figures of that size at several depths.
    """
    rates = Panel(
        f"Calls a second, {size} bytes; dashed: one at a time, the others wait", "calls in flight on one connection"
    )
    trips = Panel("Round trip in ms: p99, and p50 thin", "calls in flight on one connection")
    for colour, peer in enumerate(figures.peers):
        found = [(depth, each) for depth in DEPTHS if (each := figures.get(rowOf(1, depth, size), peer))]
        if len(found) < 2:
            continue
        name, isDashed = NAMES.get(peer, peer), peer in IN_LINE
        rates.lines.append(Line(name, [(x, each["rate"]) for x, each in found], colour, False, isDashed))
        trips.lines.append(Line(name, [(x, each["p99"] / 1000) for x, each in found], colour, False, isDashed))
        trips.lines.append(Line(name, [(x, each["p50"] / 1000) for x, each in found], colour, True, isDashed))
    if not rates.lines:
        raise ValueError(f"no peer was measured at two depths or more with {size} bytes")
    ends = [f"{line.name} {line.points[-1][1]:,.0f} at {line.points[-1][0]}" for line in rates.lines]
    return draw("Calls a second and round trips over depth", "Calls a second: " + "; ".join(ends), [rates, trips])


def _table(figures: Figures, title: str, size: int, cell: Any) -> list[str]:
    """A table with a peer to a line."""
    columns = [(f"{n} client" + "s" * (n > 1), rowOf(n, 1, size)) for n in CLIENTS]
    columns += [(f"depth {n}", rowOf(1, n, size)) for n in DEPTHS if n > 1]
    columns = [(head, row) for head, row in columns if row in figures.rows]
    made = [f"**{title}, {size} bytes**", "", "| | " + " | ".join(head for head, _ in columns) + " |"]
    made.append("| --- " * (len(columns) + 1) + "|")
    for peer in figures.peers:
        cells = [cell(found) if (found := figures.get(row, peer)) else "failed" for _, row in columns]
        made.append(f"| {NAMES.get(peer, peer)} | " + " | ".join(cells) + " |")
    return [*made, ""]


def _micro(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def tables(figures: Figures) -> str:
    """What a page has: how it was measured, calls a second of each size, and p99 and CPU time of the size drawn."""
    versions = ", ".join(dict.fromkeys(figures.versions.values()))
    how = f"Best of {figures.repetitions} runs of {figures.seconds:g} s that took turns, on {figures.machine}, with"
    load = f"load average {figures.loadBefore:.1f} before and {figures.loadAfter:.1f} after"
    made = [textwrap.fill(f"{how} Python {figures.python}; {load}. {versions}.", 120), ""]
    for size in SIZES:
        made += _table(figures, "Calls a second", size, lambda found: f"{found['rate']:,}")
    made += _table(figures, "p99 in ms", DRAWN, lambda found: f"{found['p99'] / 1000:.2f}")
    made += _table(
        figures,
        "CPU us of a call, server and client",
        DRAWN,
        lambda found: f"{_micro(found['server'])}, {_micro(found['client'])}",
    )
    return "\n".join(made).rstrip() + "\n"


def putInto(page: str, text: str) -> str:
    """
    The page with another text between its marks.

    :raise ValueError: it does not have both marks, once and in order.
    """
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not (begin and end) or BEGIN in rest or END in after:
        raise ValueError(f"the page needs one line {BEGIN}, and one line {END} below it")
    return f"{before}{BEGIN}\n\n{text}\n{END}\n{after}"


def options() -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rpcplot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, metavar="FIGURES.json", help="what benchmarks.rpc --plot has written")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it")
    parser.add_argument("--page", type=Path, metavar="PAGE.md", help="put the tables into a page, and print none")
    return parser.parse_args()


def main() -> int:
    given = options()
    try:
        figures = Figures.read(given.figures)
        if given.plot:
            given.plot.write_text(drawing(figures))
        if given.page:
            given.page.write_text(putInto(given.page.read_text(), tables(figures)))
        else:
            print(tables(figures), end="")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
