"""
Serves gRPC from generated code: one call, and a stream.

    python -m grpc_tools.protoc -I examples --python_out=. --grpc_python_out=. greeter.proto
    PYTHONPATH=.:examples twistd -n --reactor getty getty-grpc --servicer grpc_server:Greeter

``makeServer`` is for a program of its own.
"""

from __future__ import annotations

import asyncio

import greeter_pb2
import greeter_pb2_grpc

from getty_tx.http import grpc


class Greeter(greeter_pb2_grpc.GreeterServicer):
    """The methods of greeter.proto."""

    async def SayHello(self, request, context):
        """One greeting; names that are empty are refused."""
        if not request.name:
            await context.abort(grpc.Code.INVALID_ARGUMENT, "give a name")
        return greeter_pb2.Greeting(text=f"Hello, {request.name}")

    async def SayMany(self, request, context):
        """Three greetings."""
        for number in range(3):
            yield greeter_pb2.Greeting(text=f"Hello, {request.name}, {number}")
            await asyncio.sleep(0)


def makeServer(endpoint: str) -> grpc.Server:
    """An IService; add it to an application, or start it by startService()."""
    server = grpc.Server(endpoint)
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    return server
