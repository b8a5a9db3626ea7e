"""``session.zeroCopy`` on a kernel that does not copy, which loopback is not: doubles of the socket stand for it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from getty_tx.errors import SessionClosedError, SettingError
from getty_tx.interfaces import IErrorQueueReactor
from getty_tx.session import zerocopy
from getty_tx.session.buffers import CHUNK
from getty_tx.session.zerocopy import LAST, Leaving, ZeroCopySocket
from tests.session.test_outbound import ListCodec
from tests.support.long import examples
from tests.support.memory import SessionCase

LONG = b"x" * CHUNK


def completion(first: int, last: int, code: int = 0, origin: int = 5) -> bytes:
    """A message of the error queue, followed by the address of its origin."""
    return struct.pack("=IBBBxII", 0, origin, 0, code, first, last) + bytes(16)


class Kernel:
    """
    A connected socket of a kernel that takes chunks without copying them.

    :ivar lent: the chunks that it has not done with, by number.
    :ivar calls: the sizes that each call was given, and its flags.
    """

    def __init__(self, memory: Any = None) -> None:
        self.memory = memory
        self.lent: dict[int, bytes] = {}
        self.number = 0
        self.queue: deque[list[tuple[int, int, bytes]]] = deque()
        self.calls: list[tuple[list[int], int]] = []
        self.takes: int | None = None
        self.error = 0
        self.linger = bytes(8)
        self.closed = False

    def fileno(self) -> int:
        return 1000

    def _take(self, data: Any) -> int:
        if self.takes == 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        if self.memory is not None:
            return int(self.memory.send(data))
        return len(data) if self.takes is None else min(len(data), self.takes)

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls.append(([len(data)], flags))
        if flags and self.error:
            raise OSError(self.error, os.strerror(self.error))
        sent = self._take(data)
        if flags and sent:
            assert flags == zerocopy.MSG_ZEROCOPY
            self.lent[self.number] = data
            self.number = (self.number + 1) & LAST
        return sent

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0) -> int:
        self.calls.append(([len(buffer) for buffer in buffers], flags))
        return self._take(b"".join(bytes(buffer) for buffer in buffers))

    def done(self, first: int, last: int, code: int = 0) -> None:
        """It is done with these sends."""
        self.queue.append([(socket.IPPROTO_IP, 11, completion(first, last, code))])

    def recvmsg(self, size: int, space: int, flags: int) -> tuple[bytes, Any, int, Any]:
        assert flags == zerocopy.MSG_ERRQUEUE
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "empty")
        return b"", self.queue.popleft(), 0, None

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        assert option == socket.SO_LINGER
        return self.linger

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        assert option == socket.SO_LINGER
        self.linger = value

    def makefile(self, mode: str, buffering: int) -> Any:
        return SimpleNamespace(close=self.close)

    def close(self) -> None:
        self.closed = True


class KernelCase(SynchronousTestCase):
    """Has a kernel, a reactor, and a sink between them."""

    def setUp(self) -> None:
        self.patch(zerocopy, "_told", set())
        self.kernel: Any = Kernel()
        self.reactor: Any = Clock()
        self.queues: dict[int, Any] = {}
        self.reactor.addErrorQueue = self.queues.__setitem__
        self.reactor.removeErrorQueue = self.queues.__delitem__
        self.sink = ZeroCopySocket(SimpleNamespace(context=SimpleNamespace(reactor=self.reactor)), self.kernel)

    def sendLong(self, count: int) -> None:
        """Send so many long chunks."""
        for _ in range(count):
            self.assertEqual(self.sink.send(LONG), len(LONG))


class SendingTests(KernelCase):
    """What is sent without a copy, and how long it is kept."""

    def test_short(self) -> None:
        """Less than 64 KiB is sent as ever, and not kept."""
        self.assertEqual(self.sink.send(LONG[1:]), CHUNK - 1)
        self.assertEqual((self.kernel.calls, self.sink.pending, self.queues), ([([CHUNK - 1], 0)], {}, {}))

    def test_long(self) -> None:
        """64 KiB are kept, the same object, until the kernel is done with them."""
        self.sink.send(LONG)
        self.assertIs(self.sink.pending[0], LONG)
        read = self.queues[1000]
        self.assertFalse(read())
        self.kernel.done(0, 0)
        self.assertTrue(read())
        self.assertEqual(self.sink.pending, {})
        self.assertFalse(read())
        self.assertTrue(self.sink.isOn)

    def test_inPart(self) -> None:
        """A part that is sent keeps the whole object; what is not taken at all is neither kept nor counted."""
        self.kernel.takes = 10
        self.assertEqual(self.sink.send(LONG), 10)
        self.kernel.takes = 0
        self.assertRaises(BlockingIOError, self.sink.send, LONG)
        self.assertEqual(list(self.sink.pending), [0])
        self.assertIs(self.sink.pending[0], LONG)
        self.kernel.takes = None
        self.sendLong(1)
        self.assertEqual(list(self.sink.pending), [0, 1])

    def test_ranges(self) -> None:
        """Completions come in ranges, in any order, over IPv4 and IPv6, several in one message."""
        self.sendLong(9)
        self.kernel.done(6, 8)
        self.kernel.queue.append(
            [
                (socket.IPPROTO_IPV6, 25, completion(1, 1)),
                (socket.IPPROTO_IPV6, 25, completion(3, 3, origin=4)),
                (socket.IPPROTO_IP, 8, completion(3, 3)),
                (socket.IPPROTO_IP, 11, b"short"),
                (socket.IPPROTO_IPV6, 25, completion(4, 5)),
            ]
        )
        self.sink.readErrorQueue()
        self.assertEqual(list(self.sink.pending), [0, 2, 3])

    def test_wrap(self) -> None:
        """The count of sends goes on with 0 after 32 bits."""
        self.kernel.number = self.sink._next = LAST - 1
        self.sendLong(4)
        self.assertEqual(list(self.sink.pending), [LAST - 1, LAST, 0, 1])
        self.kernel.done(LAST, 0)
        self.sink.readErrorQueue()
        self.assertEqual(list(self.sink.pending), [LAST - 1, 1])

    def test_copied(self) -> None:
        """Where the kernel has copied, all is sent as ever; what is out stays until it is done."""
        self.sendLong(3)
        self.kernel.done(0, 1, zerocopy.CODE_COPIED)
        self.sink.readErrorQueue()
        self.assertFalse(self.sink.isOn)
        self.assertEqual(self.sink.send, self.kernel.send)
        self.assertEqual(self.sink.sendmsg, self.kernel.sendmsg)
        self.assertEqual(list(self.sink.pending), [2])
        self.kernel.done(2, 2, zerocopy.CODE_COPIED)
        self.sink.readErrorQueue()
        self.assertEqual(self.sink.pending, {})

    def test_again(self) -> None:
        """Turned on again, the count goes on."""
        self.sendLong(1)
        self.sink.turnOff()
        self.sink.turnOn()
        self.sendLong(1)
        self.assertEqual(list(self.sink.pending), list(self.kernel.lent))

    def test_noRoom(self) -> None:
        """Without room for messages or locked pages the chunk is copied; other errors are the caller's."""
        self.kernel.error = errno.ENOBUFS
        self.sendLong(1)
        self.assertEqual(self.kernel.calls, [([CHUNK], zerocopy.MSG_ZEROCOPY), ([CHUNK], 0)])
        self.assertEqual((self.sink.pending, self.sink.isOn), ({}, True))
        self.kernel.error = errno.ECONNRESET
        self.assertRaises(ConnectionResetError, self.sink.send, LONG)

    def test_withoutEvents(self) -> None:
        """Where no events come chunks do not gather: the queue is read, and an event for that is no error."""
        for number in range(500):
            self.sendLong(1)
            self.kernel.done(number, number)
        self.assertLessEqual(len(self.sink.pending), zerocopy.MANY)
        self.kernel.queue.clear()
        self.assertTrue(self.sink.readErrorQueue())
        self.assertFalse(self.sink.readErrorQueue())

    def test_fullQueue(self) -> None:
        """One event has no more than so many messages read."""
        self.sendLong(zerocopy.MOST + 1)
        for number in range(zerocopy.MOST + 1):
            self.kernel.done(number, number)
        self.sink.readErrorQueue()
        self.sink.readErrorQueue()
        self.assertEqual(self.sink.pending, {})

    def test_sendmsg(self) -> None:
        """Short buffers leave together, and do not wait to be a packet of their own before a long one."""
        self.assertEqual(self.sink.sendmsg([b"ab", b"c", LONG, LONG, b"d", b"e"]), 2 * CHUNK + 5)
        zero = zerocopy.MSG_ZEROCOPY
        self.assertEqual(self.kernel.calls, [([2, 1], socket.MSG_MORE), ([CHUNK], zero), ([CHUNK], zero), ([1, 1], 0)])

    def test_sendmsgInPart(self) -> None:
        """What follows a buffer that is taken in part is not sent."""
        self.kernel.takes = 2
        self.assertEqual(self.sink.sendmsg([b"abc", LONG]), 2)
        self.assertEqual(self.sink.sendmsg([b"ab", LONG, LONG]), 4)
        self.assertEqual(self.sink.sendmsg([b"ab"]), 2)
        self.kernel.takes = 0
        self.assertRaises(BlockingIOError, self.sink.sendmsg, [b"abc", LONG])

    def test_sendmsgAndAnError(self) -> None:
        """An error behind bytes that were sent is found by the next call."""
        self.kernel.error = errno.EPIPE
        self.assertEqual(self.sink.sendmsg([b"abc", LONG]), 3)
        self.assertRaises(BrokenPipeError, self.sink.sendmsg, [LONG])


class LeavingTests(KernelCase):
    """Connections that are closed before the kernel is done."""

    def setUp(self) -> None:
        super().setUp()
        self.left = 9
        self.patch(zerocopy, "bytesInKernel", lambda sink: self.left)

    def tearDown(self) -> None:
        self.assertEqual(Leaving.number, 0)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nothing(self) -> None:
        """Nothing is left of one that has sent nothing long, or has all completions."""
        self.sink.lost()
        self.assertFalse(self.kernel.closed)
        self.sink.turnOn()
        self.sendLong(2)
        self.kernel.done(0, 1)
        self.sink.lost()
        self.assertEqual((self.kernel.closed, self.queues, self.sink.pending), (True, {}, {}))
        self.sink.lost()

    def test_done(self) -> None:
        """The descriptor and the chunks are kept until the kernel is done."""
        self.sendLong(2)
        self.kernel.done(0, 0)
        self.sink.lost()
        self.assertEqual(self.queues, {})
        for _ in range(100):
            # A peer that takes some bytes every now and then.
            self.reactor.pump([1.0] * 50)
            self.left += 1
            self.assertEqual((self.kernel.closed, list(self.sink.pending), Leaving.number), (False, [1], 1))
        self.kernel.done(1, 1)
        self.reactor.advance(1)
        self.assertEqual((self.kernel.closed, self.sink.pending), (True, {}))
        self.assertEqual(self.kernel.linger, bytes(8))

    def test_noProgress(self) -> None:
        """A peer that takes nothing is reset, and the chunks are kept a little longer."""
        self.sendLong(1)
        self.sink.lost()
        self.reactor.pump([0.5] * 119)
        self.assertFalse(self.kernel.closed)
        while not self.kernel.closed:
            self.reactor.advance(0.5)
        self.assertEqual(self.kernel.linger, struct.pack("ii", 1, 0))
        self.assertEqual(list(self.sink.pending), [0])
        self.reactor.advance(1)
        self.assertEqual(self.sink.pending, {})

    def test_aborted(self) -> None:
        """One that was aborted is reset at once."""
        self.sendLong(1)
        self.kernel.linger = struct.pack("ii", 1, 0)
        self.sink.lost()
        self.assertEqual((self.kernel.closed, list(self.sink.pending)), (True, [0]))
        self.reactor.advance(1)
        self.assertEqual(self.sink.pending, {})

    def test_tooMany(self) -> None:
        """Above a limit they are reset, too."""
        self.patch(zerocopy, "LEAVING", 1)
        self.sendLong(1)
        other = ZeroCopySocket(self.sink._session, Kernel())  # type: ignore[arg-type]  # stands for a socket
        other.send(LONG)
        self.queues[1000] = None
        self.sink.lost()
        self.queues[1000] = None
        other.lost()
        self.assertEqual((self.kernel.closed, other.socket.closed), (False, True))  # type: ignore[attr-defined]
        self.kernel.done(0, 0)
        self.reactor.advance(1)


class SettingTests(SessionCase):
    """The session's attribute, and the way out with such a sink."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(zerocopy, "_told", set())
        self.said: list[str] = []
        self.patch(zerocopy.log, "info", lambda text, reason, **more: self.said.append(reason))

    def use(self) -> Kernel:
        """Put a kernel that does not copy below the session."""
        session: Any = self.pair.server
        self.kernel = Kernel(session.outbound.sink)
        reactor: Any = session.context.reactor
        self.queues: dict[int, Any] = {}
        reactor.addErrorQueue = self.queues.__setitem__
        reactor.removeErrorQueue = lambda number: self.queues.pop(number, None)
        session.outbound.sink = ZeroCopySocket(session, self.kernel)  # type: ignore[arg-type]  # stands for a socket
        return self.kernel

    def test_cannotBe(self) -> None:
        """It reads False where it cannot be, and one line of the log says why."""
        for _ in range(3):
            session: Any = self.open(zeroCopy=True).server
            self.assertIs(session.zeroCopy, False)
        self.assertEqual(self.said, ["it is for sessions over TCP, without TLS and other wrappers"])
        session.zeroCopy = False

    def test_otherReactor(self) -> None:
        """The reactor must know of error queues; the socket must have them."""
        session: Any = self.open().server
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.patch(type(session.outbound), "plainSocket", near)
        session.zeroCopy = True
        directlyProvides(session.context.reactor, IErrorQueueReactor)
        session.zeroCopy = True
        self.assertFalse(session.zeroCopy)
        self.assertIn("twistd --reactor getty", self.said[0])
        self.assertIn(os.strerror(errno.EOPNOTSUPP), self.said[1])

    def test_values(self) -> None:
        """A wrong value, and one that comes after the end, are errors."""
        session: Any = self.open().server
        self.assertRaises(SettingError, setattr, session, "zeroCopy", 1)
        self.pair.peer.transport.loseConnection()
        self.pair.flush()
        self.assertRaises(SessionClosedError, setattr, session, "zeroCopy", True)

    def test_turnedOff(self) -> None:
        """It can be turned off, and sends as ever then."""
        session: Any = self.open(codec=ListCodec()).server
        kernel = self.use()
        self.assertIs(session.zeroCopy, True)
        session.zeroCopy = False
        self.assertIs(session.zeroCopy, False)
        session.writePkg([LONG])
        self.assertEqual((kernel.calls, kernel.lent), ([([CHUNK], 0)], {}))

    def test_noSlices(self) -> None:
        """A long chunk that waits is not given to the transport, which would copy it; the rest of one is."""
        pair = self.open(codec=ListCodec(), network={"capacity": 70_000})
        kernel = self.use()
        outbound: Any = pair.server.outbound
        pair.server.writePkg([LONG * 4])
        self.assertEqual(
            (outbound.inTransport, outbound.blocked, pair.server.pendingBytes), (0, True, 4 * CHUNK - 70_000)
        )
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), LONG * 4)
        # All but the rest that is shorter.
        self.assertGreaterEqual(sum(len(sizes) for sizes, flags in kernel.calls if flags), 3)

    def test_compressed(self) -> None:
        """What a compressed stream sends is long, too."""
        session: Any = self.open(codec=ListCodec()).server
        self.use()
        sink = session.outbound.sink
        session.context.sessions.discard(session)
        session.compression = "deflate"
        self.assertIs(session.outbound.sink, sink)
        self.assertTrue(session.zeroCopy)

    def test_lost(self) -> None:
        """When the session ends, its error queue is nobody's; chunks that are out are kept."""
        session: Any = self.open(codec=ListCodec()).server
        kernel = self.use()
        session.writePkg([LONG])
        self.assertEqual(list(self.queues), [1000])
        session.abort()
        self.pair.flush()
        self.assertEqual(self.queues, {})
        self.assertEqual((session.outbound.sink.pending, Leaving.number), ({0: LONG}, 1))
        kernel.done(0, 0)
        self.pair.clock.advance(1)
        self.assertEqual((kernel.closed, Leaving.number), (True, 0))

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(
            st.integers(0, 300_000) | st.sampled_from([CHUNK - 1, CHUNK, "pump", "done", "off", "on"]), max_size=14
        ),
        st.sampled_from([None, 1000, 70_000, 200_000]),
        st.booleans(),
    )
    def test_order(self, steps: list[Any], capacity: int | None, corked: bool) -> None:
        """All bytes arrive, once and in order, and what the kernel has is kept, whatever completes when."""
        expected = bytearray()

        def run(session: Any, *_: Any) -> None:
            for i, step in enumerate(steps):
                if step == "pump":
                    if not corked:
                        self.pair.pump(3)
                elif step == "done":
                    for number in [*kernel.lent][::2]:
                        del kernel.lent[number]
                        kernel.done(number, number)
                    session.outbound.sink.readErrorQueue()
                elif step in ("on", "off"):
                    session.outbound.sink.turnOn() if step == "on" else session.outbound.sink.turnOff()
                else:
                    expected.extend(bytes([i + 65]) * step)
                    session.writePkg([b"", bytes([i + 65]) * step])
                kept = session.outbound.sink.pending
                self.assertEqual(kept.keys(), kernel.lent.keys())
                self.assertTrue(all(kept[number] is kernel.lent[number] for number in kept))

        network = {"capacity": capacity}
        pair = self.open({"message": run} if corked else {}, codec=ListCodec(), network=network, maxPending=10**9)
        kernel = self.use()
        if corked:
            pair.peer.write(b"?")
        else:
            run(pair.server)
        pair.flush()
        self.assertEqual(bytes(pair.peer.data), expected)
        self.assertEqual((pair.server.pendingBytes, pair.server.stats.writeBytes), (0, len(expected)))
