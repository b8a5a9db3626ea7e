"""
What only ``make long`` runs: tests that take seconds each, and the full number of examples.

``make test`` has a short test of the same thing, and some of the examples.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

__all__ = ["IS_LONG", "examples", "onlyLong"]

#: Whether this is such a run.
IS_LONG = bool(os.environ.get("GETTY_LONG_TESTS"))

#: The part of the examples of a property that a short run tries.
PART = 3

#: The fewest of them.
FEWEST = 20

T = TypeVar("T")


def onlyLong(test: T) -> T:
    """Skip a test, or a class of tests, in a short run."""
    if not IS_LONG:
        marked: Any = test
        marked.skip = "takes long: make long runs it (GETTY_LONG_TESTS=1)"
    return test


def examples(count: int) -> int:
    """How many examples hypothesis tries of those that a long run has."""
    return count if IS_LONG else min(count, max(FEWEST, count // PART))
