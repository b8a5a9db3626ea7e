"""Members that do not read: what each policy gives them, and that others get all."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx.groups import History, Namespace, Position
from getty_tx.processes.drain import isAtRest
from tests.support.groups import Gaps, GroupsCase

KB = bytes(1000)


class SlowTests(GroupsCase):
    capacity = 4000

    def namespaces(self) -> dict[str, Namespace]:
        self.gaps = Gaps()
        every = {"listener": self.gaps, "slowLimit": 2000, "maxPublication": 2000, "maxWaiting": 20_000}
        return {
            slow: Namespace(slow=slow, slowSeconds=30, **every)  # type: ignore[arg-type]
            for slow in ("close", "follow", "drop", "latest")
        } | {"log": Namespace(historySize=10, historySeconds=60)}

    def slowAndFast(self, slow: str) -> tuple[Any, Any, Any]:
        """A group, a member that does not read, and one that does."""
        name = f"{slow}:1"
        stuck, fast = self.member(name), self.member(name)
        self.pairs[0].client.pauseReading()
        return self.groups.group(name), stuck, fast

    def publish(self, group: Any, numbers: range, **options: Any) -> None:
        """A kilobyte each."""
        for number in numbers:
            self.successResultOf(group.publish(b"%d " % number + KB, **options))
            self.go()

    def numbers(self, session: Any) -> list[int]:
        """What a member got."""
        return [int(pkg.split()[0]) for pkg in self.got(session)]

    def test_close(self) -> None:
        """It gets the rest when it reads again."""
        group, stuck, fast = self.slowAndFast("close")
        self.publish(group, range(12))
        self.assertEqual(list(group.behind), [stuck])
        self.assertLess(stuck.pendingBytes, 3000)
        self.pairs[0].client.resumeReading()
        self.go()
        self.publish(group, range(12, 14))
        self.assertEqual((self.numbers(stuck), self.numbers(fast)), (list(range(14)), list(range(14))))
        self.assertEqual((group.behind, len(group.log), self.gaps.missed), ({}, 0, []))

    def test_closeAtTime(self) -> None:
        """It is closed after slowSeconds."""
        group, stuck, fast = self.slowAndFast("close")
        # Which would end it sooner.
        stuck.writeTimeout = None
        self.publish(group, range(12))
        self.go(29)
        self.assertFalse(stuck.isClosed)
        self.go(1.5)
        self.assertEqual((stuck.isClosed, fast.isClosed), (True, False))

    def test_closeAtLimit(self) -> None:
        """It is closed when what it needs is forgotten, and it reads again."""
        group, stuck, fast = self.slowAndFast("close")
        self.publish(group, range(60))
        self.assertLess(group.log.size, 22_000)
        self.pairs[0].client.resumeReading()
        self.go()
        self.assertTrue(stuck.isClosed)
        self.assertEqual(self.numbers(fast), list(range(60)))
        self.assertEqual(self.numbers(stuck), list(range(len(self.numbers(stuck)))))

    def test_closeOnce(self) -> None:
        """What it has not got is counted once, though another member's time comes before it is gone."""
        group, stuck, _ = self.slowAndFast("close")
        stuck.writeTimeout = None
        self.publish(group, range(60))
        behind = group.behind[stuck]
        behind.close("a test")
        dropped = dict(self.groups.stats["close"].dropped)
        behind.close("a test")
        self.assertEqual(self.groups.stats["close"].dropped, dropped)
        self.assertTrue(dropped["slow"])

    def test_follow(self) -> None:
        """It misses what is forgotten, is told, and goes on."""
        group, stuck, _ = self.slowAndFast("follow")
        self.publish(group, range(60))
        self.pairs[0].client.resumeReading()
        self.go()
        self.publish(group, range(60, 62))
        got = self.numbers(stuck)
        [(session, missed)] = self.gaps.missed
        self.assertIs(session, stuck)
        self.assertEqual(len(got) + missed, 62)
        self.assertEqual((got[-15:], sorted(got)), (list(range(47, 62)), got))

    def test_drop(self) -> None:
        """It misses what was published meanwhile."""
        group, stuck, _ = self.slowAndFast("drop")
        self.publish(group, range(20))
        self.assertEqual(len(group.log), 0)
        self.pairs[0].client.resumeReading()
        self.go()
        self.publish(group, range(20, 22))
        got = self.numbers(stuck)
        [(session, missed)] = self.gaps.missed
        self.assertEqual((session, len(got) + missed, got[-2:]), (stuck, 22, [20, 21]))
        self.assertEqual(self.groups.stats["drop"].dropped, {"slow": missed})

    def test_latest(self) -> None:
        """It gets the newest of each key."""
        group, stuck, _ = self.slowAndFast("latest")
        self.publish(group, range(5), key="a")
        for number in range(5, 20):
            self.publish(group, range(number, number + 1), key="ab"[number % 2])
        self.pairs[0].client.resumeReading()
        self.go()
        self.assertEqual(self.numbers(stuck)[-2:], [18, 19])
        self.assertLess(len(self.numbers(stuck)), 12)
        self.assertEqual(group.latest, {})

    def test_rest(self) -> None:
        """Who waits for its peer, or for its history, is not at rest: a process that drains does not close it."""
        group, stuck, fast = self.slowAndFast("close")
        self.publish(group, range(12))
        self.assertEqual([group.isBehind(each) for each in (stuck, fast)], [True, False])
        self.assertEqual([isAtRest(each) for each in (stuck, fast)], [False, True])
        self.pairs[0].client.resumeReading()
        self.go()
        self.assertTrue(isAtRest(stuck))
        answer: Deferred[History] = Deferred()
        self.patch(self.groups.engine, "history", lambda *_: answer)
        joined = self.groups.group("log:1").join(fast)
        self.assertEqual((fast.pendingBytes, isAtRest(fast)), (0, False))
        answer.callback(History(Position("epoch", 0)))
        self.successResultOf(joined)
        self.assertTrue(isAtRest(fast))

    def test_bytes(self) -> None:
        """What was written to members is counted in bytes, whether it was left behind or not."""
        for slow in ("close", "latest"):
            group, stuck, fast = self.slowAndFast(slow)
            self.publish(group, range(12))
            self.pairs[0].client.resumeReading()
            self.go()
            self.assertEqual(group.stats.deliveryBytes, stuck.stats.writeBytes + fast.stats.writeBytes)
            self.pairs.clear()
            self.listeners.clear()

    def test_leaves(self) -> None:
        """A member that is behind may leave, and its requests are answered meanwhile."""
        group, stuck, _ = self.slowAndFast("close")
        self.publish(group, range(12))
        answers = []
        stuck.listener.on["message"] = lambda session, pkg: answers.append(pkg)
        self.pairs[0].client.writePkg(b"leave")
        self.go()
        self.assertEqual(answers, [b"leave"])
        group.leave(stuck)
        self.assertEqual((group.behind, group.size), ({}, 1))
        self.pairs[0].client.resumeReading()
        self.go()
        self.assertLess(len(self.got(stuck)), 12)
