"""What ``getty-rpc`` serves in tests: calls that take as long as they are told."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from getty_tx import rpc

__all__ = ["Slow"]


class Slow:
    """The service of the processes."""

    @rpc.method
    def pid(self) -> int:
        """Which process it is."""
        return os.getpid()

    @rpc.method
    async def last(self, seconds: float) -> int:
        """Return it after a while."""
        from twisted.internet import reactor

        await deferLater(reactor, seconds)
        return os.getpid()

    @rpc.method
    def never(self) -> Deferred[Any]:
        """Return nothing."""
        return Deferred()
