"""
The channel between the main process and a sub-reactor: messages with file descriptors.

It is a pair of ``SOCK_SEQPACKET`` unix sockets, which preserve message boundaries and keep each descriptor with its
message. The first byte of a message is its kind. Numbers of connections have 4 bytes, those of endpoints 2, in native
byte order.

===============  =========  =======================================================================================
from the main    CONFIG     JSON: the settings; the first message. With listening sockets, where they are lent, and a
                            socket beside the channel, the last one
                 TAKE       numbers and endpoints of connections, with their sockets
                 REFUSE     as TAKE, for connections that the main process refuses: they get an answer
                 DRAIN      seconds in which to end
                 ASK        the number of a query, 4 bytes, and the query, JSON
from the sub     READY      it takes connections
                 FAILED     it cannot start: the reason, text
                 TAKEN      numbers of connections: the main process can close them. Sent before they are read
                 RETURNED   numbers of connections that it does not take
                 ENDED      numbers of connections that are closed
                 BEAT       JSON: its counters; sent regularly, as a heartbeat
                 LOG        JSON: an event of ``twisted.logger``
                 LEAVING    a signal told it to end, and it takes no more connections
                 ANSWER     the number of the query, a byte that is 1 in the last part, and a part of the answer, JSON;
                            number 0: a report without a query
===============  =========  =======================================================================================
"""

from __future__ import annotations

import socket
from array import array
from collections import deque
from errno import EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS
from struct import Struct, pack
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twisted.python.failure import Failure

__all__ = [
    "ANSWER",
    "ASK",
    "BEAT",
    "CONFIG",
    "DRAIN",
    "ENDED",
    "FAILED",
    "LEAVING",
    "LOG",
    "MAX_DESCRIPTORS",
    "MAX_MESSAGE",
    "READY",
    "REFUSE",
    "RETURNED",
    "TAKE",
    "TAKEN",
    "Channel",
    "channelPair",
    "packConnections",
    "packNumbers",
    "receiveOne",
    "unpackConnections",
    "unpackNumbers",
]

log = Logger()

CONFIG, TAKE, DRAIN, READY, FAILED, TAKEN, RETURNED, ENDED, BEAT, LOG, LEAVING, ASK, ANSWER, REFUSE = b"ctdrfkbehlqsan"

#: Descriptors in one message: the limit of Linux (SCM_MAX_FD in include/net/scm.h).
MAX_DESCRIPTORS = 253

#: Bytes of the longest message, well below the size of a socket's buffer.
MAX_MESSAGE = 60000

#: Messages that are read before the reactor serves other descriptors.
READS_PER_ITERATION = 64

#: Errors that mean: try later. ETOOMANYREFS: too many descriptors are in flight (unix(7)).
_FULL = (EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS)

#: Seconds until the next attempt to send, where the system does not report when it is possible.
_RETRY = 0.02

_CONNECTION = Struct("=IH")


def packNumbers(numbers: Iterable[int]) -> bytes:
    """Pack numbers of connections, 4 bytes each."""
    return array("I", numbers).tobytes()


def unpackNumbers(data: bytes) -> array[int]:
    """The reverse of :py:func:`packNumbers`."""
    numbers = array("I")
    numbers.frombytes(data)
    return numbers


def packConnections(connections: Iterable[tuple[int, int]]) -> bytes:
    """Pack connections, each with its number and the number of its endpoint."""
    return b"".join(_CONNECTION.pack(*connection) for connection in connections)


def unpackConnections(data: bytes) -> list[tuple[int, int]]:
    """The reverse of :py:func:`packConnections`."""
    return list(_CONNECTION.iter_unpack(data))


def channelPair() -> tuple[socket.socket, socket.socket]:
    """Make both ends of a channel, not inheritable."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receiveOne(channel: socket.socket) -> tuple[bytes, list[int]]:
    """
    Receive a message and its descriptors; empty at the end of the channel. Blocks where the socket does.

    Descriptors above the process's limit of open files are lost without an error.
    """
    data, beside, _, _ = channel.recvmsg(
        MAX_MESSAGE + 1, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
    )
    descriptors: list[int] = []
    for level, kind, payload in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array("i")
            numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
            descriptors.extend(numbers)
    return data, descriptors


@implementer(IReadWriteDescriptor)
class Channel:
    """
    One end of a channel, for a reactor.

    Messages that cannot be sent now are queued and sent later, in order.

    :param end: the socket; the channel closes it.
    :param reactor: the reactor.
    :param received: called for each message with its kind, its data and its descriptors.
    :param lost: called once, after the last message, when the other end or this one is closed.

    :ivar sent: how many messages are sent, or will never be sent.
    """

    def __init__(
        self,
        end: socket.socket,
        reactor: Any,
        received: Callable[[int, bytes, list[int]], object],
        lost: Callable[[], object],
    ) -> None:
        end.setblocking(False)
        self._socket: socket.socket | None = end
        self._reactor = reactor
        self._received = received
        self._lost = lost
        self._queue: deque[tuple[bytes, Sequence[int]]] = deque()
        self.sent = 0
        self._retry: Any = None
        # The last read has found no message.
        self._isEmpty = False
        reactor.addReader(self)

    @property
    def queued(self) -> int:
        """How many messages are queued."""
        return len(self._queue)

    def send(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """
        Send a message, or queue it. Does nothing after ``lost`` was called.

        :param descriptors: at most :py:data:`MAX_DESCRIPTORS`. They must stay open until the other end has
            acknowledged them.
        :return: the value that :py:attr:`sent` has reached when this message is sent.
        """
        message = pack("B", kind) + data
        if self._socket is None:
            return 0
        if self._queue or not self._send(message, descriptors):
            self._queue.append((message, descriptors))
        else:
            self.sent += 1
        return self.sent + len(self._queue)

    def _send(self, message: bytes, descriptors: Sequence[int]) -> bool:
        """Send now; return False if it must be tried again."""
        assert self._socket is not None
        try:
            if descriptors:
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                self._socket.sendmsg([message], beside, socket.MSG_NOSIGNAL)
            else:
                self._socket.send(message, socket.MSG_NOSIGNAL)
        except OSError as error:
            if isinstance(error, ConnectionError):
                # The other end is closed. Reading finds that too, after the messages that it has sent before.
                self.sent += max(0, len(self._queue) - 1)
                self._queue.clear()
                return True
            if error.errno not in _FULL:
                log.failure("a message of kind {kind!r} was not sent", kind=message[:1])
                return True
            if error.errno == EAGAIN:
                self._reactor.addWriter(self)
            elif self._retry is None:
                self._retry = self._reactor.callLater(_RETRY, self._tryAgain)
            return False
        return True

    def _tryAgain(self) -> None:
        self._retry = None
        self.doWrite()

    def close(self) -> None:
        """Close this end; the other one is notified by the system."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._closed()

    def finish(self) -> None:
        """Receive the last messages of a process that has ended, and close. Its children may have the other end."""
        # The process has ended, so all its messages are in the socket: an empty read means the end.
        self._isEmpty = False
        while self._socket is not None and not self._isEmpty and self.doRead() is None:
            pass
        self.close()

    def _closed(self) -> None:
        end, self._socket = self._socket, None
        if end is None:
            return
        self.sent += len(self._queue)
        self._queue.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        end.close()
        self._lost()

    # IReadWriteDescriptor

    def fileno(self) -> int:
        """Return the descriptor of the socket, or -1 when it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return "channel"

    def doRead(self) -> Any:
        """Receive messages; returns as IReadDescriptor.doRead."""
        for _ in range(READS_PER_ITERATION):
            if self._socket is None:
                break
            try:
                data, descriptors = receiveOne(self._socket)
            except BlockingIOError:
                self._isEmpty = True
                break
            except ConnectionResetError:
                # The other end was closed with unread messages. The system reports that once, before its last messages.
                continue
            except OSError:
                return CONNECTION_LOST
            if not data:
                return CONNECTION_DONE
            try:
                self._received(data[0], data[1:], descriptors)
            except Exception:
                # Go on: the next message may concern other connections.
                log.failure("a message of kind {kind!r} was not handled", kind=data[:1])
        return None

    def doWrite(self) -> None:
        """Send queued messages."""
        if self._socket is None:
            return
        self._reactor.removeWriter(self)
        queue = self._queue
        while queue:
            if not self._send(*queue[0]):
                break
            self.sent += 1
            # A failed send clears the queue.
            if queue:
                queue.popleft()

    def connectionLost(self, reason: Failure) -> None:
        """The other end is closed. All its messages were received, because the end of a socket comes last."""
        self._closed()
