"""A service that stops at a pace."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LineCodec
from getty_tx.processes.drain import SILENCE, Drain
from getty_tx.server import Server
from getty_tx.session.leaving import INTERVAL, Pace, farewell
from getty_tx.testing import Network, RecordingListener
from tests.support.memory import configure


class PaceTests(SynchronousTestCase):
    def test_take(self) -> None:
        """The first at once, then so many a second, and what was not taken may be taken later."""
        clock = Clock()
        pace = Pace(10, clock.seconds)
        self.assertEqual([pace.take() for _ in range(3)], [True, False, False])
        clock.advance(0.5)
        self.assertEqual([pace.take() for _ in range(7)].count(True), 5)

    def test_farewell(self) -> None:
        """Each client has a time of its own."""
        self.assertEqual(farewell(None), "the server stops")
        found = {re.fullmatch(r"the server stops; retry=([0-9.]+)", farewell(60)) for _ in range(20)}
        seconds = {float(each[1]) for each in found if each is not None}
        self.assertGreater(len(seconds), 10)
        self.assertLessEqual(max(seconds), 60)


class LeavingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.factory = self.network.serverFactory(configure(RecordingListener(), LineCodec()))
        self.factory.drainRate = 10
        client = self.network.clientFactory(configure(RecordingListener(), LineCodec()))
        self.pairs = [self.network.connect(self.factory, client) for _ in range(20)]

    def closed(self) -> int:
        """How many sessions are closed."""
        return sum(pair.server.isClosed for pair in self.pairs)

    def pass_(self, seconds: float) -> None:
        """Some time."""
        for _ in range(round(seconds / INTERVAL)):
            self.network.clock.advance(INTERVAL)

    def test_closeAll(self) -> None:
        """Not all at once, and all in the end; the Deferred waits for them."""
        ended = self.factory.context.closeAll()
        self.assertLessEqual(self.closed(), 2)
        self.pass_(1)
        self.assertLess(abs(self.closed() - 11), 3)
        self.assertNoResult(ended)
        self.pass_(2)
        self.assertEqual((self.closed(), len(self.factory.context.sessions)), (20, 0))
        self.successResultOf(ended)

    def test_drain(self) -> None:
        """Of a sub-reactor, too."""
        done = Drain([self.factory.context], self.network.clock).run(10)
        self.pass_(SILENCE + 1)
        self.assertLess(abs(self.closed() - 11), 3)
        self.assertNoResult(done)
        self.pass_(2)
        self.assertEqual(self.closed(), 20)
        self.successResultOf(done)

    def test_server(self) -> None:
        """The setting of a Server, which may be changed."""
        server: Any = Server(configure(RecordingListener(), LineCodec()), "tcp:0", drainRate=5, reactor=Clock())
        self.assertEqual((server._factory.drainRate, server._factory.context.drainRate), (5, 5))
        server.drainRate = None
        self.assertIsNone(server._factory.context.drainRate)
        self.assertRaises(ValueError, setattr, server, "drainRate", 0)
