"""
A program: the interop cases by grpc.aio's channel.

A line of its input is ``{"case": NAME, "port": PORT, "count": CALLS, "probes": BOOL}``, with ``"ca"``, a file, where
the server has TLS; it answers ``{"error": TEXT}``, empty where all is well.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc

from tests.support.grpc.cases import TIMEOUT, Cases, equal, number
from tests.support.grpc.protos import interop

#: Each channel has a connection of its own.
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]


class GrpcioCases(Cases):
    """
    The cases.

    :param plain: a channel of grpcio's other API, to the same server.
    """

    def __init__(self, generated: Any, channel: Any, plain: Any, **options: Any) -> None:
        super().__init__(generated, channel, gathered, **options)
        stubs: Any = generated[1]
        self._plain = stubs.TestServiceStub(plain)

    async def timeout_on_sleeping_server(self) -> None:
        """With the other API: grpc.aio says INTERNAL where the deadline comes while it writes a message."""

        def call() -> None:
            asked: SimpleQueue[Any] = SimpleQueue()
            asked.put(self.output(size=27_182))
            replies = self._plain.FullDuplexCall(iter(asked.get, None), timeout=TIMEOUT)
            try:
                found = next(replies, None)
            except grpc.RpcError:
                equal(number(replies.code()), 4)
            else:
                raise AssertionError(f"it has not failed: {found!r:.100}")
            finally:
                # It has a thread that waits for more.
                asked.put(None)

        await asyncio.get_running_loop().run_in_executor(None, call)


async def gathered(calls: list[Any]) -> list[Any]:
    return await asyncio.gather(*calls)


async def main(where: str) -> None:
    generated = interop(where)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = json.loads(line)
        address = f"127.0.0.1:{words['port']}"
        if "ca" in words:
            given = grpc.ssl_channel_credentials(Path(words["ca"]).read_bytes())
            channel = grpc.aio.secure_channel(address, given, options=OPTIONS)
            plain = grpc.secure_channel(address, given, options=OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(address, options=OPTIONS)
            plain = grpc.insecure_channel(address, options=OPTIONS)
        error = ""
        async with channel:
            try:
                cases = GrpcioCases(generated, channel, plain, count=words["count"], probes=words["probes"])
                await asyncio.wait_for(getattr(cases, words["case"])(), 20)
            except BaseException:
                error = traceback.format_exc()
        plain.close()
        print(json.dumps({"error": error}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
