"""
The two ends of calls: one Peer for each session, which calls and is called.

A Peer is the listener of its session. Calls out wait in ``pending`` for the reply with their number; ``incoming`` has
the calls in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.errors import SessionBlockedError, SessionClosedError, SettingError
from getty_tx.listener import EventListener
from getty_tx.rpc.context import CallContext
from getty_tx.rpc.current import running
from getty_tx.rpc.deadlines import Deadlines, rounded
from getty_tx.rpc.draining import Draining
from getty_tx.rpc.errors import (
    CallCancelledError,
    CallLostError,
    CallRefusedError,
    CallTimeoutError,
    PayloadError,
    RpcError,
    errorOf,
)
from getty_tx.rpc.incoming import Incoming
from getty_tx.rpc.messages import (
    OPEN,
    Cancel,
    ErrorReply,
    Feature,
    GoingAway,
    Ping,
    Pong,
    Reply,
    Request,
    StreamFrame,
)
from getty_tx.rpc.streams import Stream
from getty_tx.status.calls import SAMPLED, CallTotals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.session.session import Session

__all__ = ["DEFAULT", "Peer", "PendingCall"]

#: For ``timeout=``: that of the Client, or what is left to the call that is served.
DEFAULT: Any = type("Default", (), {"__repr__": lambda self: "DEFAULT"})()

#: The numbers of calls: 31 bits, the most that all wires have.
LAST = 0x7FFFFFFF

#: Methods that are counted by name; the others are counted together.
MAX_COUNTED = 1000

#: Bytes that a frame may have beside its payload, for the comparison with maxMsgLen.
OVERHEAD = 64


class PendingCall(Deferred[Any]):
    """The reply to come."""

    expiresAt: float
    #: Seconds, where there is a deadline.
    timeout = 0.0
    #: When it was made, if it is measured.
    startedAt = 0.0

    def __init__(self, peer: Peer, number: int, name: str, totals: CallTotals) -> None:
        super().__init__()
        self.totals = totals
        self.peer = peer
        self.number = number
        self.name = name

    def cancel(self) -> None:
        """Wait no longer. The peer is told, if it understands that, and cancels the method."""
        if not self.called and self.peer.pending.get(self.number) is self:
            self.peer.cancelled(self)
        else:
            super().cancel()


class Peer(EventListener):
    """
    Calls over one session, in both directions. Made in ``newSession``::

        def newSession(session):
            rpc.Peer(session, wire, {"Echo": Echo()})

    :param session: gets its codec and listener.
    :param wire: the wire, or a CallContext that several peers share.
    :param services: objects with ``@rpc.method`` by name, for a peer that shares nothing.
    :param options: the settings of :py:class:`~getty_tx.rpc.context.CallContext`.

    :ivar pending: the calls that wait for a reply, by number.
    :ivar streams: the open streams, by whether this end has opened them and their number.
    :ivar isLeaving: the other end takes no new calls.
    """

    def __init__(
        self, session: Session, wire: Any, services: Mapping[str, object] | None = None, **options: Any
    ) -> None:
        if isinstance(wire, CallContext):
            if services or options:
                raise SettingError("a Peer that shares a context has its services and settings")
            context = wire
        else:
            context = CallContext(wire, services, **options)
        self.context = context
        self.session = session
        self.codec = context.wire.codec()
        self.payload = context.payload
        self.pending: dict[int, PendingCall] = {}
        self.streams: dict[tuple[bool, int], Stream] = {}
        self._deadlines = Deadlines(session.context, self.pending, self._expired)
        self._number = 0
        self.incoming = Incoming(self, context)
        self.isLeaving = False
        self._suspectedAt = -1.0
        self._called: dict[str, CallTotals] = session.context.calls.setdefault("client", {})
        self.draining: Draining | None = None
        self._timer: Any = None
        self._asked = False
        session.maxMsgLen = context.maxMsgLen
        session.codec = self.codec
        session.listener = self

    def __repr__(self) -> str:
        return f"<Peer of {self.session}: {len(self.pending)} calls out, {self.incoming.count} in>"

    @property
    def isSuspect(self) -> bool:
        """A call was not answered in time, and nothing has come since it was made."""
        return self._suspectedAt == self.session.activeAt

    # Calls out

    def call(
        self,
        service: str,
        method: str,
        *arguments: Any,
        timeout: float | None = DEFAULT,
        metadata: Mapping[str, str] | None = None,
    ) -> PendingCall:
        """
        Call a method of the other end.

        :param timeout: seconds to wait for the reply; None: for ever. By default that of the context, and not more than
            what is left to the call that is served here.
        :param metadata: names and values for the method's ``currentCall()``.
        :return: fires with the result; fails with an :py:class:`~getty_tx.rpc.RpcError`. It may be cancelled.
        """
        name = f"{service}/{method}"
        number = self._number = self._number + 1 if self._number < LAST else 1
        while number in self.pending:
            number = self._number = number + 1 if number < LAST else 1
        totals = self._called.get(name)
        if totals is None:
            totals = self._totalsOf(name)
        waiting = PendingCall(self, number, name, totals)
        left = queue = self.context._timeout if timeout is DEFAULT else timeout
        serving = running.get()
        if serving is not None and serving.expiresAt is not None and timeout is not None:
            remaining = serving.timeLeft()
            if remaining is not None and (left is None or remaining < left):
                left, queue = remaining, rounded(remaining) or 0.1
        error = self._send(number, name, arguments, left, metadata, False)
        if error is not None:
            totals.fail(error.code)
            waiting.errback(error)
            return waiting
        totals.running += 1
        if not totals.done & SAMPLED:
            waiting.startedAt = self.session.context.seconds()
        self.pending[number] = waiting
        if queue is not None:
            waiting.timeout = queue
            self._deadlines.add(number, waiting, queue)
        return waiting

    def send(self, service: str, method: str, *arguments: Any, metadata: Mapping[str, str] | None = None) -> None:
        """
        Call a method without a reply. Nobody learns whether it was run.

        :raise RpcError: it could not be sent.
        """
        error = self._send(0, f"{service}/{method}", arguments, None, metadata, True)
        if error is not None:
            raise error

    def _send(
        self,
        number: int,
        name: str,
        arguments: tuple[Any, ...],
        timeout: float | None,
        metadata: Mapping[str, str] | None,
        isOneWay: bool,
    ) -> RpcError | None:
        if timeout is not None and timeout <= 0:
            return CallTimeoutError(f"{name}: no time is left for the call", sent=False)
        if not number:
            number = self._number = self._number + 1 if self._number < LAST else 1
        try:
            payload = self.payload.encodeArguments(name, arguments)
            if len(payload) > self.session.maxMsgLen - OVERHEAD:
                limit = self.session.maxMsgLen
                return PayloadError(
                    f"{name}: {len(payload)} bytes of arguments are above maxMsgLen={limit}", sent=False
                )
            self.session.writePkg(Request(number, name, payload, timeout, metadata, isOneWay))
        except RpcError as error:
            return error
        except SessionClosedError as error:
            return CallLostError(f"{name}: {error}", sent=False)
        except SessionBlockedError as error:
            refused = CallRefusedError(f"{name}: {error}", sent=False)
            refused.__cause__ = error
            return refused
        return None

    def cancelled(self, waiting: PendingCall) -> None:
        """A caller waits no longer."""
        del self.pending[waiting.number]
        waiting.totals.running -= 1
        waiting.totals.fail("cancelled")
        self._tellCancelled(waiting.number)
        waiting.errback(CallCancelledError(f"{waiting.name} was cancelled"))

    def _tellCancelled(self, number: int) -> None:
        if Feature.CANCEL in self.codec.understood and not self.session.isClosed:
            self.session.writePkg(Cancel(number))

    def _expired(self, waiting: PendingCall) -> None:
        del self.pending[waiting.number]
        self.context.timeouts += 1
        waiting.totals.running -= 1
        waiting.totals.fail("deadline")
        self._tellCancelled(waiting.number)
        session = self.session
        if session.activeAt <= waiting.expiresAt - waiting.timeout:
            self._suspectedAt = session.activeAt
        waiting.errback(CallTimeoutError(f"{waiting.name}: no reply from {session.remoteAddr} in time"))

    def stream(
        self,
        service: str,
        method: str,
        *arguments: Any,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Stream:
        """
        Call a method that sends or gets many values.

        :param timeout: seconds that the stream may last; None: as long as it likes.
        :raise RpcError: it could not be sent.
        :raise SettingError: the wire has no streams.
        """
        if not self.context.can(Feature.STREAM):
            raise SettingError(f"{self.context.wire!r} has no streams")
        name = f"{service}/{method}"
        number = self._number = self._number + 1 if self._number < LAST else 1
        while (True, number) in self.streams:
            number = self._number = number + 1 if number < LAST else 1
        payload = self.payload.encodeArguments(name, arguments)
        try:
            self.session.writePkg(StreamFrame(number, OPEN, payload, False, name, timeout, metadata))
        except SessionClosedError as error:
            raise CallLostError(f"{name}: {error}", sent=False) from error
        stream = self.streams[True, number] = Stream(self, number, name, True)
        return stream

    def _streamFrame(self, frame: StreamFrame) -> None:
        if frame.kind == OPEN and not frame.isReply:
            self.incoming.open_(frame)
            return
        # What the opener has sent belongs to a stream that was opened there.
        stream = self.streams.get((frame.isReply, frame.id))
        if stream is not None:
            stream.receive(frame)

    # Messages

    def onMessage(self, session: Any, message: Any) -> None:
        """A message of the other end."""
        kind = type(message)
        if kind is Request:
            self.incoming.serve(message)
        elif kind is Reply:
            waiting = self.pending.pop(message.id, None)
            if waiting is None:
                self._late()
                return
            totals = waiting.totals
            totals.running -= 1
            totals.done += 1
            if waiting.startedAt:
                totals.seconds.add(session.context.seconds() - waiting.startedAt)
            try:
                value = self.payload.decodeResult(waiting.name, message.payload)
            except PayloadError as error:
                waiting.errback(error)
            else:
                waiting.callback(value)
        elif kind is ErrorReply:
            waiting = self.pending.pop(message.id, None)
            if waiting is None:
                self._late()
            else:
                waiting.totals.running -= 1
                waiting.totals.fail(message.code if message.code in RpcError.byCode else "other")
                waiting.errback(errorOf(message.code, message.text, message.details))
        elif kind is Cancel:
            self.incoming.cancel(message.id)
        elif kind is StreamFrame:
            self._streamFrame(message)
        elif kind is Ping:
            session.writePkg(Pong())
        elif kind is GoingAway:
            self.isLeaving = True
        elif kind is Pong and self.draining is not None:
            self.draining.heard()

    def _late(self) -> None:
        self.context.late += 1
        self.session.context.lateReplies += 1

    def _totalsOf(self, name: str) -> CallTotals:
        called = self._called
        if len(called) >= MAX_COUNTED:
            name = ""
        return called.setdefault(name, CallTotals())

    def goAway(self) -> None:
        """Ask the other end to send no new calls. Those on their way are served."""
        if Feature.GOAWAY in self.codec.understood and not self.session.isClosed:
            self.session.writePkg(GoingAway())

    def drain(self) -> Deferred[None]:
        """
        Ask the other end for no new calls, serve those on their way, and close the session.

        :return: fires when the session has ended. It takes as long as the methods do.
        """
        if self.draining is None:
            self.draining = Draining(self)
        return self.draining.ended

    # The session

    def onOpen(self, session: Any) -> None:
        """The session is open."""
        self.context.opened(self)
        if self.context.pingInterval is not None:
            self._timer = session.context.wheel.schedule(self.context.pingInterval, self._look, None)

    def onError(self, session: Any, error: BaseException) -> None:
        """The session failed."""

    def onClose(self, session: Any) -> None:
        """The session has ended: so have its calls."""
        self.context.peers.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
        self._deadlines.stop()
        self.incoming.stop()
        for stream in list(self.streams.values()):
            stream.fail(CallLostError(f"{stream.name}: {session} was lost before the end of the stream"), tell=False)
        if self.draining is not None:
            self.draining.lost()
        pending, self.pending = self.pending, {}
        if pending:
            reason = session.closeReason if hasattr(session, "closeReason") else None
            why = f": {reason}" if reason else ""
            for waiting in pending.values():
                waiting.totals.running -= 1
                waiting.totals.fail("lost")
                waiting.errback(CallLostError(f"{waiting.name}: {session} was lost before the reply{why}"))

    def _look(self, _: Any) -> None:
        """Ping a silent peer, and drop one that does not answer."""
        session = self.session
        context = self.context
        interval = context.pingInterval
        if interval is None or Feature.PING not in self.codec.understood:
            # It may say so later.
            self._again(interval or 60.0)
            return
        silence = session.context.seconds() - session.lastActive
        if self._asked and silence >= interval:
            silent = f"{session.remoteAddr} is silent: no byte in pingTimeout={context.pingTimeout:g} s after a ping"
            session.fail(CallLostError(silent), abort=True)
        elif silence >= interval:
            self._asked = True
            session.writePkg(Ping())
            self._again(context.pingTimeout)
        else:
            self._asked = False
            self._again(interval - silence)

    def _again(self, delay: float) -> None:
        self._timer = self.session.context.wheel.schedule(delay, self._look, None)
