"""The engine of one process: everything in its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from getty_tx.groups.interfaces import IEngine
from getty_tx.groups.sequencer import Sequencer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from getty_tx.groups.interfaces import IEngineUser
    from getty_tx.groups.publication import History, Member, Position, Publication, Retention

__all__ = ["MemoryEngine"]


@implementer(IEngine)
class MemoryEngine:
    """Groups within one process. Packages are handed on as they are, and never become bytes."""

    node = "local"
    description = "this process"

    def __init__(self) -> None:
        self.isUp = False
        self._user: IEngineUser | None = None
        self._subscribed: set[str] = set()

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._sequencer = Sequencer(reactor.seconds)
        self._user = user
        self.isUp = True
        user.engineUp()

    def stop(self) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self.isUp = False
        self._user = None
        self._subscribed.clear()
        return succeed(None)

    def subscribe(self, name: str) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._subscribed.add(name)
        return succeed(None)

    def unsubscribe(self, name: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._subscribed.discard(name)

    def publish(
        self, name: str, publication: Publication, retention: Retention, id: str | None = None
    ) -> Deferred[Position | None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        position, isNew = self._sequencer.publish(name, publication, retention, id)
        if isNew and name in self._subscribed and self._user is not None:
            self._user.publicationArrived(name, publication)
        return succeed(position)

    def history(self, name: str, since: Position | None, limit: int, retention: Retention) -> Deferred[History]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return succeed(self._sequencer.history(name, since, limit))

    def present(self, name: str, member: Member) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if self._sequencer.present(self.node, name, member) and self._user is not None and name in self._subscribed:
            self._user.membersChanged(name, [member], [])

    def absent(self, name: str, key: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        member = self._sequencer.absent(self.node, name, key)
        if member is not None and self._user is not None and name in self._subscribed:
            self._user.membersChanged(name, [], [member])

    def presence(self, name: str, limit: int) -> Deferred[Sequence[Member]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return succeed(self._sequencer.presence(name, limit))

    def counts(self, names: Collection[str]) -> Deferred[Mapping[str, int]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return succeed(self._sequencer.counts(names))
