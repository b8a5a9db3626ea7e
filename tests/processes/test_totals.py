"""Tests of processes/totals: the counters of processes, and their sums."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes.totals import addUp, countsOf, lasting, refusalsIn, statsIn
from getty_tx.session.context import ServiceContext
from getty_tx.testing import connectedPeer
from tests.support.memory import configure, frame


class TotalsTests(SynchronousTestCase):
    """The counters of services, and their sums."""

    def test_counts(self) -> None:
        """Open and ended sessions are counted, and refusals by reason."""
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
        """Unknown counters of another version are ignored."""
        self.assertEqual(addUp(()), addUp([{"new": 5}]))

    def test_contexts(self) -> None:
        """The counters of several services are added."""
        contexts = [ServiceContext(None, print, reactor=Clock()) for _ in range(2)]
        for context in contexts:
            context.connections = 3
        self.assertEqual(6, countsOf(contexts)["connections"])
