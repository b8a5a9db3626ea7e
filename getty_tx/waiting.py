"""
What a session remembers only while bytes wait to be sent, or while a producer of the application is registered: who
waits for them, by when they must be out, and whether the peer takes any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import SessionClosedError, WriteTimeoutError
from getty_tx.pauses import PRESSURE
from getty_tx.transport import bytesInKernel

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IProducer

    from getty_tx.outbound import Outbound
    from getty_tx.wheel import WheelTimer

__all__ = ["Waiting"]

log = Logger()

#: Seconds between two looks at the kernel's buffer while a session is blocked.
SAMPLE = 1.0

#: Seconds of back-pressure that are worth a line in the log.
LONG = 2.0


class Waiting:
    """
    Beside an outbound, while it is of use.

    :ivar drainers: fire when nothing is pending.
    :ivar producer: the application's, registered through ``session.transport``.
    :ivar progressAt: when bytes were last seen to leave.
    """

    __slots__ = (
        "_asked",
        "_kernel",
        "_limits",
        "_outbound",
        "_paused",
        "_pressedAt",
        "_pressureTold",
        "_streaming",
        "_timer",
        "drainers",
        "producer",
        "progressAt",
    )

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self.drainers: list[Deferred[None]] = []
        self.producer: Any = None
        self.progressAt = 0.0
        self._streaming = False
        self._paused = False
        # A pull producer is asked for more in the next turn of the reactor, as Twisted's transports do it.
        self._asked: IDelayedCall | None = None
        # Bytes written when a limit was set, and when they must be out.
        self._limits: list[tuple[int, float]] = []
        self._kernel: int | None = None
        self._timer: WheelTimer | None = None
        # Since when too many bytes wait, as far as was seen, and whether the log says so.
        self._pressedAt: float | None = None
        self._pressureTold = False

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
        elif self._timer is None and outbound._waiting is self and not self.drainers and outbound.isFree:
            outbound._waiting = None

    def lost(self, dropped: int) -> None:
        """The transport is gone, with ``dropped`` bytes pending."""
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
        """It is done."""
        self.producer = None
        self._streaming = self._paused = False
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def pauseProducer(self) -> None:
        """Too many bytes wait."""
        if self._streaming and not self._paused:
            self._paused = True
            self.producer.pauseProducing()

    def resumeProducer(self) -> None:
        """Few bytes wait."""
        if self._paused:
            self._paused = False
            self.producer.resumeProducing()

    def _ask(self) -> None:
        if self._asked is None:
            self._asked = self._outbound.session.keeper.reactor.callLater(0, self._pull)

    def _pull(self) -> None:
        self._asked = None
        if self._outbound.isFree:
            try:
                self.producer.resumeProducing()
            except Exception as error:
                self._outbound.session._callbackFailed(error)

    # Time

    def watch(self) -> None:
        """The outbound is blocked: look from time to time whether bytes leave."""
        session = self._outbound.session
        if self._timer is None:
            self._kernel = bytesInKernel(self._outbound.transport)
            self._schedule(min(session._writeTimeout or SAMPLE, SAMPLE))

    def limit(self, timeout: float) -> None:
        """All that was written so far must be out in ``timeout`` seconds."""
        session = self._outbound.session
        self._limits.append((session._writeBytes, session.keeper.seconds() + timeout))
        if self._timer is None:
            self._schedule(timeout)
        elif self._timer.left > timeout:
            self._timer.reset(timeout)

    def _schedule(self, delay: float) -> None:
        self._timer = self._outbound.session.keeper.wheel.schedule(delay, _check, self)

    def check(self) -> None:
        """A deadline may have passed: fail the session, or look again later."""
        self._timer = None
        outbound = self._outbound
        session = outbound.session
        now = session.keeper.seconds()
        # It lies ahead when the clock was set back.
        self.progressAt = min(self.progressAt, now)
        self._checkPressure(now)
        out = outbound.left
        self._limits = [(position, deadline) for position, deadline in self._limits if position > out]
        deadlines = [deadline for _, deadline in self._limits]
        if deadlines and min(deadlines) <= now:
            text = f"{outbound.pending} bytes were not out within the timeout of writePkg"
            session._fail(WriteTimeoutError(text, session), abort=True)
            return
        timeout = session._writeTimeout
        if outbound.blocked and timeout is None:
            deadlines.append(now + SAMPLE)
        elif outbound.blocked and timeout is not None:
            # The transport tells of progress when its slice is out. A peer that reads slowly empties the kernel's
            # buffer first, which can take longer than the timeout: that is progress too.
            before, self._kernel = self._kernel, bytesInKernel(outbound.transport)
            if before is not None and self._kernel is not None and self._kernel < before:
                self.progressAt = now
            elif now >= self.progressAt + timeout:
                text = f"no progress for writeTimeout={timeout:g} s, {outbound.pending} bytes pending"
                session._fail(WriteTimeoutError(text, session), abort=True)
                return
            deadlines += (self.progressAt + timeout, now + SAMPLE)
        if deadlines:
            self._schedule(max(min(deadlines) - now, session.keeper.wheel.tick))
        elif outbound.isFree:
            self.emptied()

    def _checkPressure(self, now: float) -> None:
        """Say when back-pressure has lasted, and when it is over."""
        session = self._outbound.session
        if session._inbound.paused & PRESSURE:
            if self._pressedAt is None:
                self._pressedAt = now
            elif not self._pressureTold and now >= self._pressedAt + LONG:
                self._pressureTold = True
                text = "{session}: back-pressure for {seconds:.1f} s: the peer is too slow, {pending} bytes pending"
                log.warn(text, session=session, seconds=now - self._pressedAt, pending=self._outbound.pending)
        elif self._pressedAt is not None:
            since, self._pressedAt = self._pressedAt, None
            if self._pressureTold:
                self._pressureTold = False
                text = "{session}: back-pressure is over, after {seconds:.1f} s"
                log.info(text, session=session, seconds=now - since)


def _check(waiting: Waiting) -> None:
    waiting.check()
