"""Draw and tabulate what ``benchmarks.grpc --json`` or ``--plot`` has written, without measuring again.

    python -m benchmarks.grpcplot docs/topics/grpc.json --plot docs/topics/grpc.svg
    python -m benchmarks.grpcplot docs/topics/grpc.json --page docs/topics/grpc-speed.md

The first draws the plot and prints tables in Markdown, the second puts the tables into a page, in place of what it has
between the lines ``<!-- grpc -->`` and ``<!-- end of grpc -->``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, how, micro, plotOptions, show
from benchmarks.grpcloads import Row
from benchmarks.grpcpeers import BASELINE, OWN
from benchmarks.svg import Line, Panel, draw

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: What the tables stand between in a page.
MARK = "grpc"

NAMES = {
    OWN: "getty_tx, def",
    "getty async": "getty_tx, async def",
    "grpc threads": "grpcio, threads",
}

#: What a page shows above its tables.
PICTURE = "![CPU time and rate of unary calls, and rates of streams; the tables have the figures](grpc.svg)"

#: CPU time of a unary call at 1x100, at most, as multiples of others'.
COSTS = {BASELINE: 0.15, "pygrpc-native": 0.9}

#: Messages a second of streams, at least, as a multiple of the baseline's.
STREAM_RATE = 3.0

STREAMS = {"server": "from the server", "client": "from the client", "bidi": "both ways"}


def _said(what: str, found: float, bound: float, isMost: bool) -> str:
    isMet = found <= bound if isMost else found >= bound
    return f"{what}: {found:.3f} (at {'most' if isMost else 'least'} {bound:g}){'' if isMet else ' NOT MET'}"


def _verdicts(figures: Figures, text: str, own: dict[str, Any]) -> Iterator[str]:
    row = Row.parse(text)
    if row.kind != "unary":
        if other := figures.get(text, BASELINE):
            what = f"messages a second, times those of {BASELINE}"
            yield _said(what, own["rate"] / other["rate"], STREAM_RATE, False)
    elif (row.connections, row.calls) == (1, 100):
        for peer, bound in COSTS.items():
            other = figures.get(text, peer)
            if other and other["server"]:
                yield _said(f"CPU time, times that of {peer}", own["server"] / other["server"], bound, True)


def verdicts(figures: Figures, text: str) -> list[str]:
    """How getty_tx stands in a row to what it should reach; nothing about servers that were not measured."""
    own = figures.get(text, OWN)
    return [*_verdicts(figures, text, own)] if own else []


def _rows(figures: Figures, kind: str) -> list[tuple[int, str]]:
    """The rows of a kind of call, by their calls in flight. Of several with as many the first one counts."""
    found: dict[int, str] = {}
    for text in figures.rows:
        row = Row.parse(text)
        if row.kind == kind:
            found.setdefault(row.connections * row.calls, text)
    return sorted(found.items())


def drawing(figures: Figures) -> str:
    """
    An SVG: CPU time of a unary call and calls a second over those in flight, and messages a second of streams.

    :raise ValueError: no server has figures.
    """
    panels = []
    wanted = [("unary", "server", "CPU us of a unary call, 100 bytes"), ("unary", "rate", "Unary calls a second")]
    wanted += [(kind, "rate", f"Messages a second, {name}") for kind, name in STREAMS.items()]
    for kind, key, title in wanted:
        panel = Panel(title, "calls in flight" if kind == "unary" else "streams, each of 1,000 messages")
        for colour, peer in enumerate(figures.peers):
            points = [
                (flight, found[key]) for flight, text in _rows(figures, kind) if (found := figures.get(text, peer))
            ]
            if points:
                panel.lines.append(Line(NAMES.get(peer, peer), points, colour))
        if panel.lines:
            panels.append(panel)
    if not panels:
        raise ValueError("no server has figures")
    ends = [f"{line.name} {line.points[-1][1]:,.1f} at {line.points[-1][0]}" for line in panels[0].lines]
    return draw("gRPC over calls in flight", f"{panels[0].title}: " + "; ".join(ends), panels)


def tables(figures: Figures) -> str:
    """What a page has: the plot, how it was measured, and for each server calls or messages a second and CPU time."""
    made = [PICTURE, "", how(figures, "Medians"), ""]
    for title, isUnary in (("Unary calls", True), ("Messages of streams", False)):
        rows = [text for text in figures.rows if (Row.parse(text).kind == "unary") is isUnary]
        if not rows:
            continue
        made += [f"**{title}: a second, the server's CPU us for one, and that as a multiple of {BASELINE}'s**", ""]
        made.append("| | " + " | ".join(f"`{row}`" for row in rows) + " |")
        made.append("| --- " * (len(rows) + 1) + "|")
        for peer in figures.peers:
            made.append(f"| {NAMES.get(peer, peer)} | " + " | ".join(_cell(figures, row, peer) for row in rows) + " |")
        made.append("")
    return "\n".join(made).rstrip() + "\n"


def _cell(figures: Figures, row: str, peer: str) -> str:
    found, first = figures.get(row, peer), figures.get(row, BASELINE)
    if found is None:
        return "failed" if "problem" in figures.rows[row].get(peer, {}) else "-"
    ratio = f", {found['server'] / first['server']:.2f}" if first and first["server"] else ""
    return f"{found['rate']:,.0f}, {micro(found['server'])}{ratio}"


def options() -> argparse.Namespace:
    """Those of the command line."""
    return plotOptions("benchmarks.grpc", __doc__)


def main() -> int:
    return show(options(), drawing, tables, lambda figures: MARK)


if __name__ == "__main__":
    sys.exit(main())
