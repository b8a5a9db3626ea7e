"""A program: grpc.aio's server with the interop service. A line of its input is answered with ``{"port": PORT}``."""

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
    loop = asyncio.get_running_loop()
    servers = []
    plain = 0
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = json.loads(line)
        port = plain
        if "key" in words or not port:
            server = grpc.aio.server()
            stubs.add_TestServiceServicer_to_server(InteropService(messages), server)
            if "key" in words:
                pair = Path(words["key"]).read_bytes(), Path(words["chain"]).read_bytes()
                port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
            else:
                port = plain = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            servers.append(server)
        print(json.dumps({"port": port}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
