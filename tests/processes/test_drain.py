"""Closing sessions as they come to rest."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes.drain import SILENCE, Drain, isAtRest
from getty_tx.processes.totals import addUp, countsOf, lasting, refusalsIn, statsIn
from getty_tx.session.context import ServiceContext
from getty_tx.testing import connectedPeer
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase
from tests.support.websocket import frame as messageFrame


class RestTests(SessionCase):
    """When a session is at rest."""

    def test_rest(self) -> None:
        """One that has nothing to do is, and one that is closing or closed is not."""
        session = self.open().server
        self.assertTrue(isAtRest(session))
        self.pair.peer.write(frame(b"hello"))
        self.pair.flush()
        self.assertTrue(isAtRest(session))
        session.close()
        self.assertFalse(isAtRest(session))
        self.pair.peer.end()
        self.pair.flush()
        self.assertFalse(isAtRest(session))

    def test_incomplete(self) -> None:
        """With a part of a package it is not, until the rest has come."""
        session = self.open().server
        self.pair.peer.write(frame(b"hello")[:-1])
        self.pair.flush()
        self.assertFalse(isAtRest(session))
        self.pair.peer.write(b"o")
        self.pair.flush()
        self.assertTrue(isAtRest(session))

    def test_paused(self) -> None:
        """With packages that wait as it is paused it is not."""
        session = self.open().server
        session.pauseReading()
        session.inbound.receive(frame(b"hello"))
        self.assertFalse(isAtRest(session))
        session.resumeReading()
        self.assertTrue(isAtRest(session))

    def test_pending(self) -> None:
        """With bytes to be sent it is not."""
        session = self.open(network={"capacity": 1000}).server
        session.writePkg(bytes(5000))
        self.assertFalse(isAtRest(session))
        self.pair.flush()
        self.assertTrue(isAtRest(session))

    def test_awaiting(self) -> None:
        """While a handler has not returned it is not, nor within one."""
        waiting: Deferred[None] = Deferred()
        within: list[bool] = []

        def onMessage(session: Any, pkg: bytes) -> Deferred[None]:
            within.append(isAtRest(session))
            return waiting

        session = self.open({"message": onMessage}).server
        self.pair.peer.write(frame(b"hello"))
        self.pair.flush()
        self.assertEqual(([False], False), (within, isAtRest(session)))
        waiting.callback(None)
        self.assertTrue(isAtRest(session))


class MessageRestTests(WebSocketCase):
    """The same over WebSocket."""

    def test_fragment(self) -> None:
        """With a fragment of a message it is not at rest."""
        session = self.open().server
        self.assertTrue(isAtRest(session))
        self.say(messageFrame(1, b"he", fin=False))
        self.assertFalse(isAtRest(session))
        self.say(messageFrame(0, b"llo"))
        self.assertTrue(isAtRest(session))


class DrainTests(SynchronousTestCase):
    """Draining sessions."""

    def setUp(self) -> None:
        self.pair = connectedPeer(configure())
        self.session = self.pair.server
        self.context = self.session.context
        self.clock: Clock = self.pair.clock

    def drain(self, timeout: float) -> Deferred[None]:
        """Begin."""
        return Drain([self.context], self.clock).run(timeout)

    def advance(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(round(seconds * 100)):
            self.pair.advance(0.01)

    def test_silence(self) -> None:
        """One that has just said something has a tenth of a second to say more."""
        self.pair.peer.write(frame(b"hello"))
        self.pair.flush()
        done = self.drain(10)
        self.advance(SILENCE - 0.05)
        self.assertFalse(self.session.isClosed)
        self.assertNoResult(done)
        self.advance(0.1)
        self.assertTrue(self.session.isClosed)
        self.successResultOf(done)

    def test_busy(self) -> None:
        """One that is never silent is closed at rest in the second half of the time."""
        done = self.drain(10)
        for step in range(110):
            self.pair.peer.write(frame(b"%d" % step))
            self.pair.flush()
            # Five seconds have passed after a hundred.
            self.assertEqual(step > 100, self.session.isClosed, step)
            self.advance(SILENCE / 2)
        self.successResultOf(done)
        self.assertEqual(101, self.session.stats.readPkgs)

    def test_never(self) -> None:
        """What does not come to rest is left to others when the time is over."""
        self.pair.peer.write(frame(b"hello")[:-1])
        self.pair.flush()
        done = self.drain(1)
        self.advance(0.9)
        self.assertNoResult(done)
        self.advance(0.2)
        self.successResultOf(done)
        self.assertFalse(self.session.isClosed)

    def test_nothing(self) -> None:
        """Without sessions it is over at once."""
        self.session.abort()
        self.pair.flush()
        self.successResultOf(self.drain(10))
        self.successResultOf(Drain([], self.clock).run(10))


class CountTests(SynchronousTestCase):
    """What processes count, and the sum of that."""

    def test_counts(self) -> None:
        """Open sessions and ended ones, and refusals by reason."""
        pair = connectedPeer(configure())
        context = pair.server.context
        pair.peer.write(frame(b"hello"))
        pair.flush()
        pair.server.writeBytes(b"12345")
        context.countRefusal("newSession", "why not")
        counts = countsOf([context])
        self.assertEqual((1, 1), (counts["sessions"], counts["connections"]))
        pair.server.abort()
        pair.flush()
        after = countsOf([context])
        self.assertEqual((0, 0), (after["sessions"], after["connections"]))
        for name, number in {"served": 1, "readBytes": 9, "readPkgs": 1, "writeBytes": 5, "writePkgs": 1}.items():
            self.assertEqual((number, number), (counts[name], after[name]), name)
        sums = addUp([after, counts])
        self.assertEqual((2, 2, 1), (statsIn(sums)["served"], statsIn(sums)["refused"], statsIn(sums)["sessions"]))
        self.assertEqual((2, 0), (refusalsIn(sums)["newSession"], refusalsIn(sums)["maxSessions"]))
        self.assertNotIn("sessions", lasting(sums))

    def test_unknown(self) -> None:
        """What another version counts is no trouble."""
        self.assertEqual(addUp(()), addUp([{"new": 5}]))

    def test_keepers(self) -> None:
        """Several services are added up."""
        contexts = [ServiceContext(None, print, reactor=Clock()) for _ in range(2)]
        for context in contexts:
            context.connections = 3
        self.assertEqual(6, countsOf(contexts)["connections"])
