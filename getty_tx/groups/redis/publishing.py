"""Publications on their way, and other calls of scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.groups.errors import EngineDownError, GroupError
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.envelope import EnvelopeError, positionFrom

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.groups.publication import Position
    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.scripts import Script
    from getty_tx.groups.redis.subscribing import Subscription

__all__ = ["Publishing", "call", "errorOf"]

#: What the errors begin with that say that this server does not serve now, or not any more. Nothing was done.
_AWAY = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN")


def errorOf(reply: ReplyError, connection: Connection) -> Exception:
    """What an answer that is an error means; a server that does not serve is left."""
    text = str(reply)
    if text.startswith(_AWAY):
        error = EngineDownError(f"Redis refuses: {text}")
        connection.fail(error)
        return error
    return GroupError(f"Redis refuses: {text}")


def call(connection: Connection, done: Callable[[Any], object], script: Script, *parts: Any) -> None:
    """
    Run a script.

    :param done: as in :py:meth:`Connection.send`.
    :param parts: how many keys it has, keys, arguments.
    """

    def answered(reply: Any) -> None:
        if type(reply) is ReplyError and str(reply).startswith("NOSCRIPT"):
            connection.send(done, b"EVAL", script.text, *parts)
        else:
            done(reply)

    connection.send(answered, b"EVALSHA", script.sha, *parts)


class Publishing:
    """
    A publication on its way. Its Deferred fires when it is answered, and has come back if this process has subscribed.

    Redis 7.0 pushes it before the answer; from 7.2 on behind it. Both are right here.

    :param subscription: that of this process, if its SUBSCRIBE was sent before.
    """

    __slots__ = ("_connection", "_isAnswered", "_isBack", "_position", "_script", "_subscription", "deferred")

    def __init__(self, connection: Connection, subscription: Subscription | None) -> None:
        self.deferred: Deferred[Position | None] = Deferred()
        self._connection = connection
        self._subscription = subscription
        self._isBack = subscription is None
        self._isAnswered = False
        self._position: Position | None = None
        self._script: tuple[Script, tuple[Any, ...]] | None = None

    def send(self, *parts: Any) -> None:
        """Send a command."""
        if self._subscription is not None:
            self._subscription.own.append(self)
        self._connection.send(self._answered, *parts)

    def call(self, script: Script, *parts: Any) -> None:
        """Run a script."""
        self._script = script, parts
        self.send(b"EVALSHA", script.sha, *parts)

    def cameBack(self) -> None:
        """It was brought to this process, or will not be any more."""
        if not self._isBack:
            self._isBack = True
            if self._isAnswered:
                assert self._subscription is not None
                self._subscription.unarrived.discard(self)
                self.deferred.callback(self._position)

    def _answered(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._failed(reply)
            return
        isNew = reply
        if type(reply) is list:
            epoch, offset, isNew = reply
            try:
                self._position = positionFrom(epoch, b"%d" % offset)
            except EnvelopeError as error:
                self._failed(error)
                return
        if self._script is not None and not isNew:
            # Its id is known: nothing was published.
            self._isBack = True
            self._forget()
        self._isAnswered = True
        if self._isBack:
            self.deferred.callback(self._position)
        elif self._subscription is not None:
            self._subscription.unarrived.add(self)

    def _failed(self, error: Exception) -> None:
        self._forget()
        script, self._script = self._script, None
        if isinstance(error, ReplyError):
            if script is not None and str(error).startswith("NOSCRIPT"):
                self.send(b"EVAL", script[0].text, *script[1])
                self._script = script
                return
            error = errorOf(error, self._connection)
        self.deferred.errback(error)

    def _forget(self) -> None:
        subscription = self._subscription
        if subscription is not None and self in subscription.own:
            subscription.own.remove(self)
