"""Publications on their way, and other calls of scripts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from getty_tx.groups.errors import EngineDownError, GroupError
from getty_tx.groups.publication import Position
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.envelope import EnvelopeError, positionFrom
from getty_tx.groups.redis.layout import newEpoch
from getty_tx.groups.redis.scripts import NUMBERS_KEPT, PUBLISH, PUBLISH_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.groups.publication import Retention
    from getty_tx.groups.redis.connection import Connection
    from getty_tx.groups.redis.layout import Layout
    from getty_tx.groups.redis.scripts import Script
    from getty_tx.groups.redis.subscribing import Subscription

__all__ = ["MOST", "PublishCommand", "PublishCommands", "Publishing", "call", "errorOf"]

#: What the errors begin with that say that this server does not serve now, or not any more. Nothing was done.
_AWAY = ("READONLY", "LOADING", "MASTERDOWN", "NOAUTH", "CLUSTERDOWN")

#: Groups whose commands are kept half made.
_MAX_HEADS = 10_000

#: Publications that one command has at most: Redis does nothing else meanwhile.
MOST = 64


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

    __slots__ = ("_isAnswered", "_isBack", "_position", "_subscription", "deferred")

    def __init__(self, subscription: Subscription | None) -> None:
        self.deferred: Deferred[Position | None] = Deferred()
        self._subscription = subscription
        self._isBack = subscription is None
        self._isAnswered = False
        self._position: Position | None = None

    def sent(self) -> None:
        """Its command is on its way: it comes back behind all that was sent before."""
        if self._subscription is not None:
            self._subscription.own.append(self)

    def forget(self) -> None:
        """With this command it does not come back."""
        subscription = self._subscription
        if subscription is not None and self in subscription.own:
            subscription.own.remove(self)

    def cameBack(self) -> None:
        """It was brought to this process, or will not be any more."""
        if not self._isBack:
            self._isBack = True
            if self._isAnswered:
                assert self._subscription is not None
                self._subscription.unarrived.discard(self)
                self.deferred.callback(self._position)

    def answered(self, position: Position | None) -> None:
        """It has this number, or none."""
        self._isAnswered = True
        self._position = position
        if self._isBack:
            self.deferred.callback(position)
        elif self._subscription is not None:
            self._subscription.unarrived.add(self)

    def known(self, position: Position | None) -> None:
        """One with its id was published before, and it was not."""
        self.forget()
        self._isBack = True
        self.answered(position)

    def failed(self, error: Exception) -> None:
        """It was not published, or nobody knows."""
        self.forget()
        self.deferred.errback(error)


class PublishCommand:
    """
    A script's call that publishes to a group.

    :param head: the command as bytes, but for how many parts it has, and for the last ones: what is published.
    :param parts: how many parts there are in ``head``.
    :param script: the one that it calls.
    :ivar retention: what is kept of all that it publishes.
    """

    __slots__ = ("_bulks", "_connection", "_head", "_parts", "_publishings", "_script", "retention")

    def __init__(
        self, connection: Connection, head: bytes, parts: int, script: Script, retention: Retention | None = None
    ) -> None:
        self.retention = retention
        self._connection = connection
        self._head = head
        self._parts = parts
        self._script = script
        self._bulks: list[bytes] = []
        self._publishings: list[Publishing] = []

    def __len__(self) -> int:
        """How many publications it has."""
        return len(self._publishings)

    def add(self, publishing: Publishing, message: bytes) -> int:
        """Publish this, too. :return: how many bytes that adds."""
        bulk = b"$%d\r\n%b\r\n" % (len(message), message)
        self._bulks.append(bulk)
        self._publishings.append(publishing)
        publishing.sent()
        return len(bulk)

    def __bytes__(self) -> bytes:
        bulks = self._bulks
        return b"".join((b"*%d\r\n" % (self._parts + len(bulks)), self._head, *bulks))

    def answered(self, reply: Any) -> None:
        """As for :py:meth:`Connection.send`."""
        if isinstance(reply, Exception):
            self._failed(reply)
            return
        position, isNew = None, reply
        if type(reply) is list:
            epoch, offset, isNew = reply
            try:
                position = positionFrom(epoch, b"%d" % offset) if epoch else None
            except EnvelopeError as error:
                self._failed(error)
                return
        if not isNew:
            # One with an id is alone.
            self._publishings[0].known(position)
            return
        for each in self._publishings:
            each.answered(position)
            if position is not None:
                position = Position(position.epoch, position.offset + 1)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ReplyError):
            script = self._script
            if str(error).startswith("NOSCRIPT") and self._head.startswith(script.called):
                self._head = self._head.replace(script.called, script.sent, 1)
                for each in self._publishings:
                    each.forget()
                    each.sent()
                self._connection.sendPacked(self.answered, bytes(self))
                return
            error = errorOf(error, self._connection)
        for each in self._publishings:
            each.failed(error)


class PublishCommands:
    """
    Makes the commands that publish, and sends them. What is the same for all publications of a group is made once.

    What is numbered and has no id is joined with others of its turn and group: one alone takes 20 us of Redis' time,
    each of fifty 8 us.

    :param idKept: milliseconds for which an id is remembered.
    """

    __slots__ = ("_connection", "_heads", "_idKept", "_layout")

    def __init__(self, connection: Connection, layout: Layout, idKept: int) -> None:
        self._connection = connection
        self._layout = layout
        self._idKept = idKept
        self._heads: dict[tuple[str, Retention | None], bytes] = {}

    def numbered(self, publishing: Publishing, name: str, retention: Retention, id: str | None, rest: bytes) -> None:
        """Number it, keep it, and publish it; with an id once."""
        connection = self._connection
        if id is not None:
            self._send(self._numberedHead(name, retention, id) + _bulks(newEpoch()), 12, PUBLISH, publishing, rest)
            return
        growing = connection.growing.get(name)
        if growing is not None and len(growing) < MOST and growing.retention == retention:
            connection.grown(growing.add(publishing, rest))
            return
        head = self._heads.get((name, retention))
        if head is None:
            head = self._keep(name, retention, self._numberedHead(name, retention, None))
        head += _bulks(newEpoch())
        command = PublishCommand(connection, head, 11, PUBLISH, retention)
        connection.sendGrowing(name, command, len(head) + command.add(publishing, rest))

    def once(self, publishing: Publishing, name: str, id: str, message: bytes) -> None:
        """Publish it once."""
        layout = self._layout
        key, idKept = layout.id(name, id).encode(), b"%d" % self._idKept
        head = _bulks(b"EVALSHA", PUBLISH_ONCE.sha, b"1", key, layout.channel(name), idKept)
        self._send(head, 6, PUBLISH_ONCE, publishing, message)

    def plain(self, publishing: Publishing, name: str, message: bytes) -> None:
        """Publish it."""
        head = self._heads.get((name, None))
        if head is None:
            head = self._keep(name, None, b"*3\r\n" + _bulks(b"PUBLISH", self._layout.channel(name)))
        publishing.sent()
        command = b"%b$%d\r\n%b\r\n" % (head, len(message), message)
        self._connection.sendPacked(partial(self._plainAnswered, publishing), command)

    def _plainAnswered(self, publishing: Publishing, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            reply = errorOf(reply, self._connection)
        if isinstance(reply, Exception):
            publishing.failed(reply)
        else:
            publishing.answered(None)

    def _send(self, head: bytes, parts: int, script: Script, publishing: Publishing, message: bytes) -> None:
        command = PublishCommand(self._connection, head, parts, script)
        command.add(publishing, message)
        self._connection.sendPacked(command.answered, bytes(command))

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
