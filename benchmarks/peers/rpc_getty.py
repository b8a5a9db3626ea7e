"""getty_tx.rpc, on its own reactor: see ``rpc_load.py`` for the command line."""

from __future__ import annotations

import sys
from typing import Any

import rpc_load

from getty_tx import reactors

reactors.install()

from twisted.internet import defer, reactor  # noqa: E402

from getty_tx import rpc  # noqa: E402


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
    server = rpc.Server(f"tcp:{port}:interface=127.0.0.1", {"Echo": service}, wire=rpc.TTHeader(content))
    server.privilegedStartService()
    server.startService()
    reactor.run()  # type: ignore[attr-defined]


def call(load: rpc_load.Load, content: str) -> None:
    client = rpc.Client(
        f"tcp:127.0.0.1:{load.port}", wire=rpc.TTHeader(content), number=load.connections, timeout=load.timeout
    )

    async def run() -> None:
        client.startService()
        await client.whenReady(load.connections)
        load.begin()
        say = client.service("Echo").say
        callers = [defer.ensureDeferred(load.caller(say)) for _ in range(load.connections * load.depth)]
        await defer.gatherResults(callers)

    defer.ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(
        lambda _: reactor.stop()  # type: ignore[attr-defined]
    )
    reactor.run()  # type: ignore[attr-defined]


sys.exit(rpc_load.main(serve, call))
