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
from typing import Any

import grpc

from tests.support.grpc.cases import Cases
from tests.support.grpc.protos import interop

#: Each channel has a connection of its own.
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", "localhost")]


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
        else:
            channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        error = ""
        async with channel:
            try:
                cases = Cases(generated, channel, gathered, count=words["count"], probes=words["probes"])
                await asyncio.wait_for(getattr(cases, words["case"])(), 20)
            except BaseException:
                error = traceback.format_exc()
        print(json.dumps({"error": error}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
