"""Pages with the commands of benchmarks."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

__all__ = ["haveOptions"]


def haveOptions(case: Any, page: str, modules: dict[str, Any]) -> None:
    """All indented lines of a page are commands of these benchmarks, by name, with options that there are."""
    commands = re.findall(r"^ {4}python -m benchmarks\.(\w+) (.*)$", page, re.MULTILINE)
    case.assertEqual([*modules], list(dict.fromkeys(name for name, _ in commands)))
    case.assertEqual(len(commands), len(re.findall(r"^ {4}\S", page, re.MULTILINE)))
    for name, arguments in commands:
        case.patch(sys, "argv", [name, *shlex.split(arguments)])
        modules[name].options()
