"""
What leaves by itself between the packages of a session: files, and what a relay has in a pipe.

While there are such parts they have the place of the transport: the outbound is blocked, and its queue gathers what is
written behind them. What the queue had before a part is set aside, as a part of its own. The transport's
``resumeProducing`` leads here, and the outbound goes on when all parts are out.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from getty_tx.errors import SessionClosedError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from getty_tx.session.buffers import Buffer
    from getty_tx.session.outbound import Outbound

__all__ = ["Part", "Parts", "addPart", "sendBuffers"]

#: Bytes of parts sent in one iteration of the reactor. The kernel moves them without copies, which takes some 80 us; a
#: turn for every 128 KiB would cost as much again.
TURN = 512 * 1024


class Part(Protocol):
    """
    Something to be sent.

    :ivar left: bytes that have not left.
    """

    left: int

    def send(self, outbound: Outbound, most: int) -> tuple[int, bool]:
        """
        Send about ``most`` bytes.

        :return: bytes sent, and whether the transport will call ``resumeProducing``.
        :raise Exception: the bytes cannot be had: the session fails.
        """

    def sent(self) -> None:
        """All bytes have left."""

    def failed(self, error: BaseException) -> None:
        """They will not leave."""


class _Aside:
    """Bytes that were written before a part."""

    __slots__ = ("_buffers", "left")

    def __init__(self, buffers: list[Buffer], size: int) -> None:
        self._buffers = buffers
        self.left = size

    def send(self, outbound: Outbound, most: int) -> tuple[int, bool]:
        before = self.left
        rest, willCall = outbound.sendFirst(self._buffers, before)
        self._buffers = rest or []
        self.left = sum(map(len, self._buffers))
        return before - self.left, willCall

    def sent(self) -> None:
        pass

    def failed(self, error: BaseException) -> None:
        pass


class Parts:
    """The parts of one session, while there are any."""

    __slots__ = ("_again", "_outbound", "_parts", "_sending")

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._parts: deque[Part] = deque()
        self._sending = False
        # The call that goes on in the next iteration.
        self._again: IDelayedCall | None = None

    def add(self, part: Part) -> None:
        """Send ``part`` after all that was written so far."""
        outbound = self._outbound
        queue, outbound.queue = outbound.queue, None
        if queue is not None:
            self._parts.append(_Aside(queue, sum(map(len, queue))))
        self._parts.append(part)

    def insert(self, buffers: list[Buffer], size: int) -> None:
        """Send these bytes, which were read of the first part, before all else."""
        self._parts.appendleft(_Aside(buffers, size))

    def resume(self) -> None:
        """The transport takes bytes: send for one turn."""
        if self._sending:
            return
        outbound = self._outbound
        outbound.inTransport = 0
        outbound.whileBlocked().progressAt = outbound.session.context.seconds()
        self._sending = True
        try:
            done = self._send(TURN)
        finally:
            self._sending = False
        waiting = outbound.blockedState
        if done and waiting is not None and waiting.parts is self:
            waiting.parts = None
            outbound.resumeProducing()

    def _goOn(self) -> None:
        self._again = None
        self.resume()

    def _send(self, budget: int) -> bool:
        """Send; True if all is out."""
        outbound = self._outbound
        parts = self._parts
        while parts:
            part = parts[0]
            if not part.left:
                parts.popleft()
                part.sent()
                continue
            if budget <= 0 and outbound.sink is not None:
                self._again = outbound.session.context.reactor.callLater(0, self._goOn)
                return False
            try:
                sent, willCall = part.send(outbound, budget)
            except Exception as error:
                # What is behind it would be taken for the bytes that are missing: nothing more may leave.
                parts.popleft()
                part.failed(error)
                outbound.session.fail(error, abort=True)
                return False
            if willCall:
                return False
            budget -= sent
        return True

    def lost(self) -> None:
        """The connection is lost."""
        session = self._outbound.session
        if self._again is not None:
            self._again.cancel()
        parts = list(self._parts)
        self._parts.clear()
        for part in parts:
            text = f"{session} closed with {part.left} bytes not sent"
            part.failed(SessionClosedError(text, session))


def addPart(outbound: Outbound, part: Part) -> None:
    """Send ``part`` after all that was written so far: now, if the transport takes it."""
    if not outbound.blocked and outbound.queue is not None:
        # What is corked leaves first.
        outbound.flush()
    waiting = outbound.whileBlocked()
    parts = waiting.parts
    if parts is not None:
        parts.add(part)
        return
    parts = waiting.parts = Parts(outbound)
    waiting.progressAt = outbound.session.context.seconds()
    waiting.watch()
    parts.add(part)
    if not outbound.blocked:
        outbound.blocked = True
        parts.resume()


def sendBuffers(outbound: Outbound, data: bytes) -> tuple[int, bool]:
    """For a part that goes through memory: count and send some bytes of it. Returns as Part.send."""
    waiting = outbound.whileBlocked()
    size = len(data)
    waiting.inserted(size, outbound.bytesOut)
    outbound.session.bytesWritten += size
    outbound.queued += size
    rest, willCall = outbound.sendFirst([data], size)
    if rest:
        assert waiting.parts is not None
        waiting.parts.insert(rest, sum(map(len, rest)))
    return size, willCall
