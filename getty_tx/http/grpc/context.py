"""What the calls of one server share."""

from __future__ import annotations

from typing import Any

from getty_tx.http.grpc.methods import Methods
from getty_tx.http.two.limits import Limits
from getty_tx.reactors.guest import guestLoop

__all__ = ["ServerContext"]


class ServerContext:
    """
    The settings, the methods and the counters of one server.

    :ivar methods: what is served.
    :ivar loop: asyncio's loop, where coroutines of handlers run.
    :ivar limits: of each connection.
    """

    def __init__(self, reactor: Any = None) -> None:
        self.methods = Methods()
        self.loop = guestLoop(reactor)
        self.limits = Limits()
