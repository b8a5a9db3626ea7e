"""Pushes to all clients of a channel: in slices of time, framed once, in one message for all that came meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.gateway import walks
from getty_tx.gateway.walks import Walk
from getty_tx.groups import Member
from getty_tx.transports.websocket.sharing import MessageFraming
from tests.support.gateway import SECRET, GatewayCase, RawClient
from tests.tap.test_listen import keepLog


class WalkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiting: list[Any] = []
        self.now = 0.0
        sessions = [SimpleNamespace(isClosed=number == 3, number=number) for number in range(100)]
        groups = SimpleNamespace(turns=SimpleNamespace(add=self.waiting.append))
        self.group: Any = SimpleNamespace(groups=groups, members=sessions, size=100, name="room")

    def seconds(self) -> float:
        """A millisecond for each look."""
        self.now += 0.001
        return self.now

    def test_slices(self) -> None:
        """It goes on in its next turn, with those who were there when it began; closed ones are passed over."""
        got: list[int] = []
        walk = Walk(self.group, lambda session: got.append(session.number), lambda: got.append(-1))
        self.assertEqual(self.waiting, [walk])
        self.assertFalse(walk.go(self.seconds, self.now + 0.0015))
        self.assertEqual(len(got), 63)
        self.group.members = []
        self.assertFalse(walk.go(self.seconds, self.now))
        self.assertEqual((len(got), got[-1]), (95, 95))
        self.assertTrue(walk.go(self.seconds, self.now))
        self.assertEqual(got, [*range(3), *range(4, 100), -1])

    def test_fails(self) -> None:
        """What goes wrong with one is logged, and the others get theirs."""
        self.group.members = self.group.members[:3]
        got: list[int] = []

        def act(session: Any) -> None:
            got.append(1 // (session.number - 1))

        self.assertTrue(Walk(self.group, act).go(self.seconds, 1.0))
        self.assertEqual((got, len(self.flushLoggedErrors(ZeroDivisionError))), ([-1, 1], 1))


class ComingsTests(GatewayCase):
    """Who comes and goes, as clients hear it."""

    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET}

    def setUp(self) -> None:
        super().setUp()
        self.group = self.gateway.groups.group("chat:1")
        self.events: Any = self.group.namespace.listener

    def chatting(self, user: str) -> RawClient:
        """One that wants to hear who comes and goes."""
        client = self.user(user)
        client.ask(subscribe={"channel": "chat:1", "join_leave": True})
        client.heard()
        return client

    def came(self, *keys: str) -> None:
        """Members have come."""
        for key in keys:
            self.events.onJoin(self.group, Member(key, "eve"))

    def heardBy(self, client: RawClient) -> list[tuple[str, str]]:
        """What a client has heard: of each whether it has come or gone, and its client."""
        found = []
        for each in client.heard():
            push = each["push"]
            self.assertEqual(push.pop("channel"), "chat:1")
            [(what, value)] = push.items()
            found.append((what, value["info"]["client"]))
        return found

    def test_together(self) -> None:
        """All that come and go in a turn are told in one message, framed once for all clients."""
        every = [self.chatting(user) for user in ("ann", "bob", "cid")]
        for each in every:
            each.heard()
        framed: list[Any] = []
        frame = MessageFraming.frame
        self.patch(MessageFraming, "frame", lambda self, data: framed.append(data) or frame(self, data))
        before = [session.pkgsWritten for session in self.group.members]
        self.came("there:1", "there:2")
        self.events.onLeave(self.group, Member("there:1", "eve"))
        self.assertEqual([session.pkgsWritten for session in self.group.members], before)
        heard = [self.heardBy(each) for each in every]
        self.assertEqual([what for what, _ in heard[0]], ["join", "join", "leave"])
        self.assertEqual(heard, [heard[0]] * 3)
        self.assertEqual([session.pkgsWritten - 1 for session in self.group.members], before)
        self.assertEqual(len(framed), 1)

    def test_itself(self) -> None:
        """A client is not told that it has come itself, but of others that came with it."""
        ann, bob = self.chatting("ann"), self.chatting("bob")
        ann.heard()
        first, _ = self.group.members
        node = self.gateway.groups.engine.node
        self.came(f"{node}:{first.id}")
        self.assertEqual((self.heardBy(ann), self.heardBy(bob)), ([], [("join", ann.id)]))
        self.came("there:7", f"{node}:{first.id}")
        [(_, other)] = self.heardBy(ann)
        self.assertEqual(self.heardBy(bob), [("join", other), ("join", ann.id)])

    def test_bounded(self) -> None:
        """A storm is told in messages of a bounded length; what is too much is not told, and the log says so."""
        ann = self.chatting("ann")
        lines = keepLog(self)
        self.patch(walks, "MESSAGE_BYTES", 500)
        self.patch(walks, "WAITING_BYTES", 2000)
        [session] = self.group.members
        before = session.pkgsWritten
        self.came(*(f"there:{number}" for number in range(100)))
        count = len(self.heardBy(ann))
        self.assertTrue(10 < count < 30, count)
        self.assertTrue(4 <= session.pkgsWritten - before <= 6)
        self.assertEqual(sum("more come and go than can be told" in line for line in lines), 100 - count)
        self.came("there:1")
        self.assertEqual(len(self.heardBy(ann)), 1)

    def test_nobody(self) -> None:
        """Where all have gone meanwhile nothing is kept."""
        self.came("there:1")
        self.settle()
        self.assertEqual(self.events._comings, {})

    def test_restarted(self) -> None:
        """What was under way when the groups stopped does not keep later ones from being told."""
        ann = self.chatting("ann")
        self.came("there:1")
        self.successResultOf(self.gateway.groups.stopService())
        self.gateway.groups.startService()
        self.came("there:2")
        self.assertEqual(len(self.heardBy(ann)), 1)
