"""startTLS on the facade: the boundary between clear and encrypted bytes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.errors import CodecError, SessionClosedError
from getty_tx.server import Server
from getty_tx.session import outbound
from getty_tx.testing import DirectTransport, RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy
from tests.session.test_blocked import Push
from tests.support.certificates import Authority
from tests.support.memory import SessionCase, configure, frame


class CryptTransport(DirectTransport):
    """Its startTLS inverts all bytes that are written after it: enough to see which those are."""

    started = False

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        self.started = True
        self.TLS = True

    def _encrypted(self, data: bytes) -> bytes:
        return bytes(255 - byte for byte in data) if self.started else data

    def write(self, data: bytes) -> None:
        # Past Twisted's own TLS, which is not there.
        self.TLS = False
        super().write(self._encrypted(data))
        self.TLS = self.started

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.TLS = False
        super().registerProducer(producer, streaming)
        self.TLS = self.started

    def unregisterProducer(self) -> None:
        self.TLS = False
        super().unregisterProducer()
        self.TLS = self.started

    def loseConnection(self) -> None:
        self.TLS = False
        super().loseConnection()


class StartTLSTests(SessionCase):
    """The boundary between clear and encrypted bytes."""

    def openClear(self, on: dict[str, Any] | None = None, capacity: int | None = None, **options: Any) -> Any:
        self.patch(outbound, "DIRECT", outbound.DIRECT | {CryptTransport})
        return self.open(on, transport=CryptTransport, network={"capacity": capacity}, **options)

    def test_boundary(self) -> None:
        """What was written before leaves in clear, all that is written after is encrypted; nothing overtakes."""
        for capacity in (None, 1000):
            for before, after in ((b"a", b"b"), (b"a" * 500_000, b"b" * 300_000)):
                pair = self.openClear(capacity=capacity)
                session = pair.server
                session.writeBytes(before)
                session.writeBytes(b"go")
                session.transport.startTLS(object())
                session.writeBytes(after)
                session.writePkg(b"x")
                pair.flush()
                encrypted = bytes(255 - byte for byte in after + frame(b"x"))
                self.assertEqual(bytes(pair.peer.data), before + b"go" + encrypted)
                self.assertEqual(session.pendingBytes, 0)

    def test_inACallback(self) -> None:
        """The same where the package that asks for TLS is being delivered, corked."""

        def onMessage(session: Any, pkg: bytes) -> None:
            session.writePkg(b"yes")
            session.transport.startTLS(object())
            session.writePkg(b"secret")

        pair = self.openClear({"message": onMessage})
        pair.peer.write(frame(b"STARTTLS"))
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), frame(b"yes") + bytes(255 - byte for byte in frame(b"secret")))

    def test_bytesInClearBehind(self) -> None:
        """Bytes in clear behind the package that starts TLS would be taken for encrypted ones: the session fails."""
        pair = self.openClear({"message": lambda session, pkg: session.transport.startTLS(object())}, autoClose=True)
        pair.peer.write(frame(b"STARTTLS") + frame(b"injected"))
        pair.flush()
        self.assertEqual(self.heard.packages, [b"STARTTLS"])
        self.assertIsInstance(self.heard.errors[0], CodecError)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])

    def test_bytesInClearBuffered(self) -> None:
        """Outside a delivery startTLS itself refuses."""
        pair = self.openClear()
        pair.peer.write(b"\0\0")
        pair.flush()
        self.assertRaises(CodecError, pair.server.transport.startTLS, object())

    def test_underPressure(self) -> None:
        """Who waited for pending bytes does not wait for ever when TLS starts: reading, drained(), a producer."""
        pair = self.openClear(capacity=1000)
        session = pair.server
        producer = Push()
        session.transport.registerProducer(producer, True)
        session.writeBytes(bytes(400_000))
        drained = session.drained()
        self.assertEqual(producer.told, ["pause"])
        session.transport.startTLS(object())
        pair.flush()
        self.assertEqual(len(pair.peer.data), 400_000)
        self.successResultOf(drained)
        self.assertEqual(producer.told, ["pause", "resume"])
        session.transport.unregisterProducer()
        pair.peer.write(frame(b"read?"))
        pair.flush()
        self.assertEqual(self.heard.packages, [b"read?"])
        session.close()
        pair.flush()
        self.assertTrue(pair.peer.ended)

    def test_closed(self) -> None:
        """A closed session starts nothing."""
        pair = self.openClear()
        pair.server.close()
        self.assertRaises(SessionClosedError, pair.server.transport.startTLS, object())


class HandshakeTests(TestCase):
    """Real TLS, on real sockets: what a session may be paused for while the handshake still has to be read."""

    timeout = 60

    async def exchange(self, then: Any, package: bytes) -> Any:
        """A client starts TLS, does ``then`` in the same callback, and writes a package; return its session."""
        authority = Authority(self.mktemp())
        policy = serverPolicy(*authority.issue(["127.0.0.1"]))
        trusting = clientPolicy("127.0.0.1", trustRoot=authority.path)
        self.atServer: Deferred[bytes] = Deferred()
        self.atClient: Deferred[bytes] = Deferred()

        def serve(session: Any, pkg: bytes) -> None:
            session.writePkg(pkg)
            if pkg == b"STARTTLS":
                session.transport.startTLS(policy)
            else:
                self.atServer.callback(pkg)

        def dial(session: Any, pkg: bytes) -> None:
            if pkg == b"STARTTLS":
                session.transport.startTLS(trusting)
                then(session)
                session.writePkg(package)
            else:
                self.atClient.callback(pkg)

        limits = {"maxMsgLen": 1_000_000, "writeTimeout": None}
        server = Server(configure(RecordingListener({"message": serve}), **limits), "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        client = Client(configure(RecordingListener({"message": dial}), **limits), f"tcp:127.0.0.1:{port.port}")
        client.startService()
        self.addCleanup(client.close)
        [session] = await client.whenReady()
        session.writePkg(b"STARTTLS")
        return session

    async def test_pressed(self) -> None:
        """More than highWater, written before the handshake: the session reads its answers no more, but TLS does."""
        package = bytes(500_000)
        await self.exchange(lambda session: None, package)
        self.assertEqual(await self.atServer, package)
        self.assertEqual(await self.atClient, package)

    async def test_paused(self) -> None:
        """Paused before the handshake, a session is paused after it, too."""
        session = await self.exchange(lambda session: session.pauseReading(), b"hello")
        self.assertEqual(await self.atServer, b"hello")
        self.assertFalse(self.atClient.called)
        session.resumeReading()
        self.assertEqual(await self.atClient, b"hello")
