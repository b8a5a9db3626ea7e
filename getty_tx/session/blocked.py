"""
Time-outs, water marks and producers of a session that has bytes to send. It exists only while bytes are pending or a
producer of the application is registered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import SessionClosedError, WriteTimeoutError
from getty_tx.session.buffers import CHUNK
from getty_tx.session.pausing import PRESSURE
from getty_tx.session.wrappers import bytesInKernel

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IProducer

    from getty_tx.session.outbound import Outbound
    from getty_tx.session.parts import Parts
    from getty_tx.wheel import WheelTimer

__all__ = ["Blocked"]

log = Logger()

#: Seconds between two checks of the kernel's buffer while a session is blocked.
SAMPLE = 1.0

#: Seconds without progress after which a session that is paused for its pending bytes gets a relief.
STALL = 0.2

#: Seconds of back-pressure after which it is logged.
LONG = 2.0


class Blocked:
    """
    Beside an outbound, while it is of use.

    :ivar drainers: the Deferreds of ``drained()``.
    :ivar parts: files, and bytes of a relay, on their way; None where there are none.
    :ivar producer: the application's producer, registered through ``session.transport``.
    :ivar progressAt: when bytes were last seen to leave.
    :ivar allowed: pending bytes with which the session still reads, after a relief; 0 before the first one.
    """

    __slots__ = (
        "_asked",
        "_kernel",
        "_lastRelief",
        "_limits",
        "_outbound",
        "_paused",
        "_pressedAt",
        "_pressureTold",
        "_streaming",
        "_timer",
        "allowed",
        "drainers",
        "parts",
        "producer",
        "progressAt",
    )

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.drainers: list[Deferred[None]] = []
        self.parts: Parts | None = None
        self.producer: Any = None
        self.progressAt = 0.0
        self._streaming = False
        self._paused = False
        # A pull producer is asked in the next iteration of the reactor, as by Twisted's transports.
        self._asked: IDelayedCall | None = None
        # (bytes written, deadline) for each writePkg with a timeout.
        self._limits: list[tuple[int, float]] = []
        self._kernel: int | None = None
        self._timer: WheelTimer | None = None
        # When a check first saw back-pressure, and whether that was logged.
        self._pressedAt: float | None = None
        self._pressureTold = False
        self.allowed = 0
        # The last relief: (credit left, bytes sent before, bytes and packages read before).
        self._lastRelief: tuple[int, int, int] | None = None

    def emptied(self) -> None:
        """
        Nothing waits any more: tell those who waited for it.

        A timer that runs is left to look again later. Cancelling it here would leave one behind for each burst.
        """
        outbound = self._outbound
        self._limits.clear()
        drainers, self.drainers = self.drainers, []
        for drainer in drainers:
            drainer.callback(None)
        if self.producer is not None:
            if not self._streaming:
                self._ask()
        elif self._timer is None and outbound.blockedState is self and not self.drainers and outbound.isFree:
            outbound.blockedState = None

    def lost(self, dropped: int) -> None:
        """The connection is lost, with ``dropped`` bytes pending."""
        session = self._outbound.session
        if self._timer is not None:
            self._timer.stop()
        if self._asked is not None:
            self._asked.cancel()
        if self.producer is not None:
            try:
                self.producer.stopProducing()
            except Exception:
                log.failure("{session}: a producer's stopProducing failed", session=session)
        if self.parts is not None:
            self.parts.lost()
        for drainer in self.drainers:
            drainer.errback(SessionClosedError(f"{session} closed with {dropped} bytes pending", session))

    # The application's producer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        From now on ``producer`` writes.

        :raise RuntimeError: there is one already.
        """
        if self.producer is not None:
            raise RuntimeError(f"cannot register producer {producer!r}: {self.producer!r} is registered")
        self.producer = producer
        self._streaming = streaming
        self._paused = False
        if not streaming and self._outbound.isFree:
            self.producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """The producer has ended."""
        self.producer = None
        self._streaming = self._paused = False
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def pauseProducer(self) -> None:
        """Pause a push producer: more than ``highWater`` bytes are pending."""
        if self._streaming and not self._paused:
            self._paused = True
            self.producer.pauseProducing()

    def resumeProducer(self) -> None:
        """Resume a producer that was paused: at most ``lowWater`` bytes are pending."""
        if self._paused:
            self._paused = False
            self.producer.resumeProducing()

    def _ask(self) -> None:
        if self._asked is None:
            self._asked = self._outbound.session.context.reactor.callLater(0, self._pull)

    def _pull(self) -> None:
        self._asked = None
        if self._outbound.isFree:
            try:
                self.producer.resumeProducing()
            except Exception as error:
                self._outbound.session.callbackFailed(error)

    # Time

    def watch(self) -> None:
        """The outbound is blocked: check regularly that bytes leave."""
        session = self._outbound.session
        if self._timer is None:
            self._kernel = bytesInKernel(self._outbound.transport)
            self._schedule(min(session._writeTimeout or SAMPLE, SAMPLE))

    def lookSoon(self) -> None:
        """The session stopped reading: check within STALL whether bytes leave."""
        self._checkWithin(STALL)

    def limit(self, timeout: float) -> None:
        """All that was written so far must be out in ``timeout`` seconds."""
        session = self._outbound.session
        self._limits.append((session.bytesWritten, session.context.seconds() + timeout))
        self._checkWithin(timeout)

    def inserted(self, count: int, out: int) -> None:
        """
        ``count`` bytes leave before all that waits: what has to be out at a deadline lies so much farther back.

        :param out: ``bytesOut`` before they were counted as written.
        """
        if self._limits:
            self._limits = [
                (position + count if position > out else position, deadline) for position, deadline in self._limits
            ]

    def _checkWithin(self, delay: float) -> None:
        if self._timer is None:
            self._schedule(delay)
        elif self._timer.left > delay:
            self._timer.reset(delay)

    def _schedule(self, delay: float) -> None:
        self._timer = self._outbound.session.context.wheel.schedule(delay, _check, self)

    def check(self) -> None:
        """Fail the session if a deadline has passed; relieve it; schedule the next check."""
        self._timer = None
        outbound = self._outbound
        session = outbound.session
        now = session.context.seconds()
        # It lies ahead if the clock went backwards.
        self.progressAt = min(self.progressAt, now)
        self._checkPressure(now)
        out = outbound.bytesOut
        self._limits = [(position, deadline) for position, deadline in self._limits if position > out]
        deadlines = [deadline for _, deadline in self._limits]
        if deadlines and min(deadlines) <= now:
            text = f"{outbound.pending} bytes were not out within the timeout of writePkg"
            session.fail(WriteTimeoutError(text, session), abort=True)
            return
        timeout = session._writeTimeout
        isPressed = session.inbound.paused & PRESSURE
        if outbound.blocked:
            # The transport tells of progress when its slice is out. A slow peer empties the kernel's buffer first. That
            # can take longer than the timeout, and is progress, too.
            before, self._kernel = self._kernel, bytesInKernel(outbound.transport)
            if before is not None and self._kernel is not None and self._kernel < before:
                self.progressAt = now
            elif timeout is not None and now >= self.progressAt + timeout:
                text = f"no progress for writeTimeout={timeout:g} s, {outbound.pending} bytes pending"
                session.fail(WriteTimeoutError(text, session), abort=True)
                return
            deadlines.append(now + (STALL if isPressed else SAMPLE))
            if timeout is not None:
                deadlines.append(self.progressAt + timeout)
        if deadlines:
            self._schedule(max(min(deadlines) - now, session.context.wheel.tick))
        elif outbound.isFree:
            self.emptied()
        if isPressed and outbound.blocked and now >= self.progressAt + STALL:
            self._relieve()

    def _relieve(self) -> None:
        """
        Read on, although too many bytes wait: the peer may have stopped reading for the same reason, and then each of
        the two waits for the other.

        What is read may be answered, so each relief lets ``highWater`` bytes more wait than do now. It takes that from
        a credit, which every byte sent restores: a peer that reads nothing gets one relief, and with a slow one no more
        bytes gather than leave.
        """
        outbound = self._outbound
        session = outbound.session
        # None of the bytes of a slice count as sent before all are.
        more = max(session._highWater, CHUNK)
        # Packages as well as bytes: delivered packages may have come long before.
        sent, read = outbound.bytesOut, session.bytesRead + session.pkgsRead
        credit = full = more + CHUNK
        if self._lastRelief is not None:
            before, sentBefore, readBefore = self._lastRelief
            # A relief in which nothing was read costs nothing: the application wrote too much before the read.
            if read != readBefore:
                credit = min(before + sent - sentBefore, full)
        if credit < more:
            return
        self._lastRelief = credit - more, sent, read
        self.allowed = outbound.pending + more
        session.pendingIsLow()

    def _checkPressure(self, now: float) -> None:
        """Log back-pressure that lasts for LONG, and its end."""
        outbound = self._outbound
        session = outbound.session
        # After a relief the session reads although it is under pressure.
        if session.inbound.paused & PRESSURE or (self.allowed and outbound.pending > session._highWater):
            if self._pressedAt is None:
                self._pressedAt = now
            elif not self._pressureTold and now >= self._pressedAt + LONG:
                self._pressureTold = True
                text = "{session}: back-pressure for {seconds:.1f} s: the peer is too slow, {pending} bytes pending"
                log.warn(text, session=session, seconds=now - self._pressedAt, pending=outbound.pending)
        elif self._pressedAt is not None:
            since, self._pressedAt = self._pressedAt, None
            if self._pressureTold:
                self._pressureTold = False
                text = "{session}: back-pressure is over, after {seconds:.1f} s"
                log.info(text, session=session, seconds=now - since)


def _check(waiting: Blocked) -> None:
    waiting.check()
