"""What the benchmarks say of speed: reading perf's reports, and changing what is measured."""

from __future__ import annotations

import ast
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.loads import Scenario
from benchmarks.profile import sharesOf, table
from benchmarks.without import CHANGES, commandOf

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = """
# Overhead  Symbol
# ........  ......
    37.50%  [k] 0x00007f9cf4a56240
    25.00%  [k] __sys_sendto
     12.50%  [.] main

"""


class ProfileTests(SynchronousTestCase):
    """benchmarks.profile"""

    def test_symbols(self) -> None:
        """Shares of one by symbol, and nothing for the lines that are none."""
        self.assertEqual(sharesOf(REPORT), {"0x00007f9cf4a56240": 0.375, "__sys_sendto": 0.25, "main": 0.125})

    def test_objects(self) -> None:
        """Objects have no brackets before them, or as a part of their names."""
        self.assertEqual(
            sharesOf("  50.00%  libpython3.11.so.1.0     \n  43.75%  [kernel.kallsyms]      \n"),
            {"libpython3.11.so.1.0": 0.5, "[kernel.kallsyms]": 0.4375},
        )

    def test_table(self) -> None:
        """The sum comes first, and what a scenario has nothing of is left out."""
        scenarios = [Scenario(1, 1, 915), Scenario(2, 1, 915)]
        lines = table(scenarios, [{"CPU": 4.0, "kernel: send": 1.0}, {"CPU": 2.0}]).splitlines()
        self.assertIn("1x1x915", lines[0])
        self.assertEqual([line.split()[-4:] for line in lines[1:2]], [["4.00", "100%", "2.00", "100%"]])
        self.assertEqual(lines[2].split(), ["kernel:", "send", "1.00", "25%", "-"])


def changedIn(code: str) -> Iterator[tuple[Any, str]]:
    """The attributes that a program replaces or deletes, each with what it is an attribute of."""
    names: dict[str, Any] = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            names |= {each.name: import_module(each.name) for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            for each in node.names:
                module = import_module(node.module)
                if not hasattr(module, each.name):
                    import_module(f"{node.module}.{each.name}")
                names[each.name] = getattr(module, each.name)
        elif isinstance(node, ast.Assign | ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    owner: Any = target.value
                    yield eval(ast.unparse(owner), dict(names)), target.attr


class WithoutTests(SynchronousTestCase):
    """benchmarks.without"""

    def test_changesExist(self) -> None:
        """What is changed is there."""
        seen = 0
        for change in CHANGES.values():
            for owner, name in changedIn(change.code):
                self.assertTrue(hasattr(owner, name), f"{change.name}: {owner} has no {name}")
                seen += isinstance(owner, ModuleType)
        self.assertGreater(seen, 5)

    def test_commands(self) -> None:
        """Each is a program that starts twistd, with places left for port and endpoint."""
        for change in CHANGES.values():
            command = commandOf(change)
            self.assertTrue(command.startswith("python -c "))
            self.assertIn("{listen}", command)
            self.assertIn(f"--reactor {change.reactor}", command)

    def test_missing(self) -> None:
        """A name that has gone is found."""
        (found,) = changedIn("from getty_tx.session import cork\ncork.NEVER = 1\n")
        self.assertFalse(hasattr(*found))
