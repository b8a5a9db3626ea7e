"""
Which line a thread serves next, and how many threads run.

While handlers do not block, one thread is as fast as many, since only one at a time has the interpreter; a second one
is started when the first has been with one handler for a millisecond. Handlers that block are told from others by their
last message. Their lines have threads of their own, and never the last of a pool in which others do not block: eight
sessions that sleep hold up nobody.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from getty_tx.session.pausing import WORKERS
from getty_tx.workers.queues import KeyedWork, Line, OwnLine, SharedLine, SharedWork, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from getty_tx.session.session import Session
    from getty_tx.workers.thread import Run

__all__ = ["KeyedPlan", "OpenPlan", "Plan"]

#: Seconds for which a thread is kept free after a line that did not block.
RESERVE = 0.1


class Plan:
    """
    One of the models. Everything but ``next`` is for the reactor's thread.

    :param size: threads at most.
    :param queueLength: messages that wait in a line at most.
    :param wake: has :py:meth:`starts` asked soon.

    :ivar runs: what runs in the pool's threads.
    :ivar full: lines whose sessions are paused.
    """

    def __init__(self, size: int, queueLength: int, wake: Callable[[], object]) -> None:
        self.size = size
        self.queueLength = queueLength
        self.runs: set[Run] = set()
        self.full: set[SharedLine] = set()
        self._wake = wake

    def attach(self, session: Session) -> Work:
        """What stands between this session and the pool."""
        return SharedWork(self, session)

    def lineFor(self, key: Any) -> SharedLine:
        """The line of a key, or the next one where there are no keys."""
        raise NotImplementedError

    def ready(self, line: Line) -> None:
        """The line has items, and is not scheduled: have it served."""
        raise NotImplementedError

    def served(self, line: Line) -> None:
        """A run is through with the line for now."""
        raise NotImplementedError

    def starts(self) -> list[tuple[bool, Line | None]]:
        """The runs to start: whether each is for handlers that block, and the line that it is bound to."""
        raise NotImplementedError

    def next(self, run: Run) -> Line | None:
        """In a worker's thread: what to serve next, None to end the run."""
        raise NotImplementedError

    def waiting(self) -> int:
        """How many messages wait in lines that sessions share."""
        return 0

    def relieve(self) -> None:
        """Resume the sessions whose lines have room again."""
        for line in [line for line in self.full if len(line.items) <= self.queueLength // 2]:
            self.full.discard(line)
            sessions, line.full = line.full, set()
            for session in sessions:
                session.inbound.resume(WORKERS)


class KeyedPlan(Plan):
    """Each line is served by one thread at a time, any thread takes the next."""

    def __init__(
        self,
        size: int,
        queueLength: int,
        wake: Callable[[], object],
        key: Callable[[Session, Any], Hashable] | None,
    ) -> None:
        super().__init__(size, queueLength, wake)
        self._key = key
        self._lines: dict[Hashable, SharedLine] = {}
        self._keys: dict[Line, Hashable] = {}
        self._fast: deque[Line] = deque()
        self._slow: deque[Line] = deque()
        self._lastFast = monotonic() - RESERVE

    def attach(self, session: Session) -> Work:
        return OwnLine(self, session) if self._key is None else KeyedWork(self, session, self._key)

    def lineFor(self, key: Any) -> SharedLine:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = SharedLine(isExclusive=True)
            self._keys[line] = key
        return line

    def waiting(self) -> int:
        return sum(len(line.items) for line in self._lines.values())

    def ready(self, line: Line) -> None:
        line.scheduled = True
        (self._slow if line.slow else self._fast).append(line)
        self._wake()

    def served(self, line: Line) -> None:
        line.scheduled = False
        if isinstance(line, OwnLine):
            line.resume()
        elif line.items:
            self.ready(line)
        elif line in self._keys:
            del self._lines[self._keys.pop(line)]

    def _slowRuns(self) -> int:
        """How many threads may serve handlers that block."""
        isMixed = monotonic() - self._lastFast < RESERVE
        return self.size - max(1, self.size // 4) if isMixed and self.size > 1 else self.size

    def starts(self) -> list[tuple[bool, Line | None]]:
        now = monotonic()
        runs = self.runs
        found: list[tuple[bool, Line | None]] = []
        if self._fast:
            self._lastFast = now
            if not any(not run.slow and run.isFresh(now) for run in runs) and len(runs) < self.size:
                found.append((False, None))
        if self._slow:
            slow = sum(run.slow for run in runs)
            room = min(self._slowRuns() - slow, self.size - len(runs) - len(found), len(self._slow))
            found += [(True, None)] * room
        return found

    def next(self, run: Run) -> Line | None:
        lines = self._slow if run.slow else self._fast
        if run.slow:
            runs = tuple(self.runs)
            if sum(other.slow for other in runs) > self._slowRuns():
                return None
            if self._fast and len(runs) == self.size and all(other.slow for other in runs):
                # There is no thread for them, and one line of them takes no longer than any.
                lines = self._fast
        try:
            return lines.popleft()
        except IndexError:
            return None


class OpenPlan(Plan):
    """
    A fixed number of lines, each served by its share of the threads; no order is kept.

    :param lines: how many; messages are put into them in turn.
    :param eager: a thread for each message at once, as long as there are any.
    """

    def __init__(self, size: int, queueLength: int, wake: Callable[[], object], lines: int, eager: bool) -> None:
        super().__init__(size, queueLength, wake)
        # Thread i serves line i % lines.
        self.lines = [SharedLine(isExclusive=False, threads=(size + lines - 1 - i) // lines) for i in range(lines)]
        self._turn = 0
        self._eager = eager

    def lineFor(self, key: Any) -> SharedLine:
        self._turn = (self._turn + 1) % len(self.lines)
        return self.lines[self._turn]

    def waiting(self) -> int:
        return sum(len(line.items) for line in self.lines)

    def ready(self, line: Line) -> None:
        line.scheduled = True
        self._wake()

    def served(self, line: Line) -> None:
        if line.items:
            self._wake()
        else:
            line.scheduled = False

    def starts(self) -> list[tuple[bool, Line | None]]:
        now = monotonic()
        found: list[tuple[bool, Line | None]] = []
        for line in self.lines:
            if not line.items:
                continue
            runs = [run for run in self.runs if run.line is line]
            if line.slow or self._eager:
                wanted = min(line.threads, len(runs) + len(line.items) - sum(run.isFresh(now) for run in runs))
            else:
                wanted = len(runs) + (not any(run.isFresh(now) for run in runs))
            found += [(line.slow, line)] * (min(wanted, line.threads) - len(runs))
        return found

    def next(self, run: Run) -> Line | None:
        line = run.line
        assert line is not None
        return line if line.items else None
