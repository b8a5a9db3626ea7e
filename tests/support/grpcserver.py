"""Servers of gRPC in tests, without generated code: messages are bytes; and grpcio's client in a thread."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx.http.grpc.server import Server
from tests.support.grpcraw import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallCase", "methodOf", "pathOf"]

#: The service of these tests.
SERVICE = "test.Service"


def methodOf(kind: str, function: Any) -> Any:
    """What ``grpc.unary_unary_rpc_method_handler`` makes, for a kind such as ``unary_stream``."""
    requests, _, replies = kind.partition("_")
    handler = SimpleNamespace(
        request_streaming=requests == "stream",
        response_streaming=replies == "stream",
        request_deserializer=None,
        response_serializer=None,
    )
    setattr(handler, kind, function)
    return handler


class CallCase(TestCase):
    """Serves functions, whose names begin with their kind, such as ``unary_stream_count``."""

    timeout = 20

    async def serve(self, *functions: Any, **options: Any) -> Server:
        """A server that listens, with these as methods of ``test.Service``, by their names."""
        server = Server(options.pop("endpoint", "tcp:0:interface=127.0.0.1"), **options)
        handlers = {each.__name__: methodOf("_".join(each.__name__.split("_")[:2]), each) for each in functions}
        server.add_registered_method_handlers(SERVICE, handlers)
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        self.port = address.port
        return server

    async def raw(self) -> RawClient:
        """A connection on h2."""
        client = await RawClient.to(self.port)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def client(self, work: Callable[[Any], Any], **options: Any) -> Deferred[Any]:
        """Call ``work(channel)`` with grpcio's channel in a thread."""
        try:
            import grpc
        except ImportError:
            raise SkipTest("grpcio is not installed") from None

        def run() -> Any:
            with grpc.insecure_channel(f"127.0.0.1:{self.port}", **options) as channel:
                return work(channel)

        return deferToThread(run)


def pathOf(function: Any) -> str:
    """The path of a method that was made of a function."""
    return f"/{SERVICE}/{function.__name__}"
