"""A following: what an engine reports of one service becomes what a follower is told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.registry.cache import Cache
from getty_tx.registry.changes import Changes
from getty_tx.registry.interfaces import IFollowing, IRecordSink
from getty_tx.registry.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.interfaces import IFollower
    from getty_tx.registry.registry import Registry

__all__ = ["FIRST_LIST_TIME", "GATHER_TIME", "SLICE", "Following"]

log = Logger()

#: Records that are decoded in one turn of the reactor: some 3 ms.
SLICE = 200

#: Seconds in which changes are gathered after some were told: a follower hears of a thousand a second 200 times. What
#: comes after a pause is told at once.
GATHER_TIME = 0.005

#: Seconds without a first list after which the cache is used, even if the engine says nothing.
FIRST_LIST_TIME = 2.0


@implementer(IFollowing, IRecordSink)
class Following:
    """
    See :py:class:`~getty_tx.registry.interfaces.IFollowing`.

    :param cache: the file of the last list; None: there is none.
    """

    def __init__(self, registry: Registry, service: str, follower: IFollower, cache: str | None) -> None:
        self.service = service
        self.isKnown = False
        self._registry = registry
        self._follower: Any = follower
        self._cache = None if cache is None else Cache(cache, service)
        self._changes: Changes | None = None
        self._watch: Any = None
        # Keys of records that cannot be used, with the reason.
        self._bad: dict[str, str] = {}
        # What the engine has reported and is not worked off, and the call that goes on with it.
        self._reports: deque[Iterator[None]] = deque()
        self._next: IDelayedCall | None = None
        # Changes that wait for others, and the call that tells them.
        self._written: dict[str, Any] = {}
        self._gone: dict[str, None] = {}
        self._gathering: IDelayedCall | None = None
        self._late: IDelayedCall | None = None
        self._keys: set[str] = set()
        self._staleSince: float | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Following {self.service} in {self._registry.name}: {len(self.providers)} providers>"

    @property
    def providers(self) -> dict[str, Provider]:
        """The known providers by id. Not to be changed."""
        return {} if self._changes is None else self._changes.providers

    @property
    def skipped(self) -> int:
        """How many of the service's records cannot be used now."""
        return len(self._bad)

    @property
    def staleFor(self) -> float:
        """Seconds for which the list may be out of date; 0 while it is followed."""
        since = self._staleSince
        return 0.0 if since is None else float(self._registry.reactor.seconds() - since)

    @property
    def isHeld(self) -> bool:
        """Whether providers without a record are kept, because there would be none without them."""
        return self._changes is not None and self._changes.isHeld

    # Called by the registry

    def start(self) -> None:
        """Begin to watch."""
        registry = self._registry
        if self._changes is None:
            self._changes = Changes(self.service, registry.reactor, self._tell)
        self._staleSince = registry.reactor.seconds()
        if not self.isKnown and self._cache is not None:
            self._late = registry.reactor.callLater(FIRST_LIST_TIME, self._useCache)
        self._watch = registry.engine.watch(self.service, self)

    def pause(self) -> None:
        """Watch no more until the next start; what is known stays."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()
        for call in (self._next, self._late, self._gathering):
            if call is not None and call.active():
                call.cancel()
        self._next = self._late = self._gathering = None
        self._reports.clear()
        self._written, self._gone = {}, {}
        if self._changes is not None:
            self._changes.pause()
        if self._cache is not None:
            self._cache.flush()
        self._staleSince = None

    def stop(self) -> None:
        """Follow no more. Nothing is called after it."""
        if not self._stopped:
            self._stopped = True
            self.pause()
            self._registry.unfollowed(self)

    # IRecordSink

    def recordsAre(self, records: Mapping[str, Any]) -> None:
        """All records. What was gathered is in them, or out of date."""
        self._written, self._gone = {}, {}
        self._report(self._all(records))

    def recordsChanged(self, written: Mapping[str, Any], gone: Collection[str]) -> None:
        """Some records were written or deleted."""
        self._registry.events += len(written) + len(gone)
        if not self._written.keys().isdisjoint(gone):
            # Whoever says that it leaves, and goes at once, has said so.
            self._flush()
        self._gone.update(dict.fromkeys(gone))
        for key in written:
            self._gone.pop(key, None)
        self._written.update(written)
        if self._gathering is None:
            self._gathered()

    def interrupted(self, error: BaseException) -> None:
        """Changes may be missed from now on."""
        if self._staleSince is None:
            self._staleSince = self._registry.reactor.seconds()
        if not self.isKnown and self._cache is not None:
            self._useCache()

    def resumed(self) -> None:
        """Nothing was missed."""
        if self.isKnown:
            self._staleSince = None

    def _gathered(self) -> None:
        """Tell what has come, if there is any, and wait for more."""
        self._gathering = None
        if self._written or self._gone:
            self._gathering = self._registry.reactor.callLater(GATHER_TIME, self._gathered)
            self._flush()

    def _flush(self) -> None:
        written, gone = self._written, self._gone
        self._written, self._gone = {}, {}
        self._report(self._some(written, gone))

    # Working off what is reported, in slices

    def _report(self, report: Iterator[None]) -> None:
        self._reports.append(report)
        if self._next is None:
            self._work()

    def _work(self) -> None:
        self._next = None
        while self._reports:
            try:
                next(self._reports[0])
            except StopIteration:
                if self._reports:
                    self._reports.popleft()
            else:
                self._next = self._registry.reactor.callLater(0, self._work)
                return

    def _all(self, records: Mapping[str, Any]) -> Iterator[None]:
        gone = self._keys - records.keys()
        usable: dict[str, Provider] = {}
        yield from self._decode(records, usable)
        self._keys = set(records)
        self._registry.events += len(records)
        self._staleSince = None
        changes = self._changes
        assert changes is not None
        first, self.isKnown = not self.isKnown, True
        if self._late is not None:
            self._late.cancel()
            self._late = None
        for key in gone:
            self._bad.pop(key, None)
        if len(records) > SLICE:
            # In a turn of its own.
            yield
        changes.listed(usable, gone, first)

    def _some(self, written: Mapping[str, Any], gone: Collection[str]) -> Iterator[None]:
        usable: dict[str, Provider] = {}
        yield from self._decode(written, usable)
        self._keys.update(written)
        self._keys.difference_update(gone)
        for key in gone:
            self._bad.pop(key, None)
        assert self._changes is not None
        self._changes.changed(usable, gone)

    def _decode(self, records: Mapping[str, Any], usable: dict[str, Provider]) -> Iterator[None]:
        decode = self._registry.decode
        assert self._changes is not None
        has = self._changes.has
        for count, (key, record) in enumerate(records.items(), 1):
            decoded = decode(record, self.service, key)
            if type(decoded) is Provider:
                if not has(key, decoded):
                    usable[key] = decoded
                if self._bad:
                    self._bad.pop(key, None)
            else:
                self._skip(key, str(decoded))
            if not count % SLICE:
                yield

    def _skip(self, key: str, reason: str) -> None:
        """A record cannot be used: what was known of it stays. It is named once."""
        if self._bad.get(key) != reason:
            text = "{registry}: a record of {service} is passed over: {key!r:.300}: {reason}"
            log.warn(text, registry=self._registry.name, service=self.service, key=key, reason=reason)
        self._bad[key] = reason

    # What the follower is told

    def _tell(self, added: Collection[Provider], removed: Collection[Provider], changed: Collection[Provider]) -> None:
        try:
            self._follower.providersChanged(added, removed, changed)
        except Exception:
            log.failure("{follower}.providersChanged failed", follower=self._follower)
        if self._cache is not None and self._staleSince is None:
            self._cache.changed(self._registry.reactor, self.providers)

    def _useCache(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        if self.isKnown or self._cache is None or self._changes is None:
            return
        providers = self._cache.load(self._registry.engine.kinds)
        if providers:
            text = "{registry} does not answer: {count} providers of {service} come from {path}"
            log.warn(
                text, registry=self._registry.name, count=len(providers), service=self.service, path=self._cache.path
            )
            self.isKnown = True
            self._changes.cached(providers)
