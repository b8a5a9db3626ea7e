"""A sub-reactor's part: the engine whose groups are those of all sub-reactors of the main process."""

from __future__ import annotations

import os
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from weakref import ref

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.groups.errors import EngineDownError, EngineTimeoutError, GroupError
from getty_tx.groups.hub import carried, wire
from getty_tx.groups.hub.link import Link, Turn
from getty_tx.groups.hub.wire import WireError
from getty_tx.groups.interfaces import IEngine

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping, Sequence

    from getty_tx.groups.interfaces import IEngineUser
    from getty_tx.groups.publication import History, Member, Position, Publication, Retention

__all__ = ["ANSWER_SECONDS", "MAX_WAITING", "HubEngine"]

log = Logger()

#: What those are told who want a second one.
_ONE = (
    "engine=None: there are Groups() in this sub-reactor already, with several processes there is one for all. Give "
    "it the namespaces= of both (a Gateway has its own: gateway.groups), or name an engine, such as redis://localhost"
)

#: Seconds in which the main process has to answer.
ANSWER_SECONDS = 5.0

#: Bytes that wait for the main process above which nothing is published.
MAX_WAITING = 4 * 1024 * 1024


class _Request:
    """What the main process has not answered yet."""

    __slots__ = ("done", "parse", "parts", "until")

    def __init__(self, until: float, parse: Callable[[list[bytes]], Any] | None) -> None:
        self.until = until
        self.parse = parse
        self.parts: list[bytes] = []
        self.done: Deferred[Any] = Deferred()


@implementer(IEngine)
class HubEngine:
    """
    Groups over all sub-reactors, with the main process as hub. There is one in a process, for one ``Groups``.

    It does not come back when the main process is gone: sub-reactors end then. What it knows is lost with it.

    :param end: this process's end of the pair of sockets.

    :ivar lag: the seconds that the last publication took to be answered.
    """

    description = "the main process"

    def __init__(self, end: socket.socket) -> None:
        self.node = f"{os.getpid()}-{token_hex(3)}"
        self.isUp = False
        self.lag = 0.0
        self._end = end
        self._link: Link | None = None
        self._reactor: Any = None
        self._user: IEngineUser | None = None
        # Those that will start it, as long as they are there.
        self._claim: Callable[[], IEngineUser | None] = lambda: None
        self._number = 0
        # In the order of their deadlines.
        self._requests: dict[int, _Request] = {}
        self._timer: Any = None
        # By name the number of the request that is not answered yet, 0 if the subscription is in force.
        self._subscribed: dict[str, int] = {}
        self._error: BaseException = EngineDownError("the groups are not started")
        self._take: dict[int, Callable[[bytes], object]] = {
            wire.DELIVER: self._delivered,
            wire.PUBLISHED: self._published,
            wire.DONE: self._done,
            wire.ANSWER: self._answered,
            wire.MISSED: self._missed,
            wire.MEMBERS: self._members,
            wire.HELLO: wire.checkGreeting,
        }

    def claim(self, user: IEngineUser) -> None:
        """
        These groups will start it.

        :raise SettingError: others will, or have, and are not stopped.
        """
        if (self._user or self._claim() or user) is not user:
            raise SettingError(_ONE)
        self._claim = ref(user)

    def start(self, reactor: Any, user: IEngineUser) -> None:
        """
        See :py:class:`~getty_tx.groups.IEngine`.

        :raise SettingError: other groups of this process have it.
        """
        self.claim(user)
        self._user = user
        self._reactor = reactor
        if self._link is None:
            self._link = Link(
                self._end, reactor, Turn(reactor), self._received, self._lost, self._sent, "the main process"
            )
            self._link.send(wire.frame(wire.HELLO, wire.GREETING))
            self.isUp = True
        elif self._link.fileno() >= 0:
            self.isUp = True
        if self.isUp:
            user.engineUp()
        else:
            user.engineDown(self._error)

    def stop(self) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._user = None
        self._claim = lambda: None
        self.isUp = False
        if self._link is not None:
            self._link.send(wire.frame(wire.RESET))
            # The process may end at once.
            self._link.flush()
        self._giveUp(EngineDownError("the groups have stopped"))
        return succeed(None)

    def _giveUp(self, error: BaseException) -> None:
        """Nobody answers any more."""
        self._subscribed.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.done.errback(error)

    # Requests

    def _request(self, parse: Callable[[list[bytes]], Any] | None = None) -> tuple[int, Deferred[Any]]:
        # 4 bytes; 0 means none.
        self._number = number = self._number % 0xFFFFFFFF + 1
        request = self._requests[number] = _Request(self._reactor.seconds() + ANSWER_SECONDS, parse)
        if self._timer is None:
            self._timer = self._reactor.callLater(ANSWER_SECONDS, self._tooLate)
        return number, request.done

    def _tooLate(self) -> None:
        """Give up what is not answered in time; look again when the next one is due."""
        self._timer = None
        now = self._reactor.seconds()
        late = []
        for number, request in self._requests.items():
            if request.until > now:
                self._timer = self._reactor.callLater(request.until - now, self._tooLate)
                break
            late.append(number)
        error = EngineTimeoutError(f"the main process has not answered for {ANSWER_SECONDS:g} s")
        for each in [self._requests.pop(number) for number in late]:
            each.done.errback(error)

    def _send(self, data: bytes) -> None:
        if self.isUp and self._link is not None:
            self._link.send(data)

    def _ask(self, make: Callable[[int], bytes], parse: Callable[[list[bytes]], Any]) -> Deferred[Any]:
        if not self.isUp:
            return fail(self._down())
        number, done = self._request(parse)
        try:
            self._send(make(number))
        except GroupError as error:
            del self._requests[number]
            return fail(error)
        return done

    def _down(self) -> EngineDownError:
        return EngineDownError(str(self._error))

    # IEngine

    def subscribe(self, name: str) -> Deferred[None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if not self.isUp:
            return fail(self._down())
        number, done = self._request()
        self._subscribed[name] = number
        self._send(wire.numbered(wire.SUBSCRIBE, number, name.encode()))
        return done

    def unsubscribe(self, name: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if self._subscribed.pop(name, None) is not None:
            self._send(wire.frame(wire.UNSUBSCRIBE, name.encode()))

    def publish(
        self, name: str, publication: Publication, retention: Retention, id: str | None = None
    ) -> Deferred[Position | None]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        if not self.isUp or self._link is None:
            return fail(self._down())
        if self._link.waiting > MAX_WAITING:
            text = f"{self._link.waiting} bytes wait for the main process, which does not read"
            return fail(EngineDownError(text))
        number, done = self._request()
        try:
            data = carried.packPublish(number, name, publication, retention, id)
        except GroupError as error:
            del self._requests[number]
            return fail(error)
        self._link.send(data)
        return done

    def history(self, name: str, since: Position | None, limit: int, retention: Retention) -> Deferred[History]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return self._ask(lambda number: carried.packHistory(number, name, since, limit), carried.unpackHistoryParts)

    def present(self, name: str, member: Member) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._send(wire.jsonOf(wire.PRESENT, [name, member.key, member.user, member.info]))

    def absent(self, name: str, key: str) -> None:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        self._send(wire.jsonOf(wire.ABSENT, [name, key]))

    def presence(self, name: str, limit: int) -> Deferred[Sequence[Member]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return self._ask(
            lambda number: wire.jsonOf(wire.PRESENCE, [number, name, limit]),
            lambda parts: wire.membersOf(wire.valuesOf(parts)),
        )

    def counts(self, names: Collection[str]) -> Deferred[Mapping[str, int]]:
        """See :py:class:`~getty_tx.groups.IEngine`."""
        return self._ask(lambda number: wire.jsonOf(wire.COUNTS, [number, list(names)]), wire.countsOf)

    # What comes

    def _received(self, kind: int, body: bytes) -> None:
        take = self._take.get(kind)
        if take is None:
            raise WireError(f"a frame of the unknown kind {kind}")
        take(body)

    def _tell(self, event: str, *arguments: Any) -> None:
        if self._user is None:
            return
        try:
            getattr(self._user, event)(*arguments)
        except Exception:
            # The next one may concern others.
            log.failure("{event} failed", event=event)

    def _delivered(self, body: bytes) -> None:
        name, publication, payload = carried.unpackDelivery(body)
        if self._subscribed.get(name) != 0:
            # It was there before the subscription, or has crossed with its end.
            return
        try:
            carried.unpackPayload(payload, publication)
        except GroupError as error:
            # Its place in the order stays.
            log.error("{name}: a publication cannot be read: {error}", name=name, error=error)
        self._tell("publicationArrived", name, publication)

    def _published(self, body: bytes) -> None:
        number, position = carried.unpackPublished(body)
        request = self._requests.pop(number, None)
        if request is not None:
            self.lag = self._reactor.seconds() + ANSWER_SECONDS - request.until
            request.done.callback(position)

    def _done(self, body: bytes) -> None:
        number, name = wire.unpackNumbered(body)
        request = self._requests.pop(number, None)
        text = wire.textOf(name)
        if self._subscribed.get(text) == number:
            self._subscribed[text] = 0
        if request is not None:
            request.done.callback(None)

    def _answered(self, body: bytes) -> None:
        number, isLast, part = wire.unpackPart(body)
        request = self._requests.get(number)
        if request is None or request.parse is None:
            # It is late.
            return
        request.parts.append(part)
        if isLast:
            del self._requests[number]
            try:
                answer = request.parse(request.parts)
            except WireError:
                request.done.errback(EngineTimeoutError("the answer of the main process cannot be read"))
                raise
            request.done.callback(answer)

    def _missed(self, body: bytes) -> None:
        [names] = wire.plain(body, list)
        for name in names:
            if self._subscribed.get(name) == 0:
                self._tell("publicationsMissed", name)

    def _members(self, body: bytes) -> None:
        name, joined, left = wire.plain(body, str, list, list)
        if self._subscribed.get(name) == 0:
            self._tell("membersChanged", name, wire.membersOf(joined), wire.membersOf(left))

    def _sent(self) -> None:
        """The main process reads again."""

    def _lost(self, error: BaseException | None) -> None:
        """The main process has ended, or has closed the pair."""
        self._error = EngineDownError("the main process is gone" if error is None else f"the main process: {error}")
        wasUp, self.isUp = self.isUp, False
        self._giveUp(self._error)
        if wasUp:
            self._tell("engineDown", self._error)
