"""gRPC of grpcio on asyncio: see ``rpc_load.py`` for the command line. No generated code: the payload is bytes.

Settings: all as grpcio has them, TCP_NODELAY among them, and uvloop where it is installed. The handler is always an
``async def``: grpcio runs a plain one in a thread.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import rpc_load


def toJSON(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


#: What makes bytes of a value and a value of bytes.
CODECS: dict[str, tuple[Any, Any]] = {"bytes": (None, None), "json": (toJSON, json.loads)}


async def serveUntilKilled(port: int, content: str, isAsync: bool) -> None:
    async def say(request: Any, context: Any) -> Any:
        return request

    encode, decode = CODECS[content]
    handler = grpc.unary_unary_rpc_method_handler(say, decode, encode)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"say": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def callUntilOver(load: rpc_load.Load, content: str) -> None:
    encode, decode = CODECS[content]
    # Without the option all channels of a process share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = f"127.0.0.1:{load.port}"
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(load.connections)]
    for channel in channels:
        await channel.channel_ready()
    timeout = load.timeout

    def caller(channel: grpc.aio.Channel) -> Any:
        method = channel.unary_unary("/Echo/say", encode, decode)
        return load.caller(method if timeout is None else lambda value: method(value, timeout=timeout))

    load.begin()
    await asyncio.gather(*(caller(channel) for channel in channels for _ in range(load.depth)))
    for channel in channels:
        await channel.close()


sys.exit(
    rpc_load.main(
        lambda port, content, isAsync: rpc_load.run(serveUntilKilled(port, content, isAsync)),
        lambda load, content: rpc_load.run(callUntilOver(load, content)),
    )
)
