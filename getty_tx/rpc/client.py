"""rpc.Client: calls over the sessions of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as WaitTimeoutError

from getty_tx import client, settings
from getty_tx.client.outliers import Outliers, Watch
from getty_tx.errors import NoSessionError, NotReadyError, SettingError
from getty_tx.rpc.context import DRAIN_TIME, TIMEOUT, CallContext, checkEndpoint
from getty_tx.rpc.current import running
from getty_tx.rpc.errors import CallCancelledError, CallLostError, CallRefusedError, RpcError
from getty_tx.rpc.peer import DEFAULT, Peer
from getty_tx.rpc.pending import WaitingCall, handOver
from getty_tx.rpc.services import namesOf
from getty_tx.rpc.stubs import Stub
from getty_tx.rpc.wires import TTHeader
from getty_tx.session.context import theReactor
from getty_tx.session.deadlines import checkTimeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.interfaces import IStreamClientEndpoint
    from twisted.python.failure import Failure

    from getty_tx.rpc.pending import PendingCall
    from getty_tx.rpc.streams import Stream
    from getty_tx.session.session import Session

__all__ = ["Client"]

#: Added to the open calls of a suspect session, so that any other is taken.
SUSPECT = 1 << 31

#: Calls that wait for a session to open, at most.
MAX_WAITING = 1000

#: Settings of a pool; the others are those of calls.
_POOL = (
    "reconnectInterval",
    "reconnectAttempts",
    "connectTimeout",
    "handshakeTimeout",
    "reactor",
    "registry",
    "subset",
    "warmUp",
    "zone",
    "cache",
    "dial",
)


def _load(peer: Peer) -> int:
    """How much a peer has to do."""
    return len(peer.pending) + (SUSPECT if peer.isSuspect else 0)


class _Again:
    """Makes a call once more over another session."""

    __slots__ = ("_arguments", "_client", "_metadata", "_method", "_service", "_timeout")

    def __init__(self, client: Client, service: str, method: str, arguments: Any, timeout: Any, metadata: Any) -> None:
        self._client = client
        self._service = service
        self._method = method
        self._arguments = arguments
        self._timeout = timeout
        self._metadata = metadata

    def stream(self) -> Stream:
        """The method is a stream."""
        timeout = None if self._timeout is DEFAULT else self._timeout
        return self._client.stream(
            self._service, self._method, *self._arguments, timeout=timeout, metadata=self._metadata
        )

    def __call__(self, call: PendingCall, error: RpcError) -> bool:
        other = self._client.pick(call.peer)
        if other is None:
            return False
        expiresAt = getattr(call, "expiresAt", None)
        left = None if expiresAt is None else max(expiresAt - call.peer.session.context.seconds(), 0.001)
        call.replacement = other.call(
            self._service, self._method, *self._arguments, timeout=left, metadata=self._metadata
        )
        call.replacement.addBoth(handOver, call.replacement, call)
        call.replacement.chainDeferred(call)
        return True


class Client(Service):
    """
    Calls the services of a peer while it runs. An IService: for ``twistd``, or started by hand.

    ::

        client = rpc.Client("tcp:localhost:8090", number=2)
        client.startService()
        echo = client.service("Echo")
        await echo.say("hi")

    A call takes the session with the fewest open calls. One that the peer has refused, or that could not be sent, is
    made once more over another session, if there is one.

    :param endpoint: a description or an endpoint, a list of them or ``service:NAME``, as for a
        :py:class:`~getty_tx.Client`.
    :param wire: how calls look on the network.
    :param number: how many sessions.
    :param timeout: seconds that a call waits for its reply; None: for ever.
    :param services: what the peer may call over these sessions.
    :param drainTime: seconds that open calls may take when it stops.
    :param outliers: when a provider is left out whose calls fail more often than those of others; None: never.
    :param options: the settings of a :py:class:`~getty_tx.Client` and of
        :py:class:`~getty_tx.rpc.context.CallContext`.
    :raise SettingError: the description or a setting is invalid.

    :ivar context: what its peers share; its settings may be changed at any time.
    :ivar pool: the :py:class:`~getty_tx.Client` with the sessions.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        *,
        wire: Any = None,
        number: int = 1,
        timeout: float | None = TIMEOUT,
        services: Mapping[str, object] | None = None,
        drainTime: float = DRAIN_TIME,
        outliers: Outliers | None = None,
        **options: Any,
    ) -> None:
        checkEndpoint(endpoint)
        if not isinstance(outliers, Outliers | None):
            raise SettingError(f"outliers={outliers!r} is neither an rpc.Outliers nor None")
        pool = {name: options.pop(name) for name in _POOL if name in options}
        if hasattr(wire, "serving"):
            # It makes the connections of servers, and has no codec: this says so.
            wire.codec()
        self.context = CallContext(TTHeader() if wire is None else wire, services, timeout=timeout, **options)
        self.pool = client.Client(self._newSession, endpoint, number, **pool)
        # Where there is one endpoint, it is not compared with others, and its calls are not counted.
        self._watch = None if outliers is None or not self.pool.hasSeveral else Watch(self.pool, outliers)
        self.drainTime = settings.seconds("drainTime", drainTime)
        self._reactorGiven = pool.get("reactor")
        self._reactor: Any = None
        # Calls that wait for a session, in their order.
        self._waiting: dict[WaitingCall, None] = {}
        # While the pool is asked to tell when no session can open any more.
        self._isWatching = False
        self.context.whenOpened = self._opened
        self.context.whenLeaving = self.pool.replace

    def __repr__(self) -> str:
        return f"<rpc.Client {self.pool.destination}>"

    def _newSession(self, session: Session) -> None:
        peer = Peer(session, self.context)
        if self._watch is not None:
            peer.tally = self._watch.tallyOf(session)

    # Calls

    def pick(self, other: Peer | None = None) -> Peer | None:
        """
        The peer with the fewest open calls, or None if no session is open.

        One that is suspect, or is going away, is not taken; but rather a suspect one than none. With several endpoints
        or a registry it is the better one of two, of which the pool has picked each by weight.

        :param other: it is not taken, nor another session with its provider if there are others.
        """
        if self.pool.hasSeveral:
            return self._pickOfTwo(other)
        best: Peer | None = None
        least = 0
        peer: Peer
        for peer in self.context.peers:
            if peer.isLeaving or peer.session.isClosed or peer is other:
                continue
            open = len(peer.pending) + (SUSPECT if peer.isSuspect else 0)
            if not open:
                return peer
            if best is None or open < least:
                best, least = peer, open
        return best

    def _pickOfTwo(self, other: Peer | None) -> Peer | None:
        exclude: list[Any] = []
        if other is not None:
            provider = other.session.provider
            exclude = [other.session] if provider is None else [other.session, provider]
        try:
            try:
                first = self._picked(exclude)
            except NoSessionError:
                # Rather another session with the same provider than none.
                exclude = exclude[:1]
                first = self._picked(exclude)
        except NoSessionError:
            return None
        if not (first.pending or first.isSuspect):
            return first
        second = self._picked(exclude)
        return second if _load(second) < _load(first) else first

    def _picked(self, exclude: list[Any]) -> Peer:
        peer: Any = self.pool.pick(exclude=exclude).listener
        return peer  # type: ignore[no-any-return]  # _newSession has set it

    def service(self, name: str | type) -> Stub:
        """
        A service of the peer, whose methods can be called.

        :param name: its name, or a class with ``@rpc.method``, of which the name and the methods are taken. Only with a
            class it is known which methods are streams: without, a stream is begun as a call, which is refused. A wire
            with an IDL has the methods in there.
        :raise SettingError: the IDL has no such service, or the class no such method.
        """
        if isinstance(name, str):
            known = getattr(self.context.payload, "namesOf", None)
            return Stub(self, name, None if known is None else known(name))
        return Stub(self, name.__name__, namesOf(name))

    def call(
        self,
        service: str,
        method: str,
        *arguments: Any,
        timeout: float | None = DEFAULT,
        metadata: Mapping[str, str] | None = None,
    ) -> Deferred[Any]:
        """
        Call a method; see :py:meth:`getty_tx.rpc.Peer.call`.

        While no session is open, it waits for one, as long as its time-out allows; at most 1000 calls do.
        """
        peer = self.pick()
        if peer is None:
            return self._whenOpen(service, method, arguments, timeout, metadata)
        waiting = peer.call(service, method, *arguments, timeout=timeout, metadata=metadata)
        if waiting.called:
            # It could not be sent.
            return waiting.addErrback(self._notSent, waiting, service, method, arguments, timeout, metadata)
        waiting.again = _Again(self, service, method, arguments, timeout, metadata)
        return waiting

    def stream(
        self,
        service: str,
        method: str,
        *arguments: Any,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Stream:
        """
        Call a method that sends or gets many values; see :py:meth:`getty_tx.rpc.Peer.stream`.

        :raise RpcError: no session is open, or it could not be sent.
        """
        peer = self.pick()
        if peer is None:
            raise self._lost(f"{service}/{method}")
        return peer.stream(service, method, *arguments, timeout=timeout, metadata=metadata)

    def send(self, service: str, method: str, *arguments: Any, metadata: Mapping[str, str] | None = None) -> None:
        """
        Call a method without a reply.

        :raise RpcError: it could not be sent.
        """
        peer = self.pick()
        if peer is None:
            raise self._lost(f"{service}/{method}")
        peer.send(service, method, *arguments, metadata=metadata)

    def _notSent(
        self, failure: Any, call: PendingCall, service: str, method: str, arguments: Any, timeout: Any, metadata: Any
    ) -> Any:
        error = failure.value
        if not (isinstance(error, RpcError) and error.retryable) or (other := self.pick(call.peer)) is None:
            return failure
        made = other.call(service, method, *arguments, timeout=timeout, metadata=metadata)
        return made.addBoth(handOver, made, call)

    def _lost(self, name: str) -> CallLostError:
        error = self.pool.lastError
        why = "" if error is None else f"; the last failure was: {error}"
        lost = CallLostError(f"{name}: {self.pool.destination}: no session is open{why}", sent=False)
        lost.__cause__ = error
        return lost

    def _whenOpen(self, service: str, method: str, arguments: Any, timeout: Any, metadata: Any) -> Deferred[Any]:
        """Make a call when a session opens."""
        name = f"{service}/{method}"
        if timeout is not DEFAULT:
            checkTimeout(timeout)
        waiting = WaitingCall()
        if not self.running:
            waiting.errback(self._lost(name))
            return waiting
        if len(self._waiting) >= MAX_WAITING:
            text = f"{name}: {MAX_WAITING} calls wait for a session with {self.pool.destination} already"
            waiting.errback(CallRefusedError(text, sent=False))
            return waiting
        reactor = self._reactor
        left = self.context.timeout if timeout is DEFAULT else timeout
        serving = running.get()
        if serving is not None and timeout is not None:
            inherited = serving.timeLeft()
            left = inherited if left is None or (inherited is not None and inherited < left) else left
        until = None if left is None else reactor.seconds() + left
        self._waiting[waiting] = None
        if left is not None:
            waiting.addTimeout(left, reactor)

        def opened(_: None) -> Deferred[Any]:
            rest = None if until is None else max(until - reactor.seconds(), 0.0)
            made = self.call(service, method, *arguments, timeout=rest, metadata=metadata)
            return made.addBoth(handOver, made, waiting)

        def failed(failure: Failure) -> None:
            self._waiting.pop(waiting, None)
            if failure.check(CancelledError) and self.running:
                raise CallCancelledError(f"{name} was cancelled", sent=False)
            if failure.check(WaitTimeoutError, CancelledError, NotReadyError):
                raise self._lost(name)
            failure.raiseException()

        waiting.addCallbacks(opened, failed)
        if not self._isWatching:
            self._isWatching = True
            self.pool.whenReady().addCallbacks(self._watched, self._givenUp)
        return waiting

    def _watched(self, _: Any) -> None:
        self._isWatching = False
        # With several endpoints a session is picked only from now on, and not when its peer has said that it is open.
        if self._waiting and self.pick() is not None:
            self._opened()

    def _givenUp(self, failure: Failure) -> None:
        """No session will open any more."""
        self._isWatching = False
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            # Unless a callback of another has cancelled it.
            if not each.called:
                each.errback(failure)

    def _opened(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.callback(None)

    # IService

    def whenReady(self, n: int = 1, timeout: float | None = None) -> Deferred[Any]:
        """As :py:meth:`getty_tx.Client.whenReady`."""
        return self.pool.whenReady(n, timeout)

    def startService(self) -> None:
        """Connect."""
        Service.startService(self)
        self._reactor = theReactor(self._reactorGiven)
        self.pool.startService()
        if self._watch is not None:
            self._watch.start(self._reactor)

    def stopService(self) -> Deferred[None]:
        """
        Wait for the replies to open calls, for ``drainTime`` at most, and close all sessions.

        Calls that are open then fail with CallLostError, and so do new ones.
        """
        Service.stopService(self)
        if self._watch is not None:
            self._watch.stop()
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.cancel()
        calls = [call for peer in self.context.peers for call in peer.pending.values()]
        if not calls:
            return self.pool.stopService()
        ended: Deferred[None] = Deferred()
        left = len(calls)

        def one(result: Any) -> Any:
            nonlocal left
            left -= 1
            if not left and not ended.called:
                ended.callback(None)
            return result

        for call in calls:
            call.addBoth(one)
        ended.addTimeout(self.drainTime, self._reactor)
        return ended.addBoth(lambda _: self.pool.stopService())
