"""The outbound of a UDP session: each package is sent as one datagram at once, or dropped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress, isIPv6Address

from getty_tx.errors import MessageTooLongError, NoPeerAddressError
from getty_tx.session.outbound import Outbound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.session.session import Session

__all__ = ["UNREACHABLE", "DatagramOutbound"]

#: Hosts known to be IP addresses that one session remembers; the set is emptied when it has so many.
MAX_HOSTS = 1024

#: Errors that mean a lost datagram, of the network or the system. Port 0 causes EINVAL, and a firewall EPERM.
_LOSSES = frozenset(
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

#: Errors that an ICMP message about an earlier datagram causes (icmp_err_convert in Linux's net/ipv4/icmp.c, and
#: icmpv6_err_convert).
UNREACHABLE = frozenset(
    {
        errno.EACCES,
        errno.ECONNREFUSED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EMSGSIZE,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    }
)


class DatagramOutbound(Outbound):
    """
    Sends each package at once or drops it. No bytes are ever pending.

    :ivar sendConnected: sends bytes to the peer that the socket is connected to.
    :ivar sendTo: sends bytes to an address.
    """

    __slots__ = ("_hosts", "sendConnected", "sendTo")

    # A DatagramSession. Its module imports this one, so it is not named here.
    session: Any

    def __init__(self, session: Session, transport: Any) -> None:
        super().__init__(session, transport)
        handle = transport.getHandle()
        self.sendConnected: Callable[[bytes], int] = handle.send
        self.sendTo: Callable[[bytes, Any], int] = handle.sendto
        self._hosts: set[str] | None = None

    def sendFailed(self, error: OSError, data: bytes, addr: tuple[str, int] | None) -> None:
        """
        Sending has failed: drop and count the datagram if the network or a full buffer is the cause.

        On a socket with many peers the error may be about an earlier datagram to another peer; so the datagram is sent
        once more.

        :raise MessageTooLongError: no datagram can have this length.
        :raise OSError: any other error.
        """
        session = self.session
        if addr is not None and error.errno in UNREACHABLE:
            try:
                self.sendTo(data, addr)
                return
            except OSError as again:
                error = again
        if error.errno == errno.EMSGSIZE:
            raise MessageTooLongError(f"{len(data)} bytes are more than a datagram holds", session) from error
        if error.errno not in _LOSSES:
            raise error
        session.dropDatagram(error)
        if error.errno == errno.ECONNREFUSED:
            session.peerRefused()

    def checked(self, addr: Any) -> tuple[str, int]:
        """
        Check that an address needs no name look-up, which would block.

        :param addr: ``(host, port)``, or one of Twisted's addresses.
        :raise NoPeerAddressError: it is not an IP address and a port.
        """
        if type(addr) is not tuple:
            addr = (getattr(addr, "host", None), getattr(addr, "port", None))
        try:
            host, port = addr
            if self._hosts is not None and host in self._hosts:
                return host, port
            if type(port) is int and isinstance(host, str) and (isIPAddress(host) or isIPv6Address(host)):
                if self._hosts is None or len(self._hosts) >= MAX_HOSTS:
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
        """Send what was written to ``session.transport`` as a datagram, if the session has one peer."""
        self.writev([data], length)

    def writev(self, chunks: Sequence[bytes], length: int) -> None:
        """Send a datagram for each chunk, if the session has one peer."""
        session = self.session
        # The facade has counted the bytes.
        session.sendAll(chunks, session.destination(None), count=False)

    def answerDrained(self) -> None:
        """No bytes are pending: fire the Deferreds that ``drained()`` has returned."""
        self._drained()
