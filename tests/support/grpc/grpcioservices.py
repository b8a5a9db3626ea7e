"""
A program: grpcio's own clients of health and reflection.

A line of its input is ``{"do": NAME, "port": PORT}`` with what that needs; it answers with what it has found, or with
``{"error": TEXT}``.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Doing:
    """What can be asked for. ``watching`` are the statuses of who watches."""

    watching: Any

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def check(self, service: str) -> Any:
        try:
            return self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
        except grpc.RpcError as error:
            there: Any = error
            return there.code().name, there.details()

    def list(self) -> Any:
        found = self.health.List(health_pb2.HealthListRequest(), timeout=10).statuses
        return {name: each.status for name, each in found.items()}

    def watch(self, service: str) -> Any:
        self.watching = self.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30)
        return next(self.watching).status

    def next(self) -> Any:
        try:
            return next(self.watching).status
        except grpc.RpcError as error:
            there: Any = error
            return there.code().name

    def leave(self) -> Any:
        self.watching.cancel()
        return None

    def close(self) -> Any:
        self.channel.close()
        return None

    def reflect(self, service: str, extended: str) -> Any:
        database = ProtoReflectionDescriptorDatabase(self.channel)
        pool = DescriptorPool(database)
        methods = pool.FindServiceByName(service).methods
        return {
            "services": list(database.get_services()),
            "methods": {each.name: each.input_type.full_name for each in methods},
            "extensions": list(database.FindAllExtensionNumbers(extended)),
        }


def main() -> None:
    doing: dict[int, Doing] = {}
    for line in sys.stdin:
        words = json.loads(line)
        port, name = words.pop("port"), words.pop("do")
        try:
            if port not in doing:
                doing[port] = Doing(port)
            answer = {"found": getattr(doing[port], name)(**words)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
