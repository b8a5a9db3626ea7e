"""Sessions with maxCallsPerSession calls, whose methods wait for what comes over the same session."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc import kept
from getty_tx.rpc.messages import DATA, END, OPEN, RESET, Cancel, ErrorReply, Ping, Pong, Reply, Request, StreamFrame
from getty_tx.session.pausing import CALLS
from tests.support.rpc import Both, Foreign, Outcome


class Asking:
    """Methods that ask their caller, and methods that just take their time."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    async def ask(self, what: str) -> str:
        self.log.append(what)
        answer = await rpc.currentCall().peer.call("Answers", "answer", what, timeout=None)
        return f"{what}: {answer}"

    @rpc.method
    async def askLater(self, what: str) -> str:
        self.waiting.append(Deferred())
        await self.waiting[-1]
        return await self.ask(what)

    @rpc.method
    async def askAndWait(self, what: str) -> str:
        await self.ask(what)
        return await self.wait()  # type: ignore[no-any-return]

    @rpc.method
    async def goOn(self) -> Any:
        """It does not end with its session."""
        for work in (self.ask("x"), self.wait()):
            with contextlib.suppress(rpc.RpcError, CancelledError):
                await work
        return await self.wait()

    @rpc.method
    async def askStream(self) -> list[Any]:
        await self.wait()
        return [each async for each in rpc.currentCall().peer.stream("Answers", "many")]

    @rpc.stream
    async def upper(self) -> Any:
        async for each in rpc.currentCall().stream:
            yield each.upper()

    @rpc.method
    def wait(self) -> Deferred[Any]:
        self.log.append("wait")
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @rpc.method
    async def count(self) -> object:
        """Ends at once, with a result that might be a coroutine."""
        self.log.append("count")
        return rpc.currentCall() and Number(len(self.log))

    @rpc.method
    def say(self, text: str) -> str:
        self.log.append(text)
        return text

    @rpc.method
    def readOn(self) -> None:
        rpc.currentCall().peer.session.resumeReading()

    @rpc.method(timeout=2)
    async def left(self) -> float | None:
        left = rpc.currentCall().timeLeft()
        self.log.append(left)
        await self.wait()
        return left


class Number(int):
    """A number that is no plain one."""


class Answers:
    """The caller's own service."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []

    @rpc.method
    def answer(self, what: str) -> Deferred[Any]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Case(SynchronousTestCase):
    """A peer whose caller is the test."""

    def setUp(self) -> None:
        self.asking = Asking()

    def foreign(self, most: int = 2, **options: Any) -> Foreign:
        return Foreign(None, {"Asking": self.asking}, maxCallsPerSession=most, **options)

    def full(self, **options: Any) -> Foreign:
        """One with two calls, which wait for the calls 1 and 2."""
        foreign = self.foreign(**options)
        foreign.say(*[Request(number, "Asking/ask", b'["a%d"]' % number) for number in (1, 2)])
        self.assertEqual([(type(each), each.id) for each in foreign.heard()], [(Request, 1), (Request, 2)])
        return foreign

    def say(self, foreign: Foreign, *numbers: int, **options: Any) -> None:
        """Calls of ``say`` with these numbers, which are kept."""
        for number in numbers:
            request = Request(number, "Asking/say", b'["s%d"]' % number, **options)
            foreign.say(request)

    def isRead(self, foreign: Foreign) -> bool:
        return not foreign.session.inbound.paused


class FullTests(Case):
    """What waits for the caller gets its answers, and what is behind it gets its turn."""

    def test_everyCallEnds(self) -> None:
        """Fifty calls at a time, of which two run, each of which asks over the session."""
        answers = Answers()
        both = Both({"Asking": self.asking}, {"Answers": answers}, server={"maxCallsPerSession": 2})
        outcomes = [Outcome(both.client.call("Asking", "ask", f"a{number}")) for number in range(50)]
        for _ in range(50):
            both.pair.flush()
            self.assertLessEqual(both.server.incoming.count, 2)
            for waiting in answers.waiting:
                if not waiting.called:
                    waiting.callback("yes")
        both.pair.flush()
        self.assertEqual([each.only for each in outcomes], [f"a{number}: yes" for number in range(50)])
        self.assertEqual(self.asking.log, [f"a{number}" for number in range(50)])
        both.client.session.close()
        both.pair.flush()
        both.clock.advance(10)
        self.assertEqual(both.leftovers(), [])

    def test_order(self) -> None:
        """Requests are kept in their order, and served before those that come later; answers and pings are read."""
        foreign = self.full()
        self.say(foreign, 3, 4)
        foreign.say(Ping())
        self.assertEqual([type(each) for each in foreign.heard()], [Pong])
        self.assertEqual(self.asking.log, ["a1", "a2"])
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([each.payload for each in foreign.heard()], [b'"a1: yes"', b'"s3"', b'"s4"'])
        self.say(foreign, 5)
        self.assertEqual(self.asking.log, ["a1", "a2", "s3", "s4", "s5"])

    def test_callWhileHeld(self) -> None:
        """A session that is not read is read on when one of its methods makes a call."""
        foreign = self.foreign(most=1)
        foreign.say(Request(1, "Asking/askLater", b'["x"]'), Request(2, "Asking/say", b'["y"]'))
        self.assertFalse(self.isRead(foreign))
        self.asking.waiting[0].callback(None)
        self.assertEqual([each.name for each in foreign.heard()], ["Answers/answer"])
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([each.payload for each in foreign.heard()], [b'"x: yes"', b'"y"'])
        self.assertTrue(self.isRead(foreign))

    def test_streamWhileHeld(self) -> None:
        """The same holds for a stream."""
        foreign = self.foreign(most=1)
        foreign.say(Request(1, "Asking/askStream", b"[]"))
        self.assertFalse(self.isRead(foreign))
        self.asking.waiting[0].callback(None)
        self.assertEqual([(each.name, each.kind) for each in foreign.heard()], [("Answers/many", OPEN)])
        foreign.say(StreamFrame(1, DATA, b'"a"', True), StreamFrame(1, END, b"", True))
        self.assertEqual([each.payload for each in foreign.heard()], [b'["a"]'])
        self.assertTrue(self.isRead(foreign))

    def test_valuesOfStreams(self) -> None:
        """As many streams as calls may run get their values."""
        foreign = self.foreign()
        foreign.say(*[StreamFrame(number, OPEN, b"[]", False, "Asking/upper") for number in (1, 2)])
        foreign.say(*[StreamFrame(number, DATA, b'"x"') for number in (1, 2)])
        self.assertEqual([(each.id, each.payload) for each in foreign.heard()], [(1, b'"X"'), (2, b'"X"')])
        self.say(foreign, 3)
        self.assertEqual(foreign.heard(), [])
        foreign.say(StreamFrame(1, END, b""))
        self.assertEqual([each.id for each in foreign.heard()], [1, 3])
        foreign.say(StreamFrame(2, END, b""))
        self.assertEqual(([each.id for each in foreign.heard()], foreign.peer.streams), ([2], {}))

    def test_notReadWithoutCalls(self) -> None:
        """It is read no more when a call comes behind the last answer."""
        foreign = self.foreign()
        foreign.say(*[Request(number, "Asking/askAndWait", b'["x"]') for number in (1, 2)])
        foreign.say(Reply(1, b'"yes"'), Reply(2, b'"yes"'))
        self.assertTrue(self.isRead(foreign))
        self.say(foreign, 3)
        self.assertFalse(self.isRead(foreign))
        self.say(foreign, 4)
        self.assertEqual(self.asking.log, ["x", "x", "wait", "wait"])
        foreign.clock.advance(5)
        self.assertFalse(foreign.peer.incoming._isStalled)
        foreign.heard()
        self.asking.waiting[0].callback("done")
        self.assertEqual([each.id for each in foreign.heard()], [1, 3, 4])

    def test_manyThatEndAtOnce(self) -> None:
        """As many as are kept, without a deeper stack for each."""
        foreign = self.full(maxCalls=5000)
        foreign.say(*[Request(number, "Asking/count", b"[]") for number in range(3, 903)])
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([each.id for each in foreign.heard()], [1, *range(3, 903)])
        self.assertEqual((foreign.peer.incoming.count, foreign.peer.incoming.isFull), (1, False))


class PausedTests(Case):
    """What an application says of reading, and what its calls do, are two things."""

    def test_pausedByTheApplication(self) -> None:
        """The end of a method does not end a pause of the application's."""
        foreign = self.foreign(most=1)
        foreign.say(Request(1, "Asking/wait", b"[]"))
        foreign.session.pauseReading()
        self.asking.waiting[0].callback("a")
        self.say(foreign, 2)
        self.assertEqual(self.asking.log, ["wait"])
        foreign.session.resumeReading()
        foreign.pair.flush()
        self.assertEqual(self.asking.log, ["wait", "s2"])

    def test_resumedByTheApplication(self) -> None:
        """No more is read, and kept, than without it."""
        foreign = self.foreign(most=1)
        foreign.say(Request(1, "Asking/wait", b"[]"))
        foreign.session.pauseReading()
        foreign.session.resumeReading()
        self.assertEqual(foreign.session.inbound.paused, CALLS)
        self.say(foreign, *range(2, 9))
        self.asking.waiting[0].callback("a")
        self.assertEqual([each.id for each in foreign.heard()], [*range(1, 9)])
        self.assertTrue(self.isRead(foreign))

    def test_readWithinAMethod(self) -> None:
        """What a method lets come while those that were kept get their turn comes behind them."""
        foreign = self.foreign(most=1)
        foreign.peer.call("Answers", "answer").addCallback(lambda _: foreign.session.pauseReading())
        foreign.peer.call("Answers", "answer")
        foreign.say(
            Request(1, "Asking/wait", b"[]"),
            Request(2, "Asking/readOn", b"[]"),
            Request(3, "Asking/say", b'["s3"]'),
            Reply(1, b"1"),
            Request(4, "Asking/say", b'["s4"]'),
        )
        self.asking.waiting[0].callback("a")
        self.assertEqual(self.asking.log, ["wait", "s3", "s4"])
        self.assertEqual([each.id for each in foreign.heard() if type(each) is Reply], [1, 2, 3, 4])


class BoundTests(Case):
    """What is kept has a limit, and ends with its call or its session."""

    def test_number(self) -> None:
        """More are not read, until a method has ended."""
        self.patch(kept, "MOST", 5)
        foreign = self.full()
        self.say(foreign, *range(3, 7))
        self.assertTrue(self.isRead(foreign))
        self.say(foreign, *range(7, 10))
        foreign.say(Reply(2, b'"yes"'))
        self.assertFalse(self.isRead(foreign))
        foreign.clock.advance(0.5)
        foreign.peer.pending.pop(1).callback("yes")
        self.assertEqual([each.id for each in foreign.heard()], [1, *range(3, 10), 2])
        self.assertTrue(self.isRead(foreign))
        foreign.clock.advance(10)
        self.assertEqual((foreign.context.refused, foreign.peer.incoming._isStalled), (0, False))

    def test_stall(self) -> None:
        """If none ends, those that have no place are refused, so that the answers behind them are read."""
        self.patch(kept, "MOST", 5)
        foreign = self.full()
        self.say(foreign, *range(3, 10))
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual(foreign.heard(), [])
        foreign.clock.advance(1.1)
        refused = foreign.heard()
        self.assertEqual([each.id for each in refused], [8, 9, 1, *range(3, 8)])
        self.assertEqual([type(each) for each in refused], [ErrorReply] * 2 + [Reply] * 6)
        self.assertEqual(refused[0].code, "refused")
        self.assertEqual(refused[0].text, "maxCallsPerSession=2 calls are being served, and 5 wait")
        self.assertEqual(foreign.context.refused, 2)
        # From now on it is as before.
        foreign.say(Request(1, "Asking/ask", b'["a1"]'))
        self.say(foreign, *range(3, 10))
        self.assertFalse(self.isRead(foreign))

    def test_bytes(self) -> None:
        """They are those of the longest message, with metadata, and one message more."""
        long = b'["%s"]' % (b"x" * 3000)
        for request in (
            Request(4, "Asking/say", long),
            Request(4, "Asking/say", b'["x"]', None, {"name": "x" * 3000}),
            Request(4, "Asking/say", b'["x"]', None, {str(number): "" for number in range(20)}),
        ):
            foreign = self.full(maxMsgLen=5000)
            foreign.say(Request(3, "Asking/say", long))
            self.assertTrue(self.isRead(foreign))
            foreign.say(request, Request(5, "Asking/say", b'["y"]'), Request(6, "Asking/say", long))
            self.assertFalse(self.isRead(foreign))
            foreign.clock.advance(1.1)
            self.assertEqual([(each.id, each.code) for each in foreign.heard()], [(5, "refused"), (6, "refused")])
            foreign.say(Reply(1, b'"yes"'))
            self.assertEqual([each.id for each in foreign.heard()], [1, 3, 4])

    def test_oneLongMessage(self) -> None:
        """One message has room at any time."""
        foreign = self.full(maxMsgLen=5000)
        foreign.peer.incoming._isStalled = True
        foreign.peer.onMessage(foreign.session, Request(3, "Asking/say", b'["%s"]' % (b"x" * 5000)))
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([(each.id, type(each)) for each in foreign.heard()], [(1, Reply), (3, ErrorReply)])
        self.assertEqual(len(self.asking.log[-1]), 5000)

    def test_streams(self) -> None:
        """A stream is not kept: its values would come besides."""
        foreign = self.full()
        foreign.say(*[StreamFrame(number, OPEN, b"[]", False, "Asking/ask") for number in (3, 4)])
        refused = foreign.heard()
        self.assertEqual(
            [(each.id, each.kind, each.error[0]) for each in refused], [(3, RESET, "refused"), (4, RESET, "refused")]
        )
        self.assertEqual((foreign.peer.streams, foreign.context.refused), ({}, 2))

    def test_bytesThatHaveGone(self) -> None:
        """What was served, or cancelled, counts no more."""
        long = b'["%s"]' % (b"x" * 1500)
        foreign = self.full(maxMsgLen=5000)
        for number in range(3, 20):
            foreign.say(Request(number, "Asking/say", long), Cancel(number))
        for number in range(1, 20):
            foreign.say(Request(50 + number, "Asking/say", long), Request(number + 2, "Asking/ask", b'["x"]'))
            self.assertTrue(self.isRead(foreign))
            foreign.say(Reply(number, b'"yes"'))

    def test_cancelled(self) -> None:
        """A kept call that is cancelled is not run, and makes room."""
        self.patch(kept, "MOST", 2)
        foreign = self.full()
        self.say(foreign, 3)
        foreign.say(Cancel(3), Cancel(7))
        self.say(foreign, 4)
        self.assertTrue(self.isRead(foreign))
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([each.id for each in foreign.heard()], [1, 4])
        self.assertEqual(self.asking.log, ["a1", "a2", "s4"])

    def test_deadlines(self) -> None:
        """The time of a kept call is counted from when it came."""
        foreign = self.full()
        self.say(foreign, 3, timeout=1.0)
        self.say(foreign, 4, timeout=3.0)
        foreign.clock.advance(2)
        foreign.say(Reply(1, b'"yes"'))
        _, late, early = foreign.heard()
        self.assertEqual((late.id, late.code, early.id, early.payload), (3, "deadline", 4, b'"s4"'))
        self.assertEqual(self.asking.log, ["a1", "a2", "s4"])

    def test_deadlinesWithoutReads(self) -> None:
        """The time of a method begins with it, and that of its caller with the call, whatever is read meanwhile."""
        foreign = self.foreign(most=1)
        foreign.peer.call("Answers", "answer", timeout=None)
        foreign.say(Request(1, "Asking/wait", b"[]"))
        foreign.say(
            Request(2, "Asking/left", b"[]"),
            Request(3, "Asking/left", b"[]", timeout=9.0),
            Request(4, "Asking/left", b"[]", timeout=6.0),
            Request(5, "Asking/left", b"[]", timeout=6.0),
        )
        foreign.clock.advance(5)
        for done in range(4):
            self.asking.waiting[done].callback("done")
        self.assertEqual([each for each in self.asking.log if each != "wait"], [2, 2, 1, 1])
        foreign.clock.advance(1.1)
        late = foreign.heard()[-1]
        self.assertEqual((late.id, late.code), (5, "deadline"))

    def test_numberUsedTwice(self) -> None:
        """The first call keeps it, for a notice and for a stream."""
        foreign = self.full()
        self.say(foreign, 3, 3)
        foreign.say(StreamFrame(3, OPEN, b"[]", False, "Asking/upper"))
        foreign.say(Cancel(3), Cancel(3), Request(4, "Asking/say", b'["s4"]'))
        foreign.say(Reply(1, b'"yes"'))
        self.assertEqual([(type(each), each.id) for each in foreign.heard()], [(Reply, 1), (Reply, 3), (Reply, 4)])
        self.assertEqual(self.asking.log, ["a1", "a2", "s3", "s4"])

    def test_lost(self) -> None:
        """A session that ends takes what was kept with it, also while it is not read."""
        for end, most in (("reset", 1), ("reset", 5), ("junk", 5)):
            self.patch(kept, "MOST", most)
            foreign = self.full()
            self.say(foreign, 3, 4)
            log = len(self.asking.log)
            if end == "reset":
                foreign.pair.reset()
            else:
                foreign.pair.peer.write(b"GET / HTTP/1.1\r\n\r\n")
            foreign.pair.flush()
            foreign.clock.advance(10)
            self.assertEqual(self.asking.log[log:], [])
            self.assertEqual((foreign.peer.incoming.count, foreign.context.running), (0, 0))

    def test_lostWhileHeld(self) -> None:
        """The session is not looked at any more, though its methods go on."""
        self.patch(kept, "MOST", 1)
        foreign = self.foreign()
        foreign.say(*[Request(number, "Asking/goOn", b"[]") for number in (1, 2)])
        self.say(foreign, 3, 4)
        self.assertFalse(self.isRead(foreign))
        foreign.pair.reset()
        foreign.pair.flush()
        foreign.clock.advance(10)
        self.assertEqual((foreign.peer.incoming.count, foreign.peer.incoming._isStalled), (2, False))
        self.assertIsNone(foreign.peer.incoming._kept)
        self.asking.waiting[-1].callback(None)
        self.assertEqual(foreign.peer.incoming.count, 1)
        self.assertEqual([each for each in self.asking.log if each.startswith("s")], [])

    def test_drained(self) -> None:
        """A peer that drains serves what it has kept."""
        foreign = self.foreign(most=1)
        foreign.say(Request(1, "Asking/ask", b'["x"]'))
        foreign.say(*[Request(number, "Asking/count", b"[]") for number in (2, 3)])
        foreign.peer.drain()
        foreign.say(Pong(), Reply(1, b'"yes"'))
        self.assertEqual([each.id for each in foreign.heard() if type(each) is Reply], [1, 2, 3])
        foreign.clock.advance(1)
        self.assertTrue(foreign.session.isClosed)

    def test_unreadable(self) -> None:
        """What could not be read is answered in its turn."""
        foreign = self.full()
        request = Request(3, "", rpc.PayloadError("what?"))
        foreign.peer.onMessage(foreign.session, request)
        foreign.say(Request(4, "No/such", b"[]"), Reply(1, b'"yes"'))
        self.assertEqual(
            [(each.id, type(each)) for each in foreign.heard()], [(1, Reply), (3, ErrorReply), (4, ErrorReply)]
        )

    def test_brokenPayload(self) -> None:
        """An error of the payload's own fails the session, as where nothing is kept."""
        foreign = self.full()
        self.say(foreign, 3, 4)

        def broken(name: str, data: bytes) -> None:
            raise ZeroDivisionError

        self.patch(foreign.context.payload, "decodeArguments", broken)
        foreign.say(Reply(1, b'"yes"'))
        self.assertIsInstance(foreign.session.error, ZeroDivisionError)
        self.assertEqual(self.asking.log, ["a1", "a2"])
