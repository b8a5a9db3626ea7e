"""Gateway: clients that speak Centrifuge's protocol, on a router of HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService

from getty_tx.codecs import RawCodec
from getty_tx.errors import RefuseRequest
from getty_tx.gateway.listener import GatewayEvents, GatewayListener, wrap
from getty_tx.gateway.protocol import INVALID_TOKEN, DisconnectError
from getty_tx.gateway.publishing import PublishingAPI
from getty_tx.gateway.settings import GatewaySettings, Rules
from getty_tx.gateway.tokens import Tokens
from getty_tx.groups import Groups
from getty_tx.groups.namespaces import namespaceOf
from getty_tx.session.ratelimit import RateLimit, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.http import Router

__all__ = ["Gateway"]


class Gateway(MultiService):
    """
    Serves clients that speak Centrifuge's JSON protocol over WebSocket, and an HTTP API that publishes.

    ::

        gateway = Gateway(readSettings("gateway.toml"))
        gateway.addTo(router)
        gateway.setServiceParent(application)

    :param settings: who may do what. Without any nobody can connect.
    :param engine: of the groups, as that of :py:class:`~getty_tx.groups.Groups`.
    :raise SettingError: the engine is none, or PyJWT is needed and is not there.

    :ivar groups: the groups of its channels. A channel is the group with its name: what the application publishes there
        is the data of a publication, so it is what JSON can say.
    """

    def __init__(self, settings: GatewaySettings | None = None, engine: Any = None, *, reactor: Any = None) -> None:
        MultiService.__init__(self)
        self.settings = settings = GatewaySettings() if settings is None else settings
        self._tokens: Tokens | None = None
        if settings.hasTokens:
            self._tokens = Tokens(settings.secret, settings.publicKey, settings.audience, settings.issuer)
        # Users have groups of this namespace, which are nobody else's.
        self._rules = {"": Rules(), "user": Rules(), **settings.namespaces}
        events = GatewayEvents(self)
        namespaces = {name: replace(each.namespace, wrap=wrap, listener=events) for name, each in self._rules.items()}
        self.groups = Groups(engine, namespaces, reactor=reactor)
        self.addService(self.groups)  # type: ignore[no-untyped-call]  # Twisted's
        self._listener = RateLimit(GatewayListener(self), messages=settings.messageRate)
        self._codec = RawCodec()

    def addTo(self, router: Router) -> None:
        """
        Serve the clients of a router, and the HTTP API if there is a key for it.

        :raise SettingError: the router has other handlers there.
        """
        settings = self.settings
        router.webSocket(settings.path, self.newSession, origins=settings.origins or None)
        if settings.apiKey is not None:
            PublishingAPI(self, settings.apiKey).addTo(router, settings.apiPath)

    def newSession(self, session: Any) -> None:
        """
        Configure the session of a client.

        :raise RefuseRequest: it comes from a page that may not.
        """
        settings = self.settings
        if not settings.origins and session.request is not None:
            headers = session.request.headers
            origin = headers.get("Origin", "")
            if origin and origin.partition("://")[2].lower() != headers.get("Host", "").lower():
                raise RefuseRequest(403, "the origin is not allowed")
        session.codec = self._codec
        session.listener = self._listener
        session.maxMsgLen = settings.maxMessage
        session.cronPeriod = settings.pingInterval

    # For the room

    def rulesOf(self, channel: str) -> Rules:
        """Who may do what in a channel."""
        return self._rules.get(namespaceOf(channel)) or self._rules[""]

    def tokensOrFail(self) -> Tokens:
        """What reads tokens. :raise DisconnectError: there are none here."""
        if self._tokens is None:
            raise DisconnectError(INVALID_TOKEN)
        return self._tokens

    def bucket(self, seconds: Callable[[], float]) -> TokenBucket:
        """What a client may ask for in a second; as much as it may be subscribed to at once, when it comes back."""
        return TokenBucket(self.settings.joinRate, self.settings.maxChannels, seconds)
