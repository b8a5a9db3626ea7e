"""What a client of several endpoints picks while its sessions come, go and are replaced."""

from __future__ import annotations

from typing import Any

from getty_tx.errors import NoSessionError
from tests.support.fakeregistry import FollowingCase, provider
from tests.support.several import SeveralCase, nameOf

BY = ("roundRobin", "random", "leastPending", "hash")

NAMES = "abcdefghijkl"


class PickedTests(SeveralCase):
    """All that are open are picked, and no others: by each strategy, with more endpoints than are all looked at."""

    def picked(self, client: Any, by: str, picks: int = 1500) -> set[Any]:
        """The sessions that are picked."""
        return {client.pick(by, key=number if by == "hash" else None) for number in range(picks)}

    def check(self, client: Any, expected: set[Any]) -> None:
        """These are open, and picked."""
        self.assertEqual(set(client.sessions), expected)
        for by in BY:
            self.assertEqual(self.picked(client, by), expected, by)

    def test_closing(self) -> None:
        """One that has closed itself is not picked from then on."""
        client = self.openedSeveral(NAMES)
        left = set(client.sessions)
        for session in client.sessions[:3]:
            session.close()
            left.discard(session)
            self.check(client, left)
        for session in list(left):
            session.close()
        for by in BY:
            self.assertRaises(NoSessionError, client.pick, by, key="key" if by == "hash" else None)

    def test_lost(self) -> None:
        """One that was lost is not picked; the one that follows it is."""
        client = self.openedSeveral(NAMES)
        self.check(client, set(client.sessions))
        self.lose("c")
        self.assertEqual(len(client.sessions), len(NAMES) - 1)
        self.check(client, set(client.sessions))
        self.clock.pump([1] * 10)
        self.answerAll()
        self.assertEqual(len(client.sessions), len(NAMES))
        self.check(client, set(client.sessions))

    def test_replaced(self) -> None:
        """One that is replaced is not picked though it is open; its successor is."""
        client = self.openedSeveral(NAMES)
        old = client.sessions[4]
        client.replace(old)
        self.assertFalse(old.isClosed)
        self.check(client, set(client.sessions))
        self.clock.pump([1] * 10)
        self.answerAll()
        self.assertEqual(len(client.sessions), len(NAMES))
        self.assertNotIn(old, client.sessions)
        self.check(client, set(client.sessions))
        old.close()

    def test_places(self) -> None:
        """With two sessions an endpoint both are picked, also when the second comes late, and one when one is left."""
        client = self.several(NAMES, number=2)
        for endpoint in self.endpoints.values():
            endpoint.pending[0].succeed()
        self.check(client, set(client.sessions))
        self.answerAll()
        self.assertEqual(len(client.sessions), 2 * len(NAMES))
        self.check(client, set(client.sessions))
        closing = next(each for each in client.sessions if nameOf(each) == "a")
        closing.close()
        self.check(client, set(client.sessions))
        client.replace(next(each for each in client.sessions if nameOf(each) == "b"))
        self.check(client, set(client.sessions))

    def test_pending(self) -> None:
        """Of two that are drawn the one with fewer pending bytes: that with the most is never picked."""
        client = self.openedSeveral(NAMES)
        full = client.sessions[2]
        full.outbound.inTransport = 1000
        self.addCleanup(setattr, full.outbound, "inTransport", 0)
        self.assertEqual(self.picked(client, "leastPending"), set(client.sessions) - {full})


class LateTests(FollowingCase):
    """Places that are dialed in later turns."""

    def test_late(self) -> None:
        """A provider that has one place at first: all are picked when they are open."""
        client = self.following(number=7)
        self.registry.tell(map(provider, NAMES[:9]))
        # Eight attempts begin in a turn: all of the first provider, and one of the second.
        self.assertEqual(sorted(len(each.pending) for each in self.endpoints.values()), [1, 7])
        self.answerAll()
        self.assertEqual(len(client.sessions), 8)
        self.assertEqual({client.pick() for _ in range(20)}, set(client.sessions))
        for _ in range(9):
            self.clock.advance(0)
            self.answerAll()
        self.assertEqual(len(client.sessions), 63)
        for by in BY:
            keys: Any = range(1500) if by == "hash" else [None] * 1500
            self.assertEqual({client.pick(by, key) for key in keys}, set(client.sessions), by)
