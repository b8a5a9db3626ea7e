"""
A reactor, sockets and transports in memory.

:py:class:`MemoryTransport` is Twisted's own TCP transport: its buffers, its producers' rules, its way of closing are
not imitated but the same code. Only the socket below it is of memory, and the reactor that calls it is a clock.

What the sockets imitate is Linux:

* ``send`` takes what there is room for, and raises BlockingIOError when there is none;
* ``close`` with unread input, or of an aborted connection, is a reset, and so is what is sent to a closed socket;
* a reset loses what has not been read yet. (Linux lets a receiver read what had arrived; a network need not have
  delivered it. A test should meet the worse of the two.)
"""

from __future__ import annotations

import errno
import heapq
import os
import socket
import struct
from collections import deque
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.internet.address import IPv4Address

__all__ = ["DirectTransport", "MemoryReactor", "MemorySocket", "MemoryTransport"]

log = Logger()

#: Turns after which :py:meth:`MemoryReactor.settle` takes it that two ends will answer each other for ever.
TURNS = 100_000


class MemoryReactor(Clock):
    """
    A clock that also moves bytes between :py:class:`MemoryTransport` s, and takes calls from other threads.

    Nothing happens by itself. :py:meth:`turn` does what a reactor does in one turn; :py:meth:`settle` goes on until
    nothing is left to do at this moment; :py:meth:`advance` lets time pass, from one timer or arriving byte to the
    next.

    ::

        reactor = MemoryReactor()
        reactor.callLater(1.0, print, "a second later")
        reactor.advance(1.0)
    """

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[Any, None] = {}
        self._writers: dict[Any, None] = {}
        self._fromThreads: deque[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = deque()
        self._arrivals: list[float] = []
        #: How often callFromThread woke the reactor.
        self.wakeUps = 0

    # What a real reactor has besides a clock

    def callFromThread(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Have the next turn call ``call(*args, **kwargs)``; safe from any thread."""
        self.wakeUps += 1
        self._fromThreads.append((call, args, kwargs))

    def addReader(self, descriptor: Any) -> None:
        """Tell ``descriptor`` when it can read."""
        self._readers[descriptor] = None

    def removeReader(self, descriptor: Any) -> None:
        """Tell it no more."""
        self._readers.pop(descriptor, None)

    def addWriter(self, descriptor: Any) -> None:
        """Tell ``descriptor`` when it can write."""
        self._writers[descriptor] = None

    def removeWriter(self, descriptor: Any) -> None:
        """Tell it no more."""
        self._writers.pop(descriptor, None)

    def removeAll(self) -> list[Any]:
        """Forget all descriptors, and return them."""
        found = list({**self._readers, **self._writers})
        self._readers.clear()
        self._writers.clear()
        return found

    def getReaders(self) -> list[Any]:
        """The descriptors that want to read."""
        return list(self._readers)

    def getWriters(self) -> list[Any]:
        """The descriptors that want to write."""
        return list(self._writers)

    def arrival(self, at: float) -> None:
        """Something is under way and arrives at the time ``at``; :py:meth:`advance` stops there."""
        heapq.heappush(self._arrivals, at)

    # Turns

    def turn(self) -> bool:
        """
        One turn: the calls from threads, the timers that are due, then each descriptor once.

        :return: False when there was nothing to do.
        """
        happened = False
        for _ in range(len(self._fromThreads)):
            call, args, kwargs = self._fromThreads.popleft()
            happened = True
            try:
                call(*args, **kwargs)
            except BaseException:
                log.failure("a call from a thread failed")
        if any(call.getTime() <= self.rightNow for call in self.calls):
            happened = True
            Clock.advance(self, 0)
        # Readiness is asked of all before any is served, as epoll does.
        events = [
            (descriptor, descriptor in self._readers, descriptor.socket.readable(), descriptor.socket.writable())
            for descriptor in {**self._readers, **self._writers}
            # A transport that has let go of its socket may still be asked to write.
            if hasattr(descriptor, "socket")
        ]
        for descriptor, reading, readable, writable in events:
            if self._serve(descriptor, reading, readable, writable):
                happened = True
        return happened

    def settle(self, turns: int = TURNS) -> None:
        """
        Take turns until there is nothing to do at this moment.

        :raise AssertionError: it does not end, within ``turns`` turns.
        """
        for _ in range(turns):
            if not self.turn():
                return
        raise AssertionError(f"still busy after {turns} turns: do the two ends answer each other for ever?")

    def advance(self, amount: float) -> None:
        """Let ``amount`` seconds pass; every timer and every arriving byte is served at its own time."""
        end = self.rightNow + amount
        self.settle()
        while (at := self._next()) is not None and at <= end:
            self.rightNow = at
            self.settle()
        self.rightNow = end
        self.settle()

    def _next(self) -> float | None:
        arrivals = self._arrivals
        while arrivals and arrivals[0] <= self.rightNow:
            heapq.heappop(arrivals)
        times = [call.getTime() for call in self.calls]
        return min(times + arrivals[:1], default=None)

    def _serve(self, descriptor: Any, reading: bool, readable: bool, writable: bool) -> bool:
        """What Twisted's epoll reactor does with one descriptor's events."""
        why: Any = None
        isRead = False
        happened = False
        handle = getattr(descriptor, "socket", None)
        if handle is None:
            return False
        try:
            if handle.hungUp() and not reading:
                # Without interest in reading, the kernel still tells of a reset, and not of the clean end.
                happened = True
                why = main.CONNECTION_LOST
            else:
                if readable and descriptor in self._readers:
                    happened = isRead = True
                    why = descriptor.doRead()
                if why is None and writable and descriptor in self._writers:
                    happened = True
                    isRead = False
                    why = descriptor.doWrite()
        except BaseException as error:
            log.failure("a descriptor failed")
            why = error
        if why is not None:
            self._disconnect(descriptor, why, isRead)
        return happened

    def _disconnect(self, descriptor: Any, why: BaseException, isRead: bool) -> None:
        self.removeReader(descriptor)
        if isRead and isinstance(why, ConnectionDone) and IHalfCloseableDescriptor.providedBy(descriptor):
            descriptor.readConnectionLost(Failure(why))
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))


class MemorySocket:
    """
    One of two connected, non-blocking stream sockets; see :py:meth:`pair`.

    :ivar sent: the sizes that ``send`` and ``sendmsg`` took, one for each call that took something.
    :ivar received: bytes that ``recv`` gave out.
    """

    _peer: MemorySocket

    def __init__(
        self,
        reactor: MemoryReactor,
        split: Sequence[int] | Random | None = None,
        delay: float = 0.0,
        capacity: int | None = None,
    ) -> None:
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity={capacity!r} is less than 1 byte")
        self.sent: list[int] = []
        self.received = 0
        self.options: dict[tuple[int, int], Any] = {}
        self._reactor = reactor
        self._random = split if isinstance(split, Random) else None
        self._sizes = cycle(split) if split and not isinstance(split, Random) else None
        self._delay = delay
        self._capacity = capacity
        # What comes in: pieces and when each arrives.
        self._inbox: deque[tuple[float, memoryview]] = deque()
        self._unread = 0
        self._endAt: float | None = None
        self._resetAt: float | None = None
        self._shut = False
        self._closed = False

    @classmethod
    def pair(cls, reactor: MemoryReactor, **options: Any) -> tuple[MemorySocket, MemorySocket]:
        """
        Two connected sockets.

        :param split: how much one ``recv`` gives at most: sizes, used over and over, or a :py:class:`random.Random`.
        :param delay: seconds that bytes are under way.
        :param capacity: bytes, sent and not read by the peer, above which ``send`` takes no more.
        """
        one, other = cls(reactor, **options), cls(reactor, **options)
        one._peer, other._peer = other, one
        return one, other

    # What the reactor asks

    def readable(self) -> bool:
        """``recv`` would not raise BlockingIOError."""
        now = self._reactor.rightNow
        return self._isReset() or (bool(self._inbox) and self._inbox[0][0] <= now) or self._hasEnded()

    def writable(self) -> bool:
        """``send`` would not raise BlockingIOError."""
        return self._isReset() or self._shut or self._room() > 0

    def hungUp(self) -> bool:
        """The connection was reset, or both sides have ended."""
        return self._isReset() or (self._shut and self._hasEnded())

    def _isReset(self) -> bool:
        return self._resetAt is not None and self._resetAt <= self._reactor.rightNow

    def _hasEnded(self) -> bool:
        return not self._inbox and self._endAt is not None and self._endAt <= self._reactor.rightNow

    def _room(self) -> int:
        return (1 << 62) if self._capacity is None else self._capacity - self._peer._unread

    # What Twisted's transport and the outbound ask of a socket

    def send(self, data: Any) -> int:
        """Take what there is room for."""
        self._check()
        if self._isReset():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        view = memoryview(data)
        if not len(view):
            return 0
        room = self._room()
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        part = memoryview(bytes(view[:room]))
        self.sent.append(len(part))
        if self._peer._closed:
            # The bytes leave, and a reset comes back.
            self._reset(2 * self._delay)
        else:
            self._peer._arrive(part)
        return len(part)

    def sendmsg(self, buffers: Iterable[Any]) -> int:
        """As ``send``, with several pieces."""
        return self.send(b"".join(bytes(one) for one in buffers))

    def recv(self, size: int) -> bytes:
        """Give what has arrived, at most ``size`` bytes and at most what ``split`` says."""
        self._check()
        now = self._reactor.rightNow
        if self._isReset():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        there = sum(len(piece) for at, piece in self._inbox if at <= now)
        if not there:
            if self._hasEnded():
                return b""
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        limit = min(size, there)
        if self._sizes is not None:
            limit = min(limit, next(self._sizes))
        elif self._random is not None:
            # As often a few bytes as most of them.
            limit = max(1, int(limit ** self._random.random()))
        parts = []
        left = limit
        while left:
            at, piece = self._inbox.popleft()
            if len(piece) > left:
                self._inbox.appendleft((at, piece[left:]))
                piece = piece[:left]
            parts.append(piece)
            left -= len(piece)
        self._unread -= limit
        self.received += limit
        return b"".join(parts)

    def shutdown(self, how: int) -> None:
        """End the sending side."""
        self._check()
        if self._isReset():
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if how != socket.SHUT_RD and not self._shut:
            self._shut = True
            self._peer._endAt = self._reactor.rightNow + self._delay
            self._reactor.arrival(self._peer._endAt)

    def close(self) -> None:
        """Let go of the connection."""
        if self._closed:
            return
        linger = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        aborted = linger is not None and struct.unpack("ii", linger) == (1, 0)
        if (aborted or self._unread) and not self._isReset():
            self._peer._reset(self._delay)
        elif not self._shut and not self._isReset():
            self.shutdown(socket.SHUT_WR)
        self._closed = True
        self._inbox.clear()
        self._unread = 0

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Keep an option."""
        self._check()
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> Any:
        """The option as it was set, or 0."""
        self._check()
        return self.options.get((level, option), 0)

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        """There is no descriptor, and a wrong number would be somebody else's."""
        raise OSError(errno.EBADF, "a socket of memory has no descriptor")

    def breakConnection(self) -> None:
        """The network fails: both ends are reset at this moment."""
        self._reset(0.0)
        self._peer._reset(0.0)

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _arrive(self, part: memoryview) -> None:
        at = self._reactor.rightNow + self._delay
        self._inbox.append((at, part))
        self._unread += len(part)
        self._reactor.arrival(at)

    def _reset(self, after: float) -> None:
        if self._closed or self._resetAt is not None:
            return
        self._resetAt = self._reactor.rightNow + after
        self._reactor.arrival(self._resetAt)


class MemoryTransport(tcp.Connection):
    """
    Twisted's TCP transport on a :py:class:`MemorySocket`.

    For the outbound it is a transport that it does not know, and so it is only written to;
    :py:class:`DirectTransport` is for the way past it.

    ::

        reactor = MemoryReactor()
        one, other = MemorySocket.pair(reactor, capacity=1000)
        MemoryTransport(reactor, one, serverProtocol, serverAddress, clientAddress).start()
        MemoryTransport(reactor, other, clientProtocol, clientAddress, serverAddress, isClient=True).start()
    """

    socket: Any

    def __init__(
        self,
        reactor: MemoryReactor,
        handle: MemorySocket,
        protocol: Any,
        host: IPv4Address,
        peer: IPv4Address,
        isClient: bool = False,
    ) -> None:
        anyHandle: Any = handle
        anyReactor: Any = reactor
        super().__init__(anyHandle, protocol, anyReactor)
        self._reactor = reactor
        self._tlsClientDefault = isClient
        self._host = host
        self._peer = peer
        #: The socket, also when the transport has let go of it.
        self.memory = handle

    def start(self) -> None:
        """Connect the protocol; reading begins."""
        self.connected = 1
        self._reactor.addReader(self)
        self.protocol.makeConnection(self)

    def getHost(self) -> IPv4Address:
        """This end's address."""
        return self._host

    def getPeer(self) -> IPv4Address:
        """The peer's address."""
        return self._peer


class DirectTransport(MemoryTransport):
    """
    A memory transport whose socket the outbound may send to directly, once a test has told it so::

        self.patch(outbound, "DIRECT", outbound.DIRECT | {DirectTransport})
    """
