"""
Twisted's UDP port with faster reading: attributes are looked up once for many datagrams, and their number for each
reactor iteration is limited, whatever their size. And the port of a socket with many peers, which tells who refused.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.transports.udp.outbound import UNREACHABLE

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol
    from twisted.python.failure import Failure

__all__ = ["MAX_READS", "PeersPort", "SessionPort", "listenUDP", "portTypeOf"]

log = Logger()

#: Datagrams that are read before the reactor serves other descriptors. Twisted's port limits the bytes, which does not
#: stop a flood of empty or tiny datagrams.
MAX_READS = 256

#: Linux's IP_RECVERR (linux/in.h) and IPV6_RECVERR (linux/in6.h), which the module socket does not have.
_RECEIVE_ERRORS = {(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)}

#: The errno at the beginning of a struct sock_extended_err (linux/errqueue.h).
_ERRNO = Struct("=I")

#: Bytes for the error of a datagram: that struct, and an address of IPv6.
_BESIDE = socket.CMSG_SPACE(16 + 28)


class SessionPort(udp.Port):
    """The port below a UDP endpoint."""

    def doRead(self) -> None:
        """Read the datagrams that have arrived, at most :py:data:`MAX_READS`."""
        isIPv6 = self.addressFamily == socket.AF_INET6
        recvfrom = self.socket.recvfrom
        size = self.maxPacketSize
        receive = self.protocol.datagramReceived
        try:
            for number in range(MAX_READS):  # noqa: B007 - the handler below asks for it
                data, addr = recvfrom(size)
                try:
                    receive(data, addr[:2] if isIPv6 else addr)
                except BaseException:
                    log.failure("a datagram was not received")
                if not self.connected:
                    return
        except BlockingIOError:
            if not number:
                self._nothingRead()
        except OSError as error:
            self._readFailed(error)

    def _nothingRead(self) -> None:
        """The reactor has called for reading, and there was no datagram."""

    def _readFailed(self, error: OSError) -> None:
        if error.errno == errno.ECONNREFUSED:
            if self._connectedAddr:
                self.protocol.connectionRefused()
        elif error.errno not in (errno.EAGAIN, errno.EINTR):
            raise error


@implementer(IHalfCloseableDescriptor)
class PeersPort(SessionPort):
    """
    The port of a socket whose peers have a session each: it tells the protocol which of them has refused a datagram.

    The kernel keeps a refusal (ICMP) with the address that the datagram was sent to. epoll reports that as the end of a
    stream, and other reactors as something to read.
    """

    def startListening(self) -> None:
        """Listen, and have the kernel keep refusals."""
        super().startListening()  # type: ignore[no-untyped-call]  # Twisted's
        for level, option in _RECEIVE_ERRORS:
            if level == socket.IPPROTO_IP or self.addressFamily == socket.AF_INET6:
                self.socket.setsockopt(level, option, 1)

    def readConnectionLost(self, reason: Failure) -> None:
        """The reactor has taken a refusal for the end, and has stopped reading: read it, and go on."""
        self._nothingRead()
        if self.connected:
            self.startReading()  # type: ignore[no-untyped-call]  # Twisted's

    def writeConnectionLost(self, reason: Failure) -> None:
        """Nothing is ever written by the reactor."""

    def _readFailed(self, error: OSError) -> None:
        if error.errno in UNREACHABLE:
            self._nothingRead()
        else:
            super()._readFailed(error)

    def _nothingRead(self) -> None:
        """Read the refusals."""
        for _ in range(MAX_READS):
            try:
                _, beside, _, addr = self.socket.recvmsg(1, _BESIDE, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in beside:
                if (level, kind) in _RECEIVE_ERRORS and _ERRNO.unpack_from(data)[0] == errno.ECONNREFUSED:
                    self.protocol.refusedBy(addr[:2])
            if not self.connected:
                return


def portTypeOf(protocol: Any) -> Any:
    """The port for a protocol of datagrams: PeersPort if it has a session for each peer."""
    return PeersPort if getattr(protocol, "sessions", "one") == "peer" else SessionPort


def listenUDP(reactor: Any, port: int, protocol: DatagramProtocol, interface: str, maxPacketSize: int) -> Any:
    """``reactor.listenUDP``, with a SessionPort or PeersPort if the reactor would make Twisted's port."""
    if getattr(type(reactor), "listenUDP", None) is not PosixReactorBase.listenUDP:
        return reactor.listenUDP(port, protocol, interface, maxPacketSize)
    made = portTypeOf(protocol)(port, protocol, interface, maxPacketSize, reactor)
    made.startListening()
    return made
