"""
Twisted's UDP port with another way of reading: what is looked up once for a round is not looked up for each datagram,
and a round has an end for datagrams of any size.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.protocol import DatagramProtocol

__all__ = ["ROUND", "SessionPort", "listenUDP"]

log = Logger()

#: Datagrams that are read before the reactor looks at other descriptors. Twisted's port counts bytes, of which a flood
#: of empty or tiny datagrams has none or few.
ROUND = 256


class SessionPort(udp.Port):
    """The port below a UDP endpoint."""

    def doRead(self) -> None:
        """Read a round of datagrams, or as many as there are."""
        isIPv6 = self.addressFamily == socket.AF_INET6
        recvfrom = self.socket.recvfrom
        size = self.maxPacketSize
        receive = self.protocol.datagramReceived
        try:
            for _ in range(ROUND):
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
        if error.errno not in udp._sockErrReadRefuse:
            if error.errno not in udp._sockErrReadIgnore:
                raise error
        elif self._connectedAddr:
            self.protocol.connectionRefused()


def listenUDP(reactor: Any, port: int, protocol: DatagramProtocol, interface: str, maxPacketSize: int) -> Any:
    """``reactor.listenUDP``, with a SessionPort where the reactor would make Twisted's own."""
    if getattr(type(reactor), "listenUDP", None) is not PosixReactorBase.listenUDP:
        return reactor.listenUDP(port, protocol, interface, maxPacketSize)
    make: Any = SessionPort  # Twisted's has no types
    made = make(port, protocol, interface, maxPacketSize, reactor)
    made.startListening()
    return made
