"""A program: grpc.aio's server with the interop service. Each line of its input is answered with ``{"port": PORT}``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import grpc

from tests.support.grpc.protos import interop
from tests.support.grpc.service import InteropService


async def main(where: str) -> None:
    messages, stubs = interop(where)
    server = grpc.aio.server()
    stubs.add_TestServiceServicer_to_server(InteropService(messages), server)
    plain = server.add_insecure_port("127.0.0.1:0")
    loop = asyncio.get_running_loop()
    isRunning = False
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = json.loads(line)
        port = plain
        if "key" in words:
            pair = Path(words["key"]).read_bytes(), Path(words["chain"]).read_bytes()
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        if not isRunning:
            await server.start()
            isRunning = True
        print(json.dumps({"port": port}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
