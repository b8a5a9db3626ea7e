"""python-socketio: ``python groups_socketio.py PORT WIRE``; see ``../groupload.c`` for what is sent.

A broadcast is ``emit`` to a room. Settings: ``AsyncServer`` as an ASGI application of uvicorn with one worker and
uvloop where it is installed, a backlog of 4096; WebSocket without the step from long polling, and no log.
"""

from __future__ import annotations

import sys
from typing import Any

import socketio
import uvicorn

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])


@server.on("join")
async def join(sid: str, message: Any) -> None:
    await server.enter_room(sid, "members")
    await server.emit("join", message, to=sid)


@server.on("pub")
async def publish(sid: str, message: Any) -> None:
    await server.emit("pub", message, room="members")


@server.on("echo")
async def echo(sid: str, message: Any) -> None:
    await server.emit("echo", message, to=sid)


def main(port: str, wire: str) -> None:
    application = socketio.ASGIApp(server)
    uvicorn.run(application, host="127.0.0.1", port=int(port), backlog=4096, log_level="warning", access_log=False)


main(*sys.argv[1:])
