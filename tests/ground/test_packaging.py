"""What is shipped and how: the dropins, the declarations in ``pyproject.toml``, the tools of ``make``."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DROPINS = sorted((ROOT / "twisted" / "plugins").glob("*.py"))

#: Imports every module of getty_tx in a process of its own and names the first one that installs a reactor.
IMPORT_ALL = """
import importlib, pkgutil, sys
import getty_tx
names = ["getty_tx"]
names += [module.name for module in pkgutil.walk_packages(getty_tx.__path__, "getty_tx.")]
names = [name for name in names if not name.endswith(".__main__")]
for name in names:
    importlib.import_module(name)
    if "twisted.internet.reactor" in sys.modules:
        sys.exit(name + " installs a reactor when it is imported")
print(len(names))
"""


def readProject() -> dict[str, Any]:
    """``pyproject.toml``."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normalize(name: str) -> str:
    """The name of a distribution, as the packaging standards compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def findImports(tree: ast.Module) -> Iterator[str]:
    """The modules that a module imports anywhere, relative ones with their dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


class DropinTests(SynchronousTestCase):
    """The files that ``twistd`` finds the commands by."""

    def findMakers(self) -> dict[str, ServiceMaker]:
        """The service makers of all dropins, by the command's name."""
        makers: dict[str, ServiceMaker] = {}
        for dropin in DROPINS:
            for value in runpy.run_path(str(dropin)).values():
                if isinstance(value, ServiceMaker):
                    makers[value.tapname] = value
        return makers

    def test_importNothingElse(self) -> None:
        """A dropin imports Twisted's plugin classes alone: each start of ``twistd`` pays for it, whatever it runs."""
        self.assertTrue(DROPINS)
        allowed = {
            "twisted.application.reactors",
            "twisted.application.service",
            "twisted.internet.interfaces",
            "twisted.plugin",
            "zope.interface",
        }
        for dropin in DROPINS:
            tree = ast.parse(dropin.read_text())
            # What a function imports is for when it is called.
            tree.body = [node for node in tree.body if not isinstance(node, ast.ClassDef)]
            self.assertLessEqual(set(findImports(tree)), allowed, dropin)

    def test_commands(self) -> None:
        """There are seven commands, each described in one short line."""
        makers = self.findMakers()
        self.assertEqual(
            {
                "getty-echo",
                "getty-serve",
                "getty-rpc",
                "getty-http",
                "getty-asgi",
                "getty-grpc",
                "getty-gateway",
                "getty-dial",
            },
            set(makers),
        )
        for maker in makers.values():
            self.assertNotIn("\n", maker.description)
            self.assertLess(len(maker.description), 100)

    def test_modulesExist(self) -> None:
        """Every command names a module with the two things that ``twistd`` asks it for."""
        for command, maker in self.findMakers().items():
            module = import_module(maker.module)
            self.assertTrue(issubclass(module.Options, usage.Options), command)
            self.assertTrue(callable(module.makeService), command)

    def test_namespace(self) -> None:
        """``twisted/`` holds dropins only: an ``__init__.py`` there would hide Twisted or overwrite its file."""
        for path in (ROOT / "twisted").rglob("*.py"):
            self.assertEqual("plugins", path.parent.name, path)
            self.assertNotEqual("__init__.py", path.name, path)


class ImportTests(SynchronousTestCase):
    """The modules as such."""

    def test_noReactor(self) -> None:
        """
        No module installs a reactor when it is imported: after that, ``twistd --reactor`` and an application's own
        choice would come too late.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        done = subprocess.run(
            [sys.executable, "-c", IMPORT_ALL], env=environment, capture_output=True, text=True, check=False
        )
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertGreater(int(done.stdout), 1)

    def test_docstrings(self) -> None:
        """Every module says what it is for."""
        for folder in ("getty_tx", "twisted", "tests", "tools"):
            for path in (ROOT / folder).rglob("*.py"):
                self.assertRegex(path.read_text(), r'\A(#.*\n|\s)*r?"""\s*[^\s"]', f"{path} has no docstring")


class DeclarationTests(SynchronousTestCase):
    """``pyproject.toml`` and the files beside it agree."""

    def setUp(self) -> None:
        project = readProject()
        self.project = project["project"]
        self.targets = project["tool"]["hatch"]["build"]["targets"]

    def test_license(self) -> None:
        """The license is declared, and its text is there."""
        self.assertEqual("Apache-2.0", self.project["license"])
        text = (ROOT / "LICENSE").read_text()
        self.assertIn("Version 2.0, January 2004", text)
        self.assertIn("END OF TERMS AND CONDITIONS", text)
        self.assertEqual(["LICENSE"], self.project["license-files"])

    def test_readme(self) -> None:
        """The wheel cannot be built without the file that is named as its description."""
        self.assertTrue((ROOT / self.project["readme"]).is_file())

    def test_python(self) -> None:
        """The oldest Python is the same for pip and for ``make``."""
        major, minor = runpy.run_path(str(ROOT / "tools" / "check_python.py"))["MINIMUM"]
        self.assertEqual(f">={major}.{minor}", self.project["requires-python"])

    def test_dropinCache(self) -> None:
        """``twistd`` writes its cache into an editable checkout: it is neither committed nor shipped."""
        self.assertIn("dropin.cache", (ROOT / ".gitignore").read_text().split())
        for target in ("wheel", "sdist"):
            self.assertIn("**/dropin.cache", self.targets[target]["exclude"])

    def test_packages(self) -> None:
        """The wheel holds the package with its mark of being typed, and the dropins."""
        self.assertEqual(["getty_tx", "twisted"], self.targets["wheel"]["packages"])
        self.assertTrue((ROOT / "getty_tx" / "py.typed").is_file())

    def test_constraints(self) -> None:
        """What is asked for directly is pinned, to a version that is allowed."""
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
        pins = {normalize(name): version for name, version in pins.items()}
        for text in chain(self.project["dependencies"], *self.project["optional-dependencies"].values()):
            requirement = Requirement(text)
            self.assertIn(normalize(requirement.name), pins)
            self.assertTrue(requirement.specifier.contains(pins[normalize(requirement.name)]), text)


class TrialSummaryTests(SynchronousTestCase):
    """``tools/run_trial.py`` reads trial's last line."""

    def setUp(self) -> None:
        tool = runpy.run_path(str(ROOT / "tools" / "run_trial.py"))
        self.countOutcomes, self.summarize = tool["countOutcomes"], tool["summarize"]

    def test_passed(self) -> None:
        """A run without a failure."""
        counts = self.countOutcomes(b"Ran 5 tests in 0.010s\n\nPASSED (successes=5)\n")
        self.assertEqual("5 passed, 0 failed", self.summarize(counts))

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes have all failed; an expected failure has not."""
        output = b"FAILED (skips=2, expectedFailures=1, failures=3, errors=4, unexpectedSuccesses=5, successes=6)\n"
        self.assertEqual("7 passed, 12 failed, 2 skipped", self.summarize(self.countOutcomes(output)))

    def test_last(self) -> None:
        """Only the last summary counts: a test may print one of its own."""
        counts = self.countOutcomes(b"FAILED (errors=1)\nmore\nPASSED (successes=2)\n")
        self.assertEqual("2 passed, 0 failed", self.summarize(counts))

    def test_nothing(self) -> None:
        """No test and no summary are no counts."""
        self.assertEqual({}, self.countOutcomes(b"Ran 0 tests in 0.000s\n\nPASSED\n"))
        self.assertEqual({}, self.countOutcomes(b"Traceback (most recent call last):\n"))


class WheelFaultTests(SynchronousTestCase):
    """``tools/check_wheel.py`` judges a wheel by its list of files."""

    GOOD = (
        "getty_tx/__init__.py",
        "getty_tx/py.typed",
        "getty_tx/status/page/index.html",
        "getty_tx/status/page/uPlot.LICENSE",
        "twisted/plugins/getty_tx_commands.py",
        "getty_tx-0.1.0.dist-info/METADATA",
        "getty_tx-0.1.0.dist-info/licenses/LICENSE",
    )

    def setUp(self) -> None:
        self.findFaults = runpy.run_path(str(ROOT / "tools" / "check_wheel.py"))["findFaults"]

    def test_good(self) -> None:
        """A wheel with what it needs has no fault."""
        self.assertEqual([], self.findFaults(self.GOOD))

    def test_missing(self) -> None:
        """Each needed file that is not there is one fault."""
        for name in self.GOOD:
            if not name.endswith("METADATA"):
                self.assertEqual(1, len(self.findFaults(set(self.GOOD) - {name})), name)

    def test_unwanted(self) -> None:
        """Caches, tests and Twisted's own files are faults."""
        for name in (
            "twisted/plugins/dropin.cache",
            "twisted/__init__.py",
            "twisted/plugins/__init__.py",
            "twisted/internet/other.py",
            "tests/__init__.py",
        ):
            (fault,) = self.findFaults((*self.GOOD, name))
            self.assertIn(name, fault)
