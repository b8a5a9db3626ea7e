"""
Sessions over WebSocket, on Autobahn.

Handshake, control frames, fragments, compression and closing are Autobahn's: a connection has an *engine*, which is
Autobahn's protocol, with the connection as its transport. The session, its limits, its timers and the way out are
getty_tx's. Whole data frames go around the engine, see :py:mod:`getty_tx.transports.websocket.session`.

Close codes. ``session.close()`` sends 1000 with the reason given; a server that stops, and a session that fails for
want of time, 1001; a message longer than ``maxMsgLen``, inflated or not, 1009; what the protocol forbids 1002; text
that is not UTF-8, and any message that the codec refuses, 1007; a callback that fails 1011; ``newSession``'s refusal
1008. From the peer 1000, 1001 and no code are a normal end; any other, and an end without Close frame (1006), reaches
onError as :py:class:`~getty_tx.errors.PeerClosedError`.
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

__all__ = [
    "WebSocketSessionClientFactory",
    "WebSocketSessionProtocol",
    "WebSocketSessionServerFactory",
]


def __getattr__(name: str) -> Any:
    # Autobahn is loaded where a WebSocket is served or dialed, and not by what only parses descriptions.
    if name in __all__:
        return getattr(import_module("getty_tx.transports.websocket.protocol"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
