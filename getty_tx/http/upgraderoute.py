"""Routes for WebSocket sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import RefuseRequest, SettingError
from getty_tx.http.interfaces import IApplication
from getty_tx.http.upgrade import UPGRADE_REQUIRED, WebSocketUpgrade, asksForWebSocket
from getty_tx.transports.websocket.request import UpgradeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["WebSocketRoute"]


@implementer(IApplication)
class WebSocketRoute:
    """
    An application that makes each connection a WebSocket session.

    :param newSession: configures each session; it may refuse it with a :py:class:`~getty_tx.errors.RefuseRequest`.
    :param protocols: the subprotocols, the preferred one first; of them the first that the client offers is taken.
    :param origins: pages of other origins are refused with 403; ``*`` matches any characters. None: all are accepted.
    :param deflate: whether messages may be compressed (permessage-deflate).
    :raise SettingError: one of them is invalid.
    """

    __slots__ = ("_deflate", "_newSession", "_options")

    def __init__(
        self,
        newSession: Callable[[Any], object],
        protocols: Sequence[str] = (),
        origins: Sequence[str] | None = None,
        deflate: bool = True,
    ) -> None:
        if not callable(newSession):
            raise SettingError(f"newSession={newSession!r} cannot be called")
        for name, value in (("protocols", protocols), ("origins", origins)):
            if isinstance(value, str):
                raise SettingError(f"{name}={value!r} is no tuple of strings")
        self._newSession = newSession
        self._deflate = deflate
        self._options = UpgradeOptions(origins=tuple(origins or ()), subprotocols=tuple(protocols), deflate=deflate)

    def serve(self, request: Request, exchange: IExchange) -> None:
        """
        Accept the WebSocket that a request asks for.

        :raise RefuseRequest: it asks for none, or for one that is not served.
        """
        if not asksForWebSocket(request):
            raise RefuseRequest(426, "there is a WebSocket only", headers=UPGRADE_REQUIRED)
        upgrade = WebSocketUpgrade(request, exchange)
        options = self._options
        if not options.allows(upgrade.origin):
            raise RefuseRequest(403, "the origin is not allowed")
        subprotocol = options.choose(upgrade.subprotocols)
        upgrade.accept(self._newSession, subprotocol=subprotocol, deflate=self._deflate)
