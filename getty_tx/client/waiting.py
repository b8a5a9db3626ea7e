"""What waits for the sessions of a pool: ``whenReady``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed

from getty_tx import settings
from getty_tx.errors import NotReadyError, SettingError
from getty_tx.transports.reconnecting import describeError

if TYPE_CHECKING:
    from getty_tx.client.slot import PoolSlot
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session
    from getty_tx.settings import Setting

__all__ = ["WaitingPool"]


class WaitingPool(Service):
    """
    A pool that tells when its sessions are open.

    :ivar destination: the peer's name in texts.
    """

    destination: str
    _context: ServiceContext | None
    _slots: list[PoolSlot]
    _closed: bool
    number: Setting[int]

    def __init__(self) -> None:
        self._waiters: dict[Deferred[list[Session]], _Waiter] = {}

    @property
    def sessions(self) -> list[Session]:
        """The open sessions."""
        raise NotImplementedError

    @property
    def lastError(self) -> BaseException | None:
        """The last reason why there was no session."""
        raise NotImplementedError

    @property
    def _size(self) -> int:
        """How many sessions there are to be."""
        return len(self._slots) or self.number

    @property
    def _most(self) -> int | None:
        """How many sessions there can be; None: nobody knows."""
        return self._size

    def _mayHave(self, n: int) -> bool:
        """Whether a look at the sessions may find ``n`` open ones."""
        return True

    def _endReasons(self) -> list[str]:
        """Why places are at an end, for each that is."""
        return [slot.endReason for slot in self._slots if slot.endReason]

    def whenReady(self, n: int = 1, timeout: float | None = None) -> Deferred[list[Session]]:
        """
        Fires with the open sessions as soon as there are ``n`` of them. May be called before the start.

        :param timeout: seconds from this call, or from the start if that comes later; None: no limit.
        :return: fails with NotReadyError, which says what is missing and why: on timeout, if so many sessions were
            given up that ``n`` cannot be reached, or if the client is closed. It may be cancelled.
        :raise SettingError: ``n`` is less than 1 or more than ``number``, or the timeout is invalid.
        """
        settings.count("n", n)
        settings.optionalSeconds("timeout", timeout)
        if self._most is not None and n > self._most:
            raise SettingError(self._tooMany(n))
        if self._closed:
            return fail(self.notReady(f"{self.destination}: the client is closed"))
        if len(sessions := self.sessions) >= n:
            return succeed(sessions)
        waiting: Deferred[list[Session]] = Deferred(self._cancelled)
        waiter = self._waiters[waiting] = _Waiter(n, timeout)
        if self._context is not None:
            self._limit(waiting, waiter)
            self._check()
        return waiting

    def _limit(self, waiting: Deferred[list[Session]], waiter: _Waiter) -> None:
        if waiter.timeout is not None and self._context is not None:
            waiter.call = self._context.reactor.callLater(waiter.timeout, self._late, waiting)

    def _late(self, waiting: Deferred[list[Session]]) -> None:
        waiter = self._dismiss(waiting)
        have = f"{len(self.sessions)} of {waiter.n} sessions are open after timeout={waiter.timeout:g} s"
        waiting.errback(self.notReady(f"{self.destination}: {have}"))

    def _dismiss(self, waiting: Deferred[list[Session]]) -> _Waiter:
        waiter = self._waiters.pop(waiting)
        call, waiter.call = waiter.call, None
        if call is not None and call.active():
            call.cancel()
        return waiter

    def _cancelled(self, waiting: Deferred[list[Session]]) -> None:
        self._dismiss(waiting)

    def _limitAll(self) -> None:
        """The pool has started: so have the time-outs."""
        for waiting, waiter in list(self._waiters.items()):
            if self._most is not None and waiter.n > self._most:
                # ``number`` was lowered in between.
                self._dismiss(waiting)
                waiting.errback(self.notReady(f"{self.destination}: {self._tooMany(waiter.n)}"))
            else:
                self._limit(waiting, waiter)

    def _tooMany(self, n: int) -> str:
        groups = (self._most or 0) // self.number
        return f"n={n} is more than number={self.number}" + (f" at each of {groups} endpoints" if groups > 1 else "")

    def _failAll(self) -> None:
        """The pool was closed."""
        for waiting in list(self._waiters):
            if waiting in self._waiters:
                self._dismiss(waiting)
                waiting.errback(self.notReady(f"{self.destination}: the client was closed"))

    def _check(self) -> None:
        """The number of sessions, or of slots that can have one, has changed: answer whenReady."""
        for waiting, waiter in list(self._waiters.items()):
            if waiting not in self._waiters:
                continue  # the callback of an earlier one has called close() or cancelled it
            if self._mayHave(waiter.n) and len(sessions := self.sessions) >= waiter.n:
                self._dismiss(waiting)
                waiting.callback(sessions)
                continue
            most = self._most
            if most is not None and most - len(ended := self._endReasons()) < waiter.n:
                self._dismiss(waiting)
                ends = ", ".join(f"{ended.count(end)} {end}" for end in dict.fromkeys(ended))
                text = f"{self.destination}: {waiter.n} sessions cannot be reached, of {most} places {ends}"
                waiting.errback(self.notReady(text))

    def notReady(self, text: str) -> NotReadyError:
        """The error with this text, and with the last failure."""
        error = NotReadyError(self.because(text))
        error.__cause__ = self.lastError
        return error

    def because(self, text: str) -> str:
        """A text with the last failure."""
        return text if self.lastError is None else f"{text}; the last failure was: {describeError(self.lastError)}"


class _Waiter:
    """A call of whenReady that is not answered yet."""

    __slots__ = ("call", "n", "timeout")

    def __init__(self, n: int, timeout: float | None) -> None:
        self.n = n
        self.timeout = timeout
        self.call: Any = None
