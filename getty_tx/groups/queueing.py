"""Publications that wait for an engine to come back, for a short time: ``whenDown="queue"``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from getty_tx.groups.errors import EngineDownError

if TYPE_CHECKING:
    from getty_tx.groups.group import Group
    from getty_tx.groups.groups import Groups
    from getty_tx.groups.publication import Position, Publication

__all__ = ["PublishQueue"]

#: Publications, bytes, and seconds for which one waits.
MOST = 1000
MOST_BYTES = 1024 * 1024
SECONDS = 5.0


class PublishQueue:
    """The publications of all groups that wait, in the order in which they were published."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._waiting: deque[tuple[float, Group, Publication, str | None, Deferred[Position | None]]] = deque()
        self._bytes = 0
        self._call: Any = None

    def add(self, group: Group, publication: Publication, id: str | None) -> Deferred[Position | None]:
        """One more. :return: as ``publish``; fails with EngineDownError where there is no room, or after 5 s."""
        if len(self._waiting) >= MOST or self._bytes + publication.size > MOST_BYTES:
            return fail(EngineDownError(f"{group.name}: the engine is away, and {len(self._waiting)} wait already"))
        result: Deferred[Position | None] = Deferred()
        until = self._groups.seconds() + SECONDS
        self._waiting.append((until, group, publication, id, result))
        self._bytes += publication.size
        if self._call is None:
            self._call = self._groups.reactor.callLater(SECONDS, self._tooLate)
        return result

    def send(self) -> None:
        """The engine is back."""
        self._cancel()
        waiting, self._waiting, self._bytes = self._waiting, deque(), 0
        for _, group, publication, id, result in waiting:
            published = self._groups.engine.publish(group.name, publication, group.namespace.retention, id)
            published.chainDeferred(result)

    def stop(self, error: EngineDownError) -> None:
        """Nothing is sent any more."""
        self._cancel()
        waiting, self._waiting, self._bytes = self._waiting, deque(), 0
        for *_, result in waiting:
            result.errback(error)

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _tooLate(self) -> None:
        self._call = None
        now = self._groups.seconds()
        while self._waiting and self._waiting[0][0] <= now:
            _, group, publication, _, result = self._waiting.popleft()
            self._bytes -= publication.size
            result.errback(EngineDownError(f"{group.name}: the engine was away for {SECONDS:g} s"))
        if self._waiting:
            self._call = self._groups.reactor.callLater(self._waiting[0][0] - now, self._tooLate)
