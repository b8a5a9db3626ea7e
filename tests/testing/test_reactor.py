"""The reactor in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.testing import MemoryReactor, RecordingListener, connectedSessions
from tests.support.memory import configure


class ReactorTests(SynchronousTestCase):
    """The clock that serves memory sockets."""

    def test_advance(self) -> None:
        """Each timer runs at its own time, also a timer that another one starts."""
        reactor = MemoryReactor()
        times: list[float] = []

        def tick() -> None:
            times.append(reactor.seconds())
            if len(times) < 4:
                reactor.callLater(0.5, tick)

        reactor.callLater(0.5, tick)
        reactor.advance(1.6)
        self.assertEqual((times, reactor.seconds()), ([0.5, 1.0, 1.5], 1.6))

    def test_callFromThread(self) -> None:
        """Calls wait for the next turn; a failing one is logged."""
        reactor = MemoryReactor()
        called: list[Any] = []
        reactor.callFromThread(called.append, 1)
        reactor.callFromThread(lambda: 1 / 0)
        reactor.callFromThread(lambda *, key: called.append(key), key=2)
        self.assertEqual(called, [])
        self.assertTrue(reactor.turn())
        self.assertEqual(called, [1, 2])
        self.assertFalse(reactor.turn())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(callable(getattr(reactor, next(iter(IReactorFromThreads)))))

    def test_endless(self) -> None:
        """Two ends that answer each other forever raise an error, and do not hang the test."""
        echo = configure(RecordingListener({"message": lambda session, pkg: session.writePkg(pkg)}))
        pair = connectedSessions(echo, echo)
        pair.client.writePkg(b"ping")
        error = self.assertRaises(AssertionError, pair.clock.settle, 100)
        self.assertIn("100 turns", str(error))
