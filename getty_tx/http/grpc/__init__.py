"""
gRPC over HTTP/2: servers and channels for generated code.

- ``server``, ``context``: the service, and what its calls share; ``methods``: what generated code registers.
- ``serverconnection``: a connection, its pings and its age; ``servercall``: a call that is served; ``answer``: what it
  sends; ``requests``: what it was sent; ``servicercontext``: what its handler gets; ``bridging``: Deferreds in tasks of
  asyncio; ``threads``: handlers that block.
- ``channel``, ``channelconnection``: the calls of stubs, over a pool of connections; ``stubs``: what generated code
  calls, and wrappers; ``channelstates``: what it is doing; ``targets``: what is dialed.
- ``clientcall``, ``clientkinds``: a call that is made; ``latecalls``: one that a wrapper makes later; ``awaiting``:
  what it is to coroutines.
- ``health``, ``reflection``: the services that clients know, whose messages ``protos`` makes.
- ``messages``, ``metadata``, ``status``, ``timeouts``: the wire; ``errors``: what calls fail with.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from getty_tx.http.grpc.channel import Channel
    from getty_tx.http.grpc.channelstates import ChannelState
    from getty_tx.http.grpc.clientkinds import EOF
    from getty_tx.http.grpc.health import Health, Serving
    from getty_tx.http.grpc.reflection import addReflection
    from getty_tx.http.grpc.server import Server

__all__ = [
    "EOF",
    "Channel",
    "ChannelState",
    "Code",
    "Health",
    "Server",
    "Serving",
    "StatusError",
    "addReflection",
]

_PLACES = {
    "EOF": "clientkinds",
    "Channel": "channel",
    "ChannelState": "channelstates",
    "Health": "health",
    "Server": "server",
    "Serving": "health",
    "addReflection": "reflection",
}


def __getattr__(name: str) -> Any:
    """What is loaded when it is asked for: servers need no channel, and channels no server."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
