"""
Which descriptors of an epoll reactor have somebody who reads their error queue.

The kernel tells of an error queue by ``EPOLLERR``, as it does of a broken connection, and Twisted takes all of them for
lost connections. The loops of this room ask :py:meth:`ErrorQueues.handle` about such an event first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ErrorQueues"]

# Of epoll_ctl(2). Where there is no epoll, Python does not have them, and the reactor says so better than this module.
EPOLLERR = 0x008
EPOLLHUP = 0x010


class ErrorQueues:
    """
    The readers of error queues.

    :ivar reads: them, by the number of their descriptor.
    """

    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads: dict[int, Callable[[], bool]] = {}

    def add(self, number: int, read: Callable[[], bool]) -> None:
        """See :py:meth:`getty_tx.interfaces.IErrorQueueReactor.addErrorQueue`."""
        self.reads[number] = read

    def remove(self, number: int) -> None:
        """See :py:meth:`getty_tx.interfaces.IErrorQueueReactor.removeErrorQueue`."""
        self.reads.pop(number, None)

    def handle(self, number: int, event: int) -> int:
        """
        An event with ``EPOLLERR`` has come: have the error queue read.

        Whether the descriptor has an error besides is not asked here, as that would take the error from the one who
        reads next. epoll is level-triggered: an error comes again, and then nothing is in the queue.

        :return: what is left of the event for Twisted; 0: nothing.
        """
        read = self.reads.get(number)
        if read is None or not read() or event & EPOLLHUP:
            return event
        return event & ~EPOLLERR
