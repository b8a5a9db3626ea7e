"""The soak's own checks: that each finds what it is there for, and that a run as a whole does."""

from __future__ import annotations

import os
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.soak import checks, plan
from benchmarks.soak.findings import Findings, LogWatch, PlannedError, isExpected, reportOf
from benchmarks.soak.messages import LONGEST, Arrivals, Conversation, Life, Op, contentOf, decode, encode
from getty_tx.errors import WriteTimeoutError
from getty_tx.testing import RecordingListener, connectedSessions
from tests.support.long import IS_LONG
from tests.support.memory import configure
from tests.tap import test_twistd
from tests.tap.test_twistd import ROOT, ProcessTestCase

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 1_000_000

#: How long the soak runs that has a fault.
SECONDS = "2" if IS_LONG else "0.5"


class PlanTests(SynchronousTestCase):
    """What follows from the seed."""

    def test_same(self) -> None:
        """The same seed makes the same acts, which draw the same numbers; another makes others."""
        first, again, other = (list(islice(plan.acts(seed), 200)) for seed in (7, 7, 8))
        self.assertEqual(first, again)
        self.assertNotEqual([act.kind for act in first], [act.kind for act in other])
        self.assertEqual([plan.burst(act.random()) for act in first], [plan.burst(act.random()) for act in again])
        self.assertNotEqual(plan.burst(first[0].random()), plan.burst(first[1].random()))

    def test_only(self) -> None:
        """Acts of one kind alone are the ones that they are among all."""
        among = [act for act in islice(plan.acts(7), 500) if act.kind == "deaf"]
        self.assertEqual(list(islice(plan.acts(7, ["deaf"]), len(among))), among)

    def test_bursts(self) -> None:
        """They have all sizes from 1 byte or none to 1 MB, and end at a number of bytes."""
        bursts = [plan.burst(act.random()) for act in islice(plan.acts(1), 2000)]
        self.assertTrue(all(bursts))
        sizes = {request.size for requests in bursts for request in requests}
        self.assertEqual((1, LONGEST), (min(sizes), max(sizes)))
        self.assertLessEqual(max(sum(request.bytes for request in requests) for requests in bursts), plan.MOST_BYTES)
        self.assertGreater(max(map(len, bursts)), 200)


class ConversationTests(SynchronousTestCase):
    """Answers that are lost, doubled, moved or altered."""

    def setUp(self) -> None:
        self.findings = Findings()
        self.conversation = Conversation(5, self.findings)
        self.requests = [self.conversation.ask(size=size) for size in (0, 1, 1000, 7, 7)]

    def hear(self, *numbers: int) -> None:
        """The echoes of these requests come."""
        for number in numbers:
            self.conversation.hear(self.requests[number - 1])

    def found(self, *kinds: str) -> None:
        """These kinds of findings are there, and no others."""
        self.assertEqual(sorted(kinds), sorted(self.findings.counts.elements()))

    def test_right(self) -> None:
        """Each answered once, in order: nothing is found."""
        self.hear(1, 2, 3, 4, 5)
        self.conversation.end(lived=True)
        self.found()
        self.assertEqual(5, self.conversation.heard)

    def test_answers(self) -> None:
        """What need not be answered is not waited for; an answer of another size than its request is right, too."""
        self.hear(1, 2, 3, 4, 5)
        self.conversation.ask(Op.RAISE)
        self.conversation.ask(Op.SIZED, 1, 3000)
        self.conversation.hear(encode(Op.SIZED, 5, 7, 3000, contentOf(5, 7, 3000)))
        self.conversation.end(lived=True)
        self.found()

    def test_lost(self) -> None:
        """One is left out, or the last ones never come."""
        self.hear(1, 3)
        self.found("lost")
        self.conversation.end(lived=True)
        self.found("lost", "lost")

    def test_brokenOff(self) -> None:
        """Of a connection that was broken off the last ones may never come, but none is left out."""
        self.hear(1, 2)
        self.conversation.end(lived=False)
        self.found()

    def test_duplicated(self) -> None:
        """One comes again, at once or later."""
        self.hear(1, 1, 2, 3, 1, 4, 5, 5)
        self.found("duplicated", "duplicated", "duplicated")

    def test_reordered(self) -> None:
        """One comes after its successor."""
        self.hear(1, 3, 2, 4, 5)
        self.found("lost", "reordered")

    def test_altered(self) -> None:
        """A byte differs, or a right message is not the one that was asked for."""
        for at in range(len(self.requests[1])):
            altered = bytearray(self.requests[1])
            altered[at] ^= 16
            self.conversation.hear(bytes(altered))
        self.found(*["altered"] * len(self.requests[1]))
        self.findings.counts.clear()
        self.conversation.hear(encode(Op.ECHO, 5, 1, 0, b"other"))
        self.conversation.hear(encode(Op.SIZED, 5, 2, 0, contentOf(5, 2, 1)))
        self.conversation.hear(encode(Op.ECHO, 5, 9, 0, b""))
        self.conversation.hear(b"")
        self.found("altered", "altered", "altered", "altered")

    def test_foreign(self) -> None:
        """An answer of another connection."""
        self.conversation.hear(Conversation(6, self.findings).ask())
        self.found("foreign")

    def test_lossy(self) -> None:
        """Datagrams may be lost, which is counted, but neither doubled nor moved."""
        self.conversation = Conversation(5, self.findings, lossy=True)
        self.requests = [self.conversation.ask(size=size) for size in (0, 1, 2, 3)]
        self.hear(2, 3)
        self.conversation.end(lived=True)
        self.found()
        self.assertEqual(2, self.conversation.missing)
        self.hear(1, 3)
        self.found("duplicated", "reordered")

    def test_brokenEcho(self) -> None:
        """An echo over real sessions that drops, doubles, holds back or alters one message of many is found out."""
        held: list[bytes] = []

        def hold(session: Any, pkg: bytes) -> None:
            held.append(pkg)

        def double(session: Any, pkg: bytes) -> None:
            session.writePkg(pkg)
            session.writePkg(pkg)

        faults: dict[str, Callable[[Any, bytes], None]] = {
            "lost": lambda session, pkg: None,
            "duplicated": double,
            "reordered": hold,
            "altered": lambda session, pkg: session.writePkg(pkg[:-1] + b"?"),
            "": lambda session, pkg: session.writePkg(pkg),
        }
        for kind, fault in faults.items():
            findings = Findings()
            conversation = Conversation(9, findings)

            def echo(session: Any, pkg: bytes, fault: Any = fault) -> None:
                if decode(pkg).number == 30:
                    fault(session, pkg)
                else:
                    session.writePkg(pkg)
                    while held:
                        session.writePkg(held.pop())

            def hear(session: Any, pkg: bytes, conversation: Conversation = conversation) -> None:
                conversation.hear(pkg)

            pair = connectedSessions(
                configure(RecordingListener({"message": echo})), configure(RecordingListener({"message": hear}))
            )
            for size in range(60):
                pair.client.writePkg(conversation.ask(size=size))
            pair.flush()
            conversation.end(lived=True)
            expected = {kind} if kind else set()
            if kind in ("reordered", "altered"):
                # What is held back, or not to be recognized, is missed as well.
                expected.add("lost")
            self.assertEqual(expected, set(findings.counts), findings.texts)


class ServerCheckTests(SynchronousTestCase):
    """What the server side checks."""

    def setUp(self) -> None:
        self.findings = Findings()

    def test_arrivals(self) -> None:
        """Requests come in order, without a gap, from one conversation."""
        for order, kinds in (((1, 2, 3), []), ((1, 3), ["lost"]), ((2,), ["lost"]), ((1, 2, 2), ["duplicated"])):
            arrivals = Arrivals(self.findings)
            for number in order:
                self.assertIsNotNone(arrivals.take(encode(Op.ECHO, 4, number)))
            self.assertEqual(kinds, list(self.findings.counts.elements()))
            self.findings.counts.clear()
        self.assertIsNone(arrivals.take(encode(Op.ECHO, 5, 3)))
        self.assertIsNone(arrivals.take(encode(Op.ECHO, 4, 3)[:-1]))
        self.assertEqual(["altered", "foreign"], sorted(self.findings.counts.elements()))

    def test_life(self) -> None:
        """onOpen first and once, onError once, onClose last and once, no two at a time."""
        right = ["onOpen", "onMessage", "onCron", "onError", "onClose"]
        wrong = [
            ["onMessage"],
            ["onOpen", "onOpen"],
            ["onOpen", "onError", "onMessage"],
            ["onOpen", "onError", "onError"],
            ["onOpen", "onClose", "onClose"],
            ["onOpen", "onClose", "onMessage"],
        ]
        for events in (right, right[:1] + right[-1:], *wrong):
            life = Life(self.findings, "a session")
            for event in events:
                life.enter(event)
                life.leave()
            self.assertEqual(events in wrong, bool(self.findings.counts.pop("events", 0)), events)
        life = Life(self.findings, "a session")
        life.enter("onOpen")
        life.enter("onMessage")
        self.assertEqual({"events": 1}, self.findings.counts)

    def test_log(self) -> None:
        """A failure that nobody planned is found, a warning counted, and the rest dropped."""
        from twisted.logger import Logger

        watch = LogWatch(self.findings)
        log = Logger("soak", observer=watch)
        for error in (PlannedError("planned"), ValueError("not planned")):
            try:
                raise error
            except Exception:
                log.failure("a callback failed")
        log.warn("careful: {what}", what=1)
        log.info("all is well")
        self.assertEqual({"log": 1}, self.findings.counts)
        self.assertIn("not planned", self.findings.texts[0])
        self.assertEqual((1, {"careful: {what}": 1}), (watch.planned, watch.warnings))

    def test_errors(self) -> None:
        """A session may fail for its peer's sake, but not for a mistake."""
        self.assertTrue(isExpected(WriteTimeoutError("late")))
        self.assertTrue(isExpected(PlannedError("planned")))
        self.assertFalse(isExpected(AttributeError("a mistake")))

    def test_otherProcess(self) -> None:
        """The findings of a server are taken over, as it reports them."""
        other = Findings()
        other.add("lost", "a message")
        for _ in range(2):
            self.findings.take(reportOf(other, LogWatch(other)))
        self.assertEqual(({"lost": 2}, ["lost: a message"] * 2), (self.findings.counts, self.findings.texts))


class EndTests(SynchronousTestCase):
    """What is looked at when all is over."""

    def problem(self, samples: list[float]) -> str:
        """What is wrong with these, in megabytes."""
        memory = checks.Memory("server")
        memory.samples = [int(each * MB) for each in samples]
        return memory.problem()

    def test_memory(self) -> None:
        """Growth after the first third is found, while warming up, noise and a single peak are not."""
        warming = [40 + i for i in range(20)]
        self.assertEqual("", self.problem([*warming, *[60, 63] * 20]))
        self.assertEqual("", self.problem([*warming, *[60] * 30, 300, *[60] * 9]))
        self.assertEqual("", self.problem([60, 100]))
        self.assertIn("at most 105.5 MB", self.problem([60 + i for i in range(60)]))

    def test_leftovers(self) -> None:
        """Whatever there is more of than before, and nothing else."""
        before = {"sessions": 1, "connections": 1, "timers": 1, "alive": 1, "descriptors": ["pipe", "socket"]}
        self.assertEqual([], checks.leftovers(before, before))
        after = {**before, "timers": 3, "sessions": 0, "alive": 2, "descriptors": ["/a", "pipe", "socket", "socket"]}
        found = checks.leftovers(before, after)
        self.assertEqual(["2 timers left", "1 session objects left"], found[:2])
        self.assertEqual(["descriptors left: 1 of /a", "descriptors left: 1 of socket"], found[2:])


class RunTests(ProcessTestCase):
    """A run as a whole."""

    def test_fault(self) -> None:
        """A server that answers some requests twice is found out, and nothing else is; the exit status says so."""
        # Only a machine that is very busy comes near.
        self.patch(test_twistd, "PATIENCE", 180)
        os.symlink(ROOT / "benchmarks", os.path.join(self.folder, "benchmarks"))
        run = self.run_(
            sys.executable, "-m", "benchmarks.soak", "--seconds", SECONDS, "--seed", "7", "--fault", "double"
        )
        self.assertEqual(1, run.end(), run.output)
        run.expect(r"^FAILED: \d+ duplicated; seed 7$")
        self.assertEqual([], run.errors)
