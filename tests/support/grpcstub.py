"""A service in a server of grpcio, in threads of this process, and a stub for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from twisted.internet import reactor

from getty_tx.http.grpc.awaiting import Awaiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.trial.unittest import TestCase

    from getty_tx import http


class Service:
    """What the server does, in threads."""

    def __init__(self) -> None:
        self.goOn = threading.Event()

    def double(self, request: bytes, context: Any) -> bytes:
        """The request twice; or what it asks for."""
        context.send_initial_metadata((("a", "1"), ("b-bin", b"\0\xff")))
        context.set_trailing_metadata((("t", "2"),))
        if request == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "nö %")
        if request == b"wait":
            self.goOn.wait(10)
        return request * 2

    def count(self, request: bytes, context: Any) -> Any:
        """Numbers."""
        for number in range(int(request)):
            yield b"%d" % number
        if request == b"3":
            context.abort(grpc.StatusCode.ABORTED, "three")

    def join(self, requests: Any, context: Any) -> bytes:
        """All in one."""
        return b"".join(requests)

    def echo(self, requests: Any, context: Any) -> Any:
        """Each."""
        yield from requests


def serve(case: TestCase, service: Service, bind: str = "127.0.0.1:0") -> int:
    """Have a server of grpcio until the test ends. :return: its port."""
    handlers = {
        "double": grpc.unary_unary_rpc_method_handler(service.double),
        "count": grpc.unary_stream_rpc_method_handler(service.count),
        "join": grpc.stream_unary_rpc_method_handler(service.join),
        "echo": grpc.stream_stream_rpc_method_handler(service.echo),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("T", handlers),))
    port = server.add_insecure_port(bind)
    server.start()

    def stop() -> None:
        service.goOn.set()
        server.stop(0).wait()

    case.addCleanup(stop)
    return port


def deferLaterIn(seconds: float) -> Awaiting[None]:
    """Fires later, for both kinds of coroutines."""
    waiting: Awaiting[None] = Awaiting()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


class Stub:
    """As generated code makes it."""

    def __init__(self, channel: http.grpc.Channel) -> None:
        same: Callable[[bytes], bytes] = bytes
        options: Any = {"request_serializer": same, "response_deserializer": same, "_registered_method": True}
        self.double = channel.unary_unary("/T/double", **options)
        self.count = channel.unary_stream("/T/count", **options)
        self.join = channel.stream_unary("/T/join", **options)
        self.echo = channel.stream_stream("/T/echo", **options)
