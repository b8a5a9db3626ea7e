"""Servers with the interface of grpc.aio, with the settings that they have, and uvloop where it is installed.

python grpc_aio.py PORT grpc|pygrpc_native
"""

from __future__ import annotations

import asyncio
import importlib
import sys

import grpc_echo


async def main(port: str, package: str) -> None:
    server = importlib.import_module(f"{package}.aio").server()
    grpc_echo.addTo(server, grpc_echo.Async())
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


try:
    import uvloop

    uvloop.install()
except ImportError:
    pass
asyncio.run(main(*sys.argv[1:]))
