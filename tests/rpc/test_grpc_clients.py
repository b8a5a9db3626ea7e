"""Clients of gRPC and ``@rpc.method``: generated code and JSON, of grpcio and of this package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from getty_tx import http, rpc
from getty_tx.http.grpc import Code
from tests.support.certificates import Authority
from tests.support.grpc.child import childOf
from tests.support.grpc.protos import folder, interop
from tests.support.grpcwire import WireCase, packed

#: The interop cases, but those of compression by message and of metadata in front of an answer: methods have neither.
CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "concurrent_large_unary",
)


class TestService:
    """The interop service, as methods of calls."""

    def __init__(self, messages: Any) -> None:
        self._pb = messages
        self.cancelled = self.running = 0

    @rpc.method
    def EmptyCall(self, request: Any) -> None:
        """Nothing for nothing."""

    @rpc.method
    async def UnaryCall(self, request: Any) -> Any:
        """So many bytes."""
        self._status(request)
        await deferLater(reactor, 0)
        return self._pb.SimpleResponse(payload=self._payload(request.response_size))

    @rpc.stream
    async def StreamingOutputCall(self, request: Any) -> Any:
        """As many answers as are asked for."""
        for answer in self._answers(request):
            yield answer

    @rpc.stream
    async def StreamingInputCall(self) -> Any:
        """The sum of the sizes."""
        size = sum([len(request.payload.body) async for request in rpc.currentCall().stream])
        return self._pb.StreamingInputCallResponse(aggregated_payload_size=size)

    @rpc.stream
    async def FullDuplexCall(self) -> Any:
        """Answers to each request when it comes."""
        self.running += 1
        try:
            async for request in rpc.currentCall().stream:
                self._status(request)
                for answer in self._answers(request):
                    yield answer
        except (CancelledError, rpc.CallCancelledError):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    def _answers(self, request: Any) -> Any:
        for each in request.response_parameters:
            yield self._pb.StreamingOutputCallResponse(payload=self._payload(each.size))

    def _payload(self, size: int) -> Any:
        return self._pb.Payload(body=bytes(size))

    @staticmethod
    def _status(request: Any) -> None:
        if request.HasField("response_status"):
            status = request.response_status
            raise rpc.RemoteError(status.message, code=Code(status.code).name)


class GeneratedTests(WireCase):
    """grpcio's client, with generated code, in a process of its own."""

    timeout = 60

    async def one(self, case: str, authority: Authority | None = None, **options: Any) -> None:
        """A case."""
        messages, _ = interop()
        service = TestService(messages)
        wire = rpc.Grpc("protobuf", messages)
        await self.serve(wire, services={"grpc.testing.TestService": service}, **options)
        words = {} if authority is None else {"ca": os.path.abspath(authority.path)}
        await childOf("grpcioclient", folder()).ask(case=case, port=self.port, count=20, probes=False, **words)
        await self.until(lambda: not service.running)
        if case != "timeout_on_sleeping_server":
            self.assertEqual(service.cancelled, case == "cancel_after_first_response")
        self.assertEqual(self.server.context.running, 0)

    async def test_overTLS(self) -> None:
        """Where ALPN says what is spoken."""
        authority = Authority(self.mktemp())
        made = Path(self.mktemp())
        made.mkdir()
        parts = [Path(name).read_bytes() for name in authority.issue(["localhost"])]
        (made / "localhost.pem").write_bytes(b"".join(parts))
        await self.one("ping_pong", authority, endpoint=f"tls:{made}:0:interface=127.0.0.1")


def _add(case: str) -> None:
    async def test(self: GeneratedTests) -> None:
        await self.one(case)

    test.__doc__ = f"The case {case}."
    setattr(GeneratedTests, f"test_{case}", test)


for _case in CASES:
    _add(_case)


class ChannelTests(WireCase):
    """This package's channel."""

    async def test_generated(self) -> None:
        messages, stubs = interop()
        wire = rpc.Grpc("protobuf", [messages])
        await self.serve(wire, services={"grpc.testing.TestService": TestService(messages)})
        stub: Any = stubs.TestServiceStub(self.channel())
        request = messages.SimpleRequest(response_size=7)
        self.assertEqual((await stub.UnaryCall(request)).payload.body, bytes(7))
        request.response_status.code = 5
        with self.assertRaises(http.grpc.StatusError) as caught:
            await stub.UnaryCall(request)
        self.assertEqual(caught.exception.code, Code.NOT_FOUND)

    async def test_types(self) -> None:
        """A mapping of classes; what is not in it is bytes."""
        messages, _ = interop()

        class Bytes:
            @rpc.method
            def twice(self, data: bytes) -> bytes:
                return data * 2

            @rpc.method
            def wrong(self, data: bytes) -> Any:
                return 17

            @rpc.method
            def sized(self, request: Any) -> Any:
                return messages.Payload(body=bytes(request.response_size))

        types = {"Bytes/sized": (messages.SimpleRequest, messages.Payload)}
        await self.serve(rpc.Grpc("protobuf", types), services={"Bytes": Bytes()})
        channel = self.channel()
        self.assertEqual(await channel.unary_unary("/Bytes/twice")(b"ab"), b"abab")
        sized: Any = channel.unary_unary("/Bytes/sized", messages.SimpleRequest.SerializeToString, None)
        reply = messages.Payload.FromString(await sized(messages.SimpleRequest(response_size=3)))
        self.assertEqual(reply.body, bytes(3))
        for path, code in (("/Bytes/wrong", Code.INTERNAL), ("/Bytes/sized", Code.INVALID_ARGUMENT)):
            with self.assertRaises(http.grpc.StatusError) as caught:
                await channel.unary_unary(path)(b"\xff")
            self.assertEqual(caught.exception.code, code)

    async def test_json(self) -> None:
        await self.serve()
        channel = self.channel()
        say = channel.unary_unary("/pkg.Echo/say", packed, json.loads)
        self.assertEqual(await say({"text": "hi"}), "hi")
        count = channel.unary_stream("/pkg.Echo/count", packed, json.loads)
        self.assertEqual([each async for each in count([2])], [0, 1])

    async def test_cancelled(self) -> None:
        await self.serve()
        call: Any = self.channel().unary_unary("/pkg.Echo/wait", packed, json.loads)([])
        await self.until(lambda: self.echo.calls)
        call.cancel()
        with self.assertRaises(http.grpc.StatusError):
            await call
        await self.until(lambda: self.echo.ended)
        self.assertEqual(self.echo.ended, ["cancelled"])


class JSONTests(WireCase):
    """grpcio's client with serializers of JSON."""

    async def test_unary(self) -> None:
        """A call, its metadata in both directions, and its deadline."""
        await self.serve()

        def work(channel: Any) -> Any:
            import grpc

            about = channel.unary_unary("/pkg.Echo/about", packed, json.loads)
            # Of several values with one name all are there, but the last alone of binary ones.
            metadata = [("x-user", "ann"), ("x-user", "bob"), ("x-raw-bin", b"1"), ("x-raw-bin", b"2")]
            found, call = about.with_call([], timeout=100, metadata=metadata)
            self.assertEqual(found, ["pkg.Echo/about", {"x-user": "ann,bob", "x-raw-bin": "b'2'"}, True])
            self.assertEqual(dict(call.trailing_metadata()), {"server": "here"})
            fail = channel.unary_unary("/pkg.Echo/fail", packed, json.loads)
            with self.assertRaises(grpc.RpcError) as caught:
                fail(["own"], timeout=10)
            error: Any = caught.exception
            self.assertEqual((error.code(), error.details()), (grpc.StatusCode.UNKNOWN, "no tea"))
            self.assertEqual(dict(error.trailing_metadata())["rpc-code"], "outOfStock")
            wait = channel.unary_unary("/pkg.Echo/wait", packed, json.loads)
            with self.assertRaises(grpc.RpcError) as caught:
                wait([], timeout=0.05)
            error = caught.exception
            return error.code().name

        self.assertEqual(await self.grpcio(work), "DEADLINE_EXCEEDED")
        await self.until(lambda: self.echo.ended)

    async def test_streams(self) -> None:
        """In all directions, and one that is cancelled."""
        await self.serve()

        def work(channel: Any) -> Any:
            count = channel.unary_stream("/pkg.Echo/count", packed, json.loads)
            found = [list(count([3], timeout=10))]
            total = channel.stream_unary("/pkg.Echo/total", packed, json.loads)
            found.append([total(iter([1, 2, 3]), timeout=10)])
            times = channel.stream_stream("/pkg.Echo/times", packed, json.loads)
            found.append(list(times(iter([[2], 1, 2]), timeout=10)))
            replies = count([1_000_000, 1000], timeout=10)
            next(replies)
            replies.cancel()
            return found

        self.assertEqual(await self.grpcio(work), [[0, 1, 2], [6], [2, 4]])
        await self.until(lambda: len(self.echo.ended) == 2)
        self.assertLess(self.echo.sent, 1_000_000)


class ProcessTests(WireCase):
    """Where the server is the process's own."""

    async def test_drain(self) -> None:
        """A session that its process drains tells its client, too."""
        server = await self.serve()
        client = await self.raw()
        await self.ask(client, "say", ["hi"])
        (session,) = server.server.sessions
        session.listener.drain()
        await client.lost
        self.assertTrue(client.goAways)
        await self.until(lambda: not server.server.sessions)
