"""What a guest loop waits with: a selector, and the reactor's reader of its descriptor."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

__all__ = ["EpollReader", "GuestSelector"]


class GuestSelector(selectors.EpollSelector):
    """
    The selector of a guest, which says when it has something more or less to watch. The loop sets ``select``.

    :param registered: called after a descriptor was added, once ``announces`` is set.
    :param unregistered: called after one was removed.
    """

    def __init__(self, registered: Callable[[], object], unregistered: Callable[[], object]) -> None:
        super().__init__()
        #: Whether the functions are called: not while the loop is made.
        self.announces = False
        self._registered = registered
        self._unregistered = unregistered

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """As the base class."""
        key = super().register(fileobj, events, data)
        if self.announces:
            self._registered()
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """As the base class."""
        key = super().unregister(fileobj)
        if self.announces:
            self._unregistered()
        return key


@implementer(IReadDescriptor)
class EpollReader:
    """
    The selector's epoll descriptor, for the reactor: readable when one of the loop's descriptors has an event.

    :param number: the descriptor.
    :param readable: called when it is readable.
    :param lost: called when the reactor watches nothing any more.
    """

    __slots__ = ("_lost", "_number", "_readable")

    def __init__(self, number: int, readable: Callable[[], object], lost: Callable[[], object]) -> None:
        self._number = number
        self._readable = readable
        self._lost = lost

    def fileno(self) -> int:
        return self._number

    def logPrefix(self) -> str:
        return "asyncio"

    def doRead(self) -> None:
        self._readable()

    def connectionLost(self, reason: Failure) -> None:
        self._lost()
