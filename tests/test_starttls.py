"""startTLS on the facade: the boundary between clear and encrypted bytes."""

from __future__ import annotations

from typing import Any

from getty_tx import outbound
from getty_tx.errors import CodecError, SessionClosedError
from getty_tx.testing import DirectTransport
from tests.memory import SessionCase, frame
from tests.test_waiting import Push


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
