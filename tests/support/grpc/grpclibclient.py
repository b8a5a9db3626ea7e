"""
A program: interop cases by grpclib's channel, as far as it has what they need; it has no compression.

A line of its input is ``{"case": NAME, "port": PORT}``; it answers ``{"error": TEXT}``, empty where all is well.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from typing import Any

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from tests.support.grpc.cases import LARGE_REPLY, LARGE_REQUEST, REPLIES, REQUESTS, SPECIAL, TIMEOUT, Cases, equal
from tests.support.grpc.protos import interop

SERVICE = "/grpc.testing.TestService/"


class GrpclibCases:
    """The cases. Messages are those of the others."""

    def __init__(self, generated: Any, channel: Channel) -> None:
        self._generated = generated
        self.pb: Any = generated[0]
        pb = self.pb
        self.made = Cases.__new__(Cases)
        self.made.pb = pb
        self.empty = UnaryUnaryMethod(channel, f"{SERVICE}EmptyCall", pb.Empty, pb.Empty)
        self.unary = UnaryUnaryMethod(channel, f"{SERVICE}UnaryCall", pb.SimpleRequest, pb.SimpleResponse)
        self.missing = UnaryUnaryMethod(channel, f"{SERVICE}UnimplementedCall", pb.Empty, pb.Empty)
        self.nowhere = UnaryUnaryMethod(channel, "/grpc.testing.UnimplementedService/A", pb.Empty, pb.Empty)
        streams = pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse
        self.output = UnaryStreamMethod(channel, f"{SERVICE}StreamingOutputCall", *streams)
        self.duplex = StreamStreamMethod(channel, f"{SERVICE}FullDuplexCall", *streams)
        sums = pb.StreamingInputCallRequest, pb.StreamingInputCallResponse
        self.input = StreamUnaryMethod(channel, f"{SERVICE}StreamingInputCall", *sums)

    async def empty_unary(self) -> None:
        equal(await self.empty(self.pb.Empty()), self.pb.Empty())

    async def large_unary(self) -> None:
        reply = await self.unary(self.made.request(LARGE_REQUEST, LARGE_REPLY))
        equal(reply.payload.body, bytes(LARGE_REPLY))

    async def client_streaming(self) -> None:
        reply = await self.input([self.made.input(size) for size in REQUESTS])
        equal(reply.aggregated_payload_size, sum(REQUESTS))

    async def server_streaming(self) -> None:
        replies = await self.output(self.made.output(*REPLIES))
        equal([len(reply.payload.body) for reply in replies], list(REPLIES))

    async def ping_pong(self) -> None:
        async with self.duplex.open() as stream:
            for size, replySize in zip(REQUESTS, REPLIES, strict=True):
                await stream.send_message(self.made.output(replySize, size=size))
                reply = await stream.recv_message()
                assert reply is not None
                equal(len(reply.payload.body), replySize)
            await stream.end()
            equal(await stream.recv_message(), None)

    async def custom_metadata(self) -> None:
        given = {"x-grpc-test-echo-initial": "value", "x-grpc-test-echo-trailing-bin": b"\xab\xab\xab"}
        async with self.unary.open(metadata=given) as stream:
            await stream.send_message(self.made.request(10, 10), end=True)
            await stream.recv_message()
            await stream.recv_trailing_metadata()
            assert stream.initial_metadata is not None and stream.trailing_metadata is not None
            equal(stream.initial_metadata["x-grpc-test-echo-initial"], "value")
            equal(stream.trailing_metadata["x-grpc-test-echo-trailing-bin"], b"\xab\xab\xab")

    async def fails(self, call: Any, status: Status, text: str | None = None) -> None:
        try:
            await call
        except GRPCError as error:
            equal(error.status, status)
            if text is not None:
                equal(error.message, text)
        else:
            raise AssertionError("it has not failed")

    async def special_status_message(self) -> None:
        status = self.pb.EchoStatus(code=2, message=SPECIAL)
        call = self.unary(self.made.request(0, 0, response_status=status))
        await self.fails(call, Status.UNKNOWN, SPECIAL)

    async def unimplemented_method(self) -> None:
        await self.fails(self.missing(self.pb.Empty()), Status.UNIMPLEMENTED)

    async def unimplemented_service(self) -> None:
        await self.fails(self.nowhere(self.pb.Empty()), Status.UNIMPLEMENTED)

    async def cancel_after_first_response(self) -> None:
        async with self.duplex.open() as stream:
            await stream.send_message(self.made.output(31_415, size=27_182))
            assert await stream.recv_message() is not None
            await stream.cancel()

    async def timeout_on_sleeping_server(self) -> None:
        try:
            async with self.duplex.open(timeout=TIMEOUT) as stream:
                await stream.send_message(self.made.output(size=27_182))
                await stream.recv_message()
        except TimeoutError:
            return
        except StreamTerminatedError as error:
            # The server's word that the deadline has passed may come before grpclib looks at its own clock.
            assert "error_code: 8" in str(error), error
            return
        except GRPCError as error:
            equal(error.status, Status.DEADLINE_EXCEEDED)
            return
        raise AssertionError("it has not failed")

    async def concurrent_large_unary(self) -> None:
        await asyncio.gather(*(self.large_unary() for _ in range(20)))


GRPCLIB_CASES = tuple(name for name in vars(GrpclibCases) if "_" in name.strip("_"))


async def main(where: str) -> None:
    generated = interop(where)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        words = json.loads(line)
        error = ""
        async with Channel("127.0.0.1", words["port"]) as channel:
            try:
                cases = GrpclibCases(generated, channel)
                await asyncio.wait_for(getattr(cases, words["case"])(), 20)
            except BaseException:
                error = traceback.format_exc()
        print(json.dumps({"error": error}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
