"""Peers of a UDP server that have gone: their system refuses datagrams. On real sockets, over loopback."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx.codecs import LineCodec
from getty_tx.testing import RecordingListener
from getty_tx.transports.udp.endpoints import MAX_PACKET_SIZE
from getty_tx.transports.udp.port import PeersPort, SessionPort, listenUDP, portTypeOf
from getty_tx.transports.udp.protocol import SessionDatagramProtocol
from tests.support.memory import configure


class RefusingTests(TestCase):
    """A server's socket with a session for each peer; ``self.heard`` is the listener of all."""

    timeout = 20

    def serve(self, interface: str = "127.0.0.1") -> Any:
        """Listen, and return the port."""
        self.heard = RecordingListener()
        self.protocol = SessionDatagramProtocol(configure(self.heard, LineCodec()), sessions="peer")
        self.port = listenUDP(reactor, 0, self.protocol, interface, MAX_PACKET_SIZE)
        self.addCleanup(self.protocol.close)
        return self.port

    def peer(self, data: bytes = b"hello\n") -> socket.socket:
        """A socket that has sent a datagram."""
        host = self.port.getHost()
        made = socket.socket(self.port.addressFamily, socket.SOCK_DGRAM)
        self.addCleanup(made.close)
        made.connect((host.host, host.port))
        made.settimeout(10)
        made.send(data)
        return made

    async def opened(self, number: int) -> list[Any]:
        """Wait for so many sessions, and return them by the ports of their peers."""
        context: Any = self.protocol.context
        while len(context.sessions) < number:
            await deferLater(reactor, 0.01)
        return sorted(context.sessions, key=lambda session: session.remoteAddr.port)

    async def until(self, condition: Any) -> None:
        """Wait until a condition is true; the test's time-out is the limit."""
        while not condition():
            await deferLater(reactor, 0.01)

    async def goes(self) -> None:
        """One of two peers goes, and its session fails; the other one gets every datagram."""
        gone, stays = self.peer(), self.peer()
        [one, other] = await self.opened(2)
        if one.remoteAddr.port != gone.getsockname()[1]:
            one, other = other, one
        gone.close()
        for _ in range(3):
            one.writePkg(b"there?")
            # The error of the last datagram is pending on the socket now.
            other.writePkg(b"yes")
        await self.until(lambda: "close" in self.heard.names)
        self.assertEqual(["error", "close"], self.heard.names[-2:])
        [error] = self.heard.errors
        self.assertIsInstance(error, ConnectionRefusedError)
        self.assertTrue(one.isClosed)
        self.assertEqual([b"yes\n"] * 3, [stays.recv(100) for _ in range(3)])
        self.assertEqual(0, other.stats.dropped)
        # The socket is read as before.
        stays.send(b"still here\n")
        await self.until(lambda: self.heard.packages[-1] == b"still here")
        self.peer(b"a new one\n")
        self.assertEqual(2, len(await self.opened(2)))

    async def test_goes(self) -> None:
        """Over IPv4."""
        self.serve()
        await self.goes()

    async def test_goesIPv6(self) -> None:
        """Over IPv6."""
        self.serve("::1")
        await self.goes()

    async def test_otherReactors(self) -> None:
        """Reactors that have no event for errors have it read: what is found there, or nothing, is no datagram."""
        port = self.serve()
        for isTaken in (False, True):
            gone = self.peer()
            [session] = await self.opened(1)
            port.stopReading()
            gone.close()
            session.writePkg(b"there?")
            poll = select.poll()
            poll.register(port.fileno(), 0)
            self.assertTrue(poll.poll(10_000))
            if isTaken:
                # As a write to another peer does.
                port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            port.doRead()
            self.assertTrue(session.isClosed)
            self.assertEqual([], poll.poll(0))
            port.startReading()
            await self.until(lambda: self.heard.names[-1] == "close")

    async def test_unknown(self) -> None:
        """A refusal of an address that has no session, any more, is nothing."""
        port = self.serve()
        gone = self.peer()
        await self.opened(1)
        where = gone.getsockname()
        gone.close()
        self.protocol.refusedBy(where)
        self.protocol.refusedBy(where)
        await self.until(lambda: self.heard.names == ["open", "message", "error", "close"])
        port.socket.sendto(b"anybody?", where)
        self.peer()
        await self.opened(1)

    async def test_onlyPeers(self) -> None:
        """A socket with one session has no use for it, and is the port that it was."""
        one = SessionDatagramProtocol(configure(), sessions="one")
        self.assertEqual((SessionPort, SessionPort), (portTypeOf(one), portTypeOf(object())))
        self.assertIsInstance(self.serve(), PeersPort)
