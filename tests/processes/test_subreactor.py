"""Tests of processes/subreactor: connections, in this process."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from twisted.application.internet import StreamServerEndpointService
from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from getty_tx import EventListener
from getty_tx.processes import channel as passing
from getty_tx.processes.channel import packConnections, unpackNumbers
from getty_tx.session.wrappers import socketOf
from tests.support.certificates import Authority
from tests.support.processes import Echo, SubTestCase, making
from tests.support.websocket import request

if TYPE_CHECKING:
    from getty_tx.session.session import Session


def socketNumber(session: Session) -> int:
    """Return the descriptor of a session."""
    handle = socketOf(session.outbound.transport)
    assert handle is not None
    return handle.fileno()


def askOver(context: ssl.SSLContext, client: socket.socket) -> bytes:
    """Return what a WebSocket server answers over TLS, to the end."""
    with context.wrap_socket(client, server_hostname="localhost") as encrypted:
        encrypted.sendall(request())
        answer = b""
        while data := encrypted.recv(1000):
            answer += data
    return answer


class Closing(EventListener):
    """Closes sessions in every callback, and checks that each session gets only its own events."""

    def __init__(self, chance: random.Random) -> None:
        self.random = chance
        self.sessions: set[Session] = set()
        self.opened = self.closed = 0
        self.wrong: list[str] = []

    def _close(self, session: Session) -> None:
        action = self.random.randrange(6)
        others = self.random.sample(sorted(self.sessions, key=lambda each: each.id), min(2, len(self.sessions)))
        for each in [session] if action < 2 else others if action < 4 else []:
            if action % 2:
                each.close()
            else:
                each.abort()

    def onOpen(self, session: Session) -> None:
        """Remember the session."""
        self.opened += 1
        self.sessions.add(session)
        session.attributes["port"] = b"%d" % session.remoteAddr.port
        self._close(session)

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Check that the line is from the session's client."""
        if session not in self.sessions or pkg != session.attributes["port"]:
            self.wrong.append(f"{session} heard {pkg!r}")
        self._close(session)

    def onError(self, session: Session, error: BaseException) -> None:
        """Close the session in a random way."""
        if session not in self.sessions:
            self.wrong.append(f"{session} failed after its end")
        self._close(session)

    def onClose(self, session: Session) -> None:
        """Check that it is closed once."""
        self.closed += 1
        if session not in self.sessions:
            self.wrong.append(f"{session} was closed twice")
        self.sessions.discard(session)
        self._close(session)


class ConnectionTests(SubTestCase):
    """The connections that it takes, and its messages."""

    async def test_serve(self) -> None:
        """It acknowledges a connection, serves it, and reports its end."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(7)
        client.send(b"hello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.assertEqual([7], unpackNumbers(await self.expect(passing.TAKEN)).tolist())
        self.assertEqual([], [data for kind, data in self.hear() if kind == passing.ENDED])
        client.close()
        self.assertEqual([7], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        self.assertEqual(1, self.listener.closed)

    async def test_acknowledgedFirst(self) -> None:
        """Before the acknowledgement is sent, nothing is read and no session is opened."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        while not self.sub.channel.queued:
            self.sub.channel.send(passing.FAILED, bytes(20000))
        client = self.connect(1)
        client.send(b"hello\n")
        await deferLater(reactor, 0.05)
        self.assertEqual([], self.listener.opened)
        await self.expect(passing.TAKEN)
        self.assertEqual(b"hello\n", await self.receive(client))

    async def test_afterTheTurn(self) -> None:
        """
        An event that the reactor still has for a descriptor that was closed does not meet the connection that has its
        number then.
        """
        self.make("tcp:8090")
        await self.expect(passing.READY)
        victims = [self.connect(number) for number in (1, 2)]
        trigger = self.connect(3)
        await self.expect(passing.TAKEN, 3)
        await deferLater(reactor, 0.01)
        sessions = {session.remoteAddr.port: session for session in self.listener.opened}
        # They write and do not read: of these the system says that they are broken, and not that there is anything to
        # read, which would do no harm.
        stuck = [sessions[victim.getsockname()[1]] for victim in victims]
        for session in stuck:
            session.pauseReading()
            session.writeBytes(bytes(10_000_000))

        def drop(session: Session, pkg: Any) -> None:
            for each in stuck:
                # At once, as a refused connection is dropped; abort() waits for the next turn.
                each.outbound.transport.connectionLost(Failure(ConnectionAborted()))

        self.listener.onMessage = drop
        await deferLater(reactor, 0.01)
        numbers = {socketNumber(session) for session in stuck}
        # The reactor hears of all this in one turn, and in this order.
        trigger.send(b"now\n")
        late = self.connect(4)
        for victim in victims:
            victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            victim.close()
        # No other number is free than those of the two.
        while (number := os.open(os.devnull, os.O_RDONLY)) < max(numbers):
            self.addCleanup(os.close, number)
        self.addCleanup(os.close, number)
        await self.expect(passing.TAKEN, 4)
        self.listener.onMessage = Echo().onMessage
        late.send(b"mine\n")
        self.assertEqual(b"mine\n", await self.receive(late))
        # Or else nothing was tested.
        self.assertIn(socketNumber(self.listener.opened[-1]), numbers)

    async def test_closeEverywhere(self) -> None:
        """
        Sessions are closed in every callback, their own and others', while new connections come: each hears only what
        its own client has said, and never after its end.
        """
        self.listener = Closing(random.Random(5))
        self.make("tcp:8090")
        await self.expect(passing.READY)
        clients: dict[socket.socket, int] = {}
        for number in range(600):
            client = self.connect(number % 50000)
            clients[client] = number
            client.send(b"%d\n" * 3 % ((client.getsockname()[1],) * 3))
            if number % 3 == 0:
                # Others say something more, or go away, meanwhile.
                for other in self.listener.random.sample(list(clients), min(len(clients), 5)):
                    try:
                        other.send(b"%d\n" % other.getsockname()[1])
                    except OSError:
                        del clients[other]
                        other.close()
            if number % 7 == 0:
                await deferLater(reactor, 0)
        for client in clients:
            client.close()
        await self.expect(passing.ENDED, 600)
        self.assertEqual([], self.listener.wrong)
        self.assertEqual((600, 600), (self.listener.opened, self.listener.closed))
        ended = unpackNumbers(await self.expect(passing.ENDED, 600)).tolist()
        self.assertEqual(sorted(ended), list(range(600)))

    async def test_reset(self) -> None:
        """A connection that was reset on its way is acknowledged and reported as ended."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(9)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertEqual([9], unpackNumbers(await self.expect(passing.ENDED)).tolist())

    async def test_noDescriptor(self) -> None:
        """Out of descriptors a connection is refused."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        error = OSError(errno.EMFILE, "Too many open files")
        self.sub.reactor = Mock(wraps=reactor, adoptStreamConnection=Mock(side_effect=error))
        client = self.connect(3)
        self.assertEqual([3], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        self.assertEqual(1, self.servers[0].refusals["descriptors"])
        self.assertEqual(b"", await self.receive(client))

    async def test_failing(self) -> None:
        """A connection whose protocol fails at once is dropped and reported as ended."""

        class Failing(Protocol):
            def connectionMade(self) -> None:
                raise ZeroDivisionError

        making.append(lambda endpoints: StreamServerEndpointService(endpoints[0], Factory.forProtocol(Failing)))
        self.addCleanup(making.pop)
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(3)
        self.assertEqual([3], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(b"", await self.receive(client))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_refused(self) -> None:
        """A connection that the factory drops is reported as ended."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.servers[0].contexts[0].maxSessions = 1
        self.connect(1)
        await self.expect(passing.TAKEN)
        client = self.connect(2)
        self.assertEqual([2], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        self.assertEqual(b"", await self.receive(client))

    async def test_toRefuse(self) -> None:
        """A REFUSE connection gets an answer, is no connection of the service, and is not counted again."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        secure = f"wss:8443:privateKey={key}:certKey={certificate}"
        self.make("ws:8091", secure, secure + ":onSocket=no")
        await self.expect(passing.READY)
        server = self.servers[0]
        # They would refuse it as well, and count that.
        server.maxSessions = server.maxSessionsPerHost = 1
        clients = [self.connect(1), self.connect(2, 0, passing.REFUSE)]
        for client in clients:
            client.send(request())
        self.assertIn(b"HTTP/1.1 503 Service Unavailable", await self.receive(clients[1], 1000))
        self.assertIn(b"101 Switching Protocols", await self.receive(clients[0], 100))
        context = server.contexts[0]
        trusting = ssl.create_default_context(cafile=authority.path)
        for endpoint in (1, 2):
            client = self.connect(2 + endpoint, endpoint, passing.REFUSE)
            client.setblocking(True)
            asking = deferToThread(askOver, trusting, client)
            while not context.answering:
                await deferLater(reactor, 0.001)
            self.assertEqual((1, 0), (context.connections, len(context.handshaking)))
            self.assertTrue((await asking).startswith(b"HTTP/1.1 503 Service Unavailable"))
        self.assertEqual([2, 3, 4], unpackNumbers(await self.expect(passing.ENDED, 3)).tolist())
        self.assertEqual((0, 1, set()), (server.refused, len(self.listener.opened), context.answering))

    async def test_toRefuseWithout(self) -> None:
        """Without descriptors, or for one that has just been reset, there is no answer, and no second count."""
        self.make("ws:8091")
        await self.expect(passing.READY)
        factory = self.sub._bound[0].factory
        factory._full = True
        self.patch(factory, "_hasDescriptors", lambda: False)
        client = self.connect(1, 0, passing.REFUSE)
        self.assertEqual(b"", await self.receive(client))
        error = OSError(errno.EMFILE, "Too many open files")
        self.sub.reactor = Mock(wraps=reactor, adoptStreamConnection=Mock(side_effect=error))
        self.connect(2, 0, passing.REFUSE)
        self.assertEqual([1, 2], unpackNumbers(await self.expect(passing.ENDED, 2)).tolist())
        self.assertEqual(0, self.servers[0].refused)

    async def test_toRefuseSilent(self) -> None:
        """One that sends nothing delays no drain, and is dropped when a handshake would be."""
        self.make("ws:8091")
        await self.expect(passing.READY)
        context = self.servers[0].contexts[0]
        context.handshakeTimeout = 0.05
        client = self.connect(1, 0, passing.REFUSE)
        self.assertEqual([1], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        with contextlib.suppress(ConnectionResetError):
            self.assertEqual(b"", await self.receive(client))
        context.handshakeTimeout = 600
        self.connect(2, 0, passing.REFUSE)
        while not context.answering:
            await deferLater(reactor, 0.001)
        self.tell(passing.DRAIN, struct.pack("<d", 1000.0))
        await self.over
        while context.answering:
            await deferLater(reactor, 0.001)
        self.assertEqual(0, len(context.wheel))

    async def test_fewDescriptors(self) -> None:
        """Connections whose descriptors were lost are returned."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            self.addCleanup(client.close)
            accepted, _ = listening.accept()
        with accepted:
            self.tell(passing.TAKE, packConnections([(1, 0), (2, 0), (3, 0)]), [accepted.fileno()])
        self.assertEqual([1], unpackNumbers(await self.expect(passing.TAKEN)).tolist())
        self.assertEqual([2, 3], unpackNumbers(await self.expect(passing.RETURNED, 2)).tolist())

    async def test_kinds(self) -> None:
        """Each endpoint has its own factory: TLS, WebSocket, PROXY headers and unix sockets are built here."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        self.make(
            f"ssl:8443:privateKey={key}:certKey={certificate}",
            "ws:8091:path=/echo",
            "haproxy:tcp:8092",
            "unix:some.sock",
        )
        await self.expect(passing.READY)
        context = ssl.create_default_context(cafile=authority.path)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        client = self.connect(1, 0)
        for step in (tls.do_handshake, lambda: tls.write(b"private\n"), lambda: tls.read(100)):
            while True:
                try:
                    result = step()
                    break
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    incoming.write(await self.receive(client))
            if outgoing.pending:
                client.sendall(outgoing.read())
        self.assertEqual(b"private\n", result)
        client = self.connect(2, 1)
        client.send(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.assertIn(b"101 Switching Protocols", await self.receive(client, 100))
        client.send(b"\x82\x83\0\0\0\0hi\n")
        self.assertEqual(b"\x82\x03hi\n", await self.receive(client, 5))
        client = self.connect(3, 2)
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\nhello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.assertEqual("192.0.2.7", self.listener.opened[-1].remoteAddr.host)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self.tell(passing.TAKE, packConnections([(4, 3)]), [theirs.fileno()])
        with ours:
            ours.send(b"near\n")
            self.assertEqual(b"near\n", await self.receive(ours))

    async def test_protocols(self) -> None:
        """Factories of other packages are served, too."""

        class Shout(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(data.upper())

        making.append(lambda endpoints: StreamServerEndpointService(endpoints[0], Factory.forProtocol(Shout)))
        self.addCleanup(making.pop)
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello")
        self.assertEqual(b"HELLO", await self.receive(client, 5))
        client.close()
        await self.expect(passing.ENDED)

    async def test_lent(self) -> None:
        """With reuse-port it listens on lent sockets itself, with its part of ``maxSessions``."""
        stream, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for each in (stream, datagrams):
            self.addCleanup(each.close)
            each.setblocking(False)
            each.bind(("127.0.0.1", 0))
        lent = [os.dup(each.fileno()) for each in (stream, datagrams)]
        self.make("tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1:sessions=peer", lent=lent, maxSessions=2)
        await self.expect(passing.READY)
        client = socket.create_connection(stream.getsockname())
        client.setblocking(False)
        with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            client.send(b"hello\n")
            self.assertEqual(b"hello\n", await self.receive(client))
            other.setblocking(False)
            other.sendto(b"hi\n", datagrams.getsockname())
            self.assertEqual(b"hi\n", await self.receive(other))
            self.assertEqual(2, self.servers[0].contexts[0].maxSessions)
            for session in self.listener.opened:
                # The client does not end its side.
                session.waitTime = 0.1
            self.tell(passing.DRAIN, struct.pack("<d", 4.0))
            await self.over
        # The sockets are still there for another sub-reactor.
        socket.create_connection(stream.getsockname()).close()
