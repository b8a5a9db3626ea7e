"""Client: a pool of sessions with one peer or several, each replaced when it is lost."""

from __future__ import annotations

from inspect import iscoroutine
from random import choice
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed

from getty_tx import settings
from getty_tx.client.slot import PoolSlot
from getty_tx.client.waiting import WaitingPool
from getty_tx.endpoints import clientEndpoint
from getty_tx.errors import NoSessionError, SessionClosedError, SettingError
from getty_tx.session.context import HANDSHAKE_TIMEOUT, ServiceContext, theReactor
from getty_tx.session.observers import Observers
from getty_tx.session.totals import Endpoints
from getty_tx.settings import Setting
from getty_tx.transports.connector import CONNECT_TIMEOUT, EndpointConnector
from getty_tx.transports.reconnecting import MAX_INTERVALS, RECONNECT_INTERVAL, ReconnectLog
from getty_tx.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.client.pool import Pool
    from getty_tx.registry.interfaces import IRegistry
    from getty_tx.registry.provider import Provider
    from getty_tx.session.observers import Observer
    from getty_tx.session.session import Session

__all__ = ["Client"]

#: Seconds that sessions with a leaving provider may go on.
DRAIN_TIME = 10.0

_STRATEGIES = ("roundRobin", "random", "leastPending", "hash")


def _strategy(name: str, value: Any) -> str:
    if value not in _STRATEGIES:
        raise SettingError(f"{name}={value!r} is none of {', '.join(_STRATEGIES)}")
    return str(value)


class Client(WaitingPool):
    """
    Keeps ``number`` sessions open with each endpoint while it runs. An IService: for ``twistd``, or started by hand.

    ::

        client = Client(newSession, "tcp:localhost:8090", number=4)
        client.startService()
        await client.whenReady(timeout=5)
        client.pick().writePkg(b"hello")

    A session that is lost for any reason but its own ``close()`` or ``abort()`` is replaced, as described at
    :py:class:`~getty_tx.transports.reconnecting.SessionClientFactory`. A session that closed itself is not replaced.

    Settings may be changed while it runs: those of connecting hold from the next attempt on, ``number`` from the next
    start on.

    :param newSession: called with each new session to configure it; raises to refuse it, which is a failed attempt.
        May be an ``async def``.
    :param endpoint: a description (see :py:mod:`getty_tx.endpoints`) or an IStreamClientEndpoint object; or a list of
        them; or ``service:NAME``, with ``:group=`` and ``:version=``, for the providers that a registry names (``*``:
        any group or version). Of several at most 64 are dialed at a time.
    :param number: how many sessions, with each endpoint.
    :param reconnectInterval: seconds before the first new attempt; later ones wait up to ten times that.
    :param reconnectAttempts: a session is given up after this number of attempts without success; None: never.
    :param connectTimeout: seconds that an attempt to connect may take, without a TLS handshake.
    :param handshakeTimeout: seconds that the handshake may take.
    :param pickBy: how :py:meth:`pick` chooses: ``"roundRobin"``, ``"random"``, ``"leastPending"`` or ``"hash"``.
    :param workers: threads for onMessage, as for a :py:class:`~getty_tx.Server`.
    :param reactor: by default the installed one, looked up when the service starts.
    :param registry: for ``service:``: a registry, or a text that names one; None: the default one.
    :param subset: with how many providers to have sessions; one more for each that is not open. None: with all.
    :param warmUp: seconds in which a provider that comes later gets its whole weight, from a tenth on; 0: at once.
    :param zone: the zone of the client: only providers of this zone are picked while at least half of them are open.
    :param drainTime: seconds that sessions with a provider that leaves, or has moved, may last. They are closed when
        nothing is pending and nothing has come for half a second.
    :param cache: a file that keeps the last list of providers, for a start while the registry is away.
    :param dial: makes the endpoint of a :py:class:`~getty_tx.registry.Provider`, or its description: for ``tls:`` with
        one's own trust roots, for instance. By default its own description is taken.
    :raise SettingError: the description or a setting is invalid.
    """

    number = Setting(settings.count, 1, "How many sessions to keep.")
    reconnectInterval = Setting(settings.seconds, RECONNECT_INTERVAL, "Seconds before the first new attempt.")
    reconnectAttempts = Setting(
        settings.optionalCount, None, "Attempts without success after which a session is given up; None: never."
    )
    connectTimeout = Setting(settings.seconds, CONNECT_TIMEOUT, "Seconds that an attempt to connect may take.")
    handshakeTimeout = Setting(settings.seconds, HANDSHAKE_TIMEOUT, "Seconds that a handshake may take.")
    pickBy = Setting(_strategy, "roundRobin", "How pick() chooses.")

    #: By what the wait before an attempt grows, and how many ``reconnectInterval`` it has at most: for subclasses.
    backOff: tuple[float, float] = 2.0, MAX_INTERVALS

    # The groups, where there are several endpoints. It is looked up in the class where there is one.
    _pool: Pool | None = None
    # The value of the setting, read for each pick.
    _pickBy: str

    def __init__(
        self,
        newSession: Callable[[Session], object],
        endpoint: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        number: int = 1,
        reconnectInterval: float = RECONNECT_INTERVAL,
        reconnectAttempts: int | None = None,
        connectTimeout: float = CONNECT_TIMEOUT,
        *,
        handshakeTimeout: float = HANDSHAKE_TIMEOUT,
        pickBy: str = "roundRobin",
        workers: WorkerPool | int | str | None = None,
        reactor: Any = None,
        registry: IRegistry | str | None = None,
        subset: int | None = None,
        warmUp: float = 0.0,
        zone: str = "",
        drainTime: float = DRAIN_TIME,
        cache: str | None = None,
        dial: Callable[[Provider], str | IStreamClientEndpoint] | None = None,
    ) -> None:
        # When there is a client, so that the package itself loads less.
        from getty_tx.client.given import checkEndpoints, isService, nameOf

        if not callable(newSession):
            raise SettingError(f"newSession={newSession!r} cannot be called")
        several: list[Any] = list(endpoint) if isinstance(endpoint, list | tuple) else [endpoint]
        options = {"registry": registry, "subset": subset, "warmUp": warmUp, "zone": zone, "cache": cache, "dial": dial}
        checkEndpoints(several, reactor, options)
        super().__init__()
        self.newSession = newSession
        self.destination = nameOf(several)
        self._endpoint = several[0]
        self._workers = WorkerPool.of(workers)
        self._reactor = reactor
        self._context: ServiceContext | None = None
        self._observers = Observers()
        self._reconnectLog = ReconnectLog()
        self._slots: list[PoolSlot] = []
        # Where the slots of this run connect.
        self._dialled: Any = None
        self._turn = 0
        self._closed = False
        # Contexts of earlier runs whose sessions are still closing.
        self._closing: list[ServiceContext] = []
        self.number = number
        self.reconnectInterval = reconnectInterval
        self.reconnectAttempts = reconnectAttempts
        self.connectTimeout = connectTimeout
        self.handshakeTimeout = handshakeTimeout
        self.pickBy = pickBy
        if isService(several[0]):
            self._pool = self._following(options, drainTime)
        elif len(several) > 1:
            from getty_tx.client.pool import EndpointPool

            self._pool = EndpointPool(self, self._configure, self._check, several, self._endpointOf)

    def _following(self, options: Mapping[str, Any], drainTime: float) -> Pool:
        from getty_tx.client.following import FollowingPool

        return FollowingPool(
            self,
            self._configure,
            self._check,
            self.destination,
            connect=self._endpointOf,
            reactor=self._reactor,
            drainTime=drainTime,
            **options,
        )

    def settingChanged(self, name: str) -> None:
        if name in ("reconnectInterval", "reconnectAttempts", "handshakeTimeout"):
            for slot in self._allSlots():
                setattr(slot, name, getattr(self, name))
        elif name == "connectTimeout":
            for slot in self._allSlots():
                slot.endpointConnector.timeout = self.connectTimeout

    def _allSlots(self) -> Iterable[PoolSlot]:
        return self._slots if self._pool is None else self._pool.slots()

    def __repr__(self) -> str:
        return f"<Client {self.destination}: {len(self.sessions)} of {self._size} sessions>"

    # The sessions

    @property
    def sessions(self) -> list[Session]:
        """The open sessions, in the order of the pool's slots."""
        if self._pool is not None:
            return self._pool.sessions
        return [slot.session for slot in self._slots if slot.session is not None and not slot.session.isClosed]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """
        What its sessions are counted by: the description of its endpoint, or of each of up to 100; else, and where it
        follows a registry, that of all of them in one.
        """
        return (self.destination,) if self._pool is None else self._pool.counted

    @property
    def providers(self) -> list[Any]:
        """
        The endpoints, each with ``destination``, ``provider`` (what a registry says of it, or None), ``state``,
        ``sessions``, ``since`` (when it came into its state, in seconds on the reactor's clock) and ``lastError``; see
        :py:class:`getty_tx.client.group.Group`.
        """
        if self._pool is not None:
            return list(self._pool.groups.values())
        from getty_tx.client.only import Only

        return [Only(self)]

    @property
    def registry(self) -> Any:
        """The :py:class:`~getty_tx.registry.IRegistry` that names its providers; None for endpoints."""
        return getattr(self._pool, "registry", None)

    @property
    def hasSeveral(self) -> bool:
        """True if it has several endpoints, or follows a registry."""
        return self._pool is not None

    @property
    def ejections(self) -> int:
        """How many times an endpoint was ejected; see :py:meth:`eject`."""
        return 0 if self._pool is None else self._pool.ejections

    @property
    def isReady(self) -> bool:
        """True while a session is open."""
        return bool(self.sessions) if self._pool is None else self._pool.isReady

    @property
    def hasEnded(self) -> bool:
        """True if all sessions were given up, or have closed themselves: none opens any more."""
        most = self._most
        return most is not None and len(self._endReasons()) >= most

    @property
    def _size(self) -> int:
        return len(self._slots) or self.number if self._pool is None else self._pool.size

    def _mayHave(self, n: int) -> bool:
        return self._pool is None or self._pool.open >= n

    def _endReasons(self) -> list[str]:
        return super()._endReasons() if self._pool is None else self._pool.endReasons()

    @property
    def _most(self) -> int | None:
        return self._size if self._pool is None else self._pool.most

    @property
    def isStopping(self) -> bool:
        """True while sessions of an earlier run are flushed and closed."""
        return bool(self._closing)

    @property
    def contexts(self) -> list[ServiceContext]:
        """The contexts of the sessions of this run, and of earlier runs whose sessions are still closing."""
        return [*self._closing, *([] if self._context is None else [self._context])]

    @property
    def workers(self) -> WorkerPool | None:
        """The threads for onMessage."""
        return self._workers

    def addObserver(self, observer: Observer) -> None:
        """Tell an observer about every session from now on; see :py:class:`getty_tx.Observer`."""
        self._observers.add(observer)

    def removeObserver(self, observer: Observer) -> None:
        """Remove an observer."""
        self._observers.remove(observer)

    @property
    def lastError(self) -> BaseException | None:
        """The last reason why an attempt failed or a session was lost, since the start."""
        return self._reconnectLog.lastError if self._pool is None else self._pool.failure

    def pick(self, by: str | None = None, key: Any = None, exclude: Iterable[Any] = ()) -> Session:
        """
        Choose one of the open sessions.

        Of several endpoints one is chosen first, by its weight if it has one, and then one of its sessions in turn.

        :param by: how; by default as ``pickBy``. ``"roundRobin"``: each in turn. ``"random"``. ``"leastPending"``: the
            session with the fewest pending bytes for its weight; if there are several of them, in turn. With more than
            8 endpoints it is the better one of two that are drawn. ``"hash"``: the one that the key belongs to; if it
            is not open, the one that comes next for this key, so that no other key moves.
        :param key: for ``hash``: bytes, a string or a whole number.
        :param exclude: sessions, or endpoints and providers, of which none is to be picked.
        :raise NoSessionError: no session is open, or only excluded ones are.
        :raise SettingError: the key does not fit, or something is excluded that cannot be.
        """
        by = self._pickBy if by is None else _strategy("by", by)
        if self._pool is not None:
            return self._pool.pick(by, key, exclude)
        if exclude or by == "hash":
            from getty_tx.client.only import pickOf

            return pickOf(self, [slot.session for slot in self._slots], by, key, exclude)
        slots = self._slots
        if by == "random":
            sessions = self.sessions
            if sessions:
                return choice(sessions)
        best: Session | None = None
        least = 0
        turn = self._turn
        for i in range(turn, turn + len(slots)):
            slot = slots[i % len(slots)]
            session = slot.session
            if session is None or session.isClosed:
                continue
            pending = session.pendingBytes if by == "leastPending" else 0
            if best is None or pending < least:
                best, least = session, pending
                self._turn = (i + 1) % len(slots)
                if not pending:
                    break
        if best is None:
            raise NoSessionError(self.because(f"{self.destination}: none of {self._size} sessions is open"))
        return best

    def whenKnown(self) -> Deferred[list[Any]]:
        """Fires with :py:attr:`providers` when the registry has named them; at once where there is none."""
        return succeed(self.providers) if self._pool is None else self._pool.whenKnown()

    def providerOf(self, session: Session) -> Any:
        """The one of :py:attr:`providers` that a session is with; None: it is with none, or there is one endpoint."""
        return None if self._pool is None else self._pool.find(session)

    def eject(self, provider: Any, seconds: float) -> bool:
        """
        Do not pick an endpoint for some time, as long as others are open: what an application does with one that fails.

        At most a tenth of the endpoints, but one in any case, are ejected at a time, and not the last open one.

        :param provider: one of :py:attr:`providers`, or what names it: its description, its
            :py:class:`~getty_tx.registry.Provider`, or a session.
        :return: False if it is left in.
        """
        settings.seconds("seconds", seconds)
        return self._pool is not None and self._pool.eject(provider, seconds)

    # IService

    def startService(self) -> None:
        """
        Connect.

        :raise SettingError: the description is invalid, or a file that it names cannot be used.
        """
        if self._context is not None:
            return
        reactor = theReactor(self._reactor)
        given = self._endpoint
        if self._pool is None:
            self._dialled = self._endpointOf(given)
        Service.startService(self)
        self._closed = False
        self._turn = 0
        self._reconnectLog = ReconnectLog()
        if self._workers is not None:
            self._workers.start(reactor)
        self._context = context = ServiceContext(
            self,
            self._configure,
            reactor=reactor,
            handshakeTimeout=self.handshakeTimeout,
            workers=self._workers,
            observers=self._observers,
            endpoints=Endpoints(self.destination) if self._pool is None else self._pool.endpoints(),
        )
        if self._pool is not None:
            self._pool.start(context)
            self._limitAll()
            return
        self._slots = [self._slot(context) for _ in range(self.number)]
        self._limitAll()
        for slot in list(self._slots):
            # A callback of this loop may have closed the client.
            if slot.client is not None:
                slot.endpointConnector.connect()

    def _endpointOf(self, given: str | IStreamClientEndpoint) -> IStreamClientEndpoint:
        return clientEndpoint(given, theReactor(self._reactor)) if isinstance(given, str) else given

    def _slot(self, context: ServiceContext) -> PoolSlot:
        slot = PoolSlot(self, self._configure, self._check, context, self._reconnectLog)
        # An endpoint for WebSocket or UDP sets the protocol that the factory builds.
        slot.protocol = getattr(self._dialled, "sessionProtocol", slot.protocol)
        slot.endpointConnector = EndpointConnector(
            self._dialled, slot, context.reactor, timeout=self.connectTimeout, destination=self.destination
        )
        return slot

    def replace(self, session: Session) -> None:
        """
        Open another session in place of one that is about to end, such as one whose peer has said that it leaves.

        The pool does not count it any more, nor pick it. Whoever uses it closes it; closing the client does so, too.

        :param session: one of :py:attr:`sessions`; for others nothing is done.
        """
        if self._pool is not None:
            self._pool.replace(session)
        context = self._context
        for index, slot in enumerate(self._slots):
            if slot.session is session and context is not None:
                slot.client = None
                slot.stopTrying()
                successor = self._slots[index] = self._slot(context)
                successor.follow(slot)
                return

    def waits(self, slot: PoolSlot) -> None:
        """For subclasses: an attempt has failed, or a session was lost. Another follows, unless it was the last."""

    def _configure(self, session: Session) -> object:
        result = self.newSession(session)
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            return result.addCallback(lambda _: self._checkOpen(session))
        self._checkOpen(session)
        return None

    def _checkOpen(self, session: Session) -> None:
        if session.context is not self._context:
            # newSession has closed the client, which only closes open sessions.
            raise SessionClosedError(f"{self.destination}: the client was closed meanwhile", session)

    def stopService(self) -> Deferred[None]:
        """As :py:meth:`close`."""
        return self.close()

    def close(self) -> Deferred[None]:
        """
        End pending attempts, waits, handshakes, and each session within its ``waitTime``.

        No session opens afterwards, unless the service is started again.

        :return: fires when the last onClose has returned.
        """
        Service.stopService(self)
        self._closed = True
        stopped = None if self._pool is None else self._pool.stop()
        slots, self._slots = self._slots, []
        for slot in slots:
            slot.client = None
            slot.stopTrying()
        context, self._context = self._context, None
        if context is not None:
            self._closing.append(context)
            context.closeAll().addCallback(lambda _: self._closing.remove(context))
        ends: list[Deferred[Any]] = [each.whenIdle() for each in self._closing]
        if stopped is not None:
            ends.append(stopped)
        if context is not None and self._workers is not None:
            workers = self._workers
            ends.append(context.whenIdle().addCallback(lambda _: workers.stop()))
        ended: Deferred[None] = gatherResults(ends).addCallback(lambda _: None)
        self._failAll()
        return ended
