"""The selector of a guest loop."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GuestSelector"]

if not hasattr(selectors, "EpollSelector"):
    raise ImportError(
        "a guest loop needs epoll(7), which this system does not have; Twisted's asyncio reactor is the other way"
    )


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
