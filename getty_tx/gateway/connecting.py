"""How a client becomes connected: with the channels that its token names, and with what it has missed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, succeed

from getty_tx.gateway.protocol import BAD_REQUEST, Command, DisconnectError, encode, withPublications
from getty_tx.gateway.queries import textsOf
from getty_tx.gateway.subscription import positionIn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from getty_tx.gateway.client import GatewayClient
    from getty_tx.gateway.gateway import Gateway
    from getty_tx.gateway.tokens import Claims
    from getty_tx.groups import Publication

__all__ = ["Connecting"]


class Connecting:
    """
    One ``connect``.

    The client is told of all its channels in one answer. None of them brings anything before that.
    """

    __slots__ = ("_claims", "_client", "_command", "_gateway", "_held", "_subs", "_told")

    def __init__(self, client: GatewayClient, gateway: Gateway, claims: Claims, command: Command) -> None:
        self._client = client
        self._gateway = gateway
        self._claims = claims
        self._command = command
        self._subs: dict[str, str] = {}
        # By channel: fires when it is known what to tell. Those that the channels wait for until it was told.
        self._told: dict[str, Deferred[Any]] = {}
        self._held: list[Deferred[None]] = []

    def start(self) -> Deferred[None]:
        """
        Begin.

        :raise DisconnectError: the command is none of the protocol.
        """
        client, claims = self._client, self._claims
        positions = self._positions()
        channels = list(claims.channels)
        joins: list[Deferred[Any]] = []
        if client.user:
            personal = f"user:{client.user}"
            if not self._gateway.settings.personal:
                # What closes a user's sessions goes over this group; it is no channel of the client.
                joins.append(client.group(personal).join(client.session, user=client.user))
            elif personal not in channels:
                channels.append(personal)
        joins += [self._join(channel, positions.get(channel)) for channel in channels]
        if not joins:
            client.connected(self._command, claims, {})
            client.goOn()
            return succeed(None)
        known = [*joins[: len(joins) - len(channels)], *self._told.values()]
        joined = _all(joins)

        def failed(failure: Failure) -> Failure:
            # The others do not come to an end, or fail as well.
            joined.addErrback(lambda _: None)
            return failure

        told = _all(known).addCallback(self._known).addErrback(failed)
        return told.addCallback(lambda _: joined).addCallback(self._done)

    def _positions(self) -> dict[str, tuple[str, int] | None]:
        subs = self._command.params.get("subs", {})
        if not isinstance(subs, dict) or not all(isinstance(each, dict) for each in subs.values()):
            raise DisconnectError(BAD_REQUEST)
        wanted = set(self._claims.channels) | {f"user:{self._client.user}"}
        return {name: positionIn(Command(0, "subscribe", each)) for name, each in subs.items() if name in wanted}

    def _join(self, channel: str, position: tuple[str, int] | None) -> Deferred[Any]:
        told = self._told[channel] = Deferred()
        subscription = self._client.subscriptionTo(channel, wantsJoins=True)

        def answer(result: dict[str, Any], publications: Sequence[Publication]) -> Deferred[Any]:
            texts = textsOf(subscription.group, publications)
            self._subs[channel] = withPublications(encode(result), texts)
            held: Deferred[None] = Deferred()
            self._held.append(held)
            # The last one that is told answers the client, and lets go of all.
            told.callback(None)
            return held

        joined = subscription.join(position, answer, self._claims.info)

        def failed(failure: Any) -> Any:
            self._client.endSubscription(subscription)
            if not told.called:
                told.errback(failure)
            return failure

        return joined.addErrback(failed)

    def _known(self, _: object) -> None:
        if not self._client.session.isClosed:
            self._client.connected(self._command, self._claims, self._subs)
        for held in self._held:
            held.callback(None)

    def _done(self, _: object) -> None:
        if not self._client.session.isClosed:
            self._client.goOn()


def _all(waiting: list[Deferred[Any]]) -> Deferred[Any]:
    """Fires when all have, or fails with the first that does."""
    every: Deferred[Any] = DeferredList(waiting, fireOnOneErrback=True, consumeErrors=True)

    def first(failure: Any) -> Any:
        failure.trap(FirstError)
        return failure.value.subFailure

    return every.addErrback(first)
