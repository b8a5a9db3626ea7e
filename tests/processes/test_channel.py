"""The channel between the main process and a sub-reactor."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes import channel as passing
from getty_tx.processes.channel import (
    Channel,
    channelPair,
    packConnections,
    packNumbers,
    receiveOne,
    unpackConnections,
    unpackNumbers,
)


class FailingSocket:
    """
    A socket.

    :ivar error: raised by ``send``, while it is set.
    """

    def __init__(self, real: socket.socket) -> None:
        self.real = real
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def send(self, *arguments: Any) -> int:
        """Send, or fail."""
        if self.error is not None:
            raise self.error
        return self.real.send(*arguments)


class ChannelTests(SynchronousTestCase):
    """A Channel and a bare socket at the other end."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        ours, self.other = channelPair()
        self.addCleanup(self.other.close)
        self.received: list[tuple[int, bytes, list[int]]] = []
        self.lost = 0
        self.socket: Any = FailingSocket(ours)
        self.channel = Channel(self.socket, self.reactor, self._receive, self._lose)
        self.addCleanup(self.channel.close)

    def _receive(self, kind: int, data: bytes, descriptors: list[int]) -> None:
        if data == b"bad":
            raise ZeroDivisionError
        self.received.append((kind, data, descriptors))

    def _lose(self) -> None:
        self.lost += 1

    def pipe(self) -> tuple[int, int]:
        """Both ends of a pipe, closed after the test."""
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def fill(self) -> int:
        """Send until the system takes no more; how many messages are out then."""
        while not self.channel.queued:
            self.channel.send(passing.LOG, bytes(20000))
        return self.channel.sent

    def empty(self) -> list[bytes]:
        """What is to be read at the other end."""
        self.other.setblocking(False)
        found = []
        try:
            while data := receiveOne(self.other)[0]:
                found.append(data)
        except BlockingIOError:
            pass
        return found

    def test_apart(self) -> None:
        """Messages stay apart, empty ones as well, and each has its descriptors."""
        end, _ = self.pipe()
        self.channel.send(passing.READY)
        self.channel.send(passing.TAKE, b"some", [end, end])
        self.channel.send(passing.DRAIN, b"later")
        self.assertEqual((b"r", []), receiveOne(self.other))
        data, descriptors = receiveOne(self.other)
        for each in descriptors:
            self.addCleanup(os.close, each)
        self.assertEqual((b"tsome", 2), (data, len(descriptors)))
        self.assertEqual({os.fstat(end).st_ino}, {os.fstat(each).st_ino for each in descriptors})
        self.assertFalse(any(os.get_inheritable(each) for each in descriptors))
        self.assertEqual((b"dlater", []), receiveOne(self.other))

    def test_receive(self) -> None:
        """What comes is handed out by kind; one that cannot be handled does not take the next with it."""
        self.other.send(b"rone")
        self.other.send(b"kbad")
        self.other.send(b"ktwo")
        self.assertIsNone(self.channel.doRead())
        self.assertEqual([(passing.READY, b"one", []), (passing.TAKEN, b"two", [])], self.received)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_kept(self) -> None:
        """What the system does not take is sent later, in order, and ``sent`` tells when."""
        end, _ = self.pipe()
        out = self.fill()
        number = self.channel.send(passing.TAKE, b"kept", [end])
        self.assertEqual((out + 2, 2), (number, self.channel.queued))
        self.assertIn(self.channel, self.reactor.getWriters())
        self.channel.doWrite()
        self.assertLess(self.channel.sent, number)
        self.assertEqual(out, len(self.empty()))
        self.channel.doWrite()
        self.assertEqual((number, 0), (self.channel.sent, self.channel.queued))
        self.assertEqual([], self.reactor.getWriters())
        receiveOne(self.other)
        data, descriptors = receiveOne(self.other)
        self.assertEqual((b"tkept", 1), (data, len(descriptors)))
        os.close(descriptors[0])

    def test_descriptorsUnderWay(self) -> None:
        """Where too many descriptors are in flight, the system does not tell when it takes more: time does."""
        self.socket.error = OSError(errno.ETOOMANYREFS, "too many")
        self.channel.send(passing.READY)
        self.socket.error = None
        self.assertEqual((1, 0), (self.channel.queued, self.channel.sent))
        self.reactor.advance(1)
        self.assertEqual((b"r", []), receiveOne(self.other))
        self.assertEqual((0, 1), (self.channel.queued, self.channel.sent))

    def test_gone(self) -> None:
        """The other end goes with messages unread: what it has sent before is received all the same, then it ends."""
        self.channel.send(passing.READY)
        self.other.send(b"kone")
        self.other.send(b"ktwo")
        self.other.close()
        # The system forgets what it would say of the first read once it is said here.
        self.channel.send(passing.READY)
        reason = self.channel.doRead()
        self.assertEqual([b"one", b"two"], [data for _, data, _ in self.received])
        self.assertIs(CONNECTION_DONE, reason)
        self.channel.connectionLost(Failure(reason))
        self.assertEqual(1, self.lost)
        self.assertEqual(-1, self.channel.fileno())

    def test_goneUnread(self) -> None:
        """The same where reading is the first to know."""
        self.channel.send(passing.READY)
        self.other.send(b"kone")
        self.other.close()
        self.assertIs(CONNECTION_DONE, self.channel.doRead())
        self.assertEqual([b"one"], [data for _, data, _ in self.received])

    def test_goneWaiting(self) -> None:
        """Messages that wait are dropped with the other end, and count as sent, so that nobody waits for them."""
        self.fill()
        number = self.channel.send(passing.READY)
        self.other.close()
        self.channel.doWrite()
        self.assertEqual((0, number), (self.channel.queued, self.channel.sent))
        self.channel.close()
        self.assertEqual(0, self.channel.send(passing.READY))

    def test_closeWaiting(self) -> None:
        """The same when it is closed here."""
        self.fill()
        number = self.channel.send(passing.READY)
        self.channel.close()
        self.assertGreaterEqual(self.channel.sent, number)
        self.assertEqual(1, self.lost)
        self.assertEqual([], self.reactor.getReaders() + self.reactor.getWriters())
        self.channel.doWrite()
        self.assertIsNone(self.channel.doRead())

    def test_finish(self) -> None:
        """The process is gone though something else has its end still: all that was sent is taken first."""
        for number in range(passing.READS_PER_ITERATION * 2):
            self.other.send(b"k%d" % number)
        self.channel.finish()
        self.assertEqual(passing.READS_PER_ITERATION * 2, len(self.received))
        self.assertEqual(1, self.lost)

    def test_mostDescriptors(self) -> None:
        """As many descriptors as the system takes in one message fit."""
        end, _ = self.pipe()
        self.channel.send(passing.TAKE, b"", [end] * passing.MAX_DESCRIPTORS)
        _, descriptors = receiveOne(self.other)
        for each in descriptors:
            os.close(each)
        self.assertEqual(passing.MAX_DESCRIPTORS, len(descriptors))

    def test_longest(self) -> None:
        """The longest message comes whole."""
        self.channel.send(passing.LOG, bytes(passing.MAX_MESSAGE - 1))
        self.assertEqual(passing.MAX_MESSAGE, len(receiveOne(self.other)[0]))

    def test_tooLong(self) -> None:
        """What the system never takes is an error in the log, and holds nothing up."""
        self.channel.send(passing.LOG, bytes(10_000_000))
        self.channel.send(passing.READY)
        self.assertEqual((b"r", []), receiveOne(self.other))
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class FormatTests(SynchronousTestCase):
    """What is in messages."""

    def test_numbers(self) -> None:
        """Numbers of connections come back as they were."""
        for numbers in ([], [0], [1, 2**32 - 1, 7]):
            self.assertEqual(numbers, unpackNumbers(packNumbers(numbers)).tolist())

    def test_connections(self) -> None:
        """So do connections."""
        connections = [(0, 0), (2**32 - 1, 65535), (5, 1)]
        self.assertEqual(connections, unpackConnections(packConnections(connections)))

    def test_kinds(self) -> None:
        """No two kinds are the same."""
        kinds = [value for name in passing.__all__ if isinstance(value := getattr(passing, name), int) and value < 128]
        self.assertEqual((14, 14), (len(kinds), len(set(kinds))))

    def test_pair(self) -> None:
        """Neither end is left to other programs."""
        for end in channelPair():
            self.assertFalse(end.get_inheritable())
            self.assertEqual(socket.SOCK_SEQPACKET, end.type)
            end.close()
