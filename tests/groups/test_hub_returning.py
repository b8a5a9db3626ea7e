"""Users who move from one process to another, as in a reload: who is back in time has neither left nor come."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.groups import GroupListener, Groups, Member, Namespace
from getty_tx.groups.hub import returning
from getty_tx.groups.hub.engine import HubEngine
from getty_tx.groups.hub.returning import AWAY_SECONDS, Returning
from getty_tx.groups.users import LINGER
from getty_tx.testing import Network
from tests.support.groups import GroupsCase
from tests.support.hub import HubCase


class Told(GroupListener):
    """Notes who comes and goes."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def onPublication(self, group: Any, publication: Any) -> None:
        self.log.append(f"publication {publication.pkg!r}")

    def onJoin(self, group: Any, member: Any) -> None:
        self.log.append(f"join {member.user}")

    def onLeave(self, group: Any, member: Any) -> None:
        self.log.append(f"leave {member.user}")

    def onGap(self, group: Any, session: Any, missed: Any) -> None:
        self.log.append("gap")


class Process:
    """One process with groups, and what its listener was told."""

    def __init__(self, case: Any) -> None:
        self._case = case
        theirs, self.spoke = case.pair()
        self.told = Told()
        space = Namespace(presence=True, joinLeave=True, historySize=9, historySeconds=60, listener=self.told)
        self.groups = Groups(HubEngine(theirs), {"": space}, reactor=case.clock)
        self.groups.startService()
        case.addCleanup(self.groups.stopService)

    def join(self, user: str) -> Any:
        """A session of a user that has joined."""
        session = self._case.session()
        joined = self.groups.group("room").join(session, user=user)
        self._case.go()
        self._case.successResultOf(joined)
        return session


class MovingTests(HubCase):
    """Two processes."""

    newSession = GroupsCase.newSession
    newClientSession = GroupsCase.newClientSession
    session = GroupsCase.session

    def setUp(self) -> None:
        super().setUp()
        self.network = Network()
        self.server = self.network.serverFactory(self.newSession)  # type: ignore[arg-type]
        self.client = self.network.clientFactory(self.newClientSession)  # type: ignore[arg-type]
        self.pairs: list[Any] = []
        self.listeners: list[Any] = []
        self.one, self.other = Process(self), Process(self)

    def go(self, seconds: float = 0.0) -> None:
        """Let time pass, and all arrive."""
        for pair in self.pairs:
            pair.flush()
        self.clock.advance(seconds)
        self.clock.pump(8)

    def end(self, session: Any) -> None:
        """A session ends, and all hear that."""
        session.close()
        self.go()

    def test_reload(self) -> None:
        """All move to a process that knew nothing of the group; the first of them when it has no members yet."""
        ann, bob = self.one.join("ann"), self.one.join("bob")
        for user, session in (("ann", ann), ("bob", bob)):
            self.end(session)
            self.go(1)
            self.other.join(user)
        self.go(20)
        self.assertEqual((self.one.told.log, self.other.told.log), (["join ann", "join bob"], []))
        self.assertEqual((self.one.groups._active, list(self.hub.interested["room"])), ({}, [self.other.spoke]))

    def test_meanwhile(self) -> None:
        """The process that they have left tells nothing more of the group, and is done with it in the end."""
        ann = self.one.join("ann")
        self.end(ann)
        self.other.join("bob")
        self.other.groups.group("room").publish(b"x")
        self.other.spoke._drop("room")
        self.go()
        self.one.spoke._missed["room"] = None
        self.one.spoke.isCongested = True
        self.one.spoke.sent()
        self.go(5)
        self.assertEqual(self.one.told.log, ["join ann", "join bob", "leave ann"])
        self.go(LINGER)
        self.assertEqual(self.one.groups._active, {})
        self.one.join("cid")
        self.assertEqual(self.one.told.log[3:], ["join cid"])

    def test_late(self) -> None:
        """Who is not back in time has left, and comes anew; also where it was the only one."""
        self.end(self.one.join("ann"))
        self.go(6)
        self.assertEqual(self.one.told.log, ["join ann", "leave ann"])
        self.other.join("ann")
        self.assertEqual(self.other.told.log, ["join ann"])

    def test_killed(self) -> None:
        """The members of a process that is killed come back in the other one, but for one."""
        self.other.join("cid")
        for user in ("ann", "bob"):
            self.one.join(user)
        self.assertEqual(self.other.told.log, ["join cid", "join ann", "join bob"])
        self.one.spoke.link.close()
        self.go(1)
        self.other.join("ann")
        self.go(10)
        self.assertEqual(self.other.told.log[3:], ["leave bob"])

    def test_otherSession(self) -> None:
        """Who has a session in another process does not come with one more, and does not go when one ends."""
        first, _ = self.one.join("ann"), self.one.join("bob")
        last = self.other.join("ann")
        self.assertEqual(self.other.told.log, [])
        self.end(first)
        self.go(10)
        self.end(last)
        self.go(10)
        self.assertEqual((self.one.told.log[2:], self.other.told.log), (["leave ann"], ["leave ann"]))

    def test_bothBefore(self) -> None:
        """Nor where both were there before the process had members: it has heard of neither."""
        first, second = self.one.join("ann"), self.one.join("ann")
        self.other.join("bob")
        self.end(first)
        self.go(10)
        self.assertEqual(self.other.told.log, ["join bob"])
        self.end(second)
        self.go(10)
        self.assertEqual(self.other.told.log, ["join bob", "leave ann"])

    def test_backHere(self) -> None:
        """A session joins again while the group is still heard of."""
        self.end(self.one.join("ann"))
        self.go(3)
        self.one.join("ann")
        self.go(20)
        self.assertEqual((self.one.told.log, len(self.one.groups._active)), (["join ann"], 1))


class ReturningTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """Who has left is forgotten after a minute, or when there are too many."""
        clock = Clock()
        users = Returning(clock.seconds)
        self.patch(returning, "MAX_AWAY", 3)
        for name in "abcde":
            member = Member(name, name)
            self.assertIsNone(users.came("room", member))
            self.assertIsNone(users.went("room", member))
        self.assertEqual(len(users), 3)
        clock.advance(1)
        self.assertEqual([users.came("room", Member(name, name)) for name in "bc"], [None, 1.0])
        self.assertIsNone(users.came("other", Member("d", "d")))
        clock.advance(AWAY_SECONDS)
        self.assertIsNone(users.came("room", Member("d", "d")))
        users.went("room", Member("b", "b"))
        self.assertEqual(len(users), 4)
        nobody = Member("x")
        self.assertEqual((users.came("room", nobody), users.went("room", nobody), len(users)), (None, None, 4))
