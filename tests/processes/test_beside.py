"""Tests of processes/beside: the pair beside the channel, with a hub that notes what it gets."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes import beside
from getty_tx.processes.beside import Beside
from getty_tx.processes.member import Member
from tests.support.hub import PumpReactor


class Spoke:
    """Reads all, at the end of its process."""

    def __init__(self, end: socket.socket, name: str) -> None:
        self.end, self.name = end, name
        self.words = b""

    def finish(self) -> None:
        """See ISpoke."""
        self.words = self.end.recv(100)
        self.end.close()


class FakeHub:
    """The target."""

    made: list[FakeHub] = []

    def __init__(self, reactor: Any) -> None:
        self.spokes: list[Spoke] = []
        self.made.append(self)

    def add(self, end: socket.socket, name: str) -> Spoke:
        """See IHub."""
        self.spokes.append(Spoke(end, name))
        return self.spokes[-1]


class BesideTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = PumpReactor()
        self.patch(FakeHub, "made", [])
        self.beside = Beside(self.clock, f"{__name__}:FakeHub")

    def sub(self) -> tuple[Member, socket.socket]:
        """A sub-reactor that has taken its end."""
        member = Member(0)
        theirs = socket.socket(fileno=os.dup(self.beside.open(member)))
        self.addCleanup(theirs.close)
        self.beside.taken(member)
        return member, theirs

    def test_firstWord(self) -> None:
        """The hub is made when the first one says something, with nothing lost; one for all."""
        (one, theirs), (other, second), (silent, _) = self.sub(), self.sub(), self.sub()
        self.clock.pump()
        self.assertEqual(FakeHub.made, [])
        theirs.send(b"word")
        second.send(b"other")
        self.clock.pump()
        self.assertEqual(len(FakeHub.made), 1)
        self.assertEqual([each.name for each in FakeHub.made[0].spokes], ["sub-reactor 1"] * 2)
        self.assertEqual(len(self.clock.readers), 1)
        for member in (one, other, silent, silent):
            self.beside.lost(member)
        self.assertEqual([each.words for each in FakeHub.made[0].spokes], [b"word", b"other"])
        self.assertEqual(self.clock.readers, {})

    def test_silentEnd(self) -> None:
        """One that has said nothing, and ends, needs no hub."""
        member, theirs = self.sub()
        theirs.close()
        self.clock.pump()
        self.assertEqual((FakeHub.made, self.clock.readers), ([], {}))
        self.beside.lost(member)

    def test_lastWords(self) -> None:
        """What a killed one has said before is there, whatever is known first."""
        member, theirs = self.sub()
        theirs.send(b"word")
        theirs.close()
        self.beside.lost(member)
        self.assertEqual(FakeHub.made[0].spokes[0].words, b"word")
        member, theirs = self.sub()
        theirs.send(b"more")
        theirs.close()
        [end] = self.clock.readers
        end.connectionLost(Failure(ConnectionLost()))
        self.beside.lost(member)
        self.assertEqual(FakeHub.made[0].spokes[1].words, b"more")

    def test_hubFails(self) -> None:
        """A hub that cannot be made is an error in the log, and the pair is closed."""
        self.beside = Beside(self.clock, "no.such.module:Hub")
        member, theirs = self.sub()
        theirs.send(b"word")
        self.clock.pump()
        self.assertEqual(len(self.flushLoggedErrors(ModuleNotFoundError)), 1)
        with self.assertRaises(ConnectionResetError):
            theirs.recv(1)
        self.beside.lost(member)

    def test_ownEnd(self) -> None:
        """Only a sub-reactor has an end of its own."""
        self.patch(beside, "_own", [])
        self.assertIsNone(beside.ownEnd())
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        beside.adopt(theirs.detach())
        end = beside.ownEnd()
        assert end is not None
        self.addCleanup(end.close)
        end.send(b"x")
        self.assertEqual(ours.recv(1), b"x")
        self.assertFalse(os.get_inheritable(end.fileno()))
