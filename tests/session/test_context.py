"""What sessions share: counting, refusing, closing all, and calls from threads."""

from __future__ import annotations

from threading import Thread
from typing import Any

from twisted.internet.address import IPv4Address

from getty_tx.session.context import ServiceContext
from getty_tx.testing import MemoryReactor, Network, Peer, RecordingListener
from tests.support.memory import SessionCase, configure, frame


class KeeperTests(SessionCase):
    """A factory with several connections."""

    def openMany(self, count: int, autoClose: bool = True, **settings: Any) -> list[Any]:
        self.heard = RecordingListener()
        self.network = Network()
        self.factory = self.network.serverFactory(configure(self.heard, **settings))
        pairs = [self.network.join(self.factory.buildProtocol(None), Peer(autoClose)) for _ in range(count)]
        self.pair = pairs[0]
        return pairs

    def test_counts(self) -> None:
        """connections and sessions are those that are there."""
        pairs = self.openMany(3)
        context = self.factory.context
        self.assertEqual((context.connections, len(context.sessions)), (3, 3))
        self.assertIs(self.factory.sessions, context.sessions)
        pairs[1].server.close()
        pairs[1].flush()
        self.assertEqual((context.connections, context.sessions), (2, {pairs[0].server, pairs[2].server}))
        pairs[0].reset()
        pairs[2].server.abort()
        pairs[0].flush()
        self.assertEnded()

    def test_maxSessions(self) -> None:
        """Connections over maxSessions are refused and counted; one that goes makes room."""
        pairs = self.openMany(2)
        self.factory.maxSessions = 2
        over = self.network.join(self.factory.buildProtocol(None), Peer())
        over.flush()
        self.assertIsNot(over.peer.lost, None)
        self.assertEqual((self.factory.context.refused, self.factory.context.connections), (1, 2))
        pairs[0].server.close()
        pairs[0].flush()
        again = self.network.join(self.factory.buildProtocol(None), Peer())
        again.flush()
        self.assertFalse(again.server.isClosed)
        self.assertEqual((self.factory.context.refused, self.factory.context.connections), (1, 2))
        self.assertEqual(self.heard.names, ["open", "open", "close", "open"])

    def test_closeAll(self) -> None:
        """Every session flushes and closes; the Deferred fires when the last onClose is done."""
        pairs = self.openMany(3, autoClose=False)
        for pair in pairs:
            pair.server.writePkg(b"bye")
        closed = self.factory.context.closeAll()
        pairs[0].flush()
        self.assertEqual([bytes(pair.peer.data) for pair in pairs], [frame(b"bye")] * 3)
        for pair in pairs:
            self.assertNoResult(closed)
            pair.peer.end()
            pair.flush()
        self.successResultOf(closed)
        self.assertEqual(self.heard.names.count("close"), 3)
        self.assertEnded()

    def test_closeAllTakesNoLongerThanWaitTime(self) -> None:
        """Peers that do not end are cut off."""
        self.openMany(2, autoClose=False, waitTime=1.0)
        closed = self.factory.context.closeAll()
        self.pair.advance(0.9)
        self.assertNoResult(closed)
        self.pair.advance(0.3)
        self.successResultOf(closed)
        self.assertEnded()

    def test_closeAllWithNothing(self) -> None:
        """Where there is no connection it fires at once, for everybody who waits."""
        context = ServiceContext(None, lambda session: None, reactor=MemoryReactor())
        self.successResultOf(context.closeAll())
        self.successResultOf(context.whenIdle())

    def test_handshaking(self) -> None:
        """A connection in its handshake counts, and closeAll drops it."""
        pair = self.openMany(1)[0]
        context = self.factory.context

        class Shaking:
            aborted = False

            def abort(self) -> None:
                self.aborted = True

        shaking = Shaking()
        context.handshaking.add(shaking)
        context.connections += 1
        closed = context.closeAll()
        pair.flush()
        self.assertTrue(shaking.aborted)
        self.assertNoResult(closed)
        context.handshaking.discard(shaking)
        context.connections -= 1
        context.checkIdle()
        self.successResultOf(closed)

    def test_sharedAddresses(self) -> None:
        """Equal addresses are one object, and not without bound."""
        context = ServiceContext(None, lambda session: None, reactor=MemoryReactor())
        first = context.sharedAddress(IPv4Address("TCP", "192.0.2.1", 80))
        self.assertIs(context.sharedAddress(IPv4Address("TCP", "192.0.2.1", 80)), first)
        for port in range(500):
            self.assertEqual(context.sharedAddress(IPv4Address("TCP", "192.0.2.1", port)).port, port)  # type: ignore[attr-defined]  # IPv4Address
        self.assertLessEqual(len(context._addresses), 64)

    def test_service(self) -> None:
        """session.service is who the factory was told, or the factory."""
        self.assertIs(self.openMany(1)[0].server.service, self.factory)
        network = Network()
        factory = network.serverFactory(configure(), service="me")
        self.assertEqual(network.join(factory.buildProtocol(None), Peer()).server.service, "me")


class ThreadTests(SessionCase):
    """Calls from other threads."""

    def test_oneWakeUp(self) -> None:
        """Many calls, one wake-up of the reactor, in the order of the calls."""
        reactor = MemoryReactor()
        context = ServiceContext(None, lambda session: None, reactor=reactor)
        called: list[int] = []

        def work() -> None:
            for i in range(100):
                context.threads.call(called.append, i)

        for _ in range(2):
            thread = Thread(target=work)
            thread.start()
            thread.join()
            self.assertEqual(called, [])
            reactor.settle()
            self.assertEqual(called, list(range(100)))
            called.clear()
        self.assertEqual(reactor.wakeUps, 2)

    def test_exception(self) -> None:
        """A call that fails is logged and hurts no other."""
        reactor = MemoryReactor()
        context = ServiceContext(None, lambda session: None, reactor=reactor)
        called: list[int] = []
        context.threads.call(lambda: 1 / 0)
        context.threads.call(called.append, 1)
        reactor.settle()
        self.assertEqual(called, [1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_callFromACall(self) -> None:
        """What a call asks for in its turn comes in the next turn."""
        reactor = MemoryReactor()
        context = ServiceContext(None, lambda session: None, reactor=reactor)
        called: list[str] = []
        context.threads.call(lambda: context.threads.call(called.append, "later"))
        reactor.turn()
        self.assertEqual(called, [])
        reactor.turn()
        self.assertEqual(called, ["later"])

    def test_waiting(self) -> None:
        """Bytes that wait for the reactor are counted by session, until it has them."""
        reactor = MemoryReactor()
        context = ServiceContext(None, lambda session: None, reactor=reactor)
        one, other = self.open().server, self.open().server
        for length in (5, 7):
            context.threads.call(lambda: None, session=one, length=length)
        self.assertEqual((context.threads.bytesFor(one), context.threads.bytesFor(other)), (12, 0))
        reactor.settle()
        self.assertEqual(context.threads.bytesFor(one), 0)
