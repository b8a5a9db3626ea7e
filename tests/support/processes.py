"""A SubReactor in the process of a test, which acts as its main process."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import EventListener, Server
from getty_tx.codecs import LineCodec
from getty_tx.processes import channel as passing
from getty_tx.processes.channel import channelPair, packConnections, receiveOne
from getty_tx.processes.subreactor import SubReactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session.session import Session

#: Makes the service of the next SubReactor; set by tests.
making: list[Callable[..., Any]] = []


def makeService(endpoints: Sequence[IStreamServerEndpoint], *arguments: str) -> IService:
    """The target of the config."""
    service: IService = making[-1](endpoints, *arguments)
    return service


class Echo(EventListener):
    """Sends lines back; remembers its sessions."""

    def __init__(self) -> None:
        self.opened: list[Session] = []
        self.closed = 0

    def onOpen(self, session: Session) -> None:
        """Remember the session."""
        self.opened.append(session)

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Send the line back."""
        session.writePkg(pkg)

    def onClose(self, session: Session) -> None:
        """Count the closed session."""
        self.closed += 1


class SubTestCase(TestCase):
    """A SubReactor, with the other end of its channel."""

    timeout = 60

    def setUp(self) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.listener: Any = Echo()
        self.servers: list[Server] = []
        self.over: Deferred[None] = Deferred()
        making.append(self.makeServer)
        self.addCleanup(making.pop)

    def makeServer(self, endpoints: Sequence[IStreamServerEndpoint]) -> Server:
        """Make the service."""

        def newSession(session: Session) -> None:
            session.codec = LineCodec()
            session.listener = self.listener

        self.servers.append(Server(newSession, *endpoints))
        return self.servers[-1]

    def make(self, *endpoints: str, lent: Sequence[int] = (), **config: Any) -> SubReactor:
        """Start a SubReactor."""
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
            "answering": None,
            **config,
        }
        self.sub = SubReactor(settings, list(lent), theirs, reactor, lambda: self.over.callback(None))
        self.addCleanup(self.clean)
        self.sub.start()
        return self.sub

    async def clean(self) -> None:
        """End it, and stop its service."""
        if not self.over.called:
            self.tell(passing.DRAIN, struct.pack("<d", 1.0))
            await self.over
        self.sub.channel.close()
        if self.sub.service is not None:
            await self.sub.service.stopService()

    def tell(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a message as the main process."""
        self.main.setblocking(True)
        socket.send_fds(self.main, [bytes([kind]) + data], list(descriptors))
        self.main.setblocking(False)

    def hear(self) -> list[tuple[int, bytes]]:
        """Return all messages so far."""
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
        """Wait for messages of a kind; return their data, joined."""
        while True:
            found = [data for each, data in self.hear() if each == kind]
            if sum(len(data) // 4 or 1 for data in found) >= count:
                return b"".join(found)
            await deferLater(reactor, 0.005)

    def connect(self, number: int, endpoint: int = 0, kind: int = passing.TAKE) -> socket.socket:
        """Hand over a TCP connection; return the client's end."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        self.addCleanup(client.close)
        client.setblocking(False)
        with accepted:
            self.tell(kind, packConnections([(number, endpoint)]), [accepted.fileno()])
        return client

    async def receive(self, client: socket.socket, size: int = 1) -> bytes:
        """Return at least ``size`` bytes that a client receives, or all until the end."""
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
