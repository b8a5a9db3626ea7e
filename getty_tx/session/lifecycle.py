"""
The life of a session: which event comes when. Its states are in :py:mod:`getty_tx.session.states`.

Callbacks of a session never nest and never overlap. What happens while one runs, or while an ``async def`` has not
returned, waits: packages in the inbound, an error in ``_errorDue``, the end in ``_closeDue``.
"""

from __future__ import annotations

from inspect import iscoroutine, iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger

from getty_tx.errors import ReadTimeoutError, SessionClosedError, SessionError, SessionRefusedError
from getty_tx.session.cron import CronMember
from getty_tx.session.facade import bytesInKernel
from getty_tx.session.inbound import Inbound
from getty_tx.session.lifetime import Lifetime
from getty_tx.session.limits import checkClose, checkSilence
from getty_tx.session.outbound import Outbound
from getty_tx.session.pausing import CALLBACK, ORDER, PRESSURE, SHARE, USER
from getty_tx.session.states import CLOSING, CONNECTING, ENDED, GONE, LOST, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.python.failure import Failure

    from getty_tx.interfaces import IConnection, IEventListener
    from getty_tx.session.context import Keeper
    from getty_tx.session.session import Session
    from getty_tx.wheel import WheelTimer
    from getty_tx.workers import Work

__all__ = ["CLOSING", "CONNECTING", "ENDED", "GONE", "LOST", "OPEN", "Lifecycle"]

log = Logger()


class Lifecycle(CronMember):
    """
    The inner side of a session: what connections, inbound, outbound and timers tell it.

    :ivar connection: the connection below.
    :ivar keeper: what the sessions of a service share.
    """

    __slots__ = (
        "__weakref__",
        "_attributes",
        "_cancelling",
        "_closeCallbacks",
        "_closeDue",
        "_closeTimer",
        "_error",
        "_errorDue",
        "_inbound",
        "_lastActive",
        "_lifetime",
        "_local",
        "_openedAt",
        "_outbound",
        "_patient",
        "_progress",
        "_readBytes",
        "_readPkgs",
        "_readTimer",
        "_reader",
        "_readsMany",
        "_state",
        "_work",
        "_writeBytes",
        "_writePkgs",
        "_writer",
        "connection",
        "keeper",
    )

    #: The ways out and in; a session over something else than a byte stream has its own.
    outboundType: ClassVar[type[Outbound]] = Outbound
    inboundType: ClassVar[type[Inbound]] = Inbound

    # Settings of Session that are used here and in the inbound and outbound.
    _cronPeriod: float
    _highWater: int
    _idleTimeout: float | None
    _lowWater: int
    _maxLifetime: float | None
    _maxMsgLen: int
    _readTimeout: float | None
    _waitTime: float
    _writeTimeout: float | None

    def __init__(self, connection: IConnection, keeper: Keeper, transport: Any, listener: IEventListener) -> None:
        self.connection = connection
        self.keeper = keeper
        this = cast("Session", self)
        self._outbound = self.outboundType(this, transport)
        self._inbound = self.inboundType(this, self._outbound)
        # Until onOpen has returned.
        self._inbound.paused = CALLBACK
        self._state = CONNECTING
        self._listener: Any = listener
        # What stands between the listener and the workers; it is the ``_listener`` then.
        self._work: Work | None = None
        # newSession sets them; start() refuses a session without.
        self._reader: Any = None
        self._writer: Any = None
        self._readsMany = False
        self._attributes: dict[Any, Any] | None = None
        self._closeCallbacks: dict[Hashable, Callable[[], object]] | None = None
        self._lastActive = self._openedAt = keeper.seconds()
        self._readBytes = self._writeBytes = self._readPkgs = self._writePkgs = 0
        # A callback, or a delivery of packages, is on the stack.
        self._busy = False
        # An async callback that has not returned.
        self._awaiting: Deferred[None] | None = None
        self._cancelling = False
        # close() was called here: what the network says afterwards is no error.
        self._local = False
        # A close goes on while the peer takes what is pending; where it stood when that was last looked at.
        self._patient = True
        self._progress: tuple[int, int | None] = (0, None)
        # What failed, and what of it the listener has not been told.
        self._error: BaseException | None = None
        self._errorDue: BaseException | None = None
        self._closeDue = False
        # Something happened, while a callback ran, that _continue must see to.
        self._eventsDue = False
        self._cron = None
        self._readTimer: WheelTimer | None = None
        self._closeTimer: WheelTimer | None = None
        self._lifetime: Lifetime | None = None

    # The beginning

    def start(self) -> None:
        """
        The connection is up: let ``newSession`` configure the session, then open it.

        :raise SessionRefusedError: newSession raised, or set no codec; the caller drops the connection. No event came.
        """
        this = cast("Session", self)
        # No callback, whatever newSession does to the session.
        self._busy = True
        try:
            self.keeper.newSession(this)
            if self._state != CONNECTING or self.keeper.closing:
                raise SessionRefusedError(f"{self} was closed before it was open", this)
            if self._reader is None or self._writer is None:
                missing = "reader" if self._reader is None else "writer"
                raise SessionRefusedError(f"newSession left {self} without a {missing}: set session.codec", this)
            this._checkSettings()
            workers = self.keeper.workers
            if workers is not None and not iscoroutinefunction(self._listener.onMessage):
                self._listener = self._work = workers.attach(this)
        except BaseException as error:
            self._state = GONE
            self._inbound.close()
            self._outbound.lost()
            self._cancelTimers()
            if isinstance(error, SessionRefusedError):
                raise
            raise SessionRefusedError(f"newSession refused {self}: {type(error).__name__}: {error}", this) from error
        self._busy = False
        self.connection.applySocketOptions(this)
        self.keeper.sessions.add(this)
        self.keeper.crons.add(self, self._cronPeriod)
        self._watch()
        self._run(self._listener.onOpen)
        self._continue()

    def _watch(self) -> None:
        """Start what watches the limits of time anew, with those that are set now."""
        if self._readTimer is not None:
            self._readTimer.stop()
            self._readTimer = None
        if self._readTimeout is not None:
            self._readTimer = self.keeper.wheel.schedule(self._readTimeout, checkSilence, self)
        if self._lifetime is not None:
            self._lifetime.start()
        elif self._idleTimeout is not None or self._maxLifetime is not None:
            self._lifetime = Lifetime(cast("Session", self))
            self._lifetime.start()

    def _silent(self, timeout: float) -> None:
        """Nothing has come for ``readTimeout``."""
        self._fail(ReadTimeoutError(f"nothing came for readTimeout={timeout:g} s", cast("Session", self)))

    def _activity(self) -> int:
        """A number that is another one when bytes came or were written."""
        return self._readBytes + self._writeBytes

    def _expire(self) -> None:
        """``maxLifetime`` is over. Not a close of the application's own, so that a pool replaces the session."""
        if self._state <= OPEN:
            self._beginClosing()

    # Callbacks

    def _run(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call the listener; on the stack alone of this session's callbacks."""
        self._busy = True
        try:
            result = callback(self, *args)
            if result is not None:
                self._await(result)
        except BaseException as error:
            # SystemExit and its like too: the reactor would take them for this connection's failure all the same.
            self._callbackFailed(error)
        self._busy = False

    def _await(self, result: Any) -> None:
        """A callback returned something: if it is to be waited for, nothing else is called before it is done."""
        waiting: Deferred[None]
        if iscoroutine(result):
            waiting = Deferred.fromCoroutine(result)
        elif isinstance(result, Deferred):
            waiting = result
        else:
            return
        self._awaiting = waiting
        self._inbound.pause(CALLBACK)
        if self._state >= LOST and self._closeTimer is None:
            self._closeTimer = self.keeper.wheel.schedule(self._waitTime, checkClose, self)
        waiting.addErrback(self._awaitedFailed)
        waiting.addBoth(self._awaited)

    def _awaitedFailed(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        self._callbackFailed(error, failure)

    def _awaited(self, _: object) -> None:
        self._awaiting = None
        if self._state >= LOST and self._closeTimer is not None:
            # The next one has its own time.
            self._closeTimer.stop()
            self._closeTimer = None
        if self._state != CONNECTING:
            self._inbound.paused &= ~CALLBACK
        if not self._busy:
            self._continue()

    def _continue(self) -> None:
        """Nothing of this session is on the stack: do what is due, in the order of the contract."""
        inbound = self._inbound
        work = self._work
        while not self._busy and self._awaiting is None:
            if self._state == CONNECTING:
                self._state = OPEN
                inbound.paused &= ~CALLBACK
                if self.keeper.observers.all:
                    self.keeper.observers.tell("opened", self)
                self.connection.sessionOpened()
            elif self._errorDue is not None and not (self._state == LOST and inbound.hasRest):
                if work is not None and work.holdsEvents and work.busy:
                    if self._closeDue:
                        self._limitWork()
                    break
                error, self._errorDue = self._errorDue, None
                self._run(self._listener.onError, error)
            elif work is not None and work.cronDue and not work.busy:
                work.cronDue = False
                inbound.paused &= ~ORDER
                if self._state == OPEN:
                    self._run(self._listener.onCron)
            elif not inbound.paused and inbound.proceed():
                # It has called this method when something was due, and delivered what it could.
                if not inbound.undelivered:
                    break
            elif self._closeDue and not inbound.paused & SHARE:
                if work is not None and work.busy:
                    self._limitWork()
                    break
                if self._errorDue is not None:
                    # The rest is held up by nothing that will end: the error comes in its place.
                    inbound.close()
                    continue
                self._closeDue = False
                self._state = ENDED
                self._run(self._listener.onClose)
            elif self._state == ENDED:
                self._state = GONE
                self._end()
                break
            else:
                isDone = not inbound.paused and (work is None or not work.busy)
                if inbound.ended and self._state == OPEN and isDone:
                    self._beginClosing()
                break
        self._eventsDue = self._errorDue is not None or self._closeDue

    def _limitWork(self) -> None:
        """onClose waits for the messages that are with workers, but not for ever."""
        if self._closeTimer is None:
            self._closeTimer = self.keeper.wheel.schedule(self._waitTime, checkClose, self)

    def _worked(self) -> None:
        """No message of the session is with a worker any more."""
        if self._busy:
            self._eventsDue = True
        elif self._awaiting is None:
            self._continue()

    def _callbackFailed(self, error: BaseException, failure: Failure | None = None) -> None:
        """A callback raised: that closes this session alone, or the one that the error is about."""
        about = error.session if isinstance(error, SessionError) else None
        if about is not None and about is not self:
            log.failure("{session}: a callback failed about {other}", failure, session=self, other=about)
            if not isinstance(error, SessionClosedError):
                about._fail(error)
            return
        if self._cancelling and isinstance(error, CancelledError):
            # By checkClose, which has said so.
            return
        if isinstance(error, SessionClosedError) and self._state >= LOST:
            # The peer went before its answer: what it had sent is delivered all the same.
            log.info("{session}: an answer was written after the connection was lost", session=self)
            return
        more = self.keeper.faults.line("callback", error)
        if more is not None:
            log.failure("{session}: a callback failed{more}", failure, session=self, more=more)
        self._fail(error)

    def _readFailed(self, error: BaseException) -> None:
        """The codec refused the stream, or a limit was passed."""
        if isinstance(error, SessionError) and error.session is None:
            error.session = cast("Session", self)
        more = self.keeper.faults.line("refused", error)
        if more is not None:
            log.info("{session}: refused: {error}{more}", session=self, error=error, more=more)
        self._fail(error)

    # The end

    def _fail(self, error: BaseException, abort: bool = False) -> None:
        """
        Something failed: tell the listener once, and close.

        :param abort: nothing more can be sent, so do not try to flush.
        """
        if self._state < ENDED and self._error is None:
            self._error = self._errorDue = error
            self._eventsDue = True
            if self.keeper.observers.all:
                self.keeper.observers.tell("error", self, error)
        if self._state <= OPEN:
            self._beginClosing()
        elif self._state == LOST:
            # No package is delivered after the error.
            self._inbound.close()
        if abort and self._state < LOST:
            self.connection.abort()
        if not self._busy and self._awaiting is None and self._state < ENDED:
            self._continue()

    def _beginClosing(self) -> None:
        """Take no more packages either way; flush, then let the connection go."""
        wasConnecting = self._state == CONNECTING
        self._state = CLOSING
        self._cancelTimers()
        self._closeTimer = self.keeper.wheel.schedule(self._waitTime, checkClose, self)
        self._progress = self._closeProgress()
        if wasConnecting:
            self._inbound.paused &= ~CALLBACK
        self._inbound.close()
        self._outbound.finish()

    def _flushed(self) -> None:
        """All that was pending is out."""
        if self._state == CLOSING:
            if self._inbound.ended:
                self.connection.disconnect()
            else:
                self.connection.shutdownWriting()

    def _closeProgress(self) -> tuple[int, int | None]:
        outbound = self._outbound
        return outbound.left, bytesInKernel(outbound.transport)

    def _hurry(self) -> None:
        """The service stops: ``waitTime`` is all that a close may take, progress or not."""
        self._patient = False
        cast("Session", self).close()

    def _dropRest(self) -> None:
        """Of what a lost connection has left, no more is to be delivered."""
        self._inbound.close()
        if not self._busy and self._awaiting is None:
            self._continue()

    def peerEnded(self) -> None:
        """The peer sends nothing more, but may still read: deliver what is there, flush, then close."""
        inbound = self._inbound
        inbound.ended = True
        if self._state == CLOSING:
            if not (self._outbound.finishing or self._outbound.pending):
                self.connection.disconnect()
        elif self._busy:
            self._eventsDue = True
        elif self._awaiting is None:
            self._continue()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, for the reason that Twisted gives."""
        inbound = self._inbound
        clean = isinstance(reason.value, ConnectionDone)
        before, self._state = self._state, LOST
        losesOutput = self._losesOutput()
        self._outbound.lost()
        self._cancelTimers()
        ownEnd = self._local or self._error is not None
        if not (clean or ownEnd) and (before <= OPEN or losesOutput):
            self._error = self._errorDue = reason.value
            if self.keeper.observers.all:
                self.keeper.observers.tell("error", self, reason.value)
        self._closeDue = True
        if before <= OPEN and not ownEnd:
            # What is complete is delivered, before an error is told, and even if the session was paused: nobody else
            # will ever resume it.
            inbound.ended = True
            inbound.paused &= ~(USER | PRESSURE)
            if self._work is not None:
                self._work.release()
        else:
            inbound.close()
        self._eventsDue = True
        if self._awaiting is not None:
            self._closeTimer = self.keeper.wheel.schedule(self._waitTime, checkClose, self)
        elif not self._busy:
            self._continue()

    def _forgetLoss(self) -> None:
        """What a lost connection has left tells how the peer ended it: the loss itself is no error then."""
        if self._errorDue is not None and self._errorDue is self._error:
            self._error = self._errorDue = None

    def _losesOutput(self) -> bool:
        """Whether the loss of the connection drops anything that the application has written."""
        return self._outbound.pending > 0

    def _cancelTimers(self) -> None:
        if self._cron is not None:
            self._cron.remove(self)
        for timer in (self._readTimer, self._closeTimer, self._lifetime):
            if timer is not None:
                timer.stop()
        self._readTimer = self._closeTimer = None

    def _end(self) -> None:
        """onClose has returned: let go of everything."""
        this = cast("Session", self)
        callbacks, self._closeCallbacks = self._closeCallbacks, None
        for call in (callbacks or {}).values():
            try:
                call()
            except BaseException:
                log.failure("{session}: a close callback failed", session=self)
        self.keeper.sessionEnded(this)
        if self._attributes is not None:
            self._attributes.clear()
        self._cancelTimers()
        # Kept for the books until here.
        self._lifetime = None
        self.connection.sessionEnded(self._error)

    # Back-pressure

    def _pendingIsHigh(self) -> None:
        """More than highWater is pending: a peer that does not read its answers sends no more questions."""
        if self._state <= OPEN and not self._inbound.paused & PRESSURE:
            self._inbound.pause(PRESSURE)

    def _pendingIsLow(self) -> None:
        self._inbound.resume(PRESSURE)

    def _settingChanged(self, name: str) -> None:
        """A setting was set: while the session runs it takes effect at once."""
        if self._cron is None:
            return
        if name == "cronPeriod":
            self._cron.remove(self)
            self.keeper.crons.add(self, self._cronPeriod)
        elif name in ("readTimeout", "idleTimeout", "maxLifetime"):
            self._watch()
        elif name in ("tcpNoDelay", "tcpKeepAlive", "sendBufferSize", "receiveBufferSize"):
            self.connection.applySocketOptions(cast("Session", self))
