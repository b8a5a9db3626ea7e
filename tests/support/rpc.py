"""Two ends of calls in memory, and one end whose other one says whatever a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx import rpc
from getty_tx.rpc import peer as peers
from getty_tx.rpc import replies, slices
from getty_tx.testing import connectedPeer, connectedSessions, readAll

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.trial.unittest import SynchronousTestCase

    from getty_tx.rpc.context import CallContext

__all__ = ["Both", "Foreign", "Outcome", "cutShort", "leftInSlices"]


def cutShort(test: SynchronousTestCase, whole: int = 100, size: int = 60, least: int = 30) -> None:
    """Have messages of more than ``whole`` bytes go in slices of ``size``, until the test is over."""
    test.patch(peers, "WHOLE", whole)
    test.patch(replies, "WHOLE", whole)
    test.patch(slices, "SLICE", size)
    test.patch(slices, "LEAST", least)


class Outcome:
    """
    How often a call ended, and with what.

    :ivar results: the values and the exceptions.
    """

    def __init__(self, waiting: Any) -> None:
        self.results: list[Any] = []
        waiting.addCallbacks(self.results.append, lambda failure: self.results.append(failure.value))

    @property
    def only(self) -> Any:
        """The one result. :raise AssertionError: there is none, or there are several."""
        if len(self.results) != 1:
            raise AssertionError(f"the call ended {len(self.results)} times: {self.results}")
        return self.results[0]


def leftInSlices(peer: rpc.Peer) -> list[str]:
    """What is there of long messages when all have been sent and received, or the session has ended."""
    slices = peer.slices
    left = slices.queued, slices.halves, slices.holds, slices.isHigh, peer.session.outbound.hasProducer
    return [f"{peer}: {left} of slices"] if any(left) else []


class Both:
    """
    Two peers over a connection in memory.

    :param services: of the server's end; ``back`` of the client's.
    :param server: settings of the server's end; ``client`` of the client's.
    :param wire: of both, where it is not TTHeader with ``payload``.
    """

    def __init__(
        self,
        services: Mapping[str, object],
        back: Mapping[str, object] | None = None,
        *,
        payload: str = "json",
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        wrappers: Any = (),
        wire: Any = None,
        **network: Any,
    ) -> None:
        wires = (wire, wire) if wire is not None else (rpc.TTHeader(payload), rpc.TTHeader(payload))
        self.serverContext = rpc.CallContext(wires[0], services, wrappers, **(server or {}))
        self.clientContext = rpc.CallContext(wires[1], back, **(client or {}))
        self.peers: dict[str, rpc.Peer] = {}

        def newServer(session: Any) -> None:
            self.peers["server"] = rpc.Peer(session, self.serverContext)

        def newClient(session: Any) -> None:
            self.peers["client"] = rpc.Peer(session, self.clientContext)

        self.pair = connectedSessions(newServer, newClient, **network)
        self.clock = self.pair.clock
        self.server, self.client = self.peers["server"], self.peers["client"]

    def call(self, name: str, *arguments: Any, **options: Any) -> Outcome:
        """Call ``Service/method`` from the client's end, and let it arrive."""
        service, _, method = name.partition("/")
        outcome = Outcome(self.client.call(service, method, *arguments, **options))
        self.pair.flush()
        return outcome

    def result(self, name: str, *arguments: Any, **options: Any) -> Any:
        """What such a call gives at once."""
        return self.call(name, *arguments, **options).only

    def leftovers(self) -> list[str]:
        """What is there and should not be when all calls have ended and the session, too."""
        found = []
        for context in (self.serverContext, self.clientContext):
            if context.running or context.peers:
                found.append(f"{context.running} running, {context.peers}")
        for peer in (self.server, self.client):
            if peer.pending or peer.incoming.open or peer.incoming.count:
                found.append(repr(peer))
            found += leftInSlices(peer)
        found += [f"timer {call}" for call in self.clock.getDelayedCalls()]
        return found


class Foreign:
    """
    A peer whose other end is the test.

    :param wire: of both.
    :param capacity: bytes that the connection takes while the test does not read.
    """

    def __init__(
        self,
        wire: Any = None,
        services: Mapping[str, object] | None = None,
        capacity: int | None = None,
        **options: Any,
    ) -> None:
        wire = rpc.TTHeader() if wire is None else wire
        self.context: CallContext = rpc.CallContext(wire, services, **options)
        self.codec = wire.codec()
        peers: list[rpc.Peer] = []
        network: dict[str, Any] = {} if capacity is None else {"capacity": capacity}
        self.pair = connectedPeer(lambda session: peers.append(rpc.Peer(session, self.context)), **network)
        self.peer = peers[0]
        self.session = self.pair.server
        self.clock = self.pair.clock

    def say(self, *messages: Any) -> None:
        """Send messages to the peer in one piece, and let them arrive."""
        self.pair.peer.write(b"".join(self.codec.write(self.session, each) for each in messages))
        self.pair.flush()

    def heard(self) -> list[Any]:
        """What the peer has sent since this was last asked."""
        self.pair.flush()
        data = bytes(self.pair.peer.data)
        self.pair.peer.data.clear()
        messages, rest = readAll(self.codec, data, self.session)
        if rest:
            raise AssertionError(f"a part of a frame: {rest!r}")
        return messages
