"""What ends streams and connections of HTTP/2: codes and exceptions."""

from __future__ import annotations

from enum import IntEnum

from getty_tx.errors import GettyError

__all__ = ["ConnectionFault", "ErrorCode", "StreamRefused", "StreamReset", "goAwayFrame"]


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


_NAMES: dict[int, str] = {code.value: code.name for code in ErrorCode}


class ConnectionFault(GettyError):
    """
    The peer breaks a rule of the whole connection, which ends.

    :ivar code: what the peer is told, an :py:class:`ErrorCode`.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamRefused(GettyError):
    """No stream can be opened on this connection now."""


class StreamReset(GettyError):
    """
    The peer has ended a stream.

    :ivar code: why, an :py:class:`ErrorCode` or another number.
    """

    def __init__(self, code: int) -> None:
        name = _NAMES.get(code, str(code))
        super().__init__(f"the peer has ended the stream: {name}")
        self.code = code


def goAwayFrame(code: int, last: int, text: bytes = b"") -> bytes:
    """
    A GOAWAY frame, for connections whose engine makes none (RFC 9113, 6.8).

    :param last: the number of the last stream that was served.
    """
    length = (8 + len(text)).to_bytes(3, "big")
    return b"%b\x07\0\0\0\0\0%b%b%b" % (length, last.to_bytes(4, "big"), code.to_bytes(4, "big"), text)
