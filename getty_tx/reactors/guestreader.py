"""The reactor's reader for a guest loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

__all__ = ["EpollReader"]


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
