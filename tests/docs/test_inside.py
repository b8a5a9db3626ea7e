"""The pages for readers who change the package: functions in walks exist, records of decisions have their parts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.test_guide import ROOT, read, rowsIn

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = ROOT / "docs" / "inside" / "decisions"

#: The longest page, in lines.
MAX_LINES = 300

#: The tutorial is one program, told from top to bottom.
LONGER = {"tutorial.md"}


def walks() -> Iterator[list[list[str]]]:
    """The rows of each walk: file, functions, what happens."""
    for block in read("inside/walks.md").split("| file | functions | what happens |\n")[1:]:
        yield list(rowsIn(block.partition("\n\n")[0]))[1:]


class WalkTests(SynchronousTestCase):
    """Files and functions in walks."""

    def test_functions(self) -> None:
        """Each function is defined in its file."""
        seen = 0
        for rows in walks():
            for file, functions, _ in rows:
                text = (ROOT / "getty_tx" / file.strip("`")).read_text()
                for name in re.findall(r"`(\w+)`", functions):
                    seen += 1
                    self.assertRegex(text, rf"\bdef {name}\(", f"{file}: {name}")
        self.assertGreater(seen, 50)

    def test_again(self) -> None:
        """A row whose file came before says why it comes again."""
        for rows in walks():
            before: set[str] = set()
            for file, _, text in rows:
                self.assertEqual(file in before, text.startswith("*Again*"), f"{file}: {text}")
                before.add(file)


class RecordTests(SynchronousTestCase):
    """Records of decisions."""

    def test_parts(self) -> None:
        """Each has its number, context, decision and consequence, and is short; no number is missing."""
        records = sorted(RECORDS.glob("0*.md"))
        for number, path in enumerate(records, 1):
            text = path.read_text()
            self.assertTrue(path.name.startswith(f"{number:04}-"), path.name)
            self.assertTrue(text.startswith(f"# {number:04} "), path.name)
            parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
            self.assertEqual(["Context", "Decision", "Consequence"], parts, path.name)
            self.assertLessEqual(len(text.splitlines()), 25, path.name)


class LengthTests(SynchronousTestCase):
    """Pages."""

    def test_lines(self) -> None:
        """No page is longer than can be read at once."""
        for page in (ROOT / "docs").rglob("*.md"):
            if page.name not in LONGER:
                self.assertLessEqual(len(page.read_text().splitlines()), MAX_LINES, page.name)
