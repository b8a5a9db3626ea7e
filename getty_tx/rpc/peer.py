"""
The two ends of calls: one Peer for each session, which calls and is called.

A Peer is the listener of its session. Calls out wait in ``pending`` for the reply with their number; ``incoming`` has
the calls in.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from getty_tx.errors import SessionBlockedError, SessionClosedError, SettingError
from getty_tx.interfaces import IDrainingListener
from getty_tx.listener import EventListener
from getty_tx.rpc.context import PING_INTERVAL, CallContext
from getty_tx.rpc.current import running
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
from getty_tx.rpc.inorder import InOrder
from getty_tx.rpc.messages import (
    OPEN,
    OVERHEAD,
    Cancel,
    ErrorReply,
    Feature,
    GoingAway,
    Ping,
    Pong,
    Reply,
    Request,
    Slice,
    StreamFrame,
)
from getty_tx.rpc.pending import PendingCall
from getty_tx.rpc.slices import WHOLE, Slices
from getty_tx.rpc.streams import Stream
from getty_tx.session.addresses import formatAddress
from getty_tx.session.deadlines import Deadlines, checkTimeout, rounded
from getty_tx.settings import MAX_SECONDS
from getty_tx.status.calls import SAMPLED, CallTotals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.client.outliers import Tally
    from getty_tx.session.session import Session

__all__ = ["DEFAULT", "Peer"]

#: For ``timeout=``: that of the Client, or what is left to the call that is served.
DEFAULT: Any = type("Default", (), {"__repr__": lambda self: "DEFAULT"})()

#: The numbers of calls: 31 bits, the most that all wires have.
LAST = 0x7FFFFFFF

#: Methods that are counted by name; the others are counted together.
MAX_COUNTED = 1000


@implementer(IDrainingListener)
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
        self.incoming = InOrder(self, context) if hasattr(self.codec, "inOrder") else Incoming(self, context)
        if hasattr(self.codec, "refusal"):
            self.codec.refusal = self.incoming.refusal
        self.slices = Slices(self)
        self.isLeaving = False
        self.draining: Draining | None = None
        #: Counts the calls of its provider, where outliers are looked for.
        self.tally: Tally | None = None
        self._called: dict[str, CallTotals] = session.context.calls.setdefault("client", {})
        self._timer: Any = None
        # The session's activeAt when it was pinged, and when a call was found unanswered; None: it was not.
        self._askedAt: float | None = None
        self._suspectAt: float | None = None
        session.maxMsgLen = context.maxMsgLen
        session.codec = self.codec
        session.listener = self

    def __repr__(self) -> str:
        return f"<Peer of {self.session}: {len(self.pending)} calls out, {self.incoming.count} in>"

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
        :return: fires with the result; fails with an :py:class:`~getty_tx.rpc.RpcError`. It may be cancelled. Its
            ``metadata`` are then what the method has sent along, or None.
        :raise SettingError: the time-out is no number of seconds.
        """
        name = f"{service}/{method}"
        number = self._next()
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
        error = self._send(number, name, arguments, left, metadata)
        if error is not None:
            totals.fail(error.code)
            waiting.fail(error)
            return waiting
        totals.running += 1
        if not totals.done & SAMPLED:
            waiting.startedAt = self.session.context.seconds()
        self.pending[number] = waiting
        if queue is not None:
            self._deadlines.add(number, waiting, queue)
        if self.incoming.isFull:
            # The method that makes the call is perhaps one of those that others wait for.
            self.incoming.readOn()
        return waiting

    def send(self, service: str, method: str, *arguments: Any, metadata: Mapping[str, str] | None = None) -> None:
        """
        Call a method without a reply. Nobody learns whether it was run.

        :raise RpcError: it could not be sent.
        """
        error = self._send(self._next(), f"{service}/{method}", arguments, None, metadata, True)
        if error is not None:
            raise error

    def _next(self) -> int:
        """A number that no call has."""
        number = self._number + 1 if self._number < LAST else 1
        while number in self.pending or (True, number) in self.streams:
            number = number + 1 if number < LAST else 1
        self._number = number
        return number

    def _send(
        self,
        number: int,
        name: str,
        arguments: tuple[Any, ...],
        timeout: float | None,
        metadata: Mapping[str, str] | None,
        isOneWay: bool = False,
        isStream: bool = False,
    ) -> RpcError | None:
        if timeout is not None and not 0 < timeout <= MAX_SECONDS:
            checkTimeout(timeout)
            return CallTimeoutError(f"{name}: no time is left for the call", sent=False)
        try:
            payload = self.payload.encodeArguments(name, arguments)
            size = len(payload)
            if size > self.session._maxMsgLen - OVERHEAD:
                limit = self.session.maxMsgLen
                return PayloadError(f"{name}: {size} bytes of arguments are above maxMsgLen={limit}", sent=False)
            if isStream:
                self.session.writePkg(StreamFrame(number, OPEN, payload, False, name, timeout, metadata))
            elif size > WHOLE:
                self.slices.write(Request(number, name, payload, timeout, metadata, isOneWay))
            else:
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
        if self.pending.pop(waiting.number, None) is not None:
            self.failed(waiting, "cancelled")
            self.slices.cancel(waiting.number)
        waiting.fail(CallCancelledError(f"{waiting.name} was cancelled"))

    def failed(self, waiting: PendingCall, code: str) -> None:
        """Count a call that was sent and has no result."""
        waiting.totals.running -= 1
        waiting.totals.fail(code)
        if self.tally is not None:
            self.tally.failed(code)

    def tell(self, feature: Feature, message: Any) -> bool:
        """Send a notice, if the other end understands it and there is room for it; returns whether it was sent."""
        if feature in self.codec.understood and not self.session.isClosed:
            with suppress(SessionBlockedError):
                self.session.writePkg(message)
                return True
        return False

    def _expired(self, waiting: PendingCall, timeout: float) -> None:
        del self.pending[waiting.number]
        self.context.timeouts += 1
        self.failed(waiting, "deadline")
        self.slices.cancel(waiting.number)
        session = self.session
        if session.lastActive < waiting.expiresAt - timeout:
            self._suspect()
        where = formatAddress(session.remoteAddr)
        waiting.fail(CallTimeoutError(f"{waiting.name}: no reply from {where} in time{self._ifNeverHeard()}"))

    def _ifNeverHeard(self) -> str:
        """What an error adds about a silent peer: one of another wire, or one with TLS, has no way to say so."""
        if self.session.stats.readBytes:
            return ""
        wire = self.context.wire
        return (
            f", and the peer has never said a word: does it have the wire {wire!r}, too, and TLS only if this end has?"
        )

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
        number = self._next()
        error = self._send(number, name, arguments, timeout, metadata, isStream=True)
        if error is not None:
            raise error
        stream = self.streams[True, number] = Stream(self, number, name, True)
        if self.incoming.isFull:
            self.incoming.readOn()
        return stream

    def _streamFrame(self, frame: StreamFrame) -> None:
        if frame.kind == OPEN and not frame.isReply:
            self.incoming.openStream(frame)
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
            if self.incoming.isFull:
                self.incoming.keep(message)
            else:
                self.incoming.serve(message)
        elif kind is Reply:
            waiting = self.pending.pop(message.id, None)
            if waiting is None:
                self._late()
                return
            totals = waiting.totals
            totals.running -= 1
            totals.done += 1
            if self.tally is not None:
                self.tally.answered += 1
            if message.metadata is not None:
                waiting.metadata = message.metadata
            if waiting.startedAt:
                totals.seconds.add(session.context.seconds() - waiting.startedAt)
            try:
                value = self.payload.decodeResult(waiting.name, message.payload)
            except Exception as error:
                # Whatever it is, the call has ended.
                waiting.errback(error)
            else:
                waiting.callback(value)
        elif kind is ErrorReply:
            waiting = self.pending.pop(message.id, None)
            if waiting is None:
                self._late()
            else:
                self.failed(waiting, message.code if message.code in RpcError.byCode else "other")
                waiting.metadata = message.metadata
                waiting.fail(errorOf(message.code, message.text, message.details))
        elif kind is Cancel:
            self.incoming.cancel(message.id)
        elif kind is StreamFrame:
            self._streamFrame(message)
        elif kind is Slice:
            self.slices.receive(message)
        elif kind is Ping:
            self.slices.pong()
        elif kind is GoingAway:
            self._left()
            if message.message is not None:
                self.onMessage(session, message.message)
        elif kind is Pong and self.draining is not None:
            self.draining.heard()

    def _left(self) -> None:
        """The other end takes no new calls. It closes the session; if it does not, a client does."""
        if not self.isLeaving and self.context.whenLeaving is not None:
            self.context.whenLeaving(self.session)
            if self._timer is None:
                self._again(PING_INTERVAL)
        self.isLeaving = True

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
        self.tell(Feature.GOAWAY, GoingAway())

    def drain(self) -> Deferred[None]:
        """
        Ask the other end for no new calls, serve those on their way, and close the session.

        :return: fires when the session has ended. It takes as long as the methods do.
        """
        if self.draining is None:
            if self not in self.context.peers:
                return succeed(None)
            self.draining = Draining(self)
        return self.draining.ended

    # The session

    def onOpen(self, session: Any) -> None:
        """The session is open."""
        wire = self.context.wire
        if hasattr(wire, "opened"):
            wire.opened(self)
        self.context.opened(self)
        if self.context.pingInterval is not None:
            self._timer = session.context.wheel.schedule(self.context.pingInterval, self._look, None)

    def onError(self, session: Any, error: BaseException) -> None:
        """The session failed: no reply is taken any more, though the connection may last some time."""
        self._lose()

    def onClose(self, session: Any) -> None:
        """The session has ended: so have its calls."""
        self.context.peers.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
        self._deadlines.stop()
        self.incoming.stop()
        self._lose()
        if self.draining is not None:
            self.draining.lost()

    def _lose(self) -> None:
        """Fail the calls that wait for a reply, and the streams."""
        self.slices.stop()
        for stream in list(self.streams.values()):
            stream.fail(CallLostError(f"{stream.name}: {self.session} was lost before the end of it"), tell=False)
        lost = list(self.pending.values())
        # The same dict: the deadlines may be looking at it.
        self.pending.clear()
        if lost:
            cause = self.session.error
            why = f"{self.session} was lost before the reply" + (f": {cause}" if cause is not None else "")
            if cause is None:
                why += self._ifNeverHeard()
            for waiting in lost:
                self.failed(waiting, "lost")
                # Unless a callback of another has cancelled it.
                if not waiting.called:
                    error = CallLostError(f"{waiting.name}: {why}")
                    error.__cause__ = cause
                    waiting.fail(error)

    @property
    def isBusy(self) -> bool:
        """Something is on its way, in one of the directions."""
        return bool(self.pending or self.streams or self.incoming.count)

    @property
    def isSuspect(self) -> bool:
        """A call was not answered in time, nothing has come since it was made, and a ping is to tell why."""
        return self._suspectAt is not None and self._suspectAt == self.session.lastActive

    def _suspect(self) -> None:
        """Not a byte has come since a call was made that is over: ask now whether somebody is there."""
        if self._timer is not None and self._askedAt is None and self._mayAsk and not self.session.inbound.paused:
            self._suspectAt = self.session.lastActive
            self._timer.stop()
            self._ask()

    @property
    def _mayAsk(self) -> bool:
        return self.context.pingInterval is not None and Feature.PING in self.codec.understood

    def _look(self, _: Any) -> None:
        """Ping a silent peer, and drop one that does not answer."""
        session = self.session
        if session.isClosed:
            return
        if self.isLeaving and self.context.whenLeaving is not None and not self.isBusy:
            session.close()
            return
        interval = self.context.pingInterval
        if interval is None or not self._mayAsk:
            # It may say so later.
            self._again(interval or 60.0)
            return
        if session.inbound.paused:
            # The peer is not heard, nor its pings: tell it that somebody is here.
            self._askedAt = None
            self.tell(Feature.PING, Pong())
            self._again(interval)
            return
        silence = session.context.seconds() - session.lastActive
        if self._askedAt is not None and self._askedAt == session.lastActive:
            timeout = self.context.pingTimeout
            silent = f"{session.remoteAddr} is silent: no byte in pingTimeout={timeout:g} s after a ping"
            session.fail(CallLostError(silent), abort=True)
        elif silence >= interval:
            self._ask()
        else:
            self._askedAt = None
            self._again(interval - silence)

    def _ask(self) -> None:
        self._askedAt = self.session.lastActive
        self.tell(Feature.PING, Ping())
        self._again(self.context.pingTimeout)

    def _again(self, delay: float) -> None:
        self._timer = self.session.context.wheel.schedule(delay, self._look, None)
