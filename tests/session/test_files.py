"""``sendFile``: order, ends, limits and counters, in memory and on real sockets."""

from __future__ import annotations

import os
import socket
import struct
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as theReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from getty_tx import Server
from getty_tx.errors import CodecError, SessionClosedError, SessionError, SettingError, WriteTimeoutError
from getty_tx.session.buffers import CHUNK
from getty_tx.testing import DirectTransport, MemoryTransport, Peer, RecordingListener
from tests.session.test_outbound import ListCodec
from tests.support.certificates import Authority
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame

if TYPE_CHECKING:
    from getty_tx.session.session import Session

reactor: Any = theReactor
CONTENT = Random(13).randbytes(700_000)
BOTH: tuple[type[MemoryTransport], ...] = (DirectTransport, MemoryTransport)


class FileCase(SessionCase):
    """Has a file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.mktemp()
        self.write(CONTENT)

    def write(self, content: bytes) -> None:
        """Make this the file's content."""
        with open(self.path, "wb") as file:
            file.write(content)

    def send(self, session: Session, *args: Any) -> Deferred[int]:
        """Send of the file, which is closed before the bytes leave."""
        with open(self.path, "rb") as file:
            return session.sendFile(file, *args)


class OrderTests(FileCase):
    """In memory, where all transports get slices."""

    def test_inACallback(self) -> None:
        """Between packages that the same callback writes, before the first of them has left."""

        def answer(session: Session, pkg: bytes) -> None:
            session.writePkg(b"before")
            self.sent = self.send(session, 10, 200_000)
            session.writePkg(b"between")
            self.other = self.send(session, 699_999)
            session.writePkg(b"behind")

        for transport in BOTH:
            for capacity in (None, 1000):
                pair = self.open({"message": answer}, transport=transport, network={"capacity": capacity})
                pair.peer.write(frame(b"?"))
                pair.flush()
                expected = frame(b"before") + CONTENT[10:200_010] + frame(b"between") + CONTENT[-1:] + frame(b"behind")
                self.assertEqual(bytes(pair.peer.data), expected)
                self.assertEqual((self.successResultOf(self.sent), self.successResultOf(self.other)), (200_000, 1))
                self.assertEqual(pair.server.stats.writeBytes, len(expected))
                self.assertEqual((pair.server.stats.writePkgs, pair.server.pendingBytes), (3, 0))

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["file", "pkg", "pump"]), st.sampled_from([0, 1, CHUNK]) | st.integers(0, 200_000)
            ),
            max_size=10,
        ),
        st.sampled_from([None, 1000, 70_000]),
        st.sampled_from(BOTH),
        st.booleans(),
    )
    def test_order(self, steps: list[tuple[str, int]], capacity: int | None, transport: Any, corked: bool) -> None:
        """Random sizes, from a callback or not: bytes leave in the order in which they were asked for."""
        expected = bytearray()
        sent: list[tuple[Deferred[int], int]] = []

        def write(session: Any, *_: Any) -> None:
            for i, (how, size) in enumerate(steps):
                if how == "pump":
                    if not corked:
                        self.pair.pump(3)
                elif how == "file":
                    expected.extend(CONTENT[i : i + size])
                    sent.append((self.send(session, i, size), size))
                else:
                    expected.extend(bytes([i + 65]) * size)
                    session.writePkg(bytes([i + 65]) * size)

        self.setUp()
        pair = self.open({"message": write}, codec=ListCodec(), transport=transport, network={"capacity": capacity})
        if corked:
            pair.peer.write(b"go")
        else:
            write(pair.server)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), bytes(expected))
        for deferred, size in sent:
            self.assertEqual(self.successResultOf(deferred), size)
        pair.server.close()
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.errors, [])
        self.assertEnded()

    def test_close(self) -> None:
        """close() lets a file out that was asked for before."""
        pair = self.open(network={"capacity": 1000}, autoClose=True)
        sent = self.send(pair.server)
        pair.server.close()
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), CONTENT)
        self.assertEqual(self.successResultOf(sent), len(CONTENT))
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_drained(self) -> None:
        """drained() and the session's reading wait for a file that is longer than highWater."""
        pair = self.open(network={"capacity": 1000})
        self.send(pair.server)
        drained = pair.server.drained()
        pair.peer.write(frame(b"more"))
        pair.pump(3)
        self.assertEqual(self.heard.packages, [])
        self.assertNoResult(drained)
        pair.flush()
        self.successResultOf(drained)
        self.assertEqual(self.heard.packages, [b"more"])

    def test_packageWithTimeout(self) -> None:
        """The deadline of a package holds for what is before it, too, be it a file; what is out counts as out."""
        pair = self.open(network={"capacity": 1000}, writeTimeout=None)
        session = pair.server
        session.writePkg(b"early", timeout=1)
        sent = self.send(session)
        session.writePkg(b"late", timeout=2)
        pair.pump(300)
        self.assertGreater(len(pair.peer.data), 100_000)
        pair.clientTransport.pauseProducing()
        pair.advance(1.5)
        self.assertFalse(session.isClosed)
        pair.advance(1)
        self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)
        self.failureResultOf(sent, SessionClosedError)
        pair.flush()


class EndTests(FileCase):
    """What can go wrong."""

    def test_tooShort(self) -> None:
        """A file without the bytes that were asked for fails at once, and nothing is sent: the session lives."""
        pair = self.open()
        for args in ((0, 700_001), (700_001,), (699_000, 1001)):
            self.failureResultOf(self.send(pair.server, *args), CodecError)
        self.assertEqual(self.successResultOf(self.send(pair.server, 700_000)), 0)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), b"")
        self.assertFalse(pair.server.isClosed)

    def test_shrinks(self) -> None:
        """One that becomes shorter meanwhile fails the session: nothing may be taken for the bytes that are missing."""
        pair = self.open(network={"capacity": 1000})
        sent = self.send(pair.server)
        pair.server.writePkg(b"behind")
        os.truncate(self.path, 300_000)
        pair.flush()
        self.failureResultOf(sent, CodecError)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertIn("ended at byte 300000, 400000 bytes before", str(self.heard.errors[0]))
        self.assertTrue(CONTENT.startswith(bytes(pair.peer.data)))
        self.assertEnded()

    def test_lost(self) -> None:
        """A session that ends in the middle fails all files that have not left; one that is closed takes none."""
        pair = self.open(network={"capacity": 1000})
        first, second = self.send(pair.server), self.send(pair.server)
        pair.pump(5)
        pair.reset()
        pair.flush()
        for sent in (first, second, self.send(pair.server)):
            self.assertIs(self.failureResultOf(sent, SessionClosedError).value.session, pair.server)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertEnded()

    def test_abort(self) -> None:
        """The same by abort()."""
        pair = self.open(network={"capacity": 1000})
        sent = self.send(pair.server)
        pair.server.abort()
        pair.flush()
        self.failureResultOf(sent, SessionClosedError)
        self.assertEqual(self.heard.names, ["open", "close"])

    def test_lostInItsTurn(self) -> None:
        """A loss in the iteration in which a file has had its share: nothing is left for the next one."""
        pair = self.open()
        sent = self.send(pair.server)
        self.assertNoResult(sent)
        pair.serverTransport.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(sent, SessionClosedError)
        self.assertEqual([call for call in pair.clock.getDelayedCalls() if call.getTime() <= pair.clock.seconds()], [])
        pair.flush()

    def test_slowReader(self) -> None:
        """A peer that takes nothing for writeTimeout ends the session; a slow one does not."""
        for transport in BOTH:
            pair = self.open(transport=transport, network={"capacity": 100_000}, writeTimeout=2.0)
            sent = self.send(pair.server)
            pair.clientTransport.pauseProducing()
            for _ in range(8):
                pair.clientTransport.resumeProducing()
                pair.pump(2)
                pair.clientTransport.pauseProducing()
                pair.advance(1.5)
                if pair.server.isClosed or len(pair.peer.data) == len(CONTENT):
                    break
            self.assertEqual(self.heard.errors, [])
            # Less than highWater: nothing but writeTimeout looks after it.
            sent = self.send(pair.server, 0, 200_000)
            pair.advance(4)
            self.assertIsInstance(self.heard.errors[0], WriteTimeoutError)
            pair.flush()
            self.failureResultOf(sent, SessionClosedError)

    def test_refusals(self) -> None:
        """What cannot be sent, in words; nothing is counted."""
        pair = self.open()
        session: Any = pair.server
        with open(self.path) as text:
            self.assertRaisesRegex(SettingError, "open it with 'rb'", session.sendFile, text)
        self.assertRaisesRegex(SettingError, "file=b'bytes' is no regular file", session.sendFile, b"bytes")
        with open(self.path, "rb") as file:
            self.assertRaisesRegex(SettingError, "offset=-1", session.sendFile, file, -1)
            self.assertRaisesRegex(SettingError, "offset='0'", session.sendFile, file, "0")
            self.assertRaisesRegex(SettingError, "count=True", session.sendFile, file, 0, True)
            self.patch(session, "_thread", 0)
            self.assertRaisesRegex(SessionError, "callFromThread", session.sendFile, file)
            self.patch(session, "_thread", session.context.threads.reactorThread)
        self.assertRaisesRegex(SettingError, "no regular file", session.sendFile, file)
        self.assertRaisesRegex(SettingError, "BytesIO", session.sendFile, BytesIO(b"bytes"))
        reading, writing = os.pipe()
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            self.assertRaisesRegex(SettingError, "no regular file", session.sendFile, pipe)
        self.assertEqual(session.stats.writeBytes, 0)

    def test_startTLS(self) -> None:
        """TLS cannot begin in the middle of a file."""
        pair = self.open(network={"capacity": 1000})
        self.send(pair.server)
        self.assertRaisesRegex(CodecError, "a file is on its way", pair.server.transport.startTLS, object())
        pair.flush()

    def test_compressed(self) -> None:
        """The bytes of a compressed stream are not the file's."""
        pair = self.open(compression="deflate")
        self.assertRaisesRegex(SettingError, "compression='deflate'", self.send, pair.server)


class SocketTests(TestCase):
    """Whole stacks: sendfile(2), and TLS on the socket."""

    timeout = 60

    def setUp(self) -> None:
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            for _ in range(20):
                file.write(CONTENT)

    async def exchange(self, description: str, tls: Any = None, slow: bool = False) -> tuple[bytes, Session]:
        """What a peer reads of a session that sends the file, with a package on either side of it."""
        done: Deferred[tuple[int, Session]] = Deferred()

        def answer(session: Session, pkg: bytes) -> None:
            session.writePkg(b"before")
            with open(self.path, "rb") as file:
                sent = session.sendFile(file)
            session.writePkg(b"behind")
            session.close()
            sent.addCallback(lambda count: (count, session)).chainDeferred(done)

        server = Server(configure(RecordingListener({"message": answer})), description)
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        peer = Peer(autoClose=True)
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port.port)
        if tls is not None:
            endpoint = wrapClientTLS(tls, endpoint)
        await connectProtocol(endpoint, peer)
        peer.write(frame(b"?"))
        if slow:
            transport: Any = peer.transport
            transport.pauseProducing()
            await deferLater(reactor, 0.05)
            self.assertFalse(done.called)
            transport.resumeProducing()
        count, session = await done
        self.assertEqual(count, 20 * len(CONTENT))
        while peer.lost is None:
            await deferLater(reactor, 0.001)
        return bytes(peer.data), session

    async def test_plain(self) -> None:
        """The kernel sends the file, and nothing of it is read here."""
        self.patch(os, "pread", None)
        data, session = await self.exchange("tcp:0:interface=127.0.0.1", slow=True)
        expected = frame(b"before") + CONTENT * 20 + frame(b"behind")
        self.assertTrue(data == expected)
        self.assertEqual(session.stats.writeBytes, len(expected))

    async def test_lost(self) -> None:
        """A loss after the peer's half-close, with nothing pending but a file, is an error: output is lost."""
        opened: Deferred[Session] = Deferred()
        listener = RecordingListener({"open": opened.callback})
        server = Server(configure(listener), "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        peer = socket.create_connection(("127.0.0.1", port.port))
        session = await opened
        with open(self.path, "rb") as file:
            sent = session.sendFile(file)
        peer.shutdown(socket.SHUT_WR)
        while not session.isClosed:
            await deferLater(reactor, 0.001)
        self.assertEqual(session.pendingBytes, 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await self.assertFailure(sent, SessionClosedError)
        await deferLater(reactor, 0)
        self.assertEqual(listener.names, ["open", "error", "close"])

    async def test_unsentLimit(self) -> None:
        """The system takes no more than that for a peer that does not read."""
        opened: Deferred[Session] = Deferred()
        listener = RecordingListener({"open": opened.callback})
        server = Server(configure(listener, unsentLimit=65536), "tcp:0:interface=127.0.0.1")
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            peer.connect(("127.0.0.1", port.port))
            session = await opened
            with open(self.path, "rb") as file:
                sent = session.sendFile(file)
            sent.addErrback(lambda failure: failure.trap(SessionClosedError))
            looks: list[int] = []
            while len(set(looks[-100:])) != 1 or len(looks) < 100:
                looks.append(session.stats.writeBytes)
                await deferLater(reactor, 0)
            self.assertGreater(looks[-1], 65536)
            self.assertLess(looks[-1], 480_000)
            session.abort()
        await sent

    if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
        test_unsentLimit.skip = "the system has no TCP_NOTSENT_LOWAT"  # type: ignore[attr-defined]

    async def test_systemRefuses(self) -> None:
        """Where the system does not send the file by itself it is read."""

        def refuse(*args: Any) -> int:
            raise OSError(22, "Invalid argument")

        self.patch(os, "sendfile", refuse)
        data, _ = await self.exchange("tcp:0:interface=127.0.0.1")
        self.assertTrue(data == frame(b"before") + CONTENT * 20 + frame(b"behind"))

    async def test_tls(self) -> None:
        """Through TLS in slices, on the socket and as Twisted has it."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        with open(authority.path, "rb") as file:
            trusted = trustRootFromCertificates([Certificate.loadPEM(file.read())])
        for more in ("", ":onSocket=no"):
            description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}{more}"
            data, _ = await self.exchange(description, optionsForClientTLS("localhost", trusted), slow=True)
            self.assertTrue(data == frame(b"before") + CONTENT * 20 + frame(b"behind"))
