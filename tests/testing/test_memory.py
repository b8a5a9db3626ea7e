"""Sockets and transports in memory behave like Twisted's TCP on Linux."""

from __future__ import annotations

import socket
import struct
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesisSettings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from getty_tx.interfaces import IEventListener
from getty_tx.testing import (
    DirectTransport,
    MemoryReactor,
    MemorySocket,
    Network,
    Peer,
    RecordingListener,
)
from tests.support.long import examples


class SocketTests(SynchronousTestCase):
    """The memory socket."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()

    def test_bytes(self) -> None:
        """Sent bytes are received in order; without any, recv raises BlockingIOError."""
        one, other = MemorySocket.pair(self.reactor)
        self.assertRaises(BlockingIOError, other.recv, 10)
        self.assertEqual((one.send(b"abc"), one.sendmsg([b"d", bytearray(b"e"), memoryview(b"f")])), (3, 3))
        self.assertEqual((other.recv(4), other.recv(100)), (b"abcd", b"ef"))
        self.assertEqual((one.sent, other.received), ([3, 3], 6))
        self.assertEqual(one.send(b""), 0)

    def test_capacity(self) -> None:
        """send takes as many bytes as fit, then none."""
        one, other = MemorySocket.pair(self.reactor, capacity=10)
        self.assertEqual(one.send(bytes(8)), 8)
        self.assertTrue(one.writable())
        self.assertEqual(one.sendmsg([bytes(1), bytes(50)]), 2)
        self.assertFalse(one.writable())
        self.assertRaises(BlockingIOError, one.send, b"x")
        other.recv(3)
        self.assertEqual(one.send(bytes(50)), 3)
        self.assertRaises(ValueError, MemorySocket, self.reactor, capacity=0)

    def test_split(self) -> None:
        """recv returns the given sizes cyclically, or random ones."""
        one, other = MemorySocket.pair(self.reactor, split=[1, 3])
        one.send(bytes(9))
        self.assertEqual([len(other.recv(100)) for _ in range(5)], [1, 3, 1, 3, 1])
        one, other = MemorySocket.pair(self.reactor, split=Random(7))
        one.send(bytes(1000))
        sizes = []
        while other.readable():
            sizes.append(len(other.recv(100)))
        self.assertEqual(sum(sizes), 1000)
        self.assertGreater(len(set(sizes)), 5)

    def test_delay(self) -> None:
        """Bytes and the end arrive after their delay."""
        one, other = MemorySocket.pair(self.reactor, delay=0.5)
        one.send(b"a")
        self.reactor.advance(0.3)
        one.send(b"b")
        one.shutdown(socket.SHUT_WR)
        self.assertRaises(BlockingIOError, other.recv, 10)
        self.reactor.advance(0.2)
        self.assertEqual(other.recv(10), b"a")
        self.assertRaises(BlockingIOError, other.recv, 10)
        self.reactor.advance(0.3)
        self.assertEqual((other.recv(10), other.recv(10), other.recv(10)), (b"b", b"", b""))

    def test_halfClose(self) -> None:
        """After shutdown the socket still receives, and cannot send."""
        one, other = MemorySocket.pair(self.reactor)
        one.shutdown(socket.SHUT_WR)
        self.assertRaises(BrokenPipeError, one.send, b"x")
        other.send(b"late")
        self.assertEqual((one.recv(10), other.recv(10)), (b"late", b""))
        self.assertFalse(one.hungUp())
        other.shutdown(socket.SHUT_WR)
        self.assertTrue(one.hungUp() and other.hungUp())

    def test_closeWithUnreadInput(self) -> None:
        """It is a reset, which discards the bytes that the peer has not read."""
        one, other = MemorySocket.pair(self.reactor)
        one.send(b"lost")
        other.send(b"unread")
        one.close()
        self.assertRaises(ConnectionResetError, other.recv, 10)
        self.assertRaises(ConnectionResetError, other.send, b"x")
        self.assertRaises(OSError, one.send, b"x")

    def test_closeIsTheEnd(self) -> None:
        """Without unread input the peer gets all bytes; if it sends after that, it gets a reset."""
        one, other = MemorySocket.pair(self.reactor)
        one.send(b"kept")
        one.close()
        one.close()
        self.assertEqual((other.recv(10), other.recv(10)), (b"kept", b""))
        self.assertEqual(other.send(b"?"), 1)
        self.assertRaises(ConnectionResetError, other.send, b"?")

    def test_linger(self) -> None:
        """A close after SO_LINGER 1, 0 is a reset; options are stored."""
        one, other = MemorySocket.pair(self.reactor)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.assertEqual(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
        one.close()
        self.assertRaises(ConnectionResetError, other.recv, 1)

    def test_noDescriptor(self) -> None:
        """The socket has no descriptor number, which might be that of another file."""
        self.assertRaises(OSError, MemorySocket.pair(self.reactor)[0].fileno)


class Recording(Peer):
    """A peer that counts reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        self.reads.append(len(data))
        super().dataReceived(data)


@implementer(IPushProducer)
class Producer:
    """A producer that records its calls."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class TransportTests(SynchronousTestCase):
    """Twisted's transport on a memory socket."""

    def join(self, **options: Any) -> Any:
        return Network(**options).join(Recording(), Recording())

    def test_interfaces(self) -> None:
        """It provides the interfaces of Twisted's transport."""
        pair = self.join()
        for interface in (ITransport, ITCPTransport, IConsumer, IPushProducer, IHalfCloseableDescriptor):
            self.assertTrue(interface.providedBy(pair.serverTransport), interface)
        self.assertTrue(verifyObject(IHalfCloseableProtocol, Peer()))
        self.assertTrue(verifyObject(IEventListener, RecordingListener()))
        self.assertEqual(pair.serverTransport.getPeer(), pair.clientTransport.getHost())
        self.assertEqual(pair.serverTransport.getHost(), pair.clientTransport.getPeer())
        self.assertIs(DirectTransport.TLS, False)

    def test_neverWithinWrite(self) -> None:
        """Only turns of the reactor deliver bytes."""
        pair = self.join()
        pair.serverProtocol.write(b"abc")
        self.assertEqual(pair.clientProtocol.data, b"")
        pair.flush()
        self.assertEqual(pair.clientProtocol.data, b"abc")

    def test_pump(self) -> None:
        """pump does one turn at a time; False if there was nothing to do."""
        pair = self.join(split=[1])
        pair.serverProtocol.write(b"abc")
        self.assertTrue(pair.pump())
        self.assertEqual(pair.clientProtocol.data, b"")
        self.assertTrue(pair.pump(2))
        self.assertEqual(pair.clientProtocol.data, b"ab")
        self.assertFalse(pair.pump(10))
        self.assertEqual((pair.clientProtocol.data, pair.clientProtocol.reads), (b"abc", [1, 1, 1]))

    def test_pausedReader(self) -> None:
        """If the peer does not read, bytes stay and the writer's producer is paused; it resumes when the peer reads."""
        pair = self.join(capacity=1000)
        producer = Producer()
        pair.serverTransport.registerProducer(producer, True)
        pair.clientTransport.pauseProducing()
        pair.serverTransport.write(bytes(50_000))
        pair.flush()
        self.assertEqual((producer.told, pair.serverTransport.memory.sent), ([], [1000]))
        pair.serverTransport.writeSequence([bytes(10_000), bytes(10_000)])
        self.assertEqual(producer.told, ["pause"])
        pair.clientTransport.resumeProducing()
        pair.flush()
        self.assertEqual((producer.told, len(pair.clientProtocol.data)), (["pause", "resume"], 70_000))
        self.assertRaises(RuntimeError, pair.serverTransport.registerProducer, producer, True)

    def test_pullProducer(self) -> None:
        """A pull producer is called at once, and each time the transport is empty."""
        pair = self.join(capacity=1000)
        left = [5]

        class Pull:
            def resumeProducing(self) -> None:
                if left[0]:
                    left[0] -= 1
                    pair.serverTransport.write(bytes(3000))
                else:
                    pair.serverTransport.unregisterProducer()

            def stopProducing(self) -> None:
                left[0] = -1

        pair.serverTransport.registerProducer(Pull(), False)
        self.assertEqual(left, [4])
        pair.serverTransport.loseConnection()
        pair.flush()
        self.assertEqual((left, len(pair.clientProtocol.data)), ([0], 15_000))
        self.assertTrue(pair.clientProtocol.ended)

    def test_halfClose(self) -> None:
        """loseWriteConnection flushes, and ends one side only."""
        pair = self.join(capacity=10)
        pair.serverProtocol.write(b"last words, and many")
        pair.serverProtocol.end()
        pair.flush()
        self.assertEqual((bytes(pair.clientProtocol.data), pair.clientProtocol.ended), (b"last words, and many", True))
        pair.clientProtocol.write(b"answer")
        pair.clientProtocol.end()
        pair.flush()
        self.assertEqual(bytes(pair.serverProtocol.data), b"answer")
        self.assertIsInstance(pair.serverProtocol.lost, ConnectionDone)
        self.assertIsInstance(pair.clientProtocol.lost, ConnectionDone)

    def test_protocolWithoutHalfClose(self) -> None:
        """A protocol without half-close loses the connection at the end of the peer's stream."""
        lost: list[Any] = []

        class Plain(Protocol):
            def connectionLost(self, reason: Any = None) -> None:
                lost.append(reason.type)

        pair = Network().join(Plain(), Peer())
        pair.peer.end()
        pair.flush()
        self.assertEqual(lost, [ConnectionDone])

    def test_abort(self) -> None:
        """One end gets ConnectionAborted, the other ConnectionLost; pending bytes are lost."""
        pair = self.join(capacity=10)
        pair.serverProtocol.write(bytes(100))
        pair.serverTransport.abortConnection()
        self.assertIs(pair.serverProtocol.lost, None)
        pair.flush()
        self.assertIsInstance(pair.serverProtocol.lost, ConnectionAborted)
        self.assertIsInstance(pair.clientProtocol.lost, ConnectionLost)

    def test_reset(self) -> None:
        """Both ends lose the connection, and bytes that had not arrived are lost."""
        pair = self.join(delay=1.0)
        pair.serverProtocol.write(b"x")
        pair.flush()
        pair.reset()
        pair.flush()
        self.assertEqual(bytes(pair.clientProtocol.data), b"")
        for protocol in (pair.serverProtocol, pair.clientProtocol):
            self.assertIsInstance(protocol.lost, ConnectionLost)

    def test_resetWhilePaused(self) -> None:
        """A transport that neither reads nor writes gets no events, as with epoll; a write reports the loss."""
        pair = self.join()
        pair.serverTransport.pauseProducing()
        pair.reset()
        pair.flush()
        self.assertIs(pair.serverProtocol.lost, None)
        pair.serverProtocol.write(b"x")
        pair.flush()
        self.assertIsInstance(pair.serverProtocol.lost, ConnectionLost)

    def test_exceptionInProtocol(self) -> None:
        """An exception in dataReceived is logged and loses the connection, as with Twisted's reactors."""

        class Failing(Peer):
            def dataReceived(self, data: bytes) -> None:
                raise ZeroDivisionError

        pair = Network().join(Failing(), Peer())
        pair.clientProtocol.write(b"x")
        pair.flush()
        self.assertIsInstance(pair.serverProtocol.lost, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_delay(self) -> None:
        """Bytes arrive after their delay; flush() does not wait for them."""
        pair = self.join(delay=0.5)
        pair.serverProtocol.write(b"x")
        pair.flush()
        pair.advance(0.4)
        self.assertEqual(bytes(pair.clientProtocol.data), b"")
        pair.advance(0.2)
        self.assertEqual(bytes(pair.clientProtocol.data), b"x")

    @hypothesisSettings(max_examples=examples(50), deadline=None)
    @given(
        st.lists(st.binary(max_size=3000), max_size=10),
        st.none() | st.lists(st.integers(1, 500), min_size=1) | st.integers().map(Random),
        st.sampled_from([None, 0.1]),
        st.sampled_from([None, 1, 100]),
    )
    def test_everythingArrives(self, pieces: list[bytes], split: Any, delay: Any, capacity: Any) -> None:
        """With any network, both ends get the bytes of the other, then its end."""
        pair = self.join(split=split, delay=delay, capacity=capacity)
        for protocol in (pair.serverProtocol, pair.clientProtocol):
            protocol.transport.writeSequence(pieces)
            protocol.end()
        # With room for one byte under way a package takes a round trip for each.
        pair.advance(2 + (len(b"".join(pieces)) * 0.1 if capacity == 1 and delay else 35))
        for protocol in (pair.serverProtocol, pair.clientProtocol):
            self.assertEqual(bytes(protocol.data), b"".join(pieces))
            self.assertIsInstance(protocol.lost, ConnectionDone)
