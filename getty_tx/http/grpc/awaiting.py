"""A Deferred that tasks of asyncio can await, too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = ["Awaiting", "isInTask"]

T = TypeVar("T")

#: It has not fired.
_NOTHING: Any = object()


def isInTask() -> bool:
    """Whether a task of asyncio is what runs."""
    return asyncio._get_running_loop() is not None and asyncio.current_task() is not None


class Awaiting(Deferred[T]):
    """
    A Deferred for ``await`` in a coroutine of Twisted's, and in a task of asyncio's guest loop.

    Which of both awaits cannot be seen: a coroutine of Twisted's may run within a task. So ``await`` yields this object
    to either. To Twisted it is a Deferred. To a task it is a future, as far as a task looks: that is the protocol of
    ``asyncio.isfuture`` for objects that are no Future. It may be awaited more than once.
    """

    _kept: Any = _NOTHING
    #: Its own ``cancel`` has ended it.
    isCancelled = False
    # Set on the object while a task asks, never in the class: asyncio.gather() and the like would take it for a Future
    # then, and call a ``result()``, where Deferreds have an attribute. As it is they make a task of it.
    _asyncio_future_blocking: bool

    def __await__(self) -> Generator[Any, Any, T]:
        if self._kept is _NOTHING:
            self.addBoth(self._keep)
            if self._kept is _NOTHING:
                self._asyncio_future_blocking = True
                yield self
        kept = self._kept
        if isinstance(kept, Failure):
            kept.raiseException()
        return kept  # type: ignore[no-any-return]  # what it was called with

    def _keep(self, result: Any) -> Any:
        if self._kept is _NOTHING:
            self._kept = result
        return None if isinstance(result, Failure) else result

    # What a task calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """For a task: its own loop, which is the running one when it asks."""
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """For a task: call when it has ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(callback, context=context)

        def tell(result: Any) -> Any:
            if not future.done():
                if self.isCancelled:
                    # The task was cancelled, and has cancelled this.
                    future.cancel()
                else:
                    future.set_result(None)
            return result

        self.addBoth(tell)

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]  # Twisted's returns nothing
        """Wait no longer. :return: it had not fired."""
        if self.called:
            super().cancel()
            return False
        self.isCancelled = True
        self.cancelNow()
        return True

    def cancelNow(self) -> None:
        """Fail."""
        super().cancel()
