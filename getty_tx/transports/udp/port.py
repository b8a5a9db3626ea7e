"""
Twisted's UDP port with faster reading: attributes are looked up once for many datagrams, and their number for each
reactor iteration is limited, whatever their size.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

__all__ = ["MAX_READS", "SessionPort", "listenUDP"]

log = Logger()

#: Datagrams that are read before the reactor serves other descriptors. Twisted's port limits the bytes, which does not
#: stop a flood of empty or tiny datagrams.
MAX_READS = 256


class SessionPort(udp.Port):
    """The port below a UDP endpoint."""

    def doRead(self) -> None:
        """Read the datagrams that have arrived, at most :py:data:`MAX_READS`."""
        isIPv6 = self.addressFamily == socket.AF_INET6
        recvfrom = self.socket.recvfrom
        size = self.maxPacketSize
        receive = self.protocol.datagramReceived
        try:
            for _ in range(MAX_READS):
                data, addr = recvfrom(size)
                try:
                    receive(data, addr[:2] if isIPv6 else addr)
                except BaseException:
                    log.failure("a datagram was not received")
                if not self.connected:
                    return
        except BlockingIOError:
            pass
        except OSError as error:
            self._readFailed(error)

    def _readFailed(self, error: OSError) -> None:
        if error.errno == errno.ECONNREFUSED:
            if self._connectedAddr:
                self.protocol.connectionRefused()
        elif error.errno not in (errno.EAGAIN, errno.EINTR):
            raise error


def listenUDP(reactor: Any, port: int, protocol: DatagramProtocol, interface: str, maxPacketSize: int) -> Any:
    """``reactor.listenUDP``, with a SessionPort if the reactor would make Twisted's port."""
    if getattr(type(reactor), "listenUDP", None) is not PosixReactorBase.listenUDP:
        return reactor.listenUDP(port, protocol, interface, maxPacketSize)
    make: Any = SessionPort  # Twisted's has no types
    made = make(port, protocol, interface, maxPacketSize, reactor)
    made.startListening()
    return made
