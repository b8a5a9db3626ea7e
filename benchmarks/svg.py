"""
Plots of lines on two logarithmic axes, as SVG: small, text stays text, colours follow the reader's light or dark, and
nothing needs to be installed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH, HEIGHT = 760, 330

#: Pixels beside the lines of a panel; on the right are their names.
LEFT, RIGHT, TOP, BOTTOM = 60, 130, 40, 50

#: Pixels between the names of two lines, at least.
APART = 14

#: A colour for each line, on a light ground and on a dark one.
COLOURS = (
    ("#c2183a", "#ff6b81"),
    ("#1f6fb4", "#6cb6ff"),
    ("#2c7d32", "#6fce77"),
    ("#9a6200", "#e8b04a"),
    ("#6b3fa0", "#b794f6"),
    ("#007a7a", "#4fd1c5"),
    ("#8c4a2f", "#e0997a"),
    ("#555f6b", "#a9b4c0"),
)

_STYLE = """
text { fill: #1c2733; font: 12px sans-serif }
.title { font-weight: bold; font-size: 14px }
.x { text-anchor: middle } .y { text-anchor: end }
.ground { fill: #fff } .grid { stroke: #d9dfe5 } .guide { stroke: #9aa5b1; stroke-width: .7 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round } .first { stroke-width: 3.4 }
.thin { stroke-width: .9; opacity: .6 } .dashed { stroke-dasharray: 6 4 }
"""

_DARK = "text { fill: #dce3ea } .ground { fill: #14191f } .grid { stroke: #303a45 } .guide { stroke: #66727f }"


@dataclass(frozen=True)
class Line:
    """
    What is measured of one thing.

    :ivar points: x and y, both above 0.
    :ivar colour: a number; equal ones are of one thing, and 0 is drawn thick.
    :ivar isThin: it is drawn thin, and has no name beside it.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    isThin: bool = False
    isDashed: bool = False


@dataclass
class Panel:
    """Lines that share their axes; ``title`` says what y is, and its unit, and ``x`` what x is."""

    title: str
    x: str
    lines: list[Line] = field(default_factory=list)


def ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2 and 5 times a power of ten from ``low`` to ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [n * 10.0**power for power in powers for n in (1, 2, 5) if low <= n * 10.0**power <= high]


def label(number: float) -> str:
    """A number of an axis: ``0.05``, ``20``, ``5k``."""
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in the same order, that are ``apart`` and between ``low`` and ``high``."""
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    places = [0.0] * len(wanted)
    last = -math.inf
    for at in order:
        last = places[at] = max(wanted[at], last + apart, low)
    last = math.inf
    for at in reversed(order):
        last = places[at] = min(places[at], last - apart, high)
    return places


def _axis(values: Sequence[float], begin: float, end: float) -> tuple[float, float, Callable[[float], float]]:
    """The least and the greatest value with some room beside them, and what tells where a value is."""
    low, high = min(values) / 1.15, max(values) * 1.15
    return low, high, lambda value: begin + (end - begin) * math.log(value / low) / math.log(high / low)


def _panel(panel: Panel, top: float) -> list[str]:
    """The elements of a panel."""
    right, bottom = WIDTH - RIGHT, top + HEIGHT - BOTTOM
    points = [point for line in panel.lines for point in line.points]
    _, _, placeX = _axis([x for x, _ in points], LEFT, right)
    low, high, placeY = _axis([y for _, y in points], bottom, top + TOP)
    made = [f'<text class="title" x="{LEFT}" y="{top + 24}">{escape(panel.title)}</text>']
    for y in ticks(low, high):
        at = placeY(y)
        made.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        made.append(f'<text class="y" x="{LEFT - 6}" y="{at + 4:.1f}">{label(y)}</text>')
    for x in sorted({x for x, _ in points}):
        at = placeX(x)
        made.append(f'<path class="grid" d="M{at:.1f} {top + TOP}V{bottom}"/>')
        made.append(f'<text class="x" x="{at:.1f}" y="{bottom + 18}">{label(x)}</text>')
    made.append(f'<text class="x" x="{(LEFT + right) / 2:g}" y="{bottom + 38}">{escape(panel.x)}</text>')
    # The first is on top.
    for line in reversed(panel.lines):
        classes = f"line c{line.colour}" + " thin" * line.isThin + " dashed" * line.isDashed
        classes += " first" * (line.colour == 0 and not line.isThin)
        path = " ".join(f"{placeX(x):.1f},{placeY(y):.1f}" for x, y in line.points)
        made.append(f'<polyline class="{classes}" points="{path}"/>')
    named = [line for line in panel.lines if not line.isThin]
    ends = [(placeX(x), placeY(y)) for x, y in (line.points[-1] for line in named)]
    for line, (x, y), at in zip(named, ends, spread([y for _, y in ends], APART, top + TOP, bottom), strict=True):
        made.append(f'<path class="guide" d="M{x:.1f} {y:.1f}L{right + 10} {at:.1f}"/>')
        made.append(f'<text class="n{line.colour}" x="{right + 14}" y="{at + 4:.1f}">{escape(line.name)}</text>')
    return made


def draw(title: str, description: str, panels: Sequence[Panel]) -> str:
    """An SVG with the panels, one below the other; ``description`` is for readers who do not see it."""
    light = " ".join(f".c{at} {{ stroke: {c} }} .n{at} {{ fill: {c} }}" for at, (c, _) in enumerate(COLOURS))
    dark = " ".join(f".c{at} {{ stroke: {c} }} .n{at} {{ fill: {c} }}" for at, (_, c) in enumerate(COLOURS))
    size = f'viewBox="0 0 {WIDTH} {HEIGHT * len(panels)}"'
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(description)}</desc>',
        f"<style>{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {_DARK} {dark} }}\n</style>",
        f'<path class="ground" d="M0 0H{WIDTH}V{HEIGHT * len(panels)}H0z"/>',
    ]
    for number, panel in enumerate(panels):
        made += _panel(panel, number * HEIGHT)
    return "\n".join([*made, "</svg>", ""])
