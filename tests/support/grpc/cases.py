"""
The client's part of gRPC's interop tests, by their official names, for every channel that has the calls of grpc.aio's.

Each case is an ``async def`` of :class:`Cases` that raises AssertionError.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

__all__ = ["CASES", "NEGATIVE", "PAUSE", "Cases", "statusOf"]

#: Sizes of the streams.
REQUESTS = (27_182, 8, 1_828, 45_904)
REPLIES = (31_415, 9, 2_653, 58_979)
#: And of large unary calls.
LARGE_REQUEST, LARGE_REPLY = 271_828, 314_159

#: Seconds in which what was sent over loopback arrives.
PAUSE = 0.05

#: Seconds of the call whose deadline comes first: those of gRPC's own tests.
TIMEOUT = 0.001

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"


def equal(found: Any, wanted: Any) -> None:
    """:raise AssertionError: they are not."""
    assert found == wanted, f"{found!r:.300} is not {wanted!r:.300}"


def statusOf(error: Any) -> tuple[int, str]:
    """Code and text of what a call has failed with: grpc's errors have methods, ours attributes."""
    if isinstance(error, grpc.RpcError):
        there: Any = error
        return there.code().value[0], there.details()
    return int(error.code), error.text


def number(code: Any) -> int:
    """The number of a code, of grpc's or of ours."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)


class Cases:
    """
    The cases.

    :param generated: the modules of the interop service.
    :param channel: to the server.
    :param gather: runs coroutines together; asyncio's has no loop to run in where the channel is Twisted's.
    :param sent: tells which messages of the client were compressed, oldest first, and forgets them; None: nobody
        knows. ``came`` does so for the server's.
    :param count: of calls that are made at once.
    :param probes: the server can tell what is compressed.
    :param pause: waits for :data:`PAUSE` seconds, by default as asyncio does.
    """

    def __init__(
        self,
        generated: tuple[ModuleType, ModuleType],
        channel: Any,
        gather: Callable[[list[Any]], Awaitable[Any]],
        sent: Callable[[], list[bool]] | None = None,
        came: Callable[[], list[bool]] | None = None,
        count: int = 100,
        probes: bool = False,
        pause: Callable[[], Awaitable[Any]] = lambda: asyncio.sleep(PAUSE),
    ) -> None:
        self.pb: Any = generated[0]
        stubs: Any = generated[1]
        self.stub = stubs.TestServiceStub(channel)
        self.other = stubs.UnimplementedServiceStub(channel)
        self._gather = gather
        self._sent = sent
        self._came = came
        self._count = count
        self._probes = probes
        self._pause = pause

    # Messages

    def request(self, size: int, replySize: int, **fields: Any) -> Any:
        """A request of a unary call."""
        payload = self.pb.Payload(body=bytes(size))
        return self.pb.SimpleRequest(response_size=replySize, payload=payload, **fields)

    def input(self, size: int, **fields: Any) -> Any:
        """A request of a stream that is summed up."""
        return self.pb.StreamingInputCallRequest(payload=self.pb.Payload(body=bytes(size)), **fields)

    def output(self, *sizes: int, size: int = 0, compressed: tuple[bool, ...] = (), **fields: Any) -> Any:
        """A request for replies of these sizes."""
        parameters = [self.pb.ResponseParameters(size=each) for each in sizes]
        for each, flag in zip(parameters, compressed, strict=False):
            each.compressed.value = flag
        payload = self.pb.Payload(body=bytes(size))
        return self.pb.StreamingOutputCallRequest(response_parameters=parameters, payload=payload, **fields)

    def flag(self, value: bool) -> Any:
        """A flag that may be missing."""
        return self.pb.BoolValue(value=value)

    async def fails(self, call: Any, code: int, text: str | None = None) -> None:
        """A call, or what awaits one, ends with this status."""
        try:
            found = await call
        except Exception as error:
            status = statusOf(error)
        else:
            raise AssertionError(f"it has not failed: {found!r:.100}")
        equal(status[0], code)
        if text is not None:
            equal(status[1], text)

    # Cases

    async def empty_unary(self) -> None:
        """Nothing for nothing."""
        equal(await self.stub.EmptyCall(self.pb.Empty()), self.pb.Empty())

    async def large_unary(self) -> None:
        """More than a window of HTTP/2, both ways."""
        reply = await self.stub.UnaryCall(self.request(LARGE_REQUEST, LARGE_REPLY))
        equal(reply.payload.body, bytes(LARGE_REPLY))

    async def client_compressed_unary(self) -> None:
        """The client compresses when it is asked to, and the server can tell."""
        if self._probes:
            probe = self.request(LARGE_REQUEST, LARGE_REPLY, expect_compressed=self.flag(True))
            await self.fails(self.stub.UnaryCall(probe), 3)
        for isCompressed in (True, False):
            request = self.request(LARGE_REQUEST, LARGE_REPLY, expect_compressed=self.flag(isCompressed))
            way = grpc.Compression.Gzip if isCompressed else grpc.Compression.NoCompression
            reply = await self.stub.UnaryCall(request, compression=way)
            equal(len(reply.payload.body), LARGE_REPLY)
            if self._sent is not None:
                equal(self._sent()[-1], isCompressed)

    async def client_compressed_streaming(self) -> None:
        """The same in a stream, all of which is compressed: no API of grpc's for Python has that by message."""
        if self._probes:
            probe = self.stub.StreamingInputCall()
            await probe.write(self.input(REQUESTS[0], expect_compressed=self.flag(True)))
            await self.fails(probe, 3)
            if self._sent is not None:
                equal(self._sent(), [False])
        call = self.stub.StreamingInputCall(compression=grpc.Compression.Gzip)
        for size in REQUESTS[0], REQUESTS[3]:
            await call.write(self.input(size, expect_compressed=self.flag(True)))
        await call.done_writing()
        equal((await call).aggregated_payload_size, 73_086)
        if self._sent is not None:
            equal(self._sent(), [True, True])

    async def server_compressed_unary(self) -> None:
        """The server compresses when it is asked to."""
        for isCompressed in (True, False):
            request = self.request(LARGE_REQUEST, LARGE_REPLY, response_compressed=self.flag(isCompressed))
            equal((await self.stub.UnaryCall(request)).payload.body, bytes(LARGE_REPLY))
            if self._came is not None:
                equal(self._came(), [isCompressed])

    async def server_compressed_streaming(self) -> None:
        """The same, by message."""
        request = self.output(31_415, 92_653, compressed=(True, False))
        found = [len(reply.payload.body) async for reply in self.stub.StreamingOutputCall(request)]
        equal(found, [31_415, 92_653])
        if self._came is not None:
            equal(self._came(), [True, False])

    async def client_streaming(self) -> None:
        """Many requests, one reply."""
        call = self.stub.StreamingInputCall()
        for size in REQUESTS:
            await call.write(self.input(size))
        await call.done_writing()
        equal((await call).aggregated_payload_size, 74_922)

    async def server_streaming(self) -> None:
        """One request, many replies."""
        call = self.stub.StreamingOutputCall(self.output(*REPLIES))
        equal([len(reply.payload.body) async for reply in call], list(REPLIES))

    async def ping_pong(self) -> None:
        """A request follows the reply to the one before."""
        call = self.stub.FullDuplexCall()
        for size, replySize in zip(REQUESTS, REPLIES, strict=True):
            await call.write(self.output(replySize, size=size))
            equal(len((await call.read()).payload.body), replySize)
        await call.done_writing()
        assert not await call.read()

    async def empty_stream(self) -> None:
        """A stream of nothing is answered with one."""
        call = self.stub.FullDuplexCall()
        await call.done_writing()
        assert not await call.read()
        equal(number(await call.code()), 0)

    async def custom_metadata(self) -> None:
        """Metadata comes back in front of the replies and behind them, in unary calls and in streams."""
        given = (("x-grpc-test-echo-initial", "test_initial_metadata_value"),)
        given += (("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),)
        unary = self.stub.UnaryCall(self.request(LARGE_REQUEST, LARGE_REPLY), metadata=given)
        equal(len((await unary).payload.body), LARGE_REPLY)
        duplex = self.stub.FullDuplexCall(metadata=given)
        await duplex.write(self.output(LARGE_REPLY, size=LARGE_REQUEST))
        await duplex.done_writing()
        equal(len((await duplex.read()).payload.body), LARGE_REPLY)
        assert not await duplex.read()
        for call in unary, duplex:
            equal(dict(await call.initial_metadata())[given[0][0]], given[0][1])
            equal(dict(await call.trailing_metadata())[given[1][0]], given[1][1])

    async def status_code_and_message(self) -> None:
        """A status comes as it was made, for unary calls and for streams."""
        status = self.pb.EchoStatus(code=2, message="test status message")
        await self.fails(self.stub.UnaryCall(self.request(0, 0, response_status=status)), 2, status.message)
        call = self.stub.FullDuplexCall()
        await call.write(self.output(response_status=status))
        await call.done_writing()
        await self.fails(call.read(), 2, status.message)

    async def special_status_message(self) -> None:
        """White space, Unicode and all survive in a message."""
        status = self.pb.EchoStatus(code=2, message=SPECIAL)
        await self.fails(self.stub.UnaryCall(self.request(0, 0, response_status=status)), 2, SPECIAL)

    async def unimplemented_method(self) -> None:
        """The service has no such method."""
        await self.fails(self.stub.UnimplementedCall(self.pb.Empty()), 12)

    async def unimplemented_service(self) -> None:
        """The server has no such service."""
        await self.fails(self.other.UnimplementedCall(self.pb.Empty()), 12)

    async def cancel_after_begin(self) -> None:
        """A call that is cancelled before anything was sent."""
        call = self.stub.StreamingInputCall()
        call.cancel()
        equal(number(await call.code()), 1)

    async def cancel_after_first_response(self) -> None:
        """A call that is cancelled in the middle."""
        call = self.stub.FullDuplexCall()
        await call.write(self.output(31_415, size=27_182))
        equal(len((await call.read()).payload.body), 31_415)
        call.cancel()
        equal(number(await call.code()), 1)

    async def timeout_on_sleeping_server(self) -> None:
        """A deadline passes while the server has nothing to say, or before it has heard of the call."""
        call = self.stub.FullDuplexCall(timeout=TIMEOUT)
        try:
            await call.write(self.output(size=27_182))
        except Exception as error:
            # The deadline may come before the message has left.
            equal(statusOf(error)[0], 4)
        equal(number(await call.code()), 4)

    async def concurrent_large_unary(self) -> None:
        """Many large calls at once."""
        made = [self.stub.UnaryCall(self.request(LARGE_REQUEST, LARGE_REPLY)) for _ in range(self._count)]
        for reply in await self._gather(made):
            equal(len(reply.payload.body), LARGE_REPLY)

    # Against a server that misbehaves

    async def goaway(self) -> None:
        """The server goes away behind the first call; the second one has another connection."""
        await self.large_unary()
        # What the server has said behind the answer has to be here.
        await self._pause()
        await self.large_unary()

    async def rst_after_header(self) -> None:
        """A call that is reset fails, whatever the code says."""
        try:
            await self.stub.UnaryCall(self.request(LARGE_REQUEST, LARGE_REPLY))
        except Exception as error:
            assert statusOf(error)[0], error
        else:
            raise AssertionError("the call has not failed")

    async def rst_during_data(self) -> None:
        """The same, in the middle of a message."""
        await self.rst_after_header()

    async def rst_after_data(self) -> None:
        """The same, behind the message: there is no status."""
        await self.rst_after_header()

    async def ping(self) -> None:
        """Pings come around headers and data."""
        await self.large_unary()

    async def max_streams(self) -> None:
        """One call at a time is allowed, and ten are made."""
        await self.large_unary()
        await self._pause()
        made = [self.stub.UnaryCall(self.request(LARGE_REQUEST, LARGE_REPLY)) for _ in range(10)]
        for reply in await self._gather(made):
            equal(len(reply.payload.body), LARGE_REPLY)


#: Those against a server that misbehaves, and all others.
NEGATIVE = ("goaway", "rst_after_header", "rst_during_data", "rst_after_data", "ping", "max_streams")
CASES = tuple(name for name in vars(Cases) if "_" in name.strip("_") and name not in NEGATIVE and name[0] != "_")
