"""
The connection: commands and their answers, time-outs, pings, and coming back.

It is one session of a :py:class:`~getty_tx.Client`, for commands and for what Redis pushes. Redis answers in the order
of the commands, and runs them one by one: so a push that comes before an answer was there when the command ran, and one
that comes behind it was not.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from getty_tx.client import Client
from getty_tx.errors import GettyError
from getty_tx.groups.errors import EngineDownError, EngineTimeoutError
from getty_tx.groups.redis.codec import PushNotification, ReplyError, RespCodec, packedCommand
from getty_tx.listener import EventListener
from getty_tx.settings import seconds
from getty_tx.transports.reconnecting import RECONNECT_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.groups.redis.publishing import PublishCommand

__all__ = ["MAX_COMMANDS", "MAX_WAITING", "PING_INTERVAL", "TIMEOUT", "Connection", "ConnectionUser"]

log = Logger()

#: Seconds between two pings, and seconds in which any command has to be answered: so a connection that has died without
#: a sign is found within 10.
PING_INTERVAL = TIMEOUT = 5.0

#: Bytes of commands that may wait to be sent, and commands that may wait for their answer.
MAX_WAITING = 16 * 1024 * 1024
MAX_COMMANDS = 100_000

#: Bytes of commands that leave before the turn of the reactor is over.
_EARLY = 64 * 1024

#: Seconds by which a timer is late where this process has stood still. The answers may be there then, unread.
_STALL = 1.0

#: Bytes of a read: the session's are much shorter.
_MAX_READ = 16 * 1024 * 1024


class ConnectionUser(Protocol):
    """Whom a connection tells."""

    description: str

    def connectionMade(self) -> None:
        """There is a connection, on which nothing was said yet."""

    def pushReceived(self, push: list[Any]) -> None:
        """Redis has sent something by itself."""

    def connectionLost(self, error: Exception) -> None:
        """The connection is gone. Its commands fail after this."""

    def pingAnswered(self) -> None:
        """All that was sent before was answered, and what it has pushed has come."""


class Connection(EventListener):
    """
    One connection at a time, while it runs.

    :param timeout: seconds for each answer.
    :param pingInterval: seconds.
    :param reconnectInterval: as for a :py:class:`~getty_tx.Client`.
    :ivar isOpen: whether commands can be sent.
    :ivar made: how many connections there were.
    :ivar growing: commands that have not left, and behind which nothing else waits: these may grow.
    """

    def __init__(
        self,
        endpoint: str | IStreamClientEndpoint,
        user: ConnectionUser,
        timeout: float = TIMEOUT,
        pingInterval: float = PING_INTERVAL,
        reconnectInterval: float = RECONNECT_INTERVAL,
    ) -> None:
        self._endpoint = endpoint
        self._user = user
        self._reconnectInterval = reconnectInterval
        self._timeout = seconds("timeout", timeout)
        self._pingInterval = seconds("pingInterval", pingInterval)
        # It is made here as well to find what is wrong with the endpoint.
        self._client: Client | None = Client(self._configure, endpoint, reconnectInterval=reconnectInterval)
        self._reactor: Any = None
        self._session: Any = None
        self._error: BaseException | None = None
        # What waits for answers, in their order: who is told, when it was sent, whether there is an answer if all is
        # well.
        self._waiting: deque[tuple[Callable[[Any], object], float, bool]] = deque()
        # Commands, of which some are made into bytes when they leave.
        self._queue: list[Any] = []
        self._queued = 0
        # Packages of commands beyond one for each.
        self._grown = 0
        self.growing: dict[str, PublishCommand] = {}
        self._flushCall: Any = None
        self._checkCall: Any = None
        self._checkAt = self._pingAt = 0.0
        self.made = 0

    def start(self, reactor: Any) -> None:
        """Connect."""
        self._reactor = reactor
        interval = self._reconnectInterval
        client = Client(self._configure, self._endpoint, reconnectInterval=interval, reactor=reactor)
        self._client = client
        client.startService()

    def stop(self) -> Deferred[None]:
        """Close. What waits for answers fails."""
        client, self._client = self._client, None
        self._lost(EngineDownError(f"{self._user.description} was stopped"), tells=False)
        return succeed(None) if client is None else client.close()

    def _configure(self, session: Any) -> None:
        session.name = "redis"
        session.codec = RespCodec()
        session.listener = self
        session.maxMsgLen = _MAX_READ
        # It reads while much waits to be sent: what it is told does not depend on what it says.
        session.maxPending = session.highWater = 4 * MAX_WAITING
        session.waitTime = 1.0

    @property
    def isOpen(self) -> bool:
        """Whether commands can be sent."""
        return self._session is not None

    @property
    def isFull(self) -> bool:
        """Whether so much waits that nothing should be added."""
        session = self._session
        pending = 0 if session is None else session.pendingBytes
        return len(self._waiting) + self._grown >= MAX_COMMANDS or self._queued + pending >= MAX_WAITING

    @property
    def lastError(self) -> BaseException | None:
        """Why the last attempt has failed, or the last connection was lost."""
        return None if self._client is None else self._client.lastError

    # Commands

    def send(self, done: Callable[[Any], object], *parts: Any) -> None:
        """
        Send a command, together with others of this turn.

        :param done: called with the answer, which may be a :py:class:`ReplyError`; with an EngineDownError if it was
            not sent, or with an EngineTimeoutError if nobody knows what has become of it.
        """
        self.sendPacked(done, packedCommand(parts))

    def sendSubscription(self, done: Callable[[Any], object], *parts: Any) -> None:
        """
        Send a SUBSCRIBE or UNSUBSCRIBE, which has an answer only if it fails: that and a ping.

        :param done: called with None, or with an error as in :py:meth:`send`.
        """
        errors: list[Any] = []
        self.sendPacked(errors.append, packedCommand(parts), False)
        self.send(lambda pong: done(_first(errors, pong)), b"PING", b"subscribed")

    def sendPacked(self, done: Callable[[Any], object], data: bytes, isAnswered: bool = True) -> None:
        """
        As :py:meth:`send`.

        :param data: a command as bytes.
        :param isAnswered: whether it has an answer if it succeeds.
        """
        if self._session is None:
            done(EngineDownError(f"{self._user.description} is away"))
            return
        if self.growing:
            self.growing.clear()
        self._queue.append(data)
        self._waiting.append((done, self._reactor.seconds(), isAnswered))
        self._leaves(len(data))

    def sendGrowing(self, key: str, command: PublishCommand, size: int) -> None:
        """
        Send a command that may grow until it leaves, or until another one is sent that is none of these. Among these
        the order does not matter.

        :param key: where :py:attr:`growing` has it, in place of an earlier one.
        :param size: its bytes by now.
        """
        if self._session is None:
            command.answered(EngineDownError(f"{self._user.description} is away"))
            return
        self.growing[key] = command
        self._queue.append(command)
        self._waiting.append((lambda reply: self._answered(command, reply), self._reactor.seconds(), True))
        self._leaves(size)

    def grown(self, size: int) -> None:
        """One of those that grow has more, by so many bytes."""
        self._grown += 1
        self._leaves(size)

    def _answered(self, command: PublishCommand, reply: Any) -> None:
        self._grown -= len(command) - 1
        command.answered(reply)

    def _leaves(self, size: int) -> None:
        """So many bytes more have to be sent."""
        self._queued += size
        if self._queued >= _EARLY:
            self._flush()
        elif self._flushCall is None:
            self._flushCall = self._reactor.callLater(0, self._turnEnded)

    def _turnEnded(self) -> None:
        self._flushCall = None
        self._flush()

    def _flush(self) -> None:
        session = self._session
        if session is None or not self._queue:
            return
        self.growing.clear()
        data = b"".join([each if type(each) is bytes else bytes(each) for each in self._queue])
        try:
            session.writePkg(data)
        except GettyError as error:
            # It is closing already. Nobody gets what is in the queue.
            self.fail(error)
        else:
            self._queue.clear()
            self._queued = 0

    # Events of the session

    def onOpen(self, session: Any) -> None:
        """There is a connection."""
        if self._client is None:
            session.close()
            return
        self._session = session
        self._error = None
        self.made += 1
        self._pingAt = self._reactor.seconds() + self._pingInterval
        self._checkLater()
        self._user.connectionMade()

    def onMessage(self, session: Any, replies: list[Any]) -> None:
        """Redis has said something."""
        waiting = self._waiting
        for reply in replies:
            if session is not self._session:
                return
            if type(reply) is PushNotification:
                self._user.pushReceived(reply)
                continue
            while waiting:
                done, _, isAnswered = waiting.popleft()
                if isAnswered or isinstance(reply, ReplyError):
                    done(reply)
                    break
            else:
                self.fail(EngineDownError(f"{self._user.description} answers what was not asked"))
                return

    def onError(self, session: Any, error: BaseException) -> None:
        """The connection has failed."""
        if session is self._session:
            self._error = error

    def onClose(self, session: Any) -> None:
        """The connection is gone."""
        if session is self._session:
            reason = self._error or "it has closed the connection"
            self._lost(EngineDownError(f"{self._user.description} went away: {reason}"))

    def fail(self, error: BaseException) -> None:
        """Give the connection up, and make another."""
        session = self._session
        if session is not None:
            if not isinstance(error, EngineDownError):
                error = EngineDownError(f"{self._user.description} went away: {error}")
            self._lost(error)
            session.fail(error, abort=True)

    def _lost(self, error: Exception, tells: bool = True) -> None:
        if self._session is None:
            return
        self._session = None
        unsent = len(self._queue)
        waiting, self._waiting = self._waiting, deque()
        self.growing.clear()
        self._queue.clear()
        self._queued = 0
        for call in (self._flushCall, self._checkCall):
            if call is not None:
                call.cancel()
        self._flushCall = self._checkCall = None
        if tells:
            self._user.connectionLost(error)
        unknown = EngineTimeoutError(f"{error}: what was asked before may have been done")
        for number, (done, _, _) in enumerate(waiting, unsent - len(waiting)):
            done(error if number >= 0 else unknown)

    # Whether it is alive

    def _checkLater(self) -> None:
        self._checkAt = self._pingAt
        if self._waiting:
            self._checkAt = min(self._checkAt, self._waiting[0][1] + self._timeout)
        now = self._reactor.seconds()
        self._checkCall = self._reactor.callLater(max(0.0, self._checkAt - now), self._check)

    def _check(self) -> None:
        self._checkCall = None
        now = self._reactor.seconds()
        if now - self._checkAt >= _STALL:
            # Read first what has come while this process stood still.
            self._checkAt = now + _STALL / 2
            self._checkCall = self._reactor.callLater(_STALL / 2, self._check)
            return
        if self._waiting and now - self._waiting[0][1] >= self._timeout:
            self.fail(EngineDownError(f"{self._user.description} has not answered for {self._timeout:g} s"))
            return
        if now >= self._pingAt:
            self._pingAt = now + self._pingInterval
            self.send(self._ponged, b"PING")
        self._checkLater()

    def _ponged(self, reply: Any) -> None:
        if not isinstance(reply, Exception):
            self._user.pingAnswered()


def _first(errors: list[Any], pong: Any) -> Exception | None:
    """The first error of a subscription, or of the ping behind it."""
    for each in (*errors, pong):
        if isinstance(each, Exception):
            return each
    return None
