"""Tests of processes/main: what the main process does with the messages of its sub-reactors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes import main
from getty_tx.processes.channel import BEAT, READY
from getty_tx.processes.main import MainProcess, ProcessesConfig

if TYPE_CHECKING:
    from getty_tx.processes.member import Member


class FakeProcess:
    """The process of a sub-reactor; the test gives its messages to ``received``, and its end to ``lost``."""

    pid = 1000

    def __init__(self, member: Member, received: Any, lost: Any, gone: Any, reactor: Any) -> None:
        self.member, self.received, self.lost = member, received, lost

    def send(self, *message: Any) -> int:
        """Send nothing."""
        return 0


class FakeQueries:
    """Queries that note of which members the counters have changed."""

    target = "a:b"

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def changed(self, member: Member, reactor: Any) -> None:
        """See Queries."""
        self.heard.append(member)

    def lost(self, member: Member) -> None:
        """See Queries."""


class HeartbeatTests(SynchronousTestCase):
    """The counters in heartbeats."""

    def start(self, queries: Any) -> MainProcess:
        """Start two sub-reactors, which are ready; ``self.members`` has them."""
        self.patch(main, "SubProcess", FakeProcess)
        self.patch(main, "Beside", lambda reactor: Mock())
        config = ProcessesConfig("a:b", [], [], 2, "round-robin", None, None, 10.0, 10.0, queries)
        made = MainProcess(config, Clock(), print)
        made.supervisor.start()
        self.members = made.supervisor.members
        for member in self.members:
            self.tell(member, READY)
        return made

    def tell(self, member: Member, kind: int, **counts: int) -> None:
        """Have a member send a message."""
        process: Any = member.process
        process.received(member, kind, json.dumps(counts).encode())

    def test_changed(self) -> None:
        """A report is asked for when a heartbeat brings other counters, and only then."""
        queries = FakeQueries()
        self.start(queries)
        one, other = self.members
        self.tell(one, BEAT, readPkgs=1)
        self.assertEqual([one], queries.heard)
        for _ in range(3):
            self.tell(one, BEAT, readPkgs=1)
        self.assertEqual([one], queries.heard)
        self.tell(other, BEAT, readPkgs=1)
        self.tell(one, BEAT, readPkgs=2)
        self.assertEqual([one, other, one], queries.heard)

    def test_noStatus(self) -> None:
        """Without a status nobody is asked; the last counters of one that has ended stay in the sums."""
        made = self.start(None)
        one, other = self.members
        for number in (1, 2):
            self.tell(one, BEAT, readPkgs=number, sessions=1)
        self.tell(other, BEAT, readPkgs=40, sessions=1)
        process: Any = one.process
        process.lost(one)
        self.assertEqual((42, 1), (made.counts()["readPkgs"], made.counts()["sessions"]))
