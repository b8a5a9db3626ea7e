"""
Sockets and transports in memory.

:py:class:`MemoryTransport` is Twisted's own TCP transport: its buffers, its rules for producers and its way of closing
are the same code, not an imitation. Only the socket below it is in memory, and the reactor that calls it is a clock.

The sockets behave as on Linux:

* ``send`` takes as many bytes as fit, and raises BlockingIOError when none fit;
* ``close`` with unread input, or of an aborted connection, resets the connection, and so does sending to a closed
  socket;
* a reset discards bytes that were not read yet. (Linux lets a receiver read bytes that had arrived, but a network need
  not have delivered them. A test should get the worse of both.)
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twisted.internet.address import IPv4Address

    from getty_tx.testing.reactor import MemoryReactor

__all__ = ["DirectTransport", "MemorySocket", "MemoryTransport"]


class MemorySocket:
    """
    One of two connected, non-blocking stream sockets; see :py:meth:`pair`.

    :ivar sent: the bytes that each call of ``send`` and ``sendmsg`` took; calls that took nothing are left out.
    :ivar received: bytes that ``recv`` returned.

    Each of the two uses these of the other:

    :ivar peer: the other socket.
    :ivar unread: bytes that were sent to this socket and not read.
    :ivar closed: ``close`` was called.
    """

    peer: MemorySocket

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
        # Sent to this socket: pieces, and when each arrives.
        self._inbox: deque[tuple[float, memoryview]] = deque()
        self.unread = 0
        self._endAt: float | None = None
        self._resetAt: float | None = None
        self._shut = False
        self.closed = False

    @classmethod
    def pair(cls, reactor: MemoryReactor, **options: Any) -> tuple[MemorySocket, MemorySocket]:
        """
        Two connected sockets.

        :param split: the most that one ``recv`` returns: sizes, used cyclically, or a :py:class:`random.Random`.
        :param delay: seconds from sending to arrival.
        :param capacity: sent bytes that the peer has not read, above which ``send`` takes no more.
        """
        one, other = cls(reactor, **options), cls(reactor, **options)
        one.peer, other.peer = other, one
        return one, other

    # Called by the reactor

    def readable(self) -> bool:
        """Whether ``recv`` would not raise BlockingIOError."""
        now = self._reactor.rightNow
        return self._isReset() or (bool(self._inbox) and self._inbox[0][0] <= now) or self._hasEnded()

    def writable(self) -> bool:
        """Whether ``send`` would not raise BlockingIOError."""
        return self._isReset() or self._shut or self._free() > 0

    def hungUp(self) -> bool:
        """Whether the connection was reset, or both sides have ended."""
        return self._isReset() or (self._shut and self._hasEnded())

    def _isReset(self) -> bool:
        return self._resetAt is not None and self._resetAt <= self._reactor.rightNow

    def _hasEnded(self) -> bool:
        return not self._inbox and self._endAt is not None and self._endAt <= self._reactor.rightNow

    def _free(self) -> int:
        return (1 << 62) if self._capacity is None else self._capacity - self.peer.unread

    # Called by Twisted's transport and the session's outbound

    def send(self, data: Any) -> int:
        """Send as many bytes as fit, and return their number."""
        self._check()
        if self._isReset():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        view = memoryview(data)
        if not len(view):
            return 0
        free = self._free()
        if free <= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        part = memoryview(bytes(view[:free]))
        self.sent.append(len(part))
        if self.peer.closed:
            # The bytes go out, and a reset comes back.
            self.resetArrives(2 * self._delay)
        else:
            self.peer.dataArrives(part, self._delay)
        return len(part)

    def sendmsg(self, buffers: Iterable[Any]) -> int:
        """Like ``send``, with several pieces."""
        return self.send(b"".join(bytes(one) for one in buffers))

    def recv(self, size: int) -> bytes:
        """Return arrived bytes: at most ``size``, and at most the next size of ``split``."""
        self._check()
        now = self._reactor.rightNow
        if self._isReset():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        arrived = sum(len(piece) for at, piece in self._inbox if at <= now)
        if not arrived:
            if self._hasEnded():
                return b""
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        limit = min(size, arrived)
        if self._sizes is not None:
            limit = min(limit, next(self._sizes))
        elif self._random is not None:
            # A few bytes are as likely as most of them.
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
        self.unread -= limit
        self.received += limit
        return b"".join(parts)

    def shutdown(self, how: int) -> None:
        """End the sending side."""
        self._check()
        if self._isReset():
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if how != socket.SHUT_RD and not self._shut:
            self._shut = True
            self.peer.endArrives(self._delay)

    def close(self) -> None:
        """Close the connection."""
        if self.closed:
            return
        linger = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        aborted = linger is not None and struct.unpack("ii", linger) == (1, 0)
        if (aborted or self.unread) and not self._isReset():
            self.peer.resetArrives(self._delay)
        elif not self._shut and not self._isReset():
            self.shutdown(socket.SHUT_WR)
        self.closed = True
        self._inbox.clear()
        self.unread = 0

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Store an option."""
        self._check()
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> Any:
        """The stored option, or 0."""
        self._check()
        return self.options.get((level, option), 0)

    def setblocking(self, flag: bool) -> None:
        """Do nothing: the socket never blocks."""

    def fileno(self) -> int:
        """Raise OSError: there is no descriptor, and any number might be that of another file."""
        raise OSError(errno.EBADF, "a memory socket has no descriptor")

    def breakConnection(self) -> None:
        """Simulate a network failure: reset both ends now."""
        self.resetArrives(0.0)
        self.peer.resetArrives(0.0)

    def _check(self) -> None:
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    # Called by the peer

    def dataArrives(self, part: memoryview, after: float) -> None:
        """Bytes arrive after so many seconds."""
        at = self._reactor.rightNow + after
        self._inbox.append((at, part))
        self.unread += len(part)
        self._reactor.arrival(at)

    def endArrives(self, after: float) -> None:
        """The end of the peer's stream arrives after so many seconds."""
        self._endAt = self._reactor.rightNow + after
        self._reactor.arrival(self._endAt)

    def resetArrives(self, after: float) -> None:
        """A reset arrives after so many seconds."""
        if self.closed or self._resetAt is not None:
            return
        self._resetAt = self._reactor.rightNow + after
        self._reactor.arrival(self._resetAt)


class MemoryTransport(tcp.Connection):
    """
    Twisted's TCP transport on a :py:class:`MemorySocket`.

    The session's outbound does not know this class, and so it only calls ``write``; with :py:class:`DirectTransport` it
    can send to the socket directly.

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
        #: The socket, also after the transport has closed it.
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
    A memory transport whose socket the outbound may send to directly, once a test has allowed it::

        self.patch(outbound, "DIRECT", outbound.DIRECT | {DirectTransport})
    """
