"""
What a peer may waste: budgets for frames that cost time and carry nothing.

Engines check that frames are valid. This looks at the heads of the frames, before the engine has them, for what is
valid and too much: each budget is named after the attack that it ends. The numbers are those of other servers, which
are named with them.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from getty_tx.http.two.errors import ConnectionFault, ErrorCode
from getty_tx.http.two.numbers import Numbers
from getty_tx.session.ratelimit import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PREFACE", "Guard"]

#: What a client sends first (RFC 9113, 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Streams that may be reset before they have ended, at once, and in a second (CVE-2023-44487, rapid reset;
#: CVE-2025-8671, where the client has the server reset them). gunicorn takes 200 in 10 seconds.
RESETS, RESETS_RATE = 200, 20

#: Frames without a use, at once, and in a second: PING, SETTINGS, PRIORITY, unknown types, and data of less than TINY
#: bytes (CVE-2019-9511 to 9518). nghttp2 has 10,000 and 330, Envoy 1,000 answers that wait.
USELESS, USELESS_RATE = 1000, 300

#: Bytes of a DATA frame below which it counts as such: the least that gRPC sends is 5, so they are not many.
TINY = 5

#: Empty DATA frames that end nothing, of a connection; hyper has the same.
EMPTY = 100

#: WINDOW_UPDATE frames: some, more for each stream, and one for so many bytes that were sent: clients of gRPC send two
#: for each message, whose frame has 14 bytes at least. Envoy takes ten for a DATA frame.
UPDATES, UPDATES_A_STREAM, SENT_AN_UPDATE = 1000, 4, 7

#: Bytes of one header block, as it comes, HEADERS and CONTINUATION together; and CONTINUATION frames of it (VU#421644,
#: CONTINUATION flood). nghttp2 takes as many, h2 64.
MAX_BLOCK, MAX_CONTINUATIONS = 64 * 1024, 8

#: Entries of a SETTINGS frame, of six bytes each; nghttp2 has the same, Go 100.
MAX_SETTINGS = 32

#: A flood, to nginx: more than eight times as many bytes as they carry, above 1 MiB.
_SHARE, _SPARE = 8, 1024 * 1024

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)

# The head of a frame: the length in two parts, the kind, the flags, and the number of the stream behind a bit without a
# meaning. All small numbers, which Python reckons with faster than with one of nine bytes.
_HEAD = Struct(">BHBBI").unpack_from
_END_STREAM, _END_HEADERS = 1, 4
_NUMBER = 2**31 - 1


class Guard:
    """
    Reads the heads of the frames of one connection.

    :param seconds: the clock.
    :param skip: bytes before the first frame, which is the length of the preface on a server.

    :ivar opened: HEADERS frames that have come.
    :ivar sent: bytes that were sent; who sends counts them.
    """

    __slots__ = (
        "_block",
        "_blockParts",
        "_carried",
        "_empty",
        "_left",
        "_numbers",
        "_part",
        "_resets",
        "_total",
        "_updates",
        "_useless",
        "opened",
        "sent",
    )

    def __init__(self, seconds: Callable[[], float], skip: int = 0) -> None:
        # Bytes of the present frame that have not come, or of the preface; and the head of a frame that came in parts.
        self._left = skip
        self._part = b""
        self._numbers = Numbers(skip > 0)
        self._resets = TokenBucket(RESETS_RATE, RESETS, seconds)
        self._useless = TokenBucket(USELESS_RATE, USELESS, seconds)
        self._block = self._blockParts = self._total = self._carried = self._empty = self._updates = 0
        self.opened = self.sent = 0

    @property
    def isWithin(self) -> bool:
        """A frame, or a header block, has begun and not ended."""
        return self._left > 0 or bool(self._part) or self._blockParts > 0

    @property
    def mark(self) -> int:
        """While ``isWithin`` is true, a number that is another one for the next frame or header block."""
        return -self.opened if self._blockParts else self._total

    def look(self, data: bytes) -> None:
        """
        Look at what has come.

        :raise ConnectionFault: it is too much of what has no use, or on a stream that cannot have it.
        """
        at = self._left
        end = len(data)
        if at > end:
            self._left = at - end
            return
        if self._part:
            data = self._part + data
            end = len(data)
            self._part = b""
        numbers = self._numbers
        start, last, carried = at, end - 9, 0
        while at <= last:
            high, length, kind, flags, number = _HEAD(data, at)
            if high or number > _NUMBER:
                length += high << 16
                number &= _NUMBER
            at += 9 + length
            if kind == _DATA:
                carried += length
                if length < TINY and not flags & _END_STREAM:
                    self._tiny(length)
                numbers.data(number, flags & _END_STREAM)
            elif kind == _HEADERS:
                carried += length
                self.opened += 1
                if self._blockParts or not flags & _END_HEADERS or length > MAX_BLOCK:
                    # Not all of a block in one frame.
                    self._headers(length, flags & _END_HEADERS)
                numbers.headers(number, flags & _END_STREAM)
            elif kind == _CONTINUATION:
                carried += length
                self._headers(length, flags & _END_HEADERS)
            elif kind == _WINDOW_UPDATE:
                self._updates += 1
                if self._updates > UPDATES + UPDATES_A_STREAM * self.opened + self.sent // SENT_AN_UPDATE:
                    raise _calm("WINDOW_UPDATE frames")
            elif kind == _RST_STREAM:
                numbers.reset(number)
            elif kind != _GOAWAY:
                self._others(kind, length, number)
        self._carried += carried
        self._total += at - start
        if self._total > _SPARE and self._total // _SHARE > self._carried + _SPARE:
            raise _calm("bytes that carry nothing")
        if at < end:
            self._part = data[at:]
            self._left = 0
        else:
            self._left = at - end

    def _others(self, kind: int, length: int, number: int) -> None:
        self.useless()
        if kind == _PRIORITY and not number:
            # nghttp2 looks at no priorities of RFC 7540, and so not at this rule (RFC 9113, 6.3).
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a PRIORITY frame of no stream")
        if kind == _SETTINGS and length > MAX_SETTINGS * 6:
            raise _calm(f"entries of a SETTINGS frame: {MAX_SETTINGS} are taken")

    def _tiny(self, length: int) -> None:
        if not length:
            self._empty += 1
            if self._empty > EMPTY:
                raise _calm("empty DATA frames")
        self.useless("DATA frames of a few bytes")

    def _headers(self, length: int, isWhole: int) -> None:
        self._block += length
        self._blockParts += 1
        if self._block > MAX_BLOCK:
            raise _calm(f"bytes of one header block: {MAX_BLOCK} are taken")
        if self._blockParts > 1 + MAX_CONTINUATIONS:
            raise _calm(f"CONTINUATION frames: {MAX_CONTINUATIONS} are taken")
        if isWhole:
            self._block = self._blockParts = 0

    def useless(self, what: str = "frames without a use") -> None:
        """A frame had no use. :raise ConnectionFault: it was one too many."""
        if self._useless.spend(1) < 0:
            raise _calm(what)

    def streamReset(self) -> None:
        """A stream was reset for what the peer did. :raise ConnectionFault: it was one too many."""
        if self._resets.spend(1) < 0:
            raise _calm("streams that were reset")


def _calm(what: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")
