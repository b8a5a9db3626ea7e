"""UDP on real sockets, over loopback."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.endpoints import clientEndpoint, serverEndpoint
from getty_tx.errors import NotReadyError, SelfConnectError, SettingError
from getty_tx.listener import EventListener
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from getty_tx.transports.udp.endpoints import UDPClientEndpoint


class Echo(EventListener):
    """Sends every package back."""

    def onMessage(self, session: Any, pkg: Any) -> None:
        session.writePkg(pkg)


class Case(TestCase):
    """Servers and clients that are stopped after the test."""

    timeout = 20

    def serve(self, description: str = "udp:0:interface=127.0.0.1", listener: Any = None, **options: Any) -> Server:
        def newSession(session: Any) -> None:
            session.codec = LineCodec()
            session.listener = listener or Echo()

        server = Server(newSession, description, **options)
        server.startService()
        self.addCleanup(server.stopService)
        return server

    def dial(self, endpoint: Any, number: int = 1, on: Any = None, **options: Any) -> Client:
        self.heard = RecordingListener(on)

        def newSession(session: Any) -> None:
            session.codec = LineCodec()
            session.listener = self.heard

        client = Client(newSession, endpoint, number, 0.05, **options)
        client.startService()
        self.addCleanup(client.stopService)
        return client

    async def until(self, condition: Any) -> None:
        """Wait until a condition is true; the test's time-out is the limit."""
        while not condition():
            await deferLater(reactor, 0.01)


class WholeTests(Case):
    """A server and a pool."""

    async def test_echo(self) -> None:
        """A pool and a server of each kind. When the server restarts, the pool notices, and reconnects."""
        for sessions in ("one", "peer"):
            server = self.serve(f"udp:0:interface=127.0.0.1:sessions={sessions}")
            (address,) = await server.whenListening()
            description = f"udp:localhost:{address.port}:probeTimeout=0.05"
            client = self.dial(description, 3)
            for session in await client.whenReady(3):
                session.writePkg(b"hello")
            await self.until(lambda: self.heard.packages == [b"hello"] * 3)
            self.assertEqual(len(server.sessions), 1 if sessions == "one" else 3)
            await server.stopService()
            for session in client.sessions:
                session.writePkg(b"anybody?")
            await self.until(lambda client=client: not client.sessions)
            self.assertIsInstance(client.lastError, ConnectionRefusedError)
            again = self.serve(f"udp:{address.port}:interface=127.0.0.1:sessions={sessions}")
            await client.whenReady(3)
            await client.close()
            await again.stopService()
            self.assertEqual(self.heard.names.count("open"), self.heard.names.count("close"))

    async def test_ipv6(self) -> None:
        """The same over IPv6."""
        (address,) = await self.serve("udp:0:interface=\\:\\:1").whenListening()
        client = self.dial(f"udp:\\:\\:1:{address.port}:probeTimeout=0.05")
        (session,) = await client.whenReady()
        self.assertIn(f"<->[::1]:{address.port}}}", str(session))
        session.writePkg(b"hello")
        await self.until(lambda: self.heard.packages)

    async def test_refused(self) -> None:
        """A closed port is a failed attempt."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = self.dial(f"udp:127.0.0.1:{port}", reconnectAttempts=2)
        error = await self.assertFailure(client.whenReady(), NotReadyError)
        self.assertIsInstance(error.__cause__, ConnectionRefusedError)

    async def test_selfConnect(self) -> None:
        """A socket that is connected to itself would answer its own probe."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        client = self.dial(UDPClientEndpoint(reactor, "127.0.0.1", port, localPort=port), reconnectAttempts=1)
        error = await self.assertFailure(client.whenReady(), NotReadyError)
        self.assertIsInstance(error.__cause__, SelfConnectError)

    async def test_greeting(self) -> None:
        """A datagram within probeTimeout opens the session at once, and is delivered."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            peer.setblocking(False)
            client = self.dial(f"udp:127.0.0.1:{peer.getsockname()[1]}:probeTimeout=15", connectTimeout=16)
            data = b""
            while not data:
                await deferLater(reactor, 0.01)
                try:
                    data, addr = peer.recvfrom(100)
                except BlockingIOError:
                    continue
            self.assertEqual(data, b"connect-ping")
            peer.sendto(b"one\n", addr)
            peer.sendto(b"two\n", addr)
            await client.whenReady()
            await self.until(lambda: self.heard.packages == [b"one", b"two"])
            await client.close()

    async def test_closedMeanwhile(self) -> None:
        """close() ends a probe that is under way."""
        (address,) = await self.serve().whenListening()
        client = self.dial(f"udp:127.0.0.1:{address.port}:probeTimeout=15", connectTimeout=16)
        await deferLater(reactor, 0.02)
        await client.close()

    async def test_plainSocket(self) -> None:
        """A connected socket of plain Python; its probe has no answer."""
        (address,) = await self.serve().whenListening()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.connect(("127.0.0.1", address.port))
            plain.setblocking(False)
            for data in (b"connect-ping", b"", b"no line", b"hello\n"):
                plain.send(data)
            answer: Deferred[bytes] = Deferred()
            reactor.addReader(reader := _Reader(plain, answer))
            try:
                self.assertEqual(await answer, b"hello\n")
            finally:
                reactor.removeReader(reader)

    async def test_portInUse(self) -> None:
        """whenListening fails with the reason if the port is in use, or if onOpen fails."""
        (address,) = await self.serve().whenListening()
        another = self.serve(f"udp:{address.port}:interface=127.0.0.1")
        await self.assertFailure(another.whenListening(), CannotListenError)
        failing = RecordingListener({"open": lambda session: 1 / 0})
        await self.assertFailure(self.serve(listener=failing).whenListening(), ZeroDivisionError)
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(failing.names, ["open", "error", "close"])

    async def test_maxSessions(self) -> None:
        """The session of a socket does not count for maxSessions."""
        server = self.serve(maxSessions=1)
        await server.whenListening()
        self.assertTrue(server._factory.context.hasRoom())

    async def test_group(self) -> None:
        """A multicast group."""
        server = self.serve("udp:0:interface=127.0.0.1:group=239.255.7.9")
        (address,) = await server.whenListening()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            plain.sendto(b"hello\n", ("239.255.7.9", address.port))
            (session,) = server.sessions
            await self.until(lambda: session.stats.readPkgs)


class _Reader:
    """Waits for one datagram."""

    def __init__(self, handle: socket.socket, answer: Deferred[bytes]) -> None:
        self.handle = handle
        self.answer = answer

    def fileno(self) -> int:
        return self.handle.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> None:
        if not self.answer.called:
            self.answer.callback(self.handle.recv(100))

    def connectionLost(self, reason: Any) -> None:
        """The connection was refused."""


class DescriptionTests(TestCase):
    """Errors of descriptions contain the argument's name and value."""

    def test_server(self) -> None:
        """Descriptions of servers."""
        for description, named in {
            "udp:": "port",
            "udp:x": "port x",
            "udp:65536": "port 65536",
            "udp:1:interface=localhost": "interface=localhost",
            "udp:1:sessions=two": "sessions=two",
            "udp:1:group=10.0.0.1": "group=10.0.0.1",
            "udp:1:group=239.0.0.1:interface=\\:\\:1": "group=239.0.0.1",
            "udp:1:maxPacketSize=0": "maxPacketSize=0",
            "udp:1:maxPacketSize=65536": "maxPacketSize=65536",
            "udp:1:backlog=5": "backlog",
            "udp:1:127.0.0.1": "127.0.0.1",
        }.items():
            self.assertIn(named, str(self.assertRaises(SettingError, serverEndpoint, description, None)), description)

    def test_client(self) -> None:
        """Descriptions of clients."""
        for description, named in {
            "udp:": "HOST:PORT",
            "udp:localhost": "HOST:PORT",
            "udp:localhost:0": "port 0",
            "udp:localhost:1:probeTimeout=0": "probeTimeout=0",
            "udp:localhost:1:probeTimeout=x": "probeTimeout=x",
            "udp:localhost:1:sessions=peer": "sessions",
        }.items():
            error = self.assertRaises(SettingError, clientEndpoint, description, reactor)
            self.assertIn(named, str(error), description)
