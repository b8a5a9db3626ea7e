"""What a handler gets besides the request, with the names of ``grpc.ServicerContext``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from getty_tx.http.grpc.servercall import ServerCall

__all__ = ["ServicerContext"]


class ServicerContext:
    """
    The call, for its handler.

    :param call: the call.
    """

    __slots__ = ("_call",)

    def __init__(self, call: ServerCall) -> None:
        self._call = call
