"""
The service of ``benchmarks.grpc``, for all servers that take grpcio's handlers.

Messages are ``google.protobuf.BytesValue``: that needs no generated code, and is encoded as others are. ``Say`` gives
back what it gets, ``Give`` as many messages of the same size as its request says, ``Take`` the number of its requests,
and ``Talk`` each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SERVICE = "bench.Echo"


def counted(request: Any) -> int:
    """How many messages a request of ``Give`` asks for: its number, with blanks behind it."""
    return int(request.value)


class Plain:
    """With ``def``, for threads."""

    def Say(self, request: Any, context: Any) -> Any:
        return BytesValue(value=request.value)

    def Give(self, request: Any, context: Any) -> Iterator[Any]:
        for _ in range(counted(request)):
            yield BytesValue(value=request.value)

    def Take(self, requests: Iterator[Any], context: Any) -> Any:
        count = 0
        for _ in requests:
            count += 1
        return BytesValue(value=b"%d" % count)

    def Talk(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in requests:
            yield BytesValue(value=request.value)


class Async:
    """With ``async def``."""

    async def Say(self, request: Any, context: Any) -> Any:
        return BytesValue(value=request.value)

    async def Give(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(counted(request)):
            yield BytesValue(value=request.value)

    async def Take(self, requests: AsyncIterator[Any], context: Any) -> Any:
        count = 0
        async for _ in requests:
            count += 1
        return BytesValue(value=b"%d" % count)

    async def Talk(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield BytesValue(value=request.value)


class Mixed(Async):
    """With ``def`` where no requests have to be waited for: for servers that call it in their own thread."""

    def Say(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        return BytesValue(value=request.value)

    def Give(self, request: Any, context: Any) -> Iterator[Any]:  # type: ignore[override]
        for _ in range(counted(request)):
            yield BytesValue(value=request.value)


def addTo(server: Any, servicer: Any) -> None:
    """Register a servicer as generated code does."""
    codec = {"request_deserializer": BytesValue.FromString, "response_serializer": BytesValue.SerializeToString}
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(servicer.Say, **codec),
        "Give": grpc.unary_stream_rpc_method_handler(servicer.Give, **codec),
        "Take": grpc.stream_unary_rpc_method_handler(servicer.Take, **codec),
        "Talk": grpc.stream_stream_rpc_method_handler(servicer.Talk, **codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)
