"""
The bytes of a relay between two plain sockets: ``splice(2)`` moves them to a pipe and on to the other socket.

A pipe is taken for each read and given back when it is empty, so that a relay whose bytes leave at once shares it with
all others. What the other socket does not take stays in the pipe and is a part of that session's way out; the reading
stops until it has left.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from getty_tx.session.parts import addPart
from getty_tx.session.pausing import RELAY
from getty_tx.session.states import OPEN

if TYPE_CHECKING:
    from socket import socket

    from getty_tx.session.outbound import Outbound
    from getty_tx.session.relay import Direction

__all__ = ["Splicer"]

#: Bytes of a pipe, and of one read. The pipes of an unprivileged user may have 64 MiB in all (pipe(7)).
SIZE = 256 * 1024

#: Pipes that are kept while none needs them.
SPARE = 4

#: Beside macOS, older Pythons and systems have no splice.
_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 0) | getattr(os, "SPLICE_F_MOVE", 0)


class _Pipe:
    """A pipe that does not block."""

    __slots__ = ("reads", "writes")

    spare: list[_Pipe] = []

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        with suppress(OSError):
            # Over the user's limit the pipe stays as it is.
            fcntl.fcntl(self.writes, fcntl.F_SETPIPE_SZ, SIZE)

    @classmethod
    def take(cls) -> _Pipe:
        return cls.spare.pop() if cls.spare else cls()

    def giveBack(self) -> None:
        """It is empty."""
        if len(self.spare) < SPARE:
            self.spare.append(self)
        else:
            self.close()

    def close(self) -> None:
        os.close(self.reads)
        os.close(self.writes)


class Splicer:
    """
    One direction of a relay, by ``splice``: its ``doRead`` takes the place of the source transport's.

    :param plainRead: what that was before.
    """

    __slots__ = ("_direction", "_plainRead", "_transport")

    def __init__(self, direction: Direction, transport: Any, plainRead: Any) -> None:
        self._direction = direction
        self._transport = transport
        self._plainRead = plainRead

    @classmethod
    def between(cls, direction: Direction) -> Splicer | None:
        """Splice from now on, where both sessions read and write plain sockets; None elsewhere."""
        outbound = direction.source.outbound
        if not hasattr(os, "splice") or outbound.plainSocket is None or direction.target.outbound.plainSocket is None:
            return None
        # It is there where the session reads the socket by itself, and no subclass wants to see the bytes.
        plainRead = vars(outbound.transport).get("doRead")
        if plainRead is None:
            return None
        splicer = cls(direction, outbound.transport, plainRead)
        outbound.transport.doRead = splicer.doRead
        return splicer

    def stop(self) -> None:
        """Read as before."""
        if vars(self._transport).get("doRead") == self.doRead:
            self._transport.doRead = self._plainRead
        self._direction.splicer = None

    def doRead(self) -> BaseException | None:
        """Move what has come. Returns as IReadDescriptor.doRead."""
        source, target = self._direction.source, self._direction.target
        try:
            pipe = _Pipe.take()
        except OSError:
            # No descriptors are left: go through memory.
            self.stop()
            return self._transport.doRead()  # type: ignore[no-any-return]
        try:
            size = os.splice(self._transport.socket.fileno(), pipe.writes, SIZE, flags=_FLAGS)
        except BlockingIOError:
            pipe.giveBack()
            return None
        except OSError:
            pipe.giveBack()
            return CONNECTION_LOST
        if not size:
            pipe.giveBack()
            return CONNECTION_DONE
        source.bytesRead += size
        source.activeAt = source.context.seconds()
        if target.state > OPEN:
            pipe.close()
            return None
        part = _Spliced(pipe, size, self._direction)
        outbound = target.outbound
        if outbound.isFree:
            with suppress(OSError):
                part.move(outbound.sink)
        if part.left:
            source.inbound.pause(RELAY)
            addPart(outbound, part)
        else:
            pipe.giveBack()
        return None


class _Spliced:
    """What is in a pipe: a :py:class:`getty_tx.session.parts.Part` of the target's way out."""

    __slots__ = ("_direction", "_pipe", "left")

    def __init__(self, pipe: _Pipe, size: int, direction: Direction) -> None:
        self._pipe = pipe
        self.left = size
        self._direction = direction

    def move(self, handle: socket) -> int:
        """
        Move bytes to the socket, as many as it takes.

        :raise OSError: none can be taken now; or the connection is lost.
        """
        size = os.splice(self._pipe.reads, handle.fileno(), self.left, flags=_FLAGS)
        self.left -= size
        self._direction.target.bytesWritten += size
        return size

    def send(self, outbound: Outbound, most: int) -> tuple[int, bool]:
        out = outbound.bytesOut
        try:
            size = self.move(outbound.sink)
        except OSError:
            # Full; or the connection is lost, which the transport finds out.
            outbound.awaitRoom()
            return 0, True
        outbound.whileBlocked().inserted(size, out)
        return size, False

    def sent(self) -> None:
        # The source reads again when the outbound finds that it is below its low water.
        self._pipe.giveBack()

    def failed(self, error: BaseException) -> None:
        self._pipe.close()
