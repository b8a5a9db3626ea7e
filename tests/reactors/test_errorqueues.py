"""
Error queues: which events are the end of a connection, and ``session.zeroCopy`` on real sockets.

Loopback copies what it delivers. What a peer does not read stays in the sender's queue, and is not copied.
"""

from __future__ import annotations

import socket
import ssl
import struct
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from twisted.internet import epollreactor
from twisted.internet.error import ConnectionLost
from twisted.internet.threads import blockingCallFromThread, deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import RawCodec
from getty_tx.reactors.errorqueues import ErrorQueues
from getty_tx.server import Server
from getty_tx.session import zerocopy
from getty_tx.session.zerocopy import Leaving
from getty_tx.testing import RecordingListener
from getty_tx.tls import serverPolicy
from tests.reactors.test_epoll import PATIENCE, ReactorCase
from tests.support.certificates import Authority
from tests.support.memory import configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

#: More than the outbound sends in one turn, and less than the kernel takes.
CONTENT = bytes(range(256)) * 800

#: The receive buffer of a peer that is to keep the sender waiting. Smaller ones make the kernel drop and repeat.
SMALL = 65536


def hasZeroCopy() -> bool:
    """Whether the system has it."""
    with socket.socket() as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, zerocopy.SO_ZEROCOPY, 1)
        except OSError:
            return False
    return True


class TableTests(SynchronousTestCase):
    """What is left of an event."""

    def setUp(self) -> None:
        self.queues = ErrorQueues()
        self.found = [True]
        self.queues.add(7, lambda: self.found.pop())

    def test_found(self) -> None:
        """What the queue explains is no error; the rest of the event stays."""
        for rest in (0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT):
            self.found = [True]
            self.assertEqual(self.queues.handle(7, EPOLLERR | rest), rest)

    def test_nothingFound(self) -> None:
        """It is an error where nothing is in the queue."""
        self.found = [False]
        self.assertEqual(self.queues.handle(7, EPOLLERR | EPOLLOUT), EPOLLERR | EPOLLOUT)

    def test_hangUp(self) -> None:
        """A hang-up stays one, and the queue is read all the same."""
        self.assertEqual(self.queues.handle(7, EPOLLERR | EPOLLHUP), EPOLLERR | EPOLLHUP)
        self.assertEqual(self.found, [])

    def test_others(self) -> None:
        """Descriptors without a reader of their queue are left alone."""
        self.queues.remove(7)
        self.queues.remove(8)
        for number in (7, 8):
            self.assertEqual(self.queues.handle(number, EPOLLERR), EPOLLERR)
        self.assertEqual(self.found, [True])


class ZeroCopyTests(ReactorCase):
    """A server on the getty reactor that answers each read with CONTENT, and a raw peer in a thread."""

    def setUp(self) -> None:
        if not hasZeroCopy():
            self.skipTest("the system has no SO_ZEROCOPY")
        super().setUp()
        self.patch(zerocopy, "_told", set())
        self.patch(zerocopy, "GRACE", 0.01)
        self.address = "127.0.0.1"

    def serve(self, peer: Callable[[socket.socket], object], answer: Any = None, buffer: int | None = None) -> None:
        """
        Serve until ``peer(socket)`` has returned in its thread, and all is gone. What happened is in ``self.heard``.

        :param answer: what onMessage does.
        :param buffer: the peer's SO_RCVBUF.
        """

        def message(session: Any, pkg: bytes) -> None:
            self.session = session
            (answer or (lambda session: session.writePkg(CONTENT)))(session)

        self.heard = RecordingListener({"message": message})
        newSession = configure(self.heard, RawCodec(), zeroCopy=True, waitTime=0.1)
        address = self.address.replace(":", r"\:")
        server = Server(newSession, f"tcp:0:interface={address}", reactor=self.reactor)
        failures: list[Failure] = []

        def dial(port: int) -> None:
            with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET) as one:
                one.settimeout(PATIENCE / 2)
                if buffer is not None:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                one.connect((self.address, port))
                one.send(b"?")
                peer(one)

        def listening(addresses: Any) -> None:
            done = deferToThreadPool(self.reactor, self.reactor.getThreadPool(), dial, addresses[0].port)
            done.addErrback(failures.append)
            done.addBoth(lambda _: server.stopService())
            done.addBoth(lambda _: self.whenAllLeft())

        server.startService()
        server.whenListening().addCallback(listening)
        self.run_()
        for failure in failures:
            failure.raiseException()
        self.assertEqual((self.reactor.errorQueues.reads, self.session.zeroCopy), ({}, False))

    def whenAllLeft(self) -> None:
        """Stop when no closed connection is left."""
        if Leaving.number:
            self.reactor.callLater(0.01, self.whenAllLeft)
        else:
            self.reactor.callLater(0.05, self.end)

    def ask(self, question: Callable[[], Any]) -> Any:
        """For the peer's thread: ask in the reactor's thread until the answer is true."""
        ends = monotonic() + PATIENCE / 2
        answer = blockingCallFromThread(self.reactor, question)
        while not answer:
            self.assertLess(monotonic(), ends, "it never was")
            sleep(0.01)
            answer = blockingCallFromThread(self.reactor, question)
        return answer

    def whilePending(self) -> Any:
        """For the peer's thread: the sink, when all was sent, and the kernel has not done with it."""
        self.ask(lambda: self.heard.packages and not self.session.pendingBytes)
        sink = self.session.outbound.sink
        self.assertTrue(self.ask(lambda: sink.pending))
        return sink

    def exchange(self, peer: socket.socket) -> None:
        """Two answers, the second one after completions of the first."""
        self.assertEqual(receive(peer, len(CONTENT)), CONTENT)
        self.ask(lambda: not self.session.outbound.sink.pending)
        self.assertFalse(self.session.zeroCopy)
        peer.send(b"?")
        self.assertEqual(receive(peer, len(CONTENT)), CONTENT)

    def test_copied(self) -> None:
        """Loopback copies: the session goes on without, and completions are no end of a connection."""
        self.serve(self.exchange)
        self.assertEqual(self.heard.names, ["open", "message", "message", "close"])

    def test_overIPv6(self) -> None:
        """As over IPv4."""
        if not socket.has_ipv6:
            self.skipTest("Python has no IPv6")
        self.address = "::1"
        self.serve(self.exchange)
        self.assertEqual(self.heard.errors, [])

    def test_twistedsLoop(self) -> None:
        """``iterate`` has Twisted's loop, to which it is the same."""
        self.reactor.mainLoop = lambda: epollreactor.EPollReactor.mainLoop(self.reactor)
        self.serve(self.exchange)
        self.assertEqual(self.heard.errors, [])

    def test_large(self) -> None:
        """What the kernel does not take at once leaves in order, also without a copy."""
        large = CONTENT * 40

        def peer(one: socket.socket) -> None:
            self.ask(lambda: self.heard.packages and self.session.pendingBytes)
            self.assertEqual(receive(one, len(large)), large)
            self.ask(lambda: not self.session.pendingBytes and not self.session.outbound.sink.pending)

        self.serve(peer, lambda session: session.writePkg(large), buffer=SMALL)
        self.assertEqual(self.heard.errors, [])

    def test_kept(self) -> None:
        """Chunks are kept as long as the peer does not read."""

        def peer(one: socket.socket) -> None:
            sink = self.whilePending()
            self.assertTrue(self.session.zeroCopy)
            self.assertEqual(bytes(sink.pending[max(sink.pending)])[-99:], CONTENT[-99:])
            self.exchange(one)

        self.serve(peer, buffer=SMALL)
        self.assertEqual(self.heard.errors, [])

    def test_left(self) -> None:
        """They are kept when the session has closed, and the peer gets them all the same."""

        def peer(one: socket.socket) -> None:
            self.ask(lambda: "close" in self.heard.names)
            sink = self.session.outbound.sink
            self.assertEqual(self.ask(lambda: Leaving.number), 1)
            self.assertTrue(sink.pending)
            # These get the memory of what was sent, if it is free.
            others = blockingCallFromThread(self.reactor, lambda: [b"-" * len(CONTENT) for _ in range(20)])
            self.assertEqual(receive(one, 10**9), CONTENT)
            del others
            self.ask(lambda: not Leaving.number)
            self.assertEqual(sink.pending, {})

        def answer(session: Any) -> None:
            # Nobody else has these bytes.
            session.writePkg(bytes(bytearray(CONTENT)))
            session.close()

        self.serve(peer, answer, buffer=SMALL)
        self.assertEqual(self.heard.names, ["open", "message", "close"])

    def test_aborted(self) -> None:
        """An abort resets the connection at once."""

        def peer(one: socket.socket) -> None:
            sink = self.whilePending()
            blockingCallFromThread(self.reactor, self.session.abort)
            self.assertRaises(ConnectionResetError, receive, one, 10**9)
            self.ask(lambda: not sink.pending)

        self.serve(peer, buffer=SMALL)
        self.assertEqual(self.heard.names, ["open", "message", "close"])

    def test_reset(self) -> None:
        """A reset is the end of the connection and its reason, whatever is in the error queue."""

        def peer(one: socket.socket) -> None:
            sink = self.whilePending()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            self.ask(lambda: "close" in self.heard.names and not sink.pending)

        self.serve(peer, buffer=SMALL)
        self.assertEqual(self.heard.names, ["open", "message", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ConnectionLost)

    def test_halfClose(self) -> None:
        """A peer that has ended its side gets the whole answer."""

        def peer(one: socket.socket) -> None:
            one.shutdown(socket.SHUT_WR)
            self.assertEqual(receive(one, 10**9), CONTENT)

        self.serve(peer)
        self.assertEqual(self.heard.names, ["open", "message", "close"])

    def test_startTLS(self) -> None:
        """TLS ends it; completions that come later are none of its errors."""
        authority = Authority(self.mktemp())
        policy = serverPolicy(*authority.issue(["127.0.0.1"]))

        def answer(session: Any) -> None:
            session.writePkg(CONTENT)
            if session.zeroCopy:
                session.transport.startTLS(policy)
                self.assertFalse(session.zeroCopy)
                session.writePkg(CONTENT)

        def peer(one: socket.socket) -> None:
            self.assertEqual(receive(one, len(CONTENT)), CONTENT)
            self.assertEqual(len(self.reactor.errorQueues.reads), 1)
            context = ssl.create_default_context(cafile=authority.path)
            with context.wrap_socket(one, server_hostname="127.0.0.1") as encrypted:
                self.assertEqual(receive(encrypted, len(CONTENT)), CONTENT)
                encrypted.send(b"?")
                self.assertEqual(receive(encrypted, len(CONTENT)), CONTENT)
                encrypted.unwrap()

        self.serve(peer, answer)
        self.assertEqual(self.heard.errors, [])


def receive(peer: socket.socket, size: int) -> bytes:
    """So many bytes, or all to the end."""
    data = bytearray()
    while len(data) < size:
        piece = peer.recv(min(size - len(data), 1 << 20))
        if not piece:
            break
        data += piece
    return bytes(data)
