"""
CPython's own tests of asyncio, with the guest loop as the loop: ``python -m tests.reactors.cpython [module ...]``.

Every loop that ``asyncio.new_event_loop()`` makes is a guest of a getty reactor of its own, which runs while a test
runs the loop (``tests.support.spinning``). It ends with code 1 if a test fails; without modules it runs all of
:py:data:`MODULES`, which takes two minutes.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import unittest
import warnings
from typing import Any

from tests.support.spinning import SpinningGuest, SpinningPolicy

__all__ = ["MODULES", "QUICK", "SKIPPED", "main"]

#: Modules of test.test_asyncio that take less than a second or two each.
QUICK = (
    "test_base_events",
    "test_buffered_proto",
    "test_eager_task_factory",
    "test_futures2",
    "test_locks",
    "test_queues",
    "test_runners",
    "test_server",
    "test_staggered",
    "test_streams",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
)

#: All that make loops by ``asyncio.new_event_loop()``. The others (test_events, test_sock_lowlevel and so on) name the
#: class of their loop. A module that a version of Python does not have is left out.
MODULES = (*QUICK, "test_futures", "test_sendfile", "test_ssl", "test_subprocess", "test_taskgroups", "test_tasks")

#: What is not run, by a part of the test's name, and why.
SKIPPED = {
    "SubprocessSafeWatcherTests": "a watcher of SIGCHLD by add_signal_handler, which is Twisted's here",
    "SubprocessFastWatcherTests": "as SubprocessSafeWatcherTests",
    "StreamTests.test_read_all_from_pipe_reader": "as SubprocessSafeWatcherTests",
    "TestFork.test_fork_signal_handling": "add_signal_handler, which the guest refuses",
}


def _cases(suite: Any) -> Any:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _cases(test)
        else:
            yield test


def _skip(test: unittest.TestCase) -> None:
    for part, why in SKIPPED.items():
        if part in test.id():
            name = test.id().rpartition(".")[2]
            setattr(test, name, unittest.skip(why)(getattr(test, name)))


def main(modules: list[str]) -> int:
    """Run modules of test.test_asyncio; 1 if a test fails or no guest loop was made."""
    warnings.simplefilter("ignore", DeprecationWarning)
    policy = SpinningPolicy()
    setPolicy = asyncio.set_event_loop_policy
    setPolicy(policy)

    def setInstead(given: Any) -> None:
        """The tests set the default policy when they end."""
        setPolicy(policy if given is None else given)

    # Python 3.14 has the second name, too, for itself and its tests.
    for name in ("set_event_loop_policy", "_set_event_loop_policy"):
        if hasattr(asyncio.events, name):
            setattr(asyncio.events, name, setInstead)
    asyncio.set_event_loop_policy = setInstead
    # Newer tests name this one as their loop's factory.
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = SpinningGuest  # type: ignore[misc,assignment]
    names = [f"test.test_asyncio.{name}" for name in modules]
    suite = unittest.defaultTestLoader.loadTestsFromNames([name for name in names if importlib.util.find_spec(name)])
    for test in _cases(suite):
        _skip(test)
    result = unittest.TextTestRunner(sys.stdout).run(suite)
    print(f"{SpinningGuest.made} guest loops")
    return 0 if result.wasSuccessful() and SpinningGuest.made else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or list(MODULES)))
