"""Calls of all kinds from grpcio's client, and what generated code registers."""

from __future__ import annotations

import asyncio
from queue import SimpleQueue
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code
from tests.support.grpcraw import framed
from tests.support.grpcserver import CallCase, methodOf, pathOf

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


def unary_unary_echo(request: bytes, context: Any) -> bytes:
    return request


async def unary_unary_later(request: bytes, context: Any) -> bytes:
    assert asyncio.current_task() is not None
    async with asyncio.timeout(None):
        await asyncio.sleep(0)
        await deferLater(reactor, 0, lambda: None)
        await asyncio.create_task(asyncio.sleep(0))
    return request


def unary_unary_deferred(request: bytes, context: Any) -> Any:
    return deferLater(reactor, 0, lambda: request)


async def unary_unary_fails(request: bytes, context: Any) -> bytes:
    failing: Deferred[bytes] = deferLater(reactor, 0, lambda: 1 // 0)
    try:
        return await failing
    except ZeroDivisionError:
        raise StatusError(Code.OUT_OF_RANGE, "nought\n", b"\x08\x0b", [("why-bin", b"\0")]) from None


async def unary_stream_count(request: bytes, context: Any) -> Any:
    for number in range(int(request)):
        yield b"%d" % number


def unary_stream_plain(request: bytes, context: Any) -> Any:
    for number in range(int(request)):
        yield b"%d" % number


async def unary_stream_written(request: bytes, context: Any) -> None:
    for number in range(int(request)):
        await context.write(b"%d" % number)


async def stream_unary_sum(requests: Any, context: Any) -> bytes:
    total = 0
    async for request in requests:
        total += int(request)
    return b"%d" % total


async def stream_unary_read(requests: Any, context: Any) -> bytes:
    found = []
    while (request := await context.read()) is not END:
        found.append(request)
    return b",".join(found)


async def stream_stream_echo(requests: Any, context: Any) -> Any:
    async for request in requests:
        yield request


class Kinds(CallCase):
    """The four kinds, and what handlers may be."""

    async def test_unaryHandlersMayBePlainOrAwait(self) -> None:
        functions = unary_unary_echo, unary_unary_later, unary_unary_deferred
        await self.serve(*functions)

        def work(channel: Any) -> list[bytes]:
            large = bytes(300_000)
            found = []
            for each in functions:
                call = channel.unary_unary(pathOf(each))
                found += [call(b"hello"), call(b""), call(large)]
            return found

        found = await self.client(work)
        self.assertEqual(found, [b"hello", b"", bytes(300_000)] * 3)

    async def test_repliesMayBeGeneratedOrWritten(self) -> None:
        functions = unary_stream_count, unary_stream_plain, unary_stream_written
        await self.serve(*functions)
        found = await self.client(
            lambda channel: [list(channel.unary_stream(pathOf(each))(b"%d" % n)) for each in functions for n in (0, 3)]
        )
        self.assertEqual(found, [[], [b"0", b"1", b"2"]] * 3)

    async def test_requestsAreAnAsynchronousIterator(self) -> None:
        await self.serve(stream_unary_sum)
        found = await self.client(
            lambda channel: channel.stream_unary(pathOf(stream_unary_sum))(b"%d" % n for n in range(100))
        )
        self.assertEqual(found, b"4950")

    async def test_requestsAreRead(self) -> None:
        global END
        import grpc.aio

        END = grpc.aio.EOF
        await self.serve(stream_unary_read)
        found = await self.client(lambda channel: channel.stream_unary(pathOf(stream_unary_read))(iter([b"a", b"b"])))
        self.assertEqual(found, b"a,b")

    async def test_bothSidesTalkInTurns(self) -> None:
        await self.serve(stream_stream_echo)

        def work(channel: Any) -> list[bytes]:
            asked: SimpleQueue[bytes | None] = SimpleQueue()
            replies = channel.stream_stream(pathOf(stream_stream_echo))(iter(asked.get, None))
            found = []
            for number in range(5):
                asked.put(b"%d" % number)
                found.append(next(replies))
            asked.put(None)
            return found + list(replies)

        self.assertEqual(await self.client(work), [b"0", b"1", b"2", b"3", b"4"])

    async def test_manySmallMessages(self) -> None:
        """A client gives credit for each message, by frames that are as large as the message."""
        await self.serve(stream_stream_echo)

        def work(channel: Any) -> int:
            replies = channel.stream_stream(pathOf(stream_stream_echo))(b"" for _ in range(2000))
            return sum(1 for _ in replies)

        self.assertEqual(await self.client(work), 2000)

    async def test_largeStreamsWaitForTheirClient(self) -> None:
        async def unary_stream_large(request: bytes, context: Any) -> Any:
            for _ in range(20):
                yield bytes(500_000)

        async def stream_unary_large(requests: Any, context: Any) -> bytes:
            size = 0
            async for request in requests:
                await asyncio.sleep(0)
                size += len(request)
            return b"%d" % size

        await self.serve(unary_stream_large, stream_unary_large)

        def work(channel: Any) -> tuple[int, bytes]:
            size = sum(map(len, channel.unary_stream(pathOf(unary_stream_large))(b"")))
            return size, channel.stream_unary(pathOf(stream_unary_large))(bytes(500_000) for _ in range(20))

        self.assertEqual(await self.client(work), (10_000_000, b"10000000"))

    async def test_aStreamOfRequestsIsNotForADef(self) -> None:
        def stream_unary_plain(requests: Any, context: Any) -> bytes:
            return b"".join(requests)

        await self.serve(stream_unary_plain)

        def work(channel: Any) -> Any:
            import grpc

            with self.assertRaises(grpc.RpcError) as caught:
                channel.stream_unary(pathOf(stream_unary_plain))(iter([b"a"]))
            return caught.exception.code().value[0]

        self.assertEqual(await self.client(work), Code.UNKNOWN)
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("workers=10", str(failure.value))


class Threads(CallCase):
    """Handlers in threads, which may block."""

    async def test_theFourKinds(self) -> None:
        def stream_unary_join(requests: Any, context: Any) -> bytes:
            return b"".join(requests)

        def stream_stream_upper(requests: Any, context: Any) -> Any:
            for request in requests:
                yield request.upper()

        functions = unary_unary_echo, unary_stream_plain, unary_unary_later
        await self.serve(*functions, stream_unary_join, stream_stream_upper, workers=3)

        def work(channel: Any) -> list[Any]:
            return [
                channel.unary_unary(pathOf(unary_unary_echo))(b"x"),
                channel.unary_unary(pathOf(unary_unary_later))(b"y"),
                list(channel.unary_stream(pathOf(unary_stream_plain))(b"100"))[-1],
                channel.stream_unary(pathOf(stream_unary_join))(iter([b"a", b"b"])),
                list(channel.stream_stream(pathOf(stream_stream_upper))(iter([b"a", b"b"]))),
            ]

        self.assertEqual(await self.client(work), [b"x", b"y", b"99", b"ab", [b"A", b"B"]])

    async def test_theirContext(self) -> None:
        def unary_stream_tell(request: bytes, context: Any) -> Any:
            context.send_initial_metadata([("a", "1")])
            context.set_trailing_metadata([("b", "2")])
            with self.assertRaises(RuntimeError):
                context.write(b"")
            yield request
            context.abort(Code.ABORTED, "enough")

        await self.serve(unary_stream_tell, workers=1)

        def work(channel: Any) -> list[Any]:
            import grpc

            call = channel.unary_stream(pathOf(unary_stream_tell))(b"x")
            found = [next(call), dict(call.initial_metadata())["a"]]
            with self.assertRaises(grpc.RpcError):
                next(call)
            return [*found, call.details(), dict(call.trailing_metadata())["b"]]

        self.assertEqual(await self.client(work), [b"x", "1", "enough", "2"])

    async def test_theirClientGoes(self) -> None:
        """A thread that waits for requests, or for room, ends with its call."""
        ended: SimpleQueue[str] = SimpleQueue()

        def stream_stream_endless(requests: Any, context: Any) -> Any:
            try:
                next(requests)
                while True:
                    yield bytes(100_000)
            finally:
                ended.put("endless")

        started = Event()

        def stream_unary_all(requests: Any, context: Any) -> bytes:
            started.set()
            list(requests)
            ended.put("all")
            return b""

        await self.serve(stream_stream_endless, stream_unary_all, workers=2)

        def work(channel: Any) -> set[str]:
            never: SimpleQueue[bytes | None] = SimpleQueue()
            never.put(b"")
            replies = channel.stream_stream(pathOf(stream_stream_endless))(iter(never.get, None))
            next(replies)
            future = channel.stream_unary(pathOf(stream_unary_all)).future(iter(never.get, None))
            assert started.wait(10)
            replies.cancel()
            future.cancel()
            never.put(None)
            never.put(None)
            return {ended.get(timeout=10) for _ in range(2)}

        self.assertEqual(await self.client(work), {"endless", "all"})

    async def test_theyRunAtTheSameTime(self) -> None:
        barrier = Barrier(2, timeout=10)

        def unary_unary_meet(request: bytes, context: Any) -> bytes:
            barrier.wait()
            return request

        await self.serve(unary_unary_meet, workers=2)

        def work(channel: Any) -> list[bytes]:
            call = channel.unary_unary(pathOf(unary_unary_meet))
            futures = [call.future(b"%d" % n) for n in range(2)]
            return [each.result() for each in futures]

        self.assertEqual(await self.client(work), [b"0", b"1"])


#: What a call gives behind its last request.
END: Any = None


class Registered(CallCase):
    """What generated code registers."""

    async def test_wrappersAreCalledOnceForEachMethod(self) -> None:
        seen = []

        def wrapperOf(letter: str) -> Any:
            def wrapper(name: str, handler: Any) -> Any:
                seen.append((letter, name))
                return lambda request, context: letter.encode() + handler(request, context)

            return wrapper

        server = await self.serve(unary_unary_echo)
        server.wrap(wrapperOf("a"))
        server.wrap(wrapperOf("b"))
        client = await self.raw()
        self.assertEqual((await client.call(pathOf(unary_unary_echo), framed(b"x")).ended).data, framed(b"abx"))
        self.assertEqual(set(seen), {("a", "test.Service/unary_unary_echo"), ("b", "test.Service/unary_unary_echo")})

    async def test_genericHandlersAreAskedForTheRest(self) -> None:
        asked = []
        handler = methodOf("unary_unary", lambda request, context: b"generic")

        class Generic:
            def service(self, details: Any) -> Any:
                asked.append((details.method, details.invocation_metadata))
                return handler if details.method.endswith("Known") else None

        server = await self.serve(unary_unary_echo)
        server.add_generic_rpc_handlers((Generic(),))
        client = await self.raw()
        for _ in range(2):
            self.assertEqual((await client.call("/a.B/Known", framed(b""), x="y").ended).data, framed(b"generic"))
        self.assertEqual((await client.call("/a.B/Other", framed(b"")).ended).status, "12")
        self.assertEqual((await client.call(pathOf(unary_unary_echo), framed(b"x")).ended).data, framed(b"x"))
        self.assertEqual(asked, [("/a.B/Known", (("x", "y"),))] * 2 + [("/a.B/Other", ())])
        totals = server.context.methods.totals
        self.assertEqual((totals["a.B/Known"].done, totals[""].failed), (2, {"UNIMPLEMENTED": 1}))
