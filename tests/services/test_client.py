"""Client with a fake network and a clock."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.logger import LogLevel
from zope.interface.verify import verifyObject

from getty_tx.client import Client
from getty_tx.errors import NoSessionError, NotReadyError, SelfConnectError, SessionRefusedError, SettingError
from tests.transports.test_reconnecting import HERE, THERE, PoolCase, Transport


class ReplacingTests(PoolCase):
    """Which lost sessions are replaced, and when."""

    def test_service(self) -> None:
        """It is an IService, and connects for each slot at once when it starts, not before."""
        client = Client(self.newSession, self.endpoint, 3, reactor=self.clock)
        verifyObject(IService, client)
        self.assertEqual(self.endpoint.dials, [])
        client.startService()
        client.startService()
        self.assertEqual(len(self.endpoint.dials), 3)
        dials = self.endpoint.answer()
        self.assertEqual([each.transport.protocol.protocol.session for each in dials], client.sessions)
        self.assertIs(client.sessions[0].service, client)
        self.assertEqual(repr(client), "<Client fake:8090: 3 of 3 sessions>")
        self.finish(client)

    def test_lost(self) -> None:
        """A lost session is replaced once, after an end of stream and after an error."""
        client = self.opened(2)
        for error in (ConnectionDone(), ConnectionLost()):
            self.endpoint.dials[-1].transport.lose(error)
            self.assertEqual(len(client.sessions), 1)
            self.assertEqual(self.endpoint.pending, [])
            self.assertTrue(0.2 < self.wait() < 1)
            self.clock.pump([1, 1])
            self.assertEqual(len(self.endpoint.pending), 1)
            self.endpoint.answer()
            self.assertEqual(len(client.sessions), 2)
        self.assertEqual(len(self.endpoint.dials), 4)

    def test_failed(self) -> None:
        """A session that failed on this side, for instance in its listener, is replaced; lastError has the reason."""
        client = self.opened()
        reason = ValueError("not this one")
        client.pick().close(reason)
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.assertIs(client.lastError, reason)
        self.wait()

    def test_replace(self) -> None:
        """A session that is about to end has a successor at once; the pool neither picks nor counts it any more."""
        client = self.opened(2)
        first, second = client.sessions
        self.clock.advance(1)
        client.replace(first)
        self.assertEqual([second], client.sessions)
        client.replace(first)
        self.assertEqual(1, len(self.endpoint.pending))
        self.endpoint.answer()
        third = client.sessions[0]
        self.assertEqual([third, second], client.sessions)
        self.assertFalse(first.isClosed)
        self.endpoint.dials[0].transport.lose(ConnectionLost())
        self.assertEqual([first], self.closed)
        self.clock.pump([1] * 10)
        self.assertEqual(3, len(self.endpoint.dials))
        # Closing the client closes one that is about to end, too.
        client.replace(second)
        self.endpoint.answer()
        self.finish(client)
        self.assertTrue(second.isClosed)
        client.replace(second)

    def test_replaceSoon(self) -> None:
        """Those that are about to end as soon as they are open are replaced as slowly as failed attempts."""
        client = self.opened()
        waits = []
        for _ in range(8):
            client.replace(client.pick())
            self.assertEqual([], self.endpoint.pending)
            waits.append(self.wait())
            self.endpoint.answer()
        self.assertTrue(waits[-1] > 1.5, waits)
        # One that has lasted begins anew.
        self.clock.advance(1)
        client.replace(client.pick())
        self.endpoint.answer()
        client.replace(client.pick())
        self.assertTrue(self.wait() < 1)

    def test_ownClose(self) -> None:
        """A session that closes or aborts itself is not replaced, and whenReady fails."""
        client = self.opened(2)
        client.sessions[0].close()
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.assertEqual(len(client.sessions), 1)
        client.sessions[0].abort()
        waiting = client.whenReady()
        self.clock.pump([1] * 10)
        self.assertEqual((len(self.endpoint.dials), len(self.closed)), (2, 2))
        text = str(self.failureResultOf(waiting, NotReadyError).value)
        self.assertIn("of 2 places 2 closed by their own sessions", text)

    def test_maxLifetime(self) -> None:
        """A session that reaches maxLifetime is replaced, because nobody has closed it; that is no error."""
        client = self.opened()
        first = client.pick()
        first.maxLifetime = 5.0
        self.clock.pump([0.1] * 52)
        self.assertTrue(first.isClosed)
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.assertEqual(self.closed, [first])
        self.assertIsNone(client.lastError)
        self.wait()
        self.endpoint.answer()
        self.assertIsNot(client.pick(), first)

    def test_slowOnClose(self) -> None:
        """A slow onClose does not delay the replacement, but delays the end of close()."""
        client = self.opened()
        done: Deferred[None] = Deferred()
        self.listener.onClose = lambda session: done
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.wait()
        closing = client.close()
        self.assertNoResult(closing)
        done.callback(None)
        self.successResultOf(closing)

    def test_backOff(self) -> None:
        """Waits double with some variation up to the limit, and start again after a session."""
        self.pool()
        for expected in (0.3, 0.6, 1.2, 2.4, 2.5, 2.5, 2.5):
            self.endpoint.pending[0].deferred.errback(ConnectionRefusedError())
            wait = self.wait()
            self.assertTrue(0.8 * expected <= wait <= min(1.2 * expected, 3) + 0.011, f"{wait} for {expected}")
        self.endpoint.answer()
        self.endpoint.dials[-1].transport.protocol.dataReceived(b"hello\n")
        self.endpoint.dials[-1].transport.lose(ConnectionDone())
        self.assertLess(self.wait(), 0.38)

    def test_variation(self) -> None:
        """Waits differ: sessions that were lost together are not replaced all at once."""
        self.opened(20)
        for dial in self.endpoint.dials[:]:
            dial.transport.lose(ConnectionDone())
        self.assertEqual(len({call.getTime() for call in self.clock.getDelayedCalls()}), 20)

    def test_quickDeath(self) -> None:
        """A server that accepts and closes at once causes no busy loop: the waits grow."""
        self.pool(reconnectAttempts=2)
        waits = []
        for _ in range(8):
            self.endpoint.answer()[0].transport.lose(ConnectionDone())
            waits.append(self.wait())
        self.assertGreater(min(waits), 0.23)
        self.assertGreater(waits[-1], 1.6)
        self.assertEqual(len([line for line in self.lines if line[0] is LogLevel.warn]), 1)

    def test_counting(self) -> None:
        """After reconnectAttempts without success a session is given up at once. Success resets the count."""
        client = self.pool(reconnectAttempts=3)
        waiting = client.whenReady()
        for _ in range(2):
            self.endpoint.pending[0].deferred.errback(ConnectionRefusedError())
            self.wait()
        self.endpoint.answer()
        self.successResultOf(waiting)
        self.endpoint.dials[-1].transport.lose(ConnectionDone())
        waiting = client.whenReady()
        for i in range(3):
            self.assertNoResult(waiting)
            self.wait()
            self.assertEqual(len(self.endpoint.dials), 4 + i)
            self.endpoint.pending[0].deferred.errback(ConnectionRefusedError())
        error = self.failureResultOf(waiting, NotReadyError).value
        self.assertIn("fake:8090: 1 sessions cannot be reached, of 1 places 1 given up", str(error))
        self.assertIs(error.__cause__, client.lastError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([line for line in self.lines if line[0] is LogLevel.error], self.lines[-1:])
        self.assertIn("gave up on fake:8090 after 3 failed attempts: Connection was refused", self.lines[-1][1])
        self.failureResultOf(client.whenReady(), NotReadyError)

    def test_oneAttempt(self) -> None:
        """With reconnectAttempts=1 the first failure ends the attempts."""
        client = self.pool(reconnectAttempts=1)
        self.endpoint.pending[0].deferred.errback(ConnectionRefusedError())
        self.failureResultOf(client.whenReady(), NotReadyError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noSession(self) -> None:
        """A connection without a session is a failed attempt: to itself, or refused by newSession or onOpen."""
        client = self.pool(reconnectAttempts=3)
        self.endpoint.pending[0].succeed(local=THERE)
        self.wait()
        self.assertIsInstance(client.lastError, SelfConnectError)
        self.listener.onOpen = lambda session: 1 / 0
        self.endpoint.answer()
        self.clock.advance(0)
        self.endpoint.dials[-1].transport.lose(ConnectionDone())
        self.wait()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(client.lastError, ZeroDivisionError)
        self.assertEqual(client.sessions, [])
        self.endpoint.pending[0].deferred.errback(ConnectionRefusedError())
        self.failureResultOf(client.whenReady(), NotReadyError)

    def test_refused(self) -> None:
        """The exception of newSession is the last error."""
        self.newSession = lambda session: 1 / 0
        client = self.pool()
        self.endpoint.answer()
        self.clock.advance(0)
        self.assertIsInstance(client.lastError, SessionRefusedError)
        self.wait()

    def test_connectTimeout(self) -> None:
        """An attempt takes no longer than connectTimeout, whatever the endpoint's own timeout."""
        client = self.pool(connectTimeout=2)
        self.clock.advance(2)
        self.assertTrue(self.endpoint.dials[0].cancelled)
        self.assertIsInstance(client.lastError, TimeoutError)
        self.assertIn("not connected in connectTimeout=2 s", str(client.lastError))
        self.wait()

    def test_log(self) -> None:
        """A line for each new reason and for the success, none for each attempt."""
        self.endpoint.refusing = True
        self.pool(4, connectTimeout=60)
        self.clock.pump([0.1] * 100)
        self.endpoint.refusing = False
        self.clock.pump([0.1] * 30)
        self.endpoint.pending[0].deferred.errback(ValueError("new"))
        self.clock.pump([0.1] * 30)
        self.endpoint.answer()
        self.assertEqual(
            self.lines,
            [
                (LogLevel.warn, f"no session with fake:8090: {ConnectionRefusedError()}"),
                (LogLevel.warn, "no session with fake:8090: new"),
                (LogLevel.info, "session with fake:8090 is open"),
            ],
        )


class ReadyTests(PoolCase):
    """whenReady and pick."""

    def test_ready(self) -> None:
        """It fires with the sessions when there are n of them; it may be called before the start."""
        client = Client(self.newSession, self.endpoint, 3, reactor=self.clock)
        early = client.whenReady(2, timeout=1)
        self.clock.advance(5)
        client.startService()
        whole = client.whenReady(3)
        self.endpoint.dials[0].succeed()
        self.assertNoResult(early)
        self.endpoint.dials[2].succeed()
        self.assertEqual(self.successResultOf(early), client.sessions)
        self.assertNoResult(whole)
        self.endpoint.dials[1].succeed()
        self.assertEqual(len(self.successResultOf(whole)), 3)
        self.assertEqual(self.successResultOf(client.whenReady(3)), client.sessions)
        self.finish(client)

    def test_timeout(self) -> None:
        """On timeout the error says what is missing and why, and has the last failure as its cause."""
        client = self.pool(2, connectTimeout=60)
        self.endpoint.dials[0].succeed()
        self.endpoint.dials[1].deferred.errback(ConnectionRefusedError())
        waiting = client.whenReady(2, timeout=0.1)
        self.clock.advance(0.1)
        error = self.failureResultOf(waiting, NotReadyError).value
        expected = f"fake:8090: 1 of 2 sessions are open after timeout=0.1 s; the last failure was: {client.lastError}"
        self.assertEqual((str(error), error.__cause__), (expected, client.lastError))

    def test_cancel(self) -> None:
        """Cancelling one leaves nothing behind and does not affect others."""
        client = Client(self.newSession, self.endpoint, reactor=self.clock)
        first, second = client.whenReady(timeout=9), client.whenReady()
        client.startService()
        third = client.whenReady(timeout=9)
        calls = len(self.clock.getDelayedCalls())
        for waiting in (first, third):
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(self.clock.getDelayedCalls()), calls - 2)
        self.endpoint.answer()
        self.successResultOf(second)
        self.finish(client)

    def test_reentrant(self) -> None:
        """A callback of whenReady may close the client; the other Deferreds fail."""
        client = self.pool()
        ended: list[Deferred[None]] = []
        client.whenReady().addCallback(lambda _: ended.append(client.close()))
        other = client.whenReady()
        self.endpoint.answer()
        self.failureResultOf(other, NotReadyError)
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.successResultOf(ended[0])

    def test_settings(self) -> None:
        """Settings are checked when they are set, and the error names them."""
        client = Client(self.newSession, self.endpoint, 2, reactor=self.clock)
        for call, name in (
            (lambda: client.whenReady(3), "n=3"),
            (lambda: client.whenReady(0), "n=0"),
            (lambda: client.whenReady(timeout=0), "timeout=0"),
            (lambda: client.pick("first"), "by='first'"),
            (lambda: setattr(client, "pickBy", "first"), "pickBy='first'"),
            (lambda: Client(self.newSession, self.endpoint, 0), "number=0"),
            (lambda: Client(self.newSession, self.endpoint, connectTimeout=0), "connectTimeout=0"),
            (lambda: Client(self.newSession, self.endpoint, reconnectInterval=-1), "reconnectInterval=-1"),
            (lambda: Client(self.newSession, self.endpoint, reconnectAttempts=0), "reconnectAttempts=0"),
            (lambda: Client(self.newSession, "tpc:a:1"), "'tpc:a:1'"),
            (lambda: Client(self.newSession, 8090), "endpoint 8090"),
            (lambda: Client(None, self.endpoint), "newSession=None"),
        ):
            self.assertIn(name, str(self.assertRaises(SettingError, call)))
        client.startService()
        client.reconnectAttempts, client.connectTimeout = 1, 60
        self.clock.advance(59)
        self.assertEqual(client.lastError.__class__, TimeoutError)
        self.finish(client)

    def test_pick(self) -> None:
        """In turn, at random, or with the fewest pending bytes; closed sessions are not chosen."""
        client = self.opened(3)
        a, b, c = client.sessions
        self.assertEqual([client.pick() for _ in range(4)], [a, b, c, a])
        self.endpoint.dials[1].transport.lose(ConnectionDone())
        self.assertEqual([client.pick() for _ in range(3)], [c, a, c])
        self.assertEqual({client.pick("random") for _ in range(99)}, {a, c})
        self.assertEqual({client.pick("leastPending") for _ in range(2)}, {a, c})
        for session, dial in ((a, 0), (c, 2)):
            session.writeBytes(b"out")
            self.endpoint.dials[dial].transport.producer.pauseProducing()
        a.writeBytes(b"waits")
        client.pickBy = "leastPending"
        self.assertEqual([client.pick() for _ in range(3)], [c, c, c])
        c.writeBytes(b"waits too")
        self.assertIs(client.pick(), a)
        self.endpoint.refusing = True
        for dial in self.endpoint.dials[::2]:
            dial.transport.lose(ConnectionDone())
        for by in ("roundRobin", "random", "leastPending"):
            self.assertIn("none of 3 sessions is open", str(self.assertRaises(NoSessionError, client.pick, by)))


class ClosingTests(PoolCase):
    """close() at every moment; PoolCase.finish checks that nothing is left."""

    def test_dialing(self) -> None:
        """Pending attempts are cancelled. If one still succeeds, its connection is dropped, and opens no session."""
        client = self.pool(2)
        waiting = client.whenReady()
        self.successResultOf(client.close())
        self.assertIn("the client was closed", str(self.failureResultOf(waiting, NotReadyError).value))
        self.assertIn("the client is closed", str(self.failureResultOf(client.whenReady(), NotReadyError).value))
        self.assertTrue(all(dial.cancelled for dial in self.endpoint.dials))
        self.assertTrue(self.endpoint.dials[0].succeed().transport.disconnected)
        self.assertEqual(self.closed, [])

    def test_betweenBuildingAndConnecting(self) -> None:
        """Between buildProtocol and makeConnection."""
        client = self.pool()
        protocol = self.endpoint.dials[0].factory.buildProtocol(THERE)
        client.close()
        transport = Transport(self.clock, HERE)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.assertTrue(transport.disconnected)
        self.clock.advance(0)

    def test_waiting(self) -> None:
        """During the wait for another attempt."""
        client = self.pool()
        self.endpoint.dials[0].deferred.errback(ConnectionRefusedError())
        self.successResultOf(client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_sessions(self) -> None:
        """Sessions are closed; each call of close() fires when the last onClose has returned."""
        client = self.opened(2)
        first, second = client.close(), client.stopService()
        self.assertEqual(client.sessions, [])
        self.endpoint.dials[0].transport.lose(ConnectionDone())
        self.assertNoResult(first)
        self.endpoint.dials[1].transport.lose(ConnectionDone())
        for deferred in (first, second, client.close()):
            self.successResultOf(deferred)
        self.assertEqual(len(self.closed), 2)
        self.assertFalse(client.running)

    def test_fromNewSession(self) -> None:
        """newSession may close the client: its session is not opened."""
        ended: list[Deferred[None]] = []
        opened: list[object] = []
        self.listener.onOpen = opened.append
        client = self.pool()
        configure, client.newSession = client.newSession, lambda session: ended.append(client.close())
        self.endpoint.answer()
        client.newSession = configure
        self.clock.advance(0)
        self.successResultOf(ended[0])
        self.assertEqual(opened, [])

    def test_fromOnOpen(self) -> None:
        """onOpen may close the client, too."""
        self.listener.onOpen = lambda session: session.service.close() and None
        client = self.pool()
        waiting = client.whenReady()
        self.endpoint.answer()
        self.failureResultOf(waiting, NotReadyError)
        self.assertTrue(self.endpoint.dials[0].transport.disconnecting)

    def test_again(self) -> None:
        """It may be started again, also while old sessions are closing; close() waits for both."""
        client = self.opened()
        self.endpoint.dials[0].transport.lose(ConnectionLost())
        self.wait()
        self.endpoint.answer()
        client.close()
        client.startService()
        self.assertIsNone(client.lastError)
        self.endpoint.answer()
        self.assertEqual(len(client.sessions), 1)
        closing = client.close()
        self.endpoint.dials[2].transport.lose(ConnectionDone())
        self.assertNoResult(closing)
        self.endpoint.dials[1].transport.lose(ConnectionDone())
        self.successResultOf(closing)
