"""An ``async def newSession`` over every transport: what comes meanwhile, losses, time-outs and refusals."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    connectProtocol,
    quoteStringArgument,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from getty_tx import Client, RefuseRequest, Server
from getty_tx.codecs import RawCodec
from getty_tx.testing import RecordingListener
from getty_tx.tls import clientPolicy
from tests.support.certificates import Authority
from tests.support.memory import configure
from tests.support.websocket import frame, parse, request

TCP = "tcp:0:interface=127.0.0.1"
WS = "ws:0:interface=127.0.0.1:path=/"


class Collector(Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = b""
        self.isEnded = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.isEnded = True


class OpeningTests(TestCase):
    """Real sockets; ``self.gates`` are the Deferreds that each newSession waits for."""

    timeout = 60

    def setUp(self) -> None:
        self.gates: list[Deferred[None]] = []
        self.ends: list[str] = []
        self.heard = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
        self.messages: list[str] = []

        def observe(event: Any) -> None:
            if "cancelled" in (event.get("log_format") or ""):
                self.messages.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    async def newSession(self, session: Any) -> None:
        """Wait, then configure the session."""
        gate: Deferred[None] = Deferred()
        self.gates.append(gate)
        try:
            await gate
        except CancelledError:
            self.ends.append("cancelled")
            raise
        self.ends.append("returned")
        configure(self.heard, RawCodec())(session)

    async def serve(self, *endpoints: str, newSession: Any = None, **settings: Any) -> list[Any]:
        """A server; its addresses."""
        self.server = Server(newSession or self.newSession, *endpoints, **settings)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        return await self.server.whenListening()

    async def connect(self, endpoint: Any) -> Any:
        """A connection to the server, closed after the test."""
        peer = await connectProtocol(endpoint, Collector())
        self.addCleanup(lambda: None if peer.isEnded else peer.transport.abortConnection())
        return peer

    async def dial(self, address: Any) -> Any:
        """The same, over TCP."""
        return await self.connect(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port))

    async def until(self, isTrue: Any) -> None:
        """Let the reactor run until something is true."""
        while not isTrue():
            await deferLater(reactor, 0.005, lambda: None)  # type: ignore[arg-type]

    def isIdle(self) -> bool:
        """No connection is left."""
        context = self.server._factory.context
        return (context.connections, len(context.handshaking), len(context.sessions)) == (0, 0, 0)

    async def test_streams(self) -> None:
        """TCP, unix sockets and TLS: bytes that came meanwhile are delivered after onOpen."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        path = self.mktemp()
        secure = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        for onSocket in ("", ":onSocket=no"):
            addresses = await self.serve(TCP, f"unix:{quoteStringArgument(path)}", secure + onSocket)
            policy = clientPolicy("localhost", trustRoot=authority.path)
            below = clientFromString(reactor, f"tcp:127.0.0.1:{addresses[2].port}")
            for endpoint in (
                clientFromString(reactor, f"tcp:127.0.0.1:{addresses[0].port}"),
                UNIXClientEndpoint(reactor, path),
                wrapClientTLS(policy, below),
            ):
                peer = await self.connect(endpoint)
                # TLS of a client sends nothing before its handshake.
                peer.transport.write(b"early")
                await self.until(lambda: self.gates)
                context = self.server._factory.context
                self.assertEqual((context.connections, len(context.handshaking)), (1, 1))
                peer.transport.write(b" bytes")
                await deferLater(reactor, 0.02, lambda: None)  # type: ignore[arg-type]
                self.assertEqual((peer.data, self.heard.events), (b"", []))
                self.gates.pop().callback(None)
                await self.until(lambda peer=peer: peer.data == b"early bytes")
                peer.transport.write(b"!")
                await self.until(lambda peer=peer: peer.data == b"early bytes!")
                peer.transport.loseConnection()
                await self.until(self.isIdle)
                self.heard.events.clear()
            await self.server.stopService()

    async def test_many(self) -> None:
        """Of a peer that sends much, little is read; nothing is lost."""
        [address] = await self.serve(TCP)
        peer = await self.dial(address)
        data = bytes(range(256)) * 20_000
        peer.transport.write(data)
        await self.until(lambda: self.gates)
        [connection] = self.server._factory.context.handshaking
        await self.until(lambda: connection.opening._isPaused)
        await deferLater(reactor, 0.05, lambda: None)  # type: ignore[arg-type]
        self.assertLess(connection.opening._size, 300_000)
        self.gates[0].callback(None)
        await self.until(lambda: len(peer.data) == len(data))
        self.assertEqual(peer.data, data)

    async def test_halfClosed(self) -> None:
        """A peer that has asked and ended its side has its answer."""
        [address] = await self.serve(TCP)
        peer = await self.dial(address)
        peer.transport.write(b"question")
        await self.until(lambda: self.gates)
        peer.transport.loseWriteConnection()
        [connection] = self.server._factory.context.handshaking
        await self.until(lambda: connection.opening.ended)
        self.gates[0].callback(None)
        await self.until(lambda: peer.isEnded)
        self.assertEqual(peer.data, b"question")

    async def test_lost(self) -> None:
        """A lost connection cancels it, over TCP and WebSocket; the log says so."""
        addresses = await self.serve(TCP, WS)
        for address, first in zip(addresses, (b"", request()), strict=True):
            peer = await self.dial(address)
            peer.transport.write(first)
            await self.until(lambda: self.gates)
            self.gates.clear()
            peer.transport.abortConnection()
            await self.until(self.isIdle)
            self.assertEqual(self.ends.pop(), "cancelled")
            self.assertIn("newSession was cancelled: ", self.messages.pop())
        self.assertEqual((self.heard.events, len(self.server._factory.context.wheel)), ([], 0))

    async def test_timeOut(self) -> None:
        """``handshakeTimeout`` cancels it and drops the connection."""
        addresses = await self.serve(TCP, WS, "udp:0:interface=127.0.0.1:sessions=peer", handshakeTimeout=0.2)
        for count, (address, first) in enumerate(zip(addresses[:2], (b"", request()), strict=True), 1):
            peer = await self.dial(address)
            peer.transport.write(first)
            await self.until(lambda peer=peer: peer.isEnded)
            self.assertEqual((peer.data, self.ends.pop()), (b"", "cancelled"))
            await self.until(lambda count=count: self.server.refusals["handshakeTimeout"] == count)
            self.assertIn("newSession did not return in handshakeTimeout=0.2 s", self.messages.pop())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"a", ("127.0.0.1", addresses[2].port))
            await self.until(lambda: self.server.refusals["handshakeTimeout"] == 3)
        self.assertEqual(self.ends, ["cancelled"])

    async def test_stopped(self) -> None:
        """A server that stops cancels it, and opens no session."""
        addresses = await self.serve(TCP, WS, "udp:0:interface=127.0.0.1:sessions=peer")
        (await self.dial(addresses[0])).transport.write(b"a")
        (await self.dial(addresses[1])).transport.write(request())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b"a", ("127.0.0.1", addresses[2].port))
            await self.until(lambda: len(self.gates) == 3)
            await self.server.stopService()
        self.assertEqual((self.ends, self.heard.events), (["cancelled"] * 3, []))

    async def test_webSocket(self) -> None:
        """The answer to the handshake waits; frames that came with the request, and later ones, are kept."""
        [address] = await self.serve(WS)
        peer = await self.dial(address)
        peer.transport.write(request() + frame(2, b"early"))
        await self.until(lambda: self.gates)
        peer.transport.write(frame(2, b"later"))
        await deferLater(reactor, 0.02, lambda: None)  # type: ignore[arg-type]
        self.assertEqual(peer.data, b"")
        self.gates[0].callback(None)
        await self.until(lambda: peer.data.endswith(b"later"))
        head, _, frames = peer.data.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertEqual(parse(frames), [(0x82, b"early"), (0x82, b"later")])

    async def test_refused(self) -> None:
        """Raised after a wait: a status over WebSocket, the end elsewhere."""

        async def newSession(session: Any) -> None:
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
            raise RefuseRequest(403)

        addresses = await self.serve(TCP, WS, newSession=newSession)
        peer = await self.dial(addresses[0])
        await self.until(lambda: peer.isEnded)
        self.assertEqual(peer.data, b"")
        peer = await self.dial(addresses[1])
        peer.transport.write(request())
        await self.until(lambda: peer.isEnded)
        self.assertTrue(peer.data.startswith(b"HTTP/1.1 403 Forbidden\r\n"))
        self.assertEqual(self.server.refusals["newSession"], 2)

    async def test_closed(self) -> None:
        """A newSession that closes its session after a wait refuses it, also without a codec."""
        for close in (True, False):

            async def newSession(session: Any, close: bool = close) -> None:
                await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
                if close:
                    configure(self.heard, RawCodec())(session)
                    session.close()
                    await deferLater(reactor, 0.02, lambda: None)  # type: ignore[arg-type]

            addresses = await self.serve(TCP, WS, newSession=newSession)
            for address, first in zip(addresses, (b"a", request()), strict=True):
                peer = await self.dial(address)
                peer.transport.write(first)
                await self.until(lambda peer=peer: peer.isEnded)
            await self.until(self.isIdle)
            self.assertEqual((self.server.refusals["newSession"], self.heard.events), (2, []))
            await self.server.stopService()

    async def test_atOnce(self) -> None:
        """One that waits for nothing, and one that returns a Deferred."""
        settle = configure(self.heard, RawCodec())

        async def atOnce(session: Any) -> None:
            settle(session)

        def later(session: Any) -> Deferred[None]:
            return deferLater(reactor, 0, settle, session)  # type: ignore[arg-type]

        for newSession in (atOnce, later):
            addresses = await self.serve(TCP, WS, newSession=newSession)
            peer = await self.dial(addresses[0])
            peer.transport.write(b"a")
            await self.until(lambda peer=peer: peer.data == b"a")
            peer.transport.abortConnection()
            peer = await self.dial(addresses[1])
            peer.transport.write(request() + frame(2, b"b"))
            await self.until(lambda peer=peer: peer.data.endswith(b"\x82\x01b"))
            peer.transport.abortConnection()
            await self.until(self.isIdle)
            await self.server.stopService()

    async def test_datagrams(self) -> None:
        """Datagrams are kept, for a session of each peer and for one session."""
        for description in ("udp:0:interface=127.0.0.1:sessions=peer", "udp:0:interface=127.0.0.1"):
            self.gates.clear()
            [address] = await self.serve(description)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.setblocking(False)
                for data in (b"a", b"b"):
                    datagrams.sendto(data, ("127.0.0.1", address.port))
                await self.until(lambda: self.gates)
                await deferLater(reactor, 0.02, lambda: None)  # type: ignore[arg-type]
                datagrams.sendto(b"c", ("127.0.0.1", address.port))
                await deferLater(reactor, 0.02, lambda: None)  # type: ignore[arg-type]
                self.assertEqual(self.heard.events, [])
                self.gates[0].callback(None)
                await self.until(lambda: self.heard.names.count("message") == 3)
                self.assertEqual([datagrams.recv(10) for _ in range(3)], [b"a", b"b", b"c"])
            await self.server.stopService()
            self.heard.events.clear()

    async def test_clients(self) -> None:
        """A pool's sessions are ready when newSession has returned; ``close()`` cancels it."""
        echo = RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)})
        tcp, web, udp = await self.serve(
            TCP, WS, "udp:0:interface=127.0.0.1:sessions=peer", newSession=configure(echo, RawCodec())
        )
        dialed = f"udp:127.0.0.1:{udp.port}:probeTimeout=0.05"
        for description in (f"tcp:127.0.0.1:{tcp.port}", f"ws:127.0.0.1:{web.port}", dialed):
            for opens in (True, False):
                self.gates.clear()
                client = Client(self.newSession, description)
                client.startService()
                self.addCleanup(client.close)
                await self.until(lambda: self.gates)
                self.assertEqual(len(client.sessions), 0)
                if opens:
                    self.gates[0].callback(None)
                    await client.whenReady()
                    self.assertEqual(len(client.sessions), 1)
                await client.close()
                self.assertEqual(self.ends.pop(), "returned" if opens else "cancelled")
