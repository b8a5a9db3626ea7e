"""The log of served calls that take long."""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  # The hint is looked at when the service is registered.
from typing import TYPE_CHECKING, Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from getty_tx import rpc
from getty_tx.errors import SettingError
from getty_tx.rpc.messages import Request
from getty_tx.session.faults import INTERVAL
from tests.support.rpc import Foreign
from tests.support.shop import Case, ThreadSaver

if TYPE_CHECKING:
    from tests.support.rpc import Both


class Slow:
    """Methods that take their time on the reactor's thread, in another, and as a stream."""

    def __init__(self) -> None:
        self.clock: Any = None

    @rpc.method
    def block(self, seconds: float) -> float:
        self.clock.rightNow += seconds
        return seconds

    @rpc.method
    def fail(self, seconds: float) -> None:
        self.block(seconds)
        raise rpc.RemoteError("why", code="test.why")

    @rpc.method
    def crash(self, seconds: float) -> None:
        self.block(seconds)
        raise ZeroDivisionError

    @rpc.method(threads=True)
    def inThread(self, seconds: float) -> float:
        return self.block(seconds)

    @rpc.stream
    async def count(self) -> AsyncIterator[int]:
        yield self.block(5)


class SlowCase(Case):
    """Two peers and the lines about slow calls."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Any] = []

        def observe(event: Any) -> None:
            if event.get("log_namespace") == "getty_tx.rpc.replies" and "took" in (event.get("log_format") or ""):
                self.events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def slow(self, **settings: Any) -> Both:
        """Two peers, of which the server has the settings."""
        slow = Slow()
        both = self.both(server={"slowCall": 1.0, **settings})
        both.serverContext.use({"Shop": self.shop, "Slow": slow})
        slow.clock = both.clock
        # A time of 0 would be none.
        both.clock.advance(1)
        return both

    def lines(self) -> list[tuple[str, float, str]]:
        """Method, seconds and code of the lines since this was last asked."""
        found = [(event["method"], round(event["seconds"], 3), event["code"]) for event in self.events]
        self.events.clear()
        return found


class SlowTests(SlowCase):
    """What is logged."""

    def test_line(self) -> None:
        """One line, with what it takes to find the caller."""
        both = self.slow()
        both.result("Slow/block", 1.25)
        [event] = self.events
        self.assertIs(event["log_level"], LogLevel.warn)
        session = both.pair.server
        self.assertIs(event["session"], session)
        self.assertEqual(formatEvent(event), f"Slow/block took 1.250 s for {session}, above slowCall=1: ok")

    def test_plain(self) -> None:
        """Each call is looked at, not only those that a histogram is made of; one at the limit is not slow."""
        both = self.slow()
        for seconds in (*40 * [1.0], 1.5):
            both.result("Slow/block", seconds)
        self.assertEqual(self.lines(), [("Slow/block", 1.5, "ok")])
        totals = both.pair.server.context.calls["server"]["Slow/block"]
        self.assertEqual((totals.done, totals.seconds.count, totals.seconds.sum), (41, 41, 41.5))

    def test_failed(self) -> None:
        """With the code that the caller gets."""
        both = self.slow()
        both.call("Slow/fail", 2)
        self.assertEqual(self.lines(), [("Slow/fail", 2, "test.why")])
        # The histogram has calls with a result.
        self.assertEqual(both.pair.server.context.calls["server"]["Slow/fail"].seconds.count, 0)

    def test_raised(self) -> None:
        """Payloads for which an exception is a result have no code for it."""
        both = self.slow()
        both.call("Slow/crash", 2)
        self.assertEqual(self.lines(), [("Slow/crash", 2, "internal")])
        self.flushLoggedErrors(ZeroDivisionError)
        both.clock.advance(INTERVAL)
        both.serverContext.payload.encodeRaised = lambda name, error: b"null"
        self.assertIsNone(both.result("Slow/crash", 2))
        self.assertEqual(self.lines(), [("Slow/crash", 2, "other")])

    def test_later(self) -> None:
        """The time of a method that waits is that until it returns."""
        both = self.slow()
        for seconds in (0.5, 2.0):
            outcome = both.call("Shop/another", "x")
            both.clock.advance(seconds)
            self.shop.waiting[-1].callback(None)
            both.pair.flush()
            self.assertEqual(outcome.only, "x")
        self.assertEqual(self.lines(), [("Shop/another", 2, "ok")])
        both.call("Shop/failLater", "stock")
        both.clock.advance(1.5)
        self.shop.waiting[-1].callback(None)
        both.pair.flush()
        self.assertEqual(self.lines(), [("Shop/failLater", 1.5, "test.outOfStock")])

    def test_notAwaited(self) -> None:
        """A call whose caller has gone is logged then, and not when its method returns."""
        for kind in ("deadline", "cancelled", "lost"):
            both = self.slow(maxTimeout=2.0)
            # So that it knows that the other end understands a cancel.
            both.result("Shop/say")
            waiting = both.client.call("Shop", "wait", timeout=None)
            waiting.addErrback(lambda _: None)
            both.pair.flush()
            both.clock.advance(1.5)
            if kind == "deadline":
                both.clock.advance(2)
            elif kind == "cancelled":
                waiting.cancel()
                both.pair.flush()
            else:
                both.pair.reset()
                both.pair.flush()
            [(method, seconds, code)] = self.lines()
            self.assertEqual((method, code), ("Shop/wait", kind))
            self.assertTrue(1.5 <= seconds <= 3.5, seconds)
            both.clock.advance(5)
            if not self.shop.waiting[-1].called:
                self.shop.waiting[-1].callback("late")
            self.assertEqual(self.lines(), [])

    def test_threads(self) -> None:
        """The time that a call waits for its thread counts, as it does for its caller."""
        slow = Slow()
        foreign = Foreign(services={"Slow": slow}, slowCall=1.0)
        slow.clock = foreign.clock
        foreign.clock.advance(1)
        pool = ThreadSaver()
        foreign.clock.getThreadPool = lambda: pool  # type: ignore[attr-defined]
        foreign.say(Request(1, "Slow/inThread", b"[0.75]"))
        foreign.clock.advance(0.5)
        pool.run()
        self.assertEqual(foreign.heard()[0].payload, b"0.75")
        self.assertEqual(self.lines(), [("Slow/inThread", 1.25, "ok")])
        foreign.session.close()
        foreign.clock.advance(30)

    def test_stream(self) -> None:
        """A stream lasts as long as it likes."""
        both = self.slow()
        stream = both.client.stream("Slow", "count")
        both.pair.flush()
        self.assertEqual(self.successResultOf(stream.__anext__()), 5)
        self.assertEqual(self.lines(), [])

    def test_oneWay(self) -> None:
        """A call without a reply takes its time as well."""
        both = self.slow()
        both.client.send("Slow", "block", 2)
        both.pair.flush()
        self.assertEqual(self.lines(), [("Slow/block", 2, "ok")])


class FloodTests(SlowCase):
    """How much is logged."""

    def test_flood(self) -> None:
        """A method has a line in ten seconds, which counts those without; another method has its own."""
        both = self.slow(slowCall=0.001)
        for _ in range(500):
            both.result("Slow/block", 0.01)
        both.call("Slow/fail", 0.01)
        self.assertEqual([event["method"] for event in self.events], ["Slow/block", "Slow/fail"])
        self.events.clear()
        both.clock.advance(INTERVAL)
        both.result("Slow/block", 0.01)
        [event] = self.events
        self.assertIn("slowCall=0.001: ok (499 more like this since the last line about it)", formatEvent(event))

    def test_off(self) -> None:
        """By default nothing is logged, and one call of 16 is measured; the setting may be changed at any time."""
        both = self.slow(slowCall=None)
        for _ in range(20):
            both.result("Slow/block", 2)
        totals = both.pair.server.context.calls["server"]["Slow/block"]
        self.assertEqual((self.lines(), totals.seconds.count), ([], 2))
        self.assertIsNone(rpc.CallContext(rpc.TTHeader()).slowCall)
        both.serverContext.slowCall = 1.5
        both.result("Slow/block", 2)
        self.assertEqual(len(self.lines()), 1)
        both.serverContext.slowCall = None
        both.clock.advance(INTERVAL)
        for _ in range(20):
            both.result("Slow/block", 2)
        self.assertEqual((self.lines(), totals.seconds.count), ([], 2 + 1 + 1))

    def test_invalid(self) -> None:
        error = self.assertRaises(SettingError, rpc.CallContext, rpc.TTHeader(), slowCall=0)
        self.assertIn("slowCall=0", str(error))
