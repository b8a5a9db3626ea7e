"""Two connected peers of calls in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.testing.sessions import Pair, connectedSessions

if TYPE_CHECKING:
    from collections.abc import Mapping

    # Those who test sessions need no calls: it is imported where it is asked for.
    from getty_tx import rpc
    from getty_tx.testing.reactor import MemoryReactor

__all__ = ["connectedPeers"]


def connectedPeers(
    services: Mapping[str, object] | None = None,
    otherServices: Mapping[str, object] | None = None,
    *,
    wire: Any = None,
    clock: MemoryReactor | None = None,
    **network: Any,
) -> tuple[rpc.Peer, rpc.Peer, Pair]:
    """
    Two :py:class:`getty_tx.rpc.Peer` objects that call each other.

    ::

        client, server, pair = connectedPeers({"Echo": Echo()})
        reply = client.call("Echo", "say", "hi")
        pair.flush()
        assert self.successResultOf(reply) == "hi"

    Bytes move in ``pair.flush()``, and time in ``pair.advance(seconds)``; ``pair.reset()`` loses the connection. The
    settings of an end are those of its ``peer.context``, such as ``server.context.maxCalls``. Methods with
    ``threads=True`` cannot be called: there are no threads.

    :param services: what the client calls: objects with ``@rpc.method`` by name.
    :param otherServices: what the server calls.
    :param wire: of both; by default ``rpc.TTHeader()``.
    :param clock: the reactor of both; by default a new one.
    :param network: ``split``, ``delay``, ``capacity`` and ``transport`` of :py:class:`Network`.
    :return: the client's peer, the server's peer, and the pair of their sessions.
    :raise SettingError: a service cannot be served.
    """
    from getty_tx import rpc

    wire = rpc.TTHeader() if wire is None else wire
    # Made here, because an error in newSession is only logged.
    contexts = rpc.CallContext(wire, services), rpc.CallContext(wire, otherServices)
    peers: list[rpc.Peer] = []

    def newServerSession(session: Any) -> None:
        peers.append(rpc.Peer(session, contexts[0]))

    def newClientSession(session: Any) -> None:
        peers.append(rpc.Peer(session, contexts[1]))

    pair = connectedSessions(newServerSession, newClientSession, clock=clock, **network)
    server, client = peers
    return client, server, pair
