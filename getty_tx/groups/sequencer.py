"""
What numbers publications and keeps histories and presence, for one process or for several: no I/O, and no reactor.

:py:class:`~getty_tx.groups.memory.MemoryEngine` has one for its process, and the main process of sub-reactors has one
for all of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING
from uuid import uuid4

from getty_tx.groups.publication import PUBLICATION, History, Member, Position, Publication, Retention

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

__all__ = ["ID_SECONDS", "KEPT_SECONDS", "Sequencer"]

#: Seconds for which the id of a publication is remembered, and how many ids at most.
ID_SECONDS = 300.0
MAX_IDS = 100_000

#: Seconds after its last publication for which the numbering of a group goes on. After that it begins anew, with
#: another epoch: nobody comes back to a group after a day and wants to know what he has missed.
KEPT_SECONDS = 86_400.0

#: Seconds between two looks for what is forgotten.
SWEEP_SECONDS = 60.0


class _Stream:
    """The publications of one group."""

    __slots__ = ("at", "epoch", "kept", "offset", "retention")

    def __init__(self, at: float, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        self.kept: deque[Publication] = deque()
        self.retention = Retention()
        self.at = at

    @property
    def position(self) -> Position:
        """Of the last publication."""
        return Position(self.epoch, self.offset)

    def forgetOld(self, now: float) -> None:
        """Forget what is too old, all at once: the time counts from the last one."""
        if self.kept and now - self.at >= self.retention.seconds:
            self.kept.clear()


class Sequencer:
    """
    Numbers, histories and presence of all groups.

    :param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._streams: dict[str, _Stream] = {}
        # Groups begin with the same epoch: who asks for one that nothing was published to makes nothing that is kept.
        # When numberings are forgotten, those that begin later have another.
        self._epochs = uuid4().hex[:8]
        self._forgotten = 0
        self._ids: OrderedDict[tuple[str, str], tuple[float, Position | None]] = OrderedDict()
        # By group and node the members by key.
        self._present: dict[str, dict[str, dict[str, Member]]] = {}
        self._sweptAt = seconds()

    def publish(
        self, name: str, publication: Publication, retention: Retention, id: str | None = None
    ) -> tuple[Position | None, bool]:
        """
        Number a publication, and keep it.

        :return: its position, None where there is no history; and whether it is to be brought to members: not if one
            with the same id was.
        """
        now = self._seconds()
        if now - self._sweptAt >= SWEEP_SECONDS:
            self.sweep()
        if id is not None:
            known = self._ids.get((name, id))
            if known is not None and now - known[0] < ID_SECONDS:
                return known[1], False
        position = None
        if retention.size and publication.kind == PUBLICATION:
            stream = self._stream(name, now)
            stream.forgetOld(now)
            stream.offset += 1
            stream.at = now
            stream.retention = retention
            position = publication.position = stream.position
            stream.kept.append(replace(publication, publisher=0) if publication.publisher else publication)
            while len(stream.kept) > retention.size:
                stream.kept.popleft()
        if id is not None:
            self._ids[name, id] = now, position
            self._ids.move_to_end((name, id))
            if len(self._ids) > MAX_IDS:
                self._ids.popitem(last=False)
        return position, True

    def history(self, name: str, since: Position | None, limit: int) -> History:
        """See :py:meth:`getty_tx.groups.IEngine.history`."""
        stream = self._streams.get(name)
        if stream is None:
            position = Position(self._epoch, 0)
            return History(position, (), since is None or since == position)
        stream.forgetOld(self._seconds())
        kept, position = stream.kept, stream.position
        if since is None:
            newest = list(islice(kept, max(0, len(kept) - limit), None)) if limit else []
            return History(position, newest)
        missed = stream.offset - since.offset
        if since.epoch != stream.epoch or missed < 0 or missed > len(kept):
            return History(position, (), False)
        after = list(islice(kept, len(kept) - missed, None))
        return History(position, after[:limit], missed <= limit)

    def present(self, node: str, name: str, member: Member) -> bool:
        """
        A member has come.

        :return: whether it was not there.
        """
        members = self._present.setdefault(name, {}).setdefault(node, {})
        isNew = member.key not in members
        members[member.key] = member
        return isNew

    def absent(self, node: str, name: str, key: str) -> Member | None:
        """
        A member has gone.

        :return: the member, if it was there.
        """
        nodes = self._present.get(name, {})
        member = nodes.get(node, {}).pop(key, None)
        if member is not None and not nodes[node]:
            del nodes[node]
            if not nodes:
                del self._present[name]
        return member

    def nodeGone(self, node: str) -> Mapping[str, Sequence[Member]]:
        """
        A process has gone.

        :return: the members that have gone with it, by group.
        """
        gone = {}
        for name, nodes in list(self._present.items()):
            members = nodes.pop(node, None)
            if members is not None:
                gone[name] = list(members.values())
                if not nodes:
                    del self._present[name]
        return gone

    def presence(self, name: str, limit: int) -> Sequence[Member]:
        """Members of a group, of all processes."""
        every = (member for members in self._present.get(name, {}).values() for member in members.values())
        return list(islice(every, limit))

    def counts(self, names: Collection[str]) -> Mapping[str, int]:
        """How many members groups have."""
        return {name: sum(map(len, self._present.get(name, {}).values())) for name in names}

    def sweep(self) -> None:
        """Forget what is too old. Called by itself once a minute, at a publication."""
        now = self._sweptAt = self._seconds()
        hasForgotten = False
        for name, stream in list(self._streams.items()):
            stream.forgetOld(now)
            if now - stream.at >= max(KEPT_SECONDS, stream.retention.seconds):
                del self._streams[name]
                hasForgotten = True
        self._forgotten += hasForgotten
        while self._ids:
            key, (at, _) = next(iter(self._ids.items()))
            if now - at < ID_SECONDS:
                break
            del self._ids[key]

    def _stream(self, name: str, now: float) -> _Stream:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(now, self._epoch)
        return stream

    @property
    def _epoch(self) -> str:
        """Of numberings that begin now."""
        return f"{self._epochs}.{self._forgotten}"
