"""What calls of gRPC fail with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from getty_tx.errors import GettyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from getty_tx.http.grpc.status import Code

    Metadata = Sequence[tuple[str, str | bytes]]

__all__ = ["StatusError"]


class StatusError(GettyError):
    """
    A call has ended with a status that is not OK; raised by a handler it is the call's status.

    :param code: the :py:class:`~getty_tx.http.grpc.status.Code`.
    :param text: what happened, for people.
    :param details: ``grpc-status-details-bin``: a ``google.rpc.Status`` in bytes; empty: there is none.
    :param trailers: the metadata behind the answer: pairs of a name and a str, or bytes where the name ends with
        ``-bin``.
    :param sent: whether the request may have reached the peer. If it is False, the method was surely not run.

    :ivar code: as given; ``text``, ``details``, ``trailers`` and ``sent``, too.
    """

    def __init__(
        self, code: Code, text: str = "", details: bytes = b"", trailers: Metadata = (), *, sent: bool = True
    ) -> None:
        super().__init__(f"{code.name}: {text}" if text else code.name)
        self.code = code
        self.text = text
        self.details = details
        self.trailers = tuple(trailers)
        self.sent = sent
