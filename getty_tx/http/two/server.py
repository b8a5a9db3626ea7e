"""The connections of a server: who serves each stream, what too many are, and how a connection ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from getty_tx.http.two.connection import Connection
from getty_tx.http.two.errors import ErrorCode
from getty_tx.interfaces import IDrainingListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http.two.interfaces import Headers
    from getty_tx.http.two.limits import Limits
    from getty_tx.http.two.stream import Stream
    from getty_tx.session.session import Session

__all__ = ["ServerConnection"]


@implementer(IDrainingListener)
class ServerConnection(Connection):
    """
    Serves the streams that the client opens.

    :param newStream: makes the :py:class:`~getty_tx.http.two.stream.Stream` of a request:
        ``newStream(connection, number, headers, isLast)``.

    :ivar running: streams that are served; one whose client has reset it counts until ``served``.
    """

    __slots__ = ("_fresh", "_maxStreams", "_newStream", "running")

    def __init__(
        self,
        session: Session,
        limits: Limits,
        newStream: Callable[[ServerConnection, int, Headers, bool], Stream],
    ) -> None:
        super().__init__(session, limits, True)
        self._newStream = newStream
        self._maxStreams = limits.maxStreams
        self._fresh: list[Stream] = []
        self.running = 0

    def headersCame(self, stream: int, headers: Headers, isLast: bool) -> None:
        """A request."""
        if self.running >= self._maxStreams:
            # Handlers of streams that were reset still run.
            self.engine.reset(stream, ErrorCode.REFUSED_STREAM)
            return
        self.running += 1
        made = self._newStream(self, stream, headers, isLast)
        self.streams[stream] = made
        self._fresh.append(made)

    def received(self) -> None:
        """Serve the requests of one read, with as much of their bodies as has come."""
        fresh = self._fresh
        if fresh:
            self._fresh = []
            for stream in fresh:
                stream.begin()

    def drain(self) -> None:
        """Accept no more streams, and close when the last one has ended."""

    def served(self) -> None:
        """The handler of a stream has ended."""
        self.running -= 1
