"""The times of a connection of HTTP/2: one timer, which looks at all that may take too long."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.logger import Logger

from getty_tx.errors import SessionError
from getty_tx.http.two.errors import ConnectionFault, ErrorCode
from getty_tx.wheel import TICK

if TYPE_CHECKING:
    from getty_tx.http.two.connection import Connection
    from getty_tx.http.two.limits import Times
    from getty_tx.wheel import WheelTimer

__all__ = ["KEEPALIVE", "Watch"]

log = Logger()

#: What a PING holds that asks whether the peer is there.
KEEPALIVE = b"\0\0\0alive"


class Watch:
    """
    Ends what takes too long. Nothing is written down while frames come: a look compares with the one before.

    :param connection: the connection.
    :param times: how long is too long.
    """

    __slots__ = ("_connection", "_isOn", "_mark", "_markAt", "_pingAt", "_stalled", "_timer", "_times")

    def __init__(self, connection: Connection, times: Times) -> None:
        self._connection = connection
        self._times = times
        self._timer: WheelTimer | None = None
        # The connection is open, and no look is under way.
        self._isOn = False
        # The frame that had begun at the last look, and since when.
        self._mark: int | None = None
        self._markAt = 0.0
        # When the PING was sent that waits for its answer; 0: there is none.
        self._pingAt = 0.0
        # Since when streams wait for credit, and how much they had then.
        self._stalled: dict[int, tuple[float, int]] = {}

    def start(self) -> None:
        """The connection is open."""
        self.look()

    def stop(self) -> None:
        """The connection has ended."""
        self._isOn = False
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def hurry(self, delay: float) -> None:
        """Look in ``delay`` seconds at the latest."""
        timer = self._timer
        if timer is not None:
            if timer.left > delay:
                timer.reset(delay)
        elif self._isOn:
            # Nothing had a limit so far.
            self._timer = self._connection.session.context.wheel.schedule(delay, _look, self)

    def look(self) -> None:
        """Timer callback: end what takes too long."""
        connection = self._connection
        session = connection.session
        self._timer = None
        self._isOn = False
        now = connection.seconds()
        left = inf
        for check in (self._frames, self._pings, self._streams, connection.look):
            if session.isClosed:
                return
            left = min(left, check(now))
        if session.isClosed:
            return
        self._isOn = True
        if left < inf:
            self._timer = session.context.wheel.schedule(max(left, TICK), _look, self)

    def creditCame(self, stream: int) -> None:
        """The peer takes more data of a stream."""
        if self._stalled:
            self._stalled.pop(stream, None)

    def _frames(self, now: float) -> float:
        limit = self._times.frameTimeout
        if limit is None:
            return inf
        guard = self._connection.guard
        if not guard.isWithin:
            self._mark = None
            return limit
        if guard.mark != self._mark:
            self._mark = guard.mark
            self._markAt = now
            return limit
        left = self._markAt + limit - now
        if left <= 0:
            reason = f"the rest of a frame has not come within {limit:g} seconds"
            self._connection.fail(ConnectionFault(ErrorCode.PROTOCOL_ERROR, reason))
        return left

    def _pings(self, now: float) -> float:
        times = self._times
        interval = times.pingInterval
        if interval is None:
            return inf
        connection = self._connection
        session = connection.session
        if self._pingAt:
            if session.activeAt < self._pingAt:
                left = self._pingAt + times.pingTimeout - now
                if left <= 0:
                    connection.drop(SessionError(f"{session}: no answer to PING in {times.pingTimeout:g} seconds"))
                return left
            self._pingAt = 0.0
        left = session.activeAt + interval - now
        if left > 0:
            return left
        if connection.streams or times.pingIdle:
            self._pingAt = now
            connection.engine.ping(KEEPALIVE)
            connection.touch()
            return times.pingTimeout
        return interval

    def _streams(self, now: float) -> float:
        limit = self._times.stallTimeout
        if limit is None:
            return inf
        connection = self._connection
        stalled, self._stalled = self._stalled, {}
        if connection.waitsForSession:
            # The client takes nothing of the connection: that is the affair of writeTimeout.
            return limit
        engine = connection.engine
        left = limit
        for number, stream in list(connection.streams.items()):
            if not engine.waiting(number):
                continue
            since, credit = stalled.get(number, (now, -1))
            present = engine.credit(number)
            if credit != present:
                # It had more, and has sent that; or it was not looked at.
                since = now
            elif now - since >= limit:
                log.debug("{stream}: no credit for {limit} seconds", stream=stream, limit=limit)
                stream.reset(ErrorCode.CANCEL)
                continue
            self._stalled[number] = since, present
            left = min(left, since + limit - now)
        return left


def _look(watch: Watch) -> None:
    watch.look()
