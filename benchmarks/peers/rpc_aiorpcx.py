"""aiorpcX, JSON-RPC on asyncio: see ``rpc_load.py`` for the command line.

Settings: its limits of concurrency and of cost are lifted, and a frame may have 4 MiB; all else, its time-outs of 30
seconds among it, is as aiorpcX has it. The loop is uvloop where it is installed; both loops set TCP_NODELAY. aiorpcX
carries JSON only, so bytes are a text of as many letters.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiorpcx
import rpc_load


class Session(aiorpcx.RPCSession):
    """Gives back what it gets."""

    cost_hard_limit = 0
    initial_concurrent = 100_000

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._outgoing_concurrency = aiorpcx.Concurrency(100_000)

    def default_framer(self) -> Any:
        return aiorpcx.NewlineFramer(max_size=4 * 1024 * 1024)

    def _recalc_concurrency(self) -> None:
        self._req_times.clear()

    async def handle_request(self, request: Any) -> Any:
        return request.args[0]


async def serveUntilKilled(port: int, content: str, isAsync: bool) -> None:
    await aiorpcx.serve_rs(Session, "127.0.0.1", port)
    await asyncio.Event().wait()


async def callUntilOver(load: rpc_load.Load, content: str) -> None:
    if content == "bytes":
        load.payload = "".join(chr(97 + byte % 26) for byte in load.payload)
    opened = []
    for _ in range(load.connections):
        connector = aiorpcx.connect_rs("127.0.0.1", load.port, session_factory=Session)
        _, transport = await connector.create_connection()
        opened.append(transport.session)

    def caller(session: Any) -> Any:
        async def sayInTime(value: Any) -> Any:
            async with aiorpcx.timeout_after(load.timeout):
                return await session.send_request("say", [value])

        def say(value: Any) -> Any:
            return session.send_request("say", [value])

        return load.caller(say if load.timeout is None else sayInTime)

    load.begin()
    await asyncio.gather(*(caller(session) for session in opened for _ in range(load.depth)))


sys.exit(
    rpc_load.main(
        lambda *arguments: rpc_load.run(serveUntilKilled(*arguments)),
        lambda *arguments: rpc_load.run(callUntilOver(*arguments)),
    )
)
