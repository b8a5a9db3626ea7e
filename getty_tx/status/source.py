"""Where the status comes from: the sessions of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface, implementer

from getty_tx.server import Server
from getty_tx.status.sampler import Sampler
from getty_tx.status.slices import Slices
from getty_tx.status.snapshot import Snapshot, walk
from getty_tx.status.table import tableOf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twisted.internet.defer import Deferred

    from getty_tx.status.snapshot import Service, ServiceSnapshot
    from getty_tx.status.table import Query

__all__ = ["ISource", "ProcessSource"]


class ISource(Interface):
    """What shows the status asks this. All calls come on the reactor's thread, and none of them may take long."""

    process = Attribute("The name of the process.")

    def start() -> None:
        """The status is shown from now on."""

    def stop() -> None:
        """It is not shown any more: let go of everything."""

    def problems() -> list[str]:
        """Why the process is not ready for work, in words; empty where it is."""

    def isDraining() -> bool:
        """Whether sessions are being flushed and closed as their service stops."""

    def collect() -> Deferred[Snapshot]:
        """Counters and gauges."""

    def table(query: Query) -> Deferred[dict[str, Any]]:
        """A page of the table of sessions."""

    def close(number: int, reason: str) -> bool:
        """Close the session with this id; False where there is none that is open."""


@implementer(ISource)
class ProcessSource:
    """
    Services of this process.

    :param services: by the name that they are shown with.
    """

    process = "main"

    def __init__(self, services: Mapping[str, Service], reactor: Any) -> None:
        self._services = services
        self._slices = Slices(reactor)
        self.sampler = Sampler(services, reactor)

    def start(self) -> None:
        """See :py:class:`ISource`."""
        self.sampler.start()

    def stop(self) -> None:
        """See :py:class:`ISource`."""
        self.sampler.stop()
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

    def isDraining(self) -> bool:
        """See :py:class:`ISource`."""
        return any(service.isStopping for service in self._services.values())

    def collect(self) -> Deferred[Snapshot]:
        """See :py:class:`ISource`."""
        return self._slices.run("collect", self._collect)

    def _collect(self) -> Iterator[Snapshot | None]:
        services: list[ServiceSnapshot] = []
        for name, service in self._services.items():
            for found in walk(name, service):
                if found is not None:
                    services.append(found)
                yield None
        sampler = self.sampler
        yield Snapshot(
            self.process,
            services,
            sampler.lag.copy(),
            sampler.turn.copy(),
            sampler.handler.copy(),
            {name: histogram.copy() for name, histogram in sampler.workerWait.items()},
        )

    def table(self, query: Query) -> Deferred[dict[str, Any]]:
        """See :py:class:`ISource`."""
        return self._slices.run(query, lambda: tableOf(self._services, query))

    def close(self, number: int, reason: str) -> bool:
        """See :py:class:`ISource`."""
        for service in self._services.values():
            for keeper in service.keepers:
                for session in keeper.sessions:
                    if session.id == number:
                        wasOpen = not session.isClosed
                        session.close(reason)
                        return wasOpen
        return False
