"""grpc.Channel: calls of generated stubs, over the connections of a pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from getty_tx import client, settings
from getty_tx.errors import NoSessionError, SettingError
from getty_tx.http.grpc.awaiting import Awaiting
from getty_tx.http.grpc.channelconnection import ChannelConnection
from getty_tx.http.grpc.channelstates import ChannelState, StateWatchers
from getty_tx.http.grpc.clientkinds import Replies, Reply, StreamReplies, StreamReply
from getty_tx.http.grpc.context import encodingOf
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.messages import MAX_RECEIVED
from getty_tx.http.grpc.status import Code
from getty_tx.http.grpc.stubs import StubMethod, WrappedMethod, wrapped
from getty_tx.http.grpc.targets import descriptionOf, withALPN
from getty_tx.http.two.client import TIMES
from getty_tx.http.two.errors import StreamRefused
from getty_tx.http.two.limits import MAX_WINDOW, Limits
from getty_tx.session.context import theReactor
from getty_tx.transports.reconnecting import describeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.http.grpc.clientcall import ClientCall
    from getty_tx.session.session import Session

__all__ = ["Channel"]

#: How connections are made again (doc/connection-backoff.md of gRPC): seconds before the second attempt, by what that
#: grows, seconds at most; and seconds that an attempt may take.
FIRST_WAIT = 1.0
GROWTH, MOST_WAIT = 1.6, 120.0
CONNECT_TIMEOUT = 20.0

#: Seconds that open calls may take when a channel stops.
DRAIN_TIME = 5.0

#: Calls that wait for a connection, at most.
MAX_WAITING = 10_000

#: Settings of a pool.
_POOL = frozenset(
    {
        *("reconnectInterval", "reconnectAttempts", "connectTimeout", "handshakeTimeout", "pickBy"),
        *("registry", "subset", "warmUp", "zone", "cache", "dial"),
    }
)


class _Pool(client.Client):
    """The connections. It waits between attempts as gRPC's channels do, and tells of attempts that have failed."""

    backOff = GROWTH, MOST_WAIT / FIRST_WAIT
    channel: Channel

    def waits(self, slot: Any) -> None:
        if slot.retries:
            self.channel.attemptFailed(slot)


class Channel(Service):
    """
    Calls the services of a peer while it runs. An IService: for ``twistd``, or started by hand; or ``async with``.

    ::

        channel = http.grpc.Channel("tcp:localhost:50051")
        channel.startService()
        reply = await GreeterStub(channel).SayHello(HelloRequest(name="you"), timeout=1.0)

    A call takes the connection with the fewest open calls.

    :param target: a description or an endpoint, a list of them or ``service:NAME``, as for a
        :py:class:`~getty_tx.Client`; or a target of gRPC, such as ``host:50051`` or ``dns:///host:50051``.
    :param number: how many connections with each endpoint.
    :param timeout: seconds that a call may take which says nothing else; None: for ever.
    :param waitForReady: calls wait for a connection, even if the last attempt has failed.
    :param compression: how requests are compressed: ``"gzip"``, ``"deflate"`` or ``"identity"``.
    :param maxReceived: bytes of a reply.
    :param maxSent: bytes of a request; None: any number.
    :param authority: the name of the peer in requests; by default that of its endpoint.
    :param userAgent: what requests say of this program, before the name of this package.
    :param keepAlive: seconds of silence before a ping; None: never.
    :param keepAliveTimeout: seconds that a ping waits for any byte.
    :param keepAliveIdle: ping without calls, too.
    :param drainTime: seconds that open calls may take when it stops.
    :param outliers: an :py:class:`~getty_tx.rpc.Outliers`: when an endpoint is left out whose calls fail more often
        than those of others; None: never.
    :param reactor: by default the installed one.
    :param options: settings of a :py:class:`~getty_tx.Client`: ``reconnectInterval=1``, ``connectTimeout=20``,
        ``pickBy``, ``registry``, ``subset``, ``zone`` and others.
    :raise SettingError: the target or a setting is invalid.

    :ivar pool: the :py:class:`~getty_tx.Client` with the sessions.
    """

    def __init__(
        self,
        target: str | IStreamClientEndpoint | Sequence[str | IStreamClientEndpoint],
        *,
        number: int = 1,
        timeout: float | None = None,
        waitForReady: bool = False,
        compression: Any = None,
        maxReceived: int = MAX_RECEIVED,
        maxSent: int | None = None,
        authority: str | None = None,
        userAgent: str = "",
        keepAlive: float | None = None,
        keepAliveTimeout: float = 20.0,
        keepAliveIdle: bool = False,
        drainTime: float = DRAIN_TIME,
        outliers: Any = None,
        reactor: Any = None,
        **options: Any,
    ) -> None:
        unknown = options.keys() - _POOL
        if unknown:
            raise SettingError(f"{', '.join(sorted(unknown))}: a channel has no such setting")
        self.timeout = settings.optionalSeconds("timeout", timeout)
        self.waitForReady = settings.flag("waitForReady", waitForReady)
        if compression is not None:
            encodingOf("compression", compression)
        self.compression = compression
        self.maxReceived = settings.size("maxReceived", maxReceived)
        self.maxSent = None if maxSent is None else settings.size("maxSent", maxSent)
        self.authority = None if authority is None else authority.encode("ascii")
        self.userAgent = f"{userAgent} grpc-getty_tx".strip().encode("ascii")
        self.drainTime = settings.seconds("drainTime", drainTime)
        self.times = replace(
            TIMES,
            pingInterval=settings.optionalSeconds("keepAlive", keepAlive),
            pingTimeout=settings.seconds("keepAliveTimeout", keepAliveTimeout),
            pingIdle=settings.flag("keepAliveIdle", keepAliveIdle),
        )
        # The server says how many calls there may be: those that nobody reads hold themselves alone.
        self.limits = Limits(connectionWindow=MAX_WINDOW)
        pool = {"reconnectInterval": FIRST_WAIT, "connectTimeout": CONNECT_TIMEOUT, **options}
        self.pool = _Pool(self._newSession, _endpoints(target, pool), number, reactor=reactor, **pool)
        self.pool.channel = self
        self._watch: Any = None if outliers is None else self._watchOf(outliers)
        self._wrappers: list[Any] = []
        self._hasStubs = False
        self._given = reactor
        self.reactor: Any = reactor
        # The connections that take calls; the places whose attempts fail; an open one was lost before it was ready.
        self.connections: list[ChannelConnection] = []
        self._failing: set[Any] = set()
        self._isBroken = self._hasStopped = False
        # Calls that wait for a connection, in their order; and all that are open while it stops.
        self._waiting: dict[ClientCall, None] = {}
        self._drained: Deferred[None] | None = None
        self._watchers = StateWatchers(lambda: self.why("the channel has stopped"))

    def _watchOf(self, outliers: Any) -> Any:
        from getty_tx.client.outliers import Outliers, Watch

        if not isinstance(outliers, Outliers):
            raise SettingError(f"outliers={outliers!r} is neither an rpc.Outliers nor None")
        # Where there is one endpoint, it is not compared with others.
        return Watch(self.pool, outliers) if self.pool.hasSeveral else None

    def __repr__(self) -> str:
        return f"<grpc.Channel {self.pool.destination}>"

    def wrap(self, wrapper: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
        """
        Call ``wrapper(name, call)`` for each method of a stub, and what it returns in place of the method.

        ``name`` is ``package.Service/Method``; ``call`` is called as the methods of stubs, and has ``hasRequests`` and
        ``hasReplies``. The first wrapper is the outermost. It is called when a stub is made.

        :raise SettingError: a stub was made already.
        """
        if self._hasStubs:
            raise SettingError("wrap a channel before its stubs are made: those know nothing of it")
        self._wrappers.append(wrapper)

    # What generated code calls

    def _method(self, path: str, kind: Any, serializer: Any, deserializer: Any) -> StubMethod | WrappedMethod:
        self._hasStubs = True
        return wrapped(StubMethod(self, path, kind, serializer, deserializer), self._wrappers)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StubMethod | WrappedMethod:
        """A method with one request and one reply, by its path, as ``grpc.Channel`` has it."""
        return self._method(method, Reply, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StubMethod | WrappedMethod:
        """A method with one request and many replies."""
        return self._method(method, Replies, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StubMethod | WrappedMethod:
        """A method with many requests and one reply."""
        return self._method(method, StreamReply, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> StubMethod | WrappedMethod:
        """A method with many requests and many replies."""
        return self._method(method, StreamReplies, request_serializer, response_deserializer)

    # Calls

    def pick(self, other: ChannelConnection | None = None) -> ChannelConnection | None:
        """
        The connection with the fewest calls, or None if there is none.

        :param other: it is taken only if there is no other.
        """
        found = self.connections
        if self.pool.hasSeveral and len(found) > 1:
            return self._pickOfTwo(other)
        best: ChannelConnection | None = None
        for each in found:
            if each is not other and (best is None or each.load < best.load):
                best = each
        return other if best is None and other in found else best

    def _pickOfTwo(self, other: ChannelConnection | None) -> ChannelConnection | None:
        exclude = [] if other is None else [other.session]
        first = self._picked(exclude)
        if first is None or not first.load:
            return first if first is not None else min(self.connections, key=lambda each: each.load, default=None)
        second = self._picked(exclude)
        return second if second is not None and second.load < first.load else first

    def _picked(self, exclude: list[Session]) -> ChannelConnection | None:
        try:
            listener: Any = self.pool.pick(exclude=exclude).listener
        except NoSessionError:
            return None
        # One that is not ready yet is none of ours.
        return listener if listener.takesCalls else None

    def dispatch(self, call: ClientCall, other: ChannelConnection | None = None) -> None:
        """Open the stream of a call, or let it wait. :param other: it was refused there."""
        connections = self.connections
        connection = connections[0] if len(connections) == 1 else self.pick(other)
        if connection is None:
            self._hold(call)
            return
        try:
            connection.open(call, call.head(connection), False)
        except StreamRefused:
            # Its numbers are used up, or it has just closed.
            connection.leave()
            if connection in connections:
                connections.remove(connection)
            self.dispatch(call, other)
            return
        if not call.number:
            call.hold()

    def _hold(self, call: ClientCall) -> None:
        state = self.get_state()
        if state is ChannelState.SHUTDOWN or not self.running:
            text = self.why("the channel has stopped" if self._hasStopped else "the channel was not started")
        elif state is ChannelState.TRANSIENT_FAILURE and not call.waitsForReady:
            text = self.why("there is no connection")
        elif len(self._waiting) >= MAX_WAITING:
            text = self.why(f"{MAX_WAITING} calls wait for a connection already")
        else:
            self._waiting[call] = None
            call.hold()
            return
        self._unavailable(call, text)

    def _unavailable(self, call: ClientCall, text: str) -> None:
        error = StatusError(Code.UNAVAILABLE, text, sent=False)
        error.__cause__ = self.pool.lastError
        call.over(error)

    def why(self, text: str) -> str:
        """A text with the peer's name, and with what has failed last."""
        last = self.pool.lastError
        end = "" if last is None else f"; the last failure was: {describeError(last)}"
        return f"{self.pool.destination}: {text}{end}"

    def withdraw(self, call: ClientCall) -> None:
        """A call that has no stream has ended."""
        if self._waiting.pop(call, 0) is None:
            return
        if call.connection is not None:
            call.connection.withdraw(call)

    def ended(self, call: ClientCall) -> None:
        """A call has ended."""
        if self._drained is not None:
            self._look()

    # Connections

    def _newSession(self, session: Session) -> None:
        connection = ChannelConnection(session, self)
        if self._watch is not None:
            connection.tally = self._watch.tallyOf(session)

    def opened(self, connection: ChannelConnection) -> None:
        """One more takes calls."""
        self._failing.clear()
        self._isBroken = False
        self.connections.append(connection)
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            # Unless the callback of another has cancelled it.
            if call.status is None:
                self.dispatch(call)
        self._changed()

    def closed(self, connection: ChannelConnection) -> None:
        """One takes no more calls."""
        if connection in self.connections:
            self.connections.remove(connection)
        elif not connection.isReady:
            self._isBroken = True
            self._failWaiting()
        self._changed()

    def attemptFailed(self, slot: Any) -> None:
        """There is no connection at one of the places."""
        self._failing.add(slot)
        self._failWaiting()
        self._changed()

    def _failWaiting(self) -> None:
        if self.get_state() is not ChannelState.TRANSIENT_FAILURE:
            return
        for call in [call for call in self._waiting if not call.waitsForReady]:
            if self._waiting.pop(call, 0) is None:
                self._unavailable(call, self.why("there is no connection"))

    # States

    def get_state(self, try_to_connect: bool = False) -> ChannelState:
        """What it is doing. It always tries to connect while it runs."""
        if self._hasStopped:
            return ChannelState.SHUTDOWN
        if not self.running:
            return ChannelState.IDLE
        if self.connections:
            return ChannelState.READY
        if self._isBroken or (self._failing and self._allFail()):
            return ChannelState.TRANSIENT_FAILURE
        return ChannelState.CONNECTING

    def _allFail(self) -> bool:
        pool = self.pool
        dialed = sum(each.state not in ("idle", "leaving", "orphaned") for each in pool.providers)
        # Places of providers that have gone belong to nobody.
        return sum(each.client is not None for each in self._failing) >= pool.number * dialed

    def _changed(self) -> None:
        self._watchers.changed(self.get_state())

    def wait_for_state_change(self, last_observed_state: ChannelState) -> Awaiting[None]:
        """Fires when its state is another one."""
        return self._watchers.wait(last_observed_state, self.get_state())

    def channel_ready(self) -> Awaiting[None]:
        """Fires when there is a connection. As :py:meth:`whenReady` without a limit."""
        return self.whenReady()

    def whenReady(self, timeout: float | None = None) -> Awaiting[None]:
        """
        Fires when there is a connection; may be called before the start.

        :param timeout: seconds; None: no limit.
        :return: fails with a StatusError: DEADLINE_EXCEEDED, or UNAVAILABLE if the channel has stopped.
        """
        settings.optionalSeconds("timeout", timeout)
        waiting = self._watchers.wait(None, self.get_state())
        if timeout is not None and not waiting.called:
            timer = theReactor(self._given).callLater(timeout, self._late, waiting)

            def stop(result: Any) -> Any:
                if timer.active():
                    timer.cancel()
                return result

            waiting.addBoth(stop)
        return waiting

    def _late(self, waiting: Awaiting[None]) -> None:
        text = self.why("there is no connection in time")
        waiting.errback(StatusError(Code.DEADLINE_EXCEEDED, text, sent=False))

    # IService

    def startService(self) -> None:
        """Connect."""
        if self.running:
            return
        Service.startService(self)
        self._hasStopped = self._isBroken = False
        self._failing.clear()
        self.reactor = theReactor(self._given)
        self.pool.startService()
        if self._watch is not None:
            self._watch.start(self.reactor)
        self._changed()

    def stopService(self) -> Deferred[None]:
        """
        Wait for the open calls, for ``drainTime`` at most, and close all connections. Those that are open then fail
        with UNAVAILABLE, and so do new ones.
        """
        return self._stop(self.drainTime)

    def _stop(self, limit: float) -> Deferred[None]:
        Service.stopService(self)
        self._hasStopped = True
        if self._watch is not None:
            self._watch.stop()
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._unavailable(call, self.why("the channel has stopped"))
        self._changed()
        if limit > 0 and any(each.hasCalls() for each in self._all()):
            drained = self._drained = Deferred()
            drained.addTimeout(limit, self.reactor)
            return drained.addBoth(lambda _: self.pool.stopService())
        return self.pool.stopService()

    def _all(self) -> list[ChannelConnection]:
        return [session.listener for session in self.pool.sessions]  # type: ignore[misc]  # _newSession has set them

    def _look(self) -> None:
        drained = self._drained
        if drained is not None and not any(each.hasCalls() for each in self._all()):
            self._drained = None
            if not drained.called:
                drained.callback(None)

    def close(self, grace: float | None = None) -> Deferred[None]:
        """Stop, as ``grpc.aio.Channel`` does. :param grace: seconds that open calls may take; None: none."""
        return self._stop(grace or 0.0)

    async def __aenter__(self) -> Channel:
        self.startService()
        return self

    async def __aexit__(self, *_: object) -> None:
        closed: Awaiting[None] = Awaiting()
        self.close().chainDeferred(closed)
        await closed


def _endpoints(target: Any, options: dict[str, Any]) -> Any:
    """What a Client is given for a target, or for several."""
    several: list[Any] = list(target) if isinstance(target, list | tuple) else [target]
    endpoints = [withALPN(descriptionOf(each)) for each in several]
    for each in endpoints:
        if isinstance(each, str) and each.startswith("udp"):
            raise SettingError(f"{each} is not for calls: use tcp:, tls: or unix:")
    if len(endpoints) == 1 and isinstance(endpoints[0], str) and endpoints[0].startswith("service:"):
        dial = options.get("dial") or _dial
        options["dial"] = lambda provider: withALPN(dial(provider))
    return endpoints[0] if len(endpoints) == 1 else endpoints


def _dial(provider: Any) -> Any:
    return provider.endpoint
