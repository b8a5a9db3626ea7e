"""Observers: hooks that see every session of a service, independent of its listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from getty_tx.session.refusals import Reason
    from getty_tx.session.totals import CloseReason

__all__ = ["Observer", "Observers"]

log = Logger()


class Observer:
    """
    Subclass it, override what you want to hear of, and give it to ``server.addObserver`` or ``client.addObserver``.

    The calls come on the reactor's thread, between two callbacks of the session or from within one, so they must not
    block. What they raise is logged, and hurts nobody else. There is none for each message, as that would cost each of
    them: ``session.stats`` has their numbers.
    """

    def opened(self, session: Any) -> None:
        """``onOpen`` has returned."""

    def closed(self, session: Any, reason: CloseReason) -> None:
        """
        ``onClose`` has returned; attributes and counters are there for the last time.

        :param reason: one of :py:data:`~getty_tx.session.totals.CloseReason`.
        """

    def refused(self, service: Any, reason: Reason, why: str) -> None:
        """
        A connection was refused.

        :param service: the Server or Client.
        :param reason: one of :py:data:`~getty_tx.session.refusals.Reason`.
        :param why: in words, with the peer where it is known.
        """

    def error(self, session: Any, error: BaseException) -> None:
        """A session failed and will close; ``onError`` is called next. A UDP server's session lives on."""


class Observers:
    """The observers of one service."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: tuple[Observer, ...] = ()

    def add(self, observer: Observer) -> None:
        """Add an observer; a second time has no effect."""
        if observer not in self.all:
            self.all += (observer,)

    def remove(self, observer: Observer) -> None:
        """Remove an observer."""
        self.all = tuple(each for each in self.all if each is not observer)

    def tell(self, event: str, *args: Any) -> None:
        """Call a method of each observer; what it raises is logged."""
        for observer in self.all:
            try:
                getattr(observer, event)(*args)
            except Exception:
                log.failure("{observer}: {event} failed", observer=observer, event=event)
