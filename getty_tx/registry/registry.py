"""A registry: the rules that are the same for all engines."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.registry.errors import RecordError
from getty_tx.registry.following import Following
from getty_tx.registry.interfaces import IEngineUser, IRegistry
from getty_tx.registry.provider import Provider, checkService, decodeRecord, encodeRecord
from getty_tx.registry.registration import Registration

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.registry.interfaces import IEngine, IFollower

    # Registry has a method of the name.
    Providers = list[Provider]

__all__ = ["CHECK_INTERVAL", "HERD_DELAY", "SHORT_OUTAGE", "Registry"]

log = Logger()

#: Seconds between two looks whether what was registered is still there: somebody may have deleted it.
CHECK_INTERVAL = 60.0

#: Seconds within which they are looked for when the engine answers again.
SOON = 2.0

#: Writes at a time. Behind thousands a lease would wait to be renewed, and they would be lost and written again.
MAX_WRITES = 64

#: Seconds of an outage after which all users of the engine may come back at the same time.
SHORT_OUTAGE = 5.0

#: Seconds over which they write their records then, so that no second has more than 15 % of them.
HERD_DELAY = 10.0


@implementer(IRegistry, IEngineUser)
class Registry:
    """
    Registers and follows providers in an engine: see :py:class:`~getty_tx.registry.interfaces.IRegistry`.

    :param engine: an :py:class:`~getty_tx.registry.interfaces.IEngine`.
    :param reactor: by default the installed one, looked up at the start.
    :param random: draws the waits.
    :ivar events: how many records were reported, and how many deleted.
    :ivar failures: how many times the engine did not do what it was asked for.
    """

    def __init__(self, engine: IEngine, *, reactor: Any = None, random: Random | None = None) -> None:
        self.engine: Any = engine
        self.random = Random() if random is None else random
        self.isConnected = False
        self.lastError: BaseException | None = None
        self.events = self.failures = 0
        self._given = reactor
        self._reactor: Any = None
        self._users = 0
        self._stopping: Deferred[None] | None = None
        self._registrations: dict[tuple[str, str], Registration] = {}
        self._followings: list[Following] = []
        self._check: IDelayedCall | None = None
        # Registrations that wait to be written, and how many are.
        self._queue: deque[tuple[Registration, Deferred[Any]]] = deque()
        self._writing = 0
        self._isGoing = False
        # When the engine was found not to answer, or was started.
        self._awaySince = 0.0
        # Until when those that write their records again spread over some time.
        self._spreadUntil = 0.0
        self._logged = False

    def __repr__(self) -> str:
        state = "connected" if self.isConnected else "not connected" if self.isRunning else "not running"
        return f"<Registry {self.engine.name}: {state}>"

    # State

    @property
    def name(self) -> str:
        """What the engine is called, without secrets."""
        return str(self.engine.name)

    @property
    def isRunning(self) -> bool:
        """True from the first start to the end of the last stop."""
        return self._reactor is not None

    @property
    def isStopping(self) -> bool:
        """True while the last stop takes away what is registered."""
        return self._stopping is not None

    @property
    def reactor(self) -> Any:
        """The reactor, while it runs."""
        return self._reactor

    @property
    def staleFor(self) -> float:
        """Seconds since the engine last answered; 0 while it does, and while it is not used."""
        if self.isConnected or not self.isRunning:
            return 0.0
        return float(self._reactor.seconds() - self._awaySince)

    @property
    def registrations(self) -> list[Registration]:
        """Those that are not withdrawn."""
        return list(self._registrations.values())

    @property
    def followings(self) -> list[Following]:
        """Those that are not stopped."""
        return list(self._followings)

    # Start and stop

    def startService(self) -> None:
        """Begin to use it. Several may: it runs until the last of them has called :py:meth:`stopService`."""
        self._users += 1
        if self._users == 1 and self._stopping is None:
            self._start()

    def _start(self) -> None:
        if self._given is None:
            from twisted.internet import reactor

            self._reactor = reactor
        else:
            self._reactor = self._given
        self.isConnected = self._logged = False
        self._awaySince = self._reactor.seconds()
        self.engine.start(self._reactor, self)
        for following in list(self._followings):
            try:
                following.start()
            except Exception:
                log.failure("{registry}: {service} cannot be followed", registry=self.name, service=following.service)
        for registration in list(self._registrations.values()):
            registration.write()
        self._checkLater()

    def stopService(self) -> Deferred[None]:
        """Use it no more. The last call withdraws what is registered and stops the engine."""
        if self._users == 0:
            return succeed(None)
        self._users -= 1
        if self._users:
            return succeed(None)
        if self._stopping is None:
            self._stopping = Deferred()
            if self._check is not None:
                self._check.cancel()
                self._check = None
            for following in self._followings:
                following.pause()
            ends = [each.withdraw() for each in self.registrations]
            gatherResults(ends).addCallback(lambda _: self.engine.stop()).addErrback(self._notStopped).addCallback(
                self._stopped
            )
        stopped: Deferred[None] = Deferred()
        if self._stopping is None:
            stopped.callback(None)
        else:
            self._stopping.addCallback(stopped.callback)
        return stopped

    def _notStopped(self, failure: Any) -> None:
        log.failure("{registry} did not stop in order", failure, registry=self.name)

    def _stopped(self, _: Any) -> None:
        self._reactor = None
        self.isConnected = False
        stopping, self._stopping = self._stopping, None
        if self._users:
            self._start()
        assert stopping is not None
        stopping.callback(None)

    # What users ask for

    def register(self, provider: Provider) -> Registration:
        """
        Announce a provider until it is withdrawn.

        :raise SettingError: this engine is for reading only, the provider's id is registered already, or its record
            cannot be written.
        """
        if self.engine.isReadOnly:
            raise SettingError(f"registry={self.name!r} is for reading only: nobody can be registered there")
        key = (provider.service, provider.id)
        if key in self._registrations:
            raise SettingError(f"id={provider.id!r} of service {provider.service!r} is registered already: use another")
        kind = provider.endpoint.partition(":")[0]
        if kind not in self.engine.kinds:
            kinds = ", ".join(sorted(self.engine.kinds))
            raise SettingError(f"endpoint={provider.endpoint!r}: {self.name} is for endpoints of kind {kinds}")
        decodeRecord(encodeRecord(provider), provider.service, self.engine.kinds)
        registration = self._registrations[key] = Registration(self, provider)
        registration.write()
        return registration

    def withdrawn(self, registration: Registration) -> None:
        """A registration is over. Called by it."""
        provider = registration.provider
        self._registrations.pop((provider.service, provider.id), None)

    def follow(self, service: str, follower: IFollower, cache: str | None = None) -> Following:
        """Tell a follower of the service's providers. :raise SettingError: that is no service's name."""
        following = Following(self, checkService("service", service), follower, cache)
        if self.isRunning and not self.isStopping:
            following.start()
        self._followings.append(following)
        return following

    def unfollowed(self, following: Following) -> None:
        """A following was stopped. Called by it."""
        self._followings.remove(following)

    def list(self, service: str | None = None) -> Deferred[Providers]:
        """The providers of one service, or of all, as they are now. Records that cannot be used are left out."""
        found: Deferred[Any] = self.engine.read(service)
        return found.addCallback(self._decodeAll)

    def _decodeAll(self, records: Any) -> Providers:
        providers = []
        for (service, key), record in records.items():
            decoded = self.decode(record, service, key)
            if type(decoded) is Provider:
                providers.append(decoded)
        return sorted(providers, key=lambda provider: (provider.service, provider.id))

    def decode(self, record: Any, service: str, key: str) -> Provider | BaseException:
        """A record as the engine tells it: its provider, or why it cannot be used."""
        if not isinstance(record, bytes):
            return record  # type: ignore[no-any-return]  # the engine has decoded it
        try:
            provider = decodeRecord(record, service, self.engine.kinds)
        except Exception as error:
            return error
        if provider.id != key and quote(provider.id, safe="") != key:
            return RecordError(f"it has the id {provider.id!r:.100}, which is another's")
        return provider

    # Writes, some at a time

    def put(self, registration: Registration) -> Deferred[Any]:
        """Write a registration's record when it is its turn. Fires with what was written. Called by registrations."""
        done: Deferred[Any] = Deferred()
        self._queue.append((registration, done))
        self._goOn()
        return done

    def _goOn(self) -> None:
        # Writes that end at once come back here: they are taken by the loop that has begun them.
        if self._isGoing:
            return
        self._isGoing = True
        try:
            while self._queue and self._writing < MAX_WRITES:
                registration, done = self._queue.popleft()
                provider = registration.toWrite if self.isRunning else None
                if provider is None:
                    done.callback(None)
                    continue
                self._writing += 1
                writing: Deferred[Any] = self.engine.put(provider)
                writing.addBoth(self._wrote, provider, done)
        finally:
            self._isGoing = False

    def _wrote(self, outcome: Any, provider: Provider, done: Deferred[Any]) -> None:
        self._writing -= 1
        if isinstance(outcome, Failure):
            done.errback(outcome)
        else:
            done.callback(provider)
        self._goOn()

    # IEngineUser

    def engineConnected(self) -> None:
        """The engine answers."""
        if self.isConnected:
            return
        away = self.staleFor
        self.isConnected = True
        if away > SHORT_OUTAGE:
            self._spreadUntil = self._reactor.seconds() + CHECK_INTERVAL
        if self._check is not None:
            self._check.reset(self._spread() + self.random.uniform(0, SOON))
        if self._logged:
            self._logged = False
            log.info("{registry} answers again, after {away:.1f} s", registry=self.name, away=away)
        for registration in self.registrations:
            if not registration.isRegistered:
                registration.write(self._spread())

    def _spread(self) -> float:
        """Seconds until a record is written again."""
        return self.random.uniform(0, HERD_DELAY) if self._reactor.seconds() < self._spreadUntil else 0.0

    def engineDisconnected(self, error: BaseException) -> None:
        """The engine does not answer."""
        self.failed(error)
        if self.isConnected:
            self.isConnected = False
            self._awaySince = self._reactor.seconds()
        if not self._logged:
            self._logged = True
            text = "{registry} does not answer; what is known of providers stays in use: {reason}"
            log.warn(text, registry=self.name, reason=error)

    def recordsLost(self) -> None:
        """What was written is gone, or may be: write it again."""
        if self.staleFor > SHORT_OUTAGE:
            self._spreadUntil = self._reactor.seconds() + CHECK_INTERVAL
        for registration in self.registrations:
            registration.lost(self._spread())

    def failed(self, error: BaseException) -> None:
        """Count a failure. Called by registrations as well."""
        self.failures += 1
        self.lastError = error

    # Whether the records are there

    def _checkLater(self) -> None:
        self._check = self._reactor.callLater(CHECK_INTERVAL * self.random.uniform(0.9, 1.1), self._lookForRecords)

    def _lookForRecords(self) -> None:
        self._checkLater()
        written: dict[Any, Registration] = {each.written: each for each in self.registrations}
        written.pop(None, None)
        if not written or not self.isConnected:
            return
        looking: Deferred[Any] = self.engine.missing(list(written))
        looking.addCallback(self._missing, written).addErrback(self._notLooked)

    def _notLooked(self, failure: Failure) -> None:
        error: Any = failure.value
        self.failed(error)

    def _missing(self, missing: Any, written: dict[Any, Registration]) -> None:
        for provider in missing:
            registration = written[provider]
            if registration.written == provider:
                log.warn("the record of {registration} was gone, and is written again", registration=registration)
                registration.lost()
