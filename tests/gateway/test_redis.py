"""Two gateways with one Redis: a client recovers at the other one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from importlib.util import find_spec
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.gateway import Gateway, GatewaySettings
from tests.support.gateway import CHAT, SECRET, signed

#: Seconds that something may take.
PATIENCE = 20


class Client:
    """A client in a thread."""

    def __init__(self, port: int, user: str) -> None:
        self.socket = connect(f"ws://127.0.0.1:{port}/connection/websocket", open_timeout=PATIENCE)
        self._number = 0
        self._heard: list[Any] = []
        self.ask(connect={"token": signed(sub=user)})

    def next(self) -> Any:
        """The next that comes."""
        while not self._heard:
            self._heard += [json.loads(line) for line in self.socket.recv(PATIENCE).split("\n")]  # type: ignore[arg-type]
        return self._heard.pop(0)

    def ask(self, **command: Any) -> Any:
        """The reply to a command; what comes before it is passed over."""
        self._number += 1
        self.socket.send(json.dumps({"id": self._number, **command}))
        while True:
            found = self.next()
            if found.get("id") == self._number:
                return found

    def pub(self) -> Any:
        """The data of the next publication."""
        while True:
            found = self.next().get("push", {})
            if "pub" in found:
                return found["pub"]["data"]


class RedisTests(TestCase):
    timeout = 60

    def redis(self) -> str:
        """A Redis; what names it."""
        if os.environ.get("GETTY_NO_ENGINES"):
            raise SkipTest("GETTY_NO_ENGINES is set")
        if find_spec("getty_tx.groups.redis") is None or shutil.which("redis-server") is None:
            raise SkipTest("there is no engine for Redis, or no redis-server (Debian: apt-get install redis-server)")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "."]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        late = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            except OSError:
                if time.monotonic() > late:
                    raise
            else:
                return f"redis://127.0.0.1:{port}"

    async def serve(self, url: str) -> tuple[Gateway, int]:
        """A gateway, and its port."""
        try:
            gateway = Gateway(GatewaySettings(secret=SECRET, namespaces={"chat": CHAT}), url)
        except SettingError as error:
            raise SkipTest(str(error)) from None
        gateway.startService()
        self.addCleanup(gateway.stopService)
        router = http.Router()
        gateway.addTo(router)
        server = http.Server(router, "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        await gateway.groups.whenReady()
        return gateway, address.port  # type: ignore[attr-defined]

    async def test_recovery(self) -> None:
        """What is published at one is heard at the other, and recovered there; users are closed at both."""
        signed()
        url = self.redis()
        (first, port), (second, other) = await self.serve(url), await self.serve(url)

        def talk() -> tuple[Client, Client, str]:
            ann, bob = Client(port, "ann"), Client(other, "bob")
            epoch = ann.ask(subscribe={"channel": "chat:1"})["subscribe"]["epoch"]
            bob.ask(subscribe={"channel": "chat:1"})
            bob.ask(publish={"channel": "chat:1", "data": 1})
            self.assertEqual(ann.pub(), 1)
            users = [each["user"] for each in ann.ask(presence={"channel": "chat:1"})["presence"]["presence"].values()]
            self.assertEqual(sorted(users), ["ann", "bob"])
            ann.socket.close()
            return ann, bob, epoch

        _, bob, epoch = await deferToThread(talk)
        for number in (2, 3):
            await first.groups.group("chat:1").publish(number)

        def recover() -> None:
            ann = Client(other, "ann")
            since = {"recover": True, "offset": 1, "epoch": epoch}
            reply = ann.ask(subscribe={"channel": "chat:1", **since})["subscribe"]
            found = [(each["offset"], each["data"]) for each in reply["publications"]]
            self.assertEqual((reply["recovered"], found), (True, [(2, 2), (3, 3)]))

        await deferToThread(recover)
        await first.groups.closeUser("bob", "gone", code=3503)

        def isClosed() -> None:
            try:
                while True:
                    bob.next()
            except ConnectionClosed as closed:
                assert closed.rcvd is not None
                self.assertEqual((closed.rcvd.code, closed.rcvd.reason), (3503, "gone"))

        await deferToThread(isClosed)
        self.assertTrue(second.groups.isUp)
