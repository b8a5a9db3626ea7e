"""Behind ``haproxy:``: the session begins when the proxy's header has come."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString, wrapClientTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from getty_tx import Server
from getty_tx.codecs import RawCodec
from getty_tx.testing import RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy
from tests.support.certificates import Authority
from tests.support.memory import configure

PLAIN = "haproxy:tcp:0:interface=127.0.0.1"
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
#: Version 2: PROXY over TCP and IPv4 with addresses and ports, and LOCAL without.
FROM_PEER = V2 + b"\x21\x11" + struct.pack("!H", 12) + b"\xc0\0\2\7\xc0\0\2\x08" + struct.pack("!HH", 1111, 2222)
LOCAL = V2 + b"\x20\x00" + struct.pack("!H", 0)


class Collector(Protocol):
    """Keeps what comes, and tells when something does."""

    def __init__(self) -> None:
        self.data = b""
        self.came: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if not self.came.called:
            self.came.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


@implementer(IStreamServerEndpoint)
class Above:
    """TLS above another endpoint."""

    def __init__(self, below: Any, policy: Any) -> None:
        self.below, self.policy = below, policy

    def listen(self, protocolFactory: Any) -> Any:
        return self.below.listen(TLSMemoryBIOFactory(self.policy, False, protocolFactory))


class ProxiedTests(TestCase):
    """Real sockets. The server speaks first: its listener sends the peer's address in onOpen."""

    timeout = 20

    async def serve(self, *endpoints: Any, **settings: Any) -> list[Any]:
        """A server; its addresses."""
        self.seen: list[Any] = []

        def newSession(session: Any) -> None:
            self.seen.append(session.remoteAddr)
            configure(self.heard, RawCodec())(session)

        self.heard = RecordingListener({"open": self.greet, "message": lambda session, pkg: session.writePkg(pkg)})
        self.server = Server(newSession, *endpoints, **settings)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        return await self.server.whenListening()

    def greet(self, session: Any) -> None:
        peer = session.remoteAddr
        session.writePkg(f"{peer.host}:{peer.port} ".encode())

    async def dial(self, address: Any) -> Any:
        """A connection to the server, closed after the test."""
        peer = await connectProtocol(clientFromString(reactor, f"tcp:127.0.0.1:{address.port}"), Collector())
        self.addCleanup(peer.transport.abortConnection)
        return peer

    async def test_headers(self) -> None:
        """Version 1 and 2, alone and with bytes behind, whole and in pieces; without an address it is the proxy's."""
        [address] = await self.serve(PLAIN)
        for header in (V1, FROM_PEER):
            for rest in (b"", b"hello"):
                peer = await self.dial(address)
                # Twisted wants the beginning of a header in one piece.
                peer.transport.write(header[:20])
                await self.pause()
                self.assertEqual(self.seen, [])
                peer.transport.write(header[20:] + rest)
                while peer.data != b"192.0.2.7:1111 " + rest:
                    await self.pause()
                [seen] = self.seen
                self.assertEqual((seen.host, seen.port), ("192.0.2.7", 1111))
                [session] = self.server.sessions
                self.assertEqual((session.localAddr, session.connection.kind), (address, "TCP_SERVER"))
                self.seen.clear()
                peer.transport.abortConnection()
                while self.server.sessions:
                    await self.pause()
        # Twisted's parser wants the blank.
        for header in (LOCAL, b"PROXY UNKNOWN \r\n"):
            peer = await self.dial(address)
            peer.transport.write(header)
            await peer.came
            self.assertEqual(peer.data, f"127.0.0.1:{peer.transport.getHost().port} ".encode())

    async def test_without(self) -> None:
        """Without a header there is no session: the connection ends at once, or after handshakeTimeout."""
        [address] = await self.serve(PLAIN, handshakeTimeout=0.2)
        for data, reason in ((b"GET / HTTP/1.1\r\n\r\n", "handshake"), (b"PROXY TCP4 ", "handshakeTimeout")):
            peer = await self.dial(address)
            peer.transport.write(data)
            await peer.ended
            while not self.server.refusals[reason]:
                await self.pause()
        self.assertEqual((self.seen, self.heard.events), ([], []))
        self.assertEqual(self.server._factory.context.connections, 0)

    async def test_stopped(self) -> None:
        """A server that stops does not wait for headers."""
        [address] = await self.serve(PLAIN, handshakeTimeout=50)
        peer = await self.dial(address)
        while not self.server._factory.context.handshaking:
            await self.pause()
        await self.server.stopService()
        await peer.ended

    async def test_endpoints(self) -> None:
        """The metrics count a session for the endpoint that it came through."""
        [first, second] = await self.serve(PLAIN, "ws:endpoint=haproxy\\:tcp\\:0\\:interface=127.0.0.1:path=/")
        peer = await self.dial(first)
        peer.transport.write(V1)
        await peer.came
        [session] = self.server.sessions
        self.assertEqual(self.server._factory.endpoints.of(session), PLAIN)
        self.assertNotEqual(first, second)

    async def test_tls(self) -> None:
        """TLS below the header, and above it."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        below = f"haproxy:ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        [address] = await self.serve(below)
        policy = clientPolicy("localhost", trustRoot=authority.path)
        peer = Collector()
        endpoint = wrapClientTLS(policy, clientFromString(reactor, f"tcp:127.0.0.1:{address.port}"))
        await connectProtocol(endpoint, peer)
        peer.transport.write(V1)
        await peer.came
        self.assertEqual(peer.data, b"192.0.2.7:1111 ")
        peer.transport.loseConnection()
        await peer.ended
        await self.server.stopService()
        above = Above(serverFromString(reactor, PLAIN), serverPolicy(certificate, key))
        [address] = await self.serve(above)
        raw = await self.dial(address)
        raw.transport.write(V1)
        while not self.server._factory.context.handshaking:
            await self.pause()
        await self.pause()
        self.assertEqual((self.seen, raw.data), ([], b""), "TLS comes first")

    def pause(self) -> Deferred[None]:
        """A moment for the reactor."""
        return deferLater(reactor, 0.01, lambda: None)  # type: ignore[arg-type]
