"""The chunked transfer coding of a request's body (RFC 9112, 7.1), read strictly."""

from __future__ import annotations

import re

from getty_tx.http.body import BodyPart
from getty_tx.http.refusals import Refused

__all__ = ["Chunks"]

#: Bytes of a line with the size of a chunk; Go's limit.
MAX_LINE = 4096

#: Bytes of framing beyond those of the body, at most: without a limit, extensions cost a server far more than they
#: carry (CVE-2023-39326). Go and hyper have the same.
MAX_FRAMING = 16 * 1024

#: A size, and extensions as RFC 9112, 7.1.1, has them: a name, which a token or a quoted string in ASCII may follow.
#: Fifteen digits are below 2**60.
_SIZE = re.compile(
    rb"""([0-9A-Fa-f]{1,15})
    (?:[ \t]*+;[ \t]*+[!\#$%&'*+.^_`|~0-9A-Za-z-]++
        (?:[ \t]*+=[ \t]*+(?:[!\#$%&'*+.^_`|~0-9A-Za-z-]++|"(?:[\t !\#-\[\]-~]|\\[\t -~])*+"))?+
    )*+\r\n""",
    re.VERBOSE,
)

#: A trailer field: what RFC 9110 allows in a name and in a value; 0x85 is refused as in heads.
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\x84\x86-\xff]*)\r\n")

#: Fields that say how the message is read or who sends it: they are dropped behind a body.
_DROPPED = frozenset({b"host", b"authorization", b"cookie", b"te", b"trailer", b"transfer-encoding"})

_MALFORMED = "the body is not in chunks as RFC 9112 has them"


class Chunks:
    """
    Reads the chunks of one body.

    :param maxTrailers: bytes of trailers, at most.
    :param maxFields: fields of trailers, at most.
    """

    __slots__ = ("_framing", "_left", "_maxFields", "_maxTrailers", "_trailerSize", "_trailers")

    def __init__(self, maxTrailers: int, maxFields: int) -> None:
        self._maxTrailers = maxTrailers
        self._maxFields = maxFields
        # Bytes that are left of a chunk and its end of line; 0: a size follows.
        self._left = 0
        self._framing = -MAX_FRAMING
        self._trailers: list[tuple[bytes, bytes]] | None = None
        self._trailerSize = 0

    def read(self, data: bytes) -> tuple[BodyPart | None, int]:
        """
        Read what is complete.

        :return: a part and the bytes that it took; (None, 0) where no line is complete.
        :raise Refused: the bytes are no chunks.
        """
        parts: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._trailers is not None:
                stop = self._readTrailer(data, at)
                if not stop:
                    break
                at = stop
                if self._left < 0:
                    return BodyPart(b"".join(parts), True, self._trailers), at
            elif self._left > 2:
                piece = data[at : at + self._left - 2]
                parts.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._framing -= len(piece)
            elif self._left:
                if data[at] != (13, 10)[2 - self._left]:
                    raise Refused(400, _MALFORMED)
                at += 1
                self._left -= 1
            else:
                stop = self._readSize(data, at)
                if not stop:
                    break
                at = stop
        return (BodyPart(b"".join(parts), False), at) if at else (None, 0)

    def _readSize(self, data: bytes, at: int) -> int:
        """The line with the size of a chunk; returns its end, 0: it is not complete."""
        found = _SIZE.match(data, at, at + MAX_LINE)
        if found is None:
            if data.find(b"\n", at) >= 0 or len(data) - at >= MAX_LINE or not _PART_OF_SIZE.match(data, at):
                raise Refused(400, _MALFORMED)
            return 0
        self._framing += found.end() - at + 2
        if self._framing > 0:
            raise Refused(400, f"the framing of the body has {MAX_FRAMING} bytes more than the body")
        size = int(found[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = []
        return found.end()

    def _readTrailer(self, data: bytes, at: int) -> int:
        """A field behind the last chunk, or the empty line that ends the body; ``_left`` is -1 then."""
        assert self._trailers is not None
        if data.startswith(b"\r\n", at):
            self._left = -1
            return at + 2
        end = data.find(b"\r\n", at)
        size = (end + 2 if end >= 0 else len(data)) - at
        if self._trailerSize + size > self._maxTrailers:
            raise Refused(431, f"the trailers have more than {self._maxTrailers} bytes")
        if end < 0:
            if data.find(b"\n", at) >= 0:
                raise Refused(400, _MALFORMED)
            return 0
        found = _TRAILER.match(data, at)
        if found is None or found.end() != end + 2:
            raise Refused(400, "a trailer field is malformed")
        self._trailerSize += size
        self._maxFields -= 1
        if self._maxFields < 0:
            raise Refused(431, "there are too many trailer fields")
        name = found[1].lower()
        if name not in _DROPPED and not name.startswith(b"content-"):
            self._trailers.append((name, found[2].rstrip(b" \t")))
        return end + 2


#: What the line with a size may begin with, before its end has come.
_PART_OF_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:[ \t]*;[\t -~]*)?[ \t]*\r?)\Z")
