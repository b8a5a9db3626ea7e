"""Runs long work in short slices, so that the reactor stays responsive."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["Slices"]

T = TypeVar("T")

#: Seconds of one slice, and between two slices: the work takes at most half of a core, whatever the number of clients.
SLICE = 0.003
PAUSE = 0.003


class _Budget:
    """Tells the Cooperator when a slice has used its time."""

    def __init__(self) -> None:
        self._end = perf_counter() + SLICE

    def __call__(self) -> bool:
        return perf_counter() >= self._end


class Slices:
    """
    Runs generators that yield None after each step, and their result at the end.

    Requests for the same work share one run: a hundred pages with the same table cost as much as one.

    :param reactor: schedules the slices.
    """

    def __init__(self, reactor: Any) -> None:
        self._cooperator = Cooperator(
            terminationPredicateFactory=_Budget, scheduler=lambda call: reactor.callLater(PAUSE, call)
        )
        self._waiters: dict[Hashable, list[Deferred[Any]]] = {}

    def run(self, key: Hashable, work: Callable[[], Iterator[T | None]]) -> Deferred[T]:
        """
        Run the work, or join a run of the same work.

        :param key: identifies the work.
        :return: fires with the result; fails with the exception of the work, or SchedulerStopped.
        """
        waiter: Deferred[T] = Deferred()
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.append(waiter)
            return waiter
        self._waiters[key] = [waiter]
        results: list[T] = []
        done: Deferred[Any] = self._cooperator.coiterate(_gather(work(), results))
        done.addCallbacks(lambda _: results[0]).addBoth(self._done, key)
        return waiter

    def _done(self, result: Any, key: Hashable) -> None:
        for waiter in self._waiters.pop(key):
            waiter.callback(result)

    def stop(self) -> None:
        """Abandon all work; the Deferreds fail with SchedulerStopped."""
        self._cooperator.stop()
        # Cooperator.stop() skips some of several tasks, because its list shrinks while it iterates over it.
        for key in list(self._waiters):
            self._done(Failure(SchedulerStopped()), key)


def _gather(work: Iterator[T | None], results: list[T]) -> Iterator[None]:
    for result in work:
        if result is not None:
            results.append(result)
        yield None
