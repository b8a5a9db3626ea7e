"""The errors of calls as statuses of gRPC."""

from __future__ import annotations

import re

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code
from getty_tx.rpc.errors import (
    CallCancelledError,
    CallLostError,
    CallRefusedError,
    CallTimeoutError,
    NoSuchMethodError,
    PayloadError,
    RpcError,
)

__all__ = ["CODE", "statusOf"]

#: The trailer with the code of a RemoteError that is not the name of a status.
CODE = "rpc-code"

#: What a value of metadata may be, and how long such a code is at most.
_PRINTABLE = re.compile(r"[!-~]{1,100}")

#: Characters of a text, each of which takes 12 bytes at most. Clients take 8 KiB or more of trailers.
_MOST_TEXT = 500

_CODES: dict[str, Code] = {
    CallTimeoutError.code: Code.DEADLINE_EXCEEDED,
    CallCancelledError.code: Code.CANCELLED,
    CallLostError.code: Code.UNAVAILABLE,
    CallRefusedError.code: Code.UNAVAILABLE,
    NoSuchMethodError.code: Code.UNIMPLEMENTED,
    PayloadError.code: Code.INVALID_ARGUMENT,
}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


#: By their names as in gRPC (``NOT_FOUND``), and as codes here (``notFound``), without what differs.
_BY_NAME = {_plain(code.name): code for code in Code if code is not Code.OK}


def statusOf(error: RpcError) -> StatusError:
    """
    The status that a client gets.

    A code which is the name of a status is that status. Any other is UNKNOWN, with the code as a trailer.
    """
    text = error.text if len(error.text) <= _MOST_TEXT else error.text[: _MOST_TEXT - 3] + "..."
    code = _CODES.get(error.code) or _BY_NAME.get(_plain(error.code))
    if code is not None:
        return StatusError(code, text)
    trailers = ((CODE, error.code),) if _PRINTABLE.fullmatch(error.code) else ()
    return StatusError(Code.UNKNOWN, text, trailers=trailers)
