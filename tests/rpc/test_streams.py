"""Streams: many values for one call, with credit."""

from __future__ import annotations

# At run time, for the type hints of the methods.
from collections.abc import AsyncIterator  # noqa: TC003
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.messages import CREDIT, DATA, OPEN, StreamFrame
from getty_tx.rpc.streams import WINDOW
from tests.rpc.test_services_on_sockets import SocketCase, until


class Numbers:
    """Streams of each kind."""

    def __init__(self) -> None:
        self.sent = 0
        self.events: list[str] = []

    @rpc.stream
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                yield number
                self.sent = number + 1
        finally:
            self.events.append("closed")

    @rpc.stream
    async def large(self, end: int) -> AsyncIterator[str]:
        for number in range(end):
            yield "x" * 10_000
            self.sent = number + 1

    @rpc.stream
    async def add(self) -> int:
        total = 0
        async for number in rpc.currentCall().stream:
            total += number
        return total

    @rpc.stream
    async def double(self) -> AsyncIterator[int]:
        async for number in rpc.currentCall().stream:
            yield 2 * number

    @rpc.stream
    async def fail(self) -> AsyncIterator[int]:
        yield 1
        raise rpc.RemoteError("no more", code="empty", details=[7])

    @rpc.stream
    async def wait(self) -> None:
        try:
            await Deferred()
        except CancelledError:
            self.events.append("cancelled")
            raise

    @rpc.method
    def say(self, text: str) -> str:
        return text


class StreamCase(SocketCase):
    """A server with Numbers, and a client."""

    async def begin(self, **options: Any) -> tuple[Numbers, rpc.Client]:
        numbers = Numbers()
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Numbers": numbers}, **options)
        server.startService()
        self.addCleanup(server.stopService)
        self.server = server
        address: Any = (await server.whenListening())[0]
        client = self.dial(f"tcp:127.0.0.1:{address.port}")
        await client.whenReady()
        return numbers, client

    async def assertAllGone(self, client: rpc.Client) -> None:
        """No stream is left at either end, and nothing runs."""
        await until(lambda: not self.server.context.running)
        for peer in [*client.context.peers, *self.server.context.peers]:
            await until(lambda peer=peer: not peer.streams)
            self.assertEqual(peer.incoming.open, {})


class ValueTests(StreamCase):
    """Values in order, and the end."""

    async def test_fromServer(self) -> None:
        numbers, client = await self.begin()
        async with client.stream("Numbers", "count", 5000) as stream:
            self.assertEqual([value async for value in stream], list(range(5000)))
            self.assertIsNone(await stream.result())
        self.assertEqual(numbers.events, ["closed"])
        await self.assertAllGone(client)

    async def test_fromClient(self) -> None:
        _, client = await self.begin()
        stream = client.stream("Numbers", "add")
        for number in range(5000):
            await stream.send(number)
        stream.end()
        self.assertEqual(await stream.result(), sum(range(5000)))
        await self.assertAllGone(client)

    async def test_bothWays(self) -> None:
        _, client = await self.begin()
        found = []
        async with client.stream("Numbers", "double") as stream:
            for number in range(100):
                await stream.send(number)
                found.append(await anext(stream))
            stream.end()
            self.assertEqual([value async for value in stream], [])
        self.assertEqual(found, [2 * number for number in range(100)])
        await self.assertAllGone(client)

    async def test_stubs(self) -> None:
        """The stub of a class opens streams as such; that of a name begins with a call, which the peer refuses."""
        _, client = await self.begin()
        named, typed = client.service("Numbers"), client.service(Numbers)
        for each in (named, typed, named.options(timeout=9.0), typed.options(timeout=9.0)):
            async with each.count(3) as stream:
                self.assertEqual([0, 1, 2], [value async for value in stream])
        with self.assertRaisesRegex(rpc.PayloadError, "Numbers/count is a stream"):
            await named.count(3)
        with self.assertRaisesRegex(rpc.PayloadError, "Numbers/say is no stream"):
            async with named.say("hi") as stream:
                await anext(stream)
        with self.assertRaisesRegex(TypeError, r"Numbers/count was called; a stream is opened by stream\(\)"):
            (peer,) = client.context.peers
            async with peer.call("Numbers", "count", 3).addErrback(lambda _: None):
                pass
        with self.assertRaises(rpc.CallTimeoutError):
            async with named.options(timeout=0.05).wait() as stream:
                await stream.result()
        await self.assertAllGone(client)

    async def test_toClient(self) -> None:
        """A server may open a stream with its client, too, with the same number as a stream of the client's."""
        numbers = Numbers()
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"Numbers": Numbers()})
        server.startService()
        self.addCleanup(server.stopService)
        self.server = server
        address: Any = (await server.whenListening())[0]
        client = self.dial(f"tcp:127.0.0.1:{address.port}", services={"Numbers": numbers})
        await client.whenReady()
        await until(lambda: server.context.peers)
        (peer,) = server.context.peers
        one, two = client.stream("Numbers", "double"), peer.stream("Numbers", "double")
        self.assertEqual(one.id, two.id)
        await one.send(1)
        await two.send(10)
        self.assertEqual((await anext(one), await anext(two)), (2, 20))
        one.end()
        self.assertEqual([value async for value in one], [])
        two.cancel()
        await self.assertAllGone(client)


class CreditTests(StreamCase):
    """A slow reader stops the writer, and nobody else."""

    async def test_slowReader(self) -> None:
        numbers, client = await self.begin()
        stream = client.stream("Numbers", "large", 1000)
        await until(lambda: numbers.sent * 10_000 >= WINDOW - 20_000)
        await deferLater(reactor, 0.05, lambda: None)
        self.assertLess(numbers.sent * 10_000, WINDOW + 20_000)
        # Another call on the same session goes on.
        self.assertEqual(await client.call("Numbers", "say", "hi"), "hi")
        (peer,) = client.context.peers
        self.assertFalse(peer.session.inbound.paused)
        count = 0
        async for _ in stream:
            count += 1
        self.assertEqual(count, 1000)
        await self.assertAllGone(client)

    async def test_slowServer(self) -> None:
        """A method that takes nothing stops the client's sending."""
        _, client = await self.begin()
        stream = client.stream("Numbers", "wait")
        for _ in range(WINDOW // 10_000):
            await stream.send("x" * 10_000)
        blocked = Deferred.fromCoroutine(stream.send("x" * 10_000))
        await deferLater(reactor, 0.05, lambda: None)
        last = Deferred.fromCoroutine(stream.send("x"))
        self.assertNoResult(last)
        stream.cancel()
        with self.assertRaises(rpc.CallCancelledError):
            await last
        blocked.addErrback(lambda failure: failure.trap(rpc.CallCancelledError))
        await blocked
        await self.assertAllGone(client)

    async def test_withoutCredit(self) -> None:
        """A peer that sends more than it may ends the stream, and the session lives."""
        numbers, client = await self.begin()
        (peer,) = client.context.peers
        stream = client.stream("Numbers", "wait")
        for _ in range(2 * WINDOW // 50_000):
            peer.session.writePkg(StreamFrame(stream.id, DATA, b'"' + b"x" * 50_000 + b'"'))
        with self.assertRaisesRegex(rpc.PayloadError, "without credit"):
            await stream.result()
        await until(lambda: numbers.events == ["cancelled"])
        self.assertEqual(await client.call("Numbers", "say", "hi"), "hi")
        await self.assertAllGone(client)

    async def test_wrongCredit(self) -> None:
        """Credit that is no number, or more than the window, gives no more than the window."""
        numbers, client = await self.begin()
        (peer,) = client.context.peers
        stream = client.stream("Numbers", "large", 1000)
        for credit in (b"-5", b"x", b"", b"9" * 100, b"999999999"):
            peer.session.writePkg(StreamFrame(stream.id, CREDIT, credit))
        await deferLater(reactor, 0.1, lambda: None)
        self.assertLess(numbers.sent * 10_000, 2 * WINDOW + 20_000)
        stream.cancel()
        await self.assertAllGone(client)


class ReaderTests(StreamCase):
    """Who waits for values."""

    async def test_twoReaders(self) -> None:
        """Two readers share the values, and both hear of the end."""
        _, client = await self.begin()
        stream = client.stream("Numbers", "double")
        found: list[int] = []

        async def read() -> None:
            async for value in stream:
                found.append(value)

        readers = [Deferred.fromCoroutine(read()) for _ in range(2)]
        for number in range(10):
            await stream.send(number)
        stream.end()
        for reader in readers:
            await reader
        self.assertEqual(sorted(found), [2 * number for number in range(10)])
        await self.assertAllGone(client)

    async def test_numberOfACall(self) -> None:
        """A stream with the number of a call that runs is not opened, and the call goes on."""
        numbers, client = await self.begin()
        (peer,) = client.context.peers
        stream = client.stream("Numbers", "wait")
        await until(lambda: self.server.context.running)
        peer.session.writePkg(StreamFrame(stream.id, OPEN, b"[]", False, "Numbers/wait"))
        self.assertEqual(await client.call("Numbers", "say", "hi"), "hi")
        self.assertEqual((self.server.context.running, numbers.events), (1, []))
        stream.cancel()
        await self.assertAllGone(client)

    async def test_closedSession(self) -> None:
        """A value for a session that closes is not sent, and the error says so."""
        _, client = await self.begin()
        stream = client.stream("Numbers", "add")
        (peer,) = client.context.peers
        peer.session.close()
        with self.assertRaises(rpc.CallLostError) as caught:
            await stream.send(1)
        self.assertFalse(caught.exception.sent)
        with self.assertRaises(rpc.CallLostError):
            peer.stream("Numbers", "add")
        with self.assertRaises(rpc.CallLostError):
            await stream.result()


class EndTests(StreamCase):
    """Every end reaches both sides."""

    async def test_leaving(self) -> None:
        """To leave the block closes the generator."""
        numbers, client = await self.begin()
        async with client.stream("Numbers", "count", 10**9) as stream:
            async for number in stream:
                if number == 10:
                    break
        await until(lambda: numbers.events == ["closed"])
        with self.assertRaises(rpc.CallCancelledError):
            await stream.send(1)
        await self.assertAllGone(client)

    async def test_error(self) -> None:
        """An error comes behind the values."""
        _, client = await self.begin()
        stream = client.stream("Numbers", "fail")
        self.assertEqual(await anext(stream), 1)
        with self.assertRaisesRegex(rpc.RemoteError, "no more") as caught:
            await anext(stream)
        self.assertEqual((caught.exception.code, caught.exception.details), ("empty", [7]))
        await self.assertAllGone(client)

    async def test_lost(self) -> None:
        """A lost session ends its streams at both ends."""
        numbers, client = await self.begin()
        stream = client.stream("Numbers", "wait")
        await until(lambda: self.server.context.running)
        for peer in list(self.server.context.peers):
            peer.session.transport.abortConnection()
        with self.assertRaises(rpc.CallLostError):
            await stream.result()
        self.assertEqual(numbers.events, ["cancelled"])
        await until(lambda: not self.server.context.running)

    async def test_timeout(self) -> None:
        numbers, client = await self.begin()
        stream = client.stream("Numbers", "wait", timeout=0.02)
        with self.assertRaises(rpc.CallTimeoutError):
            await stream.result()
        await until(lambda: numbers.events == ["cancelled"])
        await self.assertAllGone(client)

    async def test_wrongKind(self) -> None:
        """A stream is no call, and a call no stream; unknown ones are neither."""
        _, client = await self.begin()
        with self.assertRaisesRegex(rpc.PayloadError, "is a stream"):
            await client.call("Numbers", "count", 1)
        for name, kind in (("say", rpc.PayloadError), ("nope", rpc.NoSuchMethodError), ("count", rpc.PayloadError)):
            with self.assertRaises(kind):
                await client.stream("Numbers", name, *([1, 2] if name == "count" else ["x"])).result()
        await self.assertAllGone(client)

    async def test_limits(self) -> None:
        """Streams count as calls."""
        _, client = await self.begin(maxCalls=1)
        stream = client.stream("Numbers", "wait")
        await until(lambda: self.server.context.running)
        with self.assertRaises(rpc.CallRefusedError):
            await client.stream("Numbers", "count", 1).result()
        stream.cancel()
        await self.assertAllGone(client)

    async def test_unknownFrames(self) -> None:
        """Frames of streams that are not there, or no more, do nothing."""
        _, client = await self.begin()
        (peer,) = client.context.peers
        for kind in ("3", "4", "5", "6", "9"):
            peer.session.writePkg(StreamFrame(77, kind, b""))
            peer.session.writePkg(StreamFrame(77, kind, b"", True))
        peer.session.writePkg(StreamFrame(78, OPEN, b"[]", True, "Numbers/wait"))
        self.assertEqual(await client.call("Numbers", "say", "hi"), "hi")
        await self.assertAllGone(client)

    def test_settings(self) -> None:
        """@rpc.stream is for what can wait."""
        with self.assertRaisesRegex(SettingError, "@rpc.stream is for an async def"):
            rpc.stream(lambda: None)
        with self.assertRaisesRegex(SettingError, "is no name"):
            rpc.stream(name="")
