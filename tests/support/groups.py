"""Groups with members on a network in memory: a clock, and peers that read when the test says so."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LengthCodec
from getty_tx.groups import GroupListener, Groups, Namespace
from getty_tx.testing import Network, RecordingListener

__all__ = ["Gaps", "GroupsCase"]


class Gaps(GroupListener):
    """Notes what was missed."""

    def __init__(self) -> None:
        self.missed: list[tuple[Any, Any]] = []

    def onGap(self, group: Any, session: Any, missed: int | None) -> None:
        self.missed.append((session, missed))


class GroupsCase(SynchronousTestCase):
    """
    :ivar groups: started, with the namespaces of :py:meth:`namespaces`.
    :ivar network: its clock is the reactor of the groups.
    """

    #: Bytes that fit between a member and a peer that does not read.
    capacity = 64 * 1024

    def namespaces(self) -> dict[str, Namespace]:
        """For a subclass."""
        return {}

    def engine(self) -> Any:
        """For a subclass."""
        return None

    def setUp(self) -> None:
        self.network = Network(capacity=self.capacity)
        self.clock = self.network.clock
        self.groups = Groups(self.engine(), self.namespaces(), reactor=self.clock)
        self.groups.startService()
        self.addCleanup(self.groups.stopService)
        self.server = self.network.serverFactory(self.newSession)
        self.client = self.network.clientFactory(self.newClientSession)
        self.pairs: list[Any] = []
        self.listeners: list[RecordingListener] = []

    def newSession(self, session: Any) -> None:
        """Of a member."""
        session.codec = LengthCodec()
        session.listener = RecordingListener()

    def newClientSession(self, session: Any) -> None:
        """Of its peer."""
        session.codec = LengthCodec()
        session.maxMsgLen = 1 << 24
        session.listener = RecordingListener()
        self.listeners.append(session.listener)

    def session(self) -> Any:
        """One more session."""
        pair = self.network.connect(self.server, self.client)
        self.pairs.append(pair)
        pair.flush()
        return pair.server

    def member(self, name: str = "room", **options: Any) -> Any:
        """One more session, which has joined."""
        session = self.session()
        self.successResultOf(self.groups.group(name).join(session, **options))
        return session

    def go(self, seconds: float = 0.0) -> None:
        """Let the turns of groups pass, and all bytes arrive."""
        self.clock.advance(seconds)
        for pair in self.pairs:
            pair.flush()

    def got(self, session: Any) -> list[Any]:
        """What the peer of a session has got."""
        index = [pair.server for pair in self.pairs].index(session)
        return self.listeners[index].packages
