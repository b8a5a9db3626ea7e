"""Session: what applications hold of a connection, from the reactor's thread and from others."""

from __future__ import annotations

from threading import Thread
from typing import Any

from getty_tx.codecs import LengthCodec
from getty_tx.errors import SessionBlockedError, SessionClosedError, SessionError, WriteTimeoutError
from getty_tx.listener import EventListener
from getty_tx.testing import DirectTransport, MemoryTransport
from tests.support.memory import SessionCase, frame


class SessionTests(SessionCase):
    """Identity, attributes, statistics."""

    def test_token(self) -> None:
        """str() gives Getty's token, and the stats Getty's line."""
        session = self.open().server
        session.name = "echo"
        token = f"{{echo:TCP_SERVER:{session.id}:192.0.2.1:8090<->198.51.100.1:50000}}"
        self.assertEqual((str(session), repr(session)), (token, token))
        session.writePkg(b"x")
        self.assertEqual(
            str(session.stats), f"session {token}, Read Bytes: 0, Write Bytes: 5, Read Pkgs: 0, Write Pkgs: 1"
        )
        self.assertEqual(session.stats.dropped, 0)

    def test_ids(self) -> None:
        """Each session has its own number."""
        self.assertNotEqual(self.open().server.id, self.open().server.id)

    def test_facade(self) -> None:
        """The facade tells of the connection, and passes on what is not its own."""
        pair = self.open(autoClose=True)
        transport = pair.server.transport
        self.assertEqual((transport.getHost(), transport.getPeer()), (pair.server.localAddr, pair.server.remoteAddr))
        self.assertTrue(transport.getTcpNoDelay() in (True, False))
        self.assertFalse(transport.disconnecting)
        self.assertRaises(AttributeError, getattr, transport, "noSuchThing")
        self.assertRaises(TypeError, transport.write, "text")
        transport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.packages, [])
        transport.resumeProducing()
        pair.flush()
        self.assertEqual(self.heard.packages, [b"1"])
        transport.loseConnection()
        self.assertTrue(transport.disconnecting)
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "close"])

    def test_protocolsTransport(self) -> None:
        """A subclass of the protocol that writes to self.transport keeps the order too."""
        pair = self.open({"message": lambda session, pkg: self.pair.serverProtocol.transport.write(b"raw")})
        self.assertIs(pair.serverProtocol.transport, pair.server.transport)

    def test_isClosed(self) -> None:
        """True from close() on."""
        pair = self.open()
        self.assertFalse(pair.server.isClosed)
        pair.server.close()
        self.assertTrue(pair.server.isClosed)

    def test_listenerChanges(self) -> None:
        """A listener may be replaced while the session runs."""
        pair = self.open()
        pair.server.listener = EventListener()
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open"])


class ThreadTests(SessionCase):
    """Writing and closing from other threads."""

    def inThread(self, *calls: Any) -> list[Any]:
        results: list[Any] = []

        def work() -> None:
            for call in calls:
                try:
                    results.append(call())
                except Exception as error:
                    results.append(error)

        thread = Thread(target=work)
        thread.start()
        thread.join()
        return results

    def test_write(self) -> None:
        """The call returns what it took; the bytes leave on the reactor's thread, in order, with one wake-up."""
        for transport in (DirectTransport, MemoryTransport):
            pair = self.open(transport=transport)
            session = pair.server
            taken = self.inThread(
                lambda session=session: session.writePkg(b"a"),
                lambda session=session: session.writeBytes(b"bc"),
                lambda session=session: session.writeBytesArray(b"d", b"", b"ef"),
                lambda session=session: session.writePkg(b"g"),
            )
            self.assertEqual(taken, [5, 2, 3, 5])
            self.assertEqual((pair.clock.wakeUps, session.stats.writeBytes), (1, 0))
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), frame(b"a") + b"bcdef" + frame(b"g"))
            self.assertEqual((session.stats.writeBytes, session.stats.writePkgs), (15, 6))

    def test_nothing(self) -> None:
        """A codec that encodes to nothing hurts nothing."""

        class Nothing(LengthCodec):
            def write(self, session: Any, pkg: Any) -> Any:
                return pkg

        for transport in (DirectTransport, MemoryTransport):
            pair = self.open(codec=Nothing(), transport=transport)
            session = pair.server
            for nothing in ([], [b""], b""):
                self.inThread(lambda nothing=nothing, session=session: session.writePkg(nothing))
                pair.flush()
            session.writePkg(b"something")
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), b"something")

    def test_refused(self) -> None:
        """Errors come to the caller: those of the codec, a closed session, too much pending."""
        pair = self.open(maxPending=1000)
        session = pair.server
        results = self.inThread(
            lambda: session.writePkg("text"),
            lambda: session.writeBytes(bytes(1001)),
            lambda: session.writeBytes(b"more"),
        )
        self.assertIsInstance(results[0], SessionError)
        self.assertEqual(results[1], 1001)
        self.assertIsInstance(results[2], SessionBlockedError)
        pair.flush()
        session.close()
        (error,) = self.inThread(lambda: session.writePkg(b"x"))
        self.assertIsInstance(error, SessionClosedError)

    def test_badTimeout(self) -> None:
        """So does a timeout that cannot be."""
        pair = self.open()
        (error,) = self.inThread(lambda: pair.server.writePkg(b"x", timeout=0))
        pair.flush()
        self.assertIsInstance(error, ValueError)
        self.assertEqual(bytes(pair.peer.data), b"")

    def test_timeout(self) -> None:
        """A timeout counts from another thread too."""
        pair = self.open(network={"capacity": 100}, writeTimeout=None)
        pair.peer.transport.pauseProducing()
        self.inThread(lambda: pair.server.writePkg(bytes(50_000), timeout=1.0))
        pair.advance(1.2)
        self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)

    def test_close(self) -> None:
        """What the thread wrote before close() leaves before the end."""
        pair = self.open(autoClose=True)
        session = pair.server
        self.inThread(lambda: session.writePkg(b"last"), session.close)
        self.assertFalse(session.isClosed)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), frame(b"last"))
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_closedMeanwhile(self) -> None:
        """Bytes for a session that closes before the reactor's turn are dropped."""
        pair = self.open()
        session = pair.server
        self.inThread(lambda: session.writePkg(b"late"))
        session.close()
        pair.flush()
        self.assertEqual((bytes(pair.peer.data), session.stats.writeBytes), (b"", 0))
