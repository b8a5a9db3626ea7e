"""What time brings: onCron, readTimeout, idleTimeout and maxLifetime, on clocks that are not always steady."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import IdleTimeoutError, ReadTimeoutError, SettingError
from getty_tx.session.context import ServiceContext
from getty_tx.wheel import TICK
from tests.support.memory import SessionCase, frame


class CronTests(SessionCase):
    """onCron."""

    def test_cron(self) -> None:
        """onCron comes every cronPeriod, and no more after the end."""
        pair = self.open(cronPeriod=10.0, autoClose=True)
        pair.advance(35)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3)
        pair.server.close()
        pair.advance(100)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3 + ["close"])
        self.assertEnded()

    def test_cronPeriodChanges(self) -> None:
        """A new period counts from the moment it is set."""
        pair = self.open(cronPeriod=10.0)
        pair.advance(5)
        pair.server.cronPeriod = 1.0
        pair.advance(3.5)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 3)

    def test_cronWaitsForAsyncCallbacks(self) -> None:
        """A turn of the cron is left out while an async callback runs."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, cronPeriod=1.0)
        pair.peer.write(frame(b"1"))
        pair.advance(3.5)
        self.assertEqual(self.heard.names, ["open", "message"])
        gate.callback(None)
        pair.advance(1)
        self.assertEqual(self.heard.names, ["open", "message", "cron"])

    def test_notAfterItsOwnEnd(self) -> None:
        """An onCron that closes its session, or fails, was the last."""
        for hook in (lambda session: session.close(), lambda session: session.abort(), lambda session: [].pop()):
            pair = self.open({"cron": hook}, cronPeriod=1.0, autoClose=True)
            pair.advance(5)
            self.assertEqual(self.heard.names.count("cron"), 1)
            self.assertEqual(self.heard.names[-1], "close")
            self.assertEnded()
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    def test_async(self) -> None:
        """onCron may be an ``async def``; messages wait for it, and so does the next turn."""
        gates: list[Deferred[None]] = []

        async def wait(session: Any) -> None:
            gates.append(Deferred())
            await gates[-1]

        async def atOnce(session: Any) -> None:
            session.writePkg(b"at once")

        pair = self.open({"cron": wait}, cronPeriod=1.0)
        pair.advance(1.5)
        pair.peer.write(frame(b"1"))
        pair.advance(2)
        self.assertEqual(self.heard.names, ["open", "cron"])
        gates[0].callback(None)
        self.assertEqual(self.heard.names, ["open", "cron", "message"])
        pair.advance(0.6)
        self.assertEqual(self.heard.names, ["open", "cron", "message", "cron"])
        gates[1].callback(None)
        self.heard.on["cron"] = atOnce
        pair.peer.write(frame(b"2"))
        pair.advance(1)
        self.assertEqual(self.heard.names[4:], ["message", "cron"])
        self.assertIn(b"at once", pair.peer.data)

    def test_resumesInIt(self) -> None:
        """What was kept is delivered when onCron lets the session read on."""
        pair = self.open({"cron": lambda session: session.resumeReading()}, cronPeriod=1.0)
        pair.peer.write(frame(b"1") + frame(b"2"))
        pair.server.pauseReading()
        pair.advance(0.5)
        # Some of it is in the session already.
        pair.server.inbound.receive(frame(b"0"))
        self.assertEqual(self.heard.names, ["open"])
        pair.advance(0.6)
        self.assertEqual(self.heard.packages, [b"0", b"1", b"2"])

    def test_arrivesInIt(self) -> None:
        """So is what comes, and the peer's end, while onCron runs: transports without a network are that quick."""

        def arrive(session: Any) -> None:
            session.inbound.receive(frame(b"x"))
            session.peerEnded()
            self.assertEqual(self.heard.names, ["open", "cron"])

        pair = self.open({"cron": arrive}, cronPeriod=1.0)
        pair.advance(1.0)
        self.assertEqual(self.heard.names[:3], ["open", "cron", "message"])
        self.assertTrue(pair.server.isClosed)

    def test_drift(self) -> None:
        """The hundredth comes in its own time, though each may come a little late."""
        pair = self.open(cronPeriod=0.75)
        pair.advance(75.05)
        self.assertEqual(self.heard.names.count("cron"), 100)

    def test_late(self) -> None:
        """After a stall of the process, or a leap of the clock, there is one late onCron, not a burst."""
        for leap in (5.0, 7200.0):
            for period in (1.0, 0.25):
                pair = self.open(cronPeriod=period)
                pair.advance(3.05)
                before = self.heard.names.count("cron")
                pair.clock.rightNow += leap
                pair.flush()
                self.assertEqual(self.heard.names.count("cron"), before + 1)
                pair.advance(4)
                # The late one was early for the next.
                self.assertIn(self.heard.names.count("cron") - before - 1, (4 / period, 4 / period + 1))

    def test_setBack(self) -> None:
        """A clock that is set back stops nothing for longer than until the next timer is set."""
        pair = self.open(cronPeriod=1.0, readTimeout=5.0)
        pair.advance(2.05)
        pair.clock.rightNow -= 3600.0
        pair.server.waitTime = 1.0
        pair.server.readTimeout = 3.0
        pair.advance(2.2)
        self.assertEqual(self.heard.names, ["open"] + ["cron"] * 4)
        # It seemed to have been active in the future.
        pair.advance(4.0)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)

    def test_together(self) -> None:
        """Sessions whose turn comes in the same tick share a timer, whenever they were opened."""
        self.open(cronPeriod=10.0, autoClose=True)
        wheel, crons = self.factory.context.wheel, self.factory.context.crons
        pairs = [self.pair]
        for wait in (0.0, 10.0, 25.0, 5.0):
            self.pair.advance(wait)
            pairs.append(self.network.join(self.factory.buildProtocol(None), type(self.pair.peer)(True)))
        # Those of 0, 0, 10 and 40 seconds; and that of 35.
        self.assertEqual(sorted(len(group.members) for group in crons.groups.values()), [1, 4])
        self.assertEqual(len(wheel), 2)
        before = self.heard.names.count("cron")
        self.pair.advance(5.1)
        self.assertEqual(self.heard.names.count("cron"), before + 1)
        self.pair.advance(5)
        self.assertEqual(self.heard.names.count("cron"), before + 5)
        for pair in pairs:
            pair.server.close()
        self.pair.advance(1)
        self.assertEqual((crons.groups, len(wheel)), ({}, 0))

    def test_brokenPeriods(self) -> None:
        """With a period that is no whole number of ticks, each session has its own timer, and its own time."""
        self.open(cronPeriod=0.25)
        self.pair.advance(0.13)
        self.network.join(self.factory.buildProtocol(None), type(self.pair.peer)())
        self.assertEqual(len(self.factory.context.wheel), 2)
        self.pair.advance(9.9)
        self.assertEqual(self.heard.names.count("cron"), 40 + 39)
        for session in list(self.factory.context.sessions):
            session.abort()
        self.pair.advance(1)
        self.assertEqual(len(self.factory.context.wheel), 0)

    def test_othersInATurn(self) -> None:
        """A session that another's onCron closes, or gives another period, is not called in the same turn any more."""
        for leave in (lambda session: session.abort(), lambda session: setattr(session, "cronPeriod", 7.0)):

            def leaveAll(_: Any, leave: Any = leave) -> None:
                for session in list(self.factory.context.sessions):
                    leave(session)

            pair = self.open({"cron": leaveAll}, cronPeriod=1.0)
            self.network.join(self.factory.buildProtocol(None), type(pair.peer)())
            pair.advance(5)
            self.assertEqual(self.heard.names.count("cron"), 1)

    def test_long(self) -> None:
        """An onCron that holds up the reactor is reported, with the name of its listener, and not called in a burst."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)

        def sleep(session: Any) -> None:
            if self.heard.names.count("cron") == 2:
                self.pair.clock.rightNow += 5.0

        self.open({"cron": sleep}, cronPeriod=1.0)
        self.pair.advance(8.05)
        self.assertEqual(self.heard.names.count("cron"), 4)
        [event] = [event for event in events if event["log_level"] is LogLevel.warn]
        self.assertAlmostEqual(event["seconds"], 5.0)
        self.assertIn("onCron of 1 sessions: RecordingListener", event["call"])


class SilenceTests(SessionCase):
    """readTimeout."""

    def test_readTimeout(self) -> None:
        """Silence for readTimeout seconds fails the session; bytes and touch() start it anew."""
        pair = self.open(readTimeout=2.0, autoClose=True)
        pair.advance(1.5)
        pair.peer.write(b"\0")
        pair.advance(1.5)
        pair.server.touch()
        pair.advance(1.9)
        self.assertEqual(self.heard.names, ["open"])
        pair.advance(0.3)
        self.assertEqual(self.heard.names, ["open", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)
        self.assertIs(self.heard.errors[0].session, pair.server)  # type: ignore[attr-defined]  # checked above
        self.assertEnded()

    def test_readTimeoutIsNoneByDefault(self) -> None:
        """Idle is not an error."""
        pair = self.open()
        pair.advance(200)
        self.assertEqual(set(self.heard.names), {"open", "cron"})

    def test_readTimeoutWhilePaused(self) -> None:
        """A session that does not listen does not blame the peer."""
        pair = self.open(readTimeout=2.0)
        pair.server.pauseReading()
        pair.advance(10)
        self.assertEqual(self.heard.names, ["open"])
        pair.server.resumeReading()
        pair.advance(10)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)

    def test_readTimeoutTakenBack(self) -> None:
        """None takes it back while the session runs."""
        pair = self.open(readTimeout=2.0)
        pair.advance(1)
        pair.server.readTimeout = None
        pair.advance(10)
        self.assertEqual(self.heard.names, ["open"])

    def test_stall(self) -> None:
        """What waits to be read when the process wakes up shows that the peer was not silent."""
        pair = self.open(readTimeout=2.0)
        pair.advance(1.0)
        pair.clock.rightNow += 5.0
        # It came long ago, and nobody has read it.
        pair.clientTransport.memory.send(frame(b"1"))
        pair.flush()
        pair.advance(1.8)
        self.assertEqual(self.heard.names, ["open", "message"])
        # The second stall finds nothing, and is not the peer's excuse for longer.
        pair.clock.rightNow += 5.0
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "message"])
        pair.advance(0.2)
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)

    def test_manyStalls(self) -> None:
        """A process that always comes late has time-outs all the same."""
        pair = self.open(readTimeout=2.0)
        for _ in range(5):
            pair.clock.rightNow += 1.7
            pair.flush()
        self.assertIsInstance(self.heard.errors[0], ReadTimeoutError)


class IdleTests(SessionCase):
    """idleTimeout."""

    def idleAfter(self, least: float, most: float) -> None:
        """It lives for ``least`` seconds from now, and no longer than ``most``."""
        self.pair.advance(least - 0.01)
        self.assertNotIn("error", self.heard.names)
        self.pair.advance(most - least + 0.02)
        self.assertIsInstance(self.heard.errors[0], IdleTimeoutError)
        self.assertIs(self.heard.errors[0].session, self.pair.server)  # type: ignore[attr-defined]  # checked above
        self.assertIn("idleTimeout=8 s", str(self.heard.errors[0]))
        self.pair.advance(1)
        self.assertEqual(self.heard.names[-2:], ["error", "close"])
        self.assertEnded()

    def test_never(self) -> None:
        """Nothing was sent: the time counts from the beginning."""
        self.open(idleTimeout=8.0, autoClose=True)
        self.idleAfter(8.0, 8.0 + TICK)

    def test_either(self) -> None:
        """What one side sends counts for both, be it the other's or this one's, to a quarter of the time."""
        for write in (lambda pair: pair.peer.write(b"\0"), lambda pair: pair.server.writePkg(b"x")):
            pair = self.open(idleTimeout=8.0, autoClose=True)
            for _ in range(10):
                pair.advance(7.7)
                write(pair)
            self.idleAfter(8.0, 8.0 + 2.0 + 2 * TICK)

    def test_touch(self) -> None:
        """touch() counts, too."""
        pair = self.open(idleTimeout=8.0, autoClose=True)
        for _ in range(10):
            pair.advance(7.7)
            pair.server.touch()
        self.idleAfter(8.0, 8.0 + TICK)

    def test_pending(self) -> None:
        """As long as bytes wait to be taken, the session is not idle."""
        pair = self.open(idleTimeout=8.0, writeTimeout=None, network={"capacity": 1000}, autoClose=True)
        pair.peer.transport.pauseProducing()  # type: ignore[union-attr]  # it has one
        pair.server.writePkg(b"x" * 10_000)
        pair.advance(50)
        self.assertEqual(self.heard.names, ["open"])
        pair.peer.transport.resumeProducing()  # type: ignore[union-attr]
        pair.flush()
        self.assertEqual(len(pair.peer.data), 10_004)
        self.idleAfter(6.0, 8.0 + 2.0 + TICK)

    def test_inOrder(self) -> None:
        """The peer's end is waited for, as with close()."""
        pair = self.open(idleTimeout=8.0)
        pair.advance(8.5)
        self.assertEqual(self.heard.names, ["open", "error"])
        self.assertTrue(pair.peer.ended)
        pair.peer.end()
        pair.flush()
        self.assertEqual(self.heard.names, ["open", "error", "close"])

    def test_busy(self) -> None:
        """A session that works on a package, or is paused, is not idle."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"message": lambda session, pkg: gate}, idleTimeout=8.0, autoClose=True)
        pair.peer.write(frame(b"1"))
        pair.advance(50)
        pair.server.pauseReading()
        gate.callback(None)
        pair.advance(50)
        self.assertEqual(self.heard.names, ["open", "message", "cron"])
        pair.server.resumeReading()
        self.idleAfter(6.0, 8.0 + 2.0 + TICK)

    def test_stall(self) -> None:
        """What waits to be read shows that the session was not idle."""
        pair = self.open(idleTimeout=8.0, autoClose=True)
        pair.advance(5.0)
        pair.clock.rightNow += 10.0
        pair.clientTransport.memory.send(frame(b"1"))
        pair.flush()
        pair.advance(7.8)
        self.assertEqual(self.heard.names, ["open", "message"])

    def test_setBack(self) -> None:
        """A clock that is set back makes it no longer than the time that is set."""
        pair = self.open(idleTimeout=8.0, autoClose=True)
        pair.advance(5.0)
        pair.clock.rightNow -= 3600.0
        pair.server.readTimeout = 60.0
        self.idleAfter(3.0, 8.0 + 2.0 + TICK)

    def test_changed(self) -> None:
        """It can be set, changed and taken back on an open session."""
        pair = self.open(autoClose=True)
        pair.advance(20)
        pair.server.idleTimeout = 4.0
        pair.advance(3)
        pair.server.idleTimeout = None
        pair.advance(20)
        self.assertEqual(self.heard.names, ["open"])
        pair.server.writePkg(b"x")
        pair.server.idleTimeout = 8.0
        self.idleAfter(8.0, 8.0 + 2.0 + TICK)

    def test_refused(self) -> None:
        """Only a time above 0, or None."""
        session = self.open().server
        for name in ("idleTimeout", "maxLifetime"):
            for value in (0, -1.0, "1", float("nan")):
                self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, value)))


class LifetimeTests(SessionCase):
    """maxLifetime."""

    def test_closed(self) -> None:
        """The session is closed in its time, be it busy or not, with what is pending, and without an error."""
        pair = self.open(maxLifetime=30.0, autoClose=True, network={"capacity": 1000})
        for _ in range(29):
            pair.advance(1)
            pair.peer.write(frame(b"1"))
        pair.advance(0.9)
        self.assertFalse(pair.server.isClosed)
        pair.server.writePkg(b"x" * 100_000)
        pair.advance(0.2)
        self.assertEqual(self.heard.names, ["open"] + ["message"] * 29 + ["close"])
        self.assertEqual(len(pair.peer.data), 100_004)
        self.assertEnded()

    def test_notItsOwn(self) -> None:
        """It is not a close of the application's own: a pool is to replace the session."""
        pair = self.open(maxLifetime=3.0, autoClose=True)
        pair.advance(3.2)
        self.assertEqual((self.heard.names, pair.server.closedLocally), (["open", "close"], False))

    def test_changed(self) -> None:
        """It counts from the beginning of the session whenever it is set; one that is over then closes at once."""
        pair = self.open(maxLifetime=30.0, autoClose=True)
        pair.advance(20)
        pair.server.maxLifetime = None
        pair.advance(20)
        pair.server.maxLifetime = 50.0
        pair.advance(9.9)
        self.assertEqual(self.heard.names, ["open"])
        pair.server.maxLifetime = 10.0
        self.assertFalse(pair.server.isClosed)
        pair.advance(0.3)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()

    def test_duringOnOpen(self) -> None:
        """An ``async def`` that runs is treated as at any close."""
        gate: Deferred[None] = Deferred()
        pair = self.open({"open": lambda session: gate}, maxLifetime=1.0, autoClose=True)
        pair.advance(2)
        self.assertTrue(pair.server.isClosed)
        gate.callback(None)
        pair.advance(1)
        self.assertEqual(self.heard.names, ["open", "close"])
        self.assertEnded()


class ClockTests(SynchronousTestCase):
    """What depends on the clock alone."""

    def test_keeper(self) -> None:
        """The context asks nothing of the reactor before there is a timer."""
        clock = Clock()
        context = ServiceContext(None, lambda session: None, reactor=clock)
        self.assertEqual((clock.getDelayedCalls(), context.wheel.running), ([], False))
