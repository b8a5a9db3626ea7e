"""Calls from other threads to the reactor's thread: one wake-up for many calls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ThreadCalls", "ThreadRun", "current"]

log = Logger()


class ThreadRun(Protocol):
    """
    The run of a worker thread: collects calls of its handlers and brings them to the reactor together.

    :ivar pendingBytes: bytes that its handlers wrote and the reactor has not taken.
    """

    @property
    def pendingBytes(self) -> int: ...

    def write(self, session: Any, chunks: Any, packages: int, length: int) -> None:
        """Have the reactor's thread write ``chunks`` to the session."""

    def call(self, call: Callable[..., object], args: tuple[Any, ...], isWrite: bool) -> None:
        """Have the reactor's thread call ``call(*args)``, in order with the writes; ``isWrite``: it is one itself."""


class _Current(threading.local):
    """The run of the current thread; None in threads that are no workers."""

    run: ThreadRun | None = None


current = _Current()


class ThreadCalls:
    """
    Brings calls from any thread to the reactor's, in order.

    :param reactor: the reactor, whose thread makes this object.

    :ivar reactorThread: that thread's number, as ``threading.get_ident()`` has it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.reactorThread = threading.get_ident()
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._bytes: dict[Any, int] = {}
        self._woken = False
        self._lock = threading.Lock()

    def call(self, call: Callable[..., object], *args: Any, session: Any = None, length: int = 0) -> None:
        """
        Run ``call(*args)`` on the reactor's thread, in order, with one wake-up for all that is asked meanwhile.

        :param session: whose bytes these are, and ``length`` how many; :py:meth:`bytesFor` counts them.
        """
        run = current.run
        if run is not None:
            # Keeps its order among the other calls of the worker.
            run.call(self._run, (call, args), isWrite=session is not None)
            return
        with self._lock:
            self._calls.append((call, args))
            if session is not None:
                self._bytes[session] = self._bytes.get(session, 0) + length
            if self._woken:
                return
            self._woken = True
        self._reactor.callFromThread(self._runAll)

    def onReactor(self, call: Callable[..., object], *args: Any) -> None:
        """Run ``call(*args)`` at once if this is the reactor's thread, or else there."""
        if threading.get_ident() == self.reactorThread:
            call(*args)
        else:
            self.call(call, *args)

    def bytesFor(self, session: Any) -> int:
        """Bytes that other threads wrote to the session and the reactor has not seen yet."""
        with self._lock:
            return self._bytes.get(session, 0)

    def _runAll(self) -> None:
        with self._lock:
            batch, self._calls = self._calls, []
            self._bytes.clear()
            self._woken = False
        for call, args in batch:
            self._run(call, args)

    def _run(self, call: Callable[..., object], args: tuple[Any, ...]) -> None:
        try:
            call(*args)
        except Exception:
            log.failure("a call from another thread failed")
