"""
What the engine on h2 knows of a stream: what is to be sent, and whether what came is right.

h2 ends a connection for a message that is wrong, where RFC 9113 (8.1.1) wants its stream to end alone. So it does not
look by itself, and is asked here.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers

from getty_tx.http.two.errors import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import Headers

__all__ = ["Out", "checkFrame", "isRight"]


class Out:
    """
    What is to be sent on an open stream, and which of its sides have ended.

    :ivar left: bytes of data that are to come, by Content-Length; None: it does not say; -1: there can be none yet.
    :ivar hasHead: the head of the peer's message has come.
    :ivar isWrong: what comes next on it is not to be told, and ends it.
    :ivar isHead: on a client, the request is HEAD: its answer has no data, whatever its length is.
    """

    __slots__ = ("hasEnded", "hasHead", "isHead", "isLast", "isWrong", "left", "parts", "peerEnded", "size", "trailers")

    def __init__(self) -> None:
        self.parts: deque[bytes] = deque()
        self.size = 0
        self.isLast = self.hasEnded = self.peerEnded = self.isHead = self.hasHead = self.isWrong = False
        self.trailers: Headers | None = None
        self.left: int | None = None

    def begin(self, headers: Headers, isAnswer: bool, isLast: bool) -> bool:
        """
        The peer's message has begun.

        :param isLast: it has no body.
        :return: it is right.
        """
        self.hasHead = True
        hasNoBody = self.isHead or (b":status", b"304") in headers
        self.left = None if hasNoBody else _lengthOf(headers)
        return isRight(headers, isAnswer) and not (isLast and self.left)

    def fits(self, frame: bytes) -> bool:
        """Whether a DATA frame is no more than Content-Length says, and the last one no less (RFC 9113, 8.1.1)."""
        if self.left is None or self.peerEnded:
            return True
        size = len(frame) - 9
        if frame[4] & _PADDED:
            size -= 1 + (frame[9] if size else 0)
        if size < 0:
            # More padding than there is, which h2 finds.
            return True
        self.left -= size
        return self.left >= 0 and not (self.left and frame[4] & _END_STREAM)

    def ended(self, frame: bytes) -> bytes:
        """
        A HEADERS frame for h2. Trailers that end nothing are a fault of the stream, and of the connection to h2: so it
        is made to see an end, and they are not told.
        """
        if self.hasHead and not frame[4] & _END_STREAM:
            self.isWrong = True
            return frame[:4] + bytes((frame[4] | _END_STREAM,)) + frame[5:]
        return frame


# What the name and the value of a field may be (RFC 9110, 5), and the values of pseudo-header fields (RFC 9113, 8.3).
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PSEUDO = {
    b":method": re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
    b":scheme": re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*"),
    b":path": re.compile(rb"[\x21-\x7e\x80-\xff]+"),
    b":authority": re.compile(rb"[A-Za-z0-9!$%&'()*+,.:;=@\[\]_~-]*"),
    b":status": re.compile(rb"[0-9]{3}"),
}

#: Bytes of the frames that have one size (RFC 9113, 6): RST_STREAM, PING and WINDOW_UPDATE.
_SIZES = {3: 4, 6: 8, 8: 4}
_SETTINGS, _GOAWAY, _CONTINUATION = 4, 7, 9
_ACK = _END_STREAM = 1
_PADDED = 8


def checkFrame(frame: bytes) -> None:
    """
    Look at a frame that is not within a block: h2 takes what is wrong for another fault than RFC 9113 does.

    :raise ConnectionFault: it has not the size that its kind has, or belongs to a block.
    """
    kind = frame[3]
    if kind == _CONTINUATION:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of no block")
    size = len(frame) - 9
    if kind == _SETTINGS:
        isRightSize = not size if frame[4] & _ACK else size % 6 == 0
    elif kind == _GOAWAY:
        isRightSize = size >= 8
    else:
        isRightSize = size == _SIZES.get(kind, size)
    if not isRightSize:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of kind {kind} has {size} bytes")


def isRight(headers: Headers, isAnswer: bool = False, isTrailers: bool = False) -> bool:
    """Whether the fields of a request, an answer or of trailers are those that there may be."""
    flags = HeaderValidationFlags(
        is_client=isAnswer, is_trailer=isTrailers, is_response_header=isAnswer, is_push_promise=False
    )
    names = [name for name, _ in headers]
    if names.count(b"content-length") > 1 or names.count(b"host") > 1:
        return False
    authority = dict(headers).get(b":authority")
    if authority is not None:
        # One that differs is a right request with two hosts, which who serves it refuses.
        headers = [pair if pair[0] != b"host" else (b"host", authority) for pair in headers]
    if not all(_isPairRight(*pair) for pair in headers):
        return False
    if not (isAnswer or isTrailers or _isPathRight(headers)):
        return False
    try:
        for _ in validate_headers(headers, flags):
            pass
    except ProtocolError:
        return False
    return True


def _isPairRight(name: bytes, value: bytes) -> bool:
    """Whether a field has the bytes that it may have, which h2 does not look at for all."""
    if name[:1] == b":":
        pattern = _PSEUDO.get(name)
        return pattern is not None and pattern.fullmatch(value) is not None
    return _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


def _isPathRight(headers: Headers) -> bool:
    """Whether the path of a request begins with a slash, or is that of OPTIONS (RFC 9113, 8.3.1)."""
    path = next((value for name, value in headers if name == b":path"), b"/")
    return path[:1] == b"/" or (path == b"*" and (b":method", b"OPTIONS") in headers)


def _lengthOf(headers: Headers) -> int | None:
    """What Content-Length says; None: nothing. h2 has looked whether it is a number."""
    return next((int(value) for name, value in headers if name == b"content-length"), None)
