"""ISource, the interface between the status and its data, and the source for the sessions of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import Attribute, Interface, implementer

from getty_tx.server import Server
from getty_tx.status.groups import GroupsSnapshot
from getty_tx.status.groupwalk import GroupsWalk, isEngineAway
from getty_tx.status.registries import registriesOf
from getty_tx.status.sampler import Sampler
from getty_tx.status.slices import Slices
from getty_tx.status.snapshot import Snapshot, walk
from getty_tx.status.sorting import SortedTables
from getty_tx.status.table import COLUMNS, tableOf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from getty_tx.status.snapshot import Service, ServiceSnapshot
    from getty_tx.status.table import Query

__all__ = ["ISource", "ProcessSource", "namesOf"]


def namesOf(services: Iterable[Any]) -> dict[str, Any]:
    """Services by their display names: ``service.name``, or their kind; a number is added where a name is taken."""
    names: dict[str, Any] = {}
    for service in services:
        name = wanted = service.name or type(service).__name__.lower()
        number = 1
        while name in names:
            number += 1
            name = f"{wanted}-{number}"
        names[name] = service
    return names


class ISource(Interface):
    """
    The data of pages and metrics.

    All methods are called on the reactor's thread, and none of them may block.
    """

    process = Attribute("The name of the process.")
    columns = Attribute("The names of the table's columns.")

    def start() -> None:
        """Start to measure."""

    def stop() -> None:
        """Stop to measure, and release everything."""

    def problems() -> list[str]:
        """The reasons why the process is not ready, as texts; empty if it is ready."""

    def warnings() -> list[str]:
        """What does not keep the process from being ready, as texts for everybody: without names and addresses."""

    def errors() -> list[dict[str, Any]]:
        """The last errors that other processes have reported, newest first."""

    def collect() -> Deferred[Snapshot]:
        """Counters and gauges."""

    def table(query: Query) -> Deferred[dict[str, Any]]:
        """A page of the table of sessions."""

    def close(number: int, reason: str, pid: int | None) -> Deferred[bool]:
        """
        Close the session with this id.

        :param pid: the process of the session, if the table has a column for it.
        :return: fires with False if no such session is open; fails with a GettyError if the process does not answer.
        """


@implementer(ISource)
class ProcessSource:
    """
    The services of this process.

    :param services: by display name.

    :ivar sorted: its part of a table that is merged from several processes.
    """

    process = "main"
    columns = tuple(COLUMNS)

    def __init__(self, services: Mapping[str, Service], reactor: Any) -> None:
        self._services = services
        self._slices = Slices(reactor)
        self.sorted = SortedTables(services, self._slices, reactor)
        self.sampler = Sampler(services, reactor)
        self._groups = GroupsWalk(reactor)

    def start(self) -> None:
        """See :py:class:`ISource`."""
        self.sampler.start()

    def stop(self) -> None:
        """See :py:class:`ISource`."""
        self.sampler.stop()
        self.sorted.stop()
        self._slices.stop()

    def problems(self) -> list[str]:
        """See :py:class:`ISource`."""
        found = []
        for name, service in self._services.items():
            if service.isStopping:
                found.append(f"{name} is stopping")
            elif not service.isReady:
                found.append(f"{name} does not listen" if isinstance(service, Server) else f"{name} has no session")
        return found

    def warnings(self) -> list[str]:
        """See :py:class:`ISource`."""
        return ["the engine of groups is away"] if isEngineAway() else []

    def errors(self) -> list[dict[str, Any]]:
        """See :py:class:`ISource`."""
        return []

    def collect(self) -> Deferred[Snapshot]:
        """See :py:class:`ISource`."""
        return self._slices.run("collect", self.walk)

    def walk(self) -> Iterator[Snapshot | None]:
        """Gather a snapshot in steps: yields None after each step, and the snapshot at the end."""
        services: list[ServiceSnapshot] = []
        for name, service in self._services.items():
            for found in walk(name, service):
                if found is not None:
                    services.append(found)
                yield None
        groups = GroupsSnapshot()
        for each in self._groups.walk():
            if each is not None:
                groups = each
            yield None
        sampler = self.sampler
        yield Snapshot(
            self.process,
            services,
            sampler.lag.copy(),
            sampler.turn.copy(),
            sampler.handler.copy(),
            {name: histogram.copy() for name, histogram in sampler.workerWait.items()},
            registries=registriesOf(self._services.values()),
            groups=groups,
        )

    def table(self, query: Query) -> Deferred[dict[str, Any]]:
        """See :py:class:`ISource`."""
        return self._slices.run(query, lambda: tableOf(self._services, query))

    def close(self, number: int, reason: str, pid: int | None = None) -> Deferred[bool]:
        """See :py:class:`ISource`."""
        return succeed(self._close(number, reason))

    def _close(self, number: int, reason: str) -> bool:
        for service in self._services.values():
            for context in service.contexts:
                for session in context.sessions:
                    if session.id == number:
                        wasOpen = not session.isClosed
                        session.close(reason)
                        return wasOpen
        return False
