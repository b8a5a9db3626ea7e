"""
What the clients of a channel are told beside publications: who comes and goes, and that they have missed something.

A loop over 10,000 members would stop the reactor for a tenth of a second. So these walks have their turns among those
of groups, and what comes meanwhile is told in the next walk, in one message.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.session.sharing import writeToOne

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.gateway.subscription import Subscription
    from getty_tx.groups import Group

__all__ = ["MESSAGE_BYTES", "WAITING_BYTES", "Comings", "Walk"]

log = Logger()

#: Members between two looks at the clock: less than 0.2 ms.
_STRIDE = 32

#: Bytes of one message, and of all that waits for the next ones: some thousand who come and go.
MESSAGE_BYTES = 64 * 1024
WAITING_BYTES = 1024 * 1024


class Walk:
    """
    Does something with each member that a group has now, in slices of time.

    :param act: called with each session that is still open.
    :param done: called at the end.
    """

    __slots__ = ("_act", "_at", "_done", "_group", "_sessions")

    def __init__(self, group: Group, act: Callable[[Any], None], done: Callable[[], None] = lambda: None) -> None:
        self._group = group
        self._act = act
        self._done = done
        self._sessions: list[Any] | None = None
        self._at = 0
        group.groups.turns.add(self)

    @property
    def size(self) -> int:
        """Members of the group."""
        return self._group.size

    def go(self, seconds: Callable[[], float], until: float) -> bool:
        """Its turn. :return: whether it has reached all."""
        if self._sessions is None:
            self._sessions = self._group.members
        sessions, act = self._sessions, self._act
        while self._at < len(sessions):
            for session in sessions[self._at : self._at + _STRIDE]:
                if not session.isClosed:
                    try:
                        act(session)
                    except Exception:
                        # Groups and other members have nothing to do with that.
                        log.failure("{session}: it cannot be told of {group}", session=session, group=self._group.name)
            self._at += _STRIDE
            if seconds() >= until:
                break
        if self._at < len(sessions):
            return False
        self._done()
        return True


class Comings:
    """
    Tells the clients of one channel who comes and goes, but for a client that it has come itself.

    :param group: of the channel.
    :param subscriptionOf: the subscription of a session, or None.
    :param done: called with the group when all is told.
    """

    __slots__ = (
        "_bytes",
        "_done",
        "_frames",
        "_group",
        "_isWalking",
        "_others",
        "_subscriptionOf",
        "_text",
        "_turns",
        "_waiting",
    )

    def __init__(
        self, group: Group, subscriptionOf: Callable[[Group, Any], Subscription | None], done: Callable[[Group], None]
    ) -> None:
        self._group = group
        self._turns = group.groups.turns
        self._subscriptionOf = subscriptionOf
        self._done = done
        # Texts, and for each the number of the session that it is about; 0: one of another process.
        self._waiting: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._isWalking = False
        # What is told now: the text, what those get that it is about, and the frame for each framing.
        self._text = ""
        self._others: dict[int, str] = {}
        self._frames: dict[Any, bytes] = {}

    @property
    def hasStopped(self) -> bool:
        """Whether the groups have stopped, so that nothing more is told by it."""
        return self._group.groups.turns is not self._turns

    def add(self, text: str, session: int) -> None:
        """
        Tell a push.

        :param session: the number of the session that it is about and that is not told; 0: there is none.
        """
        if self._bytes + len(text) > WAITING_BYTES:
            log.warn("{group}: more come and go than can be told, not all is", group=self._group.name)
            return
        self._waiting.append((text, session))
        self._bytes += len(text)
        if not self._isWalking:
            self._walk()

    def _walk(self) -> None:
        self._isWalking = True
        # What comes before its turn goes along.
        Walk(self._group, self._write, self._walked)

    def _begin(self) -> None:
        taken: list[tuple[str, int]] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0][0]) <= MESSAGE_BYTES):
            taken.append(self._waiting.popleft())
            size += len(taken[-1][0])
        self._bytes -= size
        # Messages of the protocol have a push in each line.
        self._text = "\n".join([text for text, _ in taken])
        self._others = {
            session: "\n".join([text for text, about in taken if about != session]) for _, session in taken if session
        }

    def _walked(self) -> None:
        if not self._text:
            # Nobody is there.
            self._waiting.clear()
            self._bytes = 0
        self._text, self._others, self._frames = "", {}, {}
        self._isWalking = False
        if self._waiting:
            self._walk()
        else:
            self._done(self._group)

    def _write(self, session: Any) -> None:
        if not self._text:
            self._begin()
        subscription = self._subscriptionOf(self._group, session)
        if subscription is None or not subscription.isReady or not subscription.wantsJoins:
            return
        text = self._others.get(session.id, self._text)
        framing = session.framing
        if framing is None or session.outbound.blocked or text is not self._text:
            if text:
                subscription.client.write(text)
            return
        frame = self._frames.get(framing)
        if frame is None:
            frame = self._frames[framing] = framing.frame(text)
        writeToOne(session, frame, 1, framing)
