"""Tests of processes/drain: sessions are closed when they are at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from getty_tx import EventListener, rpc
from getty_tx.codecs import LineCodec
from getty_tx.interfaces import IDrainingListener
from getty_tx.processes.drain import SILENCE, Drain, isAtRest
from getty_tx.testing import connectedPeer, connectedSessions
from tests.support.memory import SessionCase, configure, frame
from tests.support.websocket import WebSocketCase
from tests.support.websocket import frame as messageFrame

if TYPE_CHECKING:
    from twisted.internet.task import Clock


class RestTests(SessionCase):
    """isAtRest."""

    def test_rest(self) -> None:
        """An idle session is at rest, a closing or closed one is not."""
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
        """A session with a part of a package is not at rest, until the remaining bytes have come."""
        session = self.open().server
        self.pair.peer.write(frame(b"hello")[:-1])
        self.pair.flush()
        self.assertFalse(isAtRest(session))
        self.pair.peer.write(b"o")
        self.pair.flush()
        self.assertTrue(isAtRest(session))

    def test_paused(self) -> None:
        """A paused session with buffered packages is not at rest."""
        session = self.open().server
        session.pauseReading()
        session.inbound.receive(frame(b"hello"))
        self.assertFalse(isAtRest(session))
        session.resumeReading()
        self.assertTrue(isAtRest(session))

    def test_pending(self) -> None:
        """A session with pending bytes is not at rest."""
        session = self.open(network={"capacity": 1000}).server
        session.writePkg(bytes(5000))
        self.assertFalse(isAtRest(session))
        self.pair.flush()
        self.assertTrue(isAtRest(session))

    def test_awaiting(self) -> None:
        """A session is not at rest in a callback, and not while an asynchronous callback runs."""
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
    """isAtRest, for WebSocket sessions."""

    def test_fragment(self) -> None:
        """A session with a fragment of a message is not at rest."""
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
        """Start draining."""
        return Drain([self.context], self.clock).run(timeout)

    def advance(self, seconds: float) -> None:
        """Advance the clock in steps."""
        for _ in range(round(seconds * 100)):
            self.pair.advance(0.01)

    def test_told(self) -> None:
        """Who wants to know is told once, at the beginning; one that fails keeps nothing from the others."""
        told: list[bool] = []
        self.context.onDrain += [lambda: 1 // 0, lambda: told.append(self.session.isClosed)]
        done = self.drain(10)
        self.assertEqual([False], told)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.advance(SILENCE + 0.1)
        self.successResultOf(done)
        self.assertEqual([False], told)

    def test_silence(self) -> None:
        """A session that has just received bytes is closed after SILENCE without more."""
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
        """A session that is never silent is closed when it is at rest in the second half of the time."""
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
        """A session that does not come to rest stays open, and draining ends after the timeout."""
        self.pair.peer.write(frame(b"hello")[:-1])
        self.pair.flush()
        done = self.drain(1)
        self.advance(0.9)
        self.assertNoResult(done)
        self.advance(0.2)
        self.successResultOf(done)
        self.assertFalse(self.session.isClosed)

    def test_calls(self) -> None:
        """A peer of calls is asked for no new ones, and its session closes when the method has returned."""
        gate: Deferred[str] = Deferred()

        class Slow:
            @rpc.method
            def wait(self) -> Any:
                return gate

        wire = rpc.TTHeader()
        peers: list[rpc.Peer] = []
        pair = connectedSessions(
            lambda session: rpc.Peer(session, wire, {"Slow": Slow()}),
            lambda session: peers.append(rpc.Peer(session, wire)),
        )
        outcome = peers[0].call("Slow", "wait", timeout=60)
        pair.flush()
        done = Drain([pair.server.context], pair.clock).run(20)
        # Also in the second half of the time.
        pair.advance(15)
        self.assertTrue(peers[0].isLeaving)
        self.assertFalse(pair.server.isClosed)
        self.assertNoResult(done)
        gate.callback("done")
        pair.advance(1)
        self.assertEqual("done", self.successResultOf(outcome))
        self.assertTrue(pair.server.isClosed)
        self.successResultOf(done)

    def test_failing(self) -> None:
        """A listener that cannot end its session loses it, and the others end."""

        @implementer(IDrainingListener)
        class Broken(EventListener):
            def drain(self) -> None:
                raise ZeroDivisionError

        def newSession(session: Any) -> None:
            session.codec, session.listener = LineCodec(), Broken()

        pair = connectedSessions(newSession, configure(EventListener(), LineCodec()))
        done = Drain([pair.server.context], pair.clock).run(20)
        pair.advance(1)
        self.assertTrue(pair.server.isClosed)
        self.successResultOf(done)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_nothing(self) -> None:
        """Without sessions draining ends at once."""
        self.session.abort()
        self.pair.flush()
        self.successResultOf(self.drain(10))
        self.successResultOf(Drain([], self.clock).run(10))
