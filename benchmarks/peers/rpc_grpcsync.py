"""gRPC of grpcio with threads: see ``rpc_load.py`` for the command line. No generated code: the payload is bytes.

Settings: all as grpcio has them, TCP_NODELAY among them. The server has a pool of 10 threads, as gRPC's own examples
have it, and its handler is always a plain ``def``. A channel of the client has a thread. With one caller that makes
blocking calls, which are cheaper; with more callers it keeps as many futures open, which are cheaper than a thread for
each caller.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import rpc_load

THREADS = 10


def toJSON(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


#: What makes bytes of a value and a value of bytes.
CODECS: dict[str, tuple[Any, Any]] = {"bytes": (None, None), "json": (toJSON, json.loads)}


def serve(port: int, content: str, isAsync: bool) -> None:
    def say(request: Any, context: Any) -> Any:
        return request

    encode, decode = CODECS[content]
    handler = grpc.unary_unary_rpc_method_handler(say, decode, encode)
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", {"say": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def call(load: rpc_load.Load, content: str) -> None:
    encode, decode = CODECS[content]
    # Without the option all channels of a process share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(f"127.0.0.1:{load.port}", options) for _ in range(load.connections)]
    for channel in channels:
        grpc.channel_ready_future(channel).result()

    def connection(channel: grpc.Channel) -> Any:
        say = channel.unary_unary("/Echo/say", encode, decode)
        if load.depth == 1:
            return rpc_load.given, lambda value: say(value, timeout=load.timeout)
        return lambda value: say.future(value, timeout=load.timeout), lambda future: future.result()

    load.inThreads([connection(channel) for channel in channels])
    for channel in channels:
        channel.close()


sys.exit(rpc_load.main(serve, call))
