"""
The errors that getty_tx raises or passes to ``onError``::

    GettyError
    +-- SettingError                a setting or an option is wrong (also a ValueError)
    +-- NoSessionError              the pool has no open session
    +-- NotReadyError               the pool was not ready in time, gave up, or was closed
    +-- SessionError                about one session, carried as .session
        +-- SessionClosedError      the session is closed, or closing
        +-- SessionBlockedError     more than maxPending bytes wait to be sent
        +-- ReadTimeoutError        nothing received for readTimeout seconds
        +-- IdleTimeoutError        nothing sent or received for idleTimeout seconds
        +-- WriteTimeoutError       bytes were not sent in time
        +-- HandshakeTimeoutError   TLS or WebSocket handshake not done in handshakeTimeout
        +-- SessionRefusedError     newSession refused the connection
            +-- RefuseRequest       the same, with the HTTP status that a WebSocket client gets
        +-- SelfConnectError        the connection leads to itself
        +-- UpgradeError            the WebSocket handshake was refused
        +-- PeerClosedError         the peer closed a WebSocket with an error code, or without a Close frame
        +-- NoPeerAddressError      a datagram without an address on an unconnected socket
        +-- CodecError              the bytes, the package or the codec's answer is invalid
            +-- MessageTooLongError a package is longer than maxMsgLen

Errors of the network itself are Twisted's (``twisted.internet.error``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CodecError",
    "GettyError",
    "HandshakeTimeoutError",
    "IdleTimeoutError",
    "MessageTooLongError",
    "NoPeerAddressError",
    "NoSessionError",
    "NotReadyError",
    "PeerClosedError",
    "ReadTimeoutError",
    "RefuseRequest",
    "SelfConnectError",
    "SessionBlockedError",
    "SessionClosedError",
    "SessionError",
    "SessionRefusedError",
    "SettingError",
    "UpgradeError",
    "WriteTimeoutError",
]


# A token of RFC 9110, section 5.6.2: the syntax of header names.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Fields that say where an answer ends; it has no body.
_FRAMING = frozenset(["connection", "content-length", "transfer-encoding"])


class GettyError(Exception):
    """The base class of getty_tx's errors."""


class SettingError(GettyError, ValueError):
    """A setting or an option has an invalid value; the text names both."""


class NoSessionError(GettyError):
    """The pool has no open session at present; wait for one with ``whenReady()``."""


class NotReadyError(GettyError):
    """The pool did not get the sessions that ``whenReady()`` waits for."""


class SessionError(GettyError):
    """
    An error about one session.

    :ivar session: the :py:class:`getty_tx.Session`; ``None`` only if a codec was called without one.
    """

    def __init__(self, message: str, session: Any = None) -> None:
        super().__init__(message)
        self.session = session


class SessionClosedError(SessionError):
    """The session is closed or closing: it takes no more packages, and some settings and calls are too late."""


class SessionBlockedError(SessionError):
    """The peer does not read: more than ``maxPending`` bytes are waiting to be sent."""


class ReadTimeoutError(SessionError):
    """Nothing was received for ``readTimeout`` seconds."""


class IdleTimeoutError(SessionError):
    """Nothing was sent or received for ``idleTimeout`` seconds."""


class WriteTimeoutError(SessionError):
    """Bytes were not sent in time: no progress for ``writeTimeout``, or ``writePkg``'s timeout passed."""


class HandshakeTimeoutError(SessionError):
    """The peer did not complete the TLS or WebSocket handshake in ``handshakeTimeout`` seconds."""


class SessionRefusedError(SessionError):
    """``newSession`` raised, and so refused the connection; the cause is chained."""


class RefuseRequest(SessionRefusedError):
    """
    Raise it in ``newSession`` to refuse the connection; a WebSocket handshake is answered with this status.

    On other transports, and in a client, it refuses as any other error does.

    :param status: of the HTTP answer: 400 to 599.
    :param reason: for the log and the status line; empty: the status's own phrase.
    :param headers: more header fields of the answer, such as ``{"Retry-After": "30"}``.
    :raise SettingError: one of them cannot stand in an answer.

    :ivar status: the status.
    :ivar reason: the reason.
    :ivar headers: the header fields.
    """

    def __init__(self, status: int, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            raise SettingError(f"status={status!r} refuses nothing: give one from 400 to 599")
        fields = dict(headers or {})
        if not (reason.isascii() and reason.isprintable()):
            raise SettingError(f"reason={reason!r} cannot stand in a status line: use printable ASCII")
        for name, value in fields.items():
            if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable()):
                raise SettingError(f"headers: {name!r}: {value!r} is no header field in printable ASCII")
            if name.lower() in _FRAMING:
                raise SettingError(f"headers: {name!r} is set by the answer itself: leave it out")
        super().__init__(f"newSession refused with {status} {reason}".rstrip())
        self.status = status
        self.reason = reason
        self.headers = fields


class SelfConnectError(SessionError):
    """Both ends of the connection are the same socket."""


class UpgradeError(SessionError):
    """The peer refused the WebSocket handshake, or its part of the handshake is invalid."""


class PeerClosedError(SessionError):
    """
    The peer closed a WebSocket with a code other than 1000 and 1001, or without a closing handshake.

    :ivar code: the code of its Close frame; 1006 if there was none.
    :ivar reason: the text of its Close frame.
    """

    def __init__(self, message: str, session: Any = None, code: int = 1006, reason: str = "") -> None:
        super().__init__(message, session)
        self.code = code
        self.reason = reason


class NoPeerAddressError(SessionError):
    """A datagram was written without an address on an unconnected socket."""


class CodecError(SessionError):
    """Bytes that are no package, a package that cannot be encoded, or an invalid result of a codec."""


class MessageTooLongError(CodecError):
    """A package is longer than ``maxMsgLen``, by its bytes or by its header."""
