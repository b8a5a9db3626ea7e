"""The table of several processes in memory: sorted parts, and pages of the merged table."""

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
from getty_tx.processes.queries import PART_BYTES
from getty_tx.status.paging import PROBES, READ_ALL_BELOW, TablePart, mergedPage
from getty_tx.status.slices import PAUSE, Slices
from getty_tx.status.sorting import CACHE_TIME, MAX_CACHED, MAX_TEXT, SortedTables
from getty_tx.status.table import COLUMNS, MAX_ROWS
from tests.status.test_parts import StatusParts
from tests.support.long import examples
from tests.support.memory import frame


class Fake:
    """
    A process with sessions that have only a value and a number.

    :ivar asked: the queries.
    :ivar told: how many items were in the answers.
    """

    def __init__(self, values: list[Any], number: int) -> None:
        self.found = sorted((value, place) for place, value in enumerate(values))
        self.number = number
        self.asked: list[tuple[Any, ...]] = []
        self.told = 0

    def __call__(self, *query: Any) -> Deferred[list[Any]]:
        """Answer a query."""
        self.asked.append(query)
        word, *rest = query
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
        # In parts, like a real answer.
        return succeed([answer[at : at + 7] for at in range(0, len(answer), 7)])


class PageTests(SynchronousTestCase):
    """Pages of the merged table."""

    def parts(self, all: list[list[Any]], sort: str = "name") -> tuple[list[Fake], list[TablePart]]:
        """Sorted parts of several processes."""
        fakes = [Fake(values, number) for number, values in enumerate(all, 1)]
        parts = [TablePart(fake, fake.number, 100 - fake.number) for fake in fakes]
        for part in parts:
            self.successResultOf(part.sort(sort))
        return fakes, parts

    def page(self, parts: list[TablePart], begin: int, end: int) -> list[tuple[int, int]]:
        """The sub-reactors and ids of the sessions on a page."""
        rows = self.successResultOf(Deferred.fromCoroutine(mergedPage(parts, begin, end)))
        return [(row["subreactor"], row["id"]) for row in rows]

    @settings(deadline=None, max_examples=examples(40))
    @given(
        st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([1, 3, 100, 10**9])), min_size=1, max_size=5),
        st.integers(0, 2**32),
        st.integers(0, 100),
    )
    def test_everyPage(self, sizes: list[tuple[int, int]], seed: int, limit: int) -> None:
        """A page at any position has the rows of all sessions in order, with equal values or not."""
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
        """Few of 100,000 sessions before a page are read."""
        fakes, parts = self.parts([list(range(start, 200_000, 2)) for start in (0, 1)])
        self.assertEqual(50, len(self.page(parts, 150_000, 150_050)))
        most = 2 * (READ_ALL_BELOW + 4 * 2 * PROBES) + 50
        self.assertLess(sum(fake.told for fake in fakes), most)
        self.assertLess(len(fakes[0].asked), 12)

    def test_common(self) -> None:
        """Sub-reactor and pid are columns, in which all sessions of a process have the same value."""
        for sort in ("subreactor", "pid"):
            fakes, parts = self.parts([[0] * 3, [0] * 3], sort)
            self.assertEqual(("order", None), fakes[0].asked[0])
            order = (1, 2) if sort == "subreactor" else (2, 1)
            self.assertEqual([(order[0], 2), (order[1], 0)], self.page(parts, 2, 4))

    def test_failure(self) -> None:
        """A part with a missing or invalid answer is marked as failed."""
        for answer in (fail(GettyError("gone")), succeed([None]), succeed([["x"]]), succeed([[[1, "x"]]])):
            part = TablePart(lambda *query, answer=answer: answer, 1, 1)
            self.failureResultOf(part.sort("id"))
            self.assertTrue(part.failed)

    def test_disorder(self) -> None:
        """Unsorted answers end the search, which would never end otherwise."""
        _, parts = self.parts([list(range(3000)), list(range(3000))])
        for part in parts:
            part._ask.found = [(0, 0)] * 3000
        self.failureResultOf(Deferred.fromCoroutine(mergedPage(parts, 2950, 2960)), ValueError)


class SortedTablesTests(StatusParts):
    """The sorted sessions of one process."""

    def setUp(self) -> None:
        super().setUp()
        self.time = Clock()

    def tables(self, number: int) -> SortedTables:
        """The tables of so many sessions; later ones have had more messages."""
        for place, pair in enumerate(self.fill(number)):
            pair.peer.write(frame(b"x") * (place % 40))
            pair.flush()
        self.slices = Slices(self.time)
        return SortedTables({"memory": self.service}, self.slices, self.time)

    def ask(self, tables: SortedTables, *query: Any) -> list[Any]:
        """The answer to a query; its parts are short."""
        asked = tables.answer(*query)
        if isinstance(asked, Deferred):
            self.time.pump([PAUSE] * 200)
            asked = self.successResultOf(asked)
        parts = list(asked)
        self.assertLessEqual(max(map(len, parts), default=0), PART_BYTES + 1000)
        return [thing for part in parts for thing in json.loads(part)]

    def test_rows(self) -> None:
        """Every column sorts; rows come in parts, with their sort keys."""
        tables = self.tables(300)
        for column in COLUMNS:
            [[number, total]] = self.ask(tables, "order", column)
            self.assertEqual(300, total)
            rows = self.ask(tables, "rows", number, 0, MAX_ROWS)
            self.assertEqual(sorted(row[:2] for row in rows), [row[:2] for row in rows], column)
            self.assertEqual(300, len({row[2]["id"] for row in rows}))
            self.assertEqual([rows[0][:2], rows[-1][:2]], self.ask(tables, "keys", number, [0, 299]))
            self.ask(tables, "drop", number)
        self.assertEqual([], self.time.getDelayedCalls())

    def test_text(self) -> None:
        """A long text of an application is cut."""
        tables = self.tables(2)
        for session in self.service.contexts[0].sessions:
            session.name = "x" * 100_000
        [[number, _]] = self.ask(tables, "order", "name")
        [first, _] = self.ask(tables, "rows", number, 0, 2)
        self.assertEqual((MAX_TEXT, MAX_TEXT), (len(first[0]), len(first[2]["name"])))

    def test_forgotten(self) -> None:
        """A few tables are cached, for some seconds; a query for another one fails."""
        tables = self.tables(2)
        [[number, _]] = self.ask(tables, "order", None)
        self.assertEqual([[0]], [row[:1] for row in self.ask(tables, "keys", number, [0])])
        self.time.advance(CACHE_TIME)
        self.assertRaises(GettyError, tables.answer, "keys", number, [0])
        numbers = [self.ask(tables, "order", "id")[0][0] for _ in range(MAX_CACHED + 1)]
        self.assertRaises(GettyError, tables.answer, "rows", numbers[0], 0, 1)
        self.assertEqual(1, len(self.ask(tables, "rows", numbers[1], 0, 1)))
        self.assertRaises(ValueError, tables.answer, "stop")
        tables.stop()
        self.assertEqual([], self.time.getDelayedCalls())

    def test_stopped(self) -> None:
        """Pending queries fail when the work is stopped."""
        tables = self.tables(2)
        asked: Any = tables.answer("order", "id")
        self.slices.stop()
        self.failureResultOf(asked, SchedulerStopped)
