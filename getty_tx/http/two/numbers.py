"""
Which streams a client has opened and ended lately, for rules that libnghttp2 passes over.

A frame on a stream that its own sender has ended is a fault of the whole connection (RFC 9113, 5.1), and so is a stream
of a number below one before (5.1.1). Frames on streams that the server has reset are not: they may have been on their
way. Numbers from long ago are not known any more, and pass.
"""

from __future__ import annotations

from getty_tx.http.two.errors import ConnectionFault, ErrorCode

__all__ = ["Numbers"]

#: Streams that are known at least; as many again at most.
KEPT = 100


class Numbers:
    """The numbers of one connection."""

    __slots__ = ("_highest", "_lowest", "_older", "_recent")

    def __init__(self) -> None:
        # Whether the client has ended it, by number: the newest, and those before.
        self._recent: dict[int, bool] = {}
        self._older: dict[int, bool] = {}
        # All above the one, up to the other, are known.
        self._lowest = self._highest = 0

    def headers(self, stream: int, isLast: bool) -> None:
        """A HEADERS frame. :raise ConnectionFault: there can be none on this stream."""
        if stream > self._highest:
            self._highest = stream
            recent = self._recent
            if len(recent) >= KEPT:
                self._lowest = max(self._older, default=0)
                self._older = recent
                recent = self._recent = {}
            recent[stream] = isLast
            return
        if stream > self._lowest and stream not in self._recent and stream not in self._older:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"stream {stream} is opened behind {self._highest}")
        # Trailers.
        self.data(stream, isLast)

    def data(self, stream: int, isLast: bool) -> None:
        """A DATA frame. :raise ConnectionFault: the client has ended the stream before."""
        known = self._recent if stream in self._recent else self._older
        ended = known.get(stream)
        if ended:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, f"a frame on stream {stream}, which its sender has ended")
        if isLast and ended is not None:
            known[stream] = True

    def reset(self, stream: int) -> None:
        """A RST_STREAM frame."""
        known = self._recent if stream in self._recent else self._older
        if stream in known:
            known[stream] = True
