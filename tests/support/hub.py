"""A hub and its engines in one process: real pairs of sockets, and a reactor that turns when the test says so."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx.groups import IEngineUser, Publication, Retention
from getty_tx.groups.hub.engine import HubEngine
from getty_tx.groups.hub.hub import Hub, Spoke

__all__ = ["HubCase", "PumpReactor", "User"]

KEPT = Retention(100, 60.0)


class PumpReactor(Clock):
    """A clock that watches descriptors, and serves them in turns; those in ``stopped`` are not read."""

    def __init__(self) -> None:
        super().__init__()
        # In the order in which they came.
        self.readers: dict[Any, None] = {}
        self.writers: dict[Any, None] = {}
        self.stopped: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        self.readers[reader] = None

    def removeReader(self, reader: Any) -> None:
        """See IReactorFDSet."""
        self.readers.pop(reader, None)

    def addWriter(self, writer: Any) -> None:
        """See IReactorFDSet."""
        self.writers[writer] = None

    def removeWriter(self, writer: Any) -> None:
        """See IReactorFDSet."""
        self.writers.pop(writer, None)

    def pump(self, turns: int = 6) -> None:
        """Some turns."""
        for _ in range(turns):
            self.advance(0)
            for writer in list(self.writers):
                writer.doWrite()
            for reader in list(self.readers):
                if reader in self.readers and reader not in self.stopped:
                    reader.doRead()


@implementer(IEngineUser)
class User:
    """Notes what an engine tells."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def publicationArrived(self, name: str, publication: Publication) -> None:
        """See IEngineUser."""
        offset = None if publication.position is None else publication.position.offset
        self.heard.append((name, publication.pkg, offset))

    def publicationsMissed(self, name: str) -> None:
        """See IEngineUser."""
        self.heard.append(("missed", name))

    def membersChanged(self, name: str, joined: Any, left: Any) -> None:
        """See IEngineUser."""
        self.heard.append(("members", name, [each.key for each in joined], [each.key for each in left]))

    def engineUp(self) -> None:
        """See IEngineUser."""
        self.heard.append(("up",))

    def engineDown(self, error: BaseException) -> None:
        """See IEngineUser."""
        self.heard.append(("down", str(error)))

    def take(self) -> list[tuple[Any, ...]]:
        """What was heard since the last call."""
        heard, self.heard = self.heard, []
        return heard


class HubCase(SynchronousTestCase):
    """
    :ivar hub: of the engines of :py:meth:`engine`.
    """

    def setUp(self) -> None:
        self.clock = PumpReactor()
        self.hub = Hub(self.clock)
        self.spokes: dict[HubEngine, Spoke] = {}

    def pair(self, name: str = "sub-reactor 1") -> tuple[socket.socket, Spoke]:
        """A sub-reactor whose end the test has."""
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        spoke = self.hub.add(ours, name)
        self.addCleanup(spoke.link.close)
        return theirs, spoke

    def engine(self) -> tuple[HubEngine, User]:
        """A sub-reactor with groups that have started."""
        theirs, spoke = self.pair(f"sub-reactor {len(self.spokes) + 1}")
        engine = HubEngine(theirs)
        user = User()
        engine.start(self.clock, user)
        self.addCleanup(engine.stop)
        self.spokes[engine] = spoke
        self.assertEqual(user.take(), [("up",)])
        return engine, user

    def subscribed(self, name: str = "room") -> tuple[HubEngine, User]:
        """One that has members."""
        engine, user = self.engine()
        done = engine.subscribe(name)
        self.clock.pump()
        self.successResultOf(done)
        return engine, user

    def stop(self, engine: HubEngine) -> None:
        """It reads nothing any more."""
        self.clock.stopped.add(engine._link)

    def goOn(self, engine: HubEngine) -> None:
        """It reads again."""
        self.clock.stopped.discard(engine._link)
        while engine._link in self.clock.readers and self.spokes[engine].link.waiting:
            self.clock.pump(1)
        self.clock.pump()
