"""Many that come back at once: one question for all of them."""

from __future__ import annotations

from typing import Any

from getty_tx.groups import Namespace, Position
from tests.support.gateway import SlowEngine
from tests.support.groups import GroupsCase


class RecentTests(GroupsCase):
    def namespaces(self) -> dict[str, Namespace]:
        return {"log": Namespace(historySize=10, historySeconds=60)}

    def engine(self) -> Any:
        self.slow = SlowEngine()
        self.asked = 0
        history = self.slow.history

        def counted(*arguments: Any) -> Any:
            self.asked += 1
            return history(*arguments)

        self.slow.history = counted  # type: ignore[method-assign]
        return self.slow

    def test_once(self) -> None:
        """Each gets what it has missed, in order, and what is published meanwhile, with one question."""
        group = self.groups.group("log:1")
        for number in range(6):
            position = self.successResultOf(group.publish(b"%d" % number))
        self.slow.isSlow = True
        sessions = [self.session() for _ in range(4)]
        joins = [group.join(each, since=Position(position.epoch, 2 + at)) for at, each in enumerate(sessions[:3])]
        group.publish(b"6")
        self.go()
        self.slow.answer()
        joins.append(group.join(sessions[3], since=Position(position.epoch, 6)))
        self.go()
        group.publish(b"7")
        self.go()
        self.assertEqual([self.successResultOf(each).recovered for each in joins], [True] * 4)
        for at, session in enumerate(sessions[:3]):
            self.assertEqual(self.got(session), [b"%d" % number for number in range(2 + at, 8)])
        self.assertEqual((self.got(sessions[3]), self.asked), ([b"6", b"7"], 1))

    def test_gone(self) -> None:
        """Nothing is kept without members, nor for long: what is published then is not missed."""
        group = self.groups.group("log:1")
        first = self.successResultOf(group.publish(b"0"))
        session = self.session()
        calls = list(self.clock.getDelayedCalls())
        self.successResultOf(group.join(session, since=first))
        self.assertNotEqual(self.clock.getDelayedCalls(), calls)
        group.leave(session)
        self.assertEqual(self.clock.getDelayedCalls(), calls)
        group.publish(b"1")
        back = self.member("log:1", since=first)
        self.go()
        self.assertEqual((self.got(back), self.asked), ([b"1"], 2))
        self.go(10)
        self.member("log:1", since=first)
        self.assertEqual(self.asked, 3)
