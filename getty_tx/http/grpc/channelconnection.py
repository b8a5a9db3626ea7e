"""One connection of a channel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.http.grpc.messages import ENCODINGS
from getty_tx.http.grpc.status import Code
from getty_tx.http.grpc.targets import authorityOf
from getty_tx.http.two.client import ClientConnection
from getty_tx.http.two.errors import ErrorCode
from getty_tx.session.deadlines import Deadlines
from getty_tx.status.calls import SAMPLED, CallTotals

if TYPE_CHECKING:
    from getty_tx.client.outliers import Tally
    from getty_tx.http.grpc.channel import Channel
    from getty_tx.http.grpc.stubs import StubMethod
    from getty_tx.http.two.interfaces import Headers
    from getty_tx.session.session import Session

__all__ = ["ChannelConnection"]

log = Logger()

#: Methods that are counted by name; the others are counted together.
MAX_COUNTED = 1000

#: Codes that say that the provider is not well, by the names that outliers have for them.
_UNWELL = {
    Code.UNAVAILABLE: "lost",
    Code.DEADLINE_EXCEEDED: "deadline",
    Code.RESOURCE_EXHAUSTED: "refused",
    Code.INTERNAL: "internal",
    Code.CANCELLED: "cancelled",
}


class ChannelConnection(ClientConnection):
    """
    A connection with the streams of calls.

    :param channel: the channel.

    :ivar deadlines: those of the calls.
    :ivar takesCalls: the peer has said its settings, and takes calls.
    :ivar tally: counts the calls of its provider, where outliers are looked for.
    :ivar sampled: calls of which no bit of the number is here are measured.
    """

    __slots__ = ("_called", "_channel", "_heads", "_peer", "deadlines", "sampled", "takesCalls", "tally")

    def __init__(self, session: Session, channel: Channel) -> None:
        super().__init__(session, channel.limits, channel.times)
        self._channel = channel
        self.deadlines = Deadlines(session.context, self.streams, _expired)
        self.takesCalls = False
        self.tally: Tally | None = None
        self.sampled = SAMPLED
        self._called: dict[str, CallTotals] = session.context.calls.setdefault("client", {})
        self._heads: dict[StubMethod, Headers] = {}
        self._peer: tuple[bytes, bytes] | None = None

    def headOf(self, method: StubMethod) -> Headers:
        """The fields that all calls of a method have."""
        found = self._heads.get(method)
        if found is None:
            if self._peer is None:
                provider = self._channel.pool.providerOf(self.session)
                destination = self._channel.pool.destination if provider is None else provider.destination
                self._peer = authorityOf(destination)
            scheme, authority = self._peer
            found = (
                (b":method", b"POST"),
                (b":scheme", scheme),
                (b":path", method.rawPath),
                (b":authority", self._channel.authority or authority),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"user-agent", self._channel.userAgent),
                (b"grpc-accept-encoding", ENCODINGS),
            )
            if len(self._heads) < MAX_COUNTED:
                self._heads[method] = found
        return found

    def totalsOf(self, name: str) -> CallTotals:
        """The counters of a method."""
        found = self._called.get(name)
        if found is None:
            found = self._called.setdefault(name if len(self._called) < MAX_COUNTED else "", CallTotals())
        return found

    def counted(self, code: Code) -> None:
        """A call has ended with this code."""
        assert self.tally is not None
        self.tally.failed(_UNWELL.get(code, ""))

    def hasCalls(self) -> bool:
        """A call is open, or waits."""
        return any(stream.status is None for stream in self._calls())

    def _calls(self) -> list[Any]:
        return [*self.streams.values(), *(each[0] for each in self._queue)]

    # The connection's events

    def ready(self) -> None:
        """The peer takes calls."""
        if not self.goesAway:
            self.takesCalls = True
            self._channel.opened(self)

    def leaving(self) -> None:
        """The peer takes no more calls: have another connection in place of this one."""
        self.takesCalls = False
        self._channel.closed(self)
        self._channel.pool.replace(self.session)

    def goingAway(self, last: int, code: int, text: bytes) -> None:
        """The peer takes no more calls; it may be for pings that come too often (proposal A8 of gRPC)."""
        channel = self._channel
        interval = channel.times.pingInterval
        if code == ErrorCode.ENHANCE_YOUR_CALM and text == b"too_many_pings" and interval is not None:
            channel.times = replace(channel.times, pingInterval=2 * interval)
            log.warn(
                "{session}: too many pings for the server: from now on each {seconds:g} s",
                session=self.session,
                seconds=2 * interval,
            )
        super().goingAway(last, code, text)

    def onClose(self, session: Session) -> None:
        """The connection has ended, and so have its calls."""
        self.takesCalls = False
        if not self.goesAway:
            self._channel.closed(self)
        self.deadlines.stop()
        super().onClose(session)


def _expired(call: Any, timeout: float) -> None:
    call.expire()
