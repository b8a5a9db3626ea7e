"""Status codes of gRPC, and how a status looks in trailers."""

from __future__ import annotations

import re
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from getty_tx.http.two.errors import ErrorCode

__all__ = ["Code", "codeOf", "decodeText", "encodeText", "fromHTTP", "fromReset"]


class Code(IntEnum):
    """How a call has ended (doc/statuscodes.md of gRPC)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


#: HTTP statuses of answers without a ``grpc-status`` (doc/http-grpc-status-mapping.md); others are UNKNOWN. 400 and 431
#: are what servers answer to what they cannot read.
_OF_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    431: Code.INTERNAL,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}

#: Codes of RST_STREAM (PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping"); others are INTERNAL.
_OF_RESETS: dict[int, Code] = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}

#: What a message is encoded without: printable ASCII but the percent sign.
_TO_ENCODE = re.compile(rb"[^ -$&-~]")


def fromHTTP(status: int) -> Code:
    """The code of an answer that is not gRPC's."""
    return _OF_HTTP.get(status, Code.UNKNOWN)


def fromReset(code: int) -> Code:
    """The code of a stream that the peer has reset."""
    return _OF_RESETS.get(code, Code.INTERNAL)


def codeOf(value: bytes) -> Code:
    """The value of ``grpc-status``; what is none is UNKNOWN."""
    try:
        return Code(int(value)) if value.isdigit() else Code.UNKNOWN
    except ValueError:
        return Code.UNKNOWN


def encodeText(text: str) -> bytes:
    """A status message for ``grpc-message``: UTF-8, percent-encoded."""
    raw = text.encode("utf-8", "replace")
    return _TO_ENCODE.sub(lambda found: b"%%%02X" % found[0][0], raw)


def decodeText(value: bytes) -> str:
    """The value of ``grpc-message``. Broken encodings stay as they are: they are never an error."""
    return unquote_to_bytes(value).decode("utf-8", "replace")
