"""Tests of processes/supervisor, without processes."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import GettyError
from getty_tx.processes.supervisor import (
    DRAINING,
    GONE,
    MAX_RETRY,
    READY,
    RETRY,
    START_TIMEOUT,
    STARTING,
    STEADY_AFTER,
    Member,
    Supervisor,
    beatPeriod,
)
from tests.tap.test_listen import keepLog


class FakeProcess:
    """The process of a sub-reactor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.drained: float | None = None
        self.killed = 0

    def drain(self, timeout: float) -> None:
        """See IProcess."""
        assert self.drained is None
        self.drained = timeout

    def kill(self) -> None:
        """See IProcess."""
        self.killed += 1


class SupervisorTests(SynchronousTestCase):
    """A Supervisor with two slots."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = keepLog(self)
        self.made: list[Member] = []
        self.changes = 0
        self.supervisor = Supervisor(
            2,
            lambda member: self.startMember(member),
            self.changed,
            reactor=self.clock,
            heartbeatTimeout=10,
            drainTimeout=20,
        )

    def startMember(self, member: Member) -> None:
        """Start a fake process."""
        member.process = FakeProcess(1000 + len(self.made))
        self.made.append(member)

    def changed(self) -> None:
        """Count the calls."""
        self.changes += 1

    def process(self, member: Member) -> Any:
        """Return the process of a member."""
        return member.process

    def start(self) -> tuple[Member, Member]:
        """Start both members and make them ready."""
        started = self.supervisor.start()
        for member in list(self.made):
            self.supervisor.memberReady(member)
        self.assertIsNone(self.successResultOf(started))
        first, second = self.made
        return first, second

    def beat(self, seconds: float, *silent: Member) -> None:
        """Advance the clock with heartbeats of all members but some."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            for member in self.supervisor.members:
                if member not in silent:
                    self.supervisor.memberAlive(member)

    def slots(self) -> list[int]:
        """Return the indices of the ready members, in the order in which they were made."""
        return [self.made.index(member) for member in self.supervisor.ready]

    def test_start(self) -> None:
        """Each member takes connections when it is ready; the start ends when all are ready."""
        started = self.supervisor.start()
        self.assertEqual([0, 1], [member.slot for member in self.made])
        self.assertEqual([], self.slots())
        self.supervisor.memberReady(self.made[1])
        self.assertEqual([1], self.slots())
        self.assertNoResult(started)
        self.supervisor.memberReady(self.made[0])
        self.successResultOf(started)
        self.assertEqual(([0, 1], 2), (self.slots(), self.changes))

    def test_startFails(self) -> None:
        """When a member cannot start, the start fails, and no member is started again."""
        started = self.supervisor.start()
        self.supervisor.memberReady(self.made[0])
        self.supervisor.memberFailed(self.made[1], "there is no module 'x'")
        self.assertIn("there is no module 'x'", str(self.failureResultOf(started, GettyError).value))
        stopped = self.supervisor.stop()
        self.supervisor.memberGone(self.made[1], "has ended with status 0")
        self.assertEqual(20, self.process(self.made[0]).drained)
        self.supervisor.memberGone(self.made[0], "has ended with status 0")
        self.successResultOf(stopped)
        self.assertEqual((2, []), (len(self.made), self.clock.getDelayedCalls()))

    def test_startDies(self) -> None:
        """When a member ends before it is ready, the start fails."""
        started = self.supervisor.start()
        self.supervisor.memberGone(self.made[0], "was ended by SIGSEGV")
        error = self.failureResultOf(started, GettyError).value
        self.assertIn("sub-reactor 1 (process 1000) was ended by SIGSEGV before it was ready", str(error))

    def test_startNever(self) -> None:
        """A member that is not ready in START_TIMEOUT is killed."""
        self.supervisor.start()
        self.clock.advance(START_TIMEOUT)
        self.assertEqual([1, 1], [self.process(member).killed for member in self.made])

    def test_cannotSpawn(self) -> None:
        """When the system cannot start a process, the start is tried again later."""
        first, _ = self.start()
        self.beat(STEADY_AFTER)
        self.startMember = self._fail
        self.supervisor.memberGone(first, "was ended by SIGKILL")
        self.assertTrue(any("could not be started: no more processes, with 0" in line for line in self.log))
        del self.startMember
        self.clock.advance(RETRY)
        self.supervisor.memberReady(self.made[-1])
        self.assertEqual([2, 1], self.slots())

    def _fail(self, member: Member) -> None:
        raise OSError("no more processes")

    def test_unforeseen(self) -> None:
        """An unexpected exception of the start is logged with its traceback."""
        self.startMember = lambda member: 1 / 0
        self.supervisor.start().addErrback(lambda _: None)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_replaced(self) -> None:
        """A member that dies after STEADY_AFTER is replaced at once; the other one stays."""
        first, second = self.start()
        self.beat(STEADY_AFTER)
        self.supervisor.memberGone(first, "was ended by SIGKILL")
        self.assertEqual(([1], GONE, READY), (self.slots(), first.state, second.state))
        self.assertEqual((3, 0), (len(self.made), self.made[2].slot))
        self.supervisor.memberReady(self.made[2])
        self.assertEqual(([2, 1], [1, 0]), (self.slots(), self.supervisor.restarts))
        self.assertTrue(any("sub-reactor 1 (process 1000) was ended by SIGKILL, with 0" in line for line in self.log))

    def test_backOff(self) -> None:
        """A member that keeps dying is replaced after growing delays; after STEADY_AFTER at once again."""
        self.start()
        delays = []
        for _ in range(10):
            member = self.made[-1] if self.made[-1].slot == 0 else self.made[0]
            begin, count = self.clock.seconds(), len(self.made)
            self.supervisor.memberGone(member, "was ended by SIGSEGV")
            while len(self.made) == count:
                self.clock.advance(RETRY / 2)
                self.supervisor.memberAlive(self.made[1])
            delays.append(self.clock.seconds() - begin)
            self.supervisor.memberReady(self.made[-1])
        self.assertEqual([0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30], delays)
        self.assertEqual(MAX_RETRY, delays[-1])
        self.beat(STEADY_AFTER)
        self.supervisor.memberGone(self.made[-1], "was ended by SIGSEGV")
        self.assertEqual((12, STARTING), (len(self.made) - 1, self.made[-1].state))

    def test_failingReplacement(self) -> None:
        """A replacement that cannot start is started again later."""
        first, _ = self.start()
        self.beat(STEADY_AFTER)
        self.supervisor.memberGone(first, "was ended by SIGKILL")
        self.supervisor.memberFailed(self.made[2], "why ever")
        self.supervisor.memberGone(self.made[2], "has ended with status 0")
        self.assertEqual(3, len(self.made))
        self.clock.advance(RETRY)
        self.assertEqual(4, len(self.made))

    def test_late(self) -> None:
        """A silent member is logged, gets no connections, and is killed; a heartbeat in time undoes the first two."""
        first, second = self.start()
        self.beat(5, second)
        self.assertEqual([0, 1], self.slots())
        self.beat(1, second)
        self.assertEqual([0], self.slots())
        self.assertTrue(any("(process 1001) has not been heard of for 6 s: it gets no more" in x for x in self.log))
        self.supervisor.memberAlive(second)
        self.assertEqual([0, 1], self.slots())
        self.beat(10, second)
        self.assertEqual(0, self.process(second).killed)
        self.beat(3, second)
        self.assertEqual((1, 0), (self.process(second).killed, self.process(first).killed))
        self.supervisor.memberGone(second, "was ended by SIGKILL")
        self.assertEqual((3, 1), (len(self.made), self.made[2].slot))

    def test_ownSleep(self) -> None:
        """A suspended main process does not kill members."""
        first, second = self.start()
        self.clock.advance(1000)
        self.assertEqual([0, 1], self.slots())
        self.assertEqual([0, 0], [self.process(member).killed for member in (first, second)])

    def test_unreachable(self) -> None:
        """A member whose channel is closed gets no connections."""
        first, _ = self.start()
        # Neither the refused ones nor those that it had not acknowledged were its own.
        pending: Any = object()
        first.open.update({0: None, 1: None})
        first.refusing.update([2, 3])
        first.inFlight.update({1: pending, 3: pending})
        self.supervisor.memberUnreachable(first)
        self.assertEqual(1, first.had)
        self.assertEqual([1], self.slots())

    def test_reload(self) -> None:
        """A reload starts new members, which take over together when the last one is ready."""
        first, second = self.start()
        done = self.supervisor.reload()
        self.assertEqual([0, 1, 0, 1], [member.slot for member in self.made])
        self.supervisor.memberReady(self.made[3])
        self.assertEqual([0, 1], self.slots())
        self.supervisor.memberReady(self.made[2])
        self.assertEqual([2, 3], self.slots())
        self.assertTrue(self.successResultOf(done))
        self.assertEqual([20, 20], [self.process(member).drained for member in (first, second)])
        self.supervisor.memberGone(first, "has ended with status 0")
        self.clock.advance(18)
        self.assertEqual(0, self.process(second).killed)
        self.clock.advance(1)
        self.assertEqual(1, self.process(second).killed)
        self.supervisor.memberGone(second, "was ended by SIGKILL")
        self.assertEqual((4, 2), (len(self.made), len(self.supervisor.members)))

    def test_reloadFails(self) -> None:
        """When a new member cannot start, the old ones stay, and the new ones are killed."""
        self.start()
        done = self.supervisor.reload()
        self.supervisor.memberReady(self.made[2])
        self.supervisor.memberFailed(self.made[3], "SyntaxError: invalid syntax")
        self.supervisor.memberGone(self.made[3], "has ended with status 0")
        self.assertFalse(self.successResultOf(done))
        self.assertEqual(1, self.process(self.made[2]).killed)
        self.supervisor.memberGone(self.made[2], "was ended by SIGKILL")
        self.assertEqual(([0, 1], 4), (self.slots(), len(self.made)))
        self.assertTrue(any("reload given up" in line for line in self.log))
        again = self.supervisor.reload()
        for member in self.made[4:]:
            self.supervisor.memberReady(member)
        self.assertTrue(self.successResultOf(again))

    def test_reloadAgain(self) -> None:
        """A reload during a reload comes after it."""
        self.start()
        first = self.supervisor.reload()
        second = self.supervisor.reload()
        third = self.supervisor.reload()
        for member in self.made[2:]:
            self.supervisor.memberReady(member)
        self.assertTrue(self.successResultOf(first))
        self.assertNoResult(second)
        for member in self.made[4:]:
            self.supervisor.memberReady(member)
        self.assertEqual([True, True], [self.successResultOf(done) for done in (second, third)])
        self.assertEqual(([4, 5], 6), (self.slots(), len(self.made)))

    def test_reloadAtStart(self) -> None:
        """A reload during the start comes after it."""
        started = self.supervisor.start()
        done = self.supervisor.reload()
        for member in list(self.made):
            self.supervisor.memberReady(member)
        self.successResultOf(started)
        for member in self.made[2:]:
            self.supervisor.memberReady(member)
        self.assertTrue(self.successResultOf(done))
        self.assertEqual([2, 3], self.slots())

    def test_reloadAndDeath(self) -> None:
        """When a member dies during a reload, its successor takes over as soon as it is ready."""
        first, second = self.start()
        self.beat(STEADY_AFTER)
        done = self.supervisor.reload()
        self.supervisor.memberReady(self.made[2])
        self.supervisor.memberGone(first, "was ended by SIGKILL")
        self.assertEqual([2, 1], self.slots())
        self.supervisor.memberReady(self.made[3])
        self.assertTrue(self.successResultOf(done))
        self.assertEqual(([2, 3], 4), (self.slots(), len(self.made)))
        self.assertEqual(20, self.process(second).drained)

    def test_reloadDuringBackOff(self) -> None:
        """A reload does not wait for a delayed restart."""
        first, _ = self.start()
        self.supervisor.memberGone(first, "was ended by SIGSEGV")
        self.supervisor.memberGone(self.made[2], "was ended by SIGSEGV")
        self.assertEqual(3, len(self.made))
        done = self.supervisor.reload()
        for member in self.made[3:]:
            self.supervisor.memberReady(member)
        self.assertTrue(self.successResultOf(done))
        self.assertEqual([3, 4], self.slots())
        self.beat(5)
        self.assertEqual(5, len(self.made))

    def test_reloadReplacesStarting(self) -> None:
        """A reload starts a starting member again because it may have loaded the old code."""
        first, _ = self.start()
        self.beat(STEADY_AFTER)
        self.supervisor.memberGone(first, "was ended by SIGKILL")
        done = self.supervisor.reload()
        self.assertEqual(1, self.process(self.made[2]).killed)
        self.supervisor.memberReady(self.made[2])
        self.supervisor.memberGone(self.made[2], "was ended by SIGKILL")
        for member in self.made[3:]:
            self.supervisor.memberReady(member)
        self.assertTrue(self.successResultOf(done))
        self.assertEqual(([3, 4], 5), (self.slots(), len(self.made)))

    def test_leaving(self) -> None:
        """A member that a signal tells to end drains, and is replaced meanwhile."""
        first, _ = self.start()
        self.beat(STEADY_AFTER)
        self.supervisor.memberLeaving(first)
        self.assertEqual((DRAINING, None), (first.state, self.process(first).drained))
        self.supervisor.memberReady(self.made[2])
        self.assertEqual([2, 1], self.slots())
        self.supervisor.memberLeaving(first)
        self.supervisor.memberGone(first, "has ended with status 0")
        self.assertEqual(3, len(self.made))

    def test_stop(self) -> None:
        """All members drain; the stop ends when the last one has ended."""
        first, second = self.start()
        stopped = self.supervisor.stop()
        self.assertIs(stopped, self.supervisor.stop())
        self.assertEqual([], self.slots())
        self.supervisor.memberGone(first, "has ended with status 0")
        self.assertNoResult(stopped)
        self.clock.advance(19)
        self.assertEqual(1, self.process(second).killed)
        self.supervisor.memberGone(second, "was ended by SIGKILL")
        self.successResultOf(stopped)
        self.assertEqual((2, []), (len(self.made), self.clock.getDelayedCalls()))

    def test_stopDuringReload(self) -> None:
        """A stop kills starting members; draining ones keep their time."""
        first, second = self.start()
        self.supervisor.memberLeaving(first)
        reloaded = self.supervisor.reload()
        again = self.supervisor.reload()
        stopped = self.supervisor.stop()
        self.assertEqual([False, False], [self.successResultOf(done) for done in (reloaded, again)])
        self.assertFalse(self.successResultOf(self.supervisor.reload()))
        self.assertEqual(20, self.process(second).drained)
        for member in list(self.supervisor.members):
            if member.state != DRAINING:
                self.assertEqual(1, self.process(member).killed)
            self.supervisor.memberGone(member, "has ended")
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopBeforeStart(self) -> None:
        """A stop before the start ends at once."""
        self.successResultOf(self.supervisor.stop())

    def test_stopDuringBackOff(self) -> None:
        """A stop cancels a delayed restart."""
        first, second = self.start()
        self.supervisor.memberGone(first, "was ended by SIGSEGV")
        self.supervisor.memberGone(self.made[2], "was ended by SIGSEGV")
        stopped = self.supervisor.stop()
        self.supervisor.memberGone(second, "has ended with status 0")
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_period(self) -> None:
        """There are several heartbeats in the heartbeat timeout."""
        self.assertEqual([1.0, 1.0, 0.2], [beatPeriod(timeout) for timeout in (60, 10, 1)])
