"""
Tools to test codecs and listeners: sessions in memory, without sockets and without real time.

::

    from getty_tx.testing import RecordingListener, connectedSessions

    def newServerSession(session):
        session.codec = LineCodec()
        session.listener = MyListener()

    def newClientSession(session):
        session.codec = LineCodec()
        session.listener = recorder

    recorder = RecordingListener()
    pair = connectedSessions(newServerSession, newClientSession, split=[1, 2, 3])
    pair.client.writePkg(b"hello")
    pair.flush()
    assert recorder.packages == [b"hello to you"]

The transports below the sessions are Twisted's own TCP transport on memory sockets, driven by a clock: producers,
half-close, resets, full buffers and ``startTLS`` behave as in production, at the moments that the test chooses.

* :py:mod:`getty_tx.testing.sessions`: ``connectedSessions``, ``connectedPeer``, ``Network``, ``Pair``, ``Peer``,
  ``RecordingListener``, ``RecordingBatchListener``
* :py:mod:`getty_tx.testing.calls`: ``connectedPeers``, for calls
* :py:mod:`getty_tx.testing.http`: ``connectedHTTP``, for handlers and applications of HTTP
* :py:mod:`getty_tx.testing.memory`: ``MemoryTransport``, ``DirectTransport``, ``MemorySocket``
* :py:mod:`getty_tx.testing.reactor`: ``MemoryReactor``, a clock that serves memory sockets
* :py:mod:`getty_tx.testing.registry`: ``MemoryRegistry``, ``MemoryStore``, for those who register and follow
* :py:mod:`getty_tx.testing.reading`: ``readAll`` and ``feedSplit``, to test a codec alone
"""

from __future__ import annotations

from getty_tx.testing.calls import connectedPeers
from getty_tx.testing.http import HTTPAnswer, HTTPPeer, connectedHTTP
from getty_tx.testing.memory import DirectTransport, MemorySocket, MemoryTransport
from getty_tx.testing.reactor import MemoryReactor
from getty_tx.testing.reading import feedSplit, readAll
from getty_tx.testing.registry import MemoryRegistry, MemoryStore
from getty_tx.testing.sessions import (
    Network,
    Pair,
    Peer,
    RecordingBatchListener,
    RecordingListener,
    connectedPeer,
    connectedSessions,
)

__all__ = [
    "DirectTransport",
    "HTTPAnswer",
    "HTTPPeer",
    "MemoryReactor",
    "MemoryRegistry",
    "MemorySocket",
    "MemoryStore",
    "MemoryTransport",
    "Network",
    "Pair",
    "Peer",
    "RecordingBatchListener",
    "RecordingListener",
    "connectedHTTP",
    "connectedPeer",
    "connectedPeers",
    "connectedSessions",
    "feedSplit",
    "readAll",
]
