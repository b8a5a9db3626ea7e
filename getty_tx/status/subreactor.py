"""The sub-reactor's side of the status: answers the queries of the main process."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from twisted.application.service import IServiceCollection
from zope.interface import implementer

from getty_tx.client import Client
from getty_tx.processes.queries import IAnswering, inParts
from getty_tx.server import Server
from getty_tx.status.lasterrors import LastErrors
from getty_tx.status.merging import encodeSnapshot
from getty_tx.status.source import ProcessSource, namesOf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twisted.internet.defer import Deferred

    from getty_tx.session.context import ServiceContext
    from getty_tx.status.snapshot import Snapshot

__all__ = ["SUBREACTOR_STATUS", "SubReactorStatus"]

#: The name of the class, which the main process sends to its sub-reactors.
SUBREACTOR_STATUS = "getty_tx.status.subreactor:SubReactorStatus"


class _RetainingService:
    """A service that retains its contexts after it has stopped, so that counters do not decrease before the end."""

    def __init__(self, service: Server | Client) -> None:
        self._service = service
        self._contexts: list[ServiceContext] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    @property
    def contexts(self) -> list[ServiceContext]:
        """The contexts of the service, or its last ones."""
        self._contexts = self._service.contexts or self._contexts
        return self._contexts


def _servicesIn(service: Any) -> Iterator[Server | Client]:
    """The Servers and Clients in a sub-reactor's service."""
    if isinstance(service, Server | Client):
        yield service
    elif IServiceCollection.providedBy(service):
        for each in service:
            yield from _servicesIn(each)
    else:
        # Those for calls have one inside. This module knows them only by that.
        inside = getattr(service, "server", None) or getattr(service, "pool", None)
        if isinstance(inside, Server | Client):
            yield inside


@implementer(IAnswering)
class SubReactorStatus:
    """
    Answers queries. A query is a list of a name and its arguments:

    ``["collect", number]``
        A snapshot, encoded by :py:mod:`getty_tx.status.merging`, and the last errors, unless ``number`` is still the
        number of all errors.
    ``["order", ...]``, ``["keys", ...]``, ``["rows", ...]``, ``["drop", ...]``
        See the methods of :py:class:`getty_tx.status.sorting.SortedTables`.
    ``["close", id, reason]``
        Close a session; a list of one bool: whether the session was open.

    :param service: the sub-reactor's service.
    :param reactor: the reactor.
    """

    def __init__(self, service: Any, reactor: Any) -> None:
        names = namesOf(_servicesIn(service))
        retaining: Any = {name: _RetainingService(each) for name, each in names.items()}
        self._services = names.values()
        self._source = ProcessSource(retaining, reactor)
        self._errors = LastErrors(lambda each: next((name for name in names if names[name] is each), ""), time.time)

    def start(self) -> None:
        """See IAnswering."""
        for service in self._services:
            service.addObserver(self._errors)
        self._source.start()

    def stop(self) -> None:
        """See IAnswering."""
        for service in self._services:
            service.removeObserver(self._errors)
        self._source.stop()

    def answer(self, query: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """See IAnswering."""
        name, *arguments = query
        if name == "collect":
            return self._collect(*arguments)
        if name == "close":
            return self._close(*arguments)
        return self._source.sorted.answer(name, *arguments)

    def lastWords(self) -> Iterator[bytes]:
        """The last snapshot."""
        *_, snapshot = self._source.walk()
        assert snapshot is not None
        return self._report(snapshot, -1)

    def _collect(self, seen: int) -> Deferred[Iterable[bytes]]:
        return self._source.collect().addCallback(self._report, seen)

    def _close(self, number: int, reason: str) -> Deferred[Iterable[bytes]]:
        return self._source.close(number, reason).addCallback(lambda closed: inParts([json.dumps(closed)]))

    def _report(self, snapshot: Snapshot, seen: int) -> Iterator[bytes]:
        snapshot.cpu = time.process_time()
        yield from inParts(encodeSnapshot(snapshot))
        if self._errors.number != seen:
            yield from inParts([json.dumps(["errors", self._errors.number])])
            yield from inParts(json.dumps(["error", error]) for error in self._errors.list())
