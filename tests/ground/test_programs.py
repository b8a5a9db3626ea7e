"""What a run of the tests has: the programs that they start, and examples without a limit of time."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from hypothesis import settings
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]

#: What a test that is skipped says of Debian's packages.
_ADVICE = re.compile(r"Debian: (?:apt-get install )?([a-z][a-z0-9 .-]+)\)")

#: Not in the list: what nearly every Debian has, and what is for the system's own Python alone.
USUAL = {"systemd", "libpython3-testsuite"}


class ProgramTests(SynchronousTestCase):
    """``tools/programs.py``."""

    def setUp(self) -> None:
        self.patch(sys, "path", [str(ROOT / "tools"), *sys.path])
        import programs

        self.programs: Any = programs

    def only(self, *found: str) -> None:
        """Have no programs but these, in PATH."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in found:
            (folder / name).touch(0o755)
        self.patch(self.programs, "SBIN", ())
        self.patch(os, "environ", {"PATH": str(folder)})

    def test_missing(self) -> None:
        """Programs in PATH and files are found; what is large is missing only for those who want all."""
        go, javac, jar = (
            next(each for each in self.programs.PROGRAMS if each.name.endswith(name))
            for name in ("go", "javac", "hessian.jar")
        )
        self.patch(self.programs, "PROGRAMS", (go, javac, jar))
        self.only()
        os.environ["HESSIAN_JAR"] = "/nowhere/hessian.jar"
        self.assertEqual(self.programs.missing(False), [go, jar])
        self.assertEqual(self.programs.missing(True), [go, javac, jar])
        self.assertEqual(
            self.programs.tell([go, jar]),
            "tests are skipped for want of go, /usr/share/java/hessian.jar; on Debian: apt-get install golang-go"
            " libhessian-java",
        )
        os.environ["HESSIAN_JAR"] = str(ROOT / "Makefile")
        self.assertEqual(self.programs.missing(False), [go])
        self.only("go", "javac")
        os.environ["HESSIAN_JAR"] = str(ROOT / "Makefile")
        self.assertEqual(self.programs.tell(self.programs.missing(True)), "")

    def test_advice(self) -> None:
        """Packages that a skipped test names are those of its list."""
        listed = set(self.programs.packages(self.programs.PROGRAMS).split()) | USUAL
        named = 0
        for path in sorted((ROOT / "tests").rglob("*.py")):
            for advice in _ADVICE.findall(path.read_text()):
                named += 1
                self.assertLessEqual(set(advice.split()), listed, path)
        self.assertGreater(named, 10)


class ExampleTests(SynchronousTestCase):
    """Hypothesis, as tests/__init__.py sets it."""

    def test_noLimitOfTime(self) -> None:
        """An example that took long, on a machine that had other things to do, has not failed."""
        self.assertIsNone(settings().deadline)
