"""
The order of a session's events. Its states are in :py:mod:`getty_tx.session.states`.

Callbacks of a session never nest and never overlap. What happens while one runs, or while an ``async def`` has not
returned, waits: packages in the inbound, an error in ``pendingError``, the end in ``closePending``.
"""

from __future__ import annotations

from inspect import iscoroutine, iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger

from getty_tx.errors import ReadTimeoutError, SessionClosedError, SessionError, SessionRefusedError
from getty_tx.session.batches import messageCallbacks
from getty_tx.session.faults import callAll
from getty_tx.session.inbound import Inbound
from getty_tx.session.limits import Lifetime, checkClose, checkSilence, outlivesPeer
from getty_tx.session.outbound import Outbound
from getty_tx.session.pausing import CALLBACK, CALLS, CRON_BARRIER, PRESSURE, QUOTA, UPGRADE, USER
from getty_tx.session.refusals import refusalFrom
from getty_tx.session.sharing import leaveAll
from getty_tx.session.state import SessionState
from getty_tx.session.states import CLOSING, CONNECTING, ENDED, GONE, LOST, OPEN
from getty_tx.session.wrappers import bytesInKernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from getty_tx.interfaces import IConnection, IEventListener
    from getty_tx.session.context import ServiceContext

__all__ = ["CLOSING", "CONNECTING", "ENDED", "GONE", "LOST", "OPEN", "Lifecycle"]

log = Logger()


class Lifecycle(SessionState):
    """
    The order of a session's events.

    Connections call ``start``, ``inbound.receive``, ``peerEnded``, ``connectionLost``, ``fail``, ``readFailed``,
    ``beginClosing``, ``closeProgress`` and ``stop``.
    """

    __slots__ = ()

    #: The ways out and in; a session over something else than a byte stream has its own.
    outboundType: ClassVar[type[Outbound]] = Outbound
    inboundType: ClassVar[type[Inbound]] = Inbound

    context: ServiceContext
    inbound: Inbound
    lifetime: Lifetime | None
    outbound: Outbound

    def __init__(
        self, connection: IConnection, context: ServiceContext, transport: Any, listener: IEventListener
    ) -> None:
        self.connection = connection
        self.context = context
        self.outbound = self.outboundType(self, transport)
        self.inbound = self.inboundType(self, self.outbound)
        # Until onOpen has returned.
        self.inbound.paused = CALLBACK
        self.state = CONNECTING
        self.receiver = listener
        self.work = None
        # newSession sets them; start() refuses a session without.
        self.decoder = self.encoder = None
        self.readsBatches = 0
        self._attributes = self._closeCallbacks = None
        self.activeAt = self.openedAt = context.seconds()
        self.bytesRead = self.bytesWritten = self.pkgsRead = self.pkgsWritten = 0
        self.inCallback = False
        self.awaiting = None
        self.cancelling = False
        self.closedLocally = False
        self.extendsClose = True
        self.lastProgress = -1, None
        self.error = self.pendingError = None
        self.closePending = False
        self.needsDispatch = False
        self.cronGroup = self.readTimer = self.closeTimer = self.lifetime = None
        self.memberships = ()

    # The beginning

    def start(self) -> Deferred[Any] | None:
        """
        The connection is up: let ``newSession`` configure the session, then open it.

        :return: what ``newSession`` waits for, if it is an ``async def``: ``begin`` opens the session after that.
        :raise SessionRefusedError: newSession raised, or set no codec; the caller drops the connection. No event came.
        """
        # No callback runs while newSession configures the session.
        self.inCallback = True
        try:
            result = self.configure()
        except BaseException as error:
            refusal = self.refusedBy(error)
            raise refusal from refusal.__cause__
        if result is not None:
            if iscoroutine(result):
                return Deferred.fromCoroutine(result)
            if isinstance(result, Deferred):
                return result
        self.begin()
        return None

    def configure(self) -> object:
        """Let ``newSession`` configure the session."""
        return self.context.newSession(self)

    def begin(self) -> None:
        """
        ``newSession`` has returned: open the session.

        :raise SessionRefusedError: it was closed, or has no codec.
        """
        try:
            if self.state != CONNECTING or self.context.closing:
                raise SessionRefusedError(f"{self} was closed before it was open", self)
            if self.decoder is None or self.encoder is None:
                missing = "reader" if self.decoder is None else "writer"
                raise SessionRefusedError(f"newSession left {self} without a {missing}: set session.codec", self)
            self._checkSettings()
            workers = self.context.workers
            if workers is not None and not any(map(iscoroutinefunction, messageCallbacks(self))):
                self.receiver = self.work = workers.attach(self)
        except BaseException as error:
            refusal = self.refusedBy(error)
            raise refusal from refusal.__cause__
        self.inCallback = False
        self.configured()
        self.connection.applySocketOptions(self)
        self.context.sessions.add(self)
        self.context.crons.add(self, self._cronPeriod)
        self._restartTimers()
        self._callListener(self.receiver.onOpen)
        self.dispatchEvents()

    def refusedBy(self, error: BaseException) -> SessionRefusedError:
        """Abandon the session because of an error, and return the refusal."""
        self.abandon()
        return refusalFrom(error, self)

    def configured(self) -> None:
        """newSession has accepted the session; onOpen comes next."""

    def abandon(self) -> None:
        """The session is refused: release what it has."""
        self.state = GONE
        self.inbound.close()
        self.outbound.lost()
        self._cancelTimers()

    def _checkSettings(self) -> None:
        """:raise SettingError: the settings do not fit together."""

    def _restartTimers(self) -> None:
        """Start the timers of ``readTimeout``, ``idleTimeout`` and ``maxLifetime`` with their present values."""
        if self.readTimer is not None:
            self.readTimer.stop()
            self.readTimer = None
        if self._readTimeout is not None:
            self.readTimer = self.context.wheel.schedule(self._readTimeout, checkSilence, self)
        if self.lifetime is not None:
            self.lifetime.start()
        elif self._idleTimeout is not None or self._maxLifetime is not None:
            self.lifetime = Lifetime(self)
            self.lifetime.start()

    def readTimedOut(self, timeout: float) -> None:
        """Nothing came for ``readTimeout``, or nothing left after the peer ended its side: fail."""
        what = f"nothing came for readTimeout={timeout:g} s"
        if self.inbound.ended:
            what = (
                f"nothing was sent for readTimeout={timeout:g} s, while a callback runs and the peer has ended its side"
            )
        self.fail(ReadTimeoutError(what, self))

    def activity(self) -> int:
        """Changes whenever bytes are read or written."""
        return self.bytesRead + self.bytesWritten

    def lifetimeOver(self) -> None:
        """``maxLifetime`` has passed: close. Counts as lost, so a pool dials again."""
        if self.state <= OPEN:
            self.beginClosing()

    # Callbacks

    def _callListener(self, callback: Callable[..., Any], *args: Any) -> None:
        """Run one callback. Callbacks of a session never nest."""
        self.inCallback = True
        try:
            result = callback(self, *args)
            if result is not None:
                self.awaitCallback(result)
        except BaseException as error:
            # BaseException: the reactor would treat SystemExit as a failure of this connection, too.
            self.callbackFailed(error)
        self.inCallback = False

    def awaitCallback(self, result: Any) -> None:
        """Wait for a callback that returned a coroutine or a Deferred; no other callback runs until it is done."""
        waiting: Deferred[None]
        if iscoroutine(result):
            waiting = Deferred.fromCoroutine(result)
        elif isinstance(result, Deferred):
            waiting = result
        else:
            return
        self.awaiting = waiting
        self.inbound.pause(CALLBACK)
        if self.state >= LOST and self.closeTimer is None:
            self.closeTimer = self.context.wheel.schedule(self._waitTime, checkClose, self)
        waiting.addErrback(self._callbackErrored)
        waiting.addBoth(self._callbackDone)

    def _callbackErrored(self, failure: Failure) -> None:
        error = failure.value
        assert error is not None
        self.callbackFailed(error, failure)

    def _callbackDone(self, _: object) -> None:
        self.awaiting = None
        if self.state >= LOST and self.closeTimer is not None:
            # The next callback has a ``waitTime`` of its own.
            self.closeTimer.stop()
            self.closeTimer = None
        if self.state != CONNECTING:
            self.inbound.paused &= ~CALLBACK
        if not self.inCallback:
            self.dispatchEvents()

    def dispatchEvents(self) -> None:
        """Handle pending events in the order of the contract. The one place that makes this order."""
        inbound = self.inbound
        work = self.work
        while not self.inCallback and self.awaiting is None:
            if self.state == CONNECTING:
                self.state = OPEN
                inbound.paused &= ~CALLBACK
                if self.context.observers.all:
                    self.context.observers.tell("opened", self)
                self.connection.sessionOpened()
            elif self.pendingError is not None and not (self.state == LOST and inbound.hasRest):
                if work is not None and work.holdsEvents and work.busy:
                    if self.closePending:
                        self._boundWorkers()
                    break
                error, self.pendingError = self.pendingError, None
                self._callListener(self.receiver.onError, error)
            elif work is not None and work.cronDue and not work.busy:
                work.cronDue = False
                inbound.paused &= ~CRON_BARRIER
                if self.state == OPEN:
                    self._callListener(self.receiver.onCron)
            elif not inbound.paused and inbound.deliverBuffered():
                # The delivery has called this method if an event was pending.
                if not inbound.hasDeliverable:
                    break
            elif self.closePending and not inbound.paused & QUOTA:
                if work is not None and work.busy:
                    self._boundWorkers()
                    break
                if self.pendingError is not None:
                    # Nothing will resume the delivery of the rest: drop it and tell the error.
                    inbound.close()
                    continue
                self.closePending = False
                self._callOnClose()
            elif self.state == ENDED:
                self.state = GONE
                self._end()
                break
            else:
                isDone = not inbound.paused & ~UPGRADE and (work is None or not work.busy)
                if inbound.ended and self.state == OPEN and isDone and not outlivesPeer(self):
                    self.beginClosing()
                break
        self.needsDispatch = self.pendingError is not None or self.closePending

    def _boundWorkers(self) -> None:
        """onClose waits for packages that workers have, for ``waitTime`` at most."""
        if self.closeTimer is None:
            self.closeTimer = self.context.wheel.schedule(self._waitTime, checkClose, self)

    def workersIdle(self) -> None:
        """Workers have no package of the session any more."""
        if self.inCallback:
            self.needsDispatch = True
        elif self.awaiting is None:
            self.dispatchEvents()

    def callbackFailed(self, error: BaseException, failure: Failure | None = None) -> None:
        """A callback raised: close this session, or the other session that the error names."""
        about = error.session if isinstance(error, SessionError) else None
        if about is not None and about is not self:
            log.failure("{session}: a callback failed about {other}", failure, session=self, other=about)
            if not isinstance(error, SessionClosedError):
                about.fail(error)
            return
        if self.cancelling and isinstance(error, CancelledError):
            # checkClose has cancelled it, and has logged that.
            return
        if isinstance(error, SessionClosedError) and self.state >= LOST:
            # The peer left before its answer. Delivery of what it had sent goes on.
            log.info("{session}: an answer was written after the connection was lost", session=self)
            return
        more = self.context.faults.line("callback", error)
        if more is not None:
            log.failure("{session}: a callback failed{more}", failure, session=self, more=more)
        self.fail(error)

    def readFailed(self, error: BaseException) -> None:
        """The codec refused the stream, or a limit was passed."""
        if isinstance(error, SessionError) and error.session is None:
            error.session = self
        more = self.context.faults.line("refused", error)
        if more is not None:
            log.info("{session}: refused: {error}{more}", session=self, error=error, more=more)
        self.fail(error)

    # The end

    def fail(self, error: BaseException, abort: bool = False) -> None:
        """
        Something failed: tell the listener once, and close.

        :param abort: nothing more can be sent, so do not try to flush.
        """
        if self.state < ENDED and self.error is None:
            self.error = self.pendingError = error
            self.needsDispatch = True
            if self.context.observers.all:
                self.context.observers.tell("error", self, error)
        if self.state <= OPEN:
            self.beginClosing()
        elif self.state == LOST:
            # No package is delivered after the error.
            self.inbound.close()
        if abort and self.state < LOST:
            self.connection.abort()
        if not self.inCallback and self.awaiting is None and self.state < ENDED:
            self.dispatchEvents()

    def beginClosing(self) -> None:
        """Accept no more packages in either direction; flush, then end the connection."""
        wasConnecting = self.state == CONNECTING
        self.state = CLOSING
        self._cancelTimers()
        self.closeTimer = self.context.wheel.schedule(self._waitTime, checkClose, self)
        self.lastProgress = self.closeProgress()
        if wasConnecting:
            self.inbound.paused &= ~CALLBACK
        self.inbound.close()
        self.outbound.closeWhenDrained()

    def outputFlushed(self) -> None:
        """All pending bytes are out: end the sending side."""
        if self.state == CLOSING:
            if self.inbound.ended:
                self.connection.disconnect()
            else:
                self.connection.shutdownWriting()

    def closeProgress(self) -> tuple[int, int | None]:
        outbound = self.outbound
        return outbound.bytesOut, bytesInKernel(outbound.transport)

    def stop(self) -> None:
        """Close within ``waitTime``, with progress or without, as the service stops."""
        self.extendsClose = False
        self.close()

    def _dropRest(self) -> None:
        """Stop delivering packages that were buffered when the connection was lost."""
        self.inbound.close()
        if not self.inCallback and self.awaiting is None:
            self.dispatchEvents()

    def peerEnded(self) -> None:
        """The peer has ended its side, and may still read: deliver what came, flush, close."""
        inbound = self.inbound
        inbound.ended = True
        if self.state == CLOSING:
            if not (self.outbound.finishing or self.outbound.pending):
                self.connection.disconnect()
        elif self.inCallback:
            self.needsDispatch = True
        elif self.awaiting is None:
            self.dispatchEvents()
        elif self.readTimer is not None:
            # The time counts from now on.
            self.readTimer.stop()
            checkSilence(self)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is lost; ``reason`` is Twisted's."""
        inbound = self.inbound
        clean = isinstance(reason.value, ConnectionDone)
        before, self.state = self.state, LOST
        losesOutput = self.losesOutput()
        self.outbound.lost()
        self._cancelTimers()
        ownEnd = self.closedLocally or self.error is not None
        if not (clean or ownEnd) and (before <= OPEN or losesOutput):
            self.error = self.pendingError = reason.value
            if self.context.observers.all:
                self.context.observers.tell("error", self, reason.value)
        self.closePending = True
        if before <= OPEN and not ownEnd:
            # Deliver complete packages before the error is told. Nobody resumes a paused session after the loss, so its
            # pauses end here.
            inbound.ended = True
            inbound.paused &= ~(USER | PRESSURE | CALLS)
            if self.work is not None:
                self.work.release()
        else:
            inbound.close()
        self.needsDispatch = True
        if self.awaiting is not None:
            self.closeTimer = self.context.wheel.schedule(self._waitTime, checkClose, self)
        elif not self.inCallback:
            self.dispatchEvents()

    def forgetLoss(self) -> None:
        """Data that a lost connection left tells how the peer closed it: the loss itself is no error."""
        if self.pendingError is not None and self.pendingError is self.error:
            self.error = self.pendingError = None

    def handOver(self) -> bytes:
        """
        End, and leave the transport to another protocol. It is OPEN, no callback runs, and nothing is pending.

        The peer hears nothing of it, and the listener only its onClose.

        :return: bytes that came and were not delivered.
        """
        rest = self.inbound.takeRest()
        self.closedLocally = True
        self.state = ENDED
        self._cancelTimers()
        self.inbound.close()
        self.outbound.release()
        self._callOnClose()
        self.state = GONE
        self._end()
        return rest

    def _callOnClose(self) -> None:
        self.state = ENDED
        if self.memberships:
            leaveAll(self)
        self._callListener(self.receiver.onClose)

    def losesOutput(self) -> bool:
        """True if losing the connection drops bytes that the application has written."""
        return self.outbound.pending > 0 or self.outbound.hasParts

    def _cancelTimers(self) -> None:
        if self.cronGroup is not None:
            self.cronGroup.remove(self)
        for timer in (self.readTimer, self.closeTimer, self.lifetime):
            if timer is not None:
                timer.stop()
        self.readTimer = self.closeTimer = None

    def _end(self) -> None:
        """onClose has returned: call the close callbacks and release all references."""
        callbacks, self._closeCallbacks = self._closeCallbacks, None
        callAll(self, callbacks)
        self.context.sessionEnded(self)
        if self._attributes is not None:
            self._attributes.clear()
        self._cancelTimers()
        # The totals have read it.
        self.lifetime = None
        self.connection.sessionEnded(self.error)

    def settingChanged(self, name: str) -> None:
        """A setting has a new value: apply it if the session runs."""
        if self.cronGroup is None:
            return
        if name == "cronPeriod":
            self.cronGroup.remove(self)
            self.context.crons.add(self, self._cronPeriod)
        elif name in ("readTimeout", "idleTimeout", "maxLifetime"):
            self._restartTimers()
        elif name in ("tcpNoDelay", "tcpKeepAlive", "sendBufferSize", "receiveBufferSize", "unsentLimit"):
            self.connection.applySocketOptions(self)
