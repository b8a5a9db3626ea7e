"""Wrappers around the calls of a channel, in coroutines of Twisted's and in tasks of asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http.grpc import EOF, Code, StatusError
from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.http.grpc.clientcall import ClientCall
from getty_tx.reactors.guest import guestLoop
from tests.support.grpcstub import Service, Stub, deferLaterIn, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


class Wrapped(Service):
    """
    A service, and a channel with a wrapper.

    :ivar asked: the names that the wrapper was called with; ``given`` the options of calls.
    """


def plain(given: list[Any]) -> Any:
    """A wrapper that changes arguments."""

    def wrapper(name: str, call: Any) -> Any:
        def around(request: Any, **options: Any) -> Any:
            given.append((name, options))
            return call(request, **{"timeout": 5, **options})

        return around

    return wrapper


def late(given: list[Any]) -> Any:
    """One that waits before, and returns the call."""

    def wrapper(name: str, call: Any) -> Any:
        async def around(request: Any, **options: Any) -> Any:
            await deferLaterIn(0)
            given.append((name, options))
            return call(request, **options)

        return around

    return wrapper


def patient(times: list[int]) -> Any:
    """One that asks once more, for what gives one reply."""

    def wrapper(name: str, call: Any) -> Any:
        async def around(request: Any, **options: Any) -> Any:
            times.append(1)
            try:
                return await call(request, **options)
            except StatusError as error:
                if error.code is not Code.NOT_FOUND:
                    raise
            times.append(2)
            return await call(b"again", **options)

        return call if call.hasReplies else around

    return wrapper


class CallsMixin:
    """The same calls, awaited by whatever ``run_`` makes of a coroutine."""

    run_: Callable[[Coroutine[Any, Any, Any]], Any]

    def each(self: Any, test: Any, *wrappers: Any) -> Any:
        """Run a coroutine with a stub."""
        channel = http.grpc.Channel(f"127.0.0.1:{serve(self, Service())}")
        for wrapper in wrappers:
            channel.wrap(wrapper)
        channel.startService()
        self.addCleanup(channel.close)
        return self.run_(test(Stub(channel)))

    def kinds(self: Any, wrapper: Any, given: list[Any]) -> Any:
        """Calls of all kinds, and what those have that wait for one."""

        async def letters() -> AsyncIterator[bytes]:
            yield b"x"
            yield b"y"

        async def test(stub: Stub) -> None:
            call: Any = stub.double(b"hi", metadata={"m": "1"}, credentials=None)
            told: list[Any] = []
            call.add_done_callback(told.append)
            self.assertEqual(await call.initial_metadata(), (("a", "1"), ("b-bin", b"\0\xff")))
            self.assertEqual((await call, await call), (b"hihi", b"hihi"))
            self.assertEqual((told, call.done(), call.cancelled()), ([call], True, False))
            self.assertEqual(await call.trailing_metadata(), (("t", "2"),))
            self.assertEqual((await call.code(), await call.details()), (Code.OK, ""))
            self.assertEqual([reply async for reply in stub.count(b"4", wait_for_ready=True)], [b"0", b"1", b"2", b"3"])
            self.assertEqual(await stub.join(letters()), b"xy")
            call = stub.join(request_iterator=[b"a", b"b"])
            self.assertEqual(await call, b"ab")
            call = stub.join()
            for each in [call.write(b"q"), call.write(b"r"), call.done_writing()]:
                await each
            self.assertEqual(await call, b"qr")
            call = stub.echo()
            for number in range(3):
                await call.write(b"%d" % number)
                self.assertEqual(await call.read(), b"%d" % number)
            call.add_done_callback(told.append)
            await call.done_writing()
            self.assertIs(await call.read(), EOF)
            self.assertEqual((await call.code(), told[1:], call.done()), (Code.OK, [call], True))
            names = ["double", "count", "join", "join", "join", "echo"]
            self.assertEqual([name for name, _ in given], [f"T/{name}" for name in names])
            self.assertEqual(
                [options for _, options in given[:3]], [{"metadata": {"m": "1"}}, {"wait_for_ready": True}, {}]
            )

        return self.each(test, wrapper)

    def test_plain(self: Any) -> Any:
        """A function that changes arguments."""
        given: list[Any] = []
        return self.kinds(plain(given), given)

    def test_late(self: Any) -> Any:
        """A coroutine that returns the call."""
        given: list[Any] = []
        return self.kinds(late(given), given)

    def test_again(self: Any) -> Any:
        """A coroutine that awaits calls: what fails is tried once more, and the reply is what it returns."""
        times: list[int] = []

        async def test(stub: Stub) -> None:
            call: Any = stub.double(b"fail")
            self.assertEqual((await call, times), (b"againagain", [1, 2]))
            self.assertEqual((await call.code(), await call.trailing_metadata()), (Code.OK, ()))
            self.assertEqual(await stub.join([b"a", b"b"]), b"ab")
            self.assertEqual([reply async for reply in stub.count(b"2")], [b"0", b"1"])
            with self.assertRaises(StatusError) as caught:
                await stub.double(b"wait", timeout=0.02)
            self.assertIs(caught.exception.code, Code.DEADLINE_EXCEEDED)
            call = stub.double(b"wait", timeout=0.02)
            self.assertIs(await call.code(), Code.DEADLINE_EXCEEDED)

        return self.each(test, patient(times))

    def test_order(self: Any) -> Any:
        """The first wrapper is the outermost, whatever they are."""
        given: list[Any] = []

        def last(name: str, call: Any) -> Any:
            return lambda request, **options: given.append("inner") or call(request, **options)

        async def test(stub: Stub) -> None:
            self.assertEqual(await stub.double(b"x"), b"xx")
            self.assertEqual([each if isinstance(each, str) else each[0] for each in given], ["T/double", "inner"] * 1)
            self.assertEqual([reply async for reply in stub.count(b"2")], [b"0", b"1"])
            call: Any = stub.echo(iter([b"x"]))
            self.assertEqual([reply async for reply in call], [b"x"])

        return self.each(test, late(given), last, late([]))

    def test_cancel(self: Any) -> Any:
        """Who cancels cancels what the coroutine waits for, and what it has made."""
        made: list[Any] = []

        def wrapper(name: str, call: Any) -> Any:
            async def around(request: Any, **options: Any) -> Any:
                if request == b"later":
                    await Awaiting()
                made.append(call(request, **options))
                return made[-1] if call.hasReplies or request == b"call" else await made[-1]

            return around

        async def test(stub: Stub) -> None:
            for request in (b"wait", b"later"):
                call: Any = stub.double(request)
                await deferLaterIn(0.01)
                self.assertTrue(call.cancel())
                self.assertFalse(call.cancel())
                self.assertEqual((call.done(), call.cancelled()), (True, True))
                with self.assertRaises(StatusError) as caught:
                    await call
                self.assertIs(caught.exception.code, Code.CANCELLED)
            self.assertEqual([each.cancelled() for each in made], [True])
            stream: Any = stub.count(b"later")
            reading = stream.read()
            self.assertTrue(stream.cancel())
            self.assertFalse(stream.cancel())
            with self.assertRaises(StatusError):
                await reading
            self.assertEqual((await stream.code(), stream.cancelled()), (Code.CANCELLED, True))
            await deferLaterIn(0)
            self.assertEqual(len(made), 1)
            stream = stub.echo()
            await stream.write(b"x")
            self.assertEqual(await stream.read(), b"x")
            self.assertTrue(stream.cancel())
            self.assertTrue(made[-1].cancelled())

        return self.each(test, wrapper)

    def test_fails(self: Any) -> Any:
        """What a wrapper raises is what the call fails with."""
        raised = [ValueError("no token"), StatusError(Code.UNAUTHENTICATED, "no token")]

        def wrapper(name: str, call: Any) -> Any:
            async def around(request: Any, **options: Any) -> Any:
                await deferLaterIn(0)
                if request == b"nothing":
                    return None
                raise raised[0]

            return around

        async def test(stub: Stub) -> None:
            for code in (Code.UNKNOWN, Code.UNAUTHENTICATED):
                calls: list[Any] = [stub.double(b"x"), stub.join()]
                writing = calls[1].write(b"x")
                for each in (*calls, writing, stub.count(b"1").read()):
                    with self.assertRaises(type(raised[0])):
                        await each
                with self.assertRaises(type(raised[0])):
                    async for _ in stub.count(b"1"):
                        pass
                self.assertIs(await stub.double(b"x").code(), code)
                self.assertIs(await stub.count(b"1").code(), code)
                del raised[0]
                if not raised:
                    raised.append(ValueError())
            self.assertIsNone(await stub.double(b"nothing"))
            with self.assertRaisesRegex(TypeError, "has to return a call, and not None"):
                await stub.count(b"nothing").read()

        return self.each(test, wrapper)


class TwistedTests(CallsMixin, TestCase):
    """Coroutines of Twisted's."""

    timeout = 30

    def run_(self, coroutine: Any) -> Any:
        """Run it."""
        return Deferred.fromCoroutine(coroutine)

    def test_deferreds(self) -> Any:
        """What a coroutine makes is a Deferred; and a wrapper may be one of ``inlineCallbacks``."""

        def older(name: str, call: Any) -> Any:
            @inlineCallbacks
            def around(request: bytes, **options: Any) -> Any:
                token = yield succeed(b"!")
                reply = yield call(request + token, **options)
                return reply

            return around if name == "T/double" else call

        async def test(stub: Stub) -> None:
            call: Any = stub.double(b"a")
            self.assertIsInstance(call, Deferred)
            self.assertEqual(await call.addCallback(bytes.upper), b"A!A!")
            self.assertEqual(await gatherResults([stub.double(b"b"), stub.double(b"c")]), [b"b!b!", b"c!c!"])
            await self.assertFailure(stub.double(b"x", timeout=-1), StatusError)

        return self.each(test, older, late([]))


class TaskTests(CallsMixin, TestCase):
    """Tasks of asyncio."""

    timeout = 30

    def run_(self, coroutine: Any) -> Any:
        """Run it."""
        return Deferred.fromFuture(guestLoop(reactor).create_task(coroutine))

    def test_asyncio(self) -> Any:
        """Coroutines of wrappers may await what asyncio has, and a cancelled task cancels them, and their calls."""
        made: list[Any] = []

        def wrapper(name: str, call: Any) -> Any:
            async def around(request: Any, **options: Any) -> Any:
                await asyncio.sleep(0)
                made.append(call(request, **options))
                return await made[-1]

            return around

        async def test(stub: Stub) -> None:
            calls: list[Any] = [stub.double(b"a"), stub.double(b"b")]
            self.assertEqual(await asyncio.gather(*calls), [b"aa", b"bb"])
            call: Any = stub.double(b"wait")
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(call, 0.02)
            self.assertTrue(call.cancelled())
            await asyncio.sleep(0)
            self.assertEqual([each.cancelled() for each in made], [False, False, True])

        return self.each(test, wrapper)


class SettingTests(SynchronousTestCase):
    """What is said of wrong ones."""

    def channel(self) -> http.grpc.Channel:
        return http.grpc.Channel("127.0.0.1:1")

    def test_plainChannel(self) -> None:
        """Where nobody wraps, stubs call methods themselves."""
        found: Any = Stub(self.channel()).count
        self.assertEqual((type(found).__name__, found.hasRequests, found.hasReplies), ("StubMethod", False, True))

    def test_names(self) -> None:
        """A wrapper is called once for each method, and may leave it as it is."""
        names: list[Any] = []
        channel = self.channel()

        def wrapper(name: str, call: Any) -> Any:
            names.append((name, call.hasRequests, call.hasReplies))
            return call

        channel.wrap(wrapper)
        channel.wrap(plain([]))
        channel.wrap(wrapper)
        stub: Any = Stub(channel)
        kinds = [("double", False, False), ("count", False, True), ("join", True, False), ("echo", True, True)]
        self.assertEqual(names, [(f"T/{name}", *flags) for name, *flags in kinds for _ in range(2)])
        self.assertEqual((stub.join.hasRequests, stub.join.name), (True, "T/join"))

    def test_tooLate(self) -> None:
        """Stubs that are there would not be wrapped."""
        channel = self.channel()
        Stub(channel)
        with self.assertRaisesRegex(SettingError, "before its stubs are made"):
            channel.wrap(plain([]))

    def test_nothing(self) -> None:
        """A wrapper that forgets to return something."""
        channel = self.channel()
        channel.wrap(lambda name, call: None)  # type: ignore[arg-type, return-value]  # that is the mistake
        with self.assertRaisesRegex(SettingError, "has made None of T/double"):
            Stub(channel)

    def test_credentials(self) -> None:
        """Credentials are refused, and it is said what to do."""
        for wrappers in ([], [plain([])]):
            channel = self.channel()
            for each in wrappers:
                channel.wrap(each)
            stub: Any = Stub(channel)
            with self.assertRaisesRegex(SettingError, "channel.wrap"):
                stub.double(b"x", credentials=object())
            call = stub.double(b"x", credentials=None)
            self.assertIsInstance(call, ClientCall)
            self.failureResultOf(call, StatusError)
