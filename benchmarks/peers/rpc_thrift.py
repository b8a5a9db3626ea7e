"""Thrift of thriftpy2 on asyncio: see ``rpc_load.py`` for the command line.

Settings: no ``client_timeout`` at the server, which otherwise ends each connection 3 seconds after it was made,
whatever it does, and no time-out of the client but for rows with a deadline; all else as thriftpy2 has it, TCP_NODELAY
and its binary protocol among it. The loop is uvloop where it is installed. A connection has one call at a time: the
others wait for their turn. The handler is always an ``async def``.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import Any

import rpc_load
import thriftpy2
from thriftpy2.contrib.aio import rpc

thrift = thriftpy2.load_fp(io.StringIO("service Echo { binary say(1: binary value) }"), "echo_thrift")


class Echo:
    """Gives back what it gets."""

    async def say(self, value: bytes) -> bytes:
        return value


class EchoJSON:
    """The same, with JSON in the bytes."""

    async def say(self, value: bytes) -> bytes:
        return toJSON(json.loads(value))


def toJSON(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def serve(port: int, content: str, isAsync: bool) -> None:
    loop = rpc_load.newLoop()
    asyncio.set_event_loop(loop)
    handler = Echo() if content == "bytes" else EchoJSON()
    rpc.make_server(thrift.Echo, handler, "127.0.0.1", port, client_timeout=None, loop=loop).serve()


async def callUntilOver(load: rpc_load.Load, content: str) -> None:
    # Its time-out is in milliseconds, for each read of the socket.
    timeout = None if load.timeout is None else int(load.timeout * 1000)
    opened = [
        await rpc.make_client(thrift.Echo, "127.0.0.1", load.port, timeout=timeout) for _ in range(load.connections)
    ]

    def caller(client: Any, lock: asyncio.Lock) -> Any:
        async def say(value: Any) -> Any:
            async with lock:
                return await client.say(value)

        async def sayJSON(value: Any) -> Any:
            async with lock:
                return json.loads(await client.say(toJSON(value)))

        return load.caller(say if content == "bytes" else sayJSON)

    locks = [asyncio.Lock() for _ in opened]
    load.begin()
    await asyncio.gather(*(caller(*each) for each in zip(opened, locks, strict=True) for _ in range(load.depth)))
    for client in opened:
        client.close()


sys.exit(rpc_load.main(serve, lambda *arguments: rpc_load.run(callUntilOver(*arguments))))
