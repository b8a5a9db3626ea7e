"""websockets: ``python groups_websockets.py PORT WIRE``; see ``../groupload.c`` for what is sent.

A broadcast is ``websockets.broadcast``. Settings: asyncio's own loop or uvloop where it is installed, a backlog of
4096; ``compression=None`` with ``ws``, and as it comes (permessage-deflate with windows of 4 KB) with ``deflate``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import websockets
from websockets.asyncio.server import broadcast, serve

try:
    from uvloop import new_event_loop as newLoop
except ImportError:
    newLoop = asyncio.new_event_loop

members: set[Any] = set()


async def handle(connection: Any) -> None:
    """A connection, which is a member once it has said so."""
    try:
        async for message in connection:
            do = json.loads(message)["do"]
            if do == "pub":
                broadcast(members, message)
                continue
            if do == "join":
                members.add(connection)
            await connection.send(message)
    except websockets.ConnectionClosedError:
        pass
    finally:
        members.discard(connection)


async def main(port: str, wire: str) -> None:
    settings: dict[str, Any] = {} if wire.endswith(":deflate") else {"compression": None}
    async with serve(handle, "127.0.0.1", int(port), backlog=4096, **settings):
        await asyncio.Event().wait()


with asyncio.Runner(loop_factory=newLoop) as runner:
    runner.run(main(*sys.argv[1:]))
