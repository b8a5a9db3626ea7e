"""Dubbo's wire with Dubbo's layout on a real ZooKeeper: providers are found, with what their URLs say, and called."""

from __future__ import annotations

from itertools import count
from typing import Any

from kazoo.client import KazooClient
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import rpc
from getty_tx.registry.zookeeper.dubbo import decodeUrl
from tests.support.zookeeper import HOST, shared

_numbers = count(1)

ECHO = "com.ex.Echo"
LISTEN = "tcp:0:interface=127.0.0.1"


class Echo:
    """Says which server it is."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    @rpc.method
    def say(self, text: str) -> str:
        return f"{self.name}{text}"

    @rpc.method
    def attachments(self) -> dict[str, str]:
        return dict(rpc.currentCall().metadata)


class OptionsTests(SynchronousTestCase):
    """What a server says of itself."""

    def test_registering(self) -> None:
        """The methods, the version and the group of the service; what is asked for comes first."""
        wire = rpc.Dubbo(versions={ECHO: "1.0"}, groups={ECHO: "blue"}, application="shop")
        names = [f"{ECHO}/say", f"{ECHO}/add", f"{ECHO}/$echo", "Other/x", "rpc/describe"]
        found = wire.registering({"service": ECHO, "weight": 5}, names)
        meta = {"application": "shop", "dubbo": "2.0.2", "methods": "add,say", "revision": "1.0"}
        meta["serialization"] = "hessian2"
        self.assertEqual(found, {"service": ECHO, "weight": 5, "version": "1.0", "group": "blue", "meta": meta})
        found = wire.registering({"service": "Other2", "version": "3", "meta": {"dubbo": "2.7"}}, names)
        self.assertEqual((found["version"], found["group"], found["meta"]["dubbo"]), ("3", "", "2.7"))
        self.assertEqual((found["meta"]["methods"], found["meta"]["revision"]), ("*", "0.0.0"))


class ZooKeeperTests(TestCase):
    """With a root of its own."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.zookeeper = shared()
        while not await deferToThread(self.zookeeper.isServing):
            await deferLater(reactor, 0.05)
        self.prefix = f"/dubbo{next(_numbers)}"
        # A busy machine may take its time.
        self.registry = f"zookeeper:{HOST}:{self.zookeeper.port}:layout=dubbo:timeout=30:prefix={self.prefix}"

    async def serve(self, name: str, wire: Any, **options: Any) -> rpc.Server:
        """A provider."""
        server = rpc.Server(
            LISTEN,
            {ECHO: Echo(name)},
            wire=wire,
            service=ECHO,
            registry=self.registry,
            registerRequired=True,
            leaveTime=0.01,
            **options,
        )
        server.startService()
        self.addCleanup(server.stopService)
        await server.whenListening()
        return server

    def client(self, endpoint: str, wire: Any) -> rpc.Client:
        """A consumer."""
        client = rpc.Client(endpoint, wire=wire, registry=self.registry, timeout=30)
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def test_found(self) -> None:
        """A provider is in the registry with its methods, and a consumer finds and calls the one of its group."""
        await self.serve("blue ", rpc.Dubbo(versions={ECHO: "1.0"}, groups={ECHO: "blue"}))
        await self.serve("red ", rpc.Dubbo(versions={ECHO: "2.0"}, groups={ECHO: "red"}))
        for group, version in (("blue", "1.0"), ("red", "2.0")):
            client = self.client(f"service:{ECHO}:group={group}:version={version}", rpc.Dubbo())
            self.assertEqual(await client.call(ECHO, "say", "hi"), f"{group} hi")
            self.assertEqual(await client.call(ECHO, "$invoke", "say", None, ["hi"]), f"{group} hi")
            with self.assertRaises(rpc.NoSuchMethodError):
                await client.call("com.ex.Other", "say", "hi")
        client = self.client(f"service:{ECHO}:group=*:version=*", rpc.Dubbo(versions={ECHO: "9"}))
        with self.assertRaisesRegex(rpc.NoSuchMethodError, f"no {ECHO} of the version '9'"):
            await client.call(ECHO, "say", "hi")

        def look() -> list[str]:
            kazoo = KazooClient(f"{HOST}:{self.zookeeper.port}")
            kazoo.start()
            try:
                names: list[str] = kazoo.get_children(f"{self.prefix}/{ECHO}/providers")
                return names
            finally:
                kazoo.stop()
                kazoo.close()

        providers: list[Any] = [decodeUrl(name, ECHO) for name in await deferToThread(look)]
        self.assertEqual({(each.group, each.version) for each in providers}, {("blue", "1.0"), ("red", "2.0")})
        for provider in providers:
            self.assertEqual(provider.meta["methods"], "attachments,say")
            self.assertEqual(provider.meta["serialization"], "hessian2")
