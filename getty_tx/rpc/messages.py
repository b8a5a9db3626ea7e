"""
What travels on a wire: the packages of its codec. Payloads are encoded already, or not yet decoded.

A wire says with :py:class:`Feature` which of them it can carry.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CREDIT",
    "DATA",
    "DROP",
    "END",
    "LAST",
    "MORE",
    "OPEN",
    "OVERHEAD",
    "RESET",
    "Cancel",
    "ErrorReply",
    "Feature",
    "GoingAway",
    "Ping",
    "Pong",
    "Reply",
    "Request",
    "Slice",
    "StreamFrame",
]

#: The kinds of a StreamFrame: a call with its arguments; a value; the end of one end's values, with the result if it is
#: the end of the method; an error for both ends; and bytes that may be sent besides.
OPEN, DATA, END, RESET, CREDIT = "2", "3", "4", "5", "6"

#: The kinds of a Slice: more are to come; the last one; and the others will not come, as the call has ended.
MORE, LAST, DROP = "7", "8", "9"


#: Bytes that a frame may have beside its payload, for the comparison with maxMsgLen.
OVERHEAD = 64


class Feature(Enum):
    """What a wire can say beside requests and replies."""

    CANCEL = "cancel"
    DEADLINE = "deadline"
    GOAWAY = "goaway"
    METADATA = "metadata"
    PING = "ping"
    SLICES = "slices"
    STREAM = "stream"


class Request:
    """
    A call.

    :ivar id: the number of the call; its reply has the same.
    :ivar name: ``Service/method``.
    :ivar payload: the arguments.
    :ivar timeout: seconds that are left for it, None for no limit.
    :ivar metadata: names and values, or None.
    :ivar isOneWay: nobody waits for a reply.
    """

    __slots__ = ("id", "isOneWay", "metadata", "name", "payload", "timeout")

    def __init__(
        self,
        id: int,
        name: str,
        payload: Any,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        isOneWay: bool = False,
    ) -> None:
        self.id = id
        self.name = name
        self.payload = payload
        self.timeout = timeout
        self.metadata = metadata
        self.isOneWay = isOneWay


class Reply:
    """The result of a call."""

    __slots__ = ("id", "metadata", "payload")

    def __init__(self, id: int, payload: Any, metadata: Mapping[str, str] | None = None) -> None:
        self.id = id
        self.payload = payload
        self.metadata = metadata


class ErrorReply:
    """
    A call has failed.

    :ivar code: one of those in :py:mod:`getty_tx.rpc.errors`, or the application's.
    :ivar details: as the payload of the wire can carry it, or None.
    :ivar isOfResult: the method was run, and its result cannot be sent. Of what is written only.
    """

    __slots__ = ("code", "details", "id", "isOfResult", "metadata", "text")

    def __init__(
        self,
        id: int,
        code: str,
        text: str,
        details: Any = None,
        metadata: Mapping[str, str] | None = None,
        isOfResult: bool = False,
    ) -> None:
        self.id = id
        self.code = code
        self.text = text
        self.details = details
        self.metadata = metadata
        self.isOfResult = isOfResult


class Slice:
    """
    A part of a long Request or Reply.

    :ivar id: the number of the call.
    :ivar isReply: it is a part of the reply.
    :ivar kind: MORE, LAST or DROP.
    :ivar payload: so much of the message's payload.
    :ivar whole: of LAST: the message.
    """

    __slots__ = ("id", "isReply", "kind", "payload", "whole")

    def __init__(self, id: int, isReply: bool, kind: str, payload: Any, whole: Request | Reply | None = None) -> None:
        self.id = id
        self.isReply = isReply
        self.kind = kind
        self.payload = payload
        self.whole = whole


class Cancel:
    """The caller waits no longer."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


class GoingAway:
    """
    The sender takes no new calls soon: no more should be sent to it. Those on their way are served.

    :ivar message: what came in the same frame, or None.
    """

    __slots__ = ("message",)

    def __init__(self, message: Any = None) -> None:
        self.message = message


class Ping:
    """A question whether the peer is there."""

    __slots__ = ()


class Pong:
    """The answer to a Ping."""

    __slots__ = ()


class StreamFrame:
    """
    A part of a stream.

    :ivar id: the number of the stream, which its opener has given.
    :ivar kind: OPEN, DATA, END, RESET or CREDIT.
    :ivar isReply: it comes from the end that has not opened the stream.
    :ivar name: of OPEN: ``Service/method``. ``timeout`` and ``metadata``: as those of a Request.
    :ivar error: of RESET: code, text and details.
    """

    __slots__ = ("error", "id", "isReply", "kind", "metadata", "name", "payload", "timeout")

    def __init__(
        self,
        id: int,
        kind: str,
        payload: bytes,
        isReply: bool = False,
        name: str = "",
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        error: tuple[str, str, Any] | None = None,
    ) -> None:
        self.id = id
        self.kind = kind
        self.payload = payload
        self.isReply = isReply
        self.name = name
        self.timeout = timeout
        self.metadata = metadata
        self.error = error
