"""The figures of a benchmark: kept in a file, and shown in a page."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


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
            raise ValueError(f"{path} has no figures of a benchmark: {error}") from None

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


def how(figures: Figures, which: str) -> str:
    """A paragraph that says how the figures were measured; ``which`` is what is taken of the repetitions."""
    each = ", ".join(filter(None, figures.versions.values())).split(", ")
    versions = ", ".join(dict.fromkeys(each))
    which = f"{which} of {figures.repetitions} runs" if figures.repetitions > 1 else "Single runs"
    runs = f"{which} of {figures.seconds:g} s that took turns, on {figures.machine}, with"
    load = f"load average {figures.loadBefore:.1f} before and {figures.loadAfter:.1f} after"
    return textwrap.fill(f"{runs} Python {figures.python}; {load}. {versions}.", 120)


def micro(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"


def putInto(page: str, text: str, mark: str) -> str:
    """
    The page with another text between its marks.

    :raise ValueError: it does not have both marks, once and in order.
    """
    opening, closing = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, begin, rest = page.partition(f"{opening}\n")
    _, end, after = rest.partition(f"{closing}\n")
    if not (begin and end) or opening in rest or closing in after:
        raise ValueError(f"the page needs one line {opening}, and one line {closing} below it")
    return f"{before}{opening}\n\n{text}\n{closing}\n{after}"


def plotOptions(benchmark: str, doc: str | None) -> argparse.Namespace:
    """Those of the command that shows the figures of a benchmark, such as ``benchmarks.rpc``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {benchmark}plot", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figures", type=Path, metavar="FIGURES.json", help=f"what {benchmark} has written")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it")
    parser.add_argument("--page", type=Path, metavar="PAGE.md", help="put the tables into a page, and print none")
    return parser.parse_args()


def show(
    given: argparse.Namespace,
    draw: Callable[[Figures], str],
    tabulate: Callable[[Figures], str],
    markOf: Callable[[Figures], str],
) -> int:
    """Do what :func:`plotOptions` ask for: draw, and print tables or put them into a page; the exit status."""
    try:
        figures = Figures.read(given.figures)
        if given.plot:
            given.plot.write_text(draw(figures))
        if given.page:
            given.page.write_text(putInto(given.page.read_text(), tabulate(figures), markOf(figures)))
        else:
            print(tabulate(figures), end="")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
