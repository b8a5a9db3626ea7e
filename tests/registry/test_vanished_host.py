"""A provider whose host vanishes: there is no FIN, its record goes with the lease, and its session not much later."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectionLost, TCPTimedOutError
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.portforward import ProxyFactory
from twisted.trial.unittest import TestCase

from getty_tx import Client, EventListener, Server
from getty_tx.client import following
from getty_tx.codecs import LineCodec
from getty_tx.registry import registryFrom
from tests.support.etcd import SKIP, Etcd
from tests.support.namespace import Host, Running

reactor: Any = _reactor

#: Seconds that a lease of the provider lasts, the least that etcd has.
TTL = 2

#: Milliseconds in place of the 15 s that an orphan's connection may be silent: a test cannot wait so long.
SILENT = 1000


class Listener(EventListener):
    """Of the client: keeps how sessions end."""

    def __init__(self) -> None:
        self.errors: list[tuple[Any, BaseException]] = []

    def onError(self, session: Any, error: BaseException) -> None:
        """A session has failed."""
        self.errors.append((session, error))


class VanishedHostTests(TestCase):
    """A provider in a network namespace, whose link goes down; and one on this side, which stays."""

    timeout = 30
    skip = SKIP

    async def setUp(self) -> None:
        self.host = Host()
        self.addCleanup(self.host.remove)
        self.patch(following, "ORPHAN_TIMEOUT", SILENT)
        self.listener = Listener()
        self.etcd = Etcd(self.mktemp())
        self.addCleanup(self.etcd.kill)
        starting = Deferred.fromCoroutine(self.etcd.start())
        # It listens on the loopback interface only.
        way = TCP4ServerEndpoint(reactor, 0, interface=self.host.here)
        forward = await way.listen(ProxyFactory("127.0.0.1", self.etcd.port))
        self.addCleanup(forward.stopListening)
        registry = f"etcd:{self.host.here}:{forward.getHost().port}:ttl={TTL}"
        self.provider: Running = self.host.run("tests.support.namespace", self.host.address, registry)
        self.addCleanup(self.provider.kill)
        await starting

    def newSession(self, session: Any) -> None:
        """Of the client and of the server here."""
        session.codec = LineCodec()
        session.listener = self.listener

    async def until(self, condition: Any) -> None:
        """Wait until something is true of what nobody reports."""
        while not condition():
            if self.provider.ended.called:
                self.fail(f"the provider has ended: {self.provider.said.decode()}")
            await deferLater(reactor, 0.01)

    async def test_vanished(self) -> None:
        """Its session is used until the record is gone and longer, and ended by the system; the other one stays."""
        registry = registryFrom(f"etcd:127.0.0.1:{self.etcd.port}")
        server = Server(self.newSession, "tcp:0:interface=127.0.0.1", service="echo", registry=registry, leaveTime=0)
        server.startService()
        self.addCleanup(server.stopService)
        client = Client(self.newSession, "service:echo", registry=registry)
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady(2)
        (group,) = [each for each in client.providers if self.host.address in each.destination]
        (session,) = group.sessions

        # What an application does: nothing ends a connection over which nothing is sent.
        sending = LoopingCall(lambda: [each.writePkg(b"x") for each in client.sessions])
        sending.start(0.05)
        self.addCleanup(sending.stop)
        self.host.vanish()
        await self.until(lambda: group.state != "open")
        self.assertEqual((group.state, group.sessions), ("orphaned", [session]))
        self.assertIn(session, [client.pick() for _ in range(2)])
        self.assertEqual(self.listener.errors, [])

        await self.until(lambda: session.isClosed)
        [(failed, error)] = self.listener.errors
        self.assertIs(failed, session)
        self.assertIsInstance(error, (TCPTimedOutError, ConnectionLost))
        # Nobody names it any more, so that it is not dialed either.
        self.assertNotIn(group, client.providers)
        self.assertEqual([each.state for each in client.providers], ["open"])
        self.assertFalse(self.provider.ended.called)
