"""The engine: publications, histories and presence in Redis."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.groups.errors import EngineDownError, GroupError, PublicationTooLongError
from getty_tx.groups.interfaces import IEngine
from getty_tx.groups.publication import PUBLICATION, History, Position
from getty_tx.groups.redis.codec import ReplyError
from getty_tx.groups.redis.connection import PING_INTERVAL, TIMEOUT, Connection
from getty_tx.groups.redis.envelope import EnvelopeError, positionFrom, publicationFrom, restOf, unnumbered
from getty_tx.groups.redis.layout import Layout, newEpoch
from getty_tx.groups.redis.presence import LEASE_INTERVAL, LEASE_TIME, Presence
from getty_tx.groups.redis.publishing import PublishCommands, Publishing, call, errorOf
from getty_tx.groups.redis.recovering import Login, Recovery
from getty_tx.groups.redis.scripts import HISTORY, NUMBERS_KEPT
from getty_tx.groups.redis.subscribing import Subscriptions
from getty_tx.settings import seconds
from getty_tx.transports.reconnecting import RECONNECT_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.groups.interfaces import IEngineUser
    from getty_tx.groups.publication import Member, Publication, Retention

__all__ = ["MAX_PUBLICATION", "RedisEngine"]

log = Logger()

#: Bytes of a publication. Above 32 MiB in one message Redis would cut off all that have subscribed.
MAX_PUBLICATION = 16 * 1024 * 1024

#: Bytes of one answer with a history.
MAX_HISTORY = 8 * 1024 * 1024

#: Milliseconds for which the id of a publication is remembered.
ID_KEPT = 300_000

#: Seconds between two looks whether there was a first connection at all.
_LOOK = 0.5


@implementer(IEngine)
class RedisEngine:
    """
    Groups in Redis 6.2 or newer, or in Valkey: one connection a process, for publishing and for what is published.

    ``subscribe`` fails while the engine is down, as all else does; but the group is wanted from then on, and is
    subscribed to when the engine is up again, unless ``unsubscribe`` is called.

    :param endpoint: a description such as ``tcp:localhost:6379``, ``tls:HOST:6379:trustRoots=FILE`` or
        ``unix:/run/redis.sock``, or an IStreamClientEndpoint.
    :param user: of Redis' access control; None: the default user.
    :param password: None: none is needed.
    :param database: its number.
    :param prefix: what all keys and channels begin with: one for each application.
    :param description: what it is called in logs; by default its endpoint.
    :param timeout: seconds that Redis may take for an answer.
    :param pingInterval: seconds between two pings.
    :param reconnectInterval: seconds before the first attempt to connect again; later ones wait up to ten times that.
    :param leaseInterval: seconds between two renewals of the lease of this process.
    :param leaseTime: seconds after which a process that does not renew its lease is dead. The same for all.
    :raise SettingError: one of them is wrong, or hiredis is not installed.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint = "tcp:localhost:6379",
        *,
        user: str | None = None,
        password: str | None = None,
        database: int = 0,
        prefix: str = "getty",
        description: str | None = None,
        timeout: float = TIMEOUT,
        pingInterval: float = PING_INTERVAL,
        reconnectInterval: float = RECONNECT_INTERVAL,
        leaseInterval: float = LEASE_INTERVAL,
        leaseTime: float = LEASE_TIME,
    ) -> None:
        if user is not None and password is None:
            raise SettingError(f"user={user!r} needs a password")
        if not prefix or not prefix.isprintable() or len(prefix) > 64 or set(prefix) & set("{} *?[]\\"):
            raise SettingError(f"prefix={prefix!r} is not a text of 1 to 64 characters without spaces and {{}}*?[]\\")
        self.description = description or f"Redis at {endpoint}"
        self.isUp = False
        self.node = ""
        self._layout = Layout(prefix)
        self._login = Login(user, password, database)
        self._connection = Connection(endpoint, self, timeout, pingInterval, reconnectInterval)
        self._commands = PublishCommands(self._connection, self._layout, ID_KEPT)
        self._lease = seconds("leaseInterval", leaseInterval), seconds("leaseTime", leaseTime)
        if leaseTime < 2 * leaseInterval:
            raise SettingError(f"leaseTime={leaseTime} is less than twice leaseInterval={leaseInterval}")
        self._reactor: Any = None
        self._user: IEngineUser | None = None
        self._token = b""
        self._recovery: Recovery | None = None
        self._down: Exception | None = None
        self._wasUp = False
        self._lookCall: Any = None
        self._sendCall: Any = None

    @property
    def reconnects(self) -> int:
        """How many connections there were after the first."""
        return max(0, self._connection.made - 1)

    @property
    def lastError(self) -> BaseException | None:
        """Why it is down; None while it is up."""
        return self._down

    @property
    def garbage(self) -> int:
        """Messages that were none of groups, and were skipped."""
        return self._subscriptions.garbage

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._reactor = reactor
        self._user = user
        token = secrets.token_hex(4)
        self._token = token.encode()
        host = "".join(each for each in socket.gethostname()[:40] if each.isalnum() or each in "-._")
        self.node = f"{host}-{os.getpid()}-{token}"
        self._subscriptions = Subscriptions(self._connection, self._layout, user, self._token)
        self._presence = Presence(self._connection, self._layout, self.node, *self._lease)
        self._presence.start(reactor)
        self._wasUp = False
        self._down = None
        self._connection.start(reactor)
        self._lookCall = reactor.callLater(_LOOK, self._look)

    def stop(self) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._user = None
        wasUp, self.isUp = self.isUp, False
        for each in (self._lookCall, self._sendCall):
            if each is not None:
                each.cancel()
        self._lookCall = self._sendCall = None
        self._endRecovery()
        if self._reactor is None:
            return succeed(None)
        self._presence.down()
        ended: Deferred[None] = Deferred()
        if wasUp:
            self._presence.withdraw(lambda: ended.callback(None))
        else:
            ended.callback(None)
        return ended.addCallback(self._withdrawn)

    def _withdrawn(self, _: None) -> Deferred[None]:
        ended = self._connection.stop()
        self._subscriptions.lost(EngineDownError(f"{self.description} was stopped"))
        return ended

    # What the connection tells

    def connectionMade(self) -> None:
        """There is a connection: begin to recover."""
        if self._user is None:
            return
        recovery = Recovery(self._connection, self._subscriptions, self._layout, self._presence.begin, self._recovered)
        self._recovery = recovery
        recovery.start(self._reactor, self._login, f"getty-{self.node}", not self._wasUp)

    def _recovered(self) -> None:
        self._recovery = None
        user = self._user
        if user is None:
            return
        self.isUp = self._wasUp = True
        self._down = None
        if self._lookCall is not None:
            self._lookCall.cancel()
            self._lookCall = None
        self._presence.up()
        try:
            user.engineUp()
        except Exception:
            log.failure("an error in engineUp")
        if self.isUp:
            self._subscriptions.release()

    def connectionLost(self, error: Exception) -> None:
        """The connection is gone."""
        self.isUp = False
        self._endRecovery()
        self._presence.down()
        if self._user is not None:
            self._tellDown(error)
            self._subscriptions.lost(error)

    def _tellDown(self, error: Exception) -> None:
        first, self._down = self._down is None, error
        if first and self._user is not None:
            try:
                self._user.engineDown(error)
            except Exception:
                log.failure("an error in engineDown")

    def pushReceived(self, push: list[Any]) -> None:
        """Redis has sent something by itself."""
        if self._user is not None:
            self._subscriptions.pushed(push)

    def pingAnswered(self) -> None:
        """Whatever was answered has come back."""
        self._subscriptions.allArrived()

    def _endRecovery(self) -> None:
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()

    def _look(self) -> None:
        """Before the first connection nobody else tells why there is none."""
        self._lookCall = self._reactor.callLater(_LOOK, self._look)
        error = self._connection.lastError
        if error is not None and self._down is None:
            self._tellDown(EngineDownError(f"{self.description} is away: {error}"))

    def _downError(self) -> Exception:
        return EngineDownError(f"{self.description} is away" if self._down is None else str(self._down))

    # IEngine

    def subscribe(self, name: str) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if not self.isUp:
            return self._subscriptions.add(name, self._downError())
        done = self._subscriptions.add(name, None)
        self._sendSoon()
        return done

    def unsubscribe(self, name: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._subscriptions.remove(name)
        if self.isUp:
            self._sendSoon()

    def _sendSoon(self) -> None:
        if self._sendCall is None:
            self._sendCall = self._reactor.callLater(0, self._sendChanges)

    def _sendChanges(self) -> None:
        self._sendCall = None
        if self.isUp:
            self._subscriptions.sendChanges()

    def publish(
        self, name: str, publication: Publication, retention: Retention, id: str | None = None
    ) -> Deferred[Position | None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if not self.isUp:
            return fail(self._downError())
        try:
            rest = restOf(publication, self._token, name)
        except UnicodeError as error:
            return fail(GroupError(f"{name}: a text that UTF-8 cannot say: {error}"))
        except GroupError as error:
            return fail(error)
        if len(rest) > MAX_PUBLICATION:
            text = f"{name}: a publication of {len(rest)} bytes is longer than {MAX_PUBLICATION}"
            return fail(PublicationTooLongError(text))
        if self._connection.isFull:
            return fail(EngineDownError(f"{self.description} does not keep up: too much waits for it already"))
        publishing = Publishing(self._subscriptions.sentFor(name))
        if retention.size and publication.kind == PUBLICATION:
            self._commands.numbered(publishing, name, retention, id, rest)
        elif id is not None:
            self._commands.once(publishing, name, id, unnumbered(rest))
        else:
            self._commands.plain(publishing, name, unnumbered(rest))
        return publishing.deferred

    def history(self, name: str, since: Position | None, limit: int, retention: Retention) -> Deferred[History]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if not self.isUp:
            return fail(self._downError())
        if not retention.size:
            return succeed(History(Position("", 0), (), since is None))
        subscription = self._subscriptions.sentFor(name)
        answer: Deferred[History] = Deferred()

        def answered(reply: Any) -> None:
            try:
                if isinstance(reply, Exception):
                    raise errorOf(reply, self._connection) if isinstance(reply, ReplyError) else reply
                found = _historyFrom(reply, since)
            except Exception as error:
                answer.errback(error)
                return
            if subscription is not None and subscription is self._subscriptions.byName.get(name):
                self._subscriptions.topIs(subscription, found.position)
            answer.callback(found)

        keys = self._layout.numbers(name), self._layout.stream(name)
        after = ("", "") if since is None else (since.epoch or "-", since.offset)
        head = newEpoch(), NUMBERS_KEPT, max(0, limit), MAX_HISTORY
        call(self._connection, answered, HISTORY, 2, *keys, *head, *after)
        return answer

    def present(self, name: str, member: Member) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._presence.present(name, member)

    def absent(self, name: str, key: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._presence.absent(name, key)

    def presence(self, name: str, limit: int) -> Deferred[Sequence[Member]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return self._presence.list(name, limit) if self.isUp else fail(self._downError())

    def counts(self, names: Collection[str]) -> Deferred[Mapping[str, int]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return self._presence.counts(names) if self.isUp else fail(self._downError())


def _historyFrom(reply: Any, since: Position | None) -> History:
    """
    What the script for histories has answered.

    :raise EnvelopeError: it makes no sense.
    """
    epoch, top, entries = reply
    position = Position(epoch.decode(), 0) if top == b"0" else positionFrom(epoch, top)
    if since is None:
        entries = entries[::-1]
    publications: list[Publication] = []
    for entryId, fields in entries:
        here = positionFrom(epoch, entryId.partition(b"-")[0])
        if publications and here.offset != publications[-1].position.offset + 1:  # type: ignore[union-attr]
            raise EnvelopeError(f"a history has a hole before {here.offset}")
        publication, _ = publicationFrom(b"G1|%b|%d|%b" % (epoch, here.offset, fields[1]), b"-")
        publications.append(publication)
    if since is None:
        return History(position, publications)
    missed = position.offset - since.offset
    if since.epoch != position.epoch or missed < 0:
        return History(position, (), False)
    if publications and publications[0].position.offset != since.offset + 1:  # type: ignore[union-attr]
        return History(position, (), False)
    return History(position, publications, missed == len(publications))
