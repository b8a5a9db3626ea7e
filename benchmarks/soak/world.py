"""What all acts of the soak share: the servers' places, what is counted, and the numbers of conversations."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import TimeoutError as NotInTime
from twisted.internet.task import deferLater

from benchmarks.soak.messages import Conversation

if TYPE_CHECKING:
    from pathlib import Path

    from twisted.internet.defer import Deferred

    from benchmarks.soak.findings import Findings, Tally
    from benchmarks.soak.plan import Act
    from benchmarks.soak.pools import StandingPools
    from benchmarks.soak.process import Places, ServerProcess

__all__ = ["PATIENCE", "World", "within"]

#: Seconds that anything may take that should come at once; only a machine that is very busy comes near.
PATIENCE = 60.0


class World:
    """
    The surroundings of the acts.

    :ivar steady: where the server is that lives to the end.
    :ivar victim: where the one is that is killed.
    :ivar serverOptions: what the servers are started with.
    :ivar standing: the pools that dial the victim.
    :ivar patience: seconds that anything may take that should come at once.
    :ivar chain: the file with the servers' certificate.
    :ivar over: no act is begun any more.
    """

    def __init__(
        self, reactor: Any, seed: int, findings: Findings, tally: Tally, chain: Path, patience: float = PATIENCE
    ) -> None:
        self.reactor = reactor
        self.seed = seed
        self.patience = patience
        self.findings = findings
        self.tally = tally
        self.chain = chain
        self.over = False
        self.serverOptions: dict[str, Any] = {}
        self.steady: Places
        self.victim: Places
        self.standing: StandingPools
        self.steadyProcess: ServerProcess
        self.victimProcess: ServerProcess
        self._numbers = count(1)

    def conversation(self, lossy: bool = False) -> Conversation:
        """A new one, from any thread."""
        return Conversation(next(self._numbers), self.findings, lossy)

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires later."""
        return deferLater(self.reactor, seconds)

    def finding(self, act: Act | str, kind: str, text: str) -> None:
        """Note what went wrong in an act."""
        self.findings.add(kind, f"{act}: {text}")

    def ended(self, conversation: Conversation, lived: bool, where: str = "") -> None:
        """A conversation is over: check and count it."""
        self.tally.add("messages", conversation.heard)
        if conversation.missing:
            self.tally.add("datagrams lost", conversation.missing)
        conversation.end(lived, where)


async def within(world: World, waiting: Deferred[Any], seconds: float | None = None) -> Any:
    """
    Wait for it.

    :param seconds: how long at the most; by default the world's patience.
    :raise TimeoutError: it did not come.
    """
    seconds = world.patience if seconds is None else seconds
    try:
        return await waiting.addTimeout(seconds, world.reactor)
    except NotInTime as error:
        raise TimeoutError(f"not within {seconds:g} s") from error
