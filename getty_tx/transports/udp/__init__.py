"""
Sessions over UDP. A datagram is one package.

A datagram is read by one call of the codec, which has to use all of it. An invalid one is dropped and counted, because
anybody can send one. A datagram is sent at once or dropped: if the socket's buffer is full the datagram is lost, as it
could be lost in the network, so no bytes are ever pending.

=============  =====================================================================
``context``    ``UDPContext``: a package with the address of its peer
``inbound``    from a datagram to a package to the listener
``outbound``   from a package to a datagram
``session``    the sessions of a socket, of a connected socket, and of one peer
``peers``      a session for each peer of one socket
``protocol``   the Twisted protocol of a socket
``port``       Twisted's UDP port with faster reading, and with the refusals of peers
``endpoints``  the ``udp:`` endpoints, to listen and to connect
=============  =====================================================================

Each module imports only modules above it in this list.
"""

from __future__ import annotations

from getty_tx.transports.udp.context import UDPContext
from getty_tx.transports.udp.session import PEER_TIMEOUT, ConnectedSession, DatagramSession, PeerSession

__all__ = ["PEER_TIMEOUT", "ConnectedSession", "DatagramSession", "PeerSession", "UDPContext"]
