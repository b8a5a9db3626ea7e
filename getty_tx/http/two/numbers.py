"""
Which streams a peer has begun and ended lately, for rules that libnghttp2 passes over.

A frame on a stream that its own sender has ended is a fault of the whole connection (RFC 9113, 5.1), and so is a stream
that a client opens with a number below one before (5.1.1). Frames on streams that this side has reset are not: they may
have been on their way. Numbers from long ago are not known any more, and pass.
"""

from __future__ import annotations

from getty_tx.http.two.errors import ConnectionFault, ErrorCode

__all__ = ["Numbers"]

#: Streams that are known at least; as many again at most.
KEPT = 100


class Numbers:
    """
    The numbers of one connection.

    :param isServer: the peer is a client, which opens streams with numbers that rise. Servers answer in any order.
    """

    __slots__ = ("_highest", "_isServer", "_lowest", "_older", "_recent")

    def __init__(self, isServer: bool) -> None:
        self._isServer = isServer
        # Whether the peer has ended it, 0 or 1, by number: the newest, and those before.
        self._recent: dict[int, int] = {}
        self._older: dict[int, int] = {}
        # All above the one, up to the other, are known.
        self._lowest = self._highest = 0

    def headers(self, stream: int, isLast: int) -> None:
        """A HEADERS frame; ``isLast``: not 0. :raise ConnectionFault: there can be none on this stream."""
        if self._isServer and stream > self._highest:
            self._begin(stream, isLast)
            return
        isKnown = stream in self._recent or stream in self._older
        if not (self._isServer or isKnown):
            self._begin(stream, isLast)
            return
        if stream > self._lowest and not isKnown:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {stream} is opened behind {self._highest}")
        # Trailers.
        self.data(stream, isLast)

    def _begin(self, stream: int, isLast: int) -> None:
        self._highest = stream
        recent = self._recent
        if len(recent) >= KEPT:
            self._lowest = max(self._older, default=0)
            self._older = recent
            recent = self._recent = {}
        recent[stream] = isLast

    def data(self, stream: int, isLast: int) -> None:
        """A DATA frame. :raise ConnectionFault: the peer has ended the stream before."""
        known = self._recent
        ended = known.get(stream)
        if ended is None:
            known = self._older
            ended = known.get(stream)
        if ended:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"a frame on stream {stream}, which its sender has ended")
        if isLast and ended is not None:
            known[stream] = isLast

    def reset(self, stream: int) -> None:
        """A RST_STREAM frame."""
        known = self._recent if stream in self._recent else self._older
        if stream in known:
            known[stream] = 1
        elif not self._isServer:
            # A server may reset what it has not begun to answer.
            self._begin(stream, 1)
