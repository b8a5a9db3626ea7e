"""More comes than a group may keep, before it can be brought to the members."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from getty_tx.groups import GroupError, History, Namespace, Position
from getty_tx.groups.publication import Publication
from tests.support.groups import Gaps, GroupsCase

KB = bytes(1000)


def numberOf(pkg: bytes) -> int:
    return int(pkg.split()[0])


class OverrunCase(GroupsCase):
    """Groups that keep 20 publications of a kilobyte."""

    def namespaces(self) -> dict[str, Namespace]:
        self.gaps = Gaps()
        limits: Any = {"listener": self.gaps, "slowLimit": 40_000, "maxPublication": 2000, "maxWaiting": 20_000}
        return {
            **{slow: Namespace(slow=slow, **limits) for slow in ("close", "follow", "drop", "latest")},
            "log": Namespace(historySize=100, historySeconds=60, slow="follow", **limits),
        }

    def numbers(self, session: Any) -> list[int]:
        """What a member got."""
        return [numberOf(pkg) for pkg in self.got(session)]


class RefusedTests(OverrunCase):
    """Publications of this process."""

    def publish(self, group: Any, count: int) -> list[bool]:
        """All in one turn. :return: for each whether it was taken."""
        taken = []
        for number in range(count):
            outcome: list[Any] = []
            group.publish(b"%d " % number + KB).addBoth(outcome.append)
            taken.append(outcome == [None])
        return taken

    def test_publish(self) -> None:
        """Above the limit the publisher is told, and members get all that was taken."""
        group, member = self.groups.group("close:1"), self.member("close:1")
        self.assertEqual(self.publish(group, 30), [True] * 20 + [False] * 10)
        error = self.failureResultOf(group.publish(KB), GroupError).value
        self.assertIn("close:1: maxWaiting=20000 bytes wait for members already", str(error))
        self.go()
        self.assertEqual((self.numbers(member), group.stats.dropped), (list(range(20)), {}))
        self.assertEqual(self.publish(group, 1), [True])

    def test_large(self) -> None:
        """The last one that is taken may pass the limit, and pushes nothing out."""
        group, member = self.groups.group("close:1"), self.member("close:1")
        self.assertEqual(self.publish(group, 19), [True] * 19)
        self.successResultOf(group.publish(b"19 " + KB + KB[:900]))
        self.failureResultOf(group.publish(KB), GroupError)
        self.go()
        self.assertEqual(self.numbers(member), list(range(20)))

    def test_keptForSlow(self) -> None:
        """What is kept for a member that is behind gives way, and no publisher is refused for it."""
        group, stuck, fast = self.groups.group("follow:1"), self.member("follow:1"), self.member("follow:1")
        self.pairs[0].client.pauseReading()
        for _ in range(12):
            self.assertEqual(self.publish(group, 15), [True] * 15)
            self.go()
        self.assertEqual((len(self.got(fast)), list(group.behind)), (180, [stuck]))
        self.assertLessEqual(group.log.size, 20_000)


class ArrivedTests(OverrunCase):
    """Publications that an engine brings: nobody can be refused."""

    def overrun(self, slow: str, count: int = 50) -> tuple[Any, list[Any]]:
        """A group with three members, and publications that come in one turn."""
        name = f"{slow}:1"
        members = [self.member(name) for _ in range(3)]
        for number in range(count):
            self.groups.publicationArrived(name, Publication(b"%d " % number + KB, key=str(number % 2)))
        return self.groups.group(name), members

    def test_close(self) -> None:
        """Members are closed: they come back, and get what the history has."""
        group, members = self.overrun("close")
        self.go()
        self.assertEqual([each.isClosed for each in members], [True] * 3)
        self.assertEqual((group.size, group.behind, self.gaps.missed), (0, {}, []))
        self.assertEqual(self.groups.stats["close"].dropped, {"log": 3 * 30})

    def test_follow(self) -> None:
        """Each is told how many it misses, and goes on with the rest."""
        group, members = self.overrun("follow")
        self.go()
        self.assertEqual([self.numbers(each) for each in members], [list(range(30, 50))] * 3)
        self.assertEqual((self.gaps.missed, group.behind), ([(each, 30) for each in members], {}))
        self.assertEqual(group.stats.dropped, {"log": 90})

    def test_drop(self) -> None:
        """The same."""
        group, members = self.overrun("drop")
        self.go()
        self.assertEqual([self.numbers(each) for each in members], [list(range(30, 50))] * 3)
        self.assertEqual((self.gaps.missed, group.stats.dropped), ([(each, 30) for each in members], {"log": 90}))

    def test_latest(self) -> None:
        """They get the newest."""
        group, members = self.overrun("latest")
        self.go()
        self.assertEqual([self.numbers(each) for each in members], [list(range(30, 50))] * 3)
        self.assertEqual((self.gaps.missed, group.stats.dropped, group.latest), ([], {"log": 90}, {}))

    def test_slices(self) -> None:
        """Many members are told in more than one turn; who leaves and who joins meanwhile is not."""
        name = "follow:1"
        members = [self.member(name) for _ in range(100)]
        late = self.session()
        group = self.groups.group(name)
        for number in range(50):
            self.groups.publicationArrived(name, Publication(b"%d " % number + KB))
        self.assertFalse(group.go(lambda: 1.0, 1.0))
        self.assertEqual([each for each, _ in self.gaps.missed], members[:32])
        group.leave(members[40])
        group.join(late)
        self.go()
        told = [each for each, _ in self.gaps.missed]
        self.assertEqual(told, [each for each in members if each is not members[40]])
        self.assertEqual(self.numbers(late), list(range(30, 50)))
        self.assertEqual(self.numbers(members[99]), list(range(30, 50)))
        self.assertEqual(self.got(members[40]), [])

    def test_twice(self) -> None:
        """It comes once more while members are told of the first time: none is told of one publication twice."""
        name = "follow:1"
        members = [self.member(name) for _ in range(100)]
        group = self.groups.group(name)
        for number in range(100):
            self.groups.publicationArrived(name, Publication(b"%d " % number + KB))
            if number == 49:
                self.assertFalse(group.go(lambda: 1.0, 1.0))
        self.go()
        missed = dict.fromkeys(members, 0)
        for session, count in self.gaps.missed:
            missed[session] += count
        for each in members:
            self.assertEqual(self.numbers(each), list(range(80, 100)))
            self.assertEqual(missed[each], 80)
        self.assertEqual((group.behind, group.stats.dropped), ({}, {"log": 8000}))

    def test_history(self) -> None:
        """Who waits for its history misses only what that has not."""
        name = "log:1"
        group = self.groups.group(name)
        answer: Deferred[History] = Deferred()
        self.patch(self.groups.engine, "history", lambda *_: answer)
        late = self.session()
        joined = group.join(late)
        for number in range(1, 51):
            arrived = Publication(b"%d " % number + KB, position=Position("e", number))
            self.groups.publicationArrived(name, arrived)
        self.go()
        self.assertEqual(group.log.first, 31)
        answer.callback(History(Position("e", 25)))
        self.successResultOf(joined)
        self.go()
        self.assertEqual(self.numbers(late), list(range(32, 51)))
        self.assertEqual([missed for session, missed in self.gaps.missed if session is late], [6])
