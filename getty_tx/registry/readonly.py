"""What the engines for reading only have in common: ``static:``, ``file:`` and ``dns:``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.interfaces import IEngine, IWatch
from getty_tx.registry.provider import KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from getty_tx.registry.interfaces import IEngineUser, IRecordSink
    from getty_tx.registry.provider import Provider

__all__ = ["ReadOnlyEngine", "Watched"]


@implementer(IWatch)
class _Watch:
    """One who follows a service."""

    __slots__ = ("_watched", "isFresh", "isInterrupted", "sink")

    def __init__(self, sink: IRecordSink, watched: Watched) -> None:
        self.sink = sink
        # True until it has got a list, the first or one after an interruption.
        self.isFresh = True
        self.isInterrupted = False
        self._watched = watched

    def stop(self) -> None:
        """Watch no more."""
        self._watched.remove(self)


class Watched:
    """A service that is followed: tells followers what is different from the last time."""

    def __init__(self, engine: ReadOnlyEngine, service: str) -> None:
        self.service = service
        self._engine = engine
        self._watches: list[_Watch] = []
        self._records: dict[str, Any] = {}

    def add(self, sink: IRecordSink) -> _Watch:
        """Another follower."""
        watch = _Watch(sink, self)
        self._watches.append(watch)
        return watch

    def remove(self, watch: _Watch) -> None:
        """A follower less."""
        if watch in self._watches:
            self._watches.remove(watch)
            if not self._watches:
                self._engine.unwatched(self)

    def clear(self) -> None:
        """No followers any more."""
        self._watches.clear()

    def tell(self, records: Mapping[str, Any]) -> None:
        """These are the records now."""
        old, self._records = self._records, dict(records)
        written = {key: record for key, record in records.items() if old.get(key) != record}
        gone = old.keys() - records.keys()
        for watch in list(self._watches):
            if watch not in self._watches:
                continue
            if watch.isFresh:
                watch.isFresh = watch.isInterrupted = False
                watch.sink.recordsAre(dict(records))
            elif written or gone:
                watch.sink.recordsChanged(written, gone)

    def interrupt(self, error: BaseException) -> None:
        """What the records are is not known any more."""
        for watch in list(self._watches):
            watch.isFresh = True
            if not watch.isInterrupted:
                watch.isInterrupted = True
                watch.sink.interrupted(error)


@implementer(IEngine)
class ReadOnlyEngine:
    """
    An engine in which nobody can be registered.

    :param name: what the registry's text is, for logs and errors.
    """

    isReadOnly = True
    hasStates = False
    leaveTime = 0.0
    kinds = KINDS
    isLocal = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._reactor: Any = None
        self._user: IEngineUser | None = None
        self._isConnected: bool | None = None
        self._watched: dict[str, Watched] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """Begin."""
        self._reactor, self._user, self._isConnected = reactor, user, None

    def stop(self) -> Deferred[None]:
        """Follow no more."""
        for watched in self._watched.values():
            watched.clear()
        self._watched.clear()
        self._reactor = self._user = None
        return succeed(None)

    def put(self, provider: Provider) -> Deferred[None]:
        """:raise SettingError: always."""
        raise SettingError(f"registry {self.name} is for reading only: nobody can be registered there")

    def delete(self, provider: Provider) -> Deferred[None]:
        """There is nothing to delete."""
        return succeed(None)

    def missing(self, providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        """Nothing was written."""
        return succeed([])

    def hostTowards(self) -> Deferred[str]:
        """Nobody is advertised."""
        return succeed("")

    def watch(self, service: str, sink: IRecordSink) -> IWatch:
        """Follow a service."""
        watched = self._watched.get(service)
        if watched is None:
            watched = self._watched[service] = Watched(self, service)
        watch = watched.add(sink)
        self.watching(watched)
        return watch

    def read(self, service: str | None) -> Deferred[Mapping[tuple[str, str], Any]]:
        """The records of one service or of all."""
        raise NotImplementedError

    def watching(self, watched: Watched) -> None:
        """A service has a new follower, who is to be told, in another turn of the reactor."""
        raise NotImplementedError

    def unwatched(self, watched: Watched) -> None:
        """A service has lost its last follower."""
        if self._watched.get(watched.service) is watched:
            del self._watched[watched.service]

    def _said(self, error: BaseException | None) -> None:
        """It answers, or not: say so if it is news."""
        isConnected = error is None
        if self._user is not None and self._isConnected is not isConnected:
            self._isConnected = isConnected
            if error is None:
                self._user.engineConnected()
            else:
                self._user.engineDisconnected(error)
