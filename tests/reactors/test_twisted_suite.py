"""
Twisted's own tests of reactors, run on the reactor of ``twistd --reactor getty``.

Each test case that Twisted builds for each of its reactors (``ReactorBuilder``) is built for this one. A test that
fails here though it passes on Twisted's own epoll reactor is a failure. One that fails on both, for reasons that lie in
the machine (no other user can reach the Python of a home directory, say), is skipped.
"""

from __future__ import annotations

from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SkipTest, SynchronousTestCase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The modules of twisted.internet.test with tests for epoll reactors.
MODULES = ("core", "fdset", "newtls", "process", "socket", "stdio", "tcp", "threads", "time", "tls", "udp", "unix")

PARENT = "twisted.internet.epollreactor.EPollReactor"
OURS = "getty_tx.reactors.epoll.EPollReactor"


def builders() -> Iterator[type[ReactorBuilder]]:
    """Twisted's builders of tests for its epoll reactor."""
    for name in MODULES:
        module = import_module(f"twisted.internet.test.test_{name}")
        for case, value in vars(module).items():
            if case.endswith("_EPollReactorTests"):
                yield value.__bases__[0]


def build(builder: type[ReactorBuilder], reactor: str) -> Any:
    """The test case of ``builder`` for a reactor."""
    kept = ReactorBuilder._reactors
    ReactorBuilder._reactors = [reactor]
    try:
        (case,) = builder.makeTestCaseClasses().values()
    finally:
        ReactorBuilder._reactors = kept
    return case


def asParent(test: Callable[[Any], None], name: str, parent: Any) -> Callable[[Any], None]:
    """``test``, skipped if it fails on Twisted's epoll reactor, too."""

    @wraps(test)
    def run(self: Any) -> None:
        try:
            test(self)
        except SkipTest:
            raise
        except Exception as error:
            result = TestResult()
            parent(name).run(result)
            if result.wasSuccessful():
                raise
            raise SkipTest("fails on Twisted's own epoll reactor as well") from error

    return run


def makeCases(reactor: str = OURS, module: str = __name__) -> dict[str, type]:
    """All test cases for a reactor, by name."""
    cases: dict[str, type] = {}
    for builder in builders():
        case, parent = build(builder, reactor), build(builder, PARENT)
        for name in dir(case):
            if name.startswith("test"):
                setattr(case, name, asParent(getattr(case, name), name, parent))
        case.__module__ = module
        case.__name__ = case.__qualname__ = f"{builder.__module__.rpartition('_')[2]}_{builder.__name__}"
        cases[case.__name__] = case
    return cases


globals().update(makeCases())


class FoundTests(SynchronousTestCase):
    """Twisted's tests are found."""

    def test_found(self) -> None:
        """Every module has tests, and their number is as in Twisted's suite on Linux."""
        cases = makeCases()
        self.assertEqual({name.partition("_")[0] for name in cases}, set(MODULES))
        self.assertGreater(sum(name.startswith("test") for case in cases.values() for name in dir(case)), 290)
