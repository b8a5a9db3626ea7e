"""Registrations: written, written again, changed and taken away."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider, RecordError, RegistryError
from getty_tx.registry.provider import decodeRecord
from getty_tx.registry.registration import STOP_TIME
from getty_tx.registry.registry import CHECK_INTERVAL, HERD_DELAY, MAX_WRITES, SOON
from getty_tx.testing import MemoryRegistry, MemoryStore
from tests.support.long import IS_LONG

ECHO = Provider("echo", "tcp:10.0.0.5:8090")
KEY = ("echo", "tcp%3A10.0.0.5%3A8090")


class RegistryCase(SynchronousTestCase):
    """A registry on a clock, whose warnings are counted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore()
        self.registry = self.another()
        self.texts: list[str] = []

        def observe(event: Any) -> None:
            if event["log_namespace"].startswith("getty_tx.registry"):
                self.texts.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def another(self) -> MemoryRegistry:
        """Another process with the same store."""
        return MemoryRegistry(self.clock, self.store, Random(5))

    def pass_(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass."""
        self.clock.pump([step] * round(seconds / step))

    def found(self) -> list[Provider]:
        """What is in the store."""
        return [decodeRecord(data, service) for (service, _), data in self.store.records.items()]


class WrittenTests(RegistryCase):
    """When the record is there."""

    def test_fromTheStart(self) -> None:
        """Registered before the start, it is written with it."""
        registration = self.registry.register(ECHO)
        known = registration.whenRegistered()
        self.assertNoResult(known)
        self.assertFalse(registration.isRegistered)
        self.registry.startService()
        self.successResultOf(known)
        self.successResultOf(registration.whenRegistered())
        self.assertTrue(registration.isRegistered)
        self.assertEqual(self.found(), [ECHO])
        self.assertEqual(self.registry.registrations, [registration])

    def test_update(self) -> None:
        """The record changes with it; who it is does not."""
        self.registry.startService()
        registration = self.registry.register(ECHO)
        registration.update(weight=5, zone="b", meta={"a": 1})
        self.assertEqual(self.found(), [ECHO.but(weight=5, zone="b", meta={"a": 1})])
        for changes in ({"id": "x"}, {"endpoint": "tcp:b:1"}, {"service": "b"}, {"colour": 1}):
            self.assertRaises(SettingError, registration.update, **changes)
        self.assertIn("weight=-1", str(self.assertRaises(SettingError, registration.update, weight=-1)))

    def test_refused(self) -> None:
        """What could not be found, or would be another's, is refused at once."""
        self.registry.register(ECHO)
        error = self.assertRaises(SettingError, self.registry.register, ECHO.but(weight=1))
        self.assertIn("registered already", str(error))
        error = self.assertRaises(SettingError, self.registry.register, Provider("echo", "process:/bin/sh"))
        self.assertIn("for endpoints of kind", str(error))
        self.assertRaises(RecordError, self.registry.register, Provider("echo", "tcp:a:80:timeout=3"))
        self.registry.engine.isReadOnly = True
        error = self.assertRaises(SettingError, self.registry.register, Provider("echo", "tcp:b:1"))
        self.assertIn("registry='memory:' is for reading only", str(error))

    def test_away(self) -> None:
        """Written when the engine comes, which is said once."""
        self.store.goAway()
        self.registry.startService()
        registration = self.registry.register(ECHO)
        self.pass_(60)
        self.assertFalse(registration.isRegistered)
        self.assertIsInstance(registration.lastError, RegistryError)
        self.assertEqual((self.registry.isConnected, self.registry.staleFor), (False, 60.0))
        self.store.comeBack()
        self.pass_(HERD_DELAY)
        self.assertTrue(registration.isRegistered)
        self.assertEqual((registration.lastError, self.registry.staleFor), (None, 0.0))
        away, again, registered = self.texts
        self.assertIn("memory: does not answer", away)
        self.assertIn("memory: answers again, after 60.0 s", again)
        self.assertIn("is registered", registered)

    def test_lost(self) -> None:
        """A lease that ended while the engine answers is made good at once."""
        self.registry.startService()
        registration = self.registry.register(ECHO)
        self.store.expire()
        self.assertEqual((self.found(), registration.isRegistered), ([ECHO], True))

    def test_deleted(self) -> None:
        """Somebody deletes the record: it is back with the next look."""
        self.registry.startService()
        self.registry.register(ECHO)
        self.pass_(CHECK_INTERVAL * 2)
        self.assertEqual(self.texts, [])
        self.store.delete(*KEY)
        self.pass_(CHECK_INTERVAL * 1.1)
        self.assertEqual(self.found(), [ECHO])
        self.assertIn("was gone, and is written again", self.texts[0])

    def test_deletedWhileAway(self) -> None:
        """Somebody deletes it while the engine is away: it is back soon after."""
        self.registry.startService()
        self.registry.register(ECHO)
        self.store.goAway()
        self.store.delete(*KEY)
        self.store.comeBack()
        self.assertEqual(self.found(), [])
        self.pass_(SOON)
        self.assertEqual(self.found(), [ECHO])

    def test_lookFails(self) -> None:
        """A look that fails is counted, and the next one comes."""
        self.registry.startService()
        self.registry.register(ECHO)
        self.store.isAway = True
        self.pass_(CHECK_INTERVAL * 1.1)
        self.assertEqual(self.registry.failures, 1)
        self.store.isAway = False
        self.store.delete(*KEY)
        self.pass_(CHECK_INTERVAL * 1.1)
        self.assertEqual(self.found(), [ECHO])

    def test_slowWrites(self) -> None:
        """One write at a time; what changes meanwhile is in the next one."""
        engine = self.registry.engine
        writes: list[tuple[Provider, Deferred[None]]] = []

        def put(provider: Provider) -> Deferred[None]:
            deferred: Deferred[None] = Deferred()
            writes.append((provider, deferred))
            return deferred

        self.patch(engine, "put", put)
        self.registry.startService()
        registration = self.registry.register(ECHO)
        for weight in (1, 2, 3):
            registration.update(weight=weight)
        self.assertEqual([each.weight for each, _ in writes], [100])
        writes[0][1].callback(None)
        self.assertEqual([each.weight for each, _ in writes], [100, 3])
        writes[1][1].errback(RegistryError("no"))
        self.assertFalse(writes[2:])
        self.pass_(1)
        self.assertEqual([each.weight for each, _ in writes], [100, 3, 3])


class ManyTests(RegistryCase):
    """Thousands of registrations of one process."""

    def test_someAtATime(self) -> None:
        """No more are written at a time than leave the engine room for what else it has to do."""
        writes: list[tuple[Provider, Deferred[None]]] = []

        def put(provider: Provider) -> Deferred[None]:
            deferred: Deferred[None] = Deferred()
            writes.append((provider, deferred))
            return deferred

        self.registry.startService()
        self.patch(self.registry.engine, "put", put)
        registrations = [self.registry.register(Provider("echo", f"tcp:a:{port}")) for port in range(1, 201)]
        self.assertEqual(len(writes), MAX_WRITES)
        registrations[-2].withdraw()
        registrations[-1].update(weight=3)
        done = 0
        while done < len(writes):
            self.assertLessEqual(len(writes) - done, MAX_WRITES)
            writes[done][1].callback(None)
            done += 1
        self.assertEqual(len(writes), 199)
        self.assertEqual(writes[-1][0].weight, 3)
        self.assertEqual(sum(each.isRegistered for each in registrations), 199)

    def test_allFail(self) -> None:
        """That all fail at once is no recursion: there are more of them than Python has frames."""
        self.registry.startService()
        self.store.isAway = True
        registrations = [self.registry.register(Provider("echo", f"tcp:a:{port}")) for port in range(1, 1301)]
        self.store.isAway = False
        self.pass_(30)
        self.assertTrue(all(each.isRegistered for each in registrations))


class LeavingTests(RegistryCase):
    """The end of a registration."""

    def setUp(self) -> None:
        super().setUp()
        self.registry.startService()
        self.registration = self.registry.register(ECHO)

    def test_inOrder(self) -> None:
        """It says that it leaves, gives others the time to hear of it, and goes."""
        left = self.registration.leave()
        self.assertEqual(self.found(), [ECHO.but(state="leaving", weight=0)])
        self.clock.advance(0.9)
        self.assertNoResult(left)
        self.clock.advance(0.2)
        self.successResultOf(left)
        self.successResultOf(self.registration.withdraw())
        self.assertEqual(self.found(), [])
        self.assertEqual(self.registry.registrations, [])
        self.successResultOf(self.registration.withdraw())
        self.failureResultOf(self.registration.whenRegistered(), RegistryError)
        self.registry.register(ECHO)
        self.assertEqual(self.found(), [ECHO])

    def test_withoutStates(self) -> None:
        """Where records have no state it goes, and gives others the time then."""
        self.registry.engine.hasStates = False
        left = self.registration.leave()
        self.assertEqual(self.found(), [])
        self.assertNoResult(left)
        self.clock.advance(1)
        self.successResultOf(left)

    def test_away(self) -> None:
        """Nobody could hear of it: it does not wait."""
        self.store.goAway()
        self.successResultOf(self.registration.leave())
        self.successResultOf(self.registration.withdraw())
        self.assertIn("could not be deleted", self.texts[-1])

    def test_hangs(self) -> None:
        """An engine that does not answer holds up a stop for some seconds."""
        self.patch(self.registry.engine, "put", lambda provider: Deferred())
        self.patch(self.registry.engine, "delete", lambda provider: Deferred())
        left = self.registration.leave()
        self.clock.advance(STOP_TIME)
        self.clock.advance(1)
        self.successResultOf(left)
        stopped = self.registry.stopService()
        self.assertNoResult(stopped)
        self.clock.advance(STOP_TIME)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_another(self) -> None:
        """The record of a process that has the same id, and came later, stays."""
        other = self.another()
        other.startService()
        other.register(ECHO.but(weight=7))
        self.successResultOf(self.registration.withdraw())
        self.assertEqual(self.found(), [ECHO.but(weight=7)])

    def test_neverWritten(self) -> None:
        """Nothing is deleted that was not written."""
        self.store.goAway()
        waiting = self.registry.register(Provider("echo", "tcp:b:1"))
        known = waiting.whenRegistered()
        self.successResultOf(waiting.withdraw())
        self.failureResultOf(known, RegistryError)

    def test_stop(self) -> None:
        """The last of its users takes all away; it can be started again."""
        self.registry.startService()
        self.successResultOf(self.registry.stopService())
        self.assertEqual(self.found(), [ECHO])
        self.successResultOf(self.registry.stopService())
        self.assertEqual((self.found(), self.clock.getDelayedCalls()), ([], []))
        self.successResultOf(self.registry.stopService())
        self.registry.register(ECHO)
        self.registry.startService()
        self.assertEqual(self.found(), [ECHO])

    def test_startWhileStopping(self) -> None:
        """A start during a stop comes after it."""
        stopping: Deferred[None] = Deferred()
        self.patch(self.registry.engine, "stop", lambda: stopping)
        stopped = self.registry.stopService()
        self.registry.startService()
        self.assertNoResult(stopped)
        self.registry.register(ECHO)
        self.assertEqual(self.found(), [])
        stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.found(), [ECHO])


#: Processes that come back; those of a short run take a third of the time.
HERD = 1000 if IS_LONG else 400


class HerdTests(SynchronousTestCase):
    """Many processes come back after an outage."""

    def herd(self, seconds: float) -> list[int]:
        """Writes of all processes in each tenth of a second after an outage, in which all records were lost."""
        clock = Clock()
        store = MemoryStore()
        registries = [MemoryRegistry(clock, store, Random(number)) for number in range(HERD)]
        for number, registry in enumerate(registries):
            registry.startService()
            registry.register(Provider("echo", f"tcp:a:{number + 1}"))
        store.goAway()
        clock.pump([0.5] * round(seconds / 0.5))
        store.comeBack(wiped=True)
        counts: list[int] = []
        before = 0
        for _ in range(120):
            counts.append(len(store.records) - before)
            before = len(store.records)
            clock.advance(0.1)
        self.assertEqual(len(store.records), HERD)
        return counts

    def test_long(self) -> None:
        """No second has more than 15 % of them."""
        counts = self.herd(60)
        self.assertLessEqual(max(sum(counts[at : at + 10]) for at in range(len(counts))), 0.15 * HERD)

    def test_short(self) -> None:
        """After a short one they are back at once."""
        self.assertEqual(self.herd(2)[0], HERD)


class SharedTests(RegistryCase):
    """list()."""

    def test_list(self) -> None:
        self.registry.startService()
        other = Provider("other", "tcp:a:1")
        self.registry.register(other)
        self.registry.register(ECHO)
        self.store.write("echo", "bad", b"{")
        self.assertEqual(self.successResultOf(self.registry.list()), [ECHO, other])
        self.assertEqual(self.successResultOf(self.registry.list("echo")), [ECHO])
        self.store.goAway()
        self.failureResultOf(self.registry.list(), RegistryError)
        self.assertEqual(repr(self.registry), "<Registry memory:: not connected>")
