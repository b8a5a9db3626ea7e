"""Draw and tabulate what ``benchmarks.groups --json`` or ``--plot`` has written, without measuring again.

    python -m benchmarks.groupplot docs/topics/groups.json --plot docs/topics/groups.svg
    python -m benchmarks.groupplot docs/topics/groups.json --page docs/topics/groups-speed.md

The first draws the plot and prints tables in Markdown, the second puts the tables into a page, in place of what it has
between the lines ``<!-- groups -->`` and ``<!-- end of groups -->``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figures, how, micro, plotOptions, show
from benchmarks.grouploads import BURST, Row
from benchmarks.grouppeers import BASELINE
from benchmarks.svg import Line, Panel, draw

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

#: What the tables stand between in a page.
MARK = "groups"

#: What the servers are called in tables and in the plot.
NAMES = {
    "getty": "getty_tx groups",
    "getty length": "the same, LengthCodec",
    "loop": "loop of writePkg",
    "loop length": "the same, LengthCodec ",
    "autobahn": "Autobahn",
    "socketio": "python-socketio",
    "sends": "C, sends alone",
}

#: Those that are drawn, in the order of their colours.
DRAWN = ("getty", "loop", "autobahn", "websockets", "socketio", "nchan", "sends")

#: What deliveries a second should be, as multiples of others', without compression and with.
RATES: dict[str, tuple[float, float]] = {"autobahn": (3.0, 3.0), "websockets": (2.5, 8.0)}

#: What CPU time for a delivery should be at most, as multiples of others'.
COSTS = {"loop": 0.5, "sends": 1.5}

#: What a burst should cost at most, as a multiple of one publication in the same window.
BURST_COST = 1.5

#: Others' echoes in ms, at p99 and at most, while members are so many.
ECHO_LIMIT, ECHO_MEMBERS = 10.0, 10_000

#: MB that memory may grow at most where members read nothing.
GROWTH = 16.0


def _said(what: str, found: float, bound: float, isMost: bool) -> str:
    isMet = found <= bound if isMost else found >= bound
    return f"{what}: {found:.2f} (at {'most' if isMost else 'least'} {bound:g}){'' if isMet else ' NOT MET'}"


def _verdicts(figures: Figures, text: str, own: dict[str, Any]) -> Iterator[str]:
    row = Row.parse(text)
    # Where the server rests between publications, or waits for nobody, that is what is compared.
    if row == Row(row.members, row.size, row.isDeflate, row.isOne):
        for peer, bounds in RATES.items():
            if other := figures.get(text, peer):
                what = f"deliveries a second, times those of {NAMES.get(peer, peer)}"
                yield _said(what, own["rate"] / other["rate"], bounds[row.isDeflate], False)
        for peer, bound in COSTS.items():
            other = figures.get(text, peer)
            if other and other["server"]:
                yield _said(f"CPU time, times that of {NAMES[peer]}", own["server"] / other["server"], bound, True)
    one = figures.get(text.replace(":burst", ":window"), BASELINE)
    if row.isBurst and one and one["server"]:
        cost = own["server"] * BURST / one["server"]
        yield _said(f"CPU time of {BURST} in a window, times that of one", cost, BURST_COST, True)
    if row.members >= ECHO_MEMBERS and row.echoes:
        yield _said("echo p99 in ms", own["echo99"] / 1000, ECHO_LIMIT, True)
    if row.isStuck:
        yield _said("memory grown in MB", own["grown"], GROWTH, True)


def verdicts(figures: Figures, text: str) -> list[str]:
    """How getty_tx stands in a row to what it should reach; nothing about servers that were not measured."""
    own = figures.get(text, BASELINE)
    return [*_verdicts(figures, text, own)] if own else []


def _plain(figures: Figures) -> list[tuple[str, Row]]:
    """Rows without words, which are drawn."""
    return [(text, row) for text in figures.rows if (row := Row.parse(text)) == Row(row.members, row.size)]


def drawing(figures: Figures) -> str:
    """
    An SVG: deliveries a second and p99 over the number of members, for each size of publications.

    :raise ValueError: no row was measured that is drawn.
    """
    panels = []
    for size in sorted({row.size for _, row in _plain(figures)}):
        for key, title, scale in (
            ("rate", f"Deliveries a second, {size} bytes", 1.0),
            ("p99", f"p99 in ms from publishing to a delivery, {size} bytes, two under way", 1000.0),
        ):
            panel = Panel(title, "members of the group")
            for colour, peer in enumerate(DRAWN):
                points = sorted(
                    (row.members, found[key] / scale)
                    for text, row in _plain(figures)
                    if row.size == size and (found := figures.get(text, peer))
                )
                if points:
                    panel.lines.append(Line(NAMES.get(peer, peer), points, colour))
            if panel.lines:
                panels.append(panel)
    if not panels:
        raise ValueError("no server has figures of a row without words, such as 1000x100")
    ends = [f"{line.name} {line.points[-1][1]:,.0f} at {line.points[-1][0]}" for line in panels[0].lines]
    return draw("Broadcasts over the members of a group", f"{panels[0].title}: " + "; ".join(ends), panels)


def _cost(figures: Figures, found: dict[str, Any], own: dict[str, Any] | None) -> str:
    """Deliveries a second, CPU time of one, and that as a multiple of getty_tx's."""
    ratio = f", {found['server'] / own['server']:.2f}" if own and own["server"] else ""
    return f"{found['rate']:,.0f}, {micro(found['server'])}{ratio}"


def _times(figures: Figures, found: dict[str, Any], own: dict[str, Any] | None) -> str:
    """p99 of deliveries, of the last ones, and of others' echoes."""
    echo = f", {found['echo99'] / 1000:.1f}" if found["echo99"] else ""
    return f"{found['p99'] / 1000:.1f}, {found['last99'] / 1000:.1f}{echo}"


def _memory(figures: Figures, found: dict[str, Any], own: dict[str, Any] | None) -> str:
    """Resident memory, what it and the kernel's grow, and members that were closed."""
    closed = f", {found['closed']:.0f} closed" if found["closed"] else ""
    return f"{found['rss']:.0f}, +{found['grown']:.1f}, +{found['kernel']:.0f}{closed}"


def _table(
    figures: Figures, title: str, cell: Callable[[Figures, dict[str, Any], dict[str, Any] | None], str]
) -> list[str]:
    """A table with a server to a line."""
    made = [f"**{title}**", "", "| | " + " | ".join(f"`{row}`" for row in figures.rows) + " |"]
    made.append("| --- " * (len(figures.rows) + 1) + "|")
    for peer in figures.peers:
        cells = []
        for text, peers in figures.rows.items():
            found = figures.get(text, peer)
            if found is None:
                cells.append("failed" if "problem" in peers.get(peer, {}) else "-")
            else:
                cells.append(cell(figures, found, figures.get(text, BASELINE)))
        made.append(f"| {NAMES.get(peer, peer).strip()} | " + " | ".join(cells) + " |")
    return [*made, ""]


def tables(figures: Figures) -> str:
    """What a page has: how it was measured; rates and CPU time; times; and memory."""
    made = [how(figures, "Medians"), ""]
    made += _table(figures, "Deliveries a second, CPU us of one, and that as a multiple of getty_tx's", _cost)
    made += _table(figures, "p99 in ms: of deliveries, of each publication's last one, and of others' echoes", _times)
    made += _table(
        figures,
        "Resident memory in MB, how much it grows while publishing, and the kernel's for all connections",
        _memory,
    )
    return "\n".join(made).rstrip() + "\n"


def options() -> argparse.Namespace:
    """Those of the command line."""
    return plotOptions("benchmarks.group", __doc__)


def main() -> int:
    return show(options(), drawing, tables, lambda figures: MARK)


if __name__ == "__main__":
    sys.exit(main())
