"""Server on real sockets: listening, refusals, and stopping."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint, clientFromString, serverFromString
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx.codecs import LengthCodec
from getty_tx.endpoints import BACKLOG, clientEndpoint, serverEndpoint
from getty_tx.errors import GettyError, SettingError
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from getty_tx.transports import factories
from tests.support.certificates import selfSigned

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Peer(Protocol):
    """Collects the bytes received, and fires a Deferred at the end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended: Deferred[bytearray] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.data)


class ServerCase(TestCase):
    """A server that is stopped after the test."""

    def serve(self, *endpoints: Any, listener: Any = None, **options: Any) -> Server:
        self.listener = RecordingListener() if listener is None else listener

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = self.listener

        server = Server(newSession, *(endpoints or (LOOPBACK,)), **options)
        server.startService()
        self.addCleanup(server.stopService)
        return server

    async def dial(self, address: Any) -> Peer:
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
        peer: Peer = await endpoint.connect(Factory.forProtocol(Peer))
        return peer

    async def until(self, condition: Any) -> None:
        for _ in range(2000):
            if condition():
                return
            await deferLater(reactor, 0.001)
        self.fail("it did not come about")


class ListeningTests(ServerCase):
    """Endpoints and their addresses."""

    async def test_addresses(self) -> None:
        """The addresses are in the order of the endpoints, with descriptions and objects mixed."""
        path = self.mktemp()
        server = self.serve(LOOPBACK, f"unix:{path}", TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        first, second, third = await server.whenListening()
        self.assertEqual((first.host, third.host), ("127.0.0.1", "127.0.0.1"))
        self.assertEqual(second.name, os.fsencode(path))
        self.assertNotEqual(first.port, third.port)

    async def test_takenPort(self) -> None:
        """If one endpoint cannot listen, whenListening fails, and no endpoint keeps listening."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            free = socket.create_server(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            server = self.serve(f"tcp:{port}:interface=127.0.0.1", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
            error = await self.assertFailure(server.whenListening(), CannotListenError)
            self.assertIn("in use", str(error))
        await server.stopService()
        socket.create_server(("127.0.0.1", port)).close()

    async def test_stopBeforeListening(self) -> None:
        """whenListening fails if the server is stopped first."""
        server = Server(lambda session: None, LOOPBACK)
        waiting = server.whenListening()
        server.startService()
        await waiting
        await server.stopService()
        again = server.whenListening()
        self.assertNoResult(again)
        server.startService()
        await again
        await server.stopService()

    def test_settings(self) -> None:
        """Invalid settings are refused before anything listens."""
        for endpoints, options in (
            ((), {}),
            (("nosuch:1",), {}),
            (("tcp:x",), {}),
            (("tcp:70000",), {}),
            ((17,), {}),
            ((LOOPBACK,), {"maxSessions": 0}),
            ((LOOPBACK,), {"handshakeTimeout": -1}),
        ):
            self.assertRaises(SettingError, Server, lambda session: None, *endpoints, **options)

    async def test_restart(self) -> None:
        """A stopped server can be started again."""
        server = self.serve()
        for _ in range(2):
            (address,) = await server.whenListening()
            peer = await self.dial(address)
            peer.transport.write(b"\0\0\0\1a")
            await self.until(lambda: ("message", b"a") in self.listener.events)
            self.assertEqual(len(server.sessions), 1)
            self.listener.events.clear()
            stopped = server.stopService()
            await peer.ended
            await stopped
            self.assertEqual(self.listener.events, [("close",)])
            self.assertEqual(len(server.sessions), 0)
            server.startService()


class RefusalTests(ServerCase):
    """Refused connections."""

    async def test_maxSessions(self) -> None:
        """Connections above maxSessions are dropped and counted; after one has ended another is accepted."""
        server = self.serve(maxSessions=1)
        (address,) = await server.whenListening()
        first = await self.dial(address)
        await self.until(lambda: len(server.sessions) == 1)
        second = await self.dial(address)
        self.assertEqual(await second.ended, b"")
        self.assertEqual(server.refused, 1)
        first.transport.loseConnection()
        await self.until(lambda: not server.sessions)
        third = await self.dial(address)
        await self.until(lambda: len(server.sessions) == 1)
        third.transport.loseConnection()
        await third.ended

    async def test_maxSessionsWithTLS(self) -> None:
        """The same with TLS, whose factories do not accept None for a protocol."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        server = self.serve(f"ssl:0:certKey={certificate}:privateKey={key}:interface=127.0.0.1", maxSessions=1)
        (address,) = await server.whenListening()
        first = await self.dial(address)
        await self.until(lambda: server._factory.context.connections == 1)
        second = await self.dial(address)
        await second.ended
        self.assertEqual(server.refused, 1)
        first.transport.abortConnection()
        await first.ended
        await self.until(lambda: server._factory.context.connections == 0)

    async def test_maxSessionsBesideUDP(self) -> None:
        """The socket of a UDP server does not count as a session."""
        server = self.serve(LOOPBACK, "udp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1", maxSessions=1)
        web = (await server.whenListening())[2]
        peer = await self.dial(web)
        peer.transport.write(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await self.until(lambda: b"\r\n\r\n" in peer.data)
        self.assertTrue(peer.data.startswith(b"HTTP/1.1 101 "), peer.data)
        peer.transport.abortConnection()
        await peer.ended

    async def test_descriptors(self) -> None:
        """Connections are refused while hardly any descriptor is left, and accepted again afterwards."""
        limit = [1 << 30]
        self.patch(factories, "_descriptorLimit", lambda: limit[0])
        server = self.serve()
        (address,) = await server.whenListening()
        # The connection that detects it is still served.
        limit[0] = 0
        first = await self.dial(address)
        first.transport.write(b"\0\0\0\1a")
        await self.until(lambda: ("message", b"a") in self.listener.events)
        second = await self.dial(address)
        await second.ended
        self.assertEqual(server.refused, 1)
        limit[0] = 1 << 30
        third = await self.dial(address)
        await self.until(lambda: len(server.sessions) == 2)
        for peer in (first, third):
            peer.transport.loseConnection()
            await peer.ended

    async def test_newSessionRefuses(self) -> None:
        """If newSession raises, there is no event, the peer is disconnected, and the refusal is counted."""

        def newSession(session: Any) -> None:
            raise ValueError("not you")

        server = Server(newSession, LOOPBACK)
        server.startService()
        self.addCleanup(server.stopService)
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        self.assertEqual(await peer.ended, b"")
        self.assertEqual(server.refused, 1)
        self.assertEqual(len(server.sessions), 0)

    async def test_handshakeTimeout(self) -> None:
        """A peer that connects and sends nothing is dropped after handshakeTimeout."""
        certificate, key = selfSigned(self.mktemp(), ["localhost"])
        server = self.serve(f"ssl:0:certKey={certificate}:privateKey={key}:interface=127.0.0.1", handshakeTimeout=0.01)
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        await peer.ended
        self.assertEqual(self.listener.events, [])


class StopTests(ServerCase):
    """stopService."""

    async def test_flushes(self) -> None:
        """Pending bytes are sent before the sessions end, and the Deferred fires after the last onClose."""
        size = 20_000_000

        def reply(session: Any, pkg: bytes) -> None:
            session.maxPending = 2 * size
            # A stop waits no longer, and this machine may have other work.
            session.waitTime = 60
            session.writeBytes(bytes(size))

        server = self.serve(listener=RecordingListener(on={"message": reply}))
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        peer.transport.write(b"\0\0\0\1a")
        await self.until(lambda: ("message", b"a") in self.listener.events)
        await server.stopService()
        self.assertEqual(self.listener.events[-1], ("close",))
        self.assertEqual(len(await peer.ended), size)

    async def test_waitTime(self) -> None:
        """A peer that does not read is dropped after waitTime."""

        def reply(session: Any, pkg: bytes) -> None:
            session.waitTime = 0.05
            session.writeBytes(bytes(30_000_000))

        server = self.serve(listener=RecordingListener(on={"message": reply}))
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        peer.transport.write(b"\0\0\0\1a")
        peer.transport.pauseProducing()
        await self.until(lambda: ("message", b"a") in self.listener.events)
        await server.stopService()
        self.assertEqual(self.listener.events[-1], ("close",))
        peer.transport.resumeProducing()
        await peer.ended


class StopListeningTests(ServerCase):
    """stopListening."""

    async def test_sessionsGoOn(self) -> None:
        """No connection is accepted any more, the server is not ready, and its sessions go on."""
        server = self.serve(listener=RecordingListener(on={"message": lambda session, pkg: session.writePkg(pkg)}))
        (address,) = await server.whenListening()
        peer = await self.dial(address)
        await self.until(lambda: server.sessions)
        self.assertTrue(server.isReady)
        server.stopListening()
        self.assertFalse(server.isReady)
        await self.assertFailure(Deferred.fromCoroutine(self.dial(address)), ConnectionRefusedError)
        peer.transport.write(b"\0\0\0\1a")
        await self.until(lambda: peer.data == b"\0\0\0\1a")
        await server.stopService()
        server.startService()
        await server.whenListening()
        self.assertTrue(server.isReady)


class EndpointTests(SynchronousTestCase):
    """Descriptions."""

    def test_backlog(self) -> None:
        """Every description that can have a backlog gets one, unless it has one already."""
        for description, expected in (
            ("tcp:1", BACKLOG),
            ("tcp:port=1", BACKLOG),
            ("tcp:1:interface=127.0.0.1", BACKLOG),
            ("tcp:1:backlog=7", 7),
            ("unix:/x", BACKLOG),
            (r"unix:/x\:y", BACKLOG),
        ):
            endpoint: Any = serverEndpoint(description, None)
            # An endpoint has no public name for its backlog. If this one disappears, descriptions still work.
            self.assertEqual(endpoint._backlog, expected, description)
        self.assertEqual(serverEndpoint("haproxy:tcp:1", None)._wrappedEndpoint._backlog, BACKLOG)

    def test_serverErrors(self) -> None:
        """Errors contain the description and the reason."""
        for description, text in (
            ("", "such as 'tcp:8090'"),
            ("nosuch:1", "nosuch"),
            ("tcp:abc", "abc"),
            ("tcp:65536", "65536"),
            ("ssl:1:certKey=/no/such.pem:privateKey=/no/such.pem", "/no/such.pem"),
            ("tls:/no/such:1", "/no/such"),
            ("systemd:domain=INET:index=0", "LISTEN_FDS"),
        ):
            error = self.assertRaises(SettingError, serverEndpoint, description, None)
            self.assertIn(text, str(error))
            self.assertIn(repr(description), str(error))

    def test_clientErrors(self) -> None:
        """The same for clients; ``ssl:``, which does not verify the server, is refused."""
        for description, text in (
            ("ssl:localhost:1", "tls:HOST:PORT"),
            ("tls:localhost", "a host and a port"),
            ("tls:localhost:1:nosuch=2", "nosuch"),
            ("tls:localhost:1:trustRoots=/no/such", "/no/such"),
            ("tcp:localhost:65536", "65536"),
            (r"ws:endpoint=ssl\:localhost\:1", "tls:HOST:PORT"),
            ("nosuch:1", "nosuch"),
        ):
            error = self.assertRaises(SettingError, clientEndpoint, description, reactor)
            self.assertIn(text, str(error))
            self.assertIsInstance(error, GettyError)
            self.assertIn(repr(description), str(error))

    def test_asTwisted(self) -> None:
        """Other descriptions are passed to Twisted."""
        self.assertIs(type(serverEndpoint("tcp:1", None)), type(serverFromString(None, "tcp:1")))


class EmbeddingTests(TestCase):
    """The factory without a Server, in listenTCP and similar calls."""

    @inlineCallbacks
    def test_listenTCP(self) -> Any:
        """listenTCP with a SessionServerFactory; the factory is the session's service."""
        listener = RecordingListener(on={"message": lambda session, pkg: session.writePkg(pkg)})
        services = []

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = listener
            services.append(session.service)

        factory = factories.SessionServerFactory(newSession)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        peer = yield clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}").connect(
            Factory.forProtocol(Peer)
        )
        peer.transport.write(b"\0\0\0\1a")
        peer.transport.loseWriteConnection()
        self.assertEqual((yield peer.ended), b"\0\0\0\1a")
        self.assertEqual(services, [factory])
        yield port.stopListening()
        yield factory.context.whenIdle()

    @inlineCallbacks
    def test_adoptStreamConnection(self) -> Any:
        """A connected socket that was accepted by another program."""
        listener = RecordingListener(on={"message": lambda session, pkg: session.writePkg(pkg)})

        def newSession(session: Any) -> None:
            session.codec = LengthCodec()
            session.listener = listener

        factory = factories.SessionServerFactory(newSession)
        port = socket.create_server(("127.0.0.1", 0))
        ours = socket.create_connection(port.getsockname())
        theirs, _ = port.accept()
        theirs.setblocking(False)
        reactor.adoptStreamConnection(theirs.fileno(), socket.AF_INET, factory)
        theirs.close()
        port.close()
        ours.sendall(b"\0\0\0\1a")
        ours.shutdown(socket.SHUT_WR)
        yield factory.context.whenIdle()
        self.assertEqual(ours.recv(10), b"\0\0\0\1a")
        ours.close()
        self.assertEqual(listener.events, [("open",), ("message", b"a"), ("close",)])
