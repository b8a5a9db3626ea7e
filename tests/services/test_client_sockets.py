"""Client on real sockets."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.errors import HandshakeTimeoutError, NotReadyError
from getty_tx.listener import EventListener
from getty_tx.tls import serverPolicy
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from tests.support.certificates import Authority


class Echo(EventListener):
    """Sends every package back."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        session.writePkg(pkg)


class Events(EventListener):
    """Records the sessions, and fires a Deferred with the next event."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []
        self.waiting: Deferred[Any] = Deferred()

    def _tell(self, event: Any) -> None:
        waiting, self.waiting = self.waiting, Deferred()
        waiting.callback(event)

    def onOpen(self, session: Any) -> None:
        self.sessions.append(session)
        self._tell("open")

    def onMessage(self, session: Any, pkg: Any) -> None:
        self._tell(pkg)

    def onClose(self, session: Any) -> None:
        self._tell("close")

    def newSession(self, session: Any) -> None:
        """Configures a factory's session."""
        session.codec = LineCodec()
        session.listener = self
        session.waitTime = 0.5


def newEchoSession(session: Any) -> None:
    """Configures a server's session."""
    session.codec = LineCodec()
    session.listener = Echo()


def sockets() -> int:
    """How many sockets this process has open. (The reactor also opens other descriptors when it first needs them.)"""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        # The descriptor that listed the directory is closed.
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


class SocketCase(TestCase):
    """A server on loopback that can be killed and restarted on its port."""

    timeout = 30

    def setUp(self) -> None:
        self.factory = SessionServerFactory(newEchoSession)
        self.port = 0
        self.listening: Any = None
        self.listen()
        self.addCleanup(self.kill)

    def listen(self) -> None:
        self.listening = reactor.listenTCP(self.port, self.factory, interface="127.0.0.1")
        self.port = self.listening.getHost().port

    async def kill(self) -> None:
        """Stop listening and drop every connection, as at the end of a process."""
        listening, self.listening = self.listening, None
        if listening is not None:
            await listening.stopListening()
        for session in list(self.factory.sessions):
            session.abort()
        await self.factory.context.whenIdle()

    def pool(self, newSession: Any, endpoint: Any = None, **options: Any) -> Client:
        endpoint = endpoint or f"tcp:127.0.0.1:{self.port}"
        client = Client(newSession, endpoint, **{"reconnectInterval": 0.005, **options})
        self.addCleanup(client.close)
        client.startService()
        return client


class PoolTests(SocketCase):
    """Killed servers, and what is left behind."""

    async def test_serverRestarts(self) -> None:
        """A pool of 8 whose server is killed and restarted reconnects all sessions, without polling."""
        events = Events()
        client = self.pool(events.newSession, number=8)
        await client.whenReady(8)
        for _ in range(3):
            await self.kill()
            await deferLater(reactor, 0.03)
            self.assertEqual(client.sessions, [])
            self.listen()
            sessions = await client.whenReady(8, timeout=5)
            self.assertEqual(len({session.localAddr.port for session in sessions}), 8)
            client.pick().writePkg(b"again")
            while await events.waiting != b"again":
                pass
        # If all sessions are open, only their timing wheel is scheduled.
        self.assertEqual(len([c for c in IReactorTime(reactor).getDelayedCalls() if "LoopingCall" not in str(c)]), 1)

    async def test_several(self) -> None:
        """Of two servers one is killed: the other one is picked, and both again when it is back."""
        events = Events()
        other = reactor.listenTCP(0, SessionServerFactory(newEchoSession), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        endpoints = [f"tcp:127.0.0.1:{self.port}", f"tcp:127.0.0.1:{other.getHost().port}"]
        client = self.pool(events.newSession, endpoints)
        await client.whenReady(2)
        await self.kill()
        while len(client.sessions) > 1:
            await events.waiting
        self.assertEqual({client.pick().remoteAddr.port for _ in range(4)}, {other.getHost().port})
        client.pick().writePkg(b"works")
        while await events.waiting != b"works":
            pass
        self.listen()
        await client.whenReady(2, timeout=5)
        self.assertEqual(len({client.pick().remoteAddr.port for _ in range(4)}), 2)

    async def test_manyRestarts(self) -> None:
        """After 200 lost sessions no timer, no socket and no reference is left."""
        events = Events()
        gone: list[weakref.ref[Any]] = []
        outside = sockets()
        client = Client(events.newSession, f"tcp:127.0.0.1:{self.port}", 2, 0.005)
        client.startService()
        await client.whenReady(2)
        before = sockets()
        for _ in range(100):
            sessions = await client.whenReady(2, timeout=5)
            for session in sessions:
                session.writePkg(b"here")
                while await events.waiting != b"here":
                    pass
            for session in list(self.factory.sessions):
                session.abort()
            for session in sessions:
                gone += [weakref.ref(each) for each in (session, session.connection)]
                while not session.isClosed:
                    await events.waiting
        await client.whenReady(2, timeout=5)
        self.assertEqual(sockets(), before)
        gone += [weakref.ref(each) for each in (client, client._context, *client.sessions, *client._slots)]
        await client.close()
        await self.factory.context.whenIdle()
        # Leave the stack on which the last connection ended.
        await deferLater(reactor, 0)
        events.sessions.clear()
        del sessions, session, client
        gc.collect()
        self.assertEqual([ref() for ref in gone if ref() is not None], [])
        self.assertEqual((len(gone), sockets()), (406, outside))

    async def test_manyStarts(self) -> None:
        """Nothing is left after many starts and stops of the service, also during attempts to connect."""
        client = self.pool(Events().newSession, number=2)
        before = sockets()
        await client.close()
        for i in range(50):
            client.startService()
            if i % 2:
                await client.whenReady(1 + i % 4 // 2, timeout=5)
            await client.stopService()
            self.assertEqual(client.sessions, [])
        await self.factory.context.whenIdle()
        self.assertLessEqual(sockets(), before)

    async def test_unix(self) -> None:
        """A unix socket."""
        path = self.mktemp()
        listening = await serverFromString(reactor, f"unix:{path}").listen(self.factory)
        self.addCleanup(listening.stopListening)
        client = self.pool(Events().newSession, f"unix:{path}")
        (session,) = await client.whenReady(timeout=5)
        self.assertEqual(session.connection.kind, "UNIX_CLIENT")
        await client.close()


class HandshakeTests(SocketCase):
    """lastError has the reason for a failed handshake."""

    async def listenTLS(self, **options: Any) -> tuple[int, Authority]:
        """A TLS server."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        policy = serverPolicy(certificate, key, **options)
        listening = reactor.listenSSL(0, self.factory, policy, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return listening.getHost().port, authority

    async def reason(self, client: Client) -> str:
        """The reason why there is no session."""
        error = await self.assertFailure(client.whenReady(timeout=0.5), NotReadyError)
        return str(error.__cause__)

    async def test_certificates(self) -> None:
        """The reason names an untrusted authority, or the missing client certificate."""
        port, authority = await self.listenTLS()
        stranger = Authority(self.mktemp(), "Stranger")
        client = self.pool(Events().newSession, f"tls:localhost:{port}:trustRoots={stranger.path}", reconnectAttempts=1)
        self.assertIn("certificate", await self.reason(client))
        client = self.pool(Events().newSession, f"tls:localhost:{port}:trustRoots={authority.path}")
        (session,) = await client.whenReady(timeout=5)
        self.assertEqual(session.connection.kind, "TLS_CLIENT")
        await client.close()
        port, authority = await self.listenTLS(trustRoot=stranger.path)
        client = self.pool(Events().newSession, f"tls:localhost:{port}:trustRoots={authority.path}")
        await client.whenReady(timeout=5)
        # With TLS 1.3 the server refuses when the session of the client is already open.
        await deferLater(reactor, 0.2)
        self.assertIn("certificate", str(client.lastError))
        await client.close()

    async def silent(self) -> int:
        """A server that sends nothing."""
        listening = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return listening.getHost().port

    async def test_stalled(self) -> None:
        """A handshake that stalls is a failed attempt after handshakeTimeout."""
        description = f"tls:localhost:{await self.silent()}"
        client = self.pool(Events().newSession, description, handshakeTimeout=0.1, reconnectAttempts=2)
        error = await self.assertFailure(client.whenReady(timeout=5), NotReadyError)
        self.assertIsInstance(error.__cause__, HandshakeTimeoutError)

    async def test_closedMeanwhile(self) -> None:
        """close() drops a handshake that is under way."""
        description = f"tls:localhost:{await self.silent()}"
        client = self.pool(Events().newSession, description, handshakeTimeout=20)
        while not client._context.handshaking:
            await deferLater(reactor, 0.01)
        await client.close()


class FactoryTests(SocketCase):
    """SessionClientFactory with Twisted's own calls."""

    async def test_connectTCP(self) -> None:
        """Each lost session is replaced once, until stopTrying()."""
        events = Events()
        factory = SessionClientFactory(events.newSession, reconnectInterval=0.005)
        connector = reactor.connectTCP("127.0.0.1", self.port, factory)
        for i in range(3):
            self.assertEqual(await events.waiting, "open")
            self.assertEqual(len(events.sessions), i + 1)
            await deferLater(reactor, 0.02)
            for session in list(self.factory.sessions):
                session.abort()
            self.assertEqual(await events.waiting, "close")
        self.assertEqual(await events.waiting, "open")
        factory.stopTrying()
        self.assertIs(events.sessions[-1].service, factory)
        events.sessions[-1].close()
        self.assertEqual(await events.waiting, "close")
        await deferLater(reactor, 0)
        self.assertEqual((connector.state, len(events.sessions)), ("disconnected", 4))
        await factory.context.whenIdle()

    async def test_connectTCPClosed(self) -> None:
        """A session that closes itself is the last one."""
        events = Events()
        connector = reactor.connectTCP("127.0.0.1", self.port, SessionClientFactory(events.newSession))
        await events.waiting
        events.sessions[0].close()
        await events.waiting
        await deferLater(reactor, 0)
        self.assertEqual(connector.state, "disconnected")

    async def test_endpoint(self) -> None:
        """With endpoint.connect a session is not replaced."""
        events = Events()
        factory = SessionClientFactory(events.newSession, reconnectInterval=0.005)
        protocol = await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port).connect(factory)
        self.assertIs(protocol.session, events.sessions[0])
        await deferLater(reactor, 0.02)
        for session in list(self.factory.sessions):
            session.abort()
        self.assertEqual(await events.waiting, "close")
        await deferLater(reactor, 0.02)
        self.assertEqual(len(events.sessions), 1)
