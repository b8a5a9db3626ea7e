"""
One end of the pair of sockets between a sub-reactor and the hub.

It is a stream with frames of its own, and not a socket that preserves messages, as the channel is. So all frames of a
turn leave with one call, whatever their number; a publication of any length is one frame, and needs not be cut to what
fits into the socket's buffer at once; and no descriptors have to stay with their messages.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.groups.hub.wire import Frames, WireError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from twisted.python.failure import Failure

__all__ = ["Link", "Turn"]

log = Logger()

#: Bytes that are read before the reactor serves other descriptors: some hundred publications of 100 bytes.
READ_BYTES = 65536

#: Bytes that are joined for one call of ``send``.
SEND_BYTES = 256 * 1024


class Turn:
    """
    The links that have something to send: what one read has led to leaves when it ends, and all else when the turn of
    the reactor ends, with one timed call for all links.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._links: list[Link] = []
        self._isReading = False

    def add(self, link: Link) -> None:
        """It has something to send."""
        if not self._links and not self._isReading:
            self._reactor.callLater(0, self.ends)
        self._links.append(link)

    def begins(self) -> None:
        """A link reads."""
        self._isReading = True

    def ends(self) -> None:
        """Send what is to be sent."""
        self._isReading = False
        links, self._links = self._links, []
        for link in links:
            link.flush()


@implementer(IReadWriteDescriptor)
class Link:
    """
    One end, for a reactor.

    :param end: the socket; the link closes it.
    :param reactor: the reactor.
    :param turn: of all links of this reactor, or of this one.
    :param received: called with kind and body of each frame. What it raises ends the link.
    :param lost: called once, when either end is closed, with why: an exception, or None.
    :param sent: called after each attempt to send.
    :param name: the other end, for the log.

    :ivar waiting: bytes that wait to be sent.
    """

    __slots__ = (
        "_end",
        "_frames",
        "_isDue",
        "_isWriting",
        "_lost",
        "_name",
        "_queue",
        "_reactor",
        "_received",
        "_sent",
        "_turn",
        "waiting",
    )

    def __init__(
        self,
        end: socket.socket,
        reactor: Any,
        turn: Turn,
        received: Callable[[int, bytes], object],
        lost: Callable[[BaseException | None], object],
        sent: Callable[[], object],
        name: str,
    ) -> None:
        end.setblocking(False)
        self._end: socket.socket | None = end
        self._reactor = reactor
        self._received = received
        self._lost = lost
        self._sent = sent
        self._name = name
        self._frames = Frames()
        self._queue: deque[bytes | memoryview] = deque()
        self._turn = turn
        self._isDue = False
        self._isWriting = False
        self.waiting = 0
        reactor.addReader(self)

    def send(self, data: bytes) -> None:
        """Send a frame at the end of the turn, or of what is read now. No effect after ``lost``."""
        if self._end is None:
            return
        self._queue.append(data)
        self.waiting += len(data)
        if not self._isDue and not self._isWriting:
            self._isDue = True
            self._turn.add(self)

    def flush(self) -> None:
        """Send now what the system takes, if nothing waits for that."""
        if self._isDue:
            self._isDue = False
            self._write()
            self._sent()

    def _write(self) -> None:
        end, queue = self._end, self._queue
        while queue and end is not None:
            data = self._next()
            try:
                count = end.send(data)
            except BlockingIOError:
                count = 0
            except OSError:
                # The other end is closed. Reading finds that too, after what it has sent before.
                queue.clear()
                self.waiting = 0
                return
            self.waiting -= count
            if count < len(data):
                queue.appendleft(memoryview(data)[count:])
                if not self._isWriting:
                    self._isWriting = True
                    self._reactor.addWriter(self)
                return
        if self._isWriting:
            self._isWriting = False
            self._reactor.removeWriter(self)

    def _next(self) -> bytes | memoryview:
        """Frames to send at once. What is left of a call before is not joined again."""
        queue = self._queue
        data = queue.popleft()
        if not queue or len(data) >= SEND_BYTES or isinstance(data, memoryview):
            return data
        batch: list[bytes | memoryview] = [data]
        size = len(data)
        while queue and size < SEND_BYTES:
            data = queue.popleft()
            batch.append(data)
            size += len(data)
        return b"".join(batch)

    def close(self, error: BaseException | None = None) -> None:
        """Close this end, with what waits; the other one is told by the system."""
        end, self._end = self._end, None
        if end is None:
            return
        self._isDue = False
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._queue.clear()
        self.waiting = 0
        end.close()
        self._lost(error)

    def finish(self) -> None:
        """The other process has ended: receive the last of it, and close."""
        while self._end is not None and self._read():
            pass
        self.close()

    def _read(self) -> bool:
        """Receive once; return whether there was anything."""
        assert self._end is not None
        try:
            data = self._end.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # The other end was closed with unread frames. The system says so once, after its last frames.
            return True
        except OSError as error:
            self.close(error)
            return False
        if not data:
            self.close()
            return False
        try:
            for kind, body in self._frames.feed(data):
                self._received(kind, body)
                if self._end is None:
                    return False
        except WireError as error:
            log.error(
                "{name} has sent garbage to the groups, its pair is closed: {error}", name=self._name, error=error
            )
            self.close(error)
        except Exception as error:
            log.failure("{name}: a frame of groups was not handled, its pair is closed", name=self._name)
            self.close(error)
        return True

    # IReadWriteDescriptor

    def fileno(self) -> int:
        """Return the descriptor, -1 after the end."""
        return -1 if self._end is None else self._end.fileno()

    def logPrefix(self) -> str:
        """Return the name for the log."""
        return "groups"

    def doRead(self) -> Any:
        """Receive frames."""
        self._turn.begins()
        self._read()
        self._turn.ends()

    def doWrite(self) -> Any:
        """Send what waits."""
        self._write()
        self._sent()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found that the other end is closed: take what it has sent before."""
        self.finish()
