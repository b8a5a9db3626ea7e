"""
Queries of the main process to sub-reactors, and their answers.

This module does not know what a query means. An answer is sent in parts, each a complete JSON document, so that neither
process spends long on one of them. A part is sent only when no other message is queued; so an acknowledgement or a
heartbeat waits behind one part at most.
"""

from __future__ import annotations

import json
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import SchedulerStopped
from twisted.logger import Logger
from zope.interface import Interface

from getty_tx.errors import GettyError
from getty_tx.processes.channel import ANSWER, ASK, MAX_MESSAGE
from getty_tx.processes.member import DRAINING, READY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from getty_tx.processes.channel import Channel
    from getty_tx.processes.member import Member

__all__ = [
    "ANSWER_TIMEOUT",
    "MAX_QUERIES",
    "PART_BYTES",
    "IAnswering",
    "NoAnswerError",
    "Queries",
    "QueryHandler",
    "inParts",
]

log = Logger()

T = TypeVar("T")

_NUMBER = Struct("=I")
_PART = Struct("=I?")

#: Most bytes in one part of an answer, unless a single item is longer: reading it takes about a millisecond.
PART_BYTES = 16 * 1024

#: Seconds without a part of an answer after which a query fails.
ANSWER_TIMEOUT = 1.0

#: Unanswered queries to one sub-reactor.
MAX_QUERIES = 32

#: Seconds until a part that waits behind other messages is tried again.
RETRY = 0.01


class NoAnswerError(GettyError):
    """A sub-reactor does not answer, or has ended."""


class IAnswering(Interface):
    """Answers queries in a sub-reactor. All calls come on the reactor's thread."""

    def start() -> None:
        """The sub-reactor's service has started."""

    def stop() -> None:
        """The sub-reactor ends: release everything."""

    def answer(query: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """
        Return the parts of an answer, each JSON and shorter than :py:data:`getty_tx.processes.channel.MAX_MESSAGE`.

        An exception is logged, and the answer is ``null`` then.
        """

    def lastWords() -> Iterable[bytes]:
        """Return the parts of a last report, which is sent at the end without a query."""


def inParts(texts: Iterable[str]) -> Iterator[bytes]:
    """Join items that are JSON into JSON lists of at most :py:data:`PART_BYTES` bytes each."""
    part: list[str] = []
    size = 0
    for text in texts:
        # Characters are bytes: json.dumps writes ASCII.
        if part and size + len(text) > PART_BYTES:
            yield f"[{','.join(part)}]".encode()
            part, size = [], 0
        part.append(text)
        size += len(text) + 1
    yield f"[{','.join(part)}]".encode()


class _Query:
    """A query that is not answered yet."""

    __slots__ = ("done", "isLate", "parse", "parts", "timer")

    def __init__(self, parse: Callable[[list[Any]], Any]) -> None:
        self.parse = parse
        self.parts: list[Any] = []
        self.done: Deferred[Any] = Deferred()
        self.timer: Any = None
        self.isLate = False


class Queries:
    """
    Sends queries to sub-reactors, in the main process.

    :param target: ``module:attribute`` of a callable. A sub-reactor calls it with its service and its reactor; it
        returns an :py:class:`IAnswering`.
    :param reported: called with a member and all parts of a report that it sends without a query.
    :param changed: called with a member whose counters have changed since its last heartbeat, and with the reactor.
    :param lost: called with a member that sends no more messages.
    """

    def __init__(
        self,
        target: str,
        reported: Callable[[Member, list[Any]], object],
        changed: Callable[[Member, Any], object],
        lost: Callable[[Member], object],
    ) -> None:
        self.target = target
        self.changed = changed
        self._reported = reported
        self._lost = lost
        self._number = 0
        self._open: dict[Member, dict[int, _Query]] = {}
        # Parts of reports that come without a query.
        self._reports: dict[Member, list[Any]] = {}

    def isSilent(self, member: Member) -> bool:
        """Whether an answer of the member is late."""
        return any(query.isLate for query in self._open.get(member, {}).values())

    def ask(self, member: Member, query: Any, parse: Callable[[list[Any]], T], reactor: Any) -> Deferred[T]:
        """
        Send a query to a sub-reactor.

        While an answer is late, no more queries are sent to this sub-reactor, so that no caller waits for it again and
        no queries pile up.

        :param query: the query, for JSON.
        :param parse: called with the parts of the answer, even when it is late.
        :param reactor: the clock of :py:data:`ANSWER_TIMEOUT`.
        :return: fires with the result of ``parse``; fails with its exception, or with NoAnswerError.
        """
        if member.state not in (READY, DRAINING) or member.isKilled or member.isUnreachable:
            return _noAnswer(f"{member} does not run")
        queries = self._open.setdefault(member, {})
        if len(queries) >= MAX_QUERIES or self.isSilent(member):
            return _noAnswer(f"{member} does not answer")
        # 4 bytes; 0 is for reports without a query.
        self._number = number = self._number % 0xFFFFFFFF + 1
        made = queries[number] = _Query(parse)
        made.timer = reactor.callLater(ANSWER_TIMEOUT, self._timedOut, member, made)
        member.send(ASK, _NUMBER.pack(number) + json.dumps(query).encode())
        return made.done

    def _timedOut(self, member: Member, query: _Query) -> None:
        query.isLate = True
        query.done.errback(NoAnswerError(f"{member} does not answer"))

    def received(self, member: Member, data: bytes) -> None:
        """Take a part of an answer, or of a report."""
        number, isLast = _PART.unpack_from(data)
        query = self._open.get(member, {}).get(number)
        if query is None:
            if number == 0:
                self._receiveReport(member, data, isLast)
            return
        try:
            query.parts.append(json.loads(data[_PART.size :]))
        except ValueError as error:
            log.error("{member} sent an answer that is not JSON: {error}", member=member, error=error)
            query.parse, isLast = _raise, True
        if not query.isLate:
            query.timer.reset(ANSWER_TIMEOUT)
        if isLast:
            del self._open[member][number]
            self._finish(query)

    def _receiveReport(self, member: Member, data: bytes, isLast: bool) -> None:
        parts = self._reports.setdefault(member, [])
        parts.append(json.loads(data[_PART.size :]))
        if isLast:
            self._reported(member, self._reports.pop(member))

    def _finish(self, query: _Query) -> None:
        if query.parts == [None]:
            # The sub-reactor has logged why.
            query.parse = _raise
        parsed = maybeDeferred(query.parse, query.parts)
        if query.isLate:
            parsed.addErrback(lambda failure: log.failure("a late answer was not accepted", failure))
        else:
            query.timer.cancel()
            parsed.chainDeferred(query.done)

    def giveUp(self) -> None:
        """Let all queries fail as late; late answers are still delivered."""
        for member, queries in self._open.items():
            for query in queries.values():
                if not query.isLate:
                    query.timer.cancel()
                    self._timedOut(member, query)

    def lost(self, member: Member) -> None:
        """A member sends no more messages."""
        self._reports.pop(member, None)
        queries = self._open.pop(member, {})
        self._lost(member)
        for query in queries.values():
            if not query.isLate:
                query.timer.cancel()
                query.done.errback(NoAnswerError(f"{member} has ended"))


def _noAnswer(why: str) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(NoAnswerError(why))
    return failed


def _raise(parts: list[Any]) -> Any:
    raise NoAnswerError("the answer cannot be read")


class QueryHandler:
    """
    Answers the queries of the main process, in a sub-reactor.

    :param answering: an :py:class:`IAnswering`.
    :param channel: the channel to the main process.
    :param reactor: the reactor.
    """

    def __init__(self, answering: Any, channel: Channel, reactor: Any) -> None:
        self._answering = answering
        self._channel = channel
        self._reactor = reactor
        self._parts: deque[bytes] = deque()
        self._later: Any = None
        self._isStopped = False

    def start(self) -> None:
        """The service has started."""
        self._answering.start()

    def queryReceived(self, data: bytes) -> None:
        """Answer a query."""
        [number] = _NUMBER.unpack_from(data)
        answer = maybeDeferred(self._answering.answer, json.loads(data[_NUMBER.size :]))
        answer.addCallback(list).addErrback(_answerFailed).addCallback(self._answer, number)

    def _answer(self, parts: Iterable[bytes], number: int) -> None:
        if not self._isStopped:
            self._parts.extend(_packParts(parts, number))
            if self._later is None:
                self._send()

    def _send(self) -> None:
        """Send one part if no message is queued; the next one after the other events of the reactor."""
        self._later = None
        delay = RETRY
        if not self._channel.queued:
            self._channel.send(ANSWER, self._parts.popleft())
            delay = 0
        if self._parts:
            self._later = self._reactor.callLater(delay, self._send)

    def stop(self) -> None:
        """Send the last report, and nothing after it."""
        self._isStopped = True
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for part in _packParts(self._answering.lastWords(), 0):
            self._channel.send(ANSWER, part)
        self._answering.stop()


def _packParts(parts: Iterable[bytes], number: int) -> list[bytes]:
    packed = list(parts) or [b"[]"]
    if max(map(len, packed)) + _PART.size >= MAX_MESSAGE:
        log.error("an answer has a part that is too long for a message")
        packed = [b"null"]
    return [_PART.pack(number, index == len(packed)) + part for index, part in enumerate(packed, 1)]


def _answerFailed(failure: Any) -> list[bytes]:
    if not failure.check(SchedulerStopped):
        log.failure("a query was not answered", failure)
    return [b"null"]
