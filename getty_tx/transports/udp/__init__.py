"""
Sessions over datagrams: what of inbound, outbound and session differs from those over a byte stream.

A datagram is one package. It is read by one call of the codec, which has to use all of it; a bad one is dropped and
counted, as anybody can send one. It is sent at once or dropped: a socket that takes no more loses what a network loses,
too, so nothing is ever pending.
"""

from __future__ import annotations

from getty_tx.transports.udp.session import PEER_TIMEOUT, ConnectedSession, DatagramSession, PeerSession
from getty_tx.transports.udp.ways import PROBE, Room, UDPContext

__all__ = ["PEER_TIMEOUT", "PROBE", "ConnectedSession", "DatagramSession", "PeerSession", "Room", "UDPContext"]
