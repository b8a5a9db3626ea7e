"""Work in slices: what takes longer than a reactor's turn may is done over several of them."""

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

#: Seconds of work in one slice, and between two: at most half of a core, however many ask.
SLICE = 0.003
PAUSE = 0.003


class _Budget:
    def __init__(self) -> None:
        self._end = perf_counter() + SLICE

    def __call__(self) -> bool:
        return perf_counter() >= self._end


class Slices:
    """
    Runs generators that yield None for a pause and their result at last.

    Who asks for what is being worked on gets that: a hundred pages that look at the same cost as much as one.

    :param reactor: between its turns the work is done.
    """

    def __init__(self, reactor: Any) -> None:
        self._cooperator = Cooperator(
            terminationPredicateFactory=_Budget, scheduler=lambda call: reactor.callLater(PAUSE, call)
        )
        self._waiting: dict[Hashable, list[Deferred[Any]]] = {}

    def run(self, key: Hashable, work: Callable[[], Iterator[T | None]]) -> Deferred[T]:
        """
        Do it, unless the same is being done.

        :param key: what is the same.
        :return: fires with the result; fails with what the work raised, or SchedulerStopped.
        """
        waiter: Deferred[T] = Deferred()
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(waiter)
            return waiter
        self._waiting[key] = [waiter]
        results: list[T] = []
        done: Deferred[Any] = self._cooperator.coiterate(_gather(work(), results))
        done.addCallbacks(lambda _: results[0]).addBoth(self._done, key)
        return waiter

    def _done(self, result: Any, key: Hashable) -> None:
        for waiter in self._waiting.pop(key):
            waiter.callback(result)

    def stop(self) -> None:
        """Leave all work undone."""
        self._cooperator.stop()
        # It forgets some of several, as its list becomes shorter under its hands.
        for key in list(self._waiting):
            self._done(Failure(SchedulerStopped()), key)


def _gather(work: Iterator[T | None], results: list[T]) -> Iterator[None]:
    for result in work:
        if result is not None:
            results.append(result)
        yield None
