"""What a sub-reactor answers when the main process shows the status."""

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
from getty_tx.status.merging import write
from getty_tx.status.source import ProcessSource, namesOf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twisted.internet.defer import Deferred

    from getty_tx.session.context import ServiceContext
    from getty_tx.status.snapshot import Snapshot

__all__ = ["ANSWERING", "Answering"]

#: How the main process names it.
ANSWERING = "getty_tx.status.subreactor:Answering"


class _Kept:
    """A service, which has its contexts also when it has stopped: counters do not go back before the process ends."""

    def __init__(self, service: Server | Client) -> None:
        self._service = service
        self._keepers: list[ServiceContext] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)

    @property
    def contexts(self) -> list[ServiceContext]:
        """What keeps the sessions, or did last."""
        self._keepers = self._service.contexts or self._keepers
        return self._keepers


def _servicesIn(service: Any) -> Iterator[Server | Client]:
    """The Servers and Clients of a sub-reactor's service."""
    if isinstance(service, Server | Client):
        yield service
    elif IServiceCollection.providedBy(service):
        for each in service:
            yield from _servicesIn(each)


@implementer(IAnswering)
class Answering:
    """
    Answers.

    A question is a list of a word and what belongs to it:

    ``["collect", number]``
        A snapshot, as :py:mod:`getty_tx.status.merging` writes it, and the last errors, unless there are none after
        those of which ``number`` was told.
    ``["order", ...]``, ``["keys", ...]``, ``["rows", ...]``, ``["drop", ...]``
        As the methods of :py:class:`getty_tx.status.sorting.Orders`.
    ``["close", id, reason]``
        Closes a session; a list with whether there was one.

    :param service: the sub-reactor's.
    :param reactor: the reactor.
    """

    def __init__(self, service: Any, reactor: Any) -> None:
        names = namesOf(_servicesIn(service))
        kept: Any = {name: _Kept(each) for name, each in names.items()}
        self._services = names.values()
        self._source = ProcessSource(kept, reactor)
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

    def answer(self, question: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """See IAnswering."""
        word, *rest = question
        if word == "collect":
            return self._collect(*rest)
        if word == "close":
            return self._close(*rest)
        return self._source.orders.answer(word, *rest)

    def lastWords(self) -> Iterator[bytes]:
        """The last snapshot."""
        *_, snapshot = self._source.walk()
        assert snapshot is not None
        return self._tell(snapshot, -1)

    def _collect(self, seen: int) -> Deferred[Iterable[bytes]]:
        return self._source.collect().addCallback(self._tell, seen)

    def _close(self, number: int, reason: str) -> Deferred[Iterable[bytes]]:
        return self._source.close(number, reason).addCallback(lambda closed: inParts([json.dumps(closed)]))

    def _tell(self, snapshot: Snapshot, seen: int) -> Iterator[bytes]:
        snapshot.cpu = time.process_time()
        yield from inParts(write(snapshot))
        if self._errors.number != seen:
            yield from inParts([json.dumps(["errors", self._errors.number])])
            yield from inParts(json.dumps(["error", fault]) for fault in self._errors.list())
