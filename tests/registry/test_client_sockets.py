"""Calls to providers that a registry names, on real sockets: restarts one by one, orphans, another for a second try."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from getty_tx import rpc
from getty_tx.client.following import ORPHAN_TIMEOUT
from getty_tx.errors import SettingError
from getty_tx.registry import Provider
from tests.rpc.test_services_on_sockets import SocketCase, until
from tests.support.fakeregistry import FakeRegistry


class CallTests(SocketCase):
    """rpc.Client with several servers."""

    async def test_list(self) -> None:
        """Calls go to all of a list; those of one that is killed are made with another one."""
        served = [await self.serve() for _ in range(3)]
        client = self.dial([f"tcp:127.0.0.1:{port}" for _, _, port in served])
        await client.whenReady(3)
        echo = client.service("Echo")
        for i in range(30):
            await echo.say(f"{i}")
        self.assertEqual([len(each.ran) for _, each, _ in served], [10, 10, 10])
        await served[0][0].stopService()
        for i in range(20):
            self.assertEqual(await echo.say(f"{i}"), f"{i}")
        self.assertRaises(SettingError, rpc.Client, ["tcp:a:1", "udp:b:1"])

    async def test_other(self) -> None:
        """A peer that is not to be taken is not, nor another session with its provider."""
        registry = FakeRegistry()
        ports = [(await self.serve())[2] for _ in range(2)]
        client = self.dial("service:echo", registry=registry, number=2)
        registry.tell([Provider("echo", f"tcp:127.0.0.1:{port}") for port in ports])
        await client.whenReady(4)
        first = client.pick()
        assert first is not None
        for _ in range(9):
            second = client.pick(first)
            assert second is not None
            self.assertNotEqual(second.session.provider, first.session.provider)
        registry.tell(changed=[second.session.provider.but(state="leaving")])
        for _ in range(9):
            third = client.pick(first)
            assert third is not None
            self.assertEqual(third.session.provider, first.session.provider)
            self.assertIsNot(third, first)

    async def test_restarts(self) -> None:
        """Three providers that say that they leave are replaced one by one, while calls go on: none fails."""
        registry = FakeRegistry()
        client = self.dial("service:echo", registry=registry)
        served: dict[str, Any] = {}

        async def begin(id: str) -> Provider:
            served[id] = await self.serve()
            return Provider("echo", f"tcp:127.0.0.1:{served[id][2]}", id=id)

        providers = {id: await begin(id) for id in "abc"}
        registry.tell(list(providers.values()))
        await client.whenReady(3)
        echo = client.service("Echo")
        done: list[str] = []
        isOver = False

        async def call() -> None:
            while not isOver:
                done.append(await echo.say("x"))

        calling = [call() for _ in range(4)]
        running = gatherResults([Deferred.fromCoroutine(each) for each in calling])
        for id, provider in providers.items():
            registry.tell(changed=[provider.but(state="leaving", weight=0)])
            await served[id][0].stopService()
            registry.tell(removed=[provider])
            registry.tell([await begin(id)])
            await client.whenReady(3)
            before = len(served[id][1].ran)
            await until(lambda id=id, before=before: len(served[id][1].ran) > before)
        isOver = True
        await running
        self.assertTrue(len(done) > 10)

    async def test_orphan(self) -> None:
        """The record of a serving provider is lost: calls go on; the system watches the connection until it is back."""
        registry = FakeRegistry()
        client = self.dial("service:echo", registry=registry)
        provider = Provider("echo", f"tcp:127.0.0.1:{(await self.serve())[2]}")
        registry.tell([provider])
        (session,) = await client.whenReady()
        registry.tell(removed=[provider])
        handle: Any = session.connection.rawTransport.socket  # type: ignore[attr-defined]
        self.assertEqual(await client.service("Echo").say("still"), "still")
        option = socket.TCP_USER_TIMEOUT
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), ORPHAN_TIMEOUT)
        registry.tell([provider])
        self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), 0)
        self.assertEqual(client.pool.sessions, [session])
