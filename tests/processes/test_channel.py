"""Tests of processes/channel: messages with descriptors."""

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
        """Send until a message is queued; return the number of sent messages."""
        while not self.channel.queued:
            self.channel.send(passing.LOG, bytes(20000))
        return self.channel.sent

    def empty(self) -> list[bytes]:
        """Read all messages at the other end."""
        self.other.setblocking(False)
        found = []
        try:
            while data := receiveOne(self.other)[0]:
                found.append(data)
        except BlockingIOError:
            pass
        return found

    def test_apart(self) -> None:
        """Message boundaries are preserved, also of empty messages, and each message has its descriptors."""
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
        """Messages are received with their kind; a handler that fails does not affect the next message."""
        self.other.send(b"rone")
        self.other.send(b"kbad")
        self.other.send(b"ktwo")
        self.assertIsNone(self.channel.doRead())
        self.assertEqual([(passing.READY, b"one", []), (passing.TAKEN, b"two", [])], self.received)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_kept(self) -> None:
        """Queued messages are sent later, in order, and ``sent`` counts them then."""
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
        """With too many descriptors in flight, the channel retries after a time: the system reports no event."""
        self.socket.error = OSError(errno.ETOOMANYREFS, "too many")
        self.channel.send(passing.READY)
        self.socket.error = None
        self.assertEqual((1, 0), (self.channel.queued, self.channel.sent))
        self.reactor.advance(1)
        self.assertEqual((b"r", []), receiveOne(self.other))
        self.assertEqual((0, 1), (self.channel.queued, self.channel.sent))

    def test_gone(self) -> None:
        """The other end is closed with unread messages: its own messages are received, then the channel ends."""
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
        """The same when a read is the first call to fail."""
        self.channel.send(passing.READY)
        self.other.send(b"kone")
        self.other.close()
        self.assertIs(CONNECTION_DONE, self.channel.doRead())
        self.assertEqual([b"one"], [data for _, data, _ in self.received])

    def test_goneWaiting(self) -> None:
        """Queued messages are dropped with the other end, and count as sent, so that no caller waits for them."""
        self.fill()
        number = self.channel.send(passing.READY)
        self.other.close()
        self.channel.doWrite()
        self.assertEqual((0, number), (self.channel.queued, self.channel.sent))
        self.channel.close()
        self.assertEqual(0, self.channel.send(passing.READY))

    def test_closeWaiting(self) -> None:
        """The same when this end is closed."""
        self.fill()
        number = self.channel.send(passing.READY)
        self.channel.close()
        self.assertGreaterEqual(self.channel.sent, number)
        self.assertEqual(1, self.lost)
        self.assertEqual([], self.reactor.getReaders() + self.reactor.getWriters())
        self.channel.doWrite()
        self.assertIsNone(self.channel.doRead())

    def test_finish(self) -> None:
        """The process has ended, but another one has the other end: its messages are received, then it closes."""
        for number in range(passing.READS_PER_ITERATION * 2):
            self.other.send(b"k%d" % number)
        self.channel.finish()
        self.assertEqual(passing.READS_PER_ITERATION * 2, len(self.received))
        self.assertEqual(1, self.lost)

    def test_mostDescriptors(self) -> None:
        """A message carries MAX_DESCRIPTORS descriptors."""
        end, _ = self.pipe()
        self.channel.send(passing.TAKE, b"", [end] * passing.MAX_DESCRIPTORS)
        _, descriptors = receiveOne(self.other)
        for each in descriptors:
            os.close(each)
        self.assertEqual(passing.MAX_DESCRIPTORS, len(descriptors))

    def test_longest(self) -> None:
        """A message of MAX_MESSAGE bytes arrives whole."""
        self.channel.send(passing.LOG, bytes(passing.MAX_MESSAGE - 1))
        self.assertEqual(passing.MAX_MESSAGE, len(receiveOne(self.other)[0]))

    def test_tooLong(self) -> None:
        """A message that the system refuses is logged as an error, and the next ones are sent."""
        self.channel.send(passing.LOG, bytes(10_000_000))
        self.channel.send(passing.READY)
        self.assertEqual((b"r", []), receiveOne(self.other))
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class FormatTests(SynchronousTestCase):
    """The contents of messages."""

    def test_numbers(self) -> None:
        """Numbers of connections are unpacked as packed."""
        for numbers in ([], [0], [1, 2**32 - 1, 7]):
            self.assertEqual(numbers, unpackNumbers(packNumbers(numbers)).tolist())

    def test_connections(self) -> None:
        """Connections are unpacked as packed."""
        connections = [(0, 0), (2**32 - 1, 65535), (5, 1)]
        self.assertEqual(connections, unpackConnections(packConnections(connections)))

    def test_kinds(self) -> None:
        """No two kinds are the same."""
        kinds = [value for name in passing.__all__ if isinstance(value := getattr(passing, name), int) and value < 128]
        self.assertEqual((14, 14), (len(kinds), len(set(kinds))))

    def test_pair(self) -> None:
        """Neither end is inheritable."""
        for end in channelPair():
            self.assertFalse(end.get_inheritable())
            self.assertEqual(socket.SOCK_SEQPACKET, end.type)
            end.close()
