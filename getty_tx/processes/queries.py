"""
Questions of the main process, and the answers of sub-reactors.

What is asked is the matter of who asks: nothing here knows what it means. Answers come in parts, each a document of
its own, so that neither side is long at one of them, and a part is sent only when nothing else waits to be: an
acknowledgement, or a sign of life, is behind one part at most.
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
from getty_tx.processes.channel import ANSWER, ASK, LONGEST
from getty_tx.processes.supervisor import DRAINING, READY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from getty_tx.processes.channel import Channel
    from getty_tx.processes.supervisor import Member

__all__ = ["MOST_ASKED", "PART", "TIMEOUT", "Answers", "IAnswering", "NoAnswerError", "Questions", "inParts"]

log = Logger()

T = TypeVar("T")

_NUMBER = Struct("=I")
_PART = Struct("=I?")

#: Bytes of a part of an answer at most, unless one thing in it is longer: what takes about a millisecond to read.
PART = 16 * 1024

#: Seconds without a part of an answer, after which who asks waits no longer.
TIMEOUT = 1.0

#: Questions to one sub-reactor that may be under way.
MOST_ASKED = 32

#: Seconds until a part that has to wait for other messages is tried again.
SOON = 0.01


class NoAnswerError(GettyError):
    """A sub-reactor does not answer, or is gone."""


class IAnswering(Interface):
    """What answers in a sub-reactor. All calls come on the reactor's thread."""

    def start() -> None:
        """The sub-reactor's service has started."""

    def stop() -> None:
        """It is over: let go of everything."""

    def answer(question: Any) -> Iterable[bytes] | Deferred[Iterable[bytes]]:
        """
        The parts of an answer, each JSON and shorter than :py:data:`getty_tx.processes.channel.LONGEST`.

        What it raises is logged, and the answer is ``null``.
        """

    def lastWords() -> Iterable[bytes]:
        """What is to be told at the end, though nobody has asked."""


def inParts(texts: Iterable[str]) -> Iterator[bytes]:
    """Lists in JSON of at most :py:data:`PART` bytes each, of things that are JSON already."""
    part: list[str] = []
    size = 0
    for text in texts:
        # As ASCII, which json.dumps writes.
        if part and size + len(text) > PART:
            yield f"[{','.join(part)}]".encode()
            part, size = [], 0
        part.append(text)
        size += len(text) + 1
    yield f"[{','.join(part)}]".encode()


class _Question:
    """One that is under way to a member."""

    __slots__ = ("heard", "isLate", "parts", "timer", "waiter")

    def __init__(self, heard: Callable[[list[Any]], Any]) -> None:
        self.heard = heard
        self.parts: list[Any] = []
        self.waiter: Deferred[Any] = Deferred()
        self.timer: Any = None
        self.isLate = False


class Questions:
    """
    The main process's side.

    :param target: ``module:attribute`` of what is called in a sub-reactor, with its service and its reactor, for an
        :py:class:`IAnswering`.
    :param told: called with a member and all parts of what it tells without being asked.
    :param lost: called with a member that will tell nothing more.
    """

    def __init__(
        self, target: str, told: Callable[[Member, list[Any]], object], lost: Callable[[Member], object]
    ) -> None:
        self.target = target
        self._told = told
        self._lost = lost
        self._number = 0
        self._asked: dict[Member, dict[int, _Question]] = {}
        # Parts of what nobody has asked for.
        self._telling: dict[Member, list[Any]] = {}

    def isSilent(self, member: Member) -> bool:
        """Whether it owes an answer for too long."""
        return any(question.isLate for question in self._asked.get(member, {}).values())

    def ask(self, member: Member, question: Any, heard: Callable[[list[Any]], T], reactor: Any) -> Deferred[T]:
        """
        Ask a sub-reactor.

        One that owes an answer for too long is not asked again before that has come, so that nobody waits for it
        twice, and nothing piles up.

        :param heard: called with the parts of the answer, also when that comes too late.
        :param reactor: measures :py:data:`TIMEOUT`.
        :return: fires with what ``heard`` returns; fails with what it raises, or with NoAnswerError.
        """
        if member.state not in (READY, DRAINING) or member.isKilled or member.isUnreachable:
            return _noAnswer(f"{member} is not there")
        asked = self._asked.setdefault(member, {})
        if len(asked) >= MOST_ASKED or self.isSilent(member):
            return _noAnswer(f"{member} does not answer")
        # 4 bytes, and 0 is what nobody has asked for.
        self._number = number = self._number % 0xFFFFFFFF + 1
        made = asked[number] = _Question(heard)
        made.timer = reactor.callLater(TIMEOUT, self._isLate, member, made)
        process: Any = member.process
        process.channel.send(ASK, _NUMBER.pack(number) + json.dumps(question).encode())
        return made.waiter

    def _isLate(self, member: Member, question: _Question) -> None:
        question.isLate = True
        question.waiter.errback(NoAnswerError(f"{member} does not answer"))

    def received(self, member: Member, data: bytes) -> None:
        """A part of an answer came."""
        number, isLast = _PART.unpack_from(data)
        question = self._asked.get(member, {}).get(number)
        if question is None:
            if number == 0:
                self._receiveTold(member, data, isLast)
            return
        try:
            question.parts.append(json.loads(data[_PART.size :]))
        except ValueError as error:
            log.error("{member} answers what cannot be read: {error}", member=member, error=error)
            question.heard, isLast = _raise, True
        if not question.isLate:
            question.timer.reset(TIMEOUT)
        if isLast:
            del self._asked[member][number]
            self._finish(question)

    def _receiveTold(self, member: Member, data: bytes, isLast: bool) -> None:
        parts = self._telling.setdefault(member, [])
        parts.append(json.loads(data[_PART.size :]))
        if isLast:
            self._told(member, self._telling.pop(member))

    def _finish(self, question: _Question) -> None:
        if question.parts == [None]:
            # It has logged why.
            question.heard = _raise
        done = maybeDeferred(question.heard, question.parts)
        if question.isLate:
            done.addErrback(lambda failure: log.failure("an answer cannot be used", failure))
        else:
            question.timer.cancel()
            done.chainDeferred(question.waiter)

    def giveUp(self) -> None:
        """Wait for no answer any more; they are heard all the same if they come."""
        for member, asked in self._asked.items():
            for question in asked.values():
                if not question.isLate:
                    question.timer.cancel()
                    self._isLate(member, question)

    def lost(self, member: Member) -> None:
        """It will tell nothing more."""
        self._telling.pop(member, None)
        asked = self._asked.pop(member, {})
        self._lost(member)
        for question in asked.values():
            if not question.isLate:
                question.timer.cancel()
                question.waiter.errback(NoAnswerError(f"{member} is gone"))


def _noAnswer(why: str) -> Deferred[Any]:
    failed: Deferred[Any] = Deferred()
    failed.errback(NoAnswerError(why))
    return failed


def _raise(parts: list[Any]) -> Any:
    raise NoAnswerError("there is no answer that can be read")


class Answers:
    """
    A sub-reactor's side.

    :param answering: what answers.
    :param channel: to the main process.
    :param reactor: the reactor.
    """

    def __init__(self, answering: Any, channel: Channel, reactor: Any) -> None:
        self._answering = answering
        self._channel = channel
        self._reactor = reactor
        self._parts: deque[bytes] = deque()
        self._later: Any = None
        self._isOver = False

    def start(self) -> None:
        """The service has started."""
        self._answering.start()

    def asked(self, data: bytes) -> None:
        """A question came."""
        [number] = _NUMBER.unpack_from(data)
        answer = maybeDeferred(self._answering.answer, json.loads(data[_NUMBER.size :]))
        answer.addCallback(list).addErrback(_cannot).addCallback(self._answer, number)

    def _answer(self, parts: Iterable[bytes], number: int) -> None:
        if not self._isOver:
            self._parts.extend(_packed(parts, number))
            if self._later is None:
                self._send()

    def _send(self) -> None:
        """One part, if nothing else is waiting; the next when the reactor has seen to others."""
        self._later = None
        delay = SOON
        if not self._channel.waiting:
            self._channel.send(ANSWER, self._parts.popleft())
            delay = 0
        if self._parts:
            self._later = self._reactor.callLater(delay, self._send)

    def end(self) -> None:
        """It is over: what is to be told yet, and nothing after it."""
        self._isOver = True
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for part in _packed(self._answering.lastWords(), 0):
            self._channel.send(ANSWER, part)
        self._answering.stop()


def _packed(parts: Iterable[bytes], number: int) -> list[bytes]:
    made = list(parts) or [b"[]"]
    if max(map(len, made)) + _PART.size >= LONGEST:
        log.error("an answer has a part that is too long for a message")
        made = [b"null"]
    return [_PART.pack(number, place == len(made)) + part for place, part in enumerate(made, 1)]


def _cannot(failure: Any) -> list[bytes]:
    if not failure.check(SchedulerStopped):
        log.failure("a question cannot be answered", failure)
    return [b"null"]
