"""Publications on their way, and other calls of scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.groups.errors import EngineDownError, GroupError
from getty_tx.groups.redis.codec import ReplyError, packedCommand
from getty_tx.groups.redis.envelope import EnvelopeError, positionFrom
from getty_tx.groups.redis.scripts import NUMBERS_KEPT, PUBLISH, PUBLISH_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.groups.publication import Position, Retention
    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.layout import Layout
    from getty_tx.groups.redis.scripts import Script
    from getty_tx.groups.redis.subscribing import Subscription

__all__ = ["PublishCommands", "Publishing", "call", "errorOf"]

#: What the errors begin with that say that this server does not serve now, or not any more. Nothing was done.
_AWAY = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN")

#: Groups whose commands are kept half made.
_MAX_HEADS = 10_000


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

    __slots__ = (
        "_command",
        "_connection",
        "_isAnswered",
        "_isBack",
        "_position",
        "_script",
        "_subscription",
        "deferred",
    )

    def __init__(self, connection: Connection, subscription: Subscription | None) -> None:
        self.deferred: Deferred[Position | None] = Deferred()
        self._connection = connection
        self._subscription = subscription
        self._isBack = subscription is None
        self._isAnswered = False
        self._position: Position | None = None
        self._command: bytes | None = None
        self._script: Script | None = None

    def send(self, command: bytes, script: Script | None = None) -> None:
        """
        Send it.

        :param command: as bytes.
        :param script: the one that the command calls, if it does.
        """
        if script is not None:
            self._command, self._script = command, script
        if self._subscription is not None:
            self._subscription.own.append(self)
        self._connection.sendPacked(self._answered, command)

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
                self._position = positionFrom(epoch, b"%d" % offset) if epoch else None
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
        command, self._command = self._command, None
        if isinstance(error, ReplyError):
            if command is not None and self._script is not None and str(error).startswith("NOSCRIPT"):
                self.send(command.replace(self._script.called, self._script.sent, 1))
                return
            error = errorOf(error, self._connection)
        self.deferred.errback(error)

    def _forget(self) -> None:
        subscription = self._subscription
        if subscription is not None and self in subscription.own:
            subscription.own.remove(self)


class PublishCommands:
    """
    Makes the commands that publish. What is the same for all publications of a group is made once.

    :param idKept: milliseconds for which an id is remembered.
    """

    __slots__ = ("_heads", "_idKept", "_layout")

    def __init__(self, layout: Layout, idKept: int) -> None:
        self._layout = layout
        self._idKept = idKept
        self._heads: dict[tuple[str, Retention | None], bytes] = {}

    def numbered(self, name: str, retention: Retention, id: str | None, epoch: bytes, rest: bytes) -> bytes:
        """Number it, keep it, and publish it; with an id once."""
        if id is not None:
            return b"*13\r\n%b%b" % (self._numberedHead(name, retention, id), _bulks(epoch, rest))
        head = self._heads.get((name, retention))
        if head is None:
            head = self._keep(name, retention, b"*12\r\n" + self._numberedHead(name, retention, None))
        return b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (head, len(epoch), epoch, len(rest), rest)

    def once(self, name: str, id: str, message: bytes) -> bytes:
        """Publish it once."""
        layout = self._layout
        head = b"EVALSHA", PUBLISH_ONCE.sha, 1, layout.id(name, id), layout.channel(name), self._idKept
        return packedCommand((*head, message))

    def plain(self, name: str, message: bytes) -> bytes:
        """Publish it."""
        head = self._heads.get((name, None))
        if head is None:
            head = self._keep(name, None, b"*3\r\n" + _bulks(b"PUBLISH", self._layout.channel(name)))
        return b"%b$%d\r\n%b\r\n" % (head, len(message), message)

    def _numberedHead(self, name: str, retention: Retention, id: str | None) -> bytes:
        layout = self._layout
        keys = [layout.numbers(name).encode(), layout.stream(name).encode()]
        if id is not None:
            keys.append(layout.id(name, id).encode())
        milliseconds = max(0, int(retention.seconds * 1000))
        times = retention.size, milliseconds, max(NUMBERS_KEPT, milliseconds), self._idKept
        head = b"EVALSHA", PUBLISH.sha, b"%d" % len(keys), *keys, layout.channel(name)
        return _bulks(*head, *(b"%d" % each for each in times))

    def _keep(self, name: str, retention: Retention | None, head: bytes) -> bytes:
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[name, retention] = head
        return head


def _bulks(*parts: bytes) -> bytes:
    """Parts of a command, as bytes."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in parts)
