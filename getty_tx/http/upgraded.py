"""``session.request`` of a WebSocket session on the port of HTTP."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from getty_tx.transports.websocket.requested import UpgradeRequest, Values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IAddress

    from getty_tx.http.request import Request

__all__ = ["WebSocketRequest"]


class WebSocketRequest(UpgradeRequest):
    """
    What a client asked for: as on a port for WebSocket alone, with the variables of the route.

    :param http: the request.
    :param peer: the client's address.

    :ivar http: the request, whose answer was 101.
    """

    def __init__(self, http: Request, peer: IAddress) -> None:
        super().__init__(b"", http.rawPath.decode("ascii"), peer)
        self.http = http

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables of the route's template: ``variables["room"]`` for ``/chat/{room}``."""
        return self.http.path

    @cached_property
    def queryString(self) -> str:
        """As UpgradeRequest's."""
        return self.http.queryString.decode("ascii")

    @cached_property
    def headers(self) -> Values:
        """As UpgradeRequest's."""
        fields = self.http.fields.headers
        return Values(((name.decode("ascii"), value.decode("latin-1")) for name, value in fields), isHead=True)
