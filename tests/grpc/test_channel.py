"""A channel with servers of grpcio: the four kinds of calls, in coroutines of Twisted's and in tasks of asyncio."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import grpc
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import http
from getty_tx.http.grpc import EOF, Code, StatusError
from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.reactors.guest import guestLoop
from tests.support.grpcstub import Service, Stub, deferLaterIn, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


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
