"""Tests of processes/balance: the choice of the sub-reactor for a connection."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.processes.balance import BALANCES, REUSE_PORT, Balancer, checkBalance, makeBalancer


class FakeMember:
    """A member with the attributes that balancers read."""

    def __init__(self, slot: int, load: int = 0) -> None:
        self.slot = slot
        self.load = load


def spread(balancer: Balancer, members: list[FakeMember], hosts: list[str | None]) -> list[int]:
    """Return the slots of connections that are opened in turn and stay open."""
    slots = []
    for number, host in enumerate(hosts):
        chosen = balancer.choose(members, number, host)
        chosen.load += 1
        slots.append(chosen.slot)
    return slots


class BalanceTests(SynchronousTestCase):
    """Each balancer."""

    def members(self, count: int) -> list[FakeMember]:
        """Make sub-reactors without connections."""
        return [FakeMember(slot) for slot in range(count)]

    def test_roundRobin(self) -> None:
        """Round-robin takes each sub-reactor in turn."""
        self.assertEqual([0, 1, 2, 0, 1, 2, 0], spread(makeBalancer("round-robin", 3), self.members(3), [None] * 7))

    def test_roundRobinAway(self) -> None:
        """A missing sub-reactor is left out, and has its turn again when it is ready."""
        balancer = makeBalancer("round-robin", 3)
        members = self.members(3)
        self.assertEqual([0], spread(balancer, members, [None]))
        self.assertEqual([2, 0, 2, 0], spread(balancer, [members[0], members[2]], [None] * 4))
        self.assertEqual([1, 2, 0], spread(balancer, members, [None] * 3))

    def test_leastConnections(self) -> None:
        """The sub-reactor with the fewest connections is chosen, even after an unequal start."""
        members = [FakeMember(0, 3), FakeMember(1, 1), FakeMember(2, 2)]
        self.assertEqual([1, 1, 2, 0, 1, 2], spread(makeBalancer("least-connections", 3), members, [None] * 6))

    def test_even(self) -> None:
        """A thousand connections that stay open are spread exactly evenly."""
        for name in ("round-robin", "least-connections", "fd-hash"):
            slots = spread(makeBalancer(name, 4), self.members(4), [None] * 1000)
            self.assertEqual(dict.fromkeys(range(4), 250), dict(Counter(slots)), name)

    def test_sourceHash(self) -> None:
        """The same address leads to the same slot, and different addresses are spread."""
        balancer = makeBalancer("source-hash", 4)
        hosts: list[str | None] = [f"192.0.2.{number}" for number in range(200)]
        slots = spread(balancer, self.members(4), hosts)
        self.assertEqual(slots, spread(balancer, self.members(4), hosts))
        self.assertTrue(all(30 < number < 70 for number in Counter(slots).values()), Counter(slots))

    def test_sourceHashAway(self) -> None:
        """Only the addresses of a missing sub-reactor move, and all others share them."""
        balancer = makeBalancer("source-hash", 4)
        members = self.members(4)
        hosts: list[str | None] = [f"192.0.2.{number}" for number in range(200)]
        before = spread(balancer, members, hosts)
        after = spread(balancer, members[:2] + members[3:], hosts)
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        self.assertEqual(before.count(2), len(moved))
        self.assertEqual({0, 1, 3}, set(moved))

    def test_sourceHashWithout(self) -> None:
        """Without addresses, each sub-reactor is taken in turn."""
        self.assertEqual([0, 1, 0, 1], spread(makeBalancer("source-hash", 2), self.members(2), [None] * 4))

    def test_fdHash(self) -> None:
        """The number of the connection decides; its quotient does where a sub-reactor is missing."""
        balancer = makeBalancer("fd-hash", 3)
        members = self.members(3)
        self.assertEqual(1, balancer.choose(members, 7, None).slot)
        self.assertEqual([0, 2], [balancer.choose([members[0], members[2]], number, None).slot for number in (1, 4)])

    def test_random(self) -> None:
        """Random chooses every sub-reactor."""
        self.assertEqual({0, 1, 2}, set(spread(makeBalancer("random", 3), self.members(3), [None] * 500)))

    def test_one(self) -> None:
        """A single sub-reactor is always chosen."""
        for name in BALANCES:
            if name != REUSE_PORT:
                slots = spread(makeBalancer(name, 3), [FakeMember(2)], ["192.0.2.1", "2001:db8::1", None])
                self.assertEqual([2, 2, 2], slots, name)

    def test_unknown(self) -> None:
        """An unknown name is a SettingError."""
        self.assertEqual("reuse-port", checkBalance("reuse-port"))
        error = self.assertRaises(SettingError, checkBalance, "fair")
        self.assertIn("balance='fair' is none of round-robin, least-connections, source-hash", str(error))
