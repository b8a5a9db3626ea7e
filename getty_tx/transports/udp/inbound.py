"""The ways in and out: datagrams to packages to the listener, and packages to datagrams to the socket."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, final

from twisted.internet.abstract import isIPAddress, isIPv6Address

from getty_tx.errors import CodecError, MessageTooLongError, NoPeerAddressError
from getty_tx.session.inbound import LIMIT, Inbound
from getty_tx.session.outbound import Outbound
from getty_tx.session.pausing import CLOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.session.session import Session
    from getty_tx.transports.udp.session import DatagramSession

__all__ = ["PROBE", "DatagramInbound", "DatagramOutbound", "Room", "UDPContext"]

#: What a client sends to learn whether somebody is there; Getty's ``connect-ping``. No package, wherever it comes.
PROBE = b"connect-ping"

#: Datagrams that one session keeps at most while it is paused, and the bytes of those of all sessions of a socket.
MOST_KEPT = 1024
KEPT_BYTES = 4 * 1024 * 1024

#: Hosts that were found to be addresses; the set is emptied when it has so many.
MOST_HOSTS = 1024

#: The network, or the system, does not take the datagram. EINVAL is what a peer's port 0 gives, EPERM a firewall.
_UNSENT = frozenset(
    {
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EINVAL,
        errno.EPERM,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EADDRNOTAVAIL,
    }
)


@final
class UDPContext:
    """
    A package and whom it came from, or is for: what the session of a UDP server's socket gives and takes.

    :ivar pkg: the package.
    :ivar peerAddr: ``(host, port)``, the host an IP address; None where the session knows its peer.
    """

    __slots__ = ("peerAddr", "pkg")

    def __init__(self, pkg: Any, peerAddr: tuple[str, int] | None = None) -> None:
        self.pkg = pkg
        self.peerAddr = peerAddr

    def __repr__(self) -> str:
        return f"UDPContext({self.pkg!r}, {self.peerAddr!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UDPContext):
            return NotImplemented
        return bool(self.pkg == other.pkg) and self.peerAddr == other.peerAddr

    __hash__ = None  # type: ignore[assignment]  # a package need not have one


#: In place of what readMany has found, where that is not one package.
_NONE = (None, 0)


class Room:
    """Bytes that the paused sessions of one socket may keep together."""

    __slots__ = ("left",)

    def __init__(self, size: int = KEPT_BYTES) -> None:
        self.left = size


class DatagramInbound(Inbound):
    """
    The way in: a datagram, a package, the listener.

    :ivar limit: bytes above which a datagram is dropped, beside maxMsgLen: the socket may have cut it.
    :ivar room: shared with the other sessions of the socket.
    """

    __slots__ = ("_draining", "_isShared", "_kept", "_seconds", "limit", "room")

    session: DatagramSession

    def __init__(self, session: Session, outbound: Outbound) -> None:
        super().__init__(session, outbound)
        self.limit = 65535
        self.room = Room()
        self._draining = False
        self._isShared = self.session.isShared
        self._seconds = session.context.seconds
        self._kept: deque[tuple[bytes, Any]] | None = None

    def receiveFrom(self, data: bytes, addr: Any) -> None:
        """Take a datagram, and deliver its package."""
        session = self.session
        if self.paused or session.inCallback:
            session.needsDispatch |= session.inCallback
            self._keepDatagram(data, addr)
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
                # The same as read() finds, for less.
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
                    # What comes with a datagram can be sent to without being checked.
                    session._from = addr
                    pkg = UDPContext(pkg, addr)
                try:
                    result = session.receiver.onMessage(session, pkg)
                except BaseException as error:
                    session.callbackFailed(error)
                else:
                    if result is not None:
                        session.awaitCallback(result)
        session.inCallback = False
        if (session.needsDispatch or self.readingStopped or self._kept is not None) and not self._draining:
            session.dispatchEvents()

    def receive(self, data: bytes, at: int = -1) -> None:
        """Take a datagram of the only peer; nobody gives ``at``."""
        self.receiveFrom(data, None)

    def _keepDatagram(self, data: bytes, addr: Any) -> None:
        """Paused: keep what there is room for. A socket that has no other session is not read from meanwhile."""
        if self.paused & CLOSED:
            return
        length = len(data)
        kept = self._kept
        if kept is None:
            kept = self._kept = deque()
        if len(kept) >= MOST_KEPT or length > self.room.left:
            self.session.dropDatagram("too many wait")
        else:
            kept.append((data, addr))
            self.unread += length
            self.room.left -= length
        if self.readingStopped:
            # The transport reads a whole round, or was not reading yet when it was told to stop.
            self.session.connection.pauseReading()
        elif self.unread > LIMIT or len(kept) * 2 >= MOST_KEPT:
            self._stopReading()

    def deliverBuffered(self) -> bool:
        """Deliver one of what is kept; see :py:meth:`getty_tx.session.inbound.Inbound.deliverBuffered`."""
        if self._kept:
            data, addr = self._kept.popleft()
            self.unread -= len(data)
            self.room.left += len(data)
            self._draining = True
            self.receiveFrom(data, addr)
            self._draining = False
            return True
        self._kept = None
        if self.readingStopped:
            self.readingStopped = False
            self.session.connection.resumeReading()
        return False

    @property
    def hasDeliverable(self) -> bool:
        """True: what deliverBuffered() has not delivered, it says itself when asked again."""
        return True

    @property
    def hasRest(self) -> bool:
        """See :py:attr:`getty_tx.session.inbound.Inbound.hasRest`."""
        return bool(self._kept)

    def startTLS(self) -> None:
        """:raise CodecError: always."""
        raise CodecError("there is no TLS over datagrams", self.session)

    def close(self) -> None:
        """Drop what is kept, and all that comes from now on."""
        self.room.left += self.unread
        self._kept = None
        super().close()


class DatagramOutbound(Outbound):
    """
    The way out: each package at once, or never.

    :ivar sendAway: sends bytes to the peer that the socket is connected to.
    :ivar sendTo: sends bytes to an address.
    """

    __slots__ = ("_hosts", "sendAway", "sendTo")

    session: DatagramSession

    def __init__(self, session: Session, transport: Any) -> None:
        super().__init__(session, transport)
        handle = transport.getHandle()
        self.sendAway: Callable[[bytes], int] = handle.send
        self.sendTo: Callable[[bytes, Any], int] = handle.sendto
        self._hosts: set[str] | None = None

    def unsent(self, error: OSError, length: int) -> None:
        """
        Sending has failed: drop and count the datagram, if that is the network's doing.

        :raise MessageTooLongError: no datagram is so long.
        :raise OSError: the system refuses it, for a reason that lies on this side.
        """
        session = self.session
        if error.errno == errno.EMSGSIZE:
            raise MessageTooLongError(f"{length} bytes are more than a datagram holds", session) from error
        if error.errno not in _UNSENT:
            raise error
        session.dropDatagram(error)
        if error.errno == errno.ECONNREFUSED:
            session._refused()

    def checked(self, addr: Any) -> tuple[str, int]:
        """
        An address that can be sent to without a look-up, which would block.

        :param addr: ``(host, port)``, or one of Twisted's addresses.
        :raise NoPeerAddressError: it is none.
        """
        if type(addr) is not tuple:
            addr = (getattr(addr, "host", None), getattr(addr, "port", None))
        try:
            host, port = addr
            if self._hosts is not None and host in self._hosts:
                return host, port
            if type(port) is int and isinstance(host, str) and (isIPAddress(host) or isIPv6Address(host)):
                if self._hosts is None or len(self._hosts) >= MOST_HOSTS:
                    self._hosts = set()
                self._hosts.add(host)
                return host, port
        except (TypeError, ValueError):
            pass
        raise NoPeerAddressError(
            f"{self.session}: {addr!r} is no address to send a datagram to: (host, port), where host is an IP address",
            self.session,
        )

    def write(self, data: bytes, length: int) -> None:
        """What is written to ``session.transport`` is a datagram, where there is a peer."""
        self.writev([data], length)

    def writev(self, chunks: Sequence[bytes], length: int) -> None:
        """A datagram for each chunk, where there is a peer."""
        session = self.session
        # The facade has counted the bytes.
        session._sendAll(chunks, session._addressee(None), counted=False)
