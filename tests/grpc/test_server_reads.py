"""Calls that come in one read, or one after another on a connection: what they share, and what they do not."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from getty_tx.http.grpc.messages import gzipped
from getty_tx.http.grpc.servercall import ServerCall
from getty_tx.http.grpc.status import Code
from tests.support.grpcraw import framed
from tests.support.grpcserver import CallCase, pathOf

#: Calls in one read.
MANY = 20


def unary_unary_echo(request: bytes, context: Any) -> bytes:
    return request


async def unary_unary_async(request: bytes, context: Any) -> bytes:
    return request


class Fields(CallCase):
    """The header fields of the last call are compared with those of the next one."""

    async def test_eachCallHasItsOwn(self) -> None:
        """Methods, times and encodings differ from call to call."""

        def unary_unary_tell(request: bytes, context: Any) -> bytes:
            left = context.time_remaining()
            return b"%b %d" % (request, -1 if left is None else round(left / 10))

        await self.serve(unary_unary_echo, unary_unary_tell)
        client = await self.raw()
        tell, echo = pathOf(unary_unary_tell), pathOf(unary_unary_echo)
        asked: list[tuple[str, bytes, dict[str, Any], str, bytes]] = []
        for _ in range(2):
            asked += [
                (tell, framed(b"a"), {"grpc_timeout": "10S"}, "0", framed(b"a 1")),
                (tell, framed(b"b"), {"grpc_timeout": "20S"}, "0", framed(b"b 2")),
                (tell, framed(b"c"), {}, "0", framed(b"c -1")),
                (echo, framed(b"d"), {}, "0", framed(b"d")),
                (echo, gzipped(b"e"), {"grpc_encoding": "gzip"}, "0", framed(b"e")),
                (echo, gzipped(b"f"), {}, "13", b""),
                (echo + "x", framed(b""), {}, "12", b""),
                (echo, framed(b"g"), {"grpc_timeout": "x"}, "13", b""),
                (echo, framed(b"h"), {}, "0", framed(b"h")),
            ]
        for path, data, fields, status, reply in asked:
            answer = await client.call(path, data, **fields).ended
            self.assertEqual((answer.status, answer.data), (status, reply), (path, data))

    async def test_wrappersHold(self) -> None:
        """A wrapper that comes between two equal calls is called for the second one."""
        server = await self.serve(unary_unary_echo)
        client = await self.raw()
        echo = pathOf(unary_unary_echo)
        self.assertEqual((await client.call(echo, framed(b"a")).ended).data, framed(b"a"))
        server.wrap(lambda name, handler: lambda request, context: handler(request, context) * 2)
        self.assertEqual((await client.call(echo, framed(b"a")).ended).data, framed(b"aa"))


class Together(CallCase):
    """Many calls in one read."""

    async def many(self, client: Any, path: str) -> list[Any]:
        """The answers of many calls, which are sent in one write."""
        transport, client.transport = client.transport, None
        answers = [client.call(path, framed(b"%d" % each)) for each in range(MANY)]
        client.transport = transport
        client.send()
        return [await each.ended for each in answers]

    async def test_eachHasItsTaskAndItsContext(self) -> None:
        """What one sets in its context, and its task, is not the next one's; the loop is the running one for all."""
        variable: ContextVar[bytes] = ContextVar("variable", default=b"none")
        tasks = []

        async def unary_unary_tell(request: bytes, context: Any) -> bytes:
            asyncio.get_running_loop()
            tasks.append(asyncio.current_task())
            before = variable.get()
            variable.set(request)
            if int(request) % 2:
                await asyncio.sleep(0)
            return before + variable.get()

        server = await self.serve(unary_unary_tell)
        answers = await self.many(await self.raw(), pathOf(unary_unary_tell))
        self.assertEqual([each.data for each in answers], [framed(b"none%d" % each) for each in range(MANY)])
        self.assertEqual(len(set(tasks)), MANY)
        self.assertEqual({each.get_name() for each in tasks if each is not None}, {"test.Service/unary_unary_tell"})
        self.assertEqual(server.context.running, 0)

    async def test_allCountAgainstMaxCalls(self) -> None:
        """Of those that wait as many begin as may run at a time; those that need not wait run one after another."""

        async def unary_unary_wait(request: bytes, context: Any) -> bytes:
            await asyncio.sleep(0)
            return request

        server = await self.serve(unary_unary_wait, unary_unary_async, maxCalls=5)
        client = await self.raw()
        answers = await self.many(client, pathOf(unary_unary_wait))
        self.assertEqual([each.status for each in answers], ["0"] * 5 + ["8"] * (MANY - 5))
        self.assertEqual(server.context.refused, MANY - 5)
        answers = await self.many(client, pathOf(unary_unary_async))
        self.assertEqual([each.status for each in answers], ["0"] * MANY)

    async def test_oneThatFailsDoesNotMatterToOthers(self) -> None:
        async def unary_unary_fails(request: bytes, context: Any) -> bytes:
            if int(request) % 3 == 0:
                raise NotImplementedError
            if int(request) % 3 == 1:
                context.abort(Code.ABORTED, "no")
            return request

        await self.serve(unary_unary_fails)
        answers = await self.many(await self.raw(), pathOf(unary_unary_fails))
        self.assertEqual([each.status for each in answers], ["2", "10", "0"] * (MANY // 3) + ["2", "10"])
        self.assertEqual(len(self.flushLoggedErrors(NotImplementedError)), MANY // 3 + 1)

    async def test_oneThatIsResetInItsReadIsNotServed(self) -> None:
        """Nor does it count as one that runs, or no longer so."""
        seen = []

        async def unary_unary_see(request: bytes, context: Any) -> bytes:
            seen.append(request)
            await deferLater(reactor, 0, lambda: None)
            return request

        server = await self.serve(unary_unary_see)
        client = await self.raw()
        await client.call(pathOf(unary_unary_see), framed(b"a")).ended
        transport: Any
        transport, client.transport = client.transport, None
        number = client.numberOf(client.call(pathOf(unary_unary_see), framed(b"b")))
        client.h2.reset_stream(number, 8)
        client.transport = transport
        client.send()
        await client.call(pathOf(unary_unary_see), framed(b"c")).ended
        await deferLater(reactor, 0, lambda: None)
        self.assertEqual(seen, [b"a", b"c"])
        [connection] = server.context.connections
        self.assertEqual((connection.running, server.context.running), (0, 0))

    async def test_nothingIsLeftToTheCollector(self) -> None:
        """Calls are gone with their streams: there are no circles of what refers to each other."""
        await self.serve(unary_unary_echo, unary_unary_async)
        client = await self.raw()
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for function in unary_unary_echo, unary_unary_async:
            await self.many(client, pathOf(function))
            await deferLater(reactor, 0, lambda: None)
            self.assertEqual([each for each in gc.get_objects() if type(each) is ServerCall], [])

    async def test_aDeferredThatAReplyIs(self) -> None:
        """A method may return a Deferred now, and a reply then."""

        def unary_unary_both(request: bytes, context: Any) -> Any:
            return deferLater(reactor, 0, lambda: request) if int(request) % 2 else request

        await self.serve(unary_unary_both)
        answers = await self.many(await self.raw(), pathOf(unary_unary_both))
        self.assertEqual([each.data for each in answers], [framed(b"%d" % each) for each in range(MANY)])


class Streams(CallCase):
    """Requests in frames of their own."""

    async def test_smallOnesHaveTheirCredit(self) -> None:
        """Two streams, frame by frame in turns, of ten times what the client may send without an answer."""

        async def stream_unary_join(requests: Any, context: Any) -> bytes:
            return b",".join([request async for request in requests])

        await self.serve(stream_unary_join, streamWindow=20_000, connectionWindow=65_535)
        client = await self.raw()
        texts = [b"%0100d" % each for each in range(2000)]
        calls = {client.call(pathOf(stream_unary_join), None, isLast=False): iter(texts) for _ in range(2)}
        left = {client.numberOf(call): messages for call, messages in calls.items()}
        while left:
            for number, messages in list(left.items()):
                if client.h2.local_flow_control_window(number) >= 105:
                    message = next(messages, None)
                    if message is None:
                        client.h2.end_stream(number)
                        del left[number]
                    else:
                        client.h2.send_data(number, framed(message))
                elif all(client.h2.local_flow_control_window(each) < 105 for each in left):
                    client.send()
                    await deferLater(reactor, 0, lambda: None)
        client.send()
        for call in calls:
            self.assertEqual((await call.ended).data, framed(b",".join(texts)))
