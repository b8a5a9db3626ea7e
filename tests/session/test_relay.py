"""``relay``: two sessions joined, in memory (by buffers) and on real sockets (by splice)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as theReactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from getty_tx import Client, Server, relay
from getty_tx.codecs import RawCodec
from getty_tx.errors import CodecError, SessionClosedError, SessionError, SettingError, WriteTimeoutError
from getty_tx.session.splicing import SIZE
from getty_tx.testing import MemoryTransport, Pair, Peer, RecordingListener
from tests.support.certificates import Authority
from tests.support.long import examples
from tests.support.memory import SessionCase, configure, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.session import Session

reactor: Any = theReactor
CONTENT = Random(13).randbytes(700_000)


class RelayCase(SessionCase):
    """Two sessions, each with a raw peer: ``self.near`` and ``self.far``."""

    def openBoth(self, on: dict[str, Any] | None = None, **options: Any) -> None:
        self.near = self.open(on, **options)
        self.far: Pair = self.network.join(self.factory.buildProtocol(None), Peer())
        self.flush = self.near.flush

    def join(self) -> Deferred[None]:
        """Join the sessions."""
        return relay(self.near.server, self.far.server)


class MemoryTests(RelayCase):
    """By buffers."""

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(["near", "far", "pump"]), st.integers(1, 200_000)), max_size=10),
        st.sampled_from([None, 1000, 70_000]),
        st.booleans(),
    )
    def test_order(self, steps: list[tuple[str, int]], capacity: int | None, nearEndsFirst: bool) -> None:
        """Random sizes and moments: all of it arrives, each end ends one direction, and then all is over."""
        self.setUp()
        self.openBoth(network={"capacity": capacity, "split": Random(len(steps))})
        done = self.join()
        expected = {"near": bytearray(), "far": bytearray()}
        pairs = {"near": self.near, "far": self.far}
        for i, (where, size) in enumerate(steps):
            if where == "pump":
                self.near.pump(size % 7)
            else:
                expected[where].extend(bytes([i + 65]) * size)
                pairs[where].peer.write(bytes([i + 65]) * size)
        first, second = (self.near, self.far) if nearEndsFirst else (self.far, self.near)
        first.peer.end()
        self.flush()
        self.assertEqual((second.peer.ended, first.peer.ended), (True, False))
        self.assertNoResult(done)
        second.peer.write(b"last")
        second.peer.end()
        expected["far" if nearEndsFirst else "near"].extend(b"last")
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), bytes(expected["near"]))
        self.assertEqual(bytes(self.near.peer.data), bytes(expected["far"]))
        self.successResultOf(done)
        self.assertEqual(self.heard.names, ["open", "open", "close", "close"])
        self.assertEnded()

    def test_bufferedFirst(self) -> None:
        """From within a callback: the package is delivered, and what is behind it goes to the other side, undecoded."""

        def onMessage(session: Session, pkg: bytes) -> None:
            self.done = relay(session, self.far.server)

        self.openBoth({"message": onMessage})
        self.near.peer.write(frame(b"CONNECT") + b"these are no frames" * 10_000)
        self.flush()
        self.near.peer.write(b"at all")
        self.flush()
        self.assertEqual(self.heard.packages, [b"CONNECT"])
        self.assertEqual(bytes(self.far.peer.data), b"these are no frames" * 10_000 + b"at all")

    def test_awaited(self) -> None:
        """A callback that waits for the relay does not stop it, and returns when it is over."""
        returned = []

        async def onOpen(session: Session) -> None:
            if len(self.heard.events) == 1:
                self.opened: Deferred[Session] = Deferred()
                await relay(session, await self.opened)
                returned.append(session)

        self.openBoth({"open": onOpen})
        self.opened.callback(self.far.server)
        self.near.peer.write(b"hello")
        self.far.peer.write(b"hi")
        self.flush()
        self.assertEqual((bytes(self.far.peer.data), bytes(self.near.peer.data)), (b"hello", b"hi"))
        self.near.peer.end()
        self.flush()
        self.assertTrue(self.far.peer.ended)
        self.far.peer.end()
        self.flush()
        self.assertEqual(returned, [self.near.server])
        self.assertEnded()

    def test_slowSide(self) -> None:
        """A side that does not take its bytes stops the reading of the other, and nothing else."""
        self.openBoth(network={"capacity": 100_000}, writeTimeout=None)
        self.join()
        self.far.clientTransport.pauseProducing()
        for _ in range(40):
            self.near.peer.write(CONTENT[:100_000])
        self.far.peer.write(CONTENT)
        self.flush()
        self.near.advance(5)
        session = self.far.server
        self.assertLess(session.pendingBytes + self.near.server.inbound.unread, session.highWater + 400_000)
        self.assertLess(self.near.server.stats.readBytes, 1_000_000)
        self.assertEqual(bytes(self.near.peer.data), CONTENT)
        self.far.clientTransport.resumeProducing()
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), CONTENT[:100_000] * 40)

    def test_writeTimeout(self) -> None:
        """A side that takes nothing at all for writeTimeout fails, and the other with it."""
        self.openBoth(network={"capacity": 1000}, writeTimeout=2.0)
        done = self.join()
        self.far.clientTransport.pauseProducing()
        self.near.peer.write(CONTENT)
        self.flush()
        self.near.advance(5)
        self.flush()
        error = self.failureResultOf(done, SessionClosedError).value
        self.assertIsInstance(error.__cause__, WriteTimeoutError)
        self.assertEqual(sorted(self.heard.names), ["close", "close", "error", "error", "open", "open"])
        self.assertEnded()

    def test_lost(self) -> None:
        """A reset passes as a reset, and is told in words."""
        for first, second in (("near", "far"), ("far", "near")):
            self.openBoth()
            done = self.join()
            self.near.peer.write(b"hello")
            self.flush()
            getattr(self, first).reset()
            self.flush()
            error = self.failureResultOf(done, SessionClosedError).value
            self.assertRegex(str(error), "^the relay of .* broke: the former ended with ConnectionLost: ")
            self.assertIs(error.session, getattr(self, first).server)
            self.assertIn(error, self.heard.errors)
            self.assertNotEqual(type(getattr(self, second).peer.lost).__name__, "ConnectionDone")
            self.assertEnded()

    def test_lostBefore(self) -> None:
        """The same between the call and its first iteration, by abort(), which is no failure."""
        self.openBoth()
        self.near.peer.write(b"\0\0")
        self.flush()
        done = self.join()
        self.near.server.abort()
        self.far.peer.end()
        self.flush()
        self.successResultOf(done)
        self.assertTrue(self.far.server.isClosed)

    def test_restOfALostSide(self) -> None:
        """What had come before an orderly loss leaves, whether it waited for the relay or for the other side."""
        self.openBoth()
        self.near.peer.write(b"\0\0")
        self.flush()
        done = self.join()
        self.near.serverTransport.connectionLost(Failure(ConnectionDone()))
        self.far.peer.end()
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), b"\0\0")
        self.successResultOf(done)
        self.openBoth(network={"capacity": 1000})
        done = self.join()
        self.near.peer.write(CONTENT)
        self.far.clientTransport.pauseProducing()
        self.near.pump(1000)
        self.assertTrue(self.near.server.inbound.paused)
        read = self.near.server.stats.readBytes
        self.near.server.inbound.receive(b"rest")
        self.near.serverTransport.connectionLost(Failure(ConnectionDone()))
        self.far.clientTransport.resumeProducing()
        self.far.peer.end()
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), CONTENT[:read] + b"rest")
        self.successResultOf(done)

    def test_closedHere(self) -> None:
        """A side that is closed here closes the other, which sends what it has; a closed one joins nothing."""
        self.openBoth(network={"capacity": 1000})
        done = self.join()
        self.near.peer.write(CONTENT)
        self.near.pump(200)
        read = self.near.server.stats.readBytes
        self.near.server.close()
        self.near.peer.end()
        self.far.peer.end()
        self.flush()
        self.successResultOf(done)
        self.assertEqual(bytes(self.far.peer.data), CONTENT[:read])
        self.assertEqual(self.heard.errors, [])
        self.assertEnded()

    def test_closedBefore(self) -> None:
        """A session that is closed already closes the other."""
        self.openBoth()
        self.near.server.close()
        error = self.failureResultOf(self.join(), SessionClosedError).value
        self.assertIs(error.session, self.near.server)
        self.assertTrue(self.far.server.isClosed)

    def test_pausedByUser(self) -> None:
        """pauseReading() stops one direction."""
        self.openBoth()
        self.join()
        self.near.server.pauseReading()
        self.near.peer.write(b"hello")
        self.far.peer.write(b"hi")
        self.flush()
        self.assertEqual((bytes(self.far.peer.data), bytes(self.near.peer.data)), (b"", b"hi"))
        self.near.server.resumeReading()
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), b"hello")

    def test_refusals(self) -> None:
        """What cannot be joined, in words."""
        self.openBoth()
        near, far = self.near.server, self.far.server
        self.assertRaisesRegex(CodecError, "to itself", relay, near, near)
        self.patch(near, "_thread", 0)
        self.assertRaisesRegex(SessionError, "callFromThread", relay, near, far)
        self.patch(near, "_thread", far._thread)
        self.assertRaises(AttributeError, relay, near, None)
        self.join()
        self.assertRaisesRegex(CodecError, "joined already", relay, near, far)
        self.flush()
        self.assertRaisesRegex(CodecError, "joined already", relay, near, far)
        self.assertRaisesRegex(CodecError, "start it before relay", near.transport.startTLS, object())
        self.openBoth(compression="deflate")
        self.assertRaisesRegex(SettingError, "compression='deflate'", self.join)

    def test_otherTransports(self) -> None:
        """Over transports that are asked to pause and resume."""
        self.openBoth(transport=MemoryTransport, network={"capacity": 1000})
        self.join()
        self.near.peer.write(CONTENT)
        self.flush()
        self.assertEqual(bytes(self.far.peer.data), CONTENT)


class SocketTests(TestCase):
    """A proxy of two real sockets, in clear and through TLS."""

    timeout = 60

    async def serve(self, front: str) -> None:
        """A proxy between two plain sockets of the test."""
        self.heard = RecordingListener()
        self.done: Deferred[None] = Deferred()
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        listening.setblocking(False)
        where = f"tcp:127.0.0.1:{listening.getsockname()[1]}"

        async def onOpen(session: Session) -> None:
            client = Client(configure(codec=RawCodec()), where, reconnectAttempts=1)
            client.startService()
            [self.back] = await client.whenReady()
            self.front = session
            joined = relay(session, self.back)
            self.started.callback(None)
            joined.addBoth(lambda result: client.stopService().addCallback(lambda _: result)).chainDeferred(self.done)

        self.started: Deferred[None] = Deferred()
        listener = RecordingListener({"open": onOpen})
        self.heard = listener
        server = Server(configure(listener, RawCodec()), front)
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address
        self.near = socket.create_connection(("127.0.0.1", port.port))
        self.near.setblocking(False)
        self.addCleanup(self.near.close)
        self.far = await self.until(lambda: listening.accept()[0])
        self.far.setblocking(False)
        self.addCleanup(self.far.close)

    async def until(self, call: Callable[[], Any]) -> Any:
        """What the call returns when it would not block any more."""
        while True:
            try:
                return call()
            except BlockingIOError:
                await deferLater(reactor, 0.001)

    async def pass_(self, data: bytes, source: socket.socket, target: socket.socket) -> bytes:
        """Send on one side, and read as much on the other."""
        received = bytearray()
        view = memoryview(data)
        while len(received) < len(data):
            with contextlib.suppress(BlockingIOError):
                view = view[source.send(view[:300_000]) :] if view else view
            try:
                received += target.recv(1 << 20)
            except BlockingIOError:
                await deferLater(reactor, 0.001)
        return bytes(received)

    async def test_splice(self) -> None:
        """Both ways, more than a pipe has; half-closed by one side, then by the other. Nothing is read here."""
        await self.serve("tcp:0:interface=127.0.0.1")
        await self.started
        await deferLater(reactor, 0)
        data = CONTENT * 10
        self.assertIsNotNone(self.front.inbound._direction.splicer)
        for inbound in (self.front.inbound, self.back.inbound):
            self.patch(type(inbound), "_deliver", None)
        self.assertTrue(await self.pass_(data, self.near, self.far) == data)
        self.assertTrue(await self.pass_(data, self.far, self.near) == data)
        self.near.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.until(lambda: self.far.recv(1)), b"")
        self.assertTrue(await self.pass_(data, self.far, self.near) == data)
        self.far.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.until(lambda: self.near.recv(1)), b"")
        await self.done
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEqual((self.front.stats.readBytes, self.front.stats.writeBytes), (len(data), 2 * len(data)))
        self.assertEqual((self.back.stats.writeBytes, self.back.stats.readBytes), (len(data), 2 * len(data)))

    async def test_slowReader(self) -> None:
        """A side that does not read stops the other, by what its socket and one pipe hold; nothing is lost."""
        await self.serve("tcp:0:interface=127.0.0.1")
        for sock in (self.near, self.far):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await self.started
        for session in (self.front, self.back):
            session.sendBufferSize = session.receiveBufferSize = 65536
        sent = quiet = 0
        data = memoryview(CONTENT * 20)
        while quiet < 20 and sent < len(data):
            try:
                sent += self.near.send(data[sent : sent + 100_000])
                quiet = 0
            except BlockingIOError:
                quiet += 1
                await deferLater(reactor, 0.005)
        self.assertLess(sent, len(data))
        self.assertEqual(self.back.pendingBytes, 0)
        self.assertTrue(self.front.inbound.paused)
        self.near.setblocking(False)
        received = bytearray()
        while len(received) < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += self.near.send(data[sent : sent + 100_000]) if sent < len(data) else 0
            try:
                received += self.far.recv(1 << 20)
            except BlockingIOError:
                await deferLater(reactor, 0.001)
        self.assertTrue(received == data)
        self.near.close()
        self.far.close()
        await self.done

    async def test_lostInTheMiddle(self) -> None:
        """A reset while a pipe is full: both sessions end, and no descriptor is left."""
        await self.serve("tcp:0:interface=127.0.0.1")
        await self.started
        before = len(os.listdir("/proc/self/fd"))
        while True:
            try:
                self.near.send(CONTENT[:SIZE])
            except BlockingIOError:
                if self.back.outbound.hasParts:
                    break
                await deferLater(reactor, 0.001)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.far.close()
        failure = None
        try:
            await self.done
        except SessionClosedError as error:
            failure = error
        self.assertIs(failure and failure.session, self.back)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        # The peer's socket, both sessions' and both of the pipe have gone.
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), before)

    async def test_tls(self) -> None:
        """TLS on one side: by buffers."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["127.0.0.1"])
        folder = self.mktemp()
        os.mkdir(folder)
        shutil.copy(authority.path, f"{folder}/root.pem")
        heard: Deferred[bytes] = Deferred()
        server = Server(
            configure(RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)}), maxMsgLen=10_000_000),
            f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
        )
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        port: Any = address

        async def onOpen(session: Session) -> None:
            client = Client(
                configure(codec=RawCodec()),
                f"tls:127.0.0.1:{port.port}:trustRoots={folder}",
                reconnectAttempts=1,
            )
            client.startService()
            [back] = await client.whenReady()
            relay(session, back).addBoth(lambda _: client.stopService())

        middle = Server(configure(RecordingListener({"open": onOpen}), RawCodec()), "tcp:0:interface=127.0.0.1")
        middle.startService()
        self.addCleanup(middle.stopService)
        [address] = await middle.whenListening()
        port2: Any = address
        package = (CONTENT * 3)[:2_000_000]
        listener = RecordingListener({"message": lambda session, pkg: heard.callback(pkg)})
        client = Client(configure(listener, maxMsgLen=10_000_000), f"tcp:127.0.0.1:{port2.port}", reconnectAttempts=1)
        client.startService()
        self.addCleanup(client.close)
        [session] = await client.whenReady()
        session.writePkg(package)
        self.assertTrue(await heard == package)
