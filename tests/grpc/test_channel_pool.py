"""A channel as a service: targets, several servers, registries, states, and its end."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http.grpc import ChannelState, Code, StatusError
from getty_tx.http.grpc.targets import authorityOf, descriptionOf, withALPN
from getty_tx.registry.provider import Provider, encodeRecord
from getty_tx.testing import MemoryRegistry
from tests.support.grpcstub import Service, Stub, serve


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
