"""A guest loop that can be run by itself, for suites of tests that run loops: it runs its reactor meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

from getty_tx.reactors.epoll import EPollReactor
from getty_tx.reactors.guest import GuestLoop

__all__ = ["SpinningGuest", "SpinningPolicy"]


class SpinningGuest(GuestLoop):
    """A guest loop with a reactor of its own, which runs while the loop is asked to run."""

    #: How many there have been.
    made = 0

    def __init__(self) -> None:
        SpinningGuest.made += 1
        self._ends = False
        self._spins = False
        self._raised: BaseException | None = None
        super().__init__(EPollReactor())

    def is_running(self) -> bool:
        """Within callbacks, and whenever the reactor runs, as of a loop that runs by itself."""
        return self._spins or super().is_running()

    def run_forever(self) -> None:
        """Run the reactor until stop() is called, or a callback raises SystemExit or KeyboardInterrupt."""
        self._check_closed()
        self._check_running()
        if self._ends:
            self._wake()
        raised = None
        reactor: Any = self.reactor
        try:
            reactor.run(installSignalHandlers=False)
        finally:
            self._ends = False
            raised, self._raised = self._raised, None
        if raised is not None:
            raise raised

    def _pass(self) -> None:
        try:
            super()._pass()
        except BaseException as error:
            self._raised = error
            self._ends = True
        if self._ends:
            self._ends = False
            self.reactor.crash()

    def run_until_complete(self, future: Any) -> Any:
        """As of a loop that runs by itself."""
        return asyncio.SelectorEventLoop.run_until_complete(self, future)

    def stop(self) -> None:
        """End run_forever() after the present pass, or the next one."""
        self._ends = True
        self._wake()

    def close(self) -> None:
        """As of a loop that runs by itself; closes the reactor's descriptors, too."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        reactor: Any = self.reactor
        reactor.removeAll()
        asyncio.SelectorEventLoop.close(self)
        for reader in list(reactor._internalReaders):
            reactor._internalReaders.remove(reader)
            reactor.removeReader(reader)
            reader.connectionLost(None)
        reactor._poller.close()


class SpinningPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes SpinningGuest the type of ``asyncio.new_event_loop()``."""

    _loop_factory = SpinningGuest
