"""For tests of the guest loop: a new reactor of each kind for each test, and its loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import twisted.internet
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor as TwistedsEPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.test.reactormixins import ReactorBuilder

from getty_tx.reactors.epoll import EPollReactor
from getty_tx.reactors.guest import GuestLoop, guestLoop
from getty_tx.reactors.guestreader import EpollReader

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted.python.failure import Failure

__all__ = ["REACTORS", "GuestCase", "onEachReactor"]

#: The reactors that the loop is tested on, by the end of the test cases' names.
REACTORS = {"Getty": EPollReactor, "Epoll": TwistedsEPollReactor, "Poll": PollReactor, "Select": SelectReactor}

#: Seconds until a waiting test fails.
PATIENCE = 30.0


class GuestCase(ReactorBuilder):
    """Tests with a new reactor, which is the installed one meanwhile, and its guest loop."""

    reactorFactory: ClassVar[Any] = EPollReactor

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.reactor: Any = self.buildReactor()
        self.patch(twisted.internet, "reactor", self.reactor)
        self.loop: GuestLoop = guestLoop(self.reactor)
        self.addCleanup(self.loop.end)

    def watched(self) -> bool:
        """Whether the reactor watches the loop's descriptors."""
        return any(isinstance(reader, EpollReader) for reader in self.reactor.getReaders())

    def run_(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run the reactor until a task of ``main()`` has ended, and then stop it; the task's result."""
        results: list[Any] = []

        def start() -> None:
            Deferred.fromFuture(self.loop.create_task(main())).addBoth(results.append).addBoth(
                lambda _: self.reactor.stop()
            )

        self.reactor.callWhenRunning(start)
        self.runReactor(self.reactor, PATIENCE)
        (result,) = results
        if hasattr(result, "raiseException"):
            failure: Failure = result
            failure.raiseException()
        return result


def onEachReactor(mixin: type, case: type, names: dict[str, Any]) -> None:
    """
    Make test cases of the tests in ``mixin``, one for each reactor.

    :param case: trial's type of test cases.
    :param names: ``globals()`` of the module.
    """
    for suffix, reactor in REACTORS.items():
        name = mixin.__name__.removesuffix("Mixin") + suffix + "Tests"
        names[name] = type(
            name,
            (mixin, GuestCase, case),
            {
                "reactorFactory": reactor,
                "__module__": names["__name__"],
                "__qualname__": name,
                "__doc__": mixin.__doc__,
            },
        )
