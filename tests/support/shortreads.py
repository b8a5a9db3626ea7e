"""A reactor of Twisted's on which every stream connection takes the short path of sessions."""

from __future__ import annotations

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.tcp import Connection

from getty_tx.reactors.shortreads import shortReadsOf

__all__ = ["announcing"]


def announcing(case: Any = None) -> Any:
    """
    Twisted's epoll reactor with the short path, which each stream connection takes from when it starts to read.

    :param case: the test case, where this is its method.
    """
    reactor: Any = EPollReactor()
    shortReads = shortReadsOf(reactor)
    addReader = reactor.addReader

    def announce(reader: Any) -> None:
        addReader(reader)
        if isinstance(reader, Connection):
            shortReads.add(reader)

    reactor.addReader = announce
    return reactor
