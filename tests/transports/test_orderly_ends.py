"""Peers that end normally and close at once, without waiting for this side's last bytes: no error."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec, RawCodec
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from tests.support.certificates import Authority
from tests.support.websocket import WebSocketCase, closeFrame, frame, request, response

#: Connections of each test. The errors that these tests are for occurred in more than half of them.
TIMES = 10


def readHead(peer: Any) -> bytes:
    """Read an HTTP head, and no further."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1)
    return head


def leave(peer: Any) -> None:
    """End TLS, if it is used, and the connection, without waiting for an answer."""
    if isinstance(peer, ssl.SSLSocket):
        peer.setblocking(False)
        with contextlib.suppress(ssl.SSLError, OSError):
            peer.unwrap()
    peer.close()


class PeerGoneTests(TestCase):
    """WebSocket peers that send Close 1000 and end, and TLS peers that send close_notify and end."""

    timeout = 30

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.certificate, self.key = self.authority.issue(["localhost", "127.0.0.1"])
        self.heard = RecordingListener()
        self.codec: Any = RawCodec()

    def newSession(self, session: Any) -> None:
        session.codec, session.listener = self.codec, self.heard

    async def serve(self, description: str, talk: Any) -> None:
        """Run a server, and call ``talk`` in a thread for each connection."""
        server = Server(self.newSession, description)
        server.startService()
        try:
            address: Any = (await server.whenListening())[0]

            def dialAll() -> None:
                for _ in range(TIMES):
                    peer: Any = socket.create_connection((address.host, address.port))
                    if "certKey" in description:
                        context = ssl.create_default_context(cafile=self.authority.path)
                        peer = context.wrap_socket(peer, server_hostname="localhost")
                    talk(peer)

            await deferToThread(dialAll)
            await self.allClosed()
        finally:
            await server.stopService()

    async def dial(self, prefix: str, talk: Any) -> None:
        """Run a client that reconnects, and call ``talk`` for each connection in a thread."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def serveAll() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key)
            for _ in range(TIMES):
                peer: Any = listening.accept()[0]
                talk(peer if prefix == "ws" else context.wrap_socket(peer, server_side=True))

        more = "" if prefix == "ws" else f":trustRoots={self.authority.path}"
        description = f"{prefix}:127.0.0.1:{listening.getsockname()[1]}{more}"
        client = Client(self.newSession, description, reconnectInterval=0.001)
        serving = deferToThread(serveAll)
        client.startService()
        try:
            await serving
            await self.allClosed()
        finally:
            await client.stopService()

    async def allClosed(self) -> None:
        """Wait for the onClose of every connection, and check that there was no error."""
        while self.heard.names.count("close") < TIMES:
            moment: Deferred[None] = Deferred()
            from twisted.internet import reactor

            reactor.callLater(0.005, moment.callback, None)  # type: ignore[attr-defined]
            await moment
        self.assertEqual(self.heard.errors, [])

    def secure(self) -> str:
        return f"interface=127.0.0.1:certKey={self.certificate}:privateKey={self.key}"

    @staticmethod
    def closeAsClient(peer: Any) -> None:
        """As a client: handshake, a message, Close."""
        peer.sendall(request())
        readHead(peer)
        peer.sendall(frame(2, b"hello") + closeFrame())
        leave(peer)

    @staticmethod
    def closeAsServer(peer: Any) -> None:
        """As a server: handshake, a message, Close."""
        peer.sendall(response(readHead(peer)) + frame(2, b"hello", masked=False) + closeFrame(masked=False))
        leave(peer)

    async def test_wssServer(self) -> None:
        """A server's session over wss."""
        await self.serve(f"wss:0:{self.secure()}", self.closeAsClient)

    async def test_wssClient(self) -> None:
        """A client's."""
        await self.dial("wss", self.closeAsServer)

    async def test_wsServer(self) -> None:
        """A server's over ws."""
        await self.serve("ws:0:interface=127.0.0.1", self.closeAsClient)

    async def test_wsClient(self) -> None:
        """A client's."""
        await self.dial("ws", self.closeAsServer)

    async def test_tlsServer(self) -> None:
        """A server's over TLS; the peer does not wait for the answer to its close_notify."""
        self.codec = LineCodec()

        def talk(peer: Any) -> None:
            peer.sendall(b"hello\n")
            leave(peer)

        await self.serve(f"ssl:0:{self.secure()}", talk)

    async def test_tlsClient(self) -> None:
        """A client's."""
        self.codec = LineCodec()

        def talk(peer: Any) -> None:
            peer.sendall(b"hello\n")
            leave(peer)

        await self.dial("tls", talk)


class LostTests(WebSocketCase):
    """Loss of the connection after the peer's Close frame, in memory."""

    def lose(self) -> None:
        self.pair.reset()
        self.pair.flush()

    def test_answerUnsent(self) -> None:
        """Our Close frame was not sent: no error."""
        self.open(network={"capacity": 100})
        self.pair.peer.transport.pauseProducing()
        self.say(closeFrame())
        self.lose()
        self.assertEqual(self.heard.names, ["open", "close"])

    def test_messageUnsent(self) -> None:
        """A message was not sent: an error."""
        self.open(network={"capacity": 100})
        self.pair.peer.transport.pauseProducing()
        self.pair.server.writePkg(bytes(5000))
        self.say(closeFrame())
        self.lose()
        self.assertEqual(self.heard.names, ["open", "error", "close"])

    def test_closeBuffered(self) -> None:
        """The peer's Close frame waited behind a callback when the connection was lost: no error."""
        gate: Deferred[None] = Deferred()

        async def message(session: Any, pkg: Any) -> None:
            await gate

        self.open({"message": message})
        self.say(frame(2, b"1") + frame(2, b"2") + closeFrame())
        self.lose()
        self.assertEqual(self.heard.names, ["open", "message"])
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])

    def test_closeBufferedWithError(self) -> None:
        """A Close frame with another code is an error."""
        gate: Deferred[None] = Deferred()

        async def message(session: Any, pkg: Any) -> None:
            await gate

        self.open({"message": message})
        self.say(frame(2, b"1") + closeFrame(1011))
        self.lose()
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEqual(self.heard.errors[0].code, 1011)  # type: ignore[attr-defined]

    def test_fragmentsBuffered(self) -> None:
        """A buffered message in fragments is delivered, too."""
        gate: Deferred[None] = Deferred()

        async def message(session: Any, pkg: Any) -> None:
            await gate

        self.open({"message": message})
        self.say(frame(2, b"1") + frame(2, b"2", fin=False) + frame(9, b"ping") + frame(0, b"3") + closeFrame())
        self.lose()
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEqual(self.heard.packages, [b"1", b"23"])
        self.assertEnded()


class HalfCloseTests(TestCase):
    """A peer that has ended its side, but still reads."""

    timeout = 20

    async def test_poolClient(self) -> None:
        """A pool's session, whose endpoint has a wrapper of Twisted: all bytes written arrive."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        heard = RecordingListener()
        size = 20_000_000

        def opened(session: Any) -> None:
            session.writeBytes(bytes(size))

        heard.on["open"] = opened

        def newSession(session: Any) -> None:
            session.codec, session.listener = LineCodec(), heard

        def talk() -> int:
            peer, _ = listening.accept()
            with peer:
                peer.sendall(b"hello\n")
                peer.shutdown(socket.SHUT_WR)
                came = 0
                while data := peer.recv(1 << 20):
                    came += len(data)
                return came

        client = Client(newSession, f"tcp:127.0.0.1:{listening.getsockname()[1]}", reconnectInterval=60.0)
        talking = deferToThread(talk)
        client.startService()
        try:
            self.assertEqual(await talking, size)
        finally:
            await client.stopService()
        self.assertEqual((heard.packages, heard.errors), ([b"hello"], []))
