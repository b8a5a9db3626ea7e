"""getty_tx.rpc, on its own reactor: see ``rpc_load.py`` for the command line.

With ``GETTY_RPC_JSON=msgspec`` in the environment JSON is read and written by that library.

Settings: all as getty_tx has them, but that calls have no deadline unless they are told to. The callers share a client
with as many sessions as there are connections, or those of each connection have one of their own, as with other peers.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import rpc_load

from getty_tx import reactors

reactors.install()

from twisted.internet import defer, reactor  # noqa: E402

from getty_tx import rpc  # noqa: E402


def wireOf(content: str) -> Any:
    """The wire for a kind of content."""
    if content == "dubbo":
        return rpc.Dubbo()
    return rpc.TTHeader(os.environ.get("GETTY_RPC_JSON", content) if content == "json" else content)


class Plain:
    """Gives back what it gets."""

    @rpc.method
    def say(self, value: Any) -> Any:
        return value


class Async:
    """The same."""

    @rpc.method
    async def say(self, value: Any) -> Any:
        return value


def serve(port: int, content: str, isAsync: bool) -> None:
    service: object = Async() if isAsync else Plain()
    server = rpc.Server(f"tcp:{port}:interface=127.0.0.1", {"Echo": service}, wire=wireOf(content))
    server.privilegedStartService()
    server.startService()
    reactor.run()  # type: ignore[attr-defined]


def call(load: rpc_load.Load, content: str) -> None:
    number, each = (1, load.connections) if load.isPool else (load.connections, 1)
    clients = [
        rpc.Client(f"tcp:127.0.0.1:{load.port}", wire=wireOf(content), number=each, timeout=load.timeout)
        for _ in range(number)
    ]

    async def run() -> None:
        for client in clients:
            client.startService()
            await client.whenReady(each)
        load.begin()
        says = [client.service("Echo").say for client in clients]
        callers = [defer.ensureDeferred(load.caller(say)) for say in says for _ in range(each * load.depth)]
        await defer.gatherResults(callers)

    defer.ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(
        lambda _: reactor.stop()  # type: ignore[attr-defined]
    )
    reactor.run()  # type: ignore[attr-defined]


sys.exit(rpc_load.main(serve, call))
