"""What a guest loop leaves to its reactor: running, stopping, and signals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from getty_tx.reactors.guestend import logContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVarTuple

    Ts = TypeVarTuple("Ts")

__all__ = ["HostedLoop"]


class HostedLoop(asyncio.SelectorEventLoop):
    """A loop that another one runs. Its own methods for that refuse, and say what to do instead."""

    # It waits by itself, as the reactor has stopped.
    _alone = False

    def run_forever(self) -> None:
        """
        Not for a guest.

        :raise RuntimeError: always.
        """
        if not self._alone:
            self._refuse("run_forever() and run_until_complete()", "start tasks with start() or create_task()")
        super().run_forever()

    def run_until_complete(self, future: Any) -> Any:
        """
        Not for a guest.

        :raise RuntimeError: always.
        """
        if asyncio.iscoroutine(future):
            future.close()
        self._refuse(
            "run_until_complete()", "start a task with start() or create_task(), and Deferred.fromFuture() waits for it"
        )

    def stop(self) -> None:
        """
        Not for a guest.

        :raise RuntimeError: always.
        """
        if not self._alone:
            self._refuse("stop()", "reactor.stop() ends both")
        super().stop()

    def close(self) -> None:
        """
        Not for a guest.

        :raise RuntimeError: the reactor has not stopped.
        """
        if not self.is_closed():
            self._refuse("close()", "it is closed when the reactor has stopped")

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise RuntimeError(f"{what} is not for this loop, which runs inside a Twisted reactor: {instead}")

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> NoReturn:
        """
        Signals are the reactor's.

        :raise NotImplementedError: always; the type that asyncio's libraries expect where there are no handlers.
        """
        raise NotImplementedError(
            "Twisted handles the signals: for an orderly end use reactor.addSystemEventTrigger('before', 'shutdown',"
            " call); for other signals signal.signal(number, lambda *_: loop.call_soon_threadsafe(callback))"
        )

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """As the base class, but into Twisted's log."""
        logContext(context)
