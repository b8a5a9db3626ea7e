"""
What you test your own codecs and listeners with: sessions in memory, without sockets and without real time.

::

    from getty_tx.testing import RecordingListener, connectedSessions

    def newServerSession(session):
        session.codec = LineCodec()
        session.listener = MyListener()

    def newClientSession(session):
        session.codec = LineCodec()
        session.listener = heard

    heard = RecordingListener()
    pair = connectedSessions(newServerSession, newClientSession, split=[1, 2, 3])
    pair.client.writePkg(b"hello")
    pair.flush()
    assert heard.packages == [b"hello to you"]

The transports below the sessions are Twisted's own TCP transport on a socket of memory, driven by a clock: producers,
half-close, resets, full buffers and ``startTLS`` behave as they do in production, only when the test says so.

* :py:mod:`getty_tx.testing.memory`: ``MemoryReactor``, ``MemoryTransport``, ``DirectTransport``, ``MemorySocket``
* :py:mod:`getty_tx.testing.sessions`: ``connectedSessions``, ``connectedPeer``, ``Network``, ``Pair``, ``Peer``,
  ``RecordingListener``
* :py:mod:`getty_tx.testing.reading`: ``readAll`` and ``feedSplit``, to test a codec alone
"""

from __future__ import annotations

from getty_tx.testing.memory import DirectTransport, MemoryReactor, MemorySocket, MemoryTransport
from getty_tx.testing.reading import feedSplit, readAll
from getty_tx.testing.sessions import Network, Pair, Peer, RecordingListener, connectedPeer, connectedSessions

__all__ = [
    "DirectTransport",
    "MemoryReactor",
    "MemorySocket",
    "MemoryTransport",
    "Network",
    "Pair",
    "Peer",
    "RecordingListener",
    "connectedPeer",
    "connectedSessions",
    "feedSplit",
    "readAll",
]
