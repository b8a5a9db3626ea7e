"""grpc.testing.TestService, once for all servers: ours, and those of grpc.aio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

__all__ = ["InteropService"]

#: Metadata that comes back in front of the answer, and behind it.
INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


class InteropService:
    """
    The service.

    :param messages: its generated messages.
    :param sawCompressed: tells whether the message that came last was compressed; None: nobody knows, and all that is
        expected is believed.

    :ivar cancelled: calls whose handler was cancelled.
    :ivar running: calls that are handled.
    """

    def __init__(self, messages: ModuleType, sawCompressed: Callable[[], bool] | None = None) -> None:
        self._pb: Any = messages
        self._sawCompressed = sawCompressed
        self.cancelled = 0
        self.running = 0

    async def EmptyCall(self, request: Any, context: Any) -> Any:
        """Nothing for nothing."""
        return self._pb.Empty()

    async def UnaryCall(self, request: Any, context: Any) -> Any:
        """So many bytes."""
        await self._expect(request, context)
        await self._echo(context)
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
            # Or grpc.aio does not do it.
            await context.send_initial_metadata(())
        await self._status(request, context)
        return self._pb.SimpleResponse(payload=self._payload(request.response_size))

    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """As many answers as are asked for."""
        if any(each.compressed.value for each in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        async for answer in self._answers(request, context):
            yield answer

    async def StreamingInputCall(self, requests: AsyncIterator[Any], context: Any) -> Any:
        """The sum of the sizes."""
        size = 0
        async for request in requests:
            await self._expect(request, context)
            size += len(request.payload.body)
        return self._pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers to each request when it comes."""
        self.running += 1
        try:
            await self._echo(context)
            async for request in requests:
                await self._status(request, context)
                async for answer in self._answers(request, context):
                    yield answer
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def HalfDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers to all requests when the last has come."""
        kept = [request async for request in requests]
        for request in kept:
            async for answer in self._answers(request, context):
                yield answer

    async def UnimplementedCall(self, request: Any, context: Any) -> Any:
        """Do as the generated base of services does."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")

    async def _answers(self, request: Any, context: Any) -> AsyncIterator[Any]:
        isMixed = any(each.compressed.value for each in request.response_parameters)
        for each in request.response_parameters:
            if each.interval_us:
                await asyncio.sleep(each.interval_us / 1e6)
            if isMixed and not each.compressed.value:
                context.disable_next_message_compression()
            yield self._pb.StreamingOutputCallResponse(payload=self._payload(each.size))

    def _payload(self, size: int) -> Any:
        return self._pb.Payload(body=bytes(size))

    async def _expect(self, request: Any, context: Any) -> None:
        """Refuse a message that is not compressed as its sender says."""
        if self._sawCompressed is not None and request.HasField("expect_compressed"):
            sent = self._sawCompressed()
            if sent != request.expect_compressed.value:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"compressed: {sent}")

    @staticmethod
    async def _echo(context: Any) -> None:
        given = dict(context.invocation_metadata())
        if INITIAL in given:
            await context.send_initial_metadata(((INITIAL, given[INITIAL]),))
        if TRAILING in given:
            context.set_trailing_metadata(((TRAILING, given[TRAILING]),))

    @staticmethod
    async def _status(request: Any, context: Any) -> None:
        """End the call with the status that is asked for."""
        if request.HasField("response_status"):
            status = request.response_status
            code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
            await context.abort(code, status.message)
