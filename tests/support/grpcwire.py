"""A server of calls on the wire of gRPC, and the other ends of it: raw HTTP/2, this package's channel, and grpcio's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import http, rpc
from tests.support.grpcraw import RawClient, framed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Echo", "OutOfStock", "WireCase", "messages", "packed"]


class OutOfStock(rpc.RemoteError):
    """An error of the application."""

    code = "outOfStock"


class Echo:
    """
    A service.

    :ivar ended: how methods that waited have ended.
    :ivar calls: the calls that have waited.
    """

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.calls: list[rpc.Call] = []
        self.sent = 0
        self._waiting: list[Deferred[None]] = []

    def letGo(self) -> None:
        """Let those go that wait."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _wait(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    @rpc.method
    def say(self, text: str, times: int = 1, *, own: int = 0) -> str:
        """At once."""
        return text * times

    @rpc.method
    def defaults(self, first: int = 1, second: int = 2) -> list[int]:
        """Arguments that may be left out, also before another."""
        return [first, second]

    @rpc.method
    def laterOn(self, text: str) -> Deferred[str]:
        """A Deferred."""
        return deferLater(reactor, 0, lambda: text)

    @rpc.method
    async def quick(self, text: str) -> str:
        """A coroutine that need not wait."""
        return text

    @rpc.method
    async def wait(self) -> str:
        """A coroutine that waits until it is let go."""
        call = rpc.currentCall()
        self.calls.append(call)
        try:
            await self._wait()
        except CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return call.name

    @rpc.method(timeout=0.05)
    async def brief(self) -> None:
        """It may take less than it does."""
        await self.wait()

    @rpc.method(threads=True)
    def inThread(self) -> str:
        """In a thread."""
        from threading import current_thread, main_thread

        return f"{rpc.currentCall().name} {current_thread() is not main_thread()}"

    @rpc.method
    def about(self) -> Any:
        """What is known of the call."""
        call = rpc.currentCall()
        call.replyMetadata = {"server": "here"}
        metadata = {name: str(value) for name, value in call.metadata.items() if name.startswith("x-")}
        left = call.timeLeft()
        return [call.name, metadata, left is not None and 50 < left <= 100 and call.deadline == call.expiresAt]

    @rpc.method
    def backwards(self) -> None:
        """It calls its caller."""
        rpc.currentCall().peer.call("Echo", "say", "hi")

    @rpc.method
    def fail(self, what: str) -> Any:
        """In several ways."""
        rpc.currentCall().replyMetadata = {"server": "here"}
        if what == "own":
            raise OutOfStock("no tea")
        if what == "plain":
            raise ValueError("secret")
        if what == "unsendable":
            return {1, 2}
        if what == "long":
            return "x" * 5000
        if what == "metadata":
            rpc.currentCall().replyMetadata = {"Server": "here"}
            return 1
        if what == "refused":
            raise rpc.CallRefusedError("why" * 1000)
        raise rpc.RemoteError("why", code=what)

    @rpc.stream
    async def count(self, number: int, size: int = 0) -> Any:
        """Many replies."""
        try:
            for each in range(number):
                self.sent += 1
                yield "x" * size or each
        finally:
            self.ended.append("closed")

    @rpc.stream
    async def total(self) -> int:
        """Many values, all of them behind no arguments, and one reply."""
        return sum([each async for each in rpc.currentCall().stream])

    @rpc.stream
    async def times(self, by: int) -> Any:
        """Values both ways."""
        async for each in rpc.currentCall().stream:
            yield each * by

    @rpc.stream
    async def takeLater(self) -> int:
        """It takes nothing until it is let go."""
        await self._wait()
        return len([each async for each in rpc.currentCall().stream])

    @rpc.stream(timeout=0.05)
    async def ticks(self) -> Any:
        """It has no end."""
        yield 1
        await self.wait()

    @rpc.stream
    async def listen(self) -> None:
        """Until the client goes."""
        stream = rpc.currentCall().stream
        await stream.send("ready")
        try:
            async for _ in stream:
                pass
        except rpc.CallCancelledError:
            self.ended.append("gone")
            raise


def packed(value: Any) -> bytes:
    """A message of JSON."""
    return json.dumps(value).encode()


def messages(data: bytes) -> list[Any]:
    """The messages of an answer."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big")
        found.append(json.loads(data[5 : 5 + size]))
        data = data[5 + size :]
    return found


class WireCase(TestCase):
    """
    Serves ``pkg.Echo``.

    :ivar echo: the service; ``server`` serves it, at ``port``.
    """

    timeout = 20

    async def serve(self, wire: Any = None, echo: Any = None, **options: Any) -> rpc.Server:
        """A server that listens."""
        self.echo = echo or Echo()
        services = options.pop("services", {"pkg.Echo": self.echo})
        endpoint = options.pop("endpoint", "tcp:0:interface=127.0.0.1")
        server = self.server = rpc.Server(endpoint, services, wire=rpc.Grpc() if wire is None else wire, **options)
        server.startService()
        self.addCleanup(server.stopService)
        address: Any = (await server.whenListening())[0]
        self.port = int(address.port)
        return server

    async def raw(self) -> RawClient:
        """A connection on h2."""
        client = await RawClient.to(self.port)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    async def ask(self, client: RawClient, method: str, *values: Any, **fields: str | None) -> Any:
        """Call a method by raw HTTP/2, with these messages; status, text and replies."""
        data = b"".join(framed(packed(each)) for each in values)
        answer = await client.call(f"/pkg.Echo/{method}", data, **fields).ended
        return answer.status, answer.text, messages(answer.data)

    def channel(self) -> http.grpc.Channel:
        """This package's channel, which runs until the test ends."""
        channel = http.grpc.Channel(f"tcp:127.0.0.1:{self.port}")
        channel.startService()
        self.addCleanup(channel.stopService)
        return channel

    def grpcio(self, work: Callable[[Any], Any]) -> Deferred[Any]:
        """Call ``work(channel)`` with grpcio's channel in a thread."""
        try:
            import grpc
        except ImportError:
            raise SkipTest("grpcio is not installed") from None

        def run() -> Any:
            with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
                return work(channel)

        return deferToThread(run)

    async def until(self, isSo: Callable[[], Any]) -> None:
        """Wait for something."""
        while not isSo():
            await deferLater(reactor, 0.002)
