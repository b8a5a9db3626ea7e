"""The inbound of a UDP session: each datagram becomes one package for the listener."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError
from getty_tx.session.inbound import LIMIT, Inbound
from getty_tx.session.pausing import CLOSED
from getty_tx.transports.udp.context import UDPContext

if TYPE_CHECKING:
    from getty_tx.session.outbound import Outbound
    from getty_tx.session.session import Session

__all__ = ["PROBE", "ByteBudget", "DatagramInbound"]

#: The datagram with which a client asks whether the peer's port is open; Getty's ``connect-ping``. Never a package.
PROBE = b"connect-ping"

#: Datagrams that one session buffers while it is paused.
MAX_BUFFERED = 1024

#: Bytes that all paused sessions of one socket buffer together.
MAX_BUFFERED_BYTES = 4 * 1024 * 1024

#: Stands for the result of readMany if that is not exactly one package.
_NONE = (None, 0)


class ByteBudget:
    """Bytes that the paused sessions of one socket may still buffer together."""

    __slots__ = ("left",)

    def __init__(self, size: int = MAX_BUFFERED_BYTES) -> None:
        self.left = size


class DatagramInbound(Inbound):
    """
    Delivers each datagram as one package to the listener, and buffers datagrams while the session is paused.

    :ivar limit: bytes above which a datagram is dropped in addition to maxMsgLen, because the socket may have cut it.
    :ivar budget: shared with the other sessions of the socket.
    """

    __slots__ = ("_buffered", "_draining", "_isShared", "_seconds", "budget", "limit")

    readsLists = False

    # A DatagramSession. Its module imports this one, so it is not named here.
    session: Any

    def __init__(self, session: Session, outbound: Outbound) -> None:
        super().__init__(session, outbound)
        self.limit = 65535
        self.budget = ByteBudget()
        self._draining = False
        self._isShared = self.session.isShared
        self._seconds = session.context.seconds
        self._buffered: deque[tuple[bytes, Any]] | None = None

    def receiveFrom(self, data: bytes, addr: Any) -> None:
        """Take a datagram, and deliver its package."""
        session = self.session
        if self.paused or session.inCallback:
            session.needsDispatch |= session.inCallback
            self._bufferDatagram(data, addr)
            return
        length = len(data)
        if length == 12 and data == PROBE:
            return
        session.bytesRead += length
        session.activeAt = self._seconds()
        limit = session._maxMsgLen
        if not 0 < length <= limit or length > self.limit:
            session.dropDatagram("it is too long" if length else "it is empty")
            return
        session.inCallback = True
        try:
            if session.readsBatches:
                # Finds the same as read(), and is faster.
                found = session.decoder.readMany(session, data, 0, limit)
                pkg, used = found[0] if len(found) == 1 else _NONE
            else:
                pkg, used = session.decoder.read(session, memoryview(data))
        except BaseException as error:
            session.dropDatagram(error)
        else:
            if used != length or pkg is None:
                session.dropDatagram("it is not exactly one package")
            else:
                session.pkgsRead += 1
                if self._isShared:
                    # An answer to the address of a received datagram needs no check.
                    session.lastSender = addr
                    pkg = UDPContext(pkg, addr)
                try:
                    result = session.receiver.onMessage(session, pkg)
                except BaseException as error:
                    session.callbackFailed(error)
                else:
                    if result is not None:
                        session.awaitCallback(result)
        session.inCallback = False
        if (session.needsDispatch or self.readingStopped or self._buffered is not None) and not self._draining:
            session.dispatchEvents()

    def receive(self, data: bytes, at: int = -1) -> None:
        """Take a datagram of the only peer; ``at`` is never given."""
        self.receiveFrom(data, None)

    def _bufferDatagram(self, data: bytes, addr: Any) -> None:
        """Buffer or drop a datagram while paused. A socket that has one session is not read from in that time."""
        if self.paused & CLOSED:
            return
        length = len(data)
        buffered = self._buffered
        if buffered is None:
            buffered = self._buffered = deque()
        if len(buffered) >= MAX_BUFFERED or length > self.budget.left:
            self.session.dropDatagram("the buffer of the paused session is full")
        else:
            buffered.append((data, addr))
            self.unread += length
            self.budget.left -= length
        if self.readingStopped:
            # The transport reads several datagrams at a time, or was not reading yet when it was paused.
            self.session.connection.pauseReading()
        elif self.unread > LIMIT or len(buffered) * 2 >= MAX_BUFFERED:
            self._stopReading()

    def deliverBuffered(self) -> bool:
        """Deliver one buffered datagram; see :py:meth:`getty_tx.session.inbound.Inbound.deliverBuffered`."""
        if self._buffered:
            data, addr = self._buffered.popleft()
            self.unread -= len(data)
            self.budget.left += len(data)
            self._draining = True
            self.receiveFrom(data, addr)
            self._draining = False
            return True
        self._buffered = None
        if self.readingStopped:
            self.readingStopped = False
            self.session.connection.resumeReading()
        return False

    @property
    def hasDeliverable(self) -> bool:
        """True: deliverBuffered() is to be called until it returns False."""
        return True

    @property
    def hasRest(self) -> bool:
        """See :py:attr:`getty_tx.session.inbound.Inbound.hasRest`."""
        return bool(self._buffered)

    def startTLS(self) -> None:
        """:raise CodecError: always."""
        raise CodecError("there is no TLS over datagrams", self.session)

    def close(self) -> None:
        """Drop what is buffered, and every datagram from now on."""
        self.budget.left += self.unread
        self._buffered = None
        super().close()
