"""
Sessions over datagrams: what of inbound, outbound and session differs from those over a byte stream.

A datagram is one package. It is read by one call of the codec, which has to use all of it; a bad one is dropped and
counted, as anybody can send one. It is sent at once or dropped: a socket that takes no more loses what a network loses,
too, so nothing is ever pending.
"""

from __future__ import annotations

import errno
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.logger import Logger

from getty_tx import settings
from getty_tx.errors import CodecError, MessageTooLongError, NoPeerAddressError, SessionClosedError, SessionError
from getty_tx.inbound import CLOSED, LIMIT, Inbound
from getty_tx.lifecycle import OPEN
from getty_tx.outbound import Outbound
from getty_tx.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.python.failure import Failure

    from getty_tx.interfaces import IConnection
    from getty_tx.keeper import Keeper

__all__ = [
    "PEER_TIMEOUT",
    "PROBE",
    "ConnectedSession",
    "DatagramInbound",
    "DatagramOutbound",
    "DatagramSession",
    "PeerSession",
    "Room",
    "UDPContext",
]

log = Logger()

#: What a client sends to learn whether somebody is there; Getty's ``connect-ping``. No package, wherever it comes.
PROBE = b"connect-ping"

#: Seconds of silence after which a peer's session is closed, unless newSession sets ``readTimeout``.
PEER_TIMEOUT = 60.0

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
        self._seconds = session.keeper.seconds
        self._kept: deque[tuple[bytes, Any]] | None = None

    def receiveFrom(self, data: bytes, addr: Any) -> None:
        """Take a datagram, and deliver its package."""
        session = self.session
        if self.paused or session._busy:
            self._keepDatagram(data, addr)
            return
        length = len(data)
        if length == 12 and data == PROBE:
            return
        session._readBytes += length
        session._lastActive = self._seconds()
        limit = session._maxMsgLen
        if not 0 < length <= limit or length > self.limit:
            session._drop("it is too long" if length else "it is empty")
            return
        session._busy = True
        try:
            if session._readsMany:
                # The same as read() finds, for less.
                found = session._reader.readMany(session, data, 0, limit)
                pkg, used = found[0] if len(found) == 1 else _NONE
            else:
                pkg, used = session._reader.read(session, memoryview(data))
        except BaseException as error:
            session._drop(error)
        else:
            if used != length or pkg is None:
                session._drop("it is not exactly one package")
            else:
                session._readPkgs += 1
                if self._isShared:
                    # What comes with a datagram can be sent to without being checked.
                    session._from = addr
                    pkg = UDPContext(pkg, addr)
                try:
                    result = session._listener.onMessage(session, pkg)
                except BaseException as error:
                    session._callbackFailed(error)
                else:
                    if result is not None:
                        session._await(result)
        session._busy = False
        if (session._eventsDue or self._stopped or self._kept is not None) and not self._draining:
            session._continue()

    def receive(self, data: bytes) -> None:
        """Take a datagram of the only peer."""
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
            self.session._drop("too many wait")
        else:
            kept.append((data, addr))
            self.unread += length
            self.room.left -= length
        if self._stopped:
            # The transport reads a whole round, or was not reading yet when it was told to stop.
            self.session.connection.pauseReading()
        elif self.unread > LIMIT or len(kept) * 2 >= MOST_KEPT:
            self._stop()

    def proceed(self) -> bool:
        """Deliver one of what is kept; see :py:meth:`getty_tx.inbound.Inbound.proceed`."""
        if self._kept:
            data, addr = self._kept.popleft()
            self.unread -= len(data)
            self.room.left += len(data)
            self._draining = True
            self.receiveFrom(data, addr)
            self._draining = False
            return True
        self._kept = None
        if self._stopped:
            self._stopped = False
            self.session.connection.resumeReading()
        return False

    @property
    def undelivered(self) -> bool:
        """True: what proceed() has not delivered, it says itself when asked again."""
        return True

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
        session._drop(error)
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
        self.writeMany([data], length)

    def writeMany(self, chunks: Sequence[bytes], length: int) -> None:
        """A datagram for each chunk, where there is a peer."""
        session = self.session
        # The facade has counted the bytes.
        session._sendAll(chunks, session._addressee(None), counted=False)


class DatagramSession(Session):
    """
    The one session of a UDP server's socket, which is not connected. Its packages are :py:class:`UDPContext` s.

    No datagram closes it: a callback that fails is logged and given to onError, and the session lives. It has no single
    peer that could fall silent, so readTimeout does not concern it.

    The connection below has, beside what IConnection says, ``peerAddr`` and ``limit``, and a client's ``refused()``.

    :cvar isShared: the session has any number of peers.
    :cvar isLasting: a callback that fails does not close it.
    """

    __slots__ = ("_from", "_inOnError", "_peer", "_to")

    inboundType = DatagramInbound
    outboundType = DatagramOutbound
    isShared: ClassVar[bool] = True
    isLasting: ClassVar[bool] = True

    _inbound: DatagramInbound
    _outbound: DatagramOutbound

    def __init__(self, connection: IConnection, keeper: Keeper, transport: Any) -> None:
        # Whom the session is with, if it is with one, and whom to send to, which a connected socket knows by itself.
        self._peer: tuple[str, int] | None = None
        self._to: tuple[str, int] | None = None
        # Whom the last datagram came from.
        self._from: tuple[str, int] | None = None
        self._inOnError = False
        Session.__init__(self, connection, keeper, transport)
        below: Any = connection
        self._peer = below.peerAddr
        self._inbound.limit = below.limit

    # Writing

    def writePkg(self, pkg: Any, timeout: float | None = None) -> int:
        """
        Encode a package and send it at once. What the system does not take is dropped and counted. Any thread may call.

        :param pkg: a UDPContext; where the session has one peer, also the package alone, or a UDPContext without
            address.
        :param timeout: of no importance, as nothing is ever pending.
        :return: bytes encoded.
        :raise NoPeerAddressError: there is no address, or not the peer's, or it is no IP address.
        :raise SessionClosedError: the session is closed.
        :raise MessageTooLongError: no datagram holds so much.
        :raise Exception: whatever the codec raises for a package that it cannot encode; the session lives.
        """
        if timeout is not None:
            settings.seconds("timeout", timeout)
        if type(pkg) is UDPContext:
            addr: Any = pkg.peerAddr
            pkg = pkg.pkg
            if addr is None or addr is not self._from:
                addr = self._addressee(addr)
        else:
            addr = self._addressee(None)
        data = self._writer.write(self, pkg)
        if type(data) is not bytes:
            data = b"".join(self._asChunks(data))
        if get_ident() != self._thread:
            return self._sendFromThread([data], addr)
        if self._state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        length = len(data)
        outbound = self._outbound
        try:
            if addr is None:
                outbound.sendAway(data)
            else:
                outbound.sendTo(data, addr)
        except OSError as error:
            outbound.unsent(error, length)
        if outbound._waiting is not None:
            outbound._emptied()
        self._writeBytes += length
        self._writePkgs += 1
        return length

    def writeBytes(self, data: Any) -> int:
        """Send a datagram past the codec: bytes, or a UDPContext of bytes; otherwise as :py:meth:`writePkg`."""
        return self.writeBytesArray(data)

    def writeBytesArray(self, *chunks: Any) -> int:
        """Send pieces of bytes past the codec, each of them a datagram."""
        total = 0
        for chunk in chunks:
            to = None
            if isinstance(chunk, UDPContext):
                chunk, to = chunk.pkg, chunk.peerAddr
            data = self._asBytes(chunk)
            addr = self._addressee(to)
            if get_ident() != self._thread:
                total += self._sendFromThread([data], addr)
            else:
                total += self._sendAll([data], addr)
        return total

    def _addressee(self, addr: Any) -> tuple[str, int] | None:
        """Whom to send to, None for the socket's own peer."""
        if addr is None:
            raise NoPeerAddressError(f"{self} has no peer of its own: write a UDPContext with an address", self)
        return self._outbound.checked(addr)

    def _asBytes(self, chunk: Any) -> bytes:
        if type(chunk) is bytes:
            return chunk
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise CodecError(f"a datagram takes bytes, not {type(chunk).__name__}", self)
        return bytes(chunk)

    def _sendAll(self, chunks: Sequence[bytes], addr: Any, counted: bool = True) -> int:
        """Send datagrams; ``counted`` tells whether they are to be."""
        if self._state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        outbound = self._outbound
        for chunk in chunks:
            try:
                if addr is None:
                    outbound.sendAway(chunk)
                else:
                    outbound.sendTo(chunk, addr)
            except OSError as error:
                outbound.unsent(error, len(chunk))
            if counted:
                self._writeBytes += len(chunk)
                self._writePkgs += 1
        if outbound._waiting is not None:
            outbound._emptied()
        return sum(map(len, chunks))

    def _sendFromThread(self, chunks: list[bytes], addr: Any) -> int:
        if self._state > OPEN:
            raise SessionClosedError(f"{self} is closed", self)
        if self.keeper.waitingFromThreads(self) > self._maxPending:
            raise self._blocked()
        length = sum(map(len, chunks))
        self.keeper.callFromThread(self._sendForThread, chunks, addr, session=self, length=length)
        return length

    def _sendForThread(self, chunks: list[bytes], addr: Any) -> None:
        try:
            self._sendAll(chunks, addr)
        except (OSError, SessionError) as error:
            log.info("{session}: not sent for another thread: {error}", session=self, error=error)

    # What goes wrong

    def _drop(self, why: object) -> None:
        """Count a datagram that is lost; one in a thousand is logged after the first, as they come in floods."""
        self._dropped += 1
        if self._dropped % 1000 == 1:
            log.info(
                "{session}: dropped a datagram: {why} ({dropped} dropped so far)",
                session=self,
                why=why,
                dropped=self._dropped,
            )

    def _refused(self) -> None:
        """The system says that nobody is there. On a socket with many peers that may be about any of them."""

    def _run(self, callback: Callable[..., Any], *args: Any) -> None:
        self._inOnError = callback == self._listener.onError
        super()._run(callback, *args)
        if self._awaiting is None:
            self._inOnError = False

    def _awaited(self, _: object) -> None:
        self._inOnError = False
        super()._awaited(_)

    def _callbackFailed(self, error: BaseException, failure: Failure | None = None) -> None:
        about = error.session if isinstance(error, SessionError) else None
        if self.isLasting and self._state == OPEN and (about is None or about is self):
            log.failure("{session}: a callback failed", failure, session=self)
            self._tell(error)
        else:
            super()._callbackFailed(error, failure)

    def _fail(self, error: BaseException, abort: bool = False) -> None:
        if self.isLasting and self._state == OPEN and isinstance(error, SessionError):
            # Another session's callback failed about this one.
            self._tell(error)
        else:
            super()._fail(error, abort)

    def _tell(self, error: BaseException) -> None:
        """Give an error to onError, and live. What onError itself raises is logged only."""
        if self._inOnError or self._errorDue is not None:
            return
        self._errorDue = error
        self._eventsDue = True
        if not self._busy and self._awaiting is None:
            self._continue()

    def close(self, reason: BaseException | str | None = None) -> None:
        """
        Close at once, as nothing is ever pending. Any thread may call.

        :param reason: an exception is given to onError, as the session failed then; a text is logged.
        """
        if isinstance(reason, BaseException) and get_ident() == self._thread:
            super()._fail(reason)
        else:
            super().close(reason)

    def _onSilence(self) -> None:
        """Nobody in particular is silent."""


class ConnectedSession(DatagramSession):
    """The session of a connected socket, which is a client's. Its packages are bare."""

    __slots__ = ()

    isShared = False
    isLasting = False

    def _addressee(self, addr: Any) -> tuple[str, int] | None:
        if addr is not None and self._outbound.checked(addr) != self._peer:
            raise NoPeerAddressError(f"{self} sends to its own peer only, not to {addr!r}", self)
        return self._to

    def _refused(self) -> None:
        self.connection.refused()  # type: ignore[attr-defined]  # of datagrams' connections

    def _onSilence(self) -> None:
        Session._onSilence(self)


class PeerSession(ConnectedSession):
    """
    The session of one peer of a server's socket. Its packages are bare.

    It is closed after ``readTimeout`` of silence, which is no error; there is no other end of a peer.
    """

    __slots__ = ()

    isLasting = True

    def __init__(self, connection: IConnection, keeper: Keeper, transport: Any) -> None:
        super().__init__(connection, keeper, transport)
        self._to = self._peer
        self._readTimeout = PEER_TIMEOUT

    def _settingChanged(self, name: str) -> None:
        if self._readTimeout is None:
            self._readTimeout = PEER_TIMEOUT
        super()._settingChanged(name)

    def _refused(self) -> None:
        """Of which peer this is, the system does not say."""

    def _onSilence(self) -> None:
        timeout = self._readTimeout
        assert timeout is not None
        now = self.keeper.seconds()
        if self._inbound.paused:
            self._lastActive = now
        left = self._lastActive + timeout - now
        if left <= 0:
            self.close()
        else:
            self._readTimer = self.keeper.wheel.schedule(left, _checkSilence, self)


def _checkSilence(session: PeerSession) -> None:
    session._onSilence()


