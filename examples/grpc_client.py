"""
A client of gRPC by the stubs of generated code: ``python examples/grpc_client.py tcp:localhost:50051``.

It asks a server's health (``grpc.health.v1.Health``), once and then as a stream, with the messages and the stub of the
package grpcio-health-checking; stubs of your own are used the same way.
"""

import sys

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from getty_tx.http import grpc


async def main(reactor, target, service=""):
    async with grpc.Channel(target, timeout=3.0) as channel:
        health = HealthStub(channel)
        request = HealthCheckRequest(service=service)
        try:
            reply = await health.Check(request)
        except grpc.StatusError as error:
            print(error.code.name, error.text)
            return
        print("Check:", HealthCheckResponse.ServingStatus.Name(reply.status))
        watch = health.Watch(request)
        async for reply in watch:
            print("Watch:", HealthCheckResponse.ServingStatus.Name(reply.status))
            watch.cancel()
            break


if __name__ == "__main__":
    react(lambda reactor, *arguments: ensureDeferred(main(reactor, *arguments)), sys.argv[1:])
