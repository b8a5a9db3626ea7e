"""How a guest loop ends, which is what ``asyncio.run`` does at its end, with limits; and how its errors are logged."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["endTasks", "logContext"]

_log = Logger()


async def endTasks(loop: asyncio.AbstractEventLoop, limit: float, executor: Executor | None) -> None:
    """
    Cancel all other tasks of the loop, close asynchronous generators, and shut the default executor down.

    :param limit: seconds for each of the three. What has not ended then is logged, and left as it is.
    :param executor: the default executor, None if there is none.
    """
    await _cancel(loop, limit)
    try:
        await asyncio.wait_for(loop.shutdown_asyncgens(), limit)
    except TimeoutError:
        _log.warn("asynchronous generators of asyncio have not closed within {limit} s", limit=limit)
    if executor is not None and not await _shutDown(loop, limit, executor):
        _log.warn("calls in asyncio's default executor have not returned within {limit} s", limit=limit)


async def _cancel(loop: asyncio.AbstractEventLoop, limit: float) -> None:
    tasks = asyncio.all_tasks(loop)
    tasks.discard(asyncio.current_task())
    if not tasks:
        return
    for task in tasks:
        task.cancel("the reactor has stopped")
    done, pending = await asyncio.wait(tasks, timeout=limit)
    for task in done:
        if not task.cancelled() and (exception := task.exception()) is not None:
            context: dict[str, Any] = {
                "message": "unhandled exception while the reactor's end cancelled a task",
                "exception": exception,
                "task": task,
            }
            loop.call_exception_handler(context)
    for task in pending:
        _log.warn(
            "an asyncio task has not ended within {limit} s of its cancellation: {task!r}", limit=limit, task=task
        )


async def _shutDown(loop: asyncio.AbstractEventLoop, limit: float, executor: Executor) -> bool:
    """Whether the executor's threads have ended in time. loop.shutdown_default_executor() has no limit before 3.12."""
    ended = asyncio.Event()

    def shutDown() -> None:
        executor.shutdown(wait=True, cancel_futures=True)
        # The loop is closed if this comes too late.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    # A daemon, since the interpreter waits for the executor's threads by itself.
    Thread(target=shutDown, name="asyncio-end", daemon=True).start()
    try:
        await asyncio.wait_for(ended.wait(), limit)
    except TimeoutError:
        return False
    return True


def logContext(context: dict[str, Any]) -> None:
    """Log what goes to a loop's exception handler; with the traceback if there is one."""
    text = context.get("message") or "Unhandled exception in event loop"
    details = "".join(
        f"\n{key}: {value!r}" for key, value in sorted(context.items()) if key not in ("message", "exception")
    )
    exception = context.get("exception")
    if exception is None:
        _log.error("{text}{details}", text=text, details=details)
    else:
        failure = Failure(exception, type(exception), exception.__traceback__)
        _log.failure("{text}{details}", failure, text=text, details=details)
