"""
The ready clients: npm's ``centrifuge`` in node, and ``centrifuge-python``; their own recovery included.

``make test`` brings the first where there is npm; another folder is named by NODE_PATH.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from getty_tx import http
from getty_tx.gateway import Gateway, GatewaySettings
from tests.support.gateway import CHAT, SECRET, signed

HERE = Path(__file__).parent
MODULES = HERE.parents[1] / "build" / "npm" / "node_modules"

#: What ``make test`` installs.
PACKAGES = "centrifuge@5.7.4 ws@8.23.0"


def nodePath() -> str:
    """Where node finds the client's packages. :raise SkipTest: it does not, or is not there itself."""
    if shutil.which("node") is None:
        raise SkipTest("there is no node (Debian: apt-get install nodejs)")
    path = os.pathsep.join([str(MODULES), os.environ.get("NODE_PATH", "")])
    finds = ["node", "-e", "require.resolve('centrifuge'); require.resolve('ws')"]
    if subprocess.run(finds, env={**os.environ, "NODE_PATH": path}, capture_output=True).returncode:
        raise SkipTest(f"there is no centrifuge: npm install --prefix build/npm {PACKAGES}")
    return path


class InteropCase(TestCase):
    """
    A gateway on a port.

    :ivar url: of its WebSocket.
    """

    timeout = 60

    async def serve(self) -> None:
        """Start it."""
        settings = GatewaySettings(secret=SECRET, personal=True, pingInterval=1, namespaces={"chat": CHAT})
        signed()
        self.gateway = Gateway(settings)
        self.gateway.startService()
        self.addCleanup(self.gateway.stopService)
        router = http.Router()
        self.gateway.addTo(router)
        self.server = http.Server(router, "tcp:0:interface=127.0.0.1")
        self.server.startService()
        self.addCleanup(self.server.stopService)
        (address,) = await self.server.whenListening()
        self.url = f"ws://127.0.0.1:{address.port}/connection/websocket"  # type: ignore[attr-defined,unused-ignore]
        self.group = self.gateway.groups.group("chat:1")

    @staticmethod
    def token(user: str, seconds: float = 1000, **claims: Any) -> str:
        """One that is valid for so long."""
        return signed(sub=user, exp=time.time() + seconds, **claims)


class Node(ProcessProtocol):
    """
    client.js.

    :ivar events: what it says: pairs of an event and its value.
    """

    def __init__(self) -> None:
        self.events: DeferredQueue[Any] = DeferredQueue()
        self.ended: Deferred[None] = Deferred()
        self._data = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            self.events.put(tuple(json.loads(line)))

    def errReceived(self, data: bytes) -> None:
        self.events.put(("stderr", data.decode()))

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)

    def do(self, *words: Any) -> None:
        """Have it do something."""
        self.transport.write(json.dumps(words).encode() + b"\n")  # type: ignore[union-attr]

    async def next(self, wanted: str) -> Any:
        """The value of the next event that is this one."""
        while True:
            event, value = await self.events.get()
            assert event not in ("stderr", "failed") or event == wanted, value
            if event == wanted:
                return value


class PackagesTests(SynchronousTestCase):
    def test_versions(self) -> None:
        """``make test`` installs what these tests were written for."""
        makefile = HERE.parents[1] / "Makefile"
        if not makefile.exists():
            raise SkipTest("there is no Makefile: these are not all of the sources")
        self.assertIn(f" {PACKAGES} ", makefile.read_text())


class NodeTests(InteropCase):
    """npm's client."""

    async def connect(self, token: str) -> Node:
        """Start the client, and connect it."""
        path = nodePath()
        await self.serve()
        node = Node()
        there: Any = reactor
        process = there.spawnProcess(
            node, shutil.which("node"), ["node", str(HERE / "client.js"), self.url, token], {"NODE_PATH": path}
        )

        def end() -> Deferred[None]:
            if not node.ended.called:
                process.signalProcess("KILL")
            return node.ended

        self.addCleanup(end)
        node.do("connect")
        return node

    async def test_all(self) -> None:
        """It subscribes, publishes, asks, loses its connection, recovers, and is sent away."""
        node = await self.connect(self.token("ann", info={"name": "Ann"}))
        client = (await node.next("connected"))["client"]
        self.assertEqual((await node.next("server-subscribed"))["channel"], "user:ann")
        node.do("subscribe", "chat:1", {"joinLeave": True})
        subscribed = await node.next("subscribed")
        self.assertEqual((subscribed["recoverable"], subscribed["streamPosition"]["offset"]), (True, 0))
        info = {"client": client, "user": "ann", "connInfo": {"name": "Ann"}}
        node.do("publish", "chat:1", {"text": "grüß"})
        pub = await node.next("publication")
        self.assertEqual((pub["data"], pub["offset"], pub["info"]), ({"text": "grüß"}, 1, info))
        node.do("publish", "news", 1)
        self.assertEqual((await node.next("failed"))["code"], 103)
        node.do("history", "chat:1", {"limit": 10})
        self.assertEqual([each["data"] for each in (await node.next("history"))["publications"]], [{"text": "grüß"}])
        node.do("presence", "chat:1")
        self.assertEqual(list((await node.next("presence"))["clients"]), [client])
        node.do("stats", "chat:1")
        self.assertEqual(await node.next("stats"), {"numClients": 1, "numUsers": 1})
        self.gateway.groups.sendTo("ann", "hi")
        self.assertEqual((await node.next("publication"))["data"], "hi")
        node.do("cut")
        await node.next("connecting")
        for number in range(3):
            self.group.publish(number)
        subscribed = await node.next("subscribed")
        self.assertEqual((subscribed["wasRecovering"], subscribed["recovered"]), (True, True))
        found = [await node.next("publication") for _ in range(3)]
        self.assertEqual([(each["data"], each["offset"]) for each in found], [(0, 2), (1, 3), (2, 4)])
        for _ in range(11):
            self.group.publish("more")
        node.do("unsubscribe", "chat:1")
        self.assertEqual((await node.next("unsubscribed"))["code"], 0)
        self.gateway.groups.closeUser("ann", "gone", code=3503)
        self.assertEqual(await node.next("disconnected"), {"code": 3503, "reason": "gone"})

    async def test_refresh(self) -> None:
        """It gets a new token when its own ends, be that before it has connected."""
        node = await self.connect(self.token("ann", 1))
        node.do("token", self.token("ann"))
        await node.next("getToken")
        node.do("subscribe", "chat:1")
        await node.next("subscribed")
        self.assertEqual(len(self.group.members), 1)

    async def test_restart(self) -> None:
        """Another server has another history: the client is told that it has missed something."""
        node = await self.connect(self.token("ann"))
        node.do("subscribe", "chat:1")
        self.group.publish(0)
        await node.next("subscribed")
        self.group.publish(1)
        await node.next("publication")
        await self.gateway.groups.stopService()
        self.gateway.groups.startService()
        node.do("cut")
        self.group.publish(2)
        subscribed = await node.next("subscribed")
        self.assertEqual((subscribed["wasRecovering"], subscribed["recovered"]), (True, False))
        self.group.publish(3)
        self.assertEqual((await node.next("publication"))["data"], 3)


class PythonTests(InteropCase):
    """centrifuge-python, on a loop in a thread."""

    async def test_all(self) -> None:
        """It subscribes, publishes, asks, loses its connection, recovers, and is sent away."""
        try:
            import centrifuge
        except ImportError:
            raise SkipTest("there is no centrifuge-python: pip install centrifuge-python") from None
        await self.serve()
        there: Any = reactor

        def publish(*data: Any) -> None:
            for each in data:
                there.callFromThread(self.group.publish, each)

        async def talk() -> list[Any]:
            said: asyncio.Queue[Any] = asyncio.Queue()

            class Client(centrifuge.ClientEventHandler):  # type: ignore[misc,unused-ignore]
                async def on_disconnected(self, context: Any) -> None:
                    said.put_nowait(("disconnected", context.code, context.reason))

            class Subscription(centrifuge.SubscriptionEventHandler):  # type: ignore[misc,unused-ignore]
                async def on_subscribed(self, context: Any) -> None:
                    said.put_nowait(("subscribed", context.was_recovering, context.recovered))

                async def on_publication(self, context: Any) -> None:
                    said.put_nowait((context.pub.data, context.pub.offset))

            options = {"min_reconnect_delay": 0.01, "max_reconnect_delay": 0.05}
            client = centrifuge.Client(self.url, token=self.token("bob"), events=Client(), **options)
            channel = client.new_subscription("chat:1", events=Subscription())
            await client.connect()
            await channel.subscribe()
            await channel.ready()
            await channel.publish({"a": 1})
            heard = [await said.get(), await said.get()]
            heard.append([each.data for each in (await channel.history(limit=10)).publications])
            heard.append((await channel.presence_stats()).num_users)
            heard.append([each.user for each in (await channel.presence()).clients.values()])
            await client._conn.close()
            publish(1, 2)
            heard += [await said.get() for _ in range(3)]
            there.callFromThread(self.gateway.groups.closeUser, "bob", "gone", code=3503)
            heard.append(await said.get())
            return heard

        heard = await deferToThread(lambda: asyncio.run(asyncio.wait_for(talk(), 30)))
        self.assertEqual(
            heard,
            [
                ("subscribed", False, False),
                ({"a": 1}, 1),
                [{"a": 1}],
                1,
                ["bob"],
                ("subscribed", True, True),
                (1, 2),
                (2, 3),
                ("disconnected", 3503, "gone"),
            ],
        )
