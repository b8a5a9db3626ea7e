"""Draw and tabulate what ``benchmarks.http --json`` or ``--plot`` has written, without measuring again.

    python -m benchmarks.httpplot docs/topics/http.json
    python -m benchmarks.httpplot docs/topics/wnet.json --plot docs/topics/wnet.svg --page docs/topics/http-speed.md

The first prints tables in Markdown, the second draws the plot and puts the tables into a page, in place of what it has
between the lines ``<!-- wnet -->`` and ``<!-- end of wnet -->``; figures of other rows come between those of ``http``.

The plot is wnet's scenario: a request with a body of 1 KB, a loop of 100,000 turns, and ever more connections. In
Python that loop takes milliseconds, whatever the server; so there is a second one, with 25 us of C in its place.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, how, micro, plotOptions, show
from benchmarks.httppeers import BASELINE
from benchmarks.svg import Line, Panel, draw

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

#: What the tables stand between in a page: those of wnet's scenario, and others.
SCENARIO, MARK = "wnet", "http"

CONNECTIONS = (100, 1000, 10_000)

#: The shapes of wnet's scenario, and what the plot says of them.
SHAPES = {"digest": "25 us of C", "loop": "a loop of 100,000 turns"}

#: Those that are drawn, where no others are asked for.
DRAWN = ("getty", "getty-asgi", "uvicorn", "granian", "net/http")

#: What the servers are called in tables and in the plot, where that is not their name.
NAMES = {"getty": "getty_tx", "getty-asgi": "getty_tx ASGI", "net/http": "Go net/http", "daphne": "Daphne"}


def rowOf(shape: str, connections: int, isTwo: bool = False) -> str:
    """A row of ``benchmarks.http``."""
    return f"{shape}:{connections}x1" + (":two" if isTwo else "")


#: What ``benchmarks.http --plot`` measures.
CURVES = tuple(
    rowOf(shape, connections, isTwo) for shape in SHAPES for isTwo in (False, True) for connections in CONNECTIONS
)


def hasTrips(found: dict[str, Any], connections: int) -> bool:
    """Whether each connection has had an answer, about: else the slowest are not among the percentiles."""
    return bool(found["answers"] >= connections and found["p99"])


def _add(panel: Panel, figures: Figures, peer: str, shape: str, key: str, scale: float = 1.0) -> None:
    """Add the lines of a peer: for one process, and dashed for two."""
    name, colour = NAMES.get(peer, peer), figures.peers.index(peer)
    for isTwo in (False, True):
        points = [
            (connections, found[key] / scale)
            for connections in CONNECTIONS
            if (found := figures.get(rowOf(shape, connections, isTwo), peer))
            and (key != "p99" or hasTrips(found, connections))
        ]
        if points:
            panel.lines.append(Line(f"{name} x2" if isTwo else name, points, colour, False, isTwo))


def drawing(figures: Figures) -> str:
    """
    An SVG: for both shapes, answers a second over connections; for that in C, p99 and memory.

    :raise ValueError: no server has figures of these rows.
    """
    x = "connections, each with one request in flight"
    panels = []
    for shape, work in SHAPES.items():
        rates = Panel(f"Answers a second, {work}; dashed: two processes", x)
        panels.append((rates, shape, "rate", 1.0))
    panels.append((Panel(f"p99 in ms, {SHAPES['digest']}", x), "digest", "p99", 1000.0))
    panels.append((Panel(f"Resident memory in MB at its peak, {SHAPES['digest']}", x), "digest", "rss", 1.0))
    for panel, shape, key, scale in panels:
        for peer in figures.peers:
            _add(panel, figures, peer, shape, key, scale)
    drawn = [panel for panel, *_ in panels if panel.lines]
    if not drawn:
        raise ValueError(f"no server was measured with {', '.join(CURVES)}")
    ends = [f"{line.name} {line.points[-1][1]:,.0f} at {line.points[-1][0]}" for line in drawn[0].lines]
    return draw("wnet's scenario over connections", f"{drawn[0].title}: " + "; ".join(ends), drawn)


def _cost(figures: Figures, row: str, peer: str) -> str:
    """CPU time of an answer, and that as a multiple of the baseline's."""
    found, first = figures.get(row, peer), figures.get(row, BASELINE)
    if found is None:
        return _none(figures, row, peer)
    ratio = f", {found['server'] / first['server']:.2f}" if first and first["server"] else ""
    return f"{micro(found['server'])}{ratio}"


def _point(figures: Figures, row: str, peer: str) -> str:
    """Rate, p99 and memory."""
    found = figures.get(row, peer)
    if found is None:
        return _none(figures, row, peer)
    connections = int(row.partition(":")[2].partition("x")[0])
    trip = f"{found['p99'] / 1000:.0f}" if hasTrips(found, connections) else "-"
    return f"{found['rate']:,.0f}, {trip}, {found['rss']:.0f}"


def _none(figures: Figures, row: str, peer: str) -> str:
    """The cell of a server without figures."""
    return "failed" if "problem" in figures.rows[row].get(peer, {}) else "-"


def _table(figures: Figures, title: str, rows: list[str], cell: Callable[[Figures, str, str], str]) -> list[str]:
    """A table with a server to a line; none without rows."""
    if not rows:
        return []
    peers = [peer for peer in figures.peers if any(peer in figures.rows[row] for row in rows)]
    made = [f"**{title}**", "", "| | " + " | ".join(f"`{row}`" for row in rows) + " |"]
    made.append("| --- " * (len(rows) + 1) + "|")
    for peer in peers:
        made.append(f"| {NAMES.get(peer, peer)} | " + " | ".join(cell(figures, row, peer) for row in rows) + " |")
    return [*made, ""]


def tables(figures: Figures) -> str:
    """What a page has: how it was measured; CPU time of each row; and rates, p99 and memory of wnet's scenario."""
    made = [how(figures, "Medians"), ""]
    rows = [row for row in figures.rows if row not in CURVES]
    made += _table(figures, f"CPU us of an answer, and as a multiple of {BASELINE}'s", rows, _cost)
    for shape, work in SHAPES.items():
        rows = [row for row in CURVES if row.startswith(f"{shape}:") and row in figures.rows]
        made += _table(figures, f"Answers a second, p99 in ms and memory in MB: {work}", rows, _point)
    return "\n".join(made).rstrip() + "\n"


def markOf(figures: Figures) -> str:
    """What the tables stand between in a page."""
    return SCENARIO if any(row in CURVES for row in figures.rows) else MARK


def options() -> argparse.Namespace:
    """Those of the command line."""
    return plotOptions("benchmarks.http", __doc__)


def main() -> int:
    return show(options(), drawing, tables, markOf)


if __name__ == "__main__":
    sys.exit(main())
