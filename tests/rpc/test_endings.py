"""Calls that end without a reply: cancelled, and out of time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from getty_tx import rpc
from tests.support.rpc import Both, Outcome
from tests.support.shop import Case


class CancelTests(Case):
    """The caller waits no longer."""

    def test_coroutineIsCancelled(self) -> None:
        both = self.both()
        both.result("Shop/say")
        waiting = both.client.call("Shop", "another", "x")
        both.pair.flush()
        waiting.cancel()
        self.failureResultOf(waiting, rpc.CallCancelledError)
        waiting.cancel()
        both.pair.flush()
        self.assertEqual(self.shop.log, ["nothing", "cancelled"])
        self.assertEqual((both.serverContext.running, both.clientContext.late), (0, 0))

    def test_noNoticeBeforeThePeerHasAnnouncedIt(self) -> None:
        both = self.both()
        waiting = both.client.call("Shop", "another", "x")
        both.pair.flush()
        waiting.cancel()
        both.pair.flush()
        self.failureResultOf(waiting, rpc.CallCancelledError)
        self.assertEqual(self.shop.log, [])
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual(both.clientContext.late, 1)

    def test_awaited(self) -> None:
        both = self.both()
        both.result("Shop/say")
        seen: list[Any] = []

        async def caller() -> None:
            try:
                await both.client.call("Shop", "wait")
            except rpc.CallCancelledError as error:
                seen.append(error)
                raise

        outer = Deferred.fromCoroutine(caller())
        both.pair.flush()
        outer.cancel()
        both.pair.flush()
        self.failureResultOf(outer, rpc.CallCancelledError)
        self.assertEqual(len(seen), 1)
        self.assertEqual(self.shop.log, ["nothing", "cancelled"])

    def test_cancelWhatACallbackReturned(self) -> None:
        both = self.both()
        inner: Deferred[Any] = Deferred()
        waiting = both.client.call("Shop", "say")
        waiting.addCallback(lambda _: inner)
        both.pair.flush()
        waiting.cancel()
        self.assertTrue(inner.called)
        self.failureResultOf(waiting)

    def test_coroutineThatSwallowsIt(self) -> None:
        more: Deferred[Any] = Deferred()
        shop = self.shop

        class Stubborn:
            @rpc.method
            async def run(self) -> str:
                try:
                    await shop.wait()
                except BaseException:
                    shop.log.append("swallowed")
                await more
                return "late"

        both = Both({"Shop": shop, "Stubborn": Stubborn()}, server={"maxCalls": 1})
        both.result("Shop/say")
        waiting = both.client.call("Stubborn", "run")
        both.pair.flush()
        waiting.cancel()
        self.failureResultOf(waiting)
        both.pair.flush()
        # It keeps its place until it ends.
        self.assertEqual(both.serverContext.running, 1)
        self.error(both.call("Shop/say"), rpc.CallRefusedError)
        more.callback(None)
        both.pair.flush()
        self.assertEqual((both.serverContext.running, both.clientContext.late), (0, 0))
        self.assertIn("swallowed", shop.log)
        self.finish(both)

    def test_failureAfterwardsIsLogged(self) -> None:
        def wait() -> Deferred[Any]:
            waiting: Deferred[Any] = Deferred()
            return waiting.addErrback(lambda _: 1 / 0)

        both = Both({"Shop": type("Any", (), {"wait": staticmethod(rpc.method(wait))})()})
        both.result("rpc/describe")
        waiting = both.client.call("Shop", "wait")
        both.pair.flush()
        waiting.cancel()
        self.failureResultOf(waiting)
        both.pair.flush()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.finish(both)

    def test_cancellerThatRaises(self) -> None:
        def broken(_: Any) -> None:
            raise ZeroDivisionError

        def wait() -> Deferred[Any]:
            waiting: Deferred[Any] = Deferred(broken)
            self.shop.waiting.append(waiting)
            return waiting

        both = Both({"Shop": type("Any", (), {"wait": staticmethod(rpc.method(wait))})()})
        outcomes = [both.call("Shop/wait") for _ in range(3)]
        both.pair.reset()
        both.pair.flush()
        for outcome in outcomes:
            self.error(outcome, rpc.CallLostError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        self.assertEqual(both.serverContext.running, 3)
        self.finish(both)


class DeadlineTests(Case):
    """Calls that are not answered in time."""

    def test_over(self) -> None:
        both = self.both(client={"timeout": 2.0})
        both.result("Shop/say")
        outcome = both.call("Shop/another", "x")
        both.clock.advance(1.9)
        self.assertEqual(outcome.results, [])
        both.clock.advance(0.3)
        error = self.error(outcome, rpc.CallTimeoutError)
        self.assertTrue(error.sent)
        self.assertEqual(both.clientContext.timeouts, 1)
        self.assertEqual(self.shop.log, ["nothing", "cancelled"])
        self.assertEqual(both.serverContext.running, 0)

    def test_noLimit(self) -> None:
        both = self.both()
        outcome = both.call("Shop/another", "x", timeout=None)
        both.clock.advance(1000)
        self.assertEqual(outcome.results, [])
        self.shop.waiting[0].callback(None)
        both.pair.flush()
        self.assertEqual(outcome.only, "x")

    def test_noTime(self) -> None:
        both = self.both()
        for timeout in (0, -1):
            error = self.error(both.call("Shop/say", timeout=timeout), rpc.CallTimeoutError)
            self.assertFalse(error.sent)
        self.assertEqual(self.shop.log, [])

    def test_replyAtTheSameMoment(self) -> None:
        both = self.both(delay=0.25)
        outcome = Outcome(both.client.call("Shop", "say", "x", timeout=0.5))
        both.clock.advance(1)
        self.assertEqual(len(outcome.results), 1)
        late = both.clientContext.late
        self.assertEqual((outcome.only == "x", late, both.clientContext.timeouts), (not late, late, late))

    def test_serversLimits(self) -> None:
        shop = self.shop

        class Limited:
            @rpc.method(timeout=0.5)
            async def wait(self) -> None:
                await shop.wait()

        both = Both({"Limited": Limited(), "Shop": shop}, server={"maxTimeout": 1.0})
        short, long = both.call("Limited/wait", timeout=None), both.call("Shop/wait", timeout=None)
        both.clock.advance(0.6)
        self.error(short, rpc.CallTimeoutError)
        self.assertEqual(long.results, [])
        both.clock.advance(0.6)
        self.error(long, rpc.CallTimeoutError)
        self.assertEqual(shop.log, ["cancelled", "cancelled"])
        self.assertAlmostEqual(both.result("Shop/about", timeout=30)[1], 1.0)
        self.finish(both)

    def test_inherited(self) -> None:
        both, seen = None, []

        class Relay:
            @rpc.method
            async def ask(self, timeout: Any, pause: float) -> Any:
                assert both is not None
                if pause:
                    waiting: Deferred[None] = Deferred()
                    both.clock.callLater(pause, waiting.callback, None)
                    await waiting
                options = {} if timeout == "default" else {"timeout": timeout}
                result = await rpc.currentCall().peer.call("Back", "about", **options)
                seen.append(rpc.currentCall().timeLeft())
                return result[1]

        both = Both({"Relay": Relay()}, {"Back": self.back}, server={"timeout": 9.0})
        for timeout, pause, call, expected in (
            ("default", 0, 2.0, 2.0),
            ("default", 0.5, 2.0, 1.5),
            (30, 0, 2.0, 2.0),
            (0.5, 0, 2.0, 0.5),
            (None, 0, 2.0, None),
            ("default", 0, None, 9.0),
            ("default", 0, 20.0, 9.0),
        ):
            outcome = both.call("Relay/ask", timeout, pause, timeout=call)
            both.clock.advance(1)
            self.assertEqual(outcome.only, expected, (timeout, pause, call))
        self.assertEqual(len(seen), 7)
        self.finish(both)

    def test_noneIsLeftToACallInACall(self) -> None:
        both: Any = None
        seen: list[Any] = []

        class Relay:
            @rpc.method
            async def ask(self) -> None:
                call = rpc.currentCall()
                waiting: Deferred[None] = Deferred(lambda _: waiting.callback(None))
                await waiting
                try:
                    await call.peer.call("Back", "say")
                except rpc.CallTimeoutError as error:
                    seen.append(error.sent)

        both = Both({"Relay": Relay()}, {"Back": self.back})
        outcome = both.call("Relay/ask", timeout=0.5)
        both.clock.advance(1)
        self.error(outcome, rpc.CallTimeoutError)
        self.assertEqual((seen, self.back.log), ([False], []))
        self.finish(both)

    def test_inheritedDeadlineOverInTime(self) -> None:
        both: Any = None
        seen: list[Any] = []

        class Relay:
            @rpc.method
            @inlineCallbacks
            def ask(self) -> Any:
                try:
                    yield rpc.currentCall().peer.call("Back", "wait")
                except rpc.RpcError as error:
                    seen.append((type(error), round(both.clock.seconds(), 2)))
                    raise

        both = Both({"Relay": Relay()}, {"Back": self.back}, server={"timeout": None})
        outcome = both.call("Relay/ask", timeout=0.5)
        both.clock.advance(1)
        self.error(outcome, rpc.CallTimeoutError)
        self.assertEqual(len(seen), 1)
        self.assertLessEqual(seen[0][1], 0.6)
        self.assertEqual(both.clientContext.running, 0)
        self.finish(both)
