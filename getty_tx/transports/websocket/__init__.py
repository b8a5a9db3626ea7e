"""
Sessions over WebSocket, on Autobahn.

Autobahn does the handshake, control frames, fragments, compression and closing: a connection has an *engine*, which is
Autobahn's protocol, and is the transport of the engine. The session, its limits, its timers and its outbound are
getty_tx's. Whole data frames do not pass through the engine, see :py:mod:`getty_tx.transports.websocket.inbound`.

=============  ==========================================================================
``frames``     headers, masks, whole frames, close codes
``handshake``  a check of the handshake's head before Autobahn reads it
``request``    ``UpgradeOptions``: paths, origins, subprotocols, compression
``requested``  ``UpgradeRequest``: what a client asked for, ``session.request``
``refusing``   a 503 for connections that are refused before their handshake
``inbound``    from frames to messages to packages to the listener
``session``    the session: from packages to messages to frames, close codes
``engine``     Autobahn's protocols, and what they call of their connection
``protocol``   the Twisted protocol, and its factories
``upgraded``   the protocol of a connection that was HTTP's
``tunnel``     byte streams over messages, for other Twisted protocols
``endpoints``  the ``ws:`` and ``wss:`` endpoints
=============  ==========================================================================

Each module imports only modules above it in this list.

Close codes that are sent:

====  ===================================================================================
1000  ``session.close()``, with its reason
1001  the server stops, or a limit of time is reached
1002  the peer has violated the protocol
1007  text that is not UTF-8, or a message that the codec refuses
1008  ``newSession`` refuses the session, without a ``RefuseRequest``
1009  a message longer than ``maxMsgLen``, before or after inflating
1011  a callback has failed
====  ===================================================================================

1000, 1001 and no code from the peer are a normal end. Any other code, and an end without a Close frame (1006), is given
to onError as :py:class:`~getty_tx.errors.PeerClosedError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from getty_tx.transports.websocket.protocol import (
        WebSocketSessionClientFactory,
        WebSocketSessionProtocol,
        WebSocketSessionServerFactory,
    )
    from getty_tx.transports.websocket.requested import UpgradeRequest

__all__ = [
    "UpgradeRequest",
    "WebSocketSessionClientFactory",
    "WebSocketSessionProtocol",
    "WebSocketSessionServerFactory",
]


def __getattr__(name: str) -> Any:
    # Autobahn is loaded where a WebSocket is served or dialed, and not by what only parses descriptions.
    if name == "UpgradeRequest":
        return import_module("getty_tx.transports.websocket.requested").UpgradeRequest
    if name in __all__:
        return getattr(import_module("getty_tx.transports.websocket.protocol"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
