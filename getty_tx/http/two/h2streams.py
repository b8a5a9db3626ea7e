"""
What the engine on h2 knows of a stream: what is to be sent, and whether what came is right.

h2 ends a connection for a message that is wrong, where RFC 9113 (8.1.1) wants its stream to end alone. So it does not
look by itself, and is asked here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from h2.exceptions import ProtocolError
from h2.utilities import HeaderValidationFlags, validate_headers

if TYPE_CHECKING:
    from getty_tx.http.two.interfaces import Headers

__all__ = ["Out", "isRight", "lengthOf"]


class Out:
    """
    What is to be sent on an open stream, and which of its sides have ended.

    :ivar left: bytes of data that are to come, by Content-Length; None: it does not say.
    :ivar isHead: on a client, the request is HEAD: its answer has no data, whatever its length is.
    """

    __slots__ = ("hasEnded", "isHead", "isLast", "left", "parts", "peerEnded", "size", "trailers")

    def __init__(self) -> None:
        self.parts: deque[bytes] = deque()
        self.size = 0
        self.isLast = self.hasEnded = self.peerEnded = self.isHead = False
        self.trailers: Headers | None = None
        self.left: int | None = None


def isRight(headers: Headers, isAnswer: bool = False, isTrailers: bool = False) -> bool:
    """Whether the fields of a request, an answer or of trailers are those that there may be."""
    flags = HeaderValidationFlags(
        is_client=isAnswer, is_trailer=isTrailers, is_response_header=isAnswer, is_push_promise=False
    )
    names = [name for name, _ in headers]
    if names.count(b"content-length") > 1 or names.count(b"host") > 1:
        return False
    if b":authority" in names:
        # One that differs is a right request with two hosts, which who serves it refuses.
        headers = [pair for pair in headers if pair[0] != b"host"]
    if not (isAnswer or isTrailers or _isPathRight(headers)):
        return False
    try:
        for _ in validate_headers(headers, flags):
            pass
    except ProtocolError:
        return False
    return True


def _isPathRight(headers: Headers) -> bool:
    """Whether the path of a request begins with a slash, or is that of OPTIONS (RFC 9113, 8.3.1)."""
    path = next((value for name, value in headers if name == b":path"), b"/")
    return path[:1] == b"/" or (path == b"*" and (b":method", b"OPTIONS") in headers)


def lengthOf(headers: Headers) -> int | None:
    """What Content-Length says; None: nothing. h2 has looked whether it is a number."""
    return next((int(value) for name, value in headers if name == b"content-length"), None)
