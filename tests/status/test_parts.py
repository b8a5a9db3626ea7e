"""The parts of the status in memory: the walk, the table, the slices, the samples."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.task import Clock, SchedulerStopped
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from getty_tx import EventListener
from getty_tx.status import slices
from getty_tx.status.histogram import BOUNDS, Histogram
from getty_tx.status.lasterrors import MAX_ERRORS, LastErrors
from getty_tx.status.port import StatusPortFactory
from getty_tx.status.sampler import MAX_SAMPLED, PERIOD, WINDOW, Sampler
from getty_tx.status.slices import PAUSE, Slices
from getty_tx.status.snapshot import SESSIONS_PER_STEP, walk
from getty_tx.status.table import COLUMNS, Query, tableOf
from getty_tx.testing import Peer
from tests.support.memory import SessionCase, configure, frame


class Service:
    """A service, as far as the status uses it."""

    name = "memory"
    endpoints = ("",)
    isReady = True
    isStopping = False
    workers: Any = None

    def __init__(self, *contexts: Any) -> None:
        self.contexts = list(contexts)


class StatusParts(SessionCase):
    """A service with sessions in memory."""

    def fill(self, number: int, **more: Any) -> list[Any]:
        """Open so many sessions; ``self.service`` has them."""
        self.open(autoClose=True, **more)
        pairs = [self.pair]
        for _ in range(number - 1):
            pairs.append(self.network.join(self.factory.buildProtocol(None), Peer(True)))
        self.service: Any = Service(self.factory.context)
        return pairs


class WalkTests(StatusParts):
    """The walk over the sessions."""

    def finish(self, work: Any) -> Any:
        """The result of a walk."""
        *_, last = work
        return last

    def test_neverBack(self) -> None:
        """Sessions that open or end during the walk are neither lost nor counted twice."""
        pairs = self.fill(3 * SESSIONS_PER_STEP)
        for pair in pairs:
            pair.peer.write(frame(b"x"))
        # All of the network, which is long for each alone.
        self.pair.flush()
        work = walk("memory", self.service)
        self.assertIsNone(next(work))
        for pair in pairs:
            pair.server.close()
        self.pair.flush()
        self.network.join(self.factory.buildProtocol(None), Peer(True))
        first = self.finish(work).endpoints[""]
        self.assertEqual(
            (3 * SESSIONS_PER_STEP, 3 * SESSIONS_PER_STEP, {}),
            (first.opened, first.totals.readPkgs, first.totals.closed),
        )
        second = self.finish(walk("memory", self.service)).endpoints[""]
        expected = (3 * SESSIONS_PER_STEP + 1, 3 * SESSIONS_PER_STEP, {"local": 3 * SESSIONS_PER_STEP}, 1)
        self.assertEqual(expected, (second.opened, second.totals.readPkgs, second.totals.closed, second.states["open"]))

    def test_gauges(self) -> None:
        """Pending bytes, and the reasons of pauses."""
        pair, other = self.fill(2, network={"capacity": 1000}, highWater=2000, lowWater=1000)
        pair.peer.transport.pauseProducing()
        pair.server.writePkg(bytes(100_000))
        other.server.pauseReading()
        found = self.finish(walk("memory", self.service)).endpoints[""]
        self.assertEqual(pair.server.pendingBytes, found.pendingBytes)
        self.assertGreater(found.pendingBytes, 2000)
        self.assertEqual({"pressure": 1, "user": 1}, {k: v for k, v in found.paused.items() if v})
        other.server.close()
        self.assertEqual(1, self.finish(walk("memory", self.service)).endpoints[""].states["closing"])


class TableTests(StatusParts):
    """Pages of sessions."""

    def page(self, **query: Any) -> list[int]:
        """The ids in a page."""
        *_, last = tableOf({"memory": self.service}, Query(**query))
        assert last is not None
        return [row["id"] for row in last["sessions"]]

    def test_everyColumn(self) -> None:
        """Every column sorts in both orders, and the pages together have each session once."""
        pairs = self.fill(2 * SESSIONS_PER_STEP + 50)
        for number, pair in enumerate(pairs):
            pair.peer.write(frame(b"x") * (number % 3))
        self.pair.flush()
        ids = {pair.server.id for pair in pairs}
        for name in COLUMNS:
            for descending in (False, True):
                pages = [self.page(sort=name, descending=descending, offset=at, limit=300) for at in (0, 300, 600)]
                self.assertEqual([300, 250, 0], [len(page) for page in pages], name)
                self.assertEqual(ids, set(pages[0] + pages[1]), name)
        most = self.page(sort="readPkgs", descending=True, limit=1)[0]
        self.assertEqual(2, next(pair.server.stats.readPkgs for pair in pairs if pair.server.id == most))


class SlicesTests(SynchronousTestCase):
    """Work in several slices."""

    def setUp(self) -> None:
        self.clock = Clock()
        # Each step takes as long as a slice may.
        self.patch(slices, "SLICE", 0.0)
        self.slices = Slices(self.clock)
        self.steps = 0

    def work(self) -> Any:
        """Ten steps and a result."""
        for _ in range(10):
            self.steps += 1
            yield None
        yield "done"

    def test_turns(self) -> None:
        """One step in an iteration, with a pause between two."""
        results: list[Any] = []
        self.slices.run("a", self.work).addCallback(results.append)
        for turn in range(1, 10):
            self.clock.advance(PAUSE)
            self.assertEqual(turn, self.steps)
        self.clock.pump([PAUSE] * 5)
        self.assertEqual(["done"], results)

    def test_shared(self) -> None:
        """Requests for the same work share one result; an error in one callback does not affect the others."""
        results: list[Any] = []
        asked: list[Deferred[Any]] = [self.slices.run("a", self.work) for _ in range(200)]
        asked[0].addCallback(lambda _: 1 / 0)
        for each in asked[1:]:
            each.addCallback(results.append)
        self.clock.pump([PAUSE] * 20)
        self.assertEqual((10, 199), (self.steps, len(results)))
        self.failureResultOf(asked[0], ZeroDivisionError)
        self.slices.run("a", self.work)
        self.clock.pump([PAUSE] * 20)
        self.assertEqual(20, self.steps)

    def test_failure(self) -> None:
        """An exception of the work fails the Deferred, and stop() fails all that are pending."""

        def broken() -> Any:
            yield None
            raise ValueError("broken")

        asked = self.slices.run("b", broken)
        self.clock.pump([PAUSE] * 3)
        self.failureResultOf(asked, ValueError)
        waiting = [self.slices.run(key, self.work) for key in "aabc"]
        self.slices.stop()
        for each in waiting:
            self.failureResultOf(each, SchedulerStopped)
        self.assertEqual([], self.clock.getDelayedCalls())


class Pool:
    """A pool that stores its tasks."""

    isRunning = True

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def submit(self, call: Any, *args: Any) -> bool:
        """Take a task."""
        self.tasks.append((call, args))
        return True


class SamplerTests(StatusParts):
    """The samples."""

    def sampler(self) -> tuple[Sampler, Clock]:
        """A running sampler, and its clock."""
        clock = Clock()
        sampler = Sampler({"memory": self.service}, clock, clock.seconds)
        sampler.start()
        self.addCleanup(sampler.stop)
        return sampler, clock

    def test_reactor(self) -> None:
        """The lag of a call, and the length of an iteration."""
        self.fill(1)
        clock = Clock()
        # The start, the call that is late, the end of the turn, and when the window begins.
        moments = iter([0.0, PERIOD + 0.3, PERIOD + 0.5, PERIOD + 0.5])
        sampler = Sampler({"memory": self.service}, clock, lambda: next(moments))
        sampler.start()
        self.addCleanup(sampler.stop)
        clock.advance(PERIOD)
        self.assertEqual((1, 1), (sampler.lag.count, sampler.turn.count))
        self.assertAlmostEqual(0.3, sampler.lag.sum)
        self.assertAlmostEqual(0.2, sampler.turn.sum)

    def test_handlers(self) -> None:
        """Only messages in the window are measured; ``session.listener`` is always the application's."""
        times: list[Any] = []

        def work(session: Any, pkg: Any) -> None:
            times.append(type(session.receiver).__name__)

        [pair] = self.fill(1, on={"message": work})
        listener = pair.server.listener
        sampler, clock = self.sampler()
        for advance in (0, PERIOD):
            clock.advance(advance)
            pair.peer.write(frame(b"x"))
            pair.flush()
            self.assertIs(listener, pair.server.listener)
        clock.advance(WINDOW)
        pair.peer.write(frame(b"x"))
        pair.flush()
        self.assertEqual(["RecordingListener", "TimedListener", "RecordingListener"], times)
        self.assertEqual(1, sampler.handler.count)

    def test_otherListener(self) -> None:
        """A listener that is set in the window stays."""
        [pair] = self.fill(1)
        _, clock = self.sampler()
        clock.advance(PERIOD)
        other = pair.server.listener = EventListener()
        clock.advance(WINDOW)
        self.assertIs(other, pair.server.receiver)

    def test_stop(self) -> None:
        """stop() restores all listeners, and leaves no delayed call."""
        pairs = self.fill(MAX_SAMPLED + 10)
        sampler, clock = self.sampler()
        clock.advance(PERIOD)
        timed = [pair for pair in pairs if pair.server.receiver is not pair.server.listener]
        self.assertEqual(MAX_SAMPLED, len(timed))
        sampler.stop()
        self.assertEqual([], [pair for pair in pairs if pair.server.receiver is not pair.server.listener])
        self.assertEqual([], clock.getDelayedCalls())

    def test_async(self) -> None:
        """The time of an async def lasts until it returns."""
        waiting: list[Deferred[None]] = []

        class Patient(EventListener):
            async def onMessage(self, session: Any, pkg: Any) -> None:
                waiting.append(Deferred())
                await waiting[-1]

        [pair] = self.fill(1, newSession=configure(Patient()))
        sampler, clock = self.sampler()
        clock.advance(PERIOD)
        pair.peer.write(frame(b"x"))
        pair.flush()
        clock.advance(WINDOW)
        self.assertEqual(0, sampler.handler.count)
        waiting[0].callback(None)
        for _ in range(2):
            clock.advance(PERIOD)
        self.assertEqual(1, sampler.handler.count)

    def test_workers(self) -> None:
        """A task measures how long it waited; there is at most one at a time."""
        self.fill(1)
        pool = self.service.workers = Pool()
        sampler, clock = self.sampler()
        clock.advance(WINDOW)
        for _ in range(3):
            clock.advance(PERIOD - WINDOW)
            clock.advance(WINDOW)
        self.assertEqual(1, len(pool.tasks))
        call, args = pool.tasks.pop()
        thread = threading.Thread(target=call, args=args)
        thread.start()
        thread.join()
        for _ in range(2):
            clock.advance(PERIOD - WINDOW)
            clock.advance(WINDOW)
        self.assertEqual(1, sampler.workerWait["memory"].count)
        self.assertGreater(sampler.workerWait["memory"].sum, PERIOD)
        self.assertEqual(1, len(pool.tasks))


class HistogramTests(SynchronousTestCase):
    """Buckets."""

    def test_buckets(self) -> None:
        """A bound belongs to its bucket; times above all bounds are in the last; buckets are cumulative."""
        histogram = Histogram()
        for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
            histogram.add(seconds)
        buckets = histogram.buckets()
        self.assertEqual([2, 3, 4], [buckets[0][1], buckets[1][1], buckets[-1][1]])
        self.assertEqual("+Inf", buckets[-1][0])
        self.assertEqual(4, histogram.count)


class PortTests(SynchronousTestCase):
    """The factory of the port."""

    def test_protocols(self) -> None:
        """TLS that asks is told what browsers are to speak."""
        access: Any = None
        factory = StatusPortFactory(None, None, access, Clock())
        self.assertTrue(verifyObject(IProtocolNegotiationFactory, factory))
        self.assertEqual([b"http/1.1"], factory.acceptableProtocols())


class LastErrorsTests(SynchronousTestCase):
    """The list of errors."""

    def test_list(self) -> None:
        """A repeated error is counted and moves to the front; the list is bounded."""
        errors = LastErrors(lambda service: "echo", Clock().seconds)
        for number in range(MAX_ERRORS + 20):
            errors.refused(None, "handshake", f"port {number} from {'x' * number}")
        errors.refused(None, "handshake", "port 4711 from " + 30 * "x")
        found = errors.list()
        self.assertEqual((MAX_ERRORS, 2, "port 4711 from"), (len(found), found[0]["count"], found[0]["text"][:14]))
