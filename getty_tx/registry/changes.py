"""
From records to changes of providers.

- A record that is deleted and written again within :py:data:`SETTLE` is one change.
- A provider that went too often comes back only after :py:data:`FLAPPING_WAIT`.
- Those that have no record any more stay known where nobody would be left: an empty list is more often a fault of the
  registry than the end of a service. They go when another one has come. One that said that it leaves does go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.provider import Provider

__all__ = ["FLAPPING_WAIT", "MAX_DEPARTURES", "SETTLE", "Changes"]

log = Logger()

#: Seconds that a provider without a record stays known.
SETTLE = 0.1

#: Departures of one provider in a minute above which it is flapping, and the seconds that it then waits.
MAX_DEPARTURES, FLAPPING_WAIT = 5, 30.0
_MINUTE = 60.0


class Changes:
    """
    The providers of one service.

    :param tell: called with those that were added, removed and changed.
    :ivar providers: what was told, by id.
    """

    def __init__(
        self,
        service: str,
        reactor: Any,
        tell: Callable[[Collection[Provider], Collection[Provider], Collection[Provider]], None],
    ) -> None:
        self.providers: dict[str, Provider] = {}
        self._service = service
        self._reactor = reactor
        self._tell = tell
        self._byKey: dict[str, Provider] = {}
        # The key of each id's newest record, and the ids that have or had several.
        self._keyOf: dict[str, str] = {}
        self._doubled: set[str] = set()
        # Ids that have no record any more, in the order in which they went, and when they are to be told.
        self._going: dict[str, float] = {}
        self._goingCall: IDelayedCall | None = None
        # Ids without a record that are kept.
        self._held: set[str] = set()
        # When providers went, and the calls of those that wait to come back.
        self._departures: dict[str, tuple[float, ...]] = {}
        self._forgotAt = 0.0
        self._joining: dict[str, IDelayedCall] = {}

    @property
    def isHeld(self) -> bool:
        """Whether providers without a record are kept, because there would be none without them."""
        return bool(self._held)

    def pause(self) -> None:
        """Call nothing any more."""
        calls = list(self._joining.values())
        self._joining.clear()
        if self._goingCall is not None:
            calls.append(self._goingCall)
            self._goingCall = None
        for call in calls:
            if call.active():
                call.cancel()

    # What has come

    def has(self, key: str, provider: Provider) -> bool:
        """Whether this is what the record of a key said before."""
        known = self._byKey.get(key)
        return known is provider or known == provider

    def cached(self, providers: Iterable[Provider]) -> None:
        """A list of earlier, of which no record was seen in this run."""
        self.providers = {provider.id: provider for provider in providers}
        self._held = set(self.providers)
        self._tell(list(self.providers.values()), (), ())

    def listed(self, written: Mapping[str, Provider], gone: Collection[str], first: bool) -> None:
        """
        A list, and the keys that are not in it any more.

        :param written: what is new in it: not :py:meth:`has`.
        :param first: nothing was told before: the follower is to be told of it even if it is empty.
        """
        if not self._byKey and not self.providers and not self._departures and self._takeAll(written):
            self._tell(list(self.providers.values()), (), ())
            return
        for id in list(self._held):
            self._going.setdefault(id, 0.0)
        self._take(written, gone, first)
        self._goneNow()

    def changed(self, written: Mapping[str, Provider], gone: Collection[str]) -> None:
        """Some were written, and some keys deleted."""
        self._take(written, gone, False)

    def _takeAll(self, written: Mapping[str, Provider]) -> bool:
        """Take a first list, in a few milliseconds for 10,000. :return: False if ids are there twice."""
        providers = {provider.id: provider for provider in written.values()}
        if len(providers) < len(written):
            return False
        self.providers = providers
        self._byKey = dict(written)
        self._keyOf = {provider.id: key for key, provider in written.items()}
        return True

    def _take(self, written: Mapping[str, Provider], gone: Collection[str], first: bool) -> None:
        added: list[Provider] = []
        changed: list[Provider] = []
        for key in gone:
            self._keyIsGone(key, changed)
        for key, provider in written.items():
            before = self._byKey.get(key)
            if before is not None and before.id != provider.id:
                self._keyIsGone(key, changed)
            self._byKey[key] = provider
            if self._keyOf.get(provider.id, key) != key:
                self._doubled.add(provider.id)
            self._keyOf[provider.id] = key
            self._going.pop(provider.id, None)
            self._held.discard(provider.id)
            self._is(provider, added, changed)
        removed = self._release(written.values())
        if first or added or removed or changed:
            self._tell(added, removed, changed)

    def _is(self, provider: Provider, added: list[Provider], changed: list[Provider]) -> None:
        """A provider has a record."""
        known = self.providers.get(provider.id)
        if known is not None:
            if known is not provider and known != provider:
                self.providers[provider.id] = provider
                changed.append(provider)
        elif provider.id not in self._joining:
            if self._isFlapping(provider.id):
                self._joining[provider.id] = self._reactor.callLater(FLAPPING_WAIT, self._joins, provider.id)
                text = "{provider} of {service} comes and goes: it waits for {seconds:.0f} s"
                log.warn(text, provider=provider.id, service=self._service, seconds=FLAPPING_WAIT)
            else:
                self.providers[provider.id] = provider
                added.append(provider)

    def _keyIsGone(self, key: str, changed: list[Provider]) -> None:
        provider = self._byKey.pop(key, None)
        if provider is None or self._keyOf.get(provider.id) != key:
            return
        id = provider.id
        del self._keyOf[id]
        if id in self._doubled:
            for other, each in self._byKey.items():
                if each.id == id:
                    # An older process of the same id is still there.
                    self._keyOf[id] = other
                    self._is(each, [], changed)
                    return
            self._doubled.discard(id)
        if id in self._joining:
            self._joining.pop(id).cancel()
        elif id in self.providers:
            self._going[id] = self._reactor.seconds() + SETTLE
            if self._goingCall is None:
                self._goingCall = self._reactor.callLater(SETTLE, self._goneNow)

    # Those that have gone

    def _goneNow(self) -> None:
        """Tell of those whose time is over."""
        now = self._reactor.seconds()
        if self._goingCall is not None and self._goingCall.active():
            self._goingCall.cancel()
        self._goingCall = None
        removed = self._remove([id for id, at in self._going.items() if at <= now + 1e-6], now)
        if self._going:
            self._goingCall = self._reactor.callLater(max(min(self._going.values()) - now, 0.0), self._goneNow)
        if removed:
            self._tell((), removed, ())

    def _remove(self, ids: list[str], now: float) -> list[Provider]:
        isLast = self._isNobodyLeft(ids)
        removed = []
        for id in ids:
            self._going.pop(id, None)
            if isLast and not self.providers[id].isLeaving:
                self._hold(id)
                continue
            self._held.discard(id)
            removed.append(self.providers.pop(id))
            self._departures[id] = (*self._departures.get(id, ())[-MAX_DEPARTURES:], now)
        if now - self._forgotAt >= _MINUTE:
            # Thousands may go in an hour, most of them for ever.
            self._forgotAt = now
            self._departures = {id: times for id, times in self._departures.items() if now - times[-1] < _MINUTE}
        return removed

    def _isNobodyLeft(self, ids: Collection[str]) -> bool:
        """Whether all who have a record, and do not leave, are among these."""
        without = self._held.union(ids)
        return all(each.isLeaving or id in without for id, each in self.providers.items())

    def _hold(self, id: str) -> None:
        if not self._held:
            text = "no provider of {service} has a record any more: the last ones stay in use until another comes"
            log.warn(text, service=self._service)
        self._held.add(id)

    def _release(self, written: Collection[Provider]) -> list[Provider]:
        """Others have a record: those without one go."""
        if not self._held or all(each.isLeaving or each.id not in self.providers for each in written):
            return []
        held, self._held = list(self._held), set()
        return self._remove(held, self._reactor.seconds())

    # Those that come and go

    def _isFlapping(self, id: str) -> bool:
        times = self._departures.get(id)
        return times is not None and len(times) > MAX_DEPARTURES and self._reactor.seconds() - times[0] < _MINUTE

    def _joins(self, id: str) -> None:
        del self._joining[id]
        provider = self._byKey[self._keyOf[id]]
        self.providers[id] = provider
        self._tell([provider], self._release([provider]), ())
