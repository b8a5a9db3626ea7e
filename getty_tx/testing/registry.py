"""A registry in memory, for tests of those who register and follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from getty_tx.registry.errors import RegistryError
from getty_tx.registry.interfaces import IEngine, IWatch
from getty_tx.registry.provider import KINDS, Provider, encodeRecord
from getty_tx.registry.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

    from getty_tx.registry.interfaces import IEngineUser, IRecordSink

__all__ = ["MemoryRegistry", "MemoryStore"]


class MemoryStore:
    """
    The records of any number of :py:class:`MemoryRegistry` objects, which are told of changes at once.

    :ivar records: by service and key, the bytes of each.
    :ivar isAway: whether nobody gets an answer: see :py:meth:`goAway`.
    """

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], bytes] = {}
        self.isAway = False
        self._owners: dict[tuple[str, str], Any] = {}
        self._engines: list[_MemoryEngine] = []

    def write(self, service: str, key: str, data: bytes, owner: Any = None) -> None:
        """
        Write a record, valid or not.

        :param key: the provider's id, percent-encoded, or the record is passed over.
        """
        self.records[service, key] = data
        self._owners[service, key] = owner
        self._changed(service, {key: data}, ())

    def delete(self, service: str, key: str) -> None:
        """Delete a record, as somebody would by hand."""
        if self.records.pop((service, key), None) is not None:
            del self._owners[service, key]
            self._changed(service, {}, (key,))

    def ownerOf(self, service: str, key: str) -> Any:
        """The engine that wrote a record."""
        return self._owners.get((service, key))

    def of(self, service: str) -> dict[str, bytes]:
        """The records of one service."""
        return {key: data for (each, key), data in self.records.items() if each == service}

    def _changed(self, service: str, written: dict[str, bytes], gone: Collection[str]) -> None:
        if not self.isAway:
            for engine in list(self._engines):
                engine.changed(service, written, gone)

    def goAway(self) -> None:
        """Answer nobody until :py:meth:`comeBack`."""
        self.isAway = True
        for engine in list(self._engines):
            engine.away()

    def comeBack(self, wiped: bool = False) -> None:
        """
        Answer again.

        :param wiped: without the records.
        """
        self.isAway = False
        if wiped:
            self.records.clear()
            self._owners.clear()
        for engine in list(self._engines):
            engine.back(wiped)

    def expire(self) -> None:
        """Every engine's lease ends: their records are deleted, and they are told."""
        for service, key in [each for each, owner in self._owners.items() if owner is not None]:
            self.delete(service, key)
        for engine in list(self._engines):
            engine.expired()

    def add(self, engine: _MemoryEngine) -> None:
        """An engine has started."""
        self._engines.append(engine)

    def remove(self, engine: _MemoryEngine) -> None:
        """An engine has stopped."""
        self._engines.remove(engine)


class MemoryRegistry(Registry):
    """
    A registry whose records are in memory.

    ::

        clock = Clock()
        registry = MemoryRegistry(clock)
        registry.startService()
        registry.register(Provider("echo", "tcp:10.0.0.5:8090"))
        registry.store.goAway()

    :param reactor: a Clock, or another reactor; by default the installed one.
    :param store: to have several registries with the same records, as processes have.
    """

    def __init__(self, reactor: Any = None, store: MemoryStore | None = None, random: Random | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        super().__init__(_MemoryEngine(self.store), reactor=reactor, random=random)


@implementer(IEngine)
class _MemoryEngine:
    name = "memory:"
    isReadOnly = False
    hasStates = True
    leaveTime = 1.0
    kinds = KINDS | {"unix"}
    isLocal = True

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._user: Any = None
        self._watches: list[_MemoryWatch] = []

    def start(self, reactor: Any, user: IEngineUser) -> None:
        self._user = user
        self._store.add(self)
        if self._store.isAway:
            user.engineDisconnected(RegistryError("the store is away"))
        else:
            user.engineConnected()

    def stop(self) -> Deferred[None]:
        self._store.remove(self)
        return succeed(None)

    def _done(self, value: Any = None) -> Deferred[Any]:
        return fail(RegistryError("the store is away")) if self._store.isAway else succeed(value)

    def put(self, provider: Provider) -> Deferred[None]:
        done = self._done()
        if not self._store.isAway:
            self._store.write(provider.service, quote(provider.id, safe=""), encodeRecord(provider), self)
        return done

    def delete(self, provider: Provider) -> Deferred[None]:
        key = quote(provider.id, safe="")
        if not self._store.isAway and self._store.ownerOf(provider.service, key) is self:
            self._store.delete(provider.service, key)
        return self._done()

    def missing(self, providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        owner = self._store.ownerOf
        return self._done([each for each in providers if owner(each.service, quote(each.id, safe="")) is not self])

    def watch(self, service: str, sink: IRecordSink) -> _MemoryWatch:
        watch = _MemoryWatch(self._watches, service, sink)
        if self._store.isAway:
            sink.interrupted(RegistryError("the store is away"))
        else:
            sink.recordsAre(self._store.of(service))
        return watch

    def read(self, service: str | None) -> Deferred[Any]:
        return self._done({each: data for each, data in self._store.records.items() if service in (None, each[0])})

    def hostTowards(self) -> Deferred[str]:
        return succeed("127.0.0.1")

    def changed(self, service: str, written: dict[str, bytes], gone: Collection[str]) -> None:
        for watch in list(self._watches):
            if watch.service == service:
                watch.sink.recordsChanged(written, gone)

    def away(self) -> None:
        error = RegistryError("the store is away")
        self._user.engineDisconnected(error)
        for watch in list(self._watches):
            watch.sink.interrupted(error)

    def back(self, wiped: bool) -> None:
        self._user.engineConnected()
        for watch in list(self._watches):
            watch.sink.recordsAre(self._store.of(watch.service))
        if wiped:
            self.expired()

    def expired(self) -> None:
        self._user.recordsLost()


@implementer(IWatch)
class _MemoryWatch:
    def __init__(self, watches: list[_MemoryWatch], service: str, sink: IRecordSink) -> None:
        self.service = service
        self.sink: Any = sink
        self._watches = watches
        watches.append(self)

    def stop(self) -> None:
        self._watches.remove(self)
