"""
The channel between the main process and a sub-reactor: messages, with descriptors beside them.

It is a pair of ``SOCK_SEQPACKET`` unix sockets, which keep messages apart and each descriptor with its message. The
first byte of a message is its kind; numbers of connections have 4 bytes, of endpoints 2, in the machine's own order.

===============  =========  =======================================================================================
from the main    CONFIG     JSON: what to run; the first message. Listening sockets beside it, where there are any
                 TAKE       numbers and endpoints of connections, the sockets beside it
                 REFUSE     as TAKE, of connections above ``maxSessions`` that get an answer
                 DRAIN      seconds within which to end
                 ASK        a question's number, 4 bytes, and JSON
from the sub     READY      it takes connections
                 FAILED     why it cannot start, in words
                 TAKEN      numbers of connections: the main may let go of them. Sent before anything is read of them
                 RETURNED   numbers of connections that it does not take
                 ENDED      numbers of connections that are closed
                 BEAT       JSON: what it counts; sent regularly as a sign of life
                 LOG        JSON: an event of ``twisted.logger``
                 LEAVING    it was told by a signal to end, and takes no more connections
                 ANSWER     the question's number, a byte that is 1 in the last part, and a part of the answer, JSON;
                            number 0: what nobody has asked for
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
    "LONGEST",
    "MOST_DESCRIPTORS",
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

#: Linux takes no more in one message (SCM_MAX_FD in include/net/scm.h).
MOST_DESCRIPTORS = 253

#: Bytes of the longest message, well below what a socket's buffer takes.
LONGEST = 60000

#: Messages that are read before the reactor looks at other descriptors.
ROUND = 64

#: The system takes nothing more for the moment. ETOOMANYREFS: too many descriptors are under way (unix(7)).
_FULL = (EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS)

#: Seconds after which sending is tried again where the system does not tell when it is possible.
_RETRY = 0.02

_CONNECTION = Struct("=IH")


def packNumbers(numbers: Iterable[int]) -> bytes:
    """Numbers of connections, 4 bytes each."""
    return array("I", numbers).tobytes()


def unpackNumbers(data: bytes) -> array[int]:
    """The reverse of :py:func:`packNumbers`."""
    numbers = array("I")
    numbers.frombytes(data)
    return numbers


def packConnections(connections: Iterable[tuple[int, int]]) -> bytes:
    """Connections, each with its number and that of its endpoint."""
    return b"".join(_CONNECTION.pack(*connection) for connection in connections)


def unpackConnections(data: bytes) -> list[tuple[int, int]]:
    """The reverse of :py:func:`packConnections`."""
    return list(_CONNECTION.iter_unpack(data))


def channelPair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel, not inheritable."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receiveOne(channel: socket.socket) -> tuple[bytes, list[int]]:
    """
    The next message and its descriptors; empty at the end. Blocks where the socket does.

    Descriptors beyond those that the process may have are lost, without an error.
    """
    data, beside, _, _ = channel.recvmsg(LONGEST + 1, socket.CMSG_SPACE(MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC)
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

    What cannot be sent at once is kept and sent later, in order.

    :param end: the socket; the channel closes it.
    :param reactor: the reactor.
    :param received: called with each message's kind, what is behind that, and the descriptors.
    :param lost: called once when the other end is gone, or :py:meth:`close` was called; after the last message.

    :ivar sent: how many messages are out, or will never be.
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
        # There was nothing more to read.
        self._isEmpty = False
        reactor.addReader(self)

    @property
    def waiting(self) -> int:
        """How many messages wait to be sent."""
        return len(self._queue)

    def send(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """
        Send a message, or keep it; nothing happens when the other end is gone, as ``lost`` tells.

        :param descriptors: at most :py:data:`MOST_DESCRIPTORS`. They must stay open until the other end has told that
            it has them.
        :return: what :py:attr:`sent` is, or more, once this message is out.
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
        """Send now; False if it has to be tried again."""
        assert self._socket is not None
        try:
            if descriptors:
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                self._socket.sendmsg([message], beside, socket.MSG_NOSIGNAL)
            else:
                self._socket.send(message, socket.MSG_NOSIGNAL)
        except OSError as error:
            if isinstance(error, ConnectionError):
                # The other end is gone, which reading finds as well, after what it has sent before.
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
        """Let go of the other end, which sees that."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._ended()

    def finish(self) -> None:
        """The process at the other end is gone, whoever else may have the other end: take what it has sent, close."""
        # Its last messages are there already, so that nothing to read means that there are no more.
        self._isEmpty = False
        while self._socket is not None and not self._isEmpty and self.doRead() is None:
            pass
        self.close()

    def _ended(self) -> None:
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
        """The socket's number, -1 once it is closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """What the log says of what happens here."""
        return "channel"

    def doRead(self) -> Any:
        """Take messages. As Twisted's own it returns an exception when that is over."""
        for _ in range(ROUND):
            if self._socket is None:
                break
            try:
                data, descriptors = receiveOne(self._socket)
            except BlockingIOError:
                self._isEmpty = True
                break
            except ConnectionResetError:
                # The other end has gone with messages unread. The system says so once, before those that it has sent.
                continue
            except OSError:
                return CONNECTION_LOST
            if not data:
                return CONNECTION_DONE
            try:
                self._received(data[0], data[1:], descriptors)
            except Exception:
                # The next one may be about other connections.
                log.failure("a message of kind {kind!r} was not handled", kind=data[:1])
        return None

    def doWrite(self) -> None:
        """Send what is kept."""
        if self._socket is None:
            return
        self._reactor.removeWriter(self)
        queue = self._queue
        while queue:
            if not self._send(*queue[0]):
                break
            self.sent += 1
            # It is empty after an error.
            if queue:
                queue.popleft()

    def connectionLost(self, reason: Failure) -> None:
        """The other end is gone. What it has sent before was taken: a socket has its end after its last message."""
        self._ended()
