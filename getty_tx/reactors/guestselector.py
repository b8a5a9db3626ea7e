"""What a guest loop waits with: a selector, the reactor's reader of its descriptor."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from getty_tx.reactors.guest import GuestLoop

__all__ = ["EpollReader", "GuestSelector"]


class GuestSelector(selectors.EpollSelector):
    """The selector of a guest: it tells the loop when there is something to watch. The loop sets ``select``."""

    loop: GuestLoop | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the base class."""
        key = super().register(fileobj, events, data)
        if self.loop is not None:
            self.loop.watch()
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As the base class."""
        key = super().unregister(fileobj)
        if self.loop is not None:
            self.loop.wake()
        return key


@implementer(IReadDescriptor)
class EpollReader:
    """The selector's epoll descriptor, for the reactor: readable when one of the loop's descriptors has an event."""

    __slots__ = ("_loop", "_number")

    def __init__(self, loop: GuestLoop, number: int) -> None:
        self._loop = loop
        self._number = number

    def fileno(self) -> int:
        return self._number

    def logPrefix(self) -> str:
        return "asyncio"

    def doRead(self) -> None:
        self._loop.readable()

    def connectionLost(self, reason: Failure) -> None:
        # The reactor stops, and watches nothing any more.
        self._loop.watched = False
