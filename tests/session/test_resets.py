"""What a connection left that was reset: it is delivered before the error is told, as a plain socket would read it."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from getty_tx.client import Client
from getty_tx.codecs import LineCodec
from getty_tx.testing import RecordingListener
from tests.support.memory import SessionCase, frame

if TYPE_CHECKING:
    from getty_tx.session.session import Session

reactor: Any = installed

#: Fewer bytes than any system's receive buffer holds, so that a reset finds all of them there.
LINES = 500
LINE = b"x" * 60


class SocketTests(TestCase):
    """A peer that answers with many lines and resets the connection, before the client has read one of them."""

    timeout = 20

    def setUp(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.heard = RecordingListener()
        self.ended: Deferred[None] = Deferred()
        self.heard.on["close"] = lambda session: self.ended.callback(None)

    def answerAndReset(self) -> None:
        """In a thread: it returns when the reset is at the client's socket."""
        peer, _ = self.listening.accept()
        with peer:
            peer.sendall((LINE + b"\n") * LINES)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def hear(self, on: dict[str, Any]) -> None:
        """Connect a client, whose reactor stands still in onOpen until the peer has done all this."""
        self.heard.on |= on
        begin = self.heard.on.pop("open", lambda session: None)

        def opened(session: Session) -> None:
            self.answerAndReset()
            begin(session)

        def newSession(session: Session) -> None:
            session.codec, session.listener = LineCodec(), self.heard

        self.heard.on["open"] = opened
        port = self.listening.getsockname()[1]
        client = Client(newSession, f"tcp:127.0.0.1:{port}", reconnectInterval=60.0)
        client.startService()
        try:
            await self.ended
        finally:
            await client.stopService()
        self.assertEqual(self.heard.names, ["open", *["message"] * LINES, "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ConnectionLost)

    async def test_nothingWritten(self) -> None:
        """The reset shows in a read: all lines are there before it."""
        await self.hear({})

    async def test_failedWrite(self) -> None:
        """It shows in a write."""
        await self.hear({"open": lambda session: session.writePkg(b"question")})

    async def test_failedWrites(self) -> None:
        """In the write of what each line is answered with."""
        await self.hear({"message": lambda session, pkg: session.writePkg(pkg)})

    async def test_underPressure(self) -> None:
        """The session does not read, as too much waits to be sent."""
        await self.hear({"open": lambda session: session.writeBytes(bytes(8_000_000))})

    async def test_paused(self) -> None:
        """It does not read for a while, as the application wants it so."""

        def opened(session: Session) -> None:
            session.pauseReading()
            reactor.callLater(0, session.resumeReading)

        await self.hear({"open": opened})

    async def test_asynchronous(self) -> None:
        """It waits for an ``async def``."""

        async def message(session: Session, pkg: bytes) -> None:
            await deferLater(reactor, 0)

        await self.hear({"message": message})


class PluginTests(TestCase):
    """What the socket tests take for granted."""

    def test_plainSocket(self) -> Deferred[None]:
        """A plain socket hears every line of such a peer."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def run() -> int:
            with socket.create_connection(listening.getsockname()) as client:
                peer, _ = listening.accept()
                with peer:
                    peer.sendall((LINE + b"\n") * LINES)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                data = b""
                try:
                    while more := client.recv(65536):
                        data += more
                except ConnectionResetError:
                    pass
                return data.count(b"\n")

        return deferToThread(run).addCallback(self.assertEqual, LINES)


class MemoryTests(SessionCase):
    """The order of events."""

    def test_kept(self) -> None:
        """Packages that waited for an ``async def`` come before the error, each after the one before has returned."""
        gates: list[Deferred[None]] = []

        async def message(session: Session, pkg: bytes) -> None:
            gates.append(Deferred())
            await gates[-1]

        pair = self.open({"message": message})
        pair.peer.write(frame(b"1") + frame(b"2") + frame(b"3")[:-1])
        pair.flush()
        pair.reset()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        gates[0].callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message"])
        gates[1].callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message", "error", "close"])
        self.assertEqual(self.heard.packages, [b"1", b"2"])
        self.assertEnded()

    def test_closedMeanwhile(self) -> None:
        """``close()`` drops the rest; the error is told all the same."""
        gates: list[Deferred[None]] = []

        async def message(session: Session, pkg: bytes) -> None:
            gates.append(Deferred())
            await gates[-1]

        pair = self.open({"message": message})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        pair.reset()
        pair.flush()
        pair.server.close()
        gates[0].callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertEnded()

    def test_fails(self) -> None:
        """A callback that fails with the rest ends it there; the first error is the one that is told."""

        async def message(session: Session, pkg: bytes) -> None:
            await gate
            raise ZeroDivisionError

        gate: Deferred[None] = Deferred()
        pair = self.open({"message": message})
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.flush()
        pair.reset()
        pair.flush()
        gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ConnectionLost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEnded()

    def test_afterClose(self) -> None:
        """A session that was closed here hears nothing more."""
        pair = self.open()
        pair.server.pauseReading()
        pair.peer.write(frame(b"1"))
        pair.flush()
        pair.server.close()
        pair.server.connection.connectionLost(Failure(ConnectionLost()))  # type: ignore[attr-defined]
        self.assertEqual(self.heard.names, ["open", "close"])
