"""A registration: the record is written, written again where it is lost, and taken away at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.interfaces import IRegistration

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from getty_tx.registry.provider import Provider
    from getty_tx.registry.registry import Registry

__all__ = ["Registration"]

log = Logger()

#: Seconds that a stop waits for the engine, at each of its two steps.
STOP_TIME = 3.0

# What an update may change. The rest is who it is.
_CHANGEABLE = frozenset({"weight", "zone", "state", "meta"})


@implementer(IRegistration)
class Registration:
    """
    A provider that is to be found: see :py:class:`~getty_tx.registry.interfaces.IRegistration`.

    At most one write is under way. One that was asked for meanwhile follows it.
    """

    def __init__(self, registry: Registry, provider: Provider) -> None:
        self.provider = provider
        self.isRegistered = False
        self.lastError: BaseException | None = None
        self._registry = registry
        self._backoff = Backoff(registry.random)
        # The provider of the last write that succeeded; None: no record is known to be there.
        self._written: Provider | None = None
        # The write or the delete that is under way.
        self._doing: Deferred[Any] | None = None
        self._next: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        self._withdrawn = False

    def __repr__(self) -> str:
        state = "registered" if self.isRegistered else "withdrawn" if self._withdrawn else "not registered"
        return f"<Registration {self.provider.service} {self.provider.id}: {state}>"

    def update(self, **changes: Any) -> None:
        """
        Change its weight, zone, state or meta.

        :raise SettingError: a value is invalid, or another attribute was named.
        """
        if unknown := changes.keys() - _CHANGEABLE:
            text = f"{', '.join(sorted(unknown))}: only {', '.join(sorted(_CHANGEABLE))} of a registration can change"
            raise SettingError(text)
        self._set(self.provider.but(**changes))

    def _set(self, provider: Provider) -> None:
        if provider != self.provider:
            self.provider = provider
            self.write()

    def whenRegistered(self) -> Deferred[None]:
        """Fires when the record is there; fails with RegistryError if it is withdrawn before."""
        if self.isRegistered:
            return succeed(None)
        if self._withdrawn:
            return fail(RegistryError(f"{self.provider.id} is withdrawn"))
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    # Writing

    def write(self, delay: float = 0.0) -> None:
        """Write the record, after ``delay`` seconds, or when the write that is under way has ended."""
        registry = self._registry
        if self._withdrawn or not registry.isRunning or registry.isStopping:
            return
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if delay > 0:
            self._next = registry.reactor.callLater(delay, self._write)
        elif self._doing is None:
            self._write()

    def _write(self) -> None:
        self._next = None
        if self._doing is not None:
            return
        self._doing = doing = self._registry.put(self)
        doing.addCallbacks(self._wrote, self._notWritten)

    @property
    def toWrite(self) -> Provider | None:
        """What is to be written now that it is its turn; None: it was withdrawn meanwhile."""
        return None if self._withdrawn else self.provider

    def _wrote(self, provider: Provider | None) -> None:
        self._doing = None
        if provider is None:
            return
        self._backoff.reset()
        if self.lastError is not None:
            log.info("{provider} is registered", provider=provider.id)
        self.lastError = None
        self._written = provider
        if self._withdrawn:
            return
        self.isRegistered = True
        if provider is not self.provider:
            self.write()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _notWritten(self, failure: Failure) -> None:
        self._doing = None
        error: Any = failure.value
        if self._withdrawn or not self._registry.isRunning:
            return
        if self.lastError is None or str(self.lastError) != str(error):
            self._registry.failed(error)
            if self._registry.isConnected:
                text = "{provider} cannot be registered, tried again until it is: {reason}"
                log.warn(text, provider=self.provider.id, reason=error)
        self.lastError = error
        self.write(self._backoff.next())

    def lost(self, delay: float = 0.0) -> None:
        """Its record is gone, or may be: write it again, after ``delay`` seconds."""
        self._written = None
        self.isRegistered = False
        self.write(delay)

    @property
    def written(self) -> Provider | None:
        """The provider of the record that was written last; None: none is known to be there."""
        return self._written if self.isRegistered and self._doing is None else None

    # The end

    def leave(self, leaveTime: float | None = None) -> Deferred[None]:
        """Say that it is about to stop; fires when clients have had time to hear of it."""
        registry = self._registry
        engine = registry.engine
        left: Deferred[None] = Deferred()
        if not self.isRegistered or not registry.isConnected or self.provider.isLeaving:
            left.callback(None)
            return left
        said = engine.missing([self.provider]).addCallback(self._sayLeaving) if engine.hasStates else self.withdraw()
        wait = engine.leaveTime if leaveTime is None else leaveTime
        limited(registry.reactor, said, STOP_TIME).addCallback(
            lambda _: registry.reactor.callLater(wait, left.callback, None)
        )
        return left

    def _sayLeaving(self, missing: Any) -> Deferred[None]:
        """Write that it leaves, unless another process has taken its place: that one does not leave."""
        if not missing:
            self._set(self.provider.but(state="leaving", weight=0))
        return self._idle()

    def _idle(self) -> Deferred[None]:
        """Fires when nothing is under way."""
        idle: Deferred[None] = Deferred()
        doing = self._doing
        if doing is None:
            idle.callback(None)
        else:
            doing.addBoth(lambda _: self._idle().chainDeferred(idle))
        return idle

    def withdraw(self) -> Deferred[None]:
        """Take its record away, if it is still this one. Fires then, or when the engine did not answer in time."""
        if self._withdrawn:
            return self._idle()
        self._withdrawn = True
        self.isRegistered = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._registry.withdrawn(self)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(RegistryError(f"{self.provider.id} was withdrawn before it was registered"))
        return limited(self._registry.reactor, self._idle().addCallback(self._delete), STOP_TIME)

    def _delete(self, _: Any) -> Deferred[None]:
        if self._written is None or not self._registry.isRunning:
            return succeed(None)
        self._doing = self._registry.engine.delete(self._written)
        self._doing.addErrback(self._notDeleted).addCallback(self._deleted)
        return self._idle()

    def _deleted(self, _: Any) -> None:
        self._doing = self._written = None

    def _notDeleted(self, failure: Failure) -> None:
        text = "the record of {provider} could not be deleted, and stays until the registry forgets it: {reason}"
        log.warn(text, provider=self.provider.id, reason=failure.value)


def limited(reactor: Any, deferred: Deferred[Any], seconds: float) -> Deferred[None]:
    """Fires when the other one does, with whatever result, or after ``seconds``."""
    done: Deferred[None] = Deferred()
    late = reactor.callLater(seconds, done.callback, None)

    def ended(_: Any) -> None:
        if late.active():
            late.cancel()
            done.callback(None)

    deferred.addBoth(ended)
    return done
