"""Draw and tabulate what ``benchmarks.rpc --plot`` has measured, without measuring again.

    python -m benchmarks.rpcplot docs/topics/calls.json
    python -m benchmarks.rpcplot docs/topics/calls.json --plot docs/topics/calls.svg --page docs/topics/performance.md

The first prints tables in Markdown, the second draws the plot and puts the tables into a page, in place of what it has
between the lines ``<!-- calls -->`` and ``<!-- end of calls -->``.

The messages are those of the benchmark of Getty, 915 bytes, and of rpcx-benchmark, 581 bytes, from which that was made.
Both sizes are called by 1, 10 and 100 clients, with one call in flight each, and on one connection with more.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, how, micro, plotOptions, show
from benchmarks.svg import Line, Panel, draw

if TYPE_CHECKING:
    import argparse

SIZES = (581, 915)
CLIENTS = (1, 10, 100)
DEPTHS = (1, 4, 16, 64, 256)

#: The size that is drawn.
DRAWN = 581

#: What the peers are called in tables and in the plot, where that is not their name.
NAMES = {"getty_rpc": "getty_tx.rpc", "amp": "Twisted AMP"}

#: Those that have one call at a time on a connection.
IN_LINE = ("thriftpy2", "Pyro5")

#: What the tables stand between in a page.
MARK = "calls"


def rowOf(clients: int, depth: int, size: int) -> str:
    """A row of ``benchmarks.rpc``."""
    return f"{clients}x{depth}x{size}" + (":clients" if clients > 1 else "")


#: What ``benchmarks.rpc --plot`` measures: clients, then the depths on one connection.
ARTICLE = tuple(
    rowOf(clients, depth, size)
    for size in SIZES
    for clients, depth in [*((clients, 1) for clients in CLIENTS), *((1, depth) for depth in DEPTHS if depth > 1)]
)


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


def tables(figures: Figures) -> str:
    """What a page has: how it was measured, calls a second of each size, and p99 and CPU time of the size drawn."""
    made = [how(figures, "Best"), ""]
    for size in SIZES:
        made += _table(figures, "Calls a second", size, lambda found: f"{found['rate']:,}")
    made += _table(figures, "p99 in ms", DRAWN, lambda found: f"{found['p99'] / 1000:.2f}")
    made += _table(
        figures,
        "CPU us of a call, server and client",
        DRAWN,
        lambda found: f"{micro(found['server'])}, {micro(found['client'])}",
    )
    return "\n".join(made).rstrip() + "\n"


def options() -> argparse.Namespace:
    """Those of the command line."""
    return plotOptions("benchmarks.rpc", __doc__)


def main() -> int:
    return show(options(), drawing, tables, lambda _: MARK)


if __name__ == "__main__":
    sys.exit(main())
