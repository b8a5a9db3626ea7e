"""The connections of a server: who serves each stream, what too many are, and how a connection ends."""

from __future__ import annotations

from math import inf
from random import random
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.http.two.connection import Connection
from getty_tx.http.two.errors import ErrorCode
from getty_tx.http.two.limits import Times
from getty_tx.interfaces import IDrainingListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.stream import Stream
    from getty_tx.session.session import Session

__all__ = ["ServerConnection"]

log = Logger()

#: What a PING holds whose answer comes behind all streams that the client has opened before it knew of the end; and
#: seconds for that answer. grpc-go has the same.
DRAIN, DRAIN_TIMEOUT = b"\0\0\0drain", 5.0

#: The part of ``maxAge`` by which connections differ, so that their clients do not come back all at once.
JITTER = 0.1


@implementer(IDrainingListener)
class ServerConnection(Connection):
    """
    Serves the streams that the client opens.

    :param newStream: makes the :py:class:`~getty_tx.http.two.stream.Stream` of a request:
        ``newStream(connection, number, headers, isLast)``.
    :param times: how long what may take.

    :ivar isDraining: the client was told to open no more streams here.
    :ivar running: streams that are served; one whose client has reset it counts until ``served``.
    """

    __slots__ = (
        "_age",
        "_drainsAt",
        "_fresh",
        "_idleSince",
        "_maxStreams",
        "_newStream",
        "_opened",
        "_times",
        "isDraining",
        "running",
    )

    def __init__(
        self,
        session: Session,
        limits: Limits,
        newStream: Callable[[ServerConnection, int, Headers, bool], Stream],
        times: Times = Times(),  # noqa: B008
    ) -> None:
        super().__init__(session, limits, True, times)
        self._newStream = newStream
        self._maxStreams = limits.maxStreams
        self._times = times
        self._fresh: list[Stream] = []
        self.running = 0
        self.isDraining = False
        # When the last id is said, though no answer has come; infinite: it is not to be, or was.
        self._drainsAt = inf
        # Streams that had come at the last look, and since when there are no more.
        self._opened = 0
        self._idleSince = now = self.seconds()
        # When the connection is too old; in a second step when its last streams are.
        self._age = inf if times.maxAge is None else now + times.maxAge * (1 - JITTER + 2 * JITTER * random())

    def headersCame(self, stream: int, headers: Headers, isLast: bool) -> None:
        """A request."""
        self.last = stream
        if self.running >= self._maxStreams or len(self.streams) >= self._maxStreams:
            # Engines do not count: nghttp2 ends the connection.
            self.engine.reset(stream, ErrorCode.REFUSED_STREAM)
            if len(self.streams) < self._maxStreams:
                # Handlers of streams that were reset still run.
                self.guard.streamReset()
            return
        self.running += 1
        try:
            made = self._newStream(self, stream, headers, isLast)
        except Exception:
            log.failure("{connection}: no stream for a request", connection=self)
            self.running -= 1
            self.engine.reset(stream, ErrorCode.INTERNAL_ERROR)
            return
        self.streams[stream] = made
        self._fresh.append(made)

    def received(self) -> None:
        """Serve the requests of one read, with as much of their bodies as has come."""
        fresh = self._fresh
        if fresh:
            self._fresh = []
            for stream in fresh:
                try:
                    stream.begin()
                except Exception:
                    self._failed(stream)

    def served(self) -> None:
        """The handler of a stream has ended."""
        self.running -= 1

    # Ends

    def drain(self) -> None:
        """
        Accept no more streams, and close when the last one has ended. Any number of calls.

        The client is told twice: at first that the end is near, so that what it has sent until it knows is served;
        then, when it has answered a PING, or has not for :py:data:`DRAIN_TIMEOUT`, which stream is the last.
        """
        if self.isDraining:
            return
        self.isDraining = True
        self.engine.warn()
        # Engines may send a PING ahead of what waits: its answer would say nothing.
        self.flush()
        self.engine.ping(DRAIN)
        self._drainsAt = self.seconds() + DRAIN_TIMEOUT
        self.watch.hurry(DRAIN_TIMEOUT)
        self.flush()

    def pongCame(self, data: bytes) -> None:
        """The client has answered, and knows that the end is near."""
        if data == DRAIN and self._drainsAt < inf:
            self._sayLast()

    def _sayLast(self) -> None:
        self._drainsAt = inf
        self.goesAway = self.isEnding = True
        self.engine.goAway(ErrorCode.NO_ERROR)
        self.touch()

    def look(self, now: float) -> float:
        """Drain what is idle, or too old."""
        left = min(self._lookAtAge(now), self._lookAtIdle(now))
        if self._drainsAt < inf:
            if now >= self._drainsAt:
                self._sayLast()
            else:
                left = min(left, self._drainsAt - now)
        return left

    def _lookAtAge(self, now: float) -> float:
        if self._age > now:
            return self._age - now
        if self.isDraining:
            self.session.close(f"it is older than {self._times.maxAge} seconds")
            return inf
        grace = self._times.maxAgeGrace
        self._age = inf if grace is None else now + grace
        self.drain()
        return min(self._age - now, DRAIN_TIMEOUT)

    def _lookAtIdle(self, now: float) -> float:
        limit = self._times.keepAlive
        if limit is None:
            return inf
        opened = self.guard.opened
        if self.streams or opened != self._opened:
            self._opened = opened
            self._idleSince = now
            return limit
        left = self._idleSince + limit - now
        if left <= 0 and not self.isEnding:
            self._sayLast()
            return limit
        return left
