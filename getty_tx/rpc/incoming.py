"""Calls in: find the method, and run it."""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.rpc.current import Call, running
from getty_tx.rpc.errors import (
    CallCancelledError,
    CallRefusedError,
    CallTimeoutError,
    NoSuchMethodError,
    PayloadError,
    RpcError,
)
from getty_tx.rpc.kept import Kept
from getty_tx.rpc.messages import Request, StreamFrame
from getty_tx.rpc.replies import Replies, cancelWork, logLate
from getty_tx.rpc.streams import Stream, run
from getty_tx.session.deadlines import Deadlines
from getty_tx.session.pausing import CALLS

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.peer import Peer
    from getty_tx.rpc.services import Handler

__all__ = ["Incoming"]

#: Seconds in which no method ends, after which calls are refused that have no place to wait. Callers wait for 3 by
#: default.
STALL = 1.0


class Incoming(Replies):
    """
    The calls that one peer has been asked for.

    :param peer: the peer.
    :param context: has the methods and the limits.
    :ivar open: the calls whose methods have not returned yet, and whose callers wait, by number.
    :ivar count: the calls whose methods have not returned yet.
    :ivar isFull: these are ``maxCallsPerSession``, or others wait for them: a call is for :py:meth:`keep`.
    """

    __slots__ = (
        "_deadlines",
        "_isHeld",
        "_isServing",
        "_isStalled",
        "_keeps",
        "_kept",
        "_timer",
        "count",
        "isFull",
        "open",
    )

    def __init__(self, peer: Peer, context: CallContext) -> None:
        super().__init__(peer, context)
        self.open: dict[int, Call] = {}
        self._deadlines: Deadlines | None = None
        self._isHeld = False
        self.count = 0
        self.isFull = False
        self._kept: Kept | None = None
        # Arguments that were decoded while they were read have no size, so that what is kept would have no bound.
        self._keeps = not hasattr(peer.codec, "refusal")
        self._isServing = False
        # No method has ended for long, and whatever waits for the other end is perhaps behind calls for which there is
        # no place; the timer tells.
        self._isStalled = False
        self._timer: Any = None

    def openStream(self, frame: StreamFrame) -> None:
        """Run the method of a stream that the other end has opened."""
        request = Request(frame.id, frame.name, frame.payload, frame.timeout, frame.metadata)
        isKept = self._kept is not None and frame.id in self._kept
        if isKept or frame.id in self.open or (False, frame.id) in self.peer.streams:
            # The peer has used a number twice; the first keeps it.
            return
        stream = self.peer.streams[False, frame.id] = Stream(self.peer, frame.id, frame.name, False)
        if self.isFull:
            # What is kept has a limit, and a stream would bring its values besides.
            self._refuse(request, stream)
        else:
            self.serve(request, stream)

    def serve(self, request: Request, stream: Stream | None = None, at: float | None = None) -> None:
        """
        Run the method that a request asks for, and whose values a stream carries.

        :param at: when its time begins; None: when the bytes came, as other calls may have come before it in one read.
        """
        context = self._context
        handler = context.handlers.get(request.name)
        if request.id in self.open:
            # The peer has used a number twice; the first keeps it.
            self._fail(request, PayloadError(f"{request.name:.200}: its number belongs to another call, which is open"))
            return
        # To ask for bytes first costs half as much.
        if type(request.payload) is not bytes and isinstance(request.payload, RpcError):
            # The wire has not read it, perhaps not even its name.
            self._fail(request, request.payload, None, stream)
            return
        if handler is None:
            self._fail(request, NoSuchMethodError(f"there is no {request.name:.200}"), None, stream)
            return
        totals = self._served.get(request.name)
        if totals is None:
            totals = self._totalsOf(request.name)
        if context.running >= context._maxCalls:
            self._fail(request, self._tooMany(), None, stream)
            return
        if handler.isStream is not (stream is not None):
            what = "a stream" if handler.isStream else "no stream"
            self._fail(request, PayloadError(f"{request.name} is {what}"), None, stream)
            return
        try:
            arguments = context.payload.decodeArguments(request.name, request.payload)
        except PayloadError as error:
            self._fail(request, error, None, stream)
            return
        if not handler.least <= len(arguments) <= handler.most:
            self._fail(request, handler.misfit(arguments), None, stream)
            return
        call = Call(self.peer, request.id, request.name, request.metadata)
        call.totals = totals
        call.stream = stream
        if not totals.done & context.sampled:
            call.startedAt = self.peer.session.context.seconds()
        timeout = request.timeout
        if handler.timeout is not None and (timeout is None or timeout > handler.timeout):
            timeout = handler.timeout
        limit = context._maxTimeout
        if limit is not None and stream is None and (timeout is None or timeout > limit):
            timeout = limit
        if timeout is not None:
            session = self.peer.session
            call.expiresAt = (session.activeAt if at is None else at) + timeout
            if session.context.seconds() > call.expiresAt:
                self._fail(request, CallTimeoutError(f"{request.name}: the time was over before it could be run"), call)
                return
        self._run(request, handler, call, arguments, timeout)

    def refusal(self) -> CallRefusedError | None:
        """The answer to a call that comes now, if there are too many; it is counted."""
        return self._tooMany() if self._context.running >= self._context._maxCalls else None

    def _tooMany(self) -> CallRefusedError:
        self._context.refused += 1
        return CallRefusedError(f"maxCalls={self._context.maxCalls} calls are being served")

    def _run(self, request: Request, handler: Handler, call: Call, arguments: Any, timeout: float | None) -> None:
        token = running.set(call)
        try:
            if handler.threads:
                value = handler.inThread(self.peer.session.context.reactor, arguments)
            else:
                value = handler.call(*arguments)
                if call.stream is not None:
                    value = Deferred.fromCoroutine(run(value, call.stream))
                elif type(value) not in _PLAIN and iscoroutine(value):
                    value = Deferred.fromCoroutine(value)
        except BaseException as error:
            self._fail(request, error, call)
            return
        finally:
            running.reset(token)
        if isinstance(value, Deferred):
            if value.called and not value.paused and type(value.result) in _PLAIN:
                # An async def that did not have to wait.
                self._reply(request, value.result, call)
            else:
                self._wait(request, handler, call, value, timeout)
        else:
            self._reply(request, value, call)

    # What takes its time

    def _wait(self, request: Request, handler: Handler, call: Call, work: Deferred[Any], timeout: float | None) -> None:
        number = request.id
        context = self._context
        call.isOneWay = request.isOneWay
        # A thread cannot be stopped; it keeps its place until it ends.
        call.work = None if handler.threads else work
        self.open[number] = call
        context.running += 1
        call.totals.running += 1
        self.count += 1
        if self.count >= context.maxCallsPerSession:
            self.isFull = True
            if not self._isAwaited():
                self.hold()
        if timeout is not None:
            if self._deadlines is None:
                self._deadlines = Deadlines(self.peer.session.context, self.open, self._expired)
            self._deadlines.add(number, call, timeout)
        work.addCallbacks(self._succeeded, self._failed, (request, call), {}, (request, call), {})

    def _end(self, request: Request, call: Call) -> bool:
        """The method has returned; returns whether somebody waits for the reply."""
        context = self._context
        context.running -= 1
        call.totals.running -= 1
        self.count -= 1
        awaited = self.open.get(request.id) is call
        if awaited:
            del self.open[request.id]
        return awaited

    def hold(self) -> None:
        """Read no more calls until :py:meth:`readOn` finds room for them."""
        if not self._isHeld:
            self._isHeld = True
            session = self.peer.session
            if not session.isClosed:
                # A reason of its own: pauseReading() belongs to the application.
                session.context.threads.onReactor(session.inbound.pause, CALLS)

    def keep(self, request: Request) -> None:
        """Have a request wait until a method has returned, or refuse it."""
        if self._kept is None:
            self._kept = Kept(self.peer)
        if self._isStalled and not self._kept.hasRoom(request):
            self._refuse(request)
        else:
            self._kept.add(request)
        self.readOn()

    def _refuse(self, request: Request, stream: Stream | None = None) -> None:
        context = self._context
        context.refused += 1
        text = (
            f"maxCallsPerSession={context.maxCallsPerSession} calls are being served, and {len(self._kept or ())} wait"
        )
        self._fail(request, CallRefusedError(text), None, stream)

    def readOn(self) -> None:
        """
        Read the session, unless there is no room for calls.

        Methods may wait for the replies to calls over the same session, and for the values of streams. So it is read
        on while there are such, and requests that come meanwhile are kept. Above a limit it is not read; if no method
        ends then, it is, as what is awaited may be behind more requests, which are refused.
        """
        peer = self.peer
        session = peer.session
        if session.isClosed:
            return
        isAwaited = self._isAwaited()
        if self.isFull and not (isAwaited and (self._isStalled or self._kept is None or self._kept.hasRoom())):
            self.hold()
            if isAwaited and self._timer is None:
                self._timer = session.context.wheel.schedule(STALL, self._stalled, None)
        elif self._isHeld and not peer.slices.holds:
            self._isHeld = False
            session.context.threads.onReactor(session.inbound.resume, CALLS)

    def _isAwaited(self) -> bool:
        """Whether something may be awaited from the other end, so that the session is to be read on."""
        return self._keeps and bool(self.peer.pending or self.peer.streams)

    def _stalled(self, _: None) -> None:
        self._timer = None
        self._isStalled = True
        self.readOn()

    def _moved(self) -> None:
        """A method has ended, or the session."""
        self._isStalled = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()

    def afterwards(self) -> None:
        """A method has returned, or a reply has left: there may be room for other calls, or nothing left to do."""
        if self._isServing:
            # Within a method that has returned at once: the loop goes on.
            return
        if self.isFull and self.count < self._context.maxCallsPerSession:
            self._moved()
            if self._kept:
                self._serveKept(self._kept)
            else:
                self.isFull = False
        if self._isHeld:
            self.readOn()
        draining = self.peer.draining
        if draining is not None:
            draining.check()

    def _serveKept(self, kept: Kept) -> None:
        session = self.peer.session
        # Meanwhile it counts as full: what a method lets come is behind what is kept.
        self._isServing = True
        try:
            while kept and self.count < self._context.maxCallsPerSession and not session.isClosed:
                self.serve(kept.take(), None, session.context.seconds())
        except Exception as error:
            # Of the payload or the codec, as if it had come from a read.
            session.fail(error)
        finally:
            self._isServing = False
            self.isFull = self.count >= self._context.maxCallsPerSession

    def _succeeded(self, value: Any, request: Request, call: Call) -> None:
        if self._end(request, call):
            self._reply(request, value, call)
        self.afterwards()

    def _failed(self, failure: Failure, request: Request, call: Call) -> None:
        if self._end(request, call):
            assert failure.value is not None
            self._fail(request, failure.value, call, failure=failure)
        else:
            logLate(request.name, failure)
        self.afterwards()

    def cancel(self, number: int) -> None:
        """The caller waits no longer."""
        call = self.open.pop(number, None)
        if call is not None:
            self._failedBefore(call, "cancelled")
            if call.stream is not None:
                # The notice was one for calls: nothing else would end the stream.
                call.stream.fail(CallCancelledError(f"{call.name} was cancelled"), tell=False)
            cancelWork(call)
        elif not (self._kept and self._kept.forget(number)):
            # Its reply may be on the way.
            self.peer.slices.forget(True, number)

    def _expired(self, call: Call, _timeout: float) -> None:
        del self.open[call.id]
        error = CallTimeoutError(f"{call.name} has taken longer than its caller waits")
        self._failedBefore(call, error.code)
        self._answer(call.id, call.isOneWay, error, None, call.stream)
        cancelWork(call)

    def _failedBefore(self, call: Call, code: str) -> None:
        """Nobody waits for a call whose method has not returned."""
        call.totals.fail(code)
        if call.startedAt:
            self._measured(call, code)

    def stop(self) -> None:
        """The session has ended: cancel what runs."""
        if self._deadlines is not None:
            self._deadlines.stop()
        self._moved()
        self._kept = None
        calls = list(self.open.values())
        # The same dict: the deadlines may be looking at it.
        self.open.clear()
        for call in calls:
            self._failedBefore(call, "lost")
            cancelWork(call)


#: Results that are no coroutines; to ask costs more than to look here.
_PLAIN = frozenset([bytes, str, int, float, bool, dict, list, tuple, type(None)])
