"""What is drawn and tabulated of HTTP servers that were measured."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import http, httpplot
from benchmarks.figures import Figures, putInto
from benchmarks.httploads import Row
from benchmarks.httppeers import BASELINE, PEERS
from benchmarks.httpplot import CONNECTIONS, CURVES, DRAWN, MARK, NAMES, SCENARIO, drawing, markOf, rowOf, tables
from tests.support.pages import haveOptions

TOPICS = Path(__file__).resolve().parents[2] / "docs" / "topics"

_SVG = "{http://www.w3.org/2000/svg}"


def figures() -> Figures:
    """Figures of two servers, of which one has no second process and one failed in a row."""
    made = Figures(
        3,
        2.0,
        {"getty": "getty_tx 1", BASELINE: "uvicorn 2, uvloop 3", "granian": "granian 4, uvloop 3", "x": ""},
        "2 cores of X",
        "3.11.7",
        0.125,
        1.0,
    )
    each = {"rate": 2000.0, "server": 5.0, "p50": 100, "p99": 1500, "rss": 40.0, "busy": 20, "answers": 50_000}
    made.rows["hello:50x1"] = {"getty": each, BASELINE: {**each, "server": 20.0}, "daphne": {"problem": "gone"}}
    for row in CURVES:
        other = {"skipped": "it has one process"} if row.endswith(":two") else {**each, "rate": 400.0, "answers": 5000}
        made.rows[row] = {"getty": each, BASELINE: other}
    return made


class DrawingTests(SynchronousTestCase):
    """The plot."""

    def test_rows(self) -> None:
        """The rows are rows of the benchmark, and the servers are its servers."""
        self.assertEqual(len(CURVES), len({Row.parse(row) for row in CURVES}))
        self.assertEqual({*CONNECTIONS}, {Row.parse(row).connections for row in CURVES})
        self.assertEqual(set(), {*NAMES, *DRAWN} - set(PEERS))
        self.assertIn(BASELINE, DRAWN)

    def test_drawing(self) -> None:
        """A panel for the rates of both shapes, for p99 and for memory; two processes are dashed."""
        made = drawing(figures())
        tree = ElementTree.fromstring(made)
        names = [each.text for each in tree.iter(f"{_SVG}text") if (each.get("class") or "").startswith("n")]
        self.assertEqual(["getty_tx", "getty_tx x2", "uvicorn"] * 4, names)
        lines = list(tree.iter(f"{_SVG}polyline"))
        self.assertEqual(4, sum("dashed" in line.get("class", "") for line in lines))
        # Without an answer on each of 10,000 connections there is no p99. The first line is drawn last.
        self.assertEqual([3, 3, 3, 3, 3, 3, 2, 3, 3, 3, 3, 3], [len(line.get("points", "").split()) for line in lines])
        self.assertIn("uvicorn 400 at 10000", made)

    def test_nothing(self) -> None:
        """Without the rows there is nothing to draw."""
        self.assertRaises(ValueError, drawing, Figures(1, 1.0))


class TableTests(SynchronousTestCase):
    """What comes into the page."""

    def test_tables(self) -> None:
        """How it was measured, and a line for each server in each table."""
        made = tables(figures())
        self.assertIn("Medians of 3 runs of 2 s that took turns, on 2 cores of X, with Python 3.11.7", made)
        self.assertIn("after. getty_tx 1, uvicorn 2, uvloop 3, granian 4.", made.replace("\n", " "))
        self.assertIn("| | `hello:50x1` |", made)
        self.assertIn("| getty_tx | 5.0, 0.25 |", made)
        self.assertIn("| uvicorn | 20, 1.00 |", made)
        self.assertIn("| Daphne | failed |", made)
        self.assertEqual(2, made.count("| getty_tx | 2,000, 2, 40 |"))
        self.assertEqual(2, made.count("| uvicorn | 400, 2, 40 | 400, 2, 40 | 400, -, 40 | - | - | - |"))

    def test_command(self) -> None:
        """It prints the tables."""
        kept = Path(self.mktemp())
        figures().write(kept)
        self.patch(sys, "argv", ["httpplot", str(kept)])
        with redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(0, httpplot.main())
        self.assertEqual(tables(figures()), printed.getvalue())

    def test_partial(self) -> None:
        """What was measured so far can be shown."""
        found = Figures(1, 1.0, {}, "X", "3.11.7", rows={rowOf("loop", 100): {"net/http": {"problem": "gone"}}})
        self.assertIn("| Go net/http | failed |", tables(found))


class PageTests(SynchronousTestCase):
    """The page about the performance of HTTP."""

    def setUp(self) -> None:
        self.page = (TOPICS / "http-speed.md").read_text()

    def test_figures(self) -> None:
        """Its tables and its plot are of the figures beside it."""
        for name, mark, rows, peers in (
            ("http.json", MARK, set(), set(PEERS)),
            ("wnet.json", SCENARIO, set(CURVES), set(DRAWN)),
        ):
            found = Figures.read(TOPICS / name)
            self.assertEqual(set(), rows - set(found.rows))
            self.assertEqual(peers, set(found.peers))
            self.assertEqual(mark, markOf(found))
            self.assertEqual(self.page, putInto(self.page, tables(found), mark))
        self.assertEqual((TOPICS / "wnet.svg").read_text(), drawing(found))

    def test_settings(self) -> None:
        """Its table of settings has every server."""
        for name in PEERS:
            self.assertRegex(self.page, rf"(?m)^\| {re.escape(NAMES.get(name, name))} \| \D")

    def test_commands(self) -> None:
        """Its commands have options that there are."""
        haveOptions(self, self.page, {"http": http, "httpplot": httpplot})
