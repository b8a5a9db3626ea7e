"""A channel with servers of grpcio: the four kinds of calls, in coroutines of Twisted's and in tasks of asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http.grpc import EOF, ChannelState, Code, StatusError
from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.http.grpc.targets import authorityOf, descriptionOf, withALPN
from getty_tx.reactors.guest import guestLoop
from getty_tx.registry.provider import Provider, encodeRecord
from getty_tx.testing import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


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


class CallsMixin:
    """The same calls, awaited by whatever ``run_`` makes of a coroutine."""

    run_: Callable[[Coroutine[Any, Any, Any]], Any]

    def each(self: Any, test: Any) -> Any:
        """Run a coroutine with a stub."""
        service = Service()
        channel = http.grpc.Channel(f"127.0.0.1:{serve(self, service)}")
        channel.startService()
        self.addCleanup(channel.close)
        return self.run_(test(Stub(channel), service))

    def test_unary(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            call = stub.double(b"hi", timeout=5)
            self.assertEqual(await call, b"hihi")
            self.assertEqual(await call, b"hihi")
            self.assertEqual(await call.initial_metadata(), (("a", "1"), ("b-bin", b"\0\xff")))
            self.assertEqual(await call.trailing_metadata(), (("t", "2"),))
            self.assertIs(await call.code(), Code.OK)
            self.assertEqual(await call.details(), "")
            self.assertTrue(call.done())
            self.assertFalse(call.cancelled())

        return self.each(test)

    def test_error(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            call = stub.double(b"fail", timeout=5)
            for _ in range(2):
                with self.assertRaises(StatusError) as caught:
                    await call
                error = caught.exception
                self.assertEqual((error.code, error.text), (Code.NOT_FOUND, "nö %"))
                self.assertIn(("t", "2"), error.trailers)
            self.assertEqual(await call.details(), "nö %")

        return self.each(test)

    def test_onlyCode(self: Any) -> Any:
        """Who asks for the code alone has seen the error."""

        async def test(stub: Stub, _: Service) -> None:
            call = stub.double(b"fail", timeout=5)
            self.assertIs(await call.code(), Code.NOT_FOUND)
            del call
            gc.collect()

        return self.each(test)

    def test_deadline(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            with self.assertRaises(StatusError) as caught:
                await stub.double(b"wait", timeout=0.05)
            self.assertIs(caught.exception.code, Code.DEADLINE_EXCEEDED)

        return self.each(test)

    def test_replies(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            expected = [b"%d" % number for number in range(1000)]
            self.assertEqual([reply async for reply in stub.count(b"1000")], expected)
            call = stub.count(b"3")
            self.assertEqual([await call.read() for _ in range(3)], [b"0", b"1", b"2"])
            with self.assertRaises(StatusError):
                await call.read()
            self.assertIs(await call.code(), Code.ABORTED)

        return self.each(test)

    def test_requests(self: Any) -> Any:
        async def letters() -> AsyncIterator[bytes]:
            for each in (b"x", b"y", b"z"):
                yield each

        async def test(stub: Stub, _: Service) -> None:
            self.assertEqual(await stub.join(iter([b"a", b"b"])), b"ab")
            self.assertEqual(await stub.join(letters()), b"xyz")
            self.assertEqual(len(await stub.join([b"0123456789"] * 500)), 5000)
            call = stub.join()
            await call.write(b"q")
            await call.done_writing()
            self.assertEqual(await call, b"q")

        return self.each(test)

    def test_endlessRequests(self: Any) -> Any:
        """An iterator that has no more for now is ended with the call."""
        ended: list[bool] = []

        async def letters(waiting: Awaiting[None]) -> AsyncIterator[bytes]:
            try:
                yield b"x"
                await waiting
            finally:
                ended.append(True)

        async def test(stub: Stub, _: Service) -> None:
            call = stub.echo(letters(Awaiting()))
            self.assertEqual(await call.read(), b"x")
            self.assertEqual(ended, [])
            call.cancel()
            await deferLaterIn(0.01)
            self.assertEqual(ended, [True])
            late = stub.join(letters(Awaiting()), timeout=0.05)
            with self.assertRaises(StatusError):
                await late
            await deferLaterIn(0.01)
            self.assertEqual(ended, [True, True])

        return self.each(test)

    def test_brokenRequests(self: Any) -> Any:
        def letters() -> Any:
            yield b"x"
            raise ValueError("no more")

        async def test(stub: Stub, _: Service) -> None:
            with self.assertRaises(StatusError) as caught:
                await stub.join(letters())
            self.assertIsInstance(caught.exception.__cause__, ValueError)

        return self.each(test)

    def test_bothWays(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            call = stub.echo()
            for number in range(3):
                await call.write(b"%d" % number)
                self.assertEqual(await call.read(), b"%d" % number)
            await call.done_writing()
            self.assertIs(await call.read(), EOF)
            self.assertIs(await call.code(), Code.OK)
            big = b"x" * 1_000_000
            self.assertEqual([len(each) async for each in stub.echo([big] * 4)], [len(big)] * 4)

        return self.each(test)

    def test_cancelStream(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            call = stub.echo()
            await call.write(b"x")
            self.assertEqual(await call.read(), b"x")
            reading = call.read()
            self.assertTrue(call.cancel())
            with self.assertRaises(StatusError):
                await reading
            self.assertTrue(call.cancelled())

        return self.each(test)

    def test_compression(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            for name in ("gzip", "deflate", "identity", grpc.Compression.Gzip, grpc.Compression.NoCompression):
                self.assertEqual(await stub.double(b"x" * 500, compression=name), b"x" * 1000)

        return self.each(test)

    def test_doneCallbacks(self: Any) -> Any:
        async def test(stub: Stub, _: Service) -> None:
            call = stub.double(b"x", timeout=5)
            told: list[Any] = []
            call.add_done_callback(told.append)
            self.assertGreater(call.time_remaining() or 5, 0)
            await call
            call.add_done_callback(told.append)
            self.assertEqual(told, [call, call])

        return self.each(test)


class TwistedTests(CallsMixin, TestCase):
    """Coroutines of Twisted's."""

    timeout = 30

    def run_(self, coroutine: Any) -> Any:
        """Run it."""
        return Deferred.fromCoroutine(coroutine)

    @inlineCallbacks  # type: ignore[arg-type]  # older than coroutines
    def test_deferreds(self) -> Any:
        """A unary call is a Deferred."""
        channel = http.grpc.Channel(f"127.0.0.1:{serve(self, Service())}")
        channel.startService()
        self.addCleanup(channel.close)
        stub = Stub(channel)
        call = stub.double(b"a")
        self.assertIsInstance(call, Deferred)
        self.assertEqual((yield call.addCallback(bytes.upper)), b"AA")
        replies = yield gatherResults([stub.double(b"b"), stub.double(b"c")])
        self.assertEqual(replies, [b"bb", b"cc"])
        yield self.assertFailure(stub.double(b"fail"), StatusError)

    async def test_twistedWithinTask(self) -> None:
        """A coroutine of Twisted's that runs within a task awaits as any other."""
        channel = http.grpc.Channel(f"127.0.0.1:{serve(self, Service())}")
        channel.startService()
        self.addCleanup(channel.close)
        stub = Stub(channel)
        replies: list[bytes] = []

        async def inner() -> None:
            replies.append(await stub.double(b"a"))

        async def task() -> Deferred[None]:
            return Deferred.fromCoroutine(inner())

        started = guestLoop(reactor).start(task())
        self.assertTrue(started.done())
        await started.result()
        self.assertEqual(replies, [b"aa"])


class TaskTests(CallsMixin, TestCase):
    """Tasks of asyncio."""

    timeout = 30

    def run_(self, coroutine: Any) -> Any:
        """Run it."""
        return Deferred.fromFuture(guestLoop(reactor).create_task(coroutine))

    def test_asyncio(self) -> Any:
        """What asyncio has for awaitables."""

        async def test(stub: Stub, _: Service) -> None:
            self.assertEqual(await asyncio.gather(stub.double(b"a"), stub.double(b"b")), [b"aa", b"bb"])
            self.assertEqual(await asyncio.wait_for(stub.double(b"c"), 5), b"cc")
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(stub.double(b"wait"), 0.02)

        return self.each(test)

    def test_cancelTask(self) -> Any:
        """A task that is cancelled cancels its call, and is cancelled."""

        async def test(stub: Stub, _: Service) -> None:
            call = stub.double(b"wait")

            async def inner() -> None:
                await call

            task = asyncio.ensure_future(inner())
            await asyncio.sleep(0.01)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertTrue(call.cancelled())

        return self.each(test)


class AwaitingTests(SynchronousTestCase):
    """What a task looks for in what it awaits."""

    def test_protocol(self) -> None:
        """asyncio's own protocol for futures that are none: fails when a task does not follow it any more."""
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def test() -> Any:
            waiting: Awaiting[str] = Awaiting()
            self.assertFalse(asyncio.isfuture(waiting))
            loop.call_later(0.001, waiting.callback, "x")
            return await waiting

        self.assertEqual(loop.run_until_complete(test()), "x")


class ChannelTests(TestCase):
    """Channels: when they connect, wait, fail and stop."""

    timeout = 30

    def channel(self, target: Any, **options: Any) -> http.grpc.Channel:
        """A channel that has started."""
        channel = http.grpc.Channel(target, reconnectInterval=0.02, **options)
        channel.startService()
        self.addCleanup(channel.close)
        return channel

    def free(self) -> int:
        """A port where nobody listens."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        port.stopListening()
        return number

    async def test_failFast(self) -> None:
        """A call waits for the first attempt, and not for others, unless it is to."""
        number = self.free()
        channel = self.channel(f"tcp:127.0.0.1:{number}")
        self.assertIs(channel.get_state(), ChannelState.CONNECTING)
        stub = Stub(channel)
        error = await self.assertFailure(stub.double(b"a"), StatusError)
        self.assertIs(error.code, Code.UNAVAILABLE)
        self.assertFalse(error.sent)
        self.assertIn("refused", error.text.lower())
        self.assertIs(channel.get_state(), ChannelState.TRANSIENT_FAILURE)
        late = await self.assertFailure(stub.double(b"a", wait_for_ready=True, timeout=0.05), StatusError)
        self.assertIs(late.code, Code.DEADLINE_EXCEEDED)
        waiting = stub.double(b"a", wait_for_ready=True)
        await deferLater(reactor, 0.05)
        serve(self, Service(), f"127.0.0.1:{number}")
        self.assertEqual(await waiting, b"aa")
        self.assertIs(channel.get_state(), ChannelState.READY)

    async def test_notHTTP2(self) -> None:
        """A port that accepts and hangs up is no server."""

        class Hanging(Protocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Hanging), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        stub = Stub(self.channel(f"tcp:127.0.0.1:{port.getHost().port}"))
        error = await self.assertFailure(stub.double(b"a"), StatusError)
        self.assertIs(error.code, Code.UNAVAILABLE)

    async def test_states(self) -> None:
        """IDLE, CONNECTING, READY, SHUTDOWN."""
        channel = http.grpc.Channel(f"127.0.0.1:{serve(self, Service())}")
        stub = Stub(channel)
        self.assertIs(channel.get_state(), ChannelState.IDLE)
        error = await self.assertFailure(stub.double(b"a"), StatusError)
        self.assertIn("not started", error.text)
        ready = channel.whenReady()
        changed = channel.wait_for_state_change(ChannelState.IDLE)
        channel.startService()
        await changed
        self.assertIs(channel.get_state(True), ChannelState.CONNECTING)
        await ready
        self.assertIs(channel.get_state(), ChannelState.READY)
        await channel.channel_ready()
        await channel.stopService()
        self.assertIs(channel.get_state(), ChannelState.SHUTDOWN)
        await self.assertFailure(stub.double(b"a"), StatusError)
        await self.assertFailure(channel.whenReady(), StatusError)
        # It may be started again.
        channel.startService()
        self.assertEqual(await stub.double(b"a"), b"aa")
        await channel.stopService()

    async def test_drain(self) -> None:
        """A stop waits for what runs, within limits."""
        service = Service()
        port = serve(self, service)
        channel = self.channel(f"127.0.0.1:{port}")
        await channel.channel_ready()
        call = Stub(channel).double(b"wait")
        await deferLater(reactor, 0.01)
        stopped = channel.stopService()
        await deferLater(reactor, 0.01)
        self.assertFalse(stopped.called)
        service.goOn.set()
        self.assertEqual(await call, b"waitwait")
        await stopped
        service.goOn.clear()
        short = self.channel(f"127.0.0.1:{port}", drainTime=0.02)
        call = Stub(short).double(b"wait")
        await short.channel_ready()
        await deferLater(reactor, 0.01)
        await short.stopService()
        error = await self.assertFailure(call, StatusError)
        self.assertIs(error.code, Code.UNAVAILABLE)

    async def test_several(self) -> None:
        """Calls go to each of several servers; one that is away is no matter."""
        services = [Service(), Service()]
        targets = [f"127.0.0.1:{serve(self, service)}" for service in services]
        channel = self.channel([*targets, f"127.0.0.1:{self.free()}"])
        await channel.pool.whenReady(2)
        while len(channel.connections) < 2:
            await deferLater(reactor, 0.005)
        stub = Stub(channel)
        calls = [stub.double(b"wait") for _ in range(4)]
        self.assertEqual(sorted(each.load for each in channel.connections), [2, 2])
        for service in services:
            service.goOn.set()
        await gatherResults(calls)

    async def test_registry(self) -> None:
        """Calls follow the providers of a service, and name the one that they go to."""
        registry: Any = MemoryRegistry()
        registry.startService()
        self.addCleanup(registry.stopService)
        services = [Service(), Service()]
        endpoints = [f"tcp:127.0.0.1:{serve(self, service)}" for service in services]
        channel = self.channel("service:greeter", registry=registry)
        waiting = Stub(channel).double(b"a")
        self.assertIs(channel.get_state(), ChannelState.CONNECTING)
        for endpoint in endpoints:
            provider = Provider("greeter", endpoint)
            registry.store.write("greeter", quote(provider.id, safe=""), encodeRecord(provider))
        self.assertEqual(await waiting, b"aa")
        while [each.load for each in channel.connections] != [0, 0]:
            await deferLater(reactor, 0.005)
        calls = [Stub(channel).double(b"wait") for _ in range(2)]
        self.assertEqual([each.load for each in channel.connections], [1, 1])
        for service in services:
            service.goOn.set()
        await gatherResults(calls)
        heads = [dict(each.headOf(Stub(channel).double)) for each in channel.connections]
        self.assertEqual({head[b":authority"].decode() for head in heads}, {each[4:] for each in endpoints})

    async def test_unix(self) -> None:
        """Over a unix socket."""
        path = self.mktemp()
        serve(self, Service(), f"unix:{path}")
        async with http.grpc.Channel(f"unix:{path}") as channel:
            self.assertEqual(await Stub(channel).double(b"a"), b"aa")

    async def test_counted(self) -> None:
        """The status of a process shows the calls, by method."""
        channel = self.channel(f"127.0.0.1:{serve(self, Service())}")
        stub = Stub(channel)
        await stub.double(b"a")
        await self.assertFailure(stub.double(b"fail"), StatusError)
        totals = channel.pool.contexts[0].calls["client"]["T/double"]
        self.assertEqual((totals.done, totals.running, totals.failed), (1, 0, {"not_found": 1}))

    async def test_metadata(self) -> None:
        """What cannot be sent is not."""
        stub = Stub(self.channel(f"127.0.0.1:{serve(self, Service())}"))
        for metadata in ((("grpc-x", "1"),), (("a b", "1"),), (("a", "\n"),), (("a", "ö"),)):
            error = await self.assertFailure(stub.double(b"", metadata=metadata), StatusError)
            self.assertIs(error.code, Code.INTERNAL)
            self.assertFalse(error.sent)
        self.assertEqual(await stub.double(b"a", metadata={"x": "1"}), b"aa")

    async def test_limits(self) -> None:
        """Requests above maxSent stay here."""
        stub = Stub(self.channel(f"127.0.0.1:{serve(self, Service())}", maxSent=3))
        error = await self.assertFailure(stub.double(b"1234"), StatusError)
        self.assertIs(error.code, Code.RESOURCE_EXHAUSTED)
        error = await self.assertFailure(stub.join([b"1", b"1234"]), StatusError)
        self.assertIs(error.code, Code.RESOURCE_EXHAUSTED)

    def test_settings(self) -> None:
        """Mistakes are found when it is made."""
        for options in ({"nothing": 1}, {"compression": "br"}, {"outliers": 1}, {"timeout": 0}, {"keepAlive": -1}):
            self.assertRaises(SettingError, http.grpc.Channel, "a:1", **options)
        for target in ("udp:a:1", ["a:1", "udp:a:2"], [], "nonsense"):
            self.assertRaises(SettingError, http.grpc.Channel, target)
        channel = http.grpc.Channel("a:1")
        self.assertRaises(SettingError, channel.unary_unary, "T/double")
        self.assertRaises(SettingError, channel.unary_unary("/T/double"), b"", credentials=object())

    def test_targets(self) -> None:
        """Those of gRPC, and what they are called in requests."""
        for target, description, authority in (
            ("a.example:50051", "tcp:a.example:50051", b"a.example:50051"),
            ("a.example", "tcp:a.example:443", b"a.example:443"),
            ("[::1]:50051", r"tcp:\:\:1:50051", b"[::1]:50051"),
            ("dns:///a:1", "tcp:a:1", b"a:1"),
            ("dns:a:1", "tcp:a:1", b"a:1"),
            ("dns://8.8.8.8/a:1", "tcp:a:1", b"a:1"),
            ("ipv4:10.0.0.1:7", "tcp:10.0.0.1:7", b"10.0.0.1:7"),
            ("ipv6:[::1]:7", r"tcp:\:\:1:7", b"[::1]:7"),
            ("unix:///run/x.sock", "unix:/run/x.sock", b"localhost"),
            ("unix:/run/x.sock", "unix:/run/x.sock", b"localhost"),
            ("tls:a:443", "tls:a:443", b"a"),
            ("tls:a:444", "tls:a:444", b"a:444"),
            ("tcp:host=a:port=1", "tcp:host=a:port=1", b"a:1"),
            ("service:greeter", "service:greeter", b"localhost"),
        ):
            self.assertEqual(descriptionOf(target), description)
            self.assertEqual(authorityOf(description)[1], authority)
        self.assertEqual(withALPN("tls:a:443"), "tls:a:443:alpn=h2")
        self.assertEqual(withALPN("tls:a:443:alpn=x"), "tls:a:443:alpn=x")
