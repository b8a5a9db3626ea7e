"""What is drawn and tabulated of figures that were measured."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import rpc, rpcplot
from benchmarks.figures import Figures, putInto
from benchmarks.rpc import PEERS, Row
from benchmarks.rpcplot import (
    ARTICLE,
    IN_LINE,
    MARK,
    NAMES,
    drawing,
    rowOf,
    tables,
)
from benchmarks.svg import APART, COLOURS, Line, Panel, draw, label, spread, ticks
from tests.support.pages import haveOptions

DOCS = Path(__file__).resolve().parents[2] / "docs"

BEGIN, END = "<!-- calls -->", "<!-- end of calls -->"

_SVG = "{http://www.w3.org/2000/svg}"


def figures() -> Figures:
    """Figures of three peers, of which one failed at the last depth and one has only one."""
    made = Figures(2, 1.0, {"getty_rpc": "getty_tx 1", "amp": "Twisted 2"}, "2 cores of X", "3.11.7", 0.125, 1.0)
    for number, row in enumerate(ARTICLE):
        each = {"rate": 1000 * (number + 1), "server": 9.96, "client": 12.3, "p50": 100, "p99": 1500}
        made.rows[row] = {"getty_rpc": each, "amp": {**each, "rate": 500}, "Pyro5": {"problem": "gone"}}
    made.rows[rowOf(1, 256, 581)]["amp"] = {"problem": "a call failed"}
    made.rows["1x1x581"]["Pyro5"] = each
    return made


class FiguresTests(SynchronousTestCase):
    """The file of figures."""

    def test_rows(self) -> None:
        """The article's rows are rows of the benchmark: two sizes, three numbers of clients, five depths."""
        rows = [Row.parse(row) for row in ARTICLE]
        self.assertEqual(14, len(set(rows)))
        for size in (581, 915):
            found = [(row.scenario.connections, row.scenario.depth) for row in rows if row.scenario.size == size]
            self.assertEqual([(1, 1), (10, 1), (100, 1), (1, 4), (1, 16), (1, 64), (1, 256)], found)
        self.assertEqual([False] * 4, [row.isPool for row in rows if row.scenario.connections > 1])

    def test_file(self) -> None:
        """What is written is read again, and the peers are as the benchmark has them."""
        path = Path(self.mktemp())
        figures().write(path)
        self.assertEqual(figures(), Figures.read(path))
        self.assertEqual(["getty_rpc", "amp", "Pyro5"], figures().peers)
        self.assertEqual(set(), {*NAMES, *IN_LINE} - set(PEERS))

    def test_otherFile(self) -> None:
        """A file with something else is refused by name."""
        path = Path(self.mktemp())
        for text in ("", "{}", '{"a": 1}', "[]"):
            path.write_text(text)
            self.assertIn(f"{path} has no figures", str(self.assertRaises(ValueError, Figures.read, path)))


class DrawingTests(SynchronousTestCase):
    """The plot."""

    def test_drawing(self) -> None:
        """It has a line for the rate of each peer, and two for its round trips; it is small, and its text is text."""
        made = drawing(figures())
        self.assertLess(len(made), 150_000)
        tree = ElementTree.fromstring(made)
        names = [each.text for each in tree.iter(f"{_SVG}text") if (each.get("class") or "").startswith("n")]
        self.assertEqual(["getty_tx.rpc", "Twisted AMP"] * 2, names)
        lines = [each.get("points", "").split() for each in tree.iter(f"{_SVG}polyline")]
        # The first is drawn last.
        self.assertEqual([4, 5, 4, 4, 5, 5], [len(points) for points in lines])
        self.assertIn("getty_tx.rpc 7,000 at 256; Twisted AMP 500 at 64", made)
        self.assertIn("prefers-color-scheme: dark", made)

    def test_inLine(self) -> None:
        """Those with one call at a time are dashed."""
        found = figures()
        for row in found.rows.values():
            row["Pyro5"] = row["getty_rpc"]
        dashed = [each for each in ElementTree.fromstring(drawing(found)).iter() if "dashed" in each.get("class", "")]
        self.assertEqual(3, len(dashed))

    def test_nothing(self) -> None:
        """Without depths there is nothing to draw."""
        self.assertRaises(ValueError, drawing, Figures(1, 1.0))

    def test_scales(self) -> None:
        """Both axes are logarithmic, and larger numbers are more to the right and higher."""
        panel = Panel("a < b", "x & y", [Line("one", [(1, 10), (10, 100), (100, 1000)], 0)])
        made = draw("t", "d", [panel])
        self.assertIn("a &lt; b", made)
        [line] = ElementTree.fromstring(made).iter(f"{_SVG}polyline")
        places = [tuple(map(float, each.split(","))) for each in line.get("points", "").split()]
        for axis, sign in ((0, 1), (1, -1)):
            first, second, third = (sign * place[axis] for place in places)
            self.assertGreater(second, first)
            self.assertApproximates(second - first, third - second, 0.2)

    def test_second(self) -> None:
        """A panel is below the one before it."""
        panel = Panel("p", "x", [Line("one", [(1, 10), (10, 100)], 0)])
        first, second = ElementTree.fromstring(draw("t", "d", [panel, panel])).iter(f"{_SVG}polyline")
        heights = [[float(each.split(",")[1]) for each in line.get("points", "").split()] for line in (first, second)]
        self.assertGreater(min(heights[1]), max(heights[0]))

    def test_names(self) -> None:
        """Names keep apart, in the order of the lines' ends, within the panel."""
        for wanted in ([50.0] * 8, [1.0, 2.0, 300.0, 301.0], [298.0, 299.0, 300.0, 3.0]):
            places = spread(wanted, APART, 0, 300)
            ordered = sorted(places)
            self.assertTrue(all(b - a >= APART - 1e-6 for a, b in pairwise(ordered)), places)
            self.assertGreaterEqual(ordered[0], 0)
            self.assertLessEqual(ordered[-1], 300)
            self.assertEqual(
                sorted(range(len(wanted)), key=wanted.__getitem__), sorted(range(len(wanted)), key=places.__getitem__)
            )
        self.assertEqual([20.0, 100.0], spread([20.0, 100.0], APART, 0, 300))

    def test_ticks(self) -> None:
        """1, 2 and 5 times a power of ten."""
        self.assertEqual([0.2, 0.5, 1, 2, 5, 10], [round(each, 6) for each in ticks(0.11, 19)])
        self.assertEqual(["0.05", "20", "5k", "200k"], [label(each) for each in (0.05, 20, 5000, 200_000.0)])

    def test_colours(self) -> None:
        """Each peer has one."""
        self.assertGreaterEqual(len(COLOURS), len(PEERS))
        self.assertEqual(len(COLOURS), len({light for light, _ in COLOURS}), len({dark for _, dark in COLOURS}))


class TableTests(SynchronousTestCase):
    """What comes into the page."""

    def test_tables(self) -> None:
        """How it was measured, and a line for each peer in each table."""
        made = tables(figures())
        self.assertIn(
            "Best of 2 runs of 1 s that took turns, on 2 cores of X, with Python 3.11.7; load average 0.1", made
        )
        self.assertIn("getty_tx 1, Twisted 2.", made.replace("\n", " "))
        heads = re.findall(r"^\*\*(.*)\*\*$", made, re.MULTILINE)
        self.assertEqual(4, len(heads))
        rows = [line.split(" | ") for line in made.splitlines() if line.startswith("| getty_tx.rpc")]
        self.assertEqual(["| getty_tx.rpc", "1,000", "2,000", "3,000", "4,000", "5,000", "6,000", "7,000 |"], rows[0])
        self.assertEqual(["1.50"] * 6, rows[2][1:-1])
        self.assertEqual(["10.0, 12"] * 6, rows[3][1:-1])
        self.assertIn("| Twisted AMP | 500 | 500 | 500 | 500 | 500 | 500 | failed |", made)
        widths = {line.count("|") for line in made.splitlines() if line.startswith("|")}
        self.assertEqual({9}, widths)

    def test_page(self) -> None:
        """What is between the marks is replaced, again and again; a page without them is refused."""
        page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
        made = putInto(page, "new\n", MARK)
        self.assertEqual(f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n", made)
        self.assertEqual(made, putInto(made, "new\n", MARK))
        for wrong in ("", f"{END}\n{BEGIN}\n", f"{BEGIN}\n", page + page):
            self.assertRaises(ValueError, putInto, wrong, "new", MARK)

    def command(self, *arguments: object) -> tuple[int, str, str]:
        """The status of the command, and what it prints."""
        self.patch(sys, "argv", ["rpcplot", *map(str, arguments)])
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as errors:
            return rpcplot.main(), printed.getvalue(), errors.getvalue()

    def test_command(self) -> None:
        """It prints the tables, or puts them into a page; and draws."""
        folder = Path(self.mktemp())
        folder.mkdir()
        kept, page, plot = folder / "f.json", folder / "page.md", folder / "f.svg"
        figures().write(kept)
        self.assertEqual((0, tables(figures()), ""), self.command(kept))
        page.write_text(f"{BEGIN}\n{END}\n")
        self.assertEqual((0, "", ""), self.command(kept, "--page", page, "--plot", plot))
        self.assertIn(tables(figures()), page.read_text())
        self.assertEqual(drawing(figures()), plot.read_text())
        status, printed, error = self.command(folder / "none.json")
        self.assertEqual((1, ""), (status, printed))
        self.assertIn("none.json", error)


class PageTests(SynchronousTestCase):
    """The page about performance."""

    def setUp(self) -> None:
        self.page = (DOCS / "topics" / "performance.md").read_text()

    def test_figures(self) -> None:
        """Its tables and its plot are of the figures beside it, which have all rows and all peers."""
        found = Figures.read(DOCS / "topics" / "calls.json")
        self.assertEqual(list(ARTICLE), list(found.rows))
        self.assertEqual(list(PEERS), found.peers)
        self.assertEqual(self.page, putInto(self.page, tables(found), MARK))
        self.assertEqual((DOCS / "topics" / "calls.svg").read_text(), drawing(found))

    def test_settings(self) -> None:
        """Its table of settings has every peer."""
        for name in [NAMES.get(name, name) for name in PEERS]:
            self.assertRegex(self.page, rf"(?m)^\| {re.escape(name)} \| \D")

    def test_commands(self) -> None:
        """Its commands have options that there are."""
        haveOptions(self, self.page, {"rpc": rpc, "rpcplot": rpcplot})
