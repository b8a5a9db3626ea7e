"""Pyro5: see ``rpc_load.py`` for the command line.

Settings that are not Pyro5's own: the serializer ``marshal``, which its documentation calls the fastest, and which
gives bytes back as bytes; TCP_NODELAY, which is off otherwise; and a pool of 1000 threads, because it refuses
connections above its 80. The server type is Pyro5's own, a thread for each connection: ``multiplex`` costs a tenth less
with many connections and a quarter more with one. The handler is always a plain ``def``.

A proxy, which is a connection, has one call at a time: other callers wait in line.
"""

from __future__ import annotations

import sys
from typing import Any

import Pyro5.api
import rpc_load


@Pyro5.api.expose
class Echo:
    """Gives back what it gets."""

    def say(self, value: Any) -> Any:
        return value


def serve(port: int, content: str, isAsync: bool) -> None:
    daemon = Pyro5.api.Daemon("127.0.0.1", port)
    daemon.register(Echo(), "Echo")
    daemon.requestLoop()


def call(load: rpc_load.Load, content: str) -> None:
    def connection() -> Any:
        proxy = Pyro5.api.Proxy(f"PYRO:Echo@127.0.0.1:{load.port}")
        proxy._pyroTimeout = load.timeout
        proxy._pyroBind()

        def say(value: Any) -> Any:
            # A proxy belongs to the thread that has made it, until another says so.
            proxy._pyroClaimOwnership()
            return proxy.say(value)

        return rpc_load.given, say

    load.inThreads([connection() for _ in range(load.connections)])


Pyro5.config.SERIALIZER = "marshal"
Pyro5.config.SOCK_NODELAY = True
Pyro5.config.THREADPOOL_SIZE = 1000
sys.exit(rpc_load.main(serve, call))
