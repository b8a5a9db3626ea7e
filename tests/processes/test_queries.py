"""Tests of processes/queries, over a fake channel."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, SchedulerStopped
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.processes.channel import ANSWER, ASK, MAX_MESSAGE
from getty_tx.processes.member import DRAINING, GONE, READY, STARTING, Member
from getty_tx.processes.queries import (
    ANSWER_TIMEOUT,
    MAX_QUERIES,
    PART_BYTES,
    RETRY,
    NoAnswerError,
    Queries,
    QueryHandler,
    inParts,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wire:
    """
    A channel with the attributes that queries use.

    :ivar queued: how many messages are queued.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.queued = 0

    def send(self, kind: int, data: bytes = b"", descriptors: Sequence[int] = ()) -> int:
        """Record a message."""
        self.sent.append((kind, data))
        return 0


class Process:
    """A process with only a channel."""

    pid = 1000

    def __init__(self) -> None:
        self.channel = Wire()
        self.send = self.channel.send


def memberOf(slot: int = 0, state: int = READY) -> Any:
    """Make a member with a fake process."""
    member: Any = Member(slot)
    member.state = state
    member.process = Process()
    member.process.pid += slot
    return member


class QueriesTests(SynchronousTestCase):
    """Queries, in the main process."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[tuple[Any, list[Any]]] = []
        self.gone: list[Any] = []
        self.queries = Queries("a:b", lambda *told: self.told.append(told), print, self.gone.append)
        self.member = memberOf()

    def ask(self, question: Any = "what", heard: Any = list, member: Any = None) -> Deferred[Any]:
        """Send a query."""
        return self.queries.ask(self.member if member is None else member, question, heard, self.clock)

    def answer(self, number: int, text: str, isLast: bool = True, member: Any = None) -> None:
        """Receive a part of an answer."""
        data = number.to_bytes(4, "little") + bytes([isLast]) + text.encode()
        self.queries.received(self.member if member is None else member, data)

    def test_parts(self) -> None:
        """The parts of an answer are joined, even with other answers between them."""
        first, second = self.ask(["x", 1]), self.ask()
        kind, data = self.member.process.channel.sent[0]
        self.assertEqual((ASK, b'\x01\0\0\0["x", 1]'), (kind, data))
        self.answer(1, "[1]", False)
        self.answer(2, "[5]")
        self.assertEqual([[5]], self.successResultOf(second))
        self.assertNoResult(first)
        self.answer(1, "[2]")
        self.assertEqual([[1], [2]], self.successResultOf(first))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_timeout(self) -> None:
        """A query fails after ANSWER_TIMEOUT, and further ones at once, until the late answer has come."""
        heard: list[Any] = []
        asked = self.ask(heard=heard.append)
        self.clock.advance(ANSWER_TIMEOUT)
        self.failureResultOf(asked, NoAnswerError)
        self.assertTrue(self.queries.isSilent(self.member))
        self.failureResultOf(self.ask(), NoAnswerError)
        self.assertEqual(1, len(self.member.process.channel.sent))
        self.assertNoResult(self.ask(member=memberOf(1)))
        self.answer(1, "[1]")
        self.assertEqual([[[1]]], heard)
        self.assertFalse(self.queries.isSilent(self.member))
        self.assertNoResult(self.ask())

    def test_slow(self) -> None:
        """An answer may take longer in all, while its parts keep coming."""
        asked = self.ask()
        for _ in range(5):
            self.clock.advance(ANSWER_TIMEOUT * 0.9)
            self.answer(1, "[]", False)
        self.answer(1, "[1]")
        self.assertEqual(6, len(self.successResultOf(asked)))

    def test_bounded(self) -> None:
        """A member gets at most MAX_QUERIES unanswered queries."""
        asked = [self.ask() for _ in range(MAX_QUERIES)]
        self.failureResultOf(self.ask(), NoAnswerError)
        self.answer(1, "[]")
        self.assertEqual([[]], self.successResultOf(asked[0]))
        self.assertNoResult(self.ask())

    def test_whom(self) -> None:
        """Only running members are queried."""
        for state in (STARTING, GONE):
            self.failureResultOf(self.ask(member=memberOf(0, state)), NoAnswerError)
        self.assertNoResult(self.ask(member=memberOf(0, DRAINING)))
        self.member.isKilled = True
        self.failureResultOf(self.ask(), NoAnswerError)

    def test_lost(self) -> None:
        """When a member is lost, its queries fail at once; its report was delivered before."""
        waiting = self.ask()
        late = self.ask(heard=lambda parts: self.fail("heard"))
        self.answer(0, "[1]", False)
        self.answer(0, "[2]")
        self.assertEqual([(self.member, [[1], [2]])], self.told)
        self.queries.lost(self.member)
        self.failureResultOf(waiting, NoAnswerError)
        self.failureResultOf(late, NoAnswerError)
        self.assertEqual([self.member], self.gone)
        self.answer(1, "[1]")
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nonsense(self) -> None:
        """An answer that is not JSON, or that ``parse`` refuses, fails the query; a late one is logged."""
        self.answer(77, "[]")
        asked = self.ask()
        self.answer(1, "{")
        self.failureResultOf(asked, NoAnswerError)
        asked = self.ask(heard=lambda parts: self.fail("heard"))
        self.answer(2, "null")
        self.failureResultOf(asked, NoAnswerError)
        asked = self.ask(heard=lambda parts: 1 / 0)
        self.answer(3, "[]")
        self.failureResultOf(asked, ZeroDivisionError)
        asked = self.ask(heard=lambda parts: 1 / 0)
        self.clock.advance(ANSWER_TIMEOUT)
        self.failureResultOf(asked, NoAnswerError)
        self.answer(4, "[]")
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_giveUp(self) -> None:
        """``giveUp`` fails all queries."""
        asked = [self.ask(), self.ask(member=memberOf(1))]
        self.queries.giveUp()
        for each in asked:
            self.failureResultOf(each, NoAnswerError)
        self.assertEqual([], self.clock.getDelayedCalls())


class QueryHandlerTests(SynchronousTestCase):
    """QueryHandler, in a sub-reactor."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wire: Any = Wire()
        self.calls: list[str] = []
        self.handler = QueryHandler(self, self.wire, self.clock)
        self.reply: Any = [b"[1]", b"[2]"]

    # What answers

    def start(self) -> None:
        """See IAnswering."""
        self.calls.append("start")

    def stop(self) -> None:
        """See IAnswering."""
        self.calls.append("stop")

    def answer(self, question: Any) -> Any:
        """See IAnswering."""
        self.calls.append(question)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def lastWords(self) -> list[bytes]:
        """See IAnswering."""
        return [b"[9]"]

    def ask(self, number: int) -> None:
        """Receive a query."""
        self.handler.queryReceived(number.to_bytes(4, "little") + b'"what"')

    def sent(self) -> list[tuple[int, bool, bytes]]:
        """Return the sent parts."""
        self.assertEqual({ANSWER} if self.wire.sent else set(), {kind for kind, _ in self.wire.sent})
        return [(data[0], bool(data[4]), data[5:]) for _, data in self.wire.sent]

    def test_parts(self) -> None:
        """One part is sent per iteration, the last one marked; and none while messages are queued."""
        self.ask(7)
        self.assertEqual([(7, False, b"[1]")], self.sent())
        self.wire.queued = 3
        self.clock.advance(0)
        self.clock.advance(RETRY)
        self.assertEqual(1, len(self.wire.sent))
        self.wire.queued = 0
        self.clock.advance(RETRY)
        self.assertEqual([(7, False, b"[1]"), (7, True, b"[2]")], self.sent())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_later(self) -> None:
        """An asynchronous answer may be overtaken by others."""
        self.reply = later = Deferred()
        self.ask(1)
        self.reply = [b"2"]
        self.ask(2)
        later.callback([b"1"])
        self.assertEqual([(2, True, b"2"), (1, True, b"1")], self.sent())

    def test_failure(self) -> None:
        """A failed query is answered with null."""
        self.reply = ValueError("no")
        self.ask(1)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.reply = SchedulerStopped()
        self.ask(2)
        self.reply = [b"x" * MAX_MESSAGE]
        self.ask(3)
        self.reply = (1 / each for each in [0])
        self.ask(4)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.assertEqual([(number, True, b"null") for number in (1, 2, 3, 4)], self.sent())
        self.reply = ()
        self.ask(5)
        self.assertEqual((5, True, b"[]"), self.sent()[-1])

    def test_end(self) -> None:
        """At the end the last report is sent, and nothing after it."""
        self.handler.start()
        self.ask(1)
        self.reply = later = Deferred()
        self.ask(2)
        self.handler.stop()
        later.callback([b"2"])
        self.assertEqual([(1, False, b"[1]"), (0, True, b"[9]")], self.sent())
        self.assertEqual((["start", "what", "what", "stop"], []), (self.calls, self.clock.getDelayedCalls()))


class PartsTests(SynchronousTestCase):
    """inParts."""

    def test_size(self) -> None:
        """The lists have a bounded size and contain all items; no items make one empty list."""
        texts = [json.dumps("é" * (number % 700)) for number in range(200)]
        parts = list(inParts(texts))
        self.assertEqual(texts, [json.dumps(each) for part in parts for each in json.loads(part)])
        self.assertGreater(min(map(len, parts[:-1])), PART_BYTES // 2)
        self.assertLess(max(map(len, parts)), PART_BYTES + 10)
        self.assertEqual([b"[]"], list(inParts([])))
