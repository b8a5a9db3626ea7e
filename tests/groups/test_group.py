"""Members, publications, and what they get."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from getty_tx.codecs import LengthCodec
from getty_tx.errors import SessionClosedError, SettingError
from getty_tx.groups import (
    EngineDownError,
    GroupError,
    GroupListener,
    Groups,
    IEngine,
    IEngineUser,
    IGroupListener,
    MemoryEngine,
    Namespace,
    NotAllowedError,
    PublicationTooLongError,
)
from getty_tx.groups.joining import MAX_GROUPS, UNSENT
from tests.support.groups import GroupsCase
from tests.tap.test_listen import keepLog


class CountingCodec(LengthCodec):
    """Counts what it has encoded."""

    written = 0

    def write(self, session: Any, pkg: Any) -> Any:
        type(self).written += 1
        return super().write(session, pkg)


class OwnCodec(CountingCodec):
    """Says that it cannot share."""

    written = 0

    def shareKey(self, session: Any) -> object:
        return None


class MembersTests(GroupsCase):
    def test_interfaces(self) -> None:
        verifyObject(IEngineUser, self.groups)
        verifyObject(IEngine, MemoryEngine())
        verifyObject(IGroupListener, GroupListener())

    def test_publish(self) -> None:
        """All members get it, in order, and nobody else; not within the call."""
        a, b, other = self.member(), self.member(), self.session()
        group = self.groups.group("room")
        for pkg in (b"1", b"2"):
            self.assertIsNone(self.successResultOf(group.publish(pkg)))
        self.assertEqual(self.got(a), [])
        self.go()
        self.assertEqual([self.got(each) for each in (a, b, other)], [[b"1", b"2"], [b"1", b"2"], []])
        self.assertEqual((group.members, group.size, a in group, other in group), ([a, b], 2, True, False))
        self.assertEqual(self.successResultOf(group.count()), 2)
        self.assertEqual(repr(group), "<Group room: 2 members>")
        self.assertEqual((a.stats.writePkgs, a.unsentLimit), (2, UNSENT))

    def test_leave(self) -> None:
        """Not one more publication, even one that was published before."""
        a, b = self.member(), self.member()
        group = self.groups.group("room")
        group.publish(b"1")
        group.leave(a)
        group.leave(a)
        self.go()
        self.assertEqual((self.got(a), self.got(b), group.members), ([], [b"1"], [b]))
        self.assertEqual(a.memberships, ())

    def test_emptied(self) -> None:
        """Who joins when all have left gets nothing of what was under way, and nothing of that is kept."""
        a = self.member()
        group = self.groups.group("room")
        group.publish(b"1")
        group.leave(a)
        self.assertEqual(len(group.log), 0)
        b = self.member()
        group.publish(b"2")
        self.go()
        self.assertEqual((self.got(a), self.got(b)), ([], [b"2"]))

    def test_close(self) -> None:
        """It leaves before onClose, by itself."""
        seen = []
        session = self.member()
        session.listener.on["close"] = lambda session: seen.append(self.groups.group("room").members)
        session.close()
        self.go()
        self.assertEqual((seen, self.groups.active), ([[]], {}))
        failed = self.failureResultOf(self.groups.group("room").join(session), SessionClosedError)
        self.assertIn("room", str(failed.value))

    def test_joinTwice(self) -> None:
        session = self.member()
        self.successResultOf(self.groups.group("room").join(session))
        self.groups.group("room").publish(b"1")
        self.go()
        self.assertEqual(self.got(session), [b"1"])

    def test_but(self) -> None:
        """One member may be left out, of its own publications only."""
        a, b = self.member(), self.member()
        group = self.groups.group("room")
        group.publish(b"1", but=a)
        group.publish(b"2")
        group.publish(b"3", but=b)
        self.go()
        self.assertEqual([self.got(each) for each in (a, b)], [[b"2", b"3"], [b"1", b"2"]])

    def test_comesBackMeanwhile(self) -> None:
        """Who leaves and joins while a publication is brought to the members gets it neither way."""
        members = [self.member() for _ in range(70)]
        group = self.groups.group("room")
        group.publish(b"1", but=members[1])
        group.publish(b"2")
        # One stretch of members.
        self.assertFalse(group.go(lambda: 1.0, 1.0))
        for each in (members[1], members[69]):
            group.leave(each)
            self.successResultOf(group.join(each))
        group.publish(b"3")
        self.go()
        self.assertEqual([self.got(members[each]) for each in (1, 69)], [[b"3"], [b"3"]])
        self.assertEqual(self.got(members[68]), [b"1", b"2", b"3"])

    def test_encodedOnce(self) -> None:
        """By codecs that say that they share, and of these by each setting."""
        every = []
        for size in (4, 4, 2):
            session = self.session()
            session.codec = CountingCodec(size)
            every.append(session)
            self.successResultOf(self.groups.group("room").join(session))
        for _ in range(2):
            session = self.session()
            session.codec = OwnCodec()
            self.successResultOf(self.groups.group("room").join(session))
        CountingCodec.written = OwnCodec.written = 0
        self.groups.group("room").publish(b"1")
        self.groups.group("room").publish(b"2")
        self.go()
        self.assertEqual((CountingCodec.written, OwnCodec.written), (4, 4))
        self.assertEqual(self.got(every[0]), [b"1", b"2"])

    def test_window(self) -> None:
        """What is published within a window leaves in one send."""
        groups = Groups(None, {"": Namespace(window=0.05)}, reactor=self.clock)
        groups.startService()
        self.addCleanup(groups.stopService)
        session = self.session()
        groups.group("room").join(session)
        for pkg in (b"1", b"2", b"3"):
            groups.group("room").publish(pkg)
            self.go(0.01)
        self.assertEqual(self.got(session), [])
        self.go(0.05)
        self.assertEqual((self.got(session), groups.stats[""].fanouts), ([b"1", b"2", b"3"], 1))

    def test_refused(self) -> None:
        """Wrong names, too many groups, too long publications."""
        for name in ("", "a b", "a\n", "x" * 256, 7, None):
            self.assertRaises(GroupError, self.groups.group, name)
        session = self.session()
        for number in range(MAX_GROUPS):
            self.successResultOf(self.groups.group(f"g{number}").join(session))
        self.failureResultOf(self.groups.group("more").join(session), GroupError)
        group = self.groups.group("g1")
        self.failureResultOf(group.publish(bytes(1024 * 1024 + 1)), PublicationTooLongError)
        self.failureResultOf(group.history(), GroupError)
        self.failureResultOf(group.presence(), GroupError)
        self.failureResultOf(self.groups.group("info").join(self.session(), info={"x": "y" * 2000}), GroupError)
        self.failureResultOf(self.groups.group("info").join(self.session(), info={"x": {1}}), GroupError)

    def test_startedByUse(self) -> None:
        """And stopped with the reactor."""
        groups = Groups(reactor=self.clock)
        triggers: list[Any] = []
        self.patch(self.clock, "addSystemEventTrigger", lambda *trigger: triggers.append(trigger))
        session = self.session()
        self.successResultOf(groups.group("room").join(session))
        [(phase, event, stop)] = triggers
        self.assertEqual((phase, event, groups.running), ("during", "shutdown", 1))
        self.successResultOf(stop())
        self.failureResultOf(groups.group("room").publish(b"1"), EngineDownError)

    def test_stopped(self) -> None:
        groups = Groups(reactor=self.clock)
        groups.startService()
        self.successResultOf(groups.stopService())
        session = self.session()
        self.failureResultOf(groups.group("room").join(session), EngineDownError)
        self.failureResultOf(groups.group("room").publish(b"1"), EngineDownError)
        self.failureResultOf(groups.closeUser("bob"), EngineDownError)
        self.assertEqual((session.memberships, groups.group("room").size), ((), 0))

    def test_downInLog(self) -> None:
        """The log says once what is away, whether the error says that as well or not."""
        lines = keepLog(self)
        for text, said in (
            ("this process is away: refused", "groups: this process is away: refused"),
            ("refused", "groups: this process is away: refused"),
            ("this process is gone", "groups: this process is gone"),
        ):
            self.groups.engineDown(EngineDownError(text))
            self.assertEqual(lines.pop(), said)

    def test_codecFails(self) -> None:
        """A package that a codec cannot encode is dropped and counted; the next one arrives."""
        session = self.member()
        self.groups.group("room").publish({"no": "bytes"})
        self.go()
        self.groups.group("room").publish(b"1")
        self.go()
        self.assertEqual((self.got(session), self.groups.stats[""].dropped), ([b"1"], {"codec": 1}))
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_codecFailsForOne(self) -> None:
        """Those that come with it arrive, at members that are behind as well."""
        fast, stuck = self.member(), self.member()
        room = self.groups.group("room")
        self.pairs[1].client.pauseReading()
        while stuck not in room.behind:
            room.publish(bytes(20_000))
            self.go()
        before = len(self.got(fast))
        for pkg in (b"1", {"no": "bytes"}, b"2"):
            room.publish(pkg)
        self.go()
        self.assertEqual(self.got(fast)[before:], [b"1", b"2"])
        self.pairs[1].client.resumeReading()
        self.go()
        self.assertEqual(self.got(stuck), self.got(fast))
        stats = self.groups.stats[""]
        self.assertEqual((stats.dropped, stats.deliveries), ({"codec": 2}, 2 * (before + 2)))
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class Told(GroupListener):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def onPublication(self, group: Any, publication: Any) -> None:
        self.log.append(("publication", group.name, publication.pkg))

    def onJoin(self, group: Any, member: Any) -> None:
        self.log.append(("join", member.user))

    def onLeave(self, group: Any, member: Any) -> None:
        self.log.append(("leave", member.user))

    def onState(self, groups: Any, isUp: bool, error: Any) -> None:
        self.log.append(("state", isUp))


class NamespaceTests(GroupsCase):
    def namespaces(self) -> dict[str, Namespace]:
        self.told = Told()
        return {
            "": Namespace(listener=self.told, wrap=lambda group, publication: group.name.encode() + publication.pkg),
            "few": Namespace(maxMembers=1),
            "ask": Namespace(mayJoin=self.mayJoin),
            "who": Namespace(presence=True, joinLeave=True, listener=self.told),
            "log": Namespace(historySize=3, historySeconds=60),
        }

    async def mayJoin(self, session: Any, name: str) -> bool:
        return name.endswith("yes")

    def test_limits(self) -> None:
        self.member("few:1")
        self.failureResultOf(self.groups.group("few:1").join(self.session()), GroupError)
        self.member("ask:yes")
        session = self.session()
        self.failureResultOf(self.groups.group("ask:no").join(session), NotAllowedError)
        self.assertEqual(session.memberships, ())

    def test_wrapAndListener(self) -> None:
        session = self.member()
        self.groups.group("room").publish(b"1")
        self.go()
        self.assertEqual(self.got(session), [b"room1"])
        self.assertEqual(self.told.log, [("state", True), ("publication", "room", b"1")])

    def test_presence(self) -> None:
        """Who is back within leaveDelay has neither left nor come."""
        a, b = self.member("who:1", user="a", info={"n": 1}), self.member("who:1", user="b")
        group = self.groups.group("who:1")
        members = self.successResultOf(group.presence())
        self.assertEqual([(each.user, each.info) for each in members], [("a", {"n": 1}), ("b", {})])
        a.close()
        self.go()
        self.assertEqual(self.successResultOf(group.count()), 1)
        self.go(4)
        self.member("who:1", user="a")
        self.go(6)
        group.leave(b)
        self.go(5)
        log = [each for each in self.told.log if each[0] != "state"]
        self.assertEqual(log, [("join", "a"), ("join", "b"), ("leave", "b")])

    def test_otherSession(self) -> None:
        """Who has another session, which may have come before the first has gone, has not left; nobody comes twice."""
        self.member("who:1", user="b")
        a = self.member("who:1", user="a")
        again = self.member("who:1", user="a")
        a.close()
        self.go(6)
        log = [each for each in self.told.log if each[0] != "state"]
        self.assertEqual(log, [("join", "b"), ("join", "a")])
        again.close()
        self.go(6)
        self.assertEqual(self.told.log[-1], ("leave", "a"))
        self.assertEqual(len(self.groups._leaving._there["who:1"]), 1)

    def test_resume(self) -> None:
        """What was published meanwhile comes first, or nothing of it."""
        a = self.member("log:1")
        group = self.groups.group("log:1")
        first = self.successResultOf(group.publish(b"1"))
        self.go()
        a.close()
        self.go()
        for pkg in (b"2", b"3", b"4"):
            group.publish(pkg)
        b = self.session()
        joined = self.successResultOf(group.join(b, since=first))
        self.assertEqual((joined.recovered, joined.missed, joined.position.offset), (True, 3, 4))
        group.publish(b"5")
        self.go()
        self.assertEqual(self.got(b), [b"2", b"3", b"4", b"5"])
        c = self.session()
        joined = self.successResultOf(group.join(c, since=first))
        self.assertEqual((joined.recovered, joined.missed), (False, 0))
        group.publish(b"6")
        self.go()
        self.assertEqual(self.got(c), [b"6"])
        history = self.successResultOf(group.history(limit=2))
        self.assertEqual([each.pkg for each in history.publications], [b"5", b"6"])

    def test_resumeBlocked(self) -> None:
        """What was missed is not lost either if the session's peer does not read just then."""
        group = self.groups.group("log:1")
        a = self.member("log:1")
        first = self.successResultOf(group.publish(b"1"))
        group.publish(b"2")
        b = self.session()
        self.pairs[-1].client.pauseReading()
        b.writePkg(bytes(200_000))
        self.assertTrue(b.outbound.blocked)
        self.successResultOf(group.join(b, since=first))
        group.publish(b"3")
        self.go()
        self.pairs[-1].client.resumeReading()
        self.go()
        self.assertEqual((self.got(a)[1:], self.got(b)[1:]), ([b"2", b"3"], [b"2", b"3"]))

    def test_take(self) -> None:
        """What was missed may be taken in place of being written; what comes meanwhile waits until that is done."""
        group = self.groups.group("log:1")
        self.member("log:1")
        first = self.successResultOf(group.publish(b"1"))
        group.publish(b"2")
        taken: list[Any] = []
        isDone: Deferred[None] = Deferred()

        def take(joined: Any, publications: Any) -> Deferred[None]:
            taken.append((joined.recovered, joined.missed, [each.pkg for each in publications]))
            return isDone

        b = self.session()
        joining = group.join(b, since=first, take=take)
        group.publish(b"3")
        self.go()
        self.assertNoResult(joining)
        self.assertEqual((taken, self.got(b)), ([(True, 1, [b"2"])], []))
        isDone.callback(None)
        self.assertEqual(self.successResultOf(joining).missed, 1)
        group.publish(b"4")
        self.go()
        self.assertEqual(self.got(b), [b"3", b"4"])

    def test_takeFails(self) -> None:
        """It is no member then; the same where it has left while that was done, and joins once more."""
        group = self.groups.group("log:1")
        waiting: list[Deferred[None]] = []

        def take(joined: Any, publications: Any) -> Any:
            waiting.append(Deferred())
            return waiting[-1]

        a, b = self.session(), self.session()
        failing, left = group.join(a, take=take), group.join(b, take=take)
        waiting[0].errback(ValueError("no"))
        self.failureResultOf(failing, ValueError)
        self.assertEqual(group.members, [b])
        group.leave(b)
        self.successResultOf(group.join(b))
        waiting[1].callback(None)
        self.failureResultOf(left, SessionClosedError)
        self.assertEqual(group.members, [b])

    def test_id(self) -> None:
        """The same id is published once within five minutes."""
        session = self.member("log:1")
        group = self.groups.group("log:1")
        first = self.successResultOf(group.publish(b"1", id="x"))
        self.assertEqual(self.successResultOf(group.publish(b"1", id="x")), first)
        self.go(301)
        self.assertNotEqual(self.successResultOf(group.publish(b"1", id="x")), first)
        self.go()
        self.assertEqual(self.got(session), [b"1", b"1"])

    def test_users(self) -> None:
        """Of two exclusive logins the later stays; a user may be closed."""
        a = self.member("user:bob", exclusive=True)
        b = self.member("user:bob", exclusive=True)
        self.go()
        self.assertEqual((a.isClosed, b.isClosed), (True, False))
        c = self.member("user:bob")
        self.groups.sendTo("bob", b"hello")
        self.go()
        self.assertEqual(self.got(c), [b"user:bobhello"])
        self.successResultOf(self.groups.closeUser("bob", "bye", but=c))
        self.go()
        self.assertEqual((b.isClosed, c.isClosed), (True, False))


class SettingTests(SynchronousTestCase):
    def test_wrong(self) -> None:
        """What is out of bounds or does not fit together is named."""
        for settings, text in (
            ({"historySize": 5}, "historySeconds=0 do not fit"),
            ({"slow": "never"}, "slow='never' is none of close, follow, drop, latest"),
            ({"joinLeave": True}, "needs presence=True"),
            ({"maxPublication": 5_000_000}, "more than maxWaiting"),
            ({"window": -1}, "window=-1"),
            ({"slowLimit": 0}, "slowLimit=0"),
        ):
            error = self.assertRaises(SettingError, lambda settings=settings: Namespace(**settings))
            self.assertIn(text, str(error))
        for engine, text in (("nats://x", "begins with none of"), (7, "neither a text nor an IEngine")):
            self.assertIn(text, str(self.assertRaises(SettingError, Groups, engine)))
        self.assertIn("no Namespace", str(self.assertRaises(SettingError, Groups, None, {"a": {}})))


class ThreadTests(TestCase):
    async def test_publish(self) -> None:
        """Any thread may publish."""
        groups = Groups()
        groups.startService()
        self.assertIsNone(await await_(groups))
        await groups.stopService()


async def await_(groups: Groups) -> Any:
    """Publish from a thread. The Deferred fires on the reactor's."""
    return await (await deferToThread(lambda: [groups.group("room").publish(b"1")]))[0]
