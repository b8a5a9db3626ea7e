"""Groups of two processes over Redis: what members get."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from getty_tx.codecs import LengthCodec
from getty_tx.groups import EngineDownError, Groups, Namespace
from getty_tx.groups.redis import RedisEngine, redisEngine
from getty_tx.testing import Network, RecordingListener
from tests.groups.test_redis_real import FAST, RedisCase
from tests.support.certificates import Authority
from tests.support.redisserver import Listening, reactor


class Site:
    """One process: groups, and members on a network in memory."""

    def __init__(self, endpoint: str) -> None:
        self.network = Network()
        self.engine = RedisEngine(endpoint, **FAST)
        spaces = {
            "chat": Namespace(historySize=100, historySeconds=60.0, presence=True, joinLeave=True),
            "user": Namespace(),
        }
        self.groups = Groups(self.engine, spaces, reactor=reactor)
        self.groups.startService()
        self.pairs: list[Any] = []

    def newSession(self, session: Any) -> None:
        session.codec = LengthCodec()
        session.listener = RecordingListener()

    async def member(self, name: str, **options: Any) -> tuple[Any, RecordingListener, Any]:
        """A session that has joined, what its peer hears, and what joining has brought."""
        listener = RecordingListener()

        def newClientSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = listener

        network = self.network
        pair = network.connect(network.serverFactory(self.newSession), network.clientFactory(newClientSession))
        self.pairs.append(pair)
        pair.flush()
        joined = await self.groups.group(name).join(pair.server, **options)
        return pair.server, listener, joined


class GroupsTests(RedisCase):
    def site(self) -> Site:
        """One more process."""
        site = Site(self.server.endpoint)
        self.addCleanup(site.groups.stopService)
        return site

    async def until(self, condition: Any, *sites: Site) -> None:
        """Wait, while bytes arrive."""
        while not condition():
            await deferLater(reactor, 0.002)
            for site in sites:
                for pair in site.pairs:
                    pair.flush()

    async def test_twoProcesses(self) -> None:
        """One order for all members; an outage of one, and one of Redis; resuming in the other process."""
        one, other = self.site(), self.site()
        await gatherResults([one.groups.whenReady(), other.groups.whenReady()])
        _, heard, _ = await one.member("chat:1", user="ann")
        _, alsoHeard, _ = await other.member("chat:1", user="bob")
        group, same = one.groups.group("chat:1"), other.groups.group("chat:1")
        positions = await gatherResults(
            [
                each.publish(b"%d %s" % (number, who))
                for number in range(10)
                for each, who in ((group, b"a"), (same, b"b"))
            ]
        )
        await self.until(lambda: len(heard.packages) == len(alsoHeard.packages) == 20, one, other)
        self.assertEqual(heard.packages, alsoHeard.packages)
        self.assertEqual(await group.count(), 2)
        self.assertEqual(sorted(each.user for each in await same.presence()), ["ann", "bob"])

        self.server.cut(f"getty-{other.engine.node}")
        await group.publish(b"while the other was away")
        await self.until(lambda: alsoHeard.packages[-1] == b"while the other was away", one, other)
        self.assertEqual(heard.packages, alsoHeard.packages)

        middle = sorted(positions, key=lambda position: position.offset)[9]
        _, resumed, joined = await other.member("chat:1", since=middle)
        await self.until(lambda: len(resumed.packages) == 11, one, other)
        self.assertEqual((joined.recovered, joined.missed), (True, 11))
        self.assertEqual(resumed.packages, heard.packages[10:])

        self.server.kill()
        await self.until(lambda: not (one.groups.isUp or other.groups.isUp))
        await self.assertFailure(group.publish(b"lost"), EngineDownError)
        self.server.start()
        await self.until(lambda: one.groups.isUp and other.groups.isUp)
        # Both have asked for what they have missed, and have their answer before this one.
        await gatherResults([group.history(), same.history()])
        await same.publish(b"again")
        await self.until(
            lambda: heard.packages[-1] == alsoHeard.packages[-1] == resumed.packages[-1] == b"again", one, other
        )
        self.assertEqual(heard.packages, alsoHeard.packages)
        _, _, joined = await one.member("chat:1", since=middle)
        self.assertFalse(joined.recovered)

    async def test_exclusive(self) -> None:
        """A user who comes to another machine is closed on the first."""
        one, other = self.site(), self.site()
        await gatherResults([one.groups.whenReady(), other.groups.whenReady()])
        session, _, _ = await one.member("user:7", exclusive=True)
        await one.groups.sendTo("7", b"hello")
        later, heard, _ = await other.member("user:7", exclusive=True)
        await self.until(lambda: session.isClosed, one, other)
        await one.groups.sendTo("7", b"hello again")
        await self.until(lambda: heard.packages, one, other)
        self.assertEqual((heard.packages, later.isClosed), ([b"hello again"], False))


class TLSTests(RedisCase):
    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        certificate, key = self.authority.issue(["127.0.0.1"])
        with socket.create_server(("127.0.0.1", 0)) as sock:
            # Redis does not tell which port it has chosen.
            self.port = sock.getsockname()[1]
        paths = [os.path.abspath(each) for each in (certificate, key, self.authority.path)]
        files = [*zip(("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file"), paths, strict=True)]
        self.more = (
            "--tls-port",
            str(self.port),
            "--tls-auth-clients",
            "no",
            *(word for each in files for word in each),
        )
        super().setUp()

    async def test_tls(self) -> None:
        """It is verified, and carries all."""
        for roots, says in ((self.authority.path, "up"), (Authority(self.mktemp()).path, "down")):
            engine = redisEngine(f"rediss://127.0.0.1:{self.port}?trustRoots={roots}")
            user = Listening()
            engine.start(reactor, user)
            self.addCleanup(engine.stop)
            await user.when(says)
        self.assertIn("certificate", str(user.error))
