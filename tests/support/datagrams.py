"""Helpers for tests of UDP: a socket and a transport that record what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LineCodec
from getty_tx.testing import MemoryReactor, RecordingListener
from getty_tx.transports.udp.protocol import SessionDatagramProtocol
from tests.support.memory import configure

if TYPE_CHECKING:
    from twisted.internet.task import Clock

HERE = IPv4Address("UDP", "192.0.2.1", 8090)
PEER = ("198.51.100.1", 40000)
OTHER = ("198.51.100.2", 40000)


class Socket:
    """Records what is sent, or fails with ``error``, or once with ``errorOnce``."""

    def __init__(self, peer: tuple[str, int] | None = None) -> None:
        self.peer = peer
        self.sent: list[tuple[bytes, Any]] = []
        self.error: OSError | None = None
        self.errorOnce: OSError | None = None

    def sendto(self, data: bytes, addr: Any) -> int:
        """As a socket's."""
        if self.errorOnce is not None:
            error, self.errorOnce = self.errorOnce, None
            raise error
        if self.error is not None:
            raise self.error
        self.sent.append((data, addr))
        return len(data)

    def send(self, data: bytes) -> int:
        """As a socket's."""
        return self.sendto(data, None)

    def getpeername(self) -> tuple[str, int]:
        """As a socket's."""
        if self.peer is None:
            raise OSError("not connected")
        return self.peer


class Transport:
    """A fake UDP transport."""

    maxPacketSize = 2001

    def __init__(self, clock: Clock, protocol: Any, peer: tuple[str, int] | None = None) -> None:
        self.clock = clock
        self.protocol = protocol
        self.handle = Socket(peer)
        self.reading = self.listening = True
        protocol.makeConnection(self)

    def getHandle(self) -> Socket:
        """The socket."""
        return self.handle

    def getHost(self) -> IPv4Address:
        """The local address."""
        return HERE

    def pauseProducing(self) -> None:
        """Read no more."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        self.reading = True

    def stopListening(self) -> Deferred[None]:
        """Close in the next reactor iteration."""
        done: Deferred[None] = Deferred()
        self.clock.callLater(0, self.lose, done)
        return done

    def lose(self, done: Deferred[None] | None = None) -> None:
        """Close now, whether or not this side has asked for it."""
        self.listening = False
        self.protocol.doStop()
        if done is not None:
            done.callback(None)


class DatagramCase(SynchronousTestCase):
    """Tests of a protocol without sockets; its listener is ``self.heard``."""

    def open(
        self,
        on: dict[str, Any] | None = None,
        *,
        peer: tuple[str, int] | None = None,
        sessions: str = "one",
        maxSessions: int | None = None,
        maxSessionsPerHost: int | None = None,
        codec: Any = None,
        newSession: Any = None,
        **settings: Any,
    ) -> Any:
        """Make the protocol, and return its session if it has one at once."""
        self.clock = MemoryReactor()
        self.heard = RecordingListener(on)
        self.protocol: Any = SessionDatagramProtocol(
            newSession or configure(self.heard, codec or LineCodec(), **settings),
            sessions=sessions,
            maxSessions=maxSessions,
            maxSessionsPerHost=maxSessionsPerHost,
            reactor=self.clock,
        )
        self.transport = Transport(self.clock, self.protocol, peer)
        self.context = self.protocol.factory.context
        return self.protocol.session

    def receive(self, data: bytes, addr: tuple[str, int] = PEER) -> None:
        """A datagram arrives."""
        self.protocol.datagramReceived(data, addr)

    @property
    def sent(self) -> list[tuple[bytes, Any]]:
        """The datagrams sent, with their addresses."""
        return self.transport.handle.sent

    def finish(self) -> None:
        """Close, and check that nothing is left."""
        self.protocol.close()
        self.clock.advance(0)
        self.assertFalse(self.transport.listening)
        self.assertFalse(self.context.hosts)
        self.assertEqual((self.context.connections, self.context.sockets, self.context.sessions), (0, 0, set()))
        self.assertFalse(self.context.wheel.running)
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
