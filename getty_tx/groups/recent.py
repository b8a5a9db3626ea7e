"""
The newest publications of a group's history, read once for all who join in a short time.

Thousands that come back at once would ask the engine for the same each. The first one's question is that of all: who
joins meanwhile waits for its answer, and for some seconds after that what arrives is added to it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed

from getty_tx.groups.publication import History, Position

if TYPE_CHECKING:
    from getty_tx.groups.group import Group
    from getty_tx.groups.kinds import Entry
    from getty_tx.groups.publication import Publication

__all__ = ["MAX_RECOVERED", "Recent"]

#: Publications that a member gets that comes back.
MAX_RECOVERED = 300

#: Seconds for which an answer is kept. Above it, a history that is too old could be told for too long.
SECONDS = 10.0


class Recent:
    """Of one group that has members."""

    __slots__ = (
        "_arrived",
        "_asksAll",
        "_call",
        "_entries",
        "_group",
        "_hasAll",
        "_isStale",
        "_kept",
        "_position",
        "_size",
        "_waiting",
    )

    def __init__(self, group: Group) -> None:
        self._group = group
        # The newest, up to a position; None: nothing is known. And whether it is all that may be asked for.
        self._position: Position | None = None
        self._kept: deque[Publication] = deque()
        self._entries: dict[int, Entry] = {}
        self._size = 0
        self._hasAll = False
        # What has arrived since the question; None: there is none. Whether it asks for more than the position, and
        # whether its answer is worth nothing, as something was missed since; and who waits for it.
        self._arrived: list[Publication] | None = None
        self._asksAll = self._isStale = False
        self._waiting: list[Deferred[None]] = []
        self._call: Any = None

    def ask(self, since: Position | None) -> Deferred[History]:
        """
        What a member has missed.

        :return: as :py:meth:`~getty_tx.groups.IEngine.history` with a limit of :py:data:`MAX_RECOVERED`, or of 0
            without ``since``.
        """
        if self._arrived is not None:
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            return waiting.addCallback(lambda _: self._answerOrAsk(since))
        found = self._answer(since) if self._group.groups.isUp else None
        return self._question(since) if found is None else succeed(found)

    def _question(self, since: Position | None) -> Deferred[History]:
        """Ask the engine, for all who come meanwhile."""
        self.forget()
        self._arrived, self._isStale, self._asksAll = [], False, since is not None
        asked = self._askEngine(None, MAX_RECOVERED if self._asksAll else 0)
        return asked.addCallbacks(self._found, self._failed).addCallback(
            # What arrived meanwhile comes behind the answer for who wants nothing of before.
            lambda history: history if since is None else self._answerOrAsk(since)
        )

    def _answerOrAsk(self, since: Position | None) -> Deferred[History] | History:
        """The engine has answered."""
        found = self._answer(since)
        if found is not None:
            return found
        isKnown = self._position is not None and since is not None and self._asksAll
        if self._group.recent is self and self._group.size and not isKnown:
            return self.ask(since)
        # It may have what has not arrived here yet, or what was too much to be kept.
        return self._askEngine(since, 0 if since is None else MAX_RECOVERED)

    def _askEngine(self, since: Position | None, limit: int) -> Deferred[History]:
        group = self._group
        asked: Deferred[History] = group.groups.ask("history", group.name, since, limit, group.namespace.retention)
        return asked

    def arrived(self, publication: Publication) -> None:
        """One more, which has a position."""
        if self._arrived is not None:
            self._arrived.append(publication)
        elif self._position is not None:
            self._add(publication)

    def entryOf(self, publication: Publication) -> Entry:
        """What members get of it, encoded once for all who come back."""
        group = self._group
        offset = publication.position.offset if publication.position is not None else 0
        entry = self._entries.get(offset)
        if entry is None:
            entry = group.groups.entryOf(group, publication)
            if self._position is not None and offset > self._position.offset - len(self._kept):
                self._entries[offset] = entry
        return entry

    def forget(self) -> None:
        """Nothing is known any more."""
        self._isStale = True
        self._position = None
        self._kept.clear()
        self._entries.clear()
        self._size = 0
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _found(self, history: History) -> History:
        arrived, self._arrived = self._arrived or [], None
        # Without members nothing arrives that could be added.
        if not self._isStale and self._group.size:
            self._position = history.position
            self._kept.extend(history.publications)
            self._size = sum(each.size for each in self._kept)
            self._hasAll = self._asksAll
            for publication in arrived:
                self._add(publication)
            self._trim()
        if self._position is not None:
            seconds = min(SECONDS, self._group.namespace.historySeconds)
            self._call = self._group.groups.reactor.callLater(seconds, self._tooOld)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
        return history

    def _failed(self, failure: Any) -> Any:
        """It fails for all."""
        self._arrived = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(failure)
        return failure

    def _tooOld(self) -> None:
        self._call = None
        self.forget()

    def _add(self, publication: Publication) -> None:
        mine, its = self._position, publication.position
        if mine is None or its is None:
            return
        if its.epoch != mine.epoch or its.offset > mine.offset + 1:
            # Something is missing, or it begins anew.
            self.forget()
        elif its.offset > mine.offset:
            self._position = its
            self._kept.append(publication)
            self._size += publication.size
            self._trim()

    def _trim(self) -> None:
        namespace = self._group.namespace
        most = min(MAX_RECOVERED, namespace.historySize)
        while len(self._kept) > most or (self._kept and self._size > namespace.maxWaiting):
            # Above the number it may not be asked for; what is too much to be kept the engine has.
            self._hasAll = self._hasAll and len(self._kept) > most
            first = self._kept.popleft()
            self._size -= first.size
            if first.position is not None:
                self._entries.pop(first.position.offset, None)

    def _answer(self, since: Position | None) -> History | None:
        """What is known; None: the engine has to be asked."""
        position = self._position
        if position is None:
            return None
        if since is None:
            return History(position)
        missed = position.offset - since.offset
        if since.epoch == position.epoch and 0 <= missed <= len(self._kept):
            return History(position, list(islice(self._kept, len(self._kept) - missed, None)))
        # A position past the newest may be one that has not arrived here yet.
        isKnown = self._hasAll and (since.epoch != position.epoch or missed > 0)
        return History(position, (), False) if isKnown else None
