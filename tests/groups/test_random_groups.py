"""
Any program of joining, leaving, publishing, closing and not reading, slice by slice: what each member gets is a run of
what was published, without a hole or a double, and nothing after it has left.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from getty_tx.codecs import LengthCodec, LineCodec
from getty_tx.groups import Namespace, Position, fanout
from getty_tx.session import sharing
from tests.support.groups import GroupsCase

_actions = st.lists(
    st.tuples(
        st.sampled_from(["join", "resume", "leave", "close", "publish", "many", "pause", "read", "turn", "wait"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


class OwnCodec(LengthCodec):
    """Encodes for each member."""

    def shareKey(self, session: Any) -> object:
        return None


class RandomGroupsTests(GroupsCase):
    capacity = 300
    name = "log:1"

    def namespaces(self) -> dict[str, Namespace]:
        return {"log": Namespace(historySize=10_000, historySeconds=3600, slowLimit=100, slow="follow")}

    def newSession(self, session: Any) -> None:
        super().newSession(session)
        session.codec = [LengthCodec(), LineCodec(), OwnCodec()][len(self.pairs) % 3]
        session.writeTimeout = None

    def newClientSession(self, session: Any) -> None:
        super().newClientSession(session)
        session.codec = [LengthCodec(), LineCodec(), OwnCodec()][len(self.pairs) % 3]

    @given(_actions, st.integers(1, 3))
    def test_program(self, actions: list[tuple[str, int]], stride: int) -> None:
        """See above."""
        self.setUp()
        # A slice has one stride of members.
        self.patch(fanout, "SLICE", 0.0)
        self.patch(sharing, "STRIDE", stride)
        group = self.groups.group(self.name)
        sessions = [self.session() for _ in range(6)]
        # By session: what was published last, each time when it became a member.
        starts: dict[Any, list[int]] = {session: [] for session in sessions}
        published: list[bytes] = []
        for action, index in actions:
            session, pair = sessions[index], self.pairs[index]
            if action == "join" and session not in group and not session.isClosed:
                starts[session].append(len(published))
                self.successResultOf(group.join(session))
            elif action == "resume" and session not in group and not session.isClosed:
                pair.client.resumeReading()
                self.go()
                if session.isClosed:
                    continue
                last = int(self.got(session)[-1]) if self.got(session) else len(published)
                starts[session].append(last)
                epoch = self.successResultOf(group.history(limit=0)).position.epoch
                joined = self.successResultOf(group.join(session, since=Position(epoch, last)))
                self.assertEqual((joined.recovered, joined.missed), (True, len(published) - last))
            elif action == "leave":
                group.leave(session)
            elif action == "close":
                pair.client.close()
            elif action in ("publish", "many"):
                for _ in range(1 if action == "publish" else 5):
                    published.append(b"%d" % (len(published) + 1))
                    self.successResultOf(group.publish(published[-1]))
            elif action == "pause":
                pair.client.pauseReading()
            elif action == "read":
                pair.client.resumeReading()
            elif action == "turn":
                self.clock.turn()
            elif action == "wait":
                self.go(0.01)
        for pair in self.pairs:
            if not pair.client.isClosed:
                pair.client.resumeReading()
        self.go(1)
        for session in sessions:
            self.check(session, starts[session], len(published), session in group)
        self.assertEqual(group.size, len(group.members))
        self.assertEqual((group.behind, len(group.log)), ({}, 0))

    def check(self, session: Any, starts: list[int], published: int, isMember: bool) -> None:
        """The runs, one for each time that it was a member; the last one goes to the end if it still is."""
        got = [int(pkg) for pkg in self.got(session)]
        at = None
        waiting = list(starts)
        for number in got:
            if at is None or number != at + 1:
                while waiting and waiting[0] + 1 != number:
                    waiting.pop(0)
                self.assertTrue(waiting, f"{number} after {at}, who joined after {starts}: {got}")
            at = number
        if isMember:
            self.assertEqual(published if published > starts[-1] else at, at)
