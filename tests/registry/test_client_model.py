"""Whatever a registry says and the network does: what a client picks, and what it keeps."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.client.dialing import MAX_DIALS
from getty_tx.client.subset import Subset
from getty_tx.errors import NoSessionError
from tests.services.test_picking import OneGroup
from tests.support.fakeregistry import FollowingCase, provider
from tests.support.long import examples

NAMES = "abcdef"

#: What may happen to one of them.
EVENTS = (
    "added",
    "removed",
    "left",
    "weight",
    "moved",
    "zone",
    "answered",
    "refused",
    "lost",
    "closed",
    "ejected",
    "time",
)


class SequenceTests(FollowingCase):
    """Random sequences of events."""

    @given(
        st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(NAMES)), min_size=8, max_size=40),
        st.sampled_from([None, 1, 3]),
        st.integers(1, 2),
    )
    @settings(max_examples=examples(60), deadline=None)
    def test_sequences(self, events: list[tuple[str, str]], subset: int | None, number: int) -> None:
        """A pick is open and of one that is not leaving; nothing is left over."""
        self.setUp()
        client = self.following(number=number, subset=subset, zone="east", warmUp=5, reconnectAttempts=9)
        records: dict[str, Any] = {name: provider(name) for name in NAMES[:4]}
        self.registry.tell(records.values())
        self.answerAll()
        for event, name in events:
            self.happen(client, records, event, name)
            self.check(client, records)
        # All go: whatever the order was, nobody is left when the sessions are lost.
        self.registry.tell(removed=list(records.values()))
        for each in list(self.endpoints):
            self.lose(each)
        self.clock.advance(0)
        self.assertEqual(client.providers, [])
        self.assertEqual((client._pool.open, client._pool.dialed, len(client._pool.picker.opened)), (0, 0, 0))
        self.finish(client)
        self._cleanups.clear()

    def happen(self, client: Any, records: dict[str, Any], event: str, name: str) -> None:
        """Let an event happen."""
        known = records.get(name)
        endpoint = self.named(name)
        if event == "added" and known is None:
            records[name] = provider(name)
            self.registry.tell([records[name]])
        elif event == "removed" and known is not None:
            self.registry.tell(removed=[records.pop(name)])
        elif event in ("left", "weight", "moved", "zone") and known is not None:
            change: Any = {
                "left": {"state": "leaving", "weight": 0},
                "weight": {"state": "serving", "weight": (known.weight + 50) % 150},
                "moved": {"endpoint": "tcp:c:1" if known.endpoint != "tcp:c:1" else f"tcp:{name}:1"},
                "zone": {"zone": "" if known.zone else "east"},
            }[event]
            records[name] = known.but(**change)
            self.registry.tell(changed=[records[name]])
        elif event == "answered":
            self.answerAll()
        elif event == "refused":
            for dial in endpoint.pending:
                dial.deferred.errback(ConnectionRefusedError())
        elif event == "lost":
            for dial in endpoint.dials:
                if dial.transport is not None:
                    dial.transport.lose(ConnectionLost())
        elif event == "closed":
            for session in client.sessions:
                if session.provider.id == name:
                    session.close()
        elif event == "ejected":
            client.eject(name, 3)
        elif event == "time":
            self.clock.pump([0.2] * 6)

    def check(self, client: Any, records: dict[str, Any]) -> None:
        """What holds at any time."""
        pool = client._pool
        leaving = {id for id, each in records.items() if each.isLeaving}
        usable = {each.id for each in client.providers if each.sessions and each.state != "leaving"}
        self.assertFalse(usable & leaving)
        for by in ("roundRobin", "random", "leastPending", "hash"):
            try:
                session = client.pick(by, "key")
            except NoSessionError:
                self.assertEqual(client.sessions, [])
                continue
            self.assertFalse(session.isClosed)
            self.assertIn(session.provider.id, usable)
        # Those without a record have a session, if only one that is closing.
        for group in client.providers:
            self.assertTrue(group.id in records or group.open, group)
            self.assertEqual(group.open, sum(slot.session is not None for slot in group.slots))
            self.assertLessEqual(len(group.slots), pool.number)
        # A session that the picker returns without a look at its group is the group's.
        for group, session in zip(pool.picker.groups, pool.picker._sessions, strict=True):
            self.assertTrue(session is None or session.isClosed or session in group.sessions, group)
        self.assertEqual(pool.open, sum(each.open for each in client.providers))
        self.assertEqual(pool.dialed, sum(each.isDialed for each in client.providers))
        self.assertLessEqual(len(pool.dialing), MAX_DIALS)
        self.assertLessEqual(len(pool.picker._heap or ()), 2 * len(pool.picker.groups) + 8 + len(NAMES))


class SubsetTests(SynchronousTestCase):
    """The subsets of many clients."""

    def test_even(self) -> None:
        """Of 1,000 clients with 20 of 100 providers each provider has 150 to 250; one that goes moves one at most."""
        groups: Any = [OneGroup(i) for i in range(100)]
        for group in groups:
            group.isFailing = False
        counted: Counter[Any] = Counter()
        for number in range(1000):
            subset = Subset(20, number.to_bytes(4))
            for group in groups:
                subset.add(group)
            more, less = subset.choose()
            self.assertEqual((len(more), less), (20, []))
            counted.update(more)
            subset.discard(groups[7])
            more, less = subset.choose()
            self.assertLessEqual(len(more), 1)
            self.assertEqual(less, [])
        self.assertTrue(all(150 <= counted[group] <= 250 for group in groups), counted)
        self.assertEqual(len(subset), 99)
