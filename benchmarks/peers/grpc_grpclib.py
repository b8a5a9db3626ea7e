"""grpclib's server, with the settings that it has, and uvloop where it is installed.

python grpc_grpclib.py PORT
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from google.protobuf.wrappers_pb2 import BytesValue
from grpclib.const import Cardinality, Handler
from grpclib.server import Server


class Echo:
    """What ``grpc_echo.py`` does."""

    async def say(self, stream: Any) -> None:
        request = await stream.recv_message()
        await stream.send_message(BytesValue(value=request.value))

    async def give(self, stream: Any) -> None:
        request = await stream.recv_message()
        for _ in range(int(request.value)):
            await stream.send_message(BytesValue(value=request.value))

    async def take(self, stream: Any) -> None:
        count = 0
        async for _ in stream:
            count += 1
        await stream.send_message(BytesValue(value=b"%d" % count))

    async def talk(self, stream: Any) -> None:
        async for request in stream:
            await stream.send_message(BytesValue(value=request.value))

    def __mapping__(self) -> dict[str, Handler]:
        rows = (
            ("Say", self.say, Cardinality.UNARY_UNARY),
            ("Give", self.give, Cardinality.UNARY_STREAM),
            ("Take", self.take, Cardinality.STREAM_UNARY),
            ("Talk", self.talk, Cardinality.STREAM_STREAM),
        )
        return {f"/bench.Echo/{name}": Handler(call, kind, BytesValue, BytesValue) for name, call, kind in rows}


async def main(port: int) -> None:
    server = Server([Echo()])
    await server.start("127.0.0.1", port)
    await server.wait_closed()


try:
    import uvloop

    uvloop.install()
except ImportError:
    pass
asyncio.run(main(int(sys.argv[1])))
