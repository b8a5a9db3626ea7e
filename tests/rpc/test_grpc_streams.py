"""Streams and late answers on the wire of gRPC, by raw HTTP/2."""

from __future__ import annotations

from gzip import compress
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults
from twisted.internet.task import deferLater

from getty_tx import rpc
from tests.support.grpcraw import framed
from tests.support.grpcwire import WireCase, messages, packed

PATH = "/pkg.Echo/"


class Streams(WireCase):
    """Streams, with credit in both directions."""

    async def test_kinds(self) -> None:
        await self.serve()
        client = await self.raw()
        self.assertEqual(await self.ask(client, "count", [3]), ("0", None, [0, 1, 2]))
        self.assertEqual(await self.ask(client, "count", {"number": 2}), ("0", None, [0, 1]))
        self.assertEqual(await self.ask(client, "total", 1, 2, 3), ("0", None, [6]))
        self.assertEqual(await self.ask(client, "total"), ("0", None, [0]))
        self.assertEqual(await self.ask(client, "times", [2], 1, 2), ("0", None, [2, 4]))

    async def test_arguments(self) -> None:
        """The first message has them, and has to come."""
        await self.serve()
        client = await self.raw()
        for values, why in ((), "have not come"), (([],), "with 0 arguments"), (("x",), "neither an array"):
            status, text, _ = await self.ask(client, "times", *values)
            self.assertEqual(status, "3")
            self.assertIn(why, text)
        answer = await client.call(PATH + "total", framed(b"{")).ended
        self.assertEqual(answer.status, "3")

    async def test_slowClient(self) -> None:
        """A method waits while its client takes too little."""
        await self.serve()
        client = await self.raw()
        client.takes = False
        answer = client.call(PATH + "count", framed(packed([200, 10_000])))
        before = -1
        while before != self.echo.sent or not answer.data:
            before = self.echo.sent
            await deferLater(reactor, 0.02)
        self.assertLess(self.echo.sent, 100)
        client.takes = True
        client.h2.acknowledge_received_data(len(answer.data), client.numberOf(answer))
        client.send()
        self.assertEqual((await answer.ended).status, "0")
        self.assertEqual(self.echo.sent, 200)

    async def test_slowClientTimedOut(self) -> None:
        """A method may send with a time-out, as on other wires."""

        class Sends:
            @rpc.stream
            async def send(self) -> str:
                for _ in range(200):
                    sending = Deferred.fromCoroutine(rpc.currentCall().stream.send("x" * 10_000))
                    try:
                        await sending.addTimeout(0.01, reactor)
                    except TimeoutError:
                        return "too slow"
                return "done"

        await self.serve(echo=Sends())
        client = await self.raw()
        client.takes = False
        answer = client.call(PATH + "send")
        await self.until(lambda: not self.server.context.running and answer.data)
        client.takes = True
        client.h2.acknowledge_received_data(len(answer.data), client.numberOf(answer))
        client.send()
        self.assertEqual(messages((await answer.ended).data)[-1], "too slow")

    async def test_slowMethod(self) -> None:
        """A client gets no credit for what the method has not taken."""
        await self.serve(wire=rpc.Grpc(streamWindow=100_000))
        client = await self.raw()
        answer = client.call(PATH + "takeLater", framed(packed("x" * 20_000)) * 3, isLast=False)
        number = client.numberOf(answer)
        await self.ask(client, "say", ["hi"])
        window = client.h2.local_flow_control_window(number)
        self.assertLess(window, 40_000)
        self.echo.letGo()
        await self.until(lambda: client.h2.local_flow_control_window(number) > window)
        client.h2.end_stream(number)
        client.send()
        self.assertEqual(messages((await answer.ended).data), [3])

    async def test_cancelled(self) -> None:
        """The method of a client that goes is cancelled, and a generator is closed."""
        await self.serve()
        client = await self.raw()
        client.takes = False
        for method, data in (("listen", b""), ("count", framed(packed([200, 10_000])))):
            answer = client.call(PATH + method, data, isLast=False)
            await self.until(lambda answer=answer: answer.data)  # type: ignore[misc]
        await client.close()
        await self.until(lambda: len(self.echo.ended) == 2)
        self.assertEqual(sorted(self.echo.ended), ["closed", "gone"])
        self.assertEqual(self.server.context.running, 0)

    async def test_ofTheMethod(self) -> None:
        """A method may end its stream, and cannot send then."""

        class Ends:
            def __init__(self) -> None:
                self.streams: list[Any] = []

            @rpc.stream
            async def leave(self) -> None:
                async with rpc.currentCall().stream as stream:
                    self.streams.append(stream)
                    assert stream.isOpen and not stream.isMine
                    await stream.send(1)

            @rpc.stream
            async def half(self) -> int:
                stream = rpc.currentCall().stream
                await stream.result()
                stream.end()
                await stream.send(1)
                return 1

        ends = Ends()
        await self.serve(echo=ends)
        client = await self.raw()
        answer = await client.call(PATH + "leave", framed(b"[]")).ended
        self.assertEqual((answer.status, answer.code), (None, 8))
        self.assertEqual((await self.ask(client, "half", 1))[:2], ("1", "pkg.Echo/half: the stream has ended"))
        (stream,) = ends.streams
        self.assertFalse(stream.isOpen)
        with self.assertRaises(rpc.CallCancelledError):
            await Deferred.fromCoroutine(stream.send(1))

    async def test_endedBefore(self) -> None:
        """What a method returns is sent also where it has ended its values before."""

        class Ends:
            @rpc.stream
            async def early(self) -> int:
                stream = rpc.currentCall().stream
                await stream.send(1)
                stream.end()
                return 2

        await self.serve(echo=Ends())
        self.assertEqual(await self.ask(await self.raw(), "early"), ("0", None, [1, 2]))

    async def test_unsendable(self) -> None:
        """It is not the client's fault, wherever the value comes from."""

        class Wrong:
            @rpc.stream
            async def yields(self) -> Any:
                yield {1}

            @rpc.stream
            async def returns(self) -> Any:
                return {1}

            @rpc.stream
            async def long(self) -> Any:
                yield "x" * 5000

        await self.serve(echo=Wrong(), maxMsgLen=4000)
        client = await self.raw()
        for method, why in (("yields", "is no JSON"), ("returns", "is no JSON"), ("long", "above maxMsgLen=4000")):
            status, text, _ = await self.ask(client, method)
            self.assertEqual(status, "13")
            self.assertIn(why, text)

    async def test_readers(self) -> None:
        """One may wait for a value for a while only, and several at a time, as on other wires."""

        ends: list[Any] = []

        class Readers:
            @rpc.stream
            async def patient(self) -> Any:
                values = rpc.currentCall().stream
                for limit in 0.01, 20:
                    waiting = Deferred.fromCoroutine(values.__anext__())
                    try:
                        yield await waiting.addTimeout(limit, reactor)
                    except TimeoutError:
                        yield "nothing"

            @rpc.stream
            async def first(self) -> Any:
                values = rpc.currentCall().stream
                waiting = [Deferred.fromCoroutine(values.__anext__()) for _ in range(2)]
                waiting[0].addCallback(lambda value: waiting[1].cancel() or value)  # type: ignore[func-returns-value]
                waiting[1].addErrback(lambda failure: ends.append(failure.type))
                return await waiting[0]

            @rpc.stream
            async def both(self) -> int:
                async def take() -> list[Any]:
                    return [each async for each in rpc.currentCall().stream]

                found = await gatherResults([Deferred.fromCoroutine(take()) for _ in range(2)])
                return sum(found[0] + found[1])

        await self.serve(echo=Readers())
        client = await self.raw()
        for method, expected in (("patient", ["nothing", 3]), ("both", [3]), ("first", [3])):
            answer = client.call(PATH + method, isLast=False)
            await (self.until(lambda: answer.data) if method == "patient" else deferLater(reactor, 0.02))  # noqa: B023
            number = client.numberOf(answer)
            client.h2.send_data(number, framed(b"3"))
            client.h2.end_stream(number)
            client.send()
            self.assertEqual(messages((await answer.ended).data), expected)
        self.assertEqual(ends, [CancelledError])

    async def test_compressed(self) -> None:
        """Values that cannot be decompressed, or are too long then, end a stream as they end a call."""
        await self.serve(maxMsgLen=4000)
        client = await self.raw()
        for method in "total", "say":
            for data, status in ((b"junk", "13"), (compress(packed("x" * 5000)), "8")):
                answer = await client.call(PATH + method, framed(data, 1), grpc_encoding="gzip").ended
                self.assertEqual(answer.status, status)


class Stubborn:
    """Methods that do not end when they should."""

    def __init__(self) -> None:
        self.event = Event()
        self.waiting: Deferred[None] = Deferred(self._cancelled)

    def _cancelled(self, _: Any) -> None:
        raise RuntimeError("no")

    @rpc.method(threads=True, timeout=0.02)
    def block(self) -> str:
        """It cannot be stopped."""
        self.event.wait(10)
        return "late"

    @rpc.method(timeout=0.02)
    def keep(self) -> Deferred[None]:
        """It cannot be cancelled."""
        return self.waiting

    @rpc.method
    async def wrong(self) -> Any:
        """It has waited for nothing that can be sent."""
        await deferLater(reactor, 0)
        return {1}

    @rpc.method
    async def noCode(self) -> None:
        """Its error cannot be told."""
        await deferLater(reactor, 0)
        raise rpc.RemoteError("x", code=17)  # type: ignore[arg-type]

    @rpc.method(timeout=0.9)
    async def brief(self) -> None:
        """It takes a turn of the reactor."""
        await deferLater(reactor, 0)


class Late(WireCase):
    """Methods that end later than their calls, or with what nobody gets."""

    async def test_threads(self) -> None:
        """One in a thread keeps its place until it ends."""
        server = await self.serve(echo=Stubborn())
        self.assertEqual((await self.ask(await self.raw(), "block", []))[0], "4")
        self.assertEqual(server.context.running, 1)
        self.echo.event.set()
        await self.until(lambda: not server.context.running)

    async def test_places(self) -> None:
        """Those of a session, too: its client gets no more by calls that end early."""
        server = await self.serve(echo=Stubborn(), maxCallsPerSession=2)
        client = await self.raw()
        for _ in range(2):
            self.assertEqual((await self.ask(client, "block", []))[0], "4")
        text = "maxCallsPerSession=2 calls are being served"
        self.assertEqual(await self.ask(client, "wrong", []), ("8", text, []))
        self.assertEqual((server.context.running, server.context.refused), (2, 1))
        shared = server.server.contexts[0]
        totals = shared.calls["server"]["pkg.Echo/block"]
        self.assertEqual((totals.running, shared.serving.running), (2, 2))
        self.assertEqual((await self.ask(await self.raw(), "brief", []))[0], "0")
        self.echo.event.set()
        await self.until(lambda: not server.context.running)
        self.assertEqual((await self.ask(client, "brief", []))[0], "0")
        self.assertEqual((totals.running, shared.serving.running), (0, 0))

    async def test_noTimers(self) -> None:
        """What watches the times of methods goes with the last session; trial finds a timer that is left."""
        server = await self.serve(echo=Stubborn())
        client = await self.raw()
        self.assertEqual((await self.ask(client, "brief", []))[0], "0")
        await client.close()
        await self.until(lambda: not server.server.sessions)

    async def test_notCancelled(self) -> None:
        """What a canceller raises is logged, and what the method raises then, too."""
        server = await self.serve(echo=Stubborn())
        self.assertEqual((await self.ask(await self.raw(), "keep", []))[0], "4")
        self.assertEqual(server.context.running, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.echo.waiting.errback(ValueError("late"))
        self.assertEqual((len(self.flushLoggedErrors(ValueError)), server.context.running), (1, 0))

    async def test_wrongResult(self) -> None:
        await self.serve(echo=Stubborn())
        status, text, _ = await self.ask(await self.raw(), "wrong", [])
        self.assertEqual(status, "13")
        self.assertIn("is no JSON", text)

    async def test_noCode(self) -> None:
        """The call ends, whatever has been raised."""
        await self.serve(echo=Stubborn())
        self.assertEqual((await self.ask(await self.raw(), "noCode", []))[:2], ("2", "the method has failed"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    async def test_otherServices(self) -> None:
        """Methods that are served no longer."""
        server = await self.serve()
        server.context.use({"Other": Stubborn()})
        self.assertEqual((await self.ask(await self.raw(), "say", ["hi"]))[:2], ("12", "there is no pkg.Echo/say"))
