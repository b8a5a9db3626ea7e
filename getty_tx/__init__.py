"""
getty_tx: write a codec and a listener once; serve and dial them over TCP, TLS, unix sockets, UDP and WebSocket.

::

    from getty_tx import EventListener, Server
    from getty_tx.codecs import LineCodec

The names below are the public ones; importing them installs no reactor. Codecs are in :py:mod:`getty_tx.codecs`, TLS
policies in :py:mod:`getty_tx.tls`, test doubles in :py:mod:`getty_tx.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.client import Client
from getty_tx.errors import (
    CodecError,
    GettyError,
    HandshakeTimeoutError,
    IdleTimeoutError,
    MessageTooLongError,
    NoPeerAddressError,
    NoSessionError,
    NotReadyError,
    PeerClosedError,
    ReadTimeoutError,
    RefuseRequest,
    SelfConnectError,
    SessionBlockedError,
    SessionClosedError,
    SessionError,
    SessionRefusedError,
    SettingError,
    UpgradeError,
    WriteTimeoutError,
)
from getty_tx.interfaces import (
    IBatchListener,
    IBatchReader,
    IBatchWriter,
    IConnection,
    IEventListener,
    IReader,
    IReadWriter,
    IWriter,
    Until,
)
from getty_tx.listener import EventListener
from getty_tx.server import Server
from getty_tx.session.observers import Observer
from getty_tx.session.session import Session
from getty_tx.session.totals import Stats
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.reconnecting import SessionClientFactory
from getty_tx.transports.stream import SessionProtocol
from getty_tx.transports.udp import UDPContext
from getty_tx.transports.udp.protocol import SessionDatagramProtocol
from getty_tx.wheel import TimingWheel, WheelTimer
from getty_tx.workers import WorkerPool

if TYPE_CHECKING:
    from getty_tx.session.ratelimit import RateLimit
    from getty_tx.session.relay import relay

__version__ = "0.1.0"

__all__ = [
    "Client",
    "CodecError",
    "EventListener",
    "GettyError",
    "HandshakeTimeoutError",
    "IBatchListener",
    "IBatchReader",
    "IBatchWriter",
    "IConnection",
    "IEventListener",
    "IReadWriter",
    "IReader",
    "IWriter",
    "IdleTimeoutError",
    "MessageTooLongError",
    "NoPeerAddressError",
    "NoSessionError",
    "NotReadyError",
    "Observer",
    "PeerClosedError",
    "RateLimit",
    "ReadTimeoutError",
    "RefuseRequest",
    "SelfConnectError",
    "Server",
    "Session",
    "SessionBlockedError",
    "SessionClientFactory",
    "SessionClosedError",
    "SessionDatagramProtocol",
    "SessionError",
    "SessionProtocol",
    "SessionRefusedError",
    "SessionServerFactory",
    "SettingError",
    "Stats",
    "TimingWheel",
    "UDPContext",
    "Until",
    "UpgradeError",
    "WheelTimer",
    "WorkerPool",
    "WriteTimeoutError",
    "relay",
]


def __getattr__(name: str) -> Any:
    """``relay`` and ``RateLimit`` are loaded where they are asked for."""
    if name == "RateLimit":
        from getty_tx.session.ratelimit import RateLimit

        return RateLimit
    if name == "relay":
        from getty_tx.session.relay import relay

        return relay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
