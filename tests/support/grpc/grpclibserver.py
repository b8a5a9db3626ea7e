"""A program: grpclib's server with the interop service. Each line of its input is answered with ``{"port": PORT}``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from tests.support.grpc.protos import interop
from tests.support.grpc.service import INITIAL, TRAILING


class Service:
    """The methods, with grpclib's streams; no compression, which it does not have."""

    def __init__(self, messages: Any) -> None:
        self._pb = messages

    def _payload(self, size: int) -> Any:
        return self._pb.Payload(body=bytes(size))

    async def _begin(self, stream: Any) -> None:
        given = stream.metadata or {}
        if INITIAL in given:
            await stream.send_initial_metadata(metadata={INITIAL: given[INITIAL]})

    async def _end(self, stream: Any) -> None:
        given = stream.metadata or {}
        if TRAILING in given:
            await stream.send_trailing_metadata(metadata={TRAILING: given[TRAILING]})

    def _check(self, request: Any) -> None:
        if request.HasField("response_status"):
            raise GRPCError(Status(request.response_status.code), request.response_status.message)

    async def empty(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(self._pb.Empty())

    async def unary(self, stream: Any) -> None:
        request = await stream.recv_message()
        self._check(request)
        await self._begin(stream)
        await stream.send_message(self._pb.SimpleResponse(payload=self._payload(request.response_size)))
        await self._end(stream)

    async def output(self, stream: Any) -> None:
        await self._answer(stream, await stream.recv_message())

    async def _answer(self, stream: Any, request: Any) -> None:
        for each in request.response_parameters:
            await stream.send_message(self._pb.StreamingOutputCallResponse(payload=self._payload(each.size)))

    async def input(self, stream: Any) -> None:
        size = 0
        async for request in stream:
            size += len(request.payload.body)
        await stream.send_message(self._pb.StreamingInputCallResponse(aggregated_payload_size=size))

    async def duplex(self, stream: Any) -> None:
        await self._begin(stream)
        async for request in stream:
            self._check(request)
            await self._answer(stream, request)
        await self._end(stream)

    def __mapping__(self) -> dict[str, Handler]:
        pb = self._pb
        streams = pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse
        sums = pb.StreamingInputCallRequest, pb.StreamingInputCallResponse
        made = {
            "EmptyCall": Handler(self.empty, Cardinality.UNARY_UNARY, pb.Empty, pb.Empty),
            "UnaryCall": Handler(self.unary, Cardinality.UNARY_UNARY, pb.SimpleRequest, pb.SimpleResponse),
            "StreamingOutputCall": Handler(self.output, Cardinality.UNARY_STREAM, *streams),
            "StreamingInputCall": Handler(self.input, Cardinality.STREAM_UNARY, *sums),
            "FullDuplexCall": Handler(self.duplex, Cardinality.STREAM_STREAM, *streams),
        }
        return {f"/grpc.testing.TestService/{name}": handler for name, handler in made.items()}


async def main(where: str) -> None:
    server: Any = Server([Service(interop(where)[0])])
    await server.start("127.0.0.1", 0)
    # grpclib does not say where it listens when the system has chosen the port.
    (listening,) = server._server.sockets
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"port": listening.getsockname()[1]}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
