"""The table of several processes in memory: their orders, and pages of them together."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, SchedulerStopped
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import GettyError
from getty_tx.processes.queries import PART
from getty_tx.status.paging import FEW, LOOKS, Part, pageFrom
from getty_tx.status.slices import PAUSE, Slices
from getty_tx.status.sorting import KEPT, MOST_ORDERS, MOST_TEXT, Orders
from getty_tx.status.table import COLUMNS, MOST_ROWS
from tests.status.test_parts import StatusParts
from tests.support.memory import frame


class Fake:
    """
    A process with sessions, of which only values and numbers are known.

    :ivar asked: the questions.
    :ivar told: how many things were in the answers.
    """

    def __init__(self, values: list[Any], number: int) -> None:
        self.found = sorted((value, place) for place, value in enumerate(values))
        self.number = number
        self.asked: list[tuple[Any, ...]] = []
        self.told = 0

    def __call__(self, *question: Any) -> Deferred[list[Any]]:
        """Answer."""
        self.asked.append(question)
        word, *rest = question
        answer: list[Any]
        if word == "order":
            answer = [[1, len(self.found)]]
        elif word == "keys":
            answer = [self.found[at] for at in rest[1]]
        elif word == "rows":
            answer = [[*each, {"id": each[1]}] for each in self.found[rest[1] : rest[2]]]
        else:
            answer = []
        self.told += len(answer)
        # In parts, as they come.
        return succeed([answer[at : at + 7] for at in range(0, len(answer), 7)])


class PageTests(SynchronousTestCase):
    """Pages."""

    def parts(self, all: list[list[Any]], sort: str = "name") -> tuple[list[Fake], list[Part]]:
        """What several processes have, in order."""
        fakes = [Fake(values, number) for number, values in enumerate(all, 1)]
        parts = [Part(fake, fake.number, 100 - fake.number) for fake in fakes]
        for part in parts:
            self.successResultOf(part.order(sort))
        return fakes, parts

    def page(self, parts: list[Part], begin: int, end: int) -> list[tuple[int, int]]:
        """The numbers of processes and sessions on a page."""
        rows = self.successResultOf(Deferred.fromCoroutine(pageFrom(parts, begin, end)))
        return [(row["subreactor"], row["id"]) for row in rows]

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([1, 3, 100, 10**9])), min_size=1, max_size=5),
        st.integers(0, 2**32),
        st.integers(0, 100),
    )
    def test_everyPage(self, sizes: list[tuple[int, int]], seed: int, limit: int) -> None:
        """Wherever a page begins, its rows are those of all sessions in order; equal values or not."""
        random = Random(seed)
        _, parts = self.parts([[random.randrange(most) for _ in range(size)] for size, most in sizes])
        total = sum(size for size, _ in sizes)
        begin = random.randint(0, total)
        end = min(total, begin + limit)
        expected = sorted(
            (value, number, part.pid, part.number)
            for part, (size, _) in zip(parts, sizes, strict=True)
            for value, number in part._ask.found
        )
        self.assertEqual([(each[3], each[1]) for each in expected[begin:end]], self.page(parts, begin, end))

    def test_deep(self) -> None:
        """Of 100,000 sessions before a page, few are looked at."""
        fakes, parts = self.parts([list(range(start, 200_000, 2)) for start in (0, 1)])
        self.assertEqual(50, len(self.page(parts, 150_000, 150_050)))
        most = 2 * (FEW + 4 * 2 * LOOKS) + 50
        self.assertLess(sum(fake.told for fake in fakes), most)
        self.assertLess(len(fakes[0].asked), 12)

    def test_common(self) -> None:
        """The sub-reactor and its process are columns as well, which all sessions of one have in common."""
        for sort in ("subreactor", "pid"):
            fakes, parts = self.parts([[0] * 3, [0] * 3], sort)
            self.assertEqual(("order", None), fakes[0].asked[0])
            order = (1, 2) if sort == "subreactor" else (2, 1)
            self.assertEqual([(order[0], 2), (order[1], 0)], self.page(parts, 2, 4))

    def test_failure(self) -> None:
        """It is told which one has failed: it gives no answer, or none that can be."""
        for answer in (fail(GettyError("gone")), succeed([None]), succeed([["x"]]), succeed([[[1, "x"]]])):
            part = Part(lambda *question, answer=answer: answer, 1, 1)
            self.failureResultOf(part.order("id"))
            self.assertTrue(part.failed)

    def test_disorder(self) -> None:
        """Processes whose order is none end the search, which would find nothing."""
        _, parts = self.parts([list(range(3000)), list(range(3000))])
        for part in parts:
            part._ask.found = [(0, 0)] * 3000
        self.failureResultOf(Deferred.fromCoroutine(pageFrom(parts, 2950, 2960)), ValueError)


class OrdersTests(StatusParts):
    """A process's own part."""

    def setUp(self) -> None:
        super().setUp()
        self.time = Clock()

    def orders(self, number: int) -> Orders:
        """Of so many sessions, the last of which has had most messages."""
        for place, pair in enumerate(self.fill(number)):
            pair.peer.write(frame(b"x") * (place % 40))
            pair.flush()
        self.slices = Slices(self.time)
        return Orders({"memory": self.service}, self.slices, self.time)

    def ask(self, orders: Orders, *question: Any) -> list[Any]:
        """The answer; its parts are short."""
        asked = orders.answer(*question)
        if isinstance(asked, Deferred):
            self.time.pump([PAUSE] * 200)
            asked = self.successResultOf(asked)
        parts = list(asked)
        self.assertLessEqual(max(map(len, parts), default=0), PART + 1000)
        return [thing for part in parts for thing in json.loads(part)]

    def test_rows(self) -> None:
        """Every column orders; rows come in parts, with what they are ordered by."""
        orders = self.orders(300)
        for column in COLUMNS:
            [[number, total]] = self.ask(orders, "order", column)
            self.assertEqual(300, total)
            rows = self.ask(orders, "rows", number, 0, MOST_ROWS)
            self.assertEqual(sorted(row[:2] for row in rows), [row[:2] for row in rows], column)
            self.assertEqual(300, len({row[2]["id"] for row in rows}))
            self.assertEqual([rows[0][:2], rows[-1][:2]], self.ask(orders, "keys", number, [0, 299]))
            self.ask(orders, "drop", number)
        self.assertEqual([], self.time.getDelayedCalls())

    def test_text(self) -> None:
        """A text that an application has made long is told in part."""
        orders = self.orders(2)
        for session in self.service.contexts[0].sessions:
            session.name = "x" * 100_000
        [[number, _]] = self.ask(orders, "order", "name")
        [first, _] = self.ask(orders, "rows", number, 0, 2)
        self.assertEqual((MOST_TEXT, MOST_TEXT), (len(first[0]), len(first[2]["name"])))

    def test_forgotten(self) -> None:
        """An order is kept for a moment, and a few of them; what is not kept cannot be asked."""
        orders = self.orders(2)
        [[number, _]] = self.ask(orders, "order", None)
        self.assertEqual([[0]], [row[:1] for row in self.ask(orders, "keys", number, [0])])
        self.time.advance(KEPT)
        self.assertRaises(GettyError, orders.answer, "keys", number, [0])
        numbers = [self.ask(orders, "order", "id")[0][0] for _ in range(MOST_ORDERS + 1)]
        self.assertRaises(GettyError, orders.answer, "rows", numbers[0], 0, 1)
        self.assertEqual(1, len(self.ask(orders, "rows", numbers[1], 0, 1)))
        self.assertRaises(ValueError, orders.answer, "stop")
        orders.stop()
        self.assertEqual([], self.time.getDelayedCalls())

    def test_stopped(self) -> None:
        """Who waits hears of it."""
        orders = self.orders(2)
        asked: Any = orders.answer("order", "id")
        self.slices.stop()
        self.failureResultOf(asked, SchedulerStopped)
