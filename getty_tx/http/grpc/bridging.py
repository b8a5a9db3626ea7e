"""What lets coroutines of asyncio's tasks await Twisted's Deferreds, too."""

from __future__ import annotations

from asyncio import get_running_loop
from types import coroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import CoroutineType

__all__ = ["DONE", "bridged", "bridgedOn"]


@coroutine
def bridged(work: CoroutineType[Any, Any, Any] | Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """
    Run a coroutine in the task that awaits this; where it awaits a Deferred, the task waits for its result.

    A cancelled task cancels the Deferred.
    """
    try:
        waited = work.send(None)
    except StopIteration as done:
        return done.value
    return (yield from bridgedOn(work, waited))


@coroutine
def bridgedOn(work: CoroutineType[Any, Any, Any] | Coroutine[Any, Any, Any], waited: Any) -> Generator[Any, Any, Any]:
    """As :py:func:`bridged`, of a coroutine that has begun, and awaits ``waited`` now."""
    step: Any
    value: Any
    while True:
        try:
            if isinstance(waited, Deferred):
                # The Deferred itself tells the coroutine of its result; this is to wait until there is one.
                yield from _settled(waited)
            else:
                yield waited
        except BaseException as error:
            step, value = work.throw, error
        else:
            step, value = work.send, None
        try:
            waited = step(value)
        except StopIteration as done:
            return done.value


def _settled(waited: Deferred[Any]) -> Generator[Any, Any, None]:
    future = get_running_loop().create_future()

    def fired(result: Any) -> Any:
        if not future.done():
            future.set_result(None)
        return result

    waited.addBoth(fired)
    try:
        yield from future
    except BaseException:
        waited.cancel()
        # The coroutine hears of the end of the task, and not of the Deferred's.
        waited.addErrback(lambda _: None)
        raise


class _Done:
    """Something that was done at once, for who awaits it."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


#: It keeps nothing.
DONE = _Done()
