"""
Calls over sessions: many in flight on one session, each with its own deadline, in both directions.

- ``peer``: the two ends of calls; ``pending`` is one that waits, ``incoming`` has those that the other end makes,
  ``replies`` their ends, and ``kept`` those that wait for their turn; ``draining`` is a peer that takes no new ones.
- ``streams``: many values for one call, with credit; ``slices``: long requests and replies, a piece at a time.
- ``services``: ``@rpc.method``, and what a server can be asked for; ``current`` is the call that is served.
- ``server``, ``client``: peers for the sessions of a Server, and of a Client; ``context`` is what they share.
- ``messages``: what travels; ``wires`` and ``payloads`` make it bytes; ``interfaces`` are their plug points.
- ``seata``: the messages of Seata, for its wire.
- ``hessian``: the encoding of Dubbo, which knows nothing of calls.
- ``errors``: why a call failed.
- ``command``: ``python -m getty_tx.rpc``, for a person at a terminal; ``__main__`` runs it.
"""

from __future__ import annotations

from getty_tx.client.outliers import Outliers
from getty_tx.rpc.client import Client
from getty_tx.rpc.context import CallContext
from getty_tx.rpc.current import Call, currentCall
from getty_tx.rpc.errors import (
    CallCancelledError,
    CallLostError,
    CallRefusedError,
    CallTimeoutError,
    NoSuchMethodError,
    PayloadError,
    RemoteError,
    RpcError,
)
from getty_tx.rpc.peer import Peer
from getty_tx.rpc.server import Server
from getty_tx.rpc.services import method, stream
from getty_tx.rpc.streams import Stream
from getty_tx.rpc.wires import Dubbo, Getty, Grpc, Seata, Thrift, TTHeader

__all__ = [
    "Call",
    "CallCancelledError",
    "CallContext",
    "CallLostError",
    "CallRefusedError",
    "CallTimeoutError",
    "Client",
    "Dubbo",
    "Getty",
    "Grpc",
    "NoSuchMethodError",
    "Outliers",
    "PayloadError",
    "Peer",
    "RemoteError",
    "RpcError",
    "Seata",
    "Server",
    "Stream",
    "TTHeader",
    "Thrift",
    "currentCall",
    "method",
    "stream",
]
