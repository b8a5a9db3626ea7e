"""The order of events over wrappers and TLS, which close differently and have their own buffers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.protocols.basic import FileSender
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from getty_tx.errors import SessionBlockedError, SessionClosedError, WriteTimeoutError
from getty_tx.testing import DirectTransport, MemoryTransport
from getty_tx.tls import clientPolicy, serverPolicy
from tests.support.certificates import Authority
from tests.support.long import examples
from tests.support.memory import SessionCase, frame

HOST = "server.example"


def wrapped(clock: Any, factory: Any, isClient: bool) -> Any:
    """A wrapper on both ends that does nothing."""
    return WrappingFactory(factory)


class LayersCase(SessionCase):
    """Makes certificates once for all tests."""

    policies: dict[bool, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        if not self.policies:
            authority = Authority(self.mktemp())
            certificate, key = authority.issue([HOST])
            self.policies.update(
                {True: clientPolicy(HOST, trustRoot=authority.path), False: serverPolicy(certificate, key)}
            )

    def encrypted(self, clock: Any, factory: Any, isClient: bool) -> Any:
        """TLS on both ends."""
        return TLSMemoryBIOFactory(self.policies[isClient], isClient, factory, clock=clock)

    def both(self, clock: Any, factory: Any, isClient: bool) -> Any:
        """A wrapper above TLS, which does not pass on handshakeCompleted."""
        return self.encrypted(clock, WrappingFactory(factory), isClient)

    def layers(self) -> list[tuple[str, Any, type[MemoryTransport]]]:
        """Every kind of layers above a socket that the outbound knows, and above one that it does not know."""
        return [
            (f"{layer.__name__} {transport.__name__}", layer, transport)
            for layer in (wrapped, self.encrypted)
            for transport in (DirectTransport, MemoryTransport)
        ]

    def visible(self) -> list[tuple[str, Any, type[MemoryTransport]]]:
        """The layers that report what the socket has taken. TLS does not over a transport that is not Twisted's."""
        return [layer for layer in self.layers() if layer[1:] != (self.encrypted, MemoryTransport)]

    def openLayer(self, layer: Any, transport: Any, on: Any = None, capacity: int | None = 5000, **options: Any) -> Any:
        return self.open(on, wrap=layer, transport=transport, network={"capacity": capacity}, **options)


class LayerTests(LayersCase):
    """Each behaviour with each kind of layer."""

    def test_life(self) -> None:
        """Open after the handshake, messages, close."""
        for name, layer, transport in self.layers():
            pair = self.openLayer(layer, transport, {"message": lambda session, pkg: session.writePkg(pkg)})
            self.assertEqual(self.heard.names, ["open"], name)
            pair.peer.write(frame(b"1") + frame(b"2"))
            pair.flush()
            self.assertEqual(bytes(pair.peer.data), frame(b"1") + frame(b"2"), name)
            pair.peer.end()
            pair.flush()
            self.assertEqual(self.heard.events, [("open",), ("message", b"1"), ("message", b"2"), ("close",)], name)
            self.assertEnded()

    def test_wrapperAboveTLS(self) -> None:
        """A wrapper that does not pass on handshakeCompleted delays onOpen until the first bytes."""
        pair = self.openLayer(self.both, DirectTransport)
        self.assertEqual(self.heard.names, [])
        pair.peer.write(frame(b"1"))
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_closeFlushes(self) -> None:
        """close() right after many bytes delivers them all, also to a slow peer; that is no error."""
        for name, layer, transport in self.layers():
            pair = self.openLayer(layer, transport, autoClose=True)
            pair.clientTransport.pauseProducing()
            pair.server.writeBytes(bytes(500_000))
            pair.server.close()
            pair.flush()
            pair.clientTransport.resumeProducing()
            pair.flush()
            self.assertEqual((len(pair.peer.data), self.heard.names), (500_000, ["open", "close"]), name)
            self.assertEnded()

    def test_peerThatDoesNotRead(self) -> None:
        """A close ends after waitTime, whatever the layers still buffer."""
        for size in (10, 500_000):
            for name, layer, transport in self.layers():
                pair = self.openLayer(layer, transport, capacity=1, waitTime=1.0)
                pair.clientTransport.pauseProducing()
                pair.server.writeBytes(bytes(size))
                pair.server.close()
                pair.advance(2.5)
                self.assertEqual(self.heard.names, ["open", "close"], name)
                self.assertEnded()

    def test_pending(self) -> None:
        """Bytes count as pending until the socket takes them: maxPending, pressure and drained() see them."""
        for name, layer, transport in self.visible():
            pair = self.openLayer(layer, transport, maxPending=400_000)
            pair.clientTransport.pauseProducing()
            pair.flush()
            pair.server.writeBytes(bytes(6000))
            drained = pair.server.drained()
            self.assertFalse(drained.called, name)
            pair.server.writeBytes(bytes(500_000))
            self.assertRaises(SessionBlockedError, pair.server.writeBytes, b"x")
            pair.peer.write(frame(b"unread"))
            pair.flush()
            self.assertEqual(self.heard.packages, [], name)
            pair.clientTransport.resumeProducing()
            pair.flush()
            self.successResultOf(drained)
            self.assertEqual((len(pair.peer.data), self.heard.packages), (506_000, [b"unread"]), name)

    def test_timeouts(self) -> None:
        """Both time limits hold, for few bytes and many, and a peer that reads slowly is no error."""
        for size in (6000, 300_000):
            for name, layer, transport in self.visible():
                pair = self.openLayer(layer, transport, writeTimeout=None)
                pair.clientTransport.pauseProducing()
                pair.server.writePkg(bytes(size), timeout=1.0)
                pair.advance(1.3)
                self.assertEqual([type(error) for error in self.heard.errors], [WriteTimeoutError], name)
                self.assertEnded()
                pair = self.openLayer(layer, transport, writeTimeout=1.0)
                pair.clientTransport.pauseProducing()
                pair.server.writeBytes(bytes(size))
                pair.advance(1.3)
                self.assertEqual([type(error) for error in self.heard.errors], [WriteTimeoutError], name)
                self.assertEnded()

    def test_slowPeer(self) -> None:
        """A peer that takes a slice within writeTimeout is no error, however long it takes in all."""
        for name, layer, transport in self.layers():
            pair = self.openLayer(layer, transport, writeTimeout=2.0)
            pair.server.writeBytes(bytes(2_000_000))
            for _ in range(12):
                pair.clientTransport.resumeProducing()
                pair.pump(40)
                pair.clientTransport.pauseProducing()
                pair.advance(1.0)
                self.assertEqual(self.heard.names, ["open"], name)
            self.assertGreater(pair.server.pendingBytes, 500_000)

    def test_fileSender(self) -> None:
        """Producers on the facade."""
        for name, layer, transport in self.layers():
            pair = self.openLayer(layer, transport)
            done = FileSender().beginFileTransfer(BytesIO(b"f" * 300_000), pair.server.transport)
            pair.server.transport.loseConnection()
            pair.flush()
            self.successResultOf(done)
            self.assertEqual(len(pair.peer.data), 300_000, name)

    def test_slowCallbacksAtTheEnd(self) -> None:
        """
        All that the peer had sent before its clean end is delivered, although each message takes time:
        waitTime limits the callback that does not end, and not all of them together.
        """
        done: list[bytes] = []

        async def onMessage(session: Any, pkg: bytes) -> None:
            await deferLater(session.context.reactor, 0.8, lambda: None)
            done.append(pkg)

        for name, layer, transport in [*self.layers(), ("none", None, DirectTransport)]:
            done.clear()
            pair = self.openLayer(layer, transport, {"message": onMessage}, waitTime=1.0)
            packages = [b"%d" % i for i in range(6)]
            pair.peer.write(b"".join(map(frame, packages)))
            pair.flush()
            pair.peer.end()
            pair.advance(10)
            self.assertEqual(done, packages, name)
            self.assertEqual(self.heard.names, ["open", *["message"] * 6, "close"], name)
            self.assertEnded()
        self.flushLoggedErrors(CancelledError)

    def test_peerEndsWhilePressed(self) -> None:
        """
        TLS cannot be ended halfway: with the peer's end the connection is over, and answers that wait are lost. What
        had come before is delivered, though the session read no more because of them.
        """
        answer = {"message": lambda session, pkg: session.writeBytes(bytes(300_000))}
        pair = self.openLayer(self.encrypted, DirectTransport, answer, writeTimeout=60.0)
        pair.clientTransport.pauseProducing()
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.peer.write(frame(b"2"))
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        self.assertGreater(pair.server.pendingBytes, 200_000)
        pair.clientTransport.resumeProducing()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])
        self.assertEnded()

    def test_writeAfterTheEnd(self) -> None:
        """Writing in onClose is refused without other effects."""
        for name, layer, transport in self.layers():
            refused: list[Any] = []

            def onClose(session: Any, refused: list[Any] = refused) -> None:
                refused.append(self.assertRaises(SessionClosedError, session.writePkg, b""))

            pair = self.openLayer(layer, transport, {"close": onClose})
            pair.peer.end()
            pair.flush()
            self.assertEqual(len(refused), 1, name)
            self.assertEnded()

    @settings(max_examples=examples(40), deadline=None)
    @given(
        st.integers(0, 3),
        st.sampled_from([None, 700, 50_000]),
        st.lists(st.sampled_from([0, 1, 100, 65_536]) | st.integers(0, 150_000), max_size=8),
        st.booleans(),
    )
    def test_order(self, which: int, capacity: int | None, sizes: list[int], corked: bool) -> None:
        """Bytes leave in the order in which they were written."""
        LayersCase.setUp(self)
        _, layer, transport = self.layers()[which]

        def write(session: Any, *args: Any) -> None:
            for i, size in enumerate(sizes):
                (session.writeBytes if i % 2 else session.transport.write)(bytes([i]) * size)

        pair = self.openLayer(layer, transport, {"message": write}, capacity, autoClose=True)
        if corked:
            pair.peer.write(frame(b"go"))
            pair.flush()
        else:
            write(pair.server)
        pair.server.close()
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), b"".join(bytes([i]) * size for i, size in enumerate(sizes)))
        self.assertEqual(self.heard.errors, [])
        self.assertEnded()
