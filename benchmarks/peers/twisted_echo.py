"""Bare Twisted echo, what one writes without getty_tx: ``twisted_echo.py PORT``.

Frames are a 4-byte little-endian length and the payload; ``IntNStringReceiver`` cuts them, ``sendString`` answers
each on its own. The listening socket gets the same backlog as the other servers.
"""

import sys

from twisted.internet import protocol, reactor
from twisted.protocols.basic import IntNStringReceiver


class FrameEcho(IntNStringReceiver):
    """Send every frame back as it was."""

    structFormat = "<I"
    prefixLength = 4
    MAX_LENGTH = 200_000_000

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def stringReceived(self, string: bytes) -> None:
        self.sendString(string)


reactor.listenTCP(int(sys.argv[1]), protocol.Factory.forProtocol(FrameEcho), backlog=4096, interface="127.0.0.1")
reactor.run()
