"""Which of several providers is picked: by weight, by pending bytes or by a key."""

from __future__ import annotations

from array import array
from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import TYPE_CHECKING, Any

from getty_tx.session.states import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from getty_tx.client.group import Group
    from getty_tx.client.hashing import Hashing
    from getty_tx.session.session import Session

__all__ = ["Picker", "Skip"]

#: With so many providers or fewer, leastPending looks at all; with more at two of them.
FEW = 8

#: Draws of which none has to be taken, before all are looked at.
DRAWS = 64


class Skip:
    """
    What is not to be picked.

    :ivar sessions: sessions, by identity.
    :ivar groups: groups, with all of their sessions.
    """

    __slots__ = ("groups", "sessions")

    def __init__(self, sessions: Collection[Session] = (), groups: Collection[Group] = ()) -> None:
        self.sessions = sessions
        self.groups = groups


_NOTHING = Skip()


class Picker:
    """
    Picks among the groups that have an open session.

    Those of the lowest priority are taken, and no ejected one as long as there are others. Of these only those of the
    client's own zone, while at least half of its providers are open. Of these none with weight 0, while others have
    more. What is left is ``groups``: it changes with each group that comes or goes, and is made anew only when one of
    these rules chooses otherwise.

    Of 10,000 groups hardly one is in the caches of the processor, and a pick that follows references from its group to
    its place, to its session, waits for each. So what a pick needs stands in lists beside ``groups``.

    Round robin takes one after the other, while all have the same weight: of 10,000 groups one that stands beside the
    last one is a tenth as far away, in the caches of the processor, as one anywhere. With different weights it is the
    scheduling by earliest deadline of gRPC's ``weighted_round_robin``: a pick moves the deadline of its group by
    1/weight. A new group has its first deadline anywhere within that, so that clients that begin together do not pick
    the same. Groups, not sessions, have their share: one that has only some of its sessions gets no less.

    :param zone: the client's own; empty: zones do not matter.
    :param weightOf: the weight of a group now.
    """

    def __init__(self, zone: str, weightOf: Callable[[Group], float], random: Random | None = None) -> None:
        self._zone = zone
        self._weightOf = weightOf
        self._random = Random() if random is None else random
        #: Those that may be picked.
        self.groups: list[Group] = []
        # The session of each, if it has one place; else None, and the group is asked. It may be closed.
        self._sessions: list[Session | None] = []
        # The weight of each, 1 instead of 0; 0: it grows.
        self._weights = array("d")
        #: Those with an open session.
        self.opened: dict[Group, None] = {}
        # At least the largest weight of groups.
        self._largest = 0.0
        # How many of groups have each weight; None: it grows.
        self._shares: dict[int | None, int] = {}
        # Whether all have the same weight.
        self._isEven = False
        # Where the round is, while all weights are the same; that of a new one begins anywhere.
        self._turn = -1
        # By deadline, while weights differ; None: it is to be made.
        self._heap: list[tuple[float, int, Group]] | None = None
        self._now = 0.0
        # How many are open, by priority: all, with weight, in the own zone, in the own zone with weight.
        self._counts: dict[Any, list[int]] = {}
        # How many of the own zone there are, open or not, by priority.
        self._own: dict[Any, int] = {}
        self._choice: Any = None

    # Groups come and go

    def known(self, group: Group, change: int) -> None:
        """There is one more group that is dialed, or one less."""
        if self._zone:
            provider = group.provider
            if provider is not None and provider.zone == self._zone:
                priority = _priorityOf(group)
                self._own[priority] = self._own.get(priority, 0) + change
                self._decide()

    def add(self, group: Group) -> None:
        """A group has an open session, or one more, or another."""
        if group in self.opened:
            if group.place >= 0:
                self._sessions[group.place] = group.only
            return
        provider = group.provider
        isOwn = bool(self._zone) and provider is not None and provider.zone == self._zone
        group.kind = kind = (_priorityOf(group), isOwn, group.weight > 0)
        self.opened[group] = None
        self._count(kind, 1)
        if not self._decide() and self._isChosen(group):
            self._enter(group)

    def discard(self, group: Group) -> None:
        """A group has none, or is not to be picked."""
        if group not in self.opened:
            return
        del self.opened[group]
        self._count(group.kind, -1)
        if group.place >= 0:
            self._leave(group)
        self._decide()

    def _count(self, kind: Any, change: int) -> None:
        priority, isOwn, hasWeight = kind
        counts = self._counts.setdefault(priority, [0, 0, 0, 0])
        counts[0] += change
        counts[1] += change * hasWeight
        counts[2] += change * isOwn
        counts[3] += change * (isOwn and hasWeight)
        if not counts[0]:
            del self._counts[priority]

    def _decide(self) -> bool:
        """Apply the rules. :return: whether the groups were made anew."""
        choice = None
        if self._counts:
            priority = min(self._counts) if len(self._counts) > 1 else next(iter(self._counts))
            _, weighted, own, ownWeighted = self._counts[priority]
            onlyOwn = own > 0 and 2 * own >= self._own.get(priority, 0)
            choice = (priority, onlyOwn, (ownWeighted if onlyOwn else weighted) > 0)
        if choice == self._choice:
            return False
        self._choice = choice
        for group in self.groups:
            group.place = -1
        self.groups = [group for group in self.opened if self._isChosen(group)]
        self._sessions = [group.only for group in self.groups]
        self._weights = array("d", bytes(8 * len(self.groups)))
        self._heap = None
        self._largest = 0.0
        self._shares = {}
        self._isEven = False
        for place, group in enumerate(self.groups):
            group.place = place
            self._measure(group)
        return True

    def _isChosen(self, group: Group) -> bool:
        priority, onlyOwn, onlyWeighted = self._choice
        kind = group.kind
        return kind[0] == priority and (kind[1] or not onlyOwn) and (kind[2] or not onlyWeighted)

    def _enter(self, group: Group) -> None:
        group.place = len(self.groups)
        self.groups.append(group)
        self._sessions.append(group.only)
        self._weights.append(0.0)
        self._measure(group)
        heap = self._heap
        if heap is not None:
            if len(heap) > 2 * len(self.groups) + FEW:
                # What is left of groups that have come and gone without a pick between.
                self._heap = None
            else:
                heappush(heap, self._entry(group))

    def _measure(self, group: Group) -> None:
        """Look at the weight of a group, now one of those that may be picked."""
        weight = group.weight or 1.0
        group.period = 1.0 / weight
        self._largest = max(self._largest, weight)
        group.share = share = group.weight if group.warmFrom is None else None
        self._weights[group.place] = 0.0 if share is None else weight
        shares = self._shares
        shares[share] = shares.get(share, 0) + 1
        self._isEven = len(shares) == 1 and None not in shares

    def _unmeasure(self, group: Group) -> None:
        shares = self._shares
        shares[group.share] -= 1
        if not shares[group.share]:
            del shares[group.share]
            self._isEven = len(shares) == 1 and None not in shares

    def _weightAt(self, place: int) -> float:
        return self._weights[place] or self._weightOf(self.groups[place]) or 1.0

    def _entry(self, group: Group) -> tuple[float, int, Group]:
        """The place of a new group in the heap."""
        group.deadline = self._now + self._random.random() / (self._weightOf(group) or 1.0)
        return group.deadline, group.serial, group

    def _scheduled(self) -> list[tuple[float, int, Group]]:
        """The heap."""
        heap = self._heap
        if heap is None:
            # All of 10,000 in a few milliseconds: no call for each.
            now, random = self._now, self._random.random
            heap = []
            for group, weight in zip(self.groups, self._weights, strict=True):
                group.deadline = deadline = now + random() / (weight or self._weightOf(group) or 1.0)
                heap.append((deadline, group.serial, group))
            heapify(heap)
            self._heap = heap
        return heap

    def _leave(self, group: Group) -> None:
        self._unmeasure(group)
        place = group.place
        lists: tuple[Any, ...] = (self.groups, self._sessions, self._weights)
        for each in lists:
            each[place] = each[-1]
            each.pop()
        if place < len(self.groups):
            self.groups[place].place = place
        group.place = -1

    # Picks

    def roundRobin(self) -> Session | None:
        """A session of the group whose turn it is by weight, or None if none is open."""
        if self._isEven:
            turn, sessions = self._turn, self._sessions
            if 0 <= turn < len(sessions):
                session = sessions[turn]
                if session is not None and session.state <= OPEN:
                    self._turn = turn + 1
                    return session
        while groups := self.groups:
            if self._isEven:
                turn = self._turn
                if not 0 <= turn < len(groups):
                    turn = self._random.randrange(len(groups)) if turn < 0 else 0
                group = groups[turn]
                self._turn = turn + 1
                session = group.next()
                if session is not None:
                    return session
                # It closes itself.
                self.discard(group)
                continue
            heap = self._scheduled()
            deadline, serial, group = heap[0]
            if group.place < 0 or group.deadline != deadline:
                # It left, and may have come back with another deadline.
                heappop(heap)
                continue
            session = group.next()
            if session is None:
                self.discard(group)
                continue
            if deadline > self._now:
                self._now = deadline
            deadline += group.period if group.warmFrom is None else 1.0 / (self._weightOf(group) or 1.0)
            # One that was skipped for a while does not make up for it.
            group.deadline = deadline = deadline if deadline > self._now else self._now
            heapreplace(heap, (deadline, serial, group))
            if group.share is None and group.warmFrom is None:
                # Its weight has grown up.
                self._unmeasure(group)
                self._measure(group)
            return session
        return None

    def pick(self, by: str, key: Any, skip: Skip | None, hashing: Hashing | None) -> Session | None:
        """A session by one of the strategies, or None if none is open that is not skipped."""
        if skip is None:
            if by == "roundRobin":
                return self.roundRobin()
            if by == "random":
                session = self._drawn()
            elif by == "hash":
                assert hashing is not None
                session = self._first(key, hashing)
            else:
                session = self._ofTwo()
            if session is not None:
                return session
        skip = skip or _NOTHING
        # A group that turns out to have none open is discarded, which may choose others.
        while True:
            choice, number = self._choice, len(self.groups)
            if by == "leastPending":
                session = self._leastPending(skip)
            elif by == "hash":
                assert hashing is not None
                session = self._byKey(key, skip, hashing)
            elif by == "random":
                session = self._byWeight(skip)
            else:
                session = self._inTurn(skip)
            if session is not None or (choice == self._choice and number == len(self.groups)):
                break
        if session is None and skip is not _NOTHING:
            # Better one that the rules leave out than none.
            session = self._any(self.opened, skip)
        return session

    def _of(self, group: Group, skip: Skip, least: bool = False) -> Session | None:
        if group in skip.groups:
            return None
        session = group.least(skip.sessions) if least else group.next(skip.sessions)
        if session is None and group.next() is None:
            self.discard(group)
        return session

    def _inTurn(self, skip: Skip) -> Session | None:
        """By weighted round robin; those that are skipped keep their turn."""
        if self._isEven:
            turn, groups = max(self._turn, 0), list(self.groups)
            for place in range(turn, turn + len(groups)):
                session = self._of(groups[place % len(groups)], skip)
                if session is not None:
                    self._turn = place % len(groups) + 1
                    return session
            return None
        aside = []
        session = None
        heap = self._scheduled()
        while heap:
            entry = heappop(heap)
            deadline, serial, group = entry
            if group.place < 0 or group.deadline != deadline:
                continue
            choice = self._choice
            session = self._of(group, skip)
            if choice != self._choice:
                # Others are to be picked now.
                return session
            if session is not None:
                self._now = max(deadline, self._now)
                group.deadline = max(deadline + 1.0 / (self._weightOf(group) or 1.0), self._now)
                entry = (group.deadline, serial, group)
            if group.place >= 0:
                aside.append(entry)
            if session is not None:
                break
        for entry in aside:
            heappush(heap, entry)
        return session

    def _draw(self, skip: Skip) -> Group | None:
        """One by weight that is not skipped; None: it took too many draws."""
        random, groups, largest, skipped = self._random.random, self.groups, self._largest, skip.groups
        for _ in range(DRAWS if groups else 0):
            place = int(random() * len(groups))
            if skipped and groups[place] in skipped:
                continue
            if self._isEven or random() * largest <= self._weightAt(place):
                return groups[place]
        return None

    def _drawn(self) -> Session | None:
        """One by weight; None: it has none open, or it took too many draws."""
        random, sessions = self._random.random, self._sessions
        number = len(sessions)
        if number <= FEW:
            return None
        place = int(random() * number)
        if not self._isEven:
            largest, weights = self._largest, self._weights
            for _ in range(DRAWS):
                if random() * largest <= (weights[place] or self._weightAt(place)):
                    break
                place = int(random() * number)
            else:
                return None
        session = sessions[place]
        return session if session is not None and session.state <= OPEN else self.groups[place].next()

    def _byWeight(self, skip: Skip) -> Session | None:
        group = self._draw(skip)
        session = None if group is None else self._of(group, skip)
        return session or self._any(self.groups, skip)

    def _any(self, groups: Iterable[Group], skip: Skip) -> Session | None:
        """One by weight, after a look at all."""
        left = [group for group in groups if group not in skip.groups]
        while left:
            weights = [self._weightOf(group) or 1e-9 for group in left]
            place = self._random.choices(range(len(left)), weights)[0]
            session = self._of(left[place], skip)
            if session is not None:
                return session
            left[place] = left[-1]
            left.pop()
        return None

    def _leastPending(self, skip: Skip) -> Session | None:
        groups = list(self.groups)
        if len(groups) > FEW:
            pair = self._random.sample(groups, 2)
            return self._leastOf(pair, skip) or self._leastOf(groups, skip)
        return self._leastOf(groups, skip)

    def _ofTwo(self) -> Session | None:
        """Of two that are drawn the one with fewer pending bytes for its weight; None: one of them has none open."""
        random, sessions = self._random.random, self._sessions
        number = len(sessions)
        if number <= FEW:
            return None
        first = int(random() * number)
        one = sessions[first] or self.groups[first].least()
        if one is None or one.state > OPEN:
            return None
        # As one.pendingBytes, with one call less.
        pending: float = one.outbound.pending
        if not pending and self._isEven:
            # None has less: the other need not come from memory.
            return one
        # Any other, each as likely.
        second = int(random() * (number - 1))
        if second >= first:
            second += 1
        two = sessions[second] or self.groups[second].least()
        if two is None or two.state > OPEN:
            return None
        otherPending: float = two.outbound.pending
        if self._isEven:
            # Of equal ones the first, which is as likely to be any as the second.
            return one if pending <= otherPending else two
        weight, otherWeight = self._weightAt(first), self._weightAt(second)
        pending, otherPending = pending * otherWeight, otherPending * weight
        if pending == otherPending:
            # One by weight.
            return one if random() * (weight + otherWeight) < weight else two
        return one if pending < otherPending else two

    def _leastOf(self, groups: Iterable[Group], skip: Skip) -> Session | None:
        """The session with the fewest pending bytes for its weight; of several one by weight."""
        best: Session | None = None
        least = total = 0.0
        for group in groups:
            session = self._of(group, skip, least=True)
            if session is None:
                continue
            weight = self._weightOf(group) or 1.0
            pending = session.pendingBytes / weight
            if best is None or pending < least:
                best, least, total = session, pending, weight
            elif pending == least:
                total += weight
                if self._random.random() * total < weight:
                    best = session
        return best

    def _first(self, key: Any, hashing: Hashing) -> Session | None:
        """The session that a key belongs to; None: it is not open, or may not be picked."""
        number, group = hashing.first(key)
        if group is None or group.place < 0:
            return None
        session = self._sessions[group.place]
        return session if session is not None and session.state <= OPEN else group.at(number)

    def _byKey(self, key: Any, skip: Skip, hashing: Hashing) -> Session | None:
        number, order = hashing.order(key)
        for group in order:
            if group.place >= 0 and group not in skip.groups:
                session = group.at(number, skip.sessions)
                if session is not None:
                    return session
                if group.next() is None:
                    self.discard(group)
        return None


def _priorityOf(group: Group) -> tuple[bool, int]:
    """Ejected ones last; then those that DNS gives a higher number, or a provider itself."""
    provider = group.provider
    priority = 0 if provider is None else provider.meta.get("priority", 0)
    return group.ejection is not None, priority if type(priority) is int else 0
