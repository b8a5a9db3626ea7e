"""Peers: limits, lost sessions, hostile other ends, pings, going away, and worker threads."""

from __future__ import annotations

from threading import get_ident
from types import SimpleNamespace
from typing import Any

from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.errors import SessionBlockedError, SettingError
from getty_tx.rpc.messages import Cancel, ErrorReply, GoingAway, Ping, Pong, Reply, Request
from getty_tx.session.lifecycle import CLOSING
from tests.support.rpc import Foreign, Outcome
from tests.support.shop import Case, Shop, ThreadSaver


class LimitTests(Case):
    """maxCalls, maxCallsPerSession, and what a session takes."""

    def test_maxCalls(self) -> None:
        both = self.both(server={"maxCalls": 2})
        first = [both.call("Shop/another", number) for number in range(2)]
        error = self.error(both.call("Shop/say"), rpc.CallRefusedError)
        self.assertTrue(error.retryable)
        self.assertEqual((both.serverContext.running, both.serverContext.refused), (2, 1))
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual(first[0].only, 0)
        self.assertEqual(both.result("Shop/say", "x"), "x")

    def test_maxCallsPerSession(self) -> None:
        both = self.both(server={"maxCallsPerSession": 3})
        outcomes = [Outcome(both.client.call("Shop", "another", number)) for number in range(10)]
        both.pair.flush()
        self.assertEqual(len(self.shop.waiting), 3)
        self.assertTrue(both.pair.server.inbound.paused)
        for _ in range(4):
            for waiting in list(self.shop.waiting):
                if not waiting.called:
                    waiting.callback(None)
            both.pair.flush()
            self.assertLessEqual(both.server.incoming.count, 3)
        self.assertEqual([outcome.only for outcome in outcomes], list(range(10)))
        self.assertFalse(both.pair.server.inbound.paused)

    def test_heldSessionIsNoDeadOne(self) -> None:
        both = self.both(server={"maxCallsPerSession": 1})
        both.result("Shop/say")
        outcome = both.call("Shop/another", "x", timeout=None)
        both.clock.advance(100)
        self.assertFalse(both.pair.client.isClosed)
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual(outcome.only, "x")

    def test_blockedSession(self) -> None:
        both = self.both(capacity=1000)
        both.result("Shop/say")
        both.pair.client.maxPending = 3100
        both.pair.server.pauseReading()
        outcomes = [Outcome(both.client.call("Shop", "say", "x" * 3000, timeout=1.0)) for _ in range(3)]
        blocked = self.error(outcomes[2], rpc.CallRefusedError)
        self.assertFalse(blocked.sent)
        self.assertIsInstance(blocked.__cause__, SessionBlockedError)
        # There is no room for the notices that these calls are cancelled; they end all the same.
        outcomes[0].results.clear()
        both.client.pending[2].cancel()
        self.error(outcomes[0], rpc.CallCancelledError)
        both.clock.advance(2)
        self.error(outcomes[1], rpc.CallTimeoutError)
        both.client.goAway()

    def test_replyToAPeerThatDoesNotRead(self) -> None:
        both = self.both(capacity=1000, server={"maxMsgLen": 100_000})
        outcomes = [both.call("Shop/another", "x" * 900, timeout=None) for _ in range(3)]
        both.pair.server.maxPending = 1000
        both.pair.client.pauseReading()
        both.pair.flush()
        for waiting in self.shop.waiting:
            waiting.callback(None)
        both.pair.flush()
        self.assertIsInstance(both.pair.server.error, SessionBlockedError)
        both.pair.client.resumeReading()
        both.clock.advance(10)
        self.assertTrue(all(len(outcome.results) == 1 for outcome in outcomes))

    def test_settings(self) -> None:
        wire = rpc.TTHeader()
        for options in ({"maxCalls": 0}, {"timeout": "x"}, {"other": 1}, {"pingTimeout": None}, {"handlers": {}}):
            self.assertRaises(SettingError, rpc.CallContext, wire, None, **options)
        session: Any = SimpleNamespace()
        self.assertRaises(SettingError, rpc.Peer, session, rpc.CallContext(wire), {"Shop": self.shop})


class LossTests(Case):
    """The session ends."""

    def test_pendingCalls(self) -> None:
        both = self.both()
        outcomes = [both.call("Shop/another", number) for number in range(5)]
        again: list[Outcome] = []
        both.client.call("Shop", "wait").addErrback(
            lambda _: again.append(Outcome(both.client.call("Shop", "say", "again")))
        )
        both.pair.flush()
        both.pair.reset()
        both.pair.flush()
        for outcome in outcomes:
            error = self.error(outcome, rpc.CallLostError)
            self.assertTrue(error.sent)
            self.assertIs(error.__cause__, both.pair.client.error)
        error = self.error(again[0], rpc.CallLostError)
        self.assertFalse(error.sent)
        self.assertEqual(self.shop.log, ["cancelled"] * 6)
        self.assertEqual(both.leftovers(), [])

    def test_closedSession(self) -> None:
        both = self.both()
        both.pair.client.close()
        error = self.error(both.call("Shop/say"), rpc.CallLostError)
        self.assertFalse(error.sent)
        self.assertTrue(error.retryable)
        both.client.goAway()

    def test_oneCancelsAnother(self) -> None:
        both = self.both()
        calls = [both.client.call("Shop", "wait") for _ in range(3)]
        both.pair.flush()
        calls[0].addErrback(lambda _: calls[2].cancel())
        outcomes = [Outcome(call) for call in calls]
        both.pair.reset()
        both.pair.flush()
        self.error(outcomes[1], rpc.CallLostError)
        self.error(outcomes[2], rpc.CallCancelledError)

    def test_handlerThatCloses(self) -> None:
        for how in ("close", "abort"):

            def end(how: str = how) -> str:
                getattr(rpc.currentCall().peer.session, how)()
                return "too late"

            self.shop.end = rpc.method(end)  # type: ignore[attr-defined]
            both = self.both()
            outcome = both.call("Shop/end")
            both.clock.advance(5)
            self.error(outcome, rpc.CallLostError)
            self.assertIsNone(both.pair.server.error)

    def test_methodEndsAfterTheSession(self) -> None:
        both = self.both(server={"maxCallsPerSession": 1})
        pool = ThreadSaver()
        both.serverContext.handlers["Shop/wait"].threads = True
        both.clock.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        outcome = both.call("Shop/wait")
        both.pair.reset()
        both.pair.flush()
        self.error(outcome, rpc.CallLostError)
        self.assertEqual((both.serverContext.running, both.server.incoming.count), (1, 1))
        pool.run()
        both.pair.flush()
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual((both.serverContext.running, both.server.incoming.count), (0, 0))

    def test_drainedAfterTheReply(self) -> None:
        """A peer that drains closes behind the reply to its last call."""
        both = self.both()
        outcome = both.call("Shop/another", "x")
        both.pair.flush()
        ended: list[Any] = []
        both.server.drain().addCallback(ended.append)
        both.pair.flush()
        both.clock.advance(1)
        self.assertEqual(ended, [])
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual(outcome.only, "x")
        self.assertEqual(ended, [None])


class ThreadTests(SynchronousTestCase):
    """threads=True."""

    def test_inAThread(self) -> None:
        seen: list[Any] = []

        class Slow:
            @rpc.method(threads=True)
            def run(self, text: str) -> str:
                seen.append((get_ident(), rpc.currentCall().name, rpc.currentCall().metadata))
                if text == "fail":
                    raise ZeroDivisionError
                return text

        foreign = Foreign(services={"Slow": Slow()})
        pool = ThreadPool(1, 1)
        foreign.clock.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        pool.start()
        try:
            foreign.say(
                Request(1, "Slow/run", b'["x"]', None, {"a": "b"}),
                Request(2, "Slow/run", b'["fail"]'),
                Request(3, "Slow/run", b'["dropped"]'),
                Cancel(3),
            )
            self.assertEqual(foreign.context.running, 3)
        finally:
            # It waits for its threads.
            pool.stop()
        one, two = foreign.heard()
        self.assertEqual((one.id, one.payload, two.id, two.code), (1, b'"x"', 2, "internal"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(seen[0][1:], ("Slow/run", {"a": "b"}))
        self.assertNotEqual(seen[0][0], get_ident())
        self.assertEqual((foreign.context.running, foreign.peer.incoming.count), (0, 0))

    def test_asyncDefIsRefused(self) -> None:
        async def run() -> None:
            pass

        self.assertRaises(SettingError, rpc.method(threads=True), run)

    def test_numberOfACancelledCallIsUsedAgain(self) -> None:
        class Slow:
            @rpc.method(threads=True)
            def run(self, text: str) -> str:
                return text

        foreign = Foreign(services={"Slow": Slow()})
        pool = ThreadSaver()
        foreign.clock.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        foreign.say(Request(1, "Slow/run", b'["a"]'), Cancel(1), Request(1, "Slow/run", b'["b"]'))
        pool.run()
        (reply,) = foreign.heard()
        self.assertEqual(reply.payload, b'"b"')
        self.assertEqual((foreign.context.running, foreign.peer.incoming.open), (0, {}))

    def test_placesOfCancelledCalls(self) -> None:
        class Slow:
            @rpc.method(threads=True)
            def run(self) -> None:
                pass

        foreign = Foreign(services={"Slow": Slow()}, maxCalls=5)
        pool = ThreadSaver()
        foreign.clock.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        for _ in range(20):
            foreign.say(Request(1, "Slow/run", b"[]"), Request(1, "Slow/run", b"[]"), Cancel(1))
        self.assertEqual((len(pool.calls), foreign.context.running), (5, 5))
        pool.run()
        foreign.pair.flush()
        self.assertEqual(foreign.context.running, 0)


class ForeignTests(SynchronousTestCase):
    """The other end says what it wants."""

    def setUp(self) -> None:
        self.shop = Shop()
        self.foreign = Foreign(services={"Shop": self.shop})

    def call(self, *arguments: Any, **options: Any) -> Outcome:
        outcome = Outcome(self.foreign.peer.call("Shop", "say", *arguments, **options))
        (self.request,) = self.foreign.heard()
        return outcome

    def test_lateDoubledAndUnknown(self) -> None:
        outcome = self.call("x")
        number = self.request.id
        self.foreign.say(Reply(number + 1, b"1"), ErrorReply(-7, "code", "text"), Reply(2**31 - 1, b"junk"))
        self.assertEqual(outcome.results, [])
        self.foreign.say(Reply(number, b'"one"'), Reply(number, b'"two"'), ErrorReply(number, "lost", "three"))
        self.assertEqual(outcome.only, "one")
        self.assertEqual(self.foreign.context.late, 5)
        late = self.call("y", timeout=0.5)
        self.foreign.clock.advance(1)
        self.foreign.say(Reply(self.request.id, b"1"))
        self.assertIsInstance(late.only, rpc.CallTimeoutError)
        self.assertEqual(self.foreign.context.late, 6)
        self.assertFalse(self.foreign.session.isClosed)

    def test_junkResult(self) -> None:
        outcome = self.call("x")
        self.foreign.say(Reply(self.request.id, b"["))
        self.assertIsInstance(outcome.only, rpc.PayloadError)
        self.assertFalse(self.foreign.session.isClosed)

    def test_junkArguments(self) -> None:
        for number, payload in enumerate((b"", b"{}", b"[" * 100_000, b"\xff"), 1):
            self.foreign.say(Request(number, "Shop/say", payload))
            (reply,) = self.foreign.heard()
            self.assertEqual((reply.id, reply.code), (number, "payload"))
        self.assertEqual(self.shop.log, [])

    def test_numberUsedTwice(self) -> None:
        self.foreign.say(Request(5, "Shop/another", b'["a"]'), Request(5, "Shop/another", b'["b"]'))
        (refused,) = self.foreign.heard()
        self.assertEqual((refused.id, refused.code), (5, "payload"))
        self.assertEqual(len(self.shop.waiting), 1)
        self.shop.waiting[0].callback(None)
        (reply,) = self.foreign.heard()
        self.assertEqual(reply.payload, b'"a"')
        # One after the other is nothing wrong.
        self.foreign.say(Request(5, "Shop/say", b'["c"]'))
        self.assertEqual(self.foreign.heard()[0].payload, b'"c"')

    def test_overBeforeItIsRun(self) -> None:
        self.foreign.context.maxCallsPerSession = 1
        # In one read, so that it is known when they came.
        self.foreign.say(
            Request(1, "Shop/wait", b"[]"),
            Request(2, "Shop/say", b'["late"]', 1.0),
            Request(3, "Shop/say", b'["early"]', 3.0),
        )
        self.foreign.clock.advance(2)
        self.assertEqual((self.shop.log, self.foreign.heard()), ([], []))
        self.shop.waiting[0].callback(None)
        _, late, early = self.foreign.heard()
        self.assertEqual((self.shop.log, late.code, early.payload), (["early"], "deadline", b'"early"'))

    def test_unknownCancel(self) -> None:
        self.foreign.say(Cancel(1), Cancel(0), Request(1, "Shop/say", b"[1]"), Cancel(1))
        self.assertEqual(self.foreign.heard()[0].payload, b"1")

    def test_ping(self) -> None:
        self.foreign.say(Ping(), Pong(), Ping())
        self.assertEqual([type(message) for message in self.foreign.heard()], [Pong, Pong])

    def test_junkCloses(self) -> None:
        outcome = self.call("x")
        self.foreign.pair.peer.write(b"GET / HTTP/1.1\r\n\r\n")
        self.foreign.pair.flush()
        # At once: no reply is taken any more, though the connection is not gone.
        self.assertIsInstance(outcome.only, rpc.CallLostError)
        self.assertIn("magic number", str(outcome.only))
        self.assertEqual(self.foreign.session.state, CLOSING)

    def test_leaving(self) -> None:
        outcome = self.call("x")
        self.foreign.say(GoingAway())
        self.assertTrue(self.foreign.peer.isLeaving)
        self.foreign.say(Reply(self.request.id, b"1"))
        self.assertEqual(outcome.only, 1)
        self.foreign.peer.goAway()
        self.assertEqual([type(message) for message in self.foreign.heard()], [GoingAway])
        self.foreign.say(Request(1, "Shop/say", b"[2]"))
        self.assertEqual(self.foreign.heard()[0].payload, b"2")


class PingTests(SynchronousTestCase):
    """Peers that are silent."""

    def make(self, announced: bool = True, **options: Any) -> Foreign:
        foreign = Foreign(services={"Shop": Shop()}, **options)
        if announced:
            foreign.say(Request(1, "Shop/say", b"[]"))
            foreign.heard()
        return foreign

    def test_silent(self) -> None:
        foreign = self.make()
        foreign.clock.advance(14.8)
        self.assertEqual(foreign.heard(), [])
        foreign.clock.advance(0.4)
        self.assertEqual([type(message) for message in foreign.heard()], [Ping])
        outcome = Outcome(foreign.peer.call("Shop", "say", timeout=None))
        foreign.clock.advance(5.2)
        self.assertTrue(foreign.session.isClosed)
        self.assertIn("pingTimeout=5", str(outcome.only))
        self.assertEqual(foreign.clock.getDelayedCalls(), [])

    def test_answered(self) -> None:
        for options in ({}, {"pingInterval": 1.0, "pingTimeout": 5.0}):
            foreign = self.make(**options)
            pings = 0
            for _ in range(1000):
                foreign.clock.advance(0.1)
                if foreign.heard():
                    pings += 1
                    foreign.say(Pong())
            self.assertFalse(foreign.session.isClosed, options)
            self.assertGreater(pings, 4)

    def test_notSilent(self) -> None:
        foreign = self.make(pingInterval=2.0)
        for number in range(20):
            foreign.clock.advance(1)
            foreign.say(Request(number + 1, "Shop/say", b"[]"))
        self.assertEqual({type(message) for message in foreign.heard()}, {Reply})

    def test_peerThatCannot(self) -> None:
        foreign = self.make(announced=False)
        foreign.clock.advance(100)
        self.assertEqual(foreign.heard(), [])
        self.assertFalse(foreign.session.isClosed)

    def test_never(self) -> None:
        foreign = self.make(pingInterval=None)
        foreign.clock.advance(100)
        self.assertEqual((foreign.heard(), foreign.session.isClosed), ([], False))

    def test_closing(self) -> None:
        foreign = self.make()
        foreign.clock.advance(14.9)
        foreign.session.close()
        foreign.clock.advance(1)
        self.assertEqual(foreign.heard(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_closingWhileAPingWaits(self) -> None:
        foreign = self.make(pingInterval=1.0, pingTimeout=0.5)
        foreign.clock.advance(1.2)
        self.assertEqual([type(message) for message in foreign.heard()], [Ping])
        foreign.session.close()
        foreign.clock.advance(2)
        self.assertIsNone(foreign.session.error)

    def test_suspect(self) -> None:
        foreign = self.make()
        foreign.clock.advance(1)
        outcome = Outcome(foreign.peer.call("Shop", "say", timeout=1.0))
        foreign.clock.advance(1.2)
        self.assertIsInstance(outcome.only, rpc.CallTimeoutError)
        self.assertTrue(foreign.peer.isSuspect)
        self.assertEqual(type(foreign.heard()[-1]), Ping)
        foreign.say(Pong())
        self.assertFalse(foreign.peer.isSuspect)
        foreign.clock.advance(10)
        self.assertFalse(foreign.session.isClosed)
        Outcome(foreign.peer.call("Shop", "say", timeout=1.0))
        foreign.clock.advance(1.2)
        self.assertTrue(foreign.peer.isSuspect)
        foreign.clock.advance(5.2)
        self.assertTrue(foreign.session.isClosed)

    def test_slowIsNotSuspect(self) -> None:
        foreign = self.make()
        outcome = Outcome(foreign.peer.call("Shop", "say", timeout=1.0))
        foreign.clock.advance(0.5)
        foreign.say(Pong())
        foreign.clock.advance(1)
        self.assertIsInstance(outcome.only, rpc.CallTimeoutError)
        self.assertFalse(foreign.peer.isSuspect)
