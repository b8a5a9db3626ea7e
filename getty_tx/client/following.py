"""The groups of a client that follows a registry."""

from __future__ import annotations

import socket
from contextlib import suppress
from importlib import import_module
from itertools import chain, islice
from math import inf
from random import randrange
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx import settings
from getty_tx.client.draining import Drains
from getty_tx.client.pool import Pool
from getty_tx.client.subset import Subset
from getty_tx.errors import NoSessionError, SettingError
from getty_tx.registry.interfaces import IFollower, IRegistry
from getty_tx.session.wrappers import socketOf

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from getty_tx.client.client import Client
    from getty_tx.client.group import Group
    from getty_tx.registry.interfaces import IFollowing
    from getty_tx.registry.provider import Provider
    from getty_tx.session.context import ServiceContext
    from getty_tx.session.session import Session

__all__ = ["FollowingPool"]

log = Logger()

#: Changes in one turn of the reactor: some milliseconds.
SLICE = 50

#: Providers above which a client without a subset is warned about.
MANY = 200

#: The least part of its weight that a new provider has.
COLDEST = 0.1

#: Milliseconds without an acknowledgement after which the system drops a connection of an orphan.
ORPHAN_TIMEOUT = 15_000

USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


@implementer(IFollower)
class FollowingPool(Pool):
    """
    The groups of the providers of a service.

    :param text: ``service:NAME``, with ``group=`` and ``version=``.
    :param registry: an IRegistry, or a text for one; None: the default one.
    :param subset: how many providers to use; None: all.
    :param warmUp: seconds in which a new provider gets its whole weight.
    :param zone: the client's own.
    :param drainTime: seconds that a session with a leaving provider may go on.
    :param cache: the file of the last list.
    :param dial: makes an endpoint, or the description of one, of a provider.
    :param connect: makes an endpoint of a description.
    :raise SettingError: one of them cannot be.
    """

    def __init__(
        self,
        client: Client,
        configure: Any,
        changed: Any,
        text: str,
        *,
        registry: Any,
        subset: int | None,
        warmUp: float,
        zone: str,
        drainTime: float,
        cache: str | None,
        dial: Callable[[Provider], str | IStreamClientEndpoint] | None,
        connect: Any,
        reactor: Any,
    ) -> None:
        self.zone = settings.text("zone", zone)
        super().__init__(client, configure, changed)
        parse = import_module("getty_tx.registry.parse")
        self._isChoosing = self._choosesAgain = self._isRunning = False
        self.service, self._wanted = parse.parseService(text)
        settings.optionalCount("subset", subset)
        settings.seconds("drainTime", drainTime)
        self._warmUp = 0.0 if not warmUp and warmUp is not False else settings.seconds("warmUp", warmUp)
        if dial is not None and not callable(dial):
            raise SettingError(f"dial={dial!r} cannot be called")
        if cache is not None:
            settings.text("cache", cache)
        if registry is None:
            registry = parse.defaultRegistry(reactor)
        elif isinstance(registry, str):
            registry = parse.registryFrom(registry, reactor)
        elif not IRegistry.providedBy(registry):
            raise SettingError(f"registry={registry!r} is neither an IRegistry nor a text such as 'dir:/run/getty'")
        self.registry: IRegistry = registry
        self.following: IFollowing | None = None
        self.drains = Drains(drainTime)
        self._size = subset
        self._subset: Subset | None = None if subset is None else Subset(subset)
        self._dial = dial
        self._cache = cache
        self._connect = connect
        # What is still to be done, by id: a provider, and whether its record is gone.
        self._pending: dict[str, tuple[Provider, bool]] = {}
        # Those of a long list that are to be added, before what is pending.
        self._first: Iterator[Provider] | tuple[()] = ()
        self._call: Any = None
        #: The first list has come, and is done.
        self.isKnown = False
        self._waiting: dict[Deferred[list[Any]], None] = {}
        self._hasWarned = False

    # What is asked of it

    @property
    def size(self) -> int:
        return self.number * self.dialed

    @property
    def most(self) -> int | None:
        return None

    @property
    def failure(self) -> BaseException | None:
        error = self.registry.lastError if self.lastError is None else self.lastError
        return self._unlikeOthers() if error is None else error

    def _unlikeOthers(self) -> NoSessionError | None:
        """There are providers, and all of them have been passed over; None: not so."""
        known = 0 if self.following is None or self.groups or not self.isKnown else len(self.following.providers)
        if not known:
            return None
        wanted = [f"{name}={self._wanted.get(name, '')!r}" for name in ("group", "version")]
        return NoSessionError(f"the registry has {known} of them, but none with {' and '.join(wanted)} (* takes any)")

    def describeNone(self) -> str:
        if not self.isKnown:
            return "no provider is known yet, as the registry has not answered"
        if not self.groups:
            return "no such provider is known to the registry"
        return super().describeNone()

    def weightOf(self, group: Group) -> float:
        weight = group.weight
        begun = group.warmFrom
        if begun is None:
            return weight
        age = self.seconds() - begun
        if age >= self._warmUp:
            group.warmFrom = None
            return weight
        return weight * max(COLDEST, age / self._warmUp)

    def endpointOf(self, group: Group) -> IStreamClientEndpoint:
        provider = group.provider
        assert provider is not None
        given = provider.endpoint if self._dial is None else self._dial(provider)
        if not isinstance(given, str) and not IStreamClientEndpoint.providedBy(given):
            raise SettingError(f"dial() returned {given!r}: neither a description nor an IStreamClientEndpoint")
        endpoint: IStreamClientEndpoint = self._connect(given)
        return endpoint

    def whenKnown(self) -> Deferred[list[Any]]:
        """As :py:meth:`Client.whenKnown`."""
        waiting: Deferred[list[Any]] = Deferred(lambda each: self._waiting.pop(each, None))
        if self.isKnown:
            waiting.callback(list(self.groups.values()))
        else:
            self._waiting[waiting] = None
        return waiting

    # Start and stop

    def start(self, context: ServiceContext) -> None:
        super().start(context)
        self._isRunning = True
        self.registry.startService()
        self.following = self.registry.follow(self.service, self, self._cache)

    def stop(self) -> Deferred[Any] | None:
        self._isRunning = False
        following, self.following = self.following, None
        if following is not None:
            following.stop()
        self._pending.clear()
        self._first = ()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        self.drains.stop()
        super().stop()
        if self._size is not None:
            self._subset = Subset(self._size)
        self.isKnown = self._hasWarned = False
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.errback(self.client.notReady(f"{self.client.destination}: the client was closed"))
        stopped: Deferred[Any] | None = None if following is None else self.registry.stopService()
        return stopped

    # IFollower

    def providersChanged(
        self, added: Collection[Provider], removed: Collection[Provider], changed: Collection[Provider]
    ) -> None:
        """See :py:class:`~getty_tx.registry.IFollower`. Many changes are done in several turns of the reactor."""
        pending = self._pending
        if len(added) > SLICE and not (pending or self._first or removed or changed):
            # Else all clients would begin with the same ones. To shuffle 10,000 takes too long, as does a dict of them.
            begin = randrange(len(added))
            self._first = chain(islice(added, begin, None), islice(added, begin))
            added = ()
        for provider in removed:
            before = pending.pop(provider.id, None)
            if before is not None and before[0].isLeaving:
                provider = before[0]
            pending[provider.id] = (provider, True)
        for provider in (*added, *changed):
            pending[provider.id] = (provider, False)
        if self._call is None and self._isRunning:
            self._work()

    def _work(self) -> None:
        """Do some of what is to be done."""
        self._call = None
        pending = self._pending
        self.dialing.hold()
        try:
            some = list(islice(self._first, SLICE))
            for provider in some:
                self._apply(provider, False)
            if not some:
                self._first = ()
                for id in list(islice(pending, SLICE)):
                    self._apply(*pending.pop(id))
                if not pending and self._subset is not None and self._subset.hasChanged:
                    # Not before: some would be dialed and given up again.
                    self._choose()
        finally:
            self.dialing.goOn()
        if not self._isRunning:
            # A callback has closed the client.
            return
        if pending or self._first:
            self._call = self.context.reactor.callLater(0, self._work)
        elif not self.isKnown:
            self._known()

    def _known(self) -> None:
        self.isKnown = True
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.callback(list(self.groups.values()))

    def _matches(self, provider: Provider) -> bool:
        """Whether a provider is of the wanted group and version. Those that are not named have to be empty."""
        wanted = self._wanted
        return wanted.get("group", "") in (provider.group, "*") and wanted.get("version", "") in (
            provider.version,
            "*",
        )

    def _apply(self, provider: Provider, isGone: bool) -> None:
        group = self.groups.get(provider.id)
        if isGone:
            self._gone(provider, group)
        elif not self._matches(provider):
            if group is not None:
                self.drop(group)
        elif group is None:
            self._add(provider)
        elif provider.isLeaving:
            group.provider = provider
            self._leave(group)
        elif group.isLeaving or group.destination != provider.endpoint:
            self.drop(group)
            self._add(provider)
        else:
            self._change(group, provider)

    # Providers come and go

    def _add(self, provider: Provider) -> None:
        group = self.make(provider.id, provider.endpoint, None, provider)
        if provider.isLeaving:
            group.isLeaving = True
            return
        if self.isKnown and self._warmUp:
            group.warmFrom = inf
        if self._subset is not None:
            self._subset.add(group)
            return
        self.dial(group)
        if len(self.groups) > MANY and not self._hasWarned:
            self._hasWarned = True
            text = "{destination} has more than {many} providers, and a session with each: use subset=20 or so"
            log.warn(text, destination=self.client.destination, many=MANY)

    def _change(self, group: Group, provider: Provider) -> None:
        """Its weight, zone or meta is another; or its record is back."""
        self.takeOut(group)
        group.provider = provider
        group.weight = provider.weight
        self.putIn(group)
        if group.isOrphaned:
            group.isOrphaned = False
            group.since = self.seconds()
            group.revive()
            for session in group.sessions:
                _setUserTimeout(session, 0)

    def _gone(self, provider: Provider, group: Group | None) -> None:
        """Its record is gone."""
        if group is None:
            return
        if group.isLeaving or provider.isLeaving or not group.open:
            self.drop(group)
            return
        # It may be well all the same: what is open stays, but nobody is dialed whom nobody names.
        group.abandon()
        if not group.open:
            self.drop(group)
            return
        group.isOrphaned = True
        group.since = self.seconds()
        for session in group.sessions:
            _setUserTimeout(session, ORPHAN_TIMEOUT)

    def _leave(self, group: Group) -> None:
        """It is about to stop: use it no more."""
        if not group.isLeaving:
            self._release(group)
            group.isLeaving = True
            group.isOrphaned = False
            group.since = self.seconds()

    def _release(self, group: Group) -> None:
        """Close the sessions of a group when they are at rest; it is not dialed any more."""
        self.undial(group)
        if self._subset is not None:
            self._subset.discard(group)
        self._drain(group)

    def _drain(self, group: Group) -> None:
        for slot in list(group.slots):
            group.detach(slot)
            if slot.session is not None:
                self.drains.add(slot.session)

    def drop(self, group: Group) -> None:
        """Forget a group, whose sessions are closed when they are at rest."""
        self._release(group)
        self.forget(group)

    def forget(self, group: Group) -> None:
        super().forget(group)
        if self._subset is not None:
            self._subset.discard(group)

    def _choose(self) -> None:
        """Dial those that are in the subset, and no others."""
        subset = self._subset
        if subset is None:
            return
        self._choosesAgain = True
        if self._isChoosing:
            # An attempt has failed, or a session has ended, within the loop below.
            return
        self._isChoosing = True
        try:
            while self._choosesAgain and self._isRunning:
                self._choosesAgain = False
                more, less = subset.choose()
                for group in less:
                    if group.isOrphaned:
                        self.drop(group)
                        continue
                    self.undial(group)
                    self._drain(group)
                    group.isFailing = False
                    group.since = self.seconds()
                for group in more:
                    self.dial(group)
        finally:
            self._isChoosing = False

    # Events of groups

    def groupOpened(self, group: Group) -> None:
        if group.warmFrom == inf:
            group.warmFrom = self.seconds()
        super().groupOpened(group)
        if self._subset is not None and len(self._subset.chosen) > self._subset.size:
            self._choose()

    def groupLost(self, group: Group) -> None:
        super().groupLost(group)
        if not group.open and group.isDialed:
            if group.isOrphaned:
                self.forget(group)
            self._choose()

    def groupFailed(self, group: Group) -> None:
        self._choose()


def _setUserTimeout(session: Session, milliseconds: int) -> None:
    """Have the system drop the connection if its peer's host is silent; 0: as it does by default."""
    connection: Any = session.connection
    handle = socketOf(getattr(connection, "rawTransport", None))
    if handle is not None and USER_TIMEOUT is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
        # UDP has no such option.
        with suppress(OSError):
            handle.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, milliseconds)
