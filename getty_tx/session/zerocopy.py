"""
``session.zeroCopy``: long chunks leave without being copied into the kernel (``MSG_ZEROCOPY``, Linux 4.14).

The kernel sends from the memory of the process, and tells by the socket's error queue when it is done with a chunk.
Until then nobody may write to that memory, so the chunk is kept here. Chunks cannot be changed: the queue of an
outbound has ``bytes``, views of them, and joined buffers that grow no more when they are as long.

A :py:class:`ZeroCopySocket` takes the place of the socket as the ``sink`` of an outbound. Sessions that do not use it
have none of this. Documentation/networking/msg_zerocopy.rst of Linux describes what is used here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, overload

from twisted.logger import Logger

from getty_tx import settings
from getty_tx.interfaces import IErrorQueueReactor
from getty_tx.session.buffers import CHUNK
from getty_tx.session.wrappers import bytesInKernel
from getty_tx.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from getty_tx.session.buffers import Buffer
    from getty_tx.session.outbound import Outbound

__all__ = ["ZeroCopySetting", "ZeroCopySocket", "retire"]

log = Logger()

# Of Linux, on all machines that CPython is built for. Python's socket does not name them.
SO_ZEROCOPY = 60
MSG_ZEROCOPY = 0x4000000
MSG_ERRQUEUE = getattr(socket, "MSG_ERRQUEUE", 0x2000)

#: IP_RECVERR and IPV6_RECVERR: what comes by the error queue.
KINDS = frozenset({(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)})

#: struct sock_extended_err: errno, origin, type, code, padding, info, data. Info and data are the first and the last
#: number of a range of sends.
ERROR = struct.Struct("=IBBBxII")
ORIGIN_ZEROCOPY = 5
CODE_COPIED = 1

#: Bytes of ancillary data: an error comes with the address of its origin.
SPACE = 256

#: Sends are counted in 32 bits.
LAST = 0xFFFFFFFF

#: Chunks that are kept, from which on the error queue is read at each send, too: a session that is paused, and has all
#: it sends taken at once, gets no events.
MANY = 32

#: Messages of the error queue that are read for one event. Sends that follow one another mostly have one.
MOST = 64

LINGER = struct.Struct("ii")

#: Connections that are closed, and whose chunks are kept still; further ones are reset.
LEAVING = 256

#: Seconds without progress after which such a connection is reset.
PATIENCE = 60.0

#: Seconds that the chunks of a reset connection are kept: a network card may have packets of it in its queue.
GRACE = 1.0

#: What was logged already why zero copy is off; each is logged once as information.
_told: set[str] = set()


class ZeroCopySocket:
    """
    In place of a plain socket: sends long chunks without a copy.

    :ivar isOn: it does so now.
    :ivar pending: chunks that the kernel has not done with, by the number of their send.
    :ivar send: as the socket's; ``sendmsg`` and ``fileno``, too.
    :ivar socket: the socket.
    """

    __slots__ = ("_hold", "_next", "_session", "_wasRead", "fileno", "isOn", "pending", "send", "sendmsg", "socket")

    def __init__(self, session: Any, handle: socket.socket) -> None:
        self._session = session
        self.socket = handle
        self.fileno = handle.fileno
        self.pending: dict[int, Buffer] = {}
        self._next = 0
        # What keeps the descriptor open when the transport closes the socket; there since the first send.
        self._hold: Any = None
        # The error queue was read since the last event, which may be for what was found.
        self._wasRead = False
        self.turnOn()

    def turnOn(self) -> None:
        """Send long chunks without a copy from now on."""
        self.isOn = True
        self.send: Any = self._send
        self.sendmsg: Any = self._sendmsg

    def turnOff(self) -> None:
        """Send as a plain socket from now on, at no cost."""
        self.isOn = False
        self.send = self.socket.send
        self.sendmsg = self.socket.sendmsg

    def _send(self, data: Buffer) -> int:
        if len(data) < CHUNK:
            return self.socket.send(data)
        pending = self.pending
        if len(pending) >= MANY:
            self._wasRead = self._read() or self._wasRead
        try:
            sent = self.socket.send(data, MSG_ZEROCOPY)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # The room for messages (net.core.optmem_max), or what the user may lock (RLIMIT_MEMLOCK), is used up.
            return self.socket.send(data)
        if sent:
            # The kernel counts the sends that took something.
            pending[self._next] = data
            self._next = (self._next + 1) & LAST
            if self._hold is None:
                self._begin()
        return sent

    def _sendmsg(self, buffers: Sequence[Buffer]) -> int:
        """Long buffers leave alone, and the short ones between them together."""
        total = 0
        short: list[Buffer] = []
        try:
            for buffer in buffers:
                if len(buffer) < CHUNK:
                    short.append(buffer)
                    continue
                if short:
                    size = sum(map(len, short))
                    sent = self.socket.sendmsg(short, (), socket.MSG_MORE)
                    total += sent
                    if sent < size:
                        return total
                    short = []
                sent = self._send(buffer)
                total += sent
                if sent < len(buffer):
                    return total
            if short:
                total += self.socket.sendmsg(short)
        except OSError:
            if not total:
                raise
        return total

    def _begin(self) -> None:
        # A file object of the socket defers its close. The number stays this connection's so long.
        self._hold = self.socket.makefile("rb", buffering=0)
        self._session.context.reactor.addErrorQueue(self.fileno(), self.readErrorQueue)

    def readErrorQueue(self) -> bool:
        """
        There is an event that may be for the error queue. Let go of the chunks that the kernel is done with.

        :return: whether there was something to read.
        """
        wasRead, self._wasRead = self._wasRead, False
        return self._read() or wasRead

    def _read(self) -> bool:
        found = False
        for _ in range(MOST):
            try:
                _, ancillary, _, _ = self.socket.recvmsg(0, SPACE, MSG_ERRQUEUE)
            except OSError:
                break
            found = True
            for level, kind, data in ancillary:
                if (level, kind) in KINDS and len(data) >= ERROR.size:
                    _, origin, _, code, first, last = ERROR.unpack_from(data)
                    if origin == ORIGIN_ZEROCOPY:
                        self._completed(first, last, code)
            if not self.pending:
                break
        return found

    def _completed(self, first: int, last: int, code: int) -> None:
        pending = self.pending
        for offset in range(((last - first) & LAST) + 1):
            pending.pop((first + offset) & LAST, None)
        if code & CODE_COPIED and self.isOn:
            self.turnOff()
            _tell(self._session, "the kernel copies what leaves by this way, as it always does on one machine")

    def lost(self) -> None:
        """The connection is lost, and its transport closes the socket."""
        # It has no references to itself any more.
        self.turnOff()
        hold, self._hold = self._hold, None
        if hold is None:
            return
        reactor = self._session.context.reactor
        self._read()
        reactor.removeErrorQueue(self.fileno())
        if self.pending:
            Leaving(self, hold, reactor)
        else:
            hold.close()


class Leaving:
    """
    A closed connection with chunks that the kernel still sends from.

    Were they freed, Python would write to their memory, and the peer might get that. No events come any more; the error
    queue is read from time to time.

    :cvar number: how many there are.
    """

    __slots__ = ("_delay", "_hold", "_left", "_progressAt", "_reactor", "_sink")

    number = 0

    def __init__(self, sink: ZeroCopySocket, hold: Any, reactor: Any) -> None:
        self._sink = sink
        self._hold = hold
        self._reactor = reactor
        self._delay = 0.02
        self._left: int | None = None
        self._progressAt = reactor.seconds()
        Leaving.number += 1
        isAborted = sink.socket.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.size) == LINGER.pack(1, 0)
        if isAborted or Leaving.number > LEAVING:
            self._reset()
        else:
            reactor.callLater(self._delay, self._look)

    def _look(self) -> None:
        sink = self._sink
        sink.readErrorQueue()
        if not sink.pending:
            self._close()
            return
        now = self._reactor.seconds()
        before, self._left = self._left, bytesInKernel(sink)
        if before != self._left:
            self._progressAt = now
        elif now >= self._progressAt + PATIENCE:
            self._reset()
            return
        self._delay = min(2 * self._delay, 1.0)
        self._reactor.callLater(self._delay, self._look)

    def _reset(self) -> None:
        """Drop what is in the kernel."""
        self._sink.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER.pack(1, 0))
        self._close()
        self._reactor.callLater(GRACE, self._sink.pending.clear)

    def _close(self) -> None:
        Leaving.number -= 1
        self._hold.close()


class ZeroCopySetting(Setting[bool]):
    """``session.zeroCopy``: a wish, which reads False where it cannot be."""

    # Few sessions have it; their outbound knows.
    hasSlot = False

    def __init__(self) -> None:
        super().__init__(
            settings.flag, False, "Send chunks of 64 KiB and more without a copy; reads False where that cannot be."
        )

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[bool]: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> bool: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Setting[bool] | bool:
        if instance is None:
            return self
        sink = instance.outbound.sink
        return type(sink) is ZeroCopySocket and sink.isOn

    def __set__(self, instance: Any, value: Any) -> None:
        value = self._check(self.name, value)
        instance.checkSetting(self.name, value)
        sink = instance.outbound.sink
        if not value:
            if type(sink) is ZeroCopySocket:
                sink.turnOff()
            return
        reason = _start(instance)
        if reason:
            _tell(instance, reason)


def _start(session: Any) -> str:
    """Send long chunks of the session without a copy; returns why not, or nothing."""
    outbound = session.outbound
    handle = outbound.plainSocket
    if handle is None:
        return "it is for sessions over TCP, without TLS and other wrappers"
    if not IErrorQueueReactor.providedBy(session.context.reactor):
        return (
            "the reactor takes what the kernel tells of it for a lost connection: use Twisted's own reactor with epoll,"
            " or twistd --reactor getty"
        )
    if type(outbound.sink) is ZeroCopySocket:
        outbound.sink.turnOn()
        return ""
    try:
        handle.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    except OSError as error:
        return f"the system has no SO_ZEROCOPY for this socket: {os.strerror(error.errno or 0)}"
    outbound.sink = ZeroCopySocket(session, handle)
    return ""


def retire(outbound: Outbound) -> None:
    """The outbound leaves its plain socket, for TLS: send no more in clear without a copy."""
    sink = outbound.sink
    if type(sink) is ZeroCopySocket:
        sink.turnOff()
        outbound.sink = sink.socket
        session: Any = outbound.session
        # The error queue is read on until then.
        session.addCloseCallback(sink.lost, sink)


def _tell(session: Any, reason: str) -> None:
    text = "{session}: zeroCopy is off: {reason}"
    if reason in _told:
        log.debug(text, session=session, reason=reason)
    else:
        _told.add(reason)
        log.info(text, session=session, reason=reason)
