"""
What is done on a new connection before the engine is up.

It is made known (HELLO, with user and password), scripts are loaded, the lease is renewed. Then all subscriptions are
sent, 512 a command, and Redis is asked whether it has them (PUBSUB NUMSUB). Groups whose last position is known are
compared: what is equal has missed nothing.
"""

from __future__ import annotations

from random import uniform
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.groups.errors import EngineDownError
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.envelope import EnvelopeError, positionFrom
from getty_tx.groups.redis.layout import newEpoch
from getty_tx.groups.redis.publishing import call
from getty_tx.groups.redis.scripts import NUMBERS_KEPT, RENEW, SCRIPTS
from getty_tx.groups.redis.subscribing import BATCH, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from getty_tx.groups.publication import Position
    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.layout import Layout
    from getty_tx.groups.redis.subscribing import Subscription, Subscriptions

__all__ = ["Login", "Recovery"]

log = Logger()

#: Subscriptions for which processes that come back wait up to a second, so that not all of them come at once.
_MANY = 1000


class Login:
    """
    How a connection is made known.

    :param user: None: the default user.
    :param password: None: none is wanted.
    :param database: its number.
    """

    __slots__ = ("_database", "_password", "_user")

    def __init__(self, user: str | None, password: str | None, database: int) -> None:
        self._user = user
        self._password = password
        self._database = database

    def send(self, connection: Connection, name: str, done: Callable[[Exception | None], object]) -> None:
        """
        Do it.

        :param name: of the connection, for ``CLIENT LIST``.
        :param done: called once, with the first error if there is one.
        """
        parts: list[Any] = [b"HELLO", b"3"]
        if self._password is not None:
            parts += [b"AUTH", self._user or "default", self._password]
        parts += [b"SETNAME", name]
        errors: list[Exception] = []

        def noted(reply: Any) -> None:
            if isinstance(reply, Exception):
                errors.append(reply)

        def greeted(reply: Any) -> None:
            unsuitable = _unsuitable(reply)
            noted(reply if unsuitable is None else EngineDownError(unsuitable))

        def ended(reply: Any) -> None:
            noted(reply)
            done(errors[0] if errors else None)

        connection.send(greeted, *parts)
        if self._database:
            connection.send(noted, b"SELECT", self._database)
        # Known from Redis 7.0 on, and not allowed to each user.
        connection.send(lambda reply: None, b"CLIENT", b"NO-EVICT", b"on")
        for script in SCRIPTS:
            connection.send(noted, b"SCRIPT", b"LOAD", script.text)
        connection.send(ended, b"PING")


class Recovery:
    """
    One way back to an engine that is up, on one connection.

    :param login: makes the connection known.
    :param lease: begins the lease; called with what is called when that is done, with an error or None.
    :param done: called when all is in force. If something fails, the connection is given up.
    """

    def __init__(
        self,
        connection: Connection,
        subscriptions: Subscriptions,
        layout: Layout,
        lease: Callable[[Callable[[Exception | None], object]], object],
        done: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._subscriptions = subscriptions
        self._layout = layout
        self._lease = lease
        self._done = done
        self._reactor: Any = None
        self._call: Any = None
        self._isOver = False

    def start(self, reactor: Any, login: Login, name: str, isFirst: bool) -> None:
        """
        Begin.

        :param name: of the connection.
        :param isFirst: there was no connection before, so nobody else comes back at the same time.
        """
        self._reactor = reactor
        self._isFirst = isFirst
        login.send(self._connection, name, self._known)

    def cancel(self) -> None:
        """The connection is gone."""
        self._isOver = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _failed(self, error: Any) -> bool:
        if self._isOver:
            return True
        if error is None:
            return False
        if isinstance(error, ReplyError):
            error = EngineDownError(f"Redis refuses: {error}")
        self._isOver = True
        self._connection.fail(error)
        return True

    def _known(self, error: Any) -> None:
        if not self._failed(error):
            self._lease(self._leased)

    def _leased(self, error: Any) -> None:
        if self._failed(error):
            return
        spread = 0.0 if self._isFirst else min(1.0, len(self._subscriptions.byName) / _MANY)
        self._call = self._reactor.callLater(uniform(0, spread), self._subscribe)

    def _subscribe(self) -> None:
        self._call = None
        if not self._isFirst:
            self._subscriptions.hold()
        self._subscriptions.sendChanges(self._subscribed)

    def _subscribed(self, error: Any) -> None:
        if self._failed(error):
            return
        if self._subscriptions.hasChanges:
            self._subscriptions.sendChanges(self._subscribed)
            return
        self._check(list(self._subscriptions.byName.values()))

    def _check(self, subscriptions: Sequence[Subscription]) -> None:
        """Ask whether they are there, and compare positions."""
        for at in range(0, len(subscriptions), BATCH):
            channels = [each.channel for each in subscriptions[at : at + BATCH]]
            self._connection.send(self._counted, b"PUBSUB", b"NUMSUB", *channels)
        calls = Together(self._checked)
        for each in subscriptions:
            if each.top is not None and not self._isFirst:
                self._compare(each, calls.one())
        self._connection.send(calls.one(), b"PING")
        calls.allBegun()

    def _counted(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            log.warn("Redis does not tell its subscriptions, they are not checked: {error}", error=reply)
            return
        if isinstance(reply, Exception) or self._isOver:
            return
        numbers = reply.values() if isinstance(reply, dict) else reply[1::2]
        if not all(numbers):
            self._failed(EngineDownError("Redis has lost a subscription"))

    def _compare(self, subscription: Subscription, done: Callable[[Any], object]) -> None:
        keys = self._layout.numbers(subscription.name), self._layout.stream(subscription.name)

        def told(reply: Any) -> None:
            top = subscription.top
            if isinstance(reply, Exception) or top is None:
                done(reply)
                return
            position = _position(reply)
            if position is not None and position.epoch == top.epoch and position.offset < top.offset:
                call(self._connection, told, RENEW, 2, *keys, top.epoch, top.offset, newEpoch(), NUMBERS_KEPT)
                return
            if position != top:
                subscription.isMissed = True
                subscription.top = None
                subscription.newTop = position
            done(None)

        self._connection.send(told, b"HMGET", keys[0], b"e", b"o")

    def _checked(self, reply: Any) -> None:
        if self._failed(reply if isinstance(reply, Exception) else None):
            return
        if self._subscriptions.hasChanges:
            # Somebody wants more meanwhile.
            self._subscriptions.sendChanges(self._subscribed)
            return
        self._isOver = True
        self._done()


def _unsuitable(reply: Any) -> str | None:
    """What is wrong with a server that has answered HELLO so; None: nothing."""
    if isinstance(reply, ReplyError) and "unknown command" in str(reply):
        return "this server is older than Redis 6.2"
    if not isinstance(reply, dict):
        return None
    version = reply.get(b"version", b"").decode(errors="replace").split(".")
    if all(each.isdigit() for each in version[:2]) and [int(each) for each in version[:2]] < [6, 2]:
        return f"this server is Redis {'.'.join(version)}: 6.2 or newer is needed"
    if reply.get(b"mode") == b"cluster":
        return "this server is a part of a cluster: give one that stands alone, or behind Sentinel"
    if reply.get(b"role") == b"replica":
        return "this server is a replica, and takes no publications"
    return None


def _position(reply: Any) -> Position | None:
    """What a hash of numbers says; None: there is none, or nothing that makes sense."""
    epoch, offset = reply
    if epoch is None or offset is None:
        return None
    try:
        return positionFrom(epoch, offset)
    except EnvelopeError:
        return None
