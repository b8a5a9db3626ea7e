"""One client: what its commands do, what it is subscribed to, and how long it may stay."""

from __future__ import annotations

import math
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.logger import Logger

from getty_tx.errors import SessionBlockedError, SessionClosedError, SessionError
from getty_tx.gateway.connecting import Connecting
from getty_tx.gateway.protocol import (
    BAD_REQUEST,
    EXPIRED,
    INVALID_TOKEN,
    NO_PONG,
    NOT_AVAILABLE,
    PING,
    SLOW,
    STALE,
    Command,
    CommandError,
    Disconnect,
    DisconnectError,
    clientOf,
    encodePublication,
    errorOf,
    errorReply,
    infoOf,
    parse,
    reply,
)
from getty_tx.gateway.queries import answerHistory, answerPresence, answerStats, textsOf
from getty_tx.gateway.subscription import Subscription, positionIn
from getty_tx.gateway.tokens import Claims
from getty_tx.groups import Member
from getty_tx.groups.errors import GroupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.python.failure import Failure

    from getty_tx.gateway.gateway import Gateway
    from getty_tx.groups import Group, Publication
    from getty_tx.session.ratelimit import TokenBucket

__all__ = ["MAX_PENDING", "GatewayClient"]

log = Logger()

#: Commands of a client that wait for the engine, at most.
MAX_PENDING = 256

#: Seconds, ten years: the end of a token that has a later one.
_FOR_EVER = 315_360_000.0

_NOBODY = Claims()


class GatewayClient:
    """
    A client of a gateway.

    :ivar session: its session.
    :ivar user: who it is; empty: nobody that is known.
    :ivar subscriptions: by channel: those that are in force, and those that are about to be.
    """

    __slots__ = (
        "_awaitsPong",
        "_connecting",
        "_gateway",
        "_info",
        "_isConnected",
        "_joins",
        "_pending",
        "_queries",
        "_timer",
        "_waiting",
        "session",
        "subscriptions",
        "user",
    )

    def __init__(self, gateway: Gateway, session: Any) -> None:
        self._gateway = gateway
        self.session = session
        self.user = ""
        self._info: Mapping[str, Any] = _NOBODY.info
        self.subscriptions: dict[str, Subscription] = {}
        self._isConnected = self._awaitsPong = False
        self._connecting: Connecting | None = None
        # Commands that came with the one that connects.
        self._waiting: Sequence[Command] = ()
        self._pending = 0
        # Made when they are needed: most clients are idle.
        self._joins: TokenBucket | None = None
        self._queries: TokenBucket | None = None
        wheel = session.context.wheel
        self._timer: Any = wheel.schedule(gateway.settings.connectTimeout, GatewayClient._isStale, self)

    @property
    def id(self) -> str:
        """What names it, for the client and for others."""
        return clientOf(self._key)

    @property
    def _key(self) -> str:
        return self._gateway.groups.keyOf(self.session)

    # What comes

    def heard(self, message: Any) -> None:
        """A message has come."""
        try:
            if not isinstance(message, str):
                # Protobuf, or nothing at all.
                raise DisconnectError(BAD_REQUEST)
            commands = parse(message)
        except DisconnectError as error:
            self.disconnect(error.disconnect)
            return
        self._run(commands)

    def _run(self, commands: Sequence[Command]) -> None:
        for index, command in enumerate(commands):
            if self.session.isClosed:
                return
            if self._connecting is not None:
                self._waiting = [*self._waiting, *commands[index:]]
                return
            self._runOne(command)

    def _runOne(self, command: Command) -> None:
        try:
            if self._isConnected == (command.method == "connect"):
                raise DisconnectError(BAD_REQUEST)
            if not command.method:
                self._hasPong()
                return
            if self._pending >= MAX_PENDING:
                raise CommandError(111)
            result = _METHODS[command.method](self, command)
        except DisconnectError as error:
            self.disconnect(error.disconnect)
        except (CommandError, GroupError) as error:
            self.write(errorReply(command.id, errorOf(error)))
        else:
            if result is not None:
                self._pending += 1
                result.addErrback(self._failed, command).addBoth(self._isDone)

    def _failed(self, failure: Failure, command: Command) -> None:
        """A command has failed that did not fail at once."""
        error = failure.value
        if isinstance(error, DisconnectError):
            self.disconnect(error.disconnect)
            return
        assert error is not None
        told = errorOf(error)
        if not isinstance(error, CommandError | GroupError | SessionClosedError):
            log.failure("{session}: {method} failed", failure, session=self.session, method=command.method)
        self.write(errorReply(command.id, told))

    def _isDone(self, _: object) -> None:
        self._pending -= 1

    # What leaves

    def write(self, text: str) -> None:
        """Send a reply or a push. One that does not read what it has asked for is closed."""
        if self.session.isClosed:
            return
        try:
            self.session.writePkg(text)
        except SessionBlockedError:
            self.disconnect(SLOW)
        except SessionError as error:
            log.debug("{session}: {error}", session=self.session, error=error)

    def disconnect(self, disconnect: Disconnect) -> None:
        """Close the connection, and tell the client why."""
        self.session.closeWith(disconnect.code, disconnect.reason)

    # How long it may stay

    def ping(self) -> None:
        """It is time for a ping."""
        if self._isConnected:
            if self._awaitsPong:
                self.disconnect(NO_PONG)
            else:
                self._awaitsPong = True
                self.write(PING)

    def _hasPong(self) -> None:
        """:raise DisconnectError: it has answered a ping that there was not."""
        if not self._awaitsPong:
            raise DisconnectError(BAD_REQUEST)
        self._awaitsPong = False

    def _isStale(self) -> None:
        self._timer = None
        self.disconnect(STALE)

    def _isExpired(self) -> None:
        self._timer = None
        self.disconnect(EXPIRED)

    def untilEnd(self, expires: float | None) -> tuple[dict[str, Any], float | None]:
        """
        What a client is told of the end of its token, and in how many seconds that is, with the time for a new one.

        :param expires: in seconds since 1970; None: it does not end.
        """
        if expires is None:
            return {}, None
        left = max(1.0, min(expires - self._gateway.tokensOrFail().now, _FOR_EVER))
        return {"expires": True, "ttl": math.ceil(left)}, left + self._gateway.settings.expiredDelay

    def setEnd(self, expires: float | None) -> dict[str, Any]:
        """It may stay until then. :return: what the client is told."""
        self._stopTimer()
        told, delay = self.untilEnd(expires)
        if delay is not None:
            self._timer = self.session.context.wheel.schedule(delay, GatewayClient._isExpired, self)
        return told

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()

    def closed(self) -> None:
        """The session has ended."""
        self._stopTimer()
        self._waiting = ()
        for subscription in self.subscriptions.values():
            subscription.stop()
        self.subscriptions.clear()

    # Rights

    def may(self, what: str, channel: str) -> Deferred[None]:
        """Whether it may do something in a channel. :return: fails with a CommandError if it may not."""
        rule = getattr(self._gateway.rulesOf(channel), what)
        if callable(rule):
            return maybeDeferred(rule, self.session, channel).addCallback(_decided)
        if rule == "members":
            subscription = self.subscriptions.get(channel)
            answer = subscription is not None and subscription.isReady
        else:
            answer = rule == "anyone" or (rule == "users" and bool(self.user))
        return maybeDeferred(_decided, answer)

    # Commands

    def _connect(self, command: Command) -> Deferred[Any] | None:
        token = command.text("token", "")
        settings = self._gateway.settings
        if token:
            claims = self._gateway.tokensOrFail().connection(token)
        elif settings.anonymous:
            claims = _NOBODY
        else:
            raise CommandError(101)
        self.user = claims.user
        self.session.attributes["user"] = claims.user
        self._info = claims.info
        self._connecting = connecting = Connecting(self, self._gateway, claims, command)
        # What comes meanwhile has to wait, as it is for somebody who is connected.
        self.session.pauseReading()
        return maybeDeferred(connecting.start).addErrback(self._notConnected)

    def connected(self, command: Command, claims: Claims, subs: dict[str, str]) -> None:
        """
        All subscriptions that the client has from the start are in force: answer.

        :param subs: what it is told of them, as JSON.
        """
        settings = self._gateway.settings
        result = {"client": self.id, "ping": settings.ping, "pong": True, **self.setEnd(claims.expires)}
        self._isConnected = True
        self.write(reply(command.id, "connect", result, subs=subs))

    def goOn(self) -> None:
        """It is connected, and has all that it is subscribed to: what has waited comes now."""
        self._connecting = None
        self.session.resumeReading()
        waiting, self._waiting = self._waiting, ()
        self._run(waiting)

    def _notConnected(self, failure: Failure) -> Failure:
        self._connecting = None
        self._waiting = ()
        for subscription in list(self.subscriptions.values()):
            self.endSubscription(subscription)
        if self.user:
            self.group(f"user:{self.user}").leave(self.session)
        if not self.session.isClosed:
            self.session.resumeReading()
        return failure

    def subscriptionTo(self, channel: str, wantsJoins: bool = False, flags: int = 0) -> Subscription:
        """
        A new subscription.

        :raise CommandError: there are too many, or there is one.
        :raise GroupError: that is no name of a channel.
        """
        group = self.group(channel)
        if channel in self.subscriptions:
            raise CommandError(105)
        if len(self.subscriptions) >= self._gateway.settings.maxChannels:
            raise CommandError(106)
        subscription = self.subscriptions[channel] = Subscription(self, group, wantsJoins, flags)
        return subscription

    def group(self, channel: str) -> Group:
        """The group of a channel. :raise CommandError: that is no name of one."""
        try:
            return self._gateway.groups.group(channel)
        except GroupError:
            raise CommandError(107) from None

    def endSubscription(self, subscription: Subscription) -> None:
        """A subscription ends."""
        if self.subscriptions.get(subscription.group.name) is subscription:
            del self.subscriptions[subscription.group.name]
            subscription.stop()

    def _subscribe(self, command: Command) -> Deferred[Any]:
        channel = command.channel
        wantsJoins, flags, position = command.flag("join_leave"), command.number("flag"), positionIn(command)
        token = command.text("token", "")
        if self._joins is None:
            self._joins = self._gateway.bucket(self.session.context.seconds)
        if not self._joins.take():
            raise CommandError(111)
        claims = None
        if token:
            claims = self._gateway.tokensOrFail().subscription(token, self.user, channel)
        subscription = self.subscriptionTo(channel, wantsJoins, flags)

        def answer(result: dict[str, Any], publications: Sequence[Publication]) -> None:
            if claims is not None:
                result |= subscription.setEnd(claims.expires)
            texts = textsOf(subscription.group, publications)
            self.write(reply(command.id, "subscribe", result, publications=texts))

        def join(_: object) -> Any:
            info = self._info if claims is None or not claims.info else claims.info
            return subscription.join(position, answer, info)

        def failed(failure: Failure) -> Failure | None:
            # It is not told of one that it has ended itself.
            isWanted = subscription.isWanted
            self.endSubscription(subscription)
            return failure if isWanted else None

        allowed = self.may("subscribe", channel) if claims is None else maybeDeferred(_decided, True)
        return allowed.addCallback(join).addErrback(failed)

    def _unsubscribe(self, command: Command) -> None:
        subscription = self.subscriptions.get(command.channel)
        if subscription is not None:
            self.endSubscription(subscription)
        self.write(reply(command.id, "unsubscribe", {}))

    def _publish(self, command: Command) -> Deferred[Any]:
        channel = command.channel
        if "data" not in command.params:
            raise DisconnectError(BAD_REQUEST)
        group = self.group(channel)
        try:
            pkg = encodePublication(command.params["data"], infoOf(Member(self._key, self.user, self._info)))
        except (ValueError, RecursionError):
            raise CommandError(107) from None
        published = self.may("publish", channel).addCallback(lambda _: group.publish(pkg))
        return published.addCallback(lambda _: self.write(reply(command.id, "publish", {})))

    def _query(self, command: Command, what: str, answer: Callable[..., Deferred[Any]]) -> Deferred[Any]:
        channel = command.channel
        group = self.group(channel)
        if self._queries is None:
            self._queries = self._gateway.bucket(self.session.context.seconds)
        if not self._queries.take():
            raise CommandError(111)
        asked = self.may(what, channel).addCallback(lambda _: answer(group, command))
        return asked.addCallback(self.write)

    def _presence(self, command: Command) -> Deferred[Any]:
        return self._query(command, "presence", answerPresence)

    def _stats(self, command: Command) -> Deferred[Any]:
        return self._query(command, "presence", answerStats)

    def _history(self, command: Command) -> Deferred[Any]:
        return self._query(command, "history", answerHistory)

    def _refresh(self, command: Command) -> None:
        try:
            claims = self._gateway.tokensOrFail().connection(command.text("token"))
        except CommandError:
            # It comes back, and finds out at its connect that it needs another one.
            raise DisconnectError(EXPIRED) from None
        if claims.user != self.user:
            raise DisconnectError(INVALID_TOKEN)
        result = {"client": self.id, **self.setEnd(claims.expires)}
        self.write(reply(command.id, "refresh", result))

    def _subRefresh(self, command: Command) -> None:
        channel, token = command.channel, command.text("token")
        subscription = self.subscriptions.get(channel)
        if subscription is None or not subscription.hasToken:
            raise CommandError(103)
        claims = self._gateway.tokensOrFail().subscription(token, self.user, channel)
        self.write(reply(command.id, "sub_refresh", subscription.setEnd(claims.expires)))

    def _rpc(self, command: Command) -> None:
        raise CommandError(108)

    def _send(self, command: Command) -> None:
        raise DisconnectError(NOT_AVAILABLE)


def _decided(answer: Any) -> Any:
    if iscoroutine(answer):
        return ensureDeferred(answer).addCallback(_decided)
    if not answer:
        raise CommandError(103)
    return None


_METHODS: dict[str, Callable[[GatewayClient, Command], Any]] = {
    "connect": GatewayClient._connect,
    "subscribe": GatewayClient._subscribe,
    "unsubscribe": GatewayClient._unsubscribe,
    "publish": GatewayClient._publish,
    "presence": GatewayClient._presence,
    "presence_stats": GatewayClient._stats,
    "history": GatewayClient._history,
    "rpc": GatewayClient._rpc,
    "send": GatewayClient._send,
    "refresh": GatewayClient._refresh,
    "sub_refresh": GatewayClient._subRefresh,
}
