"""An announcement: the registrations of a server, from when it listens until it has stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.registry.advertising import Places
from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.interfaces import IRegistry
from getty_tx.registry.parse import defaultRegistry, registryFrom
from getty_tx.registry.provider import Provider, encodeRecord
from getty_tx.session.context import theReactor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.interfaces import IAddress
    from twisted.python.failure import Failure

    from getty_tx.registry.interfaces import IRegistration

__all__ = ["REGISTER_TIMEOUT", "Announcement"]

log = Logger()

#: Seconds after which a start fails that needs a registration: two attempts of an engine with a time-out of 5 s.
REGISTER_TIMEOUT = 10.0


class Announcement:
    """
    Registers a server's endpoints, each as a provider of one service.

    :param endpoints: the server's descriptions or objects, in the order of the bound addresses.
    :param service: the service's name.
    :param registry: an :py:class:`~getty_tx.registry.IRegistry`, or a text that names one; None: the default one.
    :param advertise: see :py:class:`~getty_tx.registry.advertising.Places`.
    :param weight: see :py:class:`~getty_tx.registry.Provider`; ``zone``, ``meta``, ``group`` and ``version``, too.
    :param leaveTime: seconds that clients have to go elsewhere before it stops; None: as long as the engine needs.
    :param registerRequired: whether the start fails if it cannot be registered within ``registerTimeout`` seconds.
    :param reactor: by default the installed one, looked up when the server listens.
    :raise SettingError: a setting is invalid, or the registry cannot register these endpoints.

    :ivar registry: the IRegistry.
    :ivar registrations: the registrations, from when it listens until it has stopped.
    :ivar lastError: why there are none though it listens, or None.
    """

    def __init__(
        self,
        endpoints: Sequence[Any],
        *,
        service: str,
        registry: IRegistry | str | None = None,
        advertise: str | Sequence[str] | None = None,
        weight: int = 100,
        zone: str = "",
        meta: Mapping[str, Any] | None = None,
        group: str = "",
        version: str = "",
        leaveTime: float | None = None,
        registerRequired: bool = False,
        registerTimeout: float = REGISTER_TIMEOUT,
        reactor: Any = None,
    ) -> None:
        # The endpoint is that of nobody: each provider gets its own.
        self._provider = Provider(
            service,
            "tcp:0:0",
            group=group,
            version=version,
            zone=zone,
            weight=weight,
            meta={} if meta is None else meta,
        )
        encodeRecord(self._provider)
        self.leaveTime = leaveTime and settings.seconds("leaveTime", leaveTime)
        self.registerRequired = settings.flag("registerRequired", registerRequired)
        self.registerTimeout = settings.seconds("registerTimeout", registerTimeout)
        self.registry: Any = _registryOf(registry, reactor)
        if getattr(getattr(self.registry, "engine", None), "isReadOnly", False):
            raise SettingError(f"registry={self._name!r} is for reading only: nobody can be registered there")
        self._places = Places(endpoints, advertise, self.registry)
        self.registrations: list[IRegistration] = []
        self.lastError: BaseException | None = None
        self._reactor = reactor
        # From when it listens until it is withdrawn.
        self._isOn = False
        self._announcing: Deferred[None] | None = None
        self._leaving: Deferred[Any] | None = None

    @property
    def service(self) -> str:
        """The service's name."""
        return self._provider.service

    @property
    def _name(self) -> str:
        return str(getattr(self.registry, "name", self.registry))

    def announce(self, addresses: Sequence[IAddress]) -> Deferred[None]:
        """
        Register, as the server listens on these addresses.

        :return: fires at once. With ``registerRequired`` when it is registered; fails with RegistryError if that takes
            too long, or SettingError if it cannot be, and nothing is registered any more.
        """
        reactor = theReactor(self._reactor)
        self._isOn = True
        self.lastError = None
        self.registry.startService()
        self._announcing = announcing = Deferred.fromCoroutine(self._register(addresses, reactor))
        if not self.registerRequired:
            announcing.addErrback(self._failed)
            return succeed(None)
        announcing.addTimeout(self.registerTimeout, reactor, self._timedOut)
        return announcing.addErrback(self._givenUp)

    async def _register(self, addresses: Sequence[IAddress], reactor: Any) -> None:
        backoff = Backoff()
        while True:
            try:
                places = await self._places.of(addresses)
                break
            except RegistryError as error:
                # Such as a network that is not up yet.
                if self.lastError is None:
                    log.warn("{service} cannot be registered yet: {reason}", service=self.service, reason=error)
                self.lastError = error
            await deferLater(reactor, backoff.next(), lambda: None)
        self.lastError = None
        log.info(
            "registering {places} for service {service} in {registry}",
            places=", ".join(places),
            service=self.service,
            registry=self._name,
        )
        for place in places:
            self.registrations.append(self.registry.register(self._provider.but(endpoint=place, id="")))
        if self.registerRequired:
            await gatherResults([each.whenRegistered() for each in self.registrations], consumeErrors=True)

    def _failed(self, failure: Failure) -> None:
        """Nothing but another setting helps, and nobody waits for it."""
        if self._isOn and self._leaving is None:
            self.lastError = failure.value
            log.error("{service} cannot be registered: {reason}", service=self.service, reason=failure.value)

    def _timedOut(self, result: Any, timeout: float) -> Any:
        errors = [each.lastError for each in self.registrations] + [self.lastError, self.registry.lastError]
        why = next((f": {each}" for each in errors if each is not None), "")
        text = f"service={self.service!r} could not be registered in {self._name} within {timeout:g} s{why}"
        raise RegistryError(text)

    def _givenUp(self, failure: Failure) -> Deferred[Any]:
        if not self._isOn or self._leaving is not None:
            # The server was stopped meanwhile.
            return fail(failure)
        self.lastError = failure.value
        return self.withdraw().addCallback(lambda _: failure)

    def _cancel(self) -> None:
        if self._announcing is not None:
            announcing, self._announcing = self._announcing, None
            announcing.cancel()

    def leave(self) -> Deferred[None]:
        """
        Say that it is about to stop. The server goes on accepting connections until this fires.

        :return: fires when clients have had time to go elsewhere; at once if nobody could hear of it.
        """
        if not self._isOn:
            return succeed(None)
        if self._leaving is None:
            self._leaving = Deferred()
            self._cancel()
            leaving = DeferredList([each.leave(self.leaveTime) for each in self.registrations], consumeErrors=True)
            leaving.chainDeferred(self._leaving)
        left: Deferred[None] = Deferred()
        self._leaving.addCallback(lambda _: left.callback(None))
        return left

    def withdraw(self) -> Deferred[None]:
        """
        Take the records away, and use the registry no more.

        :return: fires then, or when the registry did not answer in time.
        """
        if not self._isOn:
            return succeed(None)
        self._isOn = False
        self._cancel()
        self._leaving = None
        registrations, self.registrations = self.registrations, []
        withdrawn: Deferred[Any] = DeferredList([each.withdraw() for each in registrations], consumeErrors=True)
        withdrawn.addCallback(lambda _: self.registry.stopService())
        return withdrawn.addErrback(self._notStopped)

    def _notStopped(self, failure: Failure) -> None:
        log.failure("{registry} did not stop", failure, registry=self._name)


def _registryOf(registry: IRegistry | str | None, reactor: Any) -> IRegistry:
    if registry is not None and not isinstance(registry, str):
        if not IRegistry.providedBy(registry):
            raise SettingError(f"registry={registry!r} is neither an IRegistry nor a text such as 'dir:/run/getty'")
        return registry
    return defaultRegistry(reactor) if registry is None else registryFrom(registry, reactor)
