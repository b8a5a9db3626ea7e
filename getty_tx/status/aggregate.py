"""Where the status comes from with several processes: the main process asks its sub-reactors, and adds up."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, FirstError, maybeDeferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.processes.queries import NoAnswerError, Questions
from getty_tx.processes.supervisor import DRAINING, READY, STARTING
from getty_tx.status.lasterrors import MOST
from getty_tx.status.merging import addLasting, addUp, empty, read
from getty_tx.status.paging import Part, pageFrom
from getty_tx.status.snapshot import MemberSnapshot, PlaceSnapshot, ServiceSnapshot
from getty_tx.status.source import ISource, ProcessSource
from getty_tx.status.subreactor import ANSWERING
from getty_tx.status.table import COLUMNS, pageOf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.processes.service import Processes
    from getty_tx.processes.supervisor import Member
    from getty_tx.status.snapshot import Service, Snapshot
    from getty_tx.status.table import Query

__all__ = ["ProcessesSource", "Told"]

log = Logger()

#: Pages of the table that are gathered at once; further ones wait.
MOST_TABLES = 4

_STATES = {STARTING: "starting", READY: "ready", DRAINING: "draining"}


class _Known:
    """
    What one sub-reactor told last.

    :ivar seen: the number of errors that it has told of.
    :ivar isSilent: it has not answered, when it was asked last, or not what it should have.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.errors: list[dict[str, Any]] = []
        self.seen = -1
        self.isSilent = False


class Told:
    """
    What the sub-reactors of a Processes have told, from its start on.

    :ivar gone: what those that are gone had counted, by number.
    """

    def __init__(self, processes: Processes) -> None:
        self.questions = Questions(ANSWERING, self.told, self.lost)
        processes.questions = self.questions
        self._known: dict[Member, _Known] = {}
        self.gone: dict[int, Snapshot] = {}
        self._goneErrors: list[dict[str, Any]] = []

    def of(self, member: Member) -> _Known:
        """What this one told last; of one that will tell nothing more, nothing is left here."""
        return _Known() if member.isUnreachable else self._known.setdefault(member, _Known())

    def told(self, member: Member, parts: list[Any]) -> None:
        """
        It has told of itself.

        :raise ValueError: it has not. ``TypeError``, ``KeyError``: the same.
        """
        things = [thing for part in parts for thing in part]
        known = self.of(member)
        known.snapshot = read(thing for thing in things if not thing[0].startswith("error"))
        for [seen] in (told for word, *told in things if word == "errors"):
            faults = [fault for word, *told in things if word == "error" for fault in told]
            known.errors = _latest([{**fault, "subreactor": member.number} for fault in faults])
            known.seen = seen
        known.isSilent = False

    def lost(self, member: Member) -> None:
        """It is gone; what it had counted stays."""
        known = self._known.pop(member, _Known())
        if known.snapshot is not None:
            addLasting(self.gone.setdefault(member.number, empty()), known.snapshot)
        self._goneErrors = _latest([*self._goneErrors, *known.errors])

    def errors(self) -> list[dict[str, Any]]:
        """The last errors of them all, the last one first."""
        return _latest([*self._goneErrors, *(fault for known in self._known.values() for fault in known.errors)])


def _latest(faults: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(faults, key=lambda fault: fault["time"], reverse=True)[:MOST]


@implementer(ISource)
class ProcessesSource:
    """
    The services of sub-reactors, and those of this process.

    A sub-reactor that does not answer in time is shown with what it told last. What one that is gone had counted stays
    in the sums, so that counters do not go back.

    :param name: what the Processes is shown as; a service of the sub-reactors with the same name is what it serves
        with.
    :param processes: the Processes.
    :param told: what its sub-reactors tell.
    :param services: of this process, by the name that they are shown with.
    :param reactor: the reactor.
    """

    process = "main"
    columns = ("subreactor", "pid", *COLUMNS)

    def __init__(
        self, name: str, processes: Processes, told: Told, services: Mapping[str, Service], reactor: Any
    ) -> None:
        self._name = name
        self._processes = processes
        self._told = told
        self._reactor = reactor
        self._own = ProcessSource(services, reactor)
        self._collecting: list[Deferred[Snapshot]] = []
        self._tables: dict[Query, list[Deferred[Any]]] = {}
        self._room = DeferredSemaphore(MOST_TABLES)
        self._isStopped = False

    def start(self) -> None:
        """See :py:class:`ISource`."""
        self._own.start()

    def stop(self) -> None:
        """See :py:class:`ISource`."""
        self._isStopped = True
        self._own.stop()
        self._told.questions.giveUp()

    def problems(self) -> list[str]:
        """See :py:class:`ISource`."""
        found = self._own.problems()
        processes = self._processes
        if processes.isStopping:
            found.append(f"{self._name} is stopping")
        elif not processes.isListening:
            found.append(f"{self._name} does not listen")
        elif not processes.isReady:
            found.append(f"{self._name} has no sub-reactor that is ready")
        return found

    def errors(self) -> list[dict[str, Any]]:
        """See :py:class:`ISource`."""
        return self._told.errors()

    # Counters

    def collect(self) -> Deferred[Snapshot]:
        """See :py:class:`ISource`."""
        waiter: Deferred[Snapshot] = Deferred()
        self._collecting.append(waiter)
        if len(self._collecting) == 1:
            asked: list[Deferred[Any]] = [self._ask(member) for member in self._processes.members]
            gathered: Deferred[Any] = DeferredList([self._own.collect(), *asked], consumeErrors=True)
            gathered.addCallback(self._addUp).addBoth(self._collected)
        return waiter

    def _ask(self, member: Member) -> Deferred[Any]:
        known = self._told.of(member)
        heard = partial(self._told.told, member)
        asked = self._told.questions.ask(member, ["collect", known.seen], heard, self._reactor)
        return asked.addErrback(self._notTold, member, known)

    def _notTold(self, failure: Any, member: Member, known: _Known) -> None:
        if not failure.check(NoAnswerError) and not known.isSilent:
            log.failure("{member} does not tell what it should", failure, member=member)
        known.isSilent = True

    def _collected(self, result: Any) -> None:
        waiting, self._collecting = self._collecting, []
        for waiter in waiting:
            waiter.callback(result)

    def _addUp(self, results: list[tuple[bool, Any]]) -> Any:
        [succeeded, own], *_ = results
        if not succeeded:
            # A Failure: it was stopped.
            return own
        processes, told = self._processes, self._told
        own.cpu = time.process_time()
        total = empty(self.process)
        total.main = own
        restarts = processes.restarts
        for place in range(processes.count):
            number = place + 1
            members = [member for member in processes.members if member.place == place]
            those = [self._member(member) for member in members]
            sums = empty()
            if number in told.gone:
                addLasting(sums, told.gone[number])
            for each in those:
                if each.snapshot is not None:
                    addUp(sums, each.snapshot)
            addUp(total, sums)
            isUp = any(each.state == "ready" for each in those)
            draining = sum(member.state == DRAINING for member in members)
            total.places.append(PlaceSnapshot(number, isUp, draining, restarts[place], sums))
            total.members += those
        addUp(total, own)
        self._addMain(total)
        return total

    def _addMain(self, total: Snapshot) -> None:
        """What the main process knows of its service."""
        processes = self._processes
        service = next((each for each in total.services if each.name == self._name), None)
        if service is None:
            service = ServiceSnapshot(self._name, False, False, {})
            total.services.insert(0, service)
        service.isReady = processes.isReady
        service.isStopping = processes.isStopping
        for reason, count in processes.ownRefusals.items():
            service.refused[reason] = service.refused.get(reason, 0) + count

    def _member(self, member: Member) -> MemberSnapshot:
        known = self._told.of(member)
        state = _STATES.get(member.state, "draining")
        # One that starts is not asked.
        if (member.state != STARTING and known.isSilent) or member.isLate:
            state = "silent"
        return MemberSnapshot(member.number, member.pid, state, known.snapshot)

    # The table

    def table(self, query: Query) -> Deferred[dict[str, Any]]:
        """See :py:class:`ISource`."""
        waiter: Deferred[dict[str, Any]] = Deferred()
        waiting = self._tables.setdefault(query, [])
        waiting.append(waiter)
        if len(waiting) == 1:
            made = self._room.run(lambda: Deferred.fromCoroutine(self._table(query)))
            made.addBoth(self._hasTable, query)
        return waiter

    def _hasTable(self, result: Any, query: Query) -> None:
        for waiter in self._tables.pop(query):
            waiter.callback(result)

    async def _table(self, query: Query) -> dict[str, Any]:
        parts = self._parts()
        try:
            await DeferredList([part.order(query.sort) for part in parts], consumeErrors=True)
            while True:
                able = [part for part in parts if not part.failed]
                total = sum(part.total for part in able)
                begin, end = min(query.offset, total), min(query.offset + query.limit, total)
                if query.descending:
                    begin, end = total - end, total - begin
                try:
                    rows = await pageFrom(able, begin, end)
                    break
                except FirstError:
                    # Without the one that has failed, then.
                    pass
        finally:
            for part in parts:
                part.drop()
        if query.descending:
            rows.reverse()
        silent = sorted({part.number for part in parts if part.failed})
        return {**pageOf(query, total, rows), "silent": silent}

    def _parts(self) -> list[Part]:
        if self._isStopped:
            return []
        members = [member for member in self._processes.members if member.state in (READY, DRAINING)]
        parts = [Part(partial(self._question, member), member.number, member.pid or 0) for member in members]
        return [Part(self._ownQuestion, 0, os.getpid()), *parts]

    def _question(self, member: Member, *question: Any) -> Deferred[list[Any]]:
        return self._told.questions.ask(member, question, list, self._reactor)

    def _ownQuestion(self, *question: Any) -> Deferred[list[Any]]:
        answer: Deferred[Any] = maybeDeferred(self._own.orders.answer, *question)
        return answer.addCallback(lambda parts: [json.loads(part) for part in parts])

    def close(self, number: int, reason: str, pid: int | None = None) -> Deferred[bool]:
        """See :py:class:`ISource`."""
        if pid == os.getpid():
            return self._own.close(number, reason)
        member = next((each for each in self._processes.members if each.pid == pid and pid is not None), None)
        if member is None:
            return succeed(False)
        return self._question(member, "close", number, reason).addCallback(lambda parts: parts == [[True]])
