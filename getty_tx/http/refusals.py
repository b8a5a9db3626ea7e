"""Why a request is refused: the status of the answer, and a text for the client and the log."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["PHRASES", "Refused"]

#: The phrases of status lines, by status (RFC 9110).
PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}
PHRASES[413] = "Content Too Large"


class Refused(Exception):
    """
    What came is no request that is served; the connection ends with this answer.

    It is a package, too: the codec delivers it in the place of the request, so that requests before it are answered
    first.

    :ivar status: of the answer.
    :ivar reason: one sentence for the client and the log.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {PHRASES[status]}: {reason}")
        self.status = status
        self.reason = reason
