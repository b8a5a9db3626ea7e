"""The status of several processes: the main process queries its sub-reactors and merges their reports."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore, FirstError, maybeDeferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.processes.member import DRAINING, READY, STARTING
from getty_tx.processes.queries import NoAnswerError, Queries
from getty_tx.status.lasterrors import MAX_ERRORS
from getty_tx.status.merging import decodeSnapshot, emptySnapshot, mergeEnded, mergeInto
from getty_tx.status.paging import TablePart, mergedPage
from getty_tx.status.registries import registriesOf
from getty_tx.status.snapshot import MemberSnapshot, ServiceSnapshot, SlotSnapshot
from getty_tx.status.source import ISource, ProcessSource
from getty_tx.status.subreactor import SUBREACTOR_STATUS
from getty_tx.status.table import COLUMNS, pageOf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.processes.member import Member
    from getty_tx.processes.service import Processes
    from getty_tx.status.snapshot import Service, Snapshot
    from getty_tx.status.table import Query

__all__ = ["AggregateSource", "MemberReports"]

log = Logger()

#: Pages of the table that are gathered at the same time; further requests are queued.
MAX_TABLES = 4

_STATES = {STARTING: "starting", READY: "ready", DRAINING: "draining"}


class _LastReport:
    """
    The last report of one sub-reactor.

    :ivar seen: the number of errors that it has reported.
    :ivar isSilent: its last answer is missing or invalid.
    """

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.errors: list[dict[str, Any]] = []
        self.seen = -1
        self.isSilent = False


class MemberReports:
    """
    The reports of the sub-reactors of a Processes, from its start on.

    :ivar ended: the counters of ended processes, by the number of the sub-reactor.
    """

    def __init__(self, processes: Processes) -> None:
        self.questions = Queries(SUBREACTOR_STATUS, self.received, self.ask, self.lost)
        processes.questions = self.questions
        self._last: dict[Member, _LastReport] = {}
        self.ended: dict[int, Snapshot] = {}
        self._endedErrors: list[dict[str, Any]] = []

    def lastOf(self, member: Member) -> _LastReport:
        """The last report of a member; an empty one if it is unreachable, and then nothing is stored."""
        return _LastReport() if member.isUnreachable else self._last.setdefault(member, _LastReport())

    def ask(self, member: Member, reactor: Any) -> Deferred[None]:
        """
        Ask a member for its report; fires when it is stored, or when it is known that none comes.

        Whenever its counters have changed, too: if it is killed, the report that was stored last is what remains of it.
        """
        last = self.lastOf(member)
        asked = self.questions.ask(member, ["collect", last.seen], partial(self.received, member), reactor)
        return asked.addErrback(self._notReceived, member, last)

    def _notReceived(self, failure: Any, member: Member, last: _LastReport) -> None:
        if not failure.check(NoAnswerError) and not last.isSilent:
            log.failure("invalid status report of {member}", failure, member=member)
        last.isSilent = True

    def received(self, member: Member, parts: list[Any]) -> None:
        """
        Store the report of a member.

        :raise ValueError: the report is invalid. ``TypeError``, ``KeyError``: the same.
        """
        records = [record for part in parts for record in part]
        last = self.lastOf(member)
        last.snapshot = decodeSnapshot(record for record in records if not record[0].startswith("error"))
        for each in last.snapshot.groups.behind:
            each.subreactor = member.number
        for [seen] in (fields for kind, *fields in records if kind == "errors"):
            errors = [error for kind, *fields in records if kind == "error" for error in fields]
            last.errors = _latest([{**error, "subreactor": member.number} for error in errors])
            last.seen = seen
        last.isSilent = False

    def lost(self, member: Member) -> None:
        """A member has ended: keep its counters and errors."""
        last = self._last.pop(member, _LastReport())
        if last.snapshot is not None:
            mergeEnded(self.ended.setdefault(member.number, emptySnapshot()), last.snapshot)
        self._endedErrors = _latest([*self._endedErrors, *last.errors])

    def withoutEngine(self) -> list[int]:
        """The numbers of the sub-reactors for which an engine of groups is away."""
        found = {
            member.number
            for member, last in self._last.items()
            if last.snapshot is not None and any(not each.isUp for each in last.snapshot.groups.engines.values())
        }
        return sorted(found)

    def errors(self) -> list[dict[str, Any]]:
        """The last errors of all members, newest first."""
        return _latest([*self._endedErrors, *(error for last in self._last.values() for error in last.errors)])


def _latest(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(errors, key=lambda error: error["time"], reverse=True)[:MAX_ERRORS]


@implementer(ISource)
class AggregateSource:
    """
    The services of the sub-reactors and of this process.

    A sub-reactor that does not answer in time is shown with its last report. The counters of ended processes stay in
    the sums, so counters never decrease.

    :param name: the display name of the Processes; a service of the sub-reactors with the same name is merged with it.
    :param processes: the Processes.
    :param reports: the reports of its sub-reactors.
    :param services: the services of this process, by display name.
    :param reactor: the reactor.
    """

    process = "main"
    columns = ("subreactor", "pid", *COLUMNS)

    def __init__(
        self, name: str, processes: Processes, reports: MemberReports, services: Mapping[str, Service], reactor: Any
    ) -> None:
        self._name = name
        self._processes = processes
        self._reports = reports
        self._reactor = reactor
        self._services = services
        self._own = ProcessSource(services, reactor)
        self._collecting: list[Deferred[Snapshot]] = []
        self._tables: dict[Query, list[Deferred[Any]]] = {}
        self._semaphore = DeferredSemaphore(MAX_TABLES)
        self._isStopped = False

    def start(self) -> None:
        """See :py:class:`ISource`."""
        self._own.start()

    def stop(self) -> None:
        """See :py:class:`ISource`."""
        self._isStopped = True
        self._own.stop()
        self._reports.questions.giveUp()

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

    def warnings(self) -> list[str]:
        """See :py:class:`ISource`."""
        found = self._own.warnings()
        numbers = self._reports.withoutEngine()
        if numbers:
            found.append(f"the engine of groups is away from sub-reactor {', '.join(map(str, numbers))}")
        return found

    def errors(self) -> list[dict[str, Any]]:
        """See :py:class:`ISource`."""
        return self._reports.errors()

    # Counters

    def collect(self) -> Deferred[Snapshot]:
        """See :py:class:`ISource`."""
        waiter: Deferred[Snapshot] = Deferred()
        self._collecting.append(waiter)
        if len(self._collecting) == 1:
            reports = self._reports
            queries: list[Deferred[Any]] = [reports.ask(member, self._reactor) for member in self._processes.members]
            gathered: Deferred[Any] = DeferredList([self._own.collect(), *queries], consumeErrors=True)
            gathered.addCallback(self._merge).addBoth(self._collected)
        return waiter

    def _collected(self, result: Any) -> None:
        waiters, self._collecting = self._collecting, []
        for waiter in waiters:
            waiter.callback(result)

    def _merge(self, results: list[tuple[bool, Any]]) -> Any:
        [succeeded, own], *_ = results
        if not succeeded:
            # A Failure: the source was stopped.
            return own
        processes, reports = self._processes, self._reports
        own.cpu = time.process_time()
        total = emptySnapshot(self.process)
        total.main = own
        restarts = processes.restarts
        for place in range(processes.count):
            number = place + 1
            members = [member for member in processes.members if member.slot == place]
            snapshots = [self._member(member) for member in members]
            sums = emptySnapshot()
            if number in reports.ended:
                mergeEnded(sums, reports.ended[number])
            for each in snapshots:
                if each.snapshot is not None:
                    mergeInto(sums, each.snapshot)
            mergeInto(total, sums)
            isUp = any(each.state == "ready" for each in snapshots)
            draining = sum(member.state == DRAINING for member in members)
            total.slots.append(SlotSnapshot(number, isUp, draining, restarts[place], sums))
            total.members += snapshots
        mergeInto(total, own)
        self._addMain(total)
        # Sub-reactors register nothing.
        total.registries = registriesOf([processes, *self._services.values()])
        return total

    def _addMain(self, total: Snapshot) -> None:
        """Add what only the main process knows of its service: its state, and its own refusals."""
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
        last = self._reports.lastOf(member)
        state = _STATES.get(member.state, "draining")
        # A starting member gets no queries.
        if (member.state != STARTING and last.isSilent) or member.isLate:
            state = "silent"
        return MemberSnapshot(member.number, member.pid, state, last.snapshot)

    # The table

    def table(self, query: Query) -> Deferred[dict[str, Any]]:
        """See :py:class:`ISource`."""
        waiter: Deferred[dict[str, Any]] = Deferred()
        waiters = self._tables.setdefault(query, [])
        waiters.append(waiter)
        if len(waiters) == 1:
            page = self._semaphore.run(lambda: Deferred.fromCoroutine(self._table(query)))
            page.addBoth(self._tableDone, query)
        return waiter

    def _tableDone(self, result: Any, query: Query) -> None:
        for waiter in self._tables.pop(query):
            waiter.callback(result)

    async def _table(self, query: Query) -> dict[str, Any]:
        parts = self._parts()
        try:
            await DeferredList([part.sort(query.sort) for part in parts], consumeErrors=True)
            while True:
                working = [part for part in parts if not part.failed]
                total = sum(part.total for part in working)
                begin, end = min(query.offset, total), min(query.offset + query.limit, total)
                if query.descending:
                    begin, end = total - end, total - begin
                try:
                    rows = await mergedPage(working, begin, end)
                    break
                except FirstError:
                    # A part has failed: try again without it.
                    pass
        finally:
            for part in parts:
                part.drop()
        if query.descending:
            rows.reverse()
        silent = sorted({part.number for part in parts if part.failed})
        return {**pageOf(query, total, rows), "silent": silent}

    def _parts(self) -> list[TablePart]:
        if self._isStopped:
            return []
        members = [member for member in self._processes.members if member.state in (READY, DRAINING)]
        parts = [TablePart(partial(self._ask, member), member.number, member.pid or 0) for member in members]
        return [TablePart(self._askOwn, 0, os.getpid()), *parts]

    def _ask(self, member: Member, *query: Any) -> Deferred[list[Any]]:
        return self._reports.questions.ask(member, query, list, self._reactor)

    def _askOwn(self, *query: Any) -> Deferred[list[Any]]:
        answer: Deferred[Any] = maybeDeferred(self._own.sorted.answer, *query)
        return answer.addCallback(lambda parts: [json.loads(part) for part in parts])

    def close(self, number: int, reason: str, pid: int | None = None) -> Deferred[bool]:
        """See :py:class:`ISource`."""
        if pid == os.getpid():
            return self._own.close(number, reason)
        member = next((each for each in self._processes.members if each.pid == pid and pid is not None), None)
        if member is None:
            return succeed(False)
        return self._ask(member, "close", number, reason).addCallback(lambda parts: parts == [[True]])
