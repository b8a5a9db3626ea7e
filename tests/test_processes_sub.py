"""A sub-reactor, in this process: what it does with the connections that a main process passes to it."""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel, eventFromJSON, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from getty_tx import EventListener, Server, SettingError
from getty_tx.codecs import LineCodec
from getty_tx.reactors import passing
from getty_tx.reactors.drain import SILENCE
from getty_tx.reactors.passing import channelPair, packConnections, receiveOne, unpackNumbers
from getty_tx.reactors.sub import SubReactor
from tests.certificates import Authority
from tests.test_tap_listen import keepLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session import Session

#: What the service of the next SubReactor is made by; set by tests.
making: list[Callable[..., Any]] = []


def makeService(endpoints: Sequence[IStreamServerEndpoint], *arguments: str) -> IService:
    """What a config names."""
    service: IService = making[-1](endpoints, *arguments)
    return service


class Echo(EventListener):
    """Sends lines back; remembers its sessions."""

    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.closed = 0

    def onOpen(self, session: Session) -> None:
        """It is open."""
        self.opened.append(session)

    def onMessage(self, session: Session, pkg: Any) -> None:
        """A line came."""
        session.writePkg(pkg)

    def onClose(self, session: Session) -> None:
        """It is closed."""
        self.closed += 1


class SubTestCase(TestCase):
    """A SubReactor; the other end of its channel is this test's."""

    timeout = 60

    def setUp(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.listener: Any = Echo()
        self.servers: list[Server] = []
        self.over: Deferred[None] = Deferred()
        making.append(self.makeServer)
        self.addCleanup(making.pop)

    def makeServer(self, endpoints: Sequence[IStreamServerEndpoint]) -> Server:
        """The service."""

        def newSession(session: Session) -> None:
            session.codec = LineCodec()
            session.listener = self.listener

        self.servers.append(Server(newSession, *endpoints))
        return self.servers[-1]

    def make(self, *endpoints: str, lent: Sequence[int] = (), **config: Any) -> SubReactor:
        """Start one."""
        ours, theirs = channelPair()
        self.main = ours
        ours.setblocking(False)
        self.addCleanup(ours.close)
        settings = {
            "target": f"{__name__}:makeService",
            "arguments": [],
            "endpoints": endpoints,
            "addresses": [["127.0.0.1", 8090]] * len(endpoints),
            "period": 0.2,
            "drainTimeout": 8.0,
            "maxSessions": None,
            **config,
        }
        self.sub = SubReactor(settings, list(lent), theirs, reactor, lambda: self.over.callback(None))
        self.addCleanup(self.clean)
        self.sub.start()
        return self.sub

    async def clean(self) -> None:
        """Nothing is left."""
        if not self.over.called:
            self.tell(passing.DRAIN, struct.pack("<d", 1.0))
            await self.over
        self.sub._channel.close()
        if self.sub._service is not None:
            await self.sub._service.stopService()

    def tell(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """As the main process does."""
        self.main.setblocking(True)
        socket.send_fds(self.main, [bytes([kind]) + data], list(descriptors))
        self.main.setblocking(False)

    def hear(self) -> list[tuple[int, bytes]]:
        """All that it has said so far."""
        try:
            while True:
                data, _ = receiveOne(self.main)
                if not data:
                    break
                self.messages.append((data[0], data[1:]))
        except BlockingIOError:
            pass
        return self.messages

    async def expect(self, kind: int, count: int = 1) -> bytes:
        """Wait for messages of a kind; what is in all of them together."""
        while True:
            found = [data for each, data in self.hear() if each == kind]
            if sum(len(data) // 4 or 1 for data in found) >= count:
                return b"".join(found)
            await deferLater(reactor, 0.005)

    def connect(self, number: int, endpoint: int = 0) -> socket.socket:
        """Pass it a connection over TCP; the client's end of it."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        self.addCleanup(client.close)
        client.setblocking(False)
        with accepted:
            self.tell(passing.TAKE, packConnections([(number, endpoint)]), [accepted.fileno()])
        return client

    async def receive(self, client: socket.socket, size: int = 1) -> bytes:
        """What comes to a client, at least so many bytes, or all until the end."""
        heard = b""
        while len(heard) < size:
            try:
                data = client.recv(65536)
            except BlockingIOError:
                await deferLater(reactor, 0.002)
                continue
            if not data:
                break
            heard += data
        return heard


class ConnectionTests(SubTestCase):
    """What it takes and what it tells."""

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
        """As long as the acknowledgement is not out, nothing is read and no session is opened."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        while not self.sub._channel.waiting:
            self.sub._channel.send(passing.FAILED, bytes(20000))
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
                each.connection._raw.connectionLost(Failure(ConnectionAborted()))  # type: ignore[attr-defined]

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
        """A connection that was reset on its way is acknowledged and has ended."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(9)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        self.assertEqual([9], unpackNumbers(await self.expect(passing.ENDED)).tolist())

    async def test_refused(self) -> None:
        """One that the factory drops has ended, too."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.servers[0]._factory.maxSessions = 1
        self.connect(1)
        await self.expect(passing.TAKEN)
        client = self.connect(2)
        self.assertEqual([2], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        self.assertEqual(b"", await self.receive(client))

    async def test_fewDescriptors(self) -> None:
        """Connections without a descriptor, as the process may have no more, are returned."""
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
        """A factory of another program's protocols is served as well."""

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
        """With reuse-port it listens itself, on sockets that the main process has bound, with its part of a limit."""
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
            self.assertEqual(2, self.servers[0]._factory.keeper.maxSessions)
            self.tell(passing.DRAIN, struct.pack("<d", 4.0))
            await self.over
        # The sockets are still there for another sub-reactor.
        socket.create_connection(stream.getsockname()).close()


def socketNumber(session: Session) -> int:
    """The number of a session's descriptor."""
    number: int = session.connection._raw.fileno()  # type: ignore[attr-defined]
    return number


class Closing(EventListener):
    """Closes sessions, in every callback, and checks that they hear of nothing that is not theirs."""

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
        """It is open."""
        self.opened += 1
        self.sessions.add(session)
        session.attributes["port"] = b"%d" % session.remoteAddr.port
        self._close(session)

    def onMessage(self, session: Session, pkg: Any) -> None:
        """What came is what its client has said."""
        if session not in self.sessions or pkg != session.attributes["port"]:
            self.wrong.append(f"{session} heard {pkg!r}")
        self._close(session)

    def onError(self, session: Session, error: BaseException) -> None:
        """Reset, or what else there is."""
        if session not in self.sessions:
            self.wrong.append(f"{session} failed after its end")
        self._close(session)

    def onClose(self, session: Session) -> None:
        """It is closed, once."""
        self.closed += 1
        if session not in self.sessions:
            self.wrong.append(f"{session} was closed twice")
        self.sessions.discard(session)
        self._close(session)


class StartTests(SubTestCase):
    """How it begins."""

    async def failure(self, make: Callable[..., Any]) -> str:
        """What it says when its service cannot be made so."""
        making.append(make)
        self.addCleanup(making.pop)
        self.make("tcp:8090", "tcp:8091")
        await self.over
        return (await self.expect(passing.FAILED)).decode()

    async def test_error(self) -> None:
        """An error is told with its type, one of a setting as it is."""
        self.assertEqual("ZeroDivisionError: division by zero", await self.failure(lambda endpoints: 1 / 0))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    async def test_setting(self) -> None:
        """The text of an error of this package is enough."""

        def make(endpoints: Any) -> Any:
            raise SettingError("--codec x: there is none")

        self.assertEqual("--codec x: there is none", await self.failure(make))
        self.flushLoggedErrors(SettingError)

    async def test_noService(self) -> None:
        """What is no service."""
        self.assertIn("TypeError", await self.failure(lambda endpoints: None))
        self.flushLoggedErrors(TypeError)

    async def test_unused(self) -> None:
        """It is ready when all endpoints are listened on, and not before."""
        making.append(lambda endpoints: self.makeServer(endpoints[:1]))
        self.addCleanup(making.pop)
        self.make("tcp:8090", "tcp:8091")
        await deferLater(reactor, 0.02)
        self.assertNotIn(passing.READY, [kind for kind, _ in self.hear()])

    async def test_certificates(self) -> None:
        """A file that is there no more when it starts, though it was when the main process did."""
        self.make("ssl:8443:certKey=gone.pem:privateKey=gone.pem")
        await self.over
        self.assertIn(b"gone.pem", await self.expect(passing.FAILED))
        self.flushLoggedErrors()

    async def test_beats(self) -> None:
        """It gives signs of life, with what it counts."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        await self.receive(client)
        client.close()
        await self.expect(passing.ENDED)
        self.messages.clear()
        counts = json.loads((await self.expect(passing.BEAT)).partition(b"}")[0] + b"}")
        wanted = {"served": 1, "sessions": 0, "connections": 0, "readBytes": 6, "readPkgs": 1, "writePkgs": 1}
        self.assertEqual(wanted, {name: counts[name] for name in wanted})

    async def test_log(self) -> None:
        """Events of the log go to the main process, with what they are made of, or shortened."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        logger = Logger("some.place", observer=self.sub.relay)  # type: ignore[arg-type]
        logger.warn("{session} has {number}", session=self.sub, number=5)
        event = eventFromJSON((await self.expect(passing.LOG)).decode())
        self.assertEqual(f"{self.sub} has 5", formatEvent(event))
        self.assertEqual(("some.place", LogLevel.warn), (event["log_namespace"], event["log_level"]))
        self.messages.clear()
        logger.error("{text}", text="x" * 200_000)
        event = eventFromJSON((await self.expect(passing.LOG)).decode())
        self.assertEqual(LogLevel.error, event["log_level"])
        self.assertIn("xxx", formatEvent(event))

    async def test_logFlood(self) -> None:
        """Where the main process does not read, events are dropped, and that is told."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        logger = Logger("some.place", observer=self.sub.relay)  # type: ignore[arg-type]
        lines = keepLog(self)
        for _ in range(3000):
            logger.info("x" * 1000)
        self.assertLess(self.sub._channel.waiting, 1100)
        while self.sub._channel.waiting:
            self.hear()
            await deferLater(reactor, 0)
        logger.info("more")
        self.assertTrue(any("events of the log were dropped" in line for line in lines))


class EndTests(SubTestCase):
    """How it ends."""

    async def test_drain(self) -> None:
        """Sessions at rest are closed, what comes then is returned, and it is over."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        await deferLater(reactor, 0.01)
        other = self.connect(2)
        self.assertEqual([2], unpackNumbers(await self.expect(passing.RETURNED)).tolist())
        self.assertEqual(b"", await self.receive(client))
        client.close()
        await self.over
        self.assertEqual([1], unpackNumbers(await self.expect(passing.ENDED)).tolist())
        other.close()

    async def test_drainBusy(self) -> None:
        """A session that waits for its handler, or has an incomplete package, is not at rest."""
        waiting: list[Deferred[None]] = []

        async def onMessage(session: Session, pkg: Any) -> None:
            waiting.append(Deferred())
            await waiting[-1]
            session.writePkg(pkg)

        self.listener.onMessage = onMessage
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client, other = self.connect(1), self.connect(2)
        client.send(b"hello\n")
        other.send(b"begun")
        while not waiting:
            await deferLater(reactor, 0.002)
        self.tell(passing.DRAIN, struct.pack("<d", 60.0))
        await deferLater(reactor, SILENCE * 2)
        for each in (client, other):
            self.assertRaises(BlockingIOError, each.recv, 1)
        waiting.pop().callback(None)
        other.send(b" and ended\n")
        while not waiting:
            await deferLater(reactor, 0.002)
        waiting.pop().callback(None)
        for each, expected in ((client, b"hello\n"), (other, b"begun and ended\n")):
            self.assertEqual(expected, await self.receive(each, 100))
            each.close()
        await self.over

    async def test_arrivedBefore(self) -> None:
        """Connections that came before it was told to end are served what they have asked."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        self.assertEqual(b"hello\n", await self.receive(client, 100))
        client.close()
        await self.over

    async def test_late(self) -> None:
        """What does not come to rest is closed in the end; the process does not wait for it."""
        self.listener.onMessage = lambda session, pkg: Deferred()
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        while not self.listener.opened:
            await deferLater(reactor, 0.002)
        self.listener.opened[0].waitTime = 0.1
        self.tell(passing.DRAIN, struct.pack("<d", 0.5))
        await self.over

    async def test_leave(self) -> None:
        """A signal makes it say that it leaves, and drain."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.sub.leave()
        self.sub.leave()
        await self.expect(passing.LEAVING)
        await self.over
        self.assertEqual(1, len([kind for kind, _ in self.hear() if kind == passing.LEAVING]))

    async def test_mainGone(self) -> None:
        """Without its main process it drains as well."""
        self.make("tcp:8090")
        await self.expect(passing.READY)
        client = self.connect(1)
        client.send(b"hello\n")
        self.assertEqual(b"hello\n", await self.receive(client))
        self.main.close()
        self.assertEqual(b"", await self.receive(client))
        client.close()
        await self.over

    async def test_stopFails(self) -> None:
        """A service that fails to stop does not keep it."""

        class Failing(MultiService):
            def stopService(self) -> Any:
                raise ZeroDivisionError

        def make(endpoints: Any) -> Any:
            service = Failing()
            self.makeServer(endpoints).setServiceParent(service)  # type: ignore[no-untyped-call]
            return service

        making.append(make)
        self.addCleanup(making.pop)
        self.make("tcp:8090")
        await self.expect(passing.READY)
        self.tell(passing.DRAIN, struct.pack("<d", 8.0))
        await self.over
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.sub._service = self.servers[0]
