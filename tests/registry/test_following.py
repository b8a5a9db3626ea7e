"""Followings: what a follower is told, and what is kept when the registry is away or empty."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.registry import Provider
from getty_tx.registry.changes import FLAPPING_WAIT, MAX_DEPARTURES, SETTLE
from getty_tx.registry.following import GATHER_TIME, SLICE
from getty_tx.registry.provider import decodeRecord, encodeRecord
from getty_tx.testing import MemoryRegistry, MemoryStore
from tests.registry.test_registration import RegistryCase

if TYPE_CHECKING:
    from collections.abc import Collection

A, B, C = (Provider("echo", f"tcp:{name}:8090", name) for name in "abc")


class Follower:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[list[str], list[str], list[str]]] = []
        self.providers: dict[str, Provider] = {}

    def providersChanged(
        self, added: Collection[Provider], removed: Collection[Provider], changed: Collection[Provider]
    ) -> None:
        self.told.append(([each.id for each in added], [each.id for each in removed], [each.id for each in changed]))
        for each in removed:
            del self.providers[each.id]
        for each in changed:
            assert each.id in self.providers
        for each in added:
            assert each.id not in self.providers
        self.providers.update({each.id: each for each in (*added, *changed)})

    def take(self) -> list[tuple[list[str], list[str], list[str]]]:
        """What it was told since."""
        told, self.told = self.told, []
        return told


class FollowingCase(RegistryCase):
    """A follower of one service."""

    def setUp(self) -> None:
        super().setUp()
        self.follower = Follower()
        self.following = self.registry.follow("echo", self.follower)

    def write(self, *providers: Provider) -> None:
        for each in providers:
            self.store.write(each.service, each.id, encodeRecord(each))
        self.clock.advance(GATHER_TIME)

    def delete(self, *providers: Provider) -> None:
        for each in providers:
            self.store.delete(each.service, each.id)
        self.clock.advance(GATHER_TIME)


class ToldTests(FollowingCase):
    """Changes."""

    def test_first(self) -> None:
        """The first call has the whole list."""
        self.write(A, B, Provider("other", "tcp:x:1"))
        self.assertFalse(self.following.isKnown)
        self.registry.startService()
        self.assertEqual(self.follower.take(), [(["a", "b"], [], [])])
        self.assertTrue(self.following.isKnown)
        self.assertEqual(self.following.providers, {"a": A, "b": B})

    def test_firstEmpty(self) -> None:
        """Even if it is empty."""
        self.registry.startService()
        self.assertEqual(self.follower.take(), [([], [], [])])

    def test_changes(self) -> None:
        """Those that come and change are told at once, those that go after some time."""
        self.write(A, B)
        self.registry.startService()
        self.follower.take()
        self.write(C)
        self.write(A.but(weight=5))
        self.write(A.but(weight=5))
        self.assertEqual(self.follower.take(), [(["c"], [], []), ([], [], ["a"])])
        self.delete(B)
        self.assertEqual(self.follower.take(), [])
        self.clock.advance(SETTLE)
        self.assertEqual(self.follower.take(), [([], ["b"], [])])
        self.assertEqual(self.follower.providers, self.following.providers)

    def test_replaced(self) -> None:
        """A record that is deleted and written again is one change, or none."""
        self.write(A, B)
        self.registry.startService()
        self.follower.take()
        self.delete(A, B)
        self.clock.advance(SETTLE / 2)
        self.write(A, B.but(zone="x"))
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [([], [], ["b"])])

    def test_otherKey(self) -> None:
        """Of an engine whose keys are no ids the newest record of an id counts, and an older one after it."""
        self.registry.startService()
        self.follower.take()
        self.following.recordsChanged({"1": A}, ())
        self.clock.advance(1)
        self.following.recordsChanged({"2": A.but(weight=2)}, ())
        self.clock.advance(1)
        self.following.recordsChanged({}, ["1"])
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [(["a"], [], []), ([], [], ["a"])])
        self.following.recordsChanged({"3": A.but(weight=3)}, ())
        self.clock.advance(1)
        self.following.recordsChanged({}, ["3"])
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [([], [], ["a"]), ([], [], ["a"])])
        self.assertEqual(self.follower.providers["a"].weight, 2)
        self.following.recordsChanged({"2": B}, ())
        self.clock.advance(1)
        self.assertEqual(self.follower.providers, {"b": B})

    def test_flapping(self) -> None:
        """One that went too often in a minute has to wait."""
        self.write(A, B)
        self.registry.startService()
        for _ in range(MAX_DEPARTURES + 1):
            self.assertIn("b", self.follower.providers)
            self.delete(B)
            self.clock.advance(1)
            self.write(B)
        self.assertNotIn("b", self.follower.providers)
        self.assertIn("comes and goes", self.texts[-1])
        self.write(B.but(weight=3))
        self.clock.advance(FLAPPING_WAIT - 2)
        self.assertNotIn("b", self.follower.providers)
        self.clock.advance(2)
        self.assertEqual(self.follower.providers["b"].weight, 3)
        self.delete(B)
        self.clock.advance(1)
        self.write(B)
        self.delete(B)
        self.clock.advance(FLAPPING_WAIT * 2)
        self.assertNotIn("b", self.follower.providers)

    def test_departuresForgotten(self) -> None:
        """Who went more than a minute ago takes no memory."""
        many = [A.but(id=str(number)) for number in range(50)]
        self.write(B, *many)
        self.registry.startService()
        self.delete(*many)
        self.clock.advance(1)
        changes = self.following._changes
        self.assertEqual(len(changes._departures), 50)
        self.write(A)
        self.clock.advance(60)
        self.delete(A)
        self.clock.advance(1)
        self.assertEqual(list(changes._departures), [A.id])

    def test_gathered(self) -> None:
        """What comes after a pause is told at once, and what comes soon after it together, of each key the last."""
        self.write(A, B)
        self.registry.startService()
        self.follower.take()
        changed = self.following.recordsChanged
        changed({"a": encodeRecord(A.but(weight=1))}, ())
        self.assertEqual(self.follower.take(), [([], [], ["a"])])
        changed({"a": encodeRecord(A.but(weight=2))}, ())
        changed({"a": encodeRecord(A.but(weight=3)), "c": encodeRecord(C)}, ["b"])
        changed({"b": encodeRecord(B.but(weight=4))}, ())
        self.assertEqual((self.follower.take(), self.registry.events), ([], 8))
        self.clock.advance(GATHER_TIME)
        self.assertEqual(self.follower.take(), [(["c"], [], ["a", "b"])])
        self.assertEqual([self.follower.providers[id].weight for id in "abc"], [3, 4, 100])
        # Whoever leaves and is gone at once has left all the same.
        changed({"a": encodeRecord(A.but(state="leaving"))}, ())
        changed({}, ["a"])
        self.assertEqual(self.follower.take(), [([], [], ["a"])])
        self.clock.advance(2 * GATHER_TIME)
        self.clock.advance(GATHER_TIME)
        changed({"b": encodeRecord(B)}, ())
        changed({"c": encodeRecord(C.but(weight=1))}, ())
        self.assertEqual(self.follower.take(), [([], [], ["b"])])
        # A list has what waits.
        self.following.recordsAre({"b": encodeRecord(B)})
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [([], ["a", "c"], [])])

    def test_many(self) -> None:
        """A long list is worked off in slices, in order with what comes behind it."""
        providers = [Provider("echo", f"tcp:a:{port}", str(port)) for port in range(1, 5 * SLICE)]
        self.write(*providers)
        self.registry.startService()
        self.assertEqual(self.follower.take(), [])
        self.write(A)
        self.delete(providers[0])
        turns = 0
        while len(self.follower.told) < 3:
            self.clock.advance(0 if turns < 5 else SETTLE)
            turns += 1
        self.assertGreaterEqual(turns, 5)
        self.assertEqual(len(self.follower.told[0][0]), len(providers))
        self.assertEqual(self.follower.told[1:], [(["a"], [], []), ([], ["1"], [])])

    def test_stop(self) -> None:
        """Nothing is told after it, and no call waits."""
        self.write(A, B)
        self.registry.startService()
        self.delete(B)
        self.follower.take()
        self.following.stop()
        self.following.stop()
        self.write(C)
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [])
        self.assertEqual(self.registry.followings, [])

    def test_again(self) -> None:
        """A registry that was stopped tells what has changed meanwhile."""
        self.write(A, B)
        self.registry.startService()
        self.follower.take()
        self.successResultOf(self.registry.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.delete(A)
        self.write(C)
        self.registry.startService()
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [(["c"], [], []), ([], ["a"], [])])

    def test_fails(self) -> None:
        """A follower that fails is logged, and is told more."""

        def fail(*args: Any) -> None:
            raise RuntimeError("mine")

        self.write(A)
        self.patch(self.follower, "providersChanged", fail)
        self.registry.startService()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.following.providers, {"a": A})

    def test_names(self) -> None:
        """What is no name is refused; what the engine cannot follow holds up no other."""
        self.assertIn("service=", str(self.assertRaises(SettingError, self.registry.follow, "", self.follower)))

        def watch(*args: Any) -> Any:
            raise SettingError("too long")

        watched = self.registry.engine.watch
        self.patch(self.registry.engine, "watch", watch)
        self.registry.startService()
        self.assertEqual(len(self.flushLoggedErrors(SettingError)), 1)
        self.assertRaises(SettingError, self.registry.follow, "other", self.follower)
        self.assertEqual(self.registry.followings, [self.following])
        self.patch(self.registry.engine, "watch", watched)
        self.following.stop()


class KeptTests(FollowingCase):
    """What stays when the registry has a fault."""

    def setUp(self) -> None:
        super().setUp()
        self.write(A, B)
        self.registry.startService()
        self.follower.take()

    def test_away(self) -> None:
        """Nothing is told; how long it lasts can be seen."""
        self.store.goAway()
        self.clock.advance(600)
        self.assertEqual((self.follower.take(), self.following.staleFor), ([], 600))
        self.store.comeBack()
        self.assertEqual((self.follower.take(), self.following.staleFor), ([], 0))
        self.assertEqual(len(self.texts), 2)

    def test_missed(self) -> None:
        """What was missed is told with the list that follows."""
        self.store.goAway()
        self.delete(A)
        self.write(C)
        self.store.comeBack()
        self.clock.advance(1)
        self.assertEqual(self.follower.take(), [(["c"], [], []), ([], ["a"], [])])

    def test_wiped(self) -> None:
        """An empty list changes nothing; the first that comes back ends it."""
        self.store.goAway()
        self.store.comeBack(wiped=True)
        self.clock.advance(60)
        self.assertEqual(self.follower.take(), [])
        self.assertTrue(self.following.isHeld)
        self.assertEqual(self.following.providers, {"a": A, "b": B})
        self.assertIn("no provider of echo has a record any more", self.texts[-1])
        self.write(B)
        self.assertEqual(self.follower.take(), [([], ["a"], [])])
        self.assertFalse(self.following.isHeld)

    def test_deleted(self) -> None:
        """Deleted one after the other, the last one stays."""
        self.delete(A)
        self.clock.advance(1)
        self.delete(B)
        self.clock.advance(1)
        self.assertEqual(self.follower.providers, {"b": B})
        self.write(C)
        self.assertEqual(self.follower.providers, {"c": C})

    def test_beside(self) -> None:
        """Those that leave are nobody to stay with."""
        self.write(A.but(state="leaving"))
        self.delete(B)
        self.clock.advance(1)
        self.assertIn("b", self.follower.providers)
        self.delete(A)
        self.clock.advance(1)
        self.assertEqual(self.follower.providers, {"b": B})

    def test_left(self) -> None:
        """Those that have left in order do go."""
        self.write(A.but(state="leaving"), B.but(state="leaving"))
        self.delete(A, B)
        self.clock.advance(1)
        self.assertEqual(self.follower.providers, {})

    def test_garbage(self) -> None:
        """A record that cannot be used is named once, and counted; what was known stays."""
        self.follower.take()
        for data in (b"{", b"{", b"[]"):
            self.store.write("echo", "a", data)
            self.clock.advance(GATHER_TIME)
        self.store.write("echo", "x", json.dumps({"service": "echo", "endpoint": "process:/bin/sh"}).encode())
        self.store.write("echo", "y", encodeRecord(B))
        self.store.write("echo", "z", b'"' + b"z" * 1_000_000 + b'"')
        self.clock.advance(GATHER_TIME)
        self.assertEqual((self.follower.take(), self.following.skipped), ([], 4))
        self.assertEqual(len(self.texts), 5)
        self.assertIn("'x': endpoint 'process:/bin/sh' is of a kind that is not allowed", self.texts[-3])
        self.assertIn("'y': it has the id 'b', which is another's", self.texts[-2])
        self.assertIn("'z': it has 1000002 bytes, more than 65536", self.texts[-1])
        self.write(A)
        for key in "xyz":
            self.store.delete("echo", key)
        self.clock.advance(1)
        self.assertEqual((self.follower.take(), self.following.skipped), ([], 0))


class RandomTests(SynchronousTestCase):
    """Any order of changes, outages and lists."""

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2]), st.booleans())
            | st.sampled_from(["a", "b", "c", "away", "back", "wiped", "expire"])
            | st.sampled_from([0.05, 0.2, 40.0]),
            max_size=30,
        ),
        st.randoms(),
    )
    def test_agrees(self, steps: list[Any], random: Any) -> None:
        """In the end a follower knows those who have a record, as it is."""
        clock = Clock()
        store = MemoryStore()
        registry = MemoryRegistry(clock, store, random)
        registry.startService()
        follower = Follower()
        registry.follow("echo", follower)
        for step in steps:
            if isinstance(step, tuple):
                id, weight, leaves = step
                provider = Provider("echo", f"tcp:{id}:1", id, weight=weight, state="leaving" if leaves else "serving")
                store.write("echo", id, encodeRecord(provider), owner=registry)
            elif isinstance(step, float):
                clock.advance(step)
            elif step == "away":
                store.goAway()
            elif step in ("back", "wiped"):
                store.comeBack(step == "wiped")
            elif step == "expire":
                store.expire()
            else:
                store.delete("echo", step)
        store.comeBack()
        clock.advance(SETTLE)
        clock.advance(FLAPPING_WAIT)
        there = {key: decodeRecord(data, "echo") for key, data in store.of("echo").items()}
        if any(not each.isLeaving for each in there.values()):
            self.assertEqual(follower.providers, there)
        else:
            self.assertLessEqual(there.items(), follower.providers.items())
            self.assertEqual({id for id, each in follower.providers.items() if each.isLeaving}, set(there))
        for following in registry.followings:
            following.stop()
        self.successResultOf(registry.stopService())
        self.assertEqual(clock.getDelayedCalls(), [])
